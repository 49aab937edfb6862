"""How far each channel is, and what it could not deliver."""
