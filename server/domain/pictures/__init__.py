"""What is known of pictures without decoding them, and of those that are kept."""
