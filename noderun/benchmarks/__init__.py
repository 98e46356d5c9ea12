"""Benchmarks against other libraries: the same work, in the same run, in turns."""
