"""Calls and streams under way on one conversation, at the end that answers and at the end that asks.

The two ends of every conversation that carries calls are made of these: `peer` for the local socket, `link` for the
link between two homes. Not here: what comes before the first call, and who reads frames. Below: `codec`, `frames`.
Invariants: a call is answered exactly once; a stream never has more items under way than the caller gave credit for;
an id is used for one call at a time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core.errors import ErrorBody, ParlerError
from parlerd.wire import codec
from parlerd.wire.frames import frame
from parlerd.wire.messages import Call, Cancel, Credit, Failure, Item, Reply

IN_FLIGHT: Final = 64
"""The most calls and streams under way on one connection of the local socket; one more is answered `busy`."""
CREDIT: Final = 64
"""How many items of a stream may be sent before the caller gives credit."""
_CREDIT_MAX: Final = 1 << 20
"""The most credit that a stream can have, so that a caller cannot make the number grow without end."""


class Overflow(msgspec.Struct, frozen=True):
    """A call that is not begun: one beyond those that may be under way, or one that this protocol version may not make.
    Answer it with `Answering.refuse`."""

    id: int
    error: ParlerError


class Ended(msgspec.Struct, frozen=True):
    """The other side broke the protocol. Say goodbye with `error` where this end has a goodbye, then close."""

    error: ParlerError


def pack(message: msgspec.Struct) -> bytes:
    """A message as a frame. Raises `frame_too_large`."""
    return frame(codec.encode(message))


class Answering:
    """The end that answers calls: hears `Call`, `Cancel` and `Credit`, and gives the bytes of answers."""

    __slots__ = ("_credit", "_in_flight")

    def __init__(self, in_flight: int = IN_FLIGHT) -> None:
        self._in_flight = in_flight
        # The calls and streams under way: for each id, how many items may be sent now.
        self._credit: dict[int, int] = {}

    @property
    def under_way(self) -> int:
        """Calls and streams that are not answered yet."""
        return len(self._credit)

    def _accept_call(self, payload: bytes) -> Call | Cancel | Credit | Overflow:
        """A frame as a message about calls. Raises `bad_frame`."""
        message = codec.FROM_CLIENT.decode(payload)
        if type(message) is Call:
            return self._begin(message)
        if type(message) is Credit and message.id in self._credit:
            self._credit[message.id] = min(_CREDIT_MAX, self._credit[message.id] + message.more)
        return message

    def _begin(self, call: Call) -> Call | Overflow:
        if call.id in self._credit:
            # An answer names its call by the id alone, and could not say which of the two calls it is for.
            raise ParlerError("bad_frame", "A call with this id is under way.", id=call.id)
        if (error := self._refusal(call)) is not None:
            return Overflow(call.id, error)
        if len(self._credit) >= self._in_flight:
            return Overflow(call.id, ParlerError("busy", limit=self._in_flight))
        self._credit[call.id] = CREDIT
        return call

    def _refusal(self, call: Call) -> ParlerError | None:
        """Why this conversation never begins that call; None for a call that it may make."""
        return None

    def reply(self, id: int, result: bytes) -> bytes:
        """Answer a call, or end a stream in order; `result` is msgpack.

        Raises `frame_too_large`. The call is not answered then: answer it with `fail`.
        """
        data = pack(Reply(id=id, result=msgspec.Raw(result)))
        del self._credit[id]
        return data

    def fail(self, id: int, error: ErrorBody) -> bytes:
        """Answer a call or end a stream with an error."""
        data = pack(Failure(id=id, error=error))
        del self._credit[id]
        return data

    def refuse(self, overflow: Overflow) -> bytes:
        """Answer a call that was never begun."""
        return pack(Failure(id=overflow.id, error=overflow.error.body()))

    def credit(self, id: int) -> int:
        """How many items of stream `id` may be sent now."""
        return self._credit[id]

    def item(self, id: int, item: bytes) -> bytes:
        """One element of a stream, which uses up one credit; `item` is msgpack. Raises `frame_too_large`."""
        data = pack(Item(id=id, item=msgspec.Raw(item)))
        self._credit[id] -= 1
        return data


class Asking:
    """The end that makes calls: gives the bytes of calls, and hears their answers."""

    __slots__ = ("_in_flight", "_next_id", "_taken", "_withdrawn")

    def __init__(self, in_flight: int = IN_FLIGHT) -> None:
        self._in_flight = in_flight
        # The id of the next call. Ids are never used twice on one connection.
        self._next_id = 0
        # The calls and streams under way: for each id, how many items were used since credit was last given.
        self._taken: dict[int, int] = {}
        # Those among them that were withdrawn. Their answers still come, and are dropped.
        self._withdrawn: set[int] = set()

    @property
    def under_way(self) -> int:
        """Calls and streams that are not answered yet, withdrawn ones included."""
        return len(self._taken)

    def _match(self, message: Reply | Failure | Item) -> Reply | Failure | Item | None:
        """An answer, or None for one to a call that was withdrawn. Raises `bad_frame`."""
        id = message.id
        if id not in self._taken:
            raise ParlerError("bad_frame", "An answer to a call that is not under way.", id=id)
        if not isinstance(message, Item):
            del self._taken[id]
        if id in self._withdrawn:
            if not isinstance(message, Item):
                self._withdrawn.remove(id)
            return None
        return message

    def call(self, op: str, params: bytes) -> tuple[int, bytes]:
        """The call's id and its frame; `params` is msgpack. Raises `busy`, `frame_too_large`."""
        if len(self._taken) >= self._in_flight:
            raise ParlerError("busy", limit=self._in_flight)
        id = self._next_id
        data = pack(Call(id=id, op=op, params=msgspec.Raw(params)))
        self._next_id += 1
        self._taken[id] = 0
        return id, data

    def cancel(self, id: int) -> bytes:
        """Withdraw a call or a stream: its answers become no events any more. Empty when the call was answered."""
        if id not in self._taken or id in self._withdrawn:
            return b""
        self._withdrawn.add(id)
        return pack(Cancel(id=id))

    def took(self, id: int) -> bytes:
        """Note that one item of stream `id` was used. Gives a credit frame after every `CREDIT // 2` items, and empty
        bytes otherwise."""
        if id not in self._taken or id in self._withdrawn:
            return b""
        self._taken[id] += 1
        if self._taken[id] < CREDIT // 2:
            return b""
        more, self._taken[id] = self._taken[id], 0
        return pack(Credit(id=id, more=more))
