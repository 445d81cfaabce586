"""The signed bytes of a message."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.envelope import (
    DataPart,
    Envelope,
    HandoffPart,
    TextPart,
    UnknownPart,
    decode_envelope,
    encode_envelope,
    root_chain,
)
from parlerd.core.model import AgentId, MessageId, Millis, RoomId
from tests.support.golden import GOLDEN

PLAIN = Envelope(
    v=2,
    id=MessageId("m_1"),
    room=RoomId("r_0123456789ABCDEFGHJK"),
    key="k_1",
    kind="note",
    chain="c_1",
    hops=0,
    authored_at=Millis(1_700_000_000_123),
    counter=1,
    previous=b"",
    line=bytes(32),
    nonce=bytes(range(16)),
    via="cli",
    parts=(TextPart("Bonjour"),),
)
FULL = msgspec.structs.replace(
    PLAIN,
    parts=(
        TextPart("Bonjour"),
        DataPart({"a": [1, 2.5, None, True], "b": "\u00e9"}),
        HandoffPart(next="review", summary="done so far", target="ben"),
    ),
    to=(AgentId("U1"),),
    role="reviewer",
    visibility=(AgentId("U1"), AgentId("U2")),
    reply_to=MessageId("m_0"),
    hops=3,
    counter=2,
    previous=bytes(range(32)),
    shown=7,
    host="codex",
)


@pytest.mark.parametrize("envelope", [PLAIN, FULL], ids=["plain", "full"])
def test_an_envelope_reads_back_as_it_was_written(envelope: Envelope) -> None:
    data = encode_envelope(envelope)
    assert decode_envelope(data) == envelope
    assert encode_envelope(decode_envelope(data)) == data


@given(st.text(), st.integers(0, 2**53), st.binary(max_size=64), st.lists(st.text(max_size=5), max_size=3))
def test_any_words_and_numbers_survive(text: str, number: int, binary: bytes, ids: list[str]) -> None:
    envelope = msgspec.structs.replace(
        PLAIN,
        parts=(TextPart(text), DataPart({text: number})),
        counter=number,
        previous=binary,
        visibility=tuple(AgentId(id) for id in ids),
    )
    assert decode_envelope(encode_envelope(envelope)) == envelope


def in_version_1(envelope: Envelope) -> Envelope:
    """What version 1 said of this message."""
    return msgspec.structs.replace(
        envelope, v=1, id=MessageId(""), shown=0, line=b"", host="", via="", seen=bytes(32), chain="c_1"
    )


def saved(version: int) -> tuple[bytes, bytes]:
    """The bytes of the plain envelope and of the full one, as they were once signed."""
    plain, full = (bytes.fromhex(line) for line in (GOLDEN / f"envelope_v{version}.hex").read_text().split())
    return plain, full


def test_an_envelope_of_version_1_reads_as_it_was_signed() -> None:
    assert [decode_envelope(data) for data in saved(1)] == [in_version_1(PLAIN), in_version_1(FULL)]


def test_the_bytes_that_were_once_signed_are_still_the_bytes_of_that_envelope() -> None:
    plain, full = saved(2)
    assert decode_envelope(plain) == PLAIN
    assert decode_envelope(full) == FULL
    assert encode_envelope(FULL) == full


def test_another_reader_of_msgpack_finds_every_promised_field_by_name() -> None:
    fields: dict[str, Any] = msgpack.unpackb(encode_envelope(FULL))
    assert set(fields) == {field.name for field in msgspec.structs.fields(Envelope)} - {"seen"}
    assert [part["type"] for part in fields["parts"]] == ["text", "data", "handoff"]
    assert (fields["counter"], fields["previous"]) == (2, bytes(range(32)))
    assert (fields["shown"], fields["line"], fields["host"], fields["via"]) == (7, bytes(32), "codex", "cli")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", b"hello", encode_envelope(PLAIN)[:-1], encode_envelope(PLAIN) + b"\0"],
    ids=["empty", "never used", "no fields", "text", "cut", "more"],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_envelope(data)


def with_parts(*parts: object, **fields: object) -> bytes:
    """The bytes of a message with these parts, as another program may write them."""
    plain: dict[str, Any] = msgpack.unpackb(encode_envelope(PLAIN))
    packed: bytes = msgpack.packb({**plain, **fields, "parts": parts})
    return packed


def test_a_part_of_a_later_type_reads_as_one_unknown_part_and_the_others_as_they_are() -> None:
    hologram = {"type": "hologram", "frames": [1, {"x": b"y"}]}
    text = {"type": "text", "text": "hello"}
    first, second = decode_envelope(with_parts(text, hologram, text)), decode_envelope(with_parts(hologram))
    assert first.parts == (TextPart("hello"), UnknownPart(msgpack.packb(hologram)), TextPart("hello"))
    assert second == msgspec.structs.replace(PLAIN, parts=(UnknownPart(msgpack.packb(hologram)),))
    other = decode_envelope(with_parts({**hologram, "frames": []}))
    assert other.parts != second.parts


@pytest.mark.parametrize(
    "data",
    [
        with_parts({"type": "text", "text": 5}),
        with_parts({"type": "hologram"}, {"type": "text"}),
        with_parts({"type": 5}),
        with_parts({"text": "x"}),
        with_parts("text"),
        with_parts({"type": "hologram"}, counter="one"),
    ],
    ids=["wrong field", "wrong field beside", "no name", "no type", "no map", "wrong envelope"],
)
def test_a_part_that_is_wrong_and_not_of_a_later_type_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_envelope(data)


def test_a_conversation_is_named_after_its_first_message() -> None:
    assert root_chain(MessageId("m_0123")) == "c_0123"
