"""The jobs: what a scenario runs, and how it is run on the engine."""
