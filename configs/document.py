"""One value in a settings file: read, put, taken out, or kept in a list, in any of the languages that hosts use.

    bytes -> text -> parsed by the language (`jsonc`, `toml`, `yaml`) -> splices -> text -> checked -> bytes

Pure, bytes in and bytes out. Not here: files (`patch`) and which value goes where (`connect`, `hooks`). Invariant: an
edit that comes back was read again by the host's rules, says what it said before but for the one value, and has every
comment that was not inside that value; anything else is `EditRefused`. Bytes outside the splices are never rewritten.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Final, cast

from configs.edit import MAX_BYTES, EditRefused, Parsed, Reason, Rules, Splice, refuse, same, spliced, unverified
from configs.model import KeyPath

__all__ = [
    "MAX_BYTES",
    "EditRefused",
    "Reason",
    "Rules",
    "append",
    "created_depth",
    "discard",
    "entry_at",
    "put",
    "take",
]

_MARK: Final = b"\xef\xbb\xbf"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_ABSENT: Final = object()
_EDITORS: Final = {"json": "configs.jsonc", "jsonc": "configs.jsonc", "toml": "configs.toml", "yaml": "configs.yaml"}


def entry_at(data: bytes, rules: Rules, path: KeyPath) -> Any | None:
    """The plain value at `path`, `None` when it is absent. An empty file is an empty table.

    Raises `EditRefused` for a file that the host could not read, or when something on the way is no table.
    """
    source = _read(data, rules)
    source.place(path)
    found = _find(source.value, rules, path)
    return None if found is _ABSENT else found


def created_depth(data: bytes, rules: Rules, path: KeyPath) -> int:
    """How many of the tables around `path` `put` would have to make: 0 when its parent is there.

    The outermost object of JSON counts too when the file has yet to get it. Raises `EditRefused` like `entry_at`.
    """
    source = _read(data, rules)
    source.place(path)
    return _missing(source, rules, path)


def put(data: bytes, rules: Rules, path: KeyPath, value: Any) -> bytes:
    """The file with `value` at `path`; the same bytes when an equal one is there. Tables on the way are made.

    Where a table stands already, what of it is the same stays as it was written. Raises `EditRefused`.
    """
    source = _read(data, rules)
    source.place(path)
    found = _find(source.value, rules, path)
    if found is not _ABSENT and same(found, value):
        return data
    expected = _with(source.value, path, value)
    for at, new in _steps(path, found, value):
        if new is _ABSENT:
            source = _applied(source, rules, source.unset(at, 0))
        else:
            source = _applied(source, rules, source.set(at, new))
    return _checked(data, source, same(source.value, expected))


def take(data: bytes, rules: Rules, path: KeyPath, *, prune: int = 0) -> bytes:
    """The file without the key at `path`, and without up to `prune` of the tables around it that are empty then.

    The same bytes when it is absent. With `created_depth` of the time before as `prune`, `put` is undone to the byte. A
    table with a comment in it is not empty. Raises `EditRefused`.
    """
    source = _read(data, rules)
    source.place(path)
    if not path or _find(source.value, rules, path) is _ABSENT:
        return data
    expected = _pruned(_without(source.value, path), path[:-1])
    source = _applied(source, rules, source.unset(path, prune))
    return _checked(data, source, same(_pruned(source.value, path[:-1]), expected))


def append(data: bytes, rules: Rules, path: KeyPath, value: Any) -> bytes:
    """The file with `value` as the last element of the list at `path`; the same bytes when an equal one is in it.

    The list is made when it is absent. Raises `EditRefused`, also when something else than a list is there.
    """
    source = _read(data, rules)
    source.place(path)
    old = _list(source, rules, path)
    if any(same(each, value) for each in old):
        return data
    expected = _with(source.value, path, [*old, value])
    source = _applied(source, rules, source.add(path, value))
    return _checked(data, source, same(source.value, expected))


def discard(data: bytes, rules: Rules, path: KeyPath, value: Any, *, prune: int = 0) -> bytes:
    """The file without the elements equal to `value` of the list at `path`; the same bytes when there are none.

    Then up to `prune` of what is empty goes: the list, then the tables around it. Raises `EditRefused` like `append`.
    """
    source = _read(data, rules)
    source.place(path)
    old = _list(source, rules, path)
    kept = [each for each in old if not same(each, value)]
    if len(kept) == len(old):
        return data
    expected = _pruned(_with(source.value, path, kept), path)
    for index in reversed(range(len(old))):
        if same(old[index], value):
            source = _applied(source, rules, source.drop(path, index, prune))
    return _checked(data, source, same(_pruned(source.value, path), expected))


# -- bytes and text ------------------------------------------------------------------------------------------------


def _read(data: bytes, rules: Rules) -> Parsed:
    if len(data) > MAX_BYTES:
        raise EditRefused("too_large", f"The file is larger than {MAX_BYTES // 1024**2} MB.")
    if data.startswith(_WIDE) or b"\0" in data:
        raise EditRefused("encoding", "The file is not UTF-8 text. Save it as UTF-8.", 1, 1)
    if data.startswith(_MARK) and not rules.bom:
        raise EditRefused(
            "host_cannot_read",
            "The host cannot read this file: it begins with a byte order mark, at line 1, column 1. Save it as UTF-8 "
            "without one.",
            1,
            1,
        )
    try:
        text = data.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        good = data.removeprefix(_MARK)[: error.start].decode()
        refuse("encoding", "The file is not UTF-8 text at {where}. Save it as UTF-8.", good, len(good))
    return _parse(text, rules)


def _parse(text: str, rules: Rules) -> Parsed:
    # Each language's module with what it needs is loaded for a file of that language only.
    return cast("Parsed", importlib.import_module(_EDITORS[rules.format]).parse(text, rules))


def _applied(source: Parsed, rules: Rules, splices: list[Splice]) -> Parsed:
    """What a text says after splices. Raises `EditRefused(unverified)` if it cannot be read or has lost a comment."""
    old = source.text
    kept = [
        old[start:end] for start, end in source.comments() if not any(s.start < end and start < s.end for s in splices)
    ]
    try:
        result = _parse(spliced(old, splices), rules)
    except EditRefused as error:
        raise unverified() from error
    if kept != [result.text[start:end] for start, end in result.comments()]:
        raise unverified()
    return result


def _checked(data: bytes, source: Parsed, is_as_expected: bool) -> bytes:
    if not is_as_expected:
        raise unverified()
    try:
        result = (_MARK if data.startswith(_MARK) else b"") + source.text.encode()
    except UnicodeEncodeError:
        raise unverified() from None
    if len(result) > MAX_BYTES:
        raise EditRefused("too_large", f"The file would be larger than {MAX_BYTES // 1024**2} MB.")
    return result


# -- plain values --------------------------------------------------------------------------------------------------


def _find(value: Any, rules: Rules, path: KeyPath) -> Any:
    for index, key in enumerate(path):
        if value is None and rules.format == "yaml":
            return _ABSENT
        if not isinstance(value, dict):
            # The names on the way are the caller's, not the file's.
            raise EditRefused("wrong_type", f"`{'.'.join(path[:index])}` in the file is something else than a table.")
        if key not in value:
            return _ABSENT
        value = value[key]
    return value


def _missing(source: Parsed, rules: Rules, path: KeyPath) -> int:
    for depth in range(len(path) - 1, -1, -1):
        found = _find(source.value, rules, path[:depth])
        if found is not _ABSENT:
            if not isinstance(found, dict) and not (found is None and rules.format == "yaml"):
                raise EditRefused(
                    "wrong_type", f"`{'.'.join(path[:depth])}` in the file is something else than a table."
                )
            return len(path) - 1 - depth + (0 if source.has_root else 1)
    return 0


def _list(source: Parsed, rules: Rules, path: KeyPath) -> list[Any]:
    found = _find(source.value, rules, path)
    if found is _ABSENT:
        return []
    if not isinstance(found, list):
        raise EditRefused("wrong_type", f"`{'.'.join(path)}` in the file is something else than a list.")
    return found


def _with(value: Any, path: KeyPath, new: Any) -> Any:
    if not path:
        return new
    old = value if isinstance(value, dict) else {}
    return {**old, path[0]: _with(old.get(path[0]), path[1:], new)}


def _without(value: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    if len(path) == 1:
        return {key: each for key, each in value.items() if key != path[0]}
    return {**value, path[0]: _without(value[path[0]], path[1:])}


def _pruned(value: Any, path: KeyPath) -> Any:
    """A value without what is empty along `path`, from its end: whether an empty table is there is no matter."""
    if not path or not isinstance(value, dict) or path[0] not in value:
        return value
    inner = _pruned(value[path[0]], path[1:])
    if inner is None or inner == {} or inner == []:
        return {key: each for key, each in value.items() if key != path[0]}
    return {**value, path[0]: inner}


def _steps(path: KeyPath, old: Any, new: Any) -> Iterator[tuple[KeyPath, Any]]:
    """The keys to set, or with `_ABSENT` to take out, that lead from one value to the other."""
    if not (isinstance(old, dict) and isinstance(new, dict) and old and new):
        yield path, new
        return
    for key, value in new.items():
        if key not in old:
            yield (*path, key), value
        elif not same(old[key], value):
            yield from _steps((*path, key), old[key], value)
    # Last, so that nothing is ever empty in between.
    for key in old:
        if key not in new:
            yield (*path, key), _ABSENT
