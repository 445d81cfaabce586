"""Somebody who may not know something, and what a relay sends to their home: the same bytes, whatever it is.

A story is played twice with one seed. Ann and Ben have a session on the relay; Eve, of a third home that is enrolled
there, stands outside of what they do:

    Elsewhere    has a session of her own on the relay
    Knocking     asked to come in, and nobody decided
    Denied       asked to come in, and was told no
    Inside       is in the session, and others say things to each other there that are not for her
    Guessing     types keys of which each is no good, for a reason of its own

The first time nothing hidden happens, and the second time hidden things do: which, and how many, is drawn from the
seed. Eve does the same both times, at the same moments, and her cable is cut in the middle. Every message that the
relay sends to her home has to be the same, byte for byte, and sent at the same moment.

Nothing is taken out of the bytes before they are compared. Two things that say nothing are held still instead: what is
drawn at random is drawn anew for each moment, so that the draws of others change nothing in those of Eve's (a real draw
says as little), and tasks that may go on at the same moment do so in the order in which they were made.

Above: `faults`, the tests. Below: the homes and the relay of `tests.support.relayed`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import ClassVar, Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.identity import codes
from parlerd.operations import types as t
from tests.sim.broken import Broken
from tests.sim.loop import play
from tests.support.engine import CountedRandomness, Party, Served
from tests.support.message_streams import MemoryStream
from tests.support.relayed import Home, Relay, Wires

MOMENTS: Final = 4
"""How often something hidden may happen, and Eve does something after it."""
MOMENT_S: Final = 40.0
"""Virtual seconds from one of them to the next: a relay that says something every few seconds says it in between."""
CUT_AT: Final = 2
"""At which of them Eve's cable is cut, while something hidden happens."""
GUESSES: Final = 12
"""How many keys Eve types in a row: more than a relay takes."""
KEY_MS: Final = 60_000
"""How long the shortest key lives."""

Sent = tuple[float, bytes]
"""One message that the relay sent, and when."""


class MomentaryRandomness(CountedRandomness):
    """Ids and bytes that depend on when they are drawn, and not on what was drawn before."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._at = -1.0

    def _draw(self) -> str:
        now = trio.current_time()
        self.draws = self.draws + 1 if now == self._at else 0
        self._at = now
        return f"{self._name} {now} {self.draws}"

    def new(self, prefix: str) -> str:
        return f"{prefix}_{hashlib.sha256(self._draw().encode()).hexdigest()[:20]}"

    def bytes(self, count: int) -> bytes:
        return hashlib.shake_256(self._draw().encode()).digest(count)


class _Noting(list[bytes]):
    """What a stream sends, each with when it was sent."""

    def __init__(self, told: list[Sent]) -> None:
        super().__init__()
        self._told = told

    def append(self, message: bytes) -> None:
        self._told.append((trio.current_time(), message))


class TappedWires(Wires):
    """Notes what the relay sends to one home."""

    def __init__(self, home: str) -> None:
        super().__init__()
        self.told: list[Sent] = []
        """Every message to that home, over all of its links."""
        self._tapped = home

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MemoryStream]:
        async with super().dial(address, home) as ours:
            if home == self._tapped:
                ours.other.sent = _Noting(self.told)
            yield ours


@dataclass
class Cast:
    """Alice and Amy are of Ann's home, Bob and Carl of Ben's; Eve is of her own."""

    wires: TappedWires
    relay: Relay
    random: Random
    alice: Party
    amy: Party
    bob: Party
    carl: Party
    eve: Party
    opened: t.OpenedSession
    """The session of Alice, Amy and Bob."""
    others: list[str] = field(default_factory=list)
    """Sessions that Bob opened besides."""
    count: int = 0

    @property
    def room(self) -> str:
        return self.opened.room

    @property
    def key(self) -> str:
        assert self.opened.session_key is not None
        return self.opened.session_key

    # -- what is hidden ------------------------------------------------------------------------------------

    async def hide(self, what: str) -> None:
        """Let one of these happen."""
        self.count += 1
        words = "x" * self.random.randrange(1, 400)
        match what:
            case "public":
                await self.random.choice((self.alice, self.bob)).send(words, room=self.room)
            case "private":
                await self.alice.send(words, room=self.room, visible_to=("bob",))
            case "answer":
                await self.bob.send(words, room=self.room, visible_to=("alice",))
            case "other session":
                self.others.append((await self.bob.open(f"secret {self.count}", words, clear=True)).room)
            case "elsewhere" if self.others:
                await self.bob.send(words, room=self.random.choice(self.others))
            case "let in" | "turned away":
                await self._decide(admit=what == "let in")
            case "left":
                with suppress(ParlerError):
                    await self.amy.close(self.room)
            case _:
                pass

    async def _decide(self, *, admit: bool) -> None:
        """Carl knocks, if he did not before, and Alice's person decides."""
        if (await self.carl.join(self.key)).status == "pending":
            await (self.alice.approve if admit else self.alice.deny)("carl", room=self.room)


class Outsider:
    """One stand of Eve's. `run` plays it twice; raises `Broken`."""

    hidden: ClassVar[tuple[str, ...]] = (
        "public",
        "private",
        "answer",
        "other session",
        "elsewhere",
        "let in",
        "turned away",
        "left",
    )
    """What may happen that is hidden from her."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def meet(self) -> None:
        """Everybody meets in the story."""

    def run(self) -> None:
        self._compare(self._heard(hides=False), self._heard(hides=True))

    def _heard(self, *, hides: bool) -> list[Sent]:
        with tempfile.TemporaryDirectory() as folder:
            return play(self.seed, partial(self._play, Path(folder), hides=hides), in_order=True)

    def _compare(self, one: list[Sent], other: list[Sent]) -> None:
        who = type(self).__name__
        if len(one) < MOMENTS:
            raise AssertionError(f"{who} heard {len(one)} messages: too few to prove anything")
        for number, (before, after) in enumerate(zip(one, other, strict=False)):
            if before != after:
                raise _broken(f"{who} hears message {number} otherwise: {before} or {after}", before[0])
        if len(one) != len(other):
            longer = max(one, other, key=len)[min(len(one), len(other))]
            raise _broken(f"{who} hears one message more: {longer}", longer[0])

    async def _play(self, folder: Path, *, hides: bool) -> list[Sent]:
        wires = TappedWires("eve")
        relay = Relay(wires, random=MomentaryRandomness("relay"))
        homes = [Home(name, relay, folder) for name in ("ann", "ben", "eve")]
        for home in homes:
            home.world.random = MomentaryRandomness(home.name)
        async with AsyncExitStack() as running:
            await running.enter_async_context(relay.serving())
            ann, ben, eves = [await running.enter_async_context(home.serving()) for home in homes]
            cast = await self._meet(wires, relay, ann, ben, eves)
            await trio.sleep(1)
            await self.begin(cast)
            for moment in range(MOMENTS):
                await trio.sleep(MOMENT_S / 2)
                if moment == CUT_AT:
                    wires.cut_off("eve")
                if hides:
                    # Once each at least, and some of them again.
                    for what in self.drawn(cast.random, moment):
                        await cast.hide(what)
                        await trio.sleep(0.5)
                await trio.sleep_until(_after(moment))
                wires.bring_back("eve")
                await self.others_act(cast, moment)
                await trio.sleep(1)
                await self.act(cast, moment)
            await trio.sleep(MOMENT_S)
            return list(wires.told)

    def drawn(self, random: Random, moment: int) -> list[str]:
        """What happens at a moment: over all moments each thing at least once."""
        return [*self.hidden[moment::MOMENTS], *random.choices(self.hidden, k=random.randrange(3))]

    async def _meet(self, wires: TappedWires, relay: Relay, ann: Served, ben: Served, eves: Served) -> Cast:
        alice, amy = await ann.agent("alice"), await ann.agent("amy")
        bob, carl, eve = await ben.agent("bob"), await ben.agent("carl"), await eves.agent("eve")
        opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
        for agent, name in ((amy, "amy"), (bob, "bob")):
            if (await agent.join(opened.session_key)).status == "pending":
                await alice.approve(name, room=opened.room)
            await agent.come_in(opened.session_key, wait=10)
        return Cast(wires, relay, Random(self.seed), alice, amy, bob, carl, eve, opened)

    async def begin(self, cast: Cast) -> None:
        """Eve takes her stand."""
        raise NotImplementedError

    async def others_act(self, cast: Cast, moment: int) -> None:
        """What the others do both times."""

    async def act(self, cast: Cast, moment: int) -> None:
        """What Eve does both times."""
        raise NotImplementedError


def _broken(what: str, at: float) -> Broken:
    broken = Broken(what)
    broken.step = f"{at:.1f} s"
    return broken


def _after(moment: int) -> float:
    """When Eve acts."""
    return (moment + 1) * MOMENT_S + 10.0


class Elsewhere(Outsider):
    """Eve has a session of her own on the relay."""

    async def begin(self, cast: Cast) -> None:
        await cast.eve.open("of her own", clear=True)

    async def act(self, cast: Cast, moment: int) -> None:
        await cast.eve.send(f"note {moment}")
        await cast.eve.rooms()
        # The session of the others, of which she knows the id.
        for call, params in (("message.recv", t.Recv(room=cast.room)), ("rooms.roster", t.Roster(room=cast.room))):
            with suppress(ParlerError):
                await cast.eve.call(call, params)


class Knocking(Outsider):
    """Eve asked to come in."""

    async def begin(self, cast: Cast) -> None:
        assert (await cast.eve.join(cast.key)).status == "pending"

    async def act(self, cast: Cast, moment: int) -> None:
        await cast.eve.join(cast.key)
        with suppress(ParlerError):
            await cast.eve.roster(cast.room)


class Denied(Knocking):
    """Eve was told no."""

    async def begin(self, cast: Cast) -> None:
        await super().begin(cast)
        await cast.alice.deny("eve", room=cast.room)


class Inside(Outsider):
    """Eve is in the session, where others say things that are not for her."""

    hidden: ClassVar[tuple[str, ...]] = ("private", "answer", "other session", "elsewhere", "turned away")

    async def begin(self, cast: Cast) -> None:
        assert (await cast.eve.join(cast.key)).status == "pending"
        await cast.alice.approve("eve", room=cast.room)
        await cast.eve.come_in(cast.key, wait=10)

    async def others_act(self, cast: Cast, moment: int) -> None:
        for agent in (cast.alice, cast.bob):
            await agent.send(f"said {moment}", room=cast.room)
            await trio.sleep(0.5)

    async def act(self, cast: Cast, moment: int) -> None:
        page = await cast.eve.recv(room=cast.room)
        await cast.eve.commit(page)
        sent = await cast.eve.send(f"mine {moment}", room=cast.room)
        await cast.eve.why(sent.id)
        await cast.eve.roster(cast.room)
        with suppress(ParlerError):
            await cast.eve.recv(room=cast.room, since=1)


class Guessing(Outsider):
    """Eve types a key again and again that is no good: nobody drew it, or it expired, was revoked or is used up."""

    dead: ClassVar[tuple[str, ...]] = ("expired", "revoked", "used up")

    def run(self) -> None:
        unknown = self._heard_of("unknown")
        for what in self.dead:
            self._compare(unknown, self._heard_of(what))

    def _heard_of(self, what: str) -> list[Sent]:
        self._what = what
        return self._heard(hides=False)

    async def begin(self, cast: Cast) -> None:
        keys = {"unknown": _nobodys(cast.key)}
        expired = await cast.alice.open("expired", ttl_ms=KEY_MS, clear=True)
        revoked = await cast.alice.open("revoked")
        used_up = await cast.alice.open("used up", max_uses=1, clear=True)
        for what, opened in zip(self.dead, (expired, revoked, used_up), strict=True):
            assert opened.session_key is not None
            keys[what] = opened.session_key
        await cast.alice.call("session.revoke", t.RevokeSessionKey(session_key=keys["revoked"]))
        await cast.bob.join(keys["used up"])
        await cast.alice.approve("bob", room=used_up.room)
        await trio.sleep(2 * KEY_MS / 1000)
        self._key = keys[self._what]

    async def act(self, cast: Cast, moment: int) -> None:
        for _ in range(GUESSES):
            with suppress(ParlerError):
                await cast.eve.join(self._key)
                raise Broken(f"a key that is {self._what} is good")
            await trio.sleep(0.5)


def _nobodys(key: str) -> str:
    """A key of the form of this one that nobody drew."""
    typed = codes.read_key(key)
    return key.replace(key.partition("@")[0], codes.spell(b"nobody drew this" * 2, len(typed.key + typed.binding)))


STANDS: Final = (Elsewhere, Knocking, Denied, Inside, Guessing)
