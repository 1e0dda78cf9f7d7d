"""Pull the domains together."""
