"""Ignored label: the one of rows and tokens that have none, which losses and metrics skip."""

IGNORE = -100  # every torch loss skips it; float tasks use NaN instead, since -100.0 is a legal regression target
