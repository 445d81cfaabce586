"""What somebody in a sealed room and its relay could do together, what a relay could tell the owner, and an owner whose
machine is away for long or whose relay goes back to an older copy.

    Told         a message that its author signed is told where it does not belong: after a record that put its author
                 out, also one that waited until then, under a record that is over, in another room, or to somebody
                 whom it does not name
    OtherKey     the owner is told another key than an agent told
    Away         the owner's machine is away for more than a day, while people come and go
    WentBack     the relay goes on from an older copy, and the owner's person signs from where

In a `Told` story the relay's engine is honest, and somebody stands between it and one home (`lies`). Each story raises
`Broken` where the lie is neither found out nor without effect. Above: `faults_of_sealing`, the tests. Below: `lies`,
`sealed_lies`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar, Final

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.envelope import (
    SIGNED,
    Envelope,
    GatedPart,
    GatePart,
    TextPart,
    decode_envelope,
    encode_envelope,
    root_chain,
)
from parlerd.core.gated import released
from parlerd.core.model import By, MessageId, PrincipalId, RoomId
from parlerd.core.statements import SealingKey, check, encode
from parlerd.engine.authors import Draft
from parlerd.engine.face import EngineFace
from parlerd.engine.reading import SEALED_AWAY
from parlerd.identity import sealing
from parlerd.operations import types as t
from parlerd.uplink.lanes import mirror_of
from tests.sim import lies, promises
from tests.sim.broken import Broken
from tests.sim.people import Agent
from tests.sim.sealed_lies import BACK_S, STORY, turn
from tests.sim.stored import state_of
from tests.sim.tales import GHOST
from tests.sim.world import Simulation
from tests.support.relayed import Home

LONG_S: Final = 26 * 3600.0
"""Virtual seconds: longer than a sealing key is used before its agent makes a fresh one."""
SHORT: Final = replace(STORY, things=2)


class Adding(lies.Liar):
    """Tells a message beside those that there are, once it has one."""

    message: t.LinkMessage | None = None

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.message is None or not messages:
            return messages
        message, self.message, self.has_lied = self.message, None, True
        return [*messages, message]


class Told(lies.Lied):
    """A message is told to the last home where it does not belong."""

    is_found: ClassVar[bool | None] = True
    """Whether that home finds it out at once. With None it may, and otherwise nobody there is shown anything."""

    def __init__(self, seed: int) -> None:
        self.adding = Adding()
        super().__init__(seed, self.adding, SHORT)

    async def _afterwards(self, agents: list[Agent]) -> None:
        owner, author = agents[0], next(each for each in agents if each.name.startswith("home1"))
        stays = await self.tell(owner, author, agents)
        await owner.say(in_public=True)
        await Simulation._settle(self, stays)
        # At once: later its author would be found out by what it says next, which follows something else.
        if self.adding.has_lied and self.is_found and not self._contradicted(self.homes):
            raise Broken("a message that does not belong there is not found out")
        await self._settle(stays)

    async def tell(self, owner: Agent, author: Agent, agents: list[Agent]) -> list[Agent]:
        """Let the relay have the message; who is in the room then."""
        raise NotImplementedError

    async def kept(self, author: Agent, room: str) -> t.LinkMessage:
        """What an agent's machine signs for a room as it is now, and sends nobody."""
        home = self.homes[1]
        uplinks = home.uplinks
        actor = await mirror_of(uplinks._desk, RoomId(room))
        mirror = await actor.quiet()
        agent = next(each.agent for each in mirror.state.members.values() if each.handle == author.name)
        command = c.PostMessage(kind="text", id=MessageId("m_kept"), idempotency_key="kept", fresh=True)
        words = Draft((TextPart(f"{author.name} says what is kept"),), mirror.state.shown)
        by = By(agent, home.world.keys.principal, "", "shell", "cli")
        decided = await uplinks._composer.decided(actor, command, by, words)
        message = uplinks._composer.sign(decided, command, by, words, {})
        return t.LinkMessage(
            at=mirror.last_at, agent=agent, principal=by.principal, body=message.body, signature=message.signature
        )


class PutOut(Told):
    """Who was put out is told to say something on, under the epoch that it still knows."""

    async def tell(self, owner: Agent, author: Agent, agents: list[Agent]) -> list[Agent]:
        message = await self.kept(author, author.room)
        kick = t.KickMember(agent=author.name, room=owner.room)
        await owner.may("room.kick", kick, t.MemberGone)
        self.record.left.add(author.name)
        stays = [agent for agent in agents if agent is not author]
        await self._settle(stays)
        self.adding.message = message
        return stays


class PutOutAndShown(PutOut):
    """What somebody wrote to wait is shown once its author was put out."""

    async def kept(self, author: Agent, room: str) -> t.LinkMessage:
        home, id = self.homes[1], MessageId("m_kept")
        handle = await home.uplinks._desk.rooms.get(RoomId(room))
        mirror = await handle.quiet()
        agent = next(each.agent for each in mirror.state.members.values() if each.handle == author.name)
        waits = Envelope(
            v=SIGNED,
            id=id,
            room=RoomId(room),
            key="k_kept",
            kind="text",
            chain=root_chain(id),
            hops=0,
            authored_at=mirror.last_at,
            counter=0,
            previous=b"",
            shown=mirror.state.shown.number,
            line=mirror.state.shown.line,
            nonce=bytes(16),
            via="cli",
            parts=(TextPart(f"{author.name} says what is kept"), GatePart("1 == 1")),
        )
        body = encode_envelope(await handle.told(waits, agent))
        part = GatedPart(body, home.world.keys.sign(agent, "parler/gated", body))
        return t.LinkMessage(
            at=mirror.last_at,
            agent=agent,
            principal=home.world.keys.principal,
            body=encode_envelope(released(part, id, None)),
            signature=b"",
        )


class KeptBack(Told):
    """A message is told behind a record that came after it."""

    async def tell(self, owner: Agent, author: Agent, agents: list[Agent]) -> list[Agent]:
        message = await self.kept(author, author.room)
        await turn(self, owner.room)
        # Its author says nothing meanwhile, behind which the message would not follow.
        await Simulation._settle(self, agents)
        self.adding.message = message
        return agents


class OfAnotherRoom(Told):
    """A message of one sealed room is told in another, of the same members."""

    async def tell(self, owner: Agent, author: Agent, agents: list[Agent]) -> list[Agent]:
        opening = t.OpenSession(topic="beside", context="Mine.", approval=False, idempotency_key="beside")
        opened = await owner.want("session.open", opening, t.OpenedSession)
        await author.insist(lambda party: party.join(opened.session_key))
        self.adding.message = await self.kept(author, opened.room)
        return agents


class OfOthers(Told):
    """A private message is told to a home none of whose agents it names."""

    is_found = None

    def _before(self, face: EngineFace) -> EngineFace:
        return _Everywhere(face, self.adding)

    async def tell(self, owner: Agent, author: Agent, agents: list[Agent]) -> list[Agent]:
        await author.say(to=owner.name)
        await self._settle(agents)
        return agents

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        super()._check(agents, contradicted)
        for reader in [agent.name for agent in agents if agent.name.startswith(self.homes[-1].name)]:
            mine = {
                (each.author, each.text) for each in self.record.said if each.readers is None or reader in each.readers
            }
            shown = self.record.shown[reader]
            if any(text == SEALED_AWAY or (" says " in text and (author, text) not in mine) for author, text in shown):
                raise Broken(f"{reader} is shown that others were told something privately")


class _Everywhere(lies.Between):
    """Hears what every home is told, and has the first private message that the victim is not told told to it."""

    def __init__(self, engine: EngineFace, adding: Adding) -> None:
        super().__init__(engine, adding)
        self._adding = adding

    def lied(self, principal: PrincipalId, item: t.LinkItem) -> list[t.LinkItem]:
        is_victim = principal == self._adding.victim
        found = [] if item.page is None or is_victim or self._adding.has_lied else item.page.messages
        for message in found:
            if decode_envelope(message.body).visibility is not None:
                self._adding.message = message
        return super().lied(principal, item)


class OtherKeys(lies.Liar):
    """Tells the owner's machine another key in the place of each that an agent told, signed by a key of the relay's."""

    key = sealing.key_pair(hashlib.sha256(b"the relay's own").digest()).public

    def card(self, card: t.Card) -> t.Card:
        return msgspec.structs.replace(card, sealing_keys=[self._other(each) for each in card.sealing_keys])

    def _other(self, told: t.SealingKeyEntry) -> t.SealingKeyEntry:
        self.has_lied = True
        statement = encode(msgspec.structs.replace(check(told.statement, SealingKey), key=self.key))
        return t.SealingKeyEntry(statement=statement, signature=GHOST.sign(SealingKey.TAG, statement))


class OtherKey(lies.Lied):
    """After a day everybody tells a fresh key, of which the owner is told others. No record holds one of these, and no
    epoch can be opened with them."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, OtherKeys(), SHORT)

    def _met(self, homes: list[Home]) -> None:
        self.liar.victim = homes[0].world.keys.principal

    async def _afterwards(self, agents: list[Agent]) -> None:
        _let_pass(self, LONG_S)
        await trio.sleep(BACK_S)
        await turn(self, agents[0].room)
        await self._settle(agents)

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        super()._check(agents, contradicted)
        for store in (self.relay.store, *(home.world.store for home in self.homes)):
            if any(entry.key == OtherKeys.key for entry in state_of(store, agents[0].room).epochs.roster.values()):
                raise Broken("a record holds a key that no agent told")


def _let_pass(story: Simulation, seconds: float) -> None:
    """Let every clock say that so many seconds went by. The loop would take long for them."""
    for clock in {
        id(clock): clock for clock in (story.relay.clock, *(home.world.clock for home in story.homes))
    }.values():
        clock.move(seconds=seconds)


class Away(Simulation):
    """The owner's machine is away for more than a day: somebody leaves meanwhile, and others go on. Once it is back, a
    record says who can read, and everybody has everything."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, SHORT)

    async def _afterwards(self, agents: list[Agent]) -> None:
        owner, *others = agents
        leaver = others.pop() if len(others) > 1 else None
        self.weather.cut_off("home0")
        if leaver is not None and not leaver.name.startswith("home0"):
            await leaver.leave()
        for _ in range(2):
            for agent in others:
                await agent.say(in_public=True)
            _let_pass(self, LONG_S / 2)
            await trio.sleep(BACK_S)
        self.weather.bring_back("home0")
        await trio.sleep(BACK_S)
        await owner.say(in_public=True)
        await self._settle(agents)
        state = state_of(self.relay.store, owner.room)
        inside = {member.agent for member in state.members.values() if member.present}
        if state.epochs.roster.keys() != inside:
            raise Broken("an owner who is back does not say who can read")
        self.counts["owners away for long"] += 1


class WentBack(Simulation):
    """The relay goes on from a copy of its store from before a record and some messages, and the owner's person lets
    the room go on there. Nothing is said before a record says who can read, and everybody reads what is said then."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, SHORT)
        self.lost: set[str] = set()
        """What the relay lost."""

    async def _afterwards(self, agents: list[Agent]) -> None:
        owner = agents[0]
        older = self.relay.copied()
        await turn(self, owner.room)
        await self._settle(agents)
        said = len(self.record.said)
        for agent in agents:
            await agent.say(in_public=True)
        await self._settle(agents)
        self.lost = {each.id for each in self.record.said[said:]}
        newest = state_of(self.relay.store, owner.room).epochs.number
        relay = self.programs["relay"]
        relay.end()
        self.relay.store = older
        await relay.up.wait()
        await trio.sleep(BACK_S)
        await owner.want("room.rewind", t.RewindRoom(room=owner.room, confirmed=True), t.RewoundRoom)
        await trio.sleep(BACK_S)
        for agent in agents:
            await agent.say(in_public=True)
        await self._settle(agents)
        state = state_of(self.relay.store, owner.room)
        if state.epochs.number < newest or state.epochs.rewound:
            raise Broken("a room that was rewound goes on under a record from before that")
        if len(self.record.said) != said + 2 * len(agents):
            raise Broken("not everybody could say something once a record was made")

    def _check(self, agents: list[Agent], contradicted: Collection[RoomId]) -> None:
        # What the relay lost was acknowledged before that, and everybody was shown it.
        self.record.codes.discard("relay_rolled_back")
        self.record.said = [each for each in self.record.said if each.id not in self.lost]
        shown = {each for reader in self.record.shown.values() for each in reader}
        promises.nobody_is_accused(self.record, contradicted)
        promises.what_was_acknowledged_is_stored(self.record, self.relay.store)
        for said in self.record.said:
            if len(agents) > 1 and (said.author, said.text) not in shown:
                raise Broken(f"nobody was shown {said.text!r}, which was said after the room was rewound")
        self._check_sealed(agents[0].room)


STORIES: Final[tuple[type[Simulation], ...]] = (
    PutOut,
    PutOutAndShown,
    KeptBack,
    OfAnotherRoom,
    OfOthers,
    OtherKey,
    Away,
    WentBack,
)
