"""What does a result depend on, and why do two results differ?"""
