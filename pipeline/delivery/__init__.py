"""Delivery: what the host was told, whether it has it, what changed, what vanished, and what was rejected."""
