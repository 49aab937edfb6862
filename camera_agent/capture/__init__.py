"""When frames are taken, and which of them form a burst."""
