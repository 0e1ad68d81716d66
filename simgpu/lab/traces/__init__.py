"""Traces that others recorded: what ran on the GPUs, by operator and shape, and how long it would take by us."""
