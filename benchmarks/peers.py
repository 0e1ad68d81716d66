"""A question that a peer answers too, cold, in CPU time of importing numpy: simgpu beside what is installed.

    make bench-peers                                   # a virtual environment of its own for the peer
    python benchmarks/peers.py --peer .venv/peers/bin/aiconfigurator

The question: the best way to serve Qwen3 32B in vLLM on eight H200, prompts of 3,000 tokens, answers of 400, first
token within 2 s, 50 ms a token. Calculon is not on the registry (a package of that name is another program):
CALCULON=DIR names a checkout of it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

from felt import spent
from rich.console import Console
from rich.table import Table

QUESTION = """
scenario:
  model: qwen3-32b
  cluster: dgx-h200
  workload: {kind: serving, concurrency: 64, prompt: 3000, output: 400, runtime: vllm}
search:
  objective: output_tokens_per_s_per_gpu
  limits: {ttft_s: 2 s, tpot_s: 50 ms}
  space: {tp: all, dp: all, "workload.concurrency": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]}
"""
AICONFIGURATOR = shlex.split(
    "cli default --model-path Qwen/Qwen3-32B --total-gpus 8 --system h200_sxm --backend vllm --serving-mode agg "
    "--isl 3000 --osl 400 --ttft 2000 --tpot 50"
)
CALCULON = ["llm", "models/gpt3-175B.json", "examples/3072_t4_p64_d12_mbs4_full.json", "systems/a100_80g.json", "-"]
REPEATS = 3


def main() -> None:
    """Run each in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="the command aiconfigurator")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "server.yaml").write_text(QUESTION)
        told = {"simgpu search": (("-m", "simgpu", "search", "server.yaml", "-q", "--no-plots"), folder)}
        if asked.peer and asked.peer.is_file():
            peer = asked.peer.resolve()
            told["aiconfigurator cli default"] = ((str(peer), *AICONFIGURATOR), folder)
        if os.environ.get("CALCULON"):
            told["calculon llm, one step"] = (("-m", "calculon", *CALCULON), os.environ["CALCULON"])
        times: dict[str, list[float]] = {what: [] for what in ("import numpy", *told)}
        for _ in range(REPEATS + 1):  # in turn; the first round compiles
            times["import numpy"].append(spent("-c", "import numpy", cwd=folder))
            for what, (words, place) in told.items():
                python = Path(words[0]).parent / "python" if words[0].startswith("/") else Path(sys.executable)
                times[what].append(spent(*words, cwd=place, python=str(python)))
    unit = statistics.median(times["import numpy"][1:])
    table = Table(title="The best way to serve Qwen3 32B on eight H200, cold (CPU time, median)", title_justify="left")
    for column in ("what", "CPU s", "imports of numpy"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, found in times.items():
        middle = statistics.median(found[1:])
        table.add_row(what, f"{middle:.2f}", f"{middle / unit:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
