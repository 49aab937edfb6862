"""What every connection needs: how long to wait before the next try, and why a host did not answer."""
