"""The signed bytes of a message."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.envelope import DataPart, Envelope, HandoffPart, TextPart, decode_envelope, encode_envelope
from parlerd.core.model import AgentId, MessageId, Millis, RoomId
from tests.support.golden import GOLDEN

ENVELOPES = GOLDEN / "envelope_v1.hex"

PLAIN = Envelope(
    v=1,
    room=RoomId("r_0123456789ABCDEFGHJK"),
    key="k_1",
    kind="note",
    chain="c_1",
    hops=0,
    authored_at=Millis(1_700_000_000_123),
    counter=1,
    previous=b"",
    seen=bytes(32),
    nonce=bytes(range(16)),
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


def test_the_bytes_that_were_once_signed_are_still_the_bytes_of_that_envelope() -> None:
    plain, full = (bytes.fromhex(line) for line in ENVELOPES.read_text().split())
    assert decode_envelope(plain) == PLAIN
    assert decode_envelope(full) == FULL
    assert encode_envelope(FULL) == full


def test_another_reader_of_msgpack_finds_every_promised_field_by_name() -> None:
    fields: dict[str, Any] = msgpack.unpackb(encode_envelope(FULL))
    assert set(fields) == {field.name for field in msgspec.structs.fields(Envelope)}
    assert [part["type"] for part in fields["parts"]] == ["text", "data", "handoff"]
    assert (fields["counter"], fields["previous"], fields["seen"]) == (2, bytes(range(32)), bytes(32))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", b"hello", encode_envelope(PLAIN)[:-1], encode_envelope(PLAIN) + b"\0"],
    ids=["empty", "never used", "no fields", "text", "cut", "more"],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_envelope(data)


def test_a_part_of_a_later_kind_is_refused_and_not_dropped() -> None:
    fields: dict[str, Any] = msgpack.unpackb(encode_envelope(PLAIN))
    fields["parts"] = [{"type": "hologram"}]
    with pytest.raises(msgspec.ValidationError):
        decode_envelope(msgpack.packb(fields))
