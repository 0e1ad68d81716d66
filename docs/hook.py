"""What the site takes from outside docs/: pages of the checkout's top, and the files that pages link to.

A hook of mkdocs (mkdocs.yml, `make site`). Pages are written for readers of the checkout, where ARCHITECTURE.md,
experiments/ and notebooks/ lie beside docs/; the site holds copies of those that a page names, so that every link works
from disk.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the top, and every file of the checkout that a page links to."""
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    for path in sorted((ROOT / "docs").glob("*.md")):
        for target in _LINK.findall(path.read_text()):
            name = target.removeprefix("../")
            outside = target != name and name not in PAGES and (ROOT / name).is_file()
            if outside and not files.get_file_from_path(name):
                files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links of the checkout into links of the site."""
    top = page.file.src_uri in PAGES
    return _LINK.sub(lambda match: _there(match[1], top), markdown)


def _there(target: str, top: bool) -> str:
    if top:
        return target.removeprefix("docs/")
    return target.removeprefix("../") if target.startswith("../") else target
