"""The link between two relays of one home: both prove the home's key, and then it carries lanes.

    dials                       answers
    peer_hello        ------>                    who dials, which process of it, and whom it means
                      <------   peer_challenge   proves the key, over both processes and the certificate
    peer_proof        ------>                    proves the key, too
                      <------   peer_welcome
    open_lane         ------>                    a daemon that is at the relay that dials
    open_pipe         ------>                    or a connection over HTTP
    open_token        ------>                    or one call of somebody who showed a token at the relay that dials
    lane_data         <----->                    a piece of what that link carries after its welcome (`link`)
    close_lane        <----->

A lane is one daemon's link, as the relay has it that the daemon is not at: the same frames, cut into pieces so that no
lane keeps the others waiting. Not here: what is signed (`identity.kinship`), sockets and bounds (`relay.peers`). Below:
`codec`, `frames`. Invariant: any split of the bytes gives the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from parlerd.core.model import PrincipalId, RoomId
from parlerd.core.tokens import MAX_ROOMS
from parlerd.wire import codec
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FrameReader
from parlerd.wire.link import Nonce, Signature, Word
from parlerd.wire.messages import Goodbye

PEER_PROTOCOL: Final = 1
"""The version of the link between relays."""
PIECE: Final = 64 * 1024
"""The most bytes of a lane in one message."""
LANES_LIMIT: Final = PIECE + 1024
"""The most bytes in a frame after the welcome."""

LaneId = Annotated[int, Meta(ge=0, lt=1 << 53)]


class PeerHello(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="peer_hello"):
    """Who dials: which relay, and which process of it; and whom it means to have dialled."""

    protocol: int
    version: Word
    nonce: Nonce
    relay: Word
    incarnation: Word
    to_relay: Word
    to_incarnation: Word


class PeerChallenge(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="peer_challenge"):
    """Whoever answers proves the home's key."""

    nonce: Nonce
    signature: Signature


class PeerProof(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="peer_proof"):
    """Whoever dialled proves it, too."""

    signature: Signature


class PeerWelcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="peer_welcome"):
    """The proof is accepted."""

    version: Word


class OpenLane(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="open_lane"):
    """A daemon is there, at the relay that dialled: what was proved on its link. What its agents may do follows from
    what they sign over the channel, and is proved anew. `link` is the number of its link, which each newer link of the
    daemon raises; 0 where the relay that dialled is of a version that counts none."""

    lane: LaneId
    principal: Annotated[PrincipalId, Meta(max_length=64)]
    session: Word
    channel: Annotated[bytes, Meta(max_length=32)]
    link: Annotated[int, Meta(ge=0, lt=1 << 53)] = 0


class OpenPipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="open_pipe"):
    """Somebody asks over HTTP, from this address: the lane carries the bytes of their connection."""

    lane: LaneId
    address: Word


class OpenToken(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="open_token"):
    """Somebody with this token is there, at the relay that dialled, and asks about these of its rooms, or about all of
    them where none is named. What the token is for, and whether it holds, the relay that is asked knows itself."""

    lane: LaneId
    token: Word
    rooms: Annotated[tuple[Annotated[RoomId, Meta(max_length=64)], ...], Meta(max_length=MAX_ROOMS)] = ()


class LaneData(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="lane_data"):
    """A piece of what a lane carries."""

    lane: LaneId
    data: Annotated[bytes, Meta(max_length=PIECE)]


class CloseLane(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="close_lane"):
    """A lane is over. Nothing of it follows, and its id is not used again."""

    lane: LaneId


FromDialling = PeerHello | PeerProof | OpenLane | OpenPipe | OpenToken | LaneData | CloseLane | Goodbye
"""What the relay hears that was dialled."""
FromAnswering = PeerChallenge | PeerWelcome | LaneData | CloseLane | Goodbye
"""What the relay hears that dialled."""

DIALLING: Final = codec.Shape[FromDialling](FromDialling)
ANSWERING: Final = codec.Shape[FromAnswering](FromAnswering)


class Reader:
    """The messages of one end, out of its bytes. Before the welcome a message is small."""

    __slots__ = ("_frames", "_shape")

    def __init__(self, shape: codec.Shape[FromDialling] | codec.Shape[FromAnswering]) -> None:
        self._shape = shape
        self._frames = FrameReader(FIRST_FRAME_LIMIT)

    def welcome(self) -> None:
        """The other side is proven."""
        self._frames.limit = LANES_LIMIT

    def feed(self, data: bytes) -> Iterator[FromDialling | FromAnswering]:
        """What these bytes complete, in order. Raises `ParlerError`: `bad_frame`, `frame_too_large`."""
        self._frames.feed(data)
        while (payload := self._frames.next()) is not None:
            yield self._shape.decode(payload)


def pieces(lane: int, data: bytes) -> Iterator[LaneData]:
    """The messages that carry some bytes of a lane."""
    for begin in range(0, len(data), PIECE):
        yield LaneData(lane=lane, data=data[begin : begin + PIECE])
