"""The keys of sessions: which room a typed key leads to, and the handlers of `session.list` and `session.revoke`.

Not here: how a key is spelled (`key_text`), what a knock with one does (`joining`). Above: the engine and `joining`.
Below: the store's index of key ids, and the throttle of guesses. Invariant: whoever does not own a key learns nothing
of it but whether it is one, at the speed that the throttle allows.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.approvals import KeyState, opened_for, standing_request
from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import HomeId, KeyId, Millis, PeerText, RoomId
from parlerd.core.room import RoomState
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.key_text import BEGINS, INVITE, JOINS, SHORT_ID, handed_on, typed_key_of
from parlerd.engine.lookup import active_room, owned_rooms
from parlerd.engine.observers import observed_rooms
from parlerd.engine.person import is_person
from parlerd.engine.reading import handle_of
from parlerd.engine.throttle import NO_GUESS
from parlerd.identity import codes
from parlerd.operations import types as t


class SessionKeys:
    """The handlers of `session.list` and `session.revoke`, and the lookup of a typed key."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("session.list")
    async def list_sessions(self, caller: Caller, params: t.ListSessions) -> t.SessionList:
        desk = self._desk
        me = await desk.me(caller)
        active = await active_room(desk, me.id)
        # What an agent host's command prints ends up in a transcript. Who reads that could come in with the whole key
        # of a room that asks nobody.
        whole = is_person(caller) and not desk.inspect(caller.facts.peer).agent_host
        sessions = []
        for name, agents in (await observed_rooms(desk, caller, me)).items():
            handle = await desk.rooms.get(name)
            state = (await handle.quiet()).state
            inside = [record.name for record in agents if state.members[record.id].present]
            if not inside:
                continue  # the last of the caller's agents left meanwhile
            owns = state.owner == me.id or (is_person(caller) and state.owner_principal == me.principal)
            told = _handed_out(state) if owns else []
            keys = [await self._key_info(handle, key, desk.now_at(state.home), whole=whole) for key in told]
            sessions.append(
                t.SessionInfo(
                    room=state.room,
                    name=state.name,
                    topic=PeerText(state.topic),
                    owner=state.owner,
                    owner_name=handle_of(state, state.owner),
                    agents=inside,
                    state="closed" if state.closed else "open",
                    active=state.room == active,
                    keys=keys,
                )
            )
        return t.SessionList(sessions=sessions)

    @handles("session.revoke")
    async def revoke(self, caller: Caller, params: t.RevokeSessionKey) -> t.RevokedKey:
        desk = self._desk
        known = desk.seats.existing(caller)
        if known is None and not is_person(caller):
            # A caller that is no agent yet owns no key. Its guess is answered before an agent is made for it.
            await self.find(caller, None, params.session_key)
        me = await desk.me(caller)
        own = await self._own_key(caller, me, params.session_key)
        if own is not None:
            room_id, key_id = own
        else:
            key_id, room_id = await self.find(caller, me, params.session_key)
        actor = await desk.rooms.get(room_id)
        principal = me.principal if is_person(caller) else None
        try:
            await actor.submit(
                c.RevokeKey(operation="session.revoke", revoke=key_id, principal=principal), desk.by(caller, me)
            )
        except ParlerError as error:
            if error.code == "unknown_key":
                raise self.unknown(caller) from error
            raise
        room = await actor.quiet()
        begins = (typed_key_of(self._desk, room.state, room.state.keys[key_id]) or "")[:BEGINS]
        return t.RevokedKey(
            room=actor.room, key_ref=key_id[:SHORT_ID], status="revoked", name=room.state.name, begins=begins
        )

    async def find(
        self, caller: Caller, me: AgentRecord | None, text: str, *, is_typed: bool = True
    ) -> tuple[KeyId, RoomId]:
        """A typed key and the room it leads to: of this home, or of the added home that stands behind the key. A key of
        any other home is refused before anything is looked up. Source: security spec D12. Who came to this door with
        this key before is no guesser, and waits for none.

        Nothing is asked of another home for a key that nobody typed (`is_typed`), because a repository can set the
        environment of a window, and the owner there decides who comes in. Source: relay spec, Words.
        """
        desk = self._desk
        try:
            typed = codes.read_key(text)
            home = None if typed.home is None else desk.homes.named(typed.home)
            if home is not None and not (typed.binding or typed.secret):
                # Whatever room the home told could be another than the key was made for.
                raise Refused("unknown_key")
        except Refused as error:
            if error.code != "unknown_key":
                raise
            await desk.throttle.before(caller)
            raise self.unknown(caller) from error
        key_id = desk.keys.key_id(typed.key)
        room = await self._room_of(key_id, home)
        is_known = room is not None and me is not None and await self._has_used(me, key_id, room)
        if home is not None and not is_typed and not is_known:
            raise Refused(
                "needs_person",
                "This is a key of a relay, and a window does not knock there by itself.",
                hint="Whoever set the variable chose the session, and its owner decides who comes in. If your user "
                'wants it, they run: parler session join "$PARLER_SESSION_KEY" --as NAME',
            )
        guess = NO_GUESS if is_known else await desk.throttle.before(caller)
        if home is not None:
            try:
                found = await desk.homes.find(home, typed)
            except ParlerError as error:
                if error.code == "unknown_key":
                    raise self.unknown(caller) from error
                if error.code == "wrong_room":
                    desk.throttle.wrong(caller)
                if room is None or not is_known or not error.spec.retryable:
                    raise
                # The home does not answer now. What it told this agent before is here.
            else:
                await guess.right()
                return found
        if room is None:
            raise self.unknown(caller)
        await guess.right()
        return key_id, room

    async def _room_of(self, key_id: KeyId, home: HomeId | None) -> RoomId | None:
        """The room that a key leads to in this home (None) or, as far as it is known here, in another. No key of one
        home opens a room of another."""
        room = await self._desk.library.room_of_key(key_id)
        return room if room is not None and await self._lives_in(room, home) else None

    async def _lives_in(self, room: RoomId, home: HomeId | None) -> bool:
        aggregate = (await self._desk.rooms.get(room)).aggregate
        return self._desk.rooms.is_here(aggregate) if home is None else aggregate.state.home == home

    def unknown(self, caller: Caller) -> Refused:
        self._desk.throttle.wrong(caller)
        if self._desk.default_home or "person" not in caller.facts.authority.planes:
            # That there may be another home on this machine helps only who types commands.
            return Refused("unknown_key")
        return Refused(
            "unknown_key",
            tool_hint=ERRORS["unknown_key"].hint,
            hint=f"This is the home {self._desk.home_path}, not ~/.parler: two homes are two users. "
            "On one machine a second agent is --as NAME, never a second home.",
        )

    async def _has_used(self, me: AgentRecord, key_id: KeyId, room: RoomId) -> bool:
        """Whether this agent is in the room, or knocked with this very key: another key of the room is still a
        guess."""
        if not any(each.room == room for each in await self._desk.library.memberships(me.id)):
            return False
        state = (await self._desk.rooms.get(room)).aggregate.state
        member, request = state.members.get(me.id), standing_request(state.requests, me.id)
        return (member is not None and member.present) or (request is not None and request.key_id == key_id)

    async def _own_key(self, caller: Caller, me: AgentRecord, typed: str) -> tuple[RoomId, KeyId] | None:
        """The key of one of the caller's own rooms that is meant by the whole session key, the first characters of it
        (each with its home behind it, where that is not this machine), or its short id; None when none is. Asked
        before any throttle: whoever guesses does not keep an owner from shutting a door. Raises `Refused`:
        `ambiguous_name`, `home_not_trusted`.
        """
        rooms = await owned_rooms(self._desk, me, None, person=is_person(caller))
        try:
            read = codes.read_key(typed)
        except Refused:
            return None
        home = None if read.home is None else self._desk.homes.named(read.home)
        whole = self._desk.keys.key_id(read.key)
        room = await self._room_of(whole, home)
        if room in rooms:
            return room, whole
        found: list[tuple[RoomId, KeyState, str]] = []
        for name in rooms:
            state = (await (await self._desk.rooms.get(name)).quiet()).state
            is_meant = len(read.code) >= BEGINS and await self._lives_in(name, home)
            for key in state.keys.values():
                begins = is_meant and (typed_key_of(self._desk, state, key) or "").startswith(read.code)
                if begins or typed.strip().lower() == key.id[:SHORT_ID]:
                    found.append((name, key, state.name))
        # Who revokes a key hardly means one that is revoked already.
        found = [each for each in found if not each[1].revoked] or found
        if len(found) > 1:
            candidates = [f"{key.id[:SHORT_ID]} of {name}" for _, key, name in found]
            raise Refused("ambiguous_name", "More than one of your keys begins so.", candidates=candidates)
        return (found[0][0], found[0][1].id) if found else None

    async def _key_info(self, handle: RoomHandle, key: KeyState, now: Millis, *, whole: bool) -> t.SessionKey:
        session_key = typed_key_of(self._desk, handle.aggregate.state, key) or ""
        is_shown = whole and bool(session_key)
        if handle.home_name != LOCAL and key.state(now) != "live":
            # Nobody hands on a key that is dead, and to spell one of another home takes a while.
            is_shown = False
        return t.SessionKey(
            key_ref=key.id[:SHORT_ID],
            session_key=await handed_on(self._desk, handle, session_key) if is_shown else "",
            begins=session_key[:BEGINS],
            approval=key.gated,
            expires=key.expires_at,
            uses=key.uses,
            max_uses=key.max_uses,
            state=key.state(now),
        )


def _handed_out(state: RoomState) -> list[KeyState]:
    """The keys of a room that people hand out. Nobody types the key by which the peer of a direct room comes in, nor
    the one by which the agents of a queue's own person do, nor that of a token, which is in the list of tokens."""
    keys = [key for key in state.keys.values() if not key.ref.startswith(JOINS)]
    if opened_for(state.lifecycle, keys):
        return []
    return [key for key in keys if state.kind != "service" or key.ref.startswith(INVITE)]
