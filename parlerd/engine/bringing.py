"""`parler bring`: the person starts an agent host's program, and the agent that this start leads to is let into one
room. The handlers of `session.bring`, `session.brought` and `window.arrive`.

    session.bring    the person's command, before it starts the program: which room, and that nothing is in the way
    window.arrive    a window at its first call: does it descend from such a start? Then it knocks, and is let in
    session.brought  the same command, after the program ended: who came

The agent knocks and is decided on as every other one: the request, the person's decision and its proof (`cli`) are in
the room's log. Not here: which window belongs to which start (`starts`), and starting the program (the command line).
Above: the engine. Below: `joining`, `approving`, `opening`. Invariant: nobody is let in but by the person's own start,
which a command that an agent host started cannot make.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core.approvals import KeyState, standing_request
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.lifecycle import require_open, require_sound
from parlerd.core.model import KeyId, RoomId
from parlerd.core.room import Room
from parlerd.engine.approving import Approving, require_proof
from parlerd.engine.callers import Caller, ProcessId
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inviting import Inviting
from parlerd.engine.joining import Joining
from parlerd.engine.key_text import Spelled, spelled_of
from parlerd.engine.lookup import active_room, is_active
from parlerd.engine.observers import observed_room
from parlerd.engine.opening import Opening
from parlerd.engine.person import is_person, require_person
from parlerd.engine.reading import handle_of
from parlerd.engine.starts import START_S, Start
from parlerd.identity.codes import TypedKey
from parlerd.operations import types as t

KEY_MS: Final = int(START_S * 1000) + 60_000
"""How long a key lives that is made for one start: a little longer than the start."""


class Bringing:
    """The handlers about programs that the person starts."""

    def __init__(
        self, desk: Desk, opening: Opening, inviting: Inviting, joining: Joining, approving: Approving
    ) -> None:
        self._desk = desk
        self._inviting = inviting
        self._opening = opening
        self._joining = joining
        self._approving = approving

    @handles("session.bring")
    async def bring(self, caller: Caller, params: t.BringAgent) -> t.Bringing:
        desk = self._desk
        require_person(desk, caller)
        require_proof(desk, caller.facts.authority.at_most("cli"), admit=True)
        process = self._process(caller)
        me = await desk.me(caller)
        wanted = params.room
        if params.context is not None:
            if wanted is not None:
                raise Refused("invalid_param", "A new session has no name yet: give room or context.", param="room")
            if params.check:
                return t.Bringing(room=None, name=None)
            wanted = (await self._opening.open_session(caller, t.OpenSession(context=params.context))).room
        room, key = await self._way_in(caller, me, wanted, check=params.check)
        state = room.state
        if not params.check:
            assert key is not None, "a key was made where there was none"
            desk.starts.add(process, host=params.host, room=state.room, key=key, by=desk.by(caller, me))
        return t.Bringing(room=state.room, name=state.name)

    @handles("session.brought")
    async def brought(self, caller: Caller, params: t.AskBrought) -> t.Brought:
        require_person(self._desk, caller)
        start = self._desk.starts.of(self._process(caller))
        if start is None:
            return t.Brought(status="unknown")
        if start.agent is None:
            return t.Brought(status="refused" if start.code else "absent", code=start.code)
        room = await (await self._desk.rooms.get(start.room)).quiet()
        return t.Brought(status="joined", agent=start.agent, name=handle_of(room.state, start.agent))

    @handles("window.arrive")
    async def arrive(self, caller: Caller, params: t.Arrive) -> t.Noted:
        desk = self._desk
        start = desk.starts.take(desk.lineage(caller.facts.peer), caller.facts.host) if desk.starts else None
        if start is None:
            return t.Noted()
        start.code = ""
        try:
            await self._let_in(caller, start)
        except ParlerError as error:
            start.code = error.code
            start.taken = not error.spec.retryable
            raise
        except BaseException:
            # The call was withdrawn; the next one goes on.
            start.taken = False
            raise
        return t.Noted()

    async def _let_in(self, caller: Caller, start: Start) -> None:
        """Knock, and let the person's decision follow. A decision that somebody made meanwhile is heard by the next
        knock."""
        desk = self._desk
        actor = await desk.rooms.get(start.room)
        require_open((await actor.quiet()).state.lifecycle)
        me = await desk.me(caller)
        while await self._knock(caller, me, actor, start) not in ("member", "joined"):
            request = standing_request((await actor.quiet()).state.requests, me.id)
            assert request is not None, "whoever waits or was declined has a request"
            try:
                await self._approving.decide(start.by, actor, request, admit=True, proof="cli")
            except Refused as error:
                if error.code != "already_decided":
                    raise
        await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), desk.by(caller, me))
        start.agent = me.id

    async def _knock(self, caller: Caller, me: AgentRecord, actor: RoomHandle, start: Start) -> str:
        try:
            return await self._joining.knock(caller, me, actor, start.key)
        except Refused as error:
            if error.code != "unknown_key":
                raise
            # Nobody typed this key: it died since the start.
            raise Refused("no_live_key") from error

    def _process(self, caller: Caller) -> ProcessId:
        """The very process of a command. Raises `Refused(needs_person)` where the kernel does not show it."""
        lineage = self._desk.lineage(caller.facts.peer)
        if not lineage:
            raise Refused("needs_person", "The process of this command cannot be seen from here.")
        return lineage[0]

    async def _way_in(
        self, caller: Caller, me: AgentRecord, wanted: str | None, *, check: bool
    ) -> tuple[Room, KeyId | None]:
        """The room that is meant, and a key of it with which an agent can knock now; a `check` makes none where there
        is none. Raises `Refused`."""
        desk = self._desk
        actor, room, _ = await observed_room(desk, caller, me, wanted or await self._at_work_here(caller, me))
        state = room.state
        if state.owner != me.id and not (is_person(caller) and state.owner_principal == me.principal):
            raise Refused(
                "not_owner",
                hint="Ask the owner for a key, start the agent yourself, and give it the key to join with.",
            )
        require_open(state.lifecycle)
        require_sound(state.lifecycle)
        if state.kind not in ("session", "channel"):
            raise Refused("invalid_param", "Nobody is brought into this room.", param="room")
        found = self._live_key(actor, room)
        if found is None and not check:
            # One that is used by this start alone. Nobody is told it.
            params = t.Invite(room=actor.room, approval=True, ttl_ms=KEY_MS, max_uses=1)
            await self._inviting.invite(caller, params)
            found = self._live_key(actor, room := await actor.quiet())
        if not desk.rooms.is_here(room):
            # The agent knocks at the room's home, which has to answer and to know the key.
            await desk.homes.meet(state.home)
            if found is not None:
                key, secret = found[1]
                binding = "" if secret else await desk.bindings.of(actor.room, key)
                await desk.homes.find(state.home, TypedKey(key, binding, None, secret))
        return room, None if found is None else found[0].id

    async def _at_work_here(self, caller: Caller, me: AgentRecord) -> RoomId | None:
        """The active session of the person's agents in this folder, where the person has none of their own: the one
        into which whoever starts an agent beside them means to bring it. None where there are several."""
        desk = self._desk
        workspace, state = caller.facts.workspace, desk.rooms.home.aggregate.state
        if not is_person(caller) or not workspace or await is_active(desk, me):
            return None
        beside = [
            each for each in state.agents.values() if each.workspace == workspace and each.principal == me.principal
        ]
        found = {room for each in beside if (room := await active_room(desk, each.id)) is not None}
        return found.pop() if len(found) == 1 else None

    def _live_key(self, actor: RoomHandle, room: Room) -> tuple[KeyState, Spelled] | None:
        """A key of the room with which an agent can knock now, spelled too; None without one."""
        now = self._desk.now_at(room.state.home)
        # Where a gated key lives, the person's decision is recorded for it.
        live = sorted((key for key in room.state.keys.values() if key.state(now) == "live"), key=_rank)
        made = ((key, spelled_of(self._desk, room.state, key)) for key in live)
        return next(((key, each) for key, each in made if each is not None), None)


def _rank(key: KeyState) -> tuple[bool, int]:
    return not key.gated, -key.expires_at
