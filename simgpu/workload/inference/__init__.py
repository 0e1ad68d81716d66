"""Inference: steps of an engine, batches from prompt to last token, servers at a steady load."""
