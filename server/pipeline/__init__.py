"""The way of a burst from decoded bytes to a committed answer. Begin with `pipeline`."""
