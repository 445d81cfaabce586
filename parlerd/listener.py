"""The socket of one home: one daemon holds it, only its user reaches it, and a dead daemon's leftovers are cleared.

Not here: what is said on the socket (`server`). Above: `parlerd.daemon`. Below: `parlerd.paths`, which has made and
checked the directories. Invariants: the lock is held from before the socket exists until after the socket is gone, and
removing the lock's file lets no second daemon in; the endpoint file names a socket that was listening when the file was
written; a daemon removes nothing that another daemon put there.
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
"""How many connections may wait to be accepted. Many windows may connect again at once after a restart."""
_PROBE_SECONDS = 2.0
"""How long a socket that is there already has to accept a connection. One that does not accept in time is in use: its
queue is full."""


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
            # The socket's directory is 0700, so no other user can reach the socket before its own mode is set.
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
    """The identities of the socket, the lock and the endpoint file, as they are on the disk now; None for one that is
    not there. When they are no longer those that a daemon made, nobody finds that daemon, and it must end."""
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
    """Hold the lock of a home. The kernel frees it when the process ends, however it ends; the lock's file stays.

    Raises `ParlerError`: `already_running` when another daemon holds it, `home_unsafe`, `home_not_writable`.
    """
    with _directory_locked(home.root), _file_locked(home.lock):
        yield


@contextlib.contextmanager
def _directory_locked(path: Path) -> Iterator[None]:
    """Hold a lock on the home's directory itself. The file of the lock can be removed while its daemon runs, and the
    next daemon would then lock a new file of the same name."""
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
            pass  # this file system locks no directories (NFS), so the lock on the file has to do
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
        # The file names the process that holds the lock, for people and for clients that find no socket
        # (`parlerd.client.launch`).
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _clear_stale(path: Path) -> None:
    """Remove the socket that a killed daemon left behind.

    The lock keeps another daemon out between the probe and the removal. One race remains: a program that does not take
    the lock could bind a socket at this path in that moment, and its socket would be removed. This directory belongs to
    Parler alone, so no other program has a reason to.
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
            pass  # the queue of this socket is full, so a program holds it
    # The lock was free, but a daemon serves the socket: somebody removed the lock while that daemon ran.
    raise ParlerError("already_running", socket=str(path))


def _write_atomically(path: Path, text: str) -> None:
    # Readers see the old text or the new. There is no fsync, because no socket outlives a crash of the machine.
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
