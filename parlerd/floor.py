"""How strictly a home last approved: what a daemon that an agent's process starts keeps to, whatever the file says now.

The settings file is the person's, and an agent with a shell can write to it and then stop and start the daemon. So what
is served is written down in the home, and a start below an agent host takes the stricter of both; the person's own
start takes the file as it is. Not here: reading the settings (`settings`), who starts the daemon (`process`). Above:
`parlerd.daemon`. Under one uid this is a speed bump, and the security page says so.
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
    """What to serve, and remember: `settings`, and no less than was served last when an agent's process starts it."""
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
    # On a full disk the older word stands, and the daemon is served all the same.
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(approval))
        temporary.replace(home.floor)
