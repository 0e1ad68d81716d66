"""Commands of servers that are followed request by request: serve, capacity, plan-capacity."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from simgpu.cli.base import (
    file_argument,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    price_option,
    progress_bar,
    quiet_option,
    set_option,
    tell,
    tell_written,
    with_price,
)
from simgpu.cli.names import MACHINES, names_of


@main.command(
    short_help="Serve the load of a benchmark's command line.",
    epilog="Example: simgpu serve qwen3-8b --cluster dgx-h100 --like 'vllm bench serve'",
)
@click.argument("model", required=False, default="", shell_complete=names_of("models", files=True))
@click.option("--cluster", required=True, metavar="NAME", shell_complete=names_of(*MACHINES), help="Cluster or node.")
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
    help="Price of a GPU-hour; repeatable.  [default: the catalogue's]",
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
        print_json({"experiment": found.name, "rows": list(found.rows), "notes": list(found.notes)}, sys.stdout)
    elif style == "csv":
        print_csv(found.rows, sys.stdout)
    else:
        columns = dict.fromkeys(name for row in found.rows for name in row)
        names = [name for name in columns if not name.endswith(("_p10", "_p90"))]
        print_table(found.rows, names, found.title, found.notes, sys.stdout)


@main.command(
    "plan-capacity",
    short_help="How many replicas, GPUs, racks, kW and USD a load takes.",
    epilog="Example: simgpu plan-capacity capacity_plan --users 9000 --think-time 60s",
)
@file_argument
@set_option
@click.option("--users", type=click.FloatRange(min=0), metavar="N", help="Open conversations; with --think-time.")
@click.option("--think-time", "think", metavar="TIME", help="Of a user between an answer and the next request.")
@click.option("--in-flight", type=click.FloatRange(min=0), metavar="N", help="Requests that are worked on at a time.")
@click.option("--rate", type=click.FloatRange(min=0), metavar="N", help="Requests a second.")
@click.option(
    "--peak", type=click.FloatRange(min=1), default=1.0, show_default=True, help="The busiest hour over the mean."
)
@click.option("--headroom", default="80 %", show_default=True, help="Share of a replica's largest load to plan with.")
@click.option("--availability", "target", default="0", metavar="SHARE", help="Of the time that enough replicas are up.")
@click.option("--repair-time", "mttr", metavar="TIME", help="Until a failed replica is back.")
@click.option(
    "--warm", type=click.IntRange(min=0), default=1, show_default=True, help="Replicas that are kept without load."
)
@click.option("--rack-kw", type=click.FloatRange(min=0, min_open=True), metavar="KW", help="Power of a rack.")
@click.option(
    "--pue", type=click.FloatRange(min=1), metavar="N", help="Of the facility.  [default: power.pue of each server]"
)
@click.option(
    "--rates",
    multiple=True,
    metavar="[GPU=]FILE",
    help="Failure rates; repeatable.  [default: reliability.rates of each server]",
)
@click.option(
    "--hours", type=click.FloatRange(min=0, max=744), default=730.0, show_default=True, help="Paid hours of a month."
)
@click.option(
    "--percentile", type=click.FloatRange(1, 100), default=99.0, show_default=True, help="Of requests, to keep limits."
)
@click.option("--safe", is_flag=True, help="Plan with the lower end (P10) of what a replica does.")
@price_option
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def plan_capacity(
    folders: tuple[str, ...], file: str, settings: tuple[str, ...], price: str | None, style: str, quiet: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Find how many replicas, GPUs, nodes, racks, kW and USD a month each server of FILE takes for a load.

    The load is users with a think time, requests in flight, or requests a second; the largest number of replicas that
    load, memory or availability asks for is planned.
    """
    from simgpu.operations.capacity import Demand, Site
    from simgpu.operations.quantities import share_of, span_of
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_table
    from simgpu.study.capacity import planning

    think = None if given["think"] is None else span_of(given["think"], "--think-time")
    mttr = None if given["mttr"] is None else span_of(given["mttr"], "--repair-time")
    rack = None if given["rack_kw"] is None else given["rack_kw"] * 1e3
    asked = planning.CapacityAsked(
        Demand(given["users"], think, given["in_flight"], given["rate"], given["peak"]),
        share_of(given["headroom"], "--headroom", above=True),
        share_of(given["target"], "--availability"),
        mttr,
        given["warm"],
        Site(rack, hours=given["hours"]),
        given["percentile"],
        given["safe"],
        given["pue"],
        planning.rates_by_gpu(given["rates"]),
    )
    asked.demand.check()
    with progress_bar(quiet) as told:
        found = planning.plan_capacity(file, with_price(settings, price), open_catalogue(folders), asked, told)
    if style == "json":
        print_json({"experiment": found.name, "rows": list(found.rows), "notes": list(found.notes)}, sys.stdout)
    elif style == "csv":
        print_csv(found.rows, sys.stdout)
    else:
        labels = [name for name in found.rows[0] if name not in planning.KEYS]
        names = [*labels, *(name for name in planning.SHOWN if any(name in row for row in found.rows))]
        print_table(found.rows, names, found.title, found.notes, sys.stdout)
