"""SIGKILL at any moment, of the daemon and of a shim: what was acknowledged is there, once, in order, for everyone."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.mcp_windows import texts, window
from tests.support.processes import PATIENCE_S, Somebody, kill, until

pytestmark = pytest.mark.e2e

T = TypeVar("T")

KILLS = 3
AHEAD = 20
"""Messages by which a quick sender may be ahead of the slowest, so that it leaves the machine to the others."""


class Senders:
    """Everyone who sends. Each repeats a message, as the same request, until it is acknowledged; then the next."""

    def __init__(self, somebody: Somebody, room: str) -> None:
        self.somebody = somebody
        self.room = room
        self.stopping = threading.Event()
        self.done = threading.Event()
        """Set when the last of them has stopped: a command that is under way takes a while after `stopping`."""
        self.acknowledged: dict[str, list[tuple[str, str, int]]] = {}
        """(text, id, seq) of each sender's messages, in the order of sending. A window is told no id."""

    def enter(self, name: str) -> None:
        self.acknowledged[name] = []

    def next_of(self, name: str) -> str:
        return f"{name} says {len(self.acknowledged[name])}"

    def took(self, name: str, seq: int, id: str = "") -> None:
        self.acknowledged[name].append((self.next_of(name), id, seq))

    def counts(self) -> dict[str, int]:
        return {name: len(done) for name, done in self.acknowledged.items()}

    def _may_go_on(self, name: str) -> bool:
        counts = self.counts()
        return self.stopping.is_set() or counts[name] <= min(counts.values()) + AHEAD

    def by_client(self, name: str) -> None:
        """Over one connection of the client library, made again whenever it is gone."""
        with again(lambda: self.somebody.client(name)) as client:
            while not self.stopping.is_set():
                until(lambda: self._may_go_on(name), "message of the others")
                text = self.next_of(name)
                params = t.Send(text=text, room=self.room, idempotency_key=text.replace(" ", "-"))
                sent = again(lambda params=params: client.call("message.send", params))  # type: ignore[misc]
                assert isinstance(sent, t.Sent)
                assert sent.seq is not None
                self.took(name, sent.seq, sent.id)

    def by_command(self, name: str) -> None:
        """With a process for each attempt."""
        while not self.stopping.is_set():
            text = self.next_of(name)
            words = ("send", text, "--room", self.room, "--as", name, "--key", text.replace(" ", "-"), "--json")
            while True:
                ran = self.somebody.runs(*words, expect=None)
                if ran.code == 0:
                    break
                assert ran.error["retryable"], ran
            self.took(name, ran.document["seq"], ran.document["id"])

    async def by_window(self, name: str, key: str, *, with_keys: bool) -> None:
        """From an agent's window. Without keys of its own, a repetition is known by being the same call."""
        async with window(self.somebody, name, name) as agent:
            await agent.insist("parler_join_session", key=key)
            while not self.stopping.is_set():
                text = self.next_of(name)
                more = {"key": text.replace(" ", "-")} if with_keys else {}
                sent = await agent.insist("parler_send", text=text, room=self.room, **more)
                self.took(name, sent.sent)

    def read(self, name: str, seen: list[t.Message]) -> None:
        """Read and acknowledge page by page, as long as there is any sender, and then what is left."""
        with again(lambda: self.somebody.client(name)) as client:
            while True:
                last = self.done.is_set()
                page = again(lambda: client.call("message.recv", t.Recv(room=self.room, wait_ms=200)))
                assert isinstance(page, t.Received)
                seen += page.messages
                if page.messages:
                    commit = t.Commit(room=self.room, cursor=page.cursor)
                    again(lambda commit=commit: client.call("message.commit", commit))  # type: ignore[misc]
                elif last:
                    return


def again(attempt: Callable[[], T]) -> T:
    """What `attempt` gives, made again while it fails in a way that is worth it."""
    while True:
        try:
            return attempt()
        except ParlerError as error:
            if not error.spec.retryable:
                raise


class Killer:
    """Kills the daemon when every sender got something through since the last time, and a little later."""

    def __init__(self, senders: Senders, seed: int) -> None:
        self.senders = senders
        self.draw = random.Random(seed)

    def run(self) -> None:
        try:
            for number in range(KILLS):
                self._wait()
                pid = self.senders.somebody.kills_daemon()
                if number % 2:
                    # The one that comes next as well, while it starts.
                    kill(until(lambda pid=pid: self._another_than(pid), "daemon that starts"))  # type: ignore[misc]
            self._wait()
        finally:
            self.senders.stopping.set()

    def _wait(self) -> None:
        before, more = self.senders.counts(), self.draw.randrange(40)

        def through() -> bool:
            now = self.senders.counts()
            everyone = all(count > before[name] for name, count in now.items())
            return everyone and sum(now.values()) >= sum(before.values()) + more

        until(through, "message of every sender")

    def _another_than(self, pid: int) -> int:
        said = self.senders.somebody.home.lock.read_text().strip()
        return int(said) if said.isdigit() and int(said) != pid else 0


def test_nothing_acknowledged_is_lost_or_doubled_however_often_the_daemon_is_killed(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("olive")
    senders = Senders(somebody, opened.room)
    seen: list[t.Message] = []
    for name in ("ann", "ben", "cat"):
        somebody.enters(opened.session_key, name)
    somebody.enters(opened.session_key, "reader")

    async def main() -> None:
        assert opened.session_key is not None
        for name in ("ann", "ben", "cat", "codex", "cursor"):
            senders.enter(name)
        async with trio.open_nursery() as readers:
            readers.start_soon(trio.to_thread.run_sync, lambda: senders.read("reader", seen))
            async with trio.open_nursery() as nursery:
                for work in (
                    lambda: senders.by_client("ann"),
                    lambda: senders.by_client("ben"),
                    lambda: senders.by_command("cat"),
                    Killer(senders, seed=1).run,
                ):
                    nursery.start_soon(trio.to_thread.run_sync, work)
                nursery.start_soon(lambda: senders.by_window("codex", opened.session_key or "", with_keys=True))
                nursery.start_soon(lambda: senders.by_window("cursor", opened.session_key or "", with_keys=False))
            senders.done.set()

    trio.run(main)

    stored = somebody.reads("olive", opened.room)
    assert [message.seq for message in stored] == list(range(1, len(stored) + 1))
    found = {message.text: (message.id, message.seq) for message in stored}
    assert len(found) == len(stored), "a message is there twice"
    sent = [done for each in senders.acknowledged.values() for done in each]
    told = {text: (id or found.get(PeerText(text), ("", 0))[0], seq) for text, id, seq in sent}
    assert found == {"the recap": (stored[0].id, 1), **told}
    for name, done in senders.acknowledged.items():
        mine = [message.text for message in stored if message.text.startswith(f"{name} ")]
        assert mine == [text for text, _, _ in done]
    assert {message.verified for message in stored} == {"valid"}

    # Pages that were not acknowledged before a kill came again; by their ids they are known as the same.
    assert list(dict.fromkeys(message.id for message in seen)) == [message.id for message in stored[1:]]
    everyone = [message.id for message in stored]
    for name in ("ann", "reader"):
        assert [message.id for message in somebody.reads(name, opened.room)] == everyone
    assert somebody.asks("doctor")["ok"] is True
    somebody.stops()
    assert [message.id for message in somebody.reads("olive", opened.room)] == everyone


def test_a_killed_window_gives_its_place_back_at_once_and_was_shown_nothing(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice", context="")

    def author() -> str:
        return somebody.reads("alice", opened.room)[-1].author.name

    async def main() -> None:
        async with window(somebody, "codex") as first:
            (pid,) = somebody.shims("codex")
            await first.call("parler_join_session", key=opened.session_key)
            async with window(somebody, "codex") as second:
                await second.call("parler_join_session", key=opened.session_key)
                await second.call("parler_send", text="second")
                assert author() == "codex@work#2"
                somebody.sends("alice", "for both", room=opened.room)
                assert texts(await first.call("parler_recv"))[-1] == "for both"
                kill(pid)

                # In its place comes a window that is who it was, and is shown again what nobody acknowledged.
                async with window(somebody, "codex") as third:
                    assert texts(await third.call("parler_recv"))[-1] == "for both"
                    await third.call("parler_send", text="third")
                    assert author() == "codex@work"
                assert texts(await second.call("parler_recv"))[0] == "for both"
                await second.call("parler_send", text="second again")
                assert author() == "codex@work#2"
            # The third went in order, so what it was shown it has read.
            async with window(somebody, "codex") as fourth:
                assert texts(await fourth.call("parler_recv")) == ["second again"]

    trio.run(main)


def test_a_kill_while_a_page_is_shown_shows_it_again(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice", context="")

    async def main() -> None:
        async with window(somebody, "codex") as agent:
            await agent.call("parler_join_session", key=opened.session_key)
            somebody.sends("alice", "one", room=opened.room)
            assert texts(await agent.call("parler_recv")) == ["one"]
            somebody.kills_daemon()
            somebody.sends("alice", "two", room=opened.room)
            assert texts(await agent.insist("parler_recv")) == ["one", "two"]
            assert texts(await agent.call("parler_recv")) == []

    trio.run(main)


def test_a_command_that_is_killed_while_it_waits_acknowledged_nothing(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice")
    somebody.enters(opened.session_key, "bob")
    waiting = somebody.starts("recv", "--wait", "60", "--as", "bob", "--json")

    def waits() -> bool:
        with somebody.client("alice") as client:
            roster = client.call("rooms.roster", t.Roster())
        assert isinstance(roster, t.RosterResult)
        return any(member.presence == "waiting" for member in roster.members)

    until(waits, "waiting bob")
    os.kill(waiting.pid, signal.SIGKILL)
    waiting.wait(PATIENCE_S)
    somebody.sends("alice", "one")
    assert [message["text"] for message in somebody.asks("recv", "--as", "bob")["messages"]] == ["one"]
    assert somebody.asks("recv", "--as", "bob")["messages"] == []
