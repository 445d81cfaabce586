"""What is signed about a room: its bytes, the check of each field, and what follows from a decision or a knock."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core.errors import Refused
from parlerd.core.model import (
    MAX_LABEL,
    MAX_PREAPPROVED,
    MAX_TOPIC,
    AgentId,
    HomeId,
    Millis,
    RequestId,
    RoomId,
    first_free,
    label,
)
from parlerd.core.statements import (
    MAX_STATEMENT,
    NONCE,
    SUITE,
    Claim,
    DecisionStatement,
    JoinCard,
    KeyTerms,
    KnockStatement,
    Opening,
    Owner,
    OwnerLine,
    Rewind,
    SealingKey,
    Statement,
    Title,
    Transfer,
    check,
    check_fields,
    check_title,
    contradiction,
    deciders,
    decides,
    decode_opened,
    encode,
    encode_opened,
    first_owner,
    is_handle_of,
    is_opening_hash,
    lets_in,
    opens,
    room_id_of,
    title_digest,
    title_of,
)
from tests.support.core import BEN, CAT, HOME, OWNER, STRANGER, outcome

TITLE = Title(salt=bytes(NONCE), name="auth", topic="Auth redesign")
OPENING = Opening(
    home=HOME,
    kind="session",
    history="full",
    owner=OWNER.id,
    principal=OWNER.principal,
    handle=OWNER.name,
    host="codex",
    approval=True,
    approver="person",
    title=title_digest(encode(TITLE)),
    nonce=bytes(NONCE),
)
ROOM = room_id_of(encode(OPENING))
TERMS = KeyTerms(
    home=HOME,
    room=ROOM,
    ref="k_1",
    gated=False,
    expires_at=Millis(1_000),
    max_uses=5,
    preapproved=(),
    nonce=bytes(NONCE),
)
KNOCK = KnockStatement(
    home=HOME,
    room=ROOM,
    ref="k_1",
    agent=BEN.id,
    principal=BEN.principal,
    name="ben",
    host="codex",
    at=Millis(999),
    nonce=bytes(NONCE),
)
DECISION = DecisionStatement(
    home=HOME,
    room=ROOM,
    request=RequestId("q_1"),
    agent=BEN.id,
    principal=BEN.principal,
    handle="ben-2",
    admit=True,
    proof="cli",
    at=Millis(7),
    nonce=bytes(NONCE),
)
REWIND = Rewind(home=HOME, room=ROOM, epoch=1, public=7, line=bytes(32), at=Millis(7), nonce=bytes(NONCE))
TRANSFER = Transfer(
    home=HOME,
    room=ROOM,
    number=1,
    owner=BEN.id,
    principal=STRANGER.principal,
    taken=False,
    at=Millis(7),
    nonce=bytes(NONCE),
)
SEALING_KEY = SealingKey(home=HOME, agent=BEN.id, key=bytes(32), counter=1, at=Millis(7), nonce=bytes(NONCE))
OWNER_LINE = OwnerLine(
    home=HOME,
    room=ROOM,
    record=3,
    digest=bytes(32),
    public=7,
    line=bytes(32),
    at=Millis(7),
    nonce=bytes(NONCE),
)
CARD = JoinCard(
    home=HOME,
    route="A3KE7D",
    agent=BEN.id,
    principal=BEN.principal,
    name="ben",
    key=bytes(32),
    at=Millis(7),
    nonce=bytes(NONCE),
)
ALL: tuple[Statement, ...] = (OPENING, TERMS, KNOCK, DECISION, REWIND, TRANSFER, SEALING_KEY, OWNER_LINE, CARD)
EVERY = pytest.mark.parametrize("statement", ALL, ids=lambda statement: type(statement).__name__)


def refusal(statement: Statement) -> object:
    """The field for which a statement is refused, or None."""
    try:
        assert check(encode(statement), type(statement)) == statement
    except Refused as error:
        return error.details["what"]
    return None


# -- bytes -------------------------------------------------------------------------------------------------


@EVERY
def test_a_statement_reads_back_as_it_was_written_and_always_says_its_version(statement: Statement) -> None:
    body = encode(statement)
    assert check(body, type(statement)) == statement
    assert encode(check(body, type(statement))) == body
    said = {name for name in statement.__struct_fields__ if getattr(statement, name) is not msgspec.UNSET}
    assert msgspec.msgpack.decode(body).keys() == said
    assert msgspec.msgpack.decode(body)["v"] == 1


@EVERY
def test_a_statement_is_never_read_as_one_of_another_kind(statement: Statement) -> None:
    for other in ALL:
        if type(other) is not type(statement):
            with pytest.raises(Refused, match="statement_refused"):
                check(encode(statement), type(other))


def test_each_kind_is_signed_under_a_tag_of_its_own() -> None:
    tags = ["parler/opening", "parler/key", "parler/knock", "parler/decision", "parler/rewind", "parler/transfer"]
    tags += ["parler/sealing-key", "parler/owner-line", "parler/join"]
    assert [each.TAG for each in ALL] == tags


def test_the_bytes_of_a_rewind_are_those_that_people_have_signed() -> None:
    assert encode(REWIND).hex() == (
        "88a17601a4686f6d65d938414f574e4552424242424242424242424242424242424242424242424242424242424242424242"
        "4242424242424242424242424242424242a4726f6f6dd922725f6534617832686978663571746f6873686b71756b67637471"
        "7a62697363616133a565706f636801a67075626c696307a46c696e65c4200000000000000000000000000000000000000000"
        "000000000000000000000000a2617407a56e6f6e6365c41000000000000000000000000000000000"
    )


def test_a_rooms_id_follows_from_every_byte_of_its_opening() -> None:
    body = encode(OPENING)
    assert room_id_of(body) == room_id_of(body) == ROOM
    assert ROOM.startswith("r_")
    assert len(ROOM) == 34
    assert ROOM[2:].isalnum()
    assert ROOM[2:] == ROOM[2:].lower()
    assert is_opening_hash(ROOM)
    for other in ("home", "r_room", "r_018bcfe568000123456789ab", ROOM[:-1], f"{ROOM}a", ROOM.upper(), f"{ROOM}\n"):
        assert not is_opening_hash(RoomId(other))
    changed = {room_id_of(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]) for place in range(len(body))}
    assert len(changed | {ROOM}) == len(body) + 1


def test_the_body_of_an_opened_room_is_its_opening_and_its_title() -> None:
    body = encode_opened(encode(OPENING), encode(TITLE))
    assert decode_opened(body) == (encode(OPENING), encode(TITLE))
    assert title_of(body) == TITLE


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x92\xc4\x00\xc4\x00", b"\x90", encode_opened(b"x", b"\xc1")])
def test_bytes_without_a_title_give_none(body: bytes) -> None:
    assert title_of(body) is None


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x91\xc4\x00", b"\x93\xc4\x00\xc4\x00\xc4\x00"])
def test_bytes_that_are_no_opened_room_are_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        decode_opened(body)
    assert (caught.value.code, caught.value.details) == ("statement_refused", {"what": "format"})


# -- the check ---------------------------------------------------------------------------------------------

BAD: list[tuple[Statement, dict[str, Any], str]] = [
    *((each, {"v": 2}, "v") for each in ALL),
    *((each, {"v": 0}, "v") for each in ALL),
    *((each, {"nonce": b"short"}, "nonce") for each in ALL),
    *((each, {"nonce": b""}, "nonce") for each in ALL),
    *((each, {"home": "home"}, "home") for each in ALL),
    *((each, {"home": BEN.id}, "home") for each in ALL),
    *((each, {"room": "a room"}, "room") for each in ALL if not isinstance(each, Opening | SealingKey | JoinCard)),
    (OPENING, {"sealed": 0}, "sealed"),
    (OPENING, {"sealed": 2}, "sealed"),
    (SEALING_KEY, {"agent": "T" + "A" * 52}, "agent"),
    (SEALING_KEY, {"key": b"short"}, "key"),
    (SEALING_KEY, {"counter": 0}, "counter"),
    (OPENING, {"kind": "home"}, "kind"),
    (OPENING, {"owner": OWNER.principal}, "owner"),
    (OPENING, {"principal": OWNER.id}, "principal"),
    (OPENING, {"principal": "N" + "A" * 55}, "principal"),
    (OPENING, {"handle": ""}, "handle"),
    (OPENING, {"handle": "two words"}, "handle"),
    (OPENING, {"host": "\x1b[2K"}, "host"),
    (OPENING, {"title": b"x" * 31}, "title"),
    (TERMS, {"ref": ""}, "ref"),
    (TERMS, {"ref": "k" * 65}, "ref"),
    (TERMS, {"expires_at": -1}, "expires_at"),
    (TERMS, {"expires_at": 2**53}, "expires_at"),
    (TERMS, {"max_uses": 0}, "max_uses"),
    (TERMS, {"preapproved": ("ben",)}, "preapproved"),
    (TERMS, {"preapproved": (BEN.id, BEN.id)}, "preapproved"),
    (KNOCK, {"ref": "k 1"}, "ref"),
    (KNOCK, {"agent": "ben"}, "agent"),
    (KNOCK, {"principal": "sam"}, "principal"),
    (KNOCK, {"name": ""}, "name"),
    (KNOCK, {"name": "b\u00e9n"}, "name"),
    (KNOCK, {"name": "n" * 65}, "name"),
    (KNOCK, {"host": "a\nb"}, "host"),
    (KNOCK, {"at": -1}, "at"),
    (DECISION, {"request": ""}, "request"),
    (DECISION, {"handle": ""}, "handle"),
    (DECISION, {"admit": False}, "handle"),
    (DECISION, {"handle": "be\u202en"}, "handle"),
    (DECISION, {"at": 2**53}, "at"),
]


@pytest.mark.parametrize(("statement", "change", "what"), BAD)
def test_a_field_that_is_not_what_it_should_be_is_named(
    statement: Statement, change: dict[str, Any], what: str
) -> None:
    assert refusal(replace(statement, **change)) == what


@EVERY
def test_a_statement_without_fault_passes(statement: Statement) -> None:
    assert refusal(statement) is None


def test_what_may_be_empty_may_be_empty() -> None:
    assert refusal(replace(OPENING, host="")) is None
    assert refusal(replace(KNOCK, host="")) is None
    assert refusal(replace(DECISION, admit=False, handle="")) is None
    assert refusal(replace(OPENING, home=HomeId("N" + "A" * 55))) is None


def test_a_room_that_is_not_sealed_opens_with_the_bytes_that_it_always_had() -> None:
    assert b"sealed" not in encode(OPENING)
    sealed = replace(OPENING, sealed=SUITE)
    assert refusal(sealed) is None
    assert room_id_of(encode(sealed)) != ROOM


def test_as_many_agents_as_may_be_preapproved_fit_into_one_statement() -> None:
    many = tuple(AgentId("U" + f"{n:055b}".replace("0", "A").replace("1", "B")) for n in range(MAX_PREAPPROVED))
    assert refusal(replace(TERMS, preapproved=many)) is None
    one_more = (*many, AgentId("U" + "C" * 55))
    assert refusal(replace(TERMS, preapproved=one_more)) == "preapproved"


@EVERY
def test_a_field_that_this_version_does_not_know_is_refused(statement: Statement) -> None:
    fields = {**msgspec.msgpack.decode(encode(statement)), "also": 1}
    with pytest.raises(Refused) as caught:
        check(msgspec.msgpack.encode(fields), type(statement))
    assert caught.value.details == {"what": "format"}


@EVERY
def test_bytes_past_the_limit_are_not_even_read(statement: Statement) -> None:
    with pytest.raises(Refused) as caught:
        check(encode(statement) + bytes(MAX_STATEMENT), type(statement))
    assert caught.value.details == {"what": "size"}


@given(st.sampled_from(ALL), st.data())
def test_damage_anywhere_gives_a_statement_or_a_refusal(statement: Statement, data: st.DataObject) -> None:
    body = bytearray(encode(statement))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(lambda: check_fields(check(bytes(body), type(statement)))) in ("ok", "statement_refused")


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(body: bytes) -> None:
    for kind in map(type, ALL):
        with pytest.raises(Refused, match="statement_refused"):
            check(body, kind)


@pytest.mark.parametrize(
    "title",
    [
        replace(TITLE, salt=b"s"),
        replace(TITLE, name=""),
        replace(TITLE, name="two words"),
        replace(TITLE, topic="t" * (MAX_TOPIC + 1)),
    ],
)
def test_a_title_of_another_form_is_refused_although_its_hash_was_signed(title: Title) -> None:
    with pytest.raises(Refused) as caught:
        check_title(encode(title), title_digest(encode(title)))
    assert caught.value.details == {"what": "title"}


def test_a_title_is_the_one_whose_hash_was_signed() -> None:
    assert check_title(encode(TITLE), OPENING.title) == TITLE
    assert OPENING.title == hashlib.sha256(encode(TITLE)).digest()
    with pytest.raises(Refused):
        check_title(encode(replace(TITLE, topic="another")), OPENING.title)
    with pytest.raises(Refused):
        check_title(b"\xc1", title_digest(b"\xc1"))


# -- comparing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", [TERMS, KNOCK, DECISION])
def test_a_finished_statement_differs_in_nothing_but_its_nonce_and_its_time(statement: Any) -> None:
    free = {"nonce": b"another nonce...", "at": Millis(8)}
    same = {name: value for name, value in free.items() if name in statement.__struct_fields__}
    assert contradiction(statement, replace(statement, **same)) is None
    for name in statement.__struct_fields__:
        if name not in free:
            assert contradiction(statement, replace(statement, **{name: "other"})) == name


# -- what follows ------------------------------------------------------------------------------------------

ADMITTED = Claim(BEN.id, BEN.principal, "ben-2")
LET_IN = Claim(BEN.id, BEN.principal, "ben")


def test_the_opening_makes_its_owner_a_member_and_nobody_else() -> None:
    owner = Claim(OWNER.id, OWNER.principal, OWNER.name)
    assert opens(OPENING, owner)
    for wrong in ({"agent": BEN.id}, {"principal": STRANGER.principal}, {"handle": "ben"}):
        assert not opens(OPENING, replace(owner, **wrong))


def test_a_decision_makes_exactly_the_one_that_it_names_a_member() -> None:
    assert decides(OPENING, ROOM, DECISION, ADMITTED) is None
    for wrong in ({"agent": CAT.id}, {"principal": STRANGER.principal}, {"handle": "ben"}):
        assert decides(OPENING, ROOM, DECISION, replace(ADMITTED, **wrong)) == next(iter(wrong))
    assert decides(OPENING, ROOM, replace(DECISION, admit=False, handle=""), ADMITTED) == "admit"
    assert decides(OPENING, RoomId("r_other"), DECISION, ADMITTED) == "room"
    assert decides(replace(OPENING, home=HomeId("N" + "A" * 55)), ROOM, DECISION, ADMITTED) == "home"


def test_only_where_the_owner_may_decide_is_a_decision_without_a_proof_one() -> None:
    unproven = replace(DECISION, proof="none")
    owners = [first_owner(OPENING), Owner(STRANGER.principal, STRANGER.id)]
    assert deciders(owners, "person", DECISION) == [OWNER.principal, STRANGER.principal]
    assert deciders(owners, "person", unproven) == []
    assert decides(OPENING, ROOM, unproven, ADMITTED) == "proof"
    by_agent = replace(OPENING, approver="agent")
    assert deciders(owners, "agent", unproven) == [OWNER.id, STRANGER.id]
    assert deciders(owners, "agent", DECISION) == [OWNER.principal, STRANGER.principal]
    assert decides(by_agent, ROOM, unproven, ADMITTED) is None


def test_a_key_alone_decides_in_a_sealed_room_and_for_the_person_who_signs() -> None:
    by_key = replace(DECISION, proof="none", by_key="k_1")
    check_fields(by_key)
    assert deciders([first_owner(OPENING)], "person", by_key) == [OWNER.principal]
    assert decides(replace(OPENING, sealed=SUITE), ROOM, by_key, ADMITTED) is None
    assert decides(OPENING, ROOM, by_key, ADMITTED) == "by_key"
    assert b"by_key" not in encode(DECISION)


@pytest.mark.parametrize("route", ["A3KE7", "A3KE7DJ", "a3ke7d", "A3KE7U", "A3KE7I", ""])
def test_a_route_has_six_characters_of_the_alphabet(route: str) -> None:
    with pytest.raises(Refused) as caught:
        check_fields(replace(CARD, route=route))
    assert caught.value.details["what"] == "route"


def test_a_key_lets_in_whoever_knocks_in_time_and_is_called_so() -> None:
    assert lets_in(HOME, ROOM, TERMS, KNOCK, LET_IN) is None
    assert lets_in(HOME, ROOM, TERMS, KNOCK, replace(LET_IN, handle="ben-7")) is None
    for wrong in ({"agent": CAT.id}, {"principal": STRANGER.principal}, {"handle": "bert"}):
        assert lets_in(HOME, ROOM, TERMS, KNOCK, replace(LET_IN, **wrong)) == next(iter(wrong))
    assert lets_in(HOME, ROOM, TERMS, replace(KNOCK, at=Millis(1_000)), LET_IN) == "expires_at"
    assert lets_in(HOME, ROOM, TERMS, replace(KNOCK, ref="k_2"), LET_IN) == "ref"
    far, other = HomeId("N" + "A" * 55), RoomId("r_other")
    for terms, knock in ((replace(TERMS, home=far), KNOCK), (TERMS, replace(KNOCK, home=far))):
        assert lets_in(HOME, ROOM, terms, knock, LET_IN) == "home"
    assert lets_in(far, ROOM, TERMS, KNOCK, LET_IN) == "home"
    for terms, knock in ((replace(TERMS, room=other), KNOCK), (TERMS, replace(KNOCK, room=other))):
        assert lets_in(HOME, ROOM, terms, knock, LET_IN) == "room"
    assert lets_in(HOME, other, TERMS, KNOCK, LET_IN) == "room"


def test_a_gated_key_lets_in_only_those_whom_the_person_named_before() -> None:
    gated = replace(TERMS, gated=True)
    assert lets_in(HOME, ROOM, gated, KNOCK, LET_IN) == "gated"
    assert lets_in(HOME, ROOM, replace(gated, preapproved=(CAT.id,)), KNOCK, LET_IN) == "gated"
    assert lets_in(HOME, ROOM, replace(gated, preapproved=(BEN.id,)), KNOCK, LET_IN) is None


@given(
    st.text("ab-2", min_size=1, max_size=MAX_LABEL),
    st.sets(st.integers(1, 12), max_size=12),
)
def test_every_handle_that_a_home_gives_is_one_of_the_name(name: str, taken: set[int]) -> None:
    names: set[str] = set()
    for _ in range(max(taken, default=0)):
        names.add(first_free(label(name), names))
    assert is_handle_of(first_free(label(name), names), name)


@pytest.mark.parametrize("handle", ["ben-1", "ben-0", "ben-02", "ben-", "benny", "ben-2-2", "be-2", "", "ben-2\n"])
def test_no_other_handle_is_one_of_the_name(handle: str) -> None:
    assert not is_handle_of(handle, "ben")
