"""A real host at work: a person's HOME in which it is ready to run, a model of its own, and what that model hears.

A talk is a generator: it says a call by the tool's own name and gets the text that the host gave its model for it, and
nothing else. It may say several calls at once, which a host may make at the same time, and gets their texts as one; or
it refuses a request, and gets nothing. `Seat` turns that into what this host's model has to say (its names for tools,
its own steps to find them) and keeps the calls and texts. Not here: what is special about a host (`drivers`), what a
talk says (the tests).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import subprocess
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tests.e2e.hosts.drivers import Driver
from tests.e2e.hosts.programs import command
from tests.e2e.hosts.sandbox import Sandbox
from tests.support.dialects.blocks import Block, Request, says
from tests.support.model_server import ModelServer, Refusal, Script, scripted_model
from tests.support.processes import NONE, Somebody, Variables
from tests.support.reader import brought_nothing, error_in
from tests.support.terminal import Terminal, at_a_terminal

T = TypeVar("T")
Says = Block | Sequence[Block] | Refusal
Talk = Generator[Says, str, None]

LIMIT_S: Final = 120.0
"""For one run. The slowest takes 20 s from its start to its end on two busy cores."""
_LOOK_S: Final = 0.2
_MOST_CALLS: Final = 40
"""Of one seat. The longest talk makes ten; more is a model that is led in a circle."""
_SHOWN: Final = 4_000
"""Characters from the end of what a program printed, for a failure."""
_LAST: Final = 6
"""Calls that are shown for a failure, the last ones."""


_BETWEEN: Final = """\
#!{python}
import json, subprocess, sys, threading
child = subprocess.Popen([{python!r}, *sys.argv[1:]], stdin=subprocess.PIPE)
def hand_on():
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message.get("method") == "initialize":
            message["params"]["clientInfo"]["version"] = {release!r}
            line = json.dumps(message).encode() + b"\\n"
        child.stdin.write(line)
        child.stdin.flush()
    child.stdin.close()
threading.Thread(target=hand_on, daemon=True).start()
sys.exit(child.wait())
"""
"""A program between a host and our shim, which changes one word of the handshake."""


class Heard(NamedTuple):
    """A call, and the text that the model was given for it."""

    call: Block
    text: str

    @property
    def is_wasted(self) -> bool:
        """Whether it was refused, or a read that brought nothing."""
        return error_in(self.text) is not None or brought_nothing(self.text)


class Seat:
    """One host, wired and allowed. `heard` has what its model called and was given, over all runs; `finished` says
    that the talk of the last one came to its end. With `may_be_refused` a talk is told of a refusal and goes on.
    `most_calls` is how many calls it may make in all its life."""

    def __init__(self, somebody: Somebody, driver: Driver, model: ModelServer) -> None:
        self.driver = driver
        self.model = model
        self.may_be_refused = False
        self.most_calls: int | None = _MOST_CALLS
        self.heard: list[Heard] = []
        self._sandbox = Sandbox(somebody, driver.program)
        for path, text in driver.files(model.url, self._sandbox.folder).items():
            self._sandbox.writes(path, text)
        driver.connect(self._sandbox)
        self._numbers = itertools.count(1)
        self.finished = False

    @property
    def settings(self) -> Path:
        """The host's own file in which Parler stands."""
        return self._sandbox.file

    @property
    def folder(self) -> Path:
        """Where the host is started."""
        return self._sandbox.folder

    def writes(self, path: str, text: str) -> None:
        """Let a file of HOME hold that."""
        self._sandbox.writes(path, text)

    def says_release(self, release: str) -> None:
        """From the next start on, let the host say in its handshake that it is that release."""
        python = self._sandbox.entry_command()[0]
        between = self._sandbox.somebody.user / "between"
        between.write_text(_BETWEEN.format(python=python, release=release), encoding="utf-8")
        between.chmod(0o700)
        before = self.settings.read_text(encoding="utf-8")
        assert before.count(f'"{python}"') == 1, before
        self.settings.write_text(before.replace(f'"{python}"', f'"{between}"'), encoding="utf-8")

    @contextmanager
    def sits(
        self, talk: Talk, prompt: str = "Go on.", *options: str, variables: Variables = NONE
    ) -> Iterator[Terminal]:
        """The host at a terminal with a first prompt, and a model that says `talk`."""
        self.plays(talk)
        words = [*command(self.driver.program), *options, *self.driver.terminal(prompt)]
        environment = {**self._sandbox.environment(), **self.driver.variables(self.model.url), **variables}
        for path, text in self.driver.terminal_files(self._sandbox.somebody.user, self.folder).items():
            self._sandbox.writes(path, text)
        with at_a_terminal(words, self.folder, environment) as terminal:
            if self.driver.asks:
                assert terminal.shows(self.driver.asks, LIMIT_S), terminal.printed[-_SHOWN:]
                terminal.enters(prompt)
            yield terminal

    def plays(self, talk: Talk, word: str = "") -> None:
        """From the next request on, let the model say that; with a `word`, where the user said it."""
        self.finished = False
        self.model.play(lambda request: self._voice(talk, request), word)

    @contextmanager
    def runs(
        self,
        talk: Talk,
        *,
        again: bool = False,
        options: Sequence[str] = (),
        variables: Variables = NONE,
        brings: Sequence[str] = (),
        path: Path | None = None,
        window: str = "",
    ) -> Iterator[Run]:
        """The host with a first prompt, and a model that says `talk`; with `again`, the conversation of the run before
        goes on, and with `brings` that command starts the host, which has its program in `path`. `options` stand where
        the host takes them, before its other words. A `window` is a word for the prompt: runs with one each stand
        beside each other and have a conversation and a model each. What is left of it at the end is killed."""
        self.plays(talk, window)
        home = self._sandbox.somebody.user
        out = home / f"{self.driver.program}-{next(self._numbers)}.out"
        if window:
            words = self.driver.beside(f"Go on, {window}.", window)
        else:
            words = self.driver.again("Go on.", home) if again else self.driver.words("Go on.")
        environment = {**self.driver.variables(self.model.url), **variables}
        behind = self.driver.subcommand
        words = [*words[:behind], *options, *words[behind:]]
        child = self._sandbox.begins(words, out, environment, brings=brings, path=path)
        run = Run(self, child, out)
        try:
            yield run
        finally:
            run.kill()

    def wasted(self) -> list[Heard]:
        """The calls that brought nothing: refused, the same again with the same answer, or a read without anything."""
        found = [each for each in self.heard if each.is_wasted]
        for before, after in itertools.pairwise(self.heard):
            same = (before.call.tool, before.call.arguments) == (after.call.tool, after.call.arguments)
            if same and before.text == after.text:
                found.append(after)
        return found

    def _block(self, block: Block) -> Block:
        return replace(self.driver.block(block), tokens=block.tokens) if block.tool else block

    def _voice(self, talk: Talk, request: Request) -> Script:
        try:
            says_now = next(talk)
            while True:
                if isinstance(says_now, Refusal):
                    request = yield says_now
                    says_now = talk.send("")
                    continue
                blocks = [says_now] if isinstance(says_now, Block) else says_now
                for tool in dict.fromkeys(block.tool for block in blocks if block.tool):
                    if (step := self.driver.finds(request, tool)) is not None:
                        request = yield [step]
                known, called = len(request.results), sum(bool(block.tool) for block in blocks)
                request = yield [self._block(block) for block in blocks]
                # Of a conversation that the host compacted, older results are gone.
                came = request.results[known:] or request.results[len(request.results) - called :]
                text = "\n".join(self.driver.text(result) for result in came)
                self.heard.extend(Heard(block, text) for block in blocks)
                assert self.may_be_refused or error_in(text) is None, text
                assert self.most_calls is None or len(self.heard) < self.most_calls, "it is led in a circle"
                says_now = talk.send(text)
        except StopIteration:
            self.finished = True
            yield [says("done")]


class Run:
    """A program that runs."""

    def __init__(self, seat: Seat, child: subprocess.Popen[bytes], out: Path) -> None:
        self._seat = seat
        self._child = child
        self._out = out

    def ends(self) -> None:
        """Wait until it has ended by itself, and see that its model said all that it wanted to."""
        try:
            self._child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {LIMIT_S:.0f} s\n{self}") from None
        self._check()
        assert self._seat.finished, f"it ended before its model had said all\n{self}"

    def ends_within(self, limit_s: float) -> bool:
        """Whether it ends by itself in that time."""
        try:
            self._child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def gets(self, come: queue.Queue[T]) -> T:
        """The next thing that a talk of this run, or of one beside it, puts there. Fails when the program ends."""
        for _ in range(int(LIMIT_S / _LOOK_S)):
            self._check()
            with contextlib.suppress(queue.Empty):
                return come.get(timeout=_LOOK_S)
            assert self._child.poll() is None, f"it ended\n{self}"
        raise AssertionError(f"nothing came in {LIMIT_S:.0f} s\n{self}")

    @property
    def printed(self) -> str:
        """All that it printed, errors included."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it at once, with all of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(LIMIT_S)

    def _check(self) -> None:
        for failure in self._seat.model.failures:
            raise AssertionError(f"the model of {self._seat.driver.program}: {failure!r}\n{self}") from failure

    def __str__(self) -> str:
        printed = self.printed[-_SHOWN:]
        heard = [
            f"{each.call.tool} {dict(each.call.arguments)}\n{each.text[:1000]}" for each in self._seat.heard[-_LAST:]
        ]
        beside = [f"{sorted(each.tools)}: {list(each.users)[-1:]}" for each in self._seat.model.beside]
        name = self._seat.driver.program
        return "\n".join(
            (f"-- {name} printed:", printed, "-- its model heard:", *heard, "-- beside that it was asked:", *beside)
        )


@contextmanager
def seated(somebody: Somebody, driver: Driver) -> Iterator[Seat]:
    """A host that is ready to run; its test is skipped where the program is not there."""
    with scripted_model(driver.is_turn, driver.aside) as model:
        yield Seat(somebody, driver, model)
