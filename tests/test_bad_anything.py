"""Anything at all as input: no text, mapping or value may bring a command down."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from bad_input import (
    GPU,
    MODEL,
    NODE,
    PREFILL,
    SMALL,
    _elsewhere,  # noqa: F401 - fixtures
    at_most,
    config_of,
    wrote,
)
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sampling import sampled

from simgpu.cli import main

# ---- anything at all -----------------------------------------------------------------------------------


def fuzz(examples: int) -> settings:
    """The same examples every time; slow machines are no failure."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


WORDS = ["dgx-h100", "llama-2-7b", "fp16", "operators", "prefill", "training", "m", "k", "none", "step_s", "case", "tp"]
WORDS += ["1 GB", "-1 TB/s", "1e999 s", "2 us", "gpu", "[/x]", "$\\frac$", "a\nb", "../x", "\x1b[0m", "é", "0x10"]
NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([10**5, 10**12, 10**30, 10**400, -(10**400)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(WORDS),
    st.dates(),
    st.binary(max_size=4),
)
ANYTHING = st.recursive(
    NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    "experiment",
    "title",
    "scenario",
    "cases",
    "vary",
    "zip",
    "where",
    "table",
    "plots",
    "compare",
    "labels",
    "hardware",
    "model",
]
KEYS += ["cluster", "dtype", "plan", "plan.tp", "workload", "workload.tokens", "workload.operators", "gpu.memory"]
KEYS += ["workload.operators.gemm.time", "workload.operators.sum.bytes", "workload.operators.0", "gpu.peak.fp16"]
KEYS += [
    "gpu.memory.bandwidth",
    "link.nvlink-4.latency",
    "node.gpu",
    "cluster.nodes",
    "gpu.kernel.launch_overhead",
    "",
    ".",
]


def never_falls_over(*arguments: str) -> None:
    """Exit code 0, or 2 with one line: nothing else, whatever the input."""
    with at_most(20):
        result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2)
    if result.exit_code == 2:
        assert result.stdout == ""
        assert result.stderr.startswith("simgpu: ") and result.stderr.count("\n") == 1, result.stderr
    else:
        assert json.loads(result.stdout)["rows"]


def run_text(text: str | bytes) -> None:
    wrote("fuzz.yaml", text)
    never_falls_over("run", "fuzz.yaml", "--format", "json", "--no-plots", "--out", "answer")


@fuzz(150)
@given(st.text() | st.text(alphabet="{}[]:,-&*!|>#?'\"%@ \n\tax1.~") | st.binary().map(bytes))
@example("title: !!bool x")
@example("{[]: 1}")
def test_fuzz_any_text_as_experiment(text: str | bytes) -> None:
    run_text(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)


@fuzz(100)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), ANYTHING, max_size=5))
def test_fuzz_any_mapping_as_experiment(data: dict[str, Any]) -> None:
    run_text(yaml.safe_dump(data, allow_unicode=True))


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in below for place in _places(value, (*path, key)))]


VALID = {"operators": yaml.safe_load(SMALL), "training": yaml.safe_load(PREFILL)}
VALID["training"]["scenario"]["workload"]["tokens"] = 16
PLACES = [(name, place) for name, data in VALID.items() for place in _places(data) if place]


def _changed(name: str, place: tuple[Any, ...], value: Any) -> str:
    """A good experiment with the value at one place replaced."""
    data = json.loads(json.dumps(VALID[name]))
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    return yaml.safe_dump(data, allow_unicode=True)


UGLY: dict[str, Any] = {"null": None, "true": True, "zero": 0, "minus one": -1, "fraction": 0.5, "large": 10**12}
UGLY |= {"nan": float("nan"), "infinite": float("inf"), "enormous": 10**400, "empty": "", "text": "x", "list": []}
UGLY |= {"mapping": {}, "nested": [{}]}


@pytest.mark.parametrize("ugly", sampled(UGLY, 4))
def test_every_place_of_an_experiment_with_an_ugly_value(ugly: str) -> None:
    """Not by chance but one by one: nothing that stands in an experiment may bring a run down."""
    fallen = []
    for name, place in PLACES:
        try:
            run_text(_changed(name, place, UGLY[ugly]))
        except Exception as error:
            fallen.append(f"{name}: {'.'.join(map(str, place))}: {error!r:.100}")
    assert not fallen


@fuzz(250)
@given(st.sampled_from(PLACES), ANYTHING, st.booleans())
@pytest.mark.slow
def test_fuzz_an_experiment_with_one_thing_changed(
    where: tuple[str, tuple[Any, ...]], value: Any, rename: bool
) -> None:
    """A good experiment in which one value is replaced, or one key gets another name."""
    name, place = where
    if not rename or not isinstance(place[-1], str) or not isinstance(value, str):
        run_text(_changed(name, place, value))
        return
    data = json.loads(json.dumps(VALID[name]))
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    holder[value] = holder.pop(place[-1])
    run_text(yaml.safe_dump(data, allow_unicode=True))


@fuzz(150)
@given(
    st.sampled_from(KEYS) | st.text(max_size=6),
    st.text(max_size=12) | ANYTHING.map(lambda value: yaml.safe_dump(value, default_flow_style=True).strip()),
)
@example("dtype", "!!bool x")
@example("model", '"\\0.json"')
@example("gpu.memory.bandwidth", "9" * 400)
def test_fuzz_settings(key: str, value: str) -> None:
    wrote("fuzz.yaml", SMALL[: SMALL.index("cases:")])
    never_falls_over("run", "fuzz.yaml", "--format", "json", "--no-plots", "--out", "answer", "--set", f"{key}={value}")


CONFIG_VALUES = NASTY.filter(lambda value: not isinstance(value, bytes) and type(value).__name__ != "date")


@fuzz(40)
@given(st.dictionaries(st.sampled_from(sorted(MODEL)), CONFIG_VALUES, min_size=1, max_size=2))
@pytest.mark.slow
def test_fuzz_models(changes: dict[str, Any]) -> None:
    layers = changes.get("num_hidden_layers")
    if isinstance(layers, int) and layers > 100:
        changes["num_hidden_layers"] = 100  # how many are too many is asked elsewhere
    wrote("e.json", config_of(**changes))
    run_text(PREFILL.replace("llama-2-7b", "e.json"))


SPEC_PLACES = [place for place in _places(yaml.safe_load(GPU)) if place]


@fuzz(120)
@given(st.sampled_from(SPEC_PLACES), ANYTHING)
@pytest.mark.slow
def test_fuzz_a_specification_with_one_thing_changed(place: tuple[Any, ...], value: Any) -> None:
    data = yaml.safe_load(GPU)
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    wrote("own/gpus/tiny.yaml", yaml.safe_dump(data, allow_unicode=True))
    wrote("own/nodes/tiny-box.yaml", NODE)
    wrote("fuzz.yaml", SMALL[: SMALL.index("cases:")].replace("dgx-h100", "tiny-box"))
    never_falls_over("--catalog", "own", "run", "fuzz.yaml", "--format", "json", "--no-plots", "--out", "answer")
