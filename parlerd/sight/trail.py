"""What hosts append to the files of one folder: where the files are, how far each was read, and what new lines prove.

    survey  the folders that may have records in them
    walk    the length of each file now
    note    these files changed while nothing was waited for: from here on counts what comes later
    look    these files changed: read what was appended, and say what it proves

Everything here blocks and is called by one thread at a time. Not here: noticing that something changed and when
(`watching`), what an entry means (`core.judge`), databases and documents (`snapshots`). Above: `watching`. Below:
`parlerd.beneath`, `core`. Invariants: only a regular file of this user is opened, by a way that follows no link below
the folder; only bytes that were appended after the file was noted are read; no text of a record leaves this module;
memory has the bounds that are named here, whatever is in the files.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple

from parlerd import beneath
from parlerd.bounded import Bounded
from parlerd.core.judge import Answer, Judge
from parlerd.core.records import Record
from parlerd.core.sight import Found, Reason
from parlerd.sight.snapshots import MAX_DOCUMENT, Document, Snapshots, Unreadable

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of a line. The longest one of ours that a host was seen to write is some 200 kB; a picture as base64 can have
more than this, and then proves nothing."""
MAX_LOOK: Final = 64 * 1024 * 1024
"""Bytes that one look reads, of all files together. What was appended beyond that is not followed, such as a folder of
old records that somebody copies into place: reading a gigabyte would keep a processor busy for seconds."""
CHUNK: Final = 256 * 1024
"""Bytes of one read."""
SEAL: Final = 1_024
"""Bytes before the place up to which a file was read that have to be the same at the next look."""
MAX_FILES: Final = 4_096
"""Files whose length is remembered, those that changed last. One entry takes some 300 bytes. A file that is not among
them counts from when it is first seen to change."""
MAX_FOLDERS: Final = 1_024
"""Folders that are watched, those in which a name came or went last. A system lets a user watch 8,192 or more."""
MAX_OPEN: Final = 64
"""Files in which something is looked for at a time; one takes at most a megabyte for its ids. A machine with more
windows that write at once is not followed whole."""
MAX_WALK: Final = 200_000
"""Names that are looked at when a folder is walked through, which takes half a second."""


class Change(NamedTuple):
    """A path that changed, and whether it came into being."""

    path: str
    added: bool


class Gone(Exception):
    """The folder is not there, or is no folder of this user."""


class _File:
    """One file: which it is, how far it was read, and what stands in it."""

    __slots__ = ("changed", "inode", "offset", "reader", "scanned", "seal", "skipping")

    def __init__(self, status: os.stat_result, offset: int) -> None:
        self.inode = _inode(status)
        """Device and number of the inode, by which a file that was put in its place is noticed."""
        self.changed = _changed(status)
        """Its length and when it was last written to, as it was last looked at."""
        self.offset = offset
        """Where the first line begins that was not read yet."""
        self.scanned = offset
        """Up to here there is no end of that line."""
        self.skipping = False
        """Whether the bytes at `offset` are the rest of a line that is too long."""
        self.seal: tuple[int, bytes] | None = None
        """How many bytes before `offset` were read last, and their digest, by which a file that was written anew in its
        place is noticed; there is none where nothing was read yet."""
        self.reader: Judge | Snapshots | None = None
        """What is found in it; there is none while nothing is waited for."""

    def begins_at(self, offset: int) -> None:
        self.offset = self.scanned = offset
        self.skipping = False
        self.seal = None

    def closed(self, reason: Reason) -> list[Found]:
        """Nothing more is looked for in it: what stands there stays without proof."""
        reader, self.reader = self.reader, None
        return [] if reader is None else reader.unreadable(reason)


class Trail:
    """The records below one folder.

    `root` is the folder, as its own host would find it: links on the way to it are followed once, when it is opened.
    """

    def __init__(self, root: str, record: Record, evidence: str) -> None:
        self._root = os.path.realpath(root)
        self._record = record
        self._evidence = evidence
        self._patterns = [pattern.split("/") for pattern in record.files]
        self._files: Bounded[str, _File] = Bounded(MAX_FILES)
        """The files that are followed, by their path below the folder."""
        self._open: Bounded[str, _File] = Bounded(MAX_OPEN + 1)
        """Those of them in which something is looked for."""
        self._inode: tuple[int, int] | None = None
        """Which folder it is, once it was there."""
        self._known: set[str] = set()
        """Folders that were walked through: what is added in one of them is new."""
        self.folders: list[str] = []
        """The folders to be watched, by their whole path."""
        self._left = 0
        """How many bytes this look may still read."""

    # -- finding files -----------------------------------------------------------------------------------------

    def survey(self) -> None:
        """Find every folder that may hold records, and look at no file. Raises `Gone`, also where another folder took
        the place of the one that was found before."""
        made: dict[str, int] = {}
        with self._opened() as root:
            if self._inode is not None:
                self._same_folder(root)
            self._inode = _inode(os.fstat(root))
            for name, status in self._below(root, "", [MAX_WALK]):
                made[name] = status.st_mtime_ns
        self._known = set(made)
        # The folder itself comes first: what is made in it is noticed.
        newest = sorted(made, key=lambda name: (name != "", -made[name]))
        self.folders = [self._whole(name) for name in newest[:MAX_FOLDERS]]

    def walk(self, *, young: bool = False) -> list[str]:
        """Find every file of the record, and note how long it is. With `young`, everything is younger than what is
        waited for, and counts from its beginning. Gives the folders that came since the survey. Raises `Gone`."""
        self._files.clear()
        # A heap, of which the oldest file is left out when there are too many.
        newest: list[tuple[int, str, _File]] = []

        def take(name: str, status: os.stat_result) -> None:
            file = _File(status, 0 if young else status.st_size)
            keep = heapq.heappush if len(newest) < MAX_FILES else heapq.heappushpop
            keep(newest, (status.st_mtime_ns, name, file))

        with self._opened() as root:
            self._same_folder(root)
            came = [name for name, _ in self._below(root, "", [MAX_WALK], take) if name not in self._known]
        for _, name, file in sorted(newest):
            self._files[name] = file
        return came

    def all(self) -> list[Change]:
        """Every file that is followed, as if it had just come."""
        return [Change(self._whole(name), added=True) for name in self._files]

    def missed(self) -> list[Change]:
        """The files that changed since they were last looked at, and the files and folders that came since the survey:
        what would have been told by whoever listened meanwhile. Raises `Gone`."""
        missed: list[Change] = []
        # Where more files are there than are remembered, one that is not known may be old.
        is_full = len(self._files) == MAX_FILES

        def take(name: str, status: os.stat_result) -> None:
            known = self._files.get(name)
            # A database is written to in another file first.
            is_same = known is not None and known.changed == _changed(status) and self._record.form != "rows"
            if not is_same and not (known is None and is_full) and len(missed) < MAX_FILES:
                missed.append(Change(self._whole(name), added=known is None))

        with self._opened() as root:
            self._same_folder(root)
            came = [name for name, _ in self._below(root, "", [MAX_WALK], take) if name not in self._known]
        return [*missed, *(Change(self._whole(name), added=True) for name in came)]

    def fresh(self, changes: Iterable[Change]) -> list[str]:
        """The folders among these paths that may hold records and were not walked through yet."""
        names: list[str] = []
        for change in changes:
            name = self._relative(change.path)
            # A folder of the same name may have taken the place of one that was known.
            if name is None or (name in self._known and not change.added) or not self._may_lead(name):
                continue
            try:
                if stat.S_ISDIR(os.lstat(change.path).st_mode):
                    names.append(name)
            except OSError:
                continue
        return names

    def adopt(self, names: Iterable[str], *, waiting: bool) -> list[Change]:
        """Walk through folders that came, and watch them; their files that were not known yet. To be called again once
        they are watched, for what came in between. Where something is waited for, these files count from their
        beginning, because they are younger than what is waited for. Raises `Gone`."""
        came: list[Change] = []
        folders: dict[str, None] = {}
        left = [MAX_WALK]

        def take(name: str, status: os.stat_result) -> None:
            if name not in self._files and len(came) < MAX_FILES:
                self._files[name] = _File(status, 0 if waiting else status.st_size)
                came.append(Change(self._whole(name), added=True))

        with self._opened() as root:
            self._same_folder(root)
            for name in names:
                folders |= dict.fromkeys(folder for folder, _ in self._below(root, name, left, take))
        self._known.update(list(folders)[: MAX_WALK - len(self._known)])
        newest = [self._whole(folder) for folder in folders]
        self.folders = [self._root, *dict.fromkeys((*newest, *self.folders[1:]))][:MAX_FOLDERS]
        return came

    def _below(
        self, root: int, start: str, left: list[int], take: Callable[[str, os.stat_result], None] | None = None
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Every folder that may hold records, of which at most `left` names are looked at; links are no folders. `take`
        is given each record in them."""
        mine, names = os.geteuid(), [start]
        while names:
            folder = names.pop()
            parts = folder.split("/") if folder else []
            patterns = [each[len(parts) :] for each in self._patterns if len(each) > len(parts) and _fit(parts, each)]
            try:
                with self._folder(root, folder) as here, os.scandir(here) as entries:
                    for entry in entries:
                        left[0] -= 1
                        if left[0] < 0:
                            break
                        if not _is_text(entry.name):
                            continue  # nobody tells of a change there, and no host was seen to write such a name
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        fitting = {len(each) == 1 for each in patterns if fnmatchcase(entry.name, each[0])}
                        if False in fitting and entry.is_dir(follow_symlinks=False):
                            names.append(name)
                        status = _status(entry) if take is not None and True in fitting else None
                        if take and status and stat.S_ISREG(status.st_mode) and status.st_uid == mine:
                            take(name, status)
                    yield folder, os.fstat(here)
            except OSError:
                continue  # it went away, or is a link or another's

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            with beneath.folder(self._root) as root:
                if os.fstat(root).st_uid != os.geteuid():
                    raise Gone
                yield root
        except OSError:
            raise Gone from None

    @contextmanager
    def _folder(self, root: int, name: str) -> Iterator[int]:
        if not name:
            yield root
            return
        with beneath.parent_of(root, os.fsencode(name)) as (parent, last):
            here = os.open(last, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            yield here
        finally:
            os.close(here)

    def _whole(self, folder: str) -> str:
        return f"{self._root}/{folder}" if folder else self._root

    def _relative(self, path: str) -> str | None:
        start = self._root.rstrip("/") + "/"
        return path.removeprefix(start) if path.startswith(start) else None

    def _may_lead(self, name: str) -> bool:
        """Whether a folder of this path can hold records."""
        parts = name.split("/")
        return any(len(parts) < len(pattern) and _fit(parts, pattern) for pattern in self._patterns)

    def _is_record(self, name: str) -> bool:
        parts = name.split("/")
        return any(len(parts) == len(pattern) and _fit(parts, pattern) for pattern in self._patterns)

    # -- reading -----------------------------------------------------------------------------------------------

    def note(self, changes: Iterable[Change]) -> None:
        """These files changed while nothing was waited for: what they hold now is not looked at. Raises `Gone`."""
        with self._opened() as root:
            self._same_folder(root)
            for name in self._named(changes):
                with self._reading(root, name, added=False, lost=[]) as (file, _, size):
                    if file is not None:
                        file.begins_at(size)
                        file.closed("rotated")

    def look(self, changes: Iterable[Change], answers: Sequence[Answer]) -> list[Found]:
        """What was appended to the files that changed, and to those in which something stands. Raises `Gone`, after
        which nothing stands anywhere."""
        named = self._named(changes)
        for name, file in self._open.items():
            if name not in named and file.reader is not None and file.reader.is_waiting:
                named[name] = False
        found: list[Found] = []
        self._left = MAX_LOOK
        with self._opened() as root:
            self._same_folder(root)
            for name, added in named.items():
                found += self._look(root, name, added, answers)
        return found

    def has(self, answer: Answer) -> bool:
        """Whether the result of this answer stands in some file."""
        return any(file.reader is not None and file.reader.has(answer) for file in self._open.values())

    def lost(self, reason: Reason) -> list[Found]:
        """Nothing can be read any more: what stands in the files stays without proof."""
        found = [each for file in self._open.values() for each in file.closed(reason)]
        self._open.clear()
        self._files.clear()
        return found

    def rest(self) -> None:
        """Nothing is waited for: forget what stands in the files."""
        for file in self._open.values():
            file.reader = None
        self._open.clear()

    def _same_folder(self, root: int) -> None:
        if _inode(os.fstat(root)) != self._inode:
            raise Gone

    def _named(self, changes: Iterable[Change]) -> dict[str, bool]:
        """The records among these paths, and whether each came into being."""
        named: dict[str, bool] = {}
        for change in changes:
            name = self._relative(change.path)
            if name is None:
                continue
            if self._record.form == "rows":
                name = name.removesuffix("-wal")  # what a commit is written to first
            if self._is_record(name):
                named[name] = named.get(name, False) or change.added
        return named

    def _look(self, root: int, name: str, added: bool, answers: Sequence[Answer]) -> list[Found]:
        found: list[Found] = []
        with self._reading(root, name, added=added, lost=found) as (file, descriptor, size):
            if file is None:
                return found
            reader = file.reader
            if reader is None:
                reader = file.reader = self._reader(name)
                self._open[name] = file
            if len(self._open) > MAX_OPEN:
                oldest = next(iter(self._open))
                found += self._open.pop(oldest).closed("too_many")
            if isinstance(reader, Judge):
                found += self._read(file, reader, descriptor, size, answers)
            else:
                found += reader.look(descriptor, size, answers)
        return found

    def _reader(self, name: str) -> Judge | Snapshots:
        match self._record.form:
            case "lines":
                return Judge(self._record, self._evidence)
            case "rows":
                from parlerd.sight.rows import Database  # SQLite is imported where a host has a database

                return Snapshots(self._record, self._evidence, Database(self._record, self._whole(name)))
            case "document":
                return Snapshots(self._record, self._evidence, Document(self._record, partial(self._beside, name)))

    def _beside(self, name: str) -> bytes | None:
        """The summary that stands beside a document. Raises `Unreadable`."""
        summary = self._record.summary
        if summary is None:
            return None
        beside = name.removesuffix(summary.of) + summary.file
        try:
            with beneath.folder(self._root) as root:
                descriptor = beneath.open_regular(root, os.fsencode(beside))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise Unreadable("record_unreadable") from None
        try:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_size > MAX_DOCUMENT:
                raise Unreadable("record_unreadable")
            return os.pread(descriptor, MAX_DOCUMENT, 0)
        except OSError:
            raise Unreadable("record_unreadable") from None
        finally:
            os.close(descriptor)

    @contextmanager
    def _reading(
        self, root: int, name: str, *, added: bool, lost: list[Found]
    ) -> Iterator[tuple[_File | None, int, int]]:
        """A file that is open for reading, its descriptor and its length; `None` for one that is not to be read."""
        known = self._files.get(name)
        try:
            descriptor = beneath.open_regular(root, os.fsencode(name))
        except (OSError, ValueError):
            self._forget(name, lost)
            yield None, -1, 0
            return
        try:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid():
                self._forget(name, lost)
                yield None, -1, 0
                return
            is_lines = self._record.form == "lines"
            replaced = known is not None and known.inode != _inode(status)
            if known is not None and is_lines and (replaced or status.st_size < known.scanned):
                self._forget(name, lost)
                known = _File(status, status.st_size)
            elif known is None:
                known = _File(status, 0 if added else status.st_size)
            known.changed = _changed(status)
            self._files[name] = known
            yield known, descriptor, status.st_size
        finally:
            os.close(descriptor)

    def _forget(self, name: str, lost: list[Found]) -> None:
        """The file is not there any more, or not to be read."""
        self._open.pop(name, None)
        file = self._files.pop(name, None)
        if file is not None:
            lost += file.closed("rotated")

    def _read(self, file: _File, judge: Judge, descriptor: int, size: int, answers: Sequence[Answer]) -> list[Found]:
        """Read whole lines from where the last look ended to the last end of a line in the first `size` bytes."""
        self._left -= max(0, size - file.scanned)
        if self._left < 0:
            self._left += size - file.scanned  # what is not read is left to the next file
            file.begins_at(size)
            file.skipping = True
            return judge.unreadable("too_long")
        found: list[Found] = []
        if file.seal is not None and file.seal != _sealed(_read_back(descriptor, file.offset, file.seal[0])):
            file.begins_at(size)
            return judge.unreadable("rotated")
        # What comes meanwhile is for the next look: whoever writes as fast as this reads would keep it here for ever.
        while file.scanned < size:
            try:
                data = os.pread(descriptor, min(CHUNK, size - file.scanned), file.scanned)
                end = data.rfind(b"\n") + 1
                begun = os.pread(descriptor, file.scanned - file.offset, file.offset) if end else b""
            except OSError:
                return found + judge.unreadable("record_unreadable")
            if not data:
                return found
            if end:
                block = begun + data[:end]
                file.scanned += end
                file.offset = file.scanned
                file.seal = _sealed(block[-SEAL:])
                if file.skipping:
                    file.skipping = False
                    block = block[block.index(b"\n") + 1 :]
                found += self._judged(judge, block, answers)
                continue
            file.scanned += len(data)
            if file.skipping:
                file.offset = file.scanned
                file.seal = None
            elif file.scanned - file.offset > MAX_LINE:
                file.offset = file.scanned
                file.seal = None
                file.skipping = True
                found += judge.unreadable("too_long")
        return found

    def _judged(self, judge: Judge, block: bytes, answers: Sequence[Answer]) -> list[Found]:
        if not judge.matters(block, answers):
            return []
        return [each for line in block.split(b"\n") for each in judge.line(line, answers)]


def _sealed(data: bytes) -> tuple[int, bytes]:
    return len(data), sha256(data).digest()


def _read_back(descriptor: int, end: int, size: int) -> bytes:
    """The bytes before a place; none where they cannot be read."""
    try:
        return os.pread(descriptor, size, end - size)
    except OSError:
        return b""


def _fit(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the first names of a path fit those of a pattern."""
    return all(fnmatchcase(part, wanted) for part, wanted in zip(parts, pattern, strict=False))


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8, as every name has to be that the system is asked to watch through the library."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _changed(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None
