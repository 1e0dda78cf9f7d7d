"""Image encoders and text encoders joined by projections."""
