"""What do many runs say? Experiments and the comparison of their rows."""
