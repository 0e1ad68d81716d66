"""A machine of one's own: a cluster of the catalogue, and what its logs say of it. `cluster: mine.yaml` names its file.

`simgpu observe` writes such a file. Its `kernel` block has the form of that of a GPU's file, its `links` are factors on
the payload that links of the catalogue carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simgpu.documents import read_yaml
from simgpu.errors import shown
from simgpu.hardware.figure import Spec
from simgpu.overrides import Override
from simgpu.schema_errors import validate

ENDINGS = (".yaml", ".yml")
CARRIES = "payload_fraction"
"""Figure of a link that a factor of an overlay is on."""

Factor = Annotated[float, Field(ge=0.05, le=20, allow_inf_nan=False)]


class Learned(Spec):
    """What logs say of a framework or an engine: how many times as long its parts take, after how many runs.

    `slowdown` is of all kernels, `experts` of those of experts beside, `arithmetic` of those that arithmetic binds (and
    not memory) beside, `host` of the host's time, `front` of what a request spends outside the engine before its first
    token. `spread` is what runs that were left out were off by (standard deviation of the logarithm).
    """

    slowdown: Factor
    runs: Annotated[int, Field(ge=1, le=1_000_000)]
    experts: Factor | None = None
    arithmetic: Factor | None = None
    spread: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    host: Factor | None = None
    front: Factor | None = None


class Overlay(Spec):
    """The content of such a file. `source` says which logs, of which date."""

    machine: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    stacks: dict[str, Learned] = {}
    links: dict[str, Factor] = {}


def is_overlay(name: str) -> bool:
    """True if a cluster's name is that of a file."""
    return name.endswith(ENDINGS)


def read_overlay(name: str) -> tuple[Overlay, list[Override]]:
    """The file, and its values as hardware parameters set by hand. Raises `InputError`."""
    document = read_yaml(Path(name))
    found = validate(Overlay, document.data, lambda path, problem: document.error(problem, path))
    if is_overlay(found.machine):
        wrong = f"{shown(found.machine)} is a file; expected a cluster, a node or a GPU of the catalogue"
        raise document.error(wrong, ("machine",))
    return found, list(overrides_of(found, name, document.line_of))


def overrides_of(
    found: Overlay, file: str | None = None, line_of: Callable[[tuple[str, ...]], int | None] = lambda _: None
) -> Iterator[Override]:
    """The values of an overlay as hardware parameters set by hand; `line_of` says where in its file each stands."""
    source = f"{file}: {found.source}" if file else found.source
    for stack, learned in found.stacks.items():
        for figure, value in learned.model_dump(exclude_none=True).items():
            at = ("kernel", "step", stack, figure)
            yield Override(".".join(("gpu", *at)), value, source, file, line_of(("stacks", stack, figure)), at)
    for link, factor in found.links.items():
        key = f"link.{link}.{CARRIES}"
        yield Override(key, f"{factor:.8g}x", source, file, line_of(("links", link)), (CARRIES,))
