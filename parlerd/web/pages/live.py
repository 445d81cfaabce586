"""What happens while somebody looks on, as server-sent events, each the rows that a page would have.

    event: rows      {"list": "log", "add": true, "rows": [...]}      rows behind those of a list, or in their place
    event: changed   {}                                               something of this page is not as it is shown
    event: end       {"said": "..."}                                  the stream ends, and why

    id: CURSOR       a place in the log of the room, from which a browser goes on by itself after a break

Not here: what whoever looks on may see (the engine), what a row holds (`showing`). Above: `app`. Below:
`streaming`. Invariant: a stream ends with its code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.web.pages import showing
from parlerd.web.pages.showing import Row
from parlerd.web.ports import Serving, ViewerBook
from parlerd.web.streaming import BREATH_S, PAUSE_S, Event, Stream, Teller

BOARD_WAIT_MS: Final = 25_000
MAX_MEMBERS: Final = 30
MAX_ASIDE: Final = 15
"""How many rows of each list a page has, so that all of it is within 64 KB."""


class Live(Stream):
    """One stream of a browser that uses a code."""

    _over = "watch_code_invalid"

    def __init__(
        self,
        engine: Serving,
        viewers: ViewerBook,
        code: str,
        caller: Caller,
        now: Callable[[], int],
        headers: Mapping[str, str],
        last: str,
    ) -> None:
        super().__init__(headers, last)
        self._engine = engine
        self._viewers = viewers
        self._code = code
        self._caller = caller
        self._now = now

    def _using(self) -> AbstractContextManager[object]:
        return self._viewers.using(self._code)

    def _ended(self, error: ParlerError) -> object:
        return {"said": "This view is closed." if error.code == self._over else error.message}


class LiveRoom(Live):
    """A room: its messages, who comes and goes, and its board."""

    def __init__(
        self,
        engine: Serving,
        viewers: ViewerBook,
        code: str,
        caller: Caller,
        now: Callable[[], int],
        headers: Mapping[str, str],
        last: str,
        *,
        room: str,
        after: str,
    ) -> None:
        """`after` is where the page ends, for a browser that shows no id yet."""
        super().__init__(engine, viewers, code, caller, now, headers, last)
        self._room = room
        self._after = last or after

    def _tellers(self) -> Sequence[Teller]:
        return self._follow, self._board

    async def _follow(self) -> None:
        params = t.LookOn(room=self._room, after=self._after)
        last = ""
        async with self._engine.stream("page.follow", params, self._caller) as items:
            async for item in items:
                assert isinstance(item, t.Happened)
                last = item.event
                if item.message is not None:
                    row = showing.message_row(item.message, self._now())
                else:
                    row = showing.happened_row(item, "The room", self._now())
                await self.say(Event("rows", {"list": "log", "add": True, "rows": [row]}, item.cursor))
        # A stream ends with its room, or with the daemon.
        raise Refused("room_closed" if last == "closed" else "draining")

    async def _board(self) -> None:
        mark, is_first = "", True
        while True:
            began = trio.current_time()
            params = t.LookAtBoard(room=self._room, after=mark, wait_ms=0 if is_first else BOARD_WAIT_MS)
            try:
                board = await self._engine.call("room.board", params, self._caller)
            except Refused as error:
                if error.code in ("room_closed", "no_such_room", "room_deleted"):
                    raise
                # Its home is away, or would not tell; the messages go on.
                await trio.sleep(BREATH_S)
                continue
            assert isinstance(board, t.Board)
            if board.mark != mark:
                # The first board may be newer than the page.
                beside = await rows_of(self._engine, self._caller, self._room, board, self._now())
                for name, rows in beside.items():
                    await self.say(Event("rows", {"list": name, "rows": rows}))
            mark, is_first = board.mark, False
            if trio.current_time() - began < PAUSE_S:
                await trio.sleep(PAUSE_S)


class LiveHome(Live):
    """What waits for the person: it is said that something changed, and the page shows what when it is asked again."""

    def _tellers(self) -> Sequence[Teller]:
        return (self._follow,)

    async def _follow(self) -> None:
        is_first = True
        async with self._engine.stream("approvals.watch", t.WatchApprovals(), self._caller) as items:
            async for _ in items:
                if not is_first:
                    await self.say(Event("changed", {}))
                is_first = False
        raise Refused("draining")


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
