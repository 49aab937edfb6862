"""Pages about the server itself: its models, and the channels on which events leave."""
