"""Comparisons with peers, each in one process run: `python -m benchmarks`. Nothing of the package imports this."""
