"""Coordination over the state of rooms: reading, writing, evaluating and waiting, wherever a room lives.

    state.set ... --> the room that is meant --> a room of this home   answered here
                                            `--> another               `link.ask` --> answered by the room's home

What stands in a room's state, and who may write it, its home alone says: no mirror holds any of it, so nobody decides
upon what was true a while ago. An operation crosses a link whole, and the home answers it as it answers its own agents.

Not here: the rules (`core.state`), who sees what (`core.resolver`), and how an answer looks (`entries_shown`). Above:
the engine's face. Below: a room's line, the library, `watching`. Invariants: an answer rests on what is stored; a
refusal crosses a link as its code and its details, without a sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, cast

import msgspec
import trio

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression, Failed, Spent
from parlerd.core.expressions import refusal as came_to_nothing
from parlerd.core.gates import Program
from parlerd.core.json_values import Value, text_of
from parlerd.core.membership import is_requester, present
from parlerd.core.model import OWN_SCOPES, SHARED, VIEWS, AgentId, By, Millis, Position, Seq, key_label
from parlerd.core.refusals import refusal
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.core.scrub import scrub
from parlerd.core.timers import TimerSpec
from parlerd.core.topics import Topic
from parlerd.core.values import Meter, plain
from parlerd.core.visibility import can_see
from parlerd.engine import entries_shown as shown
from parlerd.engine.callers import Caller
from parlerd.engine.deciding import ITSELF
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, Question, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import room_of
from parlerd.engine.reachable import require_member, require_speaker, room_within, stamp
from parlerd.engine.waits import Wait
from parlerd.engine.watching import Awaited, Waited, Watching
from parlerd.expr import Place, parse, watched_key
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

HISTORY_STEP: Final = 64
"""Versions of a key that are read at a time."""
CLOCK_S: Final = 1.0
"""How often a condition is evaluated that reads the time. Source: coordination spec, Expressions."""
SUSPECT_S: Final = 2.0
"""How long everybody waits before that is called a deadlock. Source: coordination spec, Waits."""
AGAIN_S: Final = 1.0
"""How long a wait on a room elsewhere pauses while the room's home cannot be asked."""
MAX_PARSED: Final = 1_024
"""Expressions whose trees are kept, so that a condition that is asked again and again is read once."""
_AWAY: Final = frozenset({"offline", "home_unreachable", "draining"})
"""Why a home did not answer that may answer a moment later."""


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


class Coordination:
    """The handlers of `state.*` and `timer.*`, and of what another home asks about the state of rooms that live
    here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watching = Watching(desk.presence, desk.notifier, desk.clock)
        self._parsed: Bounded[tuple[str, Place], Expression] = Bounded(MAX_PARSED)
        """Expressions by their texts and the places that they stand in."""
        self._answers: Mapping[str, Answer] = {
            "state.get": self._get,
            "state.list": self._list,
            "state.set": self._set,
            "state.delete": self._delete,
            "state.batch": self._batch,
            "state.history": self._history,
            "state.hide": self._hide,
            "state.evaluate": self._evaluate,
            "state.wait": self._wait,
            "timer.renew": self._renew,
        }
        """What answers a question about a room of this home."""

    # -- asking --------------------------------------------------------------------------------------------

    @handles("state.get")
    async def state_get(self, caller: Caller, params: t.GetState) -> t.Result:
        return await self._ask(caller, "state.get", params)

    @handles("state.list")
    async def state_list(self, caller: Caller, params: t.ListState) -> t.Result:
        return await self._ask(caller, "state.list", params)

    @handles("state.set")
    async def state_set(self, caller: Caller, params: t.SetState) -> t.Result:
        return await self._ask(caller, "state.set", params)

    @handles("state.delete")
    async def state_delete(self, caller: Caller, params: t.DeleteState) -> t.Result:
        return await self._ask(caller, "state.delete", params)

    @handles("state.batch")
    async def state_batch(self, caller: Caller, params: t.BatchState) -> t.Result:
        return await self._ask(caller, "state.batch", params)

    @handles("state.history")
    async def state_history(self, caller: Caller, params: t.HistoryOfState) -> t.Result:
        return await self._ask(caller, "state.history", params)

    @handles("state.hide")
    async def state_hide(self, caller: Caller, params: t.HideScope) -> t.Result:
        return await self._ask(caller, "state.hide", params)

    @handles("state.evaluate")
    async def state_evaluate(self, caller: Caller, params: t.Evaluate) -> t.Result:
        return await self._ask(caller, "state.evaluate", params)

    @handles("timer.renew")
    async def timer_renew(self, caller: Caller, params: t.RenewTimer) -> t.Result:
        return await self._ask(caller, "timer.renew", params)

    @handles("state.wait")
    async def state_wait(self, caller: Caller, params: t.WaitUntil) -> t.Result:
        """Wait at the room's home. Of a room elsewhere the deadline is kept here: what the link lost is asked again."""
        began = trio.current_time()
        deadline = began + params.wait_ms / 1000
        me = await self._desk.me(caller)
        handle, _ = await room_of(self._desk, me, params.room)
        name = handle.room
        by = self._desk.by(caller, me)
        while True:
            left = max(0.0, deadline - trio.current_time())
            asked_at = trio.current_time()
            request = Request("state.wait", msgspec.structs.replace(params, wait_ms=int(left * 1000)), by, caller)
            handle = await self._desk.rooms.get(name)
            try:
                answer = await handle.ask(request.question, partial(self.answer, request))
            except Refused as refused:
                is_here = handle.home_name == LOCAL
                if refused.code not in _AWAY or is_here or left <= 0 or self._desk.draining:
                    raise
                await self._pause(caller, min(left, AGAIN_S))
                continue
            assert isinstance(answer, t.WaitEnded)
            is_over = trio.current_time() >= deadline or answer.deadlock_suspected is not msgspec.UNSET
            if answer.triggered or is_over:
                elapsed = int((trio.current_time() - began) * 1000)
                told = msgspec.structs.replace(answer, condition=params.condition, elapsed_ms=elapsed)
                return _named(told, handle)
            if trio.current_time() - asked_at < AGAIN_S:
                # A home that does not wait is not asked again at once.
                await self._pause(caller, min(left, AGAIN_S))

    async def _pause(self, caller: Caller, seconds: float) -> None:
        async def look(wait: Wait) -> bool | None:
            return True if wait.over else None

        await self._desk.waits.until(caller, look, trio.current_time() + seconds)

    async def _ask(self, caller: Caller, name: str, params: t.Params) -> t.Result:
        desk = self._desk
        me = await desk.me(caller)
        _require_values(params)
        handle, _ = await room_of(desk, me, getattr(params, "room", None))
        if OPERATIONS[name].effect != "read":
            desk.quotas.take(me.id, bytes=len(msgspec.msgpack.encode(params)))
        request = Request(name, params, desk.by(caller, me), caller)
        answer = await handle.ask(request.question, partial(self.answer, request))
        return _named(answer, handle)

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
                desk.quotas.take(agent, bytes=len(params.params), person=principal)
            request = Request(params.operation, asked, stamp(caller, agent), caller)
            answer = await self.answer(request, handle)
        except Refused as refused:
            if refused.retry_after_ms is not None or refused.code == "draining":
                raise
            return t.AnsweredAtRoom(code=refused.code, details=refused.details)
        return t.AnsweredAtRoom(answer=msgspec.msgpack.encode(answer))

    async def answer(self, request: Request, handle: RoomHandle) -> t.Result:
        """What the home of a room says to a request. Raises `Refused`."""
        return await self._answers[request.name](handle, request, request.params)

    # -- reading -------------------------------------------------------------------------------------------

    async def _get(self, handle: RoomHandle, request: Request, params: t.GetState) -> t.StateRead:
        room, resolver = await self._seen(handle, request)
        scope, key = room.entries.scope(params.scope), key_label(params.key)
        entry = resolver.there(scope, key)
        if entry is None:
            raise room.entries.missing(scope, key, resolver.keys(scope))
        return t.StateRead(**shown.fields(room, resolver, scope, key, entry), room=handle.room)

    async def _list(self, handle: RoomHandle, request: Request, params: t.ListState) -> t.StateListed:
        room, resolver = await self._seen(handle, request)
        scope = None if params.scope is None else room.entries.scope(params.scope)
        limit = min(params.limit, t.MAX_ENTRIES)
        if params.at is None and params.at_seq is None:
            scopes = resolver.scopes() if scope is None else [scope]
            names = [(each, key) for each in scopes for key in resolver.keys(each)]
            if params.after is not None:
                names = [name for name in names if name > params.after]
            page = shown.within((shown.entry(room, resolver, *name) for name in names), limit)
            return t.StateListed(entries=page, more=len(page) < len(names), room=handle.room)
        found = await self._at(handle, request, room, params)
        found = [each for each in found if scope in (None, each.scope)]
        if params.after is not None:
            found = [each for each in found if (each.scope, each.key) > params.after]
        page = shown.within(found, limit)
        return t.StateListed(entries=page, more=len(page) < len(found), room=handle.room)

    async def _at(self, handle: RoomHandle, request: Request, room: Room, params: t.ListState) -> list[t.StateEntry]:
        """What stood in the state at a moment, or when the reader's message of a number came."""
        if params.at is not None and params.at_seq is not None:
            raise Refused("invalid_param", "Name a moment or a message, not both.", param="at")
        reader, library = request.by.actor, self._desk.library
        view = room.view(reader)
        if params.at_seq is not None:
            place = await library.position_of(handle.room, view, Seq(params.at_seq))
        else:
            place = await self._position_at(handle, params.at or 0)
        if place < room.position and not can_see(view, position=place + 1, visibility=None):
            raise Refused("invalid_param", "You were not in the room then.", param="at")
        facts = await library.state_at(handle.room, place)
        handle_of = room.state.members[reader].handle
        return [
            shown.told(room, header, body)
            for header, body in facts
            if isinstance(header.event, e.StateWritten)
            and not room.entries.table.is_hidden(header.event.scope, handle_of)
        ]

    async def _position_at(self, handle: RoomHandle, at: int) -> Position:
        """Where a room's log stood at a moment."""
        low, high = 0, int(handle.aggregate.position)
        while low < high:
            middle = (low + high + 1) // 2
            [header] = await self._desk.library.few_facts(handle.room, Position(middle - 1), 1)
            low, high = (middle, high) if header.at <= at else (low, middle - 1)
        return Position(low)

    async def _history(self, handle: RoomHandle, request: Request, params: t.HistoryOfState) -> t.StateHistory:
        room, resolver = await self._seen(handle, request)
        scope, key = room.entries.scope(params.scope), key_label(params.key)
        limit, view = min(params.limit, t.MAX_ENTRIES), room.view(request.by.actor)
        before = Position(room.position + 1)
        versions: list[t.StateVersion] = []
        more = not room.entries.table.is_hidden(scope, resolver.asker.handle)
        while more and len(versions) <= limit:
            facts = await self._desk.library.state_history(handle.room, scope, key, before, HISTORY_STEP)
            more = len(facts) == HISTORY_STEP
            for header, body in facts:
                before = header.position
                is_current = not versions and params.before is None
                # What was written before the reader came in is not its to see; what stands there now is.
                if not is_current and not can_see(view, position=header.position, visibility=None):
                    more = False
                    break
                told = shown.version(room, header, body)
                if params.before is None or told.version < params.before:
                    versions.append(told)
        if not versions:
            raise room.entries.missing(scope, key, resolver.keys(scope))
        page = shown.within(versions, limit)
        return t.StateHistory(
            scope=scope,
            key=key,
            versions=page,
            more=len(page) < len(versions),
            first=versions[-1].version,
            room=handle.room,
        )

    async def _looked(self, handle: RoomHandle) -> Room:
        """The room as it is now, after what has run out was seen to."""
        room = await handle.quiet()
        if room.ran_out(self._now(room)):
            await handle.submit(c.RunDue(), ITSELF)
            room = await handle.quiet()
        return room

    async def _seen(self, handle: RoomHandle, request: Request) -> tuple[Room, Resolver]:
        """The room as a member sees it who sees more than what names it."""
        room = await self._looked(handle)
        agent = request.by.actor
        if is_requester(present(room.state.members, agent)):
            raise Refused("not_a_worker")
        return room, room.look(agent, self._now(room), self._watching.of(handle.room))

    def _now(self, room: Room) -> Millis:
        return max(self._desk.clock.now(), room.last_at)

    # -- evaluating and waiting ----------------------------------------------------------------------------

    async def _evaluate(self, handle: RoomHandle, request: Request, params: t.Evaluate) -> t.Evaluated:
        expression = self._parse(params.expr, "gate")
        _, resolver = await self._seen(handle, request)
        value, error = _attempt(Program(expression), resolver)
        if error is not None:
            raise came_to_nothing(params.expr, error)
        return t.Evaluated(value=value, room=handle.room)

    async def _wait(self, handle: RoomHandle, request: Request, params: t.WaitUntil) -> t.WaitEnded:
        expression = self._parse(params.condition, "wait")
        program, agent, name = Program(expression), request.by.actor, handle.room
        began = trio.current_time()
        caught_since: list[float] = []
        waited = Waited()

        async def look(wait: Wait) -> t.WaitEnded | None:
            # What is looked at is named after it was looked at: nothing else runs in between.
            handle = await self._desk.rooms.get(name)
            room = await self._looked(handle)
            if is_requester(present(room.state.members, agent)):
                raise Refused("not_a_worker")
            _require_readable(room, agent, expression)
            presence = self._watching.of(name, params.condition)
            resolver = room.look(agent, self._now(room), presence)
            value, error = _attempt(program, resolver)
            wait.on(topics.life(name), *_topics(room, agent, resolver))
            if value is True or wait.over or waited.caught is not None:
                return self._ended(room, request, params, began, value, error, waited)
            if any(root == "now" for root, _, _ in resolver.looked):
                wait.again_in(CLOCK_S)
            blocker = self._first_who_does_not_wait(room)
            if blocker is not None:
                caught_since.clear()
                wait.on(topics.waiting(name, blocker), topics.presence(blocker))
                return None
            # Everybody who is present waits: whoever comes, or waits no more, changes that.
            wait.on(topics.waiting(name), topics.presence())
            if (due := self._next_due(room)) is not None:
                caught_since.clear()
                wait.again_in((due - self._now(room)) / 1000)
                return None
            if not caught_since:
                caught_since.append(trio.current_time())
            left = caught_since[0] + SUSPECT_S - trio.current_time()
            if left <= 0:
                # Told to all of them at once: who is told waits no more, and then nobody would see it any more.
                self._watching.suspect(name)
                return self._ended(room, request, params, began, value, error, waited)
            wait.again_in(left)
            return None

        deadline = began + params.wait_ms / 1000
        if not params.wait_ms:
            return await self._desk.waits.until(request.caller, look, deadline)
        with self._watching.wait(name, agent, Awaited(expression.source, _scopes_of(expression)), waited):
            ended = await self._desk.waits.until(request.caller, look, deadline)
        if not params.include:
            return ended
        # Statuses are shown as they are after the wait.
        room = await self._looked(await self._desk.rooms.get(name))
        return self._included(room, request, params, ended)

    def _first_who_does_not_wait(self, room: Room) -> AgentId | None:
        """A member who is present and waits for nothing here; none where everybody waits, or one waits alone."""
        name, waiting = room.state.room, []
        for member in room.state.members.values():
            if not member.present or is_requester(member):
                continue
            if self._watching.is_waiting(name, member.agent):
                waiting.append(member.agent)
            elif self._watching.of(name).of(member.agent).status != "offline":
                return member.agent
        return None if len(waiting) != 1 else waiting[0]

    def _next_due(self, room: Room) -> Millis | None:
        """When time next changes what a condition may be worth. Not every moment of the room is one: that a key to it
        expires some day lets no condition become true."""
        now = self._now(room)
        moments = [facet.next_deadline(now) for facet in (room.entries, room.claims)]
        return min((moment for moment in moments if moment is not None), default=None)

    def _ended(
        self,
        room: Room,
        request: Request,
        params: t.WaitUntil,
        began: float,
        value: Value,
        error: Failed | Spent | None,
        waited: Waited,
    ) -> t.WaitEnded:
        waits = {}
        is_caught = waited.caught is not None and value is not True
        if is_caught:
            resolver = room.look(request.by.actor, self._now(room), self._watching.of(room.state.room))
            for agent, conditions in (waited.caught or {}).items():
                waits[room.entries.handle(agent)] = [resolver.told(each.text, each.scopes) for each in conditions]
        ended = t.WaitEnded(
            triggered=value is True,
            condition=params.condition,
            value=value,
            elapsed_ms=int((trio.current_time() - began) * 1000),
            condition_error=(msgspec.UNSET if error is None else {**came_to_nothing(params.condition, error).details}),
            deadlock_suspected=waits if is_caught else msgspec.UNSET,
            room=room.state.room,
        )
        return self._included(room, request, params, ended) if not params.wait_ms else ended

    def _included(self, room: Room, request: Request, params: t.WaitUntil, ended: t.WaitEnded) -> t.WaitEnded:
        resolver = room.look(request.by.actor, self._now(room), self._watching.of(room.state.room))
        return shown.included(room, resolver, params.include, ended)

    def _parse(self, source: str, place: Place) -> Expression:
        """The expression of a text. Raises `Refused(expression_invalid)`."""
        known = self._parsed.get((source, place))
        if known is None:
            known = self._parsed[source, place] = parse(source, place)
        return known

    # -- writing -------------------------------------------------------------------------------------------

    async def _set(self, handle: RoomHandle, request: Request, params: t.SetState) -> t.StateWritten:
        return await self._write_one(handle, request, params, self._write(params))

    async def _delete(self, handle: RoomHandle, request: Request, params: t.DeleteState) -> t.StateWritten:
        return await self._write_one(handle, request, params, self._deletion(params))

    async def _batch(self, handle: RoomHandle, request: Request, params: t.BatchState) -> t.BatchWritten:
        writes = []
        for number, each in enumerate(params.writes):
            try:
                writes.append(self._deletion(each) if each.delete else self._write(each))
            except Refused as refused:
                refused.details["index"] = number
                raise
        gate = None if params.gate is None else self._parse(params.gate, "gate")
        entries, replayed = await self._written(handle, request, params, writes, gate)
        key = params.idempotency_key or ""
        return t.BatchWritten(writes=entries, replayed=replayed, idempotency_key=key, room=handle.room)

    async def _write_one(
        self, handle: RoomHandle, request: Request, params: t.SetState | t.DeleteState, write: c.StateWrite
    ) -> t.StateWritten:
        [entry], replayed = await self._written(handle, request, params, [write], None)
        return _as_written(entry, handle, params.idempotency_key, replayed=replayed)

    async def _written(
        self,
        handle: RoomHandle,
        request: Request,
        params: t.SetState | t.DeleteState | t.BatchState,
        writes: Sequence[c.StateWrite],
        gate: Expression | None,
    ) -> tuple[list[t.StateEntry], bool]:
        """Write, and give what stands there afterwards; the flag says that the same request was carried out before."""
        room = await handle.quiet()
        for write in writes:
            for expression in (write.gate, write.expr, write.enabled):
                _require_readable(room, request.by.actor, expression)
        _require_readable(room, request.by.actor, gate)
        command = c.WriteState(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            writes=tuple(writes),
            gate=gate,
            presence=self._watching.of(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room = handle.aggregate
        replay = settled.decision.replay
        facts: Sequence[e.Header] = settled.facts
        if replay is not None:
            facts = await self._desk.library.few_facts(handle.room, Position(replay - 1), len(writes))
        resolver = room.look(request.by.actor, self._now(room), self._watching.of(handle.room))
        told = []
        for header in facts[: len(writes)]:
            body = None if header.body is None else await self._desk.library.body(handle.room, header.position)
            told.append(shown.after_write(room, resolver, header, body))
        return told, replay is not None

    def _write(self, params: t.Written) -> c.StateWrite:
        """A write as the core takes it. Raises `Refused`: `invalid_param` for one that says two things at once,
        `expression_invalid`, `invalid_timer`."""
        acts = {"increment": params.increment is not False, "merge": params.merge, "append": params.append}
        asked = [name for name, is_asked in acts.items() if is_asked]
        if len(asked) > 1:
            raise Refused("invalid_param", f"A write is one of: {', '.join(asked)}.", param=asked[1])
        value = params.value
        if asked == ["increment"] and params.increment is not True:
            if value is not None:
                raise Refused("invalid_param", "Name the number once: in increment or in value.", param="increment")
            value = params.increment
        if params.expr is not None and (value is not None or asked):
            raise Refused("invalid_param", "A view has an expression and no value.", param="expr")
        return c.StateWrite(
            scope=VIEWS if params.expr is not None and params.scope == SHARED else params.scope,
            key=params.key,
            act=cast(c.StateAct, asked[0] if asked else "set"),
            value=1 if asked == ["increment"] and value is None else value,
            expr=None if params.expr is None else self._parse(params.expr, "view"),
            gate=None if params.gate is None else self._parse(params.gate, "gate"),
            if_version=params.if_version,
            enabled=None if params.enabled is None else self._parse(params.enabled, "enabled"),
            timer=None if params.timer is None else self._timer(params.timer),
        )

    def _deletion(self, params: t.DeleteState | t.BatchedWrite) -> c.StateWrite:
        gate = None if params.gate is None else self._parse(params.gate, "gate")
        return c.StateWrite(scope=params.scope, key=params.key, act="delete", gate=gate, if_version=params.if_version)

    def _timer(self, asked: t.TimerAsked) -> TimerSpec:
        """A timer as the core takes it. Raises `Refused(invalid_timer)`."""
        at = asked.at
        if isinstance(at, str):
            try:
                moment = datetime.fromisoformat(at)
            except ValueError:
                raise Refused("invalid_timer", "at is a moment, as 2026-03-01T00:00:00Z.", what="at") from None
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            at = int(moment.timestamp() * 1000)
        watch = None
        if asked.tick_on is not None:
            try:
                watch = watched_key(asked.tick_on)
            except Refused as refused:
                said = "tick_on is the path of one key, as state._shared.turn; a view has no writes to count."
                raise Refused("invalid_timer", said, what="tick_on") from refused
        return TimerSpec(effect=asked.effect, ms=asked.ms, at=at, ticks=asked.ticks, watch=watch)

    async def _renew(self, handle: RoomHandle, request: Request, params: t.RenewTimer) -> t.StateWritten:
        command = c.RenewTimer(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            scope=params.scope,
            key=params.key,
        )
        settled = await handle.submit(command, request.by)
        room = handle.aggregate
        scope, key = room.entries.scope(params.scope), key_label(params.key)
        entry = room.entries.table.entry(scope, key)
        if entry is None:
            raise room.entries.missing(scope, key)
        resolver = room.look(request.by.actor, self._now(room), self._watching.of(handle.room))
        fields = shown.of_writer(room, resolver, scope, key, entry)
        replayed = settled.decision.replay is not None
        return _as_written(t.StateEntry(**fields), handle, params.idempotency_key, replayed=replayed)

    async def _hide(self, handle: RoomHandle, request: Request, params: t.HideScope) -> t.ScopeShown:
        scope = "" if params.everybodys else request.by.actor
        command = c.HideScope(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            scope=scope,
            hidden=params.hidden,
        )
        await handle.submit(command, request.by)
        named = scope and handle.aggregate.entries.scope(scope)
        return t.ScopeShown(scope=named, hidden=params.hidden, room=handle.room)


def _attempt(program: Program, resolver: Resolver) -> tuple[Value, Failed | Spent | None]:
    """What a condition is worth now, or why it is worth nothing."""
    try:
        return plain(resolver.evaluate(program), Meter()), None
    except (Failed, Spent) as error:
        return None, error


def _topics(room: Room, agent: AgentId, resolver: Resolver) -> list[Topic]:
    """What changes may change an answer that rests on what was looked at."""
    name = room.state.room
    found: list[Topic] = []
    for root, scope, key in resolver.looked:
        match root:
            case "state":
                found.append(topics.state(name, scope, key))
            case "agents":
                member = None if scope == topics.ANY else room.entries.member(scope)
                found += [topics.presence(topics.ANY if member is None else member), topics.waiting(name)]
            case "scopes":
                found.append(topics.scopes(name))
            case "messages":
                found += [topics.messages(name), topics.messages(name, agent), topics.claims(name)]
            case _:
                pass
    return found


def _scopes_of(expression: Expression) -> frozenset[str]:
    """The scopes of agents that an expression names."""
    named = (read.path[0] for read in expression.reads if read.root == "state" and read.path)
    return frozenset(scope for scope in named if scope is not None and scope not in OWN_SCOPES)


def _require_readable(room: Room, agent: AgentId, expression: Expression | None) -> None:
    """Raise `Refused(scope_denied)` for an expression that names a scope which only another agent reads."""
    if expression is None:
        return
    handle = present(room.state.members, agent).handle
    for scope in sorted(_scopes_of(expression)):
        if room.entries.table.is_hidden(scope, handle):
            raise refusal("scope_denied", {"read_scope": scope, "invoker": handle})


def _require_values(params: t.Params) -> None:
    """Refuse here what is refused wherever the room lives: a value that is none, and one that holds a recognised
    secret. What is in a room's state is shown to all of its members again and again, and a value with something taken
    out of it would be another value. Raises `Refused`: `invalid_param`, `value_too_large`, `secret_refused`."""
    writes: Sequence[Any] = params.writes if isinstance(params, t.BatchState) else (params,)
    for number, write in enumerate(writes):
        if not isinstance(write, t.Written):
            continue
        index = {"index": number} if isinstance(params, t.BatchState) else {}
        try:
            found = scrub(text_of(write.value).decode())[1]
        except Refused as refused:
            refused.details.update(index)
            raise
        if found:
            raise refusal("secret_refused", {"kinds": sorted(found), **index})


def _decoded(data: bytes, shape: type[t.Params]) -> t.Params:
    """Parameters that crossed a link. Raises `Refused(invalid_param)`."""
    try:
        return msgspec.msgpack.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("invalid_param", "These are not the parameters of this operation.", param="params") from None


def _named(answer: t.Result, handle: RoomHandle) -> t.Result:
    """An answer with the room's name, which the asker's own home knows."""
    return msgspec.structs.replace(answer, room=handle.room, name=handle.aggregate.state.name)


def _as_written(entry: t.StateEntry, handle: RoomHandle, key: str | None, *, replayed: bool) -> t.StateWritten:
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return t.StateWritten(**fields, replayed=replayed, idempotency_key=key or "", room=handle.room)
