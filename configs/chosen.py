"""Hosts that the person chose for something: one host id a line, in a file of the home for each choice.

Not here: what is chosen (`keep`, `sight`). Above: these two. Below: `disk`. Invariant: the file is replaced as a whole,
and two programs that change it at once both have their say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from configs.disk import locked, make_private
from parlerd.core.errors import ParlerError
from parlerd.paths import Home

LOCK_S: Final = 10.0
"""Seconds that another program may take to write a choice."""


def chosen(home: Home, choice: str) -> frozenset[str]:
    """The ids of the hosts; none when nothing was ever chosen or the file cannot be read."""
    try:
        return frozenset(_file(home, choice).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return frozenset()


def choose(home: Home, choice: str, hosts: Collection[str]) -> None:
    """From now on, these as well. Raises `ParlerError(home_not_writable)`."""
    _change(home, choice, lambda now: now.union(hosts))


def unchoose(home: Home, choice: str, hosts: Collection[str]) -> None:
    """From now on, these no more. Raises `ParlerError(home_not_writable)`."""
    if chosen(home, choice):
        _change(home, choice, lambda now: now.difference(hosts))


def _change(home: Home, choice: str, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
    path = _file(home, choice)
    try:
        make_private(home.root, "connect")
        with locked(path.with_name(f"{choice}.lock"), wait_s=LOCK_S):
            now = chosen(home, choice)
            wanted = change(now)
            if wanted == now:
                return
            temporary = path.with_name(f".{choice}.new")
            temporary.write_text("".join(f"{host}\n" for host in sorted(wanted)), encoding="utf-8")
            temporary.chmod(0o600)
            temporary.replace(path)
    except OSError as error:
        raise ParlerError(
            "home_not_writable", f"{path} cannot be written: {error.strerror}.", path=str(path)
        ) from error


def _file(home: Home, choice: str) -> Path:
    return home.connect / choice
