"""Domain alignment: objectives that draw the domains' features together."""
