"""Answers the calls and streams of one conversation from the engine: begins them, cancels them, and counts them.

    call    a task of its own runs it and answers it
    stream  a task of its own sends its items, as many as there is credit for
    post    no task: it gets its place in a room's line, together with the others of its chunk, and is answered when its
            batch is. One whose room has to be opened first, say, is a call, and those after it that name the same room
            wait until it has its place

Not here: who may call what (`admit`, which the door passes in), what may be said when (`wire.calls`), and reading
bytes. Above: `ipc.connection`, `relay.link`. Below: `wire.calls`, the engine behind its face. Invariants: every call
that was begun is answered once, unless the conversation ends first; what fails here ends one call and no
conversation; posts that name one room get their places in the order in which they came.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, NamedTuple, Protocol

import trio

from parlerd.connections.share import Share
from parlerd.core.errors import ErrorBody, ParlerError
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace, Pending
from parlerd.engine.submissions import PLACED
from parlerd.groups import unwrapped
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.wire import codec
from parlerd.wire.calls import Answering, Ended, Overflow
from parlerd.wire.messages import Call, Cancel, Credit
from parlerd.wire.peer import UPGRADE_OPERATION

log = logging.getLogger(__name__)


MOST_WAITING: Final = 64 * 1024
"""Bytes that may wait to be sent where an item is given past the task of its stream."""


class Sending(Protocol):
    """Where the bytes of answers go."""

    @property
    def pending(self) -> int:
        """How many bytes wait to be sent."""
        ...

    def send(self, data: bytes, *, soon: bool = False) -> None:
        """Send bytes without waiting. With `soon` they may wait for the end of this turn of the loop."""
        ...

    async def drained(self) -> None:
        """Wait until few bytes wait to be sent, or nothing can be sent any more."""
        ...


@dataclass(slots=True, eq=False)
class _Running:
    """A call or stream under way."""

    operation: t.Operation
    scope: trio.CancelScope
    """Cancelling it stops the call, which is then answered with `reason`."""
    credit: trio.Event
    """Set when the caller gives credit. A stream without credit waits for it, and makes a new event for each wait."""
    size: int = 0
    """The bytes of its parameters, as far as they count for `Calls.bytes_under_way`."""
    agent: str = ""
    """Of whose share it is; empty for a call that no agent makes."""
    reason: str = "cancelled"
    """The code of the error that answers the call if it is cancelled."""
    turn: _Turn | None = None
    """Of a post: when it may ask for its place."""


_Place = tuple[str, ...]
"""Where a post goes, as its caller names it: the operation, the agent, and the room or who is written to."""


class _Turn:
    """A post that needs a task, in the order of those that go to one place."""

    __slots__ = ("_comes", "_end", "_line")

    def __init__(self, line: deque[_Turn], end: Callable[[], None]) -> None:
        self._line = line
        # Called once nobody is left in the line.
        self._end = end
        self._comes = trio.Event()
        line.append(self)
        if line[0] is self:
            self._comes.set()

    async def comes(self) -> None:
        """Wait until each post before it has its place, or failed."""
        await self._comes.wait()

    def is_over(self) -> None:
        """Let the next one go on. Does nothing the second time."""
        if self in self._line:
            self._line.remove(self)
            if self._line:
                self._line[0]._comes.set()
            else:
                self._end()


class _Posted(NamedTuple):
    """A post: the caller's id, its operation, the bytes of its parameters, whose share they count to, and what is in
    line."""

    id: int
    op: str
    size: int
    agent: str
    pending: Pending


class _Outlet:
    """Where the engine gives items of a stream past the stream's task: see `face.Outlet`."""

    __slots__ = ("_id", "_out", "_peer")

    def __init__(self, peer: Answering, out: Sending, id: int) -> None:
        self._peer = peer
        self._out = out
        self._id = id

    @property
    def is_ready(self) -> bool:
        return self._peer.credit(self._id) > 0 and self._out.pending < MOST_WAITING

    def give(self, item: bytes) -> None:
        self._out.send(self._peer.item(self._id, item), soon=True)


class Calls:
    """The calls of one conversation. `answer` is called once, and returns when the conversation is over."""

    def __init__(
        self,
        peer: Answering,
        out: Sending,
        engine: EngineFace,
        admit: Callable[[t.Operation], None] = lambda operation: None,
        tell: Callable[[ParlerError], ErrorBody] = ParlerError.body,
        share: Share | None = None,
    ) -> None:
        self._peer = peer
        self._out = out
        self._engine = engine
        # Raises `ParlerError` for an operation that this door does not let through now. Called before the parameters
        # are looked at.
        self._admit = admit
        # How an error travels on this conversation.
        self._tell = tell
        # What each agent may have under way; None where the other side is one agent.
        self._share = share
        # The calls and streams that have a task, by the caller's id.
        self._running: dict[int, _Running] = {}
        # The posts that have no place yet, by where they go.
        self._turns: dict[_Place, deque[_Turn]] = {}
        # How many calls are not answered yet: those in `_running`, and the posts, which have no task.
        self._under_way = 0
        # Whether new calls are refused with `draining`.
        self._draining = False
        # Set while no call is under way. A new event is made when the first begins.
        self._idle = trio.Event()
        self._idle.set()
        # Set when a call ends. Whoever waits for one to end makes a new event.
        self._some_ended = trio.Event()
        self.bytes_under_way = 0
        """The bytes of the parameters of all calls and posts that are not answered yet. Streams do not count: they last
        as long as their caller likes."""

    @property
    def under_way(self) -> int:
        """Calls and streams that are not answered yet."""
        return self._under_way

    async def idle(self) -> None:
        """Wait until no call is under way."""
        await self._idle.wait()

    async def below(self, size: int) -> None:
        """Wait until fewer than `size` bytes are under way. A reader that waits for this before it reads on bounds what
        one conversation can make us keep."""
        while self.bytes_under_way >= size:
            if self._some_ended.is_set():
                self._some_ended = trio.Event()
            await self._some_ended.wait()

    def drain(self) -> None:
        """Begin no more calls, and answer with `draining` those that only wait."""
        self._draining = True
        for running in self._running.values():
            if running.operation.waits or running.operation.stream:
                running.reason = "draining"
                running.scope.cancel()

    async def answer(
        self, caller: Caller, events: Sequence[object], more: Callable[[], Awaitable[Sequence[object]]]
    ) -> ParlerError | None:
        """Answer the calls in `events` and in what `more` gives, until `more` gives nothing. Gives the error when the
        other side broke the protocol. What is under way is cancelled when this returns: nobody is left to answer."""
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    if (broken := self._take(events, caller, nursery)) is not None:
                        return broken
                    events = await more()
                    if not events:
                        return None
            finally:
                nursery.cancel_scope.cancel()

    def _take(self, events: Sequence[object], caller: Caller, nursery: trio.Nursery) -> ParlerError | None:
        posted: list[_Posted] = []
        try:
            for event in events:
                if isinstance(event, Call):
                    self._begin(event, caller, nursery, posted)
                elif isinstance(event, Overflow):
                    self._out.send(self._peer.refuse(event), soon=True)
                elif isinstance(event, Ended):
                    return event.error
                elif isinstance(event, Cancel):
                    # The call is not there when its answer and this cancel crossed on their way.
                    if running := self._running.get(event.id):
                        running.scope.cancel()
                elif isinstance(event, Credit) and (running := self._running.get(event.id)):
                    running.credit.set()
            return None
        finally:
            # The posts of a chunk begin after the whole chunk was read, so that they are decided and committed
            # together.
            self._started(len(posted), sum(post.size for post in posted))
            for post in posted:
                post.pending.when_done(partial(self._answer_posted, post))

    def _begin(self, call: Call, caller: Caller, nursery: trio.Nursery, posted: list[_Posted]) -> None:
        operation = OPERATIONS.get(call.op)
        size = len(call.params)
        try:
            if operation is None:
                raise ParlerError("unknown_operation", operation=call.op[:64])
            if self._draining and call.op != UPGRADE_OPERATION:
                raise ParlerError("draining")
            self._admit(operation)
            if size > t.MAX_PARAMS:
                # Parameters of this size are not decoded: the loop waits for that, and the values may take many times
                # the memory.
                said = f"The parameters have {size} bytes; a call takes {t.MAX_PARAMS}."
                raise ParlerError("text_too_long", said, limit=t.MAX_PARAMS)
            params = _shape(call.op).decode(call.params)
            agent = "" if operation.stream else self._counted(params, size)
        except ParlerError as error:
            self._fail(call.id, error)
            return
        place = _place_of(call.op, params)
        try:
            # Behind one that has no place yet this has none either.
            posting = None if place in self._turns else self._engine.begin(call.op, params, caller)
        except ParlerError as error:
            self._give_back(agent, size)
            self._fail(call.id, error)
            return
        if posting is not None:
            posted.append(_Posted(call.id, call.op, size, agent, posting))
            return
        size = 0 if operation.stream else size
        turn = None if place is None else self._turn(place)
        running = _Running(operation, trio.CancelScope(), trio.Event(), size, agent, turn=turn)
        self._started(1, running.size)
        self._running[call.id] = running
        nursery.start_soon(self._run_call, call.id, running, params, caller)

    def _turn(self, place: _Place) -> _Turn:
        def end() -> None:
            del self._turns[place]

        return _Turn(self._turns.setdefault(place, deque()), end)

    async def _run_call(self, id: int, running: _Running, params: t.Params, caller: Caller) -> None:
        name = running.operation.name
        try:
            result = b"\x80"
            with running.scope:
                if running.operation.stream:
                    await self._follow(id, running, params, caller)
                elif running.turn is not None:
                    await running.turn.comes()
                    # The task is this call's alone.
                    PLACED.set(running.turn.is_over)
                    result = codec.encode(await self._engine.call(name, params, caller))
                else:
                    result = codec.encode(await self._engine.call(name, params, caller))
            if running.scope.cancelled_caught:
                raise ParlerError(running.reason)
            self._out.send(self._peer.reply(id, result), soon=self._peer.under_way > 0)
        except ParlerError as error:
            self._fail(id, error)
        except Exception as error:
            self._fail(id, coded(error, name))
        finally:
            del self._running[id]
            if running.turn is not None:
                running.turn.is_over()
            self._give_back(running.agent, running.size)
            self._ended(running.size)

    def _answer_posted(self, post: _Posted) -> None:
        try:
            result = codec.encode(post.pending.outcome())
            self._out.send(self._peer.reply(post.id, result), soon=self._peer.under_way > 0)
        except ParlerError as error:
            self._fail(post.id, error)
        except Exception as error:
            self._fail(post.id, coded(error, post.op))
        finally:
            self._give_back(post.agent, post.size)
            self._ended(post.size)

    def _counted(self, params: t.Params, size: int) -> str:
        """Count a call for the agent that makes it; whose share it is of. Raises `ParlerError(busy)`."""
        agent = getattr(params, "agent", "") if self._share is not None else ""
        if self._share is None or not isinstance(agent, str) or not agent:
            return ""
        self._share.take(agent, size)
        return agent

    def _give_back(self, agent: str, size: int) -> None:
        if self._share is not None and agent:
            self._share.give_back(agent, size)

    def _started(self, count: int, size: int) -> None:
        if count and not self._under_way:
            self._idle = trio.Event()
        self._under_way += count
        self.bytes_under_way += size

    def _ended(self, size: int) -> None:
        self._under_way -= 1
        self.bytes_under_way -= size
        self._some_ended.set()
        if not self._under_way:
            self._idle.set()

    async def _follow(self, id: int, running: _Running, params: t.Params, caller: Caller) -> None:
        outlet = _Outlet(self._peer, self._out, id)
        async with self._engine.stream(running.operation.name, params, caller, outlet) as items:
            async for item in items:
                data = codec.encode(item)
                while not self._peer.credit(id):
                    running.credit = trio.Event()
                    await running.credit.wait()
                # Credit counts items, which may be large. Waiting here lets a slow reader hold up its own stream
                # instead of being cut off.
                await self._out.drained()
                self._out.send(self._peer.item(id, data))

    def _fail(self, id: int, error: ParlerError) -> None:
        try:
            data = self._peer.fail(id, self._tell(error))
        except (TypeError, OverflowError, RecursionError, ParlerError):
            # The error's details cannot be encoded, or make the frame too large. The code alone can travel.
            data = self._peer.fail(id, self._tell(ParlerError(error.spec.code)))
        self._out.send(data, soon=self._peer.under_way > 0)


def _place_of(op: str, params: t.Params) -> _Place | None:
    """Where a post goes; None for what is none."""
    match params:
        case t.PostEnvelope():
            return op, params.agent, params.room
        case t.Send():
            return op, params.room or "", params.service or "", *params.to
        case _:
            return None


@cache
def _shape(op: str) -> codec.Shape[t.Params]:
    return codec.Shape(OPERATIONS[op].params, "invalid_param")


def coded(error: Exception, where: str) -> ParlerError:
    """`error` as an error with a code. One without a code is logged by its place and type alone, because its text may
    hold words that somebody wrote."""
    reason = unwrapped(error)
    if isinstance(reason, ParlerError):
        return reason
    trace = "".join(traceback.format_tb(reason.__traceback__))
    log.error("%s failed with %s\n%s", where, type(reason).__name__, trace)
    return ParlerError("internal")
