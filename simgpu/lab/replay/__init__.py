"""A recorded step, played again: as it was, or on another GPU, other links, with another batch or precision."""
