"""What `simgpu validate energy` prints and writes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from simgpu.catalog import Catalogue
from simgpu.lab.validation.energy.rows import Scored, Skipped, predict
from simgpu.lab.validation.energy.score import Group, document, groups
from simgpu.render.data import print_csv, print_json
from simgpu.render.files import written_whole

HEADINGS = (
    *("class", "GPU", "rows", "power, time as measured", "a constant", "beaten", "within", "power", "energy", "within"),
    "time",
)

GOALS: tuple[tuple[str, float, Callable[[Group], float]], ...] = (
    ("power with the time as measured, median error", 0.08, lambda group: group.at_time.median),
    ("energy of a token or an output from the product alone, median error", 0.15, lambda group: group.energy.median),
)


def run(folder: Path, catalogue: Catalogue, style: str, page: Path | None) -> list[Path]:
    """Predict a folder, print it, and write the page; returns what was written."""
    rows, skipped = predict(folder, catalogue)
    if style == "json":
        print_json(document(rows, skipped), sys.stdout)
    elif style == "csv":
        print_csv(document(rows, skipped)["groups"], sys.stdout)
    else:
        show(rows, skipped, sys.stdout)
    if page is None:
        return []
    with written_whole(page) as stream:
        stream.write(page_text(rows, skipped))
    return [page]


def cells(group: Group) -> list[str]:
    """A group as the cells of a table."""
    return [
        group.kind, group.gpu, str(group.rows), group.at_time.words(), group.constant.words(),
        "yes" if group.beats else "no", f"{100 * group.coverage:.0f} %", group.power.words(), group.energy.words(),
        f"{100 * group.energy_coverage:.0f} %", group.time.words(),
    ]  # fmt: skip


def show(rows: Sequence[Scored], skipped: Sequence[Skipped], out: IO[str]) -> None:
    """Print the groups, the goals, and what was left out."""
    if rows:
        table = [list(HEADINGS), *(cells(group) for group in groups(rows))]
        widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
        for row in table:
            out.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
        out.write("\nErrors: median / mean / P90 of |predicted / measured - 1|, %.\n")
        out.write("".join(f"{line}\n" for line in goals(rows)))
    out.write(f"{len(rows)} rows, {len(skipped)} left out:\n")
    for reason, count in _reasons(skipped):
        out.write(f"  {count:4d}  {reason}\n")


def goals(rows: Sequence[Scored]) -> list[str]:
    """Each goal with what was reached."""
    found = groups(rows)
    lines = []
    for name, goal, of in GOALS:
        reached = of(found[-1])
        met = "met" if reached <= goal else "missed"
        lines.append(f"{name}: {100 * reached:.1f} %, goal {100 * goal:.0f} % ({met})")
    behind = [f"{group.kind} on {group.gpu}" for group in found[:-1] if not group.beats]
    lines.append(f"classes in which the constant is not beaten: {', '.join(behind) or 'none'}")
    lines.append(f"measured power inside the interval: {100 * found[-1].coverage:.0f} %, goal 70 to 90 %")
    return lines


def _reasons(skipped: Sequence[Skipped]) -> list[tuple[str, int]]:
    return Counter(one.reason for one in skipped).most_common()


HEAD = """\
# Power and energy against measured boards

Written by `simgpu validate energy --data DIR --page docs/validation-energy.md`. What the levels of power are and how
they were fitted: [operations.md](operations.md).

Rows are those of the ML.ENERGY benchmark (v1 to v3): mean board power, and energy of a token or an output, of language
models that are served and of images and videos, on machines of others. Prompt lengths are not stated: 250 tokens, 500
where code is completed. Errors are median / mean / P90 of |predicted / measured - 1| in %.

*Power, time as measured*: the kernels are those that simgpu predicts, stretched to the time that was measured. *A
constant*: the median share of the power limit of all other models on the same GPU. *Power* and *energy*: from the
product alone, with its own times, whose errors stand last. *Within*: measured values inside the printed P10 to P90.

These rows were in sight when the levels were fitted: the table says how well eight figures for a GPU describe them.
What to expect of others is under "How it was fitted" in [operations.md](operations.md).
"""


def page_text(rows: Sequence[Scored], skipped: Sequence[Skipped]) -> str:
    """The page of results, Markdown."""
    lines = [*HEAD.splitlines(), ""]
    lines += [f"- {line}" for line in goals(rows)]
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cells(group)) + " |" for group in groups(rows)]
    lines += ["", f"{len(rows)} rows; {len(skipped)} have no prediction:", "", "| rows | why |", "|---|---|"]
    lines += [f"| {count} | {reason} |" for reason, count in _reasons(skipped)]
    return "\n".join(lines) + "\n"
