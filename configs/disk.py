"""The operating system's side of changing a file: each call does one thing to the disk.

Not here: the order of these calls, and what is refused (`patch`, `guard`). A test puts another `Disk` in the place of
the real one, which dies, fails, or lets somebody else write at any of these calls. Invariant: no call here follows a
symlink, or replaces a file that it was not told to replace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NO_REPLACE: Final = 1
_EXCHANGE: Final = 2
"""Flags of renameat2. Source: linux/fs.h."""
_AT_FDCWD: Final = -100
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a kernel or file system without such a rename answers."""
_NO_LINK: Final = _UNSUPPORTED | {errno.EPERM, errno.EMLINK}


@dataclass(frozen=True, slots=True)
class Content:
    """What a file was when it was read: its bytes, and what the system says of it."""

    data: bytes
    about: os.stat_result


class Disk:
    """The real disk. Every method may raise `OSError`."""

    def uid(self) -> int:
        """Whose files this program may change."""
        return os.geteuid()

    def now(self) -> float:
        """The wall clock, in seconds: what the times of files are measured by."""
        return time.time()

    def pause(self, seconds: float) -> None:
        """Let others go on for a moment."""
        time.sleep(seconds)

    # -- looking -----------------------------------------------------------------------------------------------

    def about(self, path: Path) -> os.stat_result | None:
        """What is at that path, not what a link there leads to; `None` when there is nothing."""
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def may_write(self, path: Path) -> bool:
        """Whether the system lets this user write there: a read-only mount and an immutable file do not."""
        return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)

    def read(self, path: Path, limit: int) -> Content | None:
        """A regular file's content; `None` when there is nothing. `OSError(EFBIG)` for one above `limit` bytes."""
        try:
            # O_NONBLOCK, because opening a pipe that stands in the place of the file would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as stream:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", str(path))
            data = stream.read(limit + 1)
            if len(data) > limit:
                raise OSError(errno.EFBIG, "File too large", str(path))
            return Content(data, about)

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self, path: Path, mode: int) -> int:
        """A new, empty file, open for writing; `mode` is masked by the umask."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        """All of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def dress(self, descriptor: int, like: Path, about: os.stat_result) -> None:
        """Give a new file the group, mode and extended attributes, access lists too, of the one it stands in for."""
        if os.fstat(descriptor).st_gid != about.st_gid:
            os.fchown(descriptor, -1, about.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(about.st_mode))
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                for name in os.listxattr(like, follow_symlinks=False):
                    # An attribute that only the system may set fails alone, and the system sets it itself.
                    with contextlib.suppress(OSError):
                        os.setxattr(descriptor, name, os.getxattr(like, name, follow_symlinks=False))

    def sync(self, descriptor: int) -> None:
        """Make what was written outlive a power cut."""
        os.fsync(descriptor)

    def exchange(self, one: Path, other: Path) -> bool:
        """Swap two names in one step; False when this system cannot. Raises `FileNotFoundError` when one is missing."""
        return _renameat2(one, other, _EXCHANGE)

    def move(self, source: Path, target: Path) -> None:
        """Rename to a name that is free. Raises `FileExistsError` when it is not."""
        if _renameat2(source, target, _NO_REPLACE):
            return
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            # A file system with neither such a rename nor hard links leaves a race: between this look and the rename
            # somebody may make the target.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "File exists", str(target)) from error
            os.rename(source, target)
        else:
            os.unlink(source)

    def replace(self, source: Path, target: Path) -> None:
        """Rename over what is there."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file; nothing happens when there is none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def make_folder(self, path: Path) -> None:
        """A private folder. Raises `FileExistsError`."""
        os.mkdir(path, 0o700)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder that is empty; nothing happens when it is not, or is gone."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def sync_folder(self, path: Path) -> None:
        """Make names outlive a power cut. Not every file system can, and then nothing happens."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


DISK: Final = Disk()
LOOK_AGAIN_S: Final = 0.05
"""Between two looks at a lock that another program holds."""


def make_private(root: Path, *below: str) -> Path:
    """The folder below `root`, made where it is missing, like `root` itself; what is made, nobody else can enter."""
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = root
    for name in ("", *below):
        folder = folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float, disk: Disk = DISK) -> Iterator[None]:
    """Hold the lock of that file. Raises `TimeoutError` when somebody else holds it for `wait_s` seconds."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        waited = 0.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited >= wait_s:
                    raise TimeoutError(errno.ETIMEDOUT, "Locked by another program", str(path)) from None
            disk.pause(LOOK_AGAIN_S)
            waited += LOOK_AGAIN_S
        yield
    finally:
        os.close(descriptor)


def _renameat2(one: Path, other: Path, flags: int) -> bool:
    """Whether the rename was done; False when the system or the file system has no such call."""
    if sys.platform != "linux":
        return False
    # Imported here, because the import takes as long as all that `parler connect --list` does.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        call = libc.renameat2
    except AttributeError:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(flags)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
