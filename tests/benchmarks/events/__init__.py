"""Benchmarks of how right events are."""
