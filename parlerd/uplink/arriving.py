"""What a home elsewhere told of a room, judged, and turned into what the room's mirror takes in.

    item of the link -> Arriving.take(item, past) -> Arrivals, in the order of the other home's log

Nothing that the other home says is believed that somebody's signature can show:

    whose a room is    by its opening, which the person signed, or the home within a grant of the person's: not after
                       its end, and no more rooms than it says, as far as they are known here
    who a member is    by the room's opening, by a signed decision, or by a knock with a key of signed terms. A member
                       without a proof is left out, and so are its words. An agent of this home is in no room at which
                       it did not knock itself.
    who said what      by the author's signature over the envelope, which has to be for this room and in order; or, of
                       an agent that has no key, by the home's own, within the grant by which that agent is a member.
                       That an action was invoked, the home says itself, and it is taken in as that: unsigned
    who can read it    in a sealed room, by the records of its epochs, which the owner's person signed, each of which
                       names the one before. A message has to name the record that is in force where it stands or, where
                       it waited, one before that
    that nothing is    by the public line, which each page and each envelope states, and by each author's threads
    missing            within the messages that this home is shown
    whose a name is    a handle means one agent for good

Where two of these contradict each other, or contradict what the mirror holds, the other home has lied: it admits a
message only after the same checks. The room's mirror then gets one fact that says so (`HomeContradicted`), and takes
nothing in any more. What an honest home may do is never such a contradiction: it may tell again what it told, begin
later, leave out what was erased, tell a member's proof late, and be of a newer version.

What a member sealed is opened here, once it was found sound, with what `Opener` has: a message that cannot be opened is
taken in as it came, and readers are told so in the place of its words.

Pure: no clock, no store; what the mirror knows of the past is handed over (`Past`, asked for as `wanted` says). Above:
`link`. Below: the core's statements, words and public line, and `identity` for what signatures prove. Invariants: of an
honest home nothing is called a contradiction; what is taken in as a member's words bears that member's signature, and
nothing is taken in unsigned but what a home says of an invocation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, cast

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import invocations
from parlerd.core.approvals import NO_KEY, Request, opened_for
from parlerd.core.claims import ENDS
from parlerd.core.envelope import (
    OPENED,
    RELEASED,
    SEALED,
    SIGNED,
    UNSIGNED,
    Envelope,
    blob_of,
    decode_envelope,
    due_of,
    gated_part,
    guard_of,
    is_unread,
    memory_of,
    opened,
    operation_of,
    sealed_in,
    span_until,
    turn_of,
)
from parlerd.core.epoch_record import (
    MAX_SEALED_MEMBERS,
    EpochCard,
    EpochRecord,
    Roster,
    Wraps,
    changed_seats,
    check_record,
    check_wraps,
    encode_turned,
    record_digest,
    requesters_of,
    roster_after,
    roster_digest,
    successor_of,
)
from parlerd.core.errors import Refused
from parlerd.core.exchange import STEPS, Exchange, is_form, is_next
from parlerd.core.gated import EVERYONE
from parlerd.core.grants import Given, is_one_too_many, may_say, opened_beyond
from parlerd.core.lifecycle import KEY_COPIED, OLDER_COPY, owners_of
from parlerd.core.membership import REQUESTER, reads_on, told_seq, view_of
from parlerd.core.messages import GUARD, Thread, audience_key
from parlerd.core.model import (
    AgentId,
    By,
    HomeId,
    KeyId,
    MemoryNote,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
    RosterEntry,
    Shown,
    Verified,
    Via,
    is_granted_id,
    is_label,
    is_role,
)
from parlerd.core.public_line import first_line, next_line
from parlerd.core.room import Room
from parlerd.core.sealing import OTHER, check_sealed, joined, outside_kind, sealed_part
from parlerd.core.statements import (
    Claim,
    DecisionStatement,
    Grant,
    JoinCard,
    KeyTerms,
    KnockStatement,
    Opening,
    Owner,
    OwnerLine,
    S,
    SealingKey,
    Transfer,
    check,
    check_title,
    deciders,
    encode_opened,
    first_owner,
    opens,
    room_id_of,
    signer_at,
)
from parlerd.core.turning import are_wrapped_to
from parlerd.core.words import check_envelope
from parlerd.engine.authors import Arrived
from parlerd.identity import epochs
from parlerd.identity.proofs import (
    Evidence,
    bears,
    check_released,
    encode_evidence,
    given_by,
    is_asked,
    named_in,
    owner_after,
    read_opening,
    signed,
    signed_by,
    succeeds,
    unproven,
)
from parlerd.identity.sealing import check_key
from parlerd.operations import types as t
from parlerd.uplink.counters import Signed, Threaded

_REQUEST: Final = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
MAX_STRANGERS: Final = MAX_SEALED_MEMBERS
"""Of how many agents that are not shown to be in a room, or to knock, a sealing key is kept: as many as a room
takes."""
_MAX_MEMBERS: Final = 10_000
"""How many agents of one room are taken in."""


class Past(NamedTuple):
    """What the mirror's store knows of the past: the public line at some numbers, and the messages with some ids, each
    with whether it is of this room."""

    lines: Mapping[int, bytes] = {}
    known: Mapping[MessageId, bool] = {}
    opened: int = 0
    """How many other rooms are known that were opened by the grant which the opening of this one bears."""


class Wanted(NamedTuple):
    """What has to be looked up before an item is judged: at which numbers of the public line, and which ids."""

    numbers: frozenset[int]
    ids: frozenset[MessageId]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One command of the mirror, who acted, and the bodies that belong to its events."""

    command: c.Arrive
    by: By
    words: Arrived


class Opener(Protocol):
    """What opens the sealed rooms of a home here (`secrets.Opening`). Nothing is asked of it that was not checked."""

    def learn(self, record: EpochRecord, digest: bytes, wraps: Wraps) -> EpochCard | None:
        """What the record of this hash says to those who can read its epoch; None where no agent of this home can."""
        ...

    def is_copied(self, record: EpochRecord, body: bytes, signature: bytes) -> bool:
        """Whether the person of this home signed a record that this home did not make."""
        ...

    def words(self, envelope: Envelope, body: bytes, author: AgentId, *, asks: bool = False) -> bytes | None:
        """What is sealed in an envelope of this author, which came in these bytes; None where no agent of this home can
        read it. `asks` says that the author only asked for work under the record that the envelope names."""
        ...


class Began(NamedTuple):
    """What a mirror began with: the opening, its bytes, and the signature."""

    opening: Opening
    body: bytes
    signature: bytes


class _Epoch(NamedTuple):
    """The epoch that is in force at a place of a sealed room; `number` is 0 before the first."""

    number: int
    record: bytes
    roster: Roster


class _Contradiction(Exception):
    """The other home lied about the room."""

    def __init__(
        self,
        what: str,
        *,
        number: int = 0,
        agent: AgentId | None = None,
        before: tuple[tuple[AgentId, int], ...] = (),
    ) -> None:
        super().__init__(what)
        self.fact = e.HomeContradicted(what=what, number=number, agent=agent, before=before)


def wanted(item: t.LinkItem, shown: Shown) -> Wanted:
    """What `Arriving.take` needs of the past for this item; `shown` is how far the mirror goes. Nothing is asked that
    the mirror says itself: the store is asked for each number, and an item that goes on from the newest names none."""
    numbers: set[int] = set()
    ids: set[MessageId] = set()
    if item.card is not None and item.card.owner_line is not None:
        line = _sound(item.card.owner_line.statement, OwnerLine)
        if line is not None and 0 < line.public < shown.number:
            numbers.add(line.public)
    if item.page is not None:
        behind = min(shown.number, item.page.public + len(item.page.messages) + 1)
        numbers.update(range(item.page.public, behind))
        for message in item.page.messages:
            envelope = decoded(message.body)
            if envelope is not None:
                ids.add(envelope.id)
                if 0 < envelope.shown < shown.number:
                    numbers.add(envelope.shown)
    return Wanted(frozenset(numbers), frozenset(ids))


class Arriving:
    """Judges the items of one room. `mirror` is the room's mirror as it is now, an empty room before the first item.
    `began` is what the mirror began with, and `opener` opens what is sealed.

    `is_live` says that this daemon was told all that was there of the room before.

    `key_of` gives the id of a session key in this home, by the key's signed terms, the person who signed them, and
    whether the room is sealed;
    `ours` says whether an agent is one of this home, and `own` whether this very daemon made a signature, by the
    envelope's thread and counter: such a signature has not to be checked.
    """

    def __init__(
        self,
        room: RoomId,
        home: HomeId,
        mirror: Room,
        *,
        began: Began | None,
        opener: Opener,
        is_live: bool = False,
        key_of: Callable[[KeyTerms, PrincipalId, bool], KeyId],
        ours: Callable[[AgentId], bool],
        own: Callable[[Threaded, int, Signed], bool],
    ) -> None:
        self._room = room
        self._home = home
        self._mirror = mirror
        self._began = began
        self._opener = opener
        self._is_live = is_live
        self._key_of = key_of
        self._ours = ours
        self._own = own
        self.erased: tuple[int, ...] = ()
        """The public messages, by their numbers in the room, of which the item said that their words were erased, and
        that the mirror knows."""

    def take(self, item: t.LinkItem, past: Past) -> list[Arrival]:
        """What the mirror takes in, in order. Nothing, once the home contradicted itself in this room.

        Raises `Refused(relay_equivocation)` where no mirror can begin with this item: its opening is not the room's.
        """
        if self._mirror.state.contradicted:
            return []
        step = _Step(self, past)
        try:
            if item.card is not None:
                step.card(item.card, item.page)
            if item.epoch is not None and step.is_open:
                step.epoch(item.epoch)
            if item.page is not None and step.is_open:
                step.page(item.page)
                if item.level and not item.page.messages:
                    step.require_all(item.page)
            if step.is_open:
                step.tasks(item.tasks)
        except _Contradiction as lie:
            if not step.is_open:
                raise Refused("relay_equivocation", what=lie.fact.what) from None
            step.add((lie.fact,), step.owner, step.now)
        else:
            self.erased = tuple(step.erased)
        return step.arrivals


@dataclass(frozen=True, slots=True)
class _Known:
    """A member as the mirror has it, or will have it once what was found so far is taken in."""

    principal: PrincipalId
    handle: str
    present: bool
    role: str = ""
    locked: bool = False
    given: Given | None = None


class _Step:
    """One item over one mirror. What it finds is added to what the mirror knows, so that a later part of the item is
    judged as if the mirror had taken in the earlier ones."""

    def __init__(self, arriving: Arriving, past: Past) -> None:
        state = arriving._mirror.state
        self.arrivals: list[Arrival] = []
        """What was found, in order."""
        self.erased: list[int] = []
        """The numbers of public messages that the mirror knows and whose words are gone."""
        self.is_open = bool(state.room)
        """Whether the mirror has begun."""
        self.now = arriving._mirror.last_at
        """The other home's time, as far as it told."""
        self._about = arriving
        self._past = past
        self._named = opened_for(state.lifecycle, state.keys.values())
        """For whom a direct room was opened, as far as was told."""
        self._owners: list[Owner] = owners_of(state.lifecycle)
        """Everybody who owned the room, as far as was told."""
        self._begun = arriving._began
        """What the person who opened the room signed; None before the mirror has begun."""
        self._epoch = _Epoch(state.epochs.number, state.epochs.record, dict(state.epochs.roster))
        """The epoch that is in force where the next message stands, in a sealed room."""
        self._is_titled = bool(state.name)
        """Whether the mirror knows what the room is called."""
        self._shown: Shown = state.shown
        """The number of the newest public message that the mirror knows of, and the line there."""
        self._other = state.messages.other
        """The number of the newest public message that is known here and may belong to a sealed room's memory."""
        self._lines: dict[int, bytes] = {state.shown.number: state.shown.line}
        """The line where the mirror ends, and at the public messages of this item."""
        self._threads: dict[tuple[AgentId, str], Thread] = {}
        """Where threads end, as far as this item says."""
        self._is_whole = not state.membership.jumps
        """Whether the mirror holds every public message of the room so far."""
        self._forgot = False
        """Whether threads that the mirror knows are not to be compared, because messages were left out meanwhile."""
        self._forgot_private = False
        """The same for threads of private messages alone."""
        self._ids: set[MessageId] = set()
        """The messages of this item."""
        self._shown_now: dict[MessageId, set[AgentId]] = {}
        """To whom of this home the gated messages were shown that came here."""
        self._asking: set[AgentId] = set()
        """Who knocked, as this item told."""
        self._joined: dict[AgentId, _Known] = {}
        """Members that this item told of, as the mirror will have them."""
        self._numbers: dict[AgentId, int] = {
            agent: told_seq(state.membership, agent)
            for agent, member in state.members.items()
            if member.present and not member.waits and arriving._ours(agent)
        }
        """The own number of each reader of this home at the place where the next message stands, as the other home
        counts. Who waits for a record is shown nothing: it goes on from the number that is told behind the record."""

    @property
    def _opening(self) -> Opening:
        assert self._begun is not None
        return self._begun.opening

    @property
    def owner(self) -> By:
        """Who acted, where only the room's home knows who did: its owner, for the owner's person."""
        return By(self._opening.owner, self._opening.principal, "", "", "link")

    def add(
        self,
        events: tuple[e.RoomEvent, ...],
        by: By,
        at: Millis,
        bodies: tuple[tuple[bytes, bytes | None] | None, ...] = (),
        *,
        operation: str = "",
        key: str | None = None,
        verified: Verified = "valid",
        named: tuple[MessageId, ...] | None = None,
    ) -> None:
        """Let the mirror take in these events, with the body and the signature of each."""
        self.now = max(self.now, at)
        words = Arrived(bodies or (None,) * len(events), verified)
        command = c.Arrive(events=events, at=at, operation=operation, idempotency_key=key, named=named)
        self.arrivals.append(Arrival(command, by, words))

    # -- how the room stands -------------------------------------------------------------------------------

    def card(self, card: t.Card, page: t.LinkPage | None) -> None:
        """Take in how the room stands."""
        if not self.is_open:
            self._begin(card, page)
        elif card.opening and room_id_of(card.opening) != self._about._room:
            raise _Contradiction("opening")
        elif card.title and not self._about._mirror.state.name:
            self._title(card)
        transfers = self._transfers(card)
        keys = self._keys(card)
        came_by = self._requests(card, keys)
        for entry in card.keys:
            key = keys.get(entry.ref)
            if key is not None:
                came_by |= {AgentId(agent): (came_by.get(AgentId(agent), (None, key))[0], key) for agent in entry.users}
        self._members(card, came_by)
        self._sealing_keys(card)
        if card.epoch is not None:
            self.epoch(card.epoch)
        if card.owner_line is not None:
            self._owner_line(card.owner_line)
        for transfer, told in transfers:
            if not self._is_sealed and self.member(transfer.owner) is None:
                break  # its coming was not shown yet; the next card tells the transfer again
            # Who knocks at a sealed room is told no members, and has to know with whose machine it exchanges keys.
            # Nobody but the owner before names the next one there.
            changed = e.OwnerChanged(
                owner=transfer.owner,
                principal=transfer.principal,
                taken=transfer.taken,
                record=owner_after(transfer).record,
            )
            self.add((changed,), self.owner, self.now, ((told.statement, told.signature),))
        if card.closed and not self._about._mirror.state.closed:
            self.add((e.RoomClosed(),), self.owner, self.now)

    def _begin(self, card: t.Card, page: t.LinkPage | None) -> None:
        """The mirror begins, with what the person who opened the room signed."""
        about = self._about
        try:
            opening = read_opening(about._room, about._home, card.opening, card.opening_signature)
        except Refused:
            raise _Contradiction("opening") from None
        if opening.granted is not msgspec.UNSET:
            grant = check(opening.granted.grant, Grant)
            if opened_beyond(grant, Millis(card.opened_at), self._past.opened) is not None:
                raise _Contradiction("grant")
        if card.title and not _is_title(card.title, opening):
            raise _Contradiction("title")
        start = first_line(about._room, about._home)
        public, line = (0, start) if page is None else (page.public, page.line)
        if public == 0 and line != start:
            raise _Contradiction("line")
        self._begun = Began(opening, card.opening, card.opening_signature)
        self._shown, self._is_whole, self._is_titled = Shown(public, line), public == 0, bool(card.title)
        self._owners = [first_owner(opening)]
        opened = e.RoomOpened(
            room=about._room,
            home=about._home,
            kind=opening.kind,
            owner=opening.owner,
            owner_principal=opening.principal,
            history=opening.history,
            approval=opening.approval,
            approver=opening.approver,
            sealed=0 if opening.sealed is msgspec.UNSET else opening.sealed,
        )
        body = (encode_opened(card.opening, card.title), card.opening_signature)
        placed = e.MirrorPlaced(public=public, line=line)
        self.add((opened, placed), self.owner, Millis(card.opened_at), (body, None))
        self.is_open = True

    # -- who can read it -----------------------------------------------------------------------------------

    @property
    def _is_sealed(self) -> bool:
        return self._opening.sealed is not msgspec.UNSET

    def epoch(self, told: t.EpochEntry) -> None:
        """Take in that an epoch of a sealed room began, or that it is in force where what follows begins. One that was
        told before changes nothing, and so does an older one."""
        about, before = self._about, self._epoch
        if not self._is_sealed:
            raise _Contradiction("epoch")
        try:
            record, digest = check_record(told.record), record_digest(told.record)
            if (record.home, record.room) != (about._home, about._room):
                raise _Contradiction("epoch")
            if requesters_of(record) and self._opening.kind != "service":
                raise _Contradiction("epoch")
            if record.number < before.number:
                return
            if record.number == before.number:
                if digest != before.record:
                    # Its members would each take another one for the newest, and not hear each other.
                    is_copied = about._opener.is_copied(record, told.record, told.signature)
                    raise _Contradiction(KEY_COPIED if is_copied else "epoch")
                return
            # Who owned the room before signs none behind the number at which the room changed hands.
            owner = signer_at(self._owners, record.number)
            epochs.read(told.record, told.signature, owners=[owner.principal])
            # Where the mirror has the record before, this one says what changed; else the home told all of the roster.
            is_next, anew = record.number == before.number + 1, before.number == 0 or record.number > before.number + 1
            if is_next and record.previous != before.record:
                raise _Contradiction("epoch")
            roster = roster_after(before.roster, record) if is_next else roster_told(told, record)
            wraps = check_wraps(told.wraps, record, roster)
        except Refused:
            raise _Contradiction("epoch") from None
        if not self._may_read(roster, is_first=record.number == 1):
            raise _Contradiction("epoch")
        if about._is_live and about._opener.is_copied(record, told.record, told.signature):
            # What this home signed before an older copy of it was put in place, it is told before anything new.
            raise _Contradiction(KEY_COPIED)
        added = roster if anew else changed_seats(before.roster, roster)
        turned = e.EpochTurned(
            number=record.number,
            record=digest,
            added=tuple(sorted(added.items())),
            removed=() if anew else record.removed,
            anew=anew,
            successor=successor_of(record),
            made_at=record.at,
        )
        by = By(owner.agent, owner.principal, "", "", "link")
        self.add((turned,), by, self.now, ((encode_turned(told.record, told.wraps), told.signature),))
        self._epoch = _Epoch(record.number, digest, roster)
        card = about._opener.learn(record, digest, wraps)
        if card is not None and not self._is_titled and _is_title(card.title, self._opening):
            assert self._begun is not None
            body = (encode_opened(self._begun.body, card.title), self._begun.signature)
            self.add((e.RoomTitled(),), self.owner, self.now, (body,))
            self._is_titled = True

    def _may_read(self, roster: Roster, *, is_first: bool) -> bool:
        """Whether a record may hold these. The first holds the owner and, in a direct room, whom the owner's terms
        name; and no later one of such a room holds anybody else. Whoever came in under one person is not given
        anything as an agent of another."""
        is_for_these = roster.keys() <= {self._opening.owner, *self._named}
        if (is_first or self._named) and not is_for_these:
            return False
        if not self._named:
            return True
        known = {agent: self.member(agent) for agent in roster}
        return all(each is None or each.principal == roster[agent].principal for agent, each in known.items())

    def _sealing_keys(self, card: t.Card) -> None:
        """Take in by which keys newcomers are given the room's secrets. A key may be told before its agent is shown to
        be in; of agents that are not shown to be, only so many, because a home could draw any number of them."""
        state = self._about._mirror.state
        told = {agent: known.counter for agent, known in state.epochs.told.items()}
        asking = self._asking.union(request.agent for request in state.requests.values())
        strangers = sum(agent not in asking and self.member(agent) is None for agent in told)
        for entry in card.sealing_keys:
            key = _sound(entry.statement, SealingKey)
            if key is None or key.home != self._about._home or key.counter <= told.get(key.agent, 0):
                continue
            is_stranger = key.agent not in asking and self.member(key.agent) is None
            if is_stranger and key.agent not in told and strangers >= MAX_STRANGERS:
                continue
            if _signed(SealingKey, entry.statement, entry.signature, key.agent) is None or not _is_key(key.key):
                continue
            strangers += is_stranger and key.agent not in told
            told[key.agent] = key.counter
            event = e.SealingKeyTold(agent=key.agent, key=key.key, counter=key.counter)
            self.add((event,), self.owner, self.now, ((entry.statement, entry.signature),))

    def _owner_line(self, told: t.OwnerLineEntry) -> None:
        """Take in that the owner's home was there, and compare how it has the room. What an owner before signed, and
        what is no line of this room, changes nothing."""
        owner, state = self._owners[-1], self._about._mirror.state.epochs
        line = _signed(OwnerLine, told.statement, told.signature, owner.principal)
        if line is None or (line.home, line.room) != (self._about._home, self._about._room):
            return
        if line.record < max(owner.record, self._epoch.number) or line.at <= state.heard:
            # Before the record in force it says nothing new, whatever the time that is in it.
            return
        if line.record > self._epoch.number:
            # The home admits no line of a record that it was not told before.
            raise _Contradiction("epoch")
        if line.record == self._epoch.number and line.digest != self._epoch.record:
            raise _Contradiction("epoch")
        known = self._line_at(line.public)
        if known is not None and known != line.line:
            raise _Contradiction("fork", number=line.public)
        event = e.OwnerLineTold(record=line.record, public=line.public, made_at=line.at)
        by = By(owner.agent, owner.principal, "", "", "link")
        self.add((event,), by, self.now, ((told.statement, told.signature),))

    def tasks(self, told: Sequence[t.TaskAtRoom]) -> None:
        """Take in how tasks stand. The room's home says so, and nobody signs it; a task that the mirror does not hold,
        and a worker that it does not know, change nothing."""
        mirror = self._about._mirror
        for entry in told:
            known = mirror.claims.get(MessageId(entry.task))
            worker = mirror.state.members.get(AgentId(entry.worker))
            if known is None or known.id in mirror.state.claims.over:
                continue
            fence, by = Position(entry.fence), self.owner
            if worker is not None:
                by = By(worker.agent, worker.principal, "", "", "link")
            outcome = ENDS.get(entry.state)
            if outcome is not None and worker is not None:
                # What nobody took in its time is over by no claim, in the moment that is told.
                by_claim = Position(0) if entry.until else fence
                over = e.TaskCompleted(task=known.id, worker=worker.agent, outcome=outcome, fence=by_claim)
                self.add((over,), by, max(self.now, Millis(entry.until)))
            elif (
                outcome is None
                and worker is not None
                and fence
                and (known.worker, known.fence) != (worker.agent, fence)
            ):
                claimed = e.TaskClaimed(
                    task=known.id,
                    worker=worker.agent,
                    until=Millis(entry.until),
                    lease_ms=Millis(entry.lease_ms),
                    fence=fence,
                )
                self.add((claimed,), by, self.now)
            elif outcome is None and not entry.worker and known.is_held:
                self.add((e.TaskReleased(task=known.id, fence=known.fence),), by, self.now)
            among = None if entry.among is None else tuple(AgentId(agent) for agent in entry.among)
            if outcome is None and among != known.among:
                self.add((e.TaskOffered(task=known.id, among=among),), self.owner, self.now)

    def _title(self, card: t.Card) -> None:
        """The room's name and topic, for a mirror that began while nobody here was in the room."""
        opening = _sound(card.opening, Opening)
        if opening is None:
            return
        if not _is_title(card.title, opening):
            raise _Contradiction("title")
        body = (encode_opened(card.opening, card.title), card.opening_signature)
        self.add((e.RoomTitled(),), self.owner, self.now, (body,))

    def _transfers(self, card: t.Card) -> list[tuple[Transfer, t.TransferEntry]]:
        """How the room changed hands since the mirror was told last. What these owners signed counts from here on."""
        found = []
        for entry in card.transfers:
            transfer = _sound(entry.statement, Transfer)
            if transfer is not None and transfer.number < len(self._owners):
                continue
            try:
                room, home, owners = self._about._room, self._about._home, self._owners
                transfer = succeeds(
                    room,
                    home,
                    owners,
                    entry.statement,
                    entry.signature,
                    is_sealed=self._is_sealed,
                    successor=named_in(room, home, owners, entry.statement, entry.record, entry.record_signature),
                )
            except Refused:
                raise _Contradiction("transfer") from None
            if transfer.taken and not self._may_take_over(card, transfer):
                raise _Contradiction("transfer", agent=transfer.owner)
            if self._is_sealed and self._forks(transfer, entry.record):
                raise _Contradiction("epoch", agent=transfer.owner)
            self._owners.append(owner_after(transfer))
            found.append((transfer, entry))
        return found

    def _forks(self, transfer: Transfer, naming: bytes) -> bool:
        """Whether the mirror has a record that the owner before signed behind this transfer, or another one than that
        by which whoever takes the room over was named: somebody signed two of one number."""
        begins, epoch = owner_after(transfer).record, self._epoch
        if epoch.number == begins and transfer.taken:
            return record_digest(naming) != epoch.record
        return epoch.number > begins

    def _may_take_over(self, card: t.Card, transfer: Transfer) -> bool:
        """Whether the new owner is or was a member, for the person who signed. Who only knocks is told of no members
        but its own home's that are out, and who waits for a record of those alone that are in. Whoever is in finds out
        with the first card that holds the others."""
        known = self.member(transfer.owner)
        if known is not None:
            return known.principal == transfer.principal
        if all(
            self._about._ours(AgentId(each.agent)) and (self._is_sealed or not each.present) for each in card.members
        ):
            return True
        for entry in card.members:
            if entry.agent == transfer.owner and entry.principal == transfer.principal:
                claim = Claim(transfer.owner, transfer.principal, entry.handle)
                return unproven(self._about._room, self._opening, claim, _evidence(entry), self._owners) is None
        return False

    def _keys(self, card: t.Card) -> dict[str, KeyId]:
        """Take in the session keys; gives the room's keys by their names in statements."""
        known = {key.ref: key for key in self._about._mirror.state.keys.values()}
        found = {ref: key.id for ref, key in known.items()}
        for entry in card.keys:
            if entry.ref not in found:
                known_terms = self._terms(entry.terms, entry.terms_signature)
                if known_terms is None or known_terms[0].ref != entry.ref:
                    continue
                terms, person = known_terms
                found[terms.ref] = key = self._about._key_of(terms, person, self._is_sealed)
                minted = e.KeyMinted(
                    key=key,
                    ref=terms.ref,
                    gated=terms.gated,
                    expires_at=terms.expires_at,
                    max_uses=terms.max_uses,
                    preapproved=terms.preapproved,
                    requester=terms.requester is True,
                )
                self.add((minted,), self.owner, self.now, ((entry.terms, entry.terms_signature),))
                if self._opening.kind == "dm":
                    self._named.update(terms.preapproved)
            if entry.revoked and not (entry.ref in known and known[entry.ref].revoked):
                self.add((e.KeyRevoked(key=found[entry.ref]),), self.owner, self.now)
        return found

    def _terms(self, body: bytes, signature: bytes) -> tuple[KeyTerms, PrincipalId] | None:
        """The terms of a key of this room, and which of its owners' persons signed them."""
        try:
            terms, person = signed_by(KeyTerms, body, signature, [owner.principal for owner in self._owners])
        except Refused:
            return None
        is_ours = (terms.home, terms.room) == (self._about._home, self._about._room)
        return (terms, PrincipalId(person)) if is_ours else None

    def _requests(
        self, card: t.Card, keys: Mapping[str, KeyId]
    ) -> dict[AgentId, tuple[RequestId | None, KeyId | None]]:
        """Take in who knocked and what was decided; gives those that were let in so, each with the request and the
        key."""
        let_in: dict[AgentId, tuple[RequestId | None, KeyId | None]] = {}
        known = self._about._mirror.state.requests
        for entry in card.requests:
            request, agent = RequestId(entry.request), AgentId(entry.agent)
            before = known.get(request)
            key, gives = keys.get(entry.ref), self._asks_by_grant(entry)
            says = self._is_card if self._is_sealed else self._is_knock
            is_knock = key is not None and says(entry.knock, entry.knock_signature, entry)
            if _REQUEST.match(request) is None or not (is_knock or gives):
                continue
            if before is None and entry.state == "approved" and self._is_in(agent):
                # It came in before this was told. Facts of its knock would stand behind its coming, as if it had gone
                # and knocked again.
                continue
            by = By(agent, PrincipalId(entry.principal), "", entry.host, "link")
            if before is None:
                asked = e.JoinRequested(
                    request=request,
                    key=NO_KEY if key is None else key,
                    agent=agent,
                    principal=by.principal,
                    name=entry.name,
                    host=entry.host,
                    role=_told(entry.role, is_role),
                    given=gives,
                )
                body = (entry.knock, entry.knock_signature) if gives is None else (entry.grant, entry.grant_signature)
                self.add((asked,), by, Millis(entry.at), (body,))
                self._asking.add(agent)
            state = "pending" if before is None else before.state
            if state in ("pending", "denied"):
                self._exchanged(entry, request, before)
            if state == "pending" and entry.state in ("lapsed", "withdrawn"):
                # Nobody signs this: a home that says so untruly keeps the agent out, as it can anyway.
                how: Literal["lapsed", "withdrawn"] = "lapsed" if entry.state == "lapsed" else "withdrawn"
                self.add((e.KnockEnded(request=request, agent=agent, how=how),), by, self.now)
            decision = self._decision(entry)
            if decision is None:
                continue
            if entry.state != state:
                decided: e.RoomEvent
                if decision.admit:
                    decided = e.JoinApproved(request=request, agent=agent, proof=decision.proof)
                else:
                    decided = e.JoinDenied(request=request, agent=agent, proof=decision.proof)
                self.add((decided,), self.owner, self.now, ((entry.decision, entry.decision_signature),))
            if decision.admit:
                let_in[agent] = (request, key)
        return let_in

    def _exchanged(self, entry: t.RequestEntry, request: RequestId, before: Request | None) -> None:
        """Take in how far the key exchange of whoever knocks is. Nobody signs its steps: the ends find out what they
        are worth. So a step that is none, and one that is not the one told before, change nothing."""
        if entry.exchange is None:
            return
        stood = None if before is None else before.exchange
        known = Exchange() if stood is None else msgspec.structs.replace(stood)
        said = entry.exchange
        told = Exchange(said.share, said.answered, said.shown, said.confirmed, said.granted)
        for step in STEPS:
            text = told.said(step)
            is_said = bool(text) and not known.said(step)
            if step == "failed":
                # What was decided on is not undone so.
                is_said = entry.state == "failed" and (before is None or before.state == "pending")
            if is_said and is_form(step, text) and is_next(known, step):
                known.take(step, text)
                event = e.KeyExchanged(request=request, agent=AgentId(entry.agent), step=step, text=text)
                self.add((event,), self.owner, self.now)

    def _asks_by_grant(self, entry: t.RequestEntry) -> Given | None:
        """What a grant would give to an agent without a key that waits for the person; None for any other."""
        if not entry.grant or entry.host or entry.ref:
            return None
        evidence = Evidence(grant=entry.grant, grant_signature=entry.grant_signature, granted_as=entry.name)
        claim = Claim(AgentId(entry.agent), PrincipalId(entry.principal), entry.name)
        return is_asked(self._about._room, self._opening, claim, evidence, self._owners)

    def _is_in(self, agent: AgentId) -> bool:
        member = self._about._mirror.state.members.get(agent)
        return member is not None and member.present

    def _is_knock(self, body: bytes, signature: bytes, entry: t.RequestEntry) -> bool:
        knock = _signed(KnockStatement, body, signature, entry.agent)
        if knock is None:
            return False
        said = (knock.home, knock.room, knock.ref, knock.agent, knock.principal, knock.name, knock.host)
        told = (entry.ref, entry.agent, entry.principal, entry.name, entry.host)
        return said == (self._about._home, self._about._room, *told)

    def _is_card(self, body: bytes, signature: bytes, entry: t.RequestEntry) -> bool:
        """Whether an agent began to come into this sealed room by what it signed. The room is in no card: the owner's
        home finds out that the agent meant this one, by the key that both have."""
        card = _signed(JoinCard, body, signature, entry.agent)
        if card is None or entry.exchange is None or entry.host:
            return False
        said = (card.home, card.agent, card.principal, card.name)
        return said == (self._about._home, entry.agent, entry.principal, entry.name)

    def _decision(self, entry: t.RequestEntry) -> DecisionStatement | None:
        """What the owner's side signed about a request, where it says how the request stands."""
        if entry.state not in ("approved", "denied"):
            return None
        decision = self._signed_decision(entry.decision, entry.decision_signature)
        if decision is None or decision.admit is not (entry.state == "approved"):
            return None
        said = (decision.home, decision.room, decision.request, decision.agent, decision.principal)
        is_same = said == (self._about._home, self._about._room, entry.request, entry.agent, entry.principal)
        return decision if is_same else None

    def _signed_decision(self, body: bytes, signature: bytes) -> DecisionStatement | None:
        decision = _sound(body, DecisionStatement)
        if decision is None:
            return None
        try:
            signers = deciders(self._owners, self._opening.approver, decision)
            return signed_by(DecisionStatement, body, signature, signers)[0]
        except Refused:
            return None

    def _members(self, card: t.Card, came_by: Mapping[AgentId, tuple[RequestId | None, KeyId | None]]) -> None:
        """Take in who is in the room and who left it. A member whose coming nothing shows is left out, until something
        does. Whoever is on no card has not come yet, where the card says how the room stood earlier."""
        if not card.members:
            return
        handles = {member.handle: agent for agent, member in self._about._mirror.state.members.items()}
        for entry in card.members[:_MAX_MEMBERS]:
            agent = AgentId(entry.agent)
            claim = Claim(agent, PrincipalId(entry.principal), entry.handle)
            known = self.member(agent)
            if known is None:
                if not self._is_proved(entry, claim):
                    continue
                entered = self._epoch.roster.get(agent)
                is_another_s = self._named and entered is not None and entered.principal != claim.principal
                if is_another_s or any(
                    owner.agent == agent and owner.principal != claim.principal for owner in self._owners
                ):
                    raise _Contradiction("member", agent=agent)
                self._require_room(agent, given_by(_evidence(entry)))
                if handles.setdefault(entry.handle, agent) != agent:
                    raise _Contradiction("handle", agent=agent)
            elif known.handle != claim.handle:
                raise _Contradiction("handle", agent=agent)
            elif known.principal != claim.principal:
                raise _Contradiction("member", agent=agent)
            self._move(entry, claim, known, came_by)

    def _move(
        self,
        entry: t.MemberEntry,
        claim: Claim,
        known: _Known | None,
        came_by: Mapping[AgentId, tuple[RequestId | None, KeyId | None]],
    ) -> None:
        agent, role = claim.agent, _told(entry.role, is_role)
        gives = given_by(_evidence(entry)) if known is None else known.given
        now = _Known(claim.principal, claim.handle, entry.present, role, entry.locked, gives)
        if known is None or (entry.present and not known.present):
            request, key = came_by.get(agent, (None, None))
            joined = e.MemberJoined(
                agent=agent,
                principal=claim.principal,
                handle=claim.handle,
                host=_told(entry.host, is_label),
                role=role,
                request=request,
                key=key,
                given=gives,
            )
            by = By(agent, claim.principal, "", joined.host, "link")
            body = encode_evidence(_evidence(entry)), None
            self.add((joined,), by, Millis(entry.joined_at) if known is None else self.now, (body,))
        if (role, entry.locked) != ((role, False) if known is None else (known.role, known.locked)):
            # What a newcomer says that it is, its coming says already.
            self.add((e.RoleGiven(agent=agent, role=role, locked=entry.locked),), self.owner, self.now)
        self._joined[agent] = now
        if not entry.present and (known is None or known.present):
            self.add((e.MemberLeft(agent=agent),), By(agent, claim.principal, "", "", "link"), self.now)
            self._numbers.pop(agent, None)

    def member(self, agent: AgentId) -> _Known | None:
        """The agent as a member, if it is or was one."""
        found = self._joined.get(agent)
        if found is None:
            member = self._about._mirror.state.members.get(agent)
            if member is None:
                return None
            found = _Known(member.principal, member.handle, member.present, member.role, member.locked, member.given)
        return found

    def _require_room(self, agent: AgentId, gives: Given | None) -> None:
        """Raise a contradiction where a newcomer is one more than its grant allows: an honest home counts them."""
        among = {id: member.given for id, member in self._about._mirror.state.members.items()}
        among |= {id: known.given for id, known in self._joined.items()}
        if gives is not None and is_one_too_many(gives, among.values()):
            raise _Contradiction("grant", agent=agent)

    def _is_proved(self, entry: t.MemberEntry, claim: Claim) -> bool:
        """Whether what was signed shows that this agent was let in under this handle, and of an agent of this home also
        that it asked to come in: whoever opened a room could let in anybody, who would then read it as one of its own.
        """
        if unproven(self._about._room, self._opening, claim, _evidence(entry), self._owners) is not None:
            return False
        return not self._about._ours(claim.agent) or opens(self._opening, claim) or self._has_asked(entry, claim)

    def _has_asked(self, entry: t.MemberEntry, claim: Claim) -> bool:
        """Whether the agent itself signed that it knocked at this room, for the person of the claim."""
        knock = _signed(KnockStatement, entry.knock, entry.knock_signature, claim.agent)
        if knock is None:
            return False
        said = (knock.home, knock.room, knock.agent, knock.principal)
        return said == (self._about._home, self._about._room, claim.agent, claim.principal)

    # -- what is said in it --------------------------------------------------------------------------------

    def page(self, page: t.LinkPage) -> None:
        """Take in messages."""
        number, line = self._shown
        before = {
            AgentId(agent): count
            for agent, count in page.before.items()
            if self._about._ours(AgentId(agent)) and self._is_shown(AgentId(agent))
        }
        if page.public > number and not page.jumped:
            raise _Contradiction("line", number=page.public)
        if page.public > number:
            self._jump(page.public, page.line, before)
        elif page.public == number:
            if page.line != line:
                raise _Contradiction("line", number=number)
            if any(count > self._numbers.get(agent, -1) for agent, count in before.items()):
                # Private messages were left out: their words were erased before they were told.
                self._forgot_private = True
                self._place(number, line, {**self._numbers, **before})
        elif self._past.lines.get(page.public, page.line) != page.line:
            raise _Contradiction("line", number=page.public)
        place = Shown(page.public, page.line)
        self._lines[place.number] = place.line
        for message in page.messages:
            place = self._message(message, place)
            self._lines[place.number] = place.line

    def require_all(self, page: t.LinkPage) -> None:
        """Raise a contradiction where the home holds less than it told: the room ends at this place there, and goes on
        after it in the mirror."""
        before = tuple((reader, page.before[reader]) for reader in sorted(self._numbers) if reader in page.before)
        if page.public < self._shown.number:
            raise _Contradiction(OLDER_COPY, number=page.public, before=before)
        for reader, newest in self._numbers.items():
            if page.before.get(reader, newest) < newest:
                raise _Contradiction(OLDER_COPY, number=page.public, agent=reader, before=before)

    def _is_shown(self, agent: AgentId) -> bool:
        """Whether an agent is in, and in a sealed room in the record in force, so that it has a number of its own."""
        member = self.member(agent)
        return member is not None and member.present and not (self._is_sealed and agent not in self._epoch.roster)

    def _jump(self, public: int, line: bytes, before: Mapping[AgentId, int]) -> None:
        """Messages were left out: nobody can tell what the threads of others ended with."""
        self._is_whole, self._forgot = False, True
        self._threads.clear()
        self._place(public, line, {**self._numbers, **before})

    def _place(self, public: int, line: bytes, numbers: Mapping[AgentId, int]) -> None:
        """What follows comes after this public message, and each reader goes on after its own number."""
        self._shown, self._numbers = Shown(public, line), dict(numbers)
        placed = e.MirrorPlaced(public=public, line=line, before=tuple(sorted(numbers.items())))
        self.add((placed,), self.owner, self.now)

    def _message(self, message: t.LinkMessage, place: Shown) -> Shown:
        """Take in one message that comes after this place; gives the place after it."""
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
            raise _Contradiction("form", number=place.number, agent=agent)
        digest = hashlib.sha256(message.body).digest()
        after = place
        if envelope.visibility is None:
            after = Shown(place.number + 1, next_line(place.line, digest))
            is_new = self._is_new(after)
        else:
            is_new = not self._past.known.get(envelope.id, False)
        if not is_new:
            return after
        author = self.member(agent)
        if envelope.v not in KNOWN or author is None or self._past.known.get(envelope.id) is False:
            # A version that this program does not check, somebody whom nothing shows to be a member, or an id that a
            # message of another room has here, which the room's home cannot know.
            if after != place:
                self._leave_out(after)
            return after
        sealed = sealed_of(message.body, envelope)
        if envelope.v != UNSIGNED and (sealed is not None) is not self._is_sealed:
            # Whether a room is sealed stands in its opening, and no home admits the other kind of message there.
            raise _Contradiction("form", number=after.number, agent=agent)
        if envelope.v in _BY_AUTHORS:
            self._require_sound(message, envelope, digest, place, after, author)
        elif not is_told(message, envelope, self._about._room):
            raise _Contradiction("unsigned", number=after.number, agent=agent)
        elif self._past.known.get(envelope.id) or envelope.id in self._ids or self._is_shown_again(message, envelope):
            raise _Contradiction("id", number=after.number, agent=agent)
        elif envelope.v == RELEASED and sealed is not None:
            self._require_released(envelope, sealed[0], agent, place, after)
        self._post(message, envelope, digest, author, after)
        return after

    def _is_shown_again(self, message: t.LinkMessage, envelope: Envelope) -> bool:
        """Whether a reader here is shown what an author signed once as a second message."""
        if envelope.v != RELEASED:
            return False
        gate, readers = _gate_of(message), self._shown_to(message, envelope)
        before = {*self._about._mirror.state.entries.shown.get(gate, ()), *self._shown_now.get(gate, ())}
        self._shown_now[gate] = before.union(readers)
        is_for_all = EVERYONE in before or EVERYONE in readers
        return bool(before) if is_for_all else not before.isdisjoint(readers)

    def _shown_to(self, message: t.LinkMessage, envelope: Envelope) -> tuple[AgentId, ...]:
        """The agents of this home that are shown a released message: everyone, or these alone. Its author always is."""
        if envelope.visibility is None:
            return (EVERYONE,)
        return tuple(each for each in envelope.visibility if self._about._ours(each) and each != message.agent)

    def _is_new(self, after: Shown) -> bool:
        """Whether the mirror lacks the public message that leads to this place. Raises a contradiction for one in the
        place of another."""
        if after.number > self._shown.number:
            return True
        known = self._shown.line if after.number == self._shown.number else self._past.lines.get(after.number)
        if known is not None and known != after.line:
            raise _Contradiction("line", number=after.number)
        return False

    def _leave_out(self, after: Shown) -> None:
        """Count a public message that the mirror does not take in."""
        self._is_whole, self._forgot = False, True
        self._threads.clear()
        numbers = {agent: count + self._reads_on(agent) for agent, count in self._numbers.items()}
        self._place(after.number, after.line, numbers)

    def _reads_on(self, agent: AgentId) -> bool:
        """Whether an agent of this home that is in is shown what is public here: not who only asks a queue for work."""
        if self._opening.kind != "service":
            return True
        if self._is_sealed:
            seat = self._epoch.roster.get(agent)
            return seat is not None and not seat.requester
        member = self._about._mirror.state.members.get(agent)
        if member is not None and member.present:
            return reads_on(member)
        known = self.member(agent)
        return known is not None and known.role != REQUESTER

    def _require_sound(
        self, message: t.LinkMessage, envelope: Envelope, digest: bytes, place: Shown, after: Shown, author: _Known
    ) -> None:
        """Raise a contradiction for what an honest home would not have admitted, and for what it left out."""
        agent = AgentId(message.agent)

        def refuse(what: str) -> _Contradiction:
            return _Contradiction(what, number=after.number, agent=agent)

        try:
            if self._is_sealed:
                self._require_sealed(envelope, agent)
            else:
                check_envelope(envelope)
        except Refused as error:
            raise refuse("epoch" if error.code == "stale_epoch" else "form") from None
        if envelope.room != self._about._room:
            raise refuse("room")
        threaded = Threaded(envelope.room, agent, audience_key(envelope.visibility))
        is_own = self._about._own(threaded, envelope.counter, Signed(digest, message.signature))
        if not is_own and bears(agent, self._about._home, message.body, message.signature) is None:
            raise refuse("signature")
        if is_granted_id(agent) and not may_say(author.given, Millis(message.at)):
            raise refuse("grant")
        if self._past.known.get(envelope.id) or envelope.id in self._ids:
            raise refuse("id")
        thread = self._thread(agent, envelope)
        if thread is not None and (envelope.previous != thread.envelope or envelope.counter <= thread.counter):
            raise refuse("thread")
        # The author was shown the room by the same home: as many messages at most, and the same ones.
        if envelope.shown > place.number:
            raise refuse("shown")
        known = self._line_at(envelope.shown)
        if known is not None and known != envelope.line:
            raise refuse("fork")
        if guard_of(envelope.parts) is not None and envelope.shown < self._other:
            # Its author compared what was remembered before that.
            raise refuse(GUARD)

    def _require_sealed(self, envelope: Envelope, author: AgentId) -> None:
        """Raise `Refused` for a sealed envelope of another form than an honest home admits, and `stale_epoch` for one
        of another epoch than is in force here, or by or for somebody who is not in its roster."""
        part, epoch = check_sealed(envelope), self._epoch
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
        part, epoch = sealed_part(sealed), self._epoch
        named = {author, *(envelope.visibility or ())}
        is_in_time = part.epoch < epoch.number or (part.epoch, part.record) == (epoch.number, epoch.record)
        is_public = envelope.visibility is None
        ours = filter(self._reads_on, self._numbers) if is_public else filter(self._about._ours, named)
        is_for_them = all(self._was_shown(reader, part.epoch) for reader in ours if reader != author)
        if not (is_in_time and named <= epoch.roster.keys() and are_wrapped_to(sealed, author) and is_for_them):
            raise _Contradiction("epoch", number=after.number, agent=author)
        if sealed.shown > place.number:
            raise _Contradiction("shown", number=after.number, agent=author)

    def _was_shown(self, reader: AgentId, number: int) -> bool:
        """Whether an agent of this home may see something that was said while the epoch of this number was in force, as
        far as the mirror can tell."""
        state = self._about._mirror.state
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
        audience = audience_key(envelope.visibility)
        found = self._threads.get((agent, audience))
        if found is not None:
            return found
        is_forgotten = self._forgot or (self._forgot_private and envelope.visibility is not None)
        if not is_forgotten and (self._is_whole or not self._about._ours(agent)):
            found = self._about._mirror.state.messages.threads.get(agent, {}).get(audience)
        if found is None and self._is_whole and envelope.visibility is None:
            return Thread()
        return found

    def _line_at(self, number: int) -> bytes | None:
        """The public line at a number, where it is known."""
        if number == 0:
            return first_line(self._about._room, self._about._home)
        if number == self._shown.number:
            return self._shown.line
        return self._lines.get(number) or self._past.lines.get(number)

    def _post(self, message: t.LinkMessage, envelope: Envelope, digest: bytes, author: _Known, after: Shown) -> None:
        agent, is_public = AgentId(message.agent), envelope.visibility is None
        body = message.body
        if self._is_sealed:
            seat = self._epoch.roster.get(agent)
            # What waited was sealed under an earlier roster. Who only asks writes nothing that waits.
            asks = envelope.v != RELEASED and seat is not None and seat.requester
            envelope, body = read_sealed(message, envelope, self._about._opener, asks=asks)
        is_recap = envelope.kind == "context" and is_public and after.number == 1 and agent == self._opening.owner
        posted = posted_of(envelope, digest, message, is_opening=message.opening and is_recap)
        by = By(agent, author.principal, "", envelope.host, door_of(envelope))
        # Of an agent of this home it is known by which request it said something, and so which one is a repeated one.
        ours = self._about._ours(agent) and envelope.v in _BY_AUTHORS
        events: tuple[e.RoomEvent, ...] = (posted,)
        bodies: tuple[tuple[bytes, bytes | None] | None, ...] = ((body, message.signature or None),)
        if envelope.v == RELEASED:
            readers = None if is_public else self._shown_to(message, envelope)
            events = e.MessageReleased(gate=_gate_of(message), id=envelope.id, readers=readers), posted
            bodies = None, *bodies
        self.add(
            events,
            by,
            Millis(message.at),
            bodies,
            operation=operation_of(envelope.parts) if ours else "",
            key=envelope.key if ours else None,
            verified=verified_as(envelope, agent),
            named=_named(envelope) if self._is_sealed else None,
        )
        if self._is_sealed and is_public and outside_kind(envelope.kind) == OTHER:
            self._other = after.number
        self._shown = after
        self._ids.add(envelope.id)
        if envelope.v in _BY_AUTHORS:
            self._threads[agent, audience_key(envelope.visibility)] = Thread(envelope.counter, digest)
        for reader in self._numbers:
            if self._reads_on(reader) if is_public else reader in (envelope.visibility or ()):
                self._numbers[reader] += 1


KNOWN: Final = frozenset({UNSIGNED, SIGNED, RELEASED, SEALED})
"""The versions of envelopes that are taken in."""
_BY_AUTHORS: Final = frozenset({SIGNED, SEALED, OPENED})
"""The versions of those that bear their author's signature as messages, and the one of what was opened here."""


def roster_told(told: t.EpochEntry, record: EpochRecord) -> Roster:
    """The roster that a record leads to, as a home told it to somebody who does not have the record before. Raises
    `Refused(statement_refused)` where it is not the one that the record names, or holds more than a room takes, of
    which nothing is looked at."""
    if len(told.roster) > MAX_SEALED_MEMBERS:
        raise Refused("statement_refused", what="roster")
    roster = {
        AgentId(entry.agent): RosterEntry(
            PrincipalId(entry.principal), entry.handle, entry.key, entry.counter, entry.requester
        )
        for entry in told.roster
    }
    if len(roster) != len(told.roster) or roster_digest(roster) != record.roster:
        raise Refused("statement_refused", what="roster")
    return roster


def sealed_of(body: bytes, envelope: Envelope | None = None) -> tuple[Envelope, bytes] | None:
    """What an author sealed in a message that came in these bytes (`envelope.sealed_in`), which were read as this
    envelope before; None where nothing is sealed that can be read as such."""
    if envelope is not None and envelope.v != RELEASED:
        return (envelope, body) if envelope.v == SEALED else None
    try:
        return sealed_in(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_sealed(message: t.LinkMessage, envelope: Envelope, opener: Opener, *, asks: bool) -> tuple[Envelope, bytes]:
    """A message of a sealed room as a member reads it, and the bytes that are kept of it: both as they came where no
    agent of this home can read it, where its author told the room's home something else than its readers, and where
    nothing of it is sealed. `asks` says that its author only asked for work when it was sealed."""
    found = sealed_of(message.body, envelope)
    words = None if found is None else opener.words(*found, AgentId(message.agent), asks=asks)
    if found is None or words is None:
        return envelope, message.body
    try:
        read = joined(found[0], words)
        kept = opened(message.body, message.signature, words)
    except Refused:
        return envelope, message.body
    return (decode_envelope(kept) if envelope.v == RELEASED else read), kept


def _named(envelope: Envelope) -> tuple[MessageId, ...]:
    """The messages that a message of a sealed room names as those whose words go with it."""
    guard = guard_of(envelope.parts)
    return () if guard is None else guard.erases


def _gate_of(message: t.LinkMessage) -> MessageId:
    """The id under which an author signed what its room's home released."""
    return decode_envelope(gated_part(message.body).body).id


def is_told(message: t.LinkMessage, envelope: Envelope, room: RoomId) -> bool:
    """Whether an envelope that no author signed as it stands is what a home may say in this room: that somebody invoked
    an action, or what an author signed to be shown later."""
    try:
        if envelope.v == RELEASED:
            check_released(message.agent, message.body)
        else:
            invocations.read(envelope, AgentId(message.agent))
    except Refused:
        return False
    return envelope.room == room and not message.signature


def door_of(envelope: Envelope) -> Via:
    """The door through which an author asked for a message, as the envelope says; of one that cannot be read here only
    the door is known through which it came."""
    return "link" if is_unread(envelope) else cast(Via, envelope.via)


def verified_as(envelope: Envelope, author: AgentId) -> Verified:
    """What is said of a message of this author that was judged and found sound."""
    if envelope.v == UNSIGNED:
        return "unsigned"
    return "home" if is_granted_id(author) else "valid"


def posted_of(
    envelope: Envelope, digest: bytes, told: t.LinkMessage, *, is_opening: bool, verified: Verified = "unsigned"
) -> e.MessagePosted:
    """The fact of a message that its room's home `told`: when it was posted, and which version of a key it writes or
    forgets. `digest` is that of the envelope's bytes; whoever did not check the signature leaves `verified` to whoever
    stores the fact."""
    does = memory_of(envelope.parts)
    turn, ttl_ms = turn_of(envelope.parts)
    if due := due_of(envelope.parts):
        ttl_ms = span_until(due, Millis(told.at))
    return e.MessagePosted(
        id=envelope.id,
        kind=envelope.kind,
        to=envelope.to,
        role=envelope.role,
        visibility=envelope.visibility,
        reply_to=envelope.reply_to,
        chain=envelope.chain,
        hops=envelope.hops,
        counter=envelope.counter,
        envelope=digest,
        opening=is_opening,
        verified=verified,
        envelope_v=envelope.v,
        memory=None if does is None else MemoryNote(key=does.key, version=told.version, forgets=does.forgets),
        turn=turn,
        ttl_ms=ttl_ms,
        blob=blob_of(envelope.parts),
    )


def _sound(body: bytes, kind: type[S]) -> S | None:
    """The statement in these bytes, if there is a sound one of this version."""
    try:
        return check(body, kind) if body else None
    except Refused:
        return None


def _signed(kind: type[S], body: bytes, signature: bytes, by: str) -> S | None:
    """The sound statement in these bytes, if `by` signed it."""
    try:
        return signed(kind, body, signature, by) if body else None
    except Refused:
        return None


def _is_key(public: bytes) -> bool:
    """Whether secrets can be wrapped to a key that an agent told."""
    try:
        check_key(public)
    except Refused:
        return False
    return True


def _evidence(entry: t.MemberEntry) -> Evidence:
    """How this member came in, as its home shows it."""
    return Evidence(
        decision=entry.proof,
        decision_signature=entry.proof_signature,
        knock=entry.knock,
        knock_signature=entry.knock_signature,
        terms=entry.terms,
        terms_signature=entry.terms_signature,
        grant=entry.grant,
        grant_signature=entry.grant_signature,
        granted_as=entry.granted_as,
    )


def _is_title(title: bytes, opening: Opening) -> bool:
    try:
        check_title(title, opening.title)
    except Refused:
        return False
    return True


def decoded(body: bytes) -> Envelope | None:
    """The envelope in these bytes, of any version that can be read."""
    try:
        return decode_envelope(body) if body else None
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _told(text: str, is_form: Callable[[str], bool]) -> str:
    """A label or a role that the other home told, or nothing in the place of what is none."""
    return text if is_form(text) else ""
