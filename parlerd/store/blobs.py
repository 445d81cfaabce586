"""Where the bytes of files are kept: each blob under the digest of its bytes, and whole or not at all.

    begin --> write, write, ... --> finish: the digest is compared, the file takes its place
                                `-> settle: the digest says which place

An upload belongs to its owner and goes on where it stopped, also after a restart. Whoever finished one *holds* the
blob: a note of that stands beside it until it is forgotten. Two owners who bring the same bytes each bring all of them,
so that nobody learns from an answer what another has; only the bytes on the disk are the same.

    <root>/ab/abcd...                a blob, whole and compared
    <root>/ab/abcd....<owner>        its owner holds it since the file's time
    <root>/ab/abcd....<owner>.part   an upload

Not here: who may read a blob, and which one a message still brings (`engine.shelf`). Above: the engine, by way of a
thread. Below: the disk. Invariants: no blob is there whose bytes do not have its digest; every file is 0600 in folders
that are 0700; every name is made of a digest and of an id whose form was checked.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import AgentId, BlobId, Millis

COUNTED_FOR_S: Final = 30.0
"""How old a count of what is used may be, where other processes keep files in the same folder."""
SHELVES: Final = tuple(f"{number:02x}" for number in range(256))
"""The folders, by the first two digits of their blobs."""
_OPEN: Final = 16
"""Uploads whose running digest is kept in memory; any other is read again where it goes on."""
_PIECE: Final = 1024 * 1024
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = re.compile(r"([0-9a-f]{64})(?:\.([A-Z2-7]{1,64})(\.part)?)?\Z")


class Blobs(Protocol):
    """A store of blobs. Every method may wait for a disk, and raises `StoreError` where the disk does not do it."""

    def begin(self, owner: AgentId, blob: BlobId, size: int) -> int:
        """How many bytes of this upload are here already, from the first on: `size` where the owner holds the blob."""
        ...

    def write(self, owner: AgentId, blob: BlobId, at: int, data: bytes, now: Millis) -> int:
        """Go on with an upload; how many bytes are here now. Bytes that are here already are not written again. Raises
        `Refused(upload_unfinished)` where bytes before `at` are missing, with `offset` in the details."""
        ...

    def finish(self, owner: AgentId, blob: BlobId, size: int, now: Millis) -> None:
        """Compare the upload with its digest and let it be the blob, which the owner holds since `now`. Done again it
        changes nothing. Raises `Refused`: `upload_unfinished`, or `blob_mismatch`, after which the upload is gone."""
        ...

    def settle(self, owner: AgentId, name: BlobId, size: int, now: Millis) -> BlobId:
        """The same for an upload that is called by another name than its digest: let it be the blob that it is, and say
        which. The name must be nobody's digest. Raises `Refused(upload_unfinished)`."""
        ...

    def forget(self, owner: AgentId, blob: BlobId) -> None:
        """Take an upload away, if there is one. A blob stays."""
        ...

    def holds(self, owner: AgentId, blob: BlobId) -> bool:
        """Whether the owner finished an upload of this blob, or was let `hold` it, and both are still here."""
        ...

    def hold(self, owner: AgentId, blob: BlobId, now: Millis) -> None:
        """Let the owner hold a blob that is here, since `now`."""
        ...

    def read(self, blob: BlobId, at: int, length: int) -> bytes:
        """Some bytes of a blob. Raises `Refused(no_such_blob)` where it is not here."""
        ...

    def size(self, blob: BlobId) -> int:
        """How many bytes a blob has; 0 where it is not here."""
        ...

    def used(self) -> int:
        """Bytes of all blobs and uploads."""
        ...

    def idle(self, shelf: str, before: Millis) -> list[BlobId]:
        """The blobs of one of `SHELVES` that nobody holds since `before` or later. What was held for longer, and
        uploads that nobody went on with since then, are forgotten."""
        ...

    def drop(self, blob: BlobId, before: Millis) -> bool:
        """Take a blob away unless somebody holds it since `before` or later; whether it is gone."""
        ...


class DiskBlobs:
    """Blobs in files below a folder of a home. For one caller at a time. `shared` says that other processes keep files
    there, too: then what is used is counted anew after `COUNTED_FOR_S`, on the clock `now` in seconds."""

    def __init__(self, root: Path, *, shared: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._counted_for_s = COUNTED_FOR_S if shared else math.inf
        self._now = now
        self._counted_at = -math.inf
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The digests of uploads under way, as far as they were written: so a finished one need not be read again.
        self._running: Bounded[Path, tuple[int, hashlib._Hash]] = Bounded(_OPEN)
        # Bytes of all files; None until they were counted.
        self._used: int | None = None

    def begin(self, owner: AgentId, blob: BlobId, size: int) -> int:
        with _coded():
            if self.holds(owner, blob) and self._place(blob).stat().st_size == size:
                return size
            here = _size(self._upload(owner, blob))
            if here > size:
                # It was begun as another file: its bytes cannot have the digest.
                self._forget_upload(owner, blob)
                return 0
            return here

    def write(self, owner: AgentId, blob: BlobId, at: int, data: bytes, now: Millis) -> int:
        path = self._upload(owner, blob)
        with _coded():
            here, digest = self._digest_of(path)
            if at > here:
                raise Refused("upload_unfinished", offset=here)
            new = data[here - at :]
            if new:
                used = self.used()  # counted before it grows
                descriptor = self._open(path)
                try:
                    _write_all(descriptor, new, here)
                    _date(descriptor, now)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(descriptor, here)
                    raise
                finally:
                    os.close(descriptor)
                digest.update(new)
                self._running[path] = (here + len(new), digest)
                self._used = used + len(new)
            return here + len(new)

    def finish(self, owner: AgentId, blob: BlobId, size: int, now: Millis) -> None:
        path, place = self._upload(owner, blob), self._place(blob)
        with _coded():
            here, digest = self._digest_of(path)
            if here == 0 and size and self.holds(owner, blob) and place.stat().st_size == size:
                return
            if here != size:
                raise Refused("upload_unfinished", offset=here)
            if digest.hexdigest() != blob:
                self._forget_upload(owner, blob)
                raise Refused("blob_mismatch")
            self._put(owner, path, blob, now)

    def settle(self, owner: AgentId, name: BlobId, size: int, now: Millis) -> BlobId:
        path = self._upload(owner, name)
        with _coded():
            here, digest = self._digest_of(path)
            if here != size:
                raise Refused("upload_unfinished", offset=here)
            blob = BlobId(digest.hexdigest())
            self._put(owner, path, blob, now)
            return blob

    def forget(self, owner: AgentId, blob: BlobId) -> None:
        with _coded():
            self._forget_upload(owner, blob)

    def _put(self, owner: AgentId, upload: Path, blob: BlobId, now: Millis) -> None:
        """Let a whole upload be the blob that it is."""
        descriptor = self._open(upload)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        place = self._place(blob)
        before, used = _size(place), self.used()
        self._note(owner, blob, now)
        os.replace(upload, place)
        _sync(place.parent)
        self._running.pop(upload, None)
        self._used = used - before

    def holds(self, owner: AgentId, blob: BlobId) -> bool:
        return self._held(owner, blob).exists() and self._place(blob).exists()

    def hold(self, owner: AgentId, blob: BlobId, now: Millis) -> None:
        with _coded():
            if not self._place(blob).exists():
                raise Refused("no_such_blob")
            self._note(owner, blob, now)

    def read(self, blob: BlobId, at: int, length: int) -> bytes:
        with _coded():
            try:
                descriptor = os.open(self._place(blob), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                raise Refused("no_such_blob") from None
            try:
                return os.pread(descriptor, length, at)
            finally:
                os.close(descriptor)

    def size(self, blob: BlobId) -> int:
        with _coded():
            return _size(self._place(blob))

    def used(self) -> int:
        if self._used is None or self._now() - self._counted_at >= self._counted_for_s:
            self._counted_at = self._now()
            with _coded():
                self._used = sum(_size(Path(entry.path)) for shelf in SHELVES for entry in self._entries(shelf))
        return self._used

    def idle(self, shelf: str, before: Millis) -> list[BlobId]:
        found: set[BlobId] = set()
        held: set[BlobId] = set()
        with _coded():
            for entry in self._entries(shelf):
                match = _FILE.match(entry.name)
                assert match is not None
                blob, owner, part = BlobId(match[1]), match[2], match[3]
                if owner is None:
                    found.add(blob)
                elif entry.stat().st_mtime_ns // 1_000_000 >= before:
                    held.add(blob)
                elif part:
                    self._forget_upload(AgentId(owner), blob)
                else:
                    os.unlink(entry.path)
        return sorted(found - held)

    def drop(self, blob: BlobId, before: Millis) -> bool:
        with _coded():
            for entry in self._entries(blob[:2]):
                is_note = entry.name.startswith(f"{blob}.") and not entry.name.endswith(".part")
                if is_note and entry.stat().st_mtime_ns // 1_000_000 >= before:
                    return False
            place = self._place(blob)
            size, used = _size(place), self.used()
            place.unlink(missing_ok=True)
            self._used = used - size
            return True

    # -- files ---------------------------------------------------------------------------------------------

    def _place(self, blob: BlobId) -> Path:
        return self._root / blob[:2] / blob

    def _held(self, owner: AgentId, blob: BlobId) -> Path:
        return self._root / blob[:2] / f"{blob}.{owner}"

    def _upload(self, owner: AgentId, blob: BlobId) -> Path:
        return self._root / blob[:2] / f"{blob}.{owner}.part"

    def _entries(self, shelf: str) -> list[os.DirEntry[str]]:
        """Our own files of a folder. Whatever else somebody put there is left alone."""
        with suppress(FileNotFoundError), os.scandir(self._root / shelf) as entries:
            return [entry for entry in entries if _FILE.match(entry.name) and entry.is_file(follow_symlinks=False)]
        return []

    def _digest_of(self, path: Path) -> tuple[int, hashlib._Hash]:
        """How many bytes of an upload are here, and their digest."""
        size = _size(path)
        known = self._running.get(path)
        if known is not None and known[0] == size:
            return known
        digest = hashlib.sha256()
        if size:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
        self._running[path] = (size, digest)
        return size, digest

    def _forget_upload(self, owner: AgentId, blob: BlobId) -> None:
        path = self._upload(owner, blob)
        used = self.used() - _size(path)
        path.unlink(missing_ok=True)
        self._running.pop(path, None)
        self._used = used

    def _note(self, owner: AgentId, blob: BlobId, now: Millis) -> None:
        descriptor = self._open(self._held(owner, blob))
        try:
            _date(descriptor, now)
        finally:
            os.close(descriptor)

    def _open(self, path: Path) -> int:
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        return os.open(path, _NEW, 0o600)


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _date(descriptor: int, now: Millis) -> None:
    """Give a file the time by the home's clock, by which it is forgotten."""
    os.utime(descriptor, ns=(now * 1_000_000, now * 1_000_000))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _coded() -> Iterator[None]:
    """What the disk does not do, as an error with a code."""
    try:
        yield
    except OSError as error:
        codes = {errno.ENOSPC: "store_full", errno.EDQUOT: "store_full", errno.EROFS: "store_readonly"}
        raise StoreError(codes.get(error.errno or 0, "store_failed")) from error
