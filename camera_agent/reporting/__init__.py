"""What the agent reports to others on its machine."""
