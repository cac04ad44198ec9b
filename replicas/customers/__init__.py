"""The marketplace's customers: a state machine on the atomic broadcast, hosted by the bus replicas."""
