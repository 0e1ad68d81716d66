"""What tests of the command line share: small files, a catalogue of one's own, and calls of a command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_up import ENTRY, GPU, NODE, _elsewhere  # noqa: F401 - a fixture for tests

from simgpu.cli import main

ROOT = Path(__file__).resolve().parents[1]
TP2 = ROOT / "experiments" / "tp2_scaling.yaml"
LLAMA = ROOT / "experiments" / "llama70b_tp.yaml"
CLAIMED = {"2x H100 SXM": 0.86, "2x A100 SXM": 0.87, "2x RTX 4090": 0.35, "2x RTX 3090": 0.81}

SMALL = """\
experiment: small
scenario:
  cluster: dgx-h100
  dtype: fp16
  plan: {tp: 2}
  workload:
    kind: operators
    operators:
      - {op: matmul, name: gemm, m: 512, n: 512, k: 512, split: k}
      - {op: all_reduce, name: sum, bytes: 1 MB}
"""

PREFILL = """\
experiment: prefill
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  plan: {tp: 2}
  workload: {kind: prefill, tokens: 512}
"""

TINY_MODEL = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
}


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(tmp_path_factory.mktemp("input") / "small.yaml", SMALL)


@pytest.fixture
def prefill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(tmp_path_factory.mktemp("input") / "prefill.yaml", PREFILL)


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own catalogue: a GPU, a node, a model and an experiment."""
    folder = tmp_path_factory.mktemp("own")
    _file(folder / "gpus/tiny.yaml", GPU)
    _file(folder / "nodes/tiny-box.yaml", NODE)
    _file(folder / "models/tiny-llama.json", json.dumps(TINY_MODEL))
    mine = PREFILL.replace("llama-2-7b", "tiny-llama").replace("dgx-h100", "tiny-box")
    _file(folder / "experiments/mine.yaml", mine.replace("experiment: prefill", "title: My own\nexperiment: mine"))
    return folder


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def simgpu(*arguments: object, env: dict[str, str] | None = None) -> Result:
    """Run the command line in this process; it must succeed."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result


def document(*arguments: object) -> dict[str, Any]:
    """The JSON document of `simgpu run`."""
    return json.loads(simgpu("run", *arguments, "--format", "json", "--no-plots").stdout)


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run([ENTRY, *map(str, arguments)], **given)


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def physical(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["assumptions"] == "physical"]


def published(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["assumptions"] == "published"]
