"""What is shown? Plain facts in, text and pictures out."""
