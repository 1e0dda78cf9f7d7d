"""Models: loading a backbone with its head, what of it trains, adapters, structure transfer, weight averaging."""
