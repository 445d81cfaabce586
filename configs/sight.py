"""For which hosts the person lets Parler watch the host's own records, and what is said before that is chosen.

The records hold every prompt and what every tool answered, so nothing but the person's own command makes this choice
for a home: no setting, no file of a project, no tool. Whoever chooses another home has the choices of that one.

Not here: how a choice is kept (`chosen`), what a record looks like (`configs.hosts`), how it is read (`parlerd.sight`).
Above: the command line and the daemon. Invariant: a host that nobody measured cannot be chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from configs.chosen import choose, chosen, unchoose
from configs.model import Host
from parlerd.paths import Home

_CHOICE: Final = "sight"

EXPLANATION: Final = (
    "Parler can watch what an agent host itself records of a conversation, to tell whether its model was shown a "
    "message. These files hold all that is said there: your prompts, the answers, and what other tools gave back.",
    "What Parler does with them: the daemon, on this machine, reads what a host appends to them after Parler answered "
    "it, looks for a random marker that it put behind each message, and keeps the message's id, the verdict and the "
    "time. It keeps no text and no path, and logs none.",
    "Who learns of it: the author of a message is told whether the reader's model was shown it, as a word with its "
    "reason and its time, and so is the relay of a room that lives elsewhere.",
)
"""What a person reads before the choice."""


def watched(home: Home) -> frozenset[str]:
    """The ids of the hosts whose records may be watched; none when the file cannot be read."""
    return chosen(home, _CHOICE)


def allow(home: Home, hosts: Collection[str]) -> None:
    """From now on, watch these as well. Raises `ParlerError(home_not_writable)`."""
    choose(home, _CHOICE, hosts)


def forget(home: Home, hosts: Collection[str]) -> None:
    """From now on, watch these no more. Raises `ParlerError(home_not_writable)`."""
    unchoose(home, _CHOICE, hosts)


def can_be_watched(hosts: Iterable[Host]) -> list[Host]:
    """Those of the hosts whose record somebody measured."""
    return [host for host in hosts if host.sight is not None]
