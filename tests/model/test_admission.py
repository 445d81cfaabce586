"""A home that holds no key of an author takes what the author signed elsewhere, as it stands, or refuses it.

The model is the author's own home: what a local author writes there, in any order, is admitted by another home of the
same room into the same messages. Whatever is changed on the way is refused, by whoever is responsible: a byte by the
signature, a field that the author itself signed wrongly by the room.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import (
    Envelope,
    HandoffPart,
    Part,
    TextPart,
    decode_envelope,
    encode_envelope,
    root_chain,
    turn_of,
)
from parlerd.core.errors import Refused
from parlerd.core.messages import thread_of
from parlerd.core.model import AgentId, By, HomeId, KeyId, MessageId, Millis, Position, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import decode_opened, encode, room_id_of
from parlerd.engine.actor import ActorParts, RoomActor
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.authors import Admission, Attested, Draft, LocalAuthor, Place
from parlerd.engine.driver import InlineDriver
from parlerd.engine.ports import NoSigners, Signers
from parlerd.engine.rooms import fold
from parlerd.engine.submissions import Settled
from parlerd.store.memory import MemoryStore
from parlerd.store.port import NewFact
from tests.support.core import Agent, open_room
from tests.support.engine import START_MS, CountedKeys, CountedRandomness, HandClock, draft, run

NAMES = ("ann", "ben", "cat")
PERSON = CountedKeys().principal
"""Whom every ring of counted keys belongs to."""
RELAY = HomeId("N" + "A" * 55)
"""The home that admits."""
KEY = KeyId("key")


def opening_by(ann: AgentId) -> c.OpenRoom:
    """What opens the room: `ann` owns it, and its key lets everybody in."""
    owner = Agent(ann, PERSON, "ann")
    command = open_room(owner, home=RELAY, key=KEY, approval=False, expires_at=2**52, max_uses=5)
    room = room_id_of(encode(command.opening))
    return open_room(owner, room=room, home=RELAY, key=KEY, approval=False, expires_at=2**52, max_uses=5)


ROOM = opening_by(CountedKeys().create_agent()).room


class Home:
    """One home of the room, with its own store; members are let in unasked."""

    def __init__(self, nursery: trio.Nursery, signers: Signers, people: dict[str, AgentId], *, seed: int) -> None:
        self.store = MemoryStore()
        self.people = people
        random = CountedRandomness()
        random.ids = random.draws = seed
        self.actor = RoomActor(
            ROOM,
            Room(),
            ActorParts(
                driver=InlineDriver(self.store),
                clock=HandClock(),
                random=random,
                author=LocalAuthor(signers, random),
                admission=Admission(),
                publish=lambda room, facts: None,
                holds=lambda token: True,
            ),
            lambda store: fold(store, ROOM, Room, Room.restore),
        )
        nursery.start_soon(self.actor.run)

    def by(self, name: str) -> By:
        return By(self.people[name], PERSON, "s", "h", "cli")

    async def open(self) -> None:
        """Open the room and let everybody in, as authors whose keys are here."""
        await self.actor.submit(opening_by(self.people["ann"]), self.by("ann"))
        for name in NAMES[1:]:
            await self.actor.submit(c.Knock(key_id=KEY, name=name, host="h"), self.by(name))

    async def admit_room(self, other: Home) -> None:
        """Open the room and let everybody in, as they signed it at another home."""
        opened, _, minted, *joined = other.facts()
        opening, title = decode_opened(opened.body or b"")
        command, words = Admission().open(
            self.by("ann"),
            Attested(opening, opened.signature or b""),
            title,
            attested(minted),
            home=RELAY,
            mint=KEY,
            idempotency_key="open",
        )
        await self.actor.submit(command, self.by("ann"), words)
        for name, fact in zip(NAMES[1:], joined, strict=True):
            knock, signed = Admission().knock(self.by(name), attested(fact), key_id=KEY, wall=Millis(START_MS))
            await self.actor.submit(knock, self.by(name), signed)

    async def admit(self, name: str, body: bytes, signature: bytes) -> Settled:
        command, finished = Admission().take(self.people[name], body, signature)
        return await self.actor.submit(command, self.by(name), finished)

    def facts(self) -> list[NewFact]:
        return self.store.whole_facts(ROOM, Position(0), 1_000)

    def messages(self) -> list[NewFact]:
        return [fact for fact in self.facts() if isinstance(fact.header.event, e.MessagePosted)]

    def folded(self) -> Room:
        return fold(self.store, ROOM, Room, Room.restore)[0]


@dataclass(frozen=True)
class Said:
    """One message: whose, to whom, who alone may see it, and which of those before it is answered, if any."""

    who: str
    to: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    answers: int | None = None
    gives: str | None = None


names = st.sampled_from(NAMES)
said = st.builds(
    Said,
    who=names,
    to=st.lists(names, max_size=3, unique=True).map(tuple),
    only=st.none() | st.lists(names, max_size=3, unique=True).map(tuple),
    answers=st.none() | st.integers(0, 20),
    gives=st.none() | st.sampled_from([*NAMES, ""]),
)


async def speak(home: Home, script: list[Said]) -> None:
    """Let local authors say all this; what the room refuses is not said."""
    for n, what in enumerate(script):
        posted = [fact.header.event for fact in home.messages()]
        target = None
        if what.answers is not None and posted:
            event = posted[what.answers % len(posted)]
            assert isinstance(event, e.MessagePosted)
            target = event.id
        parts: tuple[Part, ...] = (TextPart(f"message {n}"),)
        if what.gives is not None:
            parts = (HandoffPart(next=f"turn {n}", target=what.gives),)
        command = c.PostMessage(
            operation="message.send",
            idempotency_key=f"k{n}",
            input=b"i",
            kind="text" if what.gives is None else "handoff",
            to=what.to if what.gives is None else (),
            taker=what.gives or "",
            turn=turn_of(parts)[0],
            ttl_ms=turn_of(parts)[1],
            visibility=what.only,
            reply_to=target,
        )
        submission = home.actor.place(command, home.by(what.who), Draft(parts, home.actor.aggregate.state.shown))
        with suppress(Refused):
            await submission.result()
        assert submission.error is None or submission.error.code in ("no_such_message", "invalid_param")


async def two_homes(nursery: trio.Nursery) -> tuple[Home, Home, CountedKeys]:
    """The author's home and the home that admits, which has no keys."""
    keys = CountedKeys()
    people = {name: keys.create_agent() for name in NAMES}
    ours, theirs = Home(nursery, keys, people, seed=0), Home(nursery, NoSigners(), people, seed=500)
    await ours.open()
    await theirs.admit_room(ours)
    return ours, theirs, keys


def in_two_homes(scenario: Callable[[Home, Home, CountedKeys], Any]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ours, theirs, keys = await two_homes(nursery)
            await scenario(ours, theirs, keys)
            ours.actor.close()
            theirs.actor.close()

    run(main)


def attested(fact: NewFact) -> Attested:
    """The statement that a fact bears."""
    assert fact.body is not None
    assert fact.signature is not None
    return Attested(fact.body, fact.signature)


def sent(fact: NewFact) -> tuple[bytes, bytes]:
    """What travels: the envelope and its signature."""
    assert fact.body is not None
    assert fact.signature is not None
    return fact.body, fact.signature


@settings(max_examples=40, deadline=None)
@given(st.lists(said, max_size=12))
def test_whatever_local_authors_say_another_home_admits_into_the_same_messages(script: list[Said]) -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await speak(ours, script)
        names = {agent: name for name, agent in ours.people.items()}
        for fact in ours.messages():
            await theirs.admit(names[fact.header.by.actor], *sent(fact))
        there = theirs.messages()
        assert [fact.header.event for fact in there] == [fact.header.event for fact in ours.messages()]
        assert [(fact.body, fact.signature) for fact in there] == [
            (fact.body, fact.signature) for fact in ours.messages()
        ]
        about = Audited.of(theirs.folded().state, theirs.facts()[0].body)
        assert all(is_signed(fact, about) for fact in theirs.facts())
        assert theirs.folded().state.messages == ours.folded().state.messages
        assert theirs.actor.aggregate.state == theirs.folded().state

    in_two_homes(scenario)


def written(author: AgentId, home: Home, **fields: Any) -> Envelope:
    """The envelope that this author's next message there would have, with some fields changed."""
    id = fields.get("id", MessageId("m_first"))
    state = home.actor.aggregate.state
    thread = thread_of(state.messages, author, fields.get("visibility"))
    envelope = Envelope(
        v=2,
        id=id,
        room=ROOM,
        key="k",
        kind="text",
        chain=root_chain(id),
        hops=0,
        authored_at=Millis(7),
        counter=thread.counter + 1,
        previous=thread.envelope,
        shown=state.shown.number,
        line=state.shown.line,
        nonce=bytes(16),
        host="h",
        via="cli",
        parts=(TextPart("from far away"),),
    )
    return msgspec.structs.replace(envelope, **fields)


CHANGES: dict[str, Callable[[Home], dict[str, Any]]] = {
    "room": lambda home: {"room": RoomId("r_2")},
    "host": lambda home: {"host": "claude-code"},
    "via": lambda home: {"via": "mcp"},
    "counter": lambda home: {"counter": 1},
    "line": lambda home: {"line": bytes(32)},
    "previous": lambda home: {"previous": b"x" * 32},
    "role": lambda home: {"role": "reviewer"},
    "visibility": lambda home: {"visibility": (home.people["cat"],)},
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_an_author_signed_that_the_room_would_not_have_decided_is_refused_and_leaves_nothing(what: str) -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben = theirs.people["ben"]
        body = encode_envelope(written(ben, theirs))
        await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))
        before = theirs.actor.aggregate.snapshot()
        body = encode_envelope(written(ben, theirs, id=MessageId("m_second"), key="k2", **CHANGES[what](theirs)))
        with pytest.raises(Refused) as caught:
            await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))
        assert (caught.value.code, caught.value.details["what"]) == ("envelope_refused", what)
        assert theirs.actor.aggregate.snapshot() == before
        good = encode_envelope(written(ben, theirs, id=MessageId("m_second"), key="k2"))
        assert (await theirs.admit("ben", good, keys.sign(ben, "parler/message", good))).facts

    in_two_homes(scenario)


def test_counters_may_leave_numbers_out_and_each_set_of_readers_has_a_thread_of_its_own() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben, cat = theirs.people["ben"], theirs.people["cat"]
        only = tuple(sorted((ben, cat)))

        async def admit(n: int, counter: int, **fields: Any) -> e.MessagePosted:
            envelope = written(ben, theirs, id=MessageId(f"m_{n}"), key=f"k{n}", counter=counter, **fields)
            body = encode_envelope(envelope)
            settled = await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))
            event = settled.facts[0].event
            assert isinstance(event, e.MessagePosted)
            return event

        first = await admit(1, 1 << 40)
        secret = await admit(2, 7, visibility=only)
        second = await admit(3, (1 << 40) + 5)
        assert [each.counter for each in (first, secret, second)] == [1 << 40, 7, (1 << 40) + 5]
        said = [decode_envelope(fact.body or b"").previous for fact in theirs.messages()]
        assert said == [b"", b"", first.envelope]
        with pytest.raises(Refused) as caught:
            await admit(4, (1 << 40) + 5)
        assert caught.value.details["what"] == "counter"
        with pytest.raises(Refused) as caught:
            await admit(4, 8, visibility=only, previous=first.envelope)
        assert caught.value.details["what"] == "previous"

    in_two_homes(scenario)


def test_an_author_may_have_been_shown_any_part_of_this_room_and_nothing_of_another() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben = theirs.people["ben"]
        shown = [theirs.actor.aggregate.state.shown]

        async def admit(n: int, number: int, line: bytes) -> None:
            id = MessageId(f"m_{n}")
            body = encode_envelope(written(ben, theirs, id=id, key=f"k{n}", shown=number, line=line))
            await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))

        for n in range(5):
            await admit(n, *shown[n // 2])
            shown.append(theirs.actor.aggregate.state.shown)
        assert [each.number for each in shown] == [0, 1, 2, 3, 4, 5]
        for number, line in ((6, shown[5].line), (4, shown[5].line), (0, bytes(32))):
            with pytest.raises(Refused) as caught:
                await admit(9, number, line)
            assert (caught.value.code, caught.value.details["what"]) == ("envelope_refused", "line")

    in_two_homes(scenario)


def test_an_envelope_of_version_1_is_no_longer_admitted() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben = theirs.people["ben"]
        old = written(ben, theirs, v=1, shown=0, line=b"", host="", via="", seen=bytes(32))
        body = encode_envelope(msgspec.structs.replace(old, id=MessageId("")))
        with pytest.raises(Refused) as caught:
            await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))
        assert caught.value.details["what"] == "v"

    in_two_homes(scenario)


def test_a_part_of_a_later_type_is_admitted_as_it_is_and_told_apart_from_another() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben = theirs.people["ben"]

        async def admit(frames: int) -> Settled:
            plain = msgspec.msgpack.decode(encode_envelope(written(ben, theirs)))
            body = msgspec.msgpack.encode({**plain, "parts": [{"type": "hologram", "frames": frames}]})
            return await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))

        await admit(1)
        about = Audited.of(theirs.folded().state, theirs.facts()[0].body)
        assert is_signed(theirs.messages()[0], about)
        assert (await admit(1)).decision.replay
        with pytest.raises(Refused, match="idempotency_conflict"):
            await admit(2)

    in_two_homes(scenario)


def test_a_conversation_that_is_answered_keeps_its_name_and_its_length() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben, root = theirs.people["ben"], MessageId("m_root")
        body = encode_envelope(written(ben, theirs, id=root))
        await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))
        reply = {"id": MessageId("m_reply"), "key": "k2", "reply_to": root, "chain": root_chain(root)}
        for wrong in ({"chain": "c_other", "hops": 1}, {"hops": 2}):
            body = encode_envelope(written(ben, theirs, **{**reply, **wrong}))
            with pytest.raises(Refused, match="envelope_refused"):
                await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))
        body = encode_envelope(written(ben, theirs, **reply, hops=1))
        await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))

    in_two_homes(scenario)


def test_a_bad_signature_another_signer_and_a_changed_byte_take_no_place_in_the_line() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben, cat = theirs.people["ben"], theirs.people["cat"]
        body = encode_envelope(written(ben, theirs))
        signature = keys.sign(ben, "parler/message", body)
        tries = [
            (ben, body, signature[:-1] + bytes([signature[-1] ^ 1])),
            (ben, body, keys.sign(cat, "parler/message", body)),
            (ben, body, keys.sign(ben, "parler/card", body)),
            (cat, body, signature),
            (ben, body[:-1] + b"!", signature),
            (ben, body, b""),
        ]
        for author, said, by in tries:
            with pytest.raises(Refused) as caught:
                Admission().take(author, said, by)
            assert (caught.value.code, caught.value.details["what"]) == ("envelope_refused", "signature")
        Admission().take(ben, body, signature)

    in_two_homes(scenario)


def test_an_id_that_is_in_use_is_refused_in_one_batch_and_later_and_its_message_stays_what_it_was() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        refused: list[tuple[str, object]] = []

        async def admit(name: str, key: str) -> None:
            author = theirs.people[name]
            body = encode_envelope(written(author, theirs, id=MessageId("m_same"), key=key))
            try:
                await theirs.admit(name, body, keys.sign(author, "parler/message", body))
            except Refused as error:
                refused.append((error.code, error.details.get("what")))

        async with trio.open_nursery() as together:
            for name in ("ben", "cat"):
                together.start_soon(admit, name, "k1")
        await admit("ann", "k2")
        assert refused == [("envelope_refused", "id")] * 2
        assert len(theirs.messages()) == 1

    in_two_homes(scenario)


def test_a_message_that_is_signed_again_after_a_lost_answer_is_a_replay_and_another_text_is_a_conflict() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben = theirs.people["ben"]

        async def admit(**fields: Any) -> Settled:
            body = encode_envelope(written(ben, theirs, **fields))
            return await theirs.admit("ben", body, keys.sign(ben, "parler/message", body))

        first = await admit()
        again = await admit(nonce=b"n" * 16, authored_at=Millis(9))
        assert again.decision.replay == first.facts[0].position
        with pytest.raises(Refused, match="idempotency_conflict"):
            await admit(parts=(TextPart("something else"),))

    in_two_homes(scenario)


def test_a_reply_stays_among_the_readers_of_a_private_message_though_one_of_them_left() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        for home in (ours, theirs):
            if home is theirs:
                for fact in ours.messages():
                    await home.admit("ann", *sent(fact))
            else:
                await speak(ours, [Said("ann", only=("ben", "cat"))])
            await home.actor.submit(c.CloseRoom(operation="session.close"), home.by("cat"))
        await speak(ours, [Said("ben", answers=0)])
        reply = ours.messages()[-1]
        settled = await theirs.admit("ben", *sent(reply))
        (header,) = settled.facts
        assert isinstance(header.event, e.MessagePosted)
        assert header.event.visibility == tuple(sorted(theirs.people.values()))

    in_two_homes(scenario)


def test_a_stranger_a_closed_room_and_a_role_that_nobody_has_are_refused_as_for_a_local_author() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        stranger = keys.create_agent()
        theirs.people["stranger"] = stranger

        async def refusal(name: str, **fields: Any) -> str:
            author = theirs.people[name]
            body = encode_envelope(written(author, theirs, **fields))
            with pytest.raises(Refused) as caught:
                await theirs.admit(name, body, keys.sign(author, "parler/message", body))
            return caught.value.code

        assert await refusal("stranger") == "no_such_room"
        assert await refusal("ben", to=(stranger,)) == "no_such_agent"
        gives = {"kind": "handoff", "parts": (HandoffPart(next="x"),)}
        assert await refusal("ben", role="nobody", **gives) == "no_such_agent"
        assert await refusal("ben", reply_to=MessageId("m_none"), hops=1) == "no_such_message"
        await theirs.actor.submit(c.CloseRoom(operation="session.close"), theirs.by("ann"))
        assert await refusal("ben") == "room_closed"

    in_two_homes(scenario)


def test_a_local_author_and_an_admitted_one_take_turns_in_one_thread_of_an_author() -> None:
    """An author that speaks from two homes: each goes on from what the other left, and neither overtakes the other."""

    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        ben = ours.people["ben"]
        await speak(ours, [Said("ben")])
        body = encode_envelope(written(ben, ours, id=MessageId("m_far"), key="far"))
        await ours.admit("ben", body, keys.sign(ben, "parler/message", body))
        place = Place(ROOM, "k", ours.by("ben"), previous=b"", at=Millis(1))
        late = LocalAuthor(keys, CountedRandomness()).sign(
            draft(TextPart("late")),
            e.MessagePosted(id=MessageId("m_late"), kind="text", chain="c_late", counter=1),
            place,
        )
        with pytest.raises(Refused, match="envelope_refused"):
            await ours.admit("ben", late.body, late.signature)
        await speak(ours, [Said("ann"), Said("ben")])
        counters = [
            decode_envelope(fact.body or b"").counter for fact in ours.messages() if fact.header.by.actor == ben
        ]
        assert counters == [1, 2, 3]

    in_two_homes(scenario)
