"""One rule for true and false in every key of every file: these two, and nothing that may stand for them."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import simgpu
from simgpu.errors import InputError, no_flag

MEANT = [("yes", "true"), ("on", "true"), (1, "true"), (1.0, "true"), ("True", "true"), ("no", "false"), (0, "false")]


def models(base: type[BaseModel] = BaseModel) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from models(model)


def flags() -> list[tuple[str, Any]]:
    """Fields of pydantic models that are true or false and nothing else but None."""
    for module in pkgutil.walk_packages(simgpu.__path__, "simgpu."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, Any] = {}
    for model in models():
        for name, field in model.model_fields.items() if model.__module__.startswith("simgpu.") else ():
            if _is_flag(field):
                found[f"{model.__module__}.{model.__name__}.{name}"] = field
    return sorted(found.items())


def _is_flag(field: FieldInfo) -> bool:
    options = [one for one in get_args(field.annotation) or (field.annotation,) if one is not type(None)]
    return all(one is bool or (get_args(one) or (None,))[0] is bool for one in options)


def test_every_flag_takes_true_and_false_alone():
    found = flags()
    assert len(found) > 40
    lax = set()
    for name, field in found:
        adapter = TypeAdapter(field.rebuild_annotation())
        assert adapter.validate_python(True) is True and adapter.validate_python(False) is False
        for value, _ in MEANT:
            try:
                adapter.validate_python(value)
                lax.add(name)
            except ValidationError:
                pass
    assert not lax


@pytest.mark.parametrize(("value", "meant"), MEANT)
def test_a_message_names_the_flag_that_is_meant(value, meant):
    assert no_flag(value).endswith(f"is not true or false; did you mean {meant}?")


@pytest.mark.parametrize("value", ["maybe", 2, None, [True], {}, float("nan")])
def test_and_none_where_nothing_is(value):
    assert no_flag(value).endswith("is not true or false")


SCENARIO = {
    "model": "llama-3.2-1b",
    "cluster": "dgx-h100-ib",
    "workload": {"kind": "training", "batch": 8, "tokens": 128},
    "plan": {"dp": 2},
}


@pytest.mark.parametrize(
    "key",
    [
        "workload.clip",
        "workload.dropout",
        "plan.sequence_parallel",
        "plan.overlap_gradients",
        "require_fit",
        "cluster.fabric.sharp",
        "reliability.ecc",
        "gpu.memory.ecc",
    ],
)
@pytest.mark.parametrize("written", ['"yes"', "1", "'false'", "0.0"])
def test_a_scenario_says_so_in_one_line(key, written):
    meant = "true" if yaml.safe_load(written) in ("yes", 1) else "false"
    with pytest.raises(InputError, match=rf"{key}: .* is not true or false; did you mean {meant}\?$"):
        simgpu.run_experiment({"experiment": "x", "scenario": SCENARIO}, f"{key}={written}")


@pytest.mark.parametrize("written", ["true", "yes", "on", "True"])
def test_words_that_yaml_reads_as_true_are_true(written):
    text = yaml.safe_dump({"experiment": "x", "scenario": SCENARIO}) + f"  plan.sequence_parallel: {written}\n"
    assert simgpu.run_experiment(text).rows[0]["sequence_parallel"] is True
