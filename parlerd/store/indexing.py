"""Index rows from facts: the one place they come from, for every store, while writing and while rebuilding.

`derive` looks at one header and at the running counts of its room, and adds the rows that follow from it. Nothing here
knows where rows are kept. Invariant: feeding a room's headers in order, from empty counts, always gives the same rows,
so an index may be thrown away and made again.

What the numbers are for: `number` in a public row counts the room's public messages up to and with it, `own` those of
its author; in a private row they count what this reader may see of the private ones, and of those its own. A reader's
own numbering (`Seq`) is then a sum of differences of such numbers, and needs no scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from parlerd.core import events as e
from parlerd.core.events import Header
from parlerd.core.model import AgentId, KeyId, MessageId, Millis, Position, RoomId, drawn_key


class RoomRow(NamedTuple):
    """From a room's first fact. `owner` and `principal` are empty in a room nobody opened, such as the home room."""

    room: RoomId
    opened_at: Millis
    owner: str
    principal: str


class MessageRow(NamedTuple):
    id: MessageId
    room: RoomId
    position: Position


class PublicRow(NamedTuple):
    room: RoomId
    position: Position
    number: int
    author: AgentId
    own: int
    kind: str


class PrivateRow(NamedTuple):
    """One per id that may see a message with a `visibility`, its author included. `public` is the room's public count
    at that place."""

    room: RoomId
    reader: AgentId
    position: Position
    number: int
    own: int
    public: int
    author: AgentId
    kind: str


class FilterRow(NamedTuple):
    """A message as a filter finds it: by `kind`, by one of its `addressees`, or by both; the other is empty.
    `audience` is empty for a public message, else one of the ids that may see it."""

    room: RoomId
    audience: str
    addressee: str
    kind: str
    position: Position


class PriorRow(NamedTuple):
    """The first fact of a request that carried an idempotency key, unless that follows from a message's id."""

    room: RoomId
    actor: AgentId
    operation: str
    key: str
    position: Position


class KeyRow(NamedTuple):
    key: KeyId
    room: RoomId


class MembershipRow(NamedTuple):
    """Replaces the row before it for the same agent and room."""

    agent: AgentId
    room: RoomId
    state: str


@dataclass(slots=True)
class Rows:
    """What some facts add to the index, in the order of the facts."""

    rooms: list[RoomRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    public: list[PublicRow] = field(default_factory=list)
    private: list[PrivateRow] = field(default_factory=list)
    filters: list[FilterRow] = field(default_factory=list)
    priors: list[PriorRow] = field(default_factory=list)
    keys: list[KeyRow] = field(default_factory=list)
    memberships: list[MembershipRow] = field(default_factory=list)

    def extend(self, other: Rows) -> None:
        """Take over the rows of `other`, which follow these."""
        self.rooms += other.rooms
        self.messages += other.messages
        self.public += other.public
        self.private += other.private
        self.filters += other.filters
        self.priors += other.priors
        self.keys += other.keys
        self.memberships += other.memberships


class Counts:
    """The running counts of one room. A store that keeps rows elsewhere overrides the two `load_` methods."""

    __slots__ = ("_authored", "_private", "public")

    def __init__(self, public: int = 0) -> None:
        self.public = public
        self._authored: dict[AgentId, int] = {}
        self._private: dict[AgentId, tuple[int, int]] = {}

    def load_authored(self, author: AgentId) -> int:
        """How many public messages this author has in the room so far."""
        return 0

    def load_private(self, reader: AgentId) -> tuple[int, int]:
        """How many private messages this reader may see so far, and how many of them it wrote."""
        return 0, 0

    def next_public(self, author: AgentId) -> tuple[int, int]:
        """Count one more public message; the new totals of the room and of the author."""
        authored = self._authored.get(author)
        if authored is None:
            authored = self.load_authored(author)
        self._authored[author] = authored + 1
        self.public += 1
        return self.public, authored + 1

    def next_private(self, reader: AgentId, *, own: bool) -> tuple[int, int]:
        """Count one more private message for this reader; its new totals."""
        number, owned = self._private.get(reader) or self.load_private(reader)
        counted = number + 1, owned + own
        self._private[reader] = counted
        return counted


def audience_of(event: e.MessagePosted, author: AgentId) -> list[AgentId]:
    """Who may see a message with a `visibility`, in order; nobody in particular for one that is for everyone."""
    return [] if event.visibility is None else sorted({*event.visibility, author})


def filters_of(room: RoomId, position: Position, event: e.MessagePosted, author: AgentId) -> Iterator[FilterRow]:
    """The rows by which a filter finds a message."""
    names = e.addressees(event)
    for audience in audience_of(event, author) or ("",):
        yield FilterRow(room, audience, "", event.kind, position)
        for name in names:
            # Somebody else's id is of no use to a reader of a private message.
            if not audience or name == audience or name[0] in "@*":
                yield FilterRow(room, audience, name, "", position)
                yield FilterRow(room, audience, name, event.kind, position)


def derive(rows: Rows, room: RoomId, header: Header, counts: Counts) -> None:
    """Add to `rows` what `header` means for the index, and move `counts` on."""
    event = header.event
    if header.position == 1:
        owner, principal = "", ""
        if isinstance(event, e.RoomOpened):
            owner, principal = str(event.owner), str(event.owner_principal)
        rows.rooms.append(RoomRow(room, header.at, owner, principal))
    drawn = isinstance(event, e.MessagePosted) and header.key == drawn_key(event.id)
    if header.key is not None and not drawn:
        rows.priors.append(PriorRow(room, header.by.actor, header.operation, header.key, header.position))
    if isinstance(event, e.MessagePosted):
        author, position = header.by.actor, header.position
        rows.messages.append(MessageRow(event.id, room, position))
        rows.filters += filters_of(room, position, event, author)
        if event.visibility is None:
            number, own = counts.next_public(author)
            rows.public.append(PublicRow(room, position, number, author, own, event.kind))
        for reader in audience_of(event, author):
            number, own = counts.next_private(reader, own=reader == author)
            rows.private.append(PrivateRow(room, reader, position, number, own, counts.public, author, event.kind))
    elif isinstance(event, e.KeyMinted):
        rows.keys.append(KeyRow(event.key, room))
    elif isinstance(event, e.MemberJoined):
        rows.memberships.append(MembershipRow(event.agent, room, "member"))
    elif isinstance(event, e.MemberLeft):
        rows.memberships.append(MembershipRow(event.agent, room, "left"))
    elif isinstance(event, e.JoinRequested):
        rows.memberships.append(MembershipRow(event.agent, room, "pending"))
    elif isinstance(event, e.JoinDenied):
        rows.memberships.append(MembershipRow(event.agent, room, "denied"))
