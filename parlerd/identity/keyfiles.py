"""Files that hold a key or a secret: private, whole, and made once.

A file that other users can read is refused, because its key may have been read. Not here: what the keys are for. Above:
`keyring`, `relay_keys`, `home_secret`. Below: the file system. Invariant: every file is 0600, is written whole or not
at all and never replaced, and its content is in no error.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from parlerd.core.errors import ParlerError


def open_directory(directory: Path) -> list[str]:
    """The names of the files in a private directory, sorted; the directory is made (0700) if it is missing. Raises
    `ParlerError(home_not_writable)`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sorted(os.listdir(directory))
    except OSError as error:
        raise not_writable(directory, error) from error


def read_private(path: Path) -> bytes:
    """The first 4 KiB of a private file. Raises `FileNotFoundError`, and `ParlerError(home_unsafe)` for a file that
    others may read."""
    try:
        # With O_NOFOLLOW and fstat the file that is checked is the file that is read. With O_NONBLOCK a pipe in the
        # place of the file does not make this process wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ParlerError("home_unsafe", f"The key file {path} cannot be read: {error.strerror}.") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ParlerError(
                "home_unsafe",
                f"The key file {path} can be read by others, so its key may be known to them.",
                hint=f"If it was only ever yours, run: chmod 600 {path}. Otherwise move it away; a new key is made.",
                path=str(path),
            )
        return file.read(4096)


def write_private(path: Path, data: bytes) -> None:
    """Put `data` at `path`, 0600 and on the disk, whole or not at all. Raises `FileExistsError` rather than replace."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link fails where a rename would replace: a key that another process made meanwhile must survive.
            os.link(temporary, path, follow_symlinks=False)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise
    except OSError as error:
        raise not_writable(path.parent, error) from error


def damaged(path: Path) -> ParlerError:
    """The error for a key file whose content is not what its place says."""
    return ParlerError(
        "home_unsafe",
        f"The key file {path} does not hold the key it should.",
        hint="Restore it from a copy, or move it away.",
        path=str(path),
    )


def not_writable(path: Path, error: OSError) -> ParlerError:
    """The error for a directory in which no key can be kept."""
    return ParlerError("home_not_writable", f"{path} cannot be used: {error.strerror}.", path=str(path))
