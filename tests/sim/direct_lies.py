"""What a relay could tell of the keys of rooms of two, and what it and the machine of one of the two could do together.

Two write to one, whose machine is off. Then their machines are off and that one's is back; at the end all three are
there. The relay lies to the first of the two who write, or to the reader, and tells the other the truth. What comes of
the first one's room is its `fate`:

    read       the letter is read although its author's machine is off
    waits      its author is told that no key is known, and it is read once both machines were there
    late       its author is told nothing, because what the relay showed was good once; it is read as in `waits`
    detected   the reader's machine says that the relay contradicted itself, and shows nothing of the room

Whatever is told, the two rooms are sealed for their two agents, nothing that was said in them is lost or shown twice,
and no key that the relay has opens anything. Above: `direct_stories`, `faults_of_sealing`, the tests. Below: `lies`,
`sealed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar, Final, Literal

import msgspec
import pytest
import trio

from parlerd.core import lifecycle, turning
from parlerd.core.epoch_record import Added, EpochCard, Roster, decode_turned
from parlerd.core.events import EpochTurned
from parlerd.core.model import AgentId, Millis, PrincipalId, RoomId
from parlerd.core.statements import NONCE, SealingKey, check, encode
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.identity import epochs, sealing
from parlerd.operations import types as t
from parlerd.uplink.arriving import records
from parlerd.uplink.arriving.hearing import Hearing
from parlerd.uplink.lanes import mirror_of
from parlerd.uplink.turning import Turning
from tests.sim import lies, promises, sealed
from tests.sim.broken import Broken
from tests.sim.people import KNOCK_S, Agent, Record
from tests.sim.sealed_lies import BACK_S, LATE_S
from tests.sim.stored import facts_of, state_of
from tests.sim.tales import GHOST, GHOSTS_PERSON
from tests.sim.world import Simulation
from tests.sim.writing import Writer
from tests.support.faces import RetellingFace
from tests.support.relayed import Home

Fate = Literal["read", "waits", "late", "detected"]
STORY: Final = replace(lies.STORY, things=0)
FRESH_S: Final = 26 * 3600.0
"""Virtual seconds: longer than a sealing key is used before its agent draws a fresh one."""
OWN: Final = sealing.key_pair(hashlib.sha256(b"a key of the relay's for rooms of two").digest())
"""A key whose private half the relay has."""


class Correspondent(Writer):
    """One of two, and what the answers to its letters said."""

    def __init__(self, name: str, place: object, record: Record, random: Random, other: str) -> None:
        super().__init__(name, place, record, random)  # type: ignore[arg-type]
        self.has_window = False
        self.other = other
        self.needed_both: list[bool] = []
        """Of each letter: whether its author was told that no key is known of the other."""

    def _was_sent(self, sent: t.Sent) -> None:
        super()._was_sent(sent)
        self.needed_both.append(sent.needs_both is True)


@dataclass
class Pair:
    """A room of two: who writes first, the other, and what both were told there."""

    writer: Correspondent
    reader: Correspondent
    record: Record
    alone: list[tuple[str, str]] = field(default_factory=list)
    """What the reader was shown while the writer's machine was off."""

    @property
    def room(self) -> RoomId:
        return RoomId(self.writer.room)


class Two(Simulation):
    """One story. A subclass says what the relay does."""

    fate: ClassVar[Fate]
    others_fate: ClassVar[Fate] = "read"
    """What comes of the room of the other who writes."""
    sound: ClassVar[int] = 0
    """How many letters of the first who writes were sealed before anything was wrong, where that is found out."""
    kind: ClassVar[type[Correspondent]] = Correspondent
    tells: ClassVar[bool] = True
    """Whether the relay has an occasion to lie about a key."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, STORY)
        self.told: dict[AgentId, list[t.OwnDirectKey]] = {}
        """The keys that each agent told the relay, the newest last."""
        self.has_lied = False
        self.pairs: list[Pair] = []
        self.ids: dict[str, AgentId] = {}
        """The agents of the story by name."""

    # -- what the relay does -------------------------------------------------------------------------------

    def shown(self, asker: AgentId, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        """What is shown to whoever asks for the key of another."""
        if asker != self.ids[self.pairs[0].writer.name]:
            return key
        self.has_lied = True
        return self.lie(other, key)

    def lie(self, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        """What is shown to the first of the two who write."""
        return key

    def told_to(self, principal: PrincipalId, item: t.LinkItem) -> list[t.LinkItem]:
        """What is told to the home of a person in the place of an item."""
        return [item]

    def _before(self, face: EngineFace) -> EngineFace:
        return _Between(face, self)

    # -- what happens --------------------------------------------------------------------------------------

    async def _afterwards(self, agents: list[Agent]) -> None:
        self.places = {agent.name.partition("-")[0]: agent._place for agent in agents}
        self.pairs = [await self.pair(f"{home}-pen", "home1-reader") for home in ("home0", "home2")]
        self.step = "what happens before the first letter"
        await self.prepare()
        self.step = "the letters"
        self.weather.cut_off("home1")
        # It is started anew meanwhile, so it reads with what is on its disk.
        self.programs["home1"].end()
        await self._in_time(self.write)
        for pair in self.pairs:
            if not self.is_wrong(pair):
                self.opens_nothing(pair)
        for home in ("home0", "home2"):
            self.weather.cut_off(home)
        self.weather.bring_back("home1")
        await trio.sleep(BACK_S)
        self.step = "what is read while the authors are away"
        for pair in self.pairs:
            await self.reads_alone(pair)
        for home in ("home0", "home2"):
            self.weather.bring_back(home)
        await trio.sleep(BACK_S)
        self.step = "what is said when all are there"
        await self._in_time(self.go_on)

    async def _in_time(self, play: Callable[[], Awaitable[None]]) -> None:
        """Let happen what has to come to an end."""
        with trio.move_on_after(KNOCK_S) as scope:
            await play()
        if scope.cancelled_caught:
            raise Broken(f"not everybody can say and read what is due in {KNOCK_S:.0f} s")

    async def prepare(self) -> None:
        """What happens before the first letter."""

    async def write(self) -> None:
        """Both write, while the machine of whom they write to is off."""
        for pair in self.pairs:
            await pair.writer.say(in_public=True)

    async def reads_alone(self, pair: Pair) -> None:
        pair.reader.room = pair.room
        if self.is_wrong(pair):
            # Its machine may take the agent in before it finds out that the room is another than it should be.
            if pair.room not in {each.room for each in await pair.reader.insist(lambda party: party.rooms())}:
                return
        else:
            await self.comes_in(pair.reader)
        await pair.reader.read_everything()
        pair.alone = list(pair.record.shown[pair.reader.name])

    def is_wrong(self, pair: Pair) -> bool:
        """Whether the reader's machine is to find out that a room is not one of two."""
        return self.fate == "detected" and pair is self.pairs[0]

    async def go_on(self) -> None:
        """Everybody reads, and says something more."""
        for pair in self.pairs:
            if self.is_wrong(pair):
                continue
            for _ in range(2):
                for who in (pair.reader, pair.writer):
                    await who.read_everything()
                    await who.say(in_public=True)
            for who in (pair.writer, pair.reader):
                await who.read_everything()

    async def pair(self, writer: str, reader: str) -> Pair:
        """Two agents who have never met: each is found by its card at the relay."""
        record = Record(codes=self.record.codes)
        both = [self.correspondent(name, other, record) for name, other in ((writer, reader), (reader, writer))]
        for number, who in enumerate(both):
            who.mark = str(len(self.pairs)) if number else ""
            await self.carded(who)
        return Pair(both[0], both[1], record)

    def correspondent(self, name: str, other: str, record: Record) -> Correspondent:
        place = self.places[name.partition("-")[0]]
        return self.kind(name, place, record, Random(f"{self.seed} {name} {other}"), other)

    async def carded(self, who: Agent) -> None:
        if who.name not in self.ids:
            await who.want("directory.register", t.Register(visibility="public"), t.Registered)
            self.ids[who.name] = AgentId((await who.insist(lambda party: party.whoami())).id)

    async def comes_in(self, who: Agent) -> None:
        """Wait until an agent is in the room in which it was written to."""
        until = trio.current_time() + KNOCK_S
        while who.room not in {each.room for each in await who.insist(lambda party: party.rooms())}:
            if trio.current_time() > until:
                raise Broken(f"{who.name} never comes into the room in which it was written to")
            await trio.sleep(1.0)

    async def age(self) -> None:
        """Let the reader's sealing key be used, and be followed by a fresh one of which the relay is told."""
        await self.uses_key("home1-reader", "home2-friend")
        await self.gets_fresh_key("home1-reader")

    async def uses_key(self, name: str, friend: str) -> None:
        """Let an agent write to another, so that its sealing key is in use."""
        await (await self.pair(name, friend)).writer.say(in_public=True)

    async def gets_fresh_key(self, name: str, *, known: int = 1) -> None:
        """Let so much time go by that the agent's key is followed by a fresh one, of which the relay is told; it was
        told of so many `known` ones before."""
        self.let_pass(FRESH_S)
        until = trio.current_time() + KNOCK_S
        while len({check(each.statement, SealingKey).counter for each in self.told[self.ids[name]]}) <= known:
            if trio.current_time() > until:
                raise Broken("a key that is in use for a day is not followed by a fresh one of which the relay is told")
            await trio.sleep(BACK_S)

    def let_pass(self, seconds: float) -> None:
        """Let every clock say that so many seconds went by. The loop would take long for them."""
        clocks = [self.relay.clock, *(home.world.clock for home in self.homes)]
        for clock in {id(clock): clock for clock in clocks}.values():
            clock.move(seconds=seconds)

    def home(self, name: str) -> Home:
        return next(home for home in self.homes if home.name == name)

    def person_of(self, name: str) -> PrincipalId:
        return PrincipalId(self.home(name).world.keys.principal)

    # -- what has to hold ----------------------------------------------------------------------------------

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        lied_of = self.pairs[0].room if self.fate == "detected" else None
        super()._check(agents, [room for room in contradicted if room != lied_of])
        if self.tells and not self.has_lied:
            raise Broken("the relay had no occasion to lie")
        if lied_of is not None and lied_of not in contradicted:
            raise Broken("what the relay tells of a room of two is not found out")
        if lied_of is not None:
            state = state_of(self.home("home1").world.store, lied_of)
            if (state.alarm, state.contradicted) != ("relay_equivocation", "epoch"):
                raise Broken(f"a record that no room of two has is called {state.contradicted}")
        self._check_pairs()

    def _check_pairs(self) -> None:
        for pair, fate in zip(self.pairs, (self.fate, self.others_fate), strict=True):
            self._check_pair(pair, fate)

    def _check_pair(self, pair: Pair, fate: str) -> None:
        if not pair.record.said:
            raise Broken(f"{pair.writer.name} could not write: {[each.code for each in pair.record.refused]}")
        self.check_room(pair, opens=self.is_wrong(pair))
        if self.is_wrong(pair):
            third = {(each.author, each.text) for each in pair.record.said[self.sound :]}
            if third & {*pair.record.shown[pair.reader.name]}:
                raise Broken(f"{pair.reader.name} is shown what was sealed for a third as well")
            return
        letter = (pair.writer.name, pair.record.said[0].text)
        if pair.writer.needed_both[0] is not (fate == "waits"):
            raise Broken(f"{pair.writer.name} is told of the wrong thing for which its letter waits, or of none")
        if (letter in pair.alone) is not (fate == "read"):
            raise Broken(f"{pair.reader.name} was shown {pair.alone} while the author was away: {fate} is due")
        promises.nothing_is_lost_or_doubled(pair.record, [pair.writer.name, pair.reader.name])
        promises.order_is_kept(pair.record, [pair.writer.name, pair.reader.name])
        promises.nothing_is_refused_without_a_reason(pair.record)
        promises.what_was_acknowledged_is_stored(pair.record, self.relay.store)
        both = {self.ids[pair.writer.name], self.ids[pair.reader.name]}
        if (roster := state_of(self.relay.store, pair.room).epochs.roster.keys()) != both:
            raise Broken(f"the record of a room of two holds {sorted(roster)}, and not {sorted(both)}")

    def check_room(self, pair: Pair, *, opens: bool) -> None:
        """What has to hold of a room of two, by what the relay holds of it. The key of the relay's `opens` there what
        was written, where the machine of one of the two gave it away."""
        relay, stores = self.relay, [home.world.store for home in self.homes]
        sealed.nobody_else_can_read(relay.store, pair.room, relay.keys.id, stores)
        sealed.everybody_has_the_words(relay.store, pair.room, stores)
        sealed.nothing_can_be_guessed(relay.store, pair.room, pair.record)
        sealed.nothing_stands_in_clear(relay.store, pair.room, alone=False)
        if not opens:
            self.opens_nothing(pair)

    def opens_nothing(self, pair: Pair) -> None:
        """No key of the relay's opens what was said in a room."""
        agents = [*self.ids.values(), AgentId(GHOST.id)]
        keys = dict.fromkeys(agents, OWN)
        sealed.opens_nothing(self.relay.store, pair.room, "a key of the relay's", keys)


class _Between(RetellingFace):
    """Stands before the relay's engine, notes which keys agents tell, and tells what the story says."""

    def __init__(self, engine: EngineFace, story: Two) -> None:
        super().__init__(engine, story.told_to)
        self._story = story

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await super().call(op, params, caller)
        if isinstance(params, t.TellDirectKeys):
            for each in params.keys:
                self._story.told.setdefault(check(each.statement, SealingKey).agent, []).append(each)
        if isinstance(params, t.AskDirectKey) and isinstance(answer, t.DirectKeyOf):
            return self._story.shown(AgentId(params.agent), AgentId(params.of), answer)
        return answer


def _as_shown(told: t.OwnDirectKey) -> t.DirectKeyOf:
    return t.DirectKeyOf(**msgspec.structs.asdict(told))


# -- another key than the agent's newest one -----------------------------------------------------------------


class Withheld(Two):
    """No key is shown of an agent that told one."""

    fate = "waits"

    def lie(self, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        return t.DirectKeyOf()


class Substituted(Two):
    """A key of the relay's is shown, which somebody else signed."""

    fate = "waits"

    def lie(self, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        statement = encode(msgspec.structs.replace(check(key.statement, SealingKey), key=OWN.public))
        signature = GHOST.sign(SealingKey.TAG, statement)
        return msgspec.structs.replace(key, statement=statement, signature=signature)


class OfAnother(Two):
    """A key is shown that another agent of the reader's person told, which helps the relay."""

    fate = "waits"

    async def prepare(self) -> None:
        await self.carded(self.correspondent("home1-helper", "", Record()))

    def lie(self, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        return _as_shown(self.told[self.ids["home1-helper"]][-1])


class Older(Two):
    """A key is shown that was followed by another one. It opens for a month more, so the letter is read."""

    fate = "read"

    async def prepare(self) -> None:
        await self.age()

    def lie(self, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        return _as_shown(self.told[other][0])


class KnownOlder(Two):
    """A key is shown that was followed by another one of which the writer's machine knows, from another room."""

    fate = "waits"

    async def prepare(self) -> None:
        await self.age()
        writer, reader = self.pairs[0].writer, self.pairs[0].reader
        opening = t.OpenSession(topic="beside", context="Mine.", approval=False, idempotency_key="beside")
        opened = await writer.want("session.open", opening, t.OpenedSession)
        await reader.insist(lambda party: party.join(opened.session_key))
        await trio.sleep(BACK_S)
        # Whoever is in one session with another writes to it there.
        for who in (writer, reader):
            aside = t.OpenSession(topic="aside", context="Mine.", home="local", idempotency_key=f"{who.name}-aside")
            await who.want("session.open", aside, t.OpenedSession)

    def lie(self, other: AgentId, key: t.DirectKeyOf) -> t.DirectKeyOf:
        return _as_shown(self.told[other][0])


# -- what the relay does together with the machine of one of the two -----------------------------------------


class Colluding(Two):
    """The writer's machine makes a record that no room of two may have, and the relay takes it. That machine and the
    relay look at no such record; the reader's machine does."""

    fate = "detected"
    tells = False

    async def prepare(self) -> None:
        patch = self._until_the_end.enter_context(pytest.MonkeyPatch.context())
        self.turning = self.home("home0").uplinks._turning
        writer, is_due = self.ids[self.pairs[0].writer.name], Turning.is_due
        turned, may_read = turning.turned, records._may_read

        def by_any(new: Any, before: Any, place: Any, present: Any, ahead: Collection[AgentId] = ()) -> EpochTurned:
            return turned(new, before, place, present, [*ahead, AgentId(GHOST.id)])

        def unless_writers(hearing: Hearing, roster: Roster, *, is_first: bool) -> bool:
            return hearing.grounds.ours(writer) or may_read(hearing, roster, is_first=is_first)

        patch.setattr(turning, "turned", by_any)
        patch.setattr(lifecycle, "turned", by_any)
        patch.setattr(records, "_may_read", unless_writers)
        # Nor does it make another record, because a third is not in the room.
        patch.setattr(Turning, "is_due", lambda each, *rest: each is not self.turning and is_due(each, *rest))

    @property
    def third(self) -> Added:
        """A third, for whom the relay has the key."""
        agent = AgentId(GHOST.id)
        key = SealingKey(
            home=self.relay.keys.id, agent=agent, key=OWN.public, counter=1, at=Millis(1), nonce=bytes(NONCE)
        )
        statement = encode(key)
        person = PrincipalId(GHOSTS_PERSON.id)
        return Added(agent, person, "ghost", statement, GHOST.sign(SealingKey.TAG, statement))


class OtherReader(Colluding):
    """The first record holds a third in the place of the one who is written to, and is told to the reader."""

    async def prepare(self) -> None:
        await super().prepare()
        first = self.turning.first

        def of_another(*args: Any) -> epochs.Made:
            opening, room, title, key, other = args
            is_to_reader = opening.handle == self.pairs[0].writer.name and other.agent == self.ids["home1-reader"]
            return first(opening, room, title, key, self.third if is_to_reader else other)

        self.turning.first = of_another  # type: ignore[method-assign, assignment]

    def told_to(self, principal: PrincipalId, item: t.LinkItem) -> list[t.LinkItem]:
        is_of_these = bool(self.pairs) and item.room == self.pairs[0].room != ""
        if not is_of_these or principal != self.person_of("home1") or item.card is None:
            return [item]
        # No honest relay shows a record to a machine none of whose agents is in it.
        [(position, turned)] = [
            (each.position, each.event)
            for each in facts_of(self.relay.store, item.room)
            if isinstance(each.event, EpochTurned)
        ]
        signed = self.relay.store.body(RoomId(item.room), position)
        assert signed is not None
        record, wraps = decode_turned(signed[0])
        roster = [
            t.RosterEntry(agent=agent, **{name: getattr(each, name) for name in each.__struct_fields__})
            for agent, each in turned.added
        ]
        told = t.EpochEntry(record=record, signature=signed[1] or b"", wraps=wraps, roster=roster)
        return [msgspec.structs.replace(item, card=msgspec.structs.replace(item.card, epoch=told))]


class ThirdReader(Colluding):
    """A later record holds a third beside the two, and something is said under that."""

    sound = 1

    async def write(self) -> None:
        await super().write()
        pair, home = self.pairs[0], self.home("home0")
        mirror = await (await mirror_of(home.uplinks._desk, pair.room)).quiet()
        state = mirror.state.epochs
        row = home.uplinks._secrets.epoch(pair.room, state.record)
        assert row is not None
        made = epochs.make(
            home=self.relay.keys.id,
            room=pair.room,
            before=epochs.Before(sealing.Epoch(row.number, row.record, row.secret), dict(state.roster)),
            added=[self.third],
            removed=(),
            history=mirror.state.history,
            card=EpochCard(b""),
            at=mirror.last_at,
            random=home.world.random.bytes,
        )
        await home.uplinks._secrets.note_made(pair.room, made.record.number, made.epoch.record)
        (link,) = home.uplinks._links.values()
        await link.call("link.epoch", t.EpochAtRoom(room=pair.room, epoch=self.turning.told(made)))
        await trio.sleep(LATE_S)
        await pair.writer.say(in_public=True)


LIES: Final[tuple[type[Two], ...]] = (Withheld, Substituted, OfAnother, Older, KnownOlder, OtherReader, ThirdReader)
