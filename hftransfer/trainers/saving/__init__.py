"""Saving and resuming: checkpoints, models and the output folder."""
