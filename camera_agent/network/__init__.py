"""What every connection needs."""
