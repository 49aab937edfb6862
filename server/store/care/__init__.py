"""Care for a database that may be damaged: checks, copies, restoring, and saving what can be read."""
