"""The board of a room of this home: who is in it, its state, its tasks and its actions, as one reader sees them.

    look -> the board, and its mark -> another than the reader has? -> answer
      ^                                  | no
      `---- something of it changed <----'

Not here: how a board is drawn (`parlerd.cli.board_view`), and each part by itself (`coordination`, `acting`, `tasks`).
Above: `crossing`. Below: `sight`, `entries_shown`, `actions_shown`, `reading`. Invariants: what the reader may not see
changes no board, and so ends no wait; looking changes nothing, marks nothing as read, and counts as no wait for a
condition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
import trio

from parlerd.core import topics
from parlerd.core.claims import Task
from parlerd.core.expressions import Moment
from parlerd.core.model import AgentId, PeerText
from parlerd.core.resolver import MILLI, Resolver
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine import actions_shown
from parlerd.engine import entries_shown as shown
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.reading import render_message
from parlerd.engine.sight import Sight
from parlerd.engine.waits import Wait
from parlerd.operations import types as t

AGAIN_S: Final = 2.0
"""How often a board is looked at although nothing was published: renewed timers and leases, cooldowns that are over,
and agents that become idle are told by nobody."""
GRACE_S: Final = 0.1
"""How much later a look follows a change, so that a burst of writes is one new board."""

T = TypeVar("T")


class Boards:
    """Answers `room.board`."""

    def __init__(self, desk: Desk, sight: Sight) -> None:
        self._desk = desk
        self._sight = sight
        self.answers: Final[Mapping[str, Answer]] = {"room.board": self._look}

    async def _look(self, handle: RoomHandle, request: Request, params: t.LookAtBoard) -> t.Board:
        name, agent = handle.room, request.by.actor

        async def look(wait: Wait) -> t.Board | None:
            wait.on(
                topics.life(name),
                topics.state(name),
                topics.scopes(name),
                topics.actions(name),
                topics.claims(name),
                topics.waiting(name),
                topics.messages(name),
                topics.messages(name, agent),
            )
            room, resolver = await self._sight.of(await self._desk.rooms.get(name), agent)
            wait.on(*(topics.presence(member.agent) for member in room.state.members.values() if member.present))
            wait.again_in(AGAIN_S)
            board = await self._board(room, resolver)
            return board if board.mark != params.after or wait.over else None

        deadline = trio.current_time() + params.wait_ms / 1000
        return await self._desk.waits.until(request.caller, look, deadline, grace_s=GRACE_S)

    async def _board(self, room: Room, resolver: Resolver) -> t.Board:
        left_out: dict[t.BoardPart, int] = {}
        agents = _cut("agents", [_agent(resolver, name) for name in resolver.agents()], t.MAX_BOARD_AGENTS, left_out)
        entries = self._entries(room, resolver, left_out)
        actions = _cut("actions", resolver.actions(), t.MAX_BOARD_ACTIONS, left_out)
        counted = resolver.asker.messages()
        board = t.Board(
            agents=agents,
            entries=entries,
            tasks=await self._tasks(room, resolver.asker.agent, left_out),
            actions=[self._action(room, resolver.asker.agent, id) for id in actions],
            left_out=left_out,
            messages=counted.visible,
            unclaimed=sum(counted.unclaimed.values()),
            closed=room.state.closed,
            now=self._sight.now(room),
            mark="",
            room=room.state.room,
        )
        return msgspec.structs.replace(board, mark=_mark(board))

    def _entries(self, room: Room, resolver: Resolver, left_out: dict[t.BoardPart, int]) -> list[t.StateEntry]:
        table, reader = room.entries.table, resolver.asker.handle
        names = [
            (entry.timer is not None, entry.at, scope, key)
            for scope in table.scopes
            if not table.is_hidden(scope, reader)
            for key, entry in table.scope(scope).items()
        ]
        names.sort(key=lambda name: (not name[0], -name[1], *name[2:]))
        found = []
        for _, _, scope, key in names[: t.MAX_BOARD_ENTRIES]:
            entry = table.entry(scope, key)
            assert entry is not None
            found.append(t.StateEntry(**shown.of_writer(room, resolver, scope, key, entry)))
        found = shown.within(found, t.MAX_BOARD_ENTRIES)
        if len(found) < len(names):
            left_out["entries"] = len(names) - len(found)
        return sorted(found, key=lambda each: (each.scope, each.key))

    def _action(self, room: Room, agent: AgentId, id: str) -> t.BoardAction:
        # What one action costs takes nothing from what the next one may cost.
        resolver, entry = self._sight.resolver(room, agent), room.actions.entry(id)
        assert entry is not None
        whole = actions_shown.shown(room, resolver, id, entry)
        return t.BoardAction(
            id=whole.id,
            scope=whole.scope,
            available=whole.available,
            reason=whole.reason,
            available_at=whole.available_at,
            ticks_left=whole.ticks_left,
            description=whole.description,
            timer=whole.timer,
        )

    async def _tasks(self, room: Room, agent: AgentId, left_out: dict[t.BoardPart, int]) -> list[t.BoardTask]:
        view = room.view(agent)
        seen = [
            task
            for task in room.claims.state.tasks.values()
            if can_see(view, position=task.position, visibility=task.visibility)
        ]
        tasks = _cut("tasks", seen, t.MAX_BOARD_TASKS, left_out)
        return [await self.task(room, agent, task) for task in tasks]

    async def task(self, room: Room, agent: AgentId, task: Task) -> t.BoardTask:
        """A task as a board shows it to a reader who sees it. One that is over is on no board, and nobody holds it."""
        now = self._sight.now(room)
        stored = await self._desk.library.message_at(room, room.view(agent), task.position)
        message = None if stored is None else render_message(room.state, agent, stored, now)
        holder = room.claims.holder(task, now)
        return t.BoardTask(
            id=task.id,
            seq=0 if message is None else message.seq,
            author=room.entries.handle(task.author),
            text=PeerText("" if message is None else message.text[: t.MAX_BOARD_TEXT]),
            status=task.state if holder is not None or task.id in room.claims.state.over else "open",
            holder="" if holder is None else room.entries.handle(holder),
            lease_until=0 if holder is None else room.claims.until(task),
        )


def _agent(resolver: Resolver, handle: str) -> t.BoardAgent:
    seen = resolver.agent(handle)
    assert seen is not None
    last, waiting = seen.find("last_seen"), seen.find("waiting_on")
    return t.BoardAgent(
        name=handle,
        status=str(seen.find("status")),
        role=str(seen.find("role")),
        waiting_on=PeerText(waiting) if isinstance(waiting, str) else None,
        last_seen=last.ns // MILLI if isinstance(last, Moment) else 0,
    )


def _cut(what: t.BoardPart, found: list[T], limit: int, left_out: dict[t.BoardPart, int]) -> list[T]:
    if len(found) > limit:
        left_out[what] = len(found) - limit
    return found[:limit]


def _mark(board: t.Board) -> str:
    """What stands for a board, apart from what changes by itself as time passes."""
    still = [msgspec.structs.replace(each, last_seen=0) for each in board.agents]
    timeless = msgspec.structs.replace(board, agents=still, now=0)
    return hashlib.blake2b(msgspec.json.encode(timeless), digest_size=16).hexdigest()
