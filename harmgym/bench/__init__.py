"""What resets, steps, verdicts and waiting machines cost on this host."""
