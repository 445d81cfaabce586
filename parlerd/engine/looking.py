"""Looking around: rooms, roster, who I am, how the daemon is. Nothing here changes a room."""

from __future__ import annotations

import functools
import os
from typing import Final

import msgspec
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import HOME_ROOM, Millis, PeerText, Position, RoomId, View
from parlerd.engine.audit import is_signed
from parlerd.engine.budget import TURNS
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk, pause_among
from parlerd.engine.observers import is_person, observed_room, observed_rooms
from parlerd.engine.reading import handle_of, role_of
from parlerd.operations import types as t
from parlerd.store.port import Store

SIGNATURES_S: Final = 10.0
"""How long `daemon.check` verifies signatures, in seconds; a client waits 30 for the whole answer. Enough for some
80,000 messages."""
SLICE: Final = 250
"""Facts that are verified in one go, about 30 ms: the reading thread serves others in between."""
AHEAD_MS: Final = 60_000
"""A fact that is dated later than this is no matter of two clocks that differ a little."""
AHEAD_FIX: Final = (
    "if the clock is wrong, set it right. If it was: nothing is lost and keys expire by the clock, but what is said "
    "there is dated later still; go on in a new session, and close this one:"
)
MAX_NAMED: Final = 10
"""Facts that a check names: where there are more, the file as a whole is to be restored."""


class Looking:
    """The handlers of `rooms.*`, `agent.whoami`, `hosts.*` and `daemon.*`."""

    def __init__(self, desk: Desk, socket: str) -> None:
        self._desk = desk
        self._socket = socket
        self._started = trio.current_time()

    async def rooms(self, caller: Caller, params: t.ListRooms) -> t.RoomList:
        desk = self._desk
        me = await desk.me(caller)
        active = desk.rooms.home.aggregate.state.active.get(me.id)
        rooms = []
        for number, (name, agents) in enumerate(observed_rooms(desk, caller, me).items(), 1):
            await pause_among(number)
            room = await (await desk.rooms.get(name)).quiet()
            state = room.state
            inside = [record for record in agents if state.members[record.id].present]
            if not inside:
                continue  # it left meanwhile
            reader = inside[0].id
            view = room.view(reader)
            cursor = desk.driver.store.cursor(state.room, reader)
            owns = state.owner == me.id or (is_person(caller) and state.owner_principal == me.principal)
            rooms.append(
                t.RoomInfo(
                    room=state.room,
                    name=state.name,
                    topic=PeerText(state.topic),
                    kind=state.kind,
                    home="local",
                    owner=state.owner,
                    owner_name=handle_of(state, state.owner),
                    agents=[record.name for record in inside],
                    members=sum(1 for member in state.members.values() if member.present),
                    unread=desk.driver.store.unread(state.room, view, cursor.acknowledged),
                    last_at=self._last_at(state.room, view) or state.opened_at,
                    active=state.room == active,
                    state="closed" if state.closed else "open",
                    pending=len(room.pending()) if owns and not state.closed else 0,
                )
            )
        waits = await desk.knocks(me)
        if not desk.shows_code(caller):
            waits = [msgspec.structs.replace(each, join_code=None) for each in waits]
        return t.RoomList(rooms=rooms, you=me.name, waits=waits)

    def _last_at(self, room: RoomId, view: View) -> Millis:
        """When the newest message was posted that this reader may see: the room's own newest would tell of hidden
        ones."""
        store = self._desk.driver.store
        newest = store.position_of(room, view, store.seq_at(room, view, store.head(room).position))
        header = store.message(room, newest)
        return Millis(0) if header is None else header.at

    async def roster(self, caller: Caller, params: t.Roster) -> t.RosterResult:
        desk = self._desk
        me = await desk.me(caller)
        _, room, _ = await observed_room(desk, caller, me, params.room)
        state = room.state
        members = []
        for member in state.members.values():
            if not member.present:
                continue
            presence, since = desk.seats.presence(member.agent)
            members.append(
                t.RosterMember(
                    id=member.agent,
                    name=member.handle,
                    role=role_of(state, member),
                    host=member.host,
                    owner=member.agent == state.owner,
                    state="member",
                    presence=presence,
                    since=since or member.joined_at,
                )
            )
        you = handle_of(state, me.id)
        return t.RosterResult(room=state.room, name=state.name, members=members, you=you)

    async def whoami(self, caller: Caller, params: t.WhoAmI) -> t.Me:
        desk = self._desk
        me = await desk.me(caller)
        return t.Me(
            id=me.id,
            name=me.name,
            host=caller.host or me.host,
            home="local",
            principal=me.principal,
            workspace=me.workspace,
            active=desk.rooms.home.aggregate.state.active.get(me.id),
        )

    async def hosts(self, caller: Caller, params: t.SeenHosts) -> t.SeenHostList:
        desk = self._desk
        await trio.lowlevel.checkpoint()
        if params.look:
            desk.host_files.look()
        return t.SeenHostList(hosts=desk.seats.hosts())

    async def status(self, caller: Caller, params: t.DaemonStatus) -> t.DaemonInfo:
        desk = self._desk
        await trio.lowlevel.checkpoint()
        return t.DaemonInfo(
            running=True,
            pid=os.getpid(),
            socket=self._socket,
            version=desk.version,
            uptime_ms=int((trio.current_time() - self._started) * 1000),
            rooms=self._rooms_known(caller),
            connections=desk.seats.connections,
            windows=desk.seats.windows,
            store=type(desk.driver.store).__name__,
            home=desk.home_path,
        )

    def _rooms_known(self, caller: Caller) -> int:
        """How many rooms there are, for the person; for an agent, and for a command that an agent host started, those
        it may look at. Source: security spec C10."""
        desk = self._desk
        if is_person(caller) and not desk.inspect(caller.peer).agent_host:
            return sum(1 for room in desk.driver.store.rooms() if room != HOME_ROOM)
        me = desk.seats.existing(caller)
        return 0 if me is None else len(observed_rooms(desk, caller, me))

    async def check(self, caller: Caller, params: t.CheckStore) -> t.CheckList:
        """The store's own structures, every room's chain, and who signed. It reads everything, so it runs away from the
        loop."""
        desk = self._desk
        problems = await desk.driver.read(lambda store: store.check())
        checks = [
            t.Check(
                name="store",
                ok=not problems,
                detail="; ".join(problems) or "the database's structures are sound",
                fix="" if not problems else "stop the daemon and restore the newest backup (see docs/operations.md)",
            )
        ]
        for room in desk.driver.store.rooms():
            broken = await desk.driver.read(functools.partial(_verify, room=room))
            if broken is not None:
                checks.append(
                    t.Check(
                        name="chain",
                        ok=False,
                        detail=f"room {room}: fact {broken} does not match its digest",
                        fix="the file was changed from outside; restore the newest backup (see docs/operations.md)",
                    )
                )
        if len(checks) == 1:
            checks.append(t.Check(name="chain", ok=True, detail="every room's digests match", fix=""))
        checks += await self._signatures()
        checks += await self._ahead()
        if desk.budget.spent:
            checks.append(
                t.Check(
                    name="wakes",
                    ok=False,
                    detail=f"paused: agents began {TURNS} turns without a person in the last hour; reading goes on",
                    fix="look at what they keep sending each other; parler daemon restart lets them go on at once",
                )
            )
        for detail, fix in desk.host_files.failures():
            checks.append(t.Check(name="host files", ok=False, detail=detail, fix=fix))
        return t.CheckList(checks=checks)

    async def _ahead(self) -> list[t.Check]:
        """Open rooms whose newest fact is dated later than now: the clock stood ahead, and was set back. The home room
        is none of them, for nobody is shown when something in it was."""
        desk = self._desk
        now = desk.clock.now()
        checks: list[t.Check] = []
        for name in desk.driver.store.rooms():
            if name == HOME_ROOM:
                continue
            room = (await desk.rooms.get(name)).aggregate
            ahead = room.last_at - now
            if ahead > AHEAD_MS and not room.state.closed:
                detail = f"room {name}: messages are dated up to {ahead / 86_400_000:.1f} days ahead of the clock"
                fix = f"{AHEAD_FIX} parler session close --room {name}"
                checks.append(t.Check(name="clock", ok=False, detail=detail, fix=fix))
        return checks[:MAX_NAMED]

    async def _signatures(self) -> list[t.Check]:
        """Whether facts are what their authors signed: each room's newest first, as many as there is time for."""
        desk = self._desk
        deadline = trio.current_time() + SIGNATURES_S
        checks: list[t.Check] = []
        looked = skipped = 0
        for room in desk.driver.store.rooms():
            upto = desk.driver.store.head(room).position
            while upto > 0 and trio.current_time() < deadline:
                after = Position(max(0, upto - SLICE))
                unsigned = await desk.driver.read(functools.partial(_unsigned, room=room, after=after, upto=upto))
                looked += upto - after
                upto = after
                checks += [
                    t.Check(
                        name="signatures",
                        ok=False,
                        detail=f"room {room}: fact {position} is not what its author signed",
                        fix="the file was changed from outside; restore the newest backup (see docs/operations.md)",
                    )
                    for position in unsigned[:MAX_NAMED]
                ]
            skipped += upto
        if checks:
            return checks[:MAX_NAMED]
        detail = f"{looked} facts are what their authors signed"
        if skipped:
            detail += f"; {skipped} older ones were not looked at, because checking all of them takes too long"
        return [t.Check(name="signatures", ok=True, detail=detail, fix="")]


def _unsigned(store: Store, room: RoomId, after: Position, upto: Position) -> list[Position]:
    try:
        facts = store.whole_facts(room, after, upto - after)
    except Refused as error:
        if error.code != "newer_log":
            raise
        # Facts of a newer Parler: what they are signed for is not known here.
        return []
    return [fact.header.position for fact in facts if not is_signed(room, fact)]


def _verify(store: Store, room: RoomId) -> Position | None:
    return store.verify_chain(room)
