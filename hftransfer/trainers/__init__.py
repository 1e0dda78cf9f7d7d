"""How does one step run?"""
