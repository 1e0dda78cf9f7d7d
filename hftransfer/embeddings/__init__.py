"""Embeddings: what frozen features tell, without training a network."""
