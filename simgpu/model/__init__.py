"""What is computed? Operators with shapes, FLOPs and bytes, and graphs of them."""
