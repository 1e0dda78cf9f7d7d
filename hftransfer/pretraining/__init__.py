"""Pre-training: what can be learnt from rows without labels before the task."""
