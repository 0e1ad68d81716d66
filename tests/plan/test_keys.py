"""`Plan` is the one definition of its keys: what files, searches and Python take follows it."""

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from simgpu import InputError, Plan
from simgpu.plan.keys import MOST_DEGREE
from simgpu.plan.parallelism import KEYS, MODULES, ORDER, every_value
from simgpu.plan.space import _EVERY, AS_SAID
from simgpu.plan.space import KEYS as SEARCHED
from simgpu.scenario import PlanFields

NEEDS: dict[tuple[str, Any], dict[str, Any]] = {
    ("vp", 2): {"pp": 2}, ("schedule", "interleaved"): {"pp": 2, "vp": 2}, ("shard", 2): {"dp": 2, "zero": 1},
    ("offload", "parameters"): {"zero": 3}, ("offload_to", "mixed"): {"zero": 3, "offload": "parameters"},
    ("stage_layers", (1, 2, 0)): {"pp": 3}, ("expert_tp", 2): {"tp": 2}, ("expert_tp", 1024): {"tp": 1024},
}  # fmt: skip
"""What a value needs beside it."""


def good(key: str) -> list[Any]:
    """Some values of a key, all of those of which there are few."""
    if key == "order":
        return [ORDER, ORDER[::-1]]
    if key == "recompute_modules":
        return [None, ("mlp",), MODULES]
    if KEYS[key].real:
        return [1, 0.5, 100.0]
    if KEYS[key].listed:
        return [(4,), (1, 2, 0)]
    few = KEYS[key].flag or KEYS[key].values or KEYS[key].most < MOST_DEGREE or isinstance(getattr(Plan, key), bool)
    return list(every_value(key)) if few else [1, 2, 1024]


def bad(key: str) -> list[Any]:
    """Values that no key of this kind takes."""
    if isinstance(getattr(Plan, key), bool):
        return ["perhaps", 2, []]
    if key == "order":
        return [("tp", "dp"), "tp", (1, 2)]
    if key == "recompute_modules":
        return [("mpl",), "mlp", (1, 2)]
    if KEYS[key].flag:
        return ["perhaps", 2, []]
    if KEYS[key].real:
        return [0, -1.0, 101, "two", True, float("nan")]
    if KEYS[key].listed:
        return [(), 4, "four", (1.5,), (-1, 2), (True,)]
    return ["nothing", ""] if KEYS[key].values else [KEYS[key].least - 1, 1.5, "two", True]


def from_file(given: dict[str, Any]) -> Plan:
    return PlanFields.model_validate(given).plan()


def test_files_have_the_keys_and_defaults_of_a_plan() -> None:
    assert list(PlanFields.model_fields) == [one.name for one in fields(Plan)] == list(KEYS)
    assert {key: one.default for key, one in PlanFields.model_fields.items()} == vars(Plan())
    assert set(SEARCHED) == set(KEYS) - set(AS_SAID), "a search goes over every key but lists and those of a stack"
    assert all(values == every_value(key) for key, values in _EVERY.items())


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in KEYS for value in good(key)])
def test_a_file_takes_what_python_takes(key: str, value: Any) -> None:
    given = {**NEEDS.get((key, value), {}), key: value}
    if key == "vp" and value > 1:
        given["pp"] = 2
    if key == "recompute_modules" and value:
        given["recompute"] = "selective"
    if key == "shard":
        given |= {"dp": value, "zero": 1}
    assert from_file(given) == Plan(**given)
    assert getattr(Plan(**given), key) == value


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in KEYS for value in bad(key)])
def test_a_file_refuses_what_python_refuses(key: str, value: Any) -> None:
    with pytest.raises(InputError) as refused:
        Plan(**{key: value})
    assert refused.value.key == f"plan.{key}"
    with pytest.raises((ValidationError, InputError)):
        from_file({key: value})


def test_help_tells_of_every_key() -> None:
    assert all(f"\n    {name}\n        {key.about}" in (Plan.__doc__ or "") for name, key in KEYS.items())
