"""Several models on one GPU: the job, how they share it, and requests that queue for them."""
