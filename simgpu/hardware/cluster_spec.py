"""Specifications of clusters: nodes, the fabric between them, where jobs are placed, and what is broken.

A fabric is described by its parameters (`kind`, `radix`, `tiers`, ...); which switch stands where follows from them
(`simgpu.hardware.layout`). Parameters of a design may be plain numbers; what was read somewhere names its source.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from simgpu.errors import nearest, shown
from simgpu.hardware.figure import Count, Fraction, Number, Spec
from simgpu.hardware.spec import CatalogueFile, Port
from simgpu.schema_errors import TrueFalse

KINDS = ("rail-fat-tree", "fat-tree", "rail-only", "dragonfly", "torus", "full-mesh")
"""Kinds of fabrics."""

WORDS = {"fat_tree": "fat-tree", "rail": "rail-fat-tree", "rail_fat_tree": "rail-fat-tree", "rail_only": "rail-only",
         "dragonfly+": "dragonfly", "full_mesh": "full-mesh", "mesh": "full-mesh"}  # fmt: skip
"""Other words for kinds of fabrics."""

TREES = ("rail-fat-tree", "fat-tree", "rail-only", "dragonfly")
"""Kinds whose nodes hang below leaf switches; in the others each node has a router of its own."""

DESIGN = "parameter of the fabric"
"""The source of a plain number that describes a design."""


def _plain(given: Any) -> Any:
    """A number or flag that was set by hand comes as a figure; here it has no unit and needs no source."""
    if isinstance(given, dict) and "value" in given and given.keys() <= {"value", "unit", "source"}:
        if given.get("unit"):
            raise ValueError(f"{given['value']:g} {given['unit']} has a unit; expected a plain number")
        given = given["value"]
    return int(given) if isinstance(given, float) and given == int(given) else given


Positive = Annotated[int, BeforeValidator(_plain), Field(gt=0, le=2**20, strict=True)]
Place = Annotated[int, BeforeValidator(_plain), Field(ge=0, le=2**24, strict=True)]
Tiers = Annotated[int, BeforeValidator(_plain), Field(ge=2, le=3, strict=True)]
Left = Annotated[float, BeforeValidator(_plain), Field(ge=0, lt=1)]
Plain = Annotated[TrueFalse | None, BeforeValidator(_plain)]


class Routing(Spec):
    """How packets find one of several equal ways through a fabric.

    `ideal`: evenly, at the full rate. `ecmp`: each flow by a hash, so that flows collide; with a `seed` as that draw
    has it, without as on average. `adaptive` and `spray`: packet by packet, at `efficiency` of the rate.
    """

    kind: Literal["ideal", "ecmp", "adaptive", "spray"] = "ideal"
    seed: Place | None = None
    queue_pairs: Positive = 1  # of a connection, each hashed by itself (NCCL_IB_QPS_PER_CONNECTION with split data)
    efficiency: Fraction | None = None  # of adaptive and spray

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _as_the_kind_asks(self) -> Self:
        if self.kind != "ecmp" and (self.seed is not None or self.queue_pairs != 1):
            raise ValueError(f"seed and queue_pairs are of 'ecmp', not of '{self.kind}'")
        if self.kind not in ("adaptive", "spray") and self.efficiency is not None:
            raise ValueError(f"efficiency is of 'adaptive' and 'spray', not of '{self.kind}'")
        return self


class FabricSpec(Port):
    """The network between nodes, by its parameters.

    `rail-fat-tree`: NIC i of all nodes of a group is on leaf i of the group; `fat-tree`: all NICs of a node are on one
    leaf; `rail-only`: rails without a switch between them; `dragonfly`: groups of leaves and spines, joined each to
    each (dragonfly+); `torus` of nodes, each with a link to both neighbours along every one of `dims`; `full-mesh`: a
    link from each node to each.
    """

    topology: Literal["rail-fat-tree", "fat-tree", "rail-only", "dragonfly", "torus", "full-mesh"]
    nodes_per_leaf: Count | None = None  # default: what the radix gives
    oversubscription: Number  # bandwidth below a leaf over bandwidth above it
    radix: Positive | None = None  # ports of a switch at the rate of a NIC's port in one plane
    tiers: Tiers = 2
    core_oversubscription: Number | None = None  # the same of the stage above; of a dragonfly, of its global links
    planes: Positive = 1  # fabrics side by side, each with a port of every NIC
    dims: Annotated[list[Positive], Field(max_length=6)] = []
    routing: Routing = Routing()
    sharp: Plain = None  # switches reduce (NVIDIA SHARP, NCCL's CollNet); default: they do not
    pxn: Plain = None  # to another rail over NVLink first (NCCL's PXN); default: only where there is no other way

    @model_validator(mode="before")
    @classmethod
    def _in_other_words(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        made = dict(given)
        if "kind" in made:
            word = made.pop("kind")
            if made.setdefault("topology", word) != word:
                raise ValueError(f"kind is {shown(word)} and topology {shown(made['topology'])}; expected one of them")
        word = made.get("topology")
        if isinstance(word, str):
            made["topology"] = word = WORDS.get(word, word)
            if word not in KINDS:
                raise ValueError(f"kind {shown(word)} is not known{nearest(word, KINDS)}; known: {', '.join(KINDS)}")
        made.setdefault("oversubscription", 1.0)
        for key in ("lanes", "oversubscription", "core_oversubscription", "nodes_per_leaf"):
            if isinstance(made.get(key), (int, float)) and not isinstance(made.get(key), bool):
                made[key] = {"value": made[key], "source": DESIGN}
        return made

    @model_validator(mode="after")
    def _as_the_kind_asks(self) -> Self:
        tree, torus = self.topology in TREES, self.topology == "torus"
        if tree and self.radix is None and self.nodes_per_leaf is None:
            raise ValueError(f"'{self.topology}' has neither radix nor nodes_per_leaf; expected one of them")
        if torus != bool(self.dims):
            raise ValueError("dims must be given for 'torus', and only for it")
        if not tree and (self.radix or self.nodes_per_leaf):
            raise ValueError(f"radix and nodes_per_leaf are of fabrics with leaf switches, not of '{self.topology}'")
        if self.tiers == 3 and (self.topology not in TREES[:2] or self.radix is None):
            raise ValueError("three tiers are of 'fat-tree' and 'rail-fat-tree', and need a radix")
        if self.topology == "dragonfly" and self.radix is None:
            raise ValueError("'dragonfly' needs a radix")
        if self.core_oversubscription is not None and self.tiers == 2 and self.topology != "dragonfly":
            raise ValueError("core_oversubscription is of three tiers, or of 'dragonfly'")
        if self.sharp and not tree:
            raise ValueError(f"switches of '{self.topology}' do not reduce; sharp is of fabrics with leaf switches")
        if self.sharp and self.routing.kind == "ecmp":
            raise ValueError("sharp is of InfiniBand, whose ways are set; expected routing other than 'ecmp'")
        if self.routing.kind == "ecmp" and not tree:
            raise ValueError(f"'{self.topology}' has no equal ways for 'ecmp'; expected ideal")
        return self


class Placement(Spec):
    """Where in the fabric the nodes of a job stand, in the order of its ranks.

    `packed`: from the first on, leaf by leaf; `spread`: one below each leaf group, round and round; `random`: with a
    seed; `listed`: at `nodes`, as numbers or as Slurm writes them ('node[0-3,8]').
    """

    kind: Literal["packed", "spread", "random", "listed"] = "packed"
    seed: Place = 0
    nodes: list[Place] | str = []

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"kind": given}
        if isinstance(given, list):
            return {"kind": "listed", "nodes": given}
        return given

    @model_validator(mode="after")
    def _as_the_kind_asks(self) -> Self:
        if (self.kind == "listed") != bool(self.nodes):
            raise ValueError("nodes must be given for placement 'listed', and only for it")
        if self.kind != "random" and self.seed:
            raise ValueError(f"seed is of placement 'random', not of '{self.kind}'")
        return self


class Fault(Spec):
    """One thing that is broken or slow: exactly one of `nic`, `gpu`, `nvlink`, `leaf`, `spines`, `planes`.

    `nic`, `gpu` and `nvlink` (the links of a GPU among GPUs) are those of `node`, counted from 0 in the order of ranks;
    `leaf` is a leaf switch by number; `spines` and `planes` are so many of them. `rate` is what is left, as a fraction.
    """

    node: Place | None = None
    nic: Place | None = None
    gpu: Place | None = None
    nvlink: Place | None = None
    leaf: Place | None = None
    spines: Positive | None = None
    planes: Positive | None = None
    rate: Left = 0.0

    @property
    def what(self) -> str:
        """The kind of thing that is broken."""
        return next(name for name in PARTS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _of_one_thing(self) -> Self:
        given = [name for name in PARTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a fault is of one of {', '.join(PARTS)}; {len(given)} are given")
        if (self.node is not None) != (given[0] in ("nic", "gpu", "nvlink")):
            raise ValueError("node must be given for a nic, a gpu or an nvlink, and only for them")
        if given[0] in ("gpu", "nvlink") and not self.rate:
            raise ValueError(f"a node without a {given[0]} runs no job; expected rate, what is left of its speed")
        if given[0] in ("spines", "planes") and self.rate:
            raise ValueError(f"{given[0]} are lost as a whole; rate is not for them")
        return self


PARTS = ("nic", "gpu", "nvlink", "leaf", "spines", "planes")
"""What a fault can be of."""


class ClusterSpec(CatalogueFile):
    """Nodes behind a fabric. A single node is a cluster without one."""

    node: str
    nodes: Count
    fabric: FabricSpec | None = None
    placement: Placement = Placement()
    degraded: list[Fault] = []
