"""What the agent reports on its own machine: `status.json`, Prometheus metrics, systemd notifications."""
