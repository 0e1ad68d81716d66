"""Operations to measure on a device: shapes that spread over the regimes of the models, most telling first.

The first rows of each kind are the microbenchmarks that an unknown GPU needs most: DRAM, L2, one big product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from simgpu.errors import InputError, nearest, shown
from simgpu.lab.calibration.kinds import COPY, READ, SUSTAINED
from simgpu.lab.measurement.backend import Device, Operation

KINDS = ("stream", "l2", "gemm", "attention", "nccl")
DTYPES = {"bfloat16": 2, "float16": 2, "tfloat32": 4, "float32": 4}
"""Types that can be measured, and bytes of an element. fp8 and narrower belong to libraries beside PyTorch."""
SHORT = {"bf16": "bfloat16", "fp16": "float16", "tf32": "tfloat32", "fp32": "float32"}
BURST = "burst"
MOST_COPIES = 64
_MIB = 2**20


def plan(
    device: Device, what: Sequence[str], dtypes: Sequence[str], quick: bool = False, sustained: bool = False
) -> list[Operation]:
    """The operations to measure, in the order in which they are worth most."""
    operations: list[Operation] = []
    for kind in what:
        if kind in ("stream", "l2"):
            operations += _streams(device, kind, quick)
        if kind == "nccl":
            operations += _collectives(device, quick)
        for dtype in dtypes:
            if kind in ("stream", "l2", "gemm"):
                operations += _products(device, kind, dtype, quick, sustained)
            if kind == "attention" and DTYPES[dtype] == 2:
                operations += _attention(dtype, quick)
    return list({operation.key: operation for operation in operations}.values())


def dtypes_of(text: str) -> list[str]:
    """Data types named with commas between."""
    dtypes = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        name = SHORT.get(word, word)
        if name not in DTYPES:
            raise InputError(f"{shown(word)} cannot be measured{nearest(word, DTYPES)}", key="--dtype")
        dtypes.append(name)
    if not dtypes:
        raise InputError(f"expected one of {', '.join(DTYPES)}", key="--dtype")
    return list(dict.fromkeys(dtypes))


# ---- streams -------------------------------------------------------------------------------------------


def _streams(device: Device, kind: str, quick: bool) -> Iterator[Operation]:
    """Copies and sums: far beyond L2, or well within it."""
    if kind == "stream":
        most = _power_of_two(device.memory_bytes / 8)
        sizes = [max(min(1024 * _MIB, most), 4 * _power_of_two(device.l2_bytes))]
        sizes += [] if quick else [sizes[0] // 2, sizes[0] // 4]
    else:
        sizes = [_power_of_two(device.l2_bytes / 4)]
        sizes += [] if quick else [sizes[0] // 2, sizes[0] // 4, _MIB]
    for op, size in product((COPY, READ), dict.fromkeys(sizes)):
        yield Operation(kind, {"op": op, "bytes": size})


def _power_of_two(size: float) -> int:
    """The largest power of two up to `size`."""
    return 1 << max(int(size).bit_length() - 1, 0)


# ---- matrix products -----------------------------------------------------------------------------------

_BIG = [(8192, 8192, 8192)]
_QUICK = [(4096, 4096, 4096), (1024, 1024, 1024), (128, 8192, 8192), (16, 4096, 4096), (512, 512, 8192), (64, 64, 64)]
_M = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_WEIGHTS = (
    (4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (8192, 8192), (1024, 1024), (2048, 2048),
    (1024, 8192), (8192, 1024), (512, 4096), (256, 256),
)  # fmt: skip


def _products(device: Device, kind: str, dtype: str, quick: bool, sustained: bool) -> Iterator[Operation]:
    """Products; with `stream` and `l2` one row times a matrix, which is a stream of its weights."""
    regime = SUSTAINED if sustained else BURST
    width = DTYPES[dtype]
    if kind == "stream":
        side = 4096
        while side * side * width < 2 * device.l2_bytes and side < 32768:
            side *= 2
        yield _product(device, dtype, 1, side, side, BURST)
    elif kind == "l2":
        side = 512
        while (2 * side) ** 2 * width <= device.l2_bytes / 6:
            side *= 2
        yield _product(device, dtype, 1, side, side, BURST, copies=1)
    else:
        shapes = [*_BIG, *_QUICK]
        if not quick:
            shapes += [(m, n, k) for (n, k), m in product(_WEIGHTS, _M)]
        for m, n, k in shapes:
            yield _product(device, dtype, m, n, k, regime)


def _product(device: Device, dtype: str, m: int, n: int, k: int, regime: str, copies: int | None = None) -> Operation:
    """One shape, its operands in as many copies as make them cold: three times L2 in all, where that is possible."""
    each = DTYPES[dtype] * (m * k + n * k)
    if copies is None:
        wanted = 3 * device.l2_bytes / each
        room = 0.4 * device.memory_bytes / (each + DTYPES[dtype] * m * n)
        copies = min(MOST_COPIES, _power_of_two(max(min(2 * wanted, room), 1)))
        copies = max(copies, 2) if room >= 2 else 1
    return Operation("gemm", {"regime": regime, "dtype": dtype, "m": m, "n": n, "k": k, "rotation": copies})


# ---- attention -----------------------------------------------------------------------------------------


def _attention(dtype: str, quick: bool) -> Iterator[Operation]:
    """FlashAttention 2 as PyTorch has it: prefill, then decode."""
    heads, prefill, decode = [(32, 8)], [(1, 4096), (8, 1024)], [(64, 2048), (1, 8192)]
    if not quick:
        heads += [(32, 32), (8, 1)]
        prefill += [(b, s) for b in (1, 4, 16) for s in (128, 512, 2048, 8192)]
        decode += [(b, s) for b in (1, 8, 64, 256) for s in (256, 2048, 8192)]
    for (h, kv), (batch, length) in product(heads, prefill):
        if batch * length <= 65536:
            yield _attend(dtype, batch, length, 0, h, kv)
    for (h, kv), (batch, length) in product(heads, decode):
        if batch * length * kv <= 2**23:
            yield _attend(dtype, batch, 1, length - 1, h, kv)


def _attend(dtype: str, batch: int, queries: int, past: int, heads: int, kv_heads: int) -> Operation:
    columns: dict[str, str | int] = {"batch_size": batch, "q_len": queries, "past_kv_len": past, "num_heads": heads}
    columns |= {"num_kv_heads": kv_heads, "head_dim": 128, "v_head_dim": 128, "window_size": 0}
    columns |= {"attn_dtype": dtype, "kv_cache_dtype": dtype, "framework": "torch", "kernel_source": "fa2"}
    return Operation("attention", columns)


# ---- collectives ---------------------------------------------------------------------------------------

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")


def _collectives(device: Device, quick: bool) -> Iterator[Operation]:
    """NCCL over 2, 4, 8 ... GPUs and over all of them; nothing on a machine with one."""
    counts = [n for n in (2, 4, 8, 16) if n < device.count] + ([device.count] if device.count > 1 else [])
    sizes = [2**e for e in ((13, 20, 28) if quick else range(10, 31, 2))]
    for count, kind, size in product(counts, COLLECTIVES[:1] if quick else COLLECTIVES, sizes):
        yield Operation("nccl", {"collective": kind, "dtype": "float16", "num_gpus": count, "message_bytes": size})
