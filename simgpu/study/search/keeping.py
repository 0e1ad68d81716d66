"""Storage of a search: simulated plans are scenarios of the store, which later searches and sweeps reuse."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Source, read_text
from simgpu.scenario import Scenario
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.pools.versions import code_digest
from simgpu.study.sweep.identity import Identities, Identity, digest_of
from simgpu.study.sweep.store import Finished, Store, now
from simgpu.version import __version__


@dataclass
class Keeper:
    """Rows of scenarios, kept under what decides them. Without a store, or where it `writes` nothing, none are kept."""

    store: Store | None
    catalogue: Catalogue
    experiment: str
    file: Source
    writes: bool = True
    _known: dict[str, Identity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._identities = Identities(Resolver(self.catalogue))
        self._parts: dict[str, str] = {}

    def row(self, scenario: Scenario) -> dict[str, Any] | None:
        """The stored row of a scenario."""
        if self.store is None:
            return None
        return self.store.row(self._identity(scenario).key)

    def keep(self, scenario: Scenario, row: Mapping[str, Any], seconds: float) -> None:
        """Write the row of a scenario."""
        if self.store is None or not self.writes:
            return
        identity = self._identity(scenario)
        ended = now()
        finished = Finished(
            identity.key, "ok", row, None, identity.asked, identity.parts, ended, ended, seconds,
            socket.gethostname(), platform.python_version(),
        )  # fmt: skip
        self.store.keep([finished], self._provenance)

    def members(self, scenarios: Sequence[tuple[Scenario, Mapping[str, Any]]], settings: Sequence[str]) -> None:
        """Remember which scenarios belong to the search, with labels."""
        if self.store is None or not self.writes:
            return
        members = [(self._identity(scenario).key, labels) for scenario, labels in scenarios]
        text = digest_of(read_text(self.file))
        self.store.begin(self.experiment, str(self.file), text, settings, members, self._parts)

    @property
    def _provenance(self) -> dict[str, str]:
        return {
            "experiment": self.experiment, "file": str(self.file), "simgpu": __version__, "code": code_digest()
        }  # fmt: skip

    def _identity(self, scenario: Scenario) -> Identity:
        text = scenario.model_dump_json()
        if text not in self._known:
            self._known[text] = self._identities.of(scenario)
            self._parts |= self._identities.contents()
        return self._known[text]
