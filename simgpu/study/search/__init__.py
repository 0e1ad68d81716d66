"""Search for the best plans of a model on a cluster: the space, the exact decision, and why other plans lost."""
