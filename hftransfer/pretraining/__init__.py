"""Further pre-training on unlabelled text: which rows, which words, which loss."""
