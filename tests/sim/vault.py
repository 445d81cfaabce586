"""An act: a sealed session of its own, which people come into by an open key, and whose members come and go.

    stays     everybody stays
    left      a guest leaves, and comes again with the key
    kicked    a guest is put out, and others go on
    away      the owner's home is cut off while a guest comes in

The model is plain: whoever is in, and in the record in force, is shown what is said there, and where the history is for
everyone, once a record holds it, also what was said before to all; nobody is shown anything else, and each home opens
what is sealed for its agents alone. Above: `world`. Below: `acts`, `sealed`.
"""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from parlerd.core.events import EpochTurned, MemberJoined, MemberLeft, MessagePosted
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from tests.sim import promises, sealed
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.people import KNOCK_S, Agent, Place, Record, Said
from tests.sim.stored import facts_of, state_of

ENDINGS: Final = ("stays", "left", "kicked", "away")
HISTORIES: Final = ("full", "from-join", "none")
AWAY_S: Final = 40.0


class Inhabitant(Agent):
    """Somebody in the vault. What ends the act and what is said meanwhile are two tasks of the same agent, and an agent
    says one thing after the other: of two that it says at once nothing tells which is to be shown first."""

    def __init__(self, name: str, place: Place, record: Record, random: Random) -> None:
        super().__init__(name, place, record, random)
        self._saying_one = trio.Lock()
        """Held from the saying of a message until it was acknowledged or refused."""

    async def say(self, *, in_public: bool = False, to: str = "") -> None:
        async with self._saying_one:
            await super().say(in_public=in_public, to=to)


class Vault(Act):
    """A sealed session of agents who have no part in anything else, beside those who met."""

    names = "vault"
    kind = Inhabitant

    async def play(self) -> None:
        names = [agent.name for agent in self.stage.agents]
        self.random.shuffle(names)
        # Who met may write directly to another who met, and would do that in a session in which both are now.
        self.owner, *self.guests = [self.person(f"{name}v") for name in names[:3]]
        self.ending = self.random.choice(ENDINGS)
        opening = t.OpenSession(
            topic="the vault",
            context="Behind the door.",
            approval=False,
            history=self.random.choice(HISTORIES),
            idempotency_key="vault",
        )
        self.opened = await self.owner.want("session.open", opening, t.OpenedSession)
        self.room = self.owner.room = self.opened.room
        self.people = [self.owner]
        self.count("vaults")
        await self.owner.say(in_public=True)
        async with trio.open_nursery() as coming:
            for guest in self.guests:
                coming.start_soon(self._come, guest)
        self.owner.others = [guest.name for guest in self.guests]
        async with trio.open_nursery() as storm:
            for each in self.people:
                storm.start_soon(self._talk, each)
            if self.guests:
                storm.start_soon(self._end, self.guests[-1])

    async def _come(self, guest: Agent) -> None:
        """Come in by the key, which asks nobody, as soon as the owner's home is there, and wait for the record."""
        until = trio.current_time() + KNOCK_S
        while True:
            page = await guest.insist(lambda party: party.join(self.opened.session_key))
            if page.status in ("joined", "already_member"):
                break
            if page.status != "pending":
                raise Broken(f"{guest.name} has a key that lets whoever has it in, and was told {page.status}")
            if trio.current_time() > until:
                raise Broken(f"{guest.name} has a key that lets whoever has it in, and the owner's home never did")
            # Whoever knocks is let in by the owner's home, which has to be there for that.
            await self.owner.want("message.recv", t.Recv(room=self.room, peek=True), t.Received)
            await trio.sleep(1)
        guest.room = page.room
        if page.cursor and page.messages:
            await guest.want("message.commit", t.Commit(room=page.room, cursor=page.cursor), t.Committed)
            # Whoever comes again is shown the room once more.
            found = [(each.author.name, str(each.text)) for each in page.messages]
            self.record.shown[guest.name] += [each for each in found if each not in self.record.shown[guest.name]]
        if guest not in self.people:
            self.people.append(guest)
        until = trio.current_time() + KNOCK_S
        while not self._is_sealed_in(guest):
            if trio.current_time() > until:
                raise Broken(f"{guest.name} came into a sealed room, and no record ever holds it")
            # The guest's own daemon may have been started anew, and links once the guest asks for something there.
            await guest.want("message.recv", t.Recv(room=guest.room, peek=True), t.Received)
            await trio.sleep(2.0)

    def _is_sealed_in(self, guest: Agent) -> bool:
        """Whether the guest's own home knows a record that holds it."""
        state = state_of(self.stage.home_of(guest.name).world.store, self.room)
        return any(m.handle == guest.name and m.present and not m.waits for m in state.members.values())

    async def _talk(self, who: Agent) -> None:
        for _ in range(2):
            await trio.sleep(self.random.expovariate(1.0))
            if who.name in self.record.left:
                return
            await who.say(in_public=who is not self.owner)

    async def _end(self, guest: Agent) -> None:
        if self.ending == "left":
            self.record.left.add(guest.name)
            self.record.came_again.add(guest.name)
            leave = t.LeaveAsMember(room=self.room)
            await guest.may("room.leave", leave, t.MemberGone, "no_such_room", "no_such_agent")
            await self.owner.say(in_public=True)
            await self._come(guest)
            self.record.left.discard(guest.name)
            await guest.say(in_public=True)
            self.count("guests of vaults that came again")
        elif self.ending == "kicked":
            self.record.left.add(guest.name)
            kick = t.KickMember(agent=guest.name, room=self.room)
            await self.owner.may("room.kick", kick, t.MemberGone, "no_such_room", "no_such_agent")
            await self.owner.say(in_public=True)
            self.count("guests of vaults put out")
        elif self.ending == "away":
            home = self.stage.home_of(self.owner.name)
            late = self.person(f"{self.stage.home_of(guest.name).name}-late")
            self.stage.relay.wires.cut_off(home.name)
            async with trio.open_nursery() as coming:
                coming.start_soon(self._come, late)
                await trio.sleep(AWAY_S)
                self.stage.relay.wires.bring_back(home.name)
            await late.say(in_public=True)
            self.count("owners of vaults that were away")

    # -- what has to hold ----------------------------------------------------------------------------------

    def check(self) -> None:
        relay, room = self.stage.relay, RoomId(self.room)
        names = [each.name for each in self.people]
        promises.nothing_is_shown_twice(self.record, names)
        promises.nothing_is_refused_without_a_reason(self.record)
        promises.order_is_kept(self.record, names)
        promises.what_was_acknowledged_is_stored(self.record, relay.store)
        self._check_shown()
        stores = [home.world.store for home in self.stage.homes]
        sealed.nobody_else_can_read(relay.store, room, relay.keys.id, stores)
        sealed.everybody_has_the_words(relay.store, room, stores)
        sealed.nothing_can_be_guessed(relay.store, room, self.record)
        sealed.nothing_stands_in_clear(relay.store, room, alone=False)

    def _check_shown(self) -> None:
        """Walk the relay's log: who was in, and in the record in force, is shown what stands there, and nobody else."""
        relay = self.stage.relay.store
        is_full = state_of(relay, self.room).history == "full"
        before: list[Said] = []
        texts = {said.id: said for said in self.record.said}
        handles = {each.agent: each.handle for each in state_of(relay, self.room).members.values()}
        inside, roster = set[str](), set[str]()
        entitled: dict[str, set[tuple[str, str]]] = {each.name: set() for each in self.people}
        for header in facts_of(relay, self.room):
            match header.event:
                case MemberJoined(agent=agent):
                    inside.add(handles[agent])
                case MemberLeft(agent=agent):
                    inside.discard(handles[agent])
                case EpochTurned(added=added, removed=removed):
                    roster = (roster - {handles[agent] for agent in removed}) | {handles[agent] for agent, _ in added}
                case MessagePosted(id=id) if id in texts:
                    said = texts[id]
                    before += [said] if said.readers is None else []
                    for name in inside & roster & entitled.keys():
                        if name != said.author and (said.readers is None or name in said.readers):
                            entitled[name].add((said.author, said.text))
                case _:
                    pass
            for name in inside & roster & entitled.keys() if is_full else ():
                entitled[name] |= {(said.author, said.text) for said in before if said.author != name}
        for name, expected in entitled.items():
            shown = {each for each in self.record.shown[name] if " says " in each[1]}
            if leaked := shown - expected:
                raise Broken(f"{name} was shown {sorted(leaked)}, which was not sealed for it")
            if name not in self.record.left and (lost := expected - shown):
                raise Broken(f"{name} was never shown {sorted(lost)}, which was sealed for it")
