"""What expressions over a room's state are worth to whoever asks, now or once they are true.

A condition is evaluated anew when something changes that it looked at, when time changes such a thing, and each second
where it reads the time itself. While everybody who is present waits and nothing is due, nothing can become true, and
all of them are told.

Not here: reading and writing the state (`coordination`), and who waits for what (`watching`). Above: `crossing`. Below:
`sight`, the evaluator. Invariant: a condition is evaluated at least once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import trio

from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.expressions import Failed, Spent
from parlerd.core.expressions import refusal as came_to_nothing
from parlerd.core.gates import Program
from parlerd.core.json_values import Value
from parlerd.core.lifecycle import require_open
from parlerd.core.membership import is_requester, present
from parlerd.core.model import AgentId, Millis
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.core.topics import Topic
from parlerd.core.values import Meter, plain
from parlerd.engine import entries_shown as shown
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import require_readable
from parlerd.engine.waits import Wait
from parlerd.engine.watching import Awaited, Waited
from parlerd.operations import types as t

CLOCK_S: Final = 1.0
"""How often a condition is evaluated that reads the time. Source: coordination spec, Expressions."""
SUSPECT_S: Final = 2.0
"""How long everybody waits before that is called a deadlock. Source: coordination spec, Waits."""


class Conditions:
    """Evaluates, and waits, in rooms of this home."""

    def __init__(self, desk: Desk, sight: Sight) -> None:
        self._desk = desk
        self._sight = sight
        self.answers: Final[Mapping[str, Answer]] = {"state.evaluate": self._evaluate, "state.wait": self._wait}

    async def _evaluate(self, handle: RoomHandle, request: Request, params: t.Evaluate) -> t.Evaluated:
        expression = self._sight.parse(params.expr, "gate")
        _, resolver = await self._sight.of(handle, request.by.actor)
        value, error = _attempt(Program(expression), resolver)
        if error is not None:
            raise came_to_nothing(params.expr, error)
        return t.Evaluated(value=value, room=handle.room)

    async def _wait(self, handle: RoomHandle, request: Request, params: t.WaitUntil) -> t.WaitEnded:
        expression = self._sight.parse(params.condition, "wait")
        program, agent, name = Program(expression), request.by.actor, handle.room
        began = trio.current_time()
        caught_since: list[float] = []
        waited = Waited()

        async def look(wait: Wait) -> t.WaitEnded | None:
            # What is looked at is named after it was looked at: nothing else runs in between.
            handle = await self._desk.rooms.get(name)
            room = await self._sight.room(handle)
            if is_requester(present(room.state.members, agent)):
                raise Refused("not_a_worker")
            require_readable(room, agent, expression)
            presence = self._desk.watching.of(name, params.condition)
            resolver = room.look(agent, self._sight.now(room), presence)
            value, error = _attempt(program, resolver)
            wait.on(topics.life(name), *_topics(room, agent, resolver))
            if value is True or wait.over or waited.caught is not None:
                return self._ended(room, request, params, began, value, error, waited)
            # Nothing is written any more, so nobody is left to wait for.
            require_open(room.state.lifecycle)
            if any(root == "now" for root, _, _ in resolver.looked):
                wait.again_in(CLOCK_S)
            if presence.changes is not None:
                # At least a moment: while the wall clock stands behind, nothing is evaluated again and again.
                wait.again_in(max(presence.changes - self._desk.clock.now(), 1) / 1000)
            blocker = self._first_who_does_not_wait(room)
            if blocker is not None:
                caught_since.clear()
                wait.on(topics.waiting(name, blocker), topics.presence(blocker))
                return None
            # Everybody who is present waits: whoever comes, or waits no more, changes that.
            wait.on(topics.waiting(name), topics.presence())
            if (due := self._next_due(room)) is not None:
                caught_since.clear()
                wait.again_in((due - self._sight.now(room)) / 1000)
                return None
            if not caught_since:
                caught_since.append(trio.current_time())
            left = caught_since[0] + SUSPECT_S - trio.current_time()
            if left <= 0:
                # Told to all of them at once: who is told waits no more, and then nobody would see it any more.
                self._desk.watching.suspect(name)
                return self._ended(room, request, params, began, value, error, waited)
            wait.again_in(left)
            return None

        deadline = began + params.wait_ms / 1000
        if not params.wait_ms:
            return await self._desk.waits.until(request.caller, look, deadline)
        with self._desk.watching.wait(name, agent, Awaited(expression.source, expression.scopes), waited):
            ended = await self._desk.waits.until(request.caller, look, deadline)
        if not params.include:
            return ended
        # Statuses are shown as they are after the wait.
        room = await self._sight.room(await self._desk.rooms.get(name))
        return self._included(room, request, params, ended)

    def _first_who_does_not_wait(self, room: Room) -> AgentId | None:
        """A member who is present and waits for nothing here; none where everybody waits, or one waits alone."""
        name, waiting = room.state.room, []
        for member in room.state.members.values():
            if not member.present or is_requester(member):
                continue
            if self._desk.watching.is_waiting(name, member.agent):
                waiting.append(member.agent)
            elif self._desk.watching.of(name).of(member.agent).status != "offline":
                return member.agent
        return None if len(waiting) != 1 else waiting[0]

    def _next_due(self, room: Room) -> Millis | None:
        """When time next changes what a condition may be worth. Not every moment of the room is one: that a key to it
        expires some day lets no condition become true."""
        now = self._sight.now(room)
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
            resolver = self._sight.resolver(room, request.by.actor)
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
        resolver = self._sight.resolver(room, request.by.actor)
        return shown.included(room, resolver, params.include, ended)


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
            case "actions":
                found.append(topics.actions(name, scope))
            case "messages":
                found += [topics.messages(name), topics.messages(name, agent), topics.claims(name)]
                found += [topics.quiet(name), topics.quiet(name, agent)]
            case _:
                pass
    return found
