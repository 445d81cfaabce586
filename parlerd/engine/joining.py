"""Joining a session: knocking with a key, waiting at the door or no longer, and coming up in the room with its context.

Not here: which room a key leads to (`session_keys`), what a person decides (`approving`). Above: the engine. Below: the
room's own line, where a knock is decided. Invariant: nobody is shown anything of a room before it is in.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core import topics
from parlerd.core.approvals import Request, standing_request
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, KeyId, Position, RequestId, RoomId, role_name
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.key_text import BEGINS, typed_key_of
from parlerd.engine.knocks import (
    KEY_NOT_LET_IN,
    WITHHELD,
    denied_hint,
    end_of,
    knock_at,
    over_hint,
    role_on_card,
    shows_code,
    unanswered_hint,
    would_knock,
)
from parlerd.engine.look_back import told_recap
from parlerd.engine.lookup import is_active
from parlerd.engine.pair_rooms import PairRooms, is_in
from parlerd.engine.reading import Reading, alarm_of, handle_of, key_change_of
from parlerd.engine.recalling import keys_of
from parlerd.engine.session_keys import SessionKeys
from parlerd.engine.waits import Wait
from parlerd.identity import codes
from parlerd.operations import types as t

EXCHANGE: Final = "exchange"
"""What is wrong with a key of a sealed room that the owner's machine does not let in."""
NOTHING_WAITS: Final = "No such request of yours to come in waits."
WAITING_ARE: Final = "Run `parler rooms` as the agent that knocked, with --as NAME, to see what waits."
WAITING_ARE_HERE: Final = "parler_rooms lists what waits."
SEATED_S: Final = 2.0
"""How long a join waits until the newcomer to a sealed room can read it: the owner's machine takes half a second to
gather who comes at the same time, and the record crosses a relay twice."""


class Joining:
    """The handlers of `session.join` and `session.withdraw`."""

    def __init__(self, desk: Desk, reading: Reading, keys: SessionKeys) -> None:
        self._desk = desk
        self._reading = reading
        self._keys = keys
        self._pairs = PairRooms(desk)

    @handles("session.join")
    async def join(self, caller: Caller, params: t.JoinSession) -> t.JoinedSession:
        desk = self._desk
        role = role_name(params.role) if params.role else ""
        known = desk.seats.existing(caller)
        # A join that asks for no page comes from the environment of a window (see `_land`).
        key_id, room_id = await self._keys.find(caller, known, params.session_key, is_typed=params.limit > 0)
        if known is None:
            await self._would_knock(caller, key_id, room_id)
        me = await desk.me(caller)
        deadline = trio.current_time() + params.wait_ms / 1000
        met = await self._met_before(me, room_id)
        if met is not None:
            return await self._land(caller, me, met, params)
        was_out = False
        asked: RequestId | None = None
        """The request that this call waits for. One that is over is not made again by itself: with a wrong key that
        would be another try, and two who make place for each other would go on for ever."""

        async def look(wait: Wait) -> t.JoinedSession | None:
            nonlocal was_out, asked
            wait.on(topics.decision(room_id, me.id), topics.life(room_id))
            while True:
                # Asked for at every look, because the wait before a look may be long and a room that nobody uses is
                # closed meanwhile.
                actor = await desk.rooms.get(room_id)
                if asked is not None:
                    _require_under_way(actor, me.id, asked)
                answer = await self.knock(caller, me, actor, key_id, role)
                if answer in ("member", "joined"):
                    try:
                        return await self._land(caller, me, actor, params)
                    except Refused as refused:
                        # It left or was put out before it was shown anything, so it knocks as whoever did or was.
                        if refused.code != "no_such_room" or was_out:
                            raise
                        was_out = True
                        continue
                if answer == "denied":
                    state = (await actor.quiet()).state
                    return self._waiting(room_id, "denied", None, denied_hint(state, me, key_id))
                await actor.quiet()
                waits = await knock_at(desk, me, room_id)
                if waits is None:
                    continue  # the request was decided a moment ago: knock again for the answer
                request = standing_request(actor.aggregate.state.requests, me.id)
                asked = None if request is None else request.id
                if asked is not None and _end(actor, me.id, asked):
                    continue
                if not wait.over:
                    return None
                if request is not None and actor.standing(request) == "unanswered":
                    return self._waiting(room_id, "pending", None, unanswered_hint(actor, me.id))
                if not shows_code(desk, caller):
                    return self._waiting(room_id, "pending", None, f"A person has to approve this. {WITHHELD}")
                hint = f"A person has to approve this. Tell them this code: {waits.join_code}"
                return self._waiting(room_id, "pending", waits.join_code, hint)

        return await desk.waits.until(caller, look, deadline)

    @handles("session.withdraw")
    async def withdraw(self, caller: Caller, params: t.WithdrawKnock) -> t.WithdrawnKnock:
        desk = self._desk
        me = desk.seats.existing(caller)
        found = [] if me is None else await self._waiting_with(me, params.session_key)
        if me is None or not found:
            raise Refused("no_such_request", NOTHING_WAITS, hint=WAITING_ARE, tool_hint=WAITING_ARE_HERE)
        if len(found) > 1:
            waits = [await knock_at(desk, me, actor.room) for actor, _ in found]
            raise Refused(
                "ambiguous_name",
                "More than one of your requests waits.",
                hint="Name the key with which you knocked.",
                candidates=[{"room": each.room, "begins": each.begins} for each in waits if each is not None],
            )
        [(actor, request)] = found
        await actor.submit(c.WithdrawKnock(operation="session.withdraw", request=request.id), desk.by(caller, me))
        await desk.codes.forget(request.id)
        state = (await actor.quiet()).state
        begins = (typed_key_of(desk, state, state.keys[request.key_id]) or "")[:BEGINS]
        return t.WithdrawnKnock(room=actor.room, begins=begins)

    async def _waiting_with(self, me: AgentRecord, typed: str) -> list[tuple[RoomHandle, Request]]:
        """The requests of an agent that wait, each at its room: those that it made with this key, where one is named.
        Raises `Refused(home_not_trusted)` of a home that is not known here."""
        desk = self._desk
        key = home = None
        if typed:
            try:
                read = codes.read_key(typed)
            except Refused:
                return []
            key = desk.keys.key_id(read.key)
            home = desk.keys.id if read.home is None else desk.homes.named(read.home)
        found: list[tuple[RoomHandle, Request]] = []
        for room in await desk.library.doors(me.id):
            actor = await desk.rooms.get(room)
            state = (await actor.quiet()).state
            request = standing_request(state.requests, me.id)
            if request is None or request.state != "pending" or not request.key_id:
                continue
            if key is None or (request.key_id, state.home) == (key, home):
                found.append((actor, request))
        return found

    async def _met_before(self, me: AgentRecord, room: RoomId) -> RoomHandle | None:
        """The room in which the agent and whoever gave it this code talk already, where the code is for a direct room:
        two agents have one. The code stays good for somebody else."""
        state = (await self._desk.rooms.get(room)).aggregate.state
        if state.kind != "dm" or me.id in state.members:
            return None
        found = await self._pairs.live_room(me.id, state.owner)
        return found if found is not None and is_in(found.aggregate, me.id) else None

    async def knock(self, caller: Caller, me: AgentRecord, actor: RoomHandle, key_id: KeyId, role: str = "") -> str:
        """What the room says to this agent's knock: a repeated one is answered as the standing one. An agent that says
        no `role`, and was never in the room, has that of its card."""
        # Whether the key is good still is a question of the clock by which its owner's home counts.
        wall = self._desk.now_at(actor.aggregate.state.home)
        role = role or role_on_card(self._desk, me, actor)
        knock = c.Knock(
            operation="session.join", key_id=key_id, name=me.name, host=caller.facts.host, wall=wall, role=role
        )
        try:
            settled = await actor.submit(knock, self._desk.by(caller, me))
        except ParlerError as error:
            if error.code == "unknown_key" and error.details.get("what") != EXCHANGE:
                raise self._keys.unknown(caller) from error
            raise
        return settled.decision.answer

    def _waiting(self, room: RoomId, status: str, join_code: str | None, hint: str) -> t.JoinedSession:
        return t.JoinedSession(room=room, status=status, messages=[], truncated=False, join_code=join_code, hint=hint)

    async def _seated(self, actor: RoomHandle, room: Room, agent: AgentId) -> Room:
        """The room once this member of it can read, where that may be in a moment: in a sealed room the record by which
        it does comes behind its coming. Where the owner's machine is away, it reads later."""
        listen = self._desk.notifier.listen(topics.memberships(agent), topics.life(actor.room))
        with listen as waiter, trio.move_on_after(SEATED_S):
            while (member := room.state.members.get(agent)) is not None and member.waits:
                waiter.clear()
                room = await actor.quiet()
                if room.state.members[agent].waits:
                    await waiter.wait()
        return room

    async def _land(self, caller: Caller, me: AgentRecord, actor: RoomHandle, params: t.JoinSession) -> t.JoinedSession:
        """Come up in the room with its context: the recap and the newest tail, with the gap between them stated.

        Who is in already is shown it again: the answer to its first join may have been lost, or it forgot. That moves
        its cursor over nothing that it was not shown.
        """
        desk = self._desk
        acknowledged = (await desk.library.cursor(actor.room, me.id)).acknowledged
        room = await actor.quiet()
        if params.limit > 0:
            room = await self._seated(actor, room, me.id)
        stood = room.position
        again = me.id == room.state.owner or acknowledged >= room.state.members[me.id].entered
        status = "already_member" if again else "joined"
        if params.limit <= 0 or room.state.members[me.id].waits:
            # The joiner asked for no page: it reads everything later, and nothing counts as read. Such a join comes
            # from the environment of a window and not from its agent, so an agent that is in already keeps the session
            # that it went on to. Nor has a sealed room a page for whom no record holds yet: what it will be shown then
            # lies before where the room is now.
            if not again or not await is_active(desk, me):
                await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), desk.by(caller, me))
            return t.JoinedSession(
                room=actor.room,
                name=room.state.name,
                status=status,
                messages=[],
                truncated=False,
                cursor="0",
                you=handle_of(room.state, me.id),
                hint=key_change_of(room) if room.state.members[me.id].waits else "",
            )
        limit = max(1, min(params.limit, t.MAX_PAGE))
        view = room.view(me.id)
        recap = await told_recap(desk.library, actor, room, view)
        found = await self._reading.context(
            actor, room, me.id, Position(0), stood=stood, limit=limit, fits=caller.reader.fits, told=recap
        )
        if room.view(me.id) != view:
            # It left the room or came back while the page was read, which may hold too much or too little now.
            return await self._land(caller, me, await desk.rooms.get(actor.room), params)
        # Whether this page moves the reader's cursor. A member that joins again is shown the room again; the cursor
        # then stays where the page would skip what the member has not read, and where a live window reads as the same
        # agent and was not shown this page.
        held = self._reading.is_beside_window(caller, me)
        moves = not (again and held)
        if found.truncated:
            moves = moves and (not again or acknowledged >= found.spans[-1][0])
        await self._reading.mark(actor.room, me.id, found.spans)
        self._reading.note_seen(actor.room, me.id, found.newest)
        if room.state.kind == "session" or not await is_active(desk, me):
            # Whoever comes into a channel goes on with the session that it is in.
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), desk.by(caller, me))
        unread = (await desk.library.unread(room, view, found.end)).number
        if caller.reader.acknowledges == "next_call" and moves:
            # Nothing is awaited after this: an answer that becomes an error has shown nothing.
            caller.reader.shown.showed(actor.room, found.end)
        hint = "This session is closed; it can still be read." if room.state.closed else ""
        if found.truncated:
            first, last = found.first_unshown, found.last_unshown
            hint = f"{last - first + 1} messages before these are not shown: {first} to {last}."
        hint = alarm_of(room.state) or f"{hint} {found.said}".strip()
        keys = keys_of(room.state.memory, view)
        return t.JoinedSession(
            room=actor.room,
            name=room.state.name,
            status=status,
            messages=found.messages,
            truncated=found.truncated,
            cursor=str(found.end_seq) if moves else "",
            first_unshown=found.first_unshown,
            last_unshown=found.last_unshown,
            hint=hint,
            you=handle_of(room.state, me.id),
            unread=unread,
            remembers=keys.shown,
            more_keys=keys.more,
        )

    async def _would_knock(self, caller: Caller, key_id: KeyId, room: RoomId) -> None:
        """Raise what a new agent's knock would be refused with: an agent, and its key, is made for none that is."""
        try:
            would_knock(self._desk, caller.facts, (await self._desk.rooms.get(room)).aggregate, key_id)
        except Refused as error:
            if error.code == "unknown_key":
                raise self._keys.unknown(caller) from error
            raise


def _end(actor: RoomHandle, agent: AgentId, asked: RequestId) -> str:
    """How this very request is over that nobody decided about; empty where it is not."""
    request = standing_request(actor.aggregate.state.requests, agent)
    return "" if request is None or request.id != asked else end_of(actor, request)


def _require_under_way(actor: RoomHandle, agent: AgentId, asked: RequestId) -> None:
    """Raise how this very request is over that nobody decided about."""
    match _end(actor, agent, asked):
        case "":
            return
        case "failed":
            raise not_let_in()
        case end:
            raise knock_over(end)


def knock_over(end: str) -> Refused:
    """A request is over that nobody decided about, as the room's home or the agent itself ended it."""
    return Refused("knock_over", over_hint(end), what=end)


def not_let_in() -> Refused:
    """The owner's machine ended the key exchange of an agent that knocks at a sealed room."""
    said = "The machine of the session's owner does not let this key in."
    return Refused("unknown_key", said, hint=KEY_NOT_LET_IN, tool_hint=KEY_NOT_LET_IN, what=EXCHANGE)
