"""What a compiler joins: runs of pointwise operators into one kernel each, products around a softmax into attention."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.model.imported.pieces import Entry, Piece, Pieces, Tensor, streaming

REDUCES = ("softmax", "normalization")


def fused(pieces: Pieces) -> list[Piece]:
    """The kernels of a compiled network: attention first, then runs of pointwise operators."""
    return _joined(_with_attention(pieces.found, pieces), pieces)


def _producers(found: list[Piece], pieces: Pieces) -> dict[str, int]:
    return {pieces.root(one.name): i for i, piece in enumerate(found) for one in piece.writes}


def _consumers(found: list[Piece], pieces: Pieces) -> dict[str, list[int]]:
    users: dict[str, list[int]] = {}
    for i, piece in enumerate(found):
        for name in {pieces.root(one.name) for one in piece.reads}:
            users.setdefault(name, []).append(i)
    return users


def _with_attention(found: list[Piece], pieces: Pieces) -> list[Piece]:
    """Products Q K^T and P V around a softmax as one attention, with the scaling and masking between them."""
    makers, users = _producers(found, pieces), _consumers(found, pieces)
    gone: set[int] = set()
    instead: dict[int, Piece] = {}
    for i, piece in enumerate(found):
        if piece.entry.get("kind") != "softmax":
            continue
        before = list(_up(found, i, makers, users, pieces))
        after = list(_down(found, i, users, pieces))
        if not before or not after:
            continue
        first, last = found[before[-1]], found[after[-1]]
        entry = _attention(first, last)
        if entry is not None:
            gone |= {i, *before, *after}
            masks = [one for j in before for one in found[j].reads if one not in first.writes]
            instead[after[-1]] = Piece(entry, (*masks, *last.reads[1:]), last.writes)
    return [instead.get(i, piece) for i, piece in enumerate(found) if i not in gone or i in instead]


def _up(
    found: list[Piece], at: int, makers: dict[str, int], users: dict[str, list[int]], pieces: Pieces
) -> Iterator[int]:
    """From a softmax up to the product of its scores: pointwise operators of the same size, used by nobody else."""
    steps: list[int] = []
    for _ in range(8):
        size = found[at].writes[0].elements
        made = [(makers[name], name) for one in found[at].reads if one.elements == size
                and (name := pieces.root(one.name)) in makers]  # fmt: skip
        made = [(maker, name) for maker, name in made if len(users.get(name, ())) == 1]
        if len(made) != 1:
            return
        at = made[0][0]
        steps.append(at)
        if found[at].entry["op"] == "matmul":
            yield from steps
            return
        if not found[at].joins:
            return


def _down(found: list[Piece], at: int, users: dict[str, list[int]], pieces: Pieces) -> Iterator[int]:
    """From a softmax down to the product with the values."""
    steps: list[int] = []
    for _ in range(3):
        name = pieces.root(found[at].writes[0].name)
        if len(users.get(name, ())) != 1:
            return
        at = users[name][0]
        steps.append(at)
        if found[at].entry["op"] == "matmul":
            if pieces.root(found[at].reads[0].name) == name:
                yield from steps
            return
        if not found[at].joins or found[at].entry.get("kind") in REDUCES:
            return


def _attention(first: Piece, last: Piece) -> Entry | None:
    """The attention that two products make; None where they are none: values of another width, weights."""
    scores, wide = first.writes[0].shape, last.entry["n"]
    if first.entry["k"] != wide or "weight" not in first.entry or "weight" not in last.entry or len(scores) < 3:
        return None
    batch = 1
    for size in scores[:-3]:
        batch *= size
    entry: Entry = {"op": "attention", "name": first.entry["name"], "batch": batch, "queries": scores[-2]}
    entry |= {"keys": scores[-1], "heads": scores[-3], "head_dim": wide, "causal": False}
    return entry if wide <= 1024 else None


def _joined(found: list[Piece], pieces: Pieces) -> list[Piece]:
    """Connected pointwise operators between two of the others as one kernel each.

    A level counts the other operators on the longest way to one: joining within a level cannot make a circle.
    """
    makers = _producers(found, pieces)
    level, group = [0] * len(found), list(range(len(found)))

    def leader(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, piece in enumerate(found):
        sources = {makers[name] for one in piece.reads if (name := pieces.root(one.name)) in makers}
        sources.discard(i)
        level[i] = max((level[j] + (not found[j].joins) for j in sources), default=0)
        for j in sources:
            if piece.joins and found[j].joins and level[j] == level[i] and _alike(found[j], piece):
                group[leader(i)] = leader(j)
    members: dict[int, list[int]] = {}
    for i in range(len(found)):
        members.setdefault(leader(i), []).append(i)
    users, kernels = _consumers(found, pieces), dict[int, Piece]()
    for inside in members.values():
        kernels[inside[-1]] = found[inside[0]] if len(inside) == 1 else _kernel(found, inside, users, pieces)
    return [kernels[i] for i in sorted(kernels)]


def _alike(a: Piece, b: Piece) -> bool:
    """True if two operators go over equal tensors, or one over rows that the other makes of them."""
    small, large = sorted((a.base, b.base))
    return small > 0 and large % small == 0


def _kernel(found: list[Piece], inside: list[int], users: dict[str, list[int]], pieces: Pieces) -> Piece:
    """One kernel: reads what comes from outside, writes what somebody outside reads."""
    made: dict[str, Tensor] = {pieces.root(one.name): one for i in inside for one in found[i].writes}
    read: dict[str, Tensor] = {}
    for i in inside:
        for one in found[i].reads:
            name = pieces.root(one.name)
            if name not in made and (name not in read or one.elements > read[name].elements):
                read[name] = one
    ends = {pieces.root(name) for name in pieces.outputs}
    written = [one for name, one in made.items() if name in ends or set(users.get(name, ())) - set(inside)]
    kinds = [found[i].entry.get("kind") for i in inside]
    kind = next((one for one in REDUCES if one in kinds), "elementwise")
    names = [found[i].entry["name"] for i in inside]
    entry = streaming(f"{names[0]} + {len(names) - 1}", read.values(), written or list(made.values())[-1:], kind)
    assert entry is not None
    if kind != "elementwise":
        widths = {found[i].entry["width"] for i in inside if found[i].entry.get("kind") == kind}
        elements, width = entry["rows"] * entry["width"], max(widths)
        entry |= {"rows": elements // width, "width": width} if elements % width == 0 else {}
    weights = sum(found[i].entry.get("weights", 0) for i in inside)
    entry |= {"weights": weights} if weights else {}
    return Piece(entry, tuple(read.values()), tuple(written), True)
