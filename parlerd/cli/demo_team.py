"""The second act of the demo: the main job between two people, each with a home of their own, over a relay.

The meeting is the one of the first act (`demo_story`), played in two homes. Before it stand a relay that is made and
added by its line and its secret; in place of the daemon, the relay is killed while both agents send. Not here: printing
(`demo`), the homes (`demo_home`), the relay (`demo_relay`). Invariant: whatever happens, the relay and both homes are
ended, and nothing of the person's own homes is read or written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from parlerd.cli.demo_home import DemoHome
from parlerd.cli.demo_recap import Recap
from parlerd.cli.demo_relay import DemoRelay
from parlerd.cli.demo_story import WAIT_SECS, Act, Step, Story, Teller, import_meanwhile, ms_since
from parlerd.cli.demo_texts import expect, whole_texts
from parlerd.client import connect
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from mcp_server.demo_client import AgentWindow

_NOTES: Final = 6
_OF_FIRST: Final = tuple(f"Note {number} of {_NOTES} from the first home." for number in range(1, _NOTES + 1))
_OF_SECOND: Final = tuple(f"Note {number} of {_NOTES} from the second home." for number in range(1, _NOTES + 1))
"""The texts that are sent while the relay is killed. Each agent sends its next text when the one before is answered, so
that there is one order in which its texts must arrive."""
_KILL_AT: Final = 4
"""After how many answers the relay is killed. The next send of each agent is then somewhere on its way."""
_STEP_SECONDS: Final = 40.0
"""How long one step may take. A daemon that found no relay several times waits some seconds before it dials again."""
_ADD_SECONDS: Final = 12.0
"""How long the proofs between a home and a relay may take."""


class TeamStory(Story):
    """One run of the second act."""

    def __init__(
        self,
        first: DemoHome,
        second: DemoHome,
        relay: DemoRelay,
        recap: Recap,
        directory: Path,
        teller: Teller,
        *,
        keep: bool,
    ) -> None:
        super().__init__(first, recap, directory, teller, keep=keep)
        self._joiner_home = second
        self._step_seconds = _STEP_SECONDS
        self._relay = relay
        # How the relay is, as it told when it last started; None before.
        self._info: t.RelayInfo | None = None
        # Every note, and the number that its sender was told; 0 while the note waits.
        self._notes: dict[str, int] = {}
        # The notes of the other side that each window was shown, in order.
        self._shown: dict[AgentWindow, list[str]] = {}

    def _acts(self) -> tuple[Act, ...]:
        return (
            ("homes", "Starting a daemon in each of two throw-away homes", self._daemons),
            ("relay", "Making a relay on the loopback", self._make_relay),
            ("add", "Both homes add the relay", self._add),
            ("windows", "Opening a window in each home", self._windows),
            *self._meeting(),
            ("crash", "The relay is killed while both send", self._crash),
            ("back", "The relay starts again", self._back),
            ("count", "Counting what each side has", self._count),
            ("handoff", "The turn is handed over", self._handoff),
        )

    # -- the stage -------------------------------------------------------------------------------------------

    async def _daemons(self, step: Step) -> None:
        pids: dict[DemoHome, int] = {}

        async def start(home: DemoHome) -> None:
            pids[home] = await trio.to_thread.run_sync(home.start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(import_meanwhile, "mcp_server.demo_client")
            for home in (self.home, self._joiner_home):
                nursery.start_soon(start, home)
        step.facts = {"pids": [pids[self.home], pids[self._joiner_home]]}
        step.detail = "two people, each with a key and a store of their own" + (
            f" (pids {pids[self.home]} and {pids[self._joiner_home]})"
        )

    async def _make_relay(self, step: Step) -> None:
        self._info = info = await trio.to_thread.run_sync(self._relay.start)
        step.facts = {"pid": info.pid, "name": info.name, "line": info.join_line}
        step.detail = (
            f"{info.name} serves TLS on the loopback (pid {info.pid}); its line is no secret: {info.join_line}"
        )

    async def _add(self, step: Step) -> None:
        info = self._made()
        secret = await trio.to_thread.run_sync(self._relay.secret)
        try:
            await trio.to_thread.run_sync(_add_to, self._joiner_home, info.join_line, "")
        except ParlerError as error:
            expect(error.code == "not_enrolled", f"The line alone was answered with {error.code}.")
        else:
            expect(False, "The line alone let somebody in.")
        for home in (self.home, self._joiner_home):
            added = await trio.to_thread.run_sync(_add_to, home, info.join_line, secret)
            expect(added.status == "added" and added.home.id == info.home, "Another relay was added.")
        step.facts = {"refused_without_secret": True}
        step.detail = "by its line and its join secret; the line alone was refused, and the secret was proved, not sent"

    async def _until_it_waits(self, listener: AgentWindow, *, seen_by: AgentWindow) -> None:
        # Presence goes over a relay every few seconds, so whether somebody waits is asked of their own home.
        del seen_by
        await super()._until_it_waits(listener, seen_by=listener)

    # -- the accident ----------------------------------------------------------------------------------------

    async def _crash(self, step: Step) -> None:
        enough = trio.Event()
        queued: list[str] = []

        async def send(window: AgentWindow, texts: Sequence[str]) -> None:
            shown = self._shown[window] = []
            for text in texts:
                sent = await window.call("parler_send", text=text, key=_key(text))
                expect(sent.is_queued or sent.sent > 0, f"A send was answered: {sent.said}")
                # The answer also shows what the other side said meanwhile.
                shown += await whole_texts(window, sent)
                self._notes[text] = sent.sent
                if sent.is_queued:
                    queued.append(text)
                if len(self._notes) == _KILL_AT:
                    enough.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, self._opener, _OF_FIRST)
            nursery.start_soon(send, self._joiner, _OF_SECOND)
            await enough.wait()
            self._relay.kill()
        for texts in (_OF_FIRST, _OF_SECOND):
            expect(texts[-1] in queued, "The last send to a dead relay was not answered `queued`.")
        step.facts = {"answered": len(self._notes) - len(queued), "queued": len(queued)}
        step.detail = (
            f"SIGKILL after {step.facts['answered']} answers, with both agents sending: {len(queued)} more sends are"
            " answered `queued`, and wait on their own machines"
        )

    async def _back(self, step: Step) -> None:
        before = self._made()
        begun = trio.current_time()
        self._info = after = await trio.to_thread.run_sync(self._relay.start)
        expect(after.pid != before.pid, "The relay was not started again.")
        expect(after.join_line == before.join_line, "The relay came back as another one.")
        step.facts = {"pid": after.pid, "answered_ms": ms_since(begun)}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_all, self._joiner, _OF_FIRST)
            nursery.start_soon(self._hear_all, self._opener, _OF_SECOND)
        step.facts["all_there_ms"] = ms_since(begun)
        # Every send is repeated with its key, also those that were answered: each must still be the same message.
        for window, texts in ((self._opener, _OF_FIRST), (self._joiner, _OF_SECOND)):
            for text in texts:
                again = await window.call("parler_send", text=text, key=_key(text))
                expect(again.is_replay, "A send that was repeated became another message.")
                expect(self._notes[text] in (0, again.sent), "A send that was repeated was given another number.")
                self._texts.sent(text, again.sent)
        step.detail = (
            f"it answers after {step.facts['answered_ms'] / 1000:.2f} s, and all that waited is there after"
            f" {step.facts['all_there_ms'] / 1000:.2f} s, once and in order; to send it again changes nothing"
        )

    async def _hear_all(self, window: AgentWindow, texts: Sequence[str]) -> None:
        """A window is shown exactly these texts, in this order."""
        shown = self._shown[window]
        while len(shown) < len(texts):
            page = await window.call("parler_recv", wait_secs=WAIT_SECS)
            shown += await whole_texts(window, page)
        expect(shown == list(texts), "It was not shown the notes of the other side, each once and in order.")

    async def _count(self, step: Step) -> None:
        found = [text for _, _, text in await self._count_texts()]
        for texts in (_OF_FIRST, _OF_SECOND):
            expect([text for text in found if text in texts] == list(texts), "The notes are in another order.")
        counts = self.counts
        step.facts = dict(counts)
        step.detail = (
            f"{counts['sent']} sent, {counts['stored']} stored, none lost, none doubled;"
            " both homes read the same in the same order"
        )

    # -- afterwards ------------------------------------------------------------------------------------------

    async def _tidy(self, step: Step) -> None:
        homes = (self.home, self._joiner_home)
        for played in (*homes, self._relay):
            self.log += await trio.to_thread.run_sync(played.log_tail)

        def end() -> None:
            # One that cannot be ended keeps none of the others from being ended.
            with ExitStack() as stack:
                for played in (self._relay, *homes):
                    stack.callback(played.end, keep=self._keep)

        await trio.to_thread.run_sync(end)
        kept = [str(home.home.root) for home in (*homes, self._relay)] if self._keep else []
        step.facts = {"homes": kept}
        step.detail = "windows closed, daemons and relay stopped, homes " + (
            f"kept in {', '.join(kept)}" if kept else "removed"
        )

    def _made(self) -> t.RelayInfo:
        assert self._info is not None
        return self._info


def _add_to(home: DemoHome, line: str, secret: str) -> t.HomeAdded:
    with connect(home.home, host="cli", start=False) as client:
        added = client.call("homes.add", t.AddHome(line=line, secret=secret), timeout=_ADD_SECONDS)
    assert isinstance(added, t.HomeAdded)
    return added


def _key(text: str) -> str:
    """The idempotency key of a note."""
    return text.rstrip(".").replace(" ", "-")
