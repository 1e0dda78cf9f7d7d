"""Frozen features of any data set: the pass that makes them, the cache that keeps them, and what is built on them."""
