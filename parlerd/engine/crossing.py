"""What is asked of the state of a room, wherever the room lives.

    state.set ... --> the room that is meant --> a room of this home   answered here
                                            `--> another               `link.ask` --> answered by the room's home

What stands in a room's state, and who may write it, its home alone says: no mirror holds any of it, so nobody decides
upon what was true a while ago. An operation crosses a link whole, and the home answers it as it answers its own agents.

Not here: the answers (`coordination`), and the rules (`core.state`). Above: the engine's face. Below: those who answer,
the desk. Invariants: what no room takes is refused where it is asked, before it goes anywhere; a refusal crosses a link
as its code and its details, without a sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, get_args

import msgspec
import trio

from parlerd.core.errors import Refused
from parlerd.core.json_values import text_of
from parlerd.core.model import AgentId, By, MessageId, PeerText
from parlerd.core.refusals import refusal
from parlerd.core.scrub import scrub
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, Question, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.lookup import room_of
from parlerd.engine.observers import observed_room
from parlerd.engine.reachable import require_member, require_speaker, room_within, stamp
from parlerd.engine.reading import render_message
from parlerd.engine.trail import trail, with_receipt
from parlerd.engine.waits import Wait
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

AGAIN_S: Final = 1.0
"""How long a wait on a room elsewhere pauses while the room's home cannot be asked."""
_AWAY: Final = frozenset({"offline", "home_unreachable", "draining"})
"""Why a home did not answer that may answer a moment later."""
_NAMES: Final[Mapping[type[t.Params], str]] = {OPERATIONS[name].params: name for name in get_args(t.Crossing)}
"""The operations that cross, by the shapes of their parameters."""

_FOUND: Final = frozenset({"receipt.get"})
"""What is asked about a message, by which the room is found (`receipts`)."""
_LOOKED_AT: Final = frozenset({"state.changes", "room.board"})
"""What a person looks on at."""


class Request(NamedTuple):
    """An operation on the state of a room, who asks for it, and by which connection."""

    name: str
    params: t.Params
    by: By
    caller: Caller

    @property
    def question(self) -> Question:
        """The part of it that crosses a link."""
        return Question(self.name, self.params, self.by)


Answer = Callable[[RoomHandle, Request, Any], Awaitable[t.Result]]


class Crossing:
    """The handlers of what the home of a room answers (`t.Crossing`), and of what another home asks about rooms that
    live here."""

    def __init__(self, desk: Desk, answers: Mapping[str, Answer]) -> None:
        self._desk = desk
        self._answers = answers
        """What answers an operation about a room of this home, by its name."""

    @handles(*sorted(name for name in set(_NAMES.values()) - _FOUND if not OPERATIONS[name].waits))
    async def ask(self, caller: Caller, params: t.Params) -> t.Result:
        desk, name = self._desk, _NAMES[type(params)]
        me = await desk.me(caller)
        _require_values(params)
        handle, _ = await room_of(desk, me, getattr(params, "room", None))
        if OPERATIONS[name].effect != "read":
            await desk.quotas.take(me.id, bytes=len(msgspec.msgpack.encode(params)))
        request = Request(name, params, desk.by(caller, me), caller)
        answer = await handle.ask(request.question, partial(self.answer, request))
        return _named(answer, handle)

    @handles(*sorted(name for name in set(_NAMES.values()) if OPERATIONS[name].waits))
    async def wait(self, caller: Caller, params: t.WaitingParams) -> t.Result:
        """Wait at the room's home. Of a room elsewhere the deadline is kept here: what the link lost is asked again."""
        began = trio.current_time()
        deadline = began + params.wait_ms / 1000
        name = _NAMES[type(params)]
        me = await self._desk.me(caller)
        if name in _LOOKED_AT:
            # A person, who is in no room, looks with the eyes of an agent of theirs.
            handle, _, [me, *_] = await observed_room(self._desk, caller, me, getattr(params, "room", None))
        else:
            handle, _ = await room_of(self._desk, me, getattr(params, "room", None))
        room, by = handle.room, self._desk.by(caller, me)
        while True:
            left = max(0.0, deadline - trio.current_time())
            asked_at = trio.current_time()
            request = Request(name, msgspec.structs.replace(params, wait_ms=int(left * 1000)), by, caller)
            handle = await self._desk.rooms.get(room)
            try:
                answer = await handle.ask(request.question, partial(self.answer, request))
            except Refused as refused:
                is_here = handle.home_name == LOCAL
                if refused.code not in _AWAY or is_here or left <= 0 or self._desk.draining:
                    raise
                await self._pause(caller, min(left, AGAIN_S))
                continue
            if _is_enough(params, answer) or trio.current_time() >= deadline:
                elapsed = int((trio.current_time() - began) * 1000)
                answer = _named(_as_asked(params, answer, elapsed), handle)
                return await self._in_words(handle, by.actor, answer) if isinstance(answer, t.Board) else answer
            if trio.current_time() - asked_at < AGAIN_S:
                # A home that does not wait is not asked again at once.
                await self._pause(caller, min(left, AGAIN_S))

    async def _in_words(self, handle: RoomHandle, agent: AgentId, board: t.Board) -> t.Board:
        """A board with the words of its tasks, which the home of a sealed room cannot read and this home has."""
        room = await handle.quiet()
        if handle.home_name == LOCAL or not room.state.is_sealed:
            return board
        library, now = self._desk.library, self._desk.now_at(room.state.home)
        tasks = []
        for task in board.tasks:
            traced = await library.trace(MessageId(task.id))
            if traced is not None and traced.room == handle.room:
                stored = await library.message_at(room, room.view(agent), traced.header.position)
                if stored is not None:
                    text = render_message(room.state, agent, stored, now).text[: t.MAX_BOARD_TEXT]
                    task = msgspec.structs.replace(task, text=PeerText(text))
            tasks.append(task)
        return msgspec.structs.replace(board, tasks=tasks)

    async def _pause(self, caller: Caller, seconds: float) -> None:
        async def look(wait: Wait) -> bool | None:
            return True if wait.over else None

        await self._desk.waits.until(caller, look, trio.current_time() + seconds)

    @handles("link.ask")
    async def answer_link(self, caller: Caller, params: t.AskAtRoom) -> t.AnsweredAtRoom:
        desk = self._desk
        agent, principal = require_speaker(desk, caller, params.agent), caller.facts.authority.principal
        handle = await room_within(desk, caller, params.room)
        require_member(await handle.quiet(), agent, principal)
        asked = _decoded(params.params, OPERATIONS[params.operation].params)
        try:
            _require_values(asked)
            if OPERATIONS[params.operation].effect != "read":
                if desk.kept.is_over(principal, len(params.params)):
                    raise desk.kept.refusal()
                await desk.quotas.take(agent, bytes=len(params.params), person=principal)
            request = Request(params.operation, asked, stamp(caller, agent), caller)
            answer = await self.answer(request, handle)
        except Refused as refused:
            if refused.retry_after_ms is not None or refused.code == "draining":
                raise
            return t.AnsweredAtRoom(code=refused.code, details=refused.details)
        return t.AnsweredAtRoom(answer=msgspec.msgpack.encode(answer))

    async def answer(self, request: Request, handle: RoomHandle) -> t.Result:
        """What the home of a room says to a request. Raises `Refused`."""
        with trail() as steps:
            answer = await self._answers[request.name](handle, request, request.params)
        return await with_receipt(answer, steps, self._desk.library)


def _require_values(params: t.Params) -> None:
    """Refuse here what is refused wherever the room lives: a value that is none, and one that holds a recognised
    secret. What is in a room's state is shown to all of its members again and again, and a value with something taken
    out of it would be another value. Raises `Refused`: `invalid_param`, `value_too_large`, `secret_refused`."""
    match params:
        case t.Written():
            _require_no_secret(text_of(params.value))
        case t.BatchState():
            _require_each(params.writes)
        case t.RegisterAction():
            _require_each(params.writes)
            # Its expressions are shown to all of them too.
            _require_no_secret(msgspec.json.encode(params))
        case t.EnableAgent() | t.RegisterModule():
            # So is what has to be true for somebody to be there.
            _require_no_secret(msgspec.json.encode(params))
        case t.InvokeAction():
            # Which of these are secrets that nobody is shown, the room knows.
            text_of(params.params, param="params")


def _require_each(writes: Sequence[t.Written | t.ActionWriteAsked]) -> None:
    for number, write in enumerate(writes):
        try:
            _require_no_secret(text_of(write.value))
        except Refused as refused:
            refused.details["index"] = number
            raise


def _require_no_secret(text: bytes) -> None:
    found = scrub(text.decode())[1]
    if found:
        raise refusal("secret_refused", {"kinds": sorted(found)})


def _decoded(data: bytes, shape: type[t.Params]) -> t.Params:
    """Parameters that crossed a link. Raises `Refused(invalid_param)`."""
    try:
        return msgspec.msgpack.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("invalid_param", "These are not the parameters of this operation.", param="params") from None


def _is_enough(params: t.Params, answer: t.Result) -> bool:
    """Whether an answer to somebody who waits ends the wait before its time is over."""
    match answer:
        case t.WaitEnded():
            return answer.triggered or answer.deadlock_suspected is not msgspec.UNSET
        case t.Board():
            return not isinstance(params, t.LookAtBoard) or answer.mark != params.after
        case t.StateChanges():
            return bool(answer.changes) or answer.more or (isinstance(params, t.FollowState) and params.after is None)
        case _:
            return True


def _as_asked(params: t.Params, answer: t.Result, elapsed_ms: int) -> t.Result:
    """An answer with what the asker's own home knows of the question."""
    if isinstance(params, t.WaitUntil):
        return msgspec.structs.replace(answer, condition=params.condition, elapsed_ms=elapsed_ms)
    return answer


def _named(answer: t.Result, handle: RoomHandle) -> t.Result:
    """An answer with the room's name, which the asker's own home knows."""
    return msgspec.structs.replace(answer, room=handle.room, name=handle.aggregate.state.name)
