"""Bytes of dumps that users have: of bounded size, in whatever coding, coloured, and XML without entities."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from simgpu.errors import InputError, shown
from simgpu.reading import read_bytes, what_it_is

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MOST = 64_000_000
"""Largest dump that is read, bytes: an ibnetdiscover of 100,000 ports has about 10 million."""
ELEMENTS = 500_000
"""Most elements of an XML file."""
DEPTH = 100
"""Deepest nesting of an XML file: PCIe trees of hwloc have some 20 levels."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|(?<![\w\x1b])\[(?:4|1|0|22|24)m|(?<=\w)\[0m")
"""Escape sequences of terminals, and those of nvidia-smi of which the escape byte was lost on the way."""
_MARK = re.compile(r"^\s*(?://+|#+ |\*+ |> )\s?")
"""Signs of comments and quotations in front of lines."""


def text_of(file: Path) -> str:
    """The text of a dump, without colours. Raises `InputError` for a file that is none, or too large."""
    raw = read_bytes(file, MOST, "a dump of a machine")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # PowerShell redirects so
        text = raw.decode("utf-16", errors="replace")
    else:
        wrong = what_it_is(raw[:64])
        if wrong or b"\x00" in raw[:4096]:
            raise InputError(wrong or "is no text; expected what a tool printed", file=file)
        text = raw.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise InputError("is empty; expected what a tool printed", file=file)
    return _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def unmarked(line: str) -> str:
    """A line without a sign of comment or quotation in front."""
    return _MARK.sub("", line)


def xml_of(file: Path, text: str) -> Element:
    """The root of an XML document.

    Entities and external references are refused, whatever they expand to; so is a document of too many elements or
    nested too deeply.
    """
    from xml.etree.ElementTree import ParseError, TreeBuilder

    from defusedxml.common import DefusedXmlException, DTDForbidden, EntitiesForbidden, ExternalReferenceForbidden
    from defusedxml.ElementTree import DefusedXMLParser

    parser = DefusedXMLParser(target=_Bounded(file, TreeBuilder()))
    try:
        parser.feed(text)
        root: Element = parser.close()
    except EntitiesForbidden as found:
        raise InputError(f"defines entity {shown(found.name)}; expected XML without entities", file=file) from None
    except (DTDForbidden, ExternalReferenceForbidden, DefusedXmlException):
        raise InputError("refers to other files; expected XML that stands alone", file=file) from None
    except ParseError as found:
        line = found.position[0]
        raise InputError(f"is no XML ({str(found).partition(':')[0]}); is it cut?", file=file, line=line) from None
    return root


class _Bounded:
    """A builder of trees that stops at a document of too many elements or too deep a nesting."""

    def __init__(self, file: Path, builder: object) -> None:
        self._file, self._builder = file, builder
        self._elements = self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> object:
        self._elements += 1
        self._depth += 1
        if self._elements > ELEMENTS:
            raise InputError(
                f"has more than {ELEMENTS:,} elements; expected the topology of one machine", file=self._file
            )
        if self._depth > DEPTH:
            raise InputError(f"is nested deeper than {DEPTH} elements", file=self._file)
        return self._builder.start(tag, attributes)  # type: ignore[attr-defined]

    def end(self, tag: str) -> object:
        self._depth -= 1
        return self._builder.end(tag)  # type: ignore[attr-defined]

    def data(self, text: str) -> object:
        return self._builder.data(text)  # type: ignore[attr-defined]

    def close(self) -> object:
        return self._builder.close()  # type: ignore[attr-defined]
