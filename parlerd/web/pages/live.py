"""What happens while somebody looks on, as server-sent events, each the rows that a page would have.

    event: rows      {"list": "log", "add": true, "rows": [...]}      rows behind those of a list, or in their place
    event: changed   {}                                               something of this page is not as it is shown
    event: end       {"said": "..."}                                  the stream ends, and why

    id: CURSOR       a place in the log of the room, from which a browser goes on by itself after a break

Not here: what whoever looks on may see (the engine), what a row holds (`showing`). Above: `app`. Invariants: everything
is fetched at the pace of the reader; a stream ends with its code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import msgspec
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parlerd.core.errors import ParlerError, Refused
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.web.events import BREATH_S, MEDIA, PAUSE_S, until_gone
from parlerd.web.pages import showing
from parlerd.web.pages.showing import Row
from parlerd.web.ports import Serving, ViewerBook

BOARD_WAIT_MS: Final = 25_000
MAX_MEMBERS: Final = 30
MAX_ASIDE: Final = 15
"""How many rows of each list a page has, so that all of it is within 64 KB."""


class Event(NamedTuple):
    """One event. `id` is a place to go on from, or empty."""

    name: str
    data: object
    id: str = ""


Outlet = trio.MemorySendChannel[Event | ParlerError]
Producer = Callable[[Caller, Outlet], Awaitable[None]]


class Live(Response):
    """One stream of a browser that uses a code."""

    def __init__(
        self, engine: Serving, viewers: ViewerBook, code: str, now: Callable[[], int], headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, 200, headers, MEDIA)
        del self.headers["content-length"]
        self._engine = engine
        self._viewers = viewers
        self._code = code
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        said = "This view is closed."
        try:
            with self._viewers.using(self._code):
                await self._told(self._viewers.caller_of(self._code), receive, send)
                return
        except ParlerError as error:
            said = error.message if error.code != "watch_code_invalid" else said
        await _say(send, "end", {"said": said})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _told(self, caller: Caller, receive: Receive, send: Send) -> None:
        """Tell of everything, until whoever looks on is gone. Raises `ParlerError` where the stream ends otherwise."""
        failed: list[ParlerError] = []
        outlet, inlet = trio.open_memory_channel[Event | ParlerError](0)
        async with trio.open_nursery() as nursery:

            async def produce(what: Producer) -> None:
                try:
                    await what(caller, outlet)
                except ParlerError as error:
                    # Behind what was told before, and not in the middle of it.
                    await outlet.send(error)

            async def write() -> None:
                while True:
                    found: Event | ParlerError | None = None
                    with trio.move_on_after(BREATH_S):
                        found = await inlet.receive()
                    if isinstance(found, ParlerError):
                        failed.append(found)
                        nursery.cancel_scope.cancel()
                    elif found is None:
                        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                    else:
                        await _say(send, *found)

            nursery.start_soon(until_gone, receive, nursery.cancel_scope)
            await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
            for producer in self._producers():
                nursery.start_soon(produce, producer)
            nursery.start_soon(write)
        if failed:
            raise failed[0]

    def _producers(self) -> list[Producer]:
        """What puts events into the outlet."""
        raise NotImplementedError


class LiveRoom(Live):
    """A room: its messages, who comes and goes, and its board."""

    def __init__(
        self,
        engine: Serving,
        viewers: ViewerBook,
        code: str,
        now: Callable[[], int],
        headers: Mapping[str, str],
        room: str,
        after: str,
    ) -> None:
        super().__init__(engine, viewers, code, now, headers)
        self._room = room
        self._after = after

    def _producers(self) -> list[Producer]:
        return [self._follow, self._board]

    async def _follow(self, caller: Caller, outlet: Outlet) -> None:
        params = t.LookOn(room=self._room, after=self._after)
        last = ""
        async with self._engine.stream("page.follow", params, caller) as items:
            async for item in items:
                assert isinstance(item, t.Happened)
                last = item.event
                if item.message is not None:
                    row = showing.message_row(item.message, self._now())
                else:
                    row = showing.happened_row(item, "The room", self._now())
                await outlet.send(Event("rows", {"list": "log", "add": True, "rows": [row]}, item.cursor))
        # A stream ends with its room, or with the daemon.
        raise Refused("room_closed" if last == "closed" else "draining")

    async def _board(self, caller: Caller, outlet: Outlet) -> None:
        mark, is_first = "", True
        while True:
            began = trio.current_time()
            params = t.LookAtBoard(room=self._room, after=mark, wait_ms=0 if is_first else BOARD_WAIT_MS)
            try:
                board = await self._engine.call("room.board", params, caller)
            except Refused as error:
                if error.code in ("room_closed", "no_such_room", "room_deleted"):
                    raise
                # Its home is away, or would not tell; the messages go on.
                await trio.sleep(BREATH_S)
                continue
            assert isinstance(board, t.Board)
            if board.mark != mark:
                # The first board may be newer than the page.
                for name, rows in (await rows_of(self._engine, caller, self._room, board, self._now())).items():
                    await outlet.send(Event("rows", {"list": name, "rows": rows}))
            mark, is_first = board.mark, False
            if trio.current_time() - began < PAUSE_S:
                await trio.sleep(PAUSE_S)


class LiveHome(Live):
    """What waits for the person: it is said that something changed, and the page shows what when it is asked again."""

    def _producers(self) -> list[Producer]:
        return [self._follow]

    async def _follow(self, caller: Caller, outlet: Outlet) -> None:
        is_first = True
        async with self._engine.stream("approvals.watch", t.WatchApprovals(), caller) as items:
            async for _ in items:
                if not is_first:
                    await outlet.send(Event("changed", {}))
                is_first = False


async def rows_of(engine: Serving, caller: Caller, room: str, board: t.Board | None, now: int) -> dict[str, list[Row]]:
    """What stands beside the messages of a room, by the names of the lists. Raises `ParlerError`."""
    roster = await engine.call("rooms.roster", t.Roster(room=room), caller)
    assert isinstance(roster, t.RosterResult)
    found = {"members": showing.roster_rows(roster, board, now)[:MAX_MEMBERS]}
    if board is not None:
        found["tasks"] = showing.task_rows(board, now)[:MAX_ASIDE]
        found["state"] = showing.state_rows(board, now)[:MAX_ASIDE]
        found["actions"] = showing.action_rows(board)[:MAX_ASIDE]
    return found


async def _say(send: Send, name: str, data: object, id: str = "") -> None:
    text = f"event: {name}\n" + (f"id: {id}\n" if id else "")
    body = text.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
