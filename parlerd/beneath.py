"""Opens files below one folder and nowhere else, whatever links stand on the way.

A path is walked one name at a time, from a descriptor of the folder, and no step follows a link. So a link that
somebody puts in place between a look and its use leads nowhere. This does what `openat2(RESOLVE_BENEATH |
RESOLVE_NO_SYMLINKS)` does, on every system that Python runs on.

Not here: which files may be read or written (whoever calls knows the reason). Above: everybody who opens a file whose
path or whose neighbourhood another party chose. Below: nothing of Parler. Invariant: what is opened lies below the
folder, and no link was followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def names_of(path: bytes) -> list[bytes]:
    """The names that a relative path is made of. Raises `ValueError` for a path that is absolute, is empty, or leaves
    its folder."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if not names or path.startswith(b"/") or b".." in names or b"\0" in path:
        raise ValueError("not a path below a folder")
    return names


@contextmanager
def folder(path: str | bytes | os.PathLike[str]) -> Iterator[int]:
    """A descriptor of a folder that is trusted to be what it is; the last name of its path is no link."""
    descriptor = os.open(path, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def parent_of(root: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The folder that holds `path` below `root`, and the last name. Raises `OSError` where a part of the way is a link
    or no folder, and `ValueError` as `names_of` does."""
    *folders, last = names_of(path)
    here = os.dup(root)
    try:
        for name in folders:
            inner = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        yield here, last
    finally:
        os.close(here)


def open_regular(root: int, path: bytes) -> int:
    """A descriptor for reading the regular file `path` below `root`. Raises `OSError`, also for anything that is no
    regular file: a pipe would hold its reader up for ever."""
    with parent_of(root, path) as (here, name):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{os.fsdecode(path)!r} is no regular file")
    return descriptor
