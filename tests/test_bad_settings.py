"""Bad `--set`: the option and the key are named."""

from __future__ import annotations

import pytest
from bad_input import (
    SMALL,
    _elsewhere,  # noqa: F401 - fixtures
    check,
    limited,
    one_line,
    refused,
    wrote,
)

# ---- --set ---------------------------------------------------------------------------------------------

BANDWIDTH = "gpu.memory.bandwidth"
SETTINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # id: (setting, key that the message names, what else it says)
    "no equals sign": ("plan.tp", "", ("'plan.tp'", "expected key=value")),
    "no value": ("plan.tp=", "", ("'plan.tp='", "expected key=value")),
    "no key": ("=4", "", ("'=4'", "expected key=value")),
    "empty": ("", "", ("expected key=value",)),
    "only dots": ("..=4", "..: ", ("unknown key",)),
    "unknown key": ("dtyp=fp16", "dtyp: ", ("unknown key", "did you mean 'dtype'?")),
    "unknown key below": ("plan.tpp=4", "plan.tpp: ", ("unknown key", "did you mean 'tp'?")),
    "unknown key above": ("plann.tp=4", "plann", ("unknown key", "did you mean 'plan.tp'?")),
    "key of an experiment": ("table=[step_s]", "table: ", ("unknown key",)),
    "label": ("labels.case=a", "labels", ("unknown key",)),
    "tp zero": ("plan.tp=0", "plan.tp: ", ("0", "greater than 0")),
    "tp negative": ("plan.tp=-1", "plan.tp: ", ("-1", "greater than 0")),
    "tp text": ("plan.tp=two", "plan.tp: ", ("'two'", "integer")),
    "tp fraction": ("plan.tp=1.5", "plan.tp: ", ("1.5", "integer")),
    "tp true": ("plan.tp=true", "plan.tp: ", ("True", "integer")),
    "too many ranks": ("plan.tp=16", "plan", ("16", "8 GPUs")),
    "plan number": ("plan=2", "plan: ", ("2", "mapping")),
    "unknown cluster": ("cluster=dgx-h10", "cluster: ", ("'dgx-h10'", "names like it: dgx-h100")),
    "unknown model": ("model=lama-2-7b", "model: ", ("'lama-2-7b'", "did you mean 'llama-2-7b'?")),
    "unknown gpu": ("node.gpu=h100-sxn", "node.gpu: ", ("'h100-sxn'", "did you mean 'h100-sxm'?")),
    "model path": ("model=no/such.json", "model: ", ("no/such.json", "no such file")),
    "model zero byte": ('model="\\0.json"', "model: ", ()),
    "model surrogate": ('model="\\ud800.json"', "model: ", ()),
    "model long": (f"model={'x' * 5000}", "model: ", ("xxx",)),
    "unknown dtype": ("dtype=fp17", "dtype: ", ("'fp17'", "fp16, fp32")),
    "unknown algorithm": ("algorithm=rin", "algorithm: ", ("'rin'", "did you mean 'ring'?")),
    "unknown accumulate": ("accumulate=fp8", "accumulate: ", ("'fp8'", "fp16")),
    "unknown operator": ("workload.operators.gem.time=1ms", "workload.operators.gem.time: ", ("'gem'", "'gemm'")),
    "operator number": ("workload.operators.7.time=1ms", "workload.operators.7.time: ", ("'7'", "gemm, sum")),
    "operator key": ("workload.operators.gemm.tim=1ms", "workload.operators.gemm.tim: ", ("did you mean 'time'?",)),
    "operator value": ("workload.operators.gemm.time=1 GB", "workload.operators.gemm.time: ", ("'1 GB'", "2.5 us")),
    "operators empty": ("workload.operators=[]", "workload.operators: ", ("[]", "at least 1")),
    "workload text": ("workload=prefill", "workload: ", ("'prefill'", "mapping")),
    "workload incomplete": ("workload={kind: prefill}", "workload", ("tokens", "missing")),
    "bandwidth zero": (f"{BANDWIDTH}=0", f"{BANDWIDTH}: ", ("0", "more than zero", "3.35 TB/s")),
    "bandwidth negative": (f"{BANDWIDTH}=-1 TB/s", f"{BANDWIDTH}: ", ("-1 TB/s", "more than zero")),
    "bandwidth nan": (f"{BANDWIDTH}=.nan", f"{BANDWIDTH}: ", ("nan", "more than zero")),
    "bandwidth nan text": (f"{BANDWIDTH}=nan", f"{BANDWIDTH}: ", ("nan",)),
    "bandwidth infinite": (f"{BANDWIDTH}=.inf", f"{BANDWIDTH}: ", ("inf", "out of range")),
    "bandwidth overflow": (f"{BANDWIDTH}=1e400", f"{BANDWIDTH}: ", ("out of range",)),
    "bandwidth of 400 digits": (f"{BANDWIDTH}={'9' * 400}", f"{BANDWIDTH}: ", ("999",)),
    "bandwidth of 5000 digits": (f"{BANDWIDTH}={'9' * 5000}", f"{BANDWIDTH}: ", ("999",)),
    "bandwidth next to nothing": (f"{BANDWIDTH}=1e-320", f"{BANDWIDTH}: ", ("e-320",)),
    "bandwidth unit": (f"{BANDWIDTH}=2 TB", f"{BANDWIDTH}: ", ("'TB'", "a unit of B/s")),
    "bandwidth unknown unit": (f"{BANDWIDTH}=2 furlongs", f"{BANDWIDTH}: ", ("'furlongs'", "a unit of B/s")),
    "bandwidth text": (f"{BANDWIDTH}=fast", f"{BANDWIDTH}: ", ("'fast'", "number")),
    "bandwidth true": (f"{BANDWIDTH}=true", f"{BANDWIDTH}: ", ("True", "number")),
    "bandwidth null": (f"{BANDWIDTH}=null", f"{BANDWIDTH}: ", ("None", "number")),
    "bandwidth list": (f"{BANDWIDTH}=[2 TB/s]", f"{BANDWIDTH}: ", ("['2 TB/s']",)),
    "bandwidth misspelt": ("gpu.memory.bandwith=1 TB/s", "gpu.memory.bandwith: ", ("did you mean 'bandwidth'?",)),
    "bandwidth below": (f"{BANDWIDTH}.valeu=1", f"{BANDWIDTH}.valeu: ", ("did you mean 'value'?",)),
    "memory number": ("gpu.memory=5", "gpu.memory: ", ("5", "mapping")),
    "gpu": ("gpu=h100", "gpu: ", ("unknown key",)),
    "gpu.": ("gpu.=1", "gpu.: ", ("expected the name of a parameter",)),
    "peak of no dtype": ("gpu.peak.fp99=1 TFLOPS", "gpu.peak.fp99: ", ("'fp99'", "fp16")),
    "peak unit": ("gpu.peak.fp16=1 TB/s", "gpu.peak.fp16: ", ("'TB/s'", "TFLOPS")),
    "peak number": ("gpu.peak=5", "gpu.peak: ", ("5", "list")),
    "fraction above one": ("gpu.kernel.compute_fraction=1.5", "gpu.kernel.compute_fraction: ", ("1.5", "at most 1")),
    "latency negative": ("link.nvlink-4.latency=-1 us", "link.nvlink-4.latency: ", ("-1 us", "zero or more")),
    "link unknown": (
        "link.nvlink-9.latency=1 us",
        "link.nvlink-9.latency: ",
        ("expected one of infiniband-ndr, nvlink-4",),
    ),
    "link key": ("link.nvlink-4.latenci=1 us", "link.nvlink-4.latenci: ", ("did you mean 'latency'?",)),
    "scope": ("node.peer_to_peer_scope=rot", "node.peer_to_peer_scope: ", ("'rot'", "root")),
    "hardware root": ("hardware.gpuu.power.tdp=1 W", "gpuu.power.tdp: ", ("did you mean 'gpu'?",)),
    "nodes of a node": ("cluster.nodes=4", "cluster.nodes: ", ("'dgx-h100'", "single node")),
    "not YAML": ("plan.tp=[1", "plan.tp: ", ("'[1'",)),
    "alias": ("plan.tp=*a", "plan.tp: ", ("'*a'",)),
    "alias of itself": (f"{BANDWIDTH}=&a [*a]", f"{BANDWIDTH}: ", ()),
    "alias of itself below": ("plan=&a {tp: *a}", "plan", ()),
    "deep": ("plan.tp=" + "[" * 10_000, "plan.tp: ", ("[[[",)),
    "python object": ('dtype=!!python/object/apply:os.system ["touch x"]', "dtype: ", ("python/object/apply",)),
    "tag bool": ("dtype=!!bool maybe", "dtype: ", ("maybe",)),
    "tag int": ('dtype=!!int ""', "dtype: ", ()),
    "tag timestamp": ("dtype=!!timestamp today", "dtype: ", ("today",)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_names_the_option_and_the_key(name: str) -> None:
    setting, key, words = SETTINGS[name]
    wrote("e.yaml", SMALL[: SMALL.index("cases:")])
    check(refused("run", "e.yaml", "--set", setting), f"--set: {key}", words)


def test_a_setting_that_expands_without_end() -> None:
    """Nine levels of ten aliases: printing such a value in the message must not take for ever."""
    value = "[&a [x, x, x, x, x, x, x, x, x, x]"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        value += f", &{new} [{', '.join([f'*{old}'] * 10)}]"
    wrote("e.yaml", SMALL)
    done = limited("run", "e.yaml", "--set", f"dtype={value}]")
    check(one_line(done.stderr), "--set: dtype: ", ())


def test_settings_are_checked_by_every_command() -> None:
    wrote("e.yaml", SMALL)
    for command in ("run", "resolve", "trace"):
        check(refused(command, "e.yaml", "--set", "plan.tp=0"), "--set: plan.tp: 0", ())
