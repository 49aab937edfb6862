"""Benchmarks of the camera agent."""
