"""One host with the real Parler, watched by sight, and what is said of each message in the end.

An agent of the shell opens a session and writes; the host's model joins and reads. Texts are random letters, so that no
text of one message is found in another one, and each ends with a marker of its own: so the record of the host can also
be judged afterwards, without the daemon (`records`). Not here: what happens to the host meanwhile (`cases`), what was
true (`truth`).
"""

from __future__ import annotations

import os
import queue
import random
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import psutil

from configs.hosts import find_host
from parlerd.core.judge import Answer, Judge
from parlerd.core.sight import expected
from parlerd.operations import types as t
from tests.e2e.hosts.drivers import Driver
from tests.e2e.hosts.seat import Run, Seat, Talk, seated
from tests.e2e.hosts.sight.samples import entries
from tests.e2e.hosts.sight.truth import Outcome, Seen
from tests.support.dialects.blocks import Block, calls
from tests.support.processes import Somebody, environment_of, until
from tests.support.reader import next_read
from tests.support.terminal import Terminal

SETTLES_S: Final = 10.0
"""How long a verdict may take after the last thing that a host did. A verdict comes half a second after the host's own
flush, and no host was seen to flush later than 0.3 s after a reply; the rest is for a busy machine."""
NOTHING_S: Final = 3.0
"""How long what was not shown may still become something else than pending: in some hosts it stays so for minutes, and
what would be said to be shown is said as soon as the rest."""
LIMIT_S: Final = 120.0
"""For one thing that a host is about to do. The slowest one takes 40 s to begin on two busy cores."""
STAYS_S: Final = 8.0
"""How long something of a host may outlive its window. By themselves all are gone in half a second, or stay."""
_WRITES_S: Final = 4.0
"""How long a host at a terminal may take to write down a reply, before it is ended: what it wrote nowhere proves
nothing. The slowest one takes two seconds on two busy cores."""
_LOOK_S: Final = 0.05
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
Said = tuple[str, str]
"""What is said of a message, and why."""


class NotThere(Exception):
    """A host did not get to where a case needs it: the case says nothing about it."""


class Bench:
    """One host in somebody's HOME. `sent` is what was written to it, by the message's id."""

    def __init__(self, person: Somebody, seat: Seat, seed: int) -> None:
        self.person = person
        self.seat = seat
        self.random = random.Random(seed)
        self.sent: dict[str, str] = {}
        self.windows: dict[str, str] = {}
        """Names of readers by the word of their window, where a case has several; each is then held against its own
        model's log."""
        seat.may_be_refused = True
        seat.most_calls = None
        opened = person.opens("alice")
        assert opened.session_key is not None
        self.key = opened.session_key
        self._room = opened.room

    @property
    def driver(self) -> Driver:
        return self.seat.driver

    # -- what is written ---------------------------------------------------------------------------------------

    def sends(self, *sizes: int) -> None:
        """Write a message of each of these sizes, in characters, of which the marker takes 22."""
        with self.person.client("alice") as client:
            for size in sizes:
                letters = "".join(self.random.choices(_LETTERS, k=max(size - 22, 8)))
                text = f"{letters} rcpt-{self.random.randbytes(8).hex()}"
                sent = client.call("message.send", t.Send(text=text, room=self._room))
                assert isinstance(sent, t.Sent)
                self.sent[sent.id] = text

    def sends_many(self, count: int) -> None:
        """Write short messages, each of 40 to 400 characters."""
        self.sends(*(self.random.randint(40, 400) for _ in range(count)))

    # -- what the model says -----------------------------------------------------------------------------------

    def joins(self) -> Generator[Block, str, None]:
        """The model comes in and reads all there is."""
        text = yield calls("parler_join_session", key=self.key)
        yield from self.reads_on(text)

    def reads(self, **arguments: int) -> Generator[Block, str, None]:
        """The model reads, until there is no more."""
        text = yield calls("parler_recv", **arguments)
        yield from self.reads_on(text)

    def reads_on(self, text: str) -> Generator[Block, str, None]:
        """The model follows the calls that bring what is there already."""
        while (call := next_read(text)) is not None:
            text = yield call

    # -- what happens ------------------------------------------------------------------------------------------

    def gets(self, come: queue.Queue[None]) -> None:
        """Wait until a talk has got there. Raises `NotThere`."""
        try:
            come.get(timeout=LIMIT_S)
        except queue.Empty:
            raise NotThere(f"{self.driver.program}: {self.seat.model.failures}") from None

    def waits_for(self, look: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
        """Whether that comes to be in time."""
        deadline = time.monotonic() + limit_s
        while not look():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def runs_through(self, talk: Talk, *, again: bool = False) -> None:
        """One run without a terminal, to its end; a host that does not end is ended."""
        with self.seat.runs(talk, again=again) as run:
            self.ends(run)
        self.ends_shims()

    def ends(self, run: Run) -> None:
        """Wait for the end of a run, but not for ever: some hosts stay when a request failed."""
        run.ends_within(LIMIT_S)

    def asks(self, terminal: Terminal, words: str) -> None:
        """Type that at the host's prompt, and wait for the model's next answer."""
        before = len(self.seat.model.exchanges)
        terminal.enters(words)
        if not self.waits_for(lambda: any(each.replied and each.turn for each in self.seat.model.exchanges[before:])):
            raise NotThere(f"{self.driver.program}: nothing was asked after {words!r}")
        self.settles(_WRITES_S)

    def settles(self, seconds: float = 1.5) -> None:
        """Let the host write down what was just said: nothing tells when it has."""
        time.sleep(seconds)

    def ends_shims(self) -> None:
        """Wait until the host's shim is gone, so that the next run has one of its own. What of the host outlives its
        window for long is ended: Cline's hub does when its window was killed before the hub knew of the window."""
        if not self.waits_for(lambda: not self.person.shims(self.driver.host), STAYS_S):
            for pid in self.person.shims(self.driver.host):
                parent = psutil.Process(pid).ppid()
                if (environment_of(parent) or {}).get("HOME") == str(self.person.user):
                    os.kill(parent, signal.SIGKILL)
        until(lambda: not self.person.shims(self.driver.host), "end of the shim")

    # -- what is said ------------------------------------------------------------------------------------------

    def told(self, reader: str = "", window: str = "") -> dict[str, Said]:
        """What Parler says of each message, when it has made up its mind or had the time for it: of that reader, or of
        whoever got farthest. A `window` says whose model was shown what."""
        seen = self._seen(window)
        shown = {id for id, text in self.sent.items() if seen.holds(text)}
        began = time.monotonic()
        while True:
            now = self._told(reader)
            waits = {id for id, (verdict, _) in now.items() if verdict == "pending"}
            spent = time.monotonic() - began
            if not waits or spent > SETTLES_S or (spent > NOTHING_S and not waits & shown):
                return now
            time.sleep(_LOOK_S)

    def is_shown(self, count: int) -> bool:
        """Whether Parler says by now that the first so many messages were shown."""
        return all(verdict == "shown" for verdict, _ in list(self._told("").values())[:count])

    def _seen(self, window: str) -> Seen:
        exchanges = [each for each in self.seat.model.exchanges if window in "\n".join(each.request.users)]
        return Seen(exchanges, self.driver.is_summary, self.driver.text)

    def _told(self, reader: str) -> dict[str, Said]:
        found: dict[str, Said] = {}
        with self.person.client("alice") as client:
            for id in self.sent:
                why = client.call("message.why", t.Why(id=id))
                assert isinstance(why, t.WhyResult)
                readers = [each for each in why.readers if (each.name == reader if reader else each.name != "alice")]
                sights = [each.sight for each in readers if not isinstance(each.sight, msgspec.UnsetType)]
                best = sorted(sights, key=lambda sight: sight.verdict not in ("shown", "quoted"))
                found[id] = (best[0].verdict, best[0].reason) if best else ("none", "in no answer")
        return found

    def judged(self) -> dict[str, Said]:
        """What the host's record proves of each message, when it is read from its beginning after all is over."""
        record = find_host(self.driver.host).sight
        assert record is not None
        said: dict[str, Said] = {}
        for found in entries(record, self.person.user):
            answers = {id: Answer([expected(text)]) for id, text in self.sent.items() if id not in said}
            by_marker = {next(iter(answer.left)): id for id, answer in answers.items()}
            judge = Judge(record, self.driver.host)
            for entry in found:
                for verdict in judge.entry(entry, list(answers.values())):
                    id = by_marker[verdict.marker]
                    if id not in said or verdict.verdict == "shown":
                        said[id] = verdict.verdict, verdict.reason
                    if not verdict.stays:
                        del answers[id].left[verdict.marker]
        return {id: said.get(id, ("none", "nothing in the record")) for id in self.sent}

    def found(self, case: str) -> list[Outcome]:
        """What became of every message of this case, for each window."""
        if not self.windows:
            return self.outcomes(case, self.told())
        return [
            each
            for window, reader in self.windows.items()
            for each in self.outcomes(case, self.told(reader, window), window)
        ]

    def outcomes(self, case: str, said: dict[str, Said], window: str = "") -> list[Outcome]:
        """Every message of this case with what is true of it, where the user said the word of a window."""
        seen = self._seen(window)
        return [
            Outcome(self.driver.host, case, len(text), seen.holds(text), *said[id]) for id, text in self.sent.items()
        ]


@contextmanager
def bench(person: Somebody, driver: Driver, seed: int = 0, *, watched: bool = True) -> Iterator[Bench]:
    """A host that is ready to run, and watched; skipped where the program is not there."""
    person.trusts_everyone()
    with seated(person, driver) as seat:
        if watched:
            person.asks("connect", "--sight", driver.host, "--yes")
        yield Bench(person, seat, seed)
