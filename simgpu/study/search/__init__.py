"""The best plans for a model on a cluster: what is searched, how it is decided exactly, and why the others lost."""
