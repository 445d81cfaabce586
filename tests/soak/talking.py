"""People whose agents talk in rooms of a relay while it is broken, and what each of them must have seen in the end.

Every agent says numbered messages, each of which it repeats until it has an answer. Whatever was answered counts as
said. In the end every agent of a room must be shown exactly that, by each author in the author's order. Not here: what
is broken (`breaking`).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from parlerd.core.errors import ParlerError
from tests.support.processes import Somebody

PACE_S: Final = 1.0
"""Between two messages of one agent."""
ARRIVES_S: Final = 180.0
"""How long after the last break everything may take to arrive everywhere: a relay comes back, and every daemon asks
again after a pause that grew while it was away."""
_LOOK_S: Final = 1.0


class Wrong(Exception):
    """A message is missing, doubled, or in another place; what and where."""


@dataclass
class Talker:
    """One agent of one person."""

    person: Somebody
    name: str
    room: str
    said: list[str] = field(default_factory=list)
    """Every text that was answered, in order."""
    longest_s: float = 0.0
    """The longest that a message took until it was answered, for which this agent repeated it."""
    queued: int = 0
    """How many were answered as waiting in the outbox of this machine."""
    failed: BaseException | None = None

    def talk(self, stopping: threading.Event) -> None:
        """Say one message after the other until told to stop."""
        try:
            while not stopping.wait(PACE_S):
                self._say(f"{self.name} says {len(self.said)}")
        except BaseException as error:
            self.failed = error

    def _say(self, text: str) -> None:
        began = time.monotonic()
        sent = None
        while sent is None:
            try:
                sent = self.person.sends(self.name, text, room=self.room, idempotency_key=text.replace(" ", "-"))
            except ParlerError as error:
                if not error.spec.retryable:
                    raise
        self.said.append(text)
        self.queued += sent.queued
        self.longest_s = max(self.longest_s, time.monotonic() - began)


class Rooms:
    """All talkers, by their rooms."""

    def __init__(self, people: Sequence[Somebody], per_room: int, relay: str) -> None:
        self._by_room: dict[str, list[Talker]] = defaultdict(list)
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        for first in range(0, len(people), per_room):
            self._meet(people[first : first + per_room], f"room-{first // per_room}", relay, first)

    @property
    def talkers(self) -> list[Talker]:
        return [talker for room in self._by_room.values() for talker in room]

    @property
    def rooms(self) -> list[str]:
        return list(self._by_room)

    def begin(self) -> None:
        for talker in self.talkers:
            self._threads.append(threading.Thread(target=talker.talk, args=(self._stopping,), daemon=True))
            self._threads[-1].start()

    def end(self) -> None:
        """Let everybody finish the sentence. Raises what stopped an agent before."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for talker in self.talkers:
            if talker.failed is not None:
                raise talker.failed

    def check(self) -> None:
        """Every agent sees exactly what was said in its room. Raises `Wrong` when that is not so after a while."""
        until = time.monotonic() + ARRIVES_S
        for room, talkers in self._by_room.items():
            for reader in talkers:
                while (wrong := self._wrong(reader, room)) and time.monotonic() < until:
                    time.sleep(_LOOK_S)
                if wrong:
                    raise Wrong(wrong)

    def _wrong(self, reader: Talker, room: str) -> str:
        try:
            texts = [str(message.text) for message in reader.person.reads(reader.name, room)]
        except ParlerError as error:
            return f"{reader.name} cannot read {room}: {error.code}"
        for author in self._by_room[room]:
            seen = [text for text in texts if text.startswith(f"{author.name} says ")]
            if seen != author.said:
                pairs = enumerate(zip(seen, author.said, strict=False))
                at = next((n for n, (here, there) in pairs if here != there), min(len(seen), len(author.said)))
                return (
                    f"{reader.name} sees {len(seen)} of {len(author.said)} messages of {author.name} in {room}; "
                    f"the first that differs is number {at}"
                )
        return ""

    def _meet(self, people: Sequence[Somebody], topic: str, relay: str, number: int) -> None:
        names = [f"agent-{number + n}" for n in range(len(people))]
        opened: Any = people[0].asks(
            "--as", names[0], "session", "open", "--topic", topic, "--context", topic, "--at", relay, "--no-approval"
        )
        for person, name in zip(people[1:], names[1:], strict=True):
            person.asks("--as", name, "session", "join", opened["key"])
        for person, name in zip(people, names, strict=True):
            self._by_room[opened["room"]].append(Talker(person, name, opened["room"]))


def figures(talkers: Sequence[Talker]) -> dict[str, Any]:
    """What all of them did, in numbers."""
    longest = sorted(talker.longest_s for talker in talkers)
    return {
        "messages": sum(len(talker.said) for talker in talkers),
        "queued": sum(talker.queued for talker in talkers),
        "longest_s": round(longest[-1], 1),
    }
