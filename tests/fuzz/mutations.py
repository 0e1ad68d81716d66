"""Ways to damage a valid input: trees of keys and values, text, bytes and command lines."""

from __future__ import annotations

import copy
import random
from typing import Any

NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 0.5, -0.0, 1e-9, 1e-300, 5e-324, 1e300, 1e6, 1e9, 1e18, 2**31, 2**63, 10**30, 10**400),
    *(float("nan"), float("inf"), float("-inf"), 65_536, 1_000_000, 100_000, 4096, True, False),
)
WORDS = (
    *("", " ", "x", "none", "auto", "all", "null", "nan", "-5", "0", "1e400", "1_000", "0x10", "١٢", "²", "½", "１"),
    *("h100-sxm", "h100-sxm@500W", "h100-sxm@1g.10gb", "h100-sxm@", "@", "dgx-h100", "llama-3.1-8b", "gpu", "fp8"),
    *("../../etc/passwd", "/etc/hostname", "a/b", ".", "..", "C:\\x", "~", "a\0b", "\x1b[31mred\x1b[0m", "line\nline"),
    *("\u202eevil", "e\u0301", "🦙", "\ud7ff", "=1+1", "%s%n", "{0}", "$(id)", "'; DROP TABLE x; --", "x" * 5000),
    *("80 GB", "3 TB/s", "80 GiB/fortnight", "-3 TB/s", "1e999 GB", "nan W", "700 W", "1 us", "10 %", "5 USD"),
    *("9" * 400, "9" * 5000, "1" + "0" * 30, "1.0000001", "1048576²", "tp == 2", "tp > 10**10**10", "a.b.c.d"),
)
CELLS = (
    *("", " ", "nan", "inf", "-inf", "0", "-1", "1e400", "1e-400", "2.5", "x", "1,5", '"', "'", "None", "²", "9" * 400),
    *("9" * 5000, "1e300", "1e12", "=1+1", "\x1b[31m", "h100-sxm", "nvfp4", "bfloat16", "float16", "true", "65536"),
)
NESTED = ([], {}, [[]], [None], {"": 0}, {"a": {"b": {}}}, [1, 2, 3], ["x"] * 3)


def ugly(draw: random.Random) -> Any:
    """A value that few places of any file expect."""
    kind = draw.random()
    if kind < 0.45:
        return draw.choice(NUMBERS)
    if kind < 0.85:
        return draw.choice(WORDS)
    if kind < 0.9:
        return None
    if kind < 0.97:
        return copy.deepcopy(draw.choice(NESTED))
    return _deep(draw.choice((5, 39, 41, 200)))


def _deep(levels: int) -> Any:
    found: Any = 1
    for level in range(levels):
        found = [found] if level % 2 else {"a": found}
    return found


def places(tree: Any) -> list[tuple[Any, ...]]:
    """Paths of all keys and items of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, below in items for path in ((key,), *((key, *rest) for rest in places(below)))]


def holder(tree: Any, path: tuple[Any, ...]) -> Any:
    """What holds the last part of a path."""
    for part in path[:-1]:
        tree = tree[part]
    return tree


def damaged(draw: random.Random, tree: Any) -> Any:
    """A copy of a tree with one or a few of its places changed.

    Of three trees one keeps its shape and gets other numbers alone, so that what is odd about them comes deeper.
    """
    tree, only_numbers = copy.deepcopy(tree), draw.random() < 0.35
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        known = places(tree)
        if only_numbers:
            known = [path for path in known if _is_number(holder(tree, path)[path[-1]])]
        if not known:
            return tree
        path = draw.choice(known)
        inside, key = holder(tree, path), path[-1]
        if only_numbers:
            inside[key] = _resized(draw, inside[key])
        else:
            _change(draw, tree, inside, key, known)
    return tree


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _resized(draw: random.Random, value: float) -> float:
    """A number that the place might hold: of an integer an integer."""
    factor = draw.choice((2, 2, 3, 4, 7, 10, 100, 1000, 10**4, 10**5, 10**6, 10**9))
    if isinstance(value, int):
        return draw.choice((value * factor, max(value // factor, 1), value + 1, value - 1, 2 ** draw.randrange(24)))
    return value * factor if draw.random() < 0.5 else value / factor


def _change(draw: random.Random, tree: Any, inside: Any, key: Any, known: list[tuple[Any, ...]]) -> None:
    value, way = inside[key], draw.random()
    if way < 0.3:
        inside[key] = ugly(draw)
    elif way < 0.5 and _is_number(value):
        inside[key] = _other_number(draw, value)
    elif way < 0.62:
        del inside[key]
    elif way < 0.74 and isinstance(inside, dict):
        del inside[key]
        inside[_misspelt(draw, str(key))] = value
    elif way < 0.84:  # what stands elsewhere in the file
        other = draw.choice(known)
        inside[key] = copy.deepcopy(holder(tree, other)[other[-1]])
    elif way < 0.92 and isinstance(inside, dict):
        inside[draw.choice((ugly_name(draw), str(key) + ".x", f"{key}.{key}"))] = ugly(draw)
    elif isinstance(inside, list):
        inside.insert(draw.randrange(len(inside) + 1), copy.deepcopy(value))
    else:
        inside[key] = [value]


def _other_number(draw: random.Random, value: float) -> Any:
    """A number of the same type, some other size."""
    factor = draw.choice((0, -1, 2, 3, 10, 1000, 10**6, 10**12))
    if isinstance(value, int):
        return draw.choice(
            (value * factor, value + draw.choice((-1, 1)), value // max(abs(factor), 1), float(min(value, 2**99)))
        )
    return draw.choice((value * factor, value / (factor or 7), value + 1e-9, int(value) if abs(value) < 1e300 else 0))


def ugly_name(draw: random.Random) -> str:
    return draw.choice(
        ("", "x", "tp", "plan", "gpu.memory.bandwidth", "hardware", "cases", "<<", "\0", "🦙", "a" * 300)
    )


def _misspelt(draw: random.Random, word: str) -> str:
    if not word:
        return "x"
    at = draw.randrange(len(word))
    return draw.choice((word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], word.upper(), word + " "))


def damaged_text(draw: random.Random, text: str) -> bytes:
    """The bytes of a text with some flipped, cut off, doubled or put in."""
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.choice((1, 1, 2, 8))):
        at, way = draw.randrange(len(raw) + 1), draw.random()
        if way < 0.25 and at < len(raw):
            raw[at] ^= 1 << draw.randrange(8)
        elif way < 0.4:
            del raw[at:]
        elif way < 0.55:
            del raw[at : at + draw.choice((1, 2, 10, 100))]
        elif way < 0.7:
            end = min(len(raw), at + draw.choice((1, 20, 200)))
            raw[at:at] = raw[at:end]
        else:
            raw[at:at] = draw.choice(_PIECES)
        if not raw:
            return b""
    return bytes(raw)


_PIECES = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b"\t", b"{", b"}", b"[", b"]", b'"', b"'", b": "),
    *(b"- ", b"&a ", b"*a", b"!!python/object:os.system ", b"!!float x", b"<<: ", b"? ", b"| ", b"#", b"%", b",", b";"),
    *(b"-", b"1e999", b"nan", b"9" * 400, b"[" * 50, b"\xc3\x28", "\u2028".encode(), "\u202e".encode(), b"\x1b[2J"),
)


def damaged_table(draw: random.Random, rows: list[list[str]]) -> bytes:
    """The bytes of a CSV file with cells, columns or rows changed; now and then its text too."""
    rows = [list(row) for row in rows]
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, way = draw.randrange(len(rows)), draw.random()
        row = rows[at]
        if way < 0.6 and row:
            row[draw.randrange(len(row))] = draw.choice(CELLS)
        elif way < 0.7 and row:
            del row[draw.randrange(len(row))]
        elif way < 0.8:
            rows.insert(at, list(row))
        elif way < 0.9 and row:  # a column is lost
            column = draw.randrange(len(row))
            rows = [one[:column] + one[column + 1 :] for one in rows]
        else:
            draw.shuffle(row)
    text = "\n".join(",".join(row) for row in rows) + "\n"
    return damaged_text(draw, text) if draw.random() < 0.15 else text.encode("utf-8", "surrogatepass")
