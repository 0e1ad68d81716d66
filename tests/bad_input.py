"""What tests of bad input share: small good files, and checks that a message is one line that names the place."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from made_up import ENTRY, GPU, NODE, _elsewhere  # noqa: F401 - for tests

from simgpu.cli import main

SMALL = """\
experiment: small
scenario:
  cluster: dgx-h100
  dtype: fp16
  plan:
    tp: 2
    dp: 1
  workload:
    kind: operators
    repeat: 1
    operators:
      - {op: matmul, name: gemm, m: 512, n: 512, k: 512, split: k}
      - {op: all_reduce, name: sum, bytes: 1 MB}
cases:
  - labels: {case: a, group: g}
  - labels: {case: b, group: g}
    plan.tp: 4
vary:
  gpu.power.tdp: [700 W]
table: [case, step_s]
plots:
  - {kind: bar, name: steps, x: case, y: [step_s], series: group, marks: {step_s: tp}}
compare:
  value: step_s
  between: case
  start: a
  end: b
  match: [group]
  steps:
    - {what: more GPUs, keys: [plan.tp]}
"""

PREFILL = """\
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  dtype: bf16
  plan:
    tp: 2
    dp: 1
  workload:
    kind: training
    batch: 4
    tokens: 128
"""

MODEL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "num_hidden_layers": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


class Hang(BaseException):
    """A command took too long."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Break a command that does not end."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def everything_below(folder: Path) -> dict[str, bytes]:
    """Every file and folder with its content."""
    found = (path for path in folder.rglob("*") if not path.is_symlink())
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


def one_line(stderr: str) -> str:
    """The message, which must be a single printable line that begins with the program's name."""
    assert stderr.startswith("simgpu: "), stderr
    assert stderr.endswith("\n") and stderr.count("\n") == 1, stderr
    assert stderr[:-1].isprintable(), repr(stderr)
    assert len(stderr) <= 1500
    return stderr[len("simgpu: ") : -1]


def undrawn(*arguments: object) -> str:
    """Run a command whose rows answer but whose plot cannot be drawn of them; returns the message."""
    result = CliRunner().invoke(main, [*(str(argument) for argument in arguments), "--quiet"])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.exception
    assert result.stdout and not list(Path.cwd().rglob("*.png"))
    return one_line(result.stderr)


def refused(*arguments: object) -> str:
    """Run a command that must refuse its input; returns the message."""
    before = everything_below(Path.cwd())
    with at_most(20):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if not isinstance(result.exception, SystemExit):
        assert result.exception is not None, f"accepted silently; it printed {result.stdout[:300]!r}"
        raise AssertionError(f"traceback: {result.exception!r}") from result.exception
    assert result.exit_code == 2
    message = one_line(result.stderr)
    assert result.stdout == "", "printed an answer before the error"
    assert everything_below(Path.cwd()) == before, "wrote something before the error"
    return message


def wrote(name: str, content: str | bytes) -> Path:
    """A file below the current folder."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def edited(text: str, old: str, new: str) -> tuple[str, int]:
    """`text` with `old` (which it holds once) replaced, and the line where that stands."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the text"
    return text.replace(old, new), text[: text.index(old)].count("\n") + 1


def check(message: str, place: str, words: tuple[str, ...]) -> None:
    """The message begins with its place (file:line: key) and holds each of `words`."""
    assert message.startswith(place), message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


def config_of(**changes: Any) -> str:
    """A config.json with fields changed, or left out where the value is `...`."""
    fields = {key: value for key, value in (MODEL | changes).items() if value is not ...}
    return json.dumps(fields, indent=2)


def limited(*arguments: str, seconds: float = 6, memory: int = 2 * 2**30) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own with limits on time and memory; it must refuse its input."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [ENTRY, *arguments], capture_output=True, text=True, timeout=seconds, preexec_fn=limit, env=env
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr[-300:]
    return done
