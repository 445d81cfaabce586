"""A mirror against the room that it is of: whatever it leaves out, each of its readers has the numbers of the room.

The room is a room, in which everything is decided. The mirror is told some of it: it begins somewhere, and now and then
it leaves messages out, as a home does for readers that were away for long. What a store says of both is compared for
each message that the mirror holds and each reader that it is kept for.
"""

from __future__ import annotations

import random
from typing import NamedTuple, get_args

import msgspec
import pytest

from parlerd.core import events as e
from parlerd.core.membership import newest_number
from parlerd.core.model import AgentId, History, MessageId, Position
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, NewFact, Store
from tests.support.core import BEN, CAT, DAN, OWNER, ROOM, Agent, RoomDriver, outcome

OURS = (OWNER, BEN, CAT)
"""The agents that the mirror is kept for; `DAN` belongs to somebody else."""
ALL = (*OURS, DAN)


class Numbers(NamedTuple):
    """How far the room was after one of its facts: its newest public message, and the newest of each reader of ours
    that was in."""

    public: int
    before: tuple[tuple[AgentId, int], ...]


class Told:
    """A room, its mirror, and how far the mirror was told of it."""

    def __init__(self, history: History, *, recap: bool) -> None:
        self.room, self.mirror = RoomDriver(), RoomDriver()
        self.folded = Room()
        """The room once more, fact by fact."""
        self.after: list[Numbers] = []
        """The numbers after each fact of the room."""
        self.upto = 0
        """How many facts of the room were told or left out."""
        self.room.open(approval=False, history=history, recap=recap)
        self.note()

    def note(self) -> None:
        for header in self.room.log[len(self.after) :]:
            self.folded.apply(header)
            members = self.folded.state.members
            ours = [who.id for who in OURS if who.id in members and members[who.id].present]
            before = tuple((who, self.folded.newest_seq(who)) for who in ours)
            self.after.append(Numbers(newest_number(self.folded.state.membership), before))

    def act(self, who: Agent, act: str, readers: tuple[Agent, ...]) -> None:
        match act:
            case "come":
                outcome(lambda: self.room.knock(who))
            case "leave" if who is not OWNER:
                outcome(lambda: self.room.leave(who))
            case _:
                visible = tuple(each.id for each in readers) or None
                outcome(lambda: self.room.post(who, visible_to=visible))
        self.note()

    def tell(self, *, leave_out: bool) -> None:
        """What happened since the last time: all of it, or without the messages."""
        ours = {who.id for who in OURS}
        for header in self.room.log[self.upto :]:
            event, who = header.event, agent_of(header.by.actor)
            if isinstance(event, e.RoomOpened):
                self.mirror.arrive(event, e.MirrorPlaced(public=0, line=bytes(32)), who=who)
            elif isinstance(event, e.MessagePosted):
                # A home tells nothing of messages that none of the readers may ever see.
                if not leave_out and (event.visibility is None or not ours.isdisjoint(event.visibility)):
                    self.mirror.arrive(event, who=who)
            else:
                assert isinstance(event, e.MemberJoined | e.MemberLeft | e.KeyMinted)
                self.mirror.arrive(event, who=who)
                if isinstance(event, e.MemberJoined) and event.agent in ours:
                    self.place(header.position)
        if leave_out and self.room.log[self.upto :]:
            self.place(self.room.log[-1].position)
        self.upto = len(self.room.log)

    def place(self, position: Position) -> None:
        numbers = self.after[position - 1]
        inside = {member.agent for member in self.mirror.aggregate.state.members.values()}
        before = tuple((who, number) for who, number in numbers.before if who in inside)
        self.mirror.arrive(e.MirrorPlaced(public=numbers.public, line=bytes(32), before=before))

    # -- what is compared --------------------------------------------------------------------------------------

    def check(self) -> None:
        there, here = stored(self.room), stored(self.mirror)
        places = {event.id: header.position for header, event in self.room.posted()}
        for who in OURS:
            member = self.mirror.aggregate.state.members.get(who.id)
            if member is None or not member.present:
                continue
            assert self.mirror.aggregate.newest_seq(who.id) == self.room.aggregate.newest_seq(who.id)
            mine, its = self.mirror.aggregate.view(who.id), self.room.aggregate.view(who.id)
            held: dict[MessageId, int] = {}
            for header, event in self.mirror.posted():
                if can_see(mine, position=header.position, visibility=event.visibility):
                    held[event.id] = here.seq_at(ROOM, mine, header.position)
                    assert held[event.id] == there.seq_at(ROOM, its, places[event.id])
            page = here.page(ROOM, mine, Position(0), limit=1_000, max_bytes=1_000_000, skip_own=False)
            assert {event_id(each.header): each.seq for each in page.messages} == held
            assert page.end_seq == (max(held.values()) if held else 0)
            unread = here.unread(ROOM, mine, Position(0))
            assert unread == sum(each.header.by.actor != who.id for each in page.messages)
        self.mirror.verify()


def stored(driver: RoomDriver) -> Store:
    """The log in a store. Only headers matter to numbers."""
    store = MemoryStore()
    facts = [NewFact(msgspec.structs.replace(header, body=None)) for header in driver.log]
    (done,) = store.transact([[Append(ROOM, Position(0), facts)]])
    assert done.error is None
    return store


def event_id(header: e.Header) -> MessageId:
    assert isinstance(header.event, e.MessagePosted)
    return header.event.id


def agent_of(id: AgentId) -> Agent:
    return next(who for who in ALL if who.id == id)


@pytest.mark.parametrize("history", get_args(History))
@pytest.mark.parametrize("seed", range(40))
def test_the_numbers_of_a_mirror_are_those_of_its_room(history: History, seed: int) -> None:
    draw = random.Random(seed)
    told = Told(history, recap=draw.random() < 0.7)
    for _ in range(10):
        for _ in range(draw.randrange(7)):
            act = draw.choice(("come", "come", "leave", "say", "say", "say", "say"))
            told.act(draw.choice(ALL), act, tuple(draw.sample(ALL, draw.choice((0, 0, 1, 2)))))
        told.tell(leave_out=draw.random() < 0.4)
        told.check()
