"""How a room begins and ends, asked through the front door: decide, commit, decide again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.model import KeyId
from tests.support.core import (
    BEN,
    CAT,
    KEY,
    OWNER,
    STRANGER,
    Agent,
    RoomDriver,
    agent,
    open_room,
    opened,
    refused,
    types,
)

# -- opening -----------------------------------------------------------------------------------------------


def test_opening_makes_the_owner_a_member_mints_a_key_and_posts_the_recap() -> None:
    room = RoomDriver()
    decision = room.open()
    assert types(decision) == ["RoomOpened", "MemberJoined", "KeyMinted", "MessagePosted"]
    assert decision.authority == "owner"
    state = room.aggregate.state
    assert (state.owner, state.owner_principal, state.opening) == (OWNER.id, OWNER.principal, 4)
    assert (state.kind, state.name, state.topic, state.opened_at) == (
        "session",
        "auth-redesign",
        "Auth redesign",
        room.now,
    )
    assert room.handle(OWNER) == "olive"
    assert state.keys[KEY].gated
    assert room.posted()[0][1].opening
    assert room.seen_by(OWNER) == [room.posted()[0][1].id]


def test_a_room_without_a_recap_has_no_message() -> None:
    room = opened(recap=False)
    assert room.posted() == []
    assert room.aggregate.state.opening == 0
    room.admit(BEN)
    assert room.seen_by(BEN) == []


def test_opening_again_is_a_replay_or_finds_it_there() -> None:
    room = opened(key="k")
    again = room.open(key="k")
    assert (again.events, again.replay) == ((), 1)
    assert room.open(key="k2") == Decision(answer="exists")
    with refused("idempotency_conflict"):
        room.run(room_command(room, key="k"), OWNER)


def room_command(room: RoomDriver, *, key: str, owner: Agent = OWNER) -> c.OpenRoom:
    """A request to open the same room that says something else."""
    return open_room(owner, name="n", idempotency_key=key, input=b"other", expires_at=room.now, max_uses=1)


@pytest.mark.parametrize("who", [BEN, STRANGER])
def test_opening_a_room_of_someone_else_says_no_more_than_that_there_is_none(who: Agent) -> None:
    room = opened()
    room.admit(BEN)
    with refused("no_such_room"):
        room.run(room_command(room, key="k", owner=who), who)


def test_an_owner_named_like_an_id_cannot_open() -> None:
    with refused("invalid_name"):
        RoomDriver().open(owner=agent(BEN.id, key="owner"))
    with refused("invalid_name"):
        RoomDriver().open(owner=agent("owner", key="owner"))


def test_a_member_that_came_in_under_a_reserved_name_before_is_still_in() -> None:
    room = opened()
    old = agent("owner", key="old")
    room.commit(e.MemberJoined(agent=old.id, principal=old.principal, handle="owner", host="codex"), old)
    room.post(old)
    assert room.handle(old) == "owner"
    room.verify()


# -- leaving and closing -----------------------------------------------------------------------------------


def test_a_member_leaves_and_the_owner_closes() -> None:
    room = opened()
    room.admit(BEN, CAT)
    room.leave(BEN)
    assert isinstance(room.log[-1].event, e.MemberLeft)
    acts: list[Callable[[], object]] = [
        lambda: room.post(BEN),
        lambda: room.aggregate.view(BEN.id),
        lambda: room.leave(BEN),
    ]
    for act in acts:
        with refused("no_such_room"):
            act()
    room.close()
    assert isinstance(room.log[-1].event, e.RoomClosed)
    assert all(key.revoked for key in room.aggregate.state.keys.values())


def test_a_closed_room_is_read_and_not_written() -> None:
    room = opened()
    room.admit(BEN)
    message = room.post(BEN, key="k")
    room.close()
    for who in (OWNER, BEN):
        assert message.id in room.seen_by(who)
        with refused("room_closed"):
            room.post(who)
        with refused("room_closed"):
            room.leave(who)
    with refused("no_such_room"):
        room.post(STRANGER)
    assert room.post(BEN, key="k").id == message.id  # a retry hears what became of it


def test_the_key_of_a_room_of_two_is_good_for_one_and_the_named_one_comes_in_and_back_with_it() -> None:
    def of_two(**terms: Any) -> c.OpenRoom:
        command = open_room(OWNER, max_uses=terms.pop("max_uses", 1), preapproved=(BEN.id,))
        return msgspec.structs.replace(command, opening=msgspec.structs.replace(command.opening, kind="dm"))

    room = RoomDriver()
    with refused("statement_refused"):
        room.run(of_two(max_uses=2), OWNER)
    room.run(of_two(), OWNER)
    assert room.aggregate.state.kind == "dm"
    assert room.knock(BEN) == "joined"
    room.leave(BEN)
    with refused("unknown_key"):
        room.knock(CAT)
    assert room.knock(BEN) == "joined"
    command = of_two()
    assert command.terms is not None
    terms = msgspec.structs.replace(command.terms, ref="k_another", preapproved=())
    with refused("statement_refused"):
        room.run(c.MintKey(mint=KeyId("another"), terms=terms), OWNER)
    room.verify()
