"""The command of the local page: ui."""

from __future__ import annotations

import click

from simgpu.cli.base import main, one_line_errors, open_catalogue, set_option, tell
from simgpu.cli.names import names_of


@main.command(
    short_help="Turn knobs on a local page, and see the answer at once.",
    epilog="Example: simgpu ui latency_throughput",
)
@click.argument("file", metavar="[FILE]", required=False, shell_complete=names_of("experiments", files=True))
@set_option
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0: any that is free.")
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
@click.pass_obj
@one_line_errors
def ui(folders: tuple[str, ...], file: str | None, settings: tuple[str, ...], port: int, no_browser: bool) -> None:
    """Serve a page to this machine alone: pick model, machine, plan and load; see time, memory, cost and interval.

    It starts from a row of FILE, or from a usual job, and saves the experiment file that says what you see. It asks no
    network and writes nothing. Ctrl-C ends it. Needs Flask: pip install 'simgpu[ui]'.
    """
    from simgpu.explore.app import make_app, serve
    from simgpu.explore.asking import starts

    catalogue = open_catalogue(folders)
    app = make_app(starts(file, settings, catalogue), catalogue)

    def ready(address: str) -> None:
        tell(f"{address}  (Ctrl-C ends it)")
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    serve(app, port, ready)
