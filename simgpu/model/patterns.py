"""Layers one by one, as the runs of equal layers that a shape holds, or as the short rule that they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from simgpu.model.config import TransformerConfig, is_moe
from simgpu.model.layers import Layer


def arranged(config: TransformerConfig, rows: Sequence[Mapping[str, Any]]) -> TransformerConfig:
    """`config` with the layers of `rows`: mixer, feed-forward, window and whatever else is otherwise in each."""
    layers = [_layer(config, i, row) for i, row in enumerate(rows)]
    rule = _rule(config, layers)
    if rule is not None:
        return replace(config, **rule)  # type: ignore[arg-type]
    runs = tuple((layer, len(list(same))) for layer, same in groupby(layers))
    return replace(config, runs=runs)


def _layer(config: TransformerConfig, number: int, row: Mapping[str, Any]) -> Layer:
    changes = {
        field: value
        for field, value in row.items()
        if field not in ("mixer", "feed", "window") and value != getattr(config, field)
    }
    feed = row.get("feed", "moe" if is_moe(config._kind(number)) else "dense")
    return Layer(
        row.get("mixer", "attention"),
        "dense" if feed == "moe" and config.experts == 1 else feed,
        row.get("window", config.window) or 0,
        tuple(sorted(changes.items())),
    )


def _rule(config: TransformerConfig, layers: Sequence[Layer]) -> dict[str, int] | None:
    """Fields that say the same in short; None where no such rule holds.

    Rules are: dense layers first, every so many-th layer a mixture, every so many-th without a window.
    """
    if any(layer.changes or layer.mixer != "attention" or layer.feed == "none" for layer in layers):
        return None
    feeds, windows = _of_feeds(config, layers), _of_windows([layer.window for layer in layers])
    return None if feeds is None or windows is None else feeds | windows


def _of_feeds(config: TransformerConfig, layers: Sequence[Layer]) -> dict[str, int] | None:
    mixtures = [i for i, layer in enumerate(layers) if layer.feed == "moe"]
    if config.experts == 1:
        return {}
    if not mixtures:
        return None
    first, every = mixtures[0], (mixtures[1] - mixtures[0] if len(mixtures) > 1 else 1)
    if every == 1 and mixtures == list(range(first, len(layers))):
        return {"dense_layers": first, "moe_every": 1}
    expected = [i for i in range(len(layers)) if (i + 1) % every == 0]
    return {"dense_layers": 0, "moe_every": every} if mixtures == expected else None


def _of_windows(windows: Sequence[int]) -> dict[str, int] | None:
    if len(set(windows)) == 1:
        return {"window": windows[0], "window_every": 0}
    window, every = max(windows), windows.index(0) + 1 if 0 in windows else 0
    if not every or any(one != (0 if (i + 1) % every == 0 else window) for i, one in enumerate(windows)):
        return None
    return {"window": window, "window_every": every}


def one_more(config: TransformerConfig) -> TransformerConfig:
    """A layer of `config` alone, as modules that predict further tokens have it: with attention over all tokens."""
    if not config.runs:
        return replace(config, layers=1, dense_layers=0, window_every=0)
    return replace(config, layers=1, runs=((Layer(feed="moe" if config.experts > 1 else "dense"), 1),))


def resized(config: TransformerConfig, layers: int) -> TransformerConfig:
    """`config` with another number of layers: its own from the first on, over again where there are too few."""
    if not config.runs or not layers:
        return replace(config, layers=layers)
    each = [layer for layer, count in config.runs for _ in range(count)]
    chosen = [each[i % len(each)] for i in range(layers)]
    runs = tuple((layer, len(list(same))) for layer, same in groupby(chosen))
    return replace(config, layers=layers, runs=runs)
