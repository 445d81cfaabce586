from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, FrameReader, frame


def drain(reader: FrameReader, data: bytes) -> list[bytes]:
    reader.feed(data)
    found = []
    while (payload := reader.next()) is not None:
        found.append(payload)
    return found


def test_a_frame_is_its_length_in_four_big_endian_bytes_and_its_payload() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert frame(b"x" * 300)[:4] == struct.pack(">I", 300)


def test_an_empty_frame_is_a_frame() -> None:
    assert drain(FrameReader(), frame(b"") + frame(b"a")) == [b"", b"a"]


@given(st.lists(st.binary(max_size=200), max_size=8), st.data())
def test_however_a_stream_is_cut_the_same_frames_come_out(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    reader = FrameReader()
    found = []
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        found += drain(reader, stream[start:end])
    assert found == payloads
    assert reader.pending == 0


def test_a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    reader = FrameReader(limit=10)
    assert drain(reader, frame(b"x" * 10)) == [b"x" * 10]
    reader.feed(frame(b"x" * 11))
    with pytest.raises(ParlerError) as caught:
        reader.next()
    assert caught.value.code == "frame_too_large"
    assert caught.value.details == {"size": 11, "limit": 10}


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone_and_nothing_of_it_is_kept() -> None:
    reader = FrameReader()
    reader.feed(struct.pack(">I", FIRST_FRAME_LIMIT + 1))
    with pytest.raises(ParlerError, match="frame_too_large"):
        reader.next()
    assert reader.pending == 0


def test_a_raised_limit_holds_for_the_next_frame_of_the_same_chunk() -> None:
    reader = FrameReader(limit=4)
    reader.feed(frame(b"abcd") + frame(b"abcdefgh"))
    assert reader.next() == b"abcd"
    reader.limit = 8
    assert reader.next() == b"abcdefgh"


def test_what_may_not_be_received_is_not_sent() -> None:
    assert len(frame(bytes(FRAME_LIMIT))) == FRAME_LIMIT + 4
    with pytest.raises(ParlerError, match="frame_too_large"):
        frame(bytes(FRAME_LIMIT + 1))
