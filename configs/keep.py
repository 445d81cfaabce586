"""Which hosts' entries the daemon puts back when they are lost: the person's choice, one host id a line.

Not here: what is written where (`ledger`), and who puts it back (`watch`). Above: the command line and `watch`.
Invariant: the file is replaced as a whole, and two programs that change it at once both have their say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from configs.disk import locked, make_private
from parlerd.core.errors import ParlerError
from parlerd.paths import Home

LOCK_S: Final = 10.0
"""Seconds that another program may take to write the choice."""


def kept(home: Home) -> frozenset[str]:
    """The ids of the hosts to keep; none when nothing was ever chosen or it cannot be read."""
    try:
        return frozenset(_file(home).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return frozenset()


def remember(home: Home, hosts: Collection[str]) -> None:
    """From now on, put the entries of these back as well. Raises `ParlerError(home_not_writable)`."""
    _change(home, lambda now: now.union(hosts))


def forget(home: Home, hosts: Collection[str]) -> None:
    """Leave the entries of these alone from now on. Raises `ParlerError(home_not_writable)`."""
    if kept(home):
        _change(home, lambda now: now.difference(hosts))


def _change(home: Home, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
    path = _file(home)
    try:
        make_private(home.root, "connect")
        with locked(path.with_name("keep.lock"), wait_s=LOCK_S):
            wanted = change(kept(home))
            if wanted == kept(home):
                return
            temporary = path.with_name(".keep.new")
            temporary.write_text("".join(f"{host}\n" for host in sorted(wanted)), encoding="utf-8")
            temporary.chmod(0o600)
            temporary.replace(path)
    except OSError as error:
        raise ParlerError(
            "home_not_writable", f"{path} cannot be written: {error.strerror}.", path=str(path)
        ) from error


def _file(home: Home) -> Path:
    return home.connect / "keep"
