"""The fleet: thousands of simulated cameras against real servers and a real database. See `__main__`."""
