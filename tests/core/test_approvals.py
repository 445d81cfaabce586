"""Keys, requests and how a person's answer finds the one it means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parlerd.core import approvals, topics
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import MAX_LIVE_KEYS, KeyState, Request
from parlerd.core.decision import Decision
from parlerd.core.errors import ErrorBody, Refused
from parlerd.core.model import MAX_PENDING_PER_KEY, KeyId, Millis, Proof, RequestId
from parlerd.core.statements import MAX_TRANSFERS, KeyTerms, Transfer
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
    RoomDriver,
    agent,
    opened,
    person,
    ref_of,
    refused,
    types,
)

ONE, OTHER = KeyId("key"), KeyId("other")
OPEN_KEY = KeyId("open")
Requests = dict[RequestId, Request]


def key(*, uses: int = 0, max_uses: int = 2, revoked: bool = False) -> KeyState:
    users = [agent(f"user{letter}").id for letter in "abcdefgh"[:uses]]
    return KeyState(
        id=ONE,
        ref="k_one",
        gated=True,
        expires_at=Millis(100),
        max_uses=max_uses,
        minted_at=Millis(0),
        users=users,
        revoked=revoked,
    )


def asked(*entries: tuple[Agent, str], key: KeyId = ONE) -> Requests:
    return {
        RequestId(f"q_{n}"): Request(
            id=RequestId(f"q_{n}"),
            key_id=key,
            agent=who.id,
            principal=who.principal,
            name=who.name,
            host="codex",
            at=Millis(n),
            state=state,
        )
        for n, (who, state) in enumerate(entries)
    }


# -- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "now", "state"),
    [
        (key(), 99, "live"),
        (key(), 100, "expired"),
        (key(uses=1), 99, "live"),
        (key(uses=2), 99, "used_up"),
        (key(uses=2, revoked=True), 100, "revoked"),
    ],
)
def test_an_owner_is_told_what_became_of_a_key_and_only_a_live_one_can_be_used(
    known: KeyState, now: int, state: str
) -> None:
    assert known.state(Millis(now)) == state
    if state == "live":
        assert approvals.usable_key({ONE: known}, ONE, BEN.id, Millis(now)) is known
    else:
        with refused("unknown_key"):
            approvals.usable_key({ONE: known}, ONE, BEN.id, Millis(now))


def test_a_key_that_cannot_be_used_looks_like_one_that_never_was() -> None:
    bodies = []
    for keys, now in (({}, 0), ({ONE: key()}, 100), ({ONE: key(uses=2)}, 0), ({ONE: key(revoked=True)}, 0)):
        with refused("unknown_key") as caught:
            approvals.usable_key(keys, ONE, BEN.id, Millis(now))
        bodies.append(caught.value.body())
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0].details == {}


def test_a_key_counts_each_agent_once() -> None:
    known = key()
    for who in (BEN, BEN, CAT, BEN):
        known.use(who.id)
    assert known.uses == 2


def test_a_used_up_key_still_serves_those_who_used_it() -> None:
    known = key()
    known.use(BEN.id)
    known.use(CAT.id)
    assert approvals.usable_key({ONE: known}, ONE, CAT.id, Millis(0)) is known
    with refused("unknown_key"):
        approvals.usable_key({ONE: known}, ONE, DAN.id, Millis(0))


def test_a_sixth_request_on_one_key_has_to_wait_until_one_is_decided() -> None:
    crowd = [agent(f"a{letter}") for letter in "bcdef"]
    assert len(crowd) == MAX_PENDING_PER_KEY
    requests = asked(*((who, "pending") for who in crowd))
    with refused("too_many_pending") as caught:
        approvals.check_queue(requests, ONE, BEN.principal, OWNER.principal, Millis(0))
    assert caught.value.details == {"limit": 5}
    approvals.check_queue(requests, OTHER, BEN.principal, OWNER.principal, Millis(0))
    requests[RequestId("q_3")].state = "denied"
    approvals.check_queue(requests, ONE, BEN.principal, OWNER.principal, Millis(0))


def test_agents_of_another_person_wait_one_at_a_time_at_a_key() -> None:
    requests = asked((STRANGER, "pending"))
    with refused("too_many_pending") as caught:
        approvals.check_queue(requests, ONE, STRANGER.principal, OWNER.principal, Millis(0))
    assert caught.value.details == {"limit": 1}
    # Neither another key's queue, nor another person, nor the owner's own is held up by that.
    approvals.check_queue(requests, OTHER, STRANGER.principal, OWNER.principal, Millis(0))
    approvals.check_queue(requests, ONE, person("someone"), OWNER.principal, Millis(0))
    approvals.check_queue(requests, ONE, STRANGER.principal, STRANGER.principal, Millis(0))


# -- invites -----------------------------------------------------------------------------------------------


def terms(driver: RoomDriver, ref: str = "i_1", **more: Any) -> KeyTerms:
    fields: dict[str, Any] = {
        "home": driver.aggregate.state.home,
        "room": ROOM,
        "ref": ref,
        "gated": True,
        "expires_at": Millis(driver.now + DAY),
        "max_uses": 3,
        "preapproved": (),
        "nonce": b"",
    }
    return KeyTerms(**{**fields, **more})


def invite(driver: RoomDriver, key: KeyId = OTHER, by: Agent = OWNER, **more: Any) -> str:
    principal = more.pop("principal", None)
    return driver.run(c.MintKey(mint=key, terms=terms(driver, **more), principal=principal), by).answer


def test_an_owner_makes_one_key_more_and_the_same_again_makes_none() -> None:
    room = opened()
    assert invite(room) == "minted"
    made = room.aggregate.state.keys[OTHER]
    assert (made.ref, made.gated, made.max_uses, made.expires_at) == ("i_1", True, 3, room.now + DAY)
    assert room.knock(BEN, OTHER) == "pending"
    stood = room.aggregate.position
    assert invite(room) == "minted"
    assert room.aggregate.position == stood


def test_the_owners_person_makes_keys_and_nobody_else_does() -> None:
    room = opened()
    room.admit(BEN)
    for who, code in ((BEN, "not_owner"), (STRANGER, "no_such_room")):
        with refused(code):
            invite(room, by=who, principal=STRANGER.principal)
    assert invite(room, by=BEN, principal=OWNER.principal) == "minted"


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("home", {"home": "A" + "B" * 55}),
        ("room", {"room": "r_other"}),
        ("gated", {"gated": False}),
        ("preapproved", {"preapproved": (BEN.id,)}),
        ("ref", {"ref": ref_of(KEY)}),
    ],
)
def test_a_key_that_is_not_this_rooms_or_asks_less_than_the_room_does_is_refused(
    what: str, more: dict[str, Any]
) -> None:
    room = opened()
    with refused("statement_refused") as caught:
        invite(room, **more)
    assert caught.value.details == {"what": what}
    assert list(room.aggregate.state.keys) == [KEY]


def test_a_key_of_another_ref_is_not_the_same_key() -> None:
    room = opened()
    with refused("statement_refused"):
        invite(room, key=KEY)


def test_a_room_that_asks_nobody_may_have_keys_that_ask() -> None:
    room = opened(approval=False)
    invite(room, gated=True)
    assert room.knock(BEN, OTHER) == "pending"
    invite(room, key=OPEN_KEY, ref="i_2", gated=False)
    assert room.knock(CAT, OPEN_KEY) == "joined"


def test_a_room_has_so_many_live_keys_and_a_dead_one_makes_place() -> None:
    room = opened()
    for number in range(MAX_LIVE_KEYS - 1):
        invite(room, KeyId(f"k{number}"), ref=f"i_{number}")
    with refused("too_many_keys") as caught:
        invite(room, KeyId("more"), ref="i_more")
    assert caught.value.details == {"limit": MAX_LIVE_KEYS}
    room.revoke(KeyId("k3"))
    assert invite(room, KeyId("more"), ref="i_more") == "minted"


def test_a_closed_room_gets_no_key() -> None:
    room = opened()
    room.close()
    with refused("room_closed"):
        invite(room)


# -- who was put out ---------------------------------------------------------------------------------------


def kick(room: RoomDriver, who: Agent, by: Agent = OWNER) -> str:
    return room.run(c.Kick(agent=who.id), by).answer


def test_who_was_put_out_asks_with_every_key_until_somebody_lets_it_in() -> None:
    room = opened(approval=False)
    room.mint(OTHER, gated=True, preapproved=(BEN.id,))
    assert room.knock(BEN) == "joined"
    assert kick(room, BEN) == BEN.id
    with refused("no_such_room"):
        room.post(BEN)
    assert room.knock(BEN, OTHER) == "pending"
    assert room.knock(BEN) == "pending"
    room.approve(BEN)
    assert room.knock(BEN) == "member"
    room.run(c.Leave(), BEN)
    assert room.knock(BEN) == "joined"


def test_another_persons_other_agents_ask_too_and_the_owners_are_told_apart() -> None:
    sibling = agent("sibling", of="stranger")
    room = opened(approval=False)
    for who in (BEN, STRANGER):
        room.knock(who)
        kick(room, who)
    assert room.knock(sibling) == "pending"
    assert room.knock(CAT) == "joined"


def test_who_left_by_itself_comes_back_unasked() -> None:
    room = opened(approval=False)
    room.knock(STRANGER)
    assert room.run(c.Leave(), STRANGER).answer == "left"
    assert room.knock(STRANGER) == "joined"


def test_nobody_puts_the_owner_out_and_a_member_nobody() -> None:
    room = opened()
    for who in (BEN, CAT):
        room.admit(who)
    with refused("owner_stays"):
        kick(room, OWNER)
    with refused("not_owner"):
        kick(room, CAT, by=BEN)
    with refused("no_such_room"):
        kick(room, CAT, by=STRANGER)
    with refused("no_such_agent"):
        kick(room, DAN)
    assert room.run(c.Kick(agent="cat", principal=OWNER.principal), BEN).answer == CAT.id


def test_the_owner_does_not_leave_and_whoever_is_not_in_cannot() -> None:
    room = opened()
    with refused("owner_stays"):
        room.run(c.Leave(), OWNER)
    with refused("no_such_room"):
        room.run(c.Leave(), BEN)


# -- another owner -----------------------------------------------------------------------------------------


def give(room: RoomDriver, to: Agent, by: Agent = OWNER, **more: Any) -> str:
    command = c.ChangeOwner(owner=to.name, principal=more.pop("principal", by.principal), **more)
    return room.run(command, by).answer


def test_whoever_is_given_the_room_decides_from_then_on() -> None:
    room = opened()
    for who in (STRANGER, BEN):
        room.admit(who)
    assert give(room, STRANGER) == STRANGER.id
    assert room.aggregate.state.owner == STRANGER.id
    with refused("not_owner"):
        give(room, BEN)
    room.knock(CAT)
    with refused("not_owner"):
        room.decide("cat", admit=True)
    room.decide("cat", admit=True, principal=STRANGER.principal, by=STRANGER)
    assert room.aggregate.state.members[CAT.id].present
    assert [owner.agent for owner in room.aggregate.state.lifecycle.owners] == [OWNER.id, STRANGER.id]


def test_only_the_owners_person_gives_a_room_and_only_to_who_is_in() -> None:
    room = opened()
    room.admit(STRANGER)
    with refused("not_owner"):
        give(room, STRANGER, by=STRANGER)
    with refused("no_such_room"):
        give(room, STRANGER, by=agent("third", of="third"))
    with refused("no_such_agent"):
        give(room, BEN)
    assert give(room, OWNER) == OWNER.id
    assert len(room.aggregate.state.lifecycle.owners) == 1


def test_a_room_is_taken_over_when_its_owners_person_neither_acts_nor_is_there() -> None:
    room = opened()
    room.admit(STRANGER)
    room.post(OWNER)
    acted, away = room.now, Millis(10 * DAY)

    def take(**more: Any) -> str:
        return give(room, STRANGER, by=STRANGER, takes=True, away_ms=away, **more)

    room.now = Millis(acted + away - 1)
    with refused("owner_is_there") as caught:
        take()
    assert caught.value.details == {"until": acted + away}
    room.now = Millis(acted + away)
    with refused("owner_is_there"):
        take(is_owner_here=True)
    # Of others' words the owner's time does not count.
    room.post(STRANGER)
    assert take() == STRANGER.id
    assert room.aggregate.state.lifecycle.owners[-1].taken


def test_one_takes_a_room_over_for_an_agent_of_ones_own_alone() -> None:
    room = opened()
    for who in (STRANGER, BEN):
        room.admit(who)
    with refused("invalid_param"):
        give(room, BEN, by=STRANGER, takes=True)
    with refused("invalid_param"):
        give(room, BEN, takes=True)


def test_a_room_changes_hands_so_often_and_no_more() -> None:
    room = opened()
    room.admit(BEN)
    for number in range(MAX_TRANSFERS):
        give(room, BEN if number % 2 == 0 else OWNER)
    with refused("too_many_transfers"):
        give(room, BEN if MAX_TRANSFERS % 2 == 0 else OWNER)


@pytest.mark.parametrize(
    ("what", "more"),
    [("number", {"number": 2}), ("owner", {"owner": OWNER.id}), ("taken", {"taken": True}), ("room", {"room": "r_x"})],
)
def test_a_transfer_signed_elsewhere_says_what_the_room_would_say(what: str, more: dict[str, Any]) -> None:
    room = opened()
    room.admit(BEN)
    fields: dict[str, Any] = {
        "home": room.aggregate.state.home,
        "room": ROOM,
        "number": 1,
        "owner": BEN.id,
        "principal": BEN.principal,
        "taken": False,
        "at": Millis(5),
        "nonce": b"n" * 16,
    }
    with refused("statement_refused") as caught:
        give(room, BEN, statement=Transfer(**{**fields, **more}))
    assert caught.value.details == {"what": what}
    assert give(room, BEN, statement=Transfer(**fields)) == BEN.id


# -- denials -----------------------------------------------------------------------------------------------


def test_only_the_newest_request_of_an_agent_stands() -> None:
    requests = asked((BEN, "approved"), (CAT, "denied"), (BEN, "pending"))
    standing = approvals.standing_request(requests, BEN.id)
    assert standing is not None
    assert standing.id == "q_2"
    assert approvals.standing_request(requests, DAN.id) is None


def test_a_denial_covers_its_agent_on_every_key() -> None:
    requests = asked((BEN, "denied"))
    for which in (ONE, OTHER):
        assert approvals.is_denied(requests, which, BEN.by, OWNER.principal)


def test_a_denial_of_one_of_the_owners_agents_says_nothing_of_the_rest() -> None:
    assert not approvals.is_denied(asked((BEN, "denied")), ONE, CAT.by, OWNER.principal)


def test_a_denial_of_another_persons_agent_covers_that_persons_agents_on_that_key() -> None:
    sibling = agent("sibling", of="stranger")
    requests = asked((STRANGER, "denied"))
    assert approvals.is_denied(requests, ONE, sibling.by, OWNER.principal)
    assert not approvals.is_denied(requests, OTHER, sibling.by, OWNER.principal)
    assert not approvals.is_denied(requests, ONE, agent("third", of="third").by, OWNER.principal)


@pytest.mark.parametrize("state", ["pending", "approved"])
def test_an_agent_that_was_asked_about_itself_is_not_covered_by_the_denial_of_another(state: str) -> None:
    sibling = agent("sibling", of="stranger")
    requests = asked((sibling, state), (STRANGER, "denied"))
    assert not approvals.is_denied(requests, ONE, sibling.by, OWNER.principal)


# -- whom the person means ---------------------------------------------------------------------------------


def test_a_request_is_found_by_its_id_its_agents_id_or_a_name_that_only_it_has() -> None:
    requests = asked((BEN, "pending"), (CAT, "pending"))
    for who in ("q_1", CAT.id, "cat"):
        assert approvals.find_request(requests, who).id == "q_1"


def test_nobody_by_that_name_is_no_request() -> None:
    for who in ("ben", BEN.id, "q_9", ""):
        with refused("no_such_request"):
            approvals.find_request(asked((CAT, "pending")), who)


def test_a_name_that_two_of_those_who_wait_gave_is_ambiguous_and_both_are_listed() -> None:
    other = agent("ben", key="other")
    with refused("ambiguous_name") as caught:
        approvals.find_request(asked((BEN, "pending"), (other, "pending"), (CAT, "pending")), "ben")
    assert caught.value.details["candidates"] == [
        {"id": BEN.id, "name": "ben", "host": "codex"},
        {"id": other.id, "name": "ben", "host": "codex"},
    ]


def test_a_name_means_who_waits_before_who_was_decided_on() -> None:
    other = agent("ben", key="other")
    assert approvals.find_request(asked((BEN, "pending"), (other, "denied")), "ben").agent == BEN.id
    assert approvals.find_request(asked((BEN, "denied"), (BEN, "pending"), (BEN, "denied")), BEN.id).id == "q_1"


def test_the_newest_decided_request_is_found_if_one_agent_alone_is_meant() -> None:
    other = agent("ben", key="other")
    requests = asked((BEN, "approved"), (BEN, "denied"))
    for who in ("ben", BEN.id):
        assert approvals.find_request(requests, who).id == "q_1"
    with refused("no_such_request"):
        approvals.find_request(asked((BEN, "denied"), (other, "denied")), "ben")


# -- knocking --------------------------------------------------------------------------------------------


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


# -- denials, by knocking --------------------------------------------------------------------------------


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
    room.mint(OTHER)
    sibling = agent("sibling", of="stranger")
    room.knock(STRANGER)
    room.knock(sibling, OTHER)
    room.deny(STRANGER)
    assert room.knock(sibling, OTHER) == "pending"
    room.approve(sibling)
    room.leave(sibling)
    assert room.knock(sibling, OTHER) == "pending"


# -- deciding --------------------------------------------------------------------------------------------


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


# -- revoking --------------------------------------------------------------------------------------------


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


# -- what time changes -------------------------------------------------------------------------------------


def test_a_room_changes_by_time_alone_when_a_key_of_it_expires() -> None:
    room = opened(ttl_ms=HOUR)
    began = room.now
    room.mint(ONE, ttl_ms=2 * HOUR)
    first, second = Millis(began + HOUR), Millis(began + 2 * HOUR)
    aggregate = room.aggregate
    assert aggregate.next_deadline(Millis(began)) == first
    assert aggregate.next_deadline(Millis(first - 1)) == first
    assert aggregate.next_deadline(first) == second
    assert aggregate.next_deadline(second) is None
    assert aggregate.expire(Millis(began), Millis(first - 1)) == []
    assert aggregate.expire(Millis(first - 1), first) == [topics.keys(ROOM, KEY)]
    assert aggregate.expire(first, second) == [topics.keys(ROOM, ONE)]
    assert aggregate.expire(Millis(began), second) == [topics.keys(ROOM, KEY), topics.keys(ROOM, ONE)]
    assert aggregate.expire(second, Millis(second + DAY)) == []


@pytest.mark.parametrize("state", ["used up", "revoked", "closed"])
def test_a_key_that_is_dead_already_changes_no_more(state: str) -> None:
    room, _ = dead(state)
    assert room.aggregate.next_deadline(Millis(room.now)) is None
    assert room.aggregate.expire(Millis(room.now), Millis(room.now + 2 * DAY)) == []


def test_what_time_changes_is_asked_of_the_room_and_changes_nothing_in_it() -> None:
    room = opened(ttl_ms=HOUR)
    before = room.aggregate.snapshot()
    room.aggregate.next_deadline(Millis(room.now))
    room.aggregate.expire(Millis(0), Millis(room.now + DAY))
    assert room.aggregate.snapshot() == before


# -- a person who is sent away -----------------------------------------------------------------------------


def expelled(room: RoomDriver, who: Agent) -> list[str]:
    return types(room.run(c.Expel(principal=who.principal), OWNER))


def inside(room: RoomDriver) -> set[str]:
    return {member.handle for member in room.aggregate.state.members.values() if member.present}


def test_the_agents_of_a_person_who_is_sent_away_are_in_no_longer_and_the_others_stay() -> None:
    room = opened()
    room.admit(BEN, STRANGER)
    assert expelled(room, STRANGER) == ["MemberLeft"]
    assert inside(room) == {"olive", "ben"}
    assert expelled(room, STRANGER) == []
    assert not room.aggregate.state.keys[KEY].revoked


def test_the_keys_of_a_person_who_is_sent_away_let_nobody_in() -> None:
    room = opened()
    room.admit(STRANGER)
    room.admit(BEN)
    assert expelled(room, OWNER) == ["KeyRevoked", "MemberLeft"]
    assert room.aggregate.state.keys[KEY].revoked
    # The room stays the others', and its owner stays the owner.
    assert inside(room) == {"olive", "stranger"}
    assert expelled(room, OWNER) == []
