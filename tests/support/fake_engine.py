"""A small engine behind the face that doors use: it answers a few operations, waits, streams, fails, and counts.

Verified by `tests/contract/test_engine_face.py`, which asks the real engine the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText
from parlerd.engine.callers import Caller
from parlerd.engine.face import Outlet
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS


class FakePosting:
    """A send in line: it is answered as a call would be, a turn of the loop later."""

    def __init__(self, engine: FakeEngine, op: str, params: t.Params, caller: Caller) -> None:
        self._engine = engine
        self._call = (op, params, caller)
        self._outcome: t.Result | Exception | None = None

    def when_done(self, then: Callable[[], None]) -> None:
        async def run() -> None:
            try:
                self._outcome = await self._engine.call(*self._call)
            except Exception as error:
                self._outcome = error
            then()

        trio.lowlevel.spawn_system_task(run)

    def outcome(self) -> t.Result:
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class FakeEngine:
    """`message.send` echoes, `message.recv` waits up to its time, `room.watch` streams `items`, and `blob.put` says how
    large the file is that was handed over.

    `failing` gives the exception that an operation raises, a stream after its items. With `posts`, sends are begun in
    line as the engine does.
    """

    def __init__(self) -> None:
        self.connected: list[Caller] = []
        self.disconnected: list[Caller] = []
        self.acknowledged: list[Caller] = []
        self.failing: dict[str, Exception] = {}
        self.under_way: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.wake = trio.Event()
        self.items = 0
        self.item_text = "x"
        self.sent_items = 0
        self.endless = False
        self.posts = False
        self.check_seconds = 0.0

    async def connect(self, caller: Caller) -> None:
        await trio.lowlevel.checkpoint()
        self.connected.append(caller)
        if error := self.failing.get("connect"):
            raise error

    async def disconnect(self, caller: Caller) -> None:
        await trio.lowlevel.checkpoint()
        self.disconnected.append(caller)
        if error := self.failing.get("disconnect"):
            raise error

    def begin(self, op: str, params: t.Params, caller: Caller) -> FakePosting | None:
        if not self.posts or op != "message.send":
            return None
        if error := self.failing.get("begin"):
            raise error
        return FakePosting(self, op, params, caller)

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op not in OPERATIONS:
            raise ParlerError("unknown_operation", operation=op)
        if isinstance(params, t.AcknowledgeShown):
            await trio.lowlevel.checkpoint()
            self.acknowledged.append(caller)
            return t.Noted()
        self.under_way[op] += 1
        try:
            await trio.lowlevel.checkpoint()
            if op in self.failing:
                raise self.failing[op]
            result = await self._answer(op, params, caller)
        except trio.Cancelled:
            self.cancelled[op] += 1
            raise
        finally:
            self.under_way[op] -= 1
        self.answered[op] += 1
        return result

    async def _answer(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if isinstance(params, t.Send):
            return t.Sent(
                room="r_1",
                id="m_1",
                seq=len(params.text),
                at=1,
                replayed=False,
                idempotency_key=params.idempotency_key or caller.facts.session,
            )
        if isinstance(params, t.PutBlob):
            with caller.handed.using(params.file) as file:
                return t.BlobPut(room="r_1", offset=0, size=file.size(), blob="")
        if isinstance(params, t.Recv):
            with trio.move_on_after(params.wait_ms / 1000):
                await self.wake.wait()
            return t.Received(room="r_1", name="room", messages=[], cursor="0", more=False, unread=0)
        if isinstance(params, t.CheckStore):
            await trio.sleep(self.check_seconds)
            return t.CheckList(checks=[])
        if isinstance(params, t.StopDaemon):
            return t.Stopping(pid=1)
        if isinstance(params, t.WhoAmI):
            return t.Me(
                id=caller.facts.session,
                name=caller.facts.as_name,
                host=caller.facts.host,
                home="",
                principal="A",
                workspace=caller.facts.workspace,
            )
        raise ParlerError("unknown_operation", operation=op)

    @asynccontextmanager
    async def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AsyncIterator[AsyncIterator[t.Result]]:
        if op not in OPERATIONS:
            raise ParlerError("unknown_operation", operation=op)
        async with aclosing(self._feed(op)) as items:
            yield items

    async def _feed(self, op: str) -> AsyncGenerator[t.Result, None]:
        self.under_way[op] += 1
        try:
            for number in range(self.items):
                await trio.lowlevel.checkpoint()
                self.sent_items += 1
                yield watch_item(number, self.item_text)
            if error := self.failing.get(op):
                raise error
            if self.endless:
                await trio.sleep_forever()
        finally:
            self.under_way[op] -= 1


def watch_item(number: int, text: str) -> t.WatchItem:
    author = t.Author(id="U", name="a", role="", host="h")
    message = t.Message(
        id=f"m_{number}",
        seq=number,
        at=number,
        author=author,
        verified="valid",
        via="cli",
        kind="text",
        text=PeerText(text),
    )
    return t.WatchItem(room="r_1", name="room", event="message", message=message, at=number)
