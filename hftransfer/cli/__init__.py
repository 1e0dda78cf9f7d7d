"""The command line: light modules that start without torch."""
