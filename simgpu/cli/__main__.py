"""Entry point of `python -m simgpu.cli`."""

from simgpu.cli import main

main()
