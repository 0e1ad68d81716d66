"""Training steps of Megatron-LM: papers, its README and its examples. `source` names the page of a row.

    narayanan2021-table1, -table2   Narayanan et al. 2021 (SC21), A100: weak scaling, and ZeRO-3 beside it
    korthikanti2022                 Korthikanti et al. 2022, table 5: recomputation and sequence parallelism
    mt-nlg                          Smith et al. 2022: MT-NLG 530B, DeepSpeed's pipeline around Megatron's layers
    megatron-readme-h100            README of Megatron-LM: weak and strong scaling on H100
    megatron-examples               examples/llama: Llama 3 in fp8 on H100

Traps: the README's strong scaling is read off a plot, to 1.5 %. Where microbatch and virtual stages are not stated, the
published scripts say them, or several are covered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.models import gpt, llama
from simgpu.lab.validation.adapters.reader import Reader, degrees
from simgpu.lab.validation.adapters.training_steps import DEGREES, GRADES, SHAPE, Case, MeasuredStep, Numerics, columns
from simgpu.lab.validation.source import Reason, Source
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    (*SHAPE, "hidden_size", "vocab_size"),
    ("source", "model", "dtype"),
    (*GRADES, "sharding"),
    *(*DEGREES, "num_gpus", "global_batch_size", "num_kv_heads", "step_time_s", "model_flops_per_s_per_gpu"),
)

SC21 = {
    # hidden size: sequences of a microbatch, layers of a virtual stage (0: not interleaved)
    2304: (16, 0),
    3072: (16, 0),
    4096: (16, 0),
    6144: (8, 0),
    8192: (4, 0),
    10240: (2, 5),
    12288: (2, 5),
    16384: (1, 3),
    20480: (1, 1),
    25600: (1, 0),
}
"""NVIDIA/Megatron-LM, examples/sc21/run_table_1.sh: the runs of Narayanan et al. 2021, table 1. Models without a
pipeline use torch's DDP (buckets reduced during backward), the others Megatron's own (after backward)."""

SELENE = "InfiniBand HDR 25 GB/s per GPU"
_EOS = "InfiniBand NDR 50 GB/s per GPU"
HALF: Numerics = (("gradients", "fp32"), ("reduce", "fp32"), ("flash", False))


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """Papers and pages about Megatron-LM, by the first word of `source`."""
    source = row.word("source")
    for start, translate in (
        ("narayanan2021-table1", _sc21),
        ("narayanan2021-table2", _sc21_other),
        ("korthikanti2022", _korthikanti),
        ("mt-nlg", _mt_nlg),
        ("megatron-readme-h100", _readme),
        ("megatron-examples", _examples),
    ):
        if source.startswith(start):
            return translate(row)
    if not row.has("tp_size"):
        return ["how the model was split is not stated"]
    return [f"no translator for rows of '{source}'"]


def _megatron(row: Reader, plan: Plan, framework: str, network: str, numerics: Any, tied: bool = True) -> Case:
    """A case of a GPT by Megatron-LM, in nodes of 8 GPUs."""
    return Case(
        config=gpt(row, tied=tied),
        gpus=row.count("num_gpus"),
        per_node=min(8, row.count("num_gpus")),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=row.count("seq_len"),
        dtype=row.dtype(),
        framework=framework,
        numerics=tuple(numerics),
        network=network,
    )


def _stated(row: Reader, *cases: Case, caveat: str = "") -> list[MeasuredStep | str]:
    """A wanted step whose time the table states."""
    if not row.has("step_time_s"):
        return ["neither a time nor what it could be computed from"]
    return [MeasuredStep(cases, row.number("step_time_s"), caveat=caveat, dtype=row.word("dtype"))]


def _sc21(row: Reader) -> Iterable[MeasuredStep | str]:
    hidden, split = row.count("hidden_size"), degrees(row)
    if hidden not in SC21:
        return [f"the published scripts have no model of hidden size {hidden}"]
    micro, chunk = SC21[hidden]
    vp = row.count("num_layers") // (split["pp"] * chunk) if chunk else 1
    ddp = split["pp"] == 1
    plan = Plan(
        **split,
        vp=max(vp, 1),
        micro_batch=micro,
        recompute="full",
        overlap_gradients=ddp,
    )
    numerics = (("gradients", "fp16" if ddp else "fp32"), ("reduce", "fp16"), ("flash", False))
    return _stated(row, _megatron(row, plan, "megatron-2021", SELENE, numerics))


def _sc21_other(row: Reader) -> Iterable[MeasuredStep | str]:
    """Table 2: ZeRO-3 by DeepSpeed, and Megatron's plan of the same model."""
    split, micro = degrees(row), row.count("micro_batch_size")
    if row.word("sharding") == "zero3":
        plan = Plan(**split, zero=3, micro_batch=micro, recompute="full")
        numerics = (("gradients", "fp16"), ("reduce", "fp16"), ("flash", False))
        return _stated(row, _megatron(row, plan, "deepspeed", SELENE, numerics))
    stage = row.count("num_layers") // split["pp"]
    cases = []
    for vp in _divisors(stage, 1, 2, 4):
        plan = Plan(**split, vp=vp, micro_batch=micro, recompute="full", overlap_gradients=False)
        numerics = (("gradients", "fp32"), ("reduce", "fp16"), ("flash", False))
        cases.append(_megatron(row, plan, "megatron-2021", SELENE, numerics))
    return _stated(row, *cases, caveat="virtual stages not stated: 1, 2 and 4 are covered")


def _korthikanti(row: Reader) -> Iterable[MeasuredStep | str]:
    plan = Plan(
        **degrees(row),
        vp=row.count("virtual_pp", 1),
        micro_batch=row.count("micro_batch_size"),
        recompute=row.word("activation_recompute"),
        sequence_parallel=row.flag("sequence_parallel"),
        overlap_gradients=False,
    )
    return _stated(row, _megatron(row, plan, "megatron-2022", SELENE, HALF))


def _mt_nlg(row: Reader) -> Iterable[MeasuredStep | str]:
    """Smith et al. 2022, section 2.4: DeepSpeed's pipeline (1F1B) of Megatron's layers."""
    plan = Plan(**degrees(row), micro_batch=row.count("micro_batch_size"), recompute="full", overlap_gradients=False)
    return _stated(row, _megatron(row, plan, "megatron-2021", SELENE, HALF))


_README = (("gradients", "fp32"), ("reduce", "fp32"))


def _readme(row: Reader) -> Iterable[MeasuredStep | str]:
    """README of Megatron-LM: H100; communication of gradients, weights, TP and PP is overlapped.

    Embeddings are not tied (the sizes of the models say so). Microbatch and virtual stages are not stated. A pipeline
    takes one sequence at a time, as in the script of the same repository (examples/gpt3/train_gpt3_175b_distributed.sh,
    --micro-batch-size 1), and as the strong scaling says: interleaved stages cannot take the 18 sequences of a replica
    on 3,072 GPUs by twos, and its curve has no step there.
    """
    split, layers = degrees(row), row.count("num_layers")
    gpus = row.count("num_gpus")
    unsplit = not row.has("tp_size")
    if unsplit:
        if gpus % 48:
            return ["does not divide into the 8 x 6 ranks of the row that states its split"]
        split |= {"tp": 8, "pp": 6, "dp": gpus // 48}
    cases = []
    per_replica = row.count("global_batch_size") // split["dp"]
    for micro in _divisors(per_replica, *((2, 1, 4) if split["pp"] == 1 else (1,))):
        for vp in _virtual(layers // split["pp"], split["pp"]):
            if (per_replica // micro) % split["pp"] and vp > 1:
                continue
            plan = Plan(
                **split,
                vp=vp,
                micro_batch=micro,
                sequence_parallel=split["tp"] > 1,
                async_tp=split["tp"] > 1,
                zero=1,
            )
            cases.append(_megatron(row, plan, "megatron", _EOS, _README, tied=False))
    unsaid = "microbatch" if split["pp"] == 1 else "virtual stages"
    caveat = f"{unsaid} not stated" + (", nor TP and PP" if unsplit else "")
    measured = row.number("step_time_s", _seconds(row, gpus))
    return [MeasuredStep(tuple(cases), measured, caveat=caveat, dtype=row.word("dtype"), tuned=True)]


def _seconds(row: Reader, gpus: int) -> float:
    """Time of a step from Megatron's model FLOP/s: 72 B s l h^2 (1 + s/6h + V/12lh).

    That is without recomputation, the whole matrix of attention counted (Narayanan et al. 2021, equation 3, with 72 in
    place of 96).
    """
    rate = row.number("model_flops_per_s_per_gpu")
    names = ("global_batch_size", "seq_len", "num_layers", "hidden_size", "vocab_size")
    b, s, layers, h, v = (row.number(name) for name in names)
    return 72 * b * s * layers * h**2 * (1 + s / (6 * h) + v / (12 * layers * h)) / (rate * gpus)


def _divisors(number: int, *tried: int) -> list[int]:
    return [value for value in tried if number % value == 0] or [1]


def _virtual(stage: int, pp: int) -> list[int]:
    """Virtual stages to try for a stage of so many layers.

    Chunks of at most two layers come first, as in the published recipes of Megatron-LM, then no interleaving and one
    between.
    """
    if pp == 1 or not stage:
        return [1]
    divisors = [n for n in range(1, stage + 1) if stage % n == 0]
    most = max(n for n in divisors if stage // n >= (2 if stage % 2 == 0 else 1))
    middle = divisors[len(divisors) // 2]
    return list(dict.fromkeys((most, middle, 1)))


def _examples(row: Reader) -> Iterable[MeasuredStep | str]:
    """Recipe train_llama3_8b_h100_fp8.sh of Megatron-LM (examples/llama).

    Weights are gathered in fp8 (--fp8-param-gather), gradients reduced in bf16 (--grad-reduce-in-bf16), with the
    distributed optimizer, both overlapped.
    """
    split = degrees(row)
    tp = split["tp"] > 1
    plan = Plan(
        **split,
        vp=row.count("virtual_pp", 1),
        micro_batch=row.count("micro_batch_size"),
        sequence_parallel=tp,
        async_tp=tp,
        zero=1,
    )
    numerics = (("gradients", "bf16"), ("reduce", "bf16"))
    case = replace(_megatron(row, plan, "megatron", _EOS, numerics), config=llama(row))
    return _stated(row, case, caveat="flags of the larger models not stated; those of the 8B script are taken")


SOURCE = Source(
    "https://arxiv.org/abs/2104.04473, https://arxiv.org/abs/2205.05198, https://arxiv.org/abs/2201.11990; "
    "https://github.com/NVIDIA/Megatron-LM at d98e8a64d: README.md, examples; retyped with "
    "https://github.com/calculon-ai/calculon at caa4b11f8 and https://github.com/cli99/llm-analysis at d841e40ae",
    [training.adapter(COLUMNS, step)],
    reasons=(
        Reason(
            "ZeRO-3 of 2021: a step takes 66.8 s on 768 GPUs and on 1,536 alike, so it waits for weights, which come at"
            " a tenth of the adapters' rate",
            where=lambda n: n["slow"] < 0.8 and n["num_gpus"] in (384, 768, 1536),
        ),
        Reason(
            "DeepSpeed's pipeline around Megatron's layers: a fifth slower than Megatron's own of this model,"
            " unexplained",
            where=lambda n: n["slow"] < 0.9 and n["num_gpus"] in (2240, 2800, 3360),
        ),
        Reason(
            "the smallest model, timed with data loading and logging: its kernels take a fifth less with any settings",
            where=lambda n: n["slow"] < 0.85 and n["num_gpus"] == 48,
        ),
    ),
)
