"""Grants: whose agents they make, what follows from one, and how a room takes one in and holds agents to it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core import grants
from parlerd.core.grants import (
    Given,
    agent_of,
    digest_of,
    is_one_too_many,
    may_say,
    opened_beyond,
    opens_wrongly,
    wrong_with,
)
from parlerd.core.model import (
    MAX_PENDING_PER_KEY,
    AgentId,
    HomeId,
    KeyId,
    Millis,
    RoomId,
    is_agent_id,
    is_granted_id,
    is_keyed_id,
)
from parlerd.core.statements import (
    MAX_GRANTED,
    MAX_MOMENT,
    NONCE,
    ByGrant,
    Claim,
    Grant,
    MayOpen,
    Opening,
    Title,
    check,
    encode,
)
from tests.support.core import BEN, HOME, HOUR, OWNER, ROOM, STRANGER, Agent, RoomDriver, outcome, refused
from tests.support.sealed import sealed_room

LABELS = st.from_regex(r"[A-Za-z0-9._@#/-]{1,64}\Z")
OPENING = Opening(
    home=HOME,
    kind="session",
    history="full",
    owner=OWNER.id,
    principal=OWNER.principal,
    handle="olive",
    host="",
    approval=True,
    approver="person",
    title=bytes(32),
    nonce=bytes(NONCE),
)


MAY_OPEN = MayOpen(rooms=2, owner=OWNER.id, handle="olive")
"""Two rooms, which Olive owns."""


def grant_of(**about: Any) -> Grant:
    fields: dict[str, Any] = {
        "home": HOME,
        "rooms": (ROOM,),
        "principal": OWNER.principal,
        "scopes": ("read", "post"),
        "not_after": Millis(2**50),
        "nonce": bytes(NONCE),
    }
    if "count" not in about:
        fields["names"] = ("ci",)
    return Grant(**(fields | about))


def granted(grant: Grant, name: str = "ci") -> Agent:
    """The agent of this name that a grant is for."""
    return Agent(agent_of(digest_of(encode(grant)), name), grant.principal, name)


def opening_of(grant: Grant, **about: Any) -> Opening:
    """The opening of a room that follows from a grant."""
    by_grant = ByGrant(grant=encode(grant), signature=bytes(64))
    return replace(OPENING, **({"granted": by_grant} | about))


def opening(grant_to_open: Grant, **about: Any) -> c.OpenRoom:
    """How an agent without a key opens a room within its grant."""
    fields: dict[str, Any] = {
        "operation": "session.open",
        "idempotency_key": "k1",
        "input": b"open",
        "room": ROOM,
        "opening": opening_of(grant_to_open),
        "title": Title(salt=bytes(NONCE), name="build", topic=""),
        "mint": KeyId(""),
        "terms": None,
        "grant": grant_to_open,
        "gives": grants.given(encode(grant_to_open), grant_to_open, "ci"),
    }
    return c.OpenRoom(**(fields | about))


def opens_of(**about: Any) -> Grant:
    """A grant for a room that is there, and for opening others."""
    fields = {"rooms": (RoomId("r_team"),), "scopes": ("read", "post", "open"), "opens": MAY_OPEN}
    return grant_of(**(fields | about))


def admitting(grant: Grant, name: str = "ci", **about: Any) -> c.AdmitGranted:
    fields: dict[str, Any] = {
        "operation": "link.grant",
        "agent": granted(grant, name).id,
        "name": name,
        "grant": grant,
        "gives": grants.given(encode(grant), grant, name),
        "principal": grant.principal,
    }
    return c.AdmitGranted(**(fields | about))


def room_of(**how: Any) -> RoomDriver:
    room = RoomDriver()
    room.open(recap=False, **how)
    return room


# -- ids ---------------------------------------------------------------------------------------------------


@drawn(st.binary(), LABELS)
def test_an_id_names_its_grant_and_is_no_key(grant: bytes, name: str) -> None:
    agent = agent_of(digest_of(grant), name)
    assert is_granted_id(agent)
    assert is_agent_id(agent)
    assert not is_keyed_id(agent)
    assert not is_granted_id(OWNER.id)


@drawn(st.lists(st.tuples(st.binary(), LABELS), min_size=2, max_size=6, unique=True))
def test_no_two_grants_or_names_make_one_agent(used: list[tuple[bytes, str]]) -> None:
    assert len({agent_of(digest_of(grant), name) for grant, name in used}) == len(used)


@pytest.mark.parametrize(
    "text", ["", "T", "T" + "A" * 51, "T" + "A" * 53, "t" + "a" * 52, "T" + "1" * 52, "U" + "A" * 52]
)
def test_what_only_looks_like_such_an_id_is_none(text: str) -> None:
    assert not is_granted_id(text)


# -- the statement -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({"v": 2}, "v"),
        ({"home": "x"}, "home"),
        ({"rooms": ()}, "rooms"),
        ({"rooms": ("r x",)}, "rooms"),
        ({"rooms": (ROOM,) * (MAX_GRANTED + 1)}, "rooms"),
        ({"principal": OWNER.id}, "principal"),
        ({"names": ("a b",)}, "names"),
        ({"names": ("ci", "ci")}, "names"),
        ({"names": (), "count": 0}, "names"),
        ({"names": ("ci",), "count": 1}, "names"),
        ({"count": MAX_GRANTED + 1}, "count"),
        ({"scopes": ()}, "scopes"),
        ({"scopes": ("read", "read")}, "scopes"),
        ({"not_after": MAX_MOMENT + 1}, "not_after"),
        ({"nonce": b""}, "nonce"),
        ({"opens": MAY_OPEN}, "scopes"),
        ({"scopes": ("read", "open")}, "scopes"),
        ({"opens": replace(MAY_OPEN, rooms=0), "scopes": ("open",)}, "opens"),
        ({"opens": replace(MAY_OPEN, rooms=MAX_GRANTED + 1), "scopes": ("open",)}, "opens"),
        ({"opens": replace(MAY_OPEN, owner=AgentId("T" + "A" * 52)), "scopes": ("open",)}, "opens"),
        ({"opens": replace(MAY_OPEN, handle="a b"), "scopes": ("open",)}, "opens"),
        ({"opens": MAY_OPEN, "scopes": ("open",), "names": ("ci", "cd")}, "opens"),
        ({"opens": MAY_OPEN, "scopes": ("open",), "names": (), "count": 1}, "opens"),
        ({"opens": MAY_OPEN, "scopes": ("open",), "approval": True}, "opens"),
    ],
)
def test_a_grant_with_a_field_of_another_form_is_refused(about: dict[str, Any], what: str) -> None:
    assert check(encode(grant_of()), Grant) == grant_of()
    with refused("statement_refused") as refusal:
        check(encode(replace(grant_of(), **about)), Grant)
    assert refusal.value.details["what"] == what


@drawn(st.binary(max_size=300))
def test_bytes_that_are_no_grant_are_refused_as_such(body: bytes) -> None:
    assert outcome(lambda: check(body, Grant)) == "statement_refused"


# -- what follows ------------------------------------------------------------------------------------------


def wrong(
    grant: Grant, name: str = "ci", room: RoomId = ROOM, opening: Opening = OPENING, **claimed: Any
) -> str | None:
    claim = Claim(granted(grant, name).id, OWNER.principal, name)
    return wrong_with(opening, room, encode(grant), grant, name, replace(claim, **claimed))


@pytest.mark.parametrize("handle", ["ci", "ci-2", "ci-17"])
def test_an_agent_that_a_grant_names_follows_from_it(handle: str) -> None:
    assert wrong(grant_of(), handle=handle) is None
    assert wrong(grant_of(count=2), "anything") is None


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (wrong(grant_of(), opening=replace(OPENING, kind="dm")), "kind"),
        (wrong(grant_of(), opening=replace(OPENING, kind="private")), "kind"),
        (wrong(grant_of(home=HomeId("N" + "A" * 55))), "home"),
        (wrong(grant_of(), room=RoomId("r_other")), "room"),
        (wrong(grant_of(), principal=STRANGER.principal), "principal"),
        (wrong(grant_of(approval=True)), "approval"),
        (wrong(grant_of(), "cd"), "names"),
        (wrong(grant_of(count=1), ""), "names"),
        (wrong(grant_of(), agent=BEN.id), "agent"),
        (wrong(grant_of(), agent=granted(grant_of(nonce=b"another nonce 16")).id), "agent"),
        (wrong(grant_of(names=("ci", "cd")), agent=granted(grant_of(names=("ci", "cd")), "cd").id), "agent"),
        (wrong(grant_of(), handle="olive"), "handle"),
        (wrong(grant_of(), handle="ci-1"), "handle"),
    ],
)
def test_what_goes_beyond_a_grant_does_not_follow_from_it(found: str | None, what: str) -> None:
    assert found == what


@drawn(st.integers(0, 4), st.lists(LABELS, max_size=6, unique=True), LABELS)
def test_as_many_agents_come_in_by_a_grant_as_it_says(count: int, there: list[str], name: str) -> None:
    gives = Given(grant=b"g", name=name, until=Millis(9), speaks=True, count=count)
    others = [replace(gives, name=each) for each in there]
    among = [None, replace(gives, grant=b"other", name="x"), *others]
    expected = bool(count) and len(set(there) - {name}) >= count
    assert is_one_too_many(gives, among) is expected


@drawn(st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_an_agent_says_something_before_its_grant_is_over_and_never_after(at: int, until: int, speaks: bool) -> None:
    gives = Given(grant=b"g", name="ci", until=Millis(until), speaks=speaks)
    assert may_say(gives, Millis(at)) is (speaks and at < until)
    assert not may_say(None, Millis(at))


@pytest.mark.parametrize(
    ("scopes", "speaks"), [(("read",), False), (("read", "state"), False), (("post",), True), (("work",), True)]
)
def test_who_may_only_read_or_write_the_state_says_nothing(scopes: tuple[str, ...], speaks: bool) -> None:
    grant = grant_of(scopes=scopes)
    gives = grants.given(encode(grant), grant, "ci")
    assert gives == Given(
        grant=hashlib.sha256(encode(grant)).digest(), name="ci", until=grant.not_after, speaks=speaks, count=0
    )


# -- in a room ---------------------------------------------------------------------------------------------


def test_the_owners_person_lets_an_agent_in_once_and_asking_again_is_no_second_time() -> None:
    room, grant = room_of(), grant_of()
    assert room.run(admitting(grant), OWNER).answer == "joined"
    ci = granted(grant)
    assert room.handle(ci) == "ci"
    assert room.run(admitting(grant), OWNER).events == ()
    room.post(ci)
    room.verify()


@pytest.mark.parametrize("kicked", [False, True])
def test_an_agent_that_left_or_was_put_out_does_not_come_back_by_its_grant(kicked: bool) -> None:
    room, grant = room_of(), grant_of()
    room.run(admitting(grant), OWNER)
    ci = granted(grant)
    if kicked:
        room.run(c.Kick(operation="room.kick", agent=ci.id), OWNER)
    else:
        room.run(c.Leave(operation="room.leave"), ci)
    with refused("statement_refused") as refusal:
        room.run(admitting(grant), OWNER)
    assert refusal.value.details["what"] == "used"
    # Another grant is another agent.
    assert room.run(admitting(grant_of(nonce=b"another nonce 16")), OWNER).answer == "joined"
    room.verify()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (admitting(grant_of(home=HomeId("N" + "A" * 55))), "home"),
        (admitting(grant_of(rooms=(RoomId("r_other"),))), "room"),
        (admitting(grant_of(principal=STRANGER.principal), principal=OWNER.principal), "principal"),
        (admitting(grant_of(), "cd"), "names"),
        (admitting(grant_of(scopes=("read", "mint"))), "scopes"),
        (admitting(grant_of(), agent=AgentId("T" + "A" * 52)), "agent"),
        (admitting(grant_of(not_after=Millis(1))), "not_after"),
    ],
)
def test_a_room_takes_no_grant_that_is_not_for_it(command: c.AdmitGranted, what: str) -> None:
    with refused("statement_refused") as refusal:
        room_of().run(command, OWNER)
    assert refusal.value.details["what"] == what


def test_no_agent_without_a_key_comes_into_a_sealed_room_or_opens_one() -> None:
    room = sealed_room()
    with refused("sealed_room"):
        room.run(admitting(grant_of()), OWNER)
    with refused("sealed_room"):
        room.run(admitting(grant_of(count=2, names=(), approval=True)), OWNER)
    assert set(room.aggregate.state.members) == {OWNER.id}


def asking(grant: Grant, name: str) -> c.AdmitGranted:
    return admitting(grant, name, operation="join.begin", role="worker")


def test_of_a_grant_that_asks_each_agent_waits_for_the_person() -> None:
    room, grant = room_of(), grant_of(count=2, approval=True)
    assert [room.run(asking(grant, "a"), OWNER).answer for _ in range(2)] == ["pending", "pending"]
    assert room.run(asking(grant, "b"), OWNER).answer == "pending"
    one, two = granted(grant, "a"), granted(grant, "b")
    assert outcome(lambda: room.post(one)) == "no_such_room"
    room.decide(one.id, admit=True)
    room.decide(two.id, admit=False)
    assert room.run(asking(grant, "a"), OWNER).answer == "member"
    assert room.run(asking(grant, "b"), OWNER).answer == "denied"
    member = room.aggregate.state.members[one.id]
    assert (member.role, member.given) == ("worker", grants.given(encode(grant), grant, "a"))
    assert two.id not in room.aggregate.state.members
    room.post(one)
    room.verify()


def test_no_more_are_let_in_than_a_grant_counts_and_none_after_its_end() -> None:
    room = room_of()
    grant = grant_of(count=1, approval=True, not_after=Millis(room.now + HOUR))
    for name in ("a", "b"):
        room.run(asking(grant, name), OWNER)
    room.decide(granted(grant, "a").id, admit=True)
    assert outcome(lambda: room.decide(granted(grant, "b").id, admit=True)) == "token_used_up"
    late = grant_of(count=1, approval=True, not_after=Millis(room.now + HOUR), nonce=b"another nonce 16")
    room.run(asking(late, "c"), OWNER)
    room.now += HOUR
    assert outcome(lambda: room.decide(granted(late, "c").id, admit=True)) == "token_invalid"
    room.decide(granted(late, "c").id, admit=False)
    room.verify()


def test_so_many_wait_by_grants_and_no_more_and_none_once_the_room_is_closed() -> None:
    room, grant = room_of(), grant_of(count=64, approval=True)
    for number in range(MAX_PENDING_PER_KEY):
        assert room.run(asking(grant, f"a{number}"), OWNER).answer == "pending"
    assert outcome(lambda: room.run(asking(grant, "more"), OWNER)) == "too_many_pending"
    room.close()
    assert outcome(lambda: room.run(asking(grant, "a0"), OWNER)) == "room_closed"
    room.verify()


def test_a_room_of_two_agents_takes_no_grant() -> None:
    with refused("statement_refused"):
        room_of(kind="dm").run(admitting(grant_of()), OWNER)


def test_whoever_does_not_own_the_room_grants_nothing() -> None:
    room = room_of()
    room.admit(BEN)
    other = admitting(grant_of(principal=STRANGER.principal))
    assert outcome(lambda: room.run(other, STRANGER)) == "no_such_room"
    assert outcome(lambda: room.run(other, BEN)) == "not_owner"
    room.close()
    assert outcome(lambda: room.run(admitting(grant_of()), OWNER)) == "room_closed"


def test_a_grant_that_counts_is_good_for_as_many_names() -> None:
    room, grant = room_of(), grant_of(count=2)
    for name in ("a", "b", "a"):
        assert room.run(admitting(grant, name), OWNER).answer in ("joined", "member")
    with refused("statement_refused") as refusal:
        room.run(admitting(grant, "c"), OWNER)
    assert refusal.value.details["what"] == "count"


def test_an_agent_does_nothing_once_its_grant_is_over_by_the_time_of_the_room() -> None:
    room = room_of()
    grant = grant_of(not_after=Millis(room.now + HOUR))
    room.run(admitting(grant), OWNER)
    ci = granted(grant)
    room.now += HOUR - 1
    room.post(ci)
    room.put(ci, "key", 1)
    room.now += 1
    for act in (lambda: room.post(ci), lambda: room.put(ci, "key", 2), lambda: room.leave(ci)):
        assert outcome(act) == "token_invalid"
    room.post(OWNER)
    room.verify()


def test_an_agent_without_a_key_owns_no_room() -> None:
    room, grant = room_of(), grant_of()
    room.run(admitting(grant), OWNER)
    give = c.ChangeOwner(operation="room.transfer", owner=granted(grant).id, principal=OWNER.principal)
    assert outcome(lambda: room.run(give, OWNER)) == "invalid_param"


@drawn(LABELS)
def test_a_handle_is_the_name_or_the_name_with_a_number(name: str) -> None:
    room, grant = room_of(), grant_of(names=(name,))
    said = outcome(lambda: room.run(admitting(grant, name), OWNER))
    if said == "invalid_name":
        return  # a reserved word, or what has the form of an id
    claim = Claim(granted(grant, name).id, OWNER.principal, room.handle(granted(grant, name)))
    assert wrong_with(OPENING, ROOM, encode(grant), grant, name, claim) is None


# -- rooms that are opened within a grant ----------------------------------------------------------------------


def test_a_room_that_is_opened_within_a_grant_is_the_persons_and_whoever_opened_it_is_a_member() -> None:
    room, grant = RoomDriver(), opens_of()
    ci = granted(grant)
    room.run(opening(grant), ci)
    state = room.aggregate.state
    assert (state.owner, state.owner_principal) == (OWNER.id, OWNER.principal)
    assert {member.handle: member.agent for member in state.members.values()} == {"olive": OWNER.id, "ci": ci.id}
    assert (state.members[ci.id].given, dict(state.keys)) == (grants.given(encode(grant), grant, "ci"), {})
    room.verify()
    # The same request opens nothing again.
    assert room.run(opening(grant), ci).events == ()


def test_whoever_is_called_like_the_owner_gets_a_number() -> None:
    room, grant = RoomDriver(), opens_of(names=("olive",))
    room.run(opening(grant, gives=grants.given(encode(grant), grant, "olive")), granted(grant, "olive"))
    assert [member.handle for member in room.aggregate.state.members.values()] == ["olive", "olive-2"]


OPENED_WRONGLY: dict[str, Any] = {
    "home": {"home": HomeId("N" + "A" * 55)},
    "principal": {"principal": STRANGER.principal},
    "owner": {"owner": BEN.id},
    "handle": {"handle": "ben"},
    "host": {"host": "codex"},
    "kind": {"kind": "channel"},
    "approval": {"approval": False},
    "approver": {"approver": "agent"},
}


@pytest.mark.parametrize("what", OPENED_WRONGLY)
def test_an_opening_that_says_what_its_grant_does_not_follows_from_none(what: str) -> None:
    grant = opens_of()
    assert opens_wrongly(opening_of(grant), grant) is None
    wrongly = opening_of(grant, **OPENED_WRONGLY[what])
    assert opens_wrongly(wrongly, grant) == what
    with refused("statement_refused") as refusal:
        RoomDriver().run(opening(grant, opening=wrongly), granted(grant))
    assert refusal.value.details["what"] == what


def test_a_grant_that_is_for_no_rooms_opens_none() -> None:
    grant = grant_of()
    assert opens_wrongly(opening_of(grant), grant) == "scopes"
    assert opened_beyond(grant, Millis(0), 0) == "rooms"


@pytest.mark.parametrize(
    ("command", "by", "what"),
    [
        (opening(opens_of(), grant=None), granted(opens_of()), "granted"),
        (opening(opens_of(), opening=OPENING), granted(opens_of()), "granted"),
        (opening(opens_of(), opening=opening_of(opens_of(nonce=b"another nonce 16"))), granted(opens_of()), "granted"),
        (opening(opens_of()), OWNER, "owner"),
        (opening(opens_of()), BEN, "owner"),
        (opening(opens_of(), recap=True), granted(opens_of()), "terms"),
        (opening(opens_of(), gives=grants.given(encode(opens_of()), opens_of(), "cd")), granted(opens_of()), "names"),
        # Nobody shows a grant in the place of the person's signature.
        (opening(opens_of(), gives=None), OWNER, "granted"),
    ],
)
def test_nobody_opens_a_room_by_the_grant_of_another(command: c.OpenRoom, by: Agent, what: str) -> None:
    with refused("statement_refused") as refusal:
        RoomDriver().run(command, by)
    assert refusal.value.details["what"] == what


@drawn(st.integers(0, 50), st.integers(0, 50), st.integers(1, MAX_GRANTED), st.integers(0, MAX_GRANTED))
def test_rooms_are_opened_before_a_grant_is_over_and_no_more_than_it_says(
    at: int, until: int, rooms: int, others: int
) -> None:
    grant = opens_of(not_after=Millis(until), opens=replace(MAY_OPEN, rooms=rooms))
    assert (opened_beyond(grant, Millis(at), others) is None) == (at < until and others < rooms)


def test_no_room_is_opened_once_a_grant_is_over() -> None:
    grant = opens_of(not_after=Millis(1))
    assert outcome(lambda: RoomDriver().run(opening(grant), granted(grant))) == "token_invalid"


@pytest.mark.parametrize(("statement", "field"), [(opening_of(opens_of()), "granted"), (opens_of(), "opens")])
def test_an_older_reader_refuses_what_it_does_not_know_and_reads_what_it_knew(
    statement: Opening | Grant, field: str
) -> None:
    fields = [each for each in msgspec.structs.fields(type(statement)) if each.name != field]
    older = msgspec.defstruct(
        "Older",
        [(each.name, each.type, each.default) if not each.required else (each.name, each.type) for each in fields],
        kw_only=True,
        forbid_unknown_fields=True,
    )
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(statement), type=older)
    known = replace(statement, **{field: msgspec.UNSET})
    read = msgspec.msgpack.decode(encode(known), type=older)
    assert msgspec.msgpack.encode(read) == encode(known)
