"""Command lines of the tools that load servers, and of the servers, as keys of a scenario.

Lengths, gaps and clients mean what each tool means by them: its module in `simgpu.workload.server.tools` says what, and
in which version of its source that was read. A flag that changes nothing of the times is named; one that is not
modelled, or not the tool's, is refused.
"""

from __future__ import annotations

from simgpu.workload.server.tools import (
    genai_perf,
    guidellm,
    inference_perf,
    inferencex,
    servers,
    sglang_bench,
    vllm_bench,
)
from simgpu.workload.server.tools.words import Meant, Tool, understood

LOADS: tuple[Tool, ...] = (
    inferencex.TOOL,
    vllm_bench.TOOL,
    sglang_bench.TOOL,
    genai_perf.GENAI,
    genai_perf.AI,
    guidellm.TOOL,
    inference_perf.TOOL,
)
SERVERS: tuple[Tool, ...] = (servers.VLLM, servers.SGLANG, servers.TRTLLM)

__all__ = ["LOADS", "SERVERS", "Meant", "load_like", "server_like"]


def load_like(text: str, told: bool = False) -> Meant:
    """The load that a tool's command line sends; `told`: its lengths are given elsewhere. Raises `InputError`."""
    return understood(text, "--like", LOADS, told)


def server_like(text: str, option: str = "--server", unknown: list[str] | None = None) -> Meant:
    """The server that a command line starts. Raises `InputError`; with a list for `unknown` not for unknown flags."""
    return understood(text, option, SERVERS, unknown=unknown)
