"""Arguments of Megatron-LM read back: a command line or a script that starts `pretrain_gpt.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from simgpu.errors import InputError, shown
from simgpu.launching.meant import Config
from simgpu.launching.megatron import CONTEXT, DEGREES, FP8, GRAPHS, SHARDING, SWITCHES, VERSION

SHAPE = {"--num-layers": "layers", "--hidden-size": "hidden", "--ffn-hidden-size": "ffn",
         "--num-attention-heads": "heads", "--num-query-groups": "kv_heads", "--num-experts": "experts",
         "--moe-router-topk": "experts_per_token", "--kv-lora-rank": "kv_rank",
         "--vocab-size": "vocab", "--max-position-embeddings": "max_tokens"}  # fmt: skip
_LOOSE = ("vocab", "max_tokens")
_ABOUT_MODEL = (
    "--group-query-attention --swiglu --normalization --position-embedding-type "
    "--disable-bias-linear --add-qkv-bias --qk-layernorm --untie-embeddings-and-output-weights --kv-channels "
    "--multi-latent-attention --qk-head-dim --qk-pos-emb-head-dim --v-head-dim --q-lora-rank --moe-ffn-hidden-size "
    "--moe-shared-expert-intermediate-size --moe-layer-freq --norm-epsilon --rotary-base --rotary-percent "
    "--make-vocab-size-divisible-by --use-rotary-position-embeddings --rope-scaling-factor --use-rope-scaling "
    "--no-rope-fusion --no-position-embedding --apply-layernorm-1p --rotary-seq-len-interpolation-factor "
    "--transformer-impl --use-mcore-models --init-method-std --squared-relu"
)
_NOTHING = (
    "--train-iters --train-samples --lr --min-lr --lr-decay-style --lr-warmup-iters --lr-warmup-fraction "
    "--lr-warmup-samples --lr-decay-iters --lr-decay-samples --weight-decay --adam-beta1 --adam-beta2 --adam-eps "
    "--log-interval --log-throughput --save --load --save-interval --eval-interval --eval-iters --data-path "
    "--mock-data --split --tokenizer-type --tokenizer-model --vocab-file --merge-file --tensorboard-dir "
    "--wandb-project --wandb-exp-name --seed --distributed-backend --distributed-timeout-minutes --num-workers "
    "--exit-duration-in-mins --exit-interval --no-load-optim --no-load-rng --no-save-optim --ckpt-format "
    "--auto-detect-ckpt-format --log-params-norm --log-timers-to-tensorboard --log-memory-to-tensorboard "
    "--log-validation-ppl-to-tensorboard --manual-gc --manual-gc-interval --no-create-attention-mask-in-dataloader "
    "--data-cache-path --no-mmap-bin-files --enable-experimental --logging-level --profile --profile-step-start "
    "--profile-step-end --profile-ranks --use-pytorch-profiler --te-rng-tracker --moe-aux-loss-coeff "
    "--moe-router-score-function --moe-router-dtype --moe-router-enable-expert-bias --moe-router-bias-update-rate "
    "--moe-router-num-groups --moe-router-group-topk --moe-router-topk-scaling-factor --moe-router-pre-softmax "
    "--moe-z-loss-coeff --hf-tokenizer-path --no-check-for-nan-in-loss-and-grad --bf16 --attention-softmax-in-fp32 "
    "--accumulate-allreduce-grads-in-fp32 --no-gradient-accumulation-fusion --clip-grad --main-grads-dtype "
    "--main-params-dtype --exp-avg-sq-dtype --use-precision-aware-optimizer --fp8-amax-history-len "
    "--fp8-amax-compute-algo --fp8-margin --fp8-param-gather --fp8-format --fp4-recipe "
    "--reuse-grad-buf-for-mxfp8-param-ag --moe-grouped-gemm "
    "--moe-pad-expert-input-to-capacity --moe-hybridep-num-sms --calculate-per-token-loss --cpu-offloading "
    "--overlap-cpu-optimizer-d2h-h2d --cross-entropy-fusion-impl --use-flash-attn --sft --finetune "
    "--no-masked-softmax-fusion --no-bias-swiglu-fusion --use-cpu-initialization --dataloader-type"
)
_HANDLED = (
    "--fp16 --fp8-recipe --fp4-format --use-distributed-optimizer --use-megatron-fsdp "
    "--data-parallel-sharding-strategy --num-distributed-optimizer-instances --overlap-grad-reduce "
    "--overlap-param-gather --recompute-granularity --recompute-method --recompute-num-layers --recompute-modules "
    "--recompute-activations --cp-comm-type --moe-token-dispatcher-type --moe-flex-dispatcher-backend "
    "--moe-enable-deepep --cuda-graph-impl --cuda-graph-scope --moe-router-force-load-balancing "
    "--moe-router-load-balancing-type --optimizer --optimizer-cpu-offload --exp-avg-dtype --attention-backend "
    "--attention-dropout --hidden-dropout --grad-reduce-in-bf16 --cross-entropy-loss-fusion "
    "--num-layers-per-virtual-pipeline-stage --pipeline-model-parallel-layout --use-tp-pp-dp-mapping "
    "--decoder-first-pipeline-num-layers --decoder-last-pipeline-num-layers"
)
_TORCHRUN = ("--nproc-per-node", "--nnodes")

Flags = Mapping[str, list[str]]


def flags_of(words: Sequence[str]) -> dict[str, list[str]]:
    """Flags with the words behind each, up to the next; dashes for underscores, as argparse takes both."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            written, equals, value = word.partition("=")
            name = written.replace("_", "-")
            found[name] = [value] if equals else []
        elif name and word not in ("|", "&&", ";", ">", "2>&1"):
            found[name].append(word)
        elif word in ("|", "&&", ";", ">", "2>&1"):
            name = ""
    return found


def read_megatron(words: Sequence[str]) -> Config:
    """What the arguments of Megatron-LM mean. Raises `InputError` (key: the flag)."""
    flags = flags_of(words)
    made = Config("megatron", VERSION)
    made.keys |= {"framework": "megatron", "workload.kind": "training"}
    known = {pair.name for pair in (*DEGREES, *SWITCHES)} | set(SHAPE) | set(_HANDLED.split())
    nothing, shape = set(_NOTHING.split()), set(_ABOUT_MODEL.split())
    for flag, values in flags.items():
        if flag in SHAPE:
            (made.likely if SHAPE[flag] in _LOOSE else made.shape)[SHAPE[flag]] = _whole(flag, values)
        elif flag in nothing or flag in shape:
            made.ignored += [flag] if flag in nothing else []
        elif flag not in known and flag not in _TORCHRUN and not _launches(flag):
            made.unknown.append(flag)
    made.per_node = _number(flags, "--nproc-per-node")
    made.gpus = made.per_node * max(1, _number(flags, "--nnodes"))
    for pair in DEGREES:
        if pair.name in flags:
            made.put(pair.key, _figure(pair.name, flags[pair.name]), pair.default)
    for pair in SWITCHES:
        if pair.name in flags:
            made.keys[pair.key] = True
    for part in (_sharded, _typed, _recomputed, _expert, _staged):
        part(flags, made)
    return made


def _launches(flag: str) -> bool:
    """True for what belongs to torchrun or srun."""
    return flag in ("--node-rank", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--master-addr", "--master-port",
                    "--standalone", "--max-restarts", "--ntasks-per-node", "--nodes", "--gpus-per-node", "--tee",
                    "--log-dir", "--local-ranks-filter")  # fmt: skip


def _number(flags: Flags, flag: str) -> int:
    """A whole number of the launcher; 0 where it is a variable that is not set, or a word."""
    values = flags.get(flag) or [""]
    return int(values[0]) if values[0].isdigit() else 0


def _whole(flag: str, values: Sequence[str]) -> int:
    text = values[0] if values else ""
    if not re.fullmatch(r"\d+", text):
        raise InputError(f"{shown(text)}: expected a whole number", key=flag)
    return int(text)


def _figure(flag: str, values: Sequence[str]) -> float | int:
    text = values[0] if values else ""
    if re.fullmatch(r"\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        unset = "; set the variable it stands for" if "$" in text else ""
        raise InputError(f"{shown(text)}: expected a number{unset}", key=flag) from None


def _word(flags: Flags, flag: str, names: Mapping[str, str]) -> str | None:
    """The value of simgpu for that of a flag; None where the flag is not there or has no counterpart."""
    values = flags.get(flag)
    back = {its: mine for mine, its in names.items()}
    return back.get(values[0]) if values else None


def _sharded(flags: Flags, made: Config) -> None:
    if "--use-megatron-fsdp" in flags:
        back = {its: mine for mine, its in SHARDING.items()}
        said = (flags.get("--data-parallel-sharding-strategy") or ["no_shard"])[0]
        made.put("plan.zero", back.get(said, 0), 0)
    elif "--use-distributed-optimizer" in flags:
        made.keys["plan.zero"] = 1
    for flag, key in (("--overlap-grad-reduce", "plan.overlap_gradients"),
                      ("--overlap-param-gather", "plan.overlap_weights")):  # fmt: skip
        if flag not in flags:
            made.keys[key] = False


def _typed(flags: Flags, made: Config) -> None:
    dtype = "fp16" if "--fp16" in flags else "bf16" if "--bf16" in flags else "fp32"
    if "--fp8-format" in flags or "--fp8-recipe" in flags:
        dtype = "fp8"
        made.put("workload.fp8_scaling", _word(flags, "--fp8-recipe", FP8) or "delayed")
    if "--fp4-format" in flags:
        dtype = "fp4"
    made.keys["dtype"] = dtype
    optimizer = (flags.get("--optimizer") or ["adam"])[0]
    made.put("workload.optimizer", {"sgd": "momentum"}.get(optimizer, optimizer), "adam")
    made.put("workload.states", (flags.get("--exp-avg-dtype") or ["fp32"])[0], "fp32")
    if "--optimizer-cpu-offload" in flags:
        made.keys["plan.offload"] = "optimizer"
    if "--grad-reduce-in-bf16" in flags:
        made.keys["workload.reduce"] = "bf16"
    if (flags.get("--attention-backend") or ["auto"])[0] in ("unfused", "local"):
        made.keys["workload.flash"] = False
    if "--cross-entropy-loss-fusion" in flags:
        te = (flags.get("--cross-entropy-fusion-impl") or ["native"])[0] == "te"
        made.keys["workload.loss"] = "fused" if te else "compiled"
    drops = [(flags.get(flag) or ["0.1"])[0] for flag in ("--attention-dropout", "--hidden-dropout")]
    made.keys["workload.dropout"] = any(float(text) > 0 for text in drops if re.fullmatch(r"[\d.eE+-]+", text))


def _recomputed(flags: Flags, made: Config) -> None:
    how = (flags.get("--recompute-granularity") or [""])[0]
    if "--recompute-activations" in flags:
        how = "selective"
    made.put("plan.recompute", how or None)
    if how == "full" and (flags.get("--recompute-method") or [""])[0] == "block":
        made.put("plan.recompute_layers", _whole("--recompute-num-layers", flags.get("--recompute-num-layers", [])))
    if how == "selective" and flags.get("--recompute-modules"):
        made.keys["plan.recompute_modules"] = list(flags["--recompute-modules"])


def _expert(flags: Flags, made: Config) -> None:
    kind = (flags.get("--moe-token-dispatcher-type") or [""])[0]
    backend = (flags.get("--moe-flex-dispatcher-backend") or ["deepep"])[0]
    made.put("plan.dispatcher", (backend if kind == "flex" else kind) or None)
    scope, impl = set(flags.get("--cuda-graph-scope") or []), (flags.get("--cuda-graph-impl") or ["none"])[0]
    if impl != "none":
        for name, (how, parts) in GRAPHS.items():
            if how == impl and set(parts or []) == scope:
                made.keys["plan.cuda_graphs"] = name
    if "--moe-router-force-load-balancing" in flags:
        made.keys["plan.balance"] = "forced"
    elif flags.get("--moe-router-load-balancing-type", [""])[0] in ("aux_loss", "none"):
        made.keys["plan.balance"] = flags["--moe-router-load-balancing-type"][0]
    made.put("plan.context", _word(flags, "--cp-comm-type", CONTEXT), "ring")


def _staged(flags: Flags, made: Config) -> None:
    pp = int(made.keys.get("plan.pp", 1))
    each = flags.get("--num-layers-per-virtual-pipeline-stage")
    if each and made.shape.get("layers"):
        made.put("plan.vp", made.shape["layers"] // pp // _whole("--num-layers-per-virtual-pipeline-stage", each), 1)
    layout = flags.get("--pipeline-model-parallel-layout")
    if layout:
        chunks = unfolded(layout[0]).split("|")
        made.keys["plan.stage_layers"] = [chunk.count("t") for chunk in chunks]
        made.put("plan.vp", len(chunks) // pp, 1)
    ends = [flags.get(f"--decoder-{end}-pipeline-num-layers") for end in ("first", "last")]
    if any(ends) and made.shape.get("layers") and not layout:
        first, last = (int(one[0]) if one else None for one in ends)
        made.keys["plan.stage_layers"] = uneven(made.shape["layers"], pp, first, last)
    if "--use-tp-pp-dp-mapping" in flags:
        made.keys["plan.order"] = ["tp", "cp", "ep", "pp", "dp"]


def unfolded(layout: str) -> str:
    """A layout with its repetitions written out.

    >>> unfolded("Et|(tt|)*2L")
    'Et|tt|tt|L'
    """
    pattern: Callable[[re.Match[str]], str] = lambda found: found[1] * min(int(found[2]), 10_000)  # noqa: E731
    layout = re.sub(r"\(([^()]*)\)\*(\d+)", pattern, layout.replace(",", "").replace(" ", ""))
    return re.sub(r"([tELm|])\*(\d+)", pattern, layout)


def uneven(layers: int, stages: int, first: int | None, last: int | None) -> list[int]:
    """Layers of each stage where the first or the last has another number."""
    rest = layers - (first or 0) - (last or 0)
    middle = stages - (first is not None) - (last is not None)
    each = rest // middle if middle else 0
    return [*([first] if first is not None else []), *([each] * middle), *([last] if last is not None else [])]


def is_megatron(words: Sequence[str]) -> bool:
    """True for arguments of Megatron-LM."""
    return any(word.replace("_", "-").startswith("--tensor-model-parallel-size") for word in words) or any(
        re.search(r"pretrain_\w+\.py$", word) for word in words
    )
