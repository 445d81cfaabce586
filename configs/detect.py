"""Which agent hosts are on this machine, and which of a host's files holds, or is to hold, our entry.

Looks at programs on PATH, at folders and at files; starts nothing and asks no network. Not here: how a file is read by
its host's rules (`document`), what is written (`connect`). Above: `connect`, `hooks`, the command line. Invariant: it
writes nothing, and nothing that it finds makes it fail.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs.document import MAX_BYTES, EditRefused, Glance, Readable, Rules
from configs.model import SERVER, Host, KeyPath, Plugins, System, expand, first
from parlerd.paths import Home

_NEEDED: Final = re.compile(r"\$\{[A-Z_]+\}")
"""A variable without a fallback. Where it is set, it moves the whole configuration of its host."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where hosts are looked for, and what their entries start: this person's environment and Parler's home."""

    env: Mapping[str, str]
    system: System
    python: str
    home: Home

    @property
    def person(self) -> Path:
        """The HOME that is meant."""
        return Path(self.env.get("HOME") or Path.home())


def detected(place: Place, host: Host) -> bool:
    """Whether the host is here: a program or editor of it on PATH, a folder, or its file."""
    return (
        any(path.is_dir() for template in host.folders for path in _paths(template, place.env))
        or any(_is_file(path) for path in files(place, host))
        or any(program(place, name) is not None for name in host.on_path)
    )


def program(place: Place, name: str) -> Path | None:
    """The program of that name on PATH. Entries of PATH that are not absolute are passed over: they mean another folder
    for every caller."""
    for folder in (place.env.get("PATH") or "").split(os.pathsep):
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.path.isfile(path) and os.access(path, os.X_OK):
            return Path(path)
    return None


def files(place: Place, host: Host) -> list[Path]:
    """The files that this host would read here, its own choice first; at least one, each at most once.

    A file that is named by a variable alone (`${CODEX_HOME}/config.toml`) is, when that is set, the only one.
    """
    templates = host.files[place.system]
    moved = [each for each in templates if _NEEDED.search(each) and expand(each, place.env) is not None]
    found = [path for template in (*(moved or templates), *host.also) for path in _paths(template, place.env)]
    return list(dict.fromkeys(found))


def targets(place: Place, host: Host) -> list[Path]:
    """The files that our entry belongs into; at least one. More than one only for a host that has several at once.

    Of two candidates the one wins that already has our entry, then the one that has a table for servers, then the first
    that exists, then the one that the host would make. Source: hosts reference, F18.
    """
    others = [path for template in host.also for path in _paths(template, place.env)]
    candidates = [path for path in files(place, host) if path not in others]
    if beside := [path for path in others if os.path.lexists(path)]:
        return [*(path for path in candidates[:1] if path.parent.is_dir()), *beside]
    if host.multiple:
        folders = [path for template in host.folders for path in _paths(template, place.env) if path.is_dir()]
        present = [path for path in candidates if any(each in path.parents for each in folders) or path.parent.is_dir()]
        return present or candidates[:1]
    existing = [path for path in candidates if os.path.lexists(path)]
    if len(existing) < 2:
        return existing or candidates[:1]
    return [max(existing, key=lambda path: _claim(host, path))]


def server_path(file: Readable, host: Host) -> KeyPath:
    """Where our entry stands, or is to stand, in a file with this content. Raises `EditRefused`."""
    for layout in host.layouts:
        table = file.at(layout)
        # Only a table of tables is a layout: `servers` may also be the name of one server of the older layout.
        if isinstance(table, dict) and all(isinstance(each, dict) for each in table.values()):
            return (*layout, SERVER)
    return (*host.key_path, SERVER)


def plugin(place: Place, host: Host) -> str | None:
    """The plugin, by its full name, with which the host has us already; `None` when there is none that is on."""
    about = host.plugins
    if about is None:
        return None
    return _kept(place, about) if about.kept else _enabled(place, host, about)


def _enabled(place: Place, host: Host, about: Plugins) -> str | None:
    path = first(about.files, place.env)
    data = read(path) if path is not None else None
    if not data or SERVER.encode() not in data:
        return None
    try:
        found = Glance(data, Rules.of(host)).at(about.key)
    except EditRefused:
        return None
    return next((name for name, value in _items(found) if name.partition("@")[0] == SERVER and _is_on(value)), None)


def _kept(place: Place, about: Plugins) -> str | None:
    path, state = expand(about.kept, place.env), expand(about.state, place.env)
    if path is None or not _is_file(path):
        return None
    try:
        said = json.loads((read(state) if state is not None else None) or b"null")
    except (ValueError, RecursionError):
        said = None
    return None if about.off is not None and about.off(said, str(place.person)) else SERVER


def read(path: Path) -> bytes | None:
    """The content of a regular file; `None` when it is missing, no such file, too large or unreadable."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _claim(host: Host, path: Path) -> int:
    data = read(path)
    if not data:
        return 0
    file = Glance(data, Rules.of(host))
    try:
        keys = server_path(file, host)
        return 2 if file.at(keys) is not None else int(file.at(keys[:-1]) is not None)
    except EditRefused:
        return 0


def _paths(template: str, env: Mapping[str, str]) -> list[Path]:
    """A template as paths. A folder written `*` stands for every folder there is: profiles of an editor."""
    path = expand(template, env)
    if path is None:
        return []
    if "*" not in path.parts:
        return [path]
    at = path.parts.index("*")
    try:
        names = sorted(entry.name for entry in os.scandir(Path(*path.parts[:at])) if entry.is_dir())
    except OSError:
        return []
    return [Path(*path.parts[:at], name, *path.parts[at + 1 :]) for name in names]


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _is_on(value: object) -> bool:
    return value is True or (isinstance(value, dict) and value.get("enabled", True) is True)
