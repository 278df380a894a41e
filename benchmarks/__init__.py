"""Benchmarks of fastecho; not part of the package that is installed."""
