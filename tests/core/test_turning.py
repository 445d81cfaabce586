"""Which record a sealed room takes next, and which key an agent may tell it."""

from __future__ import annotations

from typing import Any

import pytest

from parlerd.core import commands as c
from parlerd.core.epoch_record import LINK
from parlerd.core.model import History, HomeId, RoomId
from parlerd.core.statements import Claim
from tests.support.core import BEN, CAT, HOUR, OWNER, STRANGER, Agent, refused, types
from tests.support.sealed import DECISION, SealedDriver, sealed_room, sealing_key, wraps_of


def claim(who: Agent) -> Claim:
    return Claim(who.id, who.principal, who.name)


@pytest.mark.parametrize(
    ("more", "code", "what"),
    [
        ({"decisions": ()}, "statement_refused", "decisions"),
        ({"decisions": (b"o" * 32,)}, "statement_refused", "decisions"),
        ({"number": 3}, "stale_epoch", "number"),
        ({"previous": b"o" * 32}, "stale_epoch", "number"),
        ({"home": HomeId(STRANGER.principal)}, "statement_refused", "home"),
        ({"room": RoomId("r_other")}, "statement_refused", "room"),
        ({"roster": b"o" * 32}, "statement_refused", "roster"),
        ({"wraps": b"o" * 32}, "statement_refused", "wraps"),
        ({"wrapped": wraps_of([OWNER.id])}, "statement_refused", "wraps"),
        ({"wrapped": wraps_of([OWNER.id, BEN.id, CAT.id])}, "statement_refused", "wraps"),
        ({"link": b""}, "statement_refused", "link"),
    ],
    ids=[
        "of no decision",
        "of another decision",
        "with a gap",
        "of another chain",
        "of another home",
        "of another room",
        "with another roster",
        "with the wraps of another record",
        "without a wrap for who comes in",
        "with a wrap for who is not in",
        "without a link to what came before",
    ],
)
def test_nothing_is_decided_where_the_record_beside_it_does_not_fit(more: dict[str, Any], code: str, what: str) -> None:
    room = sealed_room()
    room.ask(BEN)
    with refused(code) as caught:
        if "decisions" in more:
            new = room.record(add=[claim(BEN)], **more)
            request = next(iter(room.aggregate.state.requests))
            command = c.DecideRequest(
                request=request, admit=True, proof="cli", principal=OWNER.principal, epoch=new, digest=DECISION
            )
            room.run(command, OWNER)
        else:
            room.answer_to(BEN, **more)
    assert caught.value.details["what"] == what
    assert not room.aggregate.state.members.get(BEN.id)


@pytest.mark.parametrize("history", ["from-join", "none"])
def test_no_record_opens_what_came_before_where_that_stays_closed(history: History) -> None:
    room = sealed_room(history=history)
    room.ask(BEN)
    with refused("statement_refused") as caught:
        room.answer_to(BEN, link=bytes(LINK))
    assert caught.value.details["what"] == "link"


def test_a_record_holds_a_member_under_its_own_person_and_handle() -> None:
    room = sealed_room()
    room.ask(BEN)
    for wrong in (Claim(BEN.id, STRANGER.principal, "ben"), Claim(BEN.id, BEN.principal, "olive")):
        new = room.record(add=[wrong], decisions=(DECISION,))
        request = next(iter(room.aggregate.state.requests))
        command = c.DecideRequest(
            request=request, admit=True, proof="cli", principal=OWNER.principal, epoch=new, digest=DECISION
        )
        with refused("statement_refused") as caught:
            room.run(command, OWNER)
        assert caught.value.details["what"] == "added"


def test_a_record_that_adds_somebody_who_is_not_in_is_made_over_another_room() -> None:
    room = sealed_room()
    with refused("stale_epoch") as caught:
        room.turn(room.record(add=[claim(BEN)]))
    assert caught.value.details["what"] == "added"
    room.let_in(BEN)
    with refused("stale_epoch") as caught:
        room.turn(room.record(remove=[BEN.id]))
    assert caught.value.details["what"] == "removed"


@pytest.mark.parametrize(
    ("more", "what"), [({"home": HomeId(STRANGER.principal)}, "home"), ({"agent": CAT.id}, "agent")]
)
def test_a_key_of_another_home_or_agent_is_none(more: dict[str, Any], what: str) -> None:
    room = sealed_room()
    with refused("statement_refused") as caught:
        room.ask(BEN, **more)
    assert caught.value.details["what"] == what


def test_a_fresh_key_is_used_by_the_next_record_and_no_old_one_comes_back() -> None:
    room = sealed_room(BEN)
    room.now += 2 * 24 * HOUR
    assert room.tell_key(BEN, 3).answer == "told"
    assert types(room.tell_key(BEN, 3)) == []
    waiting = room.aggregate.epochs.waiting()
    assert waiting is not None
    assert waiting.fresh == (BEN.id,)
    for old in (1, 2):
        with refused("statement_refused") as caught:
            room.run(c.TellSealingKey(sealing_key=sealing_key(BEN.id, old)), BEN)
        assert caught.value.details["what"] == "counter"
    room.turn()
    assert room.aggregate.state.epochs.roster[BEN.id].counter == 3
    room.counters[BEN.id] = 2
    with refused("statement_refused") as caught:
        room.turn(room.record(add=[claim(BEN)]))
    assert caught.value.details["what"] == "counter"


def test_a_record_with_an_older_key_than_its_agent_told_is_made_anew() -> None:
    room = sealed_room()
    room.let_in(BEN, with_epoch=False)
    old = room.pending()
    room.now += 2 * 24 * HOUR
    room.tell_key(BEN, 2)
    with refused("stale_epoch") as caught:
        room.turn(old)
    assert caught.value.details["what"] == "counter"
    room.turn()


def test_a_record_is_of_no_use_in_a_room_that_is_not_sealed() -> None:
    room = SealedDriver()
    room.open()
    with refused("statement_refused") as caught:
        room.turn(room.record(add=[claim(OWNER)]))
    assert caught.value.details["what"] == "suite"
