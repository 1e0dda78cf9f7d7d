"""Command line: light modules that start without torch."""
