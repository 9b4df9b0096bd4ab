"""What the host already has, what changed, what vanished, and what was rejected."""
