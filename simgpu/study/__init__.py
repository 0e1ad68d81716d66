"""What do many runs say? Experiments, sweeps, searches, what-if, and the reports on them."""
