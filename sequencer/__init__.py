"""The protocol core: a pure state machine that orders messages, and its simulator."""
