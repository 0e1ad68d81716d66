"""What does an answer hang on, and why do two answers differ?"""
