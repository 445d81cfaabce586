"""Handles, coming and going, and which part of the past each member has."""

from __future__ import annotations

import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import membership
from parlerd.core.membership import Member
from parlerd.core.model import AgentId, History, Label, Millis, Position, View
from tests.support.core import (
    BEN,
    CAT,
    OWNER,
    STRANGER,
    Agent,
    RoomDriver,
    agent,
    opened,
    refused,
)

Members = dict[AgentId, Member]
Spans = tuple[tuple[int, int | None], ...]
HISTORIES: tuple[History, ...] = ("full", "from-join", "none")


def come(
    members: Members, who: Agent, position: int, *, history: History = "full", opening: int = 0, public: int = 0
) -> None:
    membership.admit(
        members,
        agent=who.id,
        principal=who.principal,
        handle=membership.free_handle(members, who.id, Label(who.name)),
        host="codex",
        role="",
        at=Millis(position),
        position=Position(position),
        history=history,
        opening=Position(opening),
        public=public,
    )


def go(members: Members, who: Agent, position: int, *, history: History = "full", public: int = 0) -> None:
    membership.depart(members, who.id, position=Position(position), history=history, public=public)


# -- history -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "first", "again"),
    [
        ("full", ((0, None),), ((0, None),)),
        ("from-join", ((3, 4), (10, None)), ((3, 4), (10, None))),
        ("none", ((3, 4), (10, None)), ((3, 4), (10, 20), (30, None))),
    ],
)
def test_each_policy_gives_its_part_of_the_past_and_of_an_absence(history: History, first: Spans, again: Spans) -> None:
    members: Members = {}
    come(members, BEN, 10, history=history, opening=4)
    assert membership.view_of(members[BEN.id]) == View(reader=BEN.id, spans=first)
    go(members, BEN, 20, history=history)
    come(members, BEN, 30, history=history, opening=4)
    assert membership.view_of(members[BEN.id]).spans == again


def test_one_who_left_keeps_the_past_up_to_its_leaving_under_the_policy_none() -> None:
    members: Members = {}
    come(members, BEN, 10, history="none")
    go(members, BEN, 20, history="none")
    assert members[BEN.id].spans == [(10, 20)]


@pytest.mark.parametrize("history", HISTORIES)
def test_who_came_before_the_recap_was_posted_needs_no_span_of_its_own_for_it(history: History) -> None:
    members: Members = {}
    come(members, BEN, 2, history=history)
    assert members[BEN.id].spans == [(0 if history == "full" else 2, None)]


@pytest.mark.parametrize(("history", "hidden"), [("full", 0), ("from-join", 4), ("none", 4)])
def test_public_messages_before_the_join_are_counted_as_hidden_but_for_the_recap(history: History, hidden: int) -> None:
    members: Members = {}
    come(members, BEN, 10, history=history, opening=4, public=5)
    assert members[BEN.id].hidden == hidden


def test_messages_of_an_absence_are_counted_as_hidden_under_the_policy_none_alone() -> None:
    hidden = {}
    for history in HISTORIES:
        members: Members = {}
        come(members, BEN, 1, history=history)
        for leaving, returning in ((2, 5), (7, 8)):
            go(members, BEN, leaving, history=history, public=leaving)
            come(members, BEN, returning, history=history, public=returning)
        hidden[history] = members[BEN.id].hidden
    assert hidden == {"full": 0, "from-join": 0, "none": 4}


# -- handles -----------------------------------------------------------------------------------------------


def test_a_handle_is_the_name_or_the_name_with_the_first_free_number() -> None:
    members: Members = {}
    for n, key in enumerate(("one", "two", "three"), 1):
        come(members, agent("ben", key=key), n)
    assert [member.handle for member in members.values()] == ["ben", "ben-2", "ben-3"]


def test_a_handle_is_kept_for_its_agent_after_it_left_and_given_to_no_other() -> None:
    members: Members = {}
    other = agent("ben", key="other")
    come(members, BEN, 1)
    go(members, BEN, 2)
    come(members, other, 3)
    come(members, BEN, 4)
    assert members[BEN.id].handle == "ben"
    assert members[other.id].handle == "ben-2"


def test_one_who_returns_under_another_name_has_its_old_handle() -> None:
    members: Members = {}
    come(members, BEN, 1)
    go(members, BEN, 2)
    assert membership.free_handle(members, BEN.id, Label("king")) == "ben"


def test_the_longest_name_twice_gives_two_handles_that_are_labels() -> None:
    members: Members = {}
    name = "x" * 64
    for n, key in enumerate(("one", "two"), 1):
        come(members, agent(name, key=key), n)
    assert [member.handle for member in members.values()] == [name, "x" * 62 + "-2"]


# -- who is in ---------------------------------------------------------------------------------------------


def test_one_who_left_and_one_who_never_came_get_the_same_answer() -> None:
    members: Members = {}
    come(members, BEN, 1)
    go(members, BEN, 2)
    bodies = []
    for who in (BEN, CAT):
        with refused("no_such_room") as caught:
            membership.present(members, who.id)
        bodies.append(caught.value.body())
    assert bodies[0] == bodies[1]


def test_coming_back_says_where_and_from_which_host() -> None:
    members: Members = {}
    come(members, BEN, 1)
    go(members, BEN, 2)
    come(members, BEN, 7)
    member = membership.present(members, BEN.id)
    assert (member.entered, member.joined_at, member.present) == (7, 1, True)


def test_an_address_is_an_id_or_a_handle_of_someone_who_is_in() -> None:
    members: Members = {}
    come(members, BEN, 1)
    come(members, CAT, 2)
    go(members, CAT, 3)
    assert membership.resolve(members, BEN.id) == BEN.id
    assert membership.resolve(members, "ben") == BEN.id
    for gone in (CAT.id, "cat", "nobody", ""):
        with refused("no_such_agent") as caught:
            membership.resolve(members, gone)
        assert caught.value.details == {"agent": gone, "candidates": ["ben"]}


# -- whom a hand-off is for --------------------------------------------------------------------------------


def crew() -> Members:
    """OWNER and CAT, who reviews, are in; BEN was."""
    members: Members = {}
    for n, who in enumerate((OWNER, BEN, CAT)):
        come(members, who, n + 1)
    members[CAT.id].role = "reviewer"
    go(members, BEN, 5)
    return members


@pytest.mark.parametrize(
    ("who", "giver", "found"),
    [
        (CAT.id, OWNER, ((CAT.id,), "")),
        ("cat", OWNER, ((CAT.id,), "")),
        ("owner", CAT, ((OWNER.id,), "")),
        ("reviewer", OWNER, ((), "reviewer")),
    ],
)
def test_a_taker_is_a_member_by_id_or_handle_the_owner_or_a_role_that_somebody_has(
    who: str, giver: Agent, found: tuple[tuple[AgentId, ...], str]
) -> None:
    assert membership.resolve_taker(crew(), OWNER.id, who, giver=giver.id) == found


@pytest.mark.parametrize(("who", "giver"), [("cat", CAT), (CAT.id, CAT), ("reviewer", CAT), ("owner", OWNER)])
def test_a_taker_is_not_the_giver(who: str, giver: Agent) -> None:
    with refused("invalid_param"):
        membership.resolve_taker(crew(), OWNER.id, who, giver=giver.id)


@pytest.mark.parametrize("who", ["ben", BEN.id, "tester", "member", "", "Cat"])
def test_a_taker_who_is_not_in_is_refused_with_the_names_of_those_who_are(who: str) -> None:
    with refused("no_such_agent") as caught:
        membership.resolve_taker(crew(), OWNER.id, who, giver=OWNER.id)
    assert caught.value.details["candidates"] == ["cat"]
    assert caught.value.message.endswith("The roles here: reviewer.")
    assert caught.value.details["roles"] == ["reviewer"]


def test_a_taker_where_nobody_else_is_or_has_a_role_is_refused_in_these_words() -> None:
    members: Members = {}
    come(members, OWNER, 1)
    for said in ("Nobody else is here yet", "no one else here has a role"):
        with refused("no_such_agent") as caught:
            membership.resolve_taker(members, OWNER.id, "tester", giver=OWNER.id)
        assert said in caught.value.message
        come(members, CAT, 2)


def test_the_owner_is_meant_also_where_an_agent_of_that_name_came_in_before_it_was_reserved() -> None:
    members = crew()
    come(members, agent("owner", key="old"), 6)
    assert membership.resolve_taker(members, OWNER.id, "owner", giver=CAT.id) == ((OWNER.id,), "")


def test_an_owner_who_left_is_no_taker() -> None:
    members = crew()
    go(members, OWNER, 6)
    with refused("no_such_agent"):
        membership.resolve_taker(members, OWNER.id, "owner", giver=CAT.id)


def test_of_a_thousand_names_the_one_that_holds_the_wrong_one_is_suggested() -> None:
    """Only a few are compared letter by letter, and these are chosen well."""
    members: Members = {}
    for n in range(1000):
        come(members, agent("a" * 60 + f"{n:04}"), n + 1)
    come(members, agent("codex@shop"), 1001)
    with refused("no_such_agent") as caught:
        membership.resolve(members, "codex")
    assert caught.value.details["candidates"][0] == "codex@shop"


def test_of_many_names_the_nearest_are_suggested_nearest_first() -> None:
    members: Members = {}
    names = ["zed", "yan", "codex@api", "xia", "wim", "claude-code@web", "vic"]
    for n, name in enumerate(names):
        come(members, agent(name), n + 1)
    for wrong, nearest in (("codex", "codex@api"), ("claude-code@wep", "claude-code@web"), ("VIK", "vic")):
        with refused("no_such_agent") as caught:
            membership.resolve(members, wrong)
        candidates = caught.value.details["candidates"]
        assert candidates[0] == nearest
        assert len(candidates) == membership.MAX_CANDIDATES


# -- history, as readers meet it -------------------------------------------------------------------------


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
    others = [agent("ben", of=f"stranger{letter}", key=f"other{letter}") for letter in "ab"]
    for who in (others[0], BEN, others[1]):
        room.knock(who)
    for who in (BEN, others[1]):
        room.approve(who)
    room.leave(BEN)
    room.approve(others[0])
    room.admit(BEN)
    assert [room.handle(who) for who in (BEN, others[1], others[0])] == ["ben", "ben-2", "ben-3"]
    assert room.post(OWNER, to=("ben-2",)).to == (others[1].id,)


# -- roles -------------------------------------------------------------------------------------------------


def role_of(room: RoomDriver, who: Agent) -> tuple[str, bool]:
    member = room.aggregate.state.members[who.id]
    return member.role, member.locked


def test_the_owner_or_its_person_says_what_a_member_is_and_nobody_else_does() -> None:
    room = opened()
    room.admit(BEN, CAT)
    assert room.give_role(BEN, "reviewer").answer == BEN.id
    assert role_of(room, BEN) == ("reviewer", False)
    by_name = c.GiveRole(agent="cat", role="lead", locks=True, principal=OWNER.principal)
    assert room.run(by_name, STRANGER).answer == CAT.id
    assert role_of(room, CAT) == ("lead", True)
    before = len(room.log)
    with refused("not_owner"):
        room.give_role(BEN, "admin", by=BEN)
    with refused("no_such_room"):
        room.give_role(BEN, "admin", by=STRANGER)
    other = c.GiveRole(agent="ben", role="admin", principal=STRANGER.principal)
    with refused("no_such_room"):
        room.run(other, STRANGER)
    assert len(room.log) == before
    room.verify()


def test_an_empty_role_takes_it_away_and_the_same_again_leaves_no_fact() -> None:
    room = opened()
    room.admit(BEN)
    room.give_role(BEN, "reviewer", lock=True)
    before = len(room.log)
    assert room.give_role(BEN, "reviewer", lock=True).answer == BEN.id
    assert len(room.log) == before
    room.give_role(BEN, "reviewer")
    assert role_of(room, BEN) == ("reviewer", False)
    room.give_role(BEN, "")
    assert role_of(room, BEN) == ("", False)
    assert [header.event for header in room.log[before:]] == [
        e.RoleGiven(agent=BEN.id, role="reviewer"),
        e.RoleGiven(agent=BEN.id),
    ]


@pytest.mark.parametrize("role", ["owner", "Person", "requester", "Requester", "x" * 65, "two words", "_shared"])
def test_a_role_that_stands_for_something_else_or_is_no_label_is_given_to_nobody(role: str) -> None:
    room = opened()
    room.admit(BEN)
    with refused("invalid_name"):
        room.give_role(BEN, role)
    assert role_of(room, BEN) == ("", False)


def test_a_role_is_given_to_who_is_in_and_in_a_room_that_goes_on() -> None:
    room = opened()
    room.admit(BEN)
    with refused("no_such_agent"):
        room.give_role(CAT, "reviewer")
    room.leave(BEN)
    with refused("no_such_agent"):
        room.give_role(BEN, "reviewer")
    room.give_role(OWNER, "lead")
    room.close()
    with refused("room_closed"):
        room.give_role(OWNER, "")
    assert role_of(room, OWNER) == ("lead", False)


def come_again(room: RoomDriver, who: Agent, role: str) -> None:
    room.leave(who)
    room.knock(who, role=role)
    room.approve(who)


def test_who_comes_in_again_is_what_it_says_last_and_stays_what_it_was_where_it_says_nothing() -> None:
    room = opened()
    room.knock(BEN, role="reviewer")
    room.approve(BEN)
    assert role_of(room, BEN) == ("reviewer", False)
    assert room.knock(BEN, role="admin") == "member"
    assert role_of(room, BEN) == ("reviewer", False)
    come_again(room, BEN, "tester")
    assert role_of(room, BEN) == ("tester", False)
    come_again(room, BEN, "")
    assert role_of(room, BEN) == ("tester", False)


@pytest.mark.parametrize("role", ["reviewer", ""])
def test_a_locked_role_stays_whatever_its_agent_says_and_the_owner_alone_changes_it(role: str) -> None:
    room = opened()
    room.knock(BEN, role="admin")
    room.approve(BEN)
    room.give_role(BEN, role, lock=True)
    come_again(room, BEN, "admin")
    assert role_of(room, BEN) == (role, True)
    room.give_role(BEN, role)
    come_again(room, BEN, "admin")
    assert role_of(room, BEN) == ("admin", False)
    room.verify()


def asks(room: RoomDriver, who: Agent) -> None:
    """An agent comes into a queue as one that only asks for work."""
    room.knock(who, role=membership.REQUESTER)


def test_that_a_member_only_asks_for_work_is_no_role_of_one_who_did_more_and_ends_once_it_does() -> None:
    room = opened(kind="service", approval=False)
    asks(room, BEN)
    room.leave(BEN)
    room.knock(BEN)
    assert (role_of(room, BEN), membership.is_requester(room.aggregate.state.members[BEN.id])) == (("", False), False)
    room.give_role(BEN, "builder")
    room.leave(BEN)
    asks(room, BEN)
    assert role_of(room, BEN) == ("builder", False)


def test_a_role_gives_who_only_asks_for_work_nothing_to_see_and_a_locked_one_stays_when_it_does_more() -> None:
    room = opened(kind="service", approval=False)
    asks(room, BEN)
    room.give_role(BEN, "buyer", lock=True)
    room.post(OWNER)
    assert membership.is_requester(room.aggregate.state.members[BEN.id])
    assert room.seen_by(BEN) == []
    room.leave(BEN)
    room.knock(BEN, role="admin")
    assert role_of(room, BEN) == ("buyer", True)
    assert not membership.is_requester(room.aggregate.state.members[BEN.id])
    room.verify()


def test_what_goes_by_roles_goes_by_the_new_one_at_once() -> None:
    room = opened()
    room.admit(BEN, CAT)
    room.give_role(BEN, "reviewer")
    offer = room.offer(OWNER, taker="reviewer")
    room.put(OWNER, "door", "open", enabled='agents[self].role == "reviewer"')
    assert room.worth(OWNER, "agents.ben.role") == "reviewer"
    assert (room.shared(BEN), room.shared(CAT)) == ({"door": "open"}, {})
    room.give_role(BEN, "")
    room.give_role(CAT, "reviewer")
    assert (room.shared(BEN), room.shared(CAT)) == ({}, {"door": "open"})
    assert [room.worth(OWNER, f"agents.{name}.role") for name in ("ben", "cat")] == ["", "reviewer"]
    with refused("handoff_not_yours"):
        room.answer(BEN, "accepted", offer)
    room.answer(CAT, "accepted", offer)
    with refused("no_such_agent"):
        room.offer(CAT, taker="tester")
