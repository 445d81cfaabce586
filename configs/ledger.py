"""What Parler wrote into which file of a host, so that exactly that can be taken out again.

One JSON file, `<home>/connect/ledger.json`, 0600, replaced as a whole. It is changed under a lock of its own, so that
two programs that write at once both have their say. Not here: the files themselves (`patch`), what the entries mean
(`connect`, `additions`). Invariants: a ledger that cannot be read is put aside under another name and never
overwritten; it holds nothing but what we wrote ourselves.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from configs.disk import DISK, locked, make_private
from configs.model import KeyPath
from parlerd.core.errors import ParlerError
from parlerd.paths import Home

Kind = Literal["entry", "hook", "consent"]
KINDS: Final[tuple[Kind, ...]] = ("entry", "hook", "consent")
VERSION: Final = 1
LOCK_S: Final = 10.0
"""Seconds that another program may take to write the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value that we wrote. `file` is the real file, `named` the path under which its host knows it.

    `created`: there was no file. `folders`: those that were made for it, the outermost first. `prune`: how many tables
    around the value were made for it. `original` is the sha256 of the whole file before us, `backup` the first copy of
    it, and `written` the sha256 after. The last is empty when going back to the copy would undo more than our value.
    """

    kind: Kind
    host: str
    file: Path
    named: Path
    path: KeyPath
    value: Any
    created: bool = False
    folders: tuple[Path, ...] = ()
    prune: int = 0
    backup: Path | None = None
    original: str = ""
    written: str = ""

    def after(self, earlier: Entry | None) -> Entry:
        """This entry, with what an `earlier` one of the same value says was made for it: that is still to be undone."""
        if earlier is None:
            return self
        return replace(
            self,
            created=earlier.created or self.created,
            folders=earlier.folders or self.folders,
            prune=max(earlier.prune, self.prune),
        )

    @property
    def key(self) -> tuple[Kind, str, Path, KeyPath]:
        """What there is at most one entry of."""
        return (self.kind, self.host, self.file, self.path)


class Ledger:
    """The ledger of one home. Every call reads the file anew; nothing is kept in memory."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.connect
        self.file: Final = home.connect / "ledger.json"

    def entries(self, kind: Kind | None = None, host: str | None = None) -> list[Entry]:
        """What was written, in the order in which it first was. A ledger that cannot be read gives none."""
        found = self._read() or []
        return [each for each in found if kind in (None, each.kind) and host in (None, each.host)]

    def by_file(self, kind: Kind, host: str) -> dict[Path, list[Entry]]:
        """What was written for a host, by the file as the person names it."""
        found: dict[Path, list[Entry]] = {}
        for each in self.entries(kind, host):
            found.setdefault(each.named, []).append(each)
        return found

    def damaged(self) -> bool:
        """Whether there is a ledger that this version cannot read: the next change puts it aside."""
        return self._read() is None

    def aside(self) -> list[Path]:
        """Ledgers that could not be read and were put aside."""
        return sorted(self._folder.glob("ledger-damaged-*.json"))

    def find(self, kind: Kind, host: str, file: Path, path: KeyPath) -> Entry | None:
        """The entry of that value."""
        wanted = (kind, host, file, path)
        return next((each for each in self.entries() if each.key == wanted), None)

    def entry_in(self, host: str, path: Path) -> Entry | None:
        """What was written for the server of a host in the file that this path leads to."""
        real = Path(os.path.realpath(path))
        return next((entry for entry in self.entries("entry", host) if entry.file == real), None)

    def put(self, *entries: Entry, only_new: bool = False) -> None:
        """Make each of these the entry of its value, in the place of one that is there; with `only_new` that one stays.

        Raises `ParlerError(home_not_writable)`.
        """
        if only_new and {each.key for each in entries} <= {each.key for each in self.entries()}:
            return
        with self._changing() as known:
            for entry in entries:
                _set(known, entry, only_new=only_new)

    def forget(self, *entries: Entry) -> None:
        """Remove the entries of these values, as far as there are any. Raises `ParlerError(home_not_writable)`."""
        keys = {each.key for each in entries}
        if all(each.key not in keys for each in self.entries()):
            return
        with self._changing() as known:
            known[:] = [each for each in known if each.key not in keys]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        try:
            make_private(self._home.root, self._folder.name)
            with locked(self._folder / "ledger.lock", wait_s=LOCK_S):
                entries = self._read()
                if entries is None:
                    self._put_aside()
                    entries = []
                before = list(entries)
                yield entries
                if entries != before:
                    self._write(entries)
        except OSError as error:
            raise ParlerError(
                "home_not_writable", f"{self.file} cannot be written: {error.strerror}.", path=str(self.file)
            ) from error

    def _read(self) -> list[Entry] | None:
        """The entries; `None` when there is a file and it is none of ours."""
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return []
        except OSError:
            return None
        try:
            found = json.loads(data)
            if found["version"] != VERSION:
                return None
            return [_decoded(each) for each in found["entries"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def _put_aside(self) -> None:
        number = 1 + len(self.aside())
        self.file.rename(self._folder / f"ledger-damaged-{number}.json")

    def _write(self, entries: list[Entry]) -> None:
        data = json.dumps({"version": VERSION, "entries": [_encoded(each) for each in entries]}, indent=1) + "\n"
        # One name: whoever writes holds the lock, and what a killed program left is written over.
        temporary = self._folder / ".ledger.new"
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data.encode())
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(self.file)
        DISK.sync_folder(self._folder)


def _set(entries: list[Entry], entry: Entry, *, only_new: bool) -> None:
    for index, each in enumerate(entries):
        if each.key == entry.key:
            if not only_new:
                entries[index] = entry
            return
    entries.append(entry)


def _encoded(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "host": entry.host,
        "file": os.fspath(entry.file),
        "named": os.fspath(entry.named),
        "path": list(entry.path),
        "value": entry.value,
        "created": entry.created,
        "folders": [os.fspath(each) for each in entry.folders],
        "prune": entry.prune,
        "backup": None if entry.backup is None else os.fspath(entry.backup),
        "original": entry.original,
        "written": entry.written,
    }


def _decoded(raw: dict[str, Any]) -> Entry:
    if raw["kind"] not in KINDS:
        raise ValueError
    return Entry(
        kind=raw["kind"],
        host=_text(raw["host"]),
        file=Path(_text(raw["file"])),
        named=Path(_text(raw["named"])),
        path=tuple(_text(each) for each in raw["path"]),
        value=raw["value"],
        created=raw["created"] is True,
        folders=tuple(Path(_text(each)) for each in raw["folders"]),
        prune=int(raw["prune"]),
        backup=None if raw["backup"] is None else Path(_text(raw["backup"])),
        original=_text(raw["original"]),
        written=_text(raw["written"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
