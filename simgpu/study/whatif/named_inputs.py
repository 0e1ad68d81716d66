"""Changes of a physical input by the name that tables give it: 'NIC bandwidth=2x' instead of the keys behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from simgpu.errors import InputError, nearest, shown
from simgpu.overrides import factor_of
from simgpu.scenario import Scenario
from simgpu.study.whatif.inputs import Input
from simgpu.units import parse_quantity, to_si


def split(settings: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """'key=value' changes of the scenario and of its hardware, and those of inputs by name: {name: value}."""
    plain, named = [], {}
    for setting in settings:
        key, _, value = setting.partition("=")
        name = key.strip()
        if name and value.strip() and "." not in name and (" " in name or name not in Scenario.model_fields):
            named[name] = value.strip()
        else:
            plain.append(setting)
    return plain, named


def figures_of(named: Mapping[str, str], inputs: Sequence[Input]) -> dict[str, str]:
    """New values of hardware keys that `named` changes; a change is a factor ('2x') or a quantity ('50 GB/s').

    Raises `InputError` at '--set'.
    """
    known = {word: changed for changed in inputs for word in (changed.name, _plain(changed.title))}
    figures: dict[str, str] = {}
    for name, value in named.items():
        changed = known.get(_plain(name))
        if changed is None:
            titles = [other.title.partition(" (")[0] for other in inputs]
            raise InputError(
                f"is neither a key nor an input of this job{nearest(name, titles)}", file="--set", key=name
            )
        factor = factor_of(value)
        if factor is None:
            try:
                number, unit = parse_quantity(value)
                if changed.unit and not unit:
                    raise ValueError("has no unit")
                factor = to_si(number, unit, changed.unit) / changed.value
            except (ValueError, ZeroDivisionError):
                problem = (
                    f"{shown(value)} is neither a factor, such as 2x, nor a quantity in {changed.unit or 'no unit'}"
                )
                raise InputError(problem, file="--set", key=name) from None
        if not 0 < factor < 1e9:
            raise InputError(f"{shown(value)} is out of range; expected a factor above 0", file="--set", key=name)
        figures |= changed.scaled(factor)[1]
    return figures


def _plain(title: str) -> str:
    return title.partition(" (")[0].strip().lower()


def unmoved(keys: Iterable[str], inputs: Iterable[Input]) -> list[str]:
    """Reasons why a change of hardware `keys` may move nothing: each is one of several figures of an input.

    There is a sentence for each key that leaves the rest of its input where it was.
    """
    changed = set(keys)
    sentences = []
    for other in inputs:
        mine = sorted(changed & set(other.figures))
        left = sorted(set(other.figures) - changed)
        if mine and left and not other.compound:
            title = other.title.partition(" (")[0]
            sentences.append(
                f"{', '.join(mine)} alone is not all of the {title}: {', '.join(left)} still limit"
                f"{'s' if len(left) == 1 else ''}. All at once: --set-b '{title}=2x'"
            )
    return sentences
