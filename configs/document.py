"""A settings file, and the edits of one value in it: read, put, taken out, or kept in a list, in any language of hosts.

    bytes -> text -> parsed by the language (`jsonc`, `toml`, `yaml`) -> splices -> text -> checked -> bytes

Pure, bytes in and bytes out. Not here: files (`patch`) and which value goes where (`connect`, `additions`). Above:
whatever edits or looks at settings. Below: `edit`, which the languages share. Invariants: an edit that comes back was
read again by the host's rules, says what it said before but for the one value, and has every comment that was not
inside that value, and anything else is `EditRefused`; bytes outside the splices are never rewritten; a text is parsed
once, and once more for each edit in it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from configs.edit import MAX_BYTES, EditRefused, Parsed, Reason, Rules, Splice, refuse, same, spliced, unverified
from configs.model import KeyPath

__all__ = ["MAX_BYTES", "Document", "EditRefused", "Glance", "Readable", "Reason", "Rules"]

_MARK: Final = b"\xef\xbb\xbf"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_ABSENT: Final = object()
_EDITORS: Final = {"json": "configs.jsonc", "jsonc": "configs.jsonc", "toml": "configs.toml", "yaml": "configs.yaml"}


class Readable(Protocol):
    """A settings file that can be asked what stands where."""

    @property
    def data(self) -> bytes:
        """The bytes of the file."""

    def at(self, path: KeyPath) -> Any | None:
        """The plain value at `path`, `None` when it is absent. Raises `EditRefused`."""


@dataclass(frozen=True, slots=True)
class Document:
    """A settings file as its host reads it. An edit gives another document; one that changes nothing gives the same."""

    data: bytes
    rules: Rules
    _source: Parsed

    @classmethod
    def read(cls, data: bytes, rules: Rules) -> Document:
        """The document of these bytes; an empty file is an empty table. Raises `EditRefused` when the host could not
        read the file."""
        return cls(data, rules, _read(data, rules))

    def at(self, path: KeyPath) -> Any | None:
        """The plain value at `path`, `None` when it is absent. Raises `EditRefused` when something on the way is no
        table, or a key on it is there twice."""
        self._source.place(path)
        found = _find(self._source.value, self.rules, path)
        return None if found is _ABSENT else found

    def missing(self, path: KeyPath) -> int:
        """How many of the tables around `path` `put` would have to make: 0 when the parent of `path` is there.

        The outermost object of JSON counts too when the file has yet to get it. Raises `EditRefused` like `at`.
        """
        self._source.place(path)
        return _missing(self._source, self.rules, path)

    def put(self, path: KeyPath, value: Any) -> Document:
        """With `value` at `path`; unchanged when an equal value is there. Tables on the way are made.

        Where a table stands already, what of it is the same stays as it was written. Raises `EditRefused`.
        """
        source, rules = self._source, self.rules
        source.place(path)
        found = _find(source.value, rules, path)
        if found is not _ABSENT and same(found, value):
            return self
        expected = _with(source.value, path, value)
        for at, new in _steps(path, found, value):
            splices = source.unset(at, 0) if new is _ABSENT else source.set(at, new)
            source = _applied(source, rules, splices)
        return self._checked(source, same(source.value, expected))

    def take(self, path: KeyPath, *, prune: int = 0) -> Document:
        """Without the key at `path`, and without up to `prune` of the tables around it that are empty then.

        Unchanged when the key is absent. With what `missing` said before `put` as `prune`, `put` is undone to the byte.
        A table with a comment in it is not empty. Raises `EditRefused`.
        """
        source, rules = self._source, self.rules
        source.place(path)
        if not path or _find(source.value, rules, path) is _ABSENT:
            return self
        expected = _pruned(_without(source.value, path), path[:-1])
        source = _applied(source, rules, source.unset(path, prune))
        return self._checked(source, same(_pruned(source.value, path[:-1]), expected))

    def append(self, path: KeyPath, value: Any) -> Document:
        """With `value` as the last element of the list at `path`; unchanged when an equal element is in the list.

        The list is made when it is absent. Raises `EditRefused`, also when something else than a list is there.
        """
        source, rules = self._source, self.rules
        source.place(path)
        old = _list(source, rules, path)
        if any(same(each, value) for each in old):
            return self
        expected = _with(source.value, path, [*old, value])
        source = _applied(source, rules, source.add(path, value))
        return self._checked(source, same(source.value, expected))

    def discard(self, path: KeyPath, value: Any, *, prune: int = 0) -> Document:
        """Without the elements equal to `value` of the list at `path`; unchanged when there are none.

        Then up to `prune` of what is empty goes: the list, then the tables around it. Raises `EditRefused` like
        `append`.
        """
        source, rules = self._source, self.rules
        source.place(path)
        old = _list(source, rules, path)
        kept = [each for each in old if not same(each, value)]
        if len(kept) == len(old):
            return self
        expected = _pruned(_with(source.value, path, kept), path)
        for index in reversed(range(len(old))):
            if same(old[index], value):
                source = _applied(source, rules, source.drop(path, index, prune))
        return self._checked(source, same(_pruned(source.value, path), expected))

    def _checked(self, source: Parsed, is_as_expected: bool) -> Document:
        if not is_as_expected:
            raise unverified()
        try:
            data = (_MARK if self.data.startswith(_MARK) else b"") + source.text.encode()
        except UnicodeEncodeError:
            raise unverified() from None
        if len(data) > MAX_BYTES:
            raise EditRefused("too_large", f"The file would be larger than {MAX_BYTES // 1024**2} MB.")
        return Document(data, self.rules, source)


class Glance:
    """A settings file for looking alone, which is much faster where the file is plain JSON: some are many megabytes.

    It gives what a `Document` of the same bytes would give, and reads the file when it is first asked.
    """

    def __init__(self, data: bytes, rules: Rules) -> None:
        self.data = data
        self._rules = rules
        self._plain: Any = _ABSENT
        """What the file says, where it is plain JSON with each key once, and was read already."""
        self._document: Document | None = None
        """The file as its host reads it, where it is anything else or cannot be read."""

    def at(self, path: KeyPath) -> Any | None:
        """The plain value at `path`, `None` when it is absent. Raises `EditRefused`."""
        value = self._json()
        for key in path:
            if not isinstance(value, dict):
                break
            value = value.get(key)
            if value is None:
                return None
        else:
            if value is not _ABSENT:
                return value
        # Not plain JSON, or something on the way is no table: the document knows what to say of it.
        if self._document is None:
            self._document = Document.read(self.data, self._rules)
        return self._document.at(path)

    def _json(self) -> Any:
        if self._plain is _ABSENT and self._document is None and self._rules.format in ("json", "jsonc"):
            try:
                self._plain = json.loads(self.data.decode(), object_pairs_hook=_table, parse_constant=_no_number)
            except (ValueError, RecursionError):
                return _ABSENT
        return self._plain


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError
    return table


def _no_number(name: str) -> None:
    raise ValueError(name)


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
    # The module of a language, and the library below it, are loaded for the first file of that language.
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


# -- plain values --------------------------------------------------------------------------------------------------


def _find(value: Any, rules: Rules, path: KeyPath) -> Any:
    for index, key in enumerate(path):
        if value is None and rules.format == "yaml":
            return _ABSENT
        if not isinstance(value, dict):
            # The sentence may name the keys on the way, because the caller gave them: the file's own are never told.
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
    # Keys are taken out last, so that no table is ever empty in between.
    for key in old:
        if key not in new:
            yield (*path, key), _ABSENT
