"""Raft (Ongaro & Ousterhout 2014; Ongaro's thesis of the same year) on the roles of `raftos`, made safe: docs/raft.md.

Rules are cited as R1..R23, the rows of the table there.
"""
