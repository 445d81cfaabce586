"""Which hosts' entries the daemon puts back when they are lost: the person's choice.

Not here: how a choice is kept (`chosen`), what is written where (`ledger`), and who puts it back (`watch`). Above: the
command line and `watch`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from configs.chosen import choose, chosen, unchoose
from parlerd.paths import Home

_CHOICE: Final = "keep"


def kept(home: Home) -> frozenset[str]:
    """The ids of the hosts to keep; none when nothing was ever chosen or it cannot be read."""
    return chosen(home, _CHOICE)


def remember(home: Home, hosts: Collection[str]) -> None:
    """From now on, put the entries of these back as well. Raises `ParlerError(home_not_writable)`."""
    choose(home, _CHOICE, hosts)


def forget(home: Home, hosts: Collection[str]) -> None:
    """Leave the entries of these alone from now on. Raises `ParlerError(home_not_writable)`."""
    unchoose(home, _CHOICE, hosts)
