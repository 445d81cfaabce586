"""One item that a home told, over the mirror of its room: what the mirror knows, with what was found of it so far.

A later part of the item is so judged as if the mirror had taken in the earlier ones.

Not here: what the parts of an item say (the other modules of this package). Above: those. Below: the mirror's state.
Pure. Invariant: what was found stands in the order of the other home's log, and nothing that was found is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import opened_for
from parlerd.core.epoch_record import Roster
from parlerd.core.grants import Given
from parlerd.core.lifecycle import owners_of
from parlerd.core.membership import told_seq
from parlerd.core.model import AgentId, By, HomeId, KeyId, MessageId, Millis, PrincipalId, RoomId, Shown, Verified
from parlerd.core.public_line import first_line
from parlerd.core.room import Room, RoomState
from parlerd.core.statements import KeyTerms, Opening, Owner
from parlerd.engine.authors import Arrived
from parlerd.uplink.arriving.opener import Opener
from parlerd.uplink.counters import Signed, Threaded


class Past(NamedTuple):
    """What the mirror's store knows of the past: the public line at some numbers, and the messages with some ids, each
    with whether it is of this room."""

    lines: Mapping[int, bytes] = {}
    known: Mapping[MessageId, bool] = {}
    opened: int = 0
    """How many other rooms are known that were opened by the grant which the opening of this one bears."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One command of the mirror, who acted, and the bodies that belong to its events."""

    command: c.Arrive
    by: By
    words: Arrived


class Began(NamedTuple):
    """What a mirror began with: the opening, its bytes, and the signature."""

    opening: Opening
    body: bytes
    signature: bytes


class Epoch(NamedTuple):
    """The epoch that is in force at a place of a sealed room; `number` is 0 before the first."""

    number: int
    record: bytes
    roster: Roster


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the items of a room are judged by, beside what the store knows of them."""

    room: RoomId
    home: HomeId
    mirror: Room
    """The room's mirror as it is now, an empty room before the first item."""
    began: Began | None
    """What the mirror began with."""
    opener: Opener
    """What opens that which is sealed."""
    key_of: Callable[[KeyTerms, PrincipalId, bool], KeyId]
    """The id of a session key in this home, by the key's signed terms, the person who signed them, and whether the room
    is sealed."""
    ours: Callable[[AgentId], bool]
    """Whether an agent is one of this home."""
    own: Callable[[Threaded, int, Signed], bool]
    """Whether this very daemon made a signature, by the envelope's thread and counter: such a signature has not to be
    checked."""
    is_live: bool = False
    """Whether this daemon was told all that was there of the room before."""


class Contradiction(Exception):
    """The other home lied about the room."""

    def __init__(
        self,
        what: str,
        *,
        number: int = 0,
        agent: AgentId | None = None,
        before: tuple[tuple[AgentId, int], ...] = (),
    ) -> None:
        super().__init__(what)
        self.fact = e.HomeContradicted(what=what, number=number, agent=agent, before=before)


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the mirror has it, or will have it once what was found so far is taken in."""

    principal: PrincipalId
    handle: str
    present: bool
    role: str = ""
    locked: bool = False
    given: Given | None = None


class Hearing:
    """One item over one mirror. What is found is added to what the mirror knows."""

    def __init__(self, past: Past, grounds: Grounds) -> None:
        mirror = grounds.mirror
        state = mirror.state
        self.grounds = grounds
        """What the item is judged by."""
        self.past = past
        """What the store knows of what the item names."""
        self.room = grounds.room
        """The room that the item is of."""
        self.home = grounds.home
        """The home that told the item."""
        self.mirror = mirror
        """The room's mirror before the item."""
        self.state: RoomState = state
        """How the room stood before the item."""
        self.arrivals: list[Arrival] = []
        """What was found, in order."""
        self.is_open = bool(state.room)
        """Whether the mirror has begun."""
        self.now = mirror.last_at
        """The other home's time, as far as it told."""
        self.begun = grounds.began
        """What the person who opened the room signed; None before the mirror has begun."""
        self.is_titled = bool(state.name)
        """Whether the mirror knows what the room is called."""
        self.named = opened_for(state.lifecycle, state.keys.values())
        """For whom a direct room was opened, as far as was told."""
        self.owners: list[Owner] = owners_of(state.lifecycle)
        """Everybody who owned the room, as far as was told."""
        self.asking: set[AgentId] = set()
        """Who knocked, as this item told."""
        self.joined: dict[AgentId, Member] = {}
        """Members that this item told of, as the mirror will have them."""
        self.epoch = Epoch(state.epochs.number, state.epochs.record, dict(state.epochs.roster))
        """The epoch that is in force where the next message stands, in a sealed room."""
        self.shown: Shown = state.shown
        """The number of the newest public message that the mirror knows of, and the line there."""
        self.lines: dict[int, bytes] = {state.shown.number: state.shown.line}
        """The line where the mirror ends, and at the public messages of this item."""
        self.is_whole = not state.membership.jumps
        """Whether the mirror holds every public message of the room so far."""
        self.numbers: dict[AgentId, int] = {
            agent: told_seq(state.membership, agent)
            for agent, member in state.members.items()
            if member.present and not member.waits and grounds.ours(agent)
        }
        """The own number of each reader of this home at the place where the next message stands, as the other home
        counts. Who waits for a record is shown nothing: it goes on from the number that is told behind the record."""

    @property
    def opening(self) -> Opening:
        """What the room was opened as."""
        assert self.begun is not None
        return self.begun.opening

    @property
    def is_sealed(self) -> bool:
        """Whether what is said in the room is encrypted for its members."""
        return self.opening.sealed is not msgspec.UNSET

    @property
    def owner(self) -> By:
        """Who acted, where only the room's home knows who did: its owner, for the owner's person."""
        return By(self.opening.owner, self.opening.principal, "", "", "link")

    def add(
        self,
        events: tuple[e.RoomEvent, ...],
        by: By,
        at: Millis,
        bodies: tuple[tuple[bytes, bytes | None] | None, ...] = (),
        *,
        operation: str = "",
        key: str | None = None,
        verified: Verified = "valid",
        named: tuple[MessageId, ...] | None = None,
    ) -> None:
        """Let the mirror take in these events, with the body and the signature of each."""
        self.now = max(self.now, at)
        words = Arrived(bodies or (None,) * len(events), verified)
        command = c.Arrive(events=events, at=at, operation=operation, idempotency_key=key, named=named)
        self.arrivals.append(Arrival(command, by, words))

    def member(self, agent: AgentId) -> Member | None:
        """The agent as a member, if it is or was one."""
        found = self.joined.get(agent)
        if found is None:
            member = self.state.members.get(agent)
            if member is None:
                return None
            found = Member(member.principal, member.handle, member.present, member.role, member.locked, member.given)
        return found

    def line_at(self, number: int) -> bytes | None:
        """The public line at a number, where it is known."""
        if number == 0:
            return first_line(self.room, self.home)
        if number == self.shown.number:
            return self.shown.line
        return self.lines.get(number) or self.past.lines.get(number)
