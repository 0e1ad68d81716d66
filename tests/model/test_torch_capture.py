"""Modules of PyTorch as graphs: published counts, the project's own graph of GPT-2, and modules that are no good."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.model.transformer import prefill_graph

MODULES = """
import torch
import torch.nn.functional as F
from torch import nn

class Block(nn.Module):
    def __init__(self, h, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(h), nn.LayerNorm(h)
        self.qkv, self.out = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.up, self.down = nn.Linear(h, 4 * h), nn.Linear(4 * h, h)

    def forward(self, x):
        b, t, h = x.shape
        q, k, v = (one.view(b, t, self.heads, -1).transpose(1, 2) for one in self.qkv(self.norm1(x)).split(h, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).contiguous().view(b, t, h)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50257, 768), nn.Embedding(1024, 768)
        self.layers, self.norm = nn.ModuleList(Block(768, 12) for _ in range(12)), nn.LayerNorm(768)
        self.head = nn.Linear(768, 50257, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for one in self.layers:
            x = one(x)
        return self.head(self.norm(x[:, -1:]))

def gpt2():
    return GPT(), (torch.zeros(2, 512, dtype=torch.int64),)

def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2, groups=64), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(64, 10),
    )

def transposed():
    return nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False)

def recurrent():
    return nn.LSTM(8, 8), (torch.zeros(4, 2, 8),)

def broken():
    print("noise")
    raise ValueError("no such luck")

def number():
    return 3
"""


def capture(folder: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    (folder / "my_modules.py").write_text(MODULES)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("my_modules", None)
    return CliRunner().invoke(main, ["capture", *arguments])


def summary(run: Any) -> dict[str, Any]:
    import json

    assert run.exit_code == 0, run.output
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_gpt2_is_the_projects_own_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    arguments = ("my_modules:gpt2", "--dtype", "bfloat16", "--format", "json", "-o", "g.json", "-q")
    found = summary(capture(tmp_path, *arguments, monkeypatch=monkeypatch))
    own = prefill_graph(Catalogue().model("gpt2"), 2, 512, "bf16", "fp32")
    assert found["parameters"] == own.weights == 124_439_808
    assert found["flop"] == own.flops
    result = simgpu.simulate("h100-sxm", {"kind": "operators", "file": str(tmp_path / "g.json")}, dtype="bf16")
    assert result.flop == own.flops
    assert result.row["weights_bytes_per_gpu"] == 2 * found["parameters"]
    whole = simgpu.simulate("h100-sxm", {"kind": "prefill", "batch": 2, "tokens": 512}, "gpt2", dtype="bf16")
    assert result.step_s == pytest.approx(whole.step_s, rel=0.3)  # the same products; other kernels between them


def test_convolutions_and_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    options = ("--input", "8,3,224,224", "--format", "json")
    found = summary(capture(tmp_path, "my_modules:convnet", *options, monkeypatch=monkeypatch))
    assert (
        found["parameters"] == 64 * 3 * 49 + 128 + 64 * 9 + 64 + 650 == sum(row["parameters"] for row in found["rows"])
    )
    assert found["flop"] == 2 * 8 * (112 * 112 * 64 * 147 + 56 * 56 * 64 * 9 + 640)
    found = summary(
        capture(tmp_path, "my_modules:transposed", "--input", "1,64,10,10", "--format", "json", monkeypatch=monkeypatch)
    )
    assert found["flop"] == 2 * 100 * 64 * 32 * 16
    assert found["parameters"] == 64 * 32 * 16 == sum(row["parameters"] for row in found["rows"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["my_modules:broken"], "my_modules:broken: failed (ValueError: no such luck)"),
        (["my_modules:number"], "returned 'int'; expected a torch.nn.Module"),
        (["my_modules:convent"], "module 'my_modules' has no 'convent'; did you mean 'convnet'?"),
        (["my_modules:convnet"], "give their sizes, such as --input 8,3,224,224"),
        (["my_modules:convnet", "--input", "8,3"], "cannot be exported"),
        (["my_modules:convnet", "--input", "8,three"], "expected sizes and a type"),
        (["my_modules:convnet", "--dtype", "float23"], "--dtype: 'float23' is not known"),
        (["my_modules:recurrent"], "operators that are not known: aten.lstm (1)"),
        (["no_such_module:x"], "cannot be imported (ModuleNotFoundError"),
        (["convnet"], "expected MODULE:FUNCTION"),
    ],
)
def test_what_cannot_be_captured_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    pytest.importorskip("torch")
    run = capture(tmp_path, *arguments, monkeypatch=monkeypatch)
    assert run.exit_code == 2 and words in run.stderr and run.stdout == ""
    assert len(run.stderr.splitlines()) == 1


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    run = CliRunner().invoke(main, ["capture", "somewhere:model"])
    assert run.exit_code == 2 and "pip install 'simgpu[torch]'" in run.stderr


def test_names_of_aten_lose_their_overloads() -> None:
    from simgpu.model.imported.aten import base_name

    names = {"aten::add_.Tensor": "add", "aten::mm": "mm", "aten::_softmax": "_softmax", "aten::relu_": "relu"}
    assert {name: base_name(name) for name in names} == names
