"""What the source knew is kept."""
