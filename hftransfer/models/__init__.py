"""What is the model, and what of it moves?"""
