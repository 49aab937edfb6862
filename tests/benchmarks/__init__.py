"""Benchmarks: how fast Sectorwatch is next to what the machine could do at best, and how right its events are.

`README.md` lists the commands and the figures. None of them is a test, and no test depends on time.
"""
