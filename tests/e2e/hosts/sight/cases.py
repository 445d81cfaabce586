"""What happens to a host while its model reads: each case is a function of a bench, and says for which hosts it is.

A case that cannot get where it needs to be raises `NotThere`. What follows from a case is in `truth`: a case asserts
nothing, because the same is asked of all of them.
"""

from __future__ import annotations

import itertools
import os
import queue
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from parlerd.sight.port import GONE_S
from parlerd.sight.watching import LOOK_S
from tests.e2e.hosts.seat import Talk
from tests.e2e.hosts.sight.bench import LIMIT_S, Bench, NotThere
from tests.support.dialects.blocks import Block, Request, calls, says
from tests.support.model_server import Refusal
from tests.support.processes import Variables
from tests.support.terminal import ESCAPE, INTERRUPT, Terminal

MANY: Final = 40
"""Short messages of one page or two."""
MOST: Final = 800
"""Short messages of several pages: half the time of a case is its host's start, so that many messages in one are
cheap."""
_HOLDS_S: Final = 6.0
"""How long a model thinks while somebody stops it."""
_COMPACTS: Final = {"gemini": "/compress", "qwen": "/compress"}
_LONG: Final = 6_000
"""Characters of a message that no host cuts, and of which sixty make a conversation long."""
_FULL: Final = 1_000_000
"""Tokens with which a host finds its conversation too long."""
_BEFORE: Final[dict[str, tuple[int, ...]]] = {"cline": (2_000,) * 80}
"""Sizes of messages that stand before, for a host that goes by its own guess at how long its request is: it takes the
server's word for four times as much as it guesses, and no more."""
_SUMMARISES_EARLIER: Final = ("gemini",)
"""Hosts that make a summary of earlier turns alone, so that there has to be one."""
_YOU: Final = re.compile(r"You are (\S+) in ")
_CLEARS: Final = {"codex": "/new", "opencode": "/new", "kilo": "/new", "grok": "/new", "kimi": "/new"}
_STOPS: Final = {
    "grok": (INTERRUPT,),
    "copilot": (ESCAPE, ESCAPE),
    "opencode": (ESCAPE, ESCAPE),
    "kilo": (ESCAPE, ESCAPE),
}
_NOT_RECORDED: Final = {
    "claude": ("--no-session-persistence",),
    "codex": ("--ephemeral",),
    "qwen": ("--chat-recording", "false"),
}
"""Options that let a host write no record."""
_CUTS: Final[dict[str, Variables]] = {
    "claude": {"MAX_MCP_OUTPUT_TOKENS": "800"},
    "grok": {"MAX_MCP_OUTPUT_BYTES": "3000"},
    "cline": {"CLINE_MESSAGE_BUILDER_MAX_TOOL_RESULT_CHARS": "3000"},
}
"""Variables that let a host cut what Parler takes for short enough."""
_MOVED: Final = {"claude": "CLAUDE_CONFIG_DIR", "codex": "CODEX_HOME", "kimi": "KIMI_CODE_HOME"}
_FOLDERS: Final = {"kimi": ".kimi-code"}
"""Where a host keeps everything, where that is not its program's name with a dot."""
_AT_A_TERMINAL: Final = ("claude", "codex", "gemini", "opencode", "qwen", "copilot", "cline", "kilo", "grok", "kimi")
"""droid wants its maker's server for that."""
_COMPACTED_BY_HAND: Final = tuple(program for program in _AT_A_TERMINAL if program != "cline")
"""Cline makes nothing of `/compact` when a script types it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `programs` are those that it can be done with; without any, all."""

    name: str
    play: Callable[[Bench], None]
    programs: tuple[str, ...] = ()


def _goes_on() -> Talk:
    """The model says something to whatever comes, and never the same: some hosts ask again after a reply that they have
    had before."""
    for number in itertools.count(1):
        yield says(f"I go on, and say so {number} times.")


class _Met:
    """Where a talk and the case meet: the model has come in; there is something to read; the model was given it; the
    case is done with it."""

    def __init__(self) -> None:
        self.joined: queue.Queue[None] = queue.Queue()
        self.sent = threading.Event()
        self.given: queue.Queue[None] = queue.Queue()
        self.done = threading.Event()

    def join(self, bench: Bench) -> Talk:
        yield from bench.joins()
        self.joined.put(None)
        self.sent.wait(LIMIT_S)


def _sizes(bench: Bench) -> None:
    bench.sends(200, 300, 20_000, 60_000, 200)
    bench.runs_through(bench.joins())


def _page(bench: Bench) -> None:
    bench.sends_many(MOST)
    bench.runs_through(bench.joins())


def _waiting(bench: Bench) -> None:
    """The model has come in and reads again and again, while messages come."""
    met = _Met()

    def talk() -> Talk:
        yield from met.join(bench)
        for _ in range(3):
            yield from bench.reads()
            bench.sends_many(MANY // 2)
        yield from bench.reads()

    with bench.seat.runs(talk()) as run:
        run.gets(met.joined)
        bench.sends_many(MANY)
        met.sent.set()
        bench.ends(run)
    bench.ends_shims()


def _parallel(bench: Bench) -> None:
    def talk() -> Talk:
        yield from bench.joins()
        bench.sends_many(MANY)
        text = yield [calls("parler_recv", limit=10), calls("parler_recv", limit=10), calls("parler_rooms")]
        yield from bench.reads_on(text)

    bench.runs_through(talk())


def _refused(bench: Bench) -> None:
    def talk() -> Talk:
        yield from bench.joins()
        bench.sends_many(MANY // 2)
        yield calls("parler_recv")
        yield Refusal()

    bench.runs_through(talk())
    bench.sends_many(4)
    bench.runs_through(bench.reads(), again=True)


def _refused_for_good(bench: Bench) -> None:
    def talk() -> Talk:
        yield from bench.joins()
        bench.sends_many(MANY // 2)
        yield calls("parler_recv")
        yield Refusal()

    bench.runs_through(talk())


def _resumed(bench: Bench) -> None:
    bench.sends_many(MANY // 4)
    bench.runs_through(bench.joins())
    bench.sends_many(MANY // 4)
    bench.runs_through(bench.reads(), again=True)


def _killed(what: Callable[[Bench, Callable[[], None]], None]) -> Callable[[Bench], None]:
    """While the model thinks about what it was given, something is killed."""

    def play(bench: Bench) -> None:
        met = _Met()

        def talk() -> Talk:
            yield from met.join(bench)
            yield calls("parler_recv", limit=10)
            met.given.put(None)
            met.done.wait(LIMIT_S)
            yield says("I have read that.")

        with bench.seat.runs(talk()) as run:
            run.gets(met.joined)
            bench.sends_many(MANY // 2)
            met.sent.set()
            run.gets(met.given)
            what(bench, run.kill)
            met.done.set()
            run.ends_within(_HOLDS_S)
        bench.ends_shims()
        bench.runs_through(bench.reads(), again=True)

    return play


def _host_is_killed(bench: Bench, kill: Callable[[], None]) -> None:
    del bench
    kill()


def _daemon_is_killed(bench: Bench, kill: Callable[[], None]) -> None:
    del kill
    bench.person.kills_daemon()


def _shim_is_killed(bench: Bench, kill: Callable[[], None]) -> None:
    del kill
    for pid in bench.person.shims(bench.driver.host):
        os.kill(pid, signal.SIGKILL)


def _killed_at_once(bench: Bench) -> None:
    """The host is killed as the answer of its model is on its way: before it is written down, or after."""
    for turn in ("window-a", "window-b"):
        met = _Met()

        def talk(met: _Met = met) -> Talk:
            yield from met.join(bench)
            yield calls("parler_recv", limit=8)
            met.given.put(None)
            yield says("I have read that.")

        # A conversation each: what is left of one that was killed cannot always be begun again.
        with bench.seat.runs(talk(), window=turn) as run:
            run.gets(met.joined)
            bench.sends_many(8)
            met.sent.set()
            run.gets(met.given)
            time.sleep(bench.random.random() * 0.2)
            run.kill()
        bench.ends_shims()


def _cut(bench: Bench) -> None:
    """The host is told to let through less than Parler counts on."""
    bench.sends_many(MANY)
    with bench.seat.runs(bench.joins(), variables=_CUTS[bench.driver.program]) as run:
        bench.ends(run)
    bench.ends_shims()
    bench.runs_through(bench.reads(), again=True)


def _subagent(bench: Bench) -> None:
    """The model lets another one read, which has a record of its own."""

    def talk() -> Talk:
        yield from bench.joins()
        bench.sends_many(MANY // 4)
        asks = {"description": "Read", "prompt": "Read what came.", "subagent_type": "general-purpose"}
        yield calls("Agent", **asks)
        yield calls("parler_recv")
        yield says("I have read that.")

    bench.sends_many(MANY // 4)
    bench.runs_through(talk())


# -- at a terminal ---------------------------------------------------------------------------------------------


def _stop(bench: Bench, types: Callable[[str], None]) -> None:
    for key in _STOPS.get(bench.driver.program, (ESCAPE,)):
        types(key)
        time.sleep(0.5)


def _stopped_before(bench: Bench) -> None:
    """Somebody stops the turn while the call still waits, and then a message comes."""
    met = _Met()

    def talk() -> Talk:
        yield from met.join(bench)
        yield calls("parler_recv", wait_secs=20)
        yield says("I go on.")
        yield from bench.reads()

    with bench.seat.sits(talk()) as terminal:
        bench.gets(met.joined)
        met.sent.set()
        time.sleep(1.5)
        _stop(bench, terminal.types)
        time.sleep(1.0)
        bench.sends(200, 300)
        bench.settles()
        bench.asks(terminal, "Next please.")


def _stopped_after(bench: Bench) -> None:
    """Somebody stops the turn when the answer was written and the model thinks about it."""
    met = _Met()

    def talk() -> Talk:
        yield from met.join(bench)
        yield calls("parler_recv")
        met.given.put(None)
        met.done.wait(_HOLDS_S)
        yield says("I have read that.")
        yield says("I go on.")

    with bench.seat.sits(talk()) as terminal:
        bench.gets(met.joined)
        bench.sends(200, 300, 200)
        met.sent.set()
        bench.gets(met.given)
        time.sleep(0.4)
        _stop(bench, terminal.types)
        time.sleep(0.8)
        met.done.set()
        bench.settles()
        bench.asks(terminal, "Next please.")


def _compact(bench: Bench, terminal: Terminal) -> None:
    before = len(bench.seat.model.exchanges)
    # After a request that failed, Cline CLI takes the first words for a key that closes its notice.
    for _ in range(2):
        terminal.enters(_COMPACTS.get(bench.driver.program, "/compact"))
        if bench.waits_for(lambda: any(each.replied for each in bench.seat.model.exchanges[before:]), 20.0):
            break
    else:
        raise NotThere(f"{bench.driver.program} makes no summary")
    bench.settles()


def _compacted(bench: Bench) -> None:
    """The request that carries the result fails, and then the person lets the host make a summary of all."""
    met = _Met()

    def talk() -> Talk:
        yield from met.join(bench)
        yield calls("parler_recv")
        met.given.put(None)
        yield Refusal()
        yield from _goes_on()

    with bench.seat.sits(talk()) as terminal:
        bench.gets(met.joined)
        bench.sends(200, 300)
        met.sent.set()
        bench.gets(met.given)
        time.sleep(3.0)
        _compact(bench, terminal)
        bench.asks(terminal, "Next please.")


def _compacted_by_hand(bench: Bench) -> None:
    """What the model was shown, and answered, is made a summary of by the person; what stands there stays true."""
    met = _Met()

    def talk() -> Talk:
        yield from met.join(bench)
        yield calls("parler_recv")
        met.given.put(None)
        yield says("I have read that.")
        yield from _goes_on()

    with bench.seat.sits(talk()) as terminal:
        bench.gets(met.joined)
        bench.sends(200, 300)
        met.sent.set()
        bench.gets(met.given)
        bench.settles()
        _compact(bench, terminal)
        bench.asks(terminal, "Next please.")


def _compacted_midway(bench: Bench) -> None:
    """The host finds its conversation too long when the answer came, and makes a summary before it asks on."""
    earlier = bench.driver.program in _SUMMARISES_EARLIER
    if earlier:
        bench.sends(200)
        bench.runs_through(bench.joins())
    bench.sends(*_BEFORE.get(bench.driver.program, ()))

    def talk() -> Talk:
        yield from bench.reads() if earlier else bench.joins()
        bench.sends(200, 300)
        yield replace(calls("parler_recv"), tokens=_FULL)
        yield from _goes_on()

    bench.runs_through(talk(), again=earlier)
    if not any(bench.driver.is_summary(each.request) for each in list(bench.seat.model.exchanges)):
        raise NotThere(f"{bench.driver.program} makes no summary")


def _compacted_at_length(bench: Bench) -> None:
    """A conversation that is long, which the host compacts by itself, and perhaps more than once."""

    def talk() -> Talk:
        bench.sends(*[_LONG] * 60)
        yield from bench.joins()
        for _ in range(2):
            bench.sends(200, 300)
            yield replace(calls("parler_recv"), tokens=_FULL)
        bench.sends(200, 300)
        yield calls("parler_recv")
        yield says("I have read it all.")

    bench.runs_through(talk())


def _compacted_beside(bench: Bench) -> None:
    """The summary takes its time, and the conversation goes on meanwhile."""

    def summary(request: Request) -> Sequence[Block]:
        if bench.driver.is_summary(request):
            time.sleep(_HOLDS_S / 2)
        return bench.driver.aside(request)

    def talk() -> Talk:
        bench.sends_many(MANY)
        yield from bench.joins()
        bench.sends(200, 300)
        yield replace(calls("parler_recv"), tokens=_FULL)
        for _ in range(10):
            time.sleep(_HOLDS_S / 10)
            bench.sends(200, 300)
            yield calls("parler_recv")
        yield says("I have read that.")

    bench.seat.model.aside = summary
    bench.runs_through(talk())


def _two_windows(bench: Bench) -> None:
    """Two conversations of one host at once, of which one is killed as its model thinks; the other goes on."""
    left, right = _Met(), _Met()
    mets = {"left": left, "right": right}

    def talk(window: str, *, stays: bool) -> Talk:
        met = mets[window]
        text = yield calls("parler_join_session", key=bench.key)
        if (named := _YOU.search(text)) is None:
            raise NotThere(f"{bench.driver.program}: {text[:200]}")
        bench.windows[window] = named[1]
        yield from bench.reads_on(text)
        met.joined.put(None)
        met.sent.wait(LIMIT_S)
        yield from bench.reads()
        met.joined.put(None)
        met.done.wait(LIMIT_S)
        yield calls("parler_recv", limit=10)
        met.given.put(None)
        if not stays:
            met.done.clear()
            met.done.wait(_HOLDS_S)
        yield says("I have read that.")

    with (
        bench.seat.runs(talk("left", stays=True), window="left") as stays,
        bench.seat.runs(talk("right", stays=False), window="right") as goes,
    ):
        runs = ((stays, left), (goes, right))
        for run, met in runs:
            run.gets(met.joined)
        bench.sends_many(MANY // 2)
        for _, met in runs:
            met.sent.set()
        for run, met in runs:
            run.gets(met.joined)
        bench.sends_many(MANY // 4)
        right.done.set()
        goes.gets(right.given)
        goes.kill()
        left.done.set()
        stays.gets(left.given)
        bench.ends(stays)
    bench.ends_shims()


def _newer(bench: Bench) -> None:
    """The host says of itself that it is a release that nobody has measured."""
    bench.seat.says_release("999.0.0")
    bench.sends_many(MANY // 4)
    bench.runs_through(bench.joins())


def _cleared(bench: Bench) -> None:
    """A conversation is read in, thrown away, and read in again."""

    def talk() -> Talk:
        yield from bench.joins()
        yield says("I have read that.")
        bench.sends(200, 300)
        yield from bench.reads()
        yield says("I have read that too.")

    bench.sends(200, 300)
    with bench.seat.sits(talk()) as terminal:
        if not bench.waits_for(lambda: bool(bench.seat.heard)):
            raise AssertionError("it did not begin")
        bench.settles()
        terminal.enters(_CLEARS.get(bench.driver.program, "/clear"))
        time.sleep(2.0)
        bench.asks(terminal, "Next please.")
        bench.waits_for(lambda: bench.seat.finished, 10.0)
        bench.settles()


# -- where the record is ---------------------------------------------------------------------------------------


def _not_recorded(bench: Bench) -> None:
    bench.sends_many(MANY // 4)
    options = _NOT_RECORDED[bench.driver.program]
    with bench.seat.runs(bench.joins(), options=options) as run:
        bench.ends(run)
    bench.ends_shims()
    # So long Parler waits for what a host that ended may still write.
    time.sleep(GONE_S + LOOK_S)


def _moved(bench: Bench) -> None:
    """The host keeps everything in another folder. Parler's entry is where it was, and is moved along."""
    home, program = bench.person.user, bench.driver.program
    bench.sends_many(MANY // 4)
    there, usual = home / "elsewhere", home / _FOLDERS.get(program, f".{program}")
    if usual.exists():
        shutil.copytree(usual, there)
    else:
        there.mkdir()
    if program == "claude":
        shutil.copy(home / ".claude.json", there / ".claude.json")
    variables: Variables = {_MOVED[program]: str(there)}
    with bench.seat.runs(bench.joins(), variables=variables) as run:
        bench.ends(run)
    bench.ends_shims()


CASES: Final = (
    Case("sizes", _sizes),
    Case("page", _page),
    Case("waiting", _waiting),
    Case("parallel", _parallel),
    Case("resumed", _resumed),
    Case("refused", _refused),
    Case("refused for good", _refused_for_good),
    Case("cut", _cut, tuple(_CUTS)),
    Case("subagent", _subagent, ("claude",)),
    Case("host killed", _killed(_host_is_killed)),
    Case("daemon killed", _killed(_daemon_is_killed)),
    Case("shim killed", _killed(_shim_is_killed)),
    Case("killed at once", _killed_at_once),
    Case("not recorded", _not_recorded, tuple(_NOT_RECORDED)),
    Case("moved", _moved, tuple(_MOVED)),
    Case("stopped before", _stopped_before, _AT_A_TERMINAL),
    Case("stopped after", _stopped_after, _AT_A_TERMINAL),
    Case("compacted", _compacted, _COMPACTED_BY_HAND),
    Case("compacted by hand", _compacted_by_hand, _COMPACTED_BY_HAND),
    Case("compacted midway", _compacted_midway),
    Case("compacted at length", _compacted_at_length),
    Case("compacted beside", _compacted_beside, ("copilot",)),
    Case("two windows", _two_windows),
    Case("newer release", _newer),
    Case("cleared", _cleared, _AT_A_TERMINAL),
)
KILLS: Final = ("host killed", "daemon killed", "shim killed", "killed at once", "two windows")
