"""What tests of `simgpu validate inference` share: rows of each kind of table, and calls of the command."""

import csv
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.batches import Bench, Machine
from simgpu.lab.validation.command import PUBLISHED
from simgpu.lab.validation.sources import aic_e2e_inference, known, llamacpp_inference, neusight_e2e
from simgpu.lab.validation.tables import read_table

ROOT = Path(__file__).parents[1]
PUBLISHED_TABLES = {file.stem for file in PUBLISHED.glob("*.csv")}
FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", ROOT.parent / "shared/measurements"))
measured = pytest.mark.skipif(not (FOLDER / "llamacpp_inference.csv").is_file(), reason=f"no measurements in {FOLDER}")

LLAMA = {
    "gpu": "rtx-4090", "num_gpus": 1, "model": "llama3-8b", "quant": "Q4_K_M", "phase": "decode", "num_tokens": 512,
    "tokens_per_s": 100.0,
}  # fmt: skip
SERVED = {
    "gpu": "h100-sxm", "model": "Qwen/Qwen3-32B", "framework": "vllm", "version": "0.12", "mode": "agg",
    "input_tokens": 1000, "output_tokens": 100, "concurrency": 8, "tp_size": 2, "ttft_s": 0.2, "tpot_s": 0.02,
}  # fmt: skip
APART = {
    "mode": "disagg", "tp_size": "", "prefill_num_workers": 2, "prefill_tp_size": 2, "decode_num_workers": 1,
    "decode_tp_size": 4,
}  # fmt: skip
FORWARD = {
    "gpu": "h100-sxm", "model": "gpt2_large", "mode": "inference_prefill", "num_layers": 4, "hidden_size": 1280,
    "num_heads": 20, "ffn_size": 5120, "vocab_size": 50257, "seq_len": 512, "global_batch": 4, "num_gpus": 1,
    "dp_size": 1, "tp_size": 1, "pp_size": 1, "num_microbatches": 1, "torch_compile": "False", "dtype": "float32",
    "latency_s": 0.02,
}  # fmt: skip
LAYER = {
    "gpu": "rtx-4090", "model": "Llama-3.1-8B", "tp_size": 1, "layer": "act_fn", "num_tokens": 64, "gemm_n": "",
    "gemm_k": "", "latency_s": 5e-6, "method": "vllm", "dtype": "bfloat16",
}  # fmt: skip
TRANSLATE = {
    "llamacpp_inference": llamacpp_inference.run,
    "aic_e2e_inference": aic_e2e_inference.run,
    "neusight_e2e": neusight_e2e.forward,
}
CEILINGS = {  # of the median and the mean, percent; a little above what was reached when this was written
    "llama.cpp decode": (2.5, 4.0),
    "llama.cpp prefill": (11.0, 18.0),
    "served, TPOT": (5.0, 8.0),
    "served, end to end": (4.8, 7.8),
    "NeuSight, one forward": (7.0, 7.0),
}


def folder(tmp_path, **tables):
    for source, rows in tables.items():
        with (tmp_path / f"{source}.csv").open("w") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    return tmp_path


MACHINE = Machine("h100-sxm", Catalogue().spec("gpus", "h100-sxm"), Bench(Catalogue()))


def run(*options, target="inference"):
    return CliRunner().invoke(main, ["validate", target, *map(str, options)])


def found(place, target="inference"):
    result = run("--data", place, "--format", "json", "-q", target=target)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def asked(tmp_path):
    """What rows of a source ask for."""

    def read(source, *rows):
        file = folder(tmp_path, **{source: rows}) / f"{source}.csv"
        table = read_table(source, file, known()[source].adapter("inference").columns)
        translate = TRANSLATE[source]
        return [list(translate(Reader(table, row, MACHINE))) for row in range(len(table))]

    return read
