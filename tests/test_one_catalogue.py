"""The catalogue that a user names is the one that everything asks: scenarios, conditions, searches, comparisons."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main

SMALL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2048,
    "num_attention_heads": 16, "num_key_value_heads": 8, "num_hidden_layers": 4, "vocab_size": 32000,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
CONDITION = """
experiment: cond
scenario:
  cluster: h100-sxm
  workload: {kind: prefill, batch: 1, tokens: 512}
vary:
  model: [my-small, llama-3.1-8b]
where: layers > 10
"""
ONE = CONDITION.replace("[my-small, llama-3.1-8b]", "[my-small]").replace("> 10", "< 10")
SEARCH = """
scenario:
  model: my-small
  cluster: dgx-h100
  workload: {kind: training, batch: 8, tokens: 512}
search: {top: 1, space: {tp: [1, 2], dp: all}, where: layers < 10}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_CATALOG", raising=False)
    (tmp_path / "own/models").mkdir(parents=True)
    (tmp_path / "own/models/my-small.json").write_text(json.dumps(SMALL))
    for name, text in (("cond", CONDITION), ("one", ONE), ("search", SEARCH)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / "own"


@pytest.mark.parametrize(
    "command",
    [
        "run cond.yaml --format csv", "resolve cond.yaml", "sensitivity cond.yaml", "explain cond.yaml",
        "trace cond.yaml", "sweep cond.yaml --jobs 1 --store s.sqlite", "diff cond.yaml:1 one.yaml:1",
        "search search.yaml --jobs 1 --store s.sqlite --no-plots", "fit my-small --gpu h100-sxm", "show my-small",
    ],
)  # fmt: skip
def test_every_command_asks_the_catalogue_that_is_named(own: Path, command: str) -> None:
    done = CliRunner().invoke(main, ["--catalog", str(own), *command.split()])
    assert done.exit_code == 0, done.output + str(done.exception)
    refused = CliRunner().invoke(main, command.split())
    assert "'my-small'" in refused.output
    assert refused.exit_code == 2 or command.startswith("sweep")  # which lists points that failed


def test_calls_from_python_ask_it_too(own: Path) -> None:
    known = Catalogue(own)
    assert [row["model"] for row in simgpu.run_experiment("cond.yaml", catalogue=known).rows] == ["llama-3.1-8b"]
    assert simgpu.sensitivity("cond.yaml", catalogue=known)
    assert simgpu.explain("cond.yaml", catalogue=known)
    assert simgpu.diff("cond.yaml", "one.yaml", catalogue=known)
    assert simgpu.search("search.yaml", catalogue=known, jobs=1)


def functions() -> Iterator[tuple[str, FunctionType]]:
    """Every function and method of simgpu."""
    for found in pkgutil.walk_packages(simgpu.__path__, "simgpu."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for holder in (module, *(one for one in vars(module).values() if inspect.isclass(one))):
            if getattr(holder, "__module__", found.name) == found.name:
                for one in vars(holder).values():
                    if inspect.isfunction(one) and one.__module__ == found.name:
                        yield f"{found.name}.{one.__qualname__}", one


def test_no_function_below_the_public_calls_has_a_catalogue_of_its_own() -> None:
    """A default would be forgotten by some caller: only `simgpu.api` and its siblings have one."""
    for name, function in functions():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name == "catalogue" and not name.startswith(
                ("simgpu.api.", "simgpu.api_parts.", "simgpu.api_evidence.", "simgpu.simulation.call.simulate")
            ):
                assert parameter.default is inspect.Parameter.empty, name
