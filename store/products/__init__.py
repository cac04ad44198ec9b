"""The product store's state machine: LMDB tables that committed commands change, and what can be read of them.

Start at `machine.py`. Everything works on a transaction that is given: the log and these tables share one environment,
so that a snapshot is one consistent read, and what is applied is written with what it changed.
"""
