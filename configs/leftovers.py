"""Entries of ours that somebody added for one folder alone, as a host's own command for adding servers writes them.

A host that has such entries (`Host.per_folder`) keeps them in its own file, below the folder's path, and starts such an
entry in the place of the one for all folders. Not here: the entry for all folders (`configs.connect`), what a
repository brings (`configs.project`). Above: `connect`, the command line. Invariant: only an entry that starts this
home's Parler is ever taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from configs.detect import Place, files, read
from configs.document import Document, EditRefused, Glance, Rules
from configs.entries import starts_parler, starts_shim_of, words_of
from configs.hosts import HOSTS
from configs.model import SERVER, Host, KeyPath


@dataclass(frozen=True, slots=True)
class Leftover:
    """One entry. `path` is where in the file it stands, and `fix` says how a person takes it out. `problem` says why it
    does not start what the entry for all folders starts; empty when it does."""

    host: Host
    file: Path
    folder: str
    path: KeyPath
    problem: str
    fix: str


def leftovers(place: Place, hosts: Iterable[Host] = HOSTS) -> list[Leftover]:
    """Every such entry of these hosts that starts a Parler; none of a file that cannot be read. Writes nothing."""
    return [
        found
        for host in hosts
        if host.per_folder is not None
        for file in files(place, host)[:1]
        for found in _in(place, host, file, read(file) or b"")
    ]


def without(data: bytes, place: Place, host: Host, file: Path) -> bytes:
    """The file without entries that start this home's Parler; the same bytes without any. Raises `EditRefused`."""
    ours = [found for found in _in(place, host, file, data) if not found.problem]
    if not ours:
        return data
    document = Document.read(data, Rules.of(host))
    for found in ours:
        document = document.take(found.path)
    return document.data


def entries_by_folder(data: bytes, host: Host) -> dict[str, Any]:
    """The entries named parler that a file of this host has for one folder alone, by folder; none when the file cannot
    be read, or the host keeps no such entries."""
    about = host.per_folder
    if about is None or SERVER.encode() not in data:
        return {}
    try:
        folders = Glance(data, Rules.of(host)).at(about.table)
    except EditRefused:
        return {}
    found = {folder: _below(value, (*about.servers, SERVER)) for folder, value in _items(folders)}
    return {folder: entry for folder, entry in found.items() if entry is not None}


def _in(place: Place, host: Host, file: Path, data: bytes) -> Iterator[Leftover]:
    about = host.per_folder
    for folder, entry in entries_by_folder(data, host).items():
        if about is not None and starts_parler(entry):
            yield Leftover(
                host=host,
                file=file,
                folder=folder,
                path=(*about.table, folder, *about.servers, SERVER),
                problem=_problem(place, entry),
                fix=f"in {folder}: {about.remove}; or for all of Parler: parler connect --remove",
            )


def _below(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _items(value: object) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


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
