"""Where everything of one user's Parler is, and the check that these places are private.

`home_from` only computes paths; `prepare` makes the directories and checks them. Everything of Parler is in the home,
except the socket when the path of the home is too long for one. Not here: what the files hold. Above: every program.
Below: only the table of errors, because a fault of a home is an error with a code. Invariant: after `prepare`, every
directory is a real directory of this user that nobody else can enter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SOCKET_PATH: Final = 100
"""The most bytes in the path of a socket. The kernel's limit is 108 on Linux and 104 on macOS, with the final zero."""


SHORTER: Final = "Take a home with a shorter path (PARLER_HOME, or --home): its socket stands inside it then."
STARTED_BELOW: Final = "PARLER_STARTED_BELOW"
"""A variable that tells a daemon that an agent host started it, which the processes above it may no longer show.
`mcp_server.stdio.launch` always sets it, and other programs hand it on."""


class Home:
    """The paths of one home. `explicit` says that the person named the home on the command line. Two homes are equal
    when their roots are.

    The class is no dataclass, and holds text until somebody asks for a `Path`: to import dataclasses or pathlib costs a
    tenth of what a one-shot command may take, and a command that finds its daemon needs only the address.
    """

    __slots__ = ("_fallback", "_root", "_socket_path", "explicit")
    explicit: Final[bool]

    def __init__(
        self,
        root: str | Path,
        explicit: bool = False,
        fallback: str | Path = "",
    ) -> None:
        self._root: Final = os.fspath(root)
        # The folder for a socket whose path in the home would be too long; empty for the folder that this system has.
        self._fallback: Final = os.fspath(fallback)
        # The path of the socket, kept once somebody asked for it, so that a folder which comes or goes later moves no
        # socket.
        self._socket_path = ""
        self.explicit = explicit

    def __repr__(self) -> str:
        return f"Home({self._root!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Home) and self._root == other._root

    def __hash__(self) -> int:
        return hash(self._root)

    def address(self) -> str:
        """Where a client finds the daemon. The path that the daemon wrote wins, because the daemon may be of an install
        that chooses another path where the usual one is too long."""
        try:
            with open(f"{self._root}/run/endpoint", encoding="utf-8") as file:
                named = file.read().strip()
        except (OSError, UnicodeDecodeError):
            named = ""
        return named or self._socket()

    def _socket(self) -> str:
        self._socket_path = self._socket_path or self._place_of_socket()
        return self._socket_path

    def _place_of_socket(self) -> str:
        here = f"{self._root}/run/parlerd.sock"
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
            return here
        import hashlib

        name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:16]
        rest = f"{name}/parlerd.sock"
        if not self._fallback and (runtime := _runtime_folder()):
            here = f"{runtime}/{rest}"
            if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
                return here
        # A private directory below it is checked by `prepare`.
        return f"{self._fallback or '/tmp'}/parler-{os.getuid()}/{rest}"  # noqa: S108

    @property
    def root(self) -> Path:
        from pathlib import Path

        return Path(self._root)

    @property
    def run(self) -> Path:
        """The folder of the running daemon's files, and of what agent hosts start."""
        return self.root / "run"

    @property
    def endpoint(self) -> Path:
        """A text file that holds the path of the socket."""
        return self.run / "endpoint"

    @property
    def socket(self) -> Path:
        """Where the daemon listens: in the home. Where the path in the home is too long, in the folder that the system
        gives this user for sockets, or else below `/tmp/parler-<uid>`."""
        from pathlib import Path

        return Path(self._socket())

    @property
    def lock(self) -> Path:
        """The file whose lock the daemon of this home holds."""
        return self.run / "parlerd.lock"

    @property
    def database(self) -> Path:
        return self.root / "parler.db"

    @property
    def blobs(self) -> Path:
        """The files that rooms of this home hold."""
        return self.root / "blobs"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def log(self) -> Path:
        return self.root / "log" / "parlerd.log"

    @property
    def shim(self) -> Path:
        """The copy of the shim that host configurations point to."""
        return self.run / "shim.py"

    @property
    def static(self) -> Path:
        """The answers that the shim can give without a daemon."""
        return self.run / "static.json"

    @property
    def connect(self) -> Path:
        """What `parler connect` knows of the files it wrote: its ledger, its backups, its locks."""
        return self.root / "connect"

    @property
    def floor(self) -> Path:
        """How strictly this home approved when it was last served."""
        return self.root / "approval.json"

    @property
    def homes(self) -> Path:
        """The relays that the person added."""
        return self.root / "homes.json"

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"


def relay_home(home: Home) -> Home:
    """The home of the relay that this person runs: a folder of its own, with its own keys, store, log and socket."""
    return Home(f"{os.fspath(home.root)}/relay", explicit=True)


def home_from(env: Mapping[str, str], explicit: str | None = None) -> Home:
    """The home named by `explicit`, else by `PARLER_HOME`, else `~/.parler`; absolute, symlinks left as they are."""
    named = explicit or env.get("PARLER_HOME") or "~/.parler"
    if named == "~" or named.startswith("~/"):
        # HOME is taken from `env`, so that a caller with another environment (a test, a sandbox) gets a home of its
        # own.
        named = (env.get("HOME") or os.path.expanduser("~")) + named[1:]
    return Home(os.path.abspath(named), explicit=explicit is not None)


def _runtime_folder() -> str:
    """Our folder below the one that this system gives each user for sockets, or nothing where it gives none that is
    this user's alone: then nobody else can have taken the name, as one can below `/tmp`."""
    import warnings

    # Imported where a home's path is long: it takes as long as half a command.
    import platformdirs

    try:
        with warnings.catch_warnings():
            # It warns where a desktop has no such folder. There is another place then.
            warnings.simplefilter("ignore")
            found = platformdirs.user_runtime_dir("parler", appauthor=False)
        parent = os.lstat(os.path.dirname(found))
    except OSError:
        return ""
    is_private = stat.S_ISDIR(parent.st_mode) and parent.st_uid == os.geteuid() and not parent.st_mode & 0o077
    return found if is_private else ""


def prepare(home: Home) -> None:
    """Create the home's directories with mode 0700 where they are missing, and check all of them.

    Safe to repeat. Raises `ParlerError` `home_unsafe` (another owner, open to others, a symlink, inside a git work tree
    without having been named, a path that is not UTF-8) or `home_not_writable`.
    """
    _refuse_bytes(home.root)
    if not home.explicit:
        _refuse_work_tree(home.root)
    try:
        home.root.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        parent = home.root.parent
        raise ParlerError("home_not_writable", f"{parent} is not a directory.", path=str(parent)) from error
    except OSError as error:
        raise _not_writable(home.root.parent, error) from error
    directories = [home.root, home.run, home.backups, home.keys, home.blobs, home.log.parent]
    if home.socket.parent != home.run:
        directories += [home.socket.parent.parent, home.socket.parent]
    for directory in directories:
        try:
            _private_directory(directory)
        except ParlerError as error:
            if home.root not in (directory, *directory.parents):
                # A user cannot take over a folder below /tmp that another user made, so the hint is a shorter path.
                raise ParlerError(error.code, error.message, hint=SHORTER, **error.details) from error
            raise


def replace_private(path: Path, data: bytes) -> None:
    """Put `data` at `path`, in place of what is there: whole or not at all, 0600 and on the disk. `prepare` comes
    first, and nobody else does this meanwhile. Raises `ParlerError(home_not_writable)`."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise ParlerError("home_not_writable", f"{path} cannot be written: {error.strerror}.") from error


def _private_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        found = path.lstat()
    except OSError as error:
        raise _not_writable(path, error) from error
    if stat.S_ISLNK(found.st_mode):
        raise _unsafe(path, "is a symlink", "Replace it by a real directory, or set PARLER_HOME to where it leads.")
    if not stat.S_ISDIR(found.st_mode):
        raise ParlerError("home_not_writable", f"{path} is not a directory.", path=str(path))
    if found.st_uid != os.geteuid():
        raise _unsafe(path, "belongs to another user", "Set PARLER_HOME to a directory of your own.")
    if found.st_mode & 0o077:
        raise _unsafe(path, "can be entered by other users", f"Run: chmod 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ParlerError("home_not_writable", f"{path} cannot be written.", path=str(path))


def as_text(path: Path) -> str:
    """A path as text that every file and message can hold: bytes that are not UTF-8 as escapes such as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_text(path: Path) -> bool:
    """Whether a path is UTF-8, so that the settings of agent hosts, JSON and the store can name it."""
    return not any("\ud800" <= char <= "\udfff" for char in str(path))


def _refuse_bytes(root: Path) -> None:
    if not is_text(root):
        raise ParlerError(
            "home_unsafe",
            f"{as_text(root)} is a path that is not UTF-8, and no settings file of an agent host could name it.",
            hint="Set PARLER_HOME to a folder whose path is plain text.",
            path=as_text(root),
        )


def _refuse_work_tree(root: Path) -> None:
    # A repository must not be able to plant a home by its files, and keys must not be committed by accident.
    for directory in (root, *root.parents):
        if (directory / ".git").exists():
            raise _unsafe(root, f"is inside the git work tree {directory}", f"If you mean it, say --home {root}")


def _unsafe(path: Path, what: str, hint: str) -> ParlerError:
    return ParlerError("home_unsafe", f"{path} {what}.", hint=hint, path=str(path))


def _not_writable(path: Path, error: OSError) -> ParlerError:
    return ParlerError("home_not_writable", f"{path} cannot be used: {error.strerror}.", path=str(path))
