"""A configuration of a framework, a manifest, a script or a command line becomes an experiment file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Text, read_text, read_yaml
from simgpu.errors import InputError, SimgpuError, nearest, shown
from simgpu.launching.meant import Config, agreeing
from simgpu.launching.pairs import nested
from simgpu.launching.read_megatron import is_megatron, read_megatron
from simgpu.launching.read_servers import is_dynamo, is_llm_d, read_dynamo, read_llm_d, read_server
from simgpu.launching.read_trainers import read_accelerate, read_axolotl, read_deepspeed, read_torchtitan
from simgpu.launching.shell import read_script
from simgpu.model.config import TransformerConfig
from simgpu.settings import parse_settings
from simgpu.study.experiment.running import load_experiment

_SERVERS = ("vllm serve", "sglang.launch_server", "sglang serve", "trtllm-serve", "vllm.entrypoints")


@dataclass(frozen=True)
class ImportedConfig:
    """An experiment file that was made of a configuration.

    kind, version
        The framework, and the version whose names were read.
    text
        The experiment file.
    keys
        Keys of its scenario.
    ignored, unknown, notes
        Names without an effect on times, names that are not known here, and what else a reader should know.
    """

    kind: str
    version: str
    text: str
    keys: Mapping[str, Any]
    ignored: Sequence[str]
    unknown: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Given:
    """What a user says beside a configuration: names of the catalogue, GPUs, further keys."""

    cluster: str
    model: str = ""
    gpus: int = 0
    settings: tuple[str, ...] = ()


def import_config(file: str, given: Given, catalogue: Catalogue) -> ImportedConfig:
    """Read a configuration: a file, or a command line as text. Raises `InputError`."""
    try:
        config = _read(file, given.gpus)
        config.gpus = given.gpus or config.gpus
        _data_parallel(config)
        keys: dict[str, Any] = {"model": _model(config, given, catalogue), "cluster": given.cluster, **config.keys}
        hardware = _nodes(config, given, catalogue)
        for setting in parse_settings(given.settings):
            if setting.path[0] == "hardware":
                hardware[".".join(setting.path[1:])] = setting.value
            else:
                keys[".".join(setting.path)] = setting.value
        for key in ("workload.batch", "workload.tokens"):
            if keys["workload.kind"] == "training" and key not in keys:
                raise InputError(f"it does not say {key}: expected --set {key}=N")
        text = _experiment(file, config, keys, hardware)
        _check(text, catalogue)
    except InputError as error:
        named = file if os.path.isfile(file) else None
        raise error if error.file else InputError(error.problem, file=named, key=error.key) from None
    return ImportedConfig(config.kind, config.version, text, keys, config.ignored, config.unknown, config.notes)


def _check(text: str, catalogue: Catalogue) -> None:
    """Raise `InputError` for a text that is no experiment."""
    try:
        load_experiment(Text(text, stem="imported"), (), catalogue)
    except SimgpuError as error:
        said = error if isinstance(error, InputError) else InputError(str(error))
        raise InputError(f"it becomes no experiment: {said.problem}", key=said.key) from None


def _read(file: str, gpus: int) -> Config:
    """What a file or a command line means."""
    if not os.path.isfile(file):
        if " " not in file.strip():
            raise InputError("no such file; expected a file, or a command line in quotes", file=file)
        return _read_command(file)
    path = Path(file)
    if path.suffix == ".toml":
        return read_torchtitan(_toml(path), gpus)
    if path.suffix in (".yaml", ".yml", ".json"):
        return _read_mapping(path, gpus)
    return _read_command(read_text(path))


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise InputError(f"not TOML: {error}", file=path, line=int(line[1]) if line else None) from None


def _read_mapping(path: Path, gpus: int) -> Config:
    if path.suffix == ".json":
        try:
            data = json.loads(read_text(path))
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON: {error}", file=path) from None
    else:
        data = read_yaml(path).data
    if not isinstance(data, Mapping):
        raise InputError("holds no keys; expected a configuration", file=path)
    if is_dynamo(data):
        return read_dynamo(data)
    if is_llm_d(data):
        return read_llm_d(data)
    if "zero_optimization" in data or "train_micro_batch_size_per_gpu" in data:
        return read_deepspeed(data, gpus)
    if "distributed_type" in data:
        return read_accelerate(data, gpus)
    if "base_model" in data:
        return read_axolotl(data, gpus)
    kinds = "DynamoGraphDeployment, llm-d values, DeepSpeed, Accelerate, axolotl"
    raise InputError(f"its keys are of no configuration that is known; expected one of {kinds}", file=path)


def _read_command(text: str) -> Config:
    """A script or a command line: of a server, or of Megatron-LM."""
    script = read_script(text)
    for line in script.lines:
        if any(start in line for start in _SERVERS):
            start = min(line.find(one) for one in _SERVERS if one in line)
            return read_server(re.sub(r"^.*?(?=\S*$)", "", line[:start]) + line[start:].split(" > ")[0])
    for line in script.lines:
        words = script.words(line)
        if is_megatron(words):
            return read_megatron(words)
    raise InputError("starts nothing that is known; expected vllm serve, sglang.launch_server, trtllm-serve or "
                     "pretrain_gpt.py of Megatron-LM")  # fmt: skip


def _model(config: Config, given: Given, catalogue: Catalogue) -> str:
    """The model of the catalogue: as it is named, by its id, or by its shape. Raises `InputError`."""
    if given.model:
        catalogue.model(given.model)
        return given.model
    if config.model:
        name = catalogue.published(config.model) or config.model
        if name in catalogue.names("models"):
            return name
    if config.shape:
        found = []
        for name in catalogue.names("models"):
            known = catalogue.model(name)
            if not isinstance(known, TransformerConfig) or (config.starts and not name.startswith(config.starts)):
                continue
            if agreeing(config.shape, known) == len(config.shape):
                found.append((-agreeing(config.likely, known), name))
        alike = [name for _, name in sorted(found)]
        if alike:
            more = f", as {', '.join(alike[1:4])}" if len(alike) > 1 else ""
            config.notes.append(f"the model is told by its shape: {alike[0]} has it{more}")
            return alike[0]
    said = f"{shown(config.model)} is no model of the catalogue" if config.model else "it names no model"
    if not config.model and config.shape:
        said = f"no model of the catalogue has {', '.join(f'{key} {value}' for key, value in config.shape.items())}"
    close = nearest(config.model, catalogue.names("models"), most=0) if config.model else ""
    raise InputError(f"{said}{close}: expected --model NAME")


def _data_parallel(config: Config) -> None:
    """Data-parallel replicas of a trainer that leaves them to what GPUs there are. Raises `InputError`."""
    if config.kind != "megatron":
        return
    inside = 1
    for key in ("plan.tp", "plan.pp", "plan.cp"):
        inside *= int(config.keys.get(key, 1))
    if not config.gpus:
        raise InputError("it does not say how many GPUs there are: expected --gpus N")
    if config.gpus % inside:
        raise InputError(f"{config.gpus} GPUs are not whole replicas of {inside} (tp x pp x cp): expected --gpus N")
    config.keys["plan.dp"] = config.gpus // inside


def _nodes(config: Config, given: Given, catalogue: Catalogue) -> dict[str, Any]:
    """Nodes of a cluster that has too few for the GPUs a configuration names."""
    cluster = catalogue.cluster(given.cluster)
    if config.gpus <= cluster.gpu_count or given.cluster not in catalogue.names("clusters"):
        return {}
    return {"cluster.nodes": -(-config.gpus // cluster.gpus_per_node)}


def _experiment(file: str, config: Config, keys: Mapping[str, Any], hardware: Mapping[str, Any]) -> str:
    """The text of the experiment file, with what was left out as comments."""
    import yaml

    name = re.sub(r"[^\w-]+", "_", Path(file).stem if os.path.isfile(file) else config.kind).strip("_") or "imported"
    source = f"{Path(file).name}" if os.path.isfile(file) else "a command line"
    lines = [f"# Made of {source} ({config.kind} {config.version})".replace(" )", ")") + "."]
    lines += _comment("No effect on times", config.ignored)
    lines += _comment("Not known here, and left out", config.unknown)
    lines += [f"# {_clean(note)}." for note in config.notes]
    scenario = nested(keys.items()) | ({"hardware": dict(hardware)} if hardware else {})
    body = yaml.safe_dump({"experiment": name, "scenario": scenario}, sort_keys=False, width=120,
                          default_flow_style=None)  # fmt: skip
    return "\n".join([*lines, body])


def _comment(what: str, names: Iterable[str]) -> list[str]:
    text = ", ".join(_clean(name) for name in names)
    return [f"# {what}: {text}."] if text else []


def _clean(text: str) -> str:
    """Text on one line, without what would end a comment."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:400]
