"""One conversation, as a state machine at each end: bytes that come in give events, and methods give bytes to send.

    state     the daemon hears        the client hears             next state
    hello     hello                   welcome, goodbye             `client` or `stdio`, as the hello says, or `ended`
    client    call, cancel, credit    reply, failure, item,        `ended` after a goodbye
                                      goodbye
    stdio     line, note              line, goodbye                `ended` after a goodbye
    ended     nothing                 nothing                      none

The daemon's end leaves `hello` when the hello comes, and the client's end when the welcome comes. Anything that the
table does not allow is a violation: the end that hears it is `ended`, and its last event is `Ended`.

Not here: sockets, tasks, deadlines, what an operation does. Above: `parlerd.ipc` and `parlerd.client`. Below: `frames`,
`codec`. Invariants: any split of a byte stream gives the same events; after `Ended` an end hears nothing more; a call
is answered exactly once; a stream never has more items under way than the caller gave credit for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from parlerd.core.errors import ErrorBody, ParlerError
from parlerd.wire import codec
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT, FrameReader, frame
from parlerd.wire.messages import (
    PROTOCOL,
    Call,
    Cancel,
    Credit,
    Failure,
    Goodbye,
    Hello,
    Item,
    Note,
    Reply,
    Welcome,
    spoken_by,
)

IN_FLIGHT: Final = 64
"""The most calls and streams under way on one connection; one more is answered `busy`."""
CREDIT: Final = 64
"""How many items of a stream may be sent before the caller gives credit."""
_CREDIT_MAX: Final = 1 << 20
"""The most credit that a stream can have, so that a caller cannot make the number grow without end."""

UPGRADE_OPERATION: Final = "daemon.stop"
"""The one call that a client of a newer protocol may make, so that nobody has to kill a daemon for an upgrade."""


class Overflow(msgspec.Struct, frozen=True):
    """A call beyond `IN_FLIGHT`, or one that this protocol version may not make. Answer it with `DaemonPeer.refuse`."""

    id: int
    error: ParlerError


class Ended(msgspec.Struct, frozen=True):
    """The other side broke the protocol. Say goodbye with `error`, then close."""

    error: ParlerError


ClientEvent = Hello | Call | Cancel | Credit | Note | Overflow | Ended | bytes
"""What the daemon's end hears; `bytes` is one line of the host's JSON-RPC."""
DaemonEvent = Welcome | Goodbye | Reply | Failure | Item | Ended | bytes
"""What the client's end hears; `bytes` is one line for the host."""

State = Literal["hello", "client", "stdio", "ended"]


def _pack(message: msgspec.Struct) -> bytes:
    return frame(codec.encode(message))


class DaemonPeer:
    """The daemon's end. `receive` never raises: a violation is the last event. `heard` is called with each payload
    before anybody knows whether it is a message."""

    __slots__ = ("_credit", "_heard", "_only_upgrade", "_protocol", "_reader", "state")

    def __init__(self, heard: Callable[[bytes], None] = lambda payload: None) -> None:
        self.state: State = "hello"
        """Where the conversation stands; see the table at the head of this module."""
        # Called with the payload of each frame.
        self._heard = heard
        self._reader = FrameReader(FIRST_FRAME_LIMIT)
        # The calls and streams under way: for each id, how many items may be sent now.
        self._credit: dict[int, int] = {}
        # Whether the client is newer than this daemon, and may only stop it.
        self._only_upgrade = False
        # The protocol version that is served on this connection: a client's or a host's.
        self._protocol = PROTOCOL

    @property
    def under_way(self) -> int:
        """Calls and streams that are not answered yet."""
        return len(self._credit)

    def receive(self, data: bytes) -> list[ClientEvent]:
        """What `data` completes, in order."""
        events: list[ClientEvent] = []
        if self.state == "ended":
            return events
        reader = self._reader
        reader.feed(data)
        try:
            while (payload := reader.next()) is not None:
                self._heard(payload)
                events.append(self._accept(payload))
        except ParlerError as error:
            self.state = "ended"
            events.append(Ended(error))
        return events

    def _accept(self, payload: bytes) -> ClientEvent:
        if self.state == "client":
            message = codec.FROM_CLIENT.decode(payload)
            if type(message) is Call:
                return self._begin(message)
            if type(message) is Credit and message.id in self._credit:
                self._credit[message.id] = min(_CREDIT_MAX, self._credit[message.id] + message.more)
            return message
        if self.state == "stdio":
            return codec.FROM_SHIM.decode(payload)
        hello = codec.HELLO.decode(payload)
        self._protocol = spoken_by(hello)
        if hello.protocol < self._protocol or (hello.protocol > self._protocol and hello.role == "stdio"):
            raise ParlerError("unsupported_version", daemon=self._protocol, client=hello.protocol)
        self._only_upgrade = hello.protocol > self._protocol
        self.state = hello.role
        self._reader.limit = FRAME_LIMIT
        return hello

    def _begin(self, call: Call) -> Call | Overflow:
        if call.id in self._credit:
            # An answer names its call by the id alone, and could not say which of the two calls it is for.
            raise ParlerError("bad_frame", "A call with this id is under way.", id=call.id)
        if self._only_upgrade and call.op != UPGRADE_OPERATION:
            return Overflow(call.id, ParlerError("unsupported_version", daemon=self._protocol))
        if len(self._credit) >= IN_FLIGHT:
            return Overflow(call.id, ParlerError("busy", limit=IN_FLIGHT))
        self._credit[call.id] = CREDIT
        return call

    def welcome(self, version: str, pid: int) -> bytes:
        """Accept the hello."""
        return _pack(Welcome(protocol=self._protocol, version=version, pid=pid))

    def goodbye(self, error: ParlerError) -> bytes:
        """Say why the connection ends. Send nothing after this frame."""
        self.state = "ended"
        return _pack(Goodbye(error=error.body()))

    def reply(self, id: int, result: bytes) -> bytes:
        """Answer a call, or end a stream in order; `result` is msgpack.

        Raises `frame_too_large`. The call is not answered then: answer it with `fail`.
        """
        data = _pack(Reply(id=id, result=msgspec.Raw(result)))
        del self._credit[id]
        return data

    def fail(self, id: int, error: ErrorBody) -> bytes:
        """Answer a call or end a stream with an error."""
        data = _pack(Failure(id=id, error=error))
        del self._credit[id]
        return data

    def refuse(self, overflow: Overflow) -> bytes:
        """Answer a call that was never begun."""
        return _pack(Failure(id=overflow.id, error=overflow.error.body()))

    def credit(self, id: int) -> int:
        """How many items of stream `id` may be sent now."""
        return self._credit[id]

    def item(self, id: int, item: bytes) -> bytes:
        """One element of a stream, which uses up one credit; `item` is msgpack. Raises `frame_too_large`."""
        data = _pack(Item(id=id, item=msgspec.Raw(item)))
        self._credit[id] -= 1
        return data

    def line(self, line: bytes) -> bytes:
        """One line for the host. Raises `frame_too_large`."""
        return frame(codec.encode(line))


class ClientPeer:
    """The client's end. `receive` never raises: a violation is the last event."""

    __slots__ = ("_next_id", "_reader", "_role", "_taken", "_withdrawn", "state")

    def __init__(self) -> None:
        self.state: State = "hello"
        """Where the conversation stands; see the table at the head of this module."""
        # The role in the hello, which `state` becomes with the welcome.
        self._role: Literal["client", "stdio"] = "client"
        self._reader = FrameReader(FIRST_FRAME_LIMIT)
        # The id of the next call. Ids are never used twice on one connection.
        self._next_id = 0
        # The calls and streams under way: for each id, how many items were used since credit was last given.
        self._taken: dict[int, int] = {}
        # Those among them that were withdrawn. Their answers still come, and are dropped.
        self._withdrawn: set[int] = set()

    def hello(self, hello: Hello) -> bytes:
        """The first frame. Raises `frame_too_large` beyond `FIRST_FRAME_LIMIT`."""
        payload = codec.encode(hello)
        if len(payload) > FIRST_FRAME_LIMIT:
            raise ParlerError("frame_too_large", size=len(payload), limit=FIRST_FRAME_LIMIT)
        self._role = hello.role
        return frame(payload)

    def receive(self, data: bytes) -> list[DaemonEvent]:
        """What `data` completes, in order, without the answers to withdrawn calls."""
        events: list[DaemonEvent] = []
        if self.state == "ended":
            return events
        reader = self._reader
        reader.feed(data)
        try:
            while (payload := reader.next()) is not None:
                event = self._accept(payload)
                if event is not None:
                    events.append(event)
                if isinstance(event, Goodbye):
                    break  # nothing may follow one
        except ParlerError as error:
            self.state = "ended"
            events.append(Ended(error))
        return events

    def _accept(self, payload: bytes) -> DaemonEvent | None:
        if self.state == "client":
            answer = codec.FROM_DAEMON.decode(payload)
            if not isinstance(answer, Goodbye):
                return self._match(answer)
            message: Welcome | Goodbye | bytes = answer
        elif self.state == "stdio":
            message = codec.TO_SHIM.decode(payload)
        else:
            message = codec.WELCOME.decode(payload)
        if isinstance(message, Welcome):
            self.state = self._role
            self._reader.limit = FRAME_LIMIT
        elif isinstance(message, Goodbye):
            self.state = "ended"
        return message

    def _match(self, message: Reply | Failure | Item) -> Reply | Failure | Item | None:
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

    @property
    def under_way(self) -> int:
        """Calls and streams that are not answered yet, withdrawn ones included."""
        return len(self._taken)

    def call(self, op: str, params: bytes) -> tuple[int, bytes]:
        """The call's id and its frame; `params` is msgpack. Raises `busy`, `frame_too_large`."""
        if len(self._taken) >= IN_FLIGHT:
            raise ParlerError("busy", limit=IN_FLIGHT)
        id = self._next_id
        data = _pack(Call(id=id, op=op, params=msgspec.Raw(params)))
        self._next_id += 1
        self._taken[id] = 0
        return id, data

    def cancel(self, id: int) -> bytes:
        """Withdraw a call or a stream: its answers become no events any more. Empty when the call was answered."""
        if id not in self._taken or id in self._withdrawn:
            return b""
        self._withdrawn.add(id)
        return _pack(Cancel(id=id))

    def took(self, id: int) -> bytes:
        """Note that one item of stream `id` was used. Gives a credit frame after every `CREDIT // 2` items, and empty
        bytes otherwise."""
        if id not in self._taken or id in self._withdrawn:
            return b""
        self._taken[id] += 1
        if self._taken[id] < CREDIT // 2:
            return b""
        more, self._taken[id] = self._taken[id], 0
        return _pack(Credit(id=id, more=more))

    def line(self, line: bytes) -> bytes:
        """One line of the host, on a stdio conversation. Raises `frame_too_large`."""
        return frame(codec.encode(line))

    def note(self, note: Note) -> bytes:
        """A note of the shim, on a stdio conversation."""
        return _pack(note)
