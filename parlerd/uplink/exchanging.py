"""Both ends of the key exchange by which agents come into sealed rooms, as far as they are in this home.

    joiner's home                      room's home                     owner's home
    begin: card, share ──────────────> begun
                                       answered <───────────────────── share, unless the tries are used up
    proof, sealed knock ─────────────> shown ────────────────────────> wrong: a try, and it failed
                                       confirmed <──────────────────── proof: now it is a request
                                       approved <───────────────────── decision, record, sealed answer
    the answer names this room and a record that the mirror holds

Both homes go on from their mirrors, whenever one of them is told a step: so either may be away in between, and either
may end and begin again. What an exchange goes on from is on the disk before anything is said that follows from it, and
goes when the exchange is over.

A key that lets in without asking takes the same way. The owner's home then decides by itself, and so the room's home
alone lets nobody in.

The exchange itself is slow on purpose of nothing but its package, so it runs away from the loop.

Not here: the exchange (`identity.pake`), the steps that a room's home takes (`core.exchange`), a person's decision
(`asking.deciding`). Above: `link`, which says when something may be due, `asking`, `uplinks`. Below: the library's
rows, `turning`. Invariants: the secret part of a key leaves this machine in no form but the exchange; each wrong secret
is counted on the disk before the other end hears that it was wrong; whoever was not confirmed here is not let in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core import topics
from parlerd.core.approvals import UNDECIDED, KeyState, Request, is_stale, require_queue
from parlerd.core.epoch_record import decode_turned, record_digest
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.exchange import KNOCK_MS, PROOF, STEPS, Exchange, Step
from parlerd.core.model import AgentId, By, HomeId, Millis, RequestId, RoomId, is_label
from parlerd.core.room import Room, RoomState
from parlerd.core.statements import JoinCard, KnockStatement, SealingKey, check
from parlerd.engine.authors import Attested, Author
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle, SpentKey
from parlerd.engine.key_text import INVITE, JOINS, Spelled, spelled_of
from parlerd.engine.ports import Signers
from parlerd.identity import pake
from parlerd.identity.proofs import signed
from parlerd.identity.sealing import check_key
from parlerd.operations import types as t
from parlerd.store.port import DropKeyExchange, KeyExchangeRow, KeyTriesRow, PutKeyExchange, PutKeyTries
from parlerd.uplink.turning import Turning

log = logging.getLogger(__name__)

TRIES_EACH: Final = 5
"""Wrong secrets that those who act for one person may try with a key. Source: sealed spec, Joining."""
TRIES: Final = 20
"""Wrong secrets that may be tried with a key by all together; then the key is dead."""
IDLE_MS: Final = 10 * 60 * 1000
"""How long a joiner may show nothing while both ends are there: that is a try as well. Source: sealed spec, Joining."""
LOOK_MS: Final = 60 * 1000
"""How often the owner's home asks whether a joiner is there that shows nothing."""
LATE_MS: Final = Millis(10 * 60 * 1000)
"""How much later than its end by this machine's clock a key may still be heard of that was knocked with in time: a link
may be slow, and a relay's clock may have been set right."""
MAX_FAILED: Final = 1_000


class Caller(Protocol):
    """What asks the room's home something (`link.Link`)."""

    home: HomeId

    async def tell(self, op: str, params: t.Params, *, by: AgentId | None = None) -> Any:
        """Ask over the link that is there now, over which the agent `by` speaks then. Raises `ParlerError`."""
        ...

    async def contradict(self, room: RoomId, what: str) -> None:
        """The other home lied about this room."""
        ...

    async def lapse(self, room: RoomId, request: Request) -> None:
        """The other home lost this request, so it is over."""
        ...


class _Knock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a joiner seals for the owner's home: its knock, and on which agent host it is, which nobody else is told."""

    statement: bytes
    signature: bytes
    host: str = ""
    v: int = 1


class _Granted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the owner's home seals for a joiner that it lets in: which room, and the record in force then."""

    room: RoomId
    number: int
    record: bytes
    v: int = 1


class Admitted(NamedTuple):
    """What goes along with a decision to let somebody in."""

    knock: Attested
    statement: KnockStatement
    seal: Callable[[int, bytes], bytes]
    """Gives the answer for the joiner alone, of a record's number and hash."""


class Exchanges:
    """The exchanges of this home, at all sealed rooms elsewhere. Its `repr` shows none of them."""

    def __init__(self, desk: Desk, signers: Signers, author: Author, turning: Turning) -> None:
        self._desk = desk
        self._signers = signers
        self._author = author
        self._turning = turning
        self._rows: dict[RoomId, dict[tuple[bytes, str], KeyExchangeRow]] = {}
        """What is kept of each room that was asked about, by the joiner's share and the end."""
        self._tries: dict[RoomId, dict[tuple[str, str], int]] = {}
        """The tries at each such room, by keys and persons."""
        self._failed: Bounded[tuple[RoomId, bytes], bool] = Bounded(MAX_FAILED)
        """Exchanges that ended here because the other end said what nobody can have made."""
        self._open: dict[RoomId, dict[RequestId, Millis]] = {}
        """The requests at each room that was asked about which may not be over: each with when this home had last been
        told all that there was, before it was told of that one. What is over leaves, and comes back where it is told
        of once more, so that what an item costs does not grow with it."""
        self._newest: dict[RoomId, RequestId] = {}
        """The newest request at each such room that was looked at."""
        self._ends: dict[RoomId, dict[str, Millis]] = {}
        """Until when each key of a room of this home's person is good, by this machine's clock: by the time that was
        left when this process met the key. What the relay says of the time later changes nothing of that."""
        self._heard_all: dict[RoomId, Millis] = {}
        """When this home was last told all that there was of such a room, by this machine's clock."""
        self._links: dict[HomeId, tuple[Millis, set[RequestId]]] = {}
        """When the newest link to each home began, and which older exchanges were compared over it with what that home
        has: an older copy of its store may have been put in place meanwhile."""
        self._busy: set[RoomId] = set()
        """Rooms at which somebody goes on with exchanges now."""
        self._again: set[RoomId] = set()
        """Those among them at which a step came meanwhile."""

    def __repr__(self) -> str:
        return f"Exchanges(at {len(self._rows)} rooms)"

    async def prepare(self, room: RoomId) -> None:
        """Have at hand what is kept for a room; await this before the methods that do not wait are asked about it."""
        if room not in self._rows:
            rows = await self._desk.library.key_exchanges(room)
            tries = await self._desk.library.key_tries(room)
            self._rows.setdefault(room, {(row.share, row.role): row for row in rows})
            self._tries.setdefault(room, {(row.ref, row.principal): row.tries for row in tries})

    # -- beginning -----------------------------------------------------------------------------------------

    async def begin(
        self, home: HomeId, room: RoomId, by: By, *, route: str, secret: str, name: str, key: Attested
    ) -> tuple[Attested, bytes]:
        """The signed card and the share with which an agent of this home begins to come into a room, by the secret part
        of a key, and with this sealing key. They are on the disk. Raises `StoreError`."""
        await self.prepare(room)
        await self.drop_unanswered()
        now = self._desk.clock.now()
        card = self._author.attest(
            JoinCard(
                home=home,
                route=route,
                agent=by.actor,
                principal=by.principal,
                name=name,
                key=check(key.body, SealingKey).key,
                at=now,
                nonce=b"",
            ),
            by,
        )
        random = self._desk.random.bytes
        joiner = await self._desk.library.aside(
            lambda: pake.Joiner.begin(secret, home=home, route=route, card=card.body, random=random)
        )
        # The host is told to the owner's home alone, once that has the key.
        row = KeyExchangeRow(room, joiner.share, "joiner", by.actor, "", "begun", joiner.state, by.host.encode(), now)
        await self._put(row)
        return card, joiner.share

    async def give_up(self, room: RoomId, share: bytes) -> None:
        """The room's home did not take the knock. Raises `StoreError`."""
        await self._drop(room, share, "joiner")

    async def drop_unanswered(self) -> None:
        """Let the exchanges of this home's agents go that began so long ago that no owner's home answers them any more.
        The secret of a key is in them, and nothing else may ever look at the room of a knock that broke off. Raises
        `StoreError`."""
        before = Millis(self._desk.clock.now() - KNOCK_MS)
        for row in await self._desk.library.unanswered_exchanges(before):
            await self._drop(row.room, row.share, "joiner")

    # -- what is known of one ------------------------------------------------------------------------------

    def code(self, room: RoomId, request: Request) -> str | None:
        """The four characters of a request, which the one who knocks and the owner's person both have; None before this
        home knows that the other end has the key."""
        confirmed = self._confirmed(room, request, "joiner") or self._confirmed(room, request, "owner")
        return None if confirmed is None else confirmed.code

    def asked_code(self, room: RoomId, request: Request) -> str | None:
        """The same, as the owner's home has it."""
        confirmed = self._confirmed(room, request, "owner")
        return None if confirmed is None else confirmed.code

    def host(self, room: RoomId, request: Request) -> str:
        """On which agent host somebody is who knocks, as it told the owner's home alone."""
        row = self._row(room, request, "owner")
        if row is None or row.stage != "confirmed":
            return ""
        return msgspec.msgpack.decode(row.said, type=_Knock).host

    def has_failed(self, room: RoomId, request: Request) -> bool:
        """Whether the owner's home ended an exchange without a decision, or nobody can have said what it said."""
        share = b"" if request.exchange is None else request.exchange.share
        return request.state == "failed" or (room, share) in self._failed

    def is_under_way(self, room: RoomId, request: Request) -> bool:
        """Whether this home waits for the other end of the exchange of one of its agents."""
        return request.state == "pending" and not self.has_failed(room, request) and self.code(room, request) is None

    def is_over(self, room: RoomId, request: Request) -> bool:
        """Whether an agent of this home was let in, and the mirror holds the record that the owner's home named."""
        return request.state == "approved" and self._row(room, request, "joiner") is None

    def spent(self, room: RoomState) -> list[SpentKey]:
        """The keys of a room with which wrong secrets were tried too often, by all together or by one person."""
        tries, found = self._tries.get(room.room, {}), list[SpentKey]()
        for key in room.keys.values() if tries else ():
            if key.revoked:
                found += [SpentKey(key)] if _all_tries(tries, key.ref) >= TRIES else []
                continue
            over = {who for (ref, who), count in tries.items() if ref == key.ref and count >= TRIES_EACH}
            # What an agent of each such person called itself last.
            asked = (each for each in room.requests.values() if over and each.key_id == key.id)
            names = {each.principal: each.name for each in asked if each.principal in over}
            found += [SpentKey(key, name) for name in names.values()]
        return found

    def admitted(self, room: Room, request: Request) -> Admitted:
        """What goes along with the decision to let somebody in, and was sealed for this home. Raises
        `Refused(knock_unfinished)` of whom this home did not confirm, whatever the room's home says."""
        row, confirmed = (
            self._row(room.state.room, request, "owner"),
            self._confirmed(room.state.room, request, "owner"),
        )
        if row is None or confirmed is None:
            raise Refused("knock_unfinished")
        knock = msgspec.msgpack.decode(row.said, type=_Knock)
        random = self._desk.random.bytes

        def seal(number: int, record: bytes) -> bytes:
            granted = _Granted(room.state.room, number, record)
            return confirmed.seal_answer(msgspec.msgpack.encode(granted), random)

        statement = check(knock.statement, KnockStatement)
        return Admitted(Attested(knock.statement, knock.signature), statement, seal)

    def _confirmed(self, room: RoomId, request: Request, role: str) -> pake.Confirmed | None:
        row = self._row(room, request, role)
        return None if row is None or row.stage != "confirmed" else pake.Confirmed.restored(row.state)

    def _row(self, room: RoomId, request: Request, role: str) -> KeyExchangeRow | None:
        """What this home keeps of the exchange of a request, at one end. A share that the room's home shows once more,
        beside another request or as another agent's, leads to nothing."""
        if request.exchange is None:
            return None
        row = self._rows.get(room, {}).get((request.exchange.share, role))
        # The joiner's end is told by the first step that answers it what the request is called.
        is_unnamed = row is not None and role == "joiner" and not row.request
        if row is None or row.agent != request.agent or not (is_unnamed or row.request == request.id):
            return None
        return row

    def link_began(self, home: HomeId) -> None:
        """Another link to a home begins."""
        self._links[home] = self._desk.clock.now(), set()

    def note_level(self, room: Room) -> None:
        """Note that this home is told all there is of a room of its person at this moment."""
        state, now = room.state, self._desk.clock.now()
        # Of these this home was told before this moment.
        self._noticed(state)
        ends = self._ends.setdefault(state.room, {})
        if len(ends) < len(state.keys):
            there = self._desk.now_at(state.home)
            for key in state.keys.values():
                ends.setdefault(key.ref, Millis(now + key.expires_at - there))
        self._heard_all[state.room] = now

    def _came_too_late(self, state: RoomState, key: KeyState, request: Request) -> bool:
        """Whether a knock came when its key was good no more. When it came the relay says, which could keep a key alive
        so: a knock of which this home knew nothing, though it was told all there was and the key was over by its own
        clock, is late whatever the relay says."""
        end = self._ends.get(state.room, {}).get(key.ref)
        heard_all = self._open.get(state.room, {}).get(request.id, Millis(0))
        return request.at >= key.expires_at or (end is not None and heard_all >= end + LATE_MS)

    # -- going on ------------------------------------------------------------------------------------------

    def may_be_due(self, room: Room) -> bool:
        """Whether something may be left to do at a room, as far as is seen without waiting."""
        state = room.state
        if not state.is_sealed or state.alarm is not None:
            return False
        if state.room not in self._rows or state.room not in self._open:
            # Of a room that was not asked about yet, something may be kept whose request is over meanwhile.
            return True
        newest = next(reversed(state.approvals.requests), None)
        return bool(self._open[state.room]) or newest != self._newest.get(state.room)

    def note_told(self, room: RoomId, requests: Iterable[RequestId]) -> None:
        """Note that this home was told of these requests, whatever became of them before."""
        if (open := self._open.get(room)) is not None:
            for request in requests:
                open.setdefault(request, self._heard_all.get(room, Millis(0)))

    def _noticed(self, state: RoomState) -> dict[RequestId, Millis]:
        """The requests at a room that may not be over, with those that came since the last look."""
        open, newest = self._open.setdefault(state.room, {}), self._newest.get(state.room)
        fresh: list[RequestId] = []
        for id in reversed(state.approvals.requests):
            if id == newest:
                break
            fresh.append(id)
        for id in reversed(fresh):
            open.setdefault(id, self._heard_all.get(state.room, Millis(0)))
        if fresh:
            self._newest[state.room] = fresh[0]
        return open

    def _is_open(self, state: RoomState, id: RequestId) -> bool:
        """Whether the exchange of a request may go on without another word about it."""
        request = state.requests.get(id)
        if request is None or request.exchange is None:
            return False
        rows, share = self._rows.get(state.room, {}), request.exchange.share
        is_kept = (share, "joiner") in rows or (share, "owner") in rows
        # Who was denied may be let in after all: what is kept for that waits for it.
        return request.state == "pending" or (is_kept and request.state != "denied")

    async def go_on(self, caller: Caller, room: RoomId, *, looks: bool = False) -> None:
        """Take every step at a room that falls to this home. With `looks` time went by, so that a joiner which shows
        nothing comes to its end. Raises `StoreError`."""
        if room in self._busy:
            self._again.add(room)
            return
        self._busy.add(room)
        try:
            await self._go_on(caller, room, looks)
            while room in self._again:
                self._again.discard(room)
                await self._go_on(caller, room, looks=False)
        finally:
            self._busy.discard(room)
            self._again.discard(room)

    async def _go_on(self, caller: Caller, room: RoomId, looks: bool) -> None:
        await self.prepare(room)
        handle = await self._desk.rooms.get(room)
        first = room not in self._open
        for id in list(self._noticed((await handle.quiet()).state)):
            await self._compare_both(caller, handle, id)
            for step in (self._as_joiner, self._as_owner):
                mirror = await handle.quiet()
                request = mirror.state.requests.get(id)
                if request is None or request.exchange is None or mirror.state.alarm is not None:
                    continue
                try:
                    if step == self._as_joiner:
                        await self._as_joiner(caller, mirror, request, request.exchange)
                    else:
                        await self._as_owner(caller, handle, mirror, request, request.exchange, looks)
                except ParlerError as error:
                    # The next item, or the next look, goes on from here.
                    log.info("the key exchange of %s at room %s waits: %s", request.agent, room, error.code)
        state, open = (await handle.quiet()).state, self._open[room]
        for id in [id for id in open if not self._is_open(state, id)]:
            del open[id]
        if first or looks:
            await self._drop_lost(room, state)

    async def _compare_both(self, caller: Caller, handle: RoomHandle, id: RequestId) -> None:
        """Find out whether the room's home still has an exchange that was under way before this link began. What that
        home lost of it is told it once more; where it lost the whole, the request is over."""
        began, compared = self._links.get(caller.home, (Millis(0), set[RequestId]()))
        for role in ("joiner", "owner"):
            mirror = await handle.quiet()
            request = mirror.state.requests.get(id)
            if id in compared or request is None or request.state != "pending" or mirror.state.alarm is not None:
                return
            row = self._row(mirror.state.room, request, role)
            if row is None or request.exchange is None or row.at > began:
                continue
            try:
                if await self._is_level(caller, mirror, request, request.exchange, is_joiner=role == "joiner"):
                    compared.add(id)
            except ParlerError as error:
                if error.code in ("no_such_request", "no_such_room"):
                    log.warning("the home of room %s lost the request of %s", mirror.state.room, request.agent)
                    await caller.lapse(mirror.state.room, request)
                    return
                log.info("the key exchange of %s is not compared: %s", request.agent, error.code)

    async def _is_level(
        self, caller: Caller, mirror: Room, request: Request, exchange: Exchange, *, is_joiner: bool
    ) -> bool:
        """Tell the room's home the steps of one end again that it lost. Whether it has all that the mirror has."""
        room, own = mirror.state.room, ("begun", "shown") if is_joiner else ("answered", "confirmed")
        agent = request.agent if is_joiner else None
        steps: list[Step] = [step for step in STEPS if step in own and exchange.said(step)]
        # Before it answered this home has nothing there that could be lost; the answer itself finds out.
        for number, step in enumerate(steps):
            noted = await self._step(caller, room, request.id, step, exchange.said(step), agent=agent)
            if STEPS.index(noted.step) >= STEPS.index(exchange.newest):
                return True
            following = steps[number + 1 :]
            if following and STEPS.index(noted.step) + 1 != STEPS.index(following[0]):
                # The other end's step before that one is lost as well, and comes first.
                return False
        return not steps

    # -- the joiner's end ----------------------------------------------------------------------------------

    async def _as_joiner(self, caller: Caller, mirror: Room, request: Request, exchange: Exchange) -> None:
        state, row = mirror.state, self._row(mirror.state.room, request, "joiner")
        room = state.room
        if row is None:
            return
        if request.state == "closed" or request.state in UNDECIDED:
            await self._drop(room, row.share, "joiner")
            return
        if row.stage == "agreed" and exchange.confirmed:
            row = await self._confirm(caller, mirror, request, row, exchange)
            if row is None:
                return
        if request.state == "approved":
            await self._granted(caller, mirror, row, exchange)
        elif request.state == "pending":
            if row.stage == "begun" and exchange.answered:
                row = await self._agreed(mirror, request, row, exchange)
                if row is None:
                    return
            if row.stage == "agreed" and exchange.answered and not exchange.shown:
                await self._show(caller, mirror, request, row)

    async def _confirm(
        self, caller: Caller, mirror: Room, request: Request, row: KeyExchangeRow, exchange: Exchange
    ) -> KeyExchangeRow | None:
        """Take in that the owner's home has the key too; None where what is told of it is a lie."""
        try:
            confirmed = pake.Agreed.restored(row.state).confirmed(exchange.confirmed)
        except Refused:
            # The owner's home shows this only after the joiner's proof was right, so another is a lie.
            await self._drop(row.room, row.share, "joiner")
            await caller.contradict(row.room, "exchange")
            return None
        row = await self._put(msgspec.structs.replace(row, stage="confirmed", state=confirmed.state))
        self._tell(mirror.state.room, request)
        return row

    async def _agreed(
        self, mirror: Room, request: Request, row: KeyExchangeRow, exchange: Exchange
    ) -> KeyExchangeRow | None:
        """What follows from the share of the owner's home; None where nobody can have made that share."""
        owner, answered = mirror.state.owner_principal, exchange.answered
        try:
            agreed = await self._desk.library.aside(lambda: pake.Joiner.restored(row.state).finish(answered, owner))
        except Refused:
            self._failed[row.room, row.share] = True
            await self._drop(row.room, row.share, "joiner")
            self._desk.notifier.publish([topics.decision(row.room, row.agent)])
            return None
        # The secret of the key goes here: from now on only what follows from it is kept.
        return await self._put(msgspec.structs.replace(row, request=request.id, stage="agreed", state=agreed.state))

    async def _show(self, caller: Caller, mirror: Room, request: Request, row: KeyExchangeRow) -> None:
        """Show that this end has the key, and seal the knock for the owner's home. Nobody else can open that, so no
        home can show a knock of this agent at a room whose owner has not the secret of the key."""
        state = mirror.state
        statement = KnockStatement(
            home=state.home,
            room=state.room,
            ref=state.keys[request.key_id].ref,
            agent=request.agent,
            principal=request.principal,
            name=request.name,
            host="",
            at=self._desk.clock.now(),
            nonce=b"",
        )
        knock = self._author.attest(statement, By(request.agent, request.principal, "", "", "link"))
        agreed = pake.Agreed.restored(row.state)
        sealed = agreed.seal_knock(
            msgspec.msgpack.encode(_Knock(knock.body, knock.signature, row.said.decode())), self._desk.random.bytes
        )
        await self._step(caller, state.room, request.id, "shown", agreed.proof + sealed, agent=request.agent)

    async def _granted(self, caller: Caller, mirror: Room, row: KeyExchangeRow, exchange: Exchange) -> None:
        """The owner's home let the agent in, and says for it alone into which room and under which record."""
        state = mirror.state
        try:
            if row.stage != "confirmed":
                raise Refused("sealed_unreadable", what="answer")
            text = pake.Confirmed.restored(row.state).open_answer(exchange.granted)
            granted = msgspec.msgpack.decode(text, type=_Granted)
        except (Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await self._drop(state.room, row.share, "joiner")
            await caller.contradict(state.room, "exchange")
            return
        if granted.room == state.room and state.epochs.number < granted.number:
            # The record is told behind the decision: until then this agent reads nothing.
            return
        at = dict(state.epochs.turned).get(granted.number)
        held = None if at is None else await self._desk.library.body(state.room, at)
        # Of a room that went on meanwhile the mirror may begin behind that record.
        is_other = held is not None and record_digest(decode_turned(held)[0]) != granted.record
        await self._drop(state.room, row.share, "joiner")
        if granted.room != state.room or is_other:
            await caller.contradict(state.room, "record")
        self._desk.notifier.publish([topics.decision(state.room, row.agent)])

    # -- the owner's end -----------------------------------------------------------------------------------

    async def _as_owner(
        self, caller: Caller, handle: RoomHandle, mirror: Room, request: Request, exchange: Exchange, looks: bool
    ) -> None:
        state, room = mirror.state, mirror.state.room
        row = self._row(room, request, "owner")
        if request.state in ("approved", "closed") or request.state in UNDECIDED:
            if row is not None:
                await self._end(caller, mirror, request, row, exchange)
            return
        if request.state != "pending" or not self._turning.is_ours(mirror):
            return
        key = state.keys[request.key_id]
        if row is None or row.stage != "confirmed":
            made = spelled_of(self._desk, state, key)
            late = is_stale(request, self._desk.now_at(state.home)) or self._came_too_late(state, key, request)
            is_wrong = late or self._is_nobodys(state, key, request) or self._pretends(request)
            if made is None or is_wrong or key.revoked or self._is_tried_out(room, key, request):
                await self._end_if_spent(mirror, key)
                await self._fail(caller, room, request)
                return
            is_taken = row is None and (exchange.share, "owner") in self._rows[room]
            if is_taken or (row is None and exchange.answered):
                # The share belongs to another request. Or what this home answered is not here any more, because an
                # older copy of its database was put in place.
                await self._fail(caller, room, request)
                return
            if row is None:
                row = await self._answer(mirror, request, exchange, made)
                if row is None:
                    await self._fail(caller, room, request)
                    return
        if not exchange.answered:
            await self._step(caller, room, request.id, "answered", row.said)
        elif row.stage == "agreed":
            if exchange.shown:
                await self._judge(caller, mirror, request, row, exchange)
            elif looks:
                await self._look_after(caller, mirror, request, row)
        elif not exchange.confirmed:
            await self._tell_confirmed(caller, mirror, request, pake.Confirmed.restored(row.state))
        elif await self._lets_in(mirror, request, key):
            decide = c.DecideRequest(
                operation="session.approve",
                request=request.id,
                admit=True,
                proof="none",
                principal=self._signers.principal,
                by_key=True,
            )
            await handle.submit(decide, By(state.owner, self._signers.principal, "", "", "link"))

    async def _answer(self, mirror: Room, request: Request, exchange: Exchange, made: Spelled) -> KeyExchangeRow | None:
        """The share of this home, and what follows; None where the joiner's card or share is none."""
        state = mirror.state
        kept = await self._desk.library.bodies(state.room, (request.position,))
        body, share, random = kept[request.position].body, exchange.share, self._desk.random.bytes
        try:
            card = signed(JoinCard, body, kept[request.position].signature, request.agent)
            if (card.home, card.route) != (state.home, made.key):
                raise Refused("statement_refused", what="route")
            own, agreed = await self._desk.library.aside(
                lambda: pake.answer(
                    made.secret,
                    home=state.home,
                    route=made.key,
                    card=body,
                    share=share,
                    owner=self._signers.principal,
                    random=random,
                )
            )
        except Refused:
            return None
        now = self._desk.clock.now()
        return await self._put(
            KeyExchangeRow(state.room, share, "owner", request.agent, request.id, "agreed", agreed.state, own, now)
        )

    async def _judge(
        self, caller: Caller, mirror: Room, request: Request, row: KeyExchangeRow, exchange: Exchange
    ) -> None:
        """Whether the joiner has the key. A wrong proof is a try, which is on the disk before anybody hears of it."""
        state = mirror.state
        try:
            confirmed = pake.Agreed.restored(row.state).confirmed(exchange.shown[:PROOF])
        except Refused:
            await self._count(caller, mirror, request, row)
            return
        knock = await self._knock(mirror, request, confirmed, exchange.shown[PROOF:])
        if knock is None:
            # It has the key, and says that it meant another room, or another sealing key than it told.
            await self._drop(state.room, row.share, "owner")
            await self._fail(caller, state.room, request)
            return
        row = await self._put(
            msgspec.structs.replace(row, stage="confirmed", state=confirmed.state, said=msgspec.msgpack.encode(knock))
        )
        await self._tell_confirmed(caller, mirror, request, confirmed)
        self._tell(state.room, request)

    async def _tell_confirmed(self, caller: Caller, mirror: Room, request: Request, confirmed: pake.Confirmed) -> None:
        """Let a joiner that has the key wait for the person. Where as many wait as a person is asked about, this goes
        on once one of them is decided on: that raises `Refused(too_many_pending)`."""
        require_queue(mirror.state.requests, request.key_id)
        await self._step(caller, mirror.state.room, request.id, "confirmed", confirmed.proof)

    async def _end(
        self, caller: Caller, mirror: Room, request: Request, row: KeyExchangeRow, exchange: Exchange
    ) -> None:
        """Let an exchange go that is over. A guess that was shown before is a try all the same."""
        if request.state in UNDECIDED and row.stage == "agreed" and exchange.shown:
            try:
                pake.Agreed.restored(row.state).confirmed(exchange.shown[:PROOF])
            except Refused:
                await self._count(caller, mirror, request, row)
                return
        await self._drop(mirror.state.room, row.share, "owner")

    async def _knock(self, mirror: Room, request: Request, confirmed: pake.Confirmed, sealed: bytes) -> _Knock | None:
        """The knock of this very request, sealed by whoever has the key, with a sealing key that secrets can be wrapped
        to; None for any other."""
        state = mirror.state
        found = await self._desk.library.bodies(state.room, (request.position,))
        told = state.epochs.told.get(request.agent)
        try:
            knock = msgspec.msgpack.decode(confirmed.open_knock(sealed), type=_Knock)
            statement = signed(KnockStatement, knock.statement, knock.signature, request.agent)
            card = check(found[request.position].body, JoinCard)
            check_key(card.key)
        except (Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        said = (statement.home, statement.room, statement.ref, statement.principal, statement.name, statement.host)
        meant = (state.home, state.room, state.keys[request.key_id].ref, request.principal, request.name, "")
        if said != meant or told is None or told.key != card.key or knock.v != 1:
            return None
        return knock if not knock.host or is_label(knock.host) else msgspec.structs.replace(knock, host="")

    async def _look_after(self, caller: Caller, mirror: Room, request: Request, row: KeyExchangeRow) -> None:
        """Ask whether a joiner is there that shows nothing. Whoever only wants to see an answer of this home, and never
        shows a guess, is counted like one who guessed wrong."""
        now = self._desk.clock.now()
        due = row.at + row.idle_ms + LOOK_MS
        if now < due:
            return
        noted = await self._step(caller, mirror.state.room, request.id, "answered", row.said)
        idle = row.idle_ms + LOOK_MS if noted.is_here else row.idle_ms
        # `at` moves on with the time that does not count, so that the two together are the last look.
        row = await self._put(msgspec.structs.replace(row, idle_ms=idle, at=Millis(now - idle)))
        if row.idle_ms >= IDLE_MS:
            await self._count(caller, mirror, request, row)

    async def _count(self, caller: Caller, mirror: Room, request: Request, row: KeyExchangeRow) -> None:
        """One more try with a key. After too many the key is dead."""
        state, key = mirror.state, mirror.state.keys[request.key_id]
        tries = self._tries[state.room]
        mine = tries.get((key.ref, request.principal), 0) + 1
        await self._desk.library.record(
            [
                PutKeyTries(KeyTriesRow(state.room, key.ref, request.principal, mine)),
                DropKeyExchange(state.room, row.share, "owner"),
            ]
        )
        tries[key.ref, request.principal] = mine
        self._rows[state.room].pop((row.share, "owner"), None)
        # The request stands until the key is dead, so whatever ends this in between is made up for.
        await self._end_if_spent(mirror, key)
        if request.state == "pending":
            await self._fail(caller, state.room, request)
        if mine == TRIES_EACH:
            self._desk.notifier.publish([topics.requests(self._signers.principal)])

    async def _end_if_spent(self, mirror: Room, key: KeyState) -> None:
        """Revoke a key with which too many wrong secrets were tried."""
        state = mirror.state
        if key.revoked or _all_tries(self._tries.get(state.room, {}), key.ref) < TRIES:
            return
        log.warning("a key of room %s is dead: a wrong secret was tried with it %d times", state.room, TRIES)
        handle = await self._desk.rooms.get(state.room)
        revoke = c.RevokeKey(operation="session.revoke", revoke=key.id, principal=self._signers.principal)
        await handle.submit(revoke, By(state.owner, self._signers.principal, "", "", "link"))
        self._desk.notifier.publish([topics.requests(self._signers.principal)])

    def _is_nobodys(self, state: RoomState, key: KeyState, request: Request) -> bool:
        """Whether somebody knocks at a queue with the key by which this home brings its own agents in. Nobody is told
        that key, so there is nothing to try, and no wrong try may kill it."""
        is_invitation = key.gated or key.ref.startswith((INVITE, JOINS))
        return state.kind == "service" and not is_invitation and request.principal != self._signers.principal

    def _pretends(self, request: Request) -> bool:
        """Whether somebody knocks as an agent of this home's person that is none of this home. For whom an agent acts
        the room's home says, and its person would be asked as about one of their own."""
        is_ours = request.agent in self._desk.rooms.home.aggregate.state.agents
        return request.principal == self._signers.principal and not is_ours

    def _is_tried_out(self, room: RoomId, key: KeyState, request: Request) -> bool:
        tries = self._tries.get(room, {})
        return _all_tries(tries, key.ref) >= TRIES or tries.get((key.ref, request.principal), 0) >= TRIES_EACH

    async def _lets_in(self, mirror: Room, request: Request, key: KeyState) -> bool:
        """Whether the key alone lets an agent in that has it. Where this home put the agent out once, or another of the
        same person, a person decides."""
        if key.gated and request.agent not in key.preapproved:
            return False
        if key.state(request.at) != "live" and request.agent not in key.users:
            return False
        return not await self._turning.was_put_out(mirror, request.agent, request.principal)

    async def _fail(self, caller: Caller, room: RoomId, request: Request) -> None:
        await self._step(caller, room, request.id, "failed", b"")

    # -- both ----------------------------------------------------------------------------------------------

    async def _step(
        self,
        caller: Caller,
        room: RoomId,
        request: RequestId,
        step: Step,
        text: bytes,
        *,
        agent: AgentId | None = None,
    ) -> t.ExchangeNoted:
        """Tell the room's home a step: the joiner's as `agent`, the owner's as nobody. Raises `ParlerError`."""
        params = t.ExchangeStep(room=room, request=request, step=step, text=text, agent=agent or "")
        # Where the knock was stored and its answer lost, the link was made anew before anything here was told of the
        # request, and so without this agent.
        noted = await caller.tell("link.exchange", params, by=agent)
        assert isinstance(noted, t.ExchangeNoted)
        return noted

    def _tell(self, room: RoomId, request: Request) -> None:
        """Whoever waits for an exchange looks again."""
        self._desk.notifier.publish([topics.decision(room, request.agent), topics.requests(self._signers.principal)])

    async def _put(self, row: KeyExchangeRow) -> KeyExchangeRow:
        await self._desk.library.record([PutKeyExchange(row)])
        self._rows.setdefault(row.room, {})[row.share, row.role] = row
        return row

    async def _drop(self, room: RoomId, share: bytes, role: Any) -> None:
        await self._desk.library.record([DropKeyExchange(room, share, role)])
        self._rows.get(room, {}).pop((share, role), None)

    async def _drop_lost(self, room: RoomId, state: RoomState) -> None:
        """Let the exchanges go that the room's home never heard of, once nobody waits for them any more."""
        asked = [state.requests[id].exchange for id in self._open[room] if id in state.requests]
        open, now = {each.share for each in asked if each is not None}, self._desk.clock.now()
        for (share, role), row in list(self._rows.get(room, {}).items()):
            if now >= row.at + KNOCK_MS and share not in open and row.request not in state.requests:
                await self._drop(room, share, role)


def _all_tries(tries: Mapping[tuple[str, str], int], ref: str) -> int:
    return sum(count for (each, _), count in tries.items() if each == ref)
