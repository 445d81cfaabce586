"""What a relay could tell in a sealed queue to somebody who only asks for work, and what it and the owner's machine
could do together.

One home serves the queue, and two others ask for work there, each with a key that opens what it asked for alone. The
relay lies to the second of these; the first has to be served as ever. What comes of the lie is its `fate`:

    nothing      the home goes on as if nothing were, and its agent reads what is its own
    detected     the home's mirror says that the relay contradicted itself
    unreadable   what the agent asks for is one sentence to who works, and everything else goes on

Whatever is told, nobody is shown or can open what another asked for, and nothing is shown twice. Above:
`faults_of_sealing`, the tests. Below: `lies`, `sealed`, `newcomers`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Final, Literal

import msgspec
import pytest
import trio

from parlerd.core.envelope import decode_envelope, encode_envelope
from parlerd.core.epoch_record import EpochCard, check_record, decode_turned
from parlerd.core.errors import ParlerError
from parlerd.core.events import EpochTurned
from parlerd.core.model import AgentId, MessageId, PrincipalId, RoomId
from parlerd.engine.face import EngineFace
from parlerd.identity import epochs, sealing
from parlerd.operations import types as t
from parlerd.uplink.lanes import mirror_of
from tests.sim import lies, sealed
from tests.sim.broken import Broken
from tests.sim.newcomers import Newcomer, decide
from tests.sim.people import Agent, Record
from tests.sim.sealed_lies import LATE_S, signed_anew, turn
from tests.sim.stored import facts_of, state_of
from tests.sim.world import Simulation
from tests.support.faces import RetellingFace

Fate = Literal["nothing", "detected", "unreadable"]
STORY: Final = replace(lies.STORY, things=0)
QUEUE: Final = "chores"
TASKS: Final = 2
"""What each of those who ask asks for at a time."""


@dataclass
class Task:
    """Something that was asked for."""

    id: str
    asker: str
    words: str
    shown: str = ""
    """How it was shown to who did it; empty before."""


class Asked(Simulation):
    """One story. A subclass says what the relay does."""

    fate: ClassVar[Fate]
    says: ClassVar[str] = "epoch"
    """By what the victim's home says that it found the lie out."""
    at_once: ClassVar[bool] = False
    """Whether the lie is found out before anything crosses between those who were told different things."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, STORY)
        self.has_lied = False
        self.room = RoomId("")
        self.asked = Record(codes=self.record.codes)
        """What everybody was told in the queue."""
        self.tasks: list[Task] = []
        self.ids: dict[str, AgentId] = {}
        """The agents of the queue by name."""
        self.is_on = False
        """Whether it is time for the lie."""

    # -- what the relay does -------------------------------------------------------------------------------

    def told(self, item: t.LinkItem) -> list[t.LinkItem]:
        """What is told to the victim in the place of an item of the queue, while it is time for the lie."""
        return [item]

    def heard(self, item: t.LinkItem) -> None:
        """What the relay tells the others of the queue in that time."""

    def told_to(self, principal: PrincipalId, item: t.LinkItem) -> list[t.LinkItem]:
        if item.room != self.room or not self.is_on:
            return [item]
        if principal == self.homes[2].world.keys.principal:
            return self.told(item)
        self.heard(item)
        return [item]

    def _before(self, face: EngineFace) -> EngineFace:
        return RetellingFace(face, self.told_to)

    # -- what happens --------------------------------------------------------------------------------------

    async def _afterwards(self, agents: list[Agent]) -> None:
        self.step = "the queue"
        places = {agent.name.partition("-")[0]: agent for agent in agents}
        self.owner, self.other, self.victim = (
            self._person(f"home{number}-{name}", places[f"home{number}"])
            for number, name in enumerate(("owner", "asker", "asker"))
        )
        served = await self.owner.want("queue.serve", t.Serve(service=QUEUE), t.Served)
        self.room = RoomId(served.room)
        for who in (self.owner, self.other, self.victim):
            who.room = served.room
            self.ids[who.name] = AgentId((await who.insist(lambda party: party.whoami())).id)
        for asker in (self.other, self.victim):
            await self._bring_in(asker)
        self.step = "work before the lie"
        await self.ask()
        await self.work()
        self.step = "the lie"
        self.is_on = True
        await self.lie()
        self.step = "work after the lie"
        self.is_on = False
        await self.ask()
        await self.work()

    async def lie(self) -> None:
        """What happens while the relay lies: work, around a record that changes nobody."""
        await self.ask()
        await turn(self, self.room)
        await trio.sleep(LATE_S)
        if self.at_once:
            self.require_found()
        await self.work()

    def _person(self, name: str, beside: Agent) -> Agent:
        who = Agent(name, beside._place, self.asked, Random(f"{self.seed} {name}"))
        who.has_window = False
        return who

    async def _bring_in(self, asker: Agent) -> None:
        invite = t.Invite(service=QUEUE, requester=True, idempotency_key=f"{QUEUE}-{asker.name}")
        code = (await self.owner.want("room.invite", invite, t.Invited)).code
        newcomer = Newcomer(asker, admit=True)
        async with trio.open_nursery() as coming:
            coming.start_soon(newcomer.live, code, (), 0)
            coming.start_soon(decide, self.owner, [newcomer])
        if not newcomer.is_in:
            raise Broken(f"{asker.name} was let into a queue, and is told that it is not")

    async def ask(self) -> None:
        """Both ask for something, but for one whose home found out that its relay lies."""
        for _ in range(TASKS):
            for asker in (self.other, self.victim):
                words = f"chore {len(self.tasks)} for {asker.name}"
                send = t.Send(text=words, service=QUEUE, idempotency_key=words.replace(" ", "-"))
                refusals = ("relay_equivocation",) if asker is self.victim and self.fate == "detected" else ()
                sent = await asker.may("message.send", send, t.Sent, *refusals)
                if not isinstance(sent, ParlerError):
                    self.tasks.append(Task(sent.id, asker.name, words))

    async def work(self) -> None:
        """Whatever is asked for is done, and everybody reads."""
        for _ in [each for each in self.tasks if not each.shown]:
            held = await self.owner.may("task.claim", t.ClaimTask(room=self.room, wait_ms=60_000), t.TaskHeld)
            assert isinstance(held, t.TaskHeld)
            task = next((each for each in self.tasks if each.id == held.id), None)
            if task is None or held.message is None or held.fence is None:
                raise Broken(f"{self.owner.name} waits for work that was asked for, and is given none")
            task.shown = str(held.message.text)
            done = t.CompleteTask(id=task.id, fence=held.fence, text=self.result(task), room=self.room)
            await self.owner.may("task.complete", done, t.TaskHeld)
        await self._quiet()
        for who in (self.other, self.victim):
            await who.read_everything()

    def result(self, task: Task) -> str:
        return f"{self.owner.name} did {task.id}"

    # -- what has to hold ----------------------------------------------------------------------------------

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        if not self.has_lied:
            raise Broken("the relay had no occasion to lie")
        is_found = self.fate == "detected"
        if is_found:
            self.require_found()
            self.record.codes.discard("relay_equivocation")
            contradicted = self._contradicted(self.homes[:2])
        super()._check(agents, contradicted)
        for asker in (self.other, self.victim):
            shown = [text for author, text in self.asked.shown[asker.name]]
            own = [self.result(each) for each in self.tasks if each.asker == asker.name]
            if more := set(shown) - set(own):
                raise Broken(f"{asker.name} was shown {sorted(more)}, which it did not ask for")
            if len(set(shown)) < len(shown):
                raise Broken(f"{asker.name} was shown {shown}, and something of that twice")
            if sorted(shown) != sorted(own) and not (is_found and asker is self.victim):
                raise Broken(f"{asker.name} was shown {shown}, and the results are {own}")
        wrong = {each.id for each in self.tasks if each.shown != each.words}
        if wrong != self.unreadable():
            raise Broken(f"{sorted(wrong)} are something else to who works, and {sorted(self.unreadable())} are due")
        relay, stores = self.relay, [home.world.store for home in self.homes]
        spoilt = frozenset(MessageId(each) for each in wrong)
        sealed.nobody_else_can_read(relay.store, self.room, relay.keys.id, stores, spoilt=spoilt)
        sealed.everybody_has_the_words(relay.store, self.room, stores)
        sealed.nothing_stands_in_clear(relay.store, self.room, alone=False)

    def require_found(self) -> None:
        """The victim's home says that its relay contradicted itself, and by what."""
        if self._contradicted(self.homes[2:]) != [self.room]:
            raise Broken("what the relay tells who asks for work is not found out")
        state = state_of(self.homes[2].world.store, self.room)
        if (state.alarm, state.contradicted) != ("relay_equivocation", self.says):
            raise Broken(f"the relay contradicts itself by {self.says}, and is accused of {state.contradicted}")

    def unreadable(self) -> set[str]:
        """What nobody who works can read."""
        return set()

    # -- what a relay and an owner have ---------------------------------------------------------------------

    def newest_record(self) -> tuple[bytes, bytes]:
        """The newest record that the relay holds, with its wraps."""
        place = [each.position for each in facts_of(self.relay.store, self.room) if isinstance(each.event, EpochTurned)]
        stored = self.relay.store.body(self.room, place[-1])
        assert stored is not None
        return decode_turned(stored[0])


# -- records -------------------------------------------------------------------------------------------------


class OfRecord(Asked):
    """Something else is told of a record."""

    fate = "detected"

    def told(self, item: t.LinkItem) -> list[t.LinkItem]:
        if item.epoch is None or self.has_lied:
            return [item]
        self.has_lied = True
        return [msgspec.structs.replace(item, epoch=self.other_record(item.epoch))]

    def other_record(self, told: t.EpochEntry) -> t.EpochEntry:
        raise NotImplementedError


class WrapsOfBefore(OfRecord):
    """With a record the wraps of the one before are told: keys of an epoch that is over."""

    at_once = True

    async def lie(self) -> None:
        self.before = self.newest_record()
        await super().lie()

    def other_record(self, told: t.EpochEntry) -> t.EpochEntry:
        return msgspec.structs.replace(told, wraps=self.before[1])


class RequesterDropped(OfRecord):
    """A record does not say of one that it only asks, and the owner's person signed that: so it would be given what
    those are given who work."""

    at_once = True

    def other_record(self, told: t.EpochEntry) -> t.EpochEntry:
        [*others] = (each for each in check_record(told.record).requesters or () if each != self.ids[self.other.name])
        return signed_anew(told, self, requesters=tuple(others))


class RequesterLeftOut(OfRecord):
    """A record takes another out who asks, and the owner's person signed that as well as the one that the others are
    told. It is found out with the first result."""

    async def lie(self) -> None:
        home = self.homes[0]
        mirror = await (await mirror_of(home.uplinks._desk, self.room)).quiet()
        state = mirror.state.epochs
        row = home.uplinks._secrets.epoch(self.room, state.record)
        assert row is not None
        made = epochs.make(
            home=self.relay.keys.id,
            room=self.room,
            before=epochs.Before(sealing.Epoch(row.number, row.record, row.secret), dict(state.roster)),
            added=[],
            removed=[self.ids[self.other.name]],
            history=mirror.state.history,
            card=EpochCard(b""),
            requesters=[self.ids[self.victim.name]],
            at=mirror.last_at,
            random=home.world.random.bytes,
        )
        self.other_told = home.uplinks._turning.told(made)
        await super().lie()

    def other_record(self, told: t.EpochEntry) -> t.EpochEntry:
        other = self.other_told
        return t.EpochEntry(record=other.record, signature=other.signature, wraps=other.wraps)


class KeyOfBefore(Asked):
    """The owner's machine gives one who asks the key that this one had in the epoch before."""

    fate = "unreadable"

    async def lie(self) -> None:
        home, asking_secret = self.homes[0], epochs.asking_secret
        state = (await (await mirror_of(home.uplinks._desk, self.room)).quiet()).state.epochs
        row = home.uplinks._secrets.epoch(self.room, state.record)
        assert row is not None
        before = row.secret

        def of_before(secret: bytes, room: RoomId, number: int, agent: AgentId) -> bytes:
            if agent != self.ids[self.victim.name]:
                return asking_secret(secret, room, number, agent)
            self.has_lied = True
            return asking_secret(before, room, number - 1, agent)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(epochs, "asking_secret", of_before)
            await turn(self, self.room)
        await trio.sleep(LATE_S)
        known = len(self.tasks)
        await self.ask()
        self.spoilt = {each.id for each in self.tasks[known:] if each.asker == self.victim.name}
        await self.work()
        await turn(self, self.room)
        await trio.sleep(LATE_S)

    def unreadable(self) -> set[str]:
        return self.spoilt


# -- requests and results ------------------------------------------------------------------------------------


class RequestOfAnother(Asked):
    """What somebody else asks for is told to one who asks, as to those who work."""

    fate = "nothing"
    leaked: t.LinkPage | None = None

    def heard(self, item: t.LinkItem) -> None:
        page = item.page
        if page is not None and any(each.agent == self.ids[self.other.name] for each in page.messages):
            # So far the victim's agent was shown what came of its tasks.
            shown = sum(bool(each.shown) for each in self.tasks if each.asker == self.victim.name)
            before = {self.ids[self.victim.name]: shown}
            self.leaked = msgspec.structs.replace(page, before=before, jumped=True)

    def told(self, item: t.LinkItem) -> list[t.LinkItem]:
        if item.epoch is None or self.leaked is None or self.has_lied:
            return [item]
        # Behind the record it would be found out by that.
        self.has_lied = True
        return [t.LinkItem(room=item.room, page=self.leaked), item]


class OfResult(Asked):
    """Something else is told of a result."""

    def told(self, item: t.LinkItem) -> list[t.LinkItem]:
        if item.page is None or self.has_lied:
            return [item]
        messages = self.other_messages(list(item.page.messages))
        self.has_lied = messages != item.page.messages
        return [msgspec.structs.replace(item, page=msgspec.structs.replace(item.page, messages=messages))]

    def other_messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        raise NotImplementedError


class ResultMoved(OfResult):
    """A result is told as the one of something else that the same one asked for."""

    fate = "detected"
    says = "signature"

    def other_messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if not messages:
            return messages
        first, *rest = messages
        envelope = decode_envelope(first.body)
        other = next(
            MessageId(each.id) for each in self.tasks if each.asker == self.victim.name and each.id != envelope.reply_to
        )
        moved = encode_envelope(msgspec.structs.replace(envelope, reply_to=other))
        return [msgspec.structs.replace(first, body=moved), *rest]


class ResultOfAnother(OfResult):
    """The result of what somebody else asked for is told to one who asks."""

    fate = "nothing"
    result_of_other: t.LinkMessage | None = None

    def heard(self, item: t.LinkItem) -> None:
        for each in [] if item.page is None else item.page.messages:
            readers = decode_envelope(each.body).visibility
            if readers is not None and self.ids[self.other.name] in readers:
                self.result_of_other = each

    def other_messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        return messages if self.result_of_other is None or not messages else [self.result_of_other, *messages]


LIES: Final[tuple[type[Asked], ...]] = (
    WrapsOfBefore,
    RequesterDropped,
    RequesterLeftOut,
    KeyOfBefore,
    RequestOfAnother,
    ResultMoved,
    ResultOfAnother,
)
