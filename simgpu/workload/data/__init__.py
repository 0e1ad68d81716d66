"""A data pipeline beside a step: what samples are made of, where they are read from, and how fast that goes."""
