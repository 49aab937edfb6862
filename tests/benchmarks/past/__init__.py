"""Benchmarks of the stored past: its size, replays, late bursts."""
