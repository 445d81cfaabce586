"""A room's rules, asked through the front door: decide, commit, decide again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import ErrorBody, Refused
from parlerd.core.model import By, History, KeyId, MessageId, Millis, Position, Proof
from parlerd.core.room import Room
from tests.support.core import (
    BEN,
    CAT,
    DAN,
    DAY,
    EVE,
    HOUR,
    KEY,
    OWNER,
    ROOM,
    STRANGER,
    Agent,
    CountedIds,
    RoomDriver,
    agent,
    opened,
    person,
    refused,
    script_digest,
    scripted_room,
)

OPEN_KEY = KeyId("open")
REPOSITORY = Path(__file__).parents[2]
HISTORIES: tuple[History, ...] = ("full", "from-join", "none")


def types(decision: Decision) -> list[str]:
    return [type(event).__name__ for event in decision.events]


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


def room_command(room: RoomDriver, *, key: str) -> c.OpenRoom:
    """A request to open the same room that says something else."""
    return c.OpenRoom(
        operation="session.open",
        idempotency_key=key,
        input=b"other",
        room=ROOM,
        kind="session",
        name="n",
        topic="t",
        handle="h",
        host="",
        history="full",
        approval=True,
        approver="person",
        mint=KEY,
        expires_at=Millis(room.now),
        max_uses=1,
    )


@pytest.mark.parametrize("who", [BEN, STRANGER])
def test_opening_a_room_of_someone_else_says_no_more_than_that_there_is_none(who: Agent) -> None:
    room = opened()
    room.admit(BEN)
    with refused("no_such_room"):
        room.run(room_command(room, key="k"), who)


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


# -- knocking ----------------------------------------------------------------------------------------------


def test_a_knock_on_a_gated_key_waits_and_shows_nothing() -> None:
    room = opened()
    assert room.knock(BEN) == "pending"
    assert room.waiting() == [BEN.id]
    request = room.aggregate.pending()[0]
    assert (request.name, request.host, request.principal, request.at) == ("ben", "codex", BEN.principal, room.now)
    with refused("no_such_room"):
        room.aggregate.view(BEN.id)
    with refused("no_such_room"):
        room.post(BEN)


def test_repeats_are_free_polls_of_the_one_request() -> None:
    room = opened(max_uses=1)
    answers = [room.knock(BEN) for _ in range(5)]
    assert answers == ["pending"] * 5
    assert len(room.waiting()) == 1
    assert room.aggregate.state.keys[KEY].uses == 0
    room.approve(BEN)
    assert [room.knock(BEN) for _ in range(3)] == ["member"] * 3
    assert room.aggregate.state.keys[KEY].uses == 1
    assert room.log[-1].event == e.MemberJoined(
        agent=BEN.id,
        principal=BEN.principal,
        handle="ben",
        host="codex",
        request=room.request_of(BEN),
        key=KEY,
    )


def test_an_open_key_lets_in_at_once() -> None:
    room = opened(approval=False)
    assert room.knock(STRANGER) == "joined"
    assert room.waiting() == []
    assert room.log[-1].authority == f"key:{KEY[:8]}"
    assert room.knock(STRANGER) == "member"


def test_pre_approval_is_by_id_and_not_by_the_name_one_gives_oneself() -> None:
    room = opened(preapproved=(BEN.id,))
    assert room.knock(agent("ben", key="impostor")) == "pending"
    assert room.knock(agent(BEN.id[:55], key="impostors")) == "pending"
    assert room.knock(BEN) == "joined"
    assert room.handle(BEN) == "ben"


@pytest.mark.parametrize("name", [BEN.id, "a b", "", "x" * 65, "\u0430nn", "owner", "ANYONE"])
def test_a_name_that_could_pass_for_something_else_cannot_knock(name: str) -> None:
    room = opened()
    for key in (KEY, KeyId("wrong")):
        with refused("invalid_name"):
            room.knock(agent(name, key="impostor"), key)


def dead(state: str) -> tuple[RoomDriver, KeyId]:
    """A room, and a key that is no use to a stranger for the reason that is named."""
    room = opened(max_uses=1)
    if state == "expired":
        room.now += DAY
    elif state == "used up":
        room.admit(CAT)
    elif state == "revoked":
        room.revoke()
    elif state == "closed":
        room.close()
    return room, KeyId("never") if state == "unknown" else KEY


DEAD = ["unknown", "expired", "used up", "revoked", "closed"]


def test_a_stranger_cannot_tell_why_a_key_does_not_work() -> None:
    bodies: list[ErrorBody] = []
    for state in DEAD:
        room, key = dead(state)
        for who in (BEN, STRANGER):
            with refused("unknown_key") as caught:
                room.knock(who, key)
            bodies.append(caught.value.body())
    assert len({msgspec.json.encode(body) for body in bodies}) == 1


@pytest.mark.parametrize("state", DEAD)
def test_revoking_tells_a_stranger_no_more_than_knocking_does(state: str) -> None:
    room, key = dead(state)
    with refused("unknown_key") as caught:
        room.revoke(key, by=STRANGER)
    assert caught.value.body() == Refused("unknown_key").body()


@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_who_waits_or_was_answered_hears_so_after_the_key_died(state: str) -> None:
    room = opened()
    for who in (BEN, CAT, DAN):
        room.knock(who)
    room.deny(CAT)
    room.approve(DAN)
    if state == "expired":
        room.now += 2 * DAY
    else:
        room.revoke()
    assert [room.knock(who) for who in (BEN, CAT, DAN)] == ["pending", "denied", "member"]
    room.approve(BEN)  # what waited can be decided on all the same
    assert room.knock(BEN) == "member"
    with refused("unknown_key"):
        room.knock(EVE)


def test_a_used_up_key_still_answers_those_who_knocked_before() -> None:
    room = opened(max_uses=1)
    for who in (BEN, CAT, DAN):
        room.knock(who)
    room.deny(CAT)
    room.approve(DAN)
    assert [room.knock(who) for who in (BEN, CAT, DAN)] == ["pending", "denied", "member"]
    with refused("unknown_key"):
        room.knock(EVE)


def test_closing_refuses_who_still_waits_and_members_stay_members() -> None:
    room = opened()
    room.admit(BEN)
    room.knock(CAT)
    room.close()
    assert room.waiting() == []
    with refused("room_closed"):
        room.knock(CAT)
    assert room.knock(BEN) == "member"
    assert room.seen_by(BEN) == [room.posted()[0][1].id]


def test_a_member_learns_nothing_of_keys_that_are_not_this_rooms() -> None:
    room = opened()
    room.admit(BEN)
    with refused("unknown_key"):
        room.knock(BEN, KeyId("never"))


def test_who_waits_learns_nothing_of_another_key_that_died() -> None:
    room = opened()
    room.mint(OPEN_KEY, gated=False, ttl_ms=HOUR)
    room.knock(BEN)
    assert room.knock(BEN, OPEN_KEY) == "pending"  # a live one is no way round the person
    room.now += HOUR
    with refused("unknown_key"):
        room.knock(BEN, OPEN_KEY)


def test_a_key_dies_in_the_millisecond_it_expires() -> None:
    room = opened(ttl_ms=HOUR)
    room.now += HOUR - 1
    assert room.knock(BEN) == "pending"
    room.now += 1
    with refused("unknown_key"):
        room.knock(CAT)


def test_a_clock_that_steps_back_does_not_revive_a_key() -> None:
    room = opened(ttl_ms=HOUR)
    room.now += HOUR
    room.post(OWNER)
    room.now -= HOUR
    with refused("unknown_key"):
        room.knock(BEN)
    assert room.log[-1].at == room.log[0].at + HOUR


def test_five_may_wait_on_a_key_and_a_sixth_until_one_was_decided_on() -> None:
    room = opened()
    room.mint(KeyId("second"))
    crowd = [agent(f"knocker-{letter}") for letter in "abcde"]
    for who in crowd:
        assert room.knock(who) == "pending"
    with refused("too_many_pending") as caught:
        room.knock(BEN)
    assert caught.value.spec.retryable
    assert room.knock(CAT, KeyId("second")) == "pending"
    assert room.knock(crowd[0]) == "pending"
    room.deny(crowd[1])
    assert room.knock(BEN) == "pending"


def test_a_refused_knock_uses_nothing_of_the_key() -> None:
    room = opened()
    for letter in "abcde":
        room.knock(agent(f"knocker-{letter}"))
    for _ in range(3):
        with refused("too_many_pending"):
            room.knock(BEN)
    assert room.aggregate.state.keys[KEY].uses == 0
    assert len(room.waiting()) == 5


def test_who_is_declined_takes_no_use_of_a_key_away() -> None:
    room = opened(max_uses=1)
    room.knock(STRANGER)
    room.deny(STRANGER)
    assert room.knock(BEN) == "pending"
    room.approve(BEN)
    assert room.aggregate.state.keys[KEY].users == [BEN.id]
    with refused("unknown_key"):
        room.knock(CAT)
    room.verify()


def test_a_person_may_admit_everyone_who_knocked_before_the_key_was_used_up_and_nobody_knocks_after() -> None:
    room = opened(max_uses=1)
    for who in (BEN, CAT, DAN):
        room.knock(who)
    room.approve(BEN)
    assert room.aggregate.state.keys[KEY].state(Millis(room.now)) == "used_up"
    room.approve(CAT)
    assert (room.knock(BEN), room.knock(CAT), room.knock(DAN)) == ("member", "member", "pending")
    assert room.aggregate.state.keys[KEY].uses == 2
    with refused("unknown_key"):
        room.knock(EVE)


def test_an_open_key_admits_as_many_as_its_uses_and_no_more() -> None:
    room = opened(approval=False, max_uses=2)
    assert [room.knock(who) for who in (BEN, CAT, BEN)] == ["joined", "joined", "member"]
    with refused("unknown_key"):
        room.knock(DAN)


def test_lifting_a_denial_is_a_use() -> None:
    room = opened(max_uses=1)
    room.knock(BEN)
    room.deny(BEN)
    room.approve(BEN)
    assert room.aggregate.state.keys[KEY].users == [BEN.id]


def test_leaving_and_returning_is_one_use_of_a_key_and_one_more_question_to_the_person() -> None:
    room = opened(max_uses=2)
    room.admit(BEN)
    for _ in range(3):
        room.leave(BEN)
        assert room.knock(BEN) == "pending"
        with refused("no_such_room"):
            room.aggregate.view(BEN.id)
        room.approve(BEN)
    assert room.aggregate.state.keys[KEY].uses == 1
    assert room.knock(CAT) == "pending"


def test_a_pre_approved_agent_returns_through_a_used_up_key() -> None:
    room = opened(max_uses=1, preapproved=(BEN.id, CAT.id))
    for _ in range(3):
        assert room.knock(BEN) == "joined"
        room.leave(BEN)
    assert room.aggregate.state.keys[KEY].uses == 1
    with refused("unknown_key"):
        room.knock(CAT)


# -- denials -----------------------------------------------------------------------------------------------


def test_a_denial_is_final_on_any_key_until_the_owner_lifts_it() -> None:
    room = opened()
    room.mint(OPEN_KEY, gated=False)
    room.knock(BEN)
    room.deny(BEN)
    for key in (KEY, OPEN_KEY):
        assert room.knock(BEN, key) == "denied"
    assert room.waiting() == []
    decision = room.decide(BEN.id, admit=True)
    assert types(decision) == ["JoinApproved", "MemberJoined"]
    assert room.knock(BEN) == "member"


def test_a_lifted_denial_is_lifted_for_good_and_another_is_another_decision() -> None:
    room = opened()
    room.knock(BEN)
    room.deny(BEN)
    room.approve(BEN)
    room.leave(BEN)
    assert room.knock(BEN) == "pending"
    room.deny(BEN)
    assert room.knock(BEN) == "denied"
    room.approve(BEN)  # the newest of its requests is the one that is meant
    assert room.knock(BEN) == "member"


def test_a_denial_covers_the_other_agents_of_another_person_but_not_of_the_owner() -> None:
    room = opened()
    room.knock(BEN)
    room.deny(BEN)
    assert room.knock(CAT) == "pending"
    room.knock(STRANGER)
    room.deny(STRANGER)
    assert room.knock(agent("sibling", of="stranger")) == "denied"
    assert room.knock(agent("third", of="third")) == "pending"
    room.approve(STRANGER)
    assert room.knock(agent("sibling", of="stranger")) == "pending"


def test_one_who_waits_already_is_decided_on_by_itself_when_its_person_is_denied_elsewhere() -> None:
    room = opened()
    sibling = agent("sibling", of="stranger")
    room.knock(STRANGER)
    room.knock(sibling)
    room.deny(STRANGER)
    assert room.knock(sibling) == "pending"
    room.approve(sibling)
    room.leave(sibling)
    assert room.knock(sibling) == "pending"


# -- deciding ----------------------------------------------------------------------------------------------


def test_approving_makes_a_member_with_the_proof_in_the_log() -> None:
    room = opened()
    room.knock(BEN)
    decision = room.decide("ben", admit=True, proof="terminal")
    assert (decision.authority, decision.answer) == ("person", BEN.id)
    approved, joined = decision.events
    assert approved == e.JoinApproved(request=room.request_of(BEN), agent=BEN.id, proof="terminal")
    assert isinstance(joined, e.MemberJoined)
    assert room.post(BEN).counter == 1


def test_a_decision_is_made_once() -> None:
    room = opened()
    room.knock(BEN)
    room.knock(CAT)
    room.approve(BEN)
    room.deny(CAT)
    for who, admit in ((BEN, True), (BEN, False), (CAT, False)):
        with refused("already_decided") as caught:
            room.decide(who.id, admit=admit)
        assert caught.value.details == {"agent": who.id}


def test_nobody_can_be_approved_who_did_not_knock() -> None:
    room = opened()
    for who in (BEN.id, "ben", "olive"):
        with refused("no_such_request"):
            room.decide(who, admit=True)


def test_an_ambiguous_name_decides_nothing() -> None:
    room = opened()
    other = agent("ben", of="stranger", key="other")
    room.knock(BEN)
    room.knock(other)
    with refused("ambiguous_name"):
        room.decide("ben", admit=True)
    room.decide(room.request_of(other), admit=False)
    room.decide("ben", admit=True)
    assert room.knock(BEN) == "member"


@pytest.mark.parametrize("who", [BEN, CAT, STRANGER])
def test_only_the_owners_person_decides(who: Agent) -> None:
    room = opened()
    room.admit(BEN)
    room.knock(DAN)
    code = "not_owner" if who is BEN else "no_such_room"
    for admit in (True, False):
        with refused(code):
            room.decide(DAN.id, admit=admit, principal=person("stranger"), by=who)
    assert room.waiting() == [DAN.id]


def test_the_person_decides_through_any_of_its_agents() -> None:
    room = opened()
    room.knock(DAN)
    assert room.decide(DAN.id, admit=True, by=CAT).authority == "person"


@pytest.mark.parametrize("by", [OWNER, CAT])
def test_without_a_proof_no_one_speaks_for_the_person(by: Agent) -> None:
    room = opened()
    room.admit(CAT)
    room.knock(DAN)
    with refused("not_owner"):
        room.decide(DAN.id, admit=True, proof="none", by=by)


def test_the_owner_decides_without_the_person_where_the_person_said_so() -> None:
    room = opened(approver="agent")
    room.admit(BEN)
    room.knock(CAT)
    room.knock(DAN)
    with refused("not_owner"):
        room.decide(CAT.id, admit=True, proof="none", by=BEN)
    assert room.decide(CAT.id, admit=True, proof="none").authority == "owner"
    assert room.decide(DAN.id, admit=False, proof="none", principal=person("no one")).authority == "owner"


@pytest.mark.parametrize("proof", ["cli", "form", "terminal", "sealed"])
def test_a_person_may_decide_in_a_room_whose_owner_may_too(proof: Proof) -> None:
    room = opened(approver="agent")
    room.knock(BEN)
    assert room.decide(BEN.id, admit=True, proof=proof, by=CAT).authority == "person"


def test_nothing_is_decided_in_a_closed_room_and_a_stranger_is_not_told_so() -> None:
    room = opened()
    room.knock(BEN)
    room.close()
    with refused("room_closed"):
        room.approve(BEN)
    with refused("no_such_room"):
        room.decide(BEN.id, admit=True, principal=STRANGER.principal, by=STRANGER)


# -- keys --------------------------------------------------------------------------------------------------


def test_the_owner_and_its_person_may_revoke_and_nobody_else() -> None:
    for by, principal in ((OWNER, None), (CAT, OWNER.principal)):
        room = opened()
        assert types(room.revoke(by=by, principal=principal)) == ["KeyRevoked"]
        assert room.revoke(by=by, principal=principal) == Decision(answer="revoked")
    room = opened()
    room.admit(BEN)
    with refused("not_owner"):
        room.revoke(by=BEN)
    with refused("unknown_key"):
        room.revoke(by=STRANGER, principal=STRANGER.principal)
    with refused("unknown_key"):
        room.revoke(KeyId("never"))
    assert not room.aggregate.state.keys[KEY].revoked


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


# -- posting -----------------------------------------------------------------------------------------------


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben, Cat and Dan in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT, DAN)
    return room


def test_only_members_post(talk: RoomDriver) -> None:
    assert talk.post(BEN).counter == 1
    assert talk.log[-1].authority == "member"
    talk.post(OWNER)
    assert talk.log[-1].authority == "owner"
    for who in (EVE, STRANGER):
        with refused("no_such_room"):
            talk.post(who)


def test_an_author_counts_its_own_messages_and_chains_them(talk: RoomDriver) -> None:
    assert [talk.post(who).counter for who in (BEN, CAT, BEN, BEN, OWNER)] == [1, 1, 2, 3, 2]
    last = talk.posted()[-2]
    assert talk.aggregate.thread_of(BEN.id) == last[1].envelope
    assert talk.aggregate.thread_of(DAN.id) == b""


def test_addresses_become_ids_once_each(talk: RoomDriver) -> None:
    assert talk.post(OWNER, to=("ben", BEN.id, "cat", "ben")).to == (BEN.id, CAT.id)
    for gone in ("nobody", EVE.id):
        with refused("no_such_agent"):
            talk.post(OWNER, to=("ben", gone))
    talk.leave(CAT)
    with refused("no_such_agent"):
        talk.post(OWNER, visible_to=("cat",))


def test_an_address_hides_nothing(talk: RoomDriver) -> None:
    message = talk.post(OWNER, to=("ben",))
    assert message.visibility is None
    assert message.id in talk.seen_by(DAN)


def test_a_private_message_leaves_no_trace_for_the_others_the_owner_among_them(talk: RoomDriver) -> None:
    before = {who: talk.seen_by(who) for who in (OWNER, BEN, CAT, DAN)}
    message = talk.post(BEN, visible_to=("cat",))
    assert message.visibility == tuple(sorted((BEN.id, CAT.id)))
    for who in (OWNER, DAN):
        assert talk.seen_by(who) == before[who]
    for who in (BEN, CAT):
        assert talk.seen_by(who) == [*before[who], message.id]


def test_a_note_to_oneself_is_seen_by_no_one_else(talk: RoomDriver) -> None:
    message = talk.post(BEN, visible_to=("ben",))
    assert message.visibility == (BEN.id,)
    assert [who.name for who in (OWNER, BEN, CAT, DAN) if message.id in talk.seen_by(who)] == ["ben"]


@pytest.mark.parametrize("history", HISTORIES)
def test_who_joins_or_returns_later_never_gains_a_message_that_names_others(history: History) -> None:
    room = opened(approval=False, history=history)
    room.admit(BEN, CAT)
    room.leave(CAT)
    secret = room.post(BEN, visible_to=(OWNER.id,))
    room.admit(CAT, DAN)
    for who in (CAT, DAN):
        assert secret.id not in room.seen_by(who)


def test_one_named_in_a_message_sees_it_still_after_leaving_and_returning() -> None:
    room = opened(approval=False, history="none")
    room.admit(BEN, CAT)
    message = room.post(BEN, visible_to=("cat",))
    room.leave(CAT)
    room.admit(CAT)
    assert message.id in room.seen_by(CAT)


def test_a_message_cannot_be_addressed_to_one_it_is_hidden_from(talk: RoomDriver) -> None:
    with refused("invalid_param") as caught:
        talk.post(OWNER, to=("dan",), visible_to=("ben",))
    assert caught.value.details == {"param": "to"}
    assert talk.post(OWNER, to=("ben", "olive"), visible_to=("ben",)).to == (BEN.id, OWNER.id)


def test_a_reply_carries_on_the_chain_and_counts_its_hops(talk: RoomDriver) -> None:
    first = talk.post(OWNER)
    second = talk.post(BEN, reply_to=first.id)
    third = talk.post(CAT, reply_to=second.id)
    assert {message.chain for message in (first, second, third)} == {first.chain}
    assert [message.hops for message in (first, second, third)] == [0, 1, 2]
    assert third.reply_to == second.id
    assert talk.post(DAN).chain != first.chain


def test_a_reply_to_what_one_cannot_see_is_the_reply_to_what_does_not_exist(talk: RoomDriver) -> None:
    hidden = talk.post(BEN, visible_to=("cat",))
    bodies = []
    for target in (hidden.id, MessageId("m_never")):
        for who in (OWNER, DAN):
            with refused("no_such_message") as caught:
                talk.post(who, reply_to=target)
            body = caught.value.body()
            bodies.append(msgspec.structs.replace(body, details={**body.details, "id": ""}))
    assert all(body == bodies[0] for body in bodies)


def test_a_reply_to_the_past_that_history_withholds_is_refused() -> None:
    room = opened(approval=False, history="from-join")
    recap, early = room.posted()[0][1], room.post(OWNER)
    room.admit(BEN)
    with refused("no_such_message"):
        room.post(BEN, reply_to=early.id)
    assert room.post(BEN, reply_to=recap.id).hops == 1


def test_a_reply_to_a_private_message_is_private_to_the_same_readers(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat", "dan"))
    reply = talk.post(CAT, reply_to=secret.id)
    assert reply.visibility == secret.visibility
    assert reply.id not in talk.seen_by(OWNER)
    narrower = talk.post(CAT, reply_to=secret.id, visible_to=("ben",))
    assert narrower.visibility == (BEN.id, CAT.id)
    with refused("invalid_param"):
        talk.post(CAT, reply_to=secret.id, visible_to=("olive",))
    with refused("invalid_param"):
        talk.post(CAT, reply_to=secret.id, to=("olive",))


def test_a_looked_up_message_counts_only_where_the_request_replies_to_one(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat",))
    decision = talk.run(c.PostMessage(kind="note", reply=talk.target(secret.id)), OWNER)
    event = decision.events[0]
    assert isinstance(event, e.MessagePosted)
    assert (event.visibility, event.hops, event.reply_to) == (None, 0, None)


def test_a_reply_keeps_in_sight_those_who_left(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat",))
    talk.leave(CAT)
    reply = talk.post(BEN, reply_to=secret.id)
    assert reply.visibility == (BEN.id, CAT.id)
    talk.admit(CAT)
    assert reply.id in talk.seen_by(CAT)


# -- retries -----------------------------------------------------------------------------------------------


def test_the_same_request_is_posted_once_and_another_under_its_key_is_a_conflict(talk: RoomDriver) -> None:
    first = talk.post(BEN, key="k")
    assert talk.post(BEN, key="k") == first
    assert len(talk.posted()) == 2
    with refused("idempotency_conflict"):
        talk.post(BEN, key="k", input=b"other")
    assert talk.post(CAT, key="k").id != first.id
    assert talk.post(BEN, key="k2").id != first.id


def test_a_retry_is_authorised_before_it_is_looked_up(talk: RoomDriver) -> None:
    talk.post(BEN, key="k")
    talk.leave(BEN)
    for body in (b"input", b"other"):
        with refused("no_such_room"):
            talk.post(BEN, key="k", input=body)


def test_a_retry_is_answered_though_what_it_named_is_gone(talk: RoomDriver) -> None:
    first = talk.post(BEN, key="k", to=("cat",))
    talk.leave(CAT)
    assert talk.post(BEN, key="k", to=("cat",)) == first


def test_a_refused_request_does_not_consume_its_key(talk: RoomDriver) -> None:
    with refused("no_such_agent"):
        talk.post(BEN, key="k", to=("nobody",))
    assert talk.post(BEN, key="k", input=b"corrected").counter == 1


# -- history -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "seen"),
    [
        ("full", ["recap", "before", "during", "away", "after"]),
        ("from-join", ["recap", "during", "away", "after"]),
        ("none", ["recap", "during", "after"]),
    ],
)
def test_history_decides_what_one_sees_of_the_time_before_and_of_its_absence(history: History, seen: list[str]) -> None:
    room = opened(history=history)
    ids = {room.posted()[0][1].id: "recap", room.post(OWNER).id: "before"}
    room.admit(BEN)
    ids[room.post(OWNER).id] = "during"
    room.leave(BEN)
    ids[room.post(OWNER).id] = "away"
    room.admit(BEN)
    ids[room.post(OWNER).id] = "after"
    assert [ids[message] for message in room.seen_by(BEN)] == seen
    assert len(room.seen_by(OWNER)) == 5


@pytest.mark.parametrize("history", HISTORIES)
def test_the_recap_is_shown_to_everyone_who_is_admitted(history: History) -> None:
    room = opened(history=history)
    recap = room.posted()[0][1]
    room.post(OWNER)
    room.admit(BEN, CAT)
    for who in (OWNER, BEN, CAT):
        assert room.seen_by(who)[0] == recap.id


def test_handles_are_numbered_in_the_order_of_coming_in_and_never_move() -> None:
    room = opened()
    others = [agent("ben", of="stranger", key=f"other{letter}") for letter in "ab"]
    for who in (others[0], BEN, others[1]):
        room.knock(who)
    for who in (BEN, others[1]):
        room.approve(who)
    room.leave(BEN)
    room.approve(others[0])
    room.admit(BEN)
    assert [room.handle(who) for who in (BEN, others[1], others[0])] == ["ben", "ben-2", "ben-3"]
    assert room.post(OWNER, to=("ben-2",)).to == (others[1].id,)


# -- folding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_replay_and_snapshot_give_the_room_that_memory_holds(seed: int) -> None:
    room = scripted_room(seed, 300)
    assert len(room.log) > 50
    room.verify()


def test_the_scripts_reach_every_fact_of_a_room() -> None:
    facts = {type(header.event) for seed in range(12) for header in scripted_room(seed, 300).log}
    assert facts == set(get_args(e.RoomEvent))


def test_two_processes_that_hash_differently_write_the_same_bytes() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "from tests.support.core import script_digest; print(script_digest(7))"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hashing in ("1", "2")
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == [script_digest(7)] * 2
    assert answers[0] != script_digest(8)


def test_a_snapshot_that_is_none_is_refused() -> None:
    for data in (b"", b"\xc1", b"\x01", opened().aggregate.snapshot()[:-1]):
        with pytest.raises(msgspec.DecodeError):
            Room.restore(data)


def test_facts_of_the_home_room_change_nothing_in_a_room() -> None:
    room = opened()
    before = msgspec.structs.asdict(room.aggregate.state)
    room.commit(e.SessionActivated(agent=BEN.id, room=ROOM), BEN)
    after = {**msgspec.structs.asdict(room.aggregate.state), "position": before["position"]}
    assert after == before


def test_a_hundred_thousand_facts_fold_to_counts_and_not_to_messages() -> None:
    room = opened(approval=False).aggregate
    crowd = [agent(f"member-{chr(97 + n // 26)}{chr(97 + n % 26)}") for n in range(40)]
    ids = CountedIds()
    for who in crowd:
        knock = c.Knock(key_id=KEY, name=who.name, host="codex")
        for event in room.decide(knock, by=who.by, now=Millis(0), ids=ids).events:
            room.apply(fact(room, event, who.by))
    start = room.position
    for n in range(start, 100_000):
        who = crowd[n % len(crowd)]
        named = tuple(sorted({who.id, crowd[0].id})) if n % 10 == 0 else None
        message = e.MessagePosted(
            id=MessageId(f"m_{n}"), kind="note", chain="c", counter=n, visibility=named, envelope=bytes(32)
        )
        room.apply(fact(room, message, who.by))
    assert room.position == 100_000
    posted = range(start, 100_000)
    public = sum(1 for n in posted if n % 10) + 1  # and the recap
    private = len(posted) + 1 - public
    assert room.newest_seq(OWNER.id) == public
    assert room.newest_seq(crowd[0].id) == public + private
    assert len(room.snapshot()) < 20_000


def fact(room: Room, event: e.Event, by: By) -> e.Header:
    return e.Header(position=Position(room.position + 1), at=Millis(0), by=by, authority="member", event=event)
