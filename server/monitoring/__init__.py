"""What an operator reads: `metrics` for Prometheus, `logs` for people and log collectors."""
