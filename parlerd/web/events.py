"""What happens in a room, as server-sent events, each the JSON of the read that says the same.

    event: hello      the room: the stream has begun
    event: message    a message                                          GET .../messages
    event: state      a change of the state                              GET .../state/changes
    event: claim      a task that was taken, given back or is over       GET .../board
    event: roster     who came, went, has another role; the end
    event: request    who knocks, told to the room's owner               GET .../requests
    event: presence   a member that is there now, or no more             GET .../agents
    event: resync     more happened than is told: where the reads go on
    event: end        the error with which the stream ends

    id: PLACE         the reader's place in the log of the room; for a room of another home also one in its state there

Whoever comes again with the last id that it saw (the header Last-Event-ID, which a browser sends by itself) is told of
all that is in the log after it, and of nothing twice.

Beside it two other streams: the items of an operation that is one, and one answer, however long it takes. Not here:
what a reader may see, and what happened (the engine), how a stream goes on and ends (`streaming`). Above: `app`.
Below: `ports`. Invariant: nothing is acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import msgspec
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.engine.handles import LOCAL
from parlerd.engine.telling import BEHIND
from parlerd.operations import types as t
from parlerd.web.calls import MAX_WAIT_MS, error_of
from parlerd.web.ports import Asker, Serving, TokenBook
from parlerd.web.streaming import END, PAUSE_S, Event, Stream, Teller


class _OfToken(Stream):
    """A stream of somebody who acts with a token, and ends with it."""

    _over = "token_invalid"

    def __init__(
        self, engine: Serving, tokens: TokenBook, asker: Asker, headers: Mapping[str, str], last: str = ""
    ) -> None:
        super().__init__(headers, last)
        assert asker.token is not None, "nobody follows anything without a token"
        self._engine = engine
        self._tokens = tokens
        self._token = asker.token
        self._caller = asker.caller

    def _using(self) -> AbstractContextManager[object]:
        return self._tokens.using(self._token)

    def _tellers(self) -> Sequence[Teller]:
        return (self._follow,)

    def _ended(self, error: ParlerError) -> object:
        return msgspec.Raw(error_of(error))

    async def _follow(self) -> None:
        raise NotImplementedError


class Items(_OfToken):
    """The items of one operation that is a stream."""

    def __init__(
        self,
        engine: Serving,
        tokens: TokenBook,
        asker: Asker,
        headers: Mapping[str, str],
        last: str,
        *,
        name: str,
        params: t.Params,
    ) -> None:
        super().__init__(engine, tokens, asker, headers, last)
        self._name = name
        self._params = params

    async def _follow(self) -> None:
        async with self._engine.stream(self._name, self._params, self._caller) as items:
            async for item in items:
                await self.say(Event("item", item))
        raise Refused("draining")


class Waiting(_OfToken):
    """One answer, however long it takes: that a condition over the state of a room is true."""

    def __init__(
        self,
        engine: Serving,
        tokens: TokenBook,
        asker: Asker,
        headers: Mapping[str, str],
        last: str,
        *,
        params: t.WaitUntil,
    ) -> None:
        super().__init__(engine, tokens, asker, headers, last)
        self._params = msgspec.structs.replace(params, wait_ms=MAX_WAIT_MS)

    async def _follow(self) -> None:
        while True:
            ended = await self._engine.call("state.wait", self._params, self._caller)
            assert isinstance(ended, t.WaitEnded)
            if ended.triggered:
                await self.say(Event("wait", ended, END))
                return


class Events(_OfToken):
    """What happens in one room. Of a room that lives here the engine tells everything. The state of another its home
    alone tells, so that is asked beside it."""

    def __init__(
        self, engine: Serving, tokens: TokenBook, asker: Asker, headers: Mapping[str, str], last: str, *, room: str
    ) -> None:
        super().__init__(engine, tokens, asker, headers, last)
        self._room = room
        self._place, _, self._state = last.partition(".")
        """Where the reader is, by what was said: in the log here, and for a room of another home in its state there."""

    async def _follow(self) -> None:
        async with self._engine.events(self._room, self._place, self._caller) as told:
            async for name, said, place in told:
                self._place = place
                await self._say(name, said)
                if name == "hello" and isinstance(said, dict) and said["home"] != LOCAL:
                    self.begin(self._follow_state)

    async def _follow_state(self) -> None:
        while True:
            began = trio.current_time()
            params = t.FollowState(room=self._room, after=self._state or None, limit=BEHIND, wait_ms=MAX_WAIT_MS)
            try:
                page = await self._engine.call("state.changes", params, self._caller)
            except Refused as error:
                if error.code == "room_closed":
                    return  # what happened last in the room tells so, and then the stream ends
                raise
            assert isinstance(page, t.StateChanges)
            changes, skipped = page.changes, t.Resync(room=page.room, name=page.name, after=self._state)
            if page.more:
                # As many as a reader may be behind, and more.
                now = await self._engine.call("state.changes", t.FollowState(room=self._room), self._caller)
                assert isinstance(now, t.StateChanges)
                self._state = now.cursor
                await self._say("resync", skipped)
                continue
            for change in changes[:-1]:
                await self._say("state", change)
            # A place is told for a page. So is the reader's: whoever ends in the middle is told of the page again.
            self._state = page.cursor
            for change in changes[-1:]:
                await self._say("state", change)
            if not changes and trio.current_time() - began < PAUSE_S:
                # A home that is away says so at once.
                await trio.sleep(PAUSE_S)

    async def _say(self, name: str, said: object) -> None:
        id = f"{self._place}.{self._state}" if self._state else self._place
        await self.say(Event(name, said, id))
