"""Benchmarks: run by `make bench`, print ratios against a named peer in the same run, and never fail on time."""
