"""The homes elsewhere, as the engine comes to them: one link for each relay that the person added.

Not here: one link (`link`), the file (`homes`). Above: the daemon, which puts this together with the engine. Below:
`link`, `remote_room`. Invariant: a home that the person did not add is never dialled, whoever names it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import trio

from parlerd.connections.dial import Dialer
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, HomeId, KeyId, Label, MessageId, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import KeyTerms, Opening, check, sealed_with
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import LocalAuthor
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, ForsakenRoom, Queued, RoomHandle, Undelivered
from parlerd.engine.ports import Signers
from parlerd.engine.publishing import Publishing
from parlerd.identity.codes import TypedKey, secret_bytes
from parlerd.identity.join_line import fingerprint, fits, is_loopback, parse
from parlerd.identity.proofs import read_opening, signed
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import RoomHome
from parlerd.uplink.bounds import Bounds
from parlerd.uplink.composing import Composer
from parlerd.uplink.connection import connected
from parlerd.uplink.counters import Counters
from parlerd.uplink.doors import Doors
from parlerd.uplink.exchanging import Exchanges
from parlerd.uplink.homes import AddedHome, Homes
from parlerd.uplink.link import Link
from parlerd.uplink.remote_room import RemoteRoom
from parlerd.uplink.secrets import Secrets
from parlerd.uplink.turning import Turning

log = logging.getLogger(__name__)

DISCOVER_S: Final = 3.0
"""How long a look into the directory of a relay may take. Who looks is told which relays did not answer."""


class Uplinks:
    """Every home elsewhere. The engine is opened with it, and `run` begins when the engine is there."""

    def __init__(self, homes: Homes, dialer: Dialer, signers: Signers, *, called: Label) -> None:
        self._homes = homes
        self._dialer = dialer
        self._signers = signers
        self._called = called
        """What this home calls itself to a relay."""
        self._links: dict[HomeId, Link] = {}
        self._doors = Doors()
        self._desk: Desk
        self._nursery: trio.Nursery
        """Runs the links, and what they begin."""
        self._is_ending = False
        """Whether `run` was cancelled: nothing begins any more, also where the engine, which ends later, asks."""
        self._author: LocalAuthor
        self._counters: Counters
        self._composer: Composer
        self._secrets: Secrets
        self._turning: Turning
        self._exchanges: Exchanges
        self._bounds: Bounds
        self._publishing: Publishing

    async def run(self, desk: Desk, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links until this is cancelled."""
        self._desk = desk
        self._author = LocalAuthor(self._signers, desk.random)
        try:
            self._homes.begin_to_count(desk.clock.now())
        except ParlerError as error:
            # Numbers are given out twice only where the clock is set back, too, before the next daemon starts.
            log.warning("from when this daemon counts what it signs: %s", error.message)
        self._counters = Counters(self._homes.counted)
        self._secrets = Secrets(desk, self._signers, self._author)
        self._turning = Turning(desk, self._signers, self._secrets)
        self._exchanges = Exchanges(desk, self._signers, self._author, self._turning)
        self._composer = Composer(desk, self._author, self._counters, self._secrets)
        self._publishing = Publishing(desk, self._author)
        self._bounds = Bounds(desk, HomeId(self._signers.principal))
        async with trio.open_nursery() as self._nursery:
            try:
                self._nursery.start_soon(self._bounds.run)
                for added in self._homes.all():
                    await self._begin(added)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._is_ending = True

    def _spawn(self, work: Callable[..., Awaitable[None]], *args: Any) -> bool:
        """Begin a task; False where this ends."""
        if not self._is_ending:
            self._nursery.start_soon(work, *args)
        return not self._is_ending

    async def _begin(self, added: AddedHome, secret: bytes | None = None) -> Link:
        link = Link(
            added,
            homes=self._homes,
            dialer=self._dialer,
            desk=self._desk,
            signers=self._signers,
            composer=self._composer,
            counters=self._counters,
            bounds=self._bounds,
            secrets=self._secrets,
            turning=self._turning,
            exchanges=self._exchanges,
            publishing=self._publishing,
            begin=self._spawn,
            called=self._called,
            secret=secret,
        )
        await link.load()
        self._links[added.id] = link
        self._spawn(link.run)
        return link

    # -- as the engine asks --------------------------------------------------------------------------------

    @property
    def default(self) -> HomeId | None:
        return self._homes.default

    def named(self, name: str) -> HomeId:
        return self._homes.named(name).id

    def name_of(self, home: HomeId) -> str:
        return self._homes.name_of(home)

    def join_line(self, home: HomeId) -> str | None:
        added = self._homes.get(home)
        if added is None:
            return None
        # The machine of the relay itself may reach it at an address that is of no use to others.
        address = next((each for each in added.addresses if not is_loopback(each)), added.addresses[0])
        return f"parler connect --relay {address}/#{fingerprint(home)}"

    def handle(self, actor: RoomActor[Room], home: HomeId) -> RoomHandle:
        link = self._links.get(home)
        if link is None:
            return ForsakenRoom(actor, self.name_of(home))
        at_home = RoomHome(
            actor,
            link,
            desk=self._desk,
            author=self._author,
            counters=self._counters,
            secrets=self._secrets,
            turning=self._turning,
            exchanges=self._exchanges,
            doors=self._doors,
        )
        return RemoteRoom(at_home, self._composer)

    def undelivered(self, agent: AgentId) -> Sequence[Undelivered]:
        rows = (row for link in self._links.values() for row in link.outbox if row.agent == agent and row.refused)
        return [Undelivered(row.message, row.room, row.refused) for row in rows]

    def queued(self, message: MessageId) -> Queued | None:
        for link in self._links.values():
            row = link.outbox.get(message)
            if row is not None:
                return Queued(row.room, row.agent, link.name, row.at, row.refused)
        return None

    def ahead_ms(self, home: HomeId) -> int:
        link = self._links.get(home)
        return 0 if link is None else link.clock_ahead_ms

    def _link(self, home: HomeId) -> Link:
        link = self._links.get(home)
        if link is None:
            raise Refused("home_not_trusted", host=self.name_of(home))
        return link

    async def meet(self, home: HomeId) -> None:
        await self._link(home).ready()

    async def find(self, home: HomeId, typed: TypedKey) -> tuple[KeyId, RoomId]:
        """What a key opens at another home. The room's mirror is there afterwards, with the key in it."""
        link, key = self._link(home), self._desk.keys.key_id(typed.key)
        # Also where the home does not answer now: what an agent of this home came by may be asked for again.
        self._doors.note_key(home, key, typed)
        found = await link.call("link.find", t.FindKey(session_key=typed.key))
        assert isinstance(found, t.FoundKey)
        room = RoomId(found.room)
        try:
            terms = check(found.terms, KeyTerms)
        except Refused:
            raise Refused("relay_equivocation", what="terms") from None
        if terms.ref != found.ref or terms.room != room:
            raise Refused("relay_equivocation", what="terms")
        if _is_sealed(found) is not bool(typed.secret):
            # A home that calls a sealed room a clear one would be told the whole key; and the other way round nobody
            # would find out which room it is.
            raise Refused("wrong_room")
        if not typed.secret and await self._desk.bindings.of(room, typed.key) != typed.binding:
            # Nothing that anybody signed says which room a key is for: only what was typed does. Of a sealed room the
            # owner's home finds it out, by a secret that no relay knows.
            raise Refused("wrong_room")
        link.mirrors.note_key(room, found.ref, key)
        return await self._begin_mirror(link, room, found), room

    async def find_direct(self, home: HomeId, room: RoomId, agent: AgentId) -> Opening:
        link = self._link(home)
        # A relay of an earlier version has no sealed direct room, and does not know the word.
        unseals = "link.direct_key_of" in (await link.ready()).welcome.operations
        find = t.FindKey(room=room, agent=agent, unseals=True) if unseals else t.FindKey(room=room, agent=agent)
        found = await link.call("link.find", find, by=agent)
        assert isinstance(found, t.FoundKey)
        try:
            opening = read_opening(room, home, found.opening, found.opening_signature)
            terms = signed(KeyTerms, found.terms, found.terms_signature, opening.principal)
        except Refused:
            raise Refused("relay_equivocation", what="opening") from None
        if found.room != room or (terms.ref, terms.room, terms.home) != (found.ref, room, home):
            raise Refused("relay_equivocation", what="terms")
        if opening.kind != "dm" or opening.owner == agent or terms.preapproved != (agent,):
            # What a relay calls a direct room could be any room that somebody wants the agent in.
            raise Refused("relay_equivocation", what="kind")
        await self._begin_mirror(link, room, found)
        return opening

    def bring_in_later(self, home: HomeId, room: RoomId, agent: AgentId) -> None:
        link = self._links.get(home)
        if link is not None:
            link.bring_in(room, agent)

    async def _begin_mirror(self, link: Link, room: RoomId, found: t.FoundKey) -> KeyId:
        """Let the mirror of a room begin that was found by a key; gives the key's id in this home."""
        home = link.home
        item = t.LinkItem(
            room=room,
            card=t.Card(
                whole=False,
                home=home,
                opening=found.opening,
                opening_signature=found.opening_signature,
                opened_at=self._desk.clock.now(),
                transfers=found.transfers,
                keys=[
                    t.KeyEntry(
                        ref=found.ref,
                        terms=found.terms,
                        terms_signature=found.terms_signature,
                        revoked=False,
                        users=[],
                    )
                ],
            ),
        )
        await link.mirrors.take(item, link.pull_epochs)
        mirror = (await self._desk.rooms.get(room)).aggregate
        known = next((each.id for each in mirror.state.keys.values() if each.ref == found.ref), None)
        if known is None:
            # What the relay gave is not signed by the person who opened the room.
            raise Refused("relay_equivocation", what="terms")
        return known

    def all(self) -> Sequence[HomeId]:
        return list(self._links)

    async def publish(self, home: HomeId, agent: AgentId, card: bytes, signature: bytes) -> t.CardKept:
        kept = await self._link(home).call(
            "link.publish", t.PublishCard(agent=agent, card=card, signature=signature), by=agent
        )
        assert isinstance(kept, t.CardKept)
        return kept

    def owe_card(self, home: HomeId, agent: AgentId, code: str) -> None:
        self._homes.owe_card(home, agent, code)
        if home in self._links and not code:
            self._links[home].need()

    def card_sent(self, home: HomeId, agent: AgentId) -> None:
        self._homes.card_sent(home, agent)

    def owed_cards(self, home: HomeId) -> Mapping[AgentId, str]:
        added = self._homes.get(home)
        return {} if added is None else added.cards

    async def discover(self, home: HomeId, wanted: t.FindCards) -> t.CardPage:
        link = self._link(home)
        if link.state in ("unreachable", "refused"):
            # It was just found out of reach: who looks is not to wait for the next attempt.
            link.need()
            raise Refused("offline", f"The relay {link.name} cannot be reached from here now.", home=link.name)
        with trio.move_on_after(DISCOVER_S):
            page = await link.call("link.discover", wanted, by=AgentId(wanted.agent))
            assert isinstance(page, t.CardPage)
            return page
        raise Refused("home_unreachable", f"The relay {link.name} did not answer.", home=link.name)

    # -- as the person asks --------------------------------------------------------------------------------

    def listed(self) -> list[t.HomeEntry]:
        return [self._entry(added) for added in self._homes.all()]

    def _entry(self, added: AddedHome) -> t.HomeEntry:
        link = self._links.get(added.id)
        return t.HomeEntry(
            name=added.name,
            id=added.id,
            url=f"{added.addresses[0]}/",
            fingerprint=fingerprint(added.id),
            state="idle" if link is None else link.state,
            default=self._homes.default == added.id,
            waiting=0 if link is None else link.outbox.waiting,
            cards=sum(not code for code in added.cards.values()),
            heard_at=0 if link is None else link.heard_at,
            reason="" if link is None else link.reason,
            clock_ahead_ms=0 if link is None else link.clock_ahead_ms,
        )

    async def add(self, line: str, secret: str) -> t.HomeAdded:
        """Dial the relay that a line names, check its key and the secret, store it and make it the default."""
        address, pin = parse(line)
        proof = secret_bytes(secret) if secret.strip() else None
        async with (
            self._dialer.dial(address) as stream,
            connected(
                stream,
                fits=partial(fits, pin),
                keys=self._signers,
                secret=proof,
                name=self._called,
                now=self._desk.clock.now,
            ) as connection,
        ):
            home, welcome = connection.home, connection.welcome
        was_there = self._homes.get(home) is not None
        added = self._homes.add(home, welcome.name or "relay", address, pin, default=True)
        link = self._links.get(home) or await self._begin(added)
        await link.met(connection, address)
        link.heard_at = self._desk.clock.now()
        link.forgive()
        return t.HomeAdded(home=self._entry(added), status="unchanged" if was_there else "added")

    async def remove(self, name: str) -> t.HomeRemoved:
        """End the link and forget the relay, with what waits to be sent there. Its rooms stay here to be read."""
        added = self._added(name)
        link = self._links.get(added.id)
        rows = [] if link is None else list(link.outbox)
        rooms = await self._desk.library.rooms_at(added.id)
        if link is not None:
            link.remove()
            del self._links[added.id]
            for row in rows:
                await link.outbox.drop(row.message)
        self._homes.remove(added.id)
        default = LOCAL if self._homes.default is None else self.name_of(self._homes.default)
        return t.HomeRemoved(name=added.name, rooms=len(rooms), dropped=len(rows), default=default)

    def choose(self, name: str) -> t.HomeEntry | None:
        """Let new sessions open on a relay, or on this machine."""
        if name == LOCAL:
            self._homes.set_default(None)
            return None
        added = self._added(name)
        self._homes.set_default(added.id)
        return self._entry(added)

    def _added(self, name: str) -> AddedHome:
        found = self._homes.get(HomeId(name))
        if found is not None:
            return found
        try:
            return self._homes.named(name)
        except Refused:
            raise Refused("no_such_home", home=name[:64]) from None


def _is_sealed(found: t.FoundKey) -> bool:
    """Whether what a home gave for a key is a sealed room, as its opening says."""
    try:
        return sealed_with(check(found.opening, Opening)) > 0
    except Refused:
        raise Refused("relay_equivocation", what="opening") from None
