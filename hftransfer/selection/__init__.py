"""What is to be trusted: validators, label-shift estimates and their test. Predictions in, numbers out."""
