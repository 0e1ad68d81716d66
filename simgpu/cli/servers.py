"""Commands of servers that are followed request by request: serve, capacity."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from simgpu.cli.base import (
    file_argument,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    progress_bar,
    quiet_option,
    set_option,
    tell,
    tell_written,
)


@main.command(
    short_help="Serve the load of a benchmark's command line.",
    epilog="Example: simgpu serve qwen3-8b --cluster dgx-h100 --like 'vllm bench serve'",
)
@click.argument("model", required=False, default="")
@click.option("--cluster", required=True, metavar="NAME", help="Cluster or node.")
@click.option("--like", required=True, metavar="COMMAND", help="vllm bench serve ..., guidellm ..., aiperf profile ...")
@click.option(
    "--server", default="", metavar="COMMAND", help="vllm serve ..., sglang.launch_server ..., trtllm-serve ..."
)
@set_option
@format_option("table", "json", "csv")
@out_option("DIR", "Write requests and seconds there.  [default: write nothing]")
@click.option(
    "--tables", type=click.Choice(("csv", "parquet", "both")), default="csv", show_default=True, help="Format of both."
)
@click.option("--trace", is_flag=True, help="With -o: write requests_trace.json for the Perfetto UI, too.")
@quiet_option
@click.pass_obj
@one_line_errors
def serve(
    folders: tuple[str, ...],
    model: str,
    cluster: str,
    like: str,
    server: str,
    settings: tuple[str, ...],
    style: str,
    out: Path | None,
    tables: str,
    trace: bool,
    quiet: bool,
) -> None:
    """Serve the requests that a benchmark's command line would send to a server, each followed to its last token.

    MODEL is one of the catalogue, by default the one that the command lines name. Load tools: vllm bench serve,
    sglang.bench_serving, genai-perf, aiperf, guidellm, inference-perf, InferenceX; docs/serving-tools.md says what each
    flag means.
    """
    from simgpu.study.capacity.serving import serve_like

    served = serve_like(model, cluster, like, server, settings, open_catalogue(folders))
    if not quiet and served.ignored:
        tell(f"no effect on times: {', '.join(served.ignored)}")
    served.show(style, sys.stdout)
    if out is not None:
        kinds = ("csv", "parquet") if tables == "both" else (tables,)
        tell_written((("written", path) for path in served.write(out, kinds, trace)), quiet)


@main.command(
    short_help="Find the largest load within limits, or the fewest GPUs.",
    epilog="Example: simgpu capacity capacity_plan",
)
@file_argument
@set_option
@click.option(
    "--percentile", type=click.FloatRange(1, 100), default=99.0, show_default=True, help="Of requests, to keep limits."
)
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="[CLUSTER=]USD",
    help="Price of a GPU-hour; repeatable.  [default: none]",
)
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def capacity(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    percentile: float,
    prices: tuple[str, ...],
    style: str,
    quiet: bool,
) -> None:
    """Find the largest load of each scenario that keeps its ttft_limit_s and tpot_limit_s, and replicas for its own.

    Loads are halved between one that keeps the limits and one that does not; all trials serve the same requests.
    """
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_table
    from simgpu.study.capacity import command

    with progress_bar(quiet) as told:
        found = command.capacity(file, settings, open_catalogue(folders), percentile, told, prices)
    if style == "json":
        print_json({"experiment": found.name, "rows": list(found.rows)}, sys.stdout)
    elif style == "csv":
        print_csv(found.rows, sys.stdout)
    else:
        names = [name for name in found.rows[0] if not name.endswith(("_p10", "_p90"))]
        print_table(found.rows, names, found.title, [], sys.stdout)
