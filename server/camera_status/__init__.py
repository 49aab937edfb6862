"""Which cameras are watched, and which sectors are occupied, clear or unobserved. Begin with `status`."""
