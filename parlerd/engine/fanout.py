"""What was just stored in a room, told to all links that follow it in one walk, without waking a task for each.

    a link that waits, has everything before,      its page is made and sent in the turn of the commit
    and whose reader takes one item more
    every other link, and whatever is no message   the link's own task is woken, and walks (`following`)

The messages of a page are encoded once for all links. A page of a link differs in the numbers that its agents have, and
in the private messages among them, so what a link is sent follows from what its agents may see and from nothing else.

Not here: how a link gets to where it has everything (`following`). Above: `following`. Below: the library's memory of
what was stored last; nothing here waits, or asks the store. Invariant: a page from here is the page that the link's own
task would make, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple, cast

import msgspec

from parlerd.core import events as e
from parlerd.core.membership import reads_on
from parlerd.core.model import AgentId, Millis, Position, PrincipalId, RoomId, Shown
from parlerd.core.public_line import next_line
from parlerd.core.room import Room
from parlerd.engine.face import Outlet
from parlerd.engine.links import Link
from parlerd.engine.ports import Waiter
from parlerd.engine.reachable import Eyes
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery, NewFact
from parlerd.wire.codec import encode

PAGE: Final = 100
"""Messages in one page of a stream."""
PAGE_BYTES: Final = 192 * 1024
"""Bytes of envelopes in one page, but always one message: about one message of the transport."""
_BEFORE: Final = Shown(0, b"")
"""What was shown of a room before the first step looked at it."""


_TOLD: Final = (e.MessagePosted, e.JoinRequested, e.JoinDenied, e.KeyMinted, e.KeyRevoked)
"""What is told here. Who comes and goes changes whose eyes a link has, so that is left to its own task."""


@dataclass(slots=True, eq=False)
class Followed:
    """How far a link was told of a room."""

    room: RoomId
    resume: t.Resume
    """Where to begin; looked at once."""
    eyes: Eyes | None = None
    """As whom it looked at the last step; None before the first."""
    at: Position = Position(0)
    """Every fact up to here was told, or may not be told."""
    shown: Shown = _BEFORE
    """How many public messages there are up to there, and the public line there."""
    moves: int = 0
    asks: int = 0
    asked: Position = Position(0)
    """Every key and request up to here was told, which may be ahead of `at`: a card has them as they are now."""
    seqs: dict[AgentId, int] = field(default_factory=dict)
    """The own number of each of its members there."""
    jumped: bool = True
    """Whether the next page does not go on where the one before it ended."""
    is_level: bool = False
    """Whether it was said that all is told which was there."""
    knows_rest: bool = False
    """Whether it was told how the tasks stand that were claimed before it began, and which words were gone."""
    waits_from: int | None = None
    """What was said of how old an epoch is under which something is sealed that waits; None where nothing was."""
    presence: dict[AgentId, tuple[str, t.StatedStatus | msgspec.UnsetType]] = field(default_factory=dict)
    """How present each member was said to be, and what it was said to state."""


@dataclass(slots=True, eq=False)
class LinkStream:
    """The one stream of a link."""

    rooms: dict[RoomId, Followed]
    link: Link
    waiter: Waiter
    """Wakes the stream's own task."""
    outlet: Outlet | None
    """Where items go past the task; None where there is no such way."""
    told: int = 0
    """How many items were sent since it began."""
    is_waiting: bool = False
    """Whether the task waits, with everything sent that it ever made."""
    speaking: tuple[AgentId, ...] = ()
    """The agents that were attached at the last look."""
    presence_at: float = -inf
    """When presence was last told, on the loop's clock."""
    sights_at: int = 0
    """The number of the last word on messages of attached agents that was looked at."""
    awaits: set[tuple[RoomId, AgentId, int]] = field(default_factory=set)
    """The direct rooms of which was said that they wait for an agent, and how many had come and gone there then."""
    opened: set[RoomId] = field(default_factory=set)
    """The rooms of which was said that they were opened for an agent."""
    pair_ears: dict[AgentId, Callable[[], None]] = field(default_factory=dict)
    """What stops the news of direct rooms that wait for each of the agents, and of rooms that were opened for it."""
    has_pair_news: bool = False
    """Whether a direct room may wait for one of them, or one may have been opened for it, of which nothing was said."""

    def give(self, item: bytes) -> None:
        """Send one item past the stream's task."""
        assert self.outlet is not None, "there is a way past the task"
        self.outlet.give(item)
        self.told += 1

    def note_pairs(self) -> None:
        """A direct room waits for one of these agents: the stream's task looks."""
        self.has_pair_news = True
        self.waiter.wake()


class _Message(NamedTuple):
    """A message, as every link is told it that may see it."""

    visibility: tuple[AgentId, ...] | None
    encoded: msgspec.Raw


class News:
    """What was stored in a room after a position, if it is messages that fit in one page, and what became of keys and
    requests."""

    def __init__(self, room: Room, after: Followed, facts: Sequence[NewFact], now: Millis) -> None:
        """`after` is any link's place before these facts, which `fit`."""
        self.room = after.room
        self.after = after.at
        self.upto = facts[-1].header.position
        self._now = now
        self._shown_after = after.shown
        self._messages: list[_Message] = []
        self._members = room.state.members
        # Where something became of a key or a request, and of whose requests.
        self._asks: list[Position] = []
        self._askers: set[PrincipalId] = set()
        for fact in facts:
            match fact.header.event:
                case e.MessagePosted() as event:
                    self._messages.append(_Message(event.visibility, msgspec.Raw(encode(message_of(fact)))))
                    if event.visibility is None:
                        number, line = self._shown_after
                        self._shown_after = Shown(number + 1, next_line(line, event.envelope))
                case e.JoinRequested(request=id) | e.JoinDenied(request=id):
                    self._asks.append(fact.header.position)
                    self._askers.add(room.state.requests[id].principal)
                case _:
                    self._asks.append(fact.header.position)

    @staticmethod
    def fit(facts: Sequence[NewFact]) -> bool:
        """Whether these facts can be told so."""
        bodies = [len(fact.body or b"") for fact in facts if isinstance(fact.header.event, e.MessagePosted)]
        return (
            all(isinstance(fact.header.event, _TOLD) for fact in facts)
            and len(bodies) <= PAGE
            and (len(bodies) == 1 or sum(bodies) <= PAGE_BYTES)
        )

    def shows_card(self, stream: LinkStream, followed: Followed) -> bool:
        """Whether a link may know what became of keys or requests: a card says that, which its own task makes."""
        assert followed.eyes is not None
        return bool(self._asks) and (followed.eyes.owns or stream.link.principal in self._askers)

    def is_for_all(self, followed: Followed) -> bool:
        """Whether each agent of a link sees what is public. One who only asks for work does not, and its numbers and
        the gaps between its pages are for the link's own task to tell."""
        assert followed.eyes is not None
        return all(
            reads_on(member) and not member.waits for member in map(self._members.__getitem__, followed.eyes.members)
        )

    def tell(self, followed: Followed, stream: LinkStream) -> list[MarkDelivery]:
        """Send a link its page, and say which of its agents were sent something. The link has everything up to
        `after`, its agents are those of the last step, and the news `is_for_all` of them."""
        assert followed.eyes is not None
        seqs, shown = followed.seqs, followed.shown
        before = dict(seqs)
        page: list[msgspec.Raw] = []
        for visibility, encoded in self._messages:
            # Each of them sees every public message, and a private one by its id alone.
            seers = followed.eyes.members
            if visibility is not None:
                seers = tuple(agent for agent in seers if agent in visibility)
            if seers:
                page.append(encoded)
                for agent in seers:
                    seqs[agent] += 1
        followed.at, followed.shown = self.upto, self._shown_after
        if self._asks:
            followed.asks += sum(position > followed.asked for position in self._asks)
        if not page:
            return []
        told = t.LinkPage(
            public=shown.number,
            line=shown.line,
            before=cast(dict[str, int], before),
            jumped=followed.jumped,
            # Encoded already, once for all links.
            messages=cast(list[t.LinkMessage], page),
        )
        followed.jumped = False
        stream.give(encode(t.LinkItem(room=self.room, page=told, level=True)))
        return [
            MarkDelivery(self.room, agent, "pushed", upto=self.upto, at=self._now, after=self.after)
            for agent in followed.eyes.members
        ]


class Pushed:
    """What was sent over all links and is not on record yet: one range for each reader, as long as nothing was left out
    between."""

    def __init__(self) -> None:
        self._marks: dict[tuple[RoomId, AgentId], list[MarkDelivery]] = {}

    def __bool__(self) -> bool:
        return bool(self._marks)

    def add(self, marks: Sequence[MarkDelivery]) -> None:
        """Take in what was sent."""
        for mark in marks:
            known = self._marks.setdefault((mark.room, mark.reader), [])
            if known and known[-1].upto == mark.after:
                mark = msgspec.structs.replace(mark, after=known.pop().after)
            known.append(mark)

    def take(self) -> list[MarkDelivery]:
        """All of it, which is the caller's from now on."""
        marks, self._marks = self._marks, {}
        return [mark for known in marks.values() for mark in known]


def message_of(fact: NewFact) -> t.LinkMessage:
    """A message as it crosses a link: the bytes that its author signed, and what this home says of them."""
    header = fact.header
    assert isinstance(header.event, e.MessagePosted)
    return t.LinkMessage(
        at=header.at,
        agent=header.by.actor,
        principal=header.by.principal,
        body=fact.body or b"",
        signature=fact.signature or b"",
        digest=b"" if fact.body is not None else header.body or b"",
        opening=header.event.opening,
        version=0 if header.event.memory is None else header.event.memory.version,
    )
