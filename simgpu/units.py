"""Units of the catalogue and of experiment files. Inside simgpu everything is SI: seconds, bytes, FLOP, watts.

GB, TB/s and TFLOPS are decimal; KiB, MiB and GiB are binary. Link rates in bits carry a small b.
"""

from __future__ import annotations

import re

_SCALES = {"": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}

UNITS: dict[str, tuple[str, float]] = {
    **{f"{p}FLOPS": ("FLOP/s", s) for p, s in _SCALES.items() if p != "k"},
    **{f"{p}FLOP/s": ("FLOP/s", s) for p, s in _SCALES.items() if p != "k"},
    **{f"{p}OPS": ("FLOP/s", s) for p, s in _SCALES.items() if p != "k"},
    **{f"{p}FLOP": ("FLOP", s) for p, s in _SCALES.items() if p != "k"},
    **{f"{p}B": ("B", s) for p, s in _SCALES.items()},
    **{f"{p}iB": ("B", 1024.0**n) for n, p in enumerate("KMGTP", 1)},
    **{f"{p}B/s": ("B/s", s) for p, s in _SCALES.items()},
    **{f"{p}iB/s": ("B/s", 1024.0**n) for n, p in enumerate("KMGTP", 1)},
    **{f"{p}b/s": ("B/s", s / 8) for p, s in _SCALES.items()},
    **{f"{p}Hz": ("Hz", s) for p, s in _SCALES.items()},
    "s": ("s", 1.0),
    "ms": ("s", 1e-3),
    "us": ("s", 1e-6),
    "ns": ("s", 1e-9),
    "h": ("s", 3600.0),
    "W": ("W", 1.0),
    "kW": ("W", 1e3),
    "MW": ("W", 1e6),
    "J/FLOP": ("J/FLOP", 1.0),
    "pJ/FLOP": ("J/FLOP", 1e-12),
    "USD": ("USD", 1.0),
    "USD/h": ("USD/h", 1.0),
}
"""Unit -> (SI unit, factor)."""

EXAMPLES = {
    "B/s": "3.35 TB/s",
    "B": "128 MB",
    "FLOP/s": "989 TFLOPS",
    "Hz": "1830 MHz",
    "s": "2.5 us",
    "W": "700 W",
    "J/FLOP": "1.1 pJ/FLOP",
    "USD": "30000 USD",
    "USD/h": "2.5 USD/h",
    "": "8",
}

_QUANTITY = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z/]*)\s*")


def parse_quantity(text: object) -> tuple[float, str]:
    """Number and unit of `text` (a number, or a string such as '3.35 TB/s'); the unit is '' when none is given.

    Raises `ValueError` for anything else.
    """
    if isinstance(text, bool):
        raise ValueError("not a number")
    if isinstance(text, (int, float)):
        try:
            return float(text), ""
        except OverflowError:
            raise ValueError("too large a number") from None
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) and len(text) <= 400 else None
    if match is None:
        raise ValueError("not a number with a unit")
    return float(match[1].replace("_", "")), match[2]


def to_si(value: float, unit: str, dimension: str) -> float:
    """`value` in the SI unit `dimension`; no unit, or the unit 'SI', means it is that already. Raises `ValueError`."""
    if unit in ("", "SI"):
        return value
    known = UNITS.get(unit)
    if known is None or known[0] != dimension:
        wanted = f"a unit of {dimension}" if dimension else "no unit"
        raise ValueError(f"unit '{unit}' does not fit; expected {wanted}, such as '{EXAMPLES[dimension]}'")
    return value * known[1]


_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_si(value: float, unit: str) -> str:
    """`value` of SI `unit` as people write it: 3.35 TB/s, 1.8 GHz, 2.5 us.

    >>> format_si(3.35e12, "B/s"), format_si(2.5e-6, "s"), format_si(132, "")
    ('3.35 TB/s', '2.5 us', '132')
    """
    if unit == "s":
        return format_seconds(value)
    if unit in ("B/s", "b/s", "FLOP/s", "B", "Hz", "FLOP"):
        for scale, prefix in _PREFIXES:
            if abs(value) >= scale:
                return f"{value / scale:.4g} {'K' if prefix == 'k' and unit != 'Hz' else prefix}{unit}"
    return f"{value:.10g} {unit}".rstrip()


def format_seconds(seconds: float) -> str:
    """Seconds with four significant digits in s, ms, us or ns.

    >>> format_seconds(0.0020344), format_seconds(12.5), format_seconds(0.0)
    ('2.034 ms', '12.5 s', '0 s')
    """
    if seconds == 0:
        return "0 s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds / 1e-9:.4g} ns"


def format_span(seconds: float) -> str:
    """A time of operations, which may be days, with three significant digits.

    >>> format_span(11135.0), format_span(88.0), format_span(0.35), format_span(7e5)
    ('3.09 h', '88 s', '350 ms', '8.1 d')
    """
    if seconds == float("inf"):
        return "never"
    for scale, unit, least in ((86400.0, "d", 2 * 86400.0), (3600.0, "h", 7200.0), (60.0, "min", 120.0)):
        if abs(seconds) >= least:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s" if abs(seconds) >= 1 else format_seconds(float(f"{seconds:.3g}"))
