"""Benchmarks of the console's pages."""
