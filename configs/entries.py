"""Entries named parler: what ours is in one host, whose one is that was found, and the two brought together.

Pure. Not here: where entries stand and how they are written (`connect`). Above: `connect`. Invariant: what a person set
in our entry, switched off among it, survives every update; only what starts the server is ours to say.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final

from configs.detect import Place
from configs.document import EditRefused, Readable
from configs.model import Host, KeyPath, Shim

STARTS: Final = frozenset({"command", "cmd", "args", "type", "transport", "source"})
"""Keys of an entry that say how a server is started, which are ours to write. The person may have set the others."""
_NONE: Final = object()


def shim_of(place: Place, host: Host) -> Shim:
    """What the host is to start."""
    return Shim(python=place.python, shim=str(place.home.shim), host=host.id, home=str(place.home.root))


def entry_of(place: Place, host: Host, keys: KeyPath) -> dict[str, Any]:
    """Our entry as this host wants it at `keys`, the path that ends in our name."""
    return host.entry_for(keys[:-1], shim_of(place, host))


def command_of(place: Place, host: Host) -> list[str]:
    """The command line in our entry, word by word."""
    shim = shim_of(place, host)
    return [shim.python, *shim.arguments]


def merged(found: Any, base: Any, ours: dict[str, Any], command: list[str]) -> dict[str, Any]:
    """The entry that was found, brought to what we write now; `base` is what we wrote last, when that is known.

    What the person set or took away stays. What we wrote and they left goes with us.
    """
    if not isinstance(found, dict):
        return ours
    last = base if isinstance(base, dict) else {}
    # Where the person starts our command by way of a program of theirs, the server is started as it has to be, and what
    # starts it is left alone.
    is_started = _contains(words_of(found), command)
    result: dict[str, Any] = {}
    for key, value in found.items():
        if key in ours:
            is_ours = last.get(key, _NONE) == value or (key in STARTS and not is_started)
            result[key] = ours[key] if is_ours else value
        elif last.get(key, _NONE) != value:
            result[key] = value
    for key, value in ours.items():
        if key not in found and (key not in last or (key in STARTS and not is_started)):
            result[key] = value
    return result


def words_of(entry: Any) -> list[str]:
    """What an entry starts, word by word; none when it is no shape that we know."""
    if not isinstance(entry, dict):
        return []
    inner = entry.get("transport")
    about = inner if isinstance(inner, dict) else entry
    command = about.get("command", about.get("cmd"))
    arguments = about.get("args")
    words = [
        *(command if isinstance(command, list) else [command]),
        *(arguments if isinstance(arguments, list) else []),
    ]
    return [word for word in words if isinstance(word, str)]


def _contains(words: list[str], part: list[str]) -> bool:
    return any(words[at : at + len(part)] == part for at in range(len(words)))


def starts_parler(entry: Any) -> bool:
    """Whether an entry starts a Parler: of this home or another, as a shim or as the program."""
    words = words_of(entry)
    if any(PurePath(word).parts[-2:] == ("run", "shim.py") for word in words):
        return "--host" in words
    return words[1:2] == ["mcp"] and PurePath(words[0]).stem == "parler"


def starts_shim_of(entry: Any, place: Place) -> bool:
    """Whether an entry starts the shim of this home."""
    return str(place.home.shim) in words_of(entry)


def off_where(host: Host, file: Readable, entry: Any) -> str | None:
    """Where the person switched our server off, in words to follow the host's name; empty when it is our entry that
    says so, None when it is on."""
    if isinstance(entry, dict) and host.disabled(entry):
        return ""
    for path, is_off in host.left_out:
        if path[-1].encode() not in file.data:
            continue
        table, each, rest = _parted(path)
        try:
            found = file.at(table)
        except EditRefused:
            return None
        if not each:
            if found is not None and is_off(found):
                return f" by `{'.'.join(path)}`"
            continue
        places = (
            [place for place, value in found.items() if _is_off_at(value, rest, is_off)]
            if isinstance(found, dict)
            else []
        )
        if places:
            others = f" and {len(places) - 1} more" if len(places) > 1 else ""
            return f" for {places[0]}{others} by `{rest[-1]}`"
    return None


def _parted(path: KeyPath) -> tuple[KeyPath, bool, KeyPath]:
    """A path before and behind its `*`, which stands for every key of a table, and whether it has one."""
    at = path.index("*") if "*" in path else len(path)
    return path[:at], at < len(path), path[at + 1 :]


def _is_off_at(value: Any, path: KeyPath, is_off: Callable[[Any], bool]) -> bool:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value is not None and is_off(value)
