"""Entry point of `python -m simgpu`: the command line."""

from simgpu.cli import main

main()
