"""What is said in a room: a page of messages that its home told, each judged where it stands.

Not here: a message by itself (`messages`), who its author is (`members`), under which record it has to be sealed
(`records`). Above: `items`. Below: `hearing`, `messages`. Pure. Invariants: what is taken in as somebody's words bears
that member's signature, in its place in the author's thread; the public line has no gap that nobody was told of.

What a member sealed is opened here, once the message was found sound, with what `opener` has. A message that can't be
opened is taken in as it came, and readers are told so in the place of its words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from parlerd.core import events as e
from parlerd.core.envelope import RELEASED, UNSIGNED, Envelope, guard_of, operation_of
from parlerd.core.errors import Refused
from parlerd.core.gated import EVERYONE
from parlerd.core.grants import may_say
from parlerd.core.lifecycle import OLDER_COPY
from parlerd.core.membership import REQUESTER, reads_on, view_of
from parlerd.core.messages import GUARD, Thread, audience_key
from parlerd.core.model import AgentId, By, MessageId, Millis, Shown, is_granted_id
from parlerd.core.public_line import next_line
from parlerd.core.sealing import OTHER, check_sealed, outside_kind, sealed_part
from parlerd.core.turning import are_wrapped_to
from parlerd.core.words import check_envelope
from parlerd.identity.proofs import bears
from parlerd.operations import types as t
from parlerd.uplink.arriving.hearing import Contradiction, Hearing, Member
from parlerd.uplink.arriving.messages import (
    BY_AUTHORS,
    KNOWN,
    decoded,
    door_of,
    gate_of,
    is_told,
    named_in_guard,
    posted_of,
    read_sealed,
    sealed_of,
    verified_as,
)
from parlerd.uplink.counters import Signed, Threaded


class Page:
    """A page over one hearing."""

    def __init__(self, hearing: Hearing, page: t.LinkPage) -> None:
        self.erased: list[int] = []
        """The numbers of public messages that the mirror knows and whose words are gone."""
        self._hearing = hearing
        self._page = page
        self._other = hearing.state.messages.other
        """The number of the newest public message that is known here and may belong to a sealed room's memory."""
        self._threads: dict[tuple[AgentId, str], Thread] = {}
        """Where threads end, as far as this page says."""
        self._forgot = False
        """Whether threads that the mirror knows are not to be compared, because messages were left out meanwhile."""
        self._forgot_private = False
        """The same for threads of private messages alone."""
        self._ids: set[MessageId] = set()
        """The messages of this page."""
        self._shown_now: dict[MessageId, set[AgentId]] = {}
        """To whom of this home the gated messages were shown that came here."""

    def hear(self) -> None:
        """Take in the messages."""
        hearing = self._hearing
        page = self._page
        number, line = hearing.shown
        before = {
            AgentId(agent): count
            for agent, count in page.before.items()
            if hearing.grounds.ours(AgentId(agent)) and self._is_shown(AgentId(agent))
        }
        if page.public > number and not page.jumped:
            raise Contradiction("line", number=page.public)
        if page.public > number:
            self._jump(page.public, page.line, before)
        elif page.public == number:
            if page.line != line:
                raise Contradiction("line", number=number)
            if any(count > hearing.numbers.get(agent, -1) for agent, count in before.items()):
                # Private messages were left out: their words were erased before they were told.
                self._forgot_private = True
                self._place(number, line, {**hearing.numbers, **before})
        elif hearing.past.lines.get(page.public, page.line) != page.line:
            raise Contradiction("line", number=page.public)
        place = Shown(page.public, page.line)
        hearing.lines[place.number] = place.line
        for message in page.messages:
            place = self._message(message, place)
            hearing.lines[place.number] = place.line

    def require_all(self) -> None:
        """Raise a contradiction where the home holds less than it told: the room ends at this place there, and goes on
        after it in the mirror."""
        hearing = self._hearing
        page = self._page
        before = tuple((reader, page.before[reader]) for reader in sorted(hearing.numbers) if reader in page.before)
        if page.public < hearing.shown.number:
            raise Contradiction(OLDER_COPY, number=page.public, before=before)
        for reader, newest in hearing.numbers.items():
            if page.before.get(reader, newest) < newest:
                raise Contradiction(OLDER_COPY, number=page.public, agent=reader, before=before)

    def _is_shown(self, agent: AgentId) -> bool:
        """Whether an agent is in, and in a sealed room in the record in force, so that it has a number of its own."""
        hearing = self._hearing
        member = hearing.member(agent)
        return member is not None and member.present and not (hearing.is_sealed and agent not in hearing.epoch.roster)

    def _jump(self, public: int, line: bytes, before: Mapping[AgentId, int]) -> None:
        """Messages were left out: nobody can tell what the threads of others ended with."""
        hearing = self._hearing
        hearing.is_whole, self._forgot = False, True
        self._threads.clear()
        self._place(public, line, {**hearing.numbers, **before})

    def _place(self, public: int, line: bytes, numbers: Mapping[AgentId, int]) -> None:
        """What follows comes after this public message, and each reader goes on after its own number."""
        hearing = self._hearing
        hearing.shown, hearing.numbers = Shown(public, line), dict(numbers)
        placed = e.MirrorPlaced(public=public, line=line, before=tuple(sorted(numbers.items())))
        hearing.add((placed,), hearing.owner, hearing.now)

    def _message(self, message: t.LinkMessage, place: Shown) -> Shown:
        """Take in one message that comes after this place; gives the place after it."""
        hearing = self._hearing
        if not message.body:
            # Its words were erased. What is left tells that there was a public message, and nothing else.
            after = Shown(place.number + 1, next_line(place.line, message.digest))
            if self._is_new(after):
                self._leave_out(after)
            else:
                self.erased.append(after.number)
            return after
        agent = AgentId(message.agent)
        envelope = decoded(message.body)
        if envelope is None:
            raise Contradiction("form", number=place.number, agent=agent)
        digest = hashlib.sha256(message.body).digest()
        after = place
        if envelope.visibility is None:
            after = Shown(place.number + 1, next_line(place.line, digest))
            is_new = self._is_new(after)
        else:
            is_new = not hearing.past.known.get(envelope.id, False)
        if not is_new:
            return after
        author = hearing.member(agent)
        if envelope.v not in KNOWN or author is None or hearing.past.known.get(envelope.id) is False:
            # A version that this program does not check, somebody whom nothing shows to be a member, or an id that a
            # message of another room has here, which the room's home cannot know.
            if after != place:
                self._leave_out(after)
            return after
        sealed = sealed_of(message.body, envelope)
        if envelope.v != UNSIGNED and (sealed is not None) is not hearing.is_sealed:
            # Whether a room is sealed stands in its opening, and no home admits the other kind of message there.
            raise Contradiction("form", number=after.number, agent=agent)
        if envelope.v in BY_AUTHORS:
            self._require_sound(message, envelope, digest, place, after, author)
        elif not is_told(message, envelope, hearing.room):
            raise Contradiction("unsigned", number=after.number, agent=agent)
        elif hearing.past.known.get(envelope.id) or envelope.id in self._ids or self._is_shown_again(message, envelope):
            raise Contradiction("id", number=after.number, agent=agent)
        elif envelope.v == RELEASED and sealed is not None:
            self._require_released(envelope, sealed[0], agent, place, after)
        self._post(message, envelope, digest, author, after)
        return after

    def _is_shown_again(self, message: t.LinkMessage, envelope: Envelope) -> bool:
        """Whether a reader here is shown what an author signed once as a second message."""
        if envelope.v != RELEASED:
            return False
        gate, readers = gate_of(message), self._shown_to(message, envelope)
        before = {*self._hearing.state.entries.shown.get(gate, ()), *self._shown_now.get(gate, ())}
        self._shown_now[gate] = before.union(readers)
        is_for_all = EVERYONE in before or EVERYONE in readers
        return bool(before) if is_for_all else not before.isdisjoint(readers)

    def _shown_to(self, message: t.LinkMessage, envelope: Envelope) -> tuple[AgentId, ...]:
        """The agents of this home that are shown a released message: everyone, or these alone. Its author always is."""
        if envelope.visibility is None:
            return (EVERYONE,)
        return tuple(each for each in envelope.visibility if self._hearing.grounds.ours(each) and each != message.agent)

    def _is_new(self, after: Shown) -> bool:
        """Whether the mirror lacks the public message that leads to this place. Raises a contradiction for one in the
        place of another."""
        hearing = self._hearing
        if after.number > hearing.shown.number:
            return True
        known = hearing.shown.line if after.number == hearing.shown.number else hearing.past.lines.get(after.number)
        if known is not None and known != after.line:
            raise Contradiction("line", number=after.number)
        return False

    def _leave_out(self, after: Shown) -> None:
        """Count a public message that the mirror does not take in."""
        hearing = self._hearing
        hearing.is_whole, self._forgot = False, True
        self._threads.clear()
        numbers = {agent: count + self._reads_on(agent) for agent, count in hearing.numbers.items()}
        self._place(after.number, after.line, numbers)

    def _reads_on(self, agent: AgentId) -> bool:
        """Whether an agent of this home that is in is shown what is public here: not who only asks a queue for work."""
        hearing = self._hearing
        if hearing.opening.kind != "service":
            return True
        if hearing.is_sealed:
            seat = hearing.epoch.roster.get(agent)
            return seat is not None and not seat.requester
        member = hearing.state.members.get(agent)
        if member is not None and member.present:
            return reads_on(member)
        known = hearing.member(agent)
        return known is not None and known.role != REQUESTER

    def _require_sound(
        self, message: t.LinkMessage, envelope: Envelope, digest: bytes, place: Shown, after: Shown, author: Member
    ) -> None:
        """Raise a contradiction for what an honest home would not have admitted, and for what it left out."""
        hearing = self._hearing
        agent = AgentId(message.agent)

        def refuse(what: str) -> Contradiction:
            return Contradiction(what, number=after.number, agent=agent)

        try:
            if hearing.is_sealed:
                self._require_sealed(envelope, agent)
            else:
                check_envelope(envelope)
        except Refused as error:
            raise refuse("epoch" if error.code == "stale_epoch" else "form") from None
        if envelope.room != hearing.room:
            raise refuse("room")
        threaded = Threaded(envelope.room, agent, audience_key(envelope.visibility))
        is_own = hearing.grounds.own(threaded, envelope.counter, Signed(digest, message.signature))
        if not is_own and bears(agent, hearing.home, message.body, message.signature) is None:
            raise refuse("signature")
        if is_granted_id(agent) and not may_say(author.given, Millis(message.at)):
            raise refuse("grant")
        if hearing.past.known.get(envelope.id) or envelope.id in self._ids:
            raise refuse("id")
        thread = self._thread(agent, envelope)
        if thread is not None and (envelope.previous != thread.envelope or envelope.counter <= thread.counter):
            raise refuse("thread")
        # The author was shown the room by the same home: as many messages at most, and the same ones.
        if envelope.shown > place.number:
            raise refuse("shown")
        known = hearing.line_at(envelope.shown)
        if known is not None and known != envelope.line:
            raise refuse("fork")
        if guard_of(envelope.parts) is not None and envelope.shown < self._other:
            # Its author compared what was remembered before that.
            raise refuse(GUARD)

    def _require_sealed(self, envelope: Envelope, author: AgentId) -> None:
        """Raise `Refused` for a sealed envelope of another form than an honest home admits, and `stale_epoch` for one
        of another epoch than is in force here, or by or for somebody who is not in its roster."""
        part, epoch = check_sealed(envelope), self._hearing.epoch
        if (part.epoch, part.record) != (epoch.number, epoch.record) or author not in epoch.roster:
            raise Refused("stale_epoch")
        if envelope.visibility is not None:
            readers = sorted({*envelope.visibility, author})
            if [agent for agent, _ in part.wraps] != readers or not set(readers) <= epoch.roster.keys():
                raise Refused("stale_epoch")

    def _require_released(
        self, envelope: Envelope, sealed: Envelope, author: AgentId, place: Shown, after: Shown
    ) -> None:
        """Raise a contradiction for a gated message of a sealed room that an honest home would not have shown here: its
        author sealed it as `sealed`, before this place. Its epoch may be over; but neither its author nor a reader who
        is named may be out of the roster in force, or the relay and somebody who was put out could say something new
        together."""
        hearing = self._hearing
        part, epoch = sealed_part(sealed), hearing.epoch
        named = {author, *(envelope.visibility or ())}
        is_in_time = part.epoch < epoch.number or (part.epoch, part.record) == (epoch.number, epoch.record)
        is_public = envelope.visibility is None
        ours = filter(self._reads_on, hearing.numbers) if is_public else filter(hearing.grounds.ours, named)
        is_for_them = all(self._was_shown(reader, part.epoch) for reader in ours if reader != author)
        if not (is_in_time and named <= epoch.roster.keys() and are_wrapped_to(sealed, author) and is_for_them):
            raise Contradiction("epoch", number=after.number, agent=author)
        if sealed.shown > place.number:
            raise Contradiction("shown", number=after.number, agent=author)

    def _was_shown(self, reader: AgentId, number: int) -> bool:
        """Whether an agent of this home may see something that was said while the epoch of this number was in force, as
        far as the mirror can tell."""
        state = self._hearing.state
        if state.history == "full" or number > state.epochs.number:
            return True
        member = state.members.get(reader)
        if member is None:
            # It came in with a record of this item, unless its coming is told late.
            return reader in state.epochs.roster
        places = [(each, position) for each, position in state.epochs.turned if each <= number + 1]
        begin = next((position for each, position in places if each == number), None)
        end = next((position for each, position in places if each == number + 1), None)
        if begin is None:
            # The mirror began later.
            return True
        recap = (state.opening - 1, state.opening)
        return any(
            (end is None or after < end) and (upto is None or upto > begin)
            for after, upto in view_of(member).spans
            if (after, upto) != recap
        )

    def _thread(self, agent: AgentId, envelope: Envelope) -> Thread | None:
        """Where the author's thread ended before; None when that is not known here."""
        hearing = self._hearing
        audience = audience_key(envelope.visibility)
        found = self._threads.get((agent, audience))
        if found is not None:
            return found
        is_forgotten = self._forgot or (self._forgot_private and envelope.visibility is not None)
        if not is_forgotten and (hearing.is_whole or not hearing.grounds.ours(agent)):
            found = hearing.state.messages.threads.get(agent, {}).get(audience)
        if found is None and hearing.is_whole and envelope.visibility is None:
            return Thread()
        return found

    def _post(self, message: t.LinkMessage, envelope: Envelope, digest: bytes, author: Member, after: Shown) -> None:
        hearing = self._hearing
        agent, is_public = AgentId(message.agent), envelope.visibility is None
        body = message.body
        if hearing.is_sealed:
            seat = hearing.epoch.roster.get(agent)
            # What waited was sealed under an earlier roster. Who only asks writes nothing that waits.
            asks = envelope.v != RELEASED and seat is not None and seat.requester
            envelope, body = read_sealed(message, envelope, hearing.grounds.opener, asks=asks)
        is_recap = envelope.kind == "context" and is_public and after.number == 1 and agent == hearing.opening.owner
        posted = posted_of(envelope, digest, message, is_opening=message.opening and is_recap)
        by = By(agent, author.principal, "", envelope.host, door_of(envelope))
        # Of an agent of this home it is known by which request it said something, and so which one is a repeated one.
        ours = hearing.grounds.ours(agent) and envelope.v in BY_AUTHORS
        events: tuple[e.RoomEvent, ...] = (posted,)
        bodies: tuple[tuple[bytes, bytes | None] | None, ...] = ((body, message.signature or None),)
        if envelope.v == RELEASED:
            readers = None if is_public else self._shown_to(message, envelope)
            events = e.MessageReleased(gate=gate_of(message), id=envelope.id, readers=readers), posted
            bodies = None, *bodies
        hearing.add(
            events,
            by,
            Millis(message.at),
            bodies,
            operation=operation_of(envelope.parts) if ours else "",
            key=envelope.key if ours else None,
            verified=verified_as(envelope, agent),
            named=named_in_guard(envelope) if hearing.is_sealed else None,
        )
        if hearing.is_sealed and is_public and outside_kind(envelope.kind) == OTHER:
            self._other = after.number
        hearing.shown = after
        self._ids.add(envelope.id)
        if envelope.v in BY_AUTHORS:
            self._threads[agent, audience_key(envelope.visibility)] = Thread(envelope.counter, digest)
        for reader in hearing.numbers:
            if self._reads_on(reader) if is_public else reader in (envelope.visibility or ()):
                hearing.numbers[reader] += 1
