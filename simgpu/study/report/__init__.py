"""What people are shown of experiments: rows, figures, explanations, what fits, the catalogue."""
