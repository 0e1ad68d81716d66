"""How long does one thing take? Kernels by roofline, collectives as flows."""
