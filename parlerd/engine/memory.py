"""Remembering, recalling, forgetting: what a room keeps for everyone in it, and an agent for itself.

A fact is a message of its room whose envelope says so (`MemoryPart`), and so is what forgets one. So both take the way
of every message, to a room here and to one elsewhere, and only finding has a way of its own.

Not here: keys, versions and rights (`core.memory`), the search (`recalling`), an agent's own room (`private`). Above:
the engine's face. Below: `sending`, the library. Invariant: an answer names only what the asking agent may see.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Final, NamedTuple

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import MemoryPart, Part, TextPart
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, MemoryNote, MessageId, PeerText, RoomId, key_label
from parlerd.core.recall import parse
from parlerd.core.room import Room, RoomState
from parlerd.core.visibility import can_see
from parlerd.core.words import MEMORY, check_text
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import is_active, member_room, room_of
from parlerd.engine.private import made_private_memory, private_memory
from parlerd.engine.reading import Reading, author_of, silence_of
from parlerd.engine.recalling import Hit, Place, search
from parlerd.engine.sending import Posting, Sending
from parlerd.operations import types as t

MAX_NAMED: Final = 5
"""Rooms that are named in a sentence on what may be missing."""


class _Meant(NamedTuple):
    """A fact that is to be forgotten: under a key, or the message with this id."""

    key: str
    message: MessageId | None


class Memory:
    """The handlers of `memory.remember`, `memory.recall` and `memory.forget`."""

    def __init__(self, desk: Desk, reading: Reading, sending: Sending) -> None:
        self._desk = desk
        self._reading = reading
        self._sending = sending

    # -- remembering ---------------------------------------------------------------------------------------

    @handles("memory.remember")
    async def remember(self, caller: Caller, params: t.Remember) -> t.Remembered:
        me = await self._desk.me(caller)
        size = check_text(params.text, "text")
        key = "" if params.key is None else str(key_label(params.key))
        if params.if_version is not None and not key:
            raise Refused("invalid_param", "A version is that of a key: name one.", param="if_version")
        actor = await self._room(caller, me, params.room, private=params.private)
        command = c.PostMessage(
            operation="memory.remember",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=MEMORY,
            memory=MemoryPart(key=key, if_version=params.if_version),
        )
        parts: tuple[Part, ...] = (TextPart(params.text), command.memory or MemoryPart())
        posting = await self._sending.post(caller, me, actor, command, parts, size)
        sent = await posting.result()
        fact = self._told(posting, sent, me, key, PeerText(params.text))
        return t.Remembered(
            facts=[fact],
            replayed=sent.replayed,
            idempotency_key=sent.idempotency_key,
            queued=sent.queued,
            warning=sent.warning,
        )

    async def _room(self, caller: Caller, me: AgentRecord, wanted: str | None, *, private: bool) -> RoomHandle:
        """Where something is remembered: in the room that is named, in the active session, or privately."""
        desk = self._desk
        if private and wanted is not None:
            raise Refused("invalid_param", "What is private is in no room: name a room or private.", param="room")
        if private or (wanted is None and not await is_active(desk, me)):
            return await made_private_memory(desk, caller, me)
        return (await room_of(desk, me, wanted))[0]

    def _told(self, posting: Posting[t.Sent], sent: t.Sent, me: AgentRecord, key: str, text: PeerText) -> t.Fact:
        """What was written, as it is stored: a version is told once the room's home gave it."""
        settled = posting.submission.settled
        header = posting.posted[0] if posting.posted else settled.facts[0] if settled and settled.facts else None
        event = None if header is None else header.event
        note = event.memory if isinstance(event, e.MessagePosted) else None
        state = posting.actor.aggregate.state
        return t.Fact(
            id=sent.id,
            key=key or None,
            text=text,
            author=author_of(state, me.id, posting.submission.by.host),
            at=sent.at,
            version=None if note is None else note.version,
            room=_room_said(state),
            name=_name_said(state),
        )

    # -- recalling -----------------------------------------------------------------------------------------

    @handles("memory.recall")
    async def recall(self, caller: Caller, params: t.Recall) -> t.Recalled:
        desk = self._desk
        me = await desk.me(caller)
        query = parse(params.query)
        rooms = {room.state.room: (handle, room) for handle, room in await self._searched(me, params.room)}
        places = [_place(room, me.id, query.text) for _, room in rooms.values()]
        found = await desk.library.search(lambda store: search(store, places, query, monotonic))
        facts: list[t.Fact] = []
        size = 0
        for hit in found.hits[: min(params.limit, t.MAX_FOUND)]:
            size += len(hit.candidate.words.text.encode("utf-8", "replace"))
            if facts and size > params.max_bytes:
                break
            facts.append(_fact(rooms[hit.candidate.room][1].state, hit))
        return t.Recalled(
            facts=facts,
            more=len(found.hits) - len(facts),
            partly=found.partly,
            cut=found.cut,
            notice=" ".join(self._lacking(rooms.values(), me.id)),
        )

    async def _searched(self, me: AgentRecord, wanted: str | None) -> list[tuple[RoomHandle, Room]]:
        """The rooms that are searched: the one that is named, or all of the agent and its private memory."""
        desk = self._desk
        if wanted is not None:
            handle, room = await room_of(desk, me, wanted)
            return [await member_room(desk, me, handle.room) if await handle.catch_up() else (handle, room)]
        found: list[tuple[RoomHandle, Room]] = []
        private = await private_memory(desk, me)
        if private is not None:
            found.append((private, await private.quiet()))
        for name in await desk.library.my_rooms(me.id):
            try:
                handle, room = await member_room(desk, me, name)
            except Refused:
                continue  # it left meanwhile
            handle.begin_to_catch_up()
            found.append((handle, room))
        return found

    def _lacking(self, rooms: Iterable[tuple[RoomHandle, Room]], reader: AgentId) -> list[str]:
        """What is said of rooms of which this machine may not hold all that they remember: one sentence for each home
        that does not answer."""
        said: list[str] = []
        silent: dict[str, tuple[RoomHandle, list[str]]] = {}
        for handle, room in rooms:
            name = room.state.name
            missing = sum(count for _, count in room.view(reader).gaps)
            if missing:
                said.append(
                    f"{missing} older messages of {name} are not on this machine: what they remember is not found here."
                )
            elif handle.silent_since() is not None:
                silent.setdefault(handle.home_name, (handle, []))[1].append(name)
        for handle, names in silent.values():
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            lacking = f"newer facts of {', '.join(names[:MAX_NAMED])}{more} may be missing here."
            said.append(silence_of(handle, self._desk.clock.now(), lacking))
        return said

    # -- forgetting ----------------------------------------------------------------------------------------

    @handles("memory.forget")
    async def forget(self, caller: Caller, params: t.Forget) -> t.Forgotten:
        desk = self._desk
        me = await desk.me(caller)
        if (params.id is None) is (params.key is None):
            raise Refused("invalid_param", "Name a fact by its key, or by its id.", param="id")
        actor = await self._kept(me, params)
        room = await actor.quiet()
        meant = await self._meant(room, me, params)
        gone = await self._newest(room, meant)
        command = c.PostMessage(
            operation="memory.forget",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=MEMORY,
            reply_to=None if meant.key else meant.message,
            memory=MemoryPart(key=meant.key, forgets=True),
        )
        parts: tuple[Part, ...] = (command.memory or MemoryPart(),)
        sent = await (await self._sending.post(caller, me, actor, command, parts, 0)).result()
        state = actor.aggregate.state
        note = _note(gone)
        fact = t.Fact(
            id=sent.id if gone is None or not isinstance(gone.event, e.MessagePosted) else gone.event.id,
            key=meant.key or None,
            text=PeerText(""),
            author=author_of(state, me.id if gone is None else gone.by.actor, "" if gone is None else gone.by.host),
            at=None if gone is None else gone.at,
            version=None if note is None else note.version,
            room=_room_said(state),
            name=_name_said(state),
        )
        return t.Forgotten(
            facts=[fact], replayed=sent.replayed, idempotency_key=sent.idempotency_key, queued=sent.queued
        )

    async def _kept(self, me: AgentRecord, params: t.Forget) -> RoomHandle:
        """Where the fact is remembered. An id alone leads to its room."""
        desk = self._desk
        private = await private_memory(desk, me)
        if params.private and params.room is not None:
            raise Refused("invalid_param", "What is private is in no room: name a room or private.", param="room")
        if params.room is None and params.id is not None and not params.private:
            traced = await desk.library.trace(MessageId(params.id))
            if traced is not None:
                if private is not None and traced.room == private.room:
                    return private
                if traced.room in await desk.library.my_rooms(me.id):
                    return await desk.rooms.get(traced.room)
        if params.private or (params.room is None and not await is_active(desk, me)):
            if private is None:
                raise Refused("no_such_fact")
            return private
        return (await room_of(desk, me, params.room))[0]

    async def _meant(self, room: Room, me: AgentRecord, params: t.Forget) -> _Meant:
        if params.key is not None:
            return _Meant(str(key_label(params.key)), None)
        try:
            message = await self._reading.message_id(room, me.id, params.id or "")
        except Refused:
            raise Refused("no_such_fact") from None
        traced = await self._desk.library.trace(message)
        if traced is None or traced.room != room.state.room:
            raise Refused("no_such_fact")
        note = _note(traced.header)
        visible = can_see(room.view(me.id), position=traced.header.position, visibility=None)
        if note is None or note.forgets or not visible:
            raise Refused("no_such_fact")
        return _Meant(note.key, message)

    async def _newest(self, room: Room, meant: _Meant) -> e.Header | None:
        """The newest version of what is to be forgotten; None where this machine has none."""
        message = meant.message
        if meant.key:
            entry = room.state.memory.keys.get(meant.key)
            message = entry.id if entry is not None and entry.is_there else message
        traced = None if message is None else await self._desk.library.trace(message)
        return None if traced is None else traced.header


def _place(room: Room, reader: AgentId, typed: str) -> Place:
    entry = room.state.memory.keys.get(typed)
    exact = entry.positions[-1] if entry is not None and entry.is_there else None
    return Place(room.state.room, room.position, room.view(reader), room.state.rewinds, exact)


def _fact(state: RoomState, hit: Hit) -> t.Fact:
    found = hit.candidate.found
    header, words = found.header, hit.candidate.words
    event, note = header.event, _note(header)
    assert isinstance(event, e.MessagePosted)
    assert note is not None
    return t.Fact(
        id=event.id,
        key=words.key or None,
        text=PeerText(words.text),
        author=author_of(state, header.by.actor, header.by.host),
        at=header.at,
        version=note.version,
        score=hit.score,
        room=_room_said(state),
        name=_name_said(state),
        verified=event.verified if found.unaltered else "invalid",
    )


def _note(header: e.Header | None) -> MemoryNote | None:
    event = None if header is None else header.event
    return event.memory if isinstance(event, e.MessagePosted) else None


def _room_said(state: RoomState) -> RoomId | None:
    return None if state.kind == "private" else state.room


def _name_said(state: RoomState) -> str:
    return "" if state.kind == "private" else state.name
