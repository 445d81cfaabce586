"""The memory of a sealed room: its home compares no keys, and still nothing is written over what its author did not
know of."""

from __future__ import annotations

import random
from functools import partial
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core import memory
from parlerd.core.envelope import GuardPart, MemoryPart
from parlerd.core.memory import Memory, MemoryState
from parlerd.core.model import AgentId, ErasedWords, MemoryNote, MessageId, ReplyTarget
from parlerd.core.room import Room
from parlerd.core.words import MEMORY
from tests.support.core import BEN, CAT, OWNER, Agent, outcome, refused
from tests.support.sealed import SealedDriver, linked, sealed_room


class Said(NamedTuple):
    """A public message of the room: where it stands at the home, what nobody but members reads, and which it names."""

    header: e.Header
    part: MemoryPart | None
    named: tuple[MessageId, ...]


class Mirror:
    """What the machine of a member has of the memory, which takes in what was said after `begins`. It folds as every
    mirror does, and stands where the home stood when `upto` of it were told."""

    def __init__(self, begins: int = 0) -> None:
        self.state = MemoryState(is_told=True)
        self.begins = self.upto = begins
        self.facet = Memory(self.state)

    def take(self, said: list[Said], upto: int) -> None:
        held = said[self.begins :]
        found = ((each.header.position, each.header.by.actor) for each in held)
        places = dict(zip(ids(held), found, strict=True))
        for each in said[self.upto : upto]:
            event = each.header.event
            assert isinstance(event, e.MessagePosted)
            if each.part is not None:
                note = MemoryNote(key=each.part.key, version=0, forgets=each.part.forgets)
                event = replace(event, kind=MEMORY, memory=note)
            author = each.header.by.actor
            takes = memory.Takes(each.named, author, author == OWNER.id)
            event, _ = memory.told(self.state, event, places, takes)
            self.facet._posted(event, replace(each.header, event=event))
        self.upto = max(self.upto, upto)


def ids(said: list[Said]) -> tuple[MessageId, ...]:
    return tuple(each.header.event.id for each in said if isinstance(each.header.event, e.MessagePosted))


def noted(mirror: Mirror, part: MemoryPart, who: Agent, target: ReplyTarget | None = None) -> memory.Noted:
    """What a member's machine decides over its mirror."""
    whole = mirror.begins == 0
    return memory.noted(mirror.state, part, who.by, OWNER.id, target, is_sealed=True, is_whole=whole)


def erased(said: list[Said], named: tuple[MessageId, ...]) -> tuple[ErasedWords, ...]:
    """What the engine of the home finds of messages that are named."""
    found = []
    for each in said:
        event, header = each.header.event, each.header
        assert isinstance(event, e.MessagePosted)
        if event.id in named:
            by = header.by
            found.append(ErasedWords(header.position, by.actor, by.principal, 100, event.kind == "other"))
    return tuple(found)


def post(room: SealedDriver, said: list[Said], who: Agent, part: MemoryPart | None, mirror: Mirror) -> None:
    """Say something as a member's machine composes it over its mirror, and the home takes it in. Raises `Refused`."""
    named: tuple[MessageId, ...] = ()
    guard = None
    if part is not None:
        gone = noted(mirror, part, who).erases
        ids = {
            each.header.position: each.header.event.id
            for each in said
            if isinstance(each.header.event, e.MessagePosted)
        }
        named = tuple(ids[position] for position in gone) if part.forgets else ()
        guard = GuardPart(named) if part.forgets or part.if_version is not None else None
    command = room.message(
        who, kind="text" if part is None else "other", shown=mirror.upto, parts=() if guard is None else (guard,)
    )
    command = replace(command, guard=guard, erased=erased(said, named))
    room.run(command, linked(who))
    header = next(h for h in reversed(room.log) if isinstance(h.event, e.MessagePosted))
    said.append(Said(header, part, named))


def test_a_home_takes_in_nothing_that_was_compared_over_an_older_memory() -> None:
    room, said = sealed_room(BEN), list[Said]()
    old, new = Mirror(), Mirror()
    post(room, said, BEN, MemoryPart("deploy", 0), new)
    with refused("envelope_refused") as caught:
        post(room, said, OWNER, MemoryPart("deploy", 0), old)
    assert caught.value.details == {"what": "guard", "number": 1}
    # What cannot be of the memory is no hindrance.
    new.take(said, 1)
    post(room, said, OWNER, None, new)
    post(room, said, BEN, MemoryPart("deploy", 1), new)
    assert room.aggregate.state.messages.other == 3
    room.check(Room, Room.restore)


def test_words_that_go_are_said_by_a_fact_of_the_room() -> None:
    room, said, mirror = sealed_room(BEN, CAT), list[Said](), Mirror()
    for who in (BEN, CAT):
        post(room, said, who, MemoryPart(who.name), mirror)
    mirror.take(said, 2)
    with refused("not_your_fact"):
        # Of its own mirror it would not be allowed: another machine does not ask that.
        post(room, said, CAT, MemoryPart(BEN.name, forgets=True), mirror)
    command = room.message(CAT, kind="other", shown=2, parts=(GuardPart(ids(said[:1])),))
    with refused("not_your_fact"):
        room.run(replace(command, guard=GuardPart(ids(said[:1])), erased=erased(said, ids(said[:1]))), linked(CAT))
    post(room, said, OWNER, MemoryPart(BEN.name, forgets=True), mirror)
    fact = room.log[-1].event
    place = said[0].header.position
    assert fact == e.BodiesErased(spans=((place, place),), messages=1, bytes=100)
    assert room.aggregate.state.retention.covers(place)
    assert not room.aggregate.state.retention.covers(said[1].header.position)
    room.check(Room, Room.restore)


def test_words_that_are_gone_already_are_no_mistake_and_lead_to_no_fact() -> None:
    room, said, mirror = sealed_room(BEN), list[Said](), Mirror()
    post(room, said, BEN, MemoryPart("deploy"), mirror)
    command = room.message(BEN, kind="other", shown=1, parts=(GuardPart(ids(said)),))
    gone = tuple(replace(each, size=0) for each in erased(said, ids(said)))
    decision = room.run(replace(command, guard=GuardPart(ids(said)), erased=gone), linked(BEN))
    assert [type(event) for event in decision.events] == [e.MessagePosted]
    assert decision.erases == ()


def test_a_message_that_forgets_and_does_not_name_the_newest_version_does_nothing_in_the_memory() -> None:
    """A member's own program may ask for that, and the home cannot see it."""
    room, said, mirror = sealed_room(BEN), list[Said](), Mirror()
    for _ in range(2):
        post(room, said, BEN, MemoryPart("deploy"), mirror)
        mirror.take(said, len(said))
    first = ids(said)[0]
    command = room.message(BEN, kind="other", shown=2, parts=(GuardPart((first,)),))
    room.run(replace(command, guard=GuardPart((first,)), erased=erased(said, (first,))), linked(BEN))
    header = next(h for h in reversed(room.log) if isinstance(h.event, e.MessagePosted))
    said.append(Said(header, MemoryPart("deploy", forgets=True), (first,)))
    mirror.take(said, 3)
    entry = mirror.state.keys["deploy"]
    assert (entry.version, entry.is_there) == (2, True)


def newest(mirror: Mirror, key: str) -> tuple[MessageId, bool]:
    entry = mirror.state.keys.get(key)
    return (MessageId(""), False) if entry is None else (entry.id, entry.is_there)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_depends_on_a_version_is_decided_as_if_everybody_had_known_everything(seed: int) -> None:
    """Three members write, write for a version and forget, each over a mirror that lags behind as far as it likes; the
    machine of the third came late and lacks what was before. What the home takes in is what a home would take in that
    reads the keys. Every machine has the same newest version of each key that it has at all."""
    draw, room, said = random.Random(seed), sealed_room(BEN, CAT), list[Said]()
    late = draw.randrange(8)
    mirrors: dict[AgentId, Mirror] = {OWNER.id: Mirror(), BEN.id: Mirror()}
    for _ in range(40):
        if len(said) >= late and CAT.id not in mirrors:
            mirrors[CAT.id] = Mirror(len(said))
        whole = Mirror()
        whole.take(said, len(said))
        who = draw.choice([each for each in (OWNER, BEN, CAT) if each.id in mirrors])
        mirror = mirrors[who.id]
        mirror.take(said, draw.randint(mirror.upto, len(said)))
        key = draw.choice(["one", "two"])
        known = mirror.state.keys.get(key)
        version = known.version if known is not None and known.is_there and draw.random() < 0.8 else draw.randrange(3)
        part = draw.choice([None, MemoryPart(key), MemoryPart(key, version), MemoryPart(key, forgets=True)])
        before = len(said)
        code = outcome(partial(post, room, said, who, part, mirror))
        assert code in {"ok", "version_conflict", "no_such_fact", "not_your_fact", "sealed_room", "envelope_refused"}
        if code != "ok":
            assert len(said) == before
            continue
        if part is None or not (part.forgets or part.if_version is not None):
            continue
        # What its author knew of the key was how it stood.
        assert newest(mirror, key) == newest(whole, key)
        if mirror.begins == 0:
            noted(whole, part, who)
        after = Mirror()
        after.take(said, len(said))
        assert newest(after, key)[1] is not part.forgets
    for mirror in mirrors.values():
        mirror.take(said, len(said))
        whole = Mirror()
        whole.take(said, len(said))
        for key in mirror.state.keys:
            if mirror.state.keys[key].is_there:
                assert newest(mirror, key) == newest(whole, key)
    room.check(Room, Room.restore)
