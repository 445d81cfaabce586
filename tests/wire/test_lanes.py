"""The messages between two relays: any split gives the same ones, and what may not come is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError
from parlerd.core.model import PrincipalId, RoomId
from parlerd.wire.calls import pack
from parlerd.wire.frames import FIRST_FRAME_LIMIT, frame
from parlerd.wire.lanes import (
    ANSWERING,
    DIALLING,
    LANES_LIMIT,
    PIECE,
    CloseLane,
    LaneData,
    OpenLane,
    OpenPipe,
    OpenToken,
    PeerChallenge,
    PeerHello,
    PeerProof,
    PeerWelcome,
    Reader,
    pieces,
)

HELLO = PeerHello(
    protocol=1, version="1.0", nonce=b"n" * 32, relay="a", incarnation="1", to_relay="b", to_incarnation="2"
)
DIALLED: list[msgspec.Struct] = [
    HELLO,
    PeerProof(signature=b"s" * 64),
    OpenLane(lane=1, principal=PrincipalId("P"), session="s", channel=b"c" * 32),
    OpenPipe(lane=2, address="192.0.2.1"),
    OpenToken(lane=3, token="tk_1", rooms=(RoomId("r_1"), RoomId("r_2"))),
    LaneData(lane=1, data=b"x" * 1000),
    CloseLane(lane=1),
]
ANSWERED: list[msgspec.Struct] = [
    PeerChallenge(nonce=b"n" * 32, signature=b"s" * 64),
    PeerWelcome(version="1.0"),
    LaneData(lane=1, data=b"y"),
    CloseLane(lane=1),
]


@given(st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=40))
def test_any_split_of_the_bytes_gives_the_same_messages(cuts: list[int]) -> None:
    for shape, said in ((DIALLING, DIALLED), (ANSWERING, ANSWERED)):
        data = b"".join(map(pack, said))
        reader, heard, at = Reader(shape), [], 0
        for cut in [*cuts, len(data)]:
            heard += list(reader.feed(data[at : at + cut]))
            at += cut
        assert heard == said


@pytest.mark.parametrize(("shape", "said"), [(DIALLING, ANSWERED[0]), (ANSWERING, DIALLED[0])])
def test_what_the_other_end_says_is_refused(shape: object, said: msgspec.Struct) -> None:
    with pytest.raises(ParlerError) as error:
        list(Reader(shape).feed(pack(said)))  # type: ignore[arg-type]
    assert error.value.code == "bad_frame"


def test_before_the_welcome_a_message_is_small_and_after_it_bounded() -> None:
    reader = Reader(DIALLING)
    with pytest.raises(ParlerError) as error:
        list(reader.feed(frame(b"x" * (FIRST_FRAME_LIMIT + 1))))
    assert error.value.code == "frame_too_large"
    reader = Reader(DIALLING)
    reader.welcome()
    whole = LaneData(lane=7, data=b"x" * PIECE)
    assert list(reader.feed(pack(whole))) == [whole]
    with pytest.raises(ParlerError) as error:
        list(reader.feed(frame(b"x" * (LANES_LIMIT + 1))))
    assert error.value.code == "frame_too_large"


@given(st.integers(min_value=0, max_value=3 * PIECE + 5))
def test_what_a_lane_carries_is_cut_and_nothing_of_it_is_lost(size: int) -> None:
    data = bytes(size)
    cut = list(pieces(3, data))
    assert b"".join(each.data for each in cut) == data
    assert all(0 < len(each.data) <= PIECE and each.lane == 3 for each in cut)
