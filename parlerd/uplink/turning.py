"""The records of sealed rooms that this home's person owns: who can read from now on.

    a decision to admit, a kick      its record goes along with it
    whoever came in by a key, left,  wait for this home: one record for all that waits
    or has a fresh key
    seven days of use, another       a record that changes nobody
    owner, a room that was rewound,
    a clock that was ahead

Whoever comes in was decided on by whom the room belonged to then, and who was taken out comes back only by a later
decision: that somebody is in is the word of the room's home alone, which would let one read on whom this home put out,
and with somebody who owned the room before anybody at all. That somebody was put out stands in a
record, also of one whom no record held yet.

Into a queue this home brings the agents of its own person by itself. Each record of a queue says who only asks for
work: whoever came in by a key that lets in as that, and whoever said so itself, which only takes away from what that
one can read.

A record is signed by the person, so no other machine makes one: what waits, waits until this daemon runs and reaches
the room's home, and everybody there can see since when.

Not here: what a record is made of (`identity.epochs`), which ones a room takes (`core.turning`). Above: `asking`,
which sends one along, and `link`, which asks whether something waits. Below: `secrets`, the mirror. Invariant: a record
names the newest one that the mirror holds; when it is refused because the room went on, it is made anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from parlerd.bounded import Bounded
from parlerd.core import events as e
from parlerd.core.approvals import Request, opened_for
from parlerd.core.envelope import OPENED, decode_envelope, opened_part
from parlerd.core.epoch_record import (
    MAX_CHANGES,
    MAX_SEALED_MEMBERS,
    Added,
    EpochCard,
    EpochRecord,
    check_record,
    decode_turned,
    put_out_digest,
)
from parlerd.core.errors import Refused
from parlerd.core.membership import REQUESTER
from parlerd.core.model import AgentId, Millis, Position, PrincipalId, RoomId
from parlerd.core.room import Room, RoomState
from parlerd.core.sealing import sealed_part
from parlerd.core.statements import (
    NONCE,
    Claim,
    DecisionStatement,
    Opening,
    Owner,
    OwnerLine,
    SealingKey,
    Title,
    check,
    deciders,
    decode_opened,
    encode,
)
from parlerd.engine.authors import Attested
from parlerd.engine.desk import Desk
from parlerd.engine.ports import Signers
from parlerd.identity import epochs, sealing
from parlerd.identity.proofs import Evidence, decode_evidence, signed_by
from parlerd.operations import types as t
from parlerd.store.port import EpochSecretRow
from parlerd.uplink.secrets import Secrets

USED_MS: Final = 7 * 24 * 3600 * 1000
"""After how long an epoch ends under which something was said. Source: sealed spec, Epochs."""
_FIRST_FACTS: Final = 16
"""How many facts of a mirror hold everything that opening a room leads to, its title among them."""
LINE_EVERY_MS: Final = 24 * 3600 * 1000
"""How often an owner's home says that it is there. Source: sealed spec, Epochs."""
MAX_DOUBTED: Final = 1_000
"""Of how many agents it is remembered that the log speaks of them."""
MAX_MARKED: Final = 64
"""Of how many rooms it is remembered what their records say of those who were put out."""
AT_ONCE: Final = 32
"""How many records are read at once: with a thousand members each has 110 kB of wraps."""

log = logging.getLogger(__name__)


class _Marks(NamedTuple):
    """What the records of a room say of those who were put out."""

    read: list[tuple[int, Position]]
    """The records that were read, as `EpochsState.turned` gives them."""
    at: dict[bytes, Position]
    """Where the record stands that has this digest among its decisions."""


class Turning:
    """Makes the records of the rooms that `principal`, this home's person, owns."""

    def __init__(self, desk: Desk, signers: Signers, secrets: Secrets) -> None:
        self._desk = desk
        self._signers = signers
        self._secrets = secrets
        self._made_at: dict[RoomId, Millis] = {}
        """When each room's home took the newest record that this daemon made by itself, by that home's clock. A mirror
        takes a record in at the time of what was told before it, which may be days ago."""
        self._known_since: dict[RoomId, tuple[bytes, Millis]] = {}
        """The record in force in each room, and since when this daemon knows it, by the clock of this machine."""
        self._doubted: Bounded[tuple[RoomId, AgentId], Position] = Bounded(MAX_DOUBTED)
        """Of whom it was said in the log that nothing shows it to be in again, since which record."""
        self._marks: Bounded[RoomId, _Marks] = Bounded(MAX_MARKED)
        """What the records of each room say of those who were put out, as far as they were read for that."""

    def is_ours(self, room: Room) -> bool:
        """Whether this home makes the records of a room."""
        state = room.state
        return state.epochs.number > 0 and state.owner_principal == self._signers.principal

    async def since(self, room: Room, number: int) -> list[t.EpochTold]:
        """The records after the one with this number, as far as the mirror holds them, as they were told before."""
        state = room.state
        places = [at for each, at in state.epochs.turned if each > number]
        found: list[t.EpochTold] = []
        for at in places:
            signed = (await self._desk.library.bodies(state.room, (at,))).get(at)
            if signed is None:
                break
            record, wraps = decode_turned(signed.body)
            found.append(t.EpochTold(record=record, signature=signed.signature, wraps=wraps))
        return found

    def is_due(self, room: Room, now: Millis) -> bool:
        """Whether a record of this home is to be made. `now` is by the clock of the room's home, as the times in the
        room are: this machine's may be a year behind it, and no epoch would ever be used up."""
        state = room.state
        if state.closed or state.alarm is not None or not self.is_ours(room):
            return False
        waiting = room.epochs.waiting()
        # A fresh key alone is used by the next record, whatever that one is made for.
        is_waited_for = waiting is not None and bool(waiting.entering or waiting.leaving)
        return is_waited_for or self._is_over(room, now)

    def _is_over(self, room: Room, now: Millis) -> bool:
        """Whether another epoch is to begin though nobody comes or goes."""
        state = room.state.epochs
        # Until there is a record of the new owner's, a machine that was away takes one of the former owner's for one of
        # before. And the home of a room that was rewound takes no message without a record that follows.
        is_another_s = state.signers[-1:] != [self._signers.principal]
        # Of a record that was made before an older copy of this home was put in place it may have lost the key.
        is_lost = self._secrets.epoch(room.state.room, state.record) is None
        # While this machine's clock was ahead it signed that it was there at a time that is still to come. Until then
        # nobody would be told of any line of it.
        was_ahead = state.heard > self._desk.clock.now() + LINE_EVERY_MS
        return is_another_s or is_lost or was_ahead or state.rewound > 0 or self._is_used_up(room, now)

    def _is_used_up(self, room: Room, now: Millis) -> bool:
        state, own = room.state.epochs, self._desk.clock.now()
        begun = max(state.at, self._made_at.get(room.state.room, Millis(0)))
        record, since = self._known_since.get(room.state.room, (b"", own))
        if record != state.record:
            since = own
            self._known_since[room.state.room] = state.record, since
        # That home's time is its word: one that stood still would let whoever took the keys read on for ever.
        return state.used > 0 and (now - begun >= USED_MS or own - since >= USED_MS)

    def line_due(self, room: Room, now: Millis) -> OwnerLine | None:
        """What this home is to say of itself and of how it has a room: once a day where it signs nothing else."""
        state, epoch = room.state, room.state.epochs
        if state.closed or state.alarm is not None or not self.is_ours(room):
            return None
        if now < epoch.heard + LINE_EVERY_MS or self._is_over(room, now):
            return None
        shown = state.shown
        return OwnerLine(
            home=state.home,
            room=state.room,
            record=epoch.number,
            digest=epoch.record,
            public=shown.number,
            line=shown.line,
            at=now,
            nonce=self._desk.random.bytes(NONCE),
        )

    def signed_line(self, line: OwnerLine) -> Attested:
        """A line as it travels, signed by the person."""
        body = encode(line)
        return Attested(body, self._signers.sign(self._signers.principal, OwnerLine.TAG, body))

    def first(
        self, opening: Opening, room: RoomId, title: Title, key: Attested, other: Added | None = None
    ) -> epochs.Made:
        """The record with which a room begins: its owner is in, with this sealing key. A direct room's holds the
        `other` as well, whose key is known."""
        owner = Added(opening.owner, opening.principal, opening.handle, key.body, key.signature)
        return epochs.make(
            home=opening.home,
            room=room,
            before=None,
            added=[owner] if other is None else [owner, other],
            removed=(),
            history=opening.history,
            card=EpochCard(encode(title)),
            at=self._desk.clock.now(),
            random=self._desk.random.bytes,
        )

    def told(self, made: epochs.Made) -> t.EpochTold:
        """A record as the room's home is told of it, signed by the person."""
        signature = self._signers.sign(self._signers.principal, EpochRecord.TAG, made.body)
        return t.EpochTold(record=made.body, signature=signature, wraps=made.wraps)

    async def following(
        self,
        room: Room,
        *,
        admits: Claim | None = None,
        puts_out: AgentId | None = None,
        decisions: Iterable[bytes] = (),
        names: PrincipalId | None = None,
        asks: bool = False,
        own: Attested | None = None,
    ) -> t.EpochTold | None:
        """The record that follows the one in force, with everything that waits. With `admits` it holds this newcomer
        too, which in a queue may only ask for work (`asks`), and with `puts_out` this one no longer. It `names` this
        person as successor, or nobody where that is empty; with None the one whom this home's person named before,
        while that one has an agent in the roster. `own` is the sealing key of a newcomer of this home that told nobody
        of it before.

        Where this home has not the secret in force, because an older copy of it was put in place that lacks its newest
        keys, its agents come with new ones, and no link leads back from this record: who comes in later cannot read
        what was said before it.

        None where nothing would change but that time went by, and not enough did: the newcomer told no key to which the
        secret could be wrapped, say, and knocks with one when it comes again. Raises `Refused(not_sealed_in)` where
        the room's title is not here either. That this home made the record is on the disk when this returns.
        """
        state = room.state
        now, sealed = state.epochs, state.epochs.roster
        await self._secrets.prepare(state.home, state.room)
        row = self._secrets.epoch(state.room, now.record)
        waiting = room.epochs.waiting()
        back = [] if waiting is None else [each for each in waiting.entering if await self._may_read(room, each)]
        coming = () if waiting is None else (*back, *waiting.fresh)
        leaving = () if waiting is None else waiting.leaving
        claims = {agent: Claim(agent, state.members[agent].principal, state.members[agent].handle) for agent in coming}
        if admits is not None and admits.agent in now.told:
            claims[admits.agent] = admits
        gone = {agent for agent in leaving if agent in sealed}
        if puts_out is not None and puts_out in sealed:
            gone.add(puts_out)
        if admits is not None:
            gone.discard(admits.agent)
        claims = {agent: claim for agent, claim in claims.items() if agent not in gone and agent != puts_out}
        decisions = (*decisions, *(() if puts_out is None else (put_out_digest(puts_out),)))
        added = [each for claim in claims.values() if (each := await self._added(room, claim)) is not None]
        if admits is not None and own is not None:
            entry = sealed.get(admits.agent)
            added = [each for each in added if each.agent != admits.agent]
            if entry is None or check(own.body, SealingKey).counter > entry.counter:
                added.append(Added(admits.agent, admits.principal, admits.handle, own.body, own.signature))
        if row is None:
            anew = [await self._anew(room, agent) for agent in self._own(room) if agent not in gone]
            again = {each.agent for each in anew}
            added = [*anew, *(each for each in added if each.agent not in again)]
        removed = sorted(gone, key=lambda agent: (agent != puts_out, agent))[:MAX_CHANGES]
        first = {*_of(admits), *(self._own(room) if row is None else ())}
        added = sorted(added, key=lambda each: (each.agent not in first, each.agent))[:MAX_CHANGES]
        added = _seated(added, sealed.keys() - set(removed))
        asking = {agent for agent, entry in sealed.items() if entry.requester}
        others = (each.agent for each in added if admits is None or each.agent != admits.agent)
        asking |= {agent for agent in others if agent not in sealed and self._asks(room, agent)}
        if admits is not None:
            asking = asking | {admits.agent} if asks else asking - {admits.agent}
        # Whoever goes and finds no place in this record stays what it is until the next one.
        asking &= (sealed.keys() - set(removed)) | {each.agent for each in added}
        # Whom nobody reads for any more takes nothing over: the home of the room and whoever was put out could do that
        # together.
        readers = {entry.principal for agent, entry in sealed.items() if agent not in gone | asking}
        readers.update(each.principal for each in added if each.agent not in asking)
        is_kept = now.signers[-1:] == [self._signers.principal] and now.successor in readers
        kept = now.successor if is_kept else PrincipalId("")
        successor = kept if names is None else names
        says = puts_out is not None or own is not None or (names is not None and names != kept)
        if admits is not None and admits.agent in sealed:
            says = says or sealed[admits.agent].requester is not asks
        if not (added or gone or says or self._is_over(room, self._desk.now_at(state.home))):
            return None
        made = epochs.make(
            home=state.home,
            room=state.room,
            before=epochs.Before(
                sealing.Epoch(now.number, now.record, b"" if row is None else row.secret), dict(sealed)
            ),
            added=added,
            removed=removed,
            history=state.history,
            card=await self._card(room, row),
            decisions=decisions,
            successor=successor or None,
            requesters=asking,
            # By this machine's clock alone: else a relay whose clock is ahead, or who lies about the times of messages,
            # would have the owner signed for as heard of later than it was.
            at=self._desk.clock.now(),
            random=self._desk.random.bytes,
        )
        await self._secrets.note_made(state.room, made.record.number, made.epoch.record)
        return self.told(made)

    def _asks(self, room: Room, agent: AgentId) -> bool:
        """Whether an agent that a record takes into a queue is to be given what a requester has. Nobody is given more
        than the key says of the request that was granted, whatever role the room's home tells of the agent."""
        state = room.state
        if state.kind != "service":
            return False
        # Not the newest request: the home of the room and the agent make up one with another key together.
        granted = [each for each in state.requests.values() if each.agent == agent and each.state == "approved"]
        if granted:
            return asks_by(state, max(granted, key=lambda each: each.decided))
        # Of somebody else's agent an owner before may have decided. By which key it asked is not known here then, so
        # it is given the least.
        is_ours = agent in self._desk.rooms.home.aggregate.state.agents
        return not is_ours or state.members[agent].role == REQUESTER

    def _own(self, room: Room) -> list[AgentId]:
        """The agents of this home that are in a room's roster."""
        here = self._desk.rooms.home.aggregate.state.agents
        return [agent for agent in room.state.epochs.roster if agent in here]

    async def _anew(self, room: Room, agent: AgentId) -> Added:
        """An agent of this home with a key that no record had and that nobody was told."""
        state = room.state.epochs
        entry, told = state.roster[agent], state.told.get(agent)
        used = max(entry.counter, 0 if told is None else told.counter)
        key = await self._secrets.newer_key(room.state.home, agent, used)
        return Added(agent, entry.principal, entry.handle, key.body, key.signature)

    def note_made(self, room: RoomId, at: Millis) -> None:
        """The room's home took a record that was made because time went by, or because somebody waited: `at` this time
        by that home's clock."""
        self._made_at[room] = at

    async def _may_read(self, room: Room, agent: AgentId) -> bool:
        """Whether an agent that is in and in no roster is to be let read: more is needed for that than the word of the
        room's home that it is in. Whoever owned the room then decided so; and of one that a record took out, knocked
        and was decided on since."""
        state, library = room.state, self._desk.library
        if agent in opened_for(state.lifecycle, state.keys.values()):
            # This home's person named it when the room was opened, so it needs nobody's word. What it may read it has
            # the key of, and no home makes such a key.
            return put_out_digest(agent) not in await self._marks_of(room)
        at = state.epochs.out.get(agent)
        if at is None:
            at = (await self._marks_of(room)).get(put_out_digest(agent))
        if at is None:
            entered = Position(state.members[agent].entered)
            body = await library.body(state.room, entered)
            evidence = Evidence() if body is None else decode_evidence(body)
            first = state.lifecycle.owners[0]
            is_first = (agent, state.members[agent].principal) == (first.agent, first.principal)
            # That somebody whom no decision let into a queue is an agent of this home is the home's own knowledge.
            is_brought = state.kind == "service" and agent in self._desk.rooms.home.aggregate.state.agents
            if is_first or is_brought or _is_by_owner(state, evidence.decision, evidence.decision_signature, entered):
                return True
        else:
            decided = [
                Position(each.decided)
                for each in state.requests.values()
                if each.agent == agent and each.state == "approved" and each.position > at
            ]
            found = await library.bodies(state.room, decided)
            if any(
                _is_by_owner(state, found[place].body, found[place].signature, place)
                for place in decided
                if place in found
            ):
                return True
        if self._doubted.get((state.room, agent)) != (at or 0):
            self._doubted[state.room, agent] = at or Position(0)
            log.warning("room %s: nothing shows that %s was let in by whoever owned it then", state.room, agent)
        return False

    async def was_put_out(self, room: Room, agent: AgentId, principal: PrincipalId) -> bool:
        """Whether a record of this room put the agent out, and none took it in since, or another agent of that person,
        where it is not the owner's. The room's home keeps account of that too, and could forget it."""
        state = room.state
        is_own = principal == state.owner_principal
        marks = await self._marks_of(room)
        theirs = () if is_own else (each.agent for each in state.members.values() if each.principal == principal)
        if any(put_out_digest(each) in marks for each in (agent, *theirs)):
            return True
        for each, at in state.epochs.out.items():
            member = state.members.get(each)
            is_meant = each == agent or (not is_own and (member is None or member.principal == principal))
            # Of a record that is not here any more nobody knows what it said.
            if is_meant and (put_out_digest(each) in marks or await self._desk.library.body(state.room, at) is None):
                return True
        return False

    async def _marks_of(self, room: Room) -> Mapping[bytes, Position]:
        """Where the records of a room say that somebody was put out, by `put_out_digest`, unless a later one took that
        agent in. Also of those who were in and in no roster yet, whom `EpochsState.out` does not know."""
        turned = room.state.epochs.turned
        known = self._marks.get(room.state.room)
        if known is None or turned[: len(known.read)] != known.read:
            known = _Marks([], {})
        new, marks = turned[len(known.read) :], dict(known.at)
        for begin in range(0, len(new), AT_ONCE):
            places = [at for _, at in new[begin : begin + AT_ONCE]]
            found = await self._desk.library.bodies(room.state.room, places)
            for at in places:
                if at not in found:
                    continue
                record = check_record(decode_turned(found[at].body)[0])
                # A record names the decisions that it carries out by digests as well, which nobody asks for here.
                marks.update(dict.fromkeys(record.decisions, at))
                for each in record.added:
                    marks.pop(put_out_digest(each.agent), None)
        if new:
            self._marks[room.state.room] = _Marks(list(turned), marks)
        return marks

    async def _added(self, room: Room, claim: Claim) -> Added | None:
        """A newcomer, or a member with a fresh key, as a record holds it; None where its key can be none, or is not
        newer than the one that the roster holds."""
        state = room.state.epochs
        told, entry = state.told[claim.agent], state.roster.get(claim.agent)
        if entry is not None and told.counter <= entry.counter:
            return None
        found = await self._desk.library.bodies(room.state.room, (told.position,))
        signed = found.get(told.position)
        if signed is None:
            return None
        try:
            sealing.check_key(check(signed.body, SealingKey).key)
        except Refused:
            # Nothing can be wrapped to it, and one bad key must not keep everybody else waiting.
            return None
        return Added(claim.agent, claim.principal, claim.handle, signed.body, signed.signature)

    async def _title(self, room: Room) -> bytes:
        """The title of a room of this home's person, as the mirror has it. Raises `Refused(not_sealed_in)`."""
        library, name = self._desk.library, room.state.room
        for header in await library.few_facts(name, Position(0), _FIRST_FACTS):
            if isinstance(header.event, e.RoomTitled):
                body = await library.body(name, header.position)
                if body is not None:
                    return decode_opened(body)[1]
        raise Refused("not_sealed_in")

    async def _card(self, room: Room, row: EpochSecretRow | None) -> EpochCard:
        """What everybody who comes in is told: the same as before, and the key of the room's first message."""
        state = room.state
        if row is None:
            card = EpochCard(await self._title(room))
        else:
            at = next((position for number, position in reversed(state.epochs.turned) if number == row.number), None)
            body = None if at is None else await self._desk.library.body(state.room, at)
            if body is None:
                raise Refused("not_sealed_in")
            card = epochs.card(check_record(decode_turned(body)[0]), row.secret)
        if card.recap or not state.opening or state.kind == "service":
            # Those who only ask a queue for work have the card, and no message of another is for them.
            return card
        stored = await self._desk.library.body(state.room, state.opening)
        [header] = await self._desk.library.few_facts(state.room, Position(state.opening - 1), 1)
        if stored is None or not isinstance(header.event, e.MessagePosted) or header.event.envelope_v != OPENED:
            return card
        sealed = decode_envelope(opened_part(stored).body)
        epoch = self._secrets.epoch(state.room, sealed_part(sealed).record)
        if epoch is None:
            return card
        key = sealing.key_of(
            sealed, author=header.by.actor, epoch=sealing.Epoch(epoch.number, epoch.record, epoch.secret)
        )
        return EpochCard(card.title, sealed.id, key)


def asks_by(room: RoomState, request: Request) -> bool:
    """Whether somebody who is let in by a request only asks for work in this room: the key says so, or the one who
    knocked did."""
    key = room.keys.get(request.key_id)
    return room.kind == "service" and (request.role == REQUESTER or (key is not None and key.requester))


def decision_digest(signed: Attested) -> bytes:
    """By what a record names a decision that it carries out."""
    return hashlib.sha256(signed.body).digest()


def _is_by_owner(state: RoomState, decision: bytes, signature: bytes, at: Position) -> bool:
    """Whether a decision bears the signature of whoever owned the room where it was told: who owned it before would
    let in somebody, together with the room's home, about whom nobody else was asked."""
    owner = next((each for each in reversed(state.lifecycle.owners) if each.position <= at), None)
    if owner is None or not decision:
        return False
    try:
        said = check(decision, DecisionStatement)
        by = deciders([Owner(owner.principal, owner.agent, owner.record)], state.lifecycle.approver, said)
        signed_by(DecisionStatement, decision, signature, by)
    except Refused:
        return False
    return True


def _seated(added: Iterable[Added], sealed: Collection[AgentId]) -> list[Added]:
    """Those of these agents, the first first, who are in the roster already or find a place in it: more than it takes
    may wait, and nobody else is to wait for that."""
    free, found = MAX_SEALED_MEMBERS - len(sealed), list[Added]()
    for each in added:
        is_new = each.agent not in sealed
        if not is_new or free > 0:
            found.append(each)
            free -= is_new
    return found


def _of(claim: Claim | None) -> tuple[AgentId, ...]:
    return () if claim is None else (claim.agent,)
