"""The mirrors of one home's rooms: what its link brings is judged and taken in, and whoever waits for it is told.

    link -> item -> `hear` judges -> the mirror's line -> stored -> `when_landed`, `until`, every room's own waiters

Not here: what is right (`arriving`), how items come (`link`). Above: `link`, `lanes`, `asking`, `remote_room`. Below:
`arriving`, the rooms and the library of the engine. Invariant: one item after the other is taken in, so each is judged
over all that came before it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import trio

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.approvals import Request, standing_request
from parlerd.core.errors import Refused
from parlerd.core.grants import is_opened_by
from parlerd.core.lifecycle import DELETED, NEW_LOG, OLDER_COPY, owners_of
from parlerd.core.membership import number_here, shifts_of, told_seq, view_of
from parlerd.core.messages import audience_key
from parlerd.core.model import (
    AgentId,
    By,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RoomId,
    Seq,
    Shown,
)
from parlerd.core.retention import Span, merged
from parlerd.core.room import Room, RoomState
from parlerd.core.statements import KeyTerms, Opening, Owner, Rewind, check, decode_opened, first_owner
from parlerd.core.visibility import can_see
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Arrived
from parlerd.engine.desk import Desk
from parlerd.engine.epochs import ROSTERS
from parlerd.engine.handles import MirrorRoom, Present
from parlerd.engine.key_text import spelled
from parlerd.engine.library import Signed
from parlerd.engine.lookup import active_room
from parlerd.engine.presence import DERIVED
from parlerd.engine.rooms import pause_among
from parlerd.engine.sightings import word_from_elsewhere
from parlerd.engine.submissions import Submission
from parlerd.identity.proofs import named_in, owner_after, read_opening, signed, succeeds
from parlerd.operations import types as t
from parlerd.store.port import EraseBodies, ForgetMarks
from parlerd.uplink.arriving.hearing import Arrival, Began, Grounds, Past
from parlerd.uplink.arriving.items import hear, wanted
from parlerd.uplink.bounds import CHUNK, Bounds
from parlerd.uplink.counters import Counters, Threaded
from parlerd.uplink.rewinding import find_fork, rewound
from parlerd.uplink.secrets import HomeOpener, Secrets
from parlerd.uplink.walking import Pull, unknown, walk

log = logging.getLogger(__name__)

_EVERY_KEY: Final = 2**53
"""Above the counters of all keys."""
NEWEST: Final = 200
"""With how many of its newest messages the mirror of a room begins."""
MAX_OPENINGS: Final = 1_000
MAX_UNLINKED: Final = 4_000
MAX_LANDED: Final = 1_000
"""Own messages that came in and that nobody asked about yet."""


@dataclass(slots=True)
class _Counts:
    """What the newest card of a room counted, by which the other home knows what to tell next."""

    moves: int = 0
    asks: int = 0


class Mirrors:
    """Takes in what the home `home` tells."""

    def __init__(
        self,
        home: HomeId,
        desk: Desk,
        principal: PrincipalId,
        counters: Counters,
        bounds: Bounds,
        secrets: Secrets,
    ) -> None:
        self.copied: set[AgentId] = set()
        """Agents of this home in whose name somebody else signs."""
        self._home = home
        self._desk = desk
        self._principal = principal
        """The person of this home."""
        self._counters = counters
        self._bounds = bounds
        """Is told what came in, and erases what is too much."""
        self._secrets = secrets
        self.opener = HomeOpener(home, secrets)
        """Opens what is sealed in the rooms there."""
        self._caught_up: set[RoomId] = set()
        """Rooms of which this daemon was told everything that was there before it began to listen."""
        self._counts: dict[RoomId, _Counts] = {}
        self._waits_from: dict[RoomId, int] = {}
        """The oldest epoch of each sealed room under which something is sealed that waits, as its home last said."""
        self._spent: set[RoomId] = set()
        """Sealed rooms of which there may be secrets here that nothing needs."""
        self._key_ids: dict[tuple[RoomId, str], KeyId] = {}
        """The ids of session keys that somebody typed here, by what statements call them."""
        self._openings: Bounded[RoomId, Began] = Bounded(MAX_OPENINGS)
        """What mirrors began with, for those that were asked about."""
        self._unsound: set[RoomId] = set()
        """Rooms of which a mirror said that their home contradicted itself, or has them no more, and rooms of other
        homes."""
        self._landed: Bounded[MessageId, e.Header] = Bounded(MAX_LANDED)
        """Own messages that came in."""
        self._landing: dict[MessageId, Callable[[e.Header], None]] = {}
        """Who is told when an own message comes in."""
        self._change = trio.Event()
        """Set when something came in. Made anew each time."""
        self._unlinked: Bounded[tuple[AgentId, bytes], None] = Bounded(MAX_UNLINKED)
        """Records to which no link leads back from the newest that an agent can read: nobody walks there again for each
        page of what was said under them."""
        self._presences: dict[RoomId, dict[AgentId, Present]] = {}
        """How present members are, as the other home last told."""

    # -- what is told --------------------------------------------------------------------------------------

    async def take(self, item: t.LinkItem, pull: Pull | None = None) -> bool:
        """Take in one item; whether the room is to be followed on. `pull` asks the room's home for records of epochs;
        without it, none is asked for.

        Raises `StoreError`, what `pull` raises that may pass, and `Refused` where the mirror cannot take in what was
        told."""
        room = RoomId(item.room)
        try:
            if item.gone:
                if item.deleted and await self._known(room) is not None:
                    await self._note_deleted(room)
                await self._forget_members(room)
                return False
            actor = await self._mirror(room)
            mirror = await actor.quiet()
            if item.rewound is not None:
                await self._rewind(actor, mirror, item.rewound)
                return not is_over(actor.aggregate.state)
            if mirror.state.contradicted == OLDER_COPY:
                # Until the room's person decides, nothing of what the home holds now fits what it told.
                self._note_level(room, item)
                return True
            past = Past(*await self._desk.library.mirrored(room, *wanted(item, mirror.state.shown)))
            if not mirror.state.room and item.card is not None:
                past = past._replace(opened=await self._opened_beside(room, item.card))
            await self._secrets.prepare(self._home, room)
            await self._look_back(room, mirror, item, pull)
            grounds = Grounds(
                room,
                self._home,
                mirror,
                began=await self._began(mirror),
                opener=self.opener,
                is_live=room in self._caught_up,
                key_of=self._key_of(room),
                ours=self.is_ours,
                own=self._counters.is_own,
            )
            arrivals, erased = hear(item, past, grounds)
            await self._secrets.store()
            await self._take_in(actor, arrivals)
            if erased:
                await self._erase(actor, erased)
            if item.erased:
                await self._prune(actor, item.erased)
            turned = any(isinstance(event, e.EpochTurned) for arrival in arrivals for event in arrival.command.events)
            await self._look_at_secrets(actor.aggregate, item, changed=turned or bool(item.erased or erased))
            if item.card is not None:
                self._counts[room] = _Counts(item.card.moves, item.card.asks)
            self._note_level(room, item)
            await self._note_sights(room, actor.aggregate, item.sights)
            if item.presence:
                members = actor.aggregate.state.members
                told = {
                    agent: present_of(each.presence, each.since, each.stated or None)
                    for each in item.presence
                    if (agent := AgentId(each.agent)) in members
                }
                self._presences.setdefault(room, {}).update(told)
                self._desk.notifier.publish(map(topics.presence, told))
            return not is_over(actor.aggregate.state)
        finally:
            self._change.set()
            self._change = trio.Event()

    async def _note_sights(self, room: RoomId, mirror: Room, told: Sequence[t.SightOnMessage]) -> None:
        """Remember what the room's home says of whether models were shown what agents of this home wrote. Of agents of
        this home nobody else has a word to say, nor of one who may not see the message."""
        for each in told:
            found, reader = await self._desk.library.trace(MessageId(each.id)), AgentId(each.agent)
            if found is None or found.room != room or not self.is_ours(author := found.header.by.actor):
                continue
            member, event = mirror.state.members.get(reader), found.header.event
            if member is None or self.is_ours(reader) or not isinstance(event, e.MessagePosted):
                continue
            if not can_see(view_of(member), position=found.header.position, visibility=event.visibility):
                continue
            row = word_from_elsewhere(found, None, reader, each.sight, self._desk.clock.now())
            if row is not None:
                self._desk.sightings.note(MessageId(each.id), author, row, found.sights)

    async def _look_back(self, room: RoomId, mirror: Room, item: t.LinkItem, pull: Pull | None) -> None:
        """Learn the secrets of earlier epochs whose messages an item brings, as far as agents of this home may read
        those: whoever just came in was given the newest secret alone."""
        if pull is None or item.page is None or not (wants := unknown(self._secrets, room, item.page.messages)):
            return
        told = () if item.card is None else item.card.members
        # What was said before an agent came in, or came again, is told before its coming is. That a page says a number
        # for an agent may be the first that is told of it here, where the answer to its knock was lost.
        inside = {*(AgentId(member.agent) for member in told), *mirror.state.members, *map(AgentId, item.page.before)}
        inside |= {request.agent for request in mirror.state.requests.values()}
        ours = [agent for agent in sorted(inside) if self.is_ours(agent)]
        owners = self._owners(room, mirror, item.card)
        for agent in ours:
            await self.look_back(room, wants, agent, owners, pull)

    def _owners(self, room: RoomId, mirror: Room, card: t.Card | None) -> list[Owner]:
        """All that owned a room, as far as the mirror knows or a card shows. What a card cannot show counts for nothing
        here: whoever takes the card in finds out."""
        owners = owners_of(mirror.state.lifecycle)
        if card is None:
            return owners
        with suppress(Refused):
            if not owners:
                owners.append(first_owner(read_opening(room, self._home, card.opening, card.opening_signature)))
            for each in card.transfers[len(owners) - 1 :]:
                named = named_in(room, self._home, owners, each.statement, each.record, each.record_signature)
                said = each.statement, each.signature
                found = succeeds(room, self._home, owners, *said, is_sealed=True, successor=named)
                owners.append(owner_after(found))
        return owners

    async def look_back(
        self, room: RoomId, wants: Collection[bytes], agent: AgentId, owners: Sequence[Owner], pull: Pull
    ) -> None:
        """Learn the secrets of the epochs that these records began, as far as an agent of this home may read them.
        What cannot be learned is unreadable. Raises what `pull` raises that may pass, and `StoreError`."""
        wants = [
            record
            for record in wants
            if self._secrets.epoch(room, record) is None and (agent, record) not in self._unlinked
        ]
        if not wants or not owners:
            return
        try:
            for record in await walk(self._secrets, room, wants, agent=agent, owners=owners, pull=pull):
                self._unlinked[agent, record] = None
        except Refused as error:
            if error.spec.retryable:
                raise
            log.warning("epochs of room %s: %s (%s)", room, error.code, error.details.get("what", ""))

    async def _look_at_secrets(self, mirror: Room, item: t.LinkItem, *, changed: bool) -> None:
        """Let secrets go that nothing needs any more, once all is told that is there: a message that waited may have
        been shown meanwhile, and come with a later item."""
        room = mirror.state.room
        if item.waits_from is not None:
            changed = changed or item.waits_from != self._waits_from.get(room)
            self._waits_from[room] = item.waits_from
        if changed:
            self._spent.add(room)
        if item.level and room in self._spent and room in self._waits_from:
            self._spent.discard(room)
            await self._forget_secrets(mirror)

    async def _forget_secrets(self, mirror: Room) -> None:
        """Where the history is not for everyone, the secret of an epoch goes once the mirror holds no words of it, and
        the room's home none that wait."""
        state = mirror.state
        if state.history == "full":
            return
        oldest = await self._desk.library.oldest_words(state.room, Position(0), 1)
        held = state.epochs.number
        if oldest:
            held = next((n for n, at in reversed(state.epochs.turned) if at <= oldest[0].position), 0)
        waits_from = self._waits_from.get(state.room, 0)
        await self._secrets.forget(state.room, min(held, waits_from) if waits_from else held)
        for agent in await self._secrets.agents_with_old_keys(self._home):
            await self._secrets.drop_keys(self._home, agent, await self._oldest_key_needed(agent))

    async def _oldest_key_needed(self, agent: AgentId) -> int:
        """The counter of the oldest sealing key that opens something which an agent of this home may still open: the
        key that it had in the oldest epoch whose secret is kept, of each sealed room there. 0 while a record may yet be
        made for an older key, because the agent knocks somewhere or waits for a record."""
        needed = [_EVERY_KEY]
        for number, room in enumerate(await self._desk.library.rooms_at(self._home), 1):
            await pause_among(number)
            try:
                mirror = (await self._desk.rooms.get(room)).aggregate
            except Refused:
                continue
            state = mirror.state
            asked, member = standing_request(state.requests, agent), state.members.get(agent)
            if not state.lifecycle.sealed or (asked is None and member is None):
                continue
            if (asked is not None and asked.state == "pending") or (member is not None and member.waits):
                return 0
            await self._secrets.prepare(self._home, room)
            needed.append(await self._key_at(state, agent, self._secrets.oldest_epoch(room)))
        return min(needed)

    async def _key_at(self, state: RoomState, agent: AgentId, epoch: int) -> int:
        """The counter of the key that an agent had in an epoch of a room, or of its first one where it came later."""
        found = 0
        places = [position for _, position in state.epochs.turned]
        for begin in range(0, len(places), ROSTERS):
            for header in await self._desk.library.headers(state.room, places[begin : begin + ROSTERS]):
                if not isinstance(header.event, e.EpochTurned) or (found and header.event.number > epoch):
                    continue
                found = next((entry.counter for who, entry in header.event.added if who == agent), found)
        return found or _EVERY_KEY

    def _note_level(self, room: RoomId, item: t.LinkItem) -> None:
        if item.level:
            self._caught_up.add(room)

    async def _rewind(self, actor: RoomActor[Room], mirror: Room, told: t.RewindEntry) -> None:
        """Let the mirror go on from where the room's person says, if that is a place of the room that is here. Anything
        else changes nothing: it is an old rewind again, or one of another room than the one that was told here."""
        if await self._began(mirror) is None or is_over(mirror.state):
            return
        try:
            statement = signed(Rewind, told.statement, told.signature, mirror.state.owner_principal)
        except Refused:
            await self.contradict(actor.room, "rewind")
            return
        if (statement.home, statement.room) != (self._home, actor.room) or statement.epoch <= mirror.state.epoch:
            return
        before = {AgentId(agent): number for agent, number in told.before.items() if self.is_ours(AgentId(agent))}
        head = Shown(statement.public, statement.line)
        fork = await find_fork(self._desk.library, mirror, head, before)
        if fork.fits is False:
            await self.contradict(actor.room, "line")
            return
        ours = [agent for agent in mirror.state.members if self.is_ours(agent)]
        by = By(mirror.state.owner, mirror.state.owner_principal, "", "", "link")
        events = rewound(mirror.state, fork, statement, ours)
        bodies = ((told.statement, told.signature), *[None] * (len(events) - 1))
        command = c.Arrive(events=events, at=mirror.last_at)
        await actor.submit(command, by, Arrived(bodies))
        log.warning("room %s was rewound to its public message %d", actor.room, statement.public)

    async def _began(self, mirror: Room) -> Began | None:
        """What a mirror began with; None for one that has not begun."""
        room = mirror.state.room
        if room and room not in self._openings:
            found = (await self._desk.library.bodies(room, (1,))).get(1, Signed())
            body = decode_opened(found.body)[0]
            self._openings[room] = Began(check(body, Opening), body, found.signature)
        return self._openings.get(room)

    async def _opened_beside(self, room: RoomId, card: t.Card) -> int:
        """How many other rooms there are here that were opened by the grant which the opening on this card bears.

        Raises `Refused(relay_equivocation)` where another person signed that an agent of this home owns the room."""
        try:
            opening = read_opening(room, self._home, card.opening, card.opening_signature)
        except Refused:
            return 0
        granted = opening.granted
        if granted is msgspec.UNSET:
            return 0
        if self.is_ours(opening.owner) and opening.principal != self._principal:
            raise Refused("relay_equivocation", what="principal")
        count = 0
        for number, each in enumerate(await self._desk.library.rooms_at(self._home), 1):
            await pause_among(number)
            body = await self._desk.library.body(each, Position(1))
            with suppress(Refused):
                count += each != room and is_opened_by(check(decode_opened(body or b"")[0], Opening), granted.grant)
        return count

    async def _mirror(self, room: RoomId) -> RoomActor[Room]:
        handle = await self._desk.rooms.create(room, self._home)
        if not isinstance(handle, MirrorRoom) or handle.aggregate.state.home not in ("", self._home):
            # It is a room of this very machine, or of a third home, which this one has nothing to say about.
            raise Refused("relay_equivocation", what="room")
        return handle.actor

    async def _take_in(self, actor: RoomActor[Room], arrivals: list[Arrival]) -> None:
        placed = [actor.place(arrival.command, arrival.by, arrival.words) for arrival in arrivals]
        for submission in placed:
            submission.when_done(partial(self._note_own, actor.room, submission))
        try:
            await self._taken_in(actor, arrivals, placed)
        finally:
            # Where the link went, or a part could not be stored: what is not begun must not follow without what is
            # before it.
            for submission in placed:
                actor.withdraw(submission)

    async def _taken_in(self, actor: RoomActor[Room], arrivals: list[Arrival], placed: Sequence[Submission]) -> None:
        for arrival, submission in zip(arrivals, placed, strict=True):
            settled = await submission.result()
            for event, body in zip(arrival.command.events, arrival.words.bodies, strict=True):
                if isinstance(event, e.MessagePosted) and body is not None:
                    self._bounds.note(actor.room, len(body[0]))
            for header in settled.facts:
                if isinstance(header.event, e.MemberJoined) and self.is_ours(header.event.agent):
                    began = await self._began(actor.aggregate)
                    opening = None if began is None else began.opening
                    # In which session an agent is, a program does not say that opens a room for it.
                    if opening is None or opening.granted is msgspec.UNSET or opening.owner != header.event.agent:
                        await self._activate(actor.room, header.event, header.by)

    async def _erase(self, actor: RoomActor[Room], numbers: Sequence[int]) -> None:
        """The other home erased the words of these public messages, so they are erased here too."""
        positions = await self._desk.library.public_positions(actor.room, numbers)
        await self._desk.library.record([EraseBodies(actor.room, positions)])
        await actor.quiet()
        if actor.recent is not None:
            # Memory has the newest words as well.
            actor.recent.clear()

    async def _prune(self, actor: RoomActor[Room], told: Sequence[t.ErasedAtRoom]) -> None:
        """The other home let the words of these messages go, so they go here too, and the mirror says so. What that
        home lost before the room was rewound is nowhere else, and stays."""
        room = await actor.quiet()
        state = room.state
        spans: list[Span] = []
        for each in told:
            agent = AgentId(each.agent)
            member = state.members.get(agent)
            if member is None or not member.present or not self.is_ours(agent):
                continue
            shifts, view = shifts_of(state.membership, agent), room.view(agent)
            numbers = [Seq(number_here(shifts, number)) for number in (each.first, each.last)]
            first, last = [await self._desk.library.position_of(actor.room, view, number) for number in numbers]
            if numbers[0] <= room.newest_seq(agent) and 0 < first <= last:
                spans.append(Span(first, last))
        if state.contradicted:
            return
        by = By(state.owner, state.owner_principal, "", "", "link")
        for span in merged(spans):
            after = Position(span.first - 1)
            while not state.retention.holds(span):
                words = await self._desk.library.oldest_words(actor.room, after, CHUNK)
                old = [each for each in words if each.position <= span.last]
                after = old[-1].position if len(old) == CHUNK else span.last
                gone = [each for each in old if not state.rewinds.is_lost(each.position)]
                size = sum(each.size for each in gone)
                event = e.BodiesErased(spans=((span.first, after),), messages=len(gone), bytes=size)
                erases = tuple(each.position for each in gone)
                await actor.submit(c.Arrive(events=(event,), at=room.last_at, erases=erases), by, Arrived((None,)))
                self._bounds.note_erased(actor.room, len(gone), size)
            while await self._desk.library.has_marks(actor.room, *span):
                await self._desk.library.record([ForgetMarks(actor.room, *span, CHUNK)])

    def _note_own(self, room: RoomId, submission: Submission) -> None:
        """Something came in, in the call that stored it: messages of agents of this home may be waited for. One that
        was there before may be of a daemon before this one, which died before it heard of its message; if its clock was
        ahead, its counter is greater than all of ours."""
        agent = submission.by.actor
        if submission.settled is None or not self.is_ours(agent):
            return
        for header in submission.settled.facts:
            event = header.event
            if not isinstance(event, e.MessagePosted):
                continue
            threaded = Threaded(room, agent, audience_key(event.visibility))
            is_foreign = self._counters.is_foreign(threaded, event.counter, event.envelope)
            if is_foreign and room in self._caught_up and agent not in self.copied:
                self.copied.add(agent)
                log.warning("somebody else signs with the key of agent %s", agent)
            then = self._landing.pop(event.id, None)
            if then is None:
                self._landed[event.id] = header
            else:
                then(header)

    async def _activate(self, room: RoomId, event: e.MemberJoined, by: By) -> None:
        """An agent of this home was let in. Where somebody decided that it comes in, and in a session, the room becomes
        its active one. Whoever comes into a channel with a key that asks nobody goes on with the session that it is in,
        and where it is in none, in the channel. In a sealed room there is a request with such a key too."""
        home = self._desk.rooms.home
        state = (await self._mirror(room)).aggregate.state
        request = None if event.request is None else state.requests.get(event.request)
        key = None if request is None else state.keys.get(request.key_id)
        is_open = state.kind == "channel" and key is not None and not key.gated
        asked = event.request is not None and not is_open
        if asked or await active_room(self._desk, event.agent) is None:
            await home.submit(c.Activate(agent=event.agent, room=room), by)

    async def _forget_members(self, room: RoomId) -> None:
        """The other home tells no more of this room: none of this home's agents is in it any longer."""
        self._counts.pop(room, None)
        handle = self._desk.rooms.open_actor(room) or await self._known(room)
        if not isinstance(handle, MirrorRoom) or handle.aggregate.state.contradicted:
            return
        for agent in [agent for agent in handle.aggregate.state.members if self.is_ours(agent)]:
            await self.forget_member(room, agent)

    async def forget_member(self, room: RoomId, agent: AgentId) -> None:
        """The other home says that this agent of ours is not in the room, so it has to come in again."""
        actor = await self._mirror(room)
        mirror = await actor.quiet()
        member = mirror.state.members.get(agent)
        if member is not None and member.present:
            by = By(agent, member.principal, "", "", "link")
            await actor.submit(c.Arrive(events=(e.MemberLeft(agent=agent),), at=mirror.last_at), by)

    async def _note_deleted(self, room: RoomId) -> None:
        """The other home says that the room was deleted there. What is here stays, and says so."""
        mirror = await (await self._mirror(room)).quiet()
        if not is_over(mirror.state):
            await self.contradict(room, DELETED)

    async def compare(
        self,
        room: RoomId,
        agents: Collection[AgentId],
        states: Mapping[tuple[RoomId, AgentId], str],
        is_deleted: Callable[[RoomId], Awaitable[bool]],
    ) -> None:
        """Compare how these agents of ours stand to a room, as the other home says, with what the mirror holds.

        Where the other home forgot that an agent came in, an older copy of its store was put in place, and the agent
        has to come in again. Where it forgot all of ours it will tell nothing more of the room, so the mirror says what
        happened: the room was deleted there, if `is_deleted` says so."""
        mirror = await (await self._mirror(room)).quiet()
        present = {member.agent for member in mirror.state.members.values() if member.present}
        inside = {agent: states.get((room, agent), "") for agent in agents if agent in present}
        if mirror.state.closed or mirror.state.contradicted or not inside:
            return
        if not any(inside.values()):
            await self.contradict(room, DELETED if await is_deleted(room) else OLDER_COPY)
            return
        for agent, state in inside.items():
            if state != "member":
                await self.forget_member(room, agent)

    async def archive(self) -> int:
        """The other home has none of the rooms that are known of it any more: their mirrors say so. Gives how many were
        not closed before. Doing it again changes nothing."""
        count = 0
        for room in await self._desk.library.rooms_at(self._home):
            handle = await self._desk.rooms.get(room)
            if not isinstance(handle, MirrorRoom):
                continue
            mirror = await handle.actor.quiet()
            state = mirror.state
            if state.closed or is_over(state):
                continue
            await self.contradict(room, NEW_LOG)
            count += 1
        return count

    async def contradict(self, room: RoomId, what: str) -> None:
        """The other home contradicted itself about a room outside of what it told of the room."""
        actor = await self._mirror(room)
        mirror = await actor.quiet()
        by = By(mirror.state.owner, mirror.state.owner_principal, "", "", "link")
        await actor.submit(c.Arrive(events=(e.HomeContradicted(what=what),), at=mirror.last_at), by)

    async def lapse(self, room: RoomId, request: Request) -> None:
        """The other home has a request no more that it told before: the request is over."""
        actor = await self._mirror(room)
        mirror = await actor.quiet()
        by = By(request.agent, request.principal, "", "", "link")
        ended = e.KnockEnded(request=request.id, agent=request.agent, how="lapsed")
        await actor.submit(c.Arrive(events=(ended,), at=mirror.last_at), by)

    async def is_sound(self, room: RoomId) -> bool:
        """Whether this room goes on to be followed: one of another home never was, whatever the home says here."""
        if room not in self._unsound and await self._known(room) is not None:
            handle = await self._desk.rooms.get(room)
            state = handle.aggregate.state
            # The log of a newer Parler has no mirror's handle either.
            is_of_it = isinstance(handle, MirrorRoom) and state.home in ("", self._home)
            if is_over(state) or not is_of_it:
                self._unsound.add(room)
        return room not in self._unsound

    async def _known(self, room: RoomId) -> object | None:
        try:
            return await self._desk.rooms.get(room)
        except Refused:
            return None

    def is_ours(self, agent: AgentId) -> bool:
        """Whether this home holds the agent's key."""
        return agent in self._desk.rooms.home.aggregate.state.agents

    def _key_of(self, room: RoomId) -> Callable[[KeyTerms, PrincipalId, bool], KeyId]:
        def key_of(terms: KeyTerms, principal: PrincipalId, is_sealed: bool) -> KeyId:
            typed = self._key_ids.get((room, terms.ref))
            if typed is not None:
                return typed
            if principal == self._principal:
                # The person's own daemon drew the key, and draws it again.
                made = spelled(self._desk, room, terms.ref, gated=terms.gated, is_sealed=is_sealed)
                return self._desk.keys.key_id(made.key)
            # Somebody else's key, which nobody typed here: an id that no typed key has.
            return KeyId(hashlib.sha256(f"{room} {terms.ref}".encode()).hexdigest())

        return key_of

    def note_key(self, room: RoomId, ref: str, key: KeyId) -> None:
        """Somebody typed a key here that opens this room."""
        self._key_ids[room, ref] = key

    def presence(self, room: RoomId, agent: AgentId) -> Present | None:
        """How present an agent is in a room there; None where that was not told on this link."""
        return self._presences.get(room, {}).get(agent)

    def forget_presence(self) -> None:
        """The link is over: who is present elsewhere is not known any more."""
        known = {agent for told in self._presences.values() for agent in told}
        self._presences.clear()
        self._desk.notifier.publish(map(topics.presence, known))

    # -- where it stands -----------------------------------------------------------------------------------

    async def resume(self, room: RoomId) -> t.Resume:
        """Where the link goes on in this room. Raises `Refused(relay_equivocation)` for a room of another home, of
        which this one is told nothing."""
        mirror = await (await self._mirror(room)).quiet()
        state = mirror.state
        await self._secrets.prepare(self._home, room)
        if not mirror.position:
            return t.Resume(room=room, newest=NEWEST)
        counts = self._counts.get(room, _Counts())
        inside = [
            agent
            for agent, member in state.members.items()
            if member.present and not member.waits and self.is_ours(agent)
        ]
        if not inside:
            # Nobody of this home was in the room so far, or no record of a sealed room held anybody, so nothing of it
            # was told.
            return t.Resume(room=room, asks=counts.asks, newest=NEWEST)
        return t.Resume(
            room=room,
            public=state.shown.number,
            line=state.shown.line,
            moves=counts.moves,
            asks=counts.asks,
            before={agent: told_seq(state.membership, agent) for agent in inside},
            epoch=state.epochs.number,
            heard=state.epochs.heard,
        )

    # -- waiting -------------------------------------------------------------------------------------------

    def when_landed(self, message: MessageId, then: Callable[[e.Header], None]) -> None:
        """Call `then`, which must not raise, with an own message as the mirror has it, once it has come in on this
        link: at once if it has."""
        header = self._landed.pop(message, None)
        if header is None:
            self._landing[message] = then
        else:
            then(header)

    def no_longer(self, message: MessageId) -> None:
        """Nobody waits for this message to come in any more."""
        self._landing.pop(message, None)

    async def until(self, room: RoomId, holds: Callable[[Room], bool], seconds: float) -> bool:
        """Whether something holds of the mirror, now or within so many seconds."""
        with trio.move_on_after(seconds):
            while True:
                change = self._change
                handle = self._desk.rooms.open_actor(room)
                if handle is not None and holds(await handle.quiet()):
                    return True
                await change.wait()
        return False


def is_over(state: RoomState) -> bool:
    """Whether nothing more is taken in of this room: its home contradicted itself, or has it no more. A room of which
    the home holds less than it told may go on, once its person says from where."""
    return state.contradicted not in ("", OLDER_COPY)


def present_of(word: str, since: int, stated: t.StatedStatus | None = None) -> Present:
    """How present somebody is said to be. Another word than ours is nobody's to say: it would be shown as it is."""
    return Present(word if word in DERIVED else "offline", Millis(since), stated)
