"""Changed site policies, tried on the past: what to try, what came of it, and which is the best."""
