"""The token by which Qwen Code takes a line from Parler as from a program that the person trusts, kept in the home.

    qwen sessions controllers add -> token -> `parler connect qwen --wake-token-file F` -> one private file -> the bell

The person mints the token; Parler makes none and never shows it. The file also names the folder of Qwen's sessions,
which the daemon cannot find by itself, because it runs with a fixed environment. Not here: what the token is used for
(`mcp_server.qwen`). Above: the command line, the daemon. Invariant: the file is 0600 in a folder of the person alone
and is replaced as a whole, and its content is in no error, log or `repr`.

Source: Qwen Code 0.24.4, `docs/users/features/cross-session-protocol.md`, section 3.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from parlerd.paths import Home

TOKEN: Final = re.compile(r"qpc_[0-9a-f]{64}")
_MAX_BYTES: Final = 16_384
"""The most bytes in the file, which holds a token and a path."""


class NoToken(Exception):
    """The text holds no controller token. The message does not repeat the text."""


@dataclass(frozen=True, slots=True)
class Controller:
    """What the file holds: the token, and the folder in which Qwen's sessions publish themselves."""

    sessions: Path
    token: str = field(repr=False)


def file_of(home: Home) -> Path:
    """The file in which the token is kept."""
    return home.connect / "qwen-controller.json"


def parse(text: str) -> str:
    """The last token in what a person handed over. There may be text around the token: the output of the command that
    mints it.

    Raises `NoToken`.
    """
    found: list[str] = TOKEN.findall(text)
    if not found:
        raise NoToken("There is no controller token (qpc_ and 64 hexadecimal digits) in it.")
    return found[-1]


def store(home: Home, controller: Controller) -> None:
    """Keep a token in the place of an older one. Raises `OSError`."""
    home.root.mkdir(mode=0o700, exist_ok=True)
    home.connect.mkdir(mode=0o700, exist_ok=True)
    path = file_of(home)
    temporary = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"token": controller.token, "sessions": str(controller.sessions)}, file)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def read_private(path: Path, most: int) -> bytes | None:
    """The first `most` bytes of a regular file of this user; None when there is no such file, or when others could have
    written or read it. Never waits for a pipe and follows no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            return None
        try:
            return file.read(most)
        except OSError:
            return None


def load(home: Home) -> Controller | None:
    """The token that is kept; None when there is none, or when others could have written or read the file."""
    text = read_private(file_of(home), _MAX_BYTES)
    if text is None:
        return None
    try:
        found = json.loads(text)
        token, sessions = found["token"], Path(found["sessions"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(token, str) or TOKEN.fullmatch(token) is None or not sessions.is_absolute():
        return None
    return Controller(sessions, token)


def forget(home: Home) -> bool:
    """Delete the token. Gives whether there was one. Raises `OSError`."""
    try:
        file_of(home).unlink()
    except FileNotFoundError:
        return False
    return True
