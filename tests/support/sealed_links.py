"""Sealed rooms over links: an owner elsewhere whose machine makes the records, and members who seal what they say.

The encryption is the real one (`identity.epochs`, `identity.sealing`), with randomness that repeats. Verified by
`tests/engine/test_epochs.py`: what these parties sign is admitted, and what they seal is read by each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from parlerd.core import statements as st
from parlerd.core.envelope import decode_inside
from parlerd.core.epoch_record import Added, EpochCard
from parlerd.core.exchange import PROOF, SHARE
from parlerd.core.model import AgentId, History, HomeId, Millis, RoomId
from parlerd.identity import codes, epochs, sealing
from parlerd.identity.epochs import Before, Made
from parlerd.identity.sealing import Epoch, KeyPair
from parlerd.operations import types as t
from tests.support.engine import Served
from tests.support.linked import LinkParty
from tests.support.sealing import Repeating, open_sealed

CARD = EpochCard(b"title")


def pair_of(link: LinkParty, name: str, counter: int = 1) -> KeyPair:
    """The X25519 key of this number that an agent has."""
    return sealing.key_pair(hashlib.sha256(f"{link.person.name} {name} {counter}".encode()).digest())


def told_key(link: LinkParty, name: str, counter: int = 1, **said: Any) -> tuple[bytes, bytes]:
    """What an agent signs of this key, and the signature; `said` are fields that say something else."""
    agent = link.person.agent(name)
    fields: dict[str, Any] = {
        "home": home_of(link.served),
        "agent": agent,
        "key": pair_of(link, name, counter).public,
        "counter": counter,
        "at": Millis(7),
        "nonce": bytes(st.NONCE),
    }
    statement = st.encode(st.SealingKey(**(fields | said)))
    return statement, link.person.sign(agent, "parler/sealing-key", statement)


def home_of(served: Served) -> HomeId:
    return served.world.keys.id


def added(link: LinkParty, name: str, counter: int = 1, *, handle: str = "") -> Added:
    """An agent as a record adds it."""
    statement, signature = told_key(link, name, counter)
    return Added(link.person.agent(name), link.person.principal, handle or name, statement, signature)


class SealedOwner:
    """The machine of a sealed room's owner: it opens the room and makes its records."""

    def __init__(self, link: LinkParty, name: str, history: History = "full") -> None:
        self.link = link
        self.name = name
        self.history = history
        self.made: Made | None = None
        """The record that it knows to be in force."""
        self.opened: t.OpenedSession

    @property
    def room(self) -> str:
        return self.opened.room

    @property
    def epoch(self) -> Epoch:
        assert self.made is not None
        return self.made.epoch

    def make(
        self,
        add: Iterable[Added] = (),
        remove: Iterable[AgentId] = (),
        *,
        room: str = "",
        decisions: Iterable[bytes] = (),
        history: History | None = None,
    ) -> Made:
        """A record that follows the one in force. Whoever stores it calls `keep`."""
        made = self.made
        number = 1 if made is None else made.epoch.number + 1
        return epochs.make(
            home=home_of(self.link.served),
            room=RoomId(room or self.room),
            before=None if made is None else Before(made.epoch, made.roster),
            added=add,
            removed=remove,
            history=history or self.history,
            card=CARD,
            decisions=decisions,
            at=Millis(self.link.served.world.clock.now()),
            random=Repeating(f"{self.link.person.name} {number}"),
        )

    def told(self, made: Made, *, by: str = "") -> t.EpochTold:
        """A record as it crosses a link."""
        principal = by or self.link.person.principal
        signature = self.link.person.sign(principal, "parler/epoch", made.body)
        return t.EpochTold(record=made.body, signature=signature, wraps=made.wraps)

    def opening(self, **how: Any) -> t.OpenRemoteRoom:
        """What opens the room, with its first record."""
        params, key = self.link.opening(self.name, history=self.history, sealed=st.SUITE, **how)
        # The room's home is told the route of a key alone.
        room, key = st.room_id_of(params.opening), key[: codes.ROUTE_LENGTH]
        self.made = self.make([added(self.link, self.name)], room=room)
        self.opened = t.OpenedSession(
            room=room,
            name="",
            session_key=key,
            line=None,
            join_command=None,
            mcp_command=None,
            expires=0,
            approval=True,
            replayed=False,
            idempotency_key=params.idempotency_key,
        )
        return t.OpenRemoteRoom(
            opening=params.opening,
            opening_signature=params.opening_signature,
            title=b"",
            session_key=key,
            terms=params.terms,
            terms_signature=params.terms_signature,
            idempotency_key=params.idempotency_key,
            epoch=self.told(self.made),
        )

    async def open(self, **how: Any) -> None:
        await self.link.call("link.open", self.opening(**how))

    async def turn(self, add: Iterable[Added] = (), remove: Iterable[AgentId] = ()) -> Made:
        """Let an epoch begin."""
        made = self.make(add, remove)
        await self.link.call("link.epoch", t.EpochAtRoom(room=self.room, epoch=self.told(made)))
        self.made = made
        return made

    async def knocking(self, link: LinkParty, name: str, counter: int = 1, **said: Any) -> t.KnockAtRoom:
        """What an agent asks with that wants to come in."""
        statement, signature = told_key(link, name, counter, **said)
        agent = link.person.agent(name)
        fields: dict[str, Any] = {
            "home": home_of(link.served),
            "route": self.opened.session_key,
            "agent": agent,
            "principal": link.person.principal,
            "name": name,
            "key": st.check(statement, st.SealingKey).key,
            "at": link.served.world.clock.now(),
            "nonce": bytes(st.NONCE),
        }
        card = st.encode(st.JoinCard(**fields))
        return t.KnockAtRoom(
            session_key=self.opened.session_key or "",
            statement=card,
            signature=link.person.sign(agent, "parler/join", card),
            sealing_key=statement,
            sealing_key_signature=signature,
            share=b"A" * SHARE,
        )

    async def exchange(self, link: LinkParty, name: str, request: str) -> None:
        """Let both ends say that they have the key."""
        step = t.ExchangeStep(room=self.room, request=request, step="answered", text=b"B" * SHARE)
        await self.link.call("link.exchange", step)
        shown = msgspec.structs.replace(step, step="shown", text=b"p" * 64, agent=link.person.agent(name))
        await link.call("link.exchange", shown)
        await self.link.call("link.exchange", msgspec.structs.replace(step, step="confirmed", text=b"c" * PROOF))

    async def deciding(self, link: LinkParty, name: str, *, with_epoch: bool = True) -> t.DecideAtRoom:
        """The decision to let an agent in that exchanged keys, with its knock, and the record that lets it read."""
        decision = await self._deciding(link, name, with_epoch=with_epoch)
        knock = await link.knocking(name, self.opened, host="")
        return msgspec.structs.replace(
            decision, knock=knock.statement, knock_signature=knock.signature, granted=b"granted"
        )

    async def _deciding(self, link: LinkParty, name: str, *, with_epoch: bool) -> t.DecideAtRoom:
        async with self.link.following(self.room) as told:
            card = told.cards[0]
            asked = next(each for card in told.cards for each in card.requests if each.agent == link.person.agent(name))
        decision = self.link.deciding(self.room, card, asked)
        if not with_epoch:
            return decision
        self._next = self.make([added(link, name)], decisions=[hashlib.sha256(decision.statement).digest()])
        return t.DecideAtRoom(
            room=decision.room,
            statement=decision.statement,
            signature=decision.signature,
            epoch=self.told(self._next),
        )

    async def let_in(self, link: LinkParty, name: str, *, with_epoch: bool = True) -> None:
        """Bring an agent in through the front door."""
        knocked = await link.ask("link.knock", await self.knocking(link, name), t.Knocked)
        if knocked.status == "pending":
            await self.exchange(link, name, knocked.request)
            await self.link.call("link.decide", await self.deciding(link, name, with_epoch=with_epoch))
            if with_epoch:
                self.made = self._next

    def message(
        self, link: LinkParty, name: str, text: str, *, visible_to: Iterable[AgentId] = (), **rest: Any
    ) -> t.PostEnvelope:
        """A message that an agent seals under the record in force and signs."""
        assert self.made is not None
        roster, epoch, author = self.made.roster, rest.pop("epoch", self.epoch), link.person.agent(name)
        named = {*visible_to}
        readers = {agent: roster[agent].key for agent in (*named, author)} if named else None
        return link.person.envelope(
            name,
            self.room,
            text,
            visible_to=tuple(named),
            seal=lambda composed: sealing.seal(
                composed,
                author=author,
                epoch=epoch,
                readers=readers,
                input=hashlib.sha256(composed.key.encode()).digest(),
                random=Repeating(composed.id),
            ),
            **rest,
        )

    async def say(self, link: LinkParty, name: str, text: str, **rest: Any) -> t.Posted:
        return await link.ask("link.post", self.message(link, name, text, **rest), t.Posted)


def read(message: t.LinkMessage, epoch: Epoch | None = None, me: tuple[AgentId, KeyPair] | None = None) -> str:
    """The text of a sealed message."""
    words = open_sealed(message.body, author=AgentId(message.agent), epoch=epoch, me=me)
    (part,) = decode_inside(words).parts
    text: str = getattr(part, "text")  # noqa: B009
    return text
