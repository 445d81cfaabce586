"""One message for a room elsewhere, decided over the room's mirror and signed: what leaves for the room's home.

The mirror decides with the same rules as the room's home, which decides again and compares. The only thing that the
mirror may not know is where the author's thread ends, because messages that are on their way are in no mirror yet:
the caller hands that over.

Not here: sending it (`lanes`). Above: `lanes`. Below: the mirror, its library, and the author who signs. Invariant:
nothing is signed that the mirror's rules refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from parlerd.connections.calls import coded
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.envelope import Envelope, GuardPart, asked, decode_envelope, is_guarded
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.messages import Thread, audience_key, thread_of
from parlerd.core.model import AgentId, By, MessageId, Millis, Position, Prior
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Author, Draft, Place
from parlerd.engine.deciding import reply_target
from parlerd.engine.desk import Desk
from parlerd.engine.library import Before
from parlerd.engine.worker import Awaited, Told
from parlerd.uplink.counters import Counters, Signed, Threaded
from parlerd.uplink.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Decided:
    """What the mirror that `actor` keeps decided about a request for a message: it was made before (`replay`), or it
    leads to `event`."""

    actor: RoomActor[Room]
    decision: Decision
    event: e.MessagePosted | None
    erases: tuple[MessageId, ...] = ()
    """In a sealed room: the messages whose words go with this one."""

    @property
    def replay(self) -> Position | None:
        return self.decision.replay


@dataclass(frozen=True, slots=True)
class Composed:
    """A signed envelope, and the thread that it ends now."""

    id: MessageId
    body: bytes
    signature: bytes
    visibility: tuple[AgentId, ...] | None
    """Its only readers, or None for everyone in the room."""
    thread: Thread
    epoch: int
    """The epoch of the room over which it was decided (`core.rewinds`)."""

    @property
    def audience(self) -> str:
        """Which of the author's threads it is in."""
        return audience_key(self.visibility)


class Composer:
    """Decides and signs messages for the rooms of one home."""

    def __init__(self, desk: Desk, author: Author, counters: Counters, secrets: Secrets) -> None:
        self._desk = desk
        self._author = author
        self._counters = counters
        self._secrets = secrets

    def decide(self, actor: RoomActor[Room], command: c.PostMessage, by: By, draft: Draft, told: Told) -> None:
        """Say what the mirror decides about a request (`Decided`), or the `Refused` that it answers with. `told` is
        called once, and must not raise: at once where nothing has to be asked, or the store is at hand."""
        key = None if command.fresh else (by.actor, command.operation, command.idempotency_key or "")
        positions = _forgotten(actor.aggregate, command)
        heard = partial(self._asked, actor, command, by, draft, told, positions)
        if key is None and command.reply_to is None and not positions:
            heard(Before(), None)
        else:
            self._desk.library.ask_before(actor.room, key, command.reply_to, heard, positions=positions)

    async def decided(self, actor: RoomActor[Room], command: c.PostMessage, by: By, draft: Draft) -> Decided:
        """The same for a task, which waits for it. Raises `Refused`."""
        awaited = Awaited()
        self.decide(actor, command, by, draft, awaited.hear)
        decided: Decided = await awaited.get()
        return decided

    def _asked(
        self,
        actor: RoomActor[Room],
        command: c.PostMessage,
        by: By,
        draft: Draft,
        told: Told,
        positions: Sequence[Position],
        before: Before | None,
        error: BaseException | None,
    ) -> None:
        if before is not None and _forgotten(actor.aggregate, command) != positions:
            # The key was written meanwhile.
            self.decide(actor, command, by, draft, told)
            return
        decided: Decided | None = None
        try:
            if before is None:
                raise error if isinstance(error, ParlerError) else ParlerError("internal")
            decided = self._decided(actor, command, by, draft, before)
        except Exception as failed:
            error = coded(failed, "a message")
        told(decided, error)

    def _decided(self, actor: RoomActor[Room], command: c.PostMessage, by: By, draft: Draft, before: Before) -> Decided:
        room, ids = actor.aggregate, self._desk.random
        # Until when an offer of the turn stands is counted by the clock of the room's home.
        now = max(self._desk.now_at(room.state.home), room.last_at)
        if command.reply_to is not None:
            command = msgspec.structs.replace(command, reply=reply_target(before.replied_to))
        if before.prior is not None:
            # A message that came back from its room's home bears no digest of the request: the words themselves are
            # compared.
            if before.words is None:
                raise Refused("idempotency_expired")
            envelope = decode_envelope(before.words)
            try:
                events = room.decide(msgspec.structs.replace(command, id=None), by=by, now=now, ids=ids).events
                posted = events[0] if events else None
            except Refused:
                # The same request would be refused today: the room was closed since, or somebody left whom it names.
                posted = None
            if posted is None:
                # Or it answers an offer of the turn, and that answer stands.
                is_same = _said_then(envelope, command, by, draft, room)
            else:
                assert isinstance(posted, e.MessagePosted)
                is_same = _says(envelope, posted, draft) and _replies(envelope, command)
            said = (command.input or b"") if is_same else b"differs"
            command = msgspec.structs.replace(command, prior=Prior(before.prior.position, said))
        decision = room.decide(command, by=by, now=now, ids=ids)
        # What follows for a task that the message speaks of, the room's home decides.
        event = decision.events[0] if decision.events else None
        assert event is None or isinstance(event, e.MessagePosted)
        erases = _named(room, command, decision, before)
        return Decided(actor, decision, event, erases)

    def sign(
        self, decided: Decided, command: c.PostMessage, by: By, draft: Draft, ends: Mapping[str, Thread]
    ) -> Composed:
        """The envelope of a message, in the same turn of the loop in which the mirror decided it. `ends` are the ends
        of the author's threads by audience, as far as they are ahead of the mirror. Raises `Refused`: `no_such_agent`
        for a lost key, `not_sealed_in` in a sealed room whose record in force this author or a reader is not in."""
        actor, event = decided.actor, decided.event
        assert event is not None
        thread = thread_of(actor.aggregate.state.messages, by.actor, event.visibility)
        threaded = Threaded(actor.room, by.actor, audience_key(event.visibility))
        ahead = ends.get(threaded.audience)
        if ahead is not None and ahead.counter > thread.counter:
            thread = ahead
        state = actor.aggregate.state
        # What the home lost since, it would not know as something that it showed the author.
        draft = replace(draft, shown=state.rewinds.still_shown(draft.shown))
        if state.lifecycle.sealed:
            request = self._secrets.request_digest(actor.room, command.input or b"")
            draft = replace(draft, seal=partial(self._secrets.seal, state, by.actor, request))
            if command.memory is not None and is_guarded(command.memory):
                # What the mirror compared, it compared as the room stands here now.
                parts = (*draft.parts, GuardPart(decided.erases))
                draft = replace(draft, parts=parts, shown=state.messages.shown)
        event = msgspec.structs.replace(event, counter=self._counters.after(threaded, thread.counter))
        place = Place(actor.room, command.idempotency_key or "", by, thread.envelope, self._now(actor))
        written = self._author.sign(draft, event, place)
        digest = hashlib.sha256(written.body).digest()
        self._counters.note(threaded, event.counter, Signed(digest, written.signature))
        thread = Thread(event.counter, digest)
        return Composed(event.id, written.body, written.signature, event.visibility, thread, state.epoch)

    def _now(self, actor: RoomActor[Room]) -> Millis:
        return max(self._desk.clock.now(), actor.aggregate.last_at)


def _named(room: Room, command: c.PostMessage, decision: Decision, before: Before) -> tuple[MessageId, ...]:
    """The messages whose words go with one that forgets, for the home of a sealed room."""
    if command.memory is None or not command.memory.forgets or not room.state.is_sealed:
        return ()
    ids = dict(before.ids)
    if before.replied_to is not None and command.reply_to is not None:
        ids[before.replied_to.position] = command.reply_to
    return tuple(ids[position] for position in decision.erases)


def _forgotten(room: Room, command: c.PostMessage) -> tuple[Position, ...]:
    """Where the versions stand of a key that a message for a sealed room forgets, as the mirror has them now."""
    part = command.memory
    if part is None or not part.forgets or not room.state.is_sealed:
        return ()
    entry = room.state.memory.keys.get(part.key)
    return () if entry is None else entry.positions


def _said_then(envelope: Envelope, command: c.PostMessage, by: By, draft: Draft, room: Room) -> bool:
    """Whether a message says what a request asks for, by the names of everybody who was ever in the room: a handle is
    never given to another. To whom a hand-off went, and who reads a reply that names no readers, is left open."""
    ids = {member.handle: member.agent for member in room.state.members.values()}
    to = {ids.get(name, AgentId(name)) for name in command.to}
    if command.visibility is not None:
        readers = {ids.get(name, AgentId(name)) for name in command.visibility}
        is_for_them = readers | {by.actor} == {*(envelope.visibility or ()), by.actor}
    else:
        is_for_them = envelope.visibility is None or command.reply_to is not None
    is_same = (envelope.kind, asked(envelope.parts)) == (command.kind, asked(draft.parts))
    return is_same and _replies(envelope, command) and to <= set(envelope.to) and is_for_them


def _replies(envelope: Envelope, command: c.PostMessage) -> bool:
    """Whether a message replies to what a request says. Which turn an offer gives on that says nothing of it, followed
    from how the room stood then."""
    is_open = command.turn == "offered" and command.reply_to is None
    return is_open or envelope.reply_to == command.reply_to


def _says(envelope: Envelope, event: e.MessagePosted, draft: Draft) -> bool:
    said = (envelope.kind, envelope.to, envelope.role, envelope.visibility, asked(envelope.parts))
    return said == (event.kind, event.to, event.role, event.visibility, asked(draft.parts))
