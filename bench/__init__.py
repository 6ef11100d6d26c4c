"""Benchmarks of the operator against a real API server: `python -m bench --help`."""
