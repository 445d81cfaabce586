"""How strictly a home last approved. A daemon that an agent's process starts approves at least as strictly, whatever
the settings say now.

The settings file is the person's, but an agent with a shell can write to it, and can then stop and start the daemon.
Therefore every daemon writes down in the home how strictly it approves. A daemon that is started below an agent host
takes the stricter of that record and the file; a daemon that the person starts takes the file as it is.

Not here: reading the settings (`settings`), who starts the daemon (`process`). Above: `parlerd.daemon`. The record is
no wall: a process of the same user can write to it too, and the security page says so.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

import msgspec

from parlerd.core.model import Proof
from parlerd.paths import Home
from parlerd.settings import Settings, at_least

_MAX_BYTES: Final = 4096


class _Approval(msgspec.Struct, frozen=True):
    default: bool
    minimum: Proof


def held(home: Home, settings: Settings, *, below_agent: bool) -> Settings:
    """The settings to serve with, which are written down for the next daemon: `settings`, but for a daemon that an
    agent's process starts with approval at least as strict as last."""
    last = _read(home) if below_agent else None
    if last is not None:
        settings = at_least(settings, Settings(approval_default=last.default, approval_minimum=last.minimum))
    _write(home, _Approval(settings.approval_default, settings.approval_minimum))
    return settings


def _read(home: Home) -> _Approval | None:
    try:
        descriptor = os.open(home.floor, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=_Approval)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError):
            return None


def _write(home: Home, approval: _Approval) -> None:
    temporary = home.floor.with_name(f".{home.floor.name}.new")
    # When the disk is full the older record stays, and the daemon serves all the same.
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(approval))
        temporary.replace(home.floor)
