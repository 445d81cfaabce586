"""What a stored fact must show to be its author's: the signature, and a header that repeats what was signed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core.model import HOME_ROOM, AgentId, MessageId, Position, RoomId
from parlerd.engine.audit import is_signed
from parlerd.store.port import NewFact
from tests.support.engine import engine_world, run


def stored_facts() -> tuple[RoomId, list[NewFact], list[NewFact]]:
    """A room, its facts and those of the home, as a real engine wrote them."""

    async def main() -> tuple[RoomId, list[NewFact], list[NewFact]]:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one", idempotency_key="k", to=((await bob.whoami()).id,))
            await bob.recv()
            await bob.send("two", reply_to=sent.id)
            await alice.handoff("look", to="bob", summary="s")
            await bob.handoff("review", to="owner")
            room = RoomId(sent.room)
            store = served.world.store
            return (
                room,
                store.whole_facts(room, Position(0), 99),
                store.whole_facts(HOME_ROOM, Position(0), 99),
            )

    return run(main)


def _message(facts: list[NewFact]) -> NewFact:
    return next(fact for fact in facts if isinstance(fact.header.event, e.MessagePosted) and fact.header.key == "k")


def test_what_an_engine_writes_is_signed() -> None:
    room, facts, home = stored_facts()
    assert sum(isinstance(fact.header.event, e.MessagePosted) for fact in facts) == 5
    assert sum(isinstance(fact.header.event, e.DelegationIssued) for fact in home) == 3
    assert all(is_signed(room, fact) for fact in facts)
    assert all(is_signed(HOME_ROOM, fact) for fact in home)


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
    room, facts, _ = stored_facts()
    good = _message(facts)
    assert is_signed(room, good)
    assert not is_signed(room, FORGED[forged](good))


def test_a_message_that_was_moved_to_another_room_is_found() -> None:
    _, facts, _ = stored_facts()
    assert not is_signed(RoomId("r_other"), _message(facts))


def test_a_delegation_that_was_changed_is_found() -> None:
    _, _, home = stored_facts()
    good = next(fact for fact in home if isinstance(fact.header.event, e.DelegationIssued))
    assert is_signed(HOME_ROOM, good)
    assert not is_signed(HOME_ROOM, replace(good, signature=bytes(64)))
    assert not is_signed(HOME_ROOM, replace(good, body=b"\xc1"))
    assert not is_signed(HOME_ROOM, _event(good, expires_at=2**50))


def test_what_says_it_is_not_signed_has_nothing_to_show_and_what_lost_its_words_has() -> None:
    room, facts, _ = stored_facts()
    good = _message(facts)
    assert is_signed(room, replace(_event(good, verified="unsigned"), signature=None))
    assert not is_signed(room, replace(good, body=None, signature=None))
    assert not is_signed(room, replace(good, body=b"\xc1"))
