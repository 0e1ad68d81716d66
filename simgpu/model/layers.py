"""Kinds of layers: a mixer, a feed-forward, and what of the model's shape is otherwise in them."""

from __future__ import annotations

from dataclasses import dataclass

MIXERS = ("attention", "state", "both", "none")
"""What mixes tokens in a layer: attention, a recurrence with a state, both beside each other (Falcon-H1), nothing."""

FEEDS = ("dense", "moe", "none")
"""Feed-forward of a layer: dense, a mixture of experts, none (Nemotron-H: a layer is one or the other)."""

MIXER_WORDS = {"attention": "", "state": "state", "both": "attention and state", "none": "without mixer"}


@dataclass(frozen=True)
class Layer:
    """A kind of layer. `changes` are fields of the model's shape that are otherwise in it."""

    mixer: str = "attention"
    feed: str = "dense"
    window: int = 0
    changes: tuple[tuple[str, int], ...] = ()

    @property
    def kind(self) -> str:
        """A name that begins with the feed-forward: 'dense', 'moe local', 'none state', 'dense kv_heads=4'."""
        words = [self.feed, MIXER_WORDS[self.mixer], *(f"{field}={int(value)}" for field, value in self.changes)]
        return " ".join([word for word in words if word] + (["local"] if self.window else []))


Runs = tuple[tuple[Layer, int], ...]
"""Layers in order of depth, each with how many of it follow each other."""


PREDICTS = " mtp"
"""Ends the kind of a layer in a module that predicts a further token (multi-token prediction): 'moe mtp'."""


def is_moe(kind: str) -> bool:
    """True if a kind of layer is a mixture of experts."""
    return kind.startswith("moe")


def is_local(kind: str) -> bool:
    """True if a kind of layer has a window where others have none."""
    return kind.removesuffix(PREDICTS).endswith(" local")


def feed_of(kind: str) -> str:
    """The feed-forward of a kind of layer, one of `FEEDS`."""
    return kind.partition(" ")[0]


def mixer_of(kind: str) -> str:
    """The mixer of a kind of layer, one of `MIXERS`."""
    rest = kind.partition(" ")[2]
    found = [mixer for mixer, word in MIXER_WORDS.items() if word and rest.startswith(word)]
    return found[0] if found else "attention"
