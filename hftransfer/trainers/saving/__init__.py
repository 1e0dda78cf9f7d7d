"""Saving and resuming: whole checkpoints, and an output folder that loses nothing."""
