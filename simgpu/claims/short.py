"""One claim on the command line: options and `quantity=figure`, or a sentence as people write it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.claims.entry import KNOWN_PRECISIONS, WORDS
from simgpu.claims.quantities import quantity_of
from simgpu.errors import InputError, shown

PLACE = "<claim>"


def short(kind: str, words: Mapping[str, Any], cells: Sequence[str]) -> dict[str, Any]:
    """An entry from `--kind`, the words of options, and texts such as 'tokens_per_s=130'. Raises `InputError`."""
    row: dict[str, Any] = {key: value for key, value in words.items() if value is not None}
    for cell in cells:
        name, equals, value = cell.partition("=")
        if not equals or not value:
            raise InputError(f"{shown(cell)} is no figure; expected NAME=FIGURE, such as tokens_per_s=130", key=PLACE)
        if name in row:
            raise InputError("is given twice", key=name)
        if name not in WORDS:
            try:
                quantity_of(name)
            except ValueError as problem:
                raise InputError(f"{shown(name)} {problem}", key=PLACE) from None
        row[name] = value
    return {"id": "claim", "kind": kind, "source": "the command line", "rows": [row]}


# ---- sentences ---------------------------------------------------------------------------------------

_KINDS = (
    ("training", r"\b(train|trains|training|fine-?tun\w*|lora|qlora)\b"),
    ("image", r"\b(images?|stable diffusion|sdxl|flux)\b"),
    ("serving", r"\b(serv\w+|batched|concurren\w+|users|throughput)\b"),
    ("kernel", r"\b(gemm|matmul|cublas)\b"),
    ("decode", r"\b(tok|tokens?|t)\s*/\s*s|tokens per second|\bdecod\w+"),
)
_FIGURE = r"(?P<figure>(?:~|<|>)?\$?\d[\d,.]*(?:\s*-\s*\d[\d,.]*)?\+?)\s*"
_UNITS = (
    (r"(?:tok|tokens?|t)\s*/\s*s(?:/user|/gpu)?\b|tokens per second", {"training": "tokens_per_s", "": "tokens_per_s"}),
    (r"TFLOP/?S?(?:/s)?\b", {"training": "achieved_tflops", "kernel": "achieved_tflops", "": "fp16_tensor_tflops"}),
    (r"TOPS\b", {"": "ai_tops"}),
    (r"TB/s", {"": "memory_bandwidth_tb_per_s"}),
    (r"GB/s", {"": "memory_bandwidth_gb_per_s"}),
    (r"(?:%|percent)\s*MFU", {"": "mfu_percent"}),
    (r"GB\b(?!/)", {"": "memory_gb"}),
    (r"W\b", {"": "tdp_w"}),
    (r"(?:images?|img)\s*/\s*(?:min|minute)", {"": "images_per_min"}),
    (r"(?:images?|img)\s*/\s*s", {"": "images_per_s"}),
    (r"(?:ms)\s*(?:per token|/\s*token|TPOT)", {"": "tpot_ms"}),
)
_PRECISIONS = {"q4": "q4_k_m", "q8": "q8_0", "4-bit": "int4", "8-bit": "int8", "awq": "int4", "gptq": "int4"}


def sentence(text: str, catalogue: Catalogue) -> dict[str, Any]:
    """An entry from a sentence: GPU, model, precision, runtime, and one figure with its unit. Raises `InputError`.

    >>> sentence("RTX 4090 decodes Llama 2 7B in FP16 at 130 tokens/s", Catalogue())["rows"][0]["tokens_per_s"]
    '130'
    """
    row: dict[str, Any] = {}
    rest = text
    for key, names in (
        ("gpu", catalogue.names("gpus")),
        ("model", [*catalogue.names("models"), *catalogue.names("networks")]),
    ):
        name, span = _named(rest, names)
        if name is not None:
            row[key] = name
            rest = rest[: span[0]] + " " * (span[1] - span[0]) + rest[span[1] :]
    for word in re.findall(r"[\w.-]+", rest.lower()):
        precision = _PRECISIONS.get(word, word)
        if precision in KNOWN_PRECISIONS:
            row["precision"] = precision
        if word in ("vllm", "sglang", "llama.cpp", "ollama"):
            row["runtime"] = "llama.cpp" if word == "ollama" else word
    for name, pattern in (
        ("batch", r"\bbatch(?: size)?(?: of)?\s*(\d+)"),
        ("users", r"(\d+)\s*(?:concurrent )?users"),
        ("gpus", r"\b(\d+)\s*x\b"),
    ):
        if found := re.search(pattern, rest, re.IGNORECASE):
            row[name] = int(found[1])
            rest = rest.replace(found[0], " ")
    for method in ("qlora", "lora"):
        if re.search(rf"\b{method}\b", rest, re.IGNORECASE):
            row.setdefault("method", method)
    kind = next((kind for kind, pattern in _KINDS if re.search(pattern, rest, re.IGNORECASE)), "spec")
    if kind == "training":
        row.setdefault("method", "full")
    name, figure = _figure(rest, kind)
    row[name] = figure
    return {"id": "claim", "kind": kind, "source": "the command line", "title": text, "rows": [row]}


def _figure(text: str, kind: str) -> tuple[str, str]:
    for unit, names in _UNITS:
        found = re.search(_FIGURE + f"(?:{unit})", text, re.IGNORECASE)
        if found:
            return names.get(kind, names.get("", next(iter(names.values())))), found["figure"].strip("$ ")
    problem = (
        f"{shown(text)} has no figure with a unit that is known; expected one such as '130 tokens/s' or '900 TFLOP/s'"
    )
    raise InputError(problem, key=PLACE)


def _named(text: str, names: Sequence[str]) -> tuple[str | None, tuple[int, int]]:
    """The catalogue's name that a text writes in its own way ('Llama 2 7B', 'H100'): the longest, then the plainest."""
    best: tuple[int, int, str, tuple[int, int]] | None = None
    for name in names:
        for parts, left_out in _spellings(name):
            pattern = r"[\s_-]*".join(map(re.escape, parts))
            found = re.search(rf"(?<![\w.]){pattern}(?![\w.])", text, re.IGNORECASE)
            if found:
                score = (found.end() - found.start(), -left_out, name, found.span())
                best = max(best, score) if best else score
                break
    return (best[2], best[3]) if best else (None, (0, 0))


def _spellings(name: str) -> Iterator[tuple[Sequence[str], int]]:
    """Shorter ways to write a name, with how much each leaves out: its end, or the version of a model.

    'H100' means the SXM board, 'Llama 70B' the newest Llama of that size.
    """
    parts = [one for one in re.split(r"(?<=[a-z])(?=\d+\.\d)|[-_]", name) if one]
    yield parts, 0
    for count in range(len(parts) - 1, 0, -1):
        if re.search(r"\d", parts[count - 1]):
            yield parts[:count], 1 + len(parts) - count - ("sxm" in parts[count:])
    if len(parts) > 2 and re.fullmatch(r"\d(\.\d+)?", parts[1]):
        yield [parts[0], *parts[2:]], 1
