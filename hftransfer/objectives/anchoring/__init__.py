"""Anchoring: objectives that keep what the source model knew."""
