"""HTML that is put together in one place, in which every text and every attribute is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from simgpu.terminal import plain

EMPTY = ("meta", "img", "br")
"""Elements that have no end."""


class Markup(str):
    """HTML: text that was escaped, or comes from this package. Any other `str` is text of strangers."""

    __slots__ = ()


Part = str | Markup | None
"""What an element holds: text, other elements, or nothing."""


def text(given: object) -> Markup:
    """Text of strangers as HTML: control characters are written out, and nothing in it is markup."""
    return Markup(escape(plain(str(given))))


def join(parts: Iterable[Part]) -> Markup:
    """Parts one after the other; those that are not `Markup` are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts if part is not None))


def tag(name: str, /, *parts: Part, **attributes: object) -> Markup:
    """An element. An attribute of None or False is left out, True stands alone; `class_` and `for_` lose their line.

    >>> tag("td", "<b>", class_="n")
    '<td class="n">&lt;b&gt;</td>'
    """
    words = [name]
    for key, value in attributes.items():
        spelt = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(spelt)
        elif value is not None and value is not False:
            words.append(f'{spelt}="{text(value)}"')
    start = f"<{' '.join(words)}>"
    return Markup(start) if name in EMPTY else Markup(f"{start}{join(parts)}</{name}>")


def data(belongs: str, value: Any) -> Markup:
    """A block of JSON for a script of the page: no letter in it can end the block or begin another.

    `belongs` is the id of the element that it is about.
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        written = written.replace(letter, f"\\u{ord(letter):04x}")
    return tag("script", Markup(written), type="application/json", data_for=belongs)
