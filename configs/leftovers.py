"""Entries of ours that somebody added for one folder alone: what `claude mcp add parler -- parler mcp` writes.

Claude Code keeps those in its own file, below the folder's path, and starts such an entry in the place of the one for
all folders. Not here: that entry (`configs.connect`), what a repository brings (`configs.project`). Above: `connect`,
the command line. Invariant: only an entry that starts this home's Parler is ever taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from configs import document
from configs.detect import Place, files, glance, read
from configs.document import Refused, Rules
from configs.entries import starts_parler, starts_shim_of, words_of
from configs.hosts import find_host
from configs.model import SERVER

HOST: Final = "claude-code"


@dataclass(frozen=True, slots=True)
class Leftover:
    """One entry. `problem` says why it does not start what the entry for all folders starts; empty when it does."""

    file: Path
    folder: str
    problem: str

    @property
    def path(self) -> tuple[str, ...]:
        """Where in the file it stands."""
        return ("projects", self.folder, "mcpServers", SERVER)

    @property
    def fix(self) -> str:
        """How it is taken out by hand."""
        return f"in {self.folder}: claude mcp remove -s local {SERVER}; or for all of Parler: parler connect --remove"


def leftovers(place: Place) -> list[Leftover]:
    """Every such entry that starts a Parler; none when the file cannot be read. Writes nothing."""
    host = find_host(HOST)
    return [found for file in files(place, host)[:1] for found in _in(place, file, read(file) or b"")]


def without(data: bytes, place: Place, file: Path) -> bytes:
    """The file without those that start this home's Parler; the same bytes when there are none. Raises `Refused`."""
    rules = Rules.of(find_host(HOST))
    for found in _in(place, file, data):
        if not found.problem:
            data = document.take(data, rules, found.path)
    return data


def _in(place: Place, file: Path, data: bytes) -> Iterator[Leftover]:
    if SERVER.encode() not in data:
        return
    try:
        projects = glance(data, Rules.of(find_host(HOST)), ("projects",))
    except Refused:
        return
    for folder, about in projects.items() if isinstance(projects, dict) else ():
        servers = about.get("mcpServers") if isinstance(about, dict) else None
        entry = servers.get(SERVER) if isinstance(servers, dict) else None
        if starts_parler(entry):
            yield Leftover(file, folder, _problem(place, entry))


def _problem(place: Place, entry: Any) -> str:
    words = words_of(entry)
    named = words[words.index("--home") + 1 :][:1] if "--home" in words else []
    variables = entry.get("env")
    if not named and isinstance(variables, dict) and isinstance(variables.get("PARLER_HOME"), str):
        named = [variables["PARLER_HOME"]]
    is_shim = any(PurePath(word).parts[-2:] == ("run", "shim.py") for word in words)
    if (is_shim and not starts_shim_of(entry, place)) or (named and Path(named[0]) != place.home.root):
        return "it starts the Parler of another home"
    if words[0].startswith("/") and not Path(words[0]).exists():
        return f"it starts {words[0]}, which is not there"
    return ""
