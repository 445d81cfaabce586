"""Server-sent events as an answer: whoever tells something, one after the other, until whoever follows is gone.

    the task of the request    waits for the end of the connection, and breathes where nothing is said
    one task for each teller   finds out what happens, and says it

What a teller says is on its way before it goes on, so it tells at the pace of the reader, and nothing stands in a line.

    event: end                 the last event, with an error; a browser comes again by itself
    Last-Event-ID: end         what a browser shows then: it is answered 204, after which it comes no more

An error that passes by itself leaves the id as it is, so whoever comes again goes on where it was.

Not here: what is told (`events`, `pages.live`). Above: these. Below: Starlette's types, trio. Invariants: an event is
sent whole or is the last; a stream ends with whatever let its reader in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

import msgspec
import trio
from starlette.types import Message, Receive, Scope, Send

from parlerd.core.errors import ParlerError, Refused

BREATH_S: Final = 15.0
"""After so long without an event a comment is sent: a client that is gone without a word is noticed by that."""
PAUSE_S: Final = 1.0
"""How long a teller pauses at least where it asked for what it waits for, and was answered at once with nothing."""
MEDIA: Final = "text/event-stream"
END: Final = "end"
"""The id of what nothing follows."""
_BREATH: Final = b":\n\n"


class Event(NamedTuple):
    """One event. `id` is what the reader shows when it comes again; where it is empty the one before it stays."""

    name: str
    data: object
    id: str = ""


Teller = Callable[[], Awaitable[None]]
"""Tells something. The stream ends once all have returned, or with the first `ParlerError` that one raises."""


class Stream:
    """One stream. `last` is the id that the reader showed."""

    def __init__(self, headers: Mapping[str, str], last: str = "") -> None:
        self._headers = headers
        self._last = last
        self._send: Send | None = None
        """The way to the reader, once there is one."""
        self._nursery: trio.Nursery | None = None
        """Where the tellers run."""
        self._telling = 0
        """How many there are."""
        self._failed: ParlerError | None = None
        """The error with which the stream ends."""
        self._saying = trio.Lock()
        """Held while an event is on its way."""
        self._said_at = 0.0
        """When something was said last, by the loop's clock."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        await send(self._head())
        is_gone: bool | None = None
        if self._last != END:
            try:
                with self._using():
                    is_gone = await self._told(receive)
                if is_gone is None:
                    raise Refused(self._over)
            except ParlerError as error:
                await self.say(Event("end", self._ended(error), "" if error.spec.retryable else END))
        if not is_gone:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _head(self) -> Message:
        """The head of the answer: that of a stream, or of its having ended before."""
        is_over = self._last == END
        headers = {**self._headers, **({} if is_over else {"Content-Type": MEDIA})}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http.response.start", "status": 204 if is_over else 200, "headers": raw}

    async def _told(self, receive: Receive) -> bool:
        """Tell everything. Whether whoever followed is gone. Raises `ParlerError` where it ends with an error."""
        is_gone = False
        await self._write(_BREATH)
        async with trio.open_nursery() as self._nursery:
            for teller in self._tellers():
                self.begin(teller)
            while not is_gone:
                message = None
                with trio.move_on_at(self._said_at + BREATH_S):
                    message = await receive()
                if message is not None:
                    is_gone = message["type"] == "http.disconnect"
                elif trio.current_time() >= self._said_at + BREATH_S:
                    # Where something is on its way that the reader does not take, this waits for the end of that.
                    await self._write(_BREATH)
            self._nursery.cancel_scope.cancel()
        if self._failed is not None:
            raise self._failed
        return is_gone

    def begin(self, teller: Teller) -> None:
        """Let one more tell something beside the others."""
        assert self._nursery is not None, "nobody tells anything before somebody listens"
        self._telling += 1
        self._nursery.start_soon(self._tell, teller, self._nursery.cancel_scope)

    async def _tell(self, teller: Teller, scope: trio.CancelScope) -> None:
        try:
            await teller()
        except ParlerError as error:
            self._failed = self._failed or error
        self._telling -= 1
        if self._failed or not self._telling:
            async with self._saying:
                # What another says is not left in the middle.
                scope.cancel()

    async def say(self, event: Event) -> None:
        """Send one event; returns once it is on its way."""
        id = f"id: {event.id}\n" if event.id else ""
        await self._write(f"event: {event.name}\n{id}data: ".encode() + msgspec.json.encode(event.data) + b"\n\n")

    async def _write(self, text: bytes) -> None:
        assert self._send is not None, "nothing is said before somebody listens"
        async with self._saying:
            await self._send({"type": "http.response.body", "body": text, "more_body": True})
        self._said_at = trio.current_time()

    # -- for each kind of stream -----------------------------------------------------------------------------

    _over: str
    """The code of the error where whatever let the reader in holds no more."""

    def _using(self) -> AbstractContextManager[object]:
        """What is left when that holds no more. Raises `Refused`."""
        raise NotImplementedError

    def _tellers(self) -> Sequence[Teller]:
        """Who tells something."""
        raise NotImplementedError

    def _ended(self, error: ParlerError) -> object:
        """What is said of the error with which it ends."""
        raise NotImplementedError
