"""Real Raft nodes in one process, from one seed: virtual time, links that fail, disks that forget, clients that retry.

A node here is the node of a replica, whole; only its clock, transport and store are the simulator's. Safety phase with
faults, then everything is healed and the cluster must agree and go on.
"""
