"""The largest model that a machine takes: to fine-tune, or to serve at a length of context."""
