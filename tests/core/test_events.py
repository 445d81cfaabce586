"""The codec of facts: what was stored is read for ever, as the golden log says (`tests/support/golden.py`)."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import events
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import AgentId, BlobId, MessageId, Millis, RequestId
from parlerd.core.room import Room
from tests.support.core import BEN, OWNER, refused
from tests.support.golden import (
    LOGS,
    SAMPLES,
    Recorded,
    bare_header,
    kind,
    missing_samples,
    reads,
    recorded,
    sample_header,
)

EVENTS: tuple[type[events.Event], ...] = (*get_args(events.RoomEvent), *get_args(events.HomeEvent))


def loose(header: events.Header) -> dict[str, Any]:
    fields: dict[str, Any] = msgpack.unpackb(events.encode_header(header))
    return fields


# -- today's facts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", SAMPLES, ids=kind)
def test_a_fact_reads_back_as_it_was_written(event: events.Event) -> None:
    for header in (sample_header(event), bare_header(event)):
        data = events.encode_header(header)
        assert events.decode_header(data) == header
        assert events.encode_header(events.decode_header(data)) == data


def test_there_is_a_sample_and_a_version_of_every_type() -> None:
    assert [type(event) for event in SAMPLES] == list(EVENTS)
    assert set(events.CURRENT_V) == {kind(event) for event in SAMPLES}
    assert get_args(events.Event) == EVENTS


@pytest.mark.parametrize("event", SAMPLES, ids=kind)
def test_a_sample_sets_every_field_to_something_else_than_its_default(event: events.Event) -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(type(event)) if field.name != "v"}
    assert [name for name, default in fields.items() if getattr(event, name) == default] == []
    # What is written leaves defaults out, so every field of the sample is there.
    assert loose(sample_header(event))["event"].keys() == {"type", "v", *fields}


@pytest.mark.parametrize("event", SAMPLES, ids=kind)
def test_stored_bytes_always_say_type_and_version(event: events.Event) -> None:
    stored = loose(bare_header(event))["event"]
    assert stored["type"] == kind(event)
    assert stored["v"] == events.CURRENT_V[kind(event)]


def test_every_type_of_an_older_version_can_be_lifted_to_the_present_one() -> None:
    needed = {(name, v) for name, current in events.CURRENT_V.items() for v in range(1, current)}
    assert set(events.UPCASTERS) == needed


def test_a_fact_cannot_be_changed() -> None:
    header = sample_header(SAMPLES[0])
    with pytest.raises(AttributeError):
        header.at = Millis(0)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        header.event.v = 2  # type: ignore[misc]


# -- saved facts -------------------------------------------------------------------------------------------


SAVED = pytest.mark.parametrize("fact", recorded(), ids=lambda fact: f"{fact.log}-{fact.type}-{fact.v}")


@SAVED
def test_a_fact_that_was_once_written_still_says_the_same(fact: Recorded) -> None:
    assert reads(fact.header) == fact.reads


@SAVED
def test_saved_bytes_are_what_another_reader_of_msgpack_finds(fact: Recorded) -> None:
    stored = msgpack.unpackb(fact.data)
    assert (stored["event"]["type"], stored["event"]["v"]) == (fact.type, fact.v)
    assert stored["position"] == fact.reads["position"]


@SAVED
def test_saved_bytes_of_a_present_version_are_what_is_written_today(fact: Recorded) -> None:
    if fact.v == events.CURRENT_V[fact.type]:
        assert events.encode_header(fact.header) == fact.data


def test_every_version_of_every_type_was_saved() -> None:
    assert missing_samples() == [], "run: python -m tests.support.golden"
    assert {(fact.type, fact.v) for fact in recorded("samples")} >= set(events.CURRENT_V.items())


def test_the_whole_logs_hold_every_type_and_follow_on() -> None:
    known = {(fact.type, fact.v) for fact in recorded(*LOGS)}
    assert known >= set(events.CURRENT_V.items()), "run: python -m tests.support.golden"
    for log in LOGS:
        positions = [fact.header.position for fact in recorded(log)]
        assert positions == list(range(1, len(positions) + 1))


def test_the_log_of_a_room_of_the_first_version_still_folds_to_that_room() -> None:
    room = Room()
    for fact in recorded("room_v1"):
        room.apply(fact.header)
    state = room.state
    assert (state.name, state.history, state.closed, state.position) == ("auth-redesign", "none", True, 23)
    assert {member.handle: member.present for member in state.members.values()} == {
        "olive": True,
        "ben": True,
        "cat": False,
    }
    assert [(request.name, request.state) for request in state.requests.values()] == [
        ("ben", "approved"),
        ("dan", "denied"),
        ("ben", "approved"),
        ("cat", "approved"),
        ("eve", "closed"),
    ]
    assert [(key.gated, key.uses, key.revoked) for key in state.keys.values()] == [(True, 2, True)]
    assert room.view(OWNER.id).spans == ((2, None),)
    assert room.view(BEN.id).spans == ((3, 4), (7, 12), (16, None))
    assert [room.newest_seq(who.id) for who in (OWNER, BEN)] == [5, 4]
    assert state.messages.threads == {}
    assert state.shown.number == 4


# -- older facts -------------------------------------------------------------------------------------------


@pytest.fixture
def third_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """`member_left` as if it were at version 3: version 1 called the agent `who`, version 2 had no `agent` prefix."""

    def from_1(fields: dict[str, Any]) -> dict[str, Any]:
        return {"type": fields["type"], "name": fields["who"]}

    def from_2(fields: dict[str, Any]) -> dict[str, Any]:
        return {"type": fields["type"], "agent": f"U{fields['name']}"}

    monkeypatch.setitem(events.CURRENT_V, "member_left", 3)
    monkeypatch.setitem(events.UPCASTERS, ("member_left", 1), from_1)
    monkeypatch.setitem(events.UPCASTERS, ("member_left", 2), from_2)


def old(event: dict[str, Any]) -> bytes:
    fields = {**loose(sample_header(events.MemberLeft(agent=AgentId("x")))), "event": {"type": "member_left", **event}}
    data: bytes = msgpack.packb(fields)
    return data


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize(
    "event", [{"who": "BEN"}, {"v": 1, "who": "BEN"}, {"v": 2, "name": "BEN"}, {"v": 3, "agent": "UBEN"}]
)
def test_a_fact_of_an_older_version_is_lifted_step_by_step(event: dict[str, Any]) -> None:
    header = events.decode_header(old(event))
    assert header == sample_header(events.MemberLeft(agent=AgentId("UBEN"), v=3))
    assert events.decode_header(events.encode_header(header)) == header


@pytest.mark.usefixtures("third_version")
def test_an_older_fact_that_happens_to_fit_the_present_shape_is_lifted_all_the_same() -> None:
    header = events.decode_header(old({"v": 2, "name": "BEN", "agent": "wrong"}))
    assert header.event == events.MemberLeft(agent=AgentId("UBEN"), v=3)


# -- newer facts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", SAMPLES, ids=kind)
def test_a_newer_version_of_any_type_is_refused_by_name(event: events.Event) -> None:
    fields = loose(sample_header(event))
    fields["event"]["v"] += 1
    with refused("newer_log") as caught:
        events.decode_header(msgpack.packb(fields))
    assert caught.value.details == {"type": kind(event), "v": event.v + 1}


@pytest.mark.parametrize("v", [1, 2, 2**63])
def test_a_type_of_a_newer_parler_is_refused_by_name(v: int) -> None:
    fields = {**loose(sample_header(SAMPLES[0])), "event": {"type": "task_mended", "v": v, "task": "t_1"}}
    with refused("newer_log") as caught:
        events.decode_header(msgpack.packb(fields))
    assert caught.value.details == {"type": "task_mended", "v": v}


@pytest.mark.parametrize("v", [0, -1])
def test_a_version_that_never_was_is_not_read(v: int) -> None:
    fields = loose(sample_header(SAMPLES[0]))
    fields["event"]["v"] = v
    with refused("newer_log"):
        events.decode_header(msgpack.packb(fields))


def test_a_known_type_with_a_value_that_is_unknown_here_makes_the_log_a_newer_one() -> None:
    approved = events.JoinApproved(request=RequestId("q"), agent=AgentId("U"), proof="cli")
    fields = loose(sample_header(approved))
    fields["event"]["proof"] = "retina"
    with refused("newer_log") as caught:
        events.decode_header(msgpack.packb(fields))
    assert "join_approved" in caught.value.message


# -- damage ------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """A fact of a newer type whose field is an array in an array in an array."""
    head: bytes = msgpack.packb({**loose(bare_header(SAMPLES[0])), "event": None})
    event = b"\x83\xa4type\xa1x\xa1v\x01\xa1a" + b"\x91" * depth + b"\xc0"
    assert head.count(b"\xa5event\xc0") == 1
    return head.replace(b"\xa5event\xc0", b"\xa5event" + event)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\xc0",
        b"\x81\xa5event\xc0",
        b"\x81\xa5event\x80",
        b"\x81\xa5event\x81\xa4type\x01",
        b"\x81\xa5event\x82\xa4type\xa1x\xa1v\xa1x",
        b"\x81\xa1\xff\x01",
        b"\x81\xa5event\x81\xa4type\xa1\xff",
        nested(100_000),
    ],
    ids=["empty", "unused", "no fields", "nil", "no event", "no type", "type", "version", "key", "name", "deep"],
)
def test_bytes_that_are_no_fact_are_named_as_damage(data: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        events.decode_header(data)
    assert caught.value.code == "store_corrupt"


@pytest.mark.parametrize("event", SAMPLES[:3], ids=kind)
def test_a_fact_cut_anywhere_is_damage(event: events.Event) -> None:
    data = events.encode_header(sample_header(event))
    for end in range(len(data)):
        with pytest.raises(StoreError):
            events.decode_header(data[:end])


@settings(max_examples=300)
@given(st.sampled_from(SAMPLES), st.data())
def test_damage_anywhere_gives_a_fact_or_one_of_two_errors(event: events.Event, data: st.DataObject) -> None:
    stored = bytearray(events.encode_header(sample_header(event)))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    raised: ParlerError | None = None
    try:
        events.decode_header(bytes(stored))
    except ParlerError as error:
        raised = error
    assert raised is None or (type(raised), raised.code) in {(Refused, "newer_log"), (StoreError, "store_corrupt")}


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ParlerError):
        events.decode_header(data)


DAN, CAT = AgentId("UDAN"), AgentId("UCAT")


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ({}, ()),
        ({"to": (CAT, DAN, CAT)}, (CAT, DAN)),
        ({"role": "dev"}, ("@dev",)),
        ({"to": (DAN,), "role": "dev"}, (DAN, "@dev")),
        ({"kind": "handoff"}, ("*",)),
        ({"kind": "handoff", "to": (DAN,)}, (DAN,)),
        ({"kind": "handoff", "role": "dev"}, ("@dev",)),
    ],
)
def test_a_message_is_for_whom_it_names_and_a_handoff_that_names_nobody_for_anyone(
    about: dict[str, Any], names: tuple[str, ...]
) -> None:
    event = events.MessagePosted(**{"id": MessageId("m"), "kind": "note", "chain": "c", "counter": 1, **about})
    assert events.addressees(event) == names
    assert events.found_under(event) == names
    brings = msgspec.structs.replace(event, blob=BlobId("ab" * 32))
    assert events.addressees(brings) == names
    assert events.found_under(brings) == (*names, "=" + "ab" * 32)


def test_a_reader_answers_to_its_id_its_handle_its_role_and_to_anyone() -> None:
    assert events.names_of(DAN) == (DAN, "*")
    assert events.names_of(DAN, "dan", "") == (DAN, "*", "@dan")
    assert events.names_of(DAN, "dan", "dev") == (DAN, "*", "@dan", "@dev")
    assert events.names_of(DAN, "dev", "dev") == (DAN, "*", "@dev")


def test_the_number_of_the_kinds_of_facts_is_raised_with_them() -> None:
    kinds = hashlib.sha256(msgspec.json.encode(sorted(events.CURRENT_V.items()))).hexdigest()[:16]
    said = "an event is new, or newer: raise `core.events.KINDS` if a relay without it was released, and note both here"
    # `key_exchanged`, `knock_ended`, `direct_key_told`, and version 3 of `member_joined` and `epoch_turned` came before
    # any release of sealed rooms. No relay was released that does not know version 3 of `key_minted`.
    assert (events.KINDS, kinds) == (1, "8fc92b4a090a1ca5"), said
