"""The main job as the demo plays it: twelve steps, each checked by what the two windows were really shown.

Two agents stand in for what a person has open. One opens a session and shares its context; the other knocks, waits, is
let in by the person's code, and talks. In the middle the daemon is killed. The story knows no more than a window of an
agent host would, except for two things: the pid that it kills, and the code, which a person reads on one side and types
on the other. The code goes through the form of security spec A2, so the demo also works where an agent host runs it and
no command may decide.

Not here: printing (`demo`), the home (`demo_home`), the client (`mcp_server.demo_client`). Invariants: no step runs
after a broken one; whatever happens, every window is closed and the home is ended.
"""

from __future__ import annotations

import importlib
import os
import signal
import statistics
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from parlerd.cli.demo_home import DemoHome
from parlerd.cli.demo_recap import Recap
from parlerd.cli.demo_texts import TELLING, Broken, Texts, expect, visible, whole_texts
from parlerd.core.errors import ParlerError
from parlerd.groups import unwrapped

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mcp_server.demo_client import AgentWindow
    from mcp_server.heard import Heard, Part

STEP_SECONDS: Final = 15.0
"""How long one step may take. All steps together take a few seconds, so one that takes this long is broken."""
WAIT_SECS: Final = 45
"""How long an agent would wait in one call. No wait of the story takes this long, because whoever waits is woken."""
_CUT_OFF_SECONDS: Final = 1.0
"""How long a call that was under way when the daemon was killed may take to be answered, by its shim."""
LOOK_SECONDS: Final = 0.005
TOPIC: Final = "demo"
TOOLS: Final = frozenset(
    f"parler_{name}"
    for name in ("open_session", "join_session", "send", "recv", "handoff", "rooms", "leave", "approve")
)

_TALK: Final = (
    "I have read the recap. I take what is left; is anything decided that is not in it?",
    "Only that the tests come first. Tell me when they pass.",
    "The first one is written and fails, as it should.",
    "Good. The login form can wait.",
    "It passes now: three lines in the token store.",
    "Then go on with rotation.",
)
_LANES: Final = 3
_BURST: Final = tuple(f"Note {number} of 12, while the daemon dies." for number in range(1, 13))
"""The texts that are sent while the daemon is killed. There are `_LANES` tasks, and each sends its next text when the
one before is answered."""
_KILL_AT: Final = 4
"""After how many answers the daemon is killed. The next send of each task is then somewhere on its way."""
_STATE: Final = "Rotation done, its tests pass."
_NEXT: Final = "Wire the login form to the new endpoints."


@dataclass
class Step:
    """One step. `detail` is for a person, `facts` for a script."""

    name: str
    ok: bool = False
    ms: float = 0.0
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


Act = tuple[str, str, Callable[[Step], Awaitable[None]]]
"""The name of a step, what is done in it, in a person's words, and what plays it."""


class Teller(Protocol):
    """Who shows the story while it happens."""

    def doing(self, what: str) -> AbstractContextManager[object]:
        """A step is under way."""
        ...

    def done(self, step: Step) -> None:
        """A step is over, well or not."""
        ...

    def said(self, who: str, text: str) -> None:
        """An agent sent something."""
        ...


class Story:
    """One run. `play` plays all of it, and `steps` then says how each step went."""

    def __init__(self, home: DemoHome, recap: Recap, directory: Path, teller: Teller, *, keep: bool) -> None:
        self.home = home
        self.steps: list[Step] = []
        """The steps that were played, in order; the last one may be broken."""
        self.log: list[str] = []
        """The end of the daemon's log, taken when the home is ended."""
        self.recap = Recap(visible(recap.text), recap.source)
        """The recap as every reader is shown it, so that texts can be compared to the letter."""
        self._directory = directory
        self._teller = teller
        # Whether the home stays after the run.
        self._keep = keep
        # How long one step may take.
        self._step_seconds = STEP_SECONDS
        # The home in which the joiner's window stands.
        self._joiner_home = home
        # What was sent, and what was found again.
        self._texts = Texts(self.recap.text)
        # What the person will type into the next forms.
        self._codes: list[str] = []
        # The session key and the room that the opener was given, and the code that the joiner was shown.
        self._key = ""
        self._room = ""
        self._code = ""
        self._open_windows: list[AgentWindow] = []
        # What each window is called in the room, once the joiner is in.
        self._names: dict[AgentWindow, str] = {}
        # What the joiner's waiting call was answered with, and when.
        self._joined: Heard | None = None
        self._joined_after = 0.0

    async def play(self) -> None:
        """Play all steps, or up to the first that breaks."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for name, doing, act in self._acts():
                    if not await self._step(name, doing, act):
                        break
                self._close_windows(nursery)
        except* Exception as group:
            # A window ended by itself, which also ended the step that was under way.
            step = self.steps[-1]
            step.ok, step.detail = False, f"A window broke: {unwrapped(group, first_of_several=True)}"
            self._teller.done(step)
        finally:
            with trio.CancelScope(shield=True):
                await self._step("tidy", "Cleaning up", self._tidy)

    def _acts(self) -> tuple[Act, ...]:
        return (
            ("daemon", "Starting a daemon in a throw-away home", self._daemon),
            ("windows", "Opening two agent windows", self._windows),
            *self._meeting(),
            ("kill", "The daemon is killed", self._kill),
            ("count", "Counting what each side has", self._count),
            ("handoff", "The turn is handed over", self._handoff),
        )

    def _meeting(self) -> tuple[Act, ...]:
        return (
            ("open", "One opens a session", self._open),
            ("knock", "The other knocks", self._knock),
            ("blind", "It looks around from outside", self._blind),
            ("approve", "The person decides", self._approve),
            ("landed", "It comes in", self._landed),
            ("talk", "They talk", self._talk),
        )

    @property
    def held(self) -> bool:
        """Whether every step was as it should be."""
        return bool(self.steps) and all(step.ok for step in self.steps)

    @property
    def counts(self) -> dict[str, int]:
        """How many messages were sent, stored, lost and doubled."""
        return self._texts.counts

    async def _step(self, name: str, doing: str, act: Callable[[Step], Awaitable[None]]) -> bool:
        step = Step(name)
        self.steps.append(step)
        begun = trio.current_time()
        try:
            with self._teller.doing(doing), trio.fail_after(self._step_seconds):
                await act(step)
            step.ok = True
        except* trio.TooSlowError:
            step.detail = f"This took longer than {self._step_seconds:.0f} s."
        except* (Broken, ParlerError, OSError) as group:
            step.detail = str(unwrapped(group, first_of_several=True))
        except* Exception as group:
            # The client of a window may raise anything when the daemon misbehaves. The demo tells it in a sentence.
            error = unwrapped(group, first_of_several=True)
            step.detail = f"{type(error).__name__}: {error}"
        step.ms = (trio.current_time() - begun) * 1000
        self._teller.done(step)
        return step.ok

    # -- the stage -------------------------------------------------------------------------------------------

    async def _daemon(self, step: Step) -> None:
        async with trio.open_nursery() as nursery:
            # The import takes most of a second, which passes while the daemon starts.
            nursery.start_soon(import_meanwhile, "mcp_server.demo_client")
            begun = trio.current_time()
            self._pid = await trio.to_thread.run_sync(self.home.start)
            step.facts = {"pid": self._pid, "answered_ms": ms_since(begun)}
        step.detail = f"it answered after {step.facts['answered_ms']:.0f} ms, in a throw-away home (pid {self._pid})"

    async def _windows(self, step: Step) -> None:
        elsewhere = self._joiner_home.directory / "worktree"
        (elsewhere / ".git").mkdir(parents=True)
        self._opener = self._window("claude-code", self._directory, self.home)
        self._joiner = self._window("codex", elsewhere, self._joiner_home)
        ready: list[float] = []

        async def start(window: AgentWindow) -> None:
            begun = trio.current_time()
            await self._nursery.start(window.run)
            tools = await window.tools()
            ready.append(ms_since(begun))
            expect(set(tools) >= TOOLS, f"The tools are {', '.join(tools)}.")
            step.facts["tools"] = len(tools)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, self._opener)
            nursery.start_soon(start, self._joiner)
        step.facts["ready_ms"] = [round(ms, 1) for ms in ready]
        step.detail = (
            f"two MCP clients, each through its own shim: Claude Code's part and Codex's part;"
            f" {step.facts['tools']} tools listed after {max(ready):.0f} ms"
        )

    def _window(self, host: str, directory: Path, home: DemoHome) -> AgentWindow:
        from mcp_server.demo_client import AgentWindow, ToolError

        self._tool_error = ToolError
        window = AgentWindow(home.shim_command(host), name=host, directory=directory, person=self._person)
        self._open_windows.append(window)
        return window

    async def _person(self, _message: str) -> str | None:
        """The person at the opener's host, who types into a form what they read on the joiner's side."""
        await trio.lowlevel.checkpoint()
        return self._codes.pop(0) if self._codes else None

    # -- the door --------------------------------------------------------------------------------------------

    async def _open(self, step: Step) -> None:
        opened = await self._opener.call("parler_open_session", context=self.recap.text, topic=TOPIC)
        expect(opened.asks_person, "The session can be entered without asking a person.")
        self._key, self._room = opened.session_key, opened.room
        step.facts = {"room": self._room, "context": self.recap.source, "characters": len(self.recap.text)}
        step.detail = f"{self.recap.source}, {len(self.recap.text):,} characters; the key to hand over is {self._key}"

    async def _knock(self, step: Step) -> None:
        pending = await self._joiner.call("parler_join_session", key=self._key, wait_secs=0)
        expect(pending.status == "pending", f"The door answered {pending.status or pending.said}.")
        expect(not pending.parts, "It was shown messages before anyone let it in.")
        self._code = pending.join_code
        step.facts = {"status": pending.status, "code": self._code}
        step.detail = f"pending: a person decides. Its own side shows the code {self._code}"

    async def _blind(self, step: Step) -> None:
        rooms = await self._joiner.call("parler_rooms")
        expect(not rooms.entries, "It sees a room.")
        tried = 0
        for tool, arguments in (
            ("parler_recv", {"room": self._room}),
            ("parler_recv", {"room": self._room, "since": 0}),
            ("parler_send", {"room": self._room, "text": "let me in"}),
            ("parler_rooms", {"action": "roster", "room": self._room}),
        ):
            try:
                await self._joiner.call(tool, **arguments)
            except self._tool_error as error:
                expect(error.code == "no_such_room", f"{tool} answered {error.code}.")
                tried += 1
            else:
                raise Broken(f"{tool} worked from outside.")
        expect(await self._joiner.read(f"parler://room/{self._room}/messages") is None, "It can read the room.")
        everything = "\n".join(self._joiner.shown)
        telling = [line for line in self.recap.text.splitlines() if len(line) > TELLING]
        leaked = [line for line in telling if _in_json(line) in everything]
        expect(not leaked, f"It was shown of the context: {leaked[:1]}")
        step.facts = {"refused": tried + 1}
        step.detail = f"no room, no message, not one line of the context: {tried + 1} ways to look, all refused"

    async def _approve(self, step: Step) -> None:
        self._codes = [""]
        try:
            await self._opener.call("parler_approve")
        except self._tool_error as error:
            expect(error.code == "form_undecided", f"An empty form was answered with {error.code}.")
        else:
            raise Broken("An empty form let it in.")
        self._codes = [self._code]
        async with trio.open_nursery() as nursery:

            async def wait_at_the_door() -> None:
                self._joined = await self._joiner.call("parler_join_session", key=self._key, wait_secs=WAIT_SECS)
                self._joined_after = trio.current_time()

            nursery.start_soon(wait_at_the_door)
            decided = await self._opener.call("parler_approve")
            answered = trio.current_time()
        decision = decided.decision
        expect(decision is not None and decision.admitted, f"The answer was: {decided.said}")
        expect(decision is not None and decision.by_person and not self._codes, "It was let in without the form.")
        step.facts = {"proof": "form", "woken_after_ms": round((self._joined_after - answered) * 1000, 2)}
        step.detail = "the person typed that code into a form at the first window; an empty form had decided nothing"

    async def _landed(self, step: Step) -> None:
        joined = self._joined
        if joined is None or joined.status != "joined":
            raise Broken(f"The door answered {joined.status or joined.said if joined else 'nothing'}.")
        expect(len(joined.messages) == 1, f"It was shown {len(joined.messages)} messages.")
        (recap,) = joined.messages
        (text,) = await whole_texts(self._joiner, joined)
        expect(text == self.recap.text, "The context is not what was opened with.")
        expect(recap.verified, f"Of its signature is said: {', '.join(recap.facts)}.")
        self._names = {self._opener: recap.author, self._joiner: joined.you}
        roster = await self._opener.call("parler_rooms", action="roster")
        present = {member.name for member in roster.entries}
        expect(present == set(self._names.values()), f"In the room are {', '.join(sorted(present))}.")
        step.facts = {"characters": len(text), "verified": "valid", "names": list(self._names.values())}
        step.detail = (
            f"{self._names[self._joiner]} has all {len(text):,} characters, word for word, signed by {recap.author}"
        )

    # -- the conversation ------------------------------------------------------------------------------------

    async def _talk(self, step: Step) -> None:
        wakes: list[float] = []
        speaker, listener = self._joiner, self._opener
        for text in _TALK:
            wakes.append(await self._say_to_one_who_waits(speaker, listener, text))
            speaker, listener = listener, speaker
        step.facts = {"messages": len(_TALK), "wake_ms": [round(ms, 2) for ms in wakes]}
        step.detail = (
            f"{len(_TALK)} messages, each to one who waited: there after {statistics.median(wakes):.1f} ms"
            f" ({max(wakes):.1f} ms at most)"
        )

    async def _say_to_one_who_waits(self, speaker: AgentWindow, listener: AgentWindow, text: str) -> float:
        """Milliseconds from the send to the other side's waiting call having answered with it."""
        page: Heard | None = None
        woken = 0.0

        async def listen() -> None:
            nonlocal page, woken
            page = await listener.call("parler_recv", wait_secs=WAIT_SECS)
            woken = trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await self._until_it_waits(listener, seen_by=speaker)
            begun = trio.current_time()
            sent = await speaker.call("parler_send", text=text)
        self._texts.sent(text, sent.sent)
        self._teller.said(self._names[speaker], text)
        message = _only(page)
        expect(await whole_texts(listener, _heard(page)) == [text], "The other side was shown another text.")
        expect(message.author == self._names[speaker], "The other side was told another author.")
        return (woken - begun) * 1000

    async def _until_it_waits(self, listener: AgentWindow, *, seen_by: AgentWindow) -> None:
        while True:
            roster = await seen_by.call("parler_rooms", action="roster")
            member = roster.entry(self._names[listener])
            if member is not None and "waiting" in member.facts:
                return
            await trio.sleep(LOOK_SECONDS)

    # -- the accident ----------------------------------------------------------------------------------------

    async def _kill(self, step: Step) -> None:
        keys = {text: f"note-{number}" for number, text in enumerate(_BURST, 1)}
        answered: list[str] = []
        lost: list[str] = []
        shown: set[int] = set()
        enough = trio.Event()

        async def send(texts: Iterator[str]) -> None:
            for text in texts:
                try:
                    sent = await self._opener.call("parler_send", text=text, key=keys[text])
                except self._tool_error as error:
                    expect(error.retryable, f"A send that was cut off was answered {error.code}.")
                    expect(error.key == keys[text], "A send that was cut off was answered with another key.")
                    lost.append(text)
                    return
                answered.append(text)
                self._texts.sent(text, sent.sent)
                if len(answered) == _KILL_AT:
                    enough.set()

        async def listen() -> None:
            try:
                while True:
                    page = await self._joiner.call("parler_recv", wait_secs=WAIT_SECS)
                    shown.update(page.seqs)
            except self._tool_error as error:
                expect(error.retryable, f"A wait that was cut off was answered {error.code}.")
            cut_off.set()

        texts, cut_off = iter(_BURST), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await self._until_it_waits(self._joiner, seen_by=self._opener)
            async with trio.open_nursery() as sending:
                for _ in range(_LANES):
                    sending.start_soon(send, texts)
                await enough.wait()
                os.kill(self._pid, signal.SIGKILL)
                killed = trio.current_time()
            # A wait that reached its window after the daemon died is not cut off: it goes on at the next daemon.
            with trio.move_on_after(_CUT_OFF_SECONDS):
                await cut_off.wait()
            nursery.cancel_scope.cancel()
        # Every send is repeated with its key, also those that were answered: each must still be the same message.
        replayed = 0
        for text in (*answered, *lost):
            again = await self._opener.call("parler_send", text=text, key=keys[text])
            step.facts.setdefault("back_after_ms", ms_since(killed))
            if text in answered:
                expect(again.is_replay, "A send that was repeated became another message.")
                expect(again.sent == self._texts.number_of(text), "A send that was repeated was given another number.")
            else:
                replayed += again.is_replay
                self._texts.sent(text, again.sent)
        for text in texts:
            sent = await self._opener.call("parler_send", text=text)
            self._texts.sent(text, sent.sent)
        repeated = await self._catch_up({self._texts.number_of(text) for text in _BURST}, shown)
        pid = await trio.to_thread.run_sync(self.home.daemon)
        expect(pid not in (0, self._pid), "The daemon was not started again.")
        self._pid = pid
        step.facts |= {
            "answered": len(answered),
            "unanswered": len(lost),
            "unanswered_but_stored": replayed,
            "shown_again": repeated,
            "pid": pid,
        }
        step.detail = (
            f"SIGKILL after {len(answered)} answers, with {len(lost)} sends and a wait under way; a new one answers"
            f" {step.facts['back_after_ms'] / 1000:.2f} s later. The {len(lost)} are sent again with their keys:"
            f" {replayed} had been stored already"
        )

    async def _catch_up(self, wanted: set[int], seen: set[int]) -> int:
        """Read on until all of `wanted` was seen. Gives how many messages were shown again, because the page that first
        showed them was not acknowledged."""
        repeated = 0
        while not wanted <= seen:
            page = await self._joiner.call("parler_recv", wait_secs=WAIT_SECS)
            repeated += len(seen.intersection(page.seqs))
            seen.update(page.seqs)
        return repeated

    async def _count(self, step: Step) -> None:
        await self._count_texts()
        counts = self.counts
        why = await self._opener.call("parler_rooms", action="why", id=str(self._texts.number_of(_TALK[1])))
        reader = why.entry(self._names[self._joiner])
        stages = list(reader.words) if reader is not None else ["nowhere"]
        expect("acknowledged" in stages, f"The first answer only got as far as {stages[-1]}.")
        step.facts = {**counts, "ladder": stages}
        step.detail = (
            f"{counts['sent']} sent, {counts['stored']} stored, none lost, none doubled;"
            " both sides read the same in the same order"
        )

    async def _count_texts(self) -> list[tuple[int, str, str]]:
        """What both sides read, which is the same and holds each text once. Raises `Broken` otherwise."""
        mine, theirs = [await self._read_all(window) for window in (self._opener, self._joiner)]
        expect(mine == theirs, "The two sides do not read the same.")
        self._texts.found(mine)
        counts = self.counts
        expect(counts["lost"] == counts["doubled"] == 0, f"{counts['lost']} lost, {counts['doubled']} doubled.")
        return mine

    async def _read_all(self, window: AgentWindow) -> list[tuple[int, str, str]]:
        """(number, author, text) of every message this window may see, looked back at without marking anything as
        read."""
        found: list[tuple[int, str, str]] = []
        call: dict[str, Any] | None = {"room": self._room, "since": 0}
        while call is not None:
            page = await window.call("parler_recv", **call)
            for message, text in zip(page.messages, await whole_texts(window, page), strict=True):
                author = self._names[window] if message.author == "you" else message.author
                found.append((message.seq, author, text))
            # A message that was cut was read to its end by calls that do not say whether further messages follow.
            cut = page.rest_call is not None
            call = {"room": self._room, "since": found[-1][0]} if cut else page.more_call
        return found

    async def _handoff(self, step: Step) -> None:
        page: Heard | None = None

        async def listen() -> None:
            nonlocal page
            page = await self._opener.call("parler_recv", wait_secs=WAIT_SECS)

        to = self._names[self._opener]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await self._until_it_waits(self._opener, seen_by=self._joiner)
            await self._joiner.call("parler_handoff", next=_NEXT, state=_STATE, **{"for": to})
        message = _only(page)
        expect(message.turn_to == "you", "It does not say that the turn is its own.")
        expect(message.text == _NEXT, "It was told another thing to do.")
        expect(_heard(page).further(message.seq, "state") == _STATE, "It was told another state.")
        self._teller.said(self._names[self._joiner], f"{_STATE} Next: {_NEXT}")
        step.facts = {"for": to}
        step.detail = f"{to} waited, and has the turn and what to do next"

    # -- afterwards ------------------------------------------------------------------------------------------

    def _close_windows(self, nursery: trio.Nursery) -> None:
        for window in self._open_windows:
            window.close()
        nursery.cancel_scope.deadline = trio.current_time() + STEP_SECONDS

    async def _tidy(self, step: Step) -> None:
        self.log = await trio.to_thread.run_sync(self.home.log_tail)
        await trio.to_thread.run_sync(lambda: self.home.end(keep=self._keep))
        kept = str(self.home.home.root) if self._keep else None
        step.facts = {"home": kept}
        step.detail = f"windows closed, daemon stopped, home {f'kept in {kept}' if kept else 'removed'}"


async def import_meanwhile(module: str) -> None:
    await trio.to_thread.run_sync(importlib.import_module, module)


def _heard(page: Heard | None) -> Heard:
    if page is None:
        raise Broken("A call was not answered.")
    return page


def _only(page: Heard | None) -> Part:
    messages = _heard(page).messages
    expect(len(messages) == 1, f"It was shown {len(messages)} messages instead of one.")
    return messages[0]


def _in_json(line: str) -> str:
    import json

    return json.dumps(line, ensure_ascii=False)[1:-1]


def ms_since(since: float) -> float:
    return round((trio.current_time() - since) * 1000, 1)
