"""What may be said: sizes, depth, forms, and whether a header repeats its envelope."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import events as e
from parlerd.core import words
from parlerd.core.envelope import DataPart, Envelope, HandoffPart, MemoryPart, TextPart, UnknownPart, encode_envelope
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import MAX_TEXT, AgentId, MessageId, Millis, RoomId
from parlerd.core.words import (
    MAX_ADDRESSEES,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_PARTS,
    check_body,
    check_data,
    check_envelope,
    check_text,
    contradiction,
)
from tests.support.core import BEN, outcome
from tests.support.counting import calls_in

ROOM = RoomId("r_1")
AGENTS = [AgentId("U" + f"{n:055d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ"))) for n in range(70)]
SOUND = Envelope(
    v=2,
    id=MessageId("m_1"),
    room=ROOM,
    key="k1",
    kind="text",
    chain="c_1",
    hops=0,
    authored_at=Millis(5),
    counter=1,
    previous=b"",
    line=bytes(32),
    nonce=bytes(16),
    host="codex",
    via="mcp",
    parts=(TextPart("hello"),),
)


def change(**fields: Any) -> Envelope:
    return msgspec.structs.replace(SOUND, **fields)


def refusal(envelope: Envelope) -> tuple[str, object]:
    """The code and what was wrong."""
    with pytest.raises(Refused) as caught:
        check_envelope(envelope)
    return caught.value.code, caught.value.details.get("what")


def test_text_is_measured_in_bytes() -> None:
    check_text("x" * MAX_TEXT, "text")
    with pytest.raises(ParlerError) as error:
        check_text("\U0001f600" * (MAX_TEXT // 4 + 1), "text")
    assert error.value.code == "text_too_long"


def test_data_is_measured_before_it_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("the elements were looked at")

    monkeypatch.setattr(words, "chain", looked)
    with pytest.raises(ParlerError) as error:
        check_data([1] * (MAX_TEXT + 1))
    assert error.value.code == "text_too_long"


@pytest.mark.parametrize("element", [1, 1.5, "a", None, [], {}, [[1]], {"a": {}}, [{}]])
def test_data_of_very_many_elements_is_not_looked_through_one_by_one(element: object) -> None:
    data = [element] * (MAX_TEXT // 10)
    assert calls_in(lambda: check_data(data)) < len(data) / 10


@pytest.mark.parametrize(
    "envelope",
    [
        SOUND,
        change(parts=(TextPart(""), DataPart({"a": [1, None]}))),
        change(counter=2, previous=bytes(32), shown=7, line=b"l" * 32),
        change(counter=2**52),
        change(host="", via="http"),
        change(parts=(UnknownPart(b"later"),)),
        change(hops=4, reply_to=MessageId("m_1"), to=tuple(AGENTS[:MAX_ADDRESSEES]), visibility=(AGENTS[0],)),
        change(kind="handoff", parts=(HandoffPart(next="review", target="ben"),), role="reviewer"),
        change(parts=tuple(TextPart("x") for _ in range(MAX_PARTS))),
        change(kind="memory", parts=(TextPart("x"), MemoryPart(key="deploy", if_version=0))),
        change(kind="memory", parts=(MemoryPart(key="deploy", forgets=True),)),
        change(kind="memory", hops=1, reply_to=MessageId("m_1"), parts=(MemoryPart(forgets=True),)),
    ],
)
def test_a_sound_envelope_passes_as_it_is(envelope: Envelope) -> None:
    check_envelope(envelope)
    assert check_body(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "note"},
        {"to": (AGENTS[0],)},
        {"visibility": (AGENTS[0],)},
        {"hops": 1, "reply_to": MessageId("m_1")},
        {"parts": (TextPart("x"), MemoryPart(), MemoryPart())},
        {"parts": (TextPart("x"), MemoryPart(key="two words"))},
        {"parts": (TextPart("x"), MemoryPart(if_version=1))},
        {"parts": (TextPart("x"), MemoryPart(key="k", if_version=-1))},
        {"parts": (TextPart("x"), DataPart(1), MemoryPart(key="k"))},
        {"parts": (TextPart("x"), MemoryPart(key="k", forgets=True))},
        {"parts": (MemoryPart(key="k", forgets=True, if_version=1),)},
        {"parts": (MemoryPart(forgets=True),)},
        {"parts": (MemoryPart(key="k"),)},
        {"parts": (MemoryPart(key="k", forgets=True),), "hops": 1, "reply_to": MessageId("m_1")},
    ],
)
def test_a_message_of_a_memory_says_one_thing_that_is_hidden_from_nobody(wrong: dict[str, Any]) -> None:
    sound = {"kind": "memory", "parts": (TextPart("x"), MemoryPart(key="deploy"))}
    check_envelope(change(**sound))
    with pytest.raises(Refused) as refused:
        check_envelope(change(**{**sound, **wrong}))
    assert (refused.value.code, refused.value.details["what"]) == ("envelope_refused", "parts")


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("v", {"v": 1}),
        ("v", {"v": 3}),
        ("id", {"id": ""}),
        ("id", {"id": "x_1"}),
        ("id", {"id": "m_"}),
        ("id", {"id": "m_a b"}),
        ("id", {"id": "m_" + "x" * 63}),
        ("room", {"room": "r 1"}),
        ("room", {"room": ""}),
        ("key", {"key": ""}),
        ("key", {"key": "k" * 129}),
        ("kind", {"kind": "a b"}),
        ("kind", {"kind": "x" * 65}),
        ("chain", {"chain": "c_2"}),
        ("chain", {"chain": "c\n1", "reply_to": MessageId("m_0"), "hops": 1}),
        ("chain", {"chain": "c" * 65, "reply_to": MessageId("m_0"), "hops": 1}),
        ("hops", {"hops": 1}),
        ("hops", {"hops": 0, "reply_to": MessageId("m_1")}),
        ("hops", {"hops": -1, "reply_to": MessageId("m_1")}),
        ("authored_at", {"authored_at": -1}),
        ("counter", {"counter": 0}),
        ("counter", {"counter": 2**53, "previous": bytes(32)}),
        ("previous", {"previous": bytes(31)}),
        ("shown", {"shown": -1}),
        ("shown", {"shown": 2**53}),
        ("line", {"line": b""}),
        ("line", {"line": bytes(33)}),
        ("seen", {"seen": bytes(32)}),
        ("host", {"host": "a host"}),
        ("host", {"host": "h" * 65}),
        ("via", {"via": ""}),
        ("via", {"via": "pigeon"}),
        ("via", {"via": "link"}),
        ("nonce", {"nonce": b""}),
        ("to", {"to": ("ben",)}),
        ("to", {"to": (AGENTS[0], AGENTS[0])}),
        ("to", {"to": tuple(AGENTS[: MAX_ADDRESSEES + 1])}),
        ("role", {"role": "a role"}),
        ("visibility", {"visibility": ("ben",)}),
        ("visibility", {"visibility": tuple(AGENTS[: MAX_ADDRESSEES + 1])}),
        ("reply_to", {"reply_to": MessageId("m_" + "x" * 64), "hops": 1}),
        ("parts", {"parts": ()}),
        ("parts", {"parts": (TextPart(""),)}),
        ("parts", {"parts": tuple(TextPart("x") for _ in range(MAX_PARTS + 1))}),
        ("parts", {"parts": (HandoffPart(next="review"),)}),
        ("parts", {"kind": "handoff", "parts": (HandoffPart(next="review", target="b" * 65),)}),
    ],
)
def test_an_envelope_with_one_thing_wrong_is_refused_by_its_name(what: str, wrong: dict[str, Any]) -> None:
    assert refusal(change(**wrong)) == ("envelope_refused", what)


def test_words_past_the_limits_are_refused_as_they_are_for_a_local_author() -> None:
    assert refusal(change(parts=(TextPart("x" * (MAX_TEXT + 1)),)))[0] == "text_too_long"
    assert refusal(change(parts=(DataPart("x" * (MAX_TEXT + 1)),)))[0] == "text_too_long"
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert refusal(change(parts=(DataPart([deep]),)))[0] == "invalid_param"
    for no_json in ({1: 2}, b"bytes", float("nan")):
        assert refusal(change(parts=(DataPart(no_json),)))[0] == "invalid_param"
    with pytest.raises(Refused) as caught:
        check_body(bytes(MAX_BYTES + 1))
    assert caught.value.code == "text_too_long"


@given(st.binary(max_size=200))
def test_bytes_that_are_no_envelope_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        check_body(data)
    assert caught.value.code == "envelope_refused"


@given(st.integers(0, 500), st.integers(0, 255))
def test_an_envelope_with_a_byte_changed_is_an_envelope_or_refused(place: int, byte: int) -> None:
    data = bytearray(encode_envelope(change(parts=(TextPart("x" * 40), DataPart({"a": [1, "b", None]})))))
    data[place % len(data)] = byte
    said = outcome(lambda: check_body(bytes(data)))
    assert said in ("ok", "envelope_refused", "invalid_param", "text_too_long")


def test_a_header_contradicts_its_envelope_in_the_field_that_differs() -> None:
    event = e.MessagePosted(id=MessageId("m_1"), kind="text", chain="c_1", counter=1)
    assert contradiction(ROOM, "k1", BEN.by, event, SOUND) is None
    assert contradiction(ROOM, None, BEN.by, event, SOUND) is None
    assert contradiction(RoomId("r_2"), "k1", BEN.by, event, SOUND) == "room"
    assert contradiction(ROOM, "k2", BEN.by, event, SOUND) == "key"
    changes: dict[str, Any] = {
        "v": 1,
        "id": MessageId("m_2"),
        "host": "claude-code",
        "via": "cli",
        "kind": "note",
        "to": (AGENTS[0],),
        "role": "reviewer",
        "visibility": (AGENTS[0],),
        "reply_to": MessageId("m_0"),
        "chain": "c_2",
        "hops": 1,
        "counter": 2,
    }
    for name, value in changes.items():
        assert contradiction(ROOM, "k1", BEN.by, event, change(**{name: value})) == name


def test_an_envelope_of_version_1_says_nothing_of_the_id_and_the_door() -> None:
    event = e.MessagePosted(id=MessageId("m_9"), kind="text", chain="c_1", counter=1, envelope_v=1)
    assert contradiction(ROOM, "k1", BEN.by, event, change(v=1, id="", host="", via="")) is None
    assert contradiction(ROOM, "k1", BEN.by, event, SOUND) == "v"
