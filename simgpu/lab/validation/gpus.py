"""Which GPU a table means.

It may be one of the catalogue, another name for one, or a GPU that exists but has no datasheet in the catalogue. A name
that is none of these is taken for a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from simgpu.errors import InputError, members, nearest

ALIASES = {
    "a100-80gb": "a100-sxm-80gb",  # SXM and PCIe pooled
    "a100": "a100-sxm-80gb",
    "b200": "b200-sxm",  # form factor not stated: the one that is sold in boards of eight
    "b300": "b300-sxm",
    "h100": "h100-sxm",  # form factor not stated
    "h100-sxm-80gb": "h100-sxm",
    "h20": "h20-96gb",  # edition not stated; the one of 141 GB is named H20-3e
    "h20-sxm": "h20-96gb",
    "v100-sxm2": "v100-sxm-32gb",  # memory not stated
    "v100-sxm2-32gb": "v100-sxm-32gb",
    "mi350": "mi355x",  # of the series
    "H100": "h100-sxm",
    "B200": "b200-sxm",
    "B300": "b300-sxm",
    "GB200": "gb200",
    "GB300": "gb300",
    "rtx-pro-6000": "rtx-pro-6000-server",  # edition not stated; clock and bandwidth of the measured cards are its
}
"""Names of tables that stand for a GPU of the catalogue."""

KNOWN = (
    *("p4", "p40", "p100-pcie-16gb", "p100-sxm-16gb", "k80", "m60", "t4", "t4g", "a2", "a16", "a30", "l2", "l20"),
    *("v100-sxm-16gb", "v100-sxm-32gb", "v100-pcie-16gb", "v100-pcie-32gb", "v100s-pcie-32gb", "a10", "a10g", "a40"),
    *("a100-sxm-40gb", "a100-sxm-80gb", "a100-pcie-40gb", "a100-pcie-80gb", "a800", "a800-sxm-80gb", "a800-pcie-80gb"),
    *("h100-sxm", "h100-pcie", "h100-nvl", "h100-sxm-96gb-hbm2e-500w", "h800", "h800-sxm", "h800-pcie", "h20"),
    *("h200-sxm", "h200-nvl", "gh200-80gb", "gh200-96gb", "gh200-141gb", "gh200-144gb", "l4", "l40", "l40s"),
    *("b100", "b200-sxm", "b300-sxm", "gb200", "gb300", "gb10", "rtx-pro-6000", "rtx-pro-6000-server"),
    *("titan-v", "titan-rtx", "titan-xp", "mi50", "mi60", "mi100", "mi210", "mi250", "mi250-1gcd", "mi250x"),
    *("mi250x-1gcd", "mi300a", "mi300x", "mi308x", "mi325x", "mi350x", "mi355x", "gaudi", "gaudi2", "gaudi3"),
    *("unknown", "h100-sxm@power-capped"),  # of which no cap is stated
)
_LINES = re.compile(
    r"(rtx-(20|30|40|50)[5-9]0(-ti)?(-super)?|gtx-(10|16)[5-8]0(-ti)?(-super)?)(-(mobile|laptop|max-q|\d+gb))*"
    r"|rtx-a(1000|2000|4000|4500|5000|5500|6000)|rtx-(2000|4000|4500|5000|5880|6000)-ada|rtx-(4000|5000|6000)"
    r"|rtx-pro-[2-6][05]00(-server|-max-q|-workstation)?|quadro-[a-z0-9-]+|apple-m\d[a-z0-9-]*|tpu-v[0-9][a-z0-9]*"
)
"""Product lines of which tables may name any member."""


_LIMITED = re.compile(r"(\S+) (\d+) w")
"""A board with its power limit, as reports write it: 'A100-SXM-80GB 330 W'."""
_COUNTED = re.compile(r" x\d+$")
"""How many there are, behind the name: 'b200-sxm x8'."""


def resolve(name: str, catalogue: Collection[str]) -> str | None:
    """The catalogue's name of a GPU; None for one that exists but has no datasheet there.

    Raises `InputError` for a name that nobody knows.
    """
    limited = _LIMITED.fullmatch(name.lower())
    if limited and (board := resolve(limited[1], catalogue)) is not None:
        return f"{board}@{limited[2]}W"
    name = _COUNTED.sub("", name.lower())
    if name in catalogue:
        return name
    if ALIASES.get(name) in catalogue:
        return ALIASES[name]
    if name in KNOWN or name in ALIASES or _LINES.fullmatch(name):
        return None
    raise InputError(f"unknown GPU '{name}'{members(name, catalogue) or nearest(name, catalogue)}")
