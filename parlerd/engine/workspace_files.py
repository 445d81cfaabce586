"""Files of a window's workspace, for a daemon that reads and writes them there: which may be touched, and how.

An agent host may keep its agent in a sandbox, and the daemon stands outside of it. So the daemon touches files below
the window's own work tree alone, follows no link, and leaves alone what programs read as their settings: `.git`,
folders that begin with a dot, and, to write, files that begin with one. It never replaces a file.

Not here: whose workspace it is (the door finds that out), and the bytes. Above: `sharing`. Below: `beneath`, `handed`.
Invariants: nothing outside of the workspace is opened, whatever links stand in it; a file that is written has its name
only once it is whole. Source: security spec 13.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from contextlib import suppress
from typing import Final

from parlerd import beneath
from parlerd.core.errors import ParlerError, Refused
from parlerd.engine.handed import OpenFile

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_NAME: Final = 255


class Source(OpenFile):
    """A file of the workspace, opened to be read."""

    def __init__(self, workspace: str, path: str, home: str) -> None:
        """Raises `ParlerError(file_refused)`."""
        names = _names(workspace, path, writes=False)
        try:
            with beneath.folder(workspace) as top:
                _refuse_home(top, names, home)
                super().__init__(beneath.open_regular(top, b"/".join(names)))
        except OSError as error:
            raise _refused(f"{path} cannot be read: {error.strerror or 'it is no regular file'}.") from None
        self.name = os.fsdecode(names[-1])


class Target(OpenFile):
    """A new file of the workspace, opened to be written. It gets its name from `finish`; otherwise nothing of it
    stays once it is closed."""

    def __init__(self, workspace: str, path: str, home: str) -> None:
        """Raises `Refused(target_exists)`, and `ParlerError(file_refused)`."""
        names = _names(workspace, path, writes=True)
        self.path = os.fsdecode(b"/".join(names))
        try:
            with beneath.folder(workspace) as top:
                _refuse_home(top, names, home)
                with beneath.parent_of(top, b"/".join(names)) as (folder, name):
                    self._folder, self._name = os.dup(folder), name
        except OSError as error:
            raise _refused(f"{path} cannot be written: {error.strerror}.") from None
        self._part = f".{secrets.token_hex(8)}.parler-part".encode()
        try:
            if _is_there(self._folder, self._name):
                raise self._taken()
            try:
                super().__init__(os.open(self._part, _NEW, 0o666, dir_fd=self._folder))
            except OSError as error:
                raise _refused(f"{path} cannot be written: {error.strerror}.") from None
        except BaseException:
            os.close(self._folder)
            raise

    def finish(self) -> None:
        """Give the file its name. Raises `Refused(target_exists)` where the name was taken meanwhile."""
        try:
            os.fsync(self._descriptor)
            os.link(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            raise _refused(f"{self.path} cannot be written: {error.strerror}.") from None

    def _taken(self) -> Refused:
        return Refused("target_exists", f"{self.path} is there already.", target=self.path)

    def close(self) -> None:
        super().close()
        with suppress(OSError):
            os.unlink(self._part, dir_fd=self._folder)
        os.close(self._folder)


def _names(workspace: str, path: str, *, writes: bool) -> list[bytes]:
    """The names of a path below the workspace. Raises `ParlerError(file_refused)` for one that leads elsewhere, or to
    what programs read as their settings."""
    if not workspace:
        raise _refused("This window stands in no folder of a project, so no file can be named.")
    try:
        inside = os.path.relpath(path, workspace) if os.path.isabs(path) else path
        names = beneath.names_of(os.fsencode(inside))
    except ValueError:
        raise _refused("A path names a file below your workspace.") from None
    for name in names:
        text = os.fsdecode(name)
        is_last = name is names[-1]
        # Some file systems take these signs away, or fold a name, and would find another file.
        plain = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
        is_git = plain.casefold().rstrip(". ") == ".git" or plain.casefold().startswith("git~")
        if is_git or (plain.startswith(".") and (writes or not is_last)) or len(name) > _MAX_NAME:
            raise _refused(f"{path} is, or is in, what programs read as their settings.")
    return names


def _refuse_home(top: int, names: list[bytes], home: str) -> None:
    """Refuse a path into the folder of Parler itself, under whatever name it is reached."""
    try:
        ours = os.stat(home)
    except OSError:
        return
    here = os.dup(top)
    try:
        for name in (b".", *names[:-1]):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = inner
            found = os.fstat(here)
            if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                raise _refused("That is the folder of Parler itself.")
    finally:
        os.close(here)


def _is_there(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _refused(said: str) -> ParlerError:
    return ParlerError("file_refused", said)
