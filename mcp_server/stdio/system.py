"""What the pipe and the hook ask of the operating system: files, the environment, the home, the daemon's socket.

Not here: starting the daemon (`launch`), talking to it (`link`, `hook`). Invariants: a path is bytes to the system and
stays the same bytes here, also when it is not UTF-8; a socket is handed out only when a process of this user listens on
its other end.
"""

import _socket
import posix
import sys

CHUNK = 65536
"""Bytes that are read or sent at once."""


class NotOurs(ValueError):
    """The socket of this home is another user's."""


def read_file(path: str, tail: int | None = None) -> bytes:
    """A file's bytes; with `tail`, what follows that place, 4 KiB at most."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        if tail is not None:
            posix.lseek(descriptor, tail, 0)
            return posix.read(descriptor, 4096)
        pieces = []
        while piece := posix.read(descriptor, CHUNK):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        posix.close(descriptor)


def make_directory(path: str) -> None:
    """Make a private directory, and those that it stands in, unless it is there."""
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_directory(path.rpartition("/")[0] or "/")
        posix.mkdir(path, 0o700)


def environment(name: str, errors: str = "replace") -> str:
    """A variable of the environment; empty when it is not set. `errors` says what becomes of bytes that are not
    UTF-8."""
    return posix.environ.get(name.encode(), b"").decode("utf-8", errors)


def home_of(explicit: str) -> str:
    """The home as an absolute path: the one that was named, else PARLER_HOME, else ~/.parler."""
    # With `surrogateescape` a path that is not UTF-8 stays the same path. With `replace` it would become another one,
    # and the shim would make that directory.
    named = explicit or environment("PARLER_HOME", "surrogateescape") or "~/.parler"
    if named == "~" or named.startswith("~/"):
        user = environment("HOME", "surrogateescape")
        if not user:
            import pwd

            user = pwd.getpwuid(posix.getuid()).pw_dir
        named = user + named[1:]
    return named if named.startswith("/") else posix.getcwd() + "/" + named


def current_directory() -> str:
    """Where this process stands; empty when the directory is gone."""
    try:
        return posix.getcwd()
    except OSError:
        return ""


def dial(home: str, timeout: float) -> _socket.socket:
    """A socket that is connected to the daemon of `home`, with this timeout in seconds; 0 never blocks.

    Raises `NotOurs` for another user's socket, and OSError or ValueError when nobody can be reached there."""
    endpoint = home + "/run/endpoint"
    if posix.stat(endpoint).st_uid != posix.geteuid():
        raise NotOurs
    path = read_file(endpoint).decode("utf-8", "surrogateescape").strip()
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
        if _peer_uid(sock) not in (posix.geteuid(), -1):
            raise NotOurs
    except BaseException:
        sock.close()
        raise
    return sock


def _peer_uid(sock: _socket.socket) -> int:
    """Whose process listens on the other side; -1 when the platform does not say."""
    if hasattr(_socket, "SO_PEERCRED"):
        data = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int.from_bytes(data[4:8], sys.byteorder)
    if sys.platform == "darwin":
        # SOL_LOCAL, LOCAL_PEERCRED: a version, then the uid.
        data = sock.getsockopt(0, 1, 76)
        return int.from_bytes(data[4:8], sys.byteorder)
    return -1
