"""One message for a room elsewhere, decided over the room's mirror and signed: what leaves for the room's home.

The mirror decides with the same rules as the room's home, which decides again and compares. The only thing that the
mirror may not know is where the author's thread ends, because messages that are on their way are in no mirror yet:
the caller hands that over.

Not here: sending it (`lanes`). Above: `lanes`. Below: the mirror, its library, and the author who signs. Invariant:
nothing is signed that the mirror's rules refuse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.envelope import Envelope, decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.messages import Thread, audience_key, thread_of
from parlerd.core.model import AgentId, By, MessageId, Millis, Position, Prior
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Author, Draft, Place
from parlerd.engine.deciding import reply_target
from parlerd.engine.desk import Desk
from parlerd.store.port import Past
from parlerd.uplink.counters import Counters


@dataclass(frozen=True, slots=True)
class Decided:
    """What the mirror decided about a request for a message: it was made before (`replay`), or it leads to `event`."""

    decision: Decision
    event: e.MessagePosted | None

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

    def __init__(self, desk: Desk, author: Author, counters: Counters) -> None:
        self._desk = desk
        self._author = author
        self._counters = counters

    async def decide(self, actor: RoomActor[Room], command: c.PostMessage, by: By, draft: Draft) -> Decided:
        """What the mirror says to a request. Raises `Refused` with what a room that lives here would refuse it with."""
        key = (by.actor, command.operation, command.idempotency_key or "")
        asked = [] if command.fresh else [key]
        named = [] if command.reply_to is None else [command.reply_to]
        past = await self._desk.library.past(actor.room, asked, named) if asked or named else Past()
        if command.reply_to is not None:
            command = msgspec.structs.replace(command, reply=reply_target(past.messages.get(command.reply_to)))
        room, now = actor.aggregate, self._now(actor)
        prior = past.priors.get(key)
        if prior is None:
            decision = room.decide(command, by=by, now=now, ids=self._desk.random)
        else:
            posted = room.decide(msgspec.structs.replace(command, id=None), by=by, now=now, ids=self._desk.random)
            is_same = await self._is_same(actor, prior.position, posted, draft)
            prior = Prior(prior.position, (command.input or b"") if is_same else b"differs")
            decision = room.decide(msgspec.structs.replace(command, prior=prior), by=by, now=now, ids=self._desk.random)
        [event] = decision.events or (None,)
        assert event is None or isinstance(event, e.MessagePosted)
        return Decided(decision, event)

    async def compose(
        self, actor: RoomActor[Room], command: c.PostMessage, by: By, draft: Draft, ends: dict[str, Thread]
    ) -> Composed | Decided:
        """The envelope of a request, signed. `ends` are the ends of the author's threads by audience, as far as they
        are ahead of the mirror. Gives what the mirror decided for a request that was made before."""
        decided = await self.decide(actor, command, by, draft)
        event = decided.event
        if event is None:
            return decided
        thread = thread_of(actor.aggregate.state.messages, by.actor, event.visibility)
        ahead = ends.get(audience_key(event.visibility))
        if ahead is not None and ahead.counter > thread.counter:
            thread = ahead
        state = actor.aggregate.state
        # What the home lost since, it would not know as something that it showed the author.
        draft = replace(draft, shown=state.rewinds.still_shown(draft.shown))
        event = msgspec.structs.replace(event, counter=self._counters.after(thread.counter))
        place = Place(actor.room, command.idempotency_key or "", by, thread.envelope, self._now(actor))
        sealed = self._author.seal(draft, event, place)
        digest = hashlib.sha256(sealed.body).digest()
        self._counters.note(event.counter, digest)
        thread = Thread(event.counter, digest)
        return Composed(event.id, sealed.body, sealed.signature, event.visibility, thread, state.epoch)

    def _now(self, actor: RoomActor[Room]) -> Millis:
        return max(self._desk.clock.now(), actor.aggregate.last_at)

    async def _is_same(self, actor: RoomActor[Room], position: Position, posted: Decision, draft: Draft) -> bool:
        """Whether the message at this position says what the request would say. A message that came back from its
        room's home bears no digest of the request: the words themselves are compared."""
        stored = await self._desk.library.body(actor.room, position)
        [event] = posted.events
        assert isinstance(event, e.MessagePosted)
        if stored is None:
            raise Refused("idempotency_expired")
        return _says(decode_envelope(stored), event, draft)


def _says(envelope: Envelope, event: e.MessagePosted, draft: Draft) -> bool:
    said = (envelope.kind, envelope.to, envelope.role, envelope.visibility, envelope.reply_to, envelope.parts)
    return said == (event.kind, event.to, event.role, event.visibility, event.reply_to, draft.parts)
