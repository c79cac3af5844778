"""Benchmarks: what the search costs, beside other tools where there is one that does the same."""
