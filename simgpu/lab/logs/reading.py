"""Any log or file of results that people have: told by what it holds, not by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from simgpu.errors import InputError, shown
from simgpu.lab.logs import benches, kernels, links, llama_bench, osu, prometheus, requests, servers, training
from simgpu.lab.logs.observed import Observed
from simgpu.lab.logs.text import lines_of
from simgpu.reading import read_bytes

KNOWN = (
    "a log of Megatron-LM, NeMo, TorchTitan, DeepSpeed, Composer, nanoGPT, llm.c or the Hugging Face Trainer; results"
    " of vllm bench serve, sglang.bench_serving, genai-perf, aiperf, GuideLLM, inference-perf or llama-bench;"
    " requests as CSV or JSON lines with ttft_s or latency_s; a /metrics page of vLLM or SGLang;"
    " nccl-tests, rccl-tests, nvbandwidth, p2pBandwidthLatencyTest, ib_write_bw, the"
    " OSU benchmarks; mamf-finder, cutlass_profiler, cublasMatmulBench, gpu_burn; a table of kernels; a trace"
)

_TEXT: tuple[Callable[[Path], list[Observed]], ...] = (
    servers.read_text,
    prometheus.read,
    llama_bench.read,
    links.read,
    osu.read,
    benches.read,
    kernels.read_table,
    requests.read,
    training.read,
)
"""Readers of text, in the order in which they are tried."""


def read(file: Path) -> list[Observed]:
    """The runs of a log or of a file of results, in order.

    Raises `InputError` for a file that cannot be read or is none of the kinds that are known.
    """
    broken = ""
    if file.suffix == ".et":
        return kernels.read_trace(file)
    if _start(file).startswith(("{", "[")):
        found, broken = _json(file)
        if found:
            return found
    for reader in _TEXT:
        found = reader(file)
        if found:
            return _with_values(file, found)
    raise InputError(broken or f"holds nothing that is known; expected {KNOWN}", file=file)


def _start(file: Path) -> str:
    """The first line that is not empty, without colours."""
    for _, text in lines_of(file):
        return text.lstrip()
    raise InputError(f"is empty; expected {KNOWN}", file=file)


def _json(file: Path) -> tuple[list[Observed], str]:
    """Runs of a JSON document, or of one on each line; and why it could not be read as one, where it could not."""
    if _looks_like_trace(file):
        return kernels.read_trace(file), ""
    raw = read_bytes(file, servers.MOST, "results of a load generator")
    try:
        data = json.loads(raw)
    except ValueError as error:
        return servers.read_lines(file) or _several(
            file
        ), f"is no JSON ({error}), and holds no lines of a log; is it cut?"
    except RecursionError:
        return [], "is nested too deeply; expected results of a load generator"
    known = (servers.read_document, links.read_document, requests.read_document)
    found = next(filter(None, (one(file, data) for one in known)), [])
    return _with_values(file, found), ""


def _several(file: Path) -> list[Observed]:
    """Requests as JSON objects, one a line."""
    return _with_values(file, requests.read(file)) if _start(file).startswith("{") else []


def _looks_like_trace(file: Path) -> bool:
    """Whether the start of a JSON document has the keys of a trace: it may be too large to be read to find out."""
    seen = 0
    for _, text in lines_of(file):
        if re.search(r'"(traceEvents|deviceProperties|displayTimeUnit|ph)"\s*:|"schema"\s*:.*chakra', text):
            return True
        seen += len(text)
        if seen > LOOKED_AT:
            break
    return False


LOOKED_AT = 1 << 16
"""Characters at the start of a JSON document in which a trace shows itself."""


def _with_values(file: Path, found: list[Observed]) -> list[Observed]:
    """Runs that say anything. Raises `InputError` where none does."""
    kept = [one for one in found if one.measurements]
    if found and not kept:
        why = found[0].notes[0] if found[0].notes else "no time and no rate"
        raise InputError(f"results of {found[0].tool} hold nothing measured ({shown(why)})", file=file)
    return kept


__all__ = ["KNOWN", "read"]
