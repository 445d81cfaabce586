"""The socket of one home: one daemon holds it, only its user reaches it, and a dead daemon's leftovers are cleared.

Not here: what is said on it (`server`). Above: `parlerd.daemon`. Below: `parlerd.paths`, which has made and checked
the directories. Invariants: the lock is held from before the socket exists until after it is gone, and whoever removes
its file lets no second daemon in; the endpoint file names a socket that was listening when it was written; nothing is
removed that another daemon put there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from parlerd.core.errors import ParlerError
from parlerd.paths import Home

_BACKLOG = 128
"""Connections that wait to be accepted. Many windows may reconnect at once after a restart."""
_PROBE_SECONDS = 2.0
"""How long a socket that is already there has to accept a connection before it counts as answered by someone busy."""


@contextlib.contextmanager
def listening(home: Home, *, is_locked: bool = False) -> Iterator[socket.socket]:
    """A listening, non-blocking socket at `home.socket`, as long as the block lasts. `paths.prepare(home)` comes first.

    `is_locked`: the caller is inside `locked(home)`; otherwise the lock is taken here.

    Raises `ParlerError`: `already_running` when another daemon serves this home, `home_unsafe` when something that is
    not a socket of this user is in its place, `home_not_writable` for what the file system refuses.
    """
    with contextlib.nullcontext() if is_locked else locked(home), contextlib.ExitStack() as stack:
        try:
            _clear_stale(home.socket)
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.setblocking(False)
            # Its directory is 0700, so nobody can reach it between these two lines.
            sock.bind(os.fspath(home.socket))
            os.chmod(home.socket, 0o600)
            stack.callback(_remove_own, home.socket, os.lstat(home.socket).st_ino)
            sock.listen(_BACKLOG)
            _write_atomically(home.endpoint, f"{home.socket}\n")
        except OSError as error:
            raise ParlerError(
                "home_not_writable", f"{home.socket} cannot be used: {error.strerror or error}.", path=str(home.socket)
            ) from error
        stack.callback(_remove_endpoint, home)
        yield sock


def standing(home: Home) -> tuple[tuple[int, int] | None, ...]:
    """Which files are the socket, the lock and the endpoint now; None for one that is not there. A daemon whose files
    are others than it made is found by nobody, and must not go on."""
    found: list[tuple[int, int] | None] = []
    for path in (home.socket, home.lock, home.endpoint):
        try:
            about = os.lstat(path)
        except OSError:
            found.append(None)
        else:
            found.append((about.st_dev, about.st_ino))
    return tuple(found)


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the lock. The kernel gives it back when the process ends, however it ends, so the file itself stays.

    Raises `ParlerError`: `already_running` when another daemon holds it, `home_unsafe`, `home_not_writable`.
    """
    with _directory_locked(home.root), _file_locked(home.lock):
        yield


@contextlib.contextmanager
def _directory_locked(path: Path) -> Iterator[None]:
    """Hold the home's directory itself: the lock's file can be removed while its daemon runs, and the next daemon would
    lock another file of that name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ParlerError("home_not_writable", f"{path} cannot be opened: {error.strerror}.", path=str(path)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ParlerError("already_running", lock=str(path)) from None
        except OSError:
            pass  # a file system that locks no directories (NFS): the file has to do
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _file_locked(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        code = "home_unsafe" if error.errno == errno.ELOOP else "home_not_writable"
        raise ParlerError(code, f"{path} cannot be opened: {error.strerror}.", path=str(path)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ParlerError("already_running", lock=str(path)) from None
        # Whose lock it is: for people, and for clients that find no socket (parlerd.client.launch).
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _clear_stale(path: Path) -> None:
    """Remove the socket that a killed daemon left behind.

    The lock keeps another daemon out between the probe and the removal. What remains is a program that does not take
    the lock and binds here in that instant: its socket would be unlinked, and this directory is ours alone.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ParlerError("home_unsafe", f"{path} is not a socket of this user.", path=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except TimeoutError:
            pass  # its backlog is full: somebody is there
    # The lock was free but the socket is served: the lock file was removed under a running daemon.
    raise ParlerError("already_running", socket=str(path))


def _write_atomically(path: Path, text: str) -> None:
    # Readers see the old text or the new. No fsync: after a crash of the machine no socket is left to point to.
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _remove_own(path: Path, inode: int) -> None:
    with contextlib.suppress(OSError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)


def _remove_endpoint(home: Home) -> None:
    with contextlib.suppress(OSError):
        if home.endpoint.read_text(encoding="utf-8") == f"{home.socket}\n":
            home.endpoint.unlink()
