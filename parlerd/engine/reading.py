"""What is recorded before a page leaves, what acknowledging moves, and how a message reads to its reader.

A page's delivery range is durable before the answer leaves: the range is the ladder behind `why`. Only a page that
acknowledges nothing is shown without a range where the disk takes none.

Not here: getting a page (`library`), waiting for one (`receiving`), which pages a window has seen (`readers`). Above:
every handler that shows messages. Invariant: a cursor moves by acknowledging alone, and never past what was delivered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from parlerd.bounded import Bounded
from parlerd.core import events as e
from parlerd.core import invocations
from parlerd.core.envelope import (
    SEALED,
    UNSIGNED,
    BlobPart,
    DataPart,
    HandoffAnswerPart,
    HandoffPart,
    SealedPart,
    TextPart,
    Transcript,
    UnknownPart,
    decode_envelope,
)
from parlerd.core.errors import ERRORS, Refused, StoreError
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import Member
from parlerd.core.model import AgentId, MessageId, Millis, PeerText, Position, RoomId, Seq, Shown, Stage, View
from parlerd.core.room import Room, RoomState
from parlerd.core.turning import may_succeed
from parlerd.core.words import CAPSULE_LISTS
from parlerd.engine.absent import is_absent, is_pruned, refill
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import ForsakenRoom, RoomHandle
from parlerd.engine.library import PAGE_BYTES, Library
from parlerd.engine.readers import Fitting
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery, MoveCursor, Page, StoredMessage, Write

log = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 4096
"""Readers of whom is kept at hand how far they were shown a room; anyone else's is looked up."""

ABSENT: Final = "[The words of this message are not on this machine.]"
"""What a reader is shown in the place of words that were erased here and that the room's home does not tell now."""
ERASED: Final = "[The words of this message were erased by retention or a timer.]"
"""What a reader is shown in the place of words that went because there were too many."""
FORGOTTEN: Final = "[This was forgotten.]"
"""What a reader is shown in the place of what its room remembered once."""
UNREADABLE: Final = "[This part of the message has a type that this version of Parler does not know.]"
"""What a reader is shown in the place of an unknown part. Nothing in it was chosen by the author."""
SEALED_AWAY: Final = "[The words of this message are encrypted, and this machine could not read them.]"
"""What a reader is shown in the place of sealed words for which this home has no secret, or that are not what they
should be."""


@dataclass(frozen=True, slots=True)
class ContextPage:
    """What a reader comes up with who has more behind it than one page holds: perhaps the recap, then the newest.

    `spans` are the (after, upto] positions that are shown, `end` is where acknowledging it leaves the reader: past the
    gap from `first_unshown` to `last_unshown`, which is stated. With the recap alone, all that follows stays new.
    `said` is what a reader is told of words that are not here.
    """

    messages: list[t.Message]
    spans: list[tuple[Position, Position]]
    end: Position
    end_seq: Seq
    newest: Page
    first_unshown: int = 0
    last_unshown: int = 0
    said: str = ""

    @property
    def truncated(self) -> bool:
        """Whether there is a gap."""
        return self.first_unshown > 0


class Reading:
    """Reads, marks and acknowledges for the handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # Up to where each reader was shown each room, with the public line there, which the next envelope of that
        # reader signs. The store knows it too, but each message would ask.
        self._seen: Bounded[tuple[RoomId, AgentId], tuple[Position, Shown]] = Bounded(MAX_REMEMBERED)

    # -- pages ---------------------------------------------------------------------------------------------

    async def context(
        self,
        handle: RoomHandle,
        room: Room,
        reader: AgentId,
        after: Position,
        *,
        stood: Position,
        limit: int,
        fits: Fitting | None,
        skip_own: bool = False,
        told: StoredMessage | None = None,
    ) -> ContextPage:
        """The recap, if it follows `after`, and the newest messages, as many as `limit` and the surface allow. `stood`
        is where the room was when nothing of it was on its way to the store. `told` is the recap where the log leaves
        it out and the room's home told it; it is shown where there is space, and not marked as read."""
        state = room.state
        view, you, library = room.view(reader), handle_of(state, reader), self._desk.library
        tail = await library.tail(state.room, view, limit=limit, max_bytes=PAGE_BYTES)
        stored = [m for m in tail.messages if m.header.position > after]
        newest = [m for m in stored if not (skip_own and m.header.by.actor == reader)] or stored
        recap = [m for m in newest if m.header.position == state.opening]
        newest = newest[len(recap) :]
        if newest and after < state.opening < newest[0].header.position and not recap:
            opening = Position(state.opening - 1)
            recap = (await library.page(room, view, opening, limit=1, max_bytes=1024, skip_own=False)).messages
        told = None if recap else told
        recap = recap if told is None or not newest else [told]
        refilled = await refill(handle, state, reader, [*recap, *newest])
        recap, newest = refilled.messages[: len(recap)], refilled.messages[len(recap) :]
        begins = await library.seq_at(room, view, after) + 1
        # Every position up to here is shown, is in the gap that is stated, or holds no message for this reader.
        end = max(after, min(max(tail.end, stood), room.shown_upto(reader)))
        first = recap[0].seq + 1 if recap else begins
        if not newest:
            return ContextPage(
                await self.render(state, view, recap),
                [(after, end)],
                end,
                tail.end_seq,
                tail,
                said=refilled.said,
            )
        shown = await self.render(state, view, [*recap, *newest])
        head, rest = shown[: len(recap)], shown[len(recap) :]
        kept = len(rest) if fits is None else fits.newest(head, rest, you, whole=newest[0].seq == first)
        if told is not None and not kept:
            # Alone it would leave the reader where it was.
            recap, head, first = [], [], begins
            kept = len(rest) if fits is None else fits.newest([], rest, you, whole=False)
        if recap and not kept:
            at = recap[0].header.position
            page = Page(recap, at, recap[0].seq, await library.shown_at(state.room, at), more=True)
            return ContextPage(head, [(Position(at - 1), at)], at, recap[0].seq, page, said=refilled.said)
        newest, rest = newest[len(newest) - kept :], rest[len(rest) - kept :]
        gap = newest[0].seq - first
        spans = [(after, end)]
        if gap > 0:
            spans = [(Position(m.header.position - 1), m.header.position) for m in recap if m is not told]
            spans.append((Position(newest[0].header.position - 1), end))
        return ContextPage(
            [*head, *rest],
            spans,
            end,
            tail.end_seq,
            tail,
            first_unshown=first if gap > 0 else 0,
            last_unshown=newest[0].seq - 1 if gap > 0 else 0,
            said=refilled.said,
        )

    # -- marking and acknowledging -------------------------------------------------------------------------

    async def mark(
        self,
        room: RoomId,
        reader: AgentId,
        spans: Iterable[tuple[Position, Position]],
        stage: Stage = "read",
        *,
        needed: bool = True,
    ) -> None:
        """Record, durably, that messages in these (after, upto] reached `stage` for this reader.

        What will be acknowledged needs its mark, or the cursor could not follow. A look that acknowledges nothing does
        not (`needed` False): where nothing can be written, on a full disk say, it goes on without one.
        """
        now = self._desk.clock.now()
        marks: list[Write] = [
            MarkDelivery(room, reader, stage, upto=upto, at=now, after=after) for after, upto in spans
        ]
        if marks:
            try:
                await self._desk.library.record(marks)
            except StoreError as error:
                if needed:
                    raise
                log.warning("room %s: a look is not on record: %s", room, error.code)

    async def acknowledge(self, room: RoomId, reader: AgentId, upto: Position) -> None:
        """Move a reader's cursor. Idempotent, never backwards. Raises `Refused(cursor_ahead)`."""
        cursor = await self._desk.library.cursor(room, reader)
        if upto > cursor.delivered:
            raise Refused("cursor_ahead")
        if upto > cursor.acknowledged:
            await self._desk.library.record(
                [
                    MoveCursor(room, reader, upto),
                    MarkDelivery(
                        room,
                        reader,
                        "acknowledged",
                        upto=upto,
                        at=self._desk.clock.now(),
                        after=cursor.acknowledged,
                    ),
                ]
            )

    def is_beside_window(self, caller: Caller, me: AgentRecord) -> bool:
        """Whether a command, or whoever else says what it has read, reads as an agent that a live window acts as: then
        it acknowledges nothing unasked, for the window has not seen what it was shown. The person's own agent is
        theirs to read as."""
        is_command = caller.reader.acknowledges == "commit" and not caller.facts.authority.speaks_as_person
        return is_command and self._desk.presence.is_held_by_window(me.id)

    async def message_id(self, room: Room, reader: AgentId, meant: str) -> MessageId:
        """The message that is meant by its id, or by this reader's own number of it. Raises
        `Refused(no_such_message)`."""
        seq = number_of(meant)
        if seq is None:
            return MessageId(meant)
        found = await self._desk.library.numbered(room.state.room, room.view(reader), seq)
        if found is None:
            raise Refused("no_such_message", id=meant)
        return found

    def message_id_now(self, room: Room, reader: AgentId, meant: str) -> MessageId | None:
        """The same in the call; None for a message that is not there, or where a store that is not at hand has to be
        asked."""
        seq = number_of(meant)
        if seq is None:
            return MessageId(meant)
        return self._desk.library.numbered_now(room.state.room, room.view(reader), seq)

    # -- what a reader has seen ----------------------------------------------------------------------------

    async def seen(self, room: RoomId, reader: AgentId) -> Shown:
        """How far this reader was shown the room, for the envelopes that it signs."""
        known = self._seen.get((room, reader))
        if known is None:
            found = await self._desk.library.seen(room, reader)
            # A page that was shown meanwhile went farther.
            known = self._seen[room, reader] = self._seen.get((room, reader)) or found
        return known[1]

    def seen_now(self, room: RoomId, reader: AgentId) -> Shown | None:
        """The same in the call; None where a store that is not at hand has to be asked."""
        known = self._seen.get((room, reader))
        if known is None:
            known = self._desk.library.seen_now(room, reader)
            if known is not None:
                self._seen[room, reader] = known
        return None if known is None else known[1]

    def note_seen(self, room: RoomId, reader: AgentId, page: Page) -> None:
        """A page was shown; later envelopes of this reader name its end."""
        known = self._seen.get((room, reader))
        if page.messages and (known is None or page.end >= known[0]):
            self._seen[room, reader] = (page.end, page.shown)

    # -- rendering -----------------------------------------------------------------------------------------

    def now_in(self, room: RoomState) -> Millis:
        """The time in a room, by the clock of its home: an offer of the turn expires by that one."""
        return max(self._desk.now_at(room.home), room.last_at)

    async def render(self, room: RoomState, view: View, messages: Sequence[StoredMessage]) -> list[t.Message]:
        """Messages as this reader is shown them. A reply names what it replies to by the reader's own number, which is
        the only name that a reader has for a message."""
        now = self.now_in(room)
        shown = [render_message(room, view.reader, message, now) for message in messages]
        replied_to = {MessageId(id) for each in shown for id in _named(each)}
        if not replied_to:
            return shown
        # A message of the same page may be in no log here.
        numbers = {MessageId(each.id): Seq(each.seq) for each in shown if each.id in replied_to}
        if len(numbers) < len(replied_to):
            numbers |= await self._desk.library.replied_to(room.room, view, replied_to - numbers.keys())
        return [_numbered(each, numbers) for each in shown]


def _named(message: t.Message) -> Iterable[str]:
    """The other messages that a message names."""
    if message.reply_to is not msgspec.UNSET:
        yield message.reply_to
    if message.handoff is not msgspec.UNSET and message.handoff.transcript is not msgspec.UNSET:
        yield from (message.handoff.transcript.first, message.handoff.transcript.last)


def _numbered(message: t.Message, numbers: Mapping[MessageId, Seq]) -> t.Message:
    """A message with the reader's own numbers of those that it names."""
    if message.reply_to is not msgspec.UNSET and message.reply_to in numbers:
        message = msgspec.structs.replace(message, reply_seq=numbers[MessageId(message.reply_to)])
    if message.handoff is not msgspec.UNSET and message.handoff.transcript is not msgspec.UNSET:
        said = message.handoff.transcript
        first, last = (numbers.get(MessageId(id), Seq(0)) for id in (said.first, said.last))
        said = msgspec.structs.replace(said, first_seq=first, last_seq=last)
        message = msgspec.structs.replace(message, handoff=msgspec.structs.replace(message.handoff, transcript=said))
    return message


def render_message(room: RoomState, reader: AgentId, stored: StoredMessage, now: Millis) -> t.Message:
    """One message in the shape every surface prints, as things stand at `now`, by the room's time."""
    header = stored.header
    event = header.event
    assert isinstance(event, e.MessagePosted)
    said = _parts(room, reader, event, stored, now)
    return t.Message(
        id=event.id,
        seq=stored.seq,
        at=header.at,
        author=author_of(room, header.by.actor, header.by.host),
        verified=event.verified if _is_whole(room, stored) else "invalid",
        via=header.by.via,
        kind=event.kind,
        text=PeerText(said.text),
        to=[handle_of(room, agent) for agent in event.to] or msgspec.UNSET,
        reply_to=event.reply_to or msgspec.UNSET,
        data=said.data,
        handoff=said.handoff,
        handoff_answer=said.answer,
        memory=_mark(event),
        brings=said.brings,
        private=True if event.visibility is not None else msgspec.UNSET,
        opening=True if event.opening else msgspec.UNSET,
        erased=True if is_pruned(room, stored) else msgspec.UNSET,
        lost=True if room.rewinds.is_lost(header.position) else msgspec.UNSET,
    )


def _mark(event: e.MessagePosted) -> t.MemoryMark | msgspec.UnsetType:
    note = event.memory
    if note is None:
        return msgspec.UNSET
    return t.MemoryMark(key=note.key, version=note.version, forgets=note.forgets)


def _is_whole(room: RoomState, stored: StoredMessage) -> bool:
    """Whether these are the words that were stored, or were erased on purpose: else a body that is gone was taken
    away."""
    is_there = stored.body is not None or stored.header.body is None
    return stored.unaltered and (is_there or bool(_stands_for(room, stored)))


def _stands_for(room: RoomState, stored: StoredMessage) -> str:
    """What a reader is shown in the place of words that were erased on purpose; nothing for any other message."""
    if stored.body is not None or not stored.is_erased:
        return ""
    if is_pruned(room, stored):
        return ERASED
    if is_absent(room, stored):
        return ABSENT
    return FORGOTTEN if e.is_remembered(stored.header.event) else ""


@dataclass(slots=True)
class _Said:
    """What a body says, by sort of part."""

    text: str = ""
    data: object = msgspec.UNSET
    handoff: t.Handoff | msgspec.UnsetType = msgspec.UNSET
    answer: t.HandoffAnswer | msgspec.UnsetType = msgspec.UNSET
    brings: t.BlobInfo | msgspec.UnsetType = msgspec.UNSET


def _parts(room: RoomState, reader: AgentId, event: e.MessagePosted, stored: StoredMessage, now: Millis) -> _Said:
    """The words of a body; one that is gone has none, nor one that was altered beyond reading."""
    if stored.body is None:
        return _Said(_stands_for(room, stored))
    said = _Said()
    texts: list[str] = []
    try:
        envelope = decode_envelope(stored.body)
        if event.envelope_v == UNSIGNED:
            invoker = stored.header.by.actor
            invoked = invocations.read(envelope, invoker)
            line = invocations.sentence(handle_of(room, invoker), invoked)
            return _Said(line, data=invocations.data_of(invoked))
    # msgspec lets text that is not UTF-8 and nesting without end through as they are.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused) as error:
        if not stored.unaltered:
            return said
        raise StoreError("store_corrupt", f"The stored text of {event.id} is damaged.", id=event.id) from error
    for part in envelope.parts:
        match part:
            case TextPart(text=text):
                texts.append(text)
            case DataPart(data=value):
                said.data = value
            case HandoffPart():
                said.handoff = _offered(room, reader, event, part, now)
            case HandoffAnswerPart(answer=answer, reason=reason):
                said.answer = t.HandoffAnswer(answer=answer, reason=PeerText(reason))
            case BlobPart() if envelope.v != SEALED:
                said.brings = _brought(part)
            case UnknownPart():
                texts.append(UNREADABLE)
            case SealedPart():
                texts.append(SEALED_AWAY)
    said.text = "\n".join(texts)
    return said


def _brought(part: BlobPart) -> t.BlobInfo:
    """What a message brings, as its author says."""
    return t.BlobInfo(
        blob=part.blob,
        size=part.size,
        name=PeerText(part.name),
        tip=part.tip or msgspec.UNSET,
        base=part.base or msgspec.UNSET,
        left_out=part.left_out or msgspec.UNSET,
    )


def _offered(room: RoomState, reader: AgentId, event: e.MessagePosted, part: HandoffPart, now: Millis) -> t.Handoff:
    """An offer of the turn, and what became of it by now."""
    offers = room.offers
    offer = offers.get(event.id)
    status: t.HandoffStatus | msgspec.UnsetType = msgspec.UNSET
    taken_by: str | msgspec.UnsetType = msgspec.UNSET
    if offer is not None:
        status, final = offers.standing(offer, now)
        if status == "accepted" and final is not None:
            taken_by = handle_of(room, final.by)
    lists = {name: list(map(PeerText, getattr(part, name))) or msgspec.UNSET for name in CAPSULE_LISTS}
    return t.Handoff(
        next=PeerText(part.next),
        summary=PeerText(part.summary),
        for_=part.target,
        to_you=is_for(room, reader, event) if offer is None else offers.is_for(offer, reader),
        goal=PeerText(part.goal) if part.goal else msgspec.UNSET,
        state=PeerText(part.state) if part.state else msgspec.UNSET,
        transcript=msgspec.UNSET if part.transcript is None else _transcript(part.transcript),
        status=status,
        taken_by=taken_by,
        **lists,
    )


def _transcript(said: Transcript) -> t.HandoffTranscript:
    quoted = [
        t.QuotedMessage(id=each.id, author=PeerText(each.author), at=each.at, kind=each.kind, text=PeerText(each.text))
        for each in said.quoted
    ]
    return t.HandoffTranscript(
        first=said.first,
        last=said.last,
        count=said.count,
        left_out=said.left_out,
        quoted=quoted or msgspec.UNSET,
    )


class Talk(NamedTuple):
    """What others said that a reader has not read: how many messages, without those of the room's memory, which nobody
    is told of by themselves; up to where that was counted; and the first of them."""

    number: int
    upto: Position
    page: Page


async def talk_after(library: Library, room: Room, view: View, after: Position, *, look: int) -> Talk | None:
    """What others said after a position, of which the first `look` messages are looked at; None where it is nothing
    but what the room remembers or forgets."""
    unread = await library.unread(room, view, after)
    if not unread.number:
        return None
    page = await library.page(room, view, after, limit=look, skip_own=True)
    number = unread.number - _count_of_memory(page)
    return Talk(number, unread.upto, page) if number > 0 else None


def _count_of_memory(page: Page) -> int:
    """How many messages of a page are what their room remembers or forgets."""
    return sum(
        isinstance(stored.header.event, e.MessagePosted) and stored.header.event.memory is not None
        for stored in page.messages
    )


def alarm_of(room: RoomState) -> str:
    """What is said beside whatever is shown of a room whose home contradicted itself or has it no more; nothing of any
    other room."""
    if room.alarm is None:
        return ""
    found = ERRORS[room.alarm]
    return f"{found.message} {found.hint}"


def lost_of(room: RoomState, acknowledged: Position) -> str:
    """What is said beside what is shown of a room that was rewound, to a reader who has not acknowledged anything from
    after that; nothing where this home held nothing that was lost."""
    newest = room.rewinds.rewound[-1] if room.rewinds.rewound else None
    if newest is None or acknowledged >= newest.position or newest.upto == newest.position - 1:
        return ""
    return (
        "The relay of this session was restored from an older copy. The person who opened the session let it go on "
        "without the messages that are marked as lost by the relay: nobody who came in later sees those."
    )


def minute_of(at: Millis) -> str:
    """A moment in words, in UTC. A home elsewhere may have told any moment, also one behind the year 9999, with which
    `datetime` ends."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at // 1000))


def key_change_of(room: Room) -> str:
    """What is said beside whatever is shown of a sealed room, and to whoever says something there, while somebody is in
    who cannot read yet, or is out who still could; nothing of any other room."""
    since = room.epochs.pending_since()
    if not since:
        return ""
    state = room.state
    at = minute_of(since)
    coming = ", ".join(sorted(handle_of(state, agent) for agent in state.epochs.entering))
    gone = ", ".join(sorted(handle_of(state, agent) for agent in state.epochs.leaving))
    cannot = f"{coming} cannot read what is said" if coming else ""
    could = f"{gone} left and could still read what the relay hands out" if gone else ""
    meanwhile = " and ".join(filter(None, (cannot, could))) or "nothing can be said there"
    return f"Key change pending since {at}. Until the machine of the session's owner makes it, {meanwhile}."


def successor_of(room: Room) -> list[str]:
    """Under which handles the agents of the person read a sealed room whom its owner named to go on; none where nobody
    is named, and in every other room."""
    state = room.state
    person = state.epochs.successor
    if not state.is_sealed or not may_succeed(state.epochs, state.lifecycle.owners[-1].record, person):
        return []
    return sorted(entry.handle for entry in state.epochs.roster.values() if entry.principal == person)


def taken_over_from(room: Room) -> str:
    """What is said beside whatever is shown of a sealed room that was taken over: the person whose room it was may come
    back and not know. Nothing of any other room."""
    state = room.state
    owner = state.lifecycle.owners[-1] if state.lifecycle.owners else None
    if owner is None or not owner.taken or not state.is_sealed:
        return ""
    at = minute_of(owner.at)
    before = state.lifecycle.owners[-2].agent
    return (
        f"{handle_of(state, owner.agent)} owns this session since {at}: {handle_of(state, before)}, who owned it "
        "before, had named that person to go on."
    )


def silence_of(handle: RoomHandle, now: Millis, lacking: str) -> str:
    """What is said beside whatever is shown of a room whose home does not answer; nothing of any other room. `lacking`
    says what may be missing."""
    since = handle.silent_since()
    if since is None:
        return ""
    if isinstance(handle, ForsakenRoom):
        return f"{handle.home_name} is not among the homes of this machine: {lacking}"
    seconds = max(0, now - since) // 1000
    time = f"{seconds} s" if seconds < 60 else f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h"
    heard = f"Nothing was heard from {handle.home_name} " + (f"for {time}" if since else "yet")
    return f"{heard}: {lacking}"


def as_of(handle: RoomHandle) -> Millis | msgspec.UnsetType:
    """When a room's home was last heard from, where what is shown of the room is as of then."""
    since = handle.silent_since()
    return msgspec.UNSET if since is None else since


def is_for(room: RoomState, reader: AgentId, event: e.MessagePosted) -> bool:
    """Whether a message asks for this reader's attention: by id, by role or handle; a handoff to no one is for
    anyone."""
    return not set(names_in(room, reader)).isdisjoint(e.addressees(event))


def names_in(room: RoomState, reader: AgentId) -> tuple[str, ...]:
    """What this reader answers to in a room, as the index of addressees has it."""
    member = room.members.get(reader)
    return e.names_of(reader) if member is None else e.names_of(reader, member.handle, member.role)


def author_of(room: RoomState, agent: AgentId, host: str) -> t.Author:
    member = room.members.get(agent)
    if member is None:
        return t.Author(id=agent, name=agent, role="", host=host)
    return t.Author(id=agent, name=member.handle, role=role_of(room, member), host=host)


def role_of(room: RoomState, member: Member) -> str:
    return member.role or ("owner" if member.agent == room.owner else "member")


def handle_of(room: RoomState, agent: AgentId) -> str:
    member = room.members.get(agent)
    return agent if member is None else member.handle


def number_of(meant: str) -> Seq | None:
    """The number by which a reader means a message (`7` or `#7`); None for an id."""
    number = meant.removeprefix("#")
    return Seq(int(number)) if number.isascii() and number.isdigit() and len(number) <= 15 else None


def parse_cursor(text: str) -> Seq:
    """A cursor as a seq. Raises `Refused(invalid_cursor)`."""
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Refused("invalid_cursor")
    return Seq(int(text))
