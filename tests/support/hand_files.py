"""The settings files of agent hosts as the daemon's watcher sees them, in memory and changed by hand.

Verified by `tests/contract/test_watched_files.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.drift import Drift
from configs.hosts import find_host
from configs.model import Host
from configs.outcome import Outcome


@dataclass
class HandFiles:
    """`Files` in memory. `lost` are hosts without their entry; `again` says that one loses it again at once."""

    directory: Path
    connected: dict[str, Path] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    keeping: set[str] = field(default_factory=set)
    here: list[Host] = field(default_factory=list)
    again: bool = False
    outcome: str | Exception = "added"
    failing: Exception | None = None
    looks: int = 0
    put: list[str] = field(default_factory=list)

    def connect(self, *ids: str) -> None:
        for id in ids:
            folder = self.directory / id
            folder.mkdir(exist_ok=True)
            self.connected[id] = folder / "settings"

    def paths(self) -> list[Path]:
        if self.failing:
            raise self.failing
        ledger = [self.directory / "ledger.json"] if self.connected else []
        return [*self.connected.values(), *ledger]

    def drift(self) -> list[Drift]:
        self.looks += 1
        return [self._drift(id, kind) for id, kind in self.lost.items()]

    def kept(self) -> frozenset[str]:
        return frozenset(self.keeping)

    def put_back(self, drift: Drift) -> Outcome:
        self.put.append(drift.host.id)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if not self.again:
            del self.lost[drift.host.id]
        reason = "The file is read-only." if self.outcome == "failed" else ""
        return Outcome(host=drift.host, detected=True, path=drift.path, status=self.outcome, reason=reason)

    def newcomers(self) -> list[Host]:
        return self.here

    def is_connected(self) -> bool:
        return bool(self.connected)

    def _drift(self, id: str, kind: Any) -> Drift:
        host = find_host(id)
        return Drift(host=host, path=self.connected[id], kind=kind, sentence=f"{host.name} lost it.", fix="connect")
