"""Queues by their names: found, opened for the first who needs one, and entered by the agents of its person.

A queue is a room of the kind `service`, whose messages are tasks. The first agent that serves a name, or sends to it,
opens the queue, and from then on every agent of the same person comes in without an invitation: as a worker, or as a
requester, who sees what names it and nothing else. It comes in as everybody does, by a key: the queue's own key lets
agents in unasked, is spelled from this home's secret, and is shown to nobody. Where the queue changed hands, the home
of the person who owns it now makes such a key of its own, once one of that person's agents needs it. A queue is the
person's and not one agent's, so its name is none among its owner's names of rooms, and is never changed to a free one.

On a relay a new queue is sealed, unless the person says otherwise.

Not here: claiming (`tasks`), the tasks themselves (`core.claims`). Above: `tasks`, `sending`. Below: the rooms' own
lines. Invariant: one person has one open queue of a name in one home.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import trio

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import REQUESTER, is_requester
from parlerd.core.model import HomeId, KeyId, Label, Millis, RoomId, label
from parlerd.core.statements import KeyTerms, encode
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.key_text import spelled
from parlerd.engine.knocks import WITHHELD, role_on_card
from parlerd.engine.lookup import only, rooms_named
from parlerd.engine.opening import require_clear
from parlerd.engine.plans import Plan, planned
from parlerd.operations import types as t

KEY_MS: Final = 100 * 365 * 24 * 3600 * 1000
"""How long the key of a queue lets in the agents of its person: as long as the queue lives, and nobody is told it."""
KEY_USES: Final = 1_000_000
"""How many agents it lets in."""
MAX_OTHERS: Final = 65_536
"""Rooms of which it is remembered that they are no queue."""


class _Wanted(NamedTuple):
    """A queue as it was named: `home` is empty where no home was named."""

    name: Label
    home: str


class Queues:
    """The handler of `queue.serve`, and how others come to a queue."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._opening = trio.Lock()
        """Held while a queue is looked for and opened, so that two who need one of a name open one."""
        self._others: Bounded[RoomId, bool] = Bounded(MAX_OTHERS)
        """Rooms that are no queue, or none any more."""

    @handles("queue.serve")
    async def serve(self, caller: Caller, params: t.Serve) -> t.Served:
        me = await self._desk.me(caller)
        if params.clear:
            require_clear(self._desk, caller, self._home(_wanted(params.service).home))
        handle, opened = await self.made(caller, me, params.service, clear=params.clear)
        if params.clear and handle.aggregate.state.is_sealed:
            raise Refused("invalid_param", "This queue is sealed, and stays sealed.", param="clear")
        member = handle.aggregate.state.members.get(me.id)
        is_in = member is not None and member.present
        was_worker = not opened and is_in and member is not None and not is_requester(member)
        if not opened and not was_worker:
            if is_in:
                # A requester leaves as that, and comes in anew.
                await handle.submit(c.Leave(operation="queue.serve"), self._desk.by(caller, me))
            await self._enter(caller, me, handle, role="")
        room = await handle.quiet()
        now = Millis(max(self._desk.now_at(room.state.home), room.last_at))
        return t.Served(
            room=handle.room,
            name=room.state.name,
            status="already_serving" if was_worker else "serving",
            opened=opened,
            open=len(room.claims.open_to(me.id, now)),
            sealed=room.state.is_sealed,
        )

    async def find(self, me: AgentRecord, service: str) -> RoomHandle | None:
        """The queue of this name that the agent can see: one that it is in, or one of its person. Raises
        `Refused(ambiguous_name)`."""
        desk = self._desk
        seen = dict.fromkeys([*await desk.library.my_rooms(me.id), *await desk.library.owned(me.principal)])
        queues: list[RoomId] = []
        for room in seen:
            if desk.rooms.reaches(room) and await self._is_queue(room):
                queues.append(room)
        wanted = _wanted(service)
        named = await rooms_named(desk, service if wanted.home else wanted.name, queues)
        return await desk.rooms.get(await only(desk, named, service)) if named else None

    async def _is_queue(self, room: RoomId) -> bool:
        """Whether a room is a queue that is open. What a room is never changes, so all others are opened once."""
        if self._others.get(room):
            return False
        try:
            state = (await self._desk.rooms.seen(room)).state
        except Refused:
            return False  # it was deleted meanwhile
        if state.kind != "service" or state.closed:
            self._others[room] = True
        return room not in self._others

    async def of(self, me: AgentRecord, service: str) -> RoomHandle:
        """The same. Raises `Refused(no_such_room)` where there is none."""
        found = await self.find(me, service)
        if found is None:
            said = f"You can see no queue of the name {_wanted(service).name}."
            raise Refused("no_such_room", said, hint=f"To open it as its first worker: parler serve {service[:64]}")
        return found

    async def to_ask(self, caller: Caller, me: AgentRecord, service: str) -> tuple[RoomHandle, bool]:
        """The queue of this name, which the agent may ask for work now: it is a member, if need be as a requester. And
        whether the queue was opened for that, so that nobody else works for it yet."""
        handle, opened = await self.made(caller, me, service)
        member = handle.aggregate.state.members.get(me.id)
        if member is None or not member.present:
            await self._enter(caller, me, handle, role=REQUESTER)
        return handle, opened

    async def made(
        self, caller: Caller, me: AgentRecord, service: str, *, clear: bool = False
    ) -> tuple[RoomHandle, bool]:
        """The queue of this name, and whether it was opened now for this agent's person."""
        async with self._opening:
            found = await self.find(me, service)
            if found is not None:
                return found, False
            return await self._open(caller, me, _wanted(service), clear=clear), True

    async def _open(self, caller: Caller, me: AgentRecord, wanted: _Wanted, *, clear: bool) -> RoomHandle:
        desk = self._desk
        if caller.facts.authority.rooms is not None:
            raise Refused("person_only", hint="Ask the person to open it: parler serve NAME")
        home = self._home(wanted.home)
        is_sealed = home != desk.keys.id and not clear
        room, opening, title = await self._unused(me, wanted.name, home, is_sealed=is_sealed)
        ref = desk.random.new("k")
        if home != desk.keys.id:
            await desk.homes.meet(home)
        terms = self._terms(home, room, ref)
        body = encode(opening)
        command = c.OpenRoom(
            operation="queue.serve",
            # The same queue again is the same request.
            idempotency_key=f"queue.{hashlib.sha256(body).hexdigest()[:32]}",
            input=hashlib.sha256(body).digest(),
            room=room,
            opening=opening,
            title=title,
            mint=self._key_id(room, is_sealed=is_sealed),
            terms=terms,
        )
        handle = await desk.rooms.create(room, home)
        await handle.submit(command, desk.by(caller, me))
        return handle

    async def _unused(self, me: AgentRecord, name: Label, home: HomeId, *, is_sealed: bool) -> Plan:
        """The opening of the queue that this agent opens next under a name: nothing in it is drawn, so that a daemon
        that died meanwhile goes on with the same one. A queue that is over is followed by another."""
        desk, number = self._desk, 0
        while True:
            plan = planned(
                desk,
                me,
                f"queue {name} {number}",
                kind="service",
                home=home,
                name=name,
                # Not the host of this call: a repeat may come through another door, and is the same queue. The relay of
                # a sealed one is told none.
                host="" if is_sealed else me.host,
                approval=False,
                sealed=is_sealed,
            )
            try:
                is_over = (await desk.rooms.get(plan.room)).aggregate.state.closed
            except Refused as error:
                if error.code not in ("no_such_room", "room_deleted"):
                    raise
                is_over = error.code == "room_deleted"
            if not is_over:
                return plan
            number += 1

    def _home(self, wanted: str) -> HomeId:
        """Where a queue is opened: where a session would be. Raises `Refused(home_not_trusted)`."""
        desk = self._desk
        if wanted == LOCAL:
            return desk.keys.id
        return desk.homes.named(wanted) if wanted else desk.homes.default or desk.keys.id

    async def _enter(self, caller: Caller, me: AgentRecord, handle: RoomHandle, *, role: str) -> None:
        """Let an agent of the queue's person in. A queue of another person has no key that this home knows."""
        desk, state = self._desk, handle.aggregate.state
        if state.owner_principal != me.principal:
            raise Refused("no_such_room")
        knock = c.Knock(
            operation="queue.serve",
            key_id=await self._key_of(caller, me, handle),
            name=me.name,
            host="" if state.is_sealed else caller.facts.host,
            wall=desk.now_at(state.home),
            role=role or role_on_card(desk, me, handle),
        )
        answer = (await handle.submit(knock, desk.by(caller, me))).decision.answer
        if answer not in ("joined", "member"):
            # It was put out once, so the person decides whether it comes in again.
            raise Refused(
                "join_denied" if answer == "denied" else "join_pending",
                hint=WITHHELD,
                tool_hint=WITHHELD,
                door=handle.room,
            )

    def _key_id(self, room: RoomId, *, is_sealed: bool) -> KeyId:
        """The id of the queue's own key, as this home spells it."""
        return self._desk.keys.key_id(spelled(self._desk, room, "", gated=False, is_sealed=is_sealed).key)

    def _terms(self, home: HomeId, room: RoomId, ref: str) -> KeyTerms:
        """What a queue's own key is good for."""
        return KeyTerms(
            home=home,
            room=room,
            ref=ref,
            gated=False,
            expires_at=Millis(self._desk.now_at(home) + KEY_MS),
            max_uses=KEY_USES,
            preapproved=(),
            nonce=b"",
        )

    async def _key_of(self, caller: Caller, me: AgentRecord, handle: RoomHandle) -> KeyId:
        """The own key of a queue that this agent's person owns. It is made where the queue was another person's
        before, whose home alone spells the first one."""
        state = handle.aggregate.state
        key_id = self._key_id(handle.room, is_sealed=state.is_sealed)
        if key_id in state.keys:
            return key_id
        # Nothing of its name is drawn: who needs the key at the same time, or after an answer was lost, makes the same.
        ref = f"k_{hashlib.sha256(key_id.encode()).hexdigest()[:20]}"
        command = c.MintKey(
            operation="queue.serve",
            mint=key_id,
            terms=self._terms(state.home, handle.room, ref),
            principal=me.principal,
        )
        await handle.submit(command, self._desk.by(caller, me))
        return key_id


def _wanted(service: str) -> _Wanted:
    name, at, home = service.rpartition("@")
    return _Wanted(label(name), home) if at else _Wanted(label(service), "")
