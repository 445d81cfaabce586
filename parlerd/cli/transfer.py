"""Files to the daemon and back: this program opens a file with what it may do, and hands it over.

Not here: which file, and what becomes of it (`files`). Above: `files`. Below: `context`. Invariants: a file has its
name in the target folder only once its digest was compared; a target that exists is replaced only where that was asked
for, and never by way of a link.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from parlerd.cli.render import size_of
from parlerd.core import searching
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.searching import Searched
from parlerd.operations import types as t

if TYPE_CHECKING:
    from parlerd.cli.context import Context
    from parlerd.cli.output import Progress

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Uploaded(NamedTuple):
    """What is at the room's home now."""

    blob: str
    size: int
    room: str


def upload(ctx: Context, path: str, room: str | None, shown: str) -> Uploaded:
    """Bring a file to the home of a room. `shown` is what the person calls it. Raises `ParlerError`: `file_refused` for
    what is no regular file, and what the home of the room refuses."""
    with _opened(path) as file, ctx.out.progress(f"Sharing {shown}") as progress:

        def is_whole(at: t.BlobPut) -> bool:
            _tell(progress, f"Sharing {shown}", at.offset, at.size)
            return bool(at.blob)

        made = ctx.carry(
            "blob.put", lambda number: t.PutBlob(file=number, room=room), file.fileno(), t.BlobPut, is_whole
        )
    return Uploaded(made.blob, made.size, made.room)


def searched(path: str) -> Searched:
    """What is recognised as a secret in a file. Raises `ParlerError(file_refused)`."""
    search = searching.Search(searching.in_time(time.monotonic))
    with _opened(path) as file:
        search.file(os.path.basename(path), iter(lambda: file.read(searching.PIECE), b""))
    return search.result()


def download(ctx: Context, found: t.FoundBlob, file: IO[bytes]) -> None:
    """Write what a message brings to `file`, which may hold its beginning already. Raises `ParlerError`:
    `blob_mismatch`, and then the file is empty."""
    brings = found.brings
    file.flush()
    with ctx.out.progress("Fetching it") as progress:

        def is_whole(at: t.BlobAt) -> bool:
            _tell(progress, "Fetching it", at.offset, brings.size)
            return at.offset >= brings.size

        def params(number: int) -> t.GetBlob:
            return t.GetBlob(file=number, room=found.room, blob=brings.blob, size=brings.size)

        try:
            ctx.carry("blob.get", params, file.fileno(), t.BlobAt, is_whole)
        except ParlerError as error:
            if error.code == "blob_mismatch":
                file.truncate(0)
            raise


def download_to(ctx: Context, found: t.FoundBlob, target: str, *, force: bool) -> None:
    """Write what a message brings to a file. Raises `Refused(target_exists)`, and `ParlerError(file_refused)`."""
    folder, blob = os.path.dirname(target) or ".", found.brings.blob
    if not force and os.path.lexists(target):
        raise Refused("target_exists", f"{target} is there already.", target=target)
    part = os.path.join(folder, f".{blob[:16]}.parler-part")
    try:
        with open(os.open(part, _NEW, 0o666), "r+b") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_nlink != 1:
                raise ParlerError("file_refused", f"{part} is in the way, and is no file of yours.")
            if about.st_size > found.brings.size:
                file.truncate()
            try:
                download(ctx, found, file)
            except ParlerError as error:
                if error.code == "blob_mismatch":
                    os.unlink(part)
                raise
            os.fsync(file.fileno())
        if force:
            os.replace(part, target)
        else:
            _put(part, target)
    except OSError as error:
        raise ParlerError("file_refused", f"{target} cannot be written: {error.strerror}.") from error


def _put(part: str, target: str) -> None:
    """Give a finished file its name, unless the name was taken meanwhile."""
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        raise Refused("target_exists", f"{target} is there already.", target=target) from None
    except OSError:
        # This file system has no second names. Between the look and the rename another program may take the name.
        if os.path.lexists(target):
            raise Refused("target_exists", f"{target} is there already.", target=target) from None
        os.rename(part, target)
        return
    with suppress(OSError):
        os.unlink(part)


def _opened(path: str) -> IO[bytes]:
    try:
        descriptor = os.open(path, _READ)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ParlerError("file_refused", f"{path} is no regular file.")
        return open(descriptor, "rb", buffering=0)
    except OSError as error:
        raise ParlerError("file_refused", f"{path} cannot be read: {error.strerror}.") from error


def _tell(progress: Progress, doing: str, at: int, size: int) -> None:
    progress.update(f"{doing}: {size_of(at)} of {size_of(size)}")
