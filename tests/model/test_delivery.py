"""At least once, in order, never lost: random interleavings of sends, joins, reads, acknowledgements and kills.

The model is the log itself, read past every engine: a reader's page is the next messages of the others after its
cursor, the cursor never passes what that reader was shown, its seqs are dense, and what was sent until it was answered
is there once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
import trio._core._run as scheduler
from hypothesis import given, register_random, settings
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, Position, RoomId, View
from parlerd.core.room import Room
from parlerd.engine.rooms import fold
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage
from tests.support.engine import Party, PlugDriver, Served, World, run, texts

AUTHORS = ("alice", "bob")
WINDOWS = ("claude", "codex")
"""Readers that acknowledge by their next call; the others are commands that acknowledge what they printed."""
EVERYONE = (*AUTHORS, "carol", *WINDOWS)


# Which task runs first is part of the script: the same one fails again, and gets smaller.
register_random(scheduler._r)


@pytest.fixture(autouse=True, scope="module")
def _deterministic() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        yield


@dataclass(frozen=True)
class Step:
    """One thing that happens. `who` reads or comes in, at most `limit` messages at a time, and acknowledges or not.

    `sends` are posted at the same time, each so many turns of the loop later. `cut` kills the daemon at the n-th commit
    of the step; `counts` says whether that commit is still stored. Who was killed before its answer asks again later,
    as people and agents do.
    """

    what: str
    who: str = "alice"
    limit: int = 50
    ack: bool = True
    sends: tuple[tuple[str, int], ...] = ()
    cut: int | None = None
    counts: bool = False


_sends = st.lists(st.tuples(st.sampled_from(AUTHORS), st.integers(0, 8)), max_size=3).map(tuple)
_cut = st.one_of(st.none(), st.integers(0, 3))
STEPS = st.one_of(
    st.builds(
        Step,
        st.sampled_from(["read", "look", "send"]),
        st.sampled_from(EVERYONE),
        st.integers(1, 4),
        st.booleans(),
        _sends,
        _cut,
        st.booleans(),
    ),
    st.builds(Step, st.sampled_from(["restart", "kill", "reconnect"])),
)


def only_retryable(error: ParlerError) -> None:
    """The store died under a caller: it hears that trying again is safe, and nothing else."""
    assert error.spec.retryable, error.code


@dataclass
class Reader:
    """One who reads: what it was shown so far, by seq, and whether it has come into the room."""

    id: AgentId
    shown: dict[int, str] = field(default_factory=dict)
    landed: bool = False


class Story:
    """A home whose daemon is killed and started again, with one room in it."""

    def __init__(self) -> None:
        self.world = World(driver=lambda store: PlugDriver(store, self.kill))
        self.killed = trio.CancelScope()
        self.readers: dict[str, Reader] = {}
        self.open: set[tuple[str, int]] = set()
        self.sent = dict.fromkeys(AUTHORS, 0)
        self.opened: t.OpenedSession | None = None
        self.folded = Room()

    def kill(self) -> None:
        self.killed.cancel()

    async def run(self, script: list[Step]) -> None:
        """Carry the script out over as many daemons as it takes, then let everyone read to the end."""
        steps = iter(script)
        done = False
        while not done:
            self.killed = trio.CancelScope()
            with self.killed:
                async with self.world.serving() as served:
                    parties = await self.connect(served)
                    done = await self.carry_out(served, parties, steps)
            self.check()

    async def connect(self, served: Served) -> dict[str, Party]:
        parties = {name: await served.agent(name) for name in EVERYONE if name not in WINDOWS}
        for name in WINDOWS:
            parties[name] = await served.window(name * 6, as_name=name)
        if self.opened is None:
            self.opened = await parties["alice"].open("room", "recap", idempotency_key="open")
            for name, party in parties.items():
                self.readers[name] = Reader(AgentId((await party.whoami()).id), landed=name == "alice")
                if name != "alice":
                    await party.join(self.opened.session_key)
                    await parties["alice"].approve(name)
        return parties

    async def carry_out(self, served: Served, parties: dict[str, Party], steps: Iterator[Step]) -> bool:
        """Go on with the script; False when the daemon is to start again."""
        for step in steps:
            if step.what == "restart":
                return False
            if step.what == "kill":
                served.plug.dead = True
                self.kill()
                await trio.lowlevel.checkpoint()
            if step.what == "reconnect":
                await served.leave(parties["claude"])
                parties["claude"] = await served.window("claude" * 6, as_name="claude")
                continue
            if step.cut is not None:
                served.plug.cut = (served.plug.commits + step.cut, step.counts)
            async with trio.open_nursery() as nursery:
                for who, turns in step.sends:
                    self.sent[who] += 1
                    self.open.add((who, self.sent[who]))
                    nursery.start_soon(self.send, parties[who], who, self.sent[who], turns)
                if step.what != "send":
                    nursery.start_soon(self.look, served, parties[step.who], step)
            served.plug.cut = None
            self.check()
        await self.finish(served, parties)
        return True

    @property
    def room(self) -> RoomId:
        assert self.opened is not None
        return RoomId(self.opened.room)

    async def send(self, party: Party, who: str, n: int, turns: int = 0) -> None:
        try:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            await party.send(f"{who} {n}", room=self.room, idempotency_key=f"{who}-{n}")
        except ParlerError as error:
            only_retryable(error)
        else:
            self.open.discard((who, n))

    async def look(self, served: Served, party: Party, step: Step) -> None:
        try:
            await self.read(served, party, self.readers[step.who], step)
        except ParlerError as error:
            only_retryable(error)

    async def read(self, served: Served, party: Party, reader: Reader, step: Step) -> None:
        window = party.caller.facts.via == "mcp"
        if not step.ack:
            # A window whose answer was not written: what it was shown does not count.
            party.caller.reader.shown.take()
        if window:
            await served.acknowledge(party)
        page: t.Received | t.JoinedSession
        if not reader.landed:
            assert self.opened is not None
            page = await party.join(self.opened.session_key)
        elif step.what == "look":
            page = await party.recv(room=self.room, since=0, limit=step.limit)
        else:
            before = self.acknowledged(reader)
            page = await party.recv(room=self.room, limit=step.limit)
            new = [m for m in self.log(reader) if m.seq > before and m.header.by.actor != reader.id]
            assert [m.seq for m in page.messages] == [m.seq for m in new][: len(page.messages)]
            assert page.messages or not new or window
        for message in page.messages:
            text = str(message.text)
            assert reader.shown.setdefault(message.seq, text) == text
        if isinstance(page, t.JoinedSession):
            reader.landed = True
        if step.ack and not window and step.what == "read" and page.messages:
            await party.commit(page)

    # -- the model -----------------------------------------------------------------------------------------

    def view(self, reader: Reader) -> View:
        head = self.world.store.head(self.room).position
        if self.folded.position != head:
            self.folded, _ = fold(self.world.store, self.room, Room, Room.restore)
        return self.folded.view(reader.id)

    def log(self, reader: Reader) -> list[StoredMessage]:
        view = self.view(reader)
        return self.world.store.page(
            self.room, view, Position(0), limit=10_000, max_bytes=1 << 30, skip_own=False
        ).messages

    def acknowledged(self, reader: Reader) -> int:
        store = self.world.store
        return store.seq_at(self.room, self.view(reader), store.cursor(self.room, reader.id).acknowledged)

    def check(self) -> None:
        """What holds at every moment, also right after a kill."""
        for name, reader in self.readers.items():
            log = self.log(reader)
            assert [message.seq for message in log] == list(range(1, len(log) + 1))
            upto = self.acknowledged(reader)
            unseen = [
                m.seq for m in log if m.seq <= upto and m.header.by.actor != reader.id and m.seq not in reader.shown
            ]
            assert not unseen, f"{name} acknowledged what it was never shown: {unseen}"

    async def finish(self, served: Served, parties: dict[str, Party]) -> None:
        """Whoever had no answer asks again; then everyone reads to the end, and nothing is missing or there twice."""
        for who, n in sorted(self.open):
            await self.send(parties[who], who, n)
        for name, party in parties.items():
            reader = self.readers[name]
            for _ in range(200):
                before = len(reader.shown)
                await self.read(served, party, reader, Step("read", name, limit=3))
                if len(reader.shown) == before and not (await party.recv(room=self.room, peek=True)).messages:
                    break
            log = self.log(reader)
            assert {m.seq for m in log if m.header.by.actor != reader.id} <= set(reader.shown)
            words = texts(await party.recv(room=self.room, all=True, limit=500))
            sent = [f"{who} {n + 1}" for who in AUTHORS for n in range(self.sent[who])]
            assert sorted(words) == sorted(["recap", *sent])


@settings(max_examples=80)
@given(st.lists(STEPS, min_size=3, max_size=20))
def test_every_message_reaches_every_reader_whatever_is_killed_in_between(script: list[Step]) -> None:
    run(partial(Story().run, script))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(AUTHORS), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(0, 8),
    st.booleans(),
)
def test_a_request_repeated_until_it_is_answered_is_done_once(
    requests: list[tuple[str, int]], cut: int, counts: bool
) -> None:
    async def main() -> None:
        killed = trio.CancelScope()
        world = World()
        async with world.serving() as served:
            alice, _bob = await served.room("alice", "bob", context="")
            room = (await alice.rooms())[0].room
        world.driver = lambda store: PlugDriver(store, killed.cancel)
        with killed:
            async with world.serving() as served:
                parties = {name: await served.agent(name) for name in AUTHORS}
                served.plug.cut = (cut, counts)
                async with trio.open_nursery() as nursery:
                    for who, n in requests:
                        nursery.start_soon(
                            _attempt, partial(parties[who].send, f"{who} {n}", room=room, idempotency_key=f"{who}-{n}")
                        )
        world.driver = PlugDriver
        async with world.serving() as served:
            parties = {name: await served.agent(name) for name in AUTHORS}
            for who, n in requests:
                await parties[who].send(f"{who} {n}", room=room, idempotency_key=f"{who}-{n}")
            words = texts(await parties["alice"].recv(room=room, all=True))
            assert sorted(words) == sorted({f"{who} {n}" for who, n in requests})

    run(main)


async def _attempt(send: Callable[[], Awaitable[object]]) -> None:
    try:
        await send()
    except ParlerError as error:
        only_retryable(error)
