"""An act: what a room remembers, written by several at once, each over the version it knows, and forgotten.

The model is plain: a version is written once, by whoever was told so, and no version is left out; everybody who may
read then finds the newest; of what was forgotten no store has a word. Above: `world`. Below: `acts`.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.memory import MemoryState
from parlerd.operations import types as t
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.people import Agent
from tests.sim.stored import is_inside, state_of, texts_of

KEY: Final = "plan"
SECRET: Final = "secret"
WRITES: Final = 2
"""How often each of them writes."""


class Remembering(Act):
    """Some of those who met remember things in the room where they met."""

    names = "memory"
    # The home of a sealed room knows no keys, so no versions are taken there.
    in_clear = True

    async def play(self) -> None:
        agents = self.stage.agents
        self.writers = self.random.sample(list(agents), k=min(2, len(agents)))
        self.written: dict[int, str] = {}
        """The words of each version, by what their authors were told."""
        self.untold: list[str] = []
        """Words that were written, and whose authors were not told of which version they are."""
        self.forgets = self.random.random() < 0.5
        async with trio.open_nursery() as writing:
            for writer in self.writers:
                writing.start_soon(self._write, writer)
            if self.forgets:
                writing.start_soon(self._forget, self.writers[0])

    async def _write(self, writer: Agent) -> None:
        known = 0
        for number in range(WRITES):
            await trio.sleep(self.random.expovariate(0.5))
            known = await self._write_over(writer, known, f"{writer.name} plans {number}")

    async def _write_over(self, writer: Agent, known: int, words: str) -> int:
        """Write the next version over the newest, whichever that is by then. The version."""
        while True:
            params = t.Remember(
                text=words,
                key=KEY,
                if_version=known,
                room=self.stage.room,
                idempotency_key=f"{words.replace(' ', '-')}-over-{known}",
            )
            kept = await writer.may("memory.remember", params, t.Remembered, "version_conflict")
            if isinstance(kept, ParlerError):
                self.count("versions that were taken")
                known = int(str(kept.details["current"]))
                continue
            version = kept.facts[0].version
            self.count("versions remembered")
            if version is None:
                # The answer came before its home was told the message again, and only that says the version.
                self.untold.append(words)
                return known
            if version != known + 1:
                raise Broken(f"{writer.name} wrote over version {known}, and was told of version {version}")
            if version in self.written:
                raise Broken(f"version {version} was written twice: {self.written[version]!r} and {words!r}")
            self.written[version] = words
            return version

    async def _forget(self, writer: Agent) -> None:
        """Remember something that nobody should, and forget it."""
        room = self.stage.room
        secret = t.Remember(text=self.swordfish, key=SECRET, room=room, idempotency_key="secret")
        await writer.want("memory.remember", secret, t.Remembered)
        await trio.sleep(self.random.expovariate(0.5))
        forget = t.Forget(key=SECRET, room=room, idempotency_key="forget")
        await writer.want("memory.forget", forget, t.Forgotten)
        self.count("facts forgotten")

    @property
    def swordfish(self) -> str:
        return f"swordfish of {self.writers[0].name}"

    async def look(self) -> None:
        newest = state_of(self.stage.relay.store, self.stage.room).memory.keys[KEY].version
        words = {self.written[newest]} if newest in self.written else set(self.untold)
        for agent in self.stage.agents:
            if agent.name in self.stage.record.left:
                continue
            asked = t.Recall(query=KEY, room=self.stage.room)
            found = await agent.want("memory.recall", asked, t.Recalled)
            said = [(fact.version, str(fact.text)) for fact in found.facts if fact.key == KEY]
            if [version for version, _ in said] != [newest] or said[0][1] not in words:
                raise Broken(f"{agent.name} recalls {said}, and what was written last is version {newest} of {words}")

    def check(self) -> None:
        room, relay = self.stage.room, self.stage.relay.store
        many = len(self.written) + len(self.untold)
        if not self.written.keys() <= set(range(1, many + 1)) or state_of(relay, room).memory.keys[KEY].version != many:
            raise Broken(
                f"{many} versions were written, each over the one before, and these are {sorted(self.written)}"
            )
        homes = [home.world.store for home in self.stage.homes if is_inside(relay, room, home.world.keys.principal)]
        versions = [_versions(state_of(store, room).memory) for store in (relay, *homes)]
        if any(found != versions[0] for found in versions):
            raise Broken(f"the homes have other versions than the relay: {versions}")
        if self.forgets:
            for store in (relay, *homes):
                if any(self.swordfish in text for text in texts_of(store, room)):
                    raise Broken("what was forgotten is still there")


def _versions(state: MemoryState) -> dict[str, int]:
    return {key: entry.version for key, entry in state.keys.items()}
