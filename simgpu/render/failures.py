"""Tables of what breaks, of jobs that share a fabric, and of placements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from simgpu.render.table import grid, print_notes
from simgpu.units import format_si


def print_failures(done: Mapping[str, Any], out: IO[str]) -> None:
    """Print failures, the worst first."""
    rows = [
        (row["failure"] + (" *" if row["note"] else ""), row["where"], f"{row['alike']:,}",
         format_si(row["step_s"], "s"), f"{row['slowdown']:.3f}", f"{row['gpus_lost']:.1f}")
        for row in done["rows"]
    ]  # fmt: skip
    titles = ("failure", "such as", "alike", "step", "slowdown", "GPUs' worth")
    grid(done["title"], titles, rows, out, right=(2, 3, 4, 5))
    whole = f"Nothing broken: {format_si(done['step_s'], 's')} a step. Slowdown: step with it over that."
    faster = [f"* {row['failure']} ({row['where']}): {row['note']}" for row in done["rows"] if row["note"]]
    print_notes([whole, *faster, *done["notes"]], out)


def print_shared(done: Mapping[str, Any], out: IO[str]) -> None:
    """Print jobs alone and together."""
    rows = [
        (row["job"], f"{row['gpus']:,}", format_si(row["step_s"], "s"), format_si(row["together_s"], "s"),
         f"{row['slowdown']:.3f}", f"{row['network_share']:.0%}", str(row["shared_links"]), row["with"])
        for row in done["rows"]
    ]  # fmt: skip
    titles = ("job", "GPUs", "alone", "together", "slowdown", "network", "shared links", "with")
    grid(done["title"], titles, rows, out, right=(1, 2, 3, 4, 5, 6))
    print_notes(done["notes"], out)


def print_placed(done: Mapping[str, Any], out: IO[str]) -> None:
    """Print placements, the best first, and what it buys."""
    rows = [
        (row["placement"] + ("" if row["free"] else " (not free)"), str(row["leaves"]), str(row["busiest_leaf"]),
         str(row["crossings"]), format_si(row["step_s"], "s"), f"{row['slowdown']:.3f}")
        for row in done["rows"]
    ]  # fmt: skip
    titles = ("placement", "leaves", "most at a leaf", "crossings", "step", "over best")
    grid(done["title"], titles, rows, out, right=(1, 2, 3, 4, 5))
    best, given = format_si(done["best_step_s"], "s"), format_si(done["step_s"], "s")
    if done["gain"] > 0:
        less = 100 * (1 - 1 / (1 + done["gain"]))
        words = f"{less:.1f} % less than as given ({given}), worth {done['gpus_gained']:.1f} GPUs"
    else:
        words = "as it is given: none that was tried is better"
    notes = [f"Best: {best} a step, {words}.", f"cluster.placement: {done['nodes']}"]
    if done["one_switch_step_s"] is not None:
        notes.append(f"With all nodes below one switch: {format_si(done['one_switch_step_s'], 's')}.")
    print_notes([*notes, "Crossings: edges of rings between two leaf switches, in the order of ranks."], out)
