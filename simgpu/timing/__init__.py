"""Times of single operations: kernels of a GPU, and collectives between GPUs."""
