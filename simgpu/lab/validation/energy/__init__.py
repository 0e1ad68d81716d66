"""Power and energy against measured boards: `rows` reads and predicts, `score` compares, `page` says it."""
