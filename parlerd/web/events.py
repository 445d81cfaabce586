"""What happens in a room, as server-sent events, each the JSON of a read that says the same.

    event: hello      the room: the stream has begun
    event: message    a message                                   message.recv
    event: state      a change of the state                       state.changes
    event: roster     who came, went, has another role; the end   room.watch
    event: end        the error with which the stream ends

    id: 12.CURSOR     the reader's number of the newest message, and a place in the log of the room

Whoever comes again with the last id that it saw (the header Last-Event-ID, which a browser sends by itself) is told of
all messages and changes after it, and of none twice; who came and went meanwhile, `GET .../agents` says. Everything is
fetched by the place where the reader is, so a slow reader is told late and nothing is held for it.

Not here: what a reader may see (the engine). Above: `app`. Below: `ports`. Invariant: nothing is acknowledged.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parlerd.core.errors import ParlerError, Refused
from parlerd.operations import types as t
from parlerd.web.calls import MAX_WAIT_MS, error_of
from parlerd.web.ports import Asker, Serving, TokenBook

BREATH_S: Final = 15.0
"""After so long without an event a comment is sent: a client that is gone without a word is noticed by that."""
PAUSE_S: Final = 1.0
MEDIA: Final = "text/event-stream"


class Place(NamedTuple):
    """Where a reader is: after this message of its own numbers, and after this place of the log. None: where it stands
    by itself, at what it has not acknowledged, and now."""

    seq: int | None = None
    cursor: str | None = None


class _Event(NamedTuple):
    name: str
    data: bytes
    place: Place
    """What it moves; `Place()` where it moves nothing."""


def place_of(text: str) -> Place:
    """The place that an id names. Raises `Refused(invalid_param)`."""
    seq, dot, cursor = text.partition(".")
    is_number = seq.isascii() and seq.isdigit() and len(seq) <= 15
    if not dot or (seq and not is_number):
        raise Refused("invalid_param", "Last-Event-ID is the id of an event of this stream.", param="Last-Event-ID")
    return Place(int(seq) if seq else None, cursor or None)


class Stream(Response):
    """One stream. It ends when its token does, and when whoever follows is gone; where it ends otherwise its last event
    has the error."""

    def __init__(self, engine: Serving, tokens: TokenBook, asker: Asker, headers: dict[str, str]) -> None:
        super().__init__(None, 200, headers, MEDIA)
        del self.headers["content-length"]
        self._engine = engine
        self._tokens = tokens
        self._asker = asker
        self._place = Place()
        """Where the reader is, by what was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            assert self._asker.token is not None
            with self._tokens.using(self._asker.token):
                await self._told(receive, send)
                return
            raise Refused("token_invalid")
        except ParlerError as error:
            await self._write(send, _Event("end", error_of(error), Place()))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _told(self, receive: Receive, send: Send) -> None:
        """Tell of everything, until whoever follows is gone. Raises `ParlerError` where the stream ends otherwise."""
        raise NotImplementedError

    async def _write(self, send: Send, event: _Event) -> None:
        seq, cursor = event.place
        self._place = Place(self._place.seq if seq is None else seq, cursor or self._place.cursor)
        at = f"{'' if self._place.seq is None else self._place.seq}.{self._place.cursor or ''}"
        id = "" if at == "." else f"id: {at}\n"
        text = f"event: {event.name}\n{id}data: ".encode() + event.data + b"\n\n"
        await send({"type": "http.response.body", "body": text, "more_body": True})


class Items(Stream):
    """The items of one operation that is a stream."""

    def __init__(
        self, engine: Serving, tokens: TokenBook, asker: Asker, name: str, params: t.Params, headers: dict[str, str]
    ) -> None:
        super().__init__(engine, tokens, asker, headers)
        self._name = name
        self._params = params

    async def _told(self, receive: Receive, send: Send) -> None:
        failed: list[ParlerError] = []
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                try:
                    await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                    async with self._engine.stream(self._name, self._params, self._asker.caller) as items:
                        async for item in items:
                            await self._write(send, _Event("item", msgspec.json.encode(item), Place()))
                except ParlerError as error:
                    failed.append(error)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_gone, receive, nursery.cancel_scope)
            nursery.start_soon(tell)
        if failed:
            raise failed[0]


class Waiting(Stream):
    """One answer, however long it takes: that a condition over the state of a room is true."""

    def __init__(
        self, engine: Serving, tokens: TokenBook, asker: Asker, params: t.WaitUntil, headers: dict[str, str]
    ) -> None:
        super().__init__(engine, tokens, asker, headers)
        self._params = msgspec.structs.replace(params, wait_ms=int(BREATH_S * 1000))

    async def _told(self, receive: Receive, send: Send) -> None:
        failed: list[ParlerError] = []
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                try:
                    while True:
                        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                        ended = await self._engine.call("state.wait", self._params, self._asker.caller)
                        assert isinstance(ended, t.WaitEnded)
                        if ended.triggered:
                            await self._write(send, _Event("wait", msgspec.json.encode(ended), Place()))
                            await send({"type": "http.response.body", "body": b"", "more_body": False})
                            break
                except ParlerError as error:
                    failed.append(error)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_gone, receive, nursery.cancel_scope)
            nursery.start_soon(tell)
        if failed:
            raise failed[0]


class Events(Stream):
    """What happens in one room."""

    def __init__(
        self, engine: Serving, tokens: TokenBook, asker: Asker, room: str, after: Place, headers: dict[str, str]
    ) -> None:
        super().__init__(engine, tokens, asker, headers)
        self._room = room
        self._place = after

    async def _told(self, receive: Receive, send: Send) -> None:
        now = await self._ask(t.FollowState(room=self._room, wait_ms=0), "state.changes")
        assert isinstance(now, t.StateChanges)
        began = Place(self._place.seq, self._place.cursor or now.cursor)
        failed: list[ParlerError] = []
        outlet, inlet = trio.open_memory_channel[_Event | ParlerError](0)
        async with trio.open_nursery() as nursery:

            async def produce(what: Any, *args: Any) -> None:
                try:
                    await what(outlet, *args)
                except ParlerError as error:
                    if error.code == "room_closed" and what != self._life:
                        return  # what happened last in the room tells so, and then the stream ends
                    # Behind what was told before.
                    await outlet.send(error)

            async def write() -> None:
                while True:
                    event = None
                    with trio.move_on_after(BREATH_S):
                        event = await inlet.receive()
                    if isinstance(event, ParlerError):
                        failed.append(event)
                        nursery.cancel_scope.cancel()
                    elif event is None:
                        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                    else:
                        await self._write(send, event)

            nursery.start_soon(until_gone, receive, nursery.cancel_scope)
            hello = msgspec.json.encode({"room": now.room, "name": now.name})
            await self._write(send, _Event("hello", hello, began))
            nursery.start_soon(produce, self._messages, began.seq)
            nursery.start_soon(produce, self._changes, began.cursor)
            nursery.start_soon(produce, self._life)
            nursery.start_soon(write)
        if failed:
            if failed[0].code == "room_closed":
                await self._rest(send)
            raise failed[0]

    async def _rest(self, send: Send) -> None:
        """What was said and written before the room was closed, and was not told yet."""
        while True:
            page = await self._ask(t.Recv(room=self._room, since=self._place.seq), "message.recv")
            assert isinstance(page, t.Received)
            if not page.messages:
                break
            for message in page.messages:
                await self._write(send, _Event("message", msgspec.json.encode(message), Place(seq=message.seq)))
        while True:
            params = t.FollowState(room=self._room, after=self._place.cursor, wait_ms=0)
            changes = await self._ask(params, "state.changes")
            assert isinstance(changes, t.StateChanges)
            for change in changes.changes:
                await self._write(send, _Event("state", msgspec.json.encode(change), Place()))
            self._place = Place(self._place.seq, changes.cursor)
            if not changes.more:
                return

    async def _messages(self, outlet: trio.MemorySendChannel[_Event | ParlerError], seq: int | None) -> None:
        while True:
            began, params = trio.current_time(), t.Recv(room=self._room, since=seq, wait_ms=MAX_WAIT_MS)
            page = await self._ask(params, "message.recv")
            assert isinstance(page, t.Received)
            for message in page.messages:
                await outlet.send(_Event("message", msgspec.json.encode(message), Place(seq=message.seq)))
            if not page.messages:
                await self._pause(began)
            seq = page.messages[-1].seq if page.messages else seq
            if seq is None and page.cursor.isdigit():
                seq = int(page.cursor)

    async def _changes(self, outlet: trio.MemorySendChannel[_Event | ParlerError], cursor: str | None) -> None:
        while True:
            began, params = trio.current_time(), t.FollowState(room=self._room, after=cursor, wait_ms=MAX_WAIT_MS)
            page = await self._ask(params, "state.changes")
            assert isinstance(page, t.StateChanges)
            for change in page.changes[:-1]:
                await outlet.send(_Event("state", msgspec.json.encode(change), Place()))
            for change in page.changes[-1:]:
                # A place is told for a page. So is the reader's: whoever ends in the middle is told of the page again.
                await outlet.send(_Event("state", msgspec.json.encode(change), Place(cursor=page.cursor)))
            if not page.changes:
                await self._pause(began)
            cursor = page.cursor

    async def _pause(self, began: float) -> None:
        """Where nothing came although there was time to wait, wait a little: a relay that is away says so at once."""
        if trio.current_time() - began < PAUSE_S:
            await trio.sleep(PAUSE_S)

    async def _life(self, outlet: trio.MemorySendChannel[_Event | ParlerError]) -> None:
        params = t.WatchRoom(room=self._room, tail=0)
        async with self._engine.stream("room.watch", params, self._asker.caller) as items:
            async for item in items:
                assert isinstance(item, t.WatchItem)
                if item.event != "message":
                    await outlet.send(_Event("roster", msgspec.json.encode(item), Place()))
        raise Refused("room_closed")

    async def _ask(self, params: t.Params, name: str) -> t.Result:
        return await self._engine.call(name, params, self._asker.caller)


async def until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancel a scope once whoever follows is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
