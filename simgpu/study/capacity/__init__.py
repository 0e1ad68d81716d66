"""How much a server takes within limits, and how many GPUs a load needs."""
