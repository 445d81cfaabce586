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
`codec`, `calls`. Invariants: any split of a byte stream gives the same events; after `Ended` an end hears nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from parlerd.core.errors import ParlerError
from parlerd.wire import codec
from parlerd.wire.calls import Answering, Asking, Ended, Overflow, pack
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

UPGRADE_OPERATION: Final = "daemon.stop"
"""The one call that a client of a newer protocol may make, so that nobody has to kill a daemon for an upgrade."""


ClientEvent = Hello | Call | Cancel | Credit | Note | Overflow | Ended | bytes
"""What the daemon's end hears; `bytes` is one line of the host's JSON-RPC."""
DaemonEvent = Welcome | Goodbye | Reply | Failure | Item | Ended | bytes
"""What the client's end hears; `bytes` is one line for the host."""

State = Literal["hello", "client", "stdio", "ended"]


class DaemonPeer(Answering):
    """The daemon's end. `receive` never raises: a violation is the last event. `heard` is called with each payload
    before anybody knows whether it is a message."""

    __slots__ = ("_heard", "_only_upgrade", "_protocol", "_reader", "state")

    def __init__(self, heard: Callable[[bytes], None] = lambda payload: None) -> None:
        super().__init__()
        self.state: State = "hello"
        """Where the conversation stands; see the table at the head of this module."""
        # Called with the payload of each frame.
        self._heard = heard
        self._reader = FrameReader(FIRST_FRAME_LIMIT)
        # Whether the client is newer than this daemon, and may only stop it.
        self._only_upgrade = False
        # The protocol version that is served on this connection: a client's or a host's.
        self._protocol = PROTOCOL

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
            return self._accept_call(payload)
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

    def _refusal(self, call: Call) -> ParlerError | None:
        if self._only_upgrade and call.op != UPGRADE_OPERATION:
            return ParlerError("unsupported_version", daemon=self._protocol)
        return None

    def welcome(self, version: str, pid: int) -> bytes:
        """Accept the hello."""
        return pack(Welcome(protocol=self._protocol, version=version, pid=pid))

    def goodbye(self, error: ParlerError) -> bytes:
        """Say why the connection ends. Send nothing after this frame."""
        self.state = "ended"
        return pack(Goodbye(error=error.body()))

    def line(self, line: bytes) -> bytes:
        """One line for the host. Raises `frame_too_large`."""
        return frame(codec.encode(line))


class ClientPeer(Asking):
    """The client's end. `receive` never raises: a violation is the last event."""

    __slots__ = ("_reader", "_role", "state")

    def __init__(self) -> None:
        super().__init__()
        self.state: State = "hello"
        """Where the conversation stands; see the table at the head of this module."""
        # The role in the hello, which `state` becomes with the welcome.
        self._role: Literal["client", "stdio"] = "client"
        self._reader = FrameReader(FIRST_FRAME_LIMIT)

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

    def line(self, line: bytes) -> bytes:
        """One line of the host, on a stdio conversation. Raises `frame_too_large`."""
        return frame(codec.encode(line))

    def note(self, note: Note) -> bytes:
        """A note of the shim, on a stdio conversation."""
        return pack(note)
