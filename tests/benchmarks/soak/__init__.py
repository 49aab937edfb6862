"""A compressed day of fifty cameras, with faults."""
