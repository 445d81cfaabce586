"""A system with a service manager, or none, that answers the programs by which a relay is kept running.

It knows units of systemd as files that were loaded, enabled and started, agents of launchd as files that were
bootstrapped, and programs that were detached. Verified by `tests/contract/test_service.py`, which asks the real
programs of this machine the same where they answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay.service import Kind, Ran


@dataclass
class FakeSystem:
    """Runs nothing, and remembers what it was told."""

    kind: Kind
    units: Path
    """Where this user's units of systemd are."""
    lingers: bool = False
    asked: list[list[str]] = field(default_factory=list)
    detached: list[list[str]] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    """The services that run, by the name of the unit or the label."""
    loaded: dict[str, str] = field(default_factory=dict)
    """The units, as they stood when systemd last read them."""
    enabled: set[str] = field(default_factory=set)
    starts: int = 0
    """How many times a service was started while it did not run, or started anew."""
    refuses: str = ""
    """A word: whatever is asked with it fails."""

    def run(self, words: Sequence[str]) -> Ran:
        asked = list(words)
        self.asked.append(asked)
        if self.refuses and self.refuses in asked:
            return Ran(1, f"{self.refuses} is refused here")
        match asked:
            case ["systemctl", "--user", *rest] if self.kind == "systemd":
                return self._systemctl(rest)
            case ["loginctl", "show-user", _, "--property=Linger"] if self.kind == "systemd":
                return Ran(0, f"Linger={'yes' if self.lingers else 'no'}")
            case ["launchctl", *rest] if self.kind == "launchd":
                return self._launchctl(rest)
            case ["systemctl", *_]:
                return Ran(1, "Failed to connect to bus: No medium found")
            case _:
                return Ran(127, "")

    def _systemctl(self, words: list[str]) -> Ran:
        match words:
            case ["show", "--property=Version"]:
                return Ran(0, "Version=252")
            case ["daemon-reload"]:
                found = self.units.glob("*.service") if self.units.is_dir() else ()
                self.loaded = {path.name: path.read_text() for path in found}
                return Ran(0, "")
            case ["enable", unit] if unit in self.loaded:
                self.enabled.add(unit)
            case ["disable", unit] if unit in self.loaded:
                self.enabled.discard(unit)
            case ["start", unit] if unit in self.loaded:
                self.starts += unit not in self.running
                self.running.add(unit)
            case ["restart", unit] if unit in self.loaded:
                self.starts += 1
                self.running.add(unit)
            case ["stop", unit] if unit in self.loaded:
                self.running.discard(unit)
            case ["reset-failed", unit] if unit in self.loaded:
                pass
            case ["is-active", unit]:
                return Ran(0, "active") if unit in self.running else Ran(3, "inactive")
            case [_, unit]:
                return Ran(5, f"Unit {unit} not loaded.")
            case _:
                return Ran(1, "Unknown command")
        return Ran(0, "")

    def _launchctl(self, words: list[str]) -> Ran:
        match words:
            case ["print", target]:
                domain, _, label = target.partition("/")[2].partition("/")
                assert domain
                return Ran(0, "") if not label or label in self.running else Ran(113, "Could not find service")
            case ["bootstrap", _, file]:
                path = Path(file)
                if not path.exists() or path.stem in self.running:
                    return Ran(5, "Bootstrap failed: 5: Input/output error")
                self.running.add(path.stem)
                self.starts += 1
            case ["bootout", target]:
                label = target.rpartition("/")[2]
                if label not in self.running:
                    return Ran(3, "Boot-out failed: 3: No such process")
                self.running.discard(label)
            case ["kickstart", target] if target.rpartition("/")[2] in self.running:
                pass
            case _:
                return Ran(64, "Unknown command")
        return Ran(0, "")

    def detach(self, words: Sequence[str], *, log: Path, env: Mapping[str, str]) -> int:
        if self.refuses == "detach":
            raise OSError(12, "Cannot allocate memory")
        self.detached.append(list(words))
        return 4_000_000 + len(self.detached)
