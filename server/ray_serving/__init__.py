"""The ensemble on a Ray cluster. Only this package imports ray. Begin with README.md, then `cluster` and `replica`."""
