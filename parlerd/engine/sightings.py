"""Whether models were shown what their agents read, as the records of agent hosts say: kept, told, and acted on.

    window.sighted --> a row for the message and the reader --> why, disclosures, the author's notice, the doctor
                          |-- cut or not shown: the reader's next page shows it again (`to_show_again`)
                          `-- a room elsewhere: its home is told (`RoomHandle.tell_sights`), and tells the
                              author's home (`send`)

Not here: how a record is read (`parlerd.sight`), where markers stand (`mcp_server`), how a page is laid out
(`receiving`). Above: the engine. Below: the library. Invariants: only a verdict that proves it makes a message `shown`;
what was shown stays so, whoever says something else later (`standing`); where no host is watched nothing is asked of
the store, and nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from parlerd.bounded import Bounded
from parlerd.core import topics
from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId, Sighted, is_label, slug
from parlerd.engine.library import Library, Traced
from parlerd.operations import types as t
from parlerd.store.port import PROVEN, PutSight
from parlerd.text.sight import MOST_AGAIN, PROVEN_BY

MAX_ON_THEIR_WAY: Final = 4096
"""Words that a home keeps for links that are down. What is forgotten is still in the store, where `why` finds it."""
LATE_MS: Final = 120_000
"""A message that no model is known to have been shown this long after it was read is named to its author."""
MAX_UNSHOWN: Final = 1024
"""Messages that are remembered as shown to nobody yet; of more than these the newest."""

_EVIDENCE: Final = re.compile(r"[A-Za-z0-9 .,:;_@#/+()-]*")
"""What another home may say of entries: nothing that a terminal or a page has to be kept from."""

_Place = tuple[RoomId, Position, AgentId]


@dataclass(frozen=True, slots=True)
class Unshown:
    """A message that was read, and that no model is known to have been shown: where it stands, who wrote it, since when
    that is so, and the newest word on it."""

    id: MessageId
    author: AgentId
    since: Millis
    word: PutSight


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A word on a message whose author is of another home, to be told there: it is the `number`th."""

    number: int
    id: MessageId
    author: AgentId
    word: PutSight


class Sightings:
    """What is at hand of sight while the daemon runs; the rows are in the store."""

    def __init__(self) -> None:
        self.hosts: frozenset[str] = frozenset()
        """The ids of the agent hosts whose records the person lets Parler watch."""
        # The messages and readers of which a marker is watched now, each with how many were begun before and with it. A
        # row that says `pending` and is not here is from before this daemon started.
        self._watched: dict[_Place, int] = {}
        self._begun = 0
        self._unshown: Bounded[MessageId, Unshown] = Bounded(MAX_UNSHOWN)
        # Messages that some model was shown, as far as this daemon was told: of a room elsewhere nothing is stored.
        self._shown: Bounded[MessageId, None] = Bounded(MAX_UNSHOWN)
        # The newest words for authors of other homes, by message and reader, in the order in which they came.
        self._on_their_way: Bounded[tuple[MessageId, AgentId], OnItsWay] = Bounded(MAX_ON_THEIR_WAY)
        self._words = 0

    def as_known(self, row: PutSight) -> PutSight:
        """A row of the store as it is to be read now: nobody watches any more what a daemon before this one watched."""
        if row.verdict != "pending" or (row.room, row.position, row.reader) in self._watched:
            return row
        return msgspec.structs.replace(row, verdict="unknown", reason="restarted", evidence="")

    def begun(self, place: _Place) -> None:
        """A marker of this message is watched."""
        self._begun += 1
        self._watched[place] = self._begun

    def watched(self, place: _Place) -> tuple[_Place, int]:
        """What `ended` is to be told of this message once its verdict is stored."""
        return place, self._watched.get(place, 0)

    def ended(self, place: _Place, number: int) -> None:
        """The verdict is stored on what was watched then. A marker that was begun meanwhile is watched on."""
        if self._watched.get(place) == number:
            del self._watched[place]

    def note(self, id: MessageId, author: AgentId, row: PutSight, others: Iterable[PutSight]) -> None:
        """Remember the newest word on a message of an agent of this home. `others` are what else is known of it."""
        if is_shown(row, *others):
            self._shown[id] = None
        if id in self._shown or (row.verdict == "unknown" and row.reason != "timeout"):
            # What is unknown is no sign that nobody was shown it.
            self._unshown.pop(id, None)
            return
        known = self._unshown.get(id)
        self._unshown[id] = Unshown(id, author, row.at if known is None else known.since, row)

    def send(self, id: MessageId, author: AgentId, row: PutSight) -> None:
        """Have the home of this author told of the word, as soon as it follows the room."""
        self._words += 1
        before = self._on_their_way.get((id, row.reader))
        row = standing(None if before is None else before.word, row)
        self._on_their_way[id, row.reader] = OnItsWay(self._words, id, author, row)

    def sent_after(self, number: int) -> list[OnItsWay]:
        """The words that came after the one of this number, in their order."""
        if number >= self._words:
            return []
        return [each for each in self._on_their_way.values() if each.number > number]

    def unshown(self, author: AgentId, now: Millis) -> list[Unshown]:
        """The messages of this author that were read so long ago that it is to be named them, the oldest first."""
        return sorted(
            (each for each in self._unshown.values() if each.author == author and each.since + LATE_MS <= now),
            key=lambda each: each.since,
        )


async def to_show_again(library: Library, room: RoomId, reader: AgentId) -> list[PutSight]:
    """What this reader's next page of a room begins with, by position: what its host cut or did not show."""
    return await library.sights_to_show_again(room, reader, MOST_AGAIN)


def said_of(row: PutSight) -> t.SightSaid:
    """A row in the shape that every surface prints."""
    return t.SightSaid(
        verdict=row.verdict, reason=row.reason, host=row.host, at=row.at, again=row.again, evidence=row.evidence
    )


def standing(before: PutSight | None, word: PutSight) -> PutSight:
    """What is known of a message and a reader after this word, where `before` was known. What was proved stays: nothing
    takes a text out of what a model was given once. Of everything else the newest word counts."""
    return before if before is not None and before.verdict in PROVEN else word


def is_shown(*rows: PutSight) -> bool:
    """Whether one of these rows says that a model was shown the message."""
    return any(row.verdict in PROVEN for row in rows)


def as_told(verdict: Sighted, reason: str) -> tuple[Sighted, str]:
    """A verdict and its reason as they may be kept. A proof without what proves it is none."""
    is_proof = verdict not in PROVEN or PROVEN_BY.get(reason) == verdict
    return (verdict, reason) if is_proof else ("unknown", "")


def word_from_elsewhere(
    found: Traced, before: PutSight | None, reader: AgentId, told: t.SightSaid | t.SightAtRoom, now: Millis
) -> PutSight | None:
    """The row that follows from another home's word on a message and a reader, of which `before` was known. What no
    home of this version says is left out of it; `None` where nothing is left, because what is only watched is told to
    no other home."""
    if told.verdict == "pending":
        return None
    verdict, reason = as_told(told.verdict, told.reason)
    word = PutSight(
        found.room,
        reader,
        found.header.position,
        verdict,
        reason if is_label(reason) else "",
        slug(told.host, fallback="host"),
        now,
        told.again,
        told.evidence if _EVIDENCE.fullmatch(told.evidence) else "",
    )
    return standing(before, word)


def next_word(
    found: Traced, before: PutSight | None, reader: AgentId, told: t.SightTold, host: str, now: Millis
) -> PutSight:
    """The row that follows from what a window tells of a message and a reader, of which `before` was known. A message
    that goes out once more after it had been cut or not shown counts as shown again."""
    again = 0 if before is None else before.again
    if told.verdict == "pending" and before is not None and before.verdict in ("cut", "not_shown"):
        again += 1
    verdict, reason = as_told(told.verdict, told.reason)
    word = PutSight(found.room, reader, found.header.position, verdict, reason, host, now, again, told.evidence)
    return standing(before, word)


def is_due(row: PutSight) -> bool:
    """Whether the message is to be shown again by itself."""
    return row.verdict in ("cut", "not_shown") and row.again < MOST_AGAIN


def newest(rows: Iterable[PutSight], reader: AgentId, known: Sightings) -> PutSight | None:
    """What is known of one reader now, of the rows of a message."""
    row = next((row for row in rows if row.reader == reader), None)
    return None if row is None else known.as_known(row)


def wakes(rows: Sequence[PutSight]) -> set[topics.Topic]:
    """Whom these words wake: a reader that waits for messages is shown again what it was not shown."""
    return {topics.messages(row.room, row.reader) for row in rows if is_due(row)}
