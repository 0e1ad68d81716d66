"""Experiment files: their fields, the cases they list or vary, conditions, and running them."""
