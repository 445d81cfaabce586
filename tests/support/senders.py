"""Agents that go on talking over a relay while a test breaks things: every message is repeated until it is answered, so
that in the end each reader must be shown exactly what was said.

Not here: the people and their relay (`team`).
"""

from __future__ import annotations

import threading
from typing import Any, Final

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.processes import Somebody, until
from tests.support.team import Team, enters, texts

CONTEXT: Final = "Chose PKCE. Left: token rotation."
PACE_S: Final = 0.05
"""Between two messages of one sender: a relay takes so many from each agent, and no test here is about that."""
SPOKEN: Final = 3
"""How many messages each sender gets through in each part of a story."""


def met(team: Team, *more: str) -> Any:
    """Ann's alice opened a session on the relay, as `more` words say, and Ben's bob is in it."""
    team.joins(team.ben)
    opened = team.ann.asks("--as", "alice", "session", "open", "--topic", "auth", "--context", CONTEXT, *more)
    enters(team, team.ben, "bob", opened)
    assert texts(team.ben.asks("--as", "bob", "recv", "--wait", "60")) == [CONTEXT]
    return opened


class Sender:
    """One agent that goes on talking from a thread of its own, and repeats each message until it has an answer."""

    def __init__(self, one: Somebody, name: str, room: str) -> None:
        self.name = name
        self.sent: list[t.Sent] = []
        self.failed: list[BaseException] = []
        self._one = one
        self._room = room
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def texts(self) -> list[str]:
        return [f"{self.name} says {number}" for number in range(len(self.sent))]

    def goes_on(self) -> None:
        """Wait until some more messages are answered."""
        wanted = len(self.sent) + SPOKEN
        until(lambda: self.failed or len(self.sent) >= wanted, f"more of {self.name}")
        assert self.failed == []

    def stops(self) -> None:
        self._stopping.set()
        self._thread.join()
        assert self.failed == []

    def _run(self) -> None:
        try:
            while not self._stopping.wait(PACE_S):
                self.sent.append(self._say(f"{self.name} says {len(self.sent)}"))
        except BaseException as error:
            self.failed.append(error)

    def _say(self, text: str) -> t.Sent:
        while True:
            try:
                return self._one.sends(self.name, text, room=self._room, idempotency_key=text.replace(" ", "-"))
            except ParlerError as error:
                if not error.spec.retryable:
                    raise


def all_that(one: Somebody, name: str, sender: Sender) -> None:
    """In the end an agent is shown exactly what another said, in this order."""

    def said() -> list[str]:
        return [str(message.text) for message in one.reads(name) if str(message.text).startswith(f"{sender.name} says")]

    until(lambda: len(said()) >= len(sender.texts), f"everything that {sender.name} said")
    assert said() == sender.texts
