"""What do measurements say? Tables of them against predictions, constants fitted to them, and measuring itself."""
