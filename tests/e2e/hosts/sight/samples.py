"""Samples of hosts' records: what a host wrote while a case ran, with every word in it replaced.

A sample keeps what a description looks at (kinds, ids, numbers, the field with our answer) and the fields that hold a
copy of our answer; of all else nothing stays. Ids become small ones. So it can be kept in the repository, where
`tests/configs/test_records.py` holds the descriptions against it. Not here: what a description is
(`parlerd.core.records`).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from configs.model import Host, first
from parlerd.core.records import Kind, Record

TEXT: Final = "some made up words rcpt-0123456789abcdef"
"""What stands in a sample in the place of the message that was sent: as it was rendered, through its marker."""
_KEPT: Final = ("type", "role", "subtype", "status", "reason", "provenance", "kind", "displayRole", "version", "name")
"""Fields whose short words stay: they say of what kind an entry is."""
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.<>-]{0,31}\Z|[0-9]+(?:\.[0-9]+){2}\Z")
_ID: Final = re.compile(r"(?:[a-z][A-Za-z_]*)?(?:Id|ID|id|Ref|uuids?|Uuid|UUID|session|of)\Z")
_OTHER: Final = "words"


def entries(record: Record, home: Path) -> Iterator[list[Any]]:
    """The entries of each conversation that a host recorded in this HOME, in their order."""
    folder = first(record.folders, {"HOME": str(home)})
    assert folder is not None
    for pattern in record.files:
        for path in sorted(folder.glob(pattern)):
            if record.form == "lines":
                yield [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            elif record.form == "document":
                yield json.loads(path.read_text(encoding="utf-8"))[record.list]
            else:
                yield _rows(record, path)


def _rows(record: Record, path: Path) -> list[Any]:
    assert record.rows is not None
    tables = (record.rows.messages, record.rows.parts)
    with sqlite3.connect(path) as database:
        messages = list(database.execute(f"SELECT id, session_id, data FROM {tables[0]}"))
        parts = list(database.execute(f"SELECT id, message_id, data FROM {tables[1]}"))
    found: list[tuple[str, Any]] = []
    for id, session, data in messages:
        own = [(part, words) for part, of, words in parts if of == id]
        for part, words in own or [(id, "null")]:
            entry = {"session": session, "id": part, "of": id, "message": json.loads(data), "part": json.loads(words)}
            found.append((part.partition("_")[2], entry))
    return [entry for _, entry in sorted(found, key=lambda each: each[0])]


class Redactor:
    """Turns the entries of one record into a sample. `sent` is the message that was sent, which is replaced by `TEXT`
    wherever it stands whole; `kept` are words that the description asks for."""

    def __init__(self, host: Host, sent: str) -> None:
        assert host.sight is not None
        self._sent = sent
        self._kept = frozenset(_words(host.sight))
        self._roots = frozenset(_roots(host.sight))
        self._ids: dict[str, str] = {}
        self._grow = host.sight.form == "rows"

    def sample(self, found: Sequence[Any]) -> list[Any]:
        """The entries from the call that brought the message on, redacted; none where the message is in no entry."""
        at = next((index for index, entry in enumerate(found) if self._holds(entry)), None)
        if at is None:
            return []
        if self._grow:
            for id in sorted({each for entry in found for each in _ids(entry)}):
                self._ids[id] = f"id-{len(self._ids):03}"
        return [self._entry(entry) for entry in found[max(at - 3, 0) :]]

    def _entry(self, entry: Any) -> Any:
        return {
            key: self._value(key, value)
            for key, value in entry.items()
            if key in self._roots or self._holds(value) or isinstance(value, str | int | None)
        }

    def _value(self, key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: self._value(name, each)
                for name, each in value.items()
                if not isinstance(each, dict | list) or name in self._kept or name in self._roots or self._holds(each)
            }
        if isinstance(value, list):
            return [self._value(key, each) for each in value]
        return self._string(key, value) if isinstance(value, str) else value

    def _string(self, key: str, value: str) -> str:
        if self._sent in value:
            if value.startswith("{"):
                return json.dumps({"content": [{"type": "text", "text": f"a page\n{TEXT}\nits end\n"}]})
            return f"a page\n{TEXT}\nits end\n"
        if value in self._kept or (key in _KEPT and _WORD.match(value)):
            return value
        if _ID.match(key) and value:
            return self._ids.setdefault(value, f"id-{len(self._ids)}")
        return _OTHER if value else ""

    def _holds(self, value: Any) -> bool:
        return self._sent in json.dumps(value) or (isinstance(value, str) and self._sent in value)


def _ids(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _ids(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _ids(each, key)
    elif isinstance(value, str) and value and _ID.match(key):
        yield value


def _kinds(record: Record) -> Iterator[Kind]:
    for kinds in (record.calls, record.openings, record.results, record.replies, record.endings, record.harmless):
        yield from kinds


def _words(record: Record) -> Iterator[str]:
    """The words that a description compares with, and the names in its paths."""
    for kind in _kinds(record):
        for test in (*kind.has, *kind.lacks):
            yield from (value for value in test.values if isinstance(value, str))
    yield from _roots(record)


def _roots(record: Record) -> Iterator[str]:
    paths = [test.path for kind in _kinds(record) for test in (*kind.has, *kind.lacks)]
    paths += [path for call in record.calls for path in (call.calls, call.id)]
    paths += [path for result in record.results for path in (result.each, result.call, result.text)]
    paths += [path for reply in record.replies for path in (reply.opened, reply.differs, reply.at_least)]
    paths += [path for ending in record.endings for path in (ending.kept, ending.upto, ending.since, ending.at)]
    paths += [record.version, record.result_at, *record.conversation]
    for path in paths:
        yield from re.findall(r"[^.\[\]=]+", path)
