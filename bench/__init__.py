"""Benchmarks: Ringcast beside other replicated logs, on real processes, in one run (docs/performance.md)."""
