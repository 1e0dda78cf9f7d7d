"""What is the model, and what of it trains?"""
