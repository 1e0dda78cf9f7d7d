"""Learn from the target alone."""
