"""Reports on experiments: rows, figures, explanations, capacity, the catalogue."""
