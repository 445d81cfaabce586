"""A small engine behind the face of every surface: one room with a log and one reader's cursor, and everything else
scripted.

`script` gives, per operation, the result, the exception to raise, or a function of (params, caller). `message.recv` and
`message.commit` are played by a list of messages with a cursor, because paging is what a session has to get right.
Verified by `tests/contract/test_mcp_engine.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, PeerText, Position, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.face import Outlet
from parlerd.operations import types as t
from parlerd.wire.messages import Hello
from tests.support.callers import caller_of

ROOM = RoomId("r_0123456789abcdefghij")
ME = AgentId("U" + "M" * 55)
ALICE = t.Author(id="U" + "A" * 55, name="alice@repo", role="owner", host="claude-code")
AT = 1_763_690_102_000


def message(seq: int, text: str, **more: Any) -> t.Message:
    """A message of alice's, as a reader is shown it."""
    fields: dict[str, Any] = {
        "id": f"m_{seq:020d}",
        "seq": seq,
        "at": AT,
        "author": ALICE,
        "verified": "valid",
        "via": "mcp",
        "kind": "text",
        "text": PeerText(text),
    }
    return t.Message(**{**fields, **more})


def hello(**more: Any) -> Hello:
    """A shim's first frame."""
    return Hello(**{"protocol": 1, "version": "0", "role": "stdio", "window": "w" * 32, **more})


def caller(**more: Any) -> Caller:
    """A connected window."""
    return caller_of(**{"session": "s" * 20, "via": "mcp", "window": "w" * 32, "host": "codex", **more})


class FakeMcpEngine:
    """The room has `messages`; `acknowledged` is how many of them the reader has acknowledged."""

    def __init__(self) -> None:
        self.script: dict[str, t.Result | Exception | Callable[[t.Params, Caller], t.Result]] = {}
        self.calls: list[tuple[str, t.Params]] = []
        self.messages: list[t.Message] = []
        self.acknowledged = 0
        self.acknowledgements = 0
        self.line = ""
        self.arrived = trio.Event()
        self.cancelled = 0
        self.changed, self._changes = trio.open_memory_channel[RoomId](16)
        self.no_changes: ParlerError | None = None
        self.no_notice: ParlerError | None = None
        self.decisions: list[t.DecideByForm] = []
        self.owner_decides = False
        self.refusal: Refused | None = None
        self.connected: list[Caller] = []
        # How often a window asked whether it comes from a start of the person, and why it is not let in.
        self.sights: list[t.SightTold] = []
        """What was told of messages by the records of hosts."""
        self.arrived_times = 0
        self.arrivals: Refused | None = None

    def post(self, text: str, **more: Any) -> t.Message:
        """Another agent's message arrives."""
        posted = message(len(self.messages) + 1, text, **more)
        self.messages.append(posted)
        self.arrived.set()
        self.arrived = trio.Event()
        return posted

    def made(self, op: str) -> list[Any]:
        """The parameters of every call of `op`."""
        return [params for name, params in self.calls if name == op]

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if isinstance(params, t.Introduce):
            caller.facts = replace(caller.facts, host=params.host)
            return t.Noted()
        await trio.lowlevel.checkpoint()
        if (beside := await self._beside(params, caller)) is not None:
            return beside
        caller.agent = ME
        self.calls.append((op, params))
        answer = self.script.get(op)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, msgspec.Struct):
            return answer
        if answer is not None:
            return answer(params, caller)
        if isinstance(params, t.Recv):
            return await self._recv(params, caller)
        if isinstance(params, t.Commit):
            self.acknowledged = max(self.acknowledged, int(params.cursor))
            return t.Committed(room=params.room, cursor=params.cursor)
        if isinstance(params, t.Send):
            return t.Sent(
                room=ROOM,
                id="m_sent",
                seq=9,
                at=AT,
                replayed=False,
                idempotency_key=params.idempotency_key or "",
                name="auth",
            )
        raise AssertionError(f"{op} is not scripted")

    async def _recv(self, params: t.Recv, caller: Caller) -> t.Received:
        lookback = params.since is not None
        after = self.acknowledged if params.since is None else params.since
        try:
            with trio.move_on_after(params.wait_ms / 1000):
                while not self.messages[after:] and params.wait_ms:
                    await self.arrived.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        page = self.messages[after : after + params.limit]
        if caller.reader.fits is not None and page:
            page = page[: caller.reader.fits.front(page, "me")]
        end = after + len(page)
        if page and not lookback and not params.peek:
            caller.reader.shown.showed(ROOM, Position(end))
        return t.Received(
            room=ROOM,
            name="auth",
            messages=page,
            cursor=str(end),
            more=end < len(self.messages),
            unread=len(self.messages) - max(end, self.acknowledged),
            acknowledges=not lookback and not params.peek,
            you="me",
            following=len(self.messages) - end if lookback else 0,
        )

    async def connect(self, caller: Caller) -> None:
        await trio.lowlevel.checkpoint()
        self.connected.append(caller)

    async def disconnect(self, caller: Caller) -> None:
        await trio.lowlevel.checkpoint()
        self.connected.remove(caller)

    def begin(self, op: str, params: t.Params, caller: Caller) -> None:
        """Nothing of a window is pipelined."""

    async def _beside(self, params: t.Params, caller: Caller) -> t.Result | None:
        """What a window's door asks beside the tools."""
        match params:
            case t.AcknowledgeShown():
                self.acknowledgements += 1
                self.acknowledged = max([self.acknowledged, *caller.reader.shown.take().values()])
                return t.Noted()
            case t.TellSights():
                self.sights += params.sights
                return t.Noted()
            case t.Arrive():
                self.arrived_times += 1
                if self.arrivals is not None:
                    raise self.arrivals
                return t.Noted()
            case t.AskNotice():
                if self.no_notice is not None:
                    raise self.no_notice
                return t.Notice(line=self.line)
            case t.FindRequest(agent=agent):
                listed = self.script["rooms.requests"]
                assert isinstance(listed, t.RequestList)
                for request in listed.requests:
                    if agent in (request.agent, request.name, request.id):
                        return t.FoundRequest(request=request, owner_decides=self.owner_decides)
                raise Refused("no_such_request")
            case t.DecideByForm():
                if self.refusal is not None:
                    raise self.refusal
                if params.join_code is not None and params.join_code != "K7QD":
                    raise Refused("code_mismatch")
                self.decisions.append(params)
                assert params.room is not None
                proof = "none" if params.join_code is None else "form"
                return t.Decided(room=params.room, agent=params.agent, status="approved", proof=proof)
        return None

    @asynccontextmanager
    async def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AsyncIterator[AsyncIterator[t.Result]]:
        async with aclosing(self._follow()) as items:
            yield items

    async def _follow(self) -> AsyncGenerator[t.Result, None]:
        await trio.lowlevel.checkpoint()
        if self.no_changes is not None:
            raise self.no_changes
        yield t.RoomChanged()
        async for room in self._changes:
            yield t.RoomChanged(room=room)
