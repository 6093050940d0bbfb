"""Benchmarks, run by hand: `python -m tests.benchmarks [NAME …]` prints a table and writes JSON."""
