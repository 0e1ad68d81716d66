"""What a shell completes: names of the catalogue, and the script that makes it ask.

Names are those of files, which are listed, not read: a press of Tab takes a fraction of a second.
"""

from __future__ import annotations

import click

from simgpu.cli.base import main, one_line_errors, say

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SIMGPU_COMPLETE"
"""What the script of a shell sets when it asks; click's name for a program called simgpu."""


@main.command(
    short_help="Print the script that lets a shell complete names.",
    epilog="Example: simgpu completion bash >> ~/.bashrc",
)
@click.argument("shell", type=click.Choice(SHELLS))
@one_line_errors
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands, flags, models, machines and experiments.

    bash and zsh: a line eval "$(simgpu completion bash)" in ~/.bashrc (zsh in ~/.zshrc). fish: the output in
    ~/.config/fish/completions/simgpu.fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    say(kind(main, {}, "simgpu", VARIABLE).source())
