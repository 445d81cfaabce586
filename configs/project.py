"""What a repository says in our name: MCP entries called `parler` in it, and hooks that answer forms for the person.

A repository can bring settings for agent hosts. An entry of our name in one would be started in place of ours, and a
hook on elicitation decides what a person is asked. Neither is ours to change; this module finds both, so that `doctor`
can name them. Which files a host reads is said in the host's own file (`Host.project_files`, `form_hooks`,
`per_folder`). Above: the command line, `connect`. Below: `document`, for files with comments. Invariant: nothing here
writes, and no file of a repository makes it fail. Source: security spec A2 and D22.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from configs import document
from configs.document import Document, EditRefused, Rules
from configs.entries import starts_parler
from configs.hosts import HOSTS
from configs.leftovers import entries_by_folder
from configs.model import SERVER, Host, KeyPath, candidates, first, this_system

_SIMPLE: Final = re.compile(r"(?P<start>\^?)(?P<names>(?:[A-Za-z0-9_-]|\.\*)*)(?P<end>\$?)")
"""A pattern that can be compared piece by piece."""
MAX_BYTES: Final = 1024 * 1024
"""Size of a file; a larger one is passed over, because nobody writes one by hand, and a repository must not keep a
checkup busy."""


class Brought(NamedTuple):
    """A file that says something in our name. `host` is the one that reads it; where several do, the one beside which
    it is told."""

    host: Host
    file: Path


def entries(directory: Path, env: Mapping[str, str]) -> list[Brought]:
    """Files of the work tree around `directory` with an entry of our name, and those of the user that have one for a
    folder of it alone."""
    folders = _folders(directory, env)
    found = [
        Brought(host, folder / name)
        for folder in folders
        for host in HOSTS
        for name, keys in host.project_files
        if _entry(folder / name, (*keys, SERVER)) is not None
    ]
    found += [
        Brought(host, own)
        for host in HOSTS
        if host.per_folder is not None
        if _is_local(own := candidates(host, this_system(), env)[0], host, folders)
    ]
    return list({each.file: each for each in reversed(found)}.values())[::-1]


def hooks(directory: Path, env: Mapping[str, str]) -> list[Brought]:
    """Files with a hook that may answer our forms in the person's place: those of the work tree, and the user's own."""
    found = []
    for host in HOSTS:
        about = host.form_hooks
        if about is None:
            continue
        own = first(about.files, env)
        paths = [folder / name for folder in _folders(directory, env) for name in about.project_files]
        paths += [own] if own is not None else []
        found += [Brought(host, path) for path in paths if _decides(path, about.events)]
    return found


def _folders(directory: Path, env: Mapping[str, str]) -> list[Path]:
    """`directory` and what is above it up to the root of its work tree; never the home directory, whose files are the
    user's own."""
    home = Path(env.get("HOME") or Path.home())
    above: list[Path] = []
    for folder in (directory, *directory.parents):
        if folder == home:
            return above
        above.append(folder)
        if (folder / ".git").exists():
            return above
    return [] if directory == home else [directory]


def _entry(path: Path, keys: KeyPath) -> Any:
    data = _read(path)
    if not data:
        return None
    try:
        return Document.read(data, Rules.loose(path)).at(keys)
    except EditRefused:
        return None  # the host of this file cannot read it either


def _is_local(path: Path, host: Host, folders: list[Path]) -> bool:
    """Whether a host's own file, which grows to many megabytes, has an entry for one of these folders alone that starts
    something else than a Parler (those are `leftovers`)."""
    found = entries_by_folder(_read(path, document.MAX_BYTES), host)
    return any(str(folder) in found and not starts_parler(found[str(folder)]) for folder in folders)


def _decides(path: Path, events: Iterable[str]) -> bool:
    configured = _table(_json(path), "hooks")
    groups = [group for event in events for group in _list(configured.get(event))]
    return any(isinstance(group, dict) and _list(group.get("hooks")) and _matches(group) for group in groups)


def _matches(group: dict[str, Any]) -> bool:
    """Whether a matcher may choose our forms.

    A repository wrote the matcher, so it is never run as the pattern that it is to its host: a few characters can keep
    a pattern busy for hours. Names, `.*`, anchors and `|` are understood, and anything else may choose us.
    """
    matcher = group.get("matcher")
    if not isinstance(matcher, str) or matcher in ("", "*") or len(matcher) > 200:
        return True
    return any(_finds(each) for each in matcher.split("|"))


def _finds(pattern: str) -> bool:
    simple = _SIMPLE.fullmatch(pattern)
    if simple is None:
        return True
    first, *others = simple["names"].split(".*")
    # Each piece is looked for at its first place behind the piece before it; the last one stands at the end where the
    # pattern asks for that.
    if simple["start"] and not SERVER.startswith(first):
        return False
    at = SERVER.find(first)
    if at < 0:
        return False
    at += len(first)
    for piece in others:
        found = SERVER.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if not simple["end"]:
        return True
    if not others:
        return SERVER.endswith(first) and (not simple["start"] or first == SERVER)
    return SERVER.endswith(others[-1]) and len(SERVER) - len(others[-1]) >= at - len(others[-1])


def _json(path: Path) -> object:
    try:
        return json.loads(_read(path) or b"null")
    except (ValueError, RecursionError):
        return None


def _table(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most that size; nothing for any other."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            return b""
        return path.read_bytes()
    except OSError:
        return b""
