"""Files that the other side of a connection opened, and handed over to be read or written here.

    the door --> Handed.add --> Handed.using(number) --> a handler

Whoever hands a file over could open it, so nothing is read or written that this process could not. Otherwise nothing is
believed of the file: only a regular one is taken, it may change at any time, and its end is where the system says so.

Not here: how a descriptor comes over a socket (the door), and what is done with the file (`carrying`). Above: the
doors, and `files`. Below: the operating system. Invariant: each descriptor is closed once, at the latest when the
connection ends.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from parlerd.core.errors import ParlerError, Refused

if TYPE_CHECKING:
    from parlerd.engine.carrying import Download, Upload

MAX_OPEN: Final = 4
"""Files that one connection may have handed over and open at once. A command needs one."""
_PIECE: Final = 1024 * 1024


class OpenFile:
    """A file that is open here, and that is read and written by its place. Close it, or use it as a context manager.
    What reads or writes may wait for a disk, and raises `ParlerError(file_refused)` where the system does not do it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> int:
        """How many bytes there are now. Raises `ParlerError(file_refused)` too for what is no regular file."""
        try:
            about = os.fstat(self._descriptor)
        except OSError as error:
            raise _refused("read", error) from None
        if not stat.S_ISREG(about.st_mode):
            raise ParlerError("file_refused", "What was handed over is no regular file.")
        return about.st_size

    def digest(self, size: int) -> hashlib._Hash:
        """The digest of the first bytes, as far as there are so many."""
        digest, at = hashlib.sha256(), 0
        while piece := self.read(at, min(_PIECE, size - at)):
            digest.update(piece)
            at += len(piece)
        return digest

    def read(self, at: int, length: int) -> bytes:
        """The next bytes from there on; empty at the end."""
        try:
            return os.pread(self._descriptor, length, at)
        except OSError as error:
            raise _refused("read", error) from None

    def write(self, at: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise _refused("written", error) from None

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HandedFile(OpenFile):
    """One file that was handed over, with what goes on with it from one call to the next."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.carried: Upload | Download | None = None
        """What takes the file from here, or to here; None before the first call that names the file."""
        self.is_done = False
        """Whether no further call needs the file."""


class Handed:
    """The files of one connection, by their numbers: the first that is handed over is 0."""

    def __init__(self) -> None:
        # Those that no call is at work on.
        self._waiting: dict[int, HandedFile] = {}
        # How many are open, those that a call is at work on among them.
        self._open = 0
        # The number of the next.
        self._next = 0
        # Whether the connection ended.
        self._closed = False

    def add(self, descriptor: int) -> int:
        """Take a descriptor, which is closed here from now on; the number of its file. Raises `ParlerError(bad_frame)`
        beyond `MAX_OPEN`."""
        if self._open >= MAX_OPEN or self._closed:
            os.close(descriptor)
            raise ParlerError("bad_frame", f"More than {MAX_OPEN} files were handed over.")
        number, self._next = self._next, self._next + 1
        self._waiting[number] = HandedFile(descriptor)
        self._open += 1
        return number

    @contextmanager
    def using(self, number: int) -> Iterator[HandedFile]:
        """One of the files, for one call at a time. It is closed where the call fails or says that it is done."""
        file = self._waiting.pop(number, None)
        if file is None:
            raise Refused("invalid_param", "No file of this number was handed over on this connection.", param="file")
        goes_on = False
        try:
            yield file
            goes_on = not (file.is_done or self._closed)
        finally:
            if goes_on:
                self._waiting[number] = file
            else:
                self._close(file)

    def close(self) -> None:
        """The connection ended."""
        self._closed = True
        while self._waiting:
            self._close(self._waiting.popitem()[1])

    def _close(self, file: HandedFile) -> None:
        self._open -= 1
        file.close()


def _refused(what: str, error: OSError) -> ParlerError:
    return ParlerError("file_refused", f"The file cannot be {what}: {error.strerror}.")
