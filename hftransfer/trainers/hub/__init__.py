"""The Hub: pushing a plain model with its card."""
