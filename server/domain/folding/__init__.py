"""Folding stored frames: anew, corrected, and from thinned checkpoints."""
