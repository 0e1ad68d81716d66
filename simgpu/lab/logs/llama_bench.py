"""The tables that llama-bench prints: Markdown by default, CSV by `-o csv`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simgpu.lab.logs.observed import BATCH, Measurement, Observed
from simgpu.lab.logs.servers import read_document
from simgpu.lab.logs.text import lines_of, number_of

_TEST = re.compile(r"(pp|tg)(\d+)(?: @ d(\d+))?")


def read(file: Path) -> list[Observed]:
    """Tests of a table of llama-bench; nothing for another text."""
    first = next(lines_of(file), (0, ""))[1]
    if "avg_ts" in first and "n_gen" in first:
        rows = csv.DictReader(text for _, text in lines_of(file))
        return [one for row in rows for one in read_document(file, [_numbers(row)])]
    return list(_markdown(file))


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """A row of CSV with its numbers read."""
    made = dict(row)
    try:
        made["avg_ts"] = float(row["avg_ts"])
    except (TypeError, ValueError):
        made["avg_ts"] = None
    return made


def _markdown(file: Path) -> Iterator[Observed]:
    header: list[str] = []
    for number, text in lines_of(file):
        cells = [cell.strip() for cell in text.strip().strip("|").split("|")]
        if "t/s" in cells and "test" in cells:
            header = cells
            continue
        row = dict(zip(header, cells, strict=False)) if header and text.lstrip().startswith("|") else {}
        test = _TEST.fullmatch(row.get("test", ""))
        if not test:
            continue
        rate = number_of(row["t/s"].split("±")[0].strip(), file, number)
        prompt = test[1] == "pp"
        facts: dict[str, Any] = {"model": row.get("model"), "input_tokens" if prompt else "output_tokens": int(test[2])}
        if test[3]:
            facts["depth"] = int(test[3])
        column = "prefill_tokens_per_s" if prompt else "output_tokens_per_s"
        yield Observed(file, BATCH, "llama-bench", (Measurement(column, rate),), facts)
