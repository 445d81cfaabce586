"""What a command is given: waiting through a daemon that goes away, a secret that is typed, a yes."""

from __future__ import annotations

import contextlib
import io
import os
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from parlerd.cli.context import AGAIN_S, Context
from parlerd.cli.output import Output, Progress
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.answers import message, page
from tests.support.cli import Keyboard, Terminal
from tests.support.fake_client import FakeDaemon
from tests.support.processes import PATIENCE_S, until


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def context(daemon: FakeDaemon, clock: Clock) -> Context:
    ctx = Context(Output(io.StringIO(), io.StringIO()), Home(Path("/h")), {}, daemon.connect, stdin=io.BytesIO())
    ctx.monotonic = lambda: clock.now
    ctx.sleep = clock.sleep
    return ctx


def waited(ctx: Context, deadline: float | None) -> t.Received:
    return ctx.wait_for(
        "message.recv",
        lambda wait_ms: t.Recv(wait_ms=wait_ms),
        t.Received,
        deadline=deadline,
        until=lambda got: bool(got.messages),
    )


def test_a_daemon_that_was_stopped_is_waited_for_and_not_started() -> None:
    daemon, clock = FakeDaemon(), Clock()
    ctx = context(daemon, clock)

    def comes_back(seconds: float) -> None:
        Clock.sleep(clock, seconds)
        daemon.down = len(clock.slept) < 3

    def stops(_params: t.Params) -> t.Result:
        daemon.down = True
        raise ParlerError("draining")

    ctx.sleep = comes_back
    daemon.answers("message.recv", stops, page(message()))
    assert waited(ctx, None).messages
    assert clock.slept == [AGAIN_S] * 3
    assert [start for _name, start in daemon.opened] == [True, *[False] * 4]


def test_a_daemon_that_died_is_started_again_at_once() -> None:
    daemon, clock = FakeDaemon(), Clock()
    daemon.answers("message.recv", ParlerError("connection_lost"), page(message()))
    assert waited(context(daemon, clock), None).messages
    assert clock.slept == []
    assert [start for _name, start in daemon.opened] == [True, True]


def test_a_deadline_ends_the_wait_with_the_last_answer() -> None:
    daemon, clock = FakeDaemon(), Clock()

    def takes_its_time(params: t.Params) -> t.Result:
        assert isinstance(params, t.Recv)
        clock.now += params.wait_ms / 1000
        return page()

    daemon.answers("message.recv", takes_its_time)
    assert waited(context(daemon, clock), clock.now + 120).messages == []
    waits = [params.wait_ms for params in daemon.params_of("message.recv") if isinstance(params, t.Recv)]
    assert waits == [50_000, 50_000, 20_000]


def test_a_refusal_is_not_tried_again() -> None:
    daemon, clock = FakeDaemon(), Clock()
    daemon.answers("message.recv", ParlerError("no_such_room"))
    with pytest.raises(ParlerError, match="no_such_room"):
        waited(context(daemon, clock), None)
    assert len(daemon.asked) == 1


def test_what_has_no_idempotency_key_is_sent_once() -> None:
    daemon, clock = FakeDaemon(), Clock()
    daemon.answers("session.approve", ParlerError("connection_lost"))
    with pytest.raises(ParlerError, match="connection_lost"):
        context(daemon, clock).call("session.approve", t.DecideJoin(agent="U1"), t.Decided)
    assert len(daemon.asked) == 1


class Shown(Output):
    """An output that remembers what it was told takes long."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self.under_way: list[str] = []
        self.told: list[str] = []

    @contextlib.contextmanager
    def progress(self, text: str, *, after_s: float = 1.0) -> Iterator[Progress]:
        self.told.append(text)
        self.under_way.append(text)
        with super().progress(text, after_s=after_s) as progress:
            yield progress
        self.under_way.pop()


def test_every_call_says_that_it_is_under_way_while_it_is() -> None:
    out, seen = Shown(), list[str]()
    daemon = FakeDaemon()

    def answer(_params: t.Params) -> t.Result:
        seen.extend(out.under_way)
        return t.RoomList(rooms=[])

    daemon.answers("rooms.list", answer)
    ctx = Context(out, Home(Path("/h")), {}, daemon.connect, stdin=io.BytesIO())
    ctx.call("rooms.list", t.ListRooms(), t.RoomList)
    assert seen == ["Waiting for the daemon's answer"]
    assert out.told == ["Starting the daemon", "Waiting for the daemon's answer"]


def test_a_terminal_does_not_show_a_secret_that_is_typed_and_shows_the_next_words_again(tmp_path: Path) -> None:
    master, slave = os.openpty()
    shown = termios.tcgetattr(slave)[3] & termios.ECHO
    assert shown
    typed: list[str] = []
    with open(slave, "rb", buffering=0, closefd=False) as stdin:
        errors = io.StringIO()
        ctx = Context(Output(io.StringIO(), errors), Home(tmp_path), {}, FakeDaemon().connect, stdin=stdin)
        reader = threading.Thread(target=lambda: typed.append(ctx.read_secret("Secret: ")))
        reader.start()
        # What is typed before the terminal hides it is thrown away, so the hand waits for that.
        until(lambda: not termios.tcgetattr(slave)[3] & termios.ECHO, "terminal that hides what is typed")
        os.write(master, b"A3KE7-DJRQ2\n")
        reader.join(PATIENCE_S)
    assert typed == ["A3KE7-DJRQ2"]
    assert termios.tcgetattr(slave)[3] & termios.ECHO == shown
    assert errors.getvalue() == "Secret: \n"
    os.close(slave)
    os.close(master)


def test_an_answer_that_is_no_yes_changes_nothing(tmp_path: Path) -> None:
    for answer in (b"", b"\n", b"n\n", b"yess\n"):
        for words, yes in (
            (("--as", "bob", "end", "my turn"), "parler --as bob end 'my turn' --yes"),
            (("end", "--", "--room"), "parler end --yes -- --room"),
        ):
            ctx = _asking(tmp_path, answer, words)
            with pytest.raises(ParlerError) as refused:
                ctx.agree("This ends it.")
            assert refused.value.code == "needs_yes"
            assert refused.value.hint.endswith(f": {yes}")
    _asking(tmp_path, b"Y\n", ("end",)).agree("This ends it.")


def _asking(home: Path, answer: bytes, words: Sequence[str]) -> Context:
    out = Output(Terminal(), Terminal())
    return Context(out, Home(home), {}, FakeDaemon().connect, words=words, stdin=Keyboard(answer))
