"""How is it split? Degrees of parallelism and the sharded program they give."""
