"""What may be said: sizes, depth, forms, and whether a header repeats its envelope."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import events as e
from parlerd.core import words
from parlerd.core.envelope import (
    BlobPart,
    DataPart,
    Envelope,
    HandoffAnswerPart,
    HandoffPart,
    MemoryPart,
    Part,
    Quoted,
    TextPart,
    Transcript,
    UnknownPart,
    encode_envelope,
    turn_of,
)
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import MAX_TEXT, NO_BLOB, AgentId, BlobId, MessageId, Millis, RoomId
from parlerd.core.words import (
    MAX_ADDRESSEES,
    MAX_BYTES,
    MAX_CAPSULE,
    MAX_DEPTH,
    MAX_OFFER_MS,
    MAX_PARTS,
    MAX_POINTS,
    MAX_QUOTED_BYTES,
    MAX_TRANSCRIPT,
    MIN_OFFER_MS,
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


REPLY: dict[str, Any] = {"reply_to": MessageId("m_1"), "hops": 1}


BLOB = BlobId("ab" * 32)
TIP = "cd" * 20


ONE, TWO = MessageId("m_1"), MessageId("m_2")
QUOTING = Transcript(
    ONE,
    TWO,
    2,
    quoted=(Quoted(ONE, "ben", Millis(1), "x" * (MAX_QUOTED_BYTES - 206)), Quoted(TWO, "cat", Millis(2), "", "result")),
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
        change(
            kind="handoff", parts=(HandoffPart(next="x" * MAX_TEXT, summary="x" * MAX_TEXT, goal="x" * MAX_CAPSULE),)
        ),
        change(kind="handoff", parts=(HandoffPart(next="x", refs=("r",) * MAX_POINTS, ttl_ms=Millis(MIN_OFFER_MS)),)),
        change(kind="handoff-declined", parts=(HandoffAnswerPart("declined", "no access"),), **REPLY),
        change(kind="handoff-accepted", parts=(HandoffAnswerPart("accepted"), TextPart("on it")), **REPLY),
        change(parts=tuple(TextPart("x") for _ in range(MAX_PARTS))),
        change(kind="memory", parts=(TextPart("x"), MemoryPart(key="deploy", if_version=0))),
        change(kind="memory", parts=(MemoryPart(key="deploy", forgets=True),)),
        change(kind="memory", hops=1, reply_to=MessageId("m_1"), parts=(MemoryPart(forgets=True),)),
        change(kind="file", parts=(BlobPart(BLOB, 0),)),
        change(
            kind="file",
            parts=(TextPart("look"), BlobPart(BLOB, 2**53 - 1, "\u202e../x\n" + "é" * 120)),
            to=(AGENTS[0],),
        ),
        change(kind="code", parts=(BlobPart(BLOB, 7, "main", tip=TIP, base="ab" * 32, left_out=3),), **REPLY),
        change(kind="handoff", parts=(HandoffPart(next="merge"), BlobPart(BLOB, 7, "main", tip=TIP))),
        change(kind="handoff", parts=(HandoffPart(next="go", transcript=Transcript(ONE, TWO, 9, left_out=3)),)),
        change(kind="handoff", parts=(HandoffPart(next="go", transcript=QUOTING),)),
        change(kind="result", parts=(TextPart("done"), BlobPart(BLOB, 7, "report.pdf")), **REPLY),
        change(kind="task-working", parts=(TextPart("so far"), BlobPart(BLOB, 7, "main", tip=TIP)), **REPLY),
        change(kind="late-result", parts=(TextPart("done"), BlobPart(BLOB, 7)), **REPLY),
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
    ("kind", "parts"),
    [
        ("note", (BlobPart(BLOB, 1),)),
        ("code", (BlobPart(BLOB, 1),)),
        ("file", (BlobPart(BLOB, 1, tip=TIP),)),
        ("file", (BlobPart(BLOB, 1), BlobPart(BLOB, 1))),
        ("file", (BlobPart(BLOB, 1), DataPart(1))),
        ("file", (BlobPart(BlobId("../" * 21 + "x"), 1),)),
        ("file", (BlobPart(BlobId(BLOB.upper()), 1),)),
        ("file", (BlobPart(BlobId(BLOB[1:]), 1),)),
        ("file", (BlobPart(BlobId(BLOB + "\n"), 1),)),
        ("file", (BlobPart(BLOB, -1),)),
        ("file", (BlobPart(BLOB, 2**53),)),
        ("file", (BlobPart(BLOB, 1, "x" * 256),)),
        ("file", (BlobPart(BLOB, 1, base=TIP),)),
        ("file", (BlobPart(BLOB, 1, left_out=1),)),
        ("code", (BlobPart(BLOB, 1, tip=TIP, left_out=-1),)),
        ("code", (BlobPart(BLOB, 1, tip="HEAD"),)),
        ("code", (BlobPart(BLOB, 1, tip=TIP[1:]),)),
        ("code", (BlobPart(BLOB, 1, tip=TIP, base="main"),)),
        ("handoff", (HandoffPart(next="x"), BlobPart(BLOB, 1))),
        ("handoff", (HandoffPart(next="x"), BlobPart(BLOB, 1, tip=TIP), BlobPart(BLOB, 1, tip=TIP))),
        ("handoff", (HandoffPart(next="x"), TextPart("x"), BlobPart(BLOB, 1, tip=TIP))),
        ("handoff-accepted", (HandoffAnswerPart("accepted"), BlobPart(BLOB, 1, tip=TIP))),
        ("result", (TextPart("x"), BlobPart(BLOB, 1), DataPart(1))),
        ("task", (TextPart("x"), BlobPart(BLOB, 1))),
        ("memory", (MemoryPart(), BlobPart(BLOB, 1))),
    ],
)
def test_a_message_brings_one_thing_that_is_named_as_files_and_commits_are(kind: str, parts: tuple[Part, ...]) -> None:
    with pytest.raises(Refused) as refused:
        check_envelope(change(kind=kind, parts=parts))
    assert (refused.value.code, refused.value.details["what"]) == ("envelope_refused", "parts")


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": "1"},
        {"last": "x"},
        {"count": 0},
        {"count": 3},
        {"count": MAX_TRANSCRIPT + 1, "quoted": ()},
        {"left_out": -1},
        {"first": TWO},
        {"last": ONE},
        {"quoted": (QUOTING.quoted[0], Quoted(TWO, "c" * 65, Millis(2), "x"))},
        {"quoted": (QUOTING.quoted[0], Quoted(TWO, "cat", Millis(-1), "x"))},
        {"quoted": (QUOTING.quoted[0], Quoted(TWO, "cat", Millis(2), "x", "two words"))},
    ],
)
def test_a_transcript_names_messages_and_quotes_all_of_them_or_none(wrong: dict[str, Any]) -> None:
    transcript = msgspec.structs.replace(QUOTING, **wrong)
    envelope = change(kind="handoff", parts=(HandoffPart(next="go", transcript=transcript),))
    assert refusal(envelope) == ("envelope_refused", "parts")


def test_quotations_have_a_bound_of_their_own() -> None:
    def quoting(text: str) -> Envelope:
        second = msgspec.structs.replace(QUOTING.quoted[1], text=text)
        transcript = msgspec.structs.replace(QUOTING, quoted=(QUOTING.quoted[0], second))
        return change(kind="handoff", parts=(HandoffPart(next="go", transcript=transcript),))

    check_envelope(quoting("é" * 100))
    with pytest.raises(Refused) as refused:
        check_envelope(quoting("é" * 100 + "x"))
    assert (refused.value.code, refused.value.details["param"]) == ("text_too_long", "transcript")


def test_a_header_that_names_another_file_than_its_words_contradicts_them() -> None:
    envelope = change(kind="file", parts=(BlobPart(BLOB, 1),))
    event = e.MessagePosted(id=MessageId("m_1"), kind="file", chain="c_1", counter=1, blob=BLOB)
    by = msgspec.structs.replace(BEN.by, host="codex", via="mcp")
    assert contradiction(ROOM, "k1", by, event, envelope) is None
    # A Parler from before files were known stored the message without its name in the header.
    assert contradiction(ROOM, "k1", by, msgspec.structs.replace(event, blob=NO_BLOB), envelope) is None
    other = msgspec.structs.replace(event, blob=BlobId("cd" * 32))
    assert contradiction(ROOM, "k1", by, other, envelope) == "blob"
    assert contradiction(ROOM, "k1", by, event, change(kind="file", parts=(TextPart("x"),))) == "blob"


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
        ("parts", {"kind": "handoff", "parts": (HandoffPart(next="one"), HandoffPart(next="two"))}),
        ("parts", {"kind": "handoff", "parts": (HandoffPart(next="one"), HandoffAnswerPart("accepted")), **REPLY}),
        ("parts", {"kind": "handoff", "parts": (HandoffPart(next=""),)}),
        ("parts", {"kind": "handoff-accepted", "parts": (HandoffAnswerPart("accepted"),)}),
        ("parts", {"kind": "handoff-accepted", "parts": (HandoffAnswerPart("declined"),), **REPLY}),
        ("parts", {"kind": "text", "parts": (HandoffAnswerPart("withdrawn"),), **REPLY}),
    ],
)
def test_an_envelope_with_one_thing_wrong_is_refused_by_its_name(what: str, wrong: dict[str, Any]) -> None:
    assert refusal(change(**wrong)) == ("envelope_refused", what)


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("text_too_long", HandoffPart(next="x" * (MAX_TEXT + 1))),
        ("text_too_long", HandoffPart(next="x", state="x" * (MAX_CAPSULE + 1))),
        ("text_too_long", HandoffPart(next="x", goal="x" * MAX_CAPSULE, files=("x",))),
        ("text_too_long", HandoffPart(next="x", decisions=("x" * MAX_CAPSULE, "x"))),
        ("invalid_param", HandoffPart(next="x", questions=("q",) * (MAX_POINTS + 1))),
        ("invalid_param", HandoffPart(next="x", failed=("\ud800",))),
        ("invalid_param", HandoffPart(next="x", ttl_ms=Millis(MIN_OFFER_MS - 1))),
        ("invalid_param", HandoffPart(next="x", ttl_ms=Millis(MAX_OFFER_MS + 1))),
        ("invalid_param", HandoffPart(next="x", ttl_ms=Millis(-1))),
    ],
)
def test_a_handoff_past_its_limits_is_refused(code: str, part: HandoffPart) -> None:
    assert refusal(change(kind="handoff", parts=(part,)))[0] == code


@given(
    st.builds(
        dict,
        type=st.sampled_from(["handoff", "handoff_answer"]),
        next=st.one_of(st.text(max_size=5), st.integers(-9, 9), st.none()),
        answer=st.one_of(st.sampled_from(["accepted", "declined", "withdrawn"]), st.text(max_size=5)),
        reason=st.one_of(st.text(max_size=5), st.binary(max_size=5)),
        goal=st.one_of(st.text(max_size=5), st.lists(st.text(max_size=2), max_size=2)),
        files=st.one_of(st.lists(st.one_of(st.text(max_size=5), st.integers(-9, 9)), max_size=3), st.text(max_size=3)),
        ttl_ms=st.one_of(st.integers(-(2**65), 2**64 - 1).filter(lambda n: n >= -(2**63)), st.floats(), st.text()),
    ),
    st.sampled_from(["handoff", "handoff-accepted", "handoff-declined", "text"]),
    st.booleans(),
)
def test_hostile_parts_of_a_handoff_are_sound_or_refused_and_nothing_else(
    part: dict[str, Any], kind: str, is_reply: bool
) -> None:
    said = msgspec.to_builtins(change(kind=kind, **(REPLY if is_reply else {})), builtin_types=(bytes,))
    body = msgspec.msgpack.encode({**said, "parts": [part]})
    try:
        envelope = check_body(body)
    except Refused:
        return
    turn, ttl_ms = turn_of(envelope.parts)
    assert turn
    assert (turn == "offered") == (ttl_ms > 0) == (kind == "handoff")
    assert turn == "offered" or (kind == f"handoff-{turn}" and is_reply)


def test_a_header_that_says_another_turn_than_its_words_contradicts_them() -> None:
    envelope = change(kind="handoff", parts=(HandoffPart(next="x", ttl_ms=Millis(MIN_OFFER_MS)),))
    event = e.MessagePosted(
        id=MessageId("m_1"), kind="handoff", chain="c_1", counter=1, turn="offered", ttl_ms=Millis(MIN_OFFER_MS)
    )
    by = msgspec.structs.replace(BEN.by, host="codex", via="mcp")
    assert contradiction(ROOM, "k1", by, event, envelope) is None
    for wrong in ({"turn": ""}, {"turn": "accepted"}, {"ttl_ms": Millis(MIN_OFFER_MS + 1)}):
        changed = msgspec.structs.replace(event, **wrong)
        assert contradiction(ROOM, "k1", by, changed, envelope) == "parts"


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
