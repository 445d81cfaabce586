"""Section C, line 10, of the security spec: nothing that is hidden shows, not even that it is there.

Two runs of one story that differ in hidden facts alone (private messages, other rooms, who knocks where) give an
outsider of those facts byte-identical transcripts: every answer, every error, every wake-up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError
from parlerd.engine import telling
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import (
    CountedRandomness,
    Party,
    Served,
    World,
    run,
    settle,
)
from tests.support.room_state import put

MOMENTS = 4
"""Public moments of the story; between two of them hidden things may happen."""
ROOM_FOR_IDS = 10_000
"""Each moment draws ids from its own range, so what is hidden in one does not shift the ids of the next."""

HIDDEN = [
    "private", "reply", "handoff in another room", "other room", "knock", "deny", "elsewhere", "mark", "reread",
    "state", "task",
]  # fmt: skip
Hidden = tuple[str, int]


@dataclass
class Cast:
    """Alice owns the room; alice and bob share secrets; carol is in the room and outside of them; dan is a stranger."""

    served: Served
    alice: Party
    bob: Party
    carol: Party
    dan: Party
    room: str
    key: str | None
    secrets: list[str] = field(default_factory=list)
    others: list[t.OpenedSession] = field(default_factory=list)
    cursor: str | None = None
    """Where carol was told last that the state changes from there on."""
    place: str = ""
    """The last id of the room's stream that carol saw."""


async def hide(cast: Cast, what: str, n: int) -> None:
    """One thing that carol and dan must not notice."""
    alice, bob = cast.alice, cast.bob
    if what == "private":
        sent = await bob.send("hidden " * n, room=cast.room, visible_to=("alice",), to=("alice",), data={"n": n})
        cast.secrets.append(sent.id)
    elif what == "reply" and cast.secrets:
        await alice.send("hidden reply", room=cast.room, reply_to=cast.secrets[n % len(cast.secrets)], kind="secret")
    elif what == "other room":
        cast.others.append(await bob.open(f"secret {n}", "hidden recap"))
    elif what == "handoff in another room" and cast.others:
        await bob.handoff("hidden", room=cast.others[n % len(cast.others)].room)
    elif what == "elsewhere" and cast.others:
        await bob.send("hidden", room=cast.others[n % len(cast.others)].room)
    elif what == "knock":
        # At the door of the room that carol is in: only its owner learns of it.
        knocking = await cast.served.agent(f"eve{n}")
        await knocking.join(cast.key)
        await cast.served.leave(knocking)
    elif what == "deny":
        for request in await alice.requests(cast.room):
            await alice.deny(request.id, room=cast.room)
    elif what == "mark":
        page = await alice.recv(room=cast.room, since=0, kind="secret")
        assert not page.acknowledges
    elif what == "state":
        # In a scope that bob alone reads.
        await put(bob, f"plan{n}", "hidden " * n, scope="bob", timer=t.TimerAsked(ms=500), room=cast.room)
    elif what == "task":
        await bob.send("hidden", room=cast.room, kind="task", visible_to=("alice",))
    elif what == "reread" and cast.secrets:
        await bob.call("message.why", t.Why(id=cast.secrets[-1]))


Hide = Callable[[Cast, str, int], Awaitable[None]]


async def transcript(hidden: list[list[Hidden]], hide: Hide = hide) -> bytes:
    """Everything that carol and dan are told in a story with these hidden things in it."""
    world = World(store=MemoryStore(random_bytes=CountedRandomness().bytes))
    told: list[bytes] = []
    async with world.serving() as served:
        parties = [await served.agent(name) for name in ("alice", "bob", "carol")]
        alice, bob, carol = parties
        dan = await served.agent("dan")
        opened = await alice.open("public", "recap")
        await served.admit(opened, bob, carol)
        await bob.ask("state.hide", t.HideScope(hidden=True, room=opened.room), t.ScopeShown)
        cast = Cast(served, alice, bob, carol, dan, opened.room, opened.session_key)
        for moment, things in enumerate([*hidden, []]):
            ids_from(world, moment, 0)
            world.clock.move(seconds=1)
            for what, n in things:
                await hide(cast, what, n)
            ids_from(world, moment, 1)
            # When someone last acted is no secret: both act in every run.
            for party in (alice, bob):
                await party.whoami()
            world.clock.move(seconds=1)
            told += await told_to_outsiders(cast, moment)
    return b"\n".join(told)


def ids_from(world: World, moment: int, part: int) -> None:
    world.random.ids = world.random.draws = (2 * moment + part + 1) * ROOM_FOR_IDS


async def told_to_outsiders(cast: Cast, moment: int) -> list[bytes]:
    alice, carol, dan = cast.alice, cast.carol, cast.dan
    told: list[bytes] = []

    async def hear(answer: Awaitable[Any]) -> None:
        try:
            told.append(msgspec.json.encode(await answer, order="sorted"))
        except ParlerError as error:
            told.append(msgspec.json.encode(error.body(), order="sorted"))

    room = cast.room
    # Before anything public follows, which would cover traces that hidden things left.
    await hear(carol.rooms())
    await hear(carol.recv(room=room, peek=True))
    await hear(carol.roster(room))
    await hear(cast.served.notice(carol))
    await hear(dan.rooms())
    for outsider in (carol, dan):
        await hear(rooms_counted(outsider))
    await hear(carol.call("state.list", t.ListState(room=room)))
    await hear(carol.call("room.board", t.LookAtBoard(room=room)))
    await hear(dan.call("room.board", t.LookAtBoard(room=room)))
    await hear(followed(cast))
    await hear(streamed(cast))
    await put(alice, "phase", moment, room=room)
    await hear(followed(cast))
    await hear(streamed(cast))

    public = await alice.send(f"public {moment}", room=room)
    guesses = ["m_none", f"m_{ROOM_FOR_IDS + 1:020d}", f"m_{ROOM_FOR_IDS + 2:020d}", public.id]
    await hear(carol.recv(room=room, peek=True))
    await hear(carol.recv(room=room))
    await hear(carol.recv(room=room, all=True))
    for kind in ("secret", "text", "handoff"):
        await hear(carol.recv(room=room, kind=kind, since=0))
    await hear(carol.recv(room=room, mentions=True))
    await hear(carol.rooms())
    await hear(carol.roster(room))
    await hear(carol.call("session.list", t.ListSessions()))
    await hear(carol.call("approvals.list", t.ListApprovals()))
    await hear(carol.call("session.requests", t.SessionRequests(room=room)))
    await hear(carol.call("message.recv_all", t.Recv()))
    for guess in guesses:
        await hear(carol.call("message.why", t.Why(id=guess)))
        await hear(carol.send("reply", room=room, reply_to=guess, idempotency_key=f"r{moment}{guess}"))
    for cursor in ("0", "1", "3", "5", "50"):
        await hear(carol.call("message.commit", t.Commit(room=room, cursor=cursor)))
        await hear(carol.recv(room=room, since=int(cursor), limit=2))
    for name in ("public", "secret-1", "secret-2"):
        await hear(carol.call("rooms.roster", t.Roster(room=name)))
        await hear(dan.call("session.requests", t.SessionRequests(room=name)))
        await hear(dan.recv(room=name))
    await hear(carol.open("secret 1", "mine"))
    await hear(dan.rooms())
    await hear(dan.recv(room=room))
    await hear(dan.join("ZZZZZZZZ") if moment == 0 else dan.rooms())
    await hear(cast.served.notice(carol))
    page = await carol.recv(room=room)
    await hear(as_value(page))
    if page.messages:
        await carol.commit(page)
    return told


async def followed(cast: Cast) -> list[t.StateChange]:
    """What carol is told of the state. A cursor says the same in other words each time, so it is no part of this."""
    params = t.FollowState(after=cast.cursor, room=cast.room, wait_ms=1)
    found = await cast.carol.ask("state.changes", params, t.StateChanges)
    cast.cursor = found.cursor
    return found.changes


async def streamed(cast: Cast) -> list[tuple[str, object]]:
    """What the stream of the room tells carol who comes again, and waits for a second. An id says the same in other
    words each time."""
    found: list[tuple[str, object]] = []
    async with cast.served.engine.events(cast.room, cast.place, cast.carol.caller) as told:
        with trio.move_on_after(1):
            async for name, said, cast.place in told:
                found.append((name, said))
    return found


async def rooms_counted(party: Party) -> int:
    return (await party.ask("daemon.status", t.DaemonStatus(), t.DaemonInfo)).rooms


async def as_value(value: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return value


@cache
def nothing_hidden() -> bytes:
    """The transcript of the story in which nothing is hidden."""
    return run(partial(transcript, [[] for _ in range(MOMENTS)]))


things = st.lists(st.tuples(st.sampled_from(HIDDEN), st.integers(1, 3)), max_size=5)


@settings(max_examples=25)
@given(st.lists(things, min_size=MOMENTS, max_size=MOMENTS))
def test_c10_hidden_facts_change_nothing_in_what_an_outsider_is_told(hidden: list[list[Hidden]]) -> None:
    """C10: byte-identical transcripts, whatever happens out of sight."""
    assert run(partial(transcript, hidden)) == nothing_hidden()


@pytest.mark.parametrize("what", HIDDEN)
def test_c10_each_kind_of_hidden_fact_by_itself_changes_nothing(what: str) -> None:
    """C10: once for each, after what it needs to happen at all."""
    hidden: list[list[Hidden]] = [[("private", 1), ("other room", 2), ("knock", 1)], [(what, 2), (what, 1)], [], []]
    assert run(partial(transcript, hidden)) == nothing_hidden()


def test_c10_the_transcript_would_show_a_difference_that_is_public() -> None:
    """The comparison is worth something: one more public message changes it."""

    async def also_public(cast: Cast, what: str, n: int) -> None:
        await cast.bob.send("public", room=cast.room)

    one: list[list[Hidden]] = [[("x", 1)], [], [], []]
    assert run(partial(transcript, one, also_public)) != run(partial(transcript, one, nothing_happens))


def test_c10_a_stream_that_told_everybody_of_knocks_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is worth something for the stream too: one broken rule in it changes the transcript."""
    hidden: list[list[Hidden]] = [[("knock", 1)], [], [], []]
    monkeypatch.setattr(telling, "_owns", lambda room, me: True)
    assert run(partial(transcript, hidden)) != nothing_hidden()


async def nothing_happens(cast: Cast, what: str, n: int) -> None:
    await trio.lowlevel.checkpoint()


async def wakes_of(make: Callable[[Party, Party], Awaitable[object]]) -> tuple[bool, bool]:
    """Whether an outsider's wait and its subscription are woken by what bob does for alice."""
    world = World()
    async with world.serving() as served:
        alice, bob, carol = await served.room("alice", "bob", "carol")
        async with served.changes(carol) as changes, trio.open_nursery() as nursery:
            looks = 0
            engine: Any = getattr(served.engine.handlers["message.recv"], "__self__")  # noqa: B009
            look = engine._recv_now

            async def counted(*args: Any, **more: Any) -> Any:
                nonlocal looks
                looks += args[0] is carol.caller
                return await look(*args, **more)

            engine._recv_now = counted
            nursery.start_soon(partial(carol.recv, wait=60))
            await settle()
            await make(alice, bob)
            await settle()
            noticed = False
            with trio.move_on_after(5):
                await changes.receive()
                noticed = True
            nursery.cancel_scope.cancel()
    return looks > 1, noticed


def test_c10_a_hidden_message_wakes_no_outsider() -> None:
    """C10: a wake-up is an answer too."""
    hidden = run(partial(wakes_of, lambda alice, bob: bob.send("hidden", visible_to=("alice",))))
    assert hidden == (False, False)
    public = run(partial(wakes_of, lambda alice, bob: bob.send("public")))
    assert public == (True, True)


def test_c10_an_outsiders_order_of_messages_has_no_gap_where_hidden_ones_stand() -> None:
    """C10: seqs are the reader's own, in its page, its join, its sends and its replays."""

    async def main() -> None:
        async with World().serving() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            for n in range(5):
                await bob.send("hidden", visible_to=("alice",))
                sent = await carol.send(f"{n}", idempotency_key=f"k{n}")
                assert sent.seq == n + 2
                assert (await carol.send(f"{n}", idempotency_key=f"k{n}")).seq == n + 2
            page = await carol.recv(all=True)
            assert [message.seq for message in page.messages] == [1, 2, 3, 4, 5, 6]
            assert [message.seq for message in (await alice.recv(all=True)).messages] == list(range(1, 12))

    run(main)
