"""Small tables of measurements in the columns of the public ones, so that the lab's code runs anywhere.

`tests/data/tables` holds rows of invented shapes. Where a cell is `?`, `write_all` puts simgpu's own prediction times a
factor from `LEAST` to `MOST` that hangs on the row alone: errors of a validation of these tables are known beforehand,
whatever the models say.
"""

import csv
import zlib
from pathlib import Path

import numpy as np

from simgpu.lab.validation.batches import Batch, Bench, Machine
from simgpu.lab.validation.gpus import resolve
from simgpu.lab.validation.sources import known
from simgpu.lab.validation.tables import read_table

TABLES = Path(__file__).parent / "data/tables"
LEAST, MOST = 0.9, 1.1
BEFORE = {"tokens_per_s": 1.0, "tpot_s": 10.0, "ttft_s": 10.0, "latency_s_mean": 1e4}
"""What stands in a cell until its figure is known; 1 in others."""
COLUMNS = {
    ("step_time", ""): "step_time_s",
    ("ttft", ""): "ttft_s",
    ("tpot", ""): "tpot_s",
    ("prefill", ""): "prompt_s",
    ("decode", ""): "token_s",
    ("memory", "peak"): "memory_bytes_per_gpu",
    ("memory", "states"): "param_and_optimizer_bytes",
    ("memory", "activations"): "activation_bytes",
    ("memory", "relative"): "relative_activation_memory",
}
"""Where a quantity of a whole step stands."""
MEASURED = ("measured", "")
"""What the cells came to before."""


def factor(source, row):
    """Measured over predicted."""
    return LEAST + (MOST - LEAST) * (zlib.crc32(f"{source} {row}".encode()) % 1000) / 999


def write(folder, source, rows):
    """A table."""
    with (folder / f"{source}.csv").open("w") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_all(folder, catalogue):
    """Write every table into a folder, with its figures. Returns their rows."""
    tables = {}
    bench = Bench(catalogue)
    for file in sorted(TABLES.glob("*.csv")):
        with file.open() as stream:
            asked = list(csv.DictReader(stream))
        rows = [{name: BEFORE.get(name, 1.0) if cell == "?" else cell for name, cell in row.items()} for row in asked]
        write(folder, file.stem, rows)
        for i, values in _predicted(file.stem, folder / file.name, bench).items():
            _fill(rows[i], asked[i], values, factor(file.stem, i))
        write(folder, file.stem, rows)
        tables[file.stem] = rows
    return tables


def _predicted(source, file, bench):
    """Predictions of each row by quantity and part."""
    found = {}
    for adapter in known()[source].adapters:
        table = read_table(source, file, adapter.columns)
        for (name,), rows in table.split(np.arange(len(table)), "gpu"):
            gpu = resolve(name, bench.catalogue.names("gpus"))
            if gpu is None:
                continue
            machine = Machine(name, bench.catalogue.spec("gpus", gpu), bench)
            for part in adapter.parts(table, rows, machine):
                if isinstance(part, Batch):
                    values = np.broadcast_to(np.asarray(part.predict(), float), part.rows.shape)
                    for i, row in enumerate(part.rows.tolist()):
                        found.setdefault(row, {})[part.op, part.part] = float(values[i])
                        if part.measured is not None:
                            found[row].setdefault(MEASURED, float(part.measured[i]))
    return found


def _fill(row, asked, values, times):
    """Put the figures of a row in."""
    figures = {COLUMNS[key]: times * value for key, value in values.items() if key in COLUMNS}
    seconds = times * next(iter(values.values()))
    figures |= {"latency_s": seconds, "latency_trtllm_s": 1.03 * seconds}  # as of another collector
    figures["time_us"] = 1e6 * seconds
    figures["itl_s"] = figures.get("token_s", seconds)
    if "ttft_s" in figures and "tpot_s" in figures:  # an open load
        figures["ttft_s_mean"] = figures["ttft_s"]
        figures["latency_s_mean"] = figures["ttft_s"] + figures["tpot_s"] * float(row["output_tokens"])
    figures["tokens_per_s"] = float(row.get("num_tokens") or 0) / seconds
    figures["model_flops_per_s_per_gpu"] = values.get(MEASURED, 0.0) / seconds  # of a rate of 1
    figures["measured"] = values.get(MEASURED, 0.0) / seconds  # the same
    figures["value"] = values.get(MEASURED, 0.0) / seconds  # the same
    figures["measured_step_ms"] = 1e3 * seconds
    figures["throughput_items_per_s"] = float(row.get("global_batch") or 0) / seconds
    for name, cell in asked.items():
        if cell == "?":
            row[name] = f"{figures.get(name, row[name]):.6g}"
