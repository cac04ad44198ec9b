"""The ordered log, the stable state and the tables of one member: on LMDB, and in memory.

Start at `contract.py`: operations in, recovered state and reads out.
"""
