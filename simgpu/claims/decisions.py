"""Decision rules over a grid of scenarios: the share on which a rule holds, and where it does not.

A rule says which GPU to take where a condition holds. On every scenario of the grid that meets the condition each GPU
is simulated, and the cheapest per token (price over tokens per second), of those that hold the model, is the right
choice; with the axis `aim: [fastest]` the fastest is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from simgpu.claims import scenarios as make
from simgpu.claims.bench import Bench
from simgpu.claims.entry import Entry, Rule
from simgpu.claims.facts import transformer
from simgpu.claims.finding import OFF, PLAUSIBLE, REPRODUCED, UNDECIDABLE, RuleHeld
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.spec import GPUSpec
from simgpu.operations.prices import Wanted, price_book

AXES = ("model", "users", "precision", "job", "prompt", "power_budget_w", "gpus")
DEFAULTS: Mapping[str, Any] = {"job": "inference", "prompt": 512, "power_budget_w": 1e9, "gpus": 1, "users": 1,
                               "precision": "fp16"}  # fmt: skip
EXAMPLES = 4
"""Counter-examples that are shown."""


def decided(bench: Bench, entry: Entry) -> list[RuleHeld]:
    """Every rule of an entry over its grid. Raises `InputError` for grids and conditions that cannot be read."""
    if not entry.fields.rules:
        return []
    grid = entry.fields.grid
    for axis in grid:
        if axis not in (*AXES, "gpu", "aim"):
            raise entry.error(f"unknown axis{nearest(axis, (*AXES, 'gpu', 'aim'))}", ("grid", axis))
    if not {"gpu", "model"} <= set(grid):
        raise entry.error("a grid needs the axes gpu (what to choose from) and model", ("rules",))
    for name in grid["gpu"]:
        bench.catalogue.spec("gpus", str(name), blame=lambda _, problem: entry.error(problem, ("grid", "gpu")))
    axes = {axis: grid.get(axis, [DEFAULTS.get(axis)]) for axis in AXES}
    points = [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]
    for number, rule in enumerate(entry.fields.rules):
        _check(entry, rule, number, points[0], bench)
    best = {
        n: _best(bench, point, [str(one) for one in grid["gpu"]], str(grid.get("aim", ["cheapest"])[0]))
        for n, point in enumerate(points)
    }
    return [_rule(entry, rule, points, best, bench) for rule in entry.fields.rules]


def _check(entry: Entry, rule: Rule, number: int, point: Mapping[str, Any], bench: Bench) -> None:
    try:
        _holds(rule.when, _names(bench, point))
    except (SyntaxError, NameError, TypeError, ValueError) as error:
        raise entry.error(f"{shown(rule.when)} cannot be read ({error})", ("rules", number, "when")) from None


def _names(bench: Bench, point: Mapping[str, Any]) -> dict[str, Any]:
    config = transformer(bench.catalogue, str(point["model"]))
    if config is None:
        raise ValueError(f"unknown model {point['model']}")
    return {
        **point,
        "parameters_b": config.parameters / 1e9,
        "training": point["job"] == "training",
        "batch": point["users"],
    }


_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.Eq, ast.NotEq, ast.Name, ast.Load, ast.Constant,
)  # fmt: skip


def _holds(condition: str, names: Mapping[str, Any]) -> bool:
    """A condition of comparisons joined by and, or, not."""
    tree = ast.parse(condition, mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"{type(node).__name__} is not allowed")
        if isinstance(node, ast.Name) and node.id not in names:
            raise NameError(f"unknown name {node.id}{nearest(node.id, names)}")
    return bool(_value(tree.body, names))


_COMPARE: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Lt: lambda a, b: a < b, ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b,
}  # fmt: skip


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.BoolOp(op=ast.And()):
            return all(_value(one, names) for one in node.values)
        case ast.BoolOp():
            return any(_value(one, names) for one in node.values)
        case ast.UnaryOp():
            return not _value(node.operand, names)
        case ast.Compare():
            sides = [node.left, *node.comparators]
            values = [_value(one, names) for one in sides]
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False))
        case ast.Name():
            return names[node.id]
        case ast.Constant():
            return node.value
    raise ValueError("is no condition")


def _best(bench: Bench, point: Mapping[str, Any], gpus: list[str], aim: str) -> tuple[str, str]:
    """The right GPU of a scenario with the reason in words; 'neither' where none can run it."""
    scores: dict[str, float] = {}
    book = price_book(bench.catalogue)
    for name in gpus:
        spec = bench.catalogue.spec("gpus", name)
        assert isinstance(spec, GPUSpec)
        price = book.find(name, Wanted("purchase"))
        if spec.power.tdp.si > float(point["power_budget_w"]) or price is None:
            continue
        try:
            rate = _rate(bench, point, name)
        except InputError:
            continue
        scores[name] = rate / (price.value if aim == "cheapest" else 1.0)
    if not scores:
        return "neither", "none can run it"
    best = max(scores, key=lambda name: scores[name])
    others = [scores[best] / value for name, value in scores.items() if name != best]
    return (
        best,
        f"{best} {min(others):.2g} times {'cheaper a token' if aim == 'cheapest' else 'faster'}"
        if others
        else f"{best} alone can",
    )


def _rate(bench: Bench, point: Mapping[str, Any], gpu: str) -> float:
    count = int(point["gpus"])
    corner = {**point, "gpu": gpu, "output": 256, "runtime": "vllm", "framework": "pytorch-eager", "method": "lora",
              "batch": 1, "seq": 2048, "gpus": count}  # fmt: skip
    where = make.place(bench.catalogue, corner)
    if where is None:
        raise InputError("no such node")
    if point["job"] == "training":
        row = bench.run(make.training(corner, where, count))
        column = "tokens_per_s"
    elif int(point["users"]) == 1:
        row = bench.run(make.inference(corner, where, {"tp": count} if count > 1 else {}))
        column = "output_tokens_per_s"
    else:
        row = bench.run(make.serving(corner, where, {"tp": count} if count > 1 else {}))
        column = "output_tokens_per_s"
    if not row["memory_fits"]:
        raise InputError("does not fit")
    return float(row[column])


def _rule(
    entry: Entry, rule: Rule, points: list[dict[str, Any]], best: Mapping[int, tuple[str, str]], bench: Bench
) -> RuleHeld:
    wanted = [rule.choose] if isinstance(rule.choose, str) else list(rule.choose)
    covered = [n for n, point in enumerate(points) if _holds(rule.when, _names(bench, point))]
    right = [n for n in covered if best[n][0] in wanted]
    text = f"{rule.when}: {' or '.join(wanted)}"
    if not covered:
        return RuleHeld(entry.fields.id, text, 0, None, (), UNDECIDABLE, "No scenario of the grid meets the condition.")
    share = len(right) / len(covered)
    wrong = [f"{_named(points[n])}: {best[n][1]}" for n in covered if n not in right]
    verdict = REPRODUCED if share == 1 else PLAUSIBLE if share >= 0.8 else OFF
    reason = f"Holds on {len(right)} of {len(covered)} scenarios of the grid"
    return RuleHeld(entry.fields.id, text, len(covered), share, tuple(wrong[:EXAMPLES]), verdict, reason + ".")


def _named(point: Mapping[str, Any]) -> str:
    parts = [str(point["model"]), str(point["precision"])]
    parts.append("training" if point["job"] == "training" else f"{point['users']} users")
    if int(point["gpus"]) > 1:
        parts.append(f"{point['gpus']} GPUs")
    return ", ".join(parts)
