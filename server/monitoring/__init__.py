"""What the server says of itself: `metrics` for Prometheus, `logs` for its log lines."""
