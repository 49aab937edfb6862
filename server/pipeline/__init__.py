"""A burst's way from decoded bytes to a committed answer. Begin with `pipeline`."""
