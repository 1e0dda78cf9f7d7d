"""Self-training: objectives that learn from the target alone."""
