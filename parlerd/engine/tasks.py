"""Claiming a task, holding it, giving it back, and saying how it is.

Not here: who may claim what, and what follows for a task (`core.claims`), queues by their names (`queues`), leases that
end (`tending`). Above: the engine's face. Below: `sending`, a room's line. Invariants: nobody is told that it holds a
task before the claim is stored; what a worker says of a task is a message like any other, also where it came too late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.claims import ENDS, Task
from parlerd.core.envelope import Part, TextPart, blob_of
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import is_requester
from parlerd.core.model import DEFAULT_LEASE_MS, AgentId, MessageId, Millis, Position, RoomId
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.core.words import KIND_OF, LATE, Said, check_text
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.files import Files
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import is_active, member_room, room_of
from parlerd.engine.queues import Queues
from parlerd.engine.reading import Reading, number_of
from parlerd.engine.sending import Posting, Sending
from parlerd.engine.tending import Tending
from parlerd.engine.waits import Wait
from parlerd.operations import types as t

TOLD_S: Final = 5.0
"""How long an answer waits until a room elsewhere says what it did. The answer of its home is enough after that."""
MAX_NAMED: Final = 5
"""Tasks that a refusal names."""


class Tasks:
    """The handlers of `task.claim`, `task.renew`, `task.release`, `task.complete` and `task.say`."""

    def __init__(
        self, desk: Desk, queues: Queues, sending: Sending, reading: Reading, tending: Tending, files: Files
    ) -> None:
        self._desk = desk
        self._files = files
        self._queues = queues
        self._sending = sending
        self._reading = reading
        self._tending = tending

    # -- claiming ------------------------------------------------------------------------------------------

    @handles("task.claim")
    async def claim(self, caller: Caller, params: t.ClaimTask) -> t.TaskHeld:
        me = await self._desk.me(caller)
        name = (await self._place(me, params.id, params.service, params.room)).room
        deadline = trio.current_time() + params.wait_ms / 1000
        # A wait that is longer or shorter is the same request.
        digest = input_digest(msgspec.structs.replace(params, wait_ms=0))

        async def look(wait: Wait) -> t.TaskHeld | None:
            wait.on(topics.claims(name), topics.life(name))
            handle, room = await self._looked(me, name)
            wanted = None if params.id is None else await self._reading.message_id(room, me.id, params.id)
            now = self._reading.now_in(room.state)
            if wanted is None and not wait.over and not room.claims.open_to(me.id, now) and not room.state.closed:
                member = room.state.members[me.id]
                if is_requester(member):
                    raise Refused("not_a_worker")
                return None
            command = c.ClaimTask(
                operation="task.claim",
                idempotency_key=params.idempotency_key,
                input=digest,
                task=wanted,
                lease_ms=Millis(params.lease_ms or DEFAULT_LEASE_MS),
                presence=self._desk.watching.of(handle.room),
            )
            settled = await handle.submit(command, self._desk.by(caller, me))
            decision = settled.decision
            if decision.answer == "none":
                # Another worker was faster.
                return (
                    t.TaskHeld(
                        id=None,
                        lease_until=None,
                        fence=None,
                        message=None,
                        status="none",
                        room=name,
                        name=room.state.name,
                    )
                    if wait.over
                    else None
                )
            fact = settled.facts[0] if settled.facts else None
            if decision.replay is not None and fact is None:
                [fact] = await self._desk.library.few_facts(name, Position(decision.replay - 1), 1)
            room = await handle.quiet()
            task = self._claimed(room, fact, wanted)
            held = room.claims.holder(task, self._reading.now_in(room.state)) == me.id
            if not held or (fact is not None and task.fence != _fence(fact)):
                # The request was made before, and what it led to is over.
                raise room.claims.lost(task, self._reading.now_in(room.state))
            again = decision.answer == "already_yours"
            return await self._held(room, me, task, status="already_yours" if again else None, shown=True)

        found = await self._desk.waits.until(caller, look, deadline)
        return msgspec.structs.replace(found, idempotency_key=params.idempotency_key or "")

    def _claimed(self, room: Room, fact: e.Header | None, wanted: MessageId | None) -> Task:
        """The task that a claim is about."""
        id = wanted
        if fact is not None:
            if not isinstance(fact.event, e.TaskClaimed):
                raise Refused("idempotency_expired")
            id = fact.event.task
        task = None if id is None else room.claims.get(id)
        if task is None:
            raise Refused("no_such_task", id=id or "")
        return task

    # -- holding -------------------------------------------------------------------------------------------

    @handles("task.renew")
    async def renew(self, caller: Caller, params: t.RenewTask) -> t.TaskHeld:
        me = await self._desk.me(caller)
        name = (await self._place(me, params.id, params.service, params.room)).room
        deadline = trio.current_time() + params.wait_ms / 1000

        async def look(wait: Wait) -> t.TaskHeld | None:
            handle, room = await self._looked(me, name)
            id = await self._reading.message_id(room, me.id, params.id)
            wait.on(topics.claims(name, id), topics.life(name))
            task = room.claims.get(id)
            if params.wait_ms and task is not None and task.id in room.state.claims.over and task.worker == me.id:
                # What was waited for: the worker itself ended it.
                return await self._held(room, me, task)
            task = room.claims.required(id, me.id, self._reading.now_in(room.state))
            if not wait.over:
                return None
            await self._renew(caller, me, handle, task, Millis(params.lease_ms or task.lease_ms))
            return await self._held(room, me, task)

        return await self._desk.waits.until(caller, look, deadline)

    @handles("task.release")
    async def release(self, caller: Caller, params: t.ReleaseTask) -> t.TaskHeld:
        me = await self._desk.me(caller)
        handle = await self._place(me, params.id, params.service, params.room)
        handle, room = await self._looked(me, handle.room)
        id = await self._reading.message_id(room, me.id, params.id)
        command = c.ReleaseTask(
            operation="task.release",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            task=id,
        )
        await handle.submit(command, self._desk.by(caller, me))
        await self._told(
            caller,
            handle,
            id,
            lambda found: found is None or found.worker != me.id or found.id in handle.aggregate.state.claims.over,
        )
        room = await handle.quiet()
        task = room.claims.get(id)
        if task is None:
            raise Refused("no_such_task", id=id)
        held = await self._held(room, me, task)
        return msgspec.structs.replace(held, idempotency_key=params.idempotency_key or "")

    async def _renew(self, caller: Caller, me: AgentRecord, handle: RoomHandle, task: Task, lease_ms: Millis) -> None:
        """Let the agent hold its task longer, wherever the room lives."""
        command = c.RenewTask(operation="task.renew", task=task.id, lease_ms=lease_ms)
        await handle.submit(command, self._desk.by(caller, me))
        if self._desk.rooms.is_here(handle.aggregate):
            await self._tending.renew(handle, task, lease_ms)

    async def _told(
        self, caller: Caller, handle: RoomHandle, id: MessageId, holds: Callable[[Task | None], bool]
    ) -> None:
        """Wait a moment until this home's log of the room says what its home did with a task."""

        async def look(wait: Wait) -> bool | None:
            wait.on(topics.claims(handle.room, id))
            return True if holds(handle.aggregate.claims.get(id)) or wait.over else None

        await self._desk.waits.until(caller, look, trio.current_time() + TOLD_S)

    # -- saying --------------------------------------------------------------------------------------------

    @handles("task.complete")
    async def complete(self, caller: Caller, params: t.CompleteTask) -> t.TaskHeld:
        me = await self._desk.me(caller)
        handle = await self._place(me, params.id, params.service, params.room)
        fence, said = Position(params.fence), params.text
        return await self._say(caller, me, handle, params, params.id, "done", said, fence, "task.complete")

    @handles("task.say")
    async def say(self, caller: Caller, params: t.SayOfTask) -> t.TaskHeld:
        me = await self._desk.me(caller)
        if params.id is None:
            handle, held = await self._only(me, params.service, params.room)
            meant = str(held)
        else:
            handle, meant = await self._place(me, params.id, params.service, params.room), params.id
        return await self._say(caller, me, handle, params, meant, params.status, params.text, Position(0), "task.say")

    async def _say(
        self,
        caller: Caller,
        me: AgentRecord,
        handle: RoomHandle,
        params: t.CompleteTask | t.SayOfTask,
        meant: str,
        said: Said,
        words: str,
        fence: Position,
        operation: str,
    ) -> t.TaskHeld:
        words = words or said
        size = check_text(words, "text")
        handle, room = await self._looked(me, handle.room)
        id = await self._reading.message_id(room, me.id, meant)
        task = room.claims.get(id)
        asked: tuple[str, ...] = () if task is None else self._asked(room, me, task)
        parts: tuple[Part, ...] = (TextPart(words),)
        if params.blob is not None:
            parts = (*parts, await self._files.again(me, handle, params.blob))
        command = c.PostMessage(
            operation=operation,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=KIND_OF[said],
            to=asked if said in ENDS else (),
            reply_to=id,
            said=True,
            fence=fence,
            blob=blob_of(parts),
        )
        posting = await self._sending.post(caller, me, handle, command, parts, size)
        sent = await posting.result()
        was_late = _was_late(posting)
        if was_late and not posting.replayed:
            await self._told(caller, handle, id, lambda found: found is None or not self._has(handle, me, found, fence))
        room = handle.aggregate
        now = self._reading.now_in(room.state)
        task = room.claims.get(id)
        if task is None:
            raise Refused("no_such_task", id=id)
        if was_late:
            lost = room.claims.lost(task, now)
            lost.details["result"] = sent.id
            raise lost
        if said not in ENDS:
            await self._renew(caller, me, handle, task, task.lease_ms)
        else:
            await self._told(
                caller, handle, id, lambda found: found is None or found.id in handle.aggregate.state.claims.over
            )
        held = await self._held(await handle.quiet(), me, task if said not in ENDS else room.claims.get(id) or task)
        return msgspec.structs.replace(held, result=sent.id, idempotency_key=sent.idempotency_key, warning=sent.warning)

    def _has(self, handle: RoomHandle, me: AgentRecord, task: Task, fence: Position) -> bool:
        """Whether the log of the room says here that an agent holds a task, by the claim `fence` where one is named."""
        room = handle.aggregate
        is_held = room.claims.holder(task, self._reading.now_in(room.state)) == me.id
        return is_held and fence in (0, task.fence)

    def _asked(self, room: Room, me: AgentRecord, task: Task) -> tuple[str, ...]:
        """Whoever asked for a task, if it is another and is still here: its result is for them."""
        author = room.state.members.get(task.author)
        is_here = author is not None and author.present and task.author != me.id
        return (task.author,) if is_here else ()

    # -- finding -------------------------------------------------------------------------------------------

    async def _place(self, me: AgentRecord, id: str | None, service: str | None, room: str | None) -> RoomHandle:
        """The room that is meant: a queue by its name, a room, the room of a message that is named by its id, or the
        active session."""
        if service is not None and room is not None:
            raise Refused("invalid_param", "A task is in one room: name a queue or a room.", param="service")
        if service is not None:
            handle = await self._queues.of(me, service)
            member = handle.aggregate.state.members.get(me.id)
            if member is None or not member.present:
                raise Refused("not_a_worker")
            return handle
        if room is None and id is not None and number_of(id) is None:
            traced = await self._desk.library.trace(MessageId(id))
            if traced is not None and traced.room in await self._desk.library.my_rooms(me.id):
                return await self._desk.rooms.get(traced.room)
            if traced is None and not await is_active(self._desk, me):
                raise Refused("no_such_task", id=id)
        return (await room_of(self._desk, me, room))[0]

    async def _only(self, me: AgentRecord, service: str | None, room: str | None) -> tuple[RoomHandle, MessageId]:
        """The one task that an agent holds: in the room that is named, or in all of its rooms."""
        desk = self._desk
        named = service is not None or room is not None
        places = [(await self._place(me, None, service, room)).room] if named else await desk.library.my_rooms(me.id)
        found: list[tuple[RoomHandle, Task]] = []
        for place in places:
            handle, aggregate = await member_room(desk, me, place)
            found += [(handle, task) for task in aggregate.claims.held_by(me.id, self._reading.now_in(aggregate.state))]
        if len(found) == 1:
            handle, task = found[0]
            return handle, task.id
        if not found:
            raise Refused("no_such_task", "You hold no task.")
        ids = [task.id for _, task in found]
        said = f"You hold {len(found)} tasks: name one of them."
        hint = "Use one of the ids that are listed."
        raise Refused("invalid_param", said, hint=hint, param="id", candidates=ids[:MAX_NAMED])

    async def _looked(self, me: AgentRecord, name: RoomId) -> tuple[RoomHandle, Room]:
        """The room as it is now, after what time ended of its tasks was seen to."""
        handle = await self._desk.rooms.get(name)
        await handle.catch_up()
        await self._tending.look(handle)
        return await member_room(self._desk, me, name)

    # -- answering -----------------------------------------------------------------------------------------

    async def _held(
        self,
        room: Room,
        me: AgentRecord,
        task: Task,
        *,
        status: str | None = None,
        shown: bool = False,
    ) -> t.TaskHeld:
        """A task as this worker has it, with its message where it is `shown`."""
        state = room.state
        is_held = room.claims.holder(task, self._reading.now_in(state)) == me.id
        current = room.claims.get(task.id) or task
        return msgspec.convert(
            {
                "id": task.id,
                "lease_until": room.claims.until(task) if is_held else None,
                "fence": task.fence if is_held else None,
                "message": await self._message(room, me.id, task) if shown else None,
                "status": status or current.state,
                "room": state.room,
                "name": state.name,
            },
            t.TaskHeld,
        )

    async def _message(self, room: Room, reader: AgentId, task: Task) -> t.Message | None:
        """The task's message, as this reader is shown it; that counts as read."""
        view, library, before = room.view(reader), self._desk.library, Position(task.position - 1)
        if not can_see(view, position=task.position, visibility=task.visibility):
            return None
        stored = await library.message_at(room, view, task.position)
        await self._reading.mark(room.state.room, reader, [(before, task.position)], needed=False)
        shown = await self._reading.render(room.state, view, [] if stored is None else [stored])
        return shown[0] if shown else None


def _fence(fact: e.Header) -> Position:
    """The number of a claim."""
    assert isinstance(fact.event, e.TaskClaimed)
    return fact.event.fence or fact.position


def _was_late(posting: Posting[t.Sent]) -> bool:
    """Whether what was said of a task came too late, now or when the same request was made before."""
    settled = posting.submission.settled
    if settled is None:
        return False
    if settled.decision.answer == "claim_lost":
        return True
    header = posting.posted[0] if posting.posted else settled.facts[0] if settled.facts else None
    event = None if header is None else header.event
    return isinstance(event, e.MessagePosted) and event.kind == LATE
