"""The client of the bus: publishing, subscribing, cursors, and the exactly-once session under them (K1, K2)."""
