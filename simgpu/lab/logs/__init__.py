"""Logs and results that people already have: what trainers, servers and their load generators print."""
