"""What a stored fact must show to be its author's: the signature, and a header that repeats what was signed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core.envelope import decode_envelope, encode_envelope
from parlerd.core.epoch_record import decode_turned, encode_turned
from parlerd.core.model import (
    HOME_ROOM,
    INVOCATION,
    AgentId,
    HomeId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
)
from parlerd.core.room import Room
from parlerd.core.statements import decode_opened, encode_opened
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.rooms import fold
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, NewFact, Store
from tests.support.engine import engine_world, run
from tests.support.golden import recorded
from tests.support.linked import Elsewhere
from tests.support.sealed_links import SealedOwner


class Written(NamedTuple):
    """Two rooms with their facts, one that asks a person and one whose key lets everybody in, and the facts of the
    home, as a real engine wrote them."""

    about: Audited
    facts: list[NewFact]
    open_about: Audited
    open_facts: list[NewFact]
    home: list[NewFact]


def audited(store: Store, room: RoomId) -> Audited:
    folded, _ = fold(store, room, Room, Room.restore)
    opened = store.body(room, Position(1))
    return Audited.of(folded.state, None if opened is None else opened[0])


@cache
def written() -> Written:
    async def main() -> Written:
        async with engine_world() as served:
            person = await served.person()
            alice, bob, carol, dave, erin = [await served.agent(name) for name in NAMES]
            gated = await alice.open("gated")
            for who in (bob, carol, dave, erin):
                await who.join(gated.session_key)
            await person.approve("bob")
            await person.deny("carol")
            await person.approve((await carol.whoami()).id)
            await person.deny("dave")
            sent = await alice.send("one", idempotency_key="k", to=((await bob.whoami()).id,))
            await bob.join(gated.session_key)
            await bob.send("two", reply_to=sent.id)
            await alice.call("action.register", t.RegisterAction(id="go"))
            await bob.call("action.invoke", t.InvokeAction(id="go", room=gated.room))
            await alice.handoff("look", to="bob", summary="s")
            await bob.handoff("review", to="owner")
            await alice.call("directory.register", t.Register(visibility="public", tags=("web",)))
            unasked = await person.open("open", approval=False)
            for who in (alice, bob):
                await who.join(unasked.session_key)
            await bob.close(unasked.room)
            await bob.join(unasked.session_key)
            store = served.world.store
            rooms = [RoomId(opened.room) for opened in (gated, unasked)]
            (about, facts), (open_about, open_facts) = [
                (audited(store, room), store.whole_facts(room, Position(0), 99)) for room in rooms
            ]
            home = store.whole_facts(HOME_ROOM, Position(0), 99)
            return Written(about, facts, open_about, open_facts, home)

    return run(main)


NAMES = ("alice", "bob", "carol", "dave", "erin")


def first(facts: list[NewFact], kind: type[e.Event], **about: object) -> NewFact:
    """The first fact of this type whose event has these values."""
    for fact in facts:
        event = fact.header.event
        if isinstance(event, kind) and all(getattr(event, name) == value for name, value in about.items()):
            return fact
    raise LookupError(f"no {kind.__name__} with {about}")


def message() -> NewFact:
    return next(fact for fact in written().facts if fact.header.key == "k")


def test_what_an_engine_writes_is_signed() -> None:
    about, facts, open_about, open_facts, home = written()
    assert sum(isinstance(fact.header.event, e.MessagePosted) for fact in facts) == 6
    assert sum(isinstance(fact.header.event, e.DelegationIssued) for fact in home) == 6
    assert {type(fact.header.event) for fact in [*facts, *open_facts] if fact.signature is not None} == {
        e.RoomOpened,
        e.KeyMinted,
        e.JoinRequested,
        e.JoinApproved,
        e.JoinDenied,
        e.MemberJoined,
        e.MessagePosted,
    }
    assert all(is_signed(fact, about) for fact in facts)
    assert all(is_signed(fact, open_about) for fact in open_facts)
    assert all(is_signed(fact, None) for fact in home)


def _event(fact: NewFact, **change: object) -> NewFact:
    event = replace(fact.header.event, **change)
    return replace(fact, header=replace(fact.header, event=event))


def _by(fact: NewFact, **change: object) -> NewFact:
    return replace(fact, header=replace(fact.header, by=replace(fact.header.by, **change)))


FORGED: dict[str, Callable[[NewFact], NewFact]] = {
    "no signature": lambda fact: replace(fact, signature=None),
    "zeroes": lambda fact: replace(fact, signature=bytes(64)),
    "other words": lambda fact: replace(fact, body=(fact.body or b"").replace(b"one", b"two")),
    "another author": lambda fact: _by(fact, actor=AgentId("UX")),
    "another key": lambda fact: replace(fact, header=replace(fact.header, key="l")),
    "another addressee": lambda fact: _event(fact, to=(AgentId("UX"),)),
    "for all": lambda fact: _event(fact, to=()),
    "for few": lambda fact: _event(fact, visibility=()),
    "another kind": lambda fact: _event(fact, kind="decision"),
    "another role": lambda fact: _event(fact, role="dev"),
    "an answer": lambda fact: _event(fact, reply_to=MessageId("m")),
    "another id": lambda fact: _event(fact, id=MessageId("m_other")),
    "another version": lambda fact: _event(fact, envelope_v=1),
    "another host": lambda fact: _by(fact, host="elsewhere"),
    "another door": lambda fact: _by(fact, via="http"),
    "another place": lambda fact: _event(fact, counter=99),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_message_that_is_not_what_its_author_signed_is_found(forged: str) -> None:
    assert is_signed(message(), written().about)
    assert not is_signed(FORGED[forged](message()), written().about)


BY_NOBODY: dict[str, Callable[[NewFact], NewFact]] = {
    "nobody": lambda fact: _by(fact, actor=AgentId(""), principal=PrincipalId(""), session="s"),
    "no person": lambda fact: _by(fact, actor=fact.header.by.actor or AgentId("UX"), principal=PrincipalId("")),
    "no right": lambda fact: replace(fact, header=replace(fact.header, authority="")),
}


@pytest.mark.parametrize("forged", BY_NOBODY)
def test_whatever_was_done_by_nobody_is_found(forged: str) -> None:
    about, facts, open_about, open_facts, home = written()
    for of, some in ((about, facts), (open_about, open_facts), (None, home)):
        for fact in some:
            assert not is_signed(BY_NOBODY[forged](fact), of), fact.header.event


def test_a_message_that_was_moved_to_another_room_is_found() -> None:
    assert not is_signed(message(), written().open_about)


OTHER = AgentId("U" + "X" * 55)
CHANGED: dict[type[e.Event], list[dict[str, object]]] = {
    e.RoomOpened: [
        {"room": RoomId("r_" + "a" * 32)},
        {"home": HomeId("N" + "A" * 55)},
        {"kind": "channel"},
        {"owner": OTHER},
        {"owner_principal": PrincipalId("A" * 56)},
        {"history": "none"},
        {"approval": False},
        {"approver": "agent"},
    ],
    e.KeyMinted: [
        {"ref": "k_other"},
        {"gated": False},
        {"expires_at": Millis(2**50)},
        {"max_uses": 9_999},
        {"preapproved": (OTHER,)},
    ],
    e.JoinRequested: [
        {"key": "none"},
        {"agent": OTHER},
        {"principal": PrincipalId("A" * 56)},
        {"name": "alice"},
        {"host": "claude-code"},
    ],
    e.JoinApproved: [
        {"request": RequestId("q_none")},
        {"agent": OTHER},
        {"proof": "terminal"},
        {"proof": "none"},
    ],
    e.JoinDenied: [{"request": RequestId("q_none")}, {"agent": OTHER}, {"proof": "sealed"}],
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [(kind, change) for kind, changes in CHANGED.items() for change in changes],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_a_fact_that_says_anything_but_what_was_signed_is_found(kind: type[e.Event], change: dict[str, object]) -> None:
    fact = first(written().facts, kind)
    assert is_signed(fact, written().about)
    assert not is_signed(_event(fact, **change), written().about)


@pytest.mark.parametrize("kind", [*CHANGED, e.MemberJoined], ids=lambda kind: kind.__name__)
def test_a_statement_without_its_signature_its_bytes_or_its_room_is_found(kind: type[e.Event]) -> None:
    about, facts, open_about, open_facts, _ = written()
    of_open = kind is e.MemberJoined
    fact = next(
        fact for fact in (open_facts if of_open else facts) if isinstance(fact.header.event, kind) and fact.signature
    )
    here, there = (open_about, about) if of_open else (about, open_about)
    assert is_signed(fact, here)
    assert not is_signed(replace(fact, signature=None), here)
    assert not is_signed(replace(fact, signature=bytes(64)), here)
    assert not is_signed(replace(fact, body=b"\xc1"), here)
    assert not is_signed(replace(fact, body=None, signature=None), here)
    bare = replace(fact, header=replace(fact.header, body=None), body=None, signature=None)
    assert not is_signed(bare, here), "a statement and every trace of it were taken away"
    if kind is not e.RoomOpened:
        assert not is_signed(fact, there)


def test_a_title_that_is_not_the_one_whose_hash_was_signed_is_found() -> None:
    about, facts, _, open_facts, _ = written()
    opening, _ = decode_opened(facts[0].body or b"")
    _, title = decode_opened(open_facts[0].body or b"")
    assert not is_signed(replace(facts[0], body=encode_opened(opening, title)), about)
    assert is_signed(replace(facts[0], body=encode_opened(opening, b"")), about), "a title may have been erased"


def test_a_member_that_nobody_let_in_is_found() -> None:
    about, facts, *_ = written()
    owner = first(facts, e.MemberJoined, agent=about.room.owner)
    approved = first(facts, e.MemberJoined, handle="bob")
    for fact in (owner, approved):
        assert is_signed(fact, about)
        assert not is_signed(_event(fact, agent=OTHER), about)
        assert not is_signed(_event(fact, principal=PrincipalId("A" * 56)), about)
    assert not is_signed(_event(owner, handle="other"), about)
    waiting = first(facts, e.JoinRequested, name="erin").header.event
    denied = first(facts, e.JoinRequested, name="dave").header.event
    for asked in (waiting, denied):
        assert isinstance(asked, e.JoinRequested)
        forged = _event(approved, agent=asked.agent, handle=asked.name, request=asked.request)
        assert not is_signed(forged, about), "the request was not approved"
    assert not is_signed(_event(approved, request=RequestId("q_none")), about)


def test_a_member_whom_a_key_let_in_is_the_one_who_knocked_with_it() -> None:
    _, _, about, facts, _ = written()
    came = first(facts, e.MemberJoined, handle="bob")
    assert is_signed(came, about)
    assert not is_signed(_event(came, agent=OTHER), about)
    assert not is_signed(_event(came, principal=PrincipalId("A" * 56)), about)
    assert not is_signed(_event(came, handle="alice"), about)
    assert not is_signed(_event(came, host="elsewhere"), about)
    assert not is_signed(_event(came, key=None), about)
    assert not is_signed(_event(came, key="none"), about)
    gated = {id: replace(key, gated=True) for id, key in about.keys.items()}
    assert not is_signed(came, about._replace(keys=gated))
    expired = {id: replace(key, expires_at=Millis(1)) for id, key in about.keys.items()}
    assert not is_signed(came, about._replace(keys=expired))


def test_a_decision_names_the_handle_that_the_agent_has() -> None:
    about, facts, *_ = written()
    approved = first(facts, e.JoinApproved)
    assert isinstance(approved.header.event, e.JoinApproved)
    handles = {**about.handles, approved.header.event.agent: "bob-2"}
    assert not is_signed(approved, about._replace(handles=handles))


def test_the_facts_of_a_room_of_an_older_version_need_no_statement() -> None:
    """Nothing was signed in such a room but messages. Its log is the recorded one, whose bodies were not kept."""
    store, facts = MemoryStore(), [NewFact(fact.header) for fact in recorded("room_v1")]
    (outcome,) = store.transact([[Append(RoomId("r_room"), Position(0), facts)]])
    assert outcome.error is None
    about = audited(store, RoomId("r_room"))
    assert about.opening is None
    assert all(is_signed(fact, about) for fact in facts)


def test_a_delegation_that_was_changed_is_found() -> None:
    good = first(written().home, e.DelegationIssued)
    assert is_signed(good, None)
    assert not is_signed(replace(good, signature=bytes(64)), None)
    assert not is_signed(replace(good, body=b"\xc1"), None)
    assert not is_signed(_event(good, expires_at=2**50), None)


def test_a_card_that_its_agent_did_not_sign_is_found() -> None:
    good = first(written().home, e.CardPublished)
    assert is_signed(good, None)
    assert not is_signed(replace(good, signature=bytes(64)), None)
    assert not is_signed(replace(good, body=b"\xc1"), None)
    assert not is_signed(_event(good, visibility="private"), None)
    assert not is_signed(_event(good, revision=1), None)


def test_nothing_may_be_unsigned_but_what_a_home_says_of_an_invocation() -> None:
    good, about = message(), written().about
    assert not is_signed(replace(_event(good, verified="unsigned"), signature=None), about)
    [told] = [fact for fact in written().facts if getattr(fact.header.event, "kind", "") == INVOCATION]
    assert (told.signature, is_signed(told, about)) == (None, True)
    assert not is_signed(_event(told, verified="valid"), about)
    assert not is_signed(replace(told, signature=bytes(64)), about)
    assert not is_signed(_event(told, kind="text"), about)
    assert not is_signed(_event(told, envelope_v=2), about)
    assert not is_signed(_event(told, to=(OTHER,)), about)
    assert not is_signed(replace(told, body=b"\xc1"), about)
    assert not is_signed(replace(told, body=good.body), about)
    assert not is_signed(replace(told, header=replace(told.header, by=replace(told.header.by, actor=OTHER))), about)
    text = replace(decode_envelope(told.body or b""), kind="text")
    assert not is_signed(replace(_event(told, kind="text"), body=encode_envelope(text)), about)


def test_what_says_that_its_signature_does_not_hold_passes_and_what_lost_its_words_does_not() -> None:
    good, about = message(), written().about
    assert is_signed(replace(_event(good, verified="invalid"), signature=None), about)
    assert not is_signed(replace(good, body=None, signature=None), about)
    assert not is_signed(replace(good, body=b"\xc1"), about)


# -- sealed rooms ------------------------------------------------------------------------------------------


@cache
def sealed() -> tuple[Audited, list[NewFact]]:
    """A sealed room as its home keeps it."""

    async def main() -> tuple[Audited, list[NewFact]]:
        async with engine_world() as served:
            olga = SealedOwner(await Elsewhere("olga").link(served, "olive"), "olive")
            ann = await Elsewhere("mia").link(served, "ann", "bea")
            await olga.open()
            await olga.let_in(ann, "ann")
            await olga.say(ann, "ann", "hello")
            await olga.turn()
            room = RoomId(olga.room)
            return audited(served.world.store, room), served.world.store.whole_facts(room, Position(0), 99)

    return run(main)


def test_what_the_home_of_a_sealed_room_keeps_is_signed() -> None:
    about, facts = sealed()
    assert {e.RoomOpened, e.EpochTurned, e.SealingKeyTold, e.MessagePosted} <= {type(f.header.event) for f in facts}
    assert all(is_signed(fact, about) for fact in facts)


OF_SEALED: dict[type[e.Event], list[dict[str, object]]] = {
    e.RoomOpened: [{"sealed": 0}],
    e.SealingKeyTold: [{"agent": OTHER}, {"key": b"o" * 32}, {"counter": 2}],
    e.EpochTurned: [
        {"number": 9},
        {"record": b"o" * 32},
        {"added": ()},
        {"removed": (OTHER,)},
        {"anew": True, "added": ()},
    ],
    e.MessagePosted: [{"envelope_v": 2}, {"visibility": (OTHER,)}, {"kind": "task"}],
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [(kind, change) for kind, changes in OF_SEALED.items() for change in changes],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_a_fact_of_a_sealed_room_that_says_anything_else_is_found(
    kind: type[e.Event], change: dict[str, object]
) -> None:
    about, facts = sealed()
    assert not is_signed(_event(first(facts, kind), **change), about)


def test_a_record_without_its_signature_or_with_other_wraps_is_found() -> None:
    about, facts = sealed()
    fact = first(facts, e.EpochTurned)
    record, wraps = decode_turned(fact.body or b"")
    assert not is_signed(replace(fact, signature=bytes(64)), about)
    assert not is_signed(replace(fact, body=encode_turned(record, wraps + b"w")), about)
    assert not is_signed(replace(fact, body=None, signature=None), about)
