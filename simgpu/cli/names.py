"""Names of the catalogue that a shell completes for an argument or an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from simgpu.catalog_files import CatalogueFiles

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

MACHINES = ("clusters", "nodes", "gpus")


SHOWN = ("models", "networks", "families", "gpus", "nodes", "clusters", "links", "runtimes", "frameworks")
"""Kinds of names that `simgpu show` knows."""


def command_for(word: str, folders: Sequence[str]) -> str:
    """The command that takes a word which stands where a command belongs: a file, a name of the catalogue; else ''."""
    catalogue = _files(folders)
    if word.endswith((".yaml", ".yml")) or (catalogue and word in catalogue.names("experiments")):
        return f"run {word}"
    known = catalogue is not None and any(word in catalogue.names(kind) for kind in SHOWN)
    return f"show {word}" if known else ""


def _files(folders: Sequence[str]) -> CatalogueFiles | None:
    """The catalogue's files; None where a folder is not there, which the command itself says."""
    from simgpu.catalog_files import CatalogueFiles
    from simgpu.errors import InputError

    try:
        return CatalogueFiles(*folders)
    except InputError:
        return None


def names_of(*kinds: str, files: bool = False) -> Complete:
    """Completes names of these kinds, those of `--catalog` too; else the shell's own files, if they may be given."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
        from click.shell_completion import CompletionItem

        catalogue = _files(context.find_root().params.get("folders") or ())
        if catalogue is None:
            return []
        known = [(name, kind) for kind in kinds for name in catalogue.names(kind) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=kind.removesuffix("s")) for name, kind in dict(known).items()]
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete
