"""`parler demo`: the main job, end to end, in a throw-away home, told step by step with timings.

`parler demo --team` plays its second act, between two homes and over a relay. This module shows the steps and chooses
the exit code. Not here: the steps (`demo_story`, `demo_team`), the recap that they begin with (`demo_recap`), the home
(`demo_home`), the relay (`demo_relay`). Invariant: the command exits 0 only if every step held, and only after
everything was cleaned up.
"""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from parlerd.cli.context import Context
from parlerd.cli.output import DONE, FAILED, Output

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.cli.demo_recap import Recap
    from parlerd.cli.demo_story import Step, Story

NEXT: Final = "parler connect"
NEXT_OF_TEAM: Final = "parler connect --team"
_TITLES: Final = {
    "daemon": "A daemon starts",
    "homes": "Two daemons start",
    "relay": "A relay is made",
    "add": "Both homes add it",
    "windows": "Two windows open",
    "open": "One opens a session",
    "knock": "The other knocks",
    "blind": "It sees nothing",
    "approve": "A person decides",
    "landed": "It lands caught up",
    "talk": "They talk",
    "kill": "The daemon is killed",
    "crash": "The relay is killed",
    "back": "The relay is back",
    "count": "Nothing is missing",
    "handoff": "The turn goes over",
    "tidy": "All is cleaned up",
}


class _Act(NamedTuple):
    """The words of one of the demo's two acts: what is said before it, what its log is, and how a person goes on."""

    greeting: str
    command: str
    log: str
    says_next: str
    next: str


_ALONE: Final = _Act(
    "Parler: two agents, one conversation, and a person who decides.",
    "parler demo",
    "The daemon's last words:",
    "Next, connect the agents on this machine:",
    NEXT,
)
_TEAM: Final = _Act(
    "Parler: two people, each with a home of their own, and a relay between the two.",
    "parler demo --team",
    "The last words of the daemons and of the relay:",
    "Next, on the machine that shall be the relay of your team:",
    NEXT_OF_TEAM,
)


def run(ctx: Context, args: Namespace) -> int:
    """Play the demo. Raises KeyboardInterrupt once all is cleaned up, and `ParlerError`: `invalid_param` for a file
    that cannot be used; `needs_person` where an agent host plays the second act, because only a person adds a relay."""
    from parlerd.cli.demo_recap import recap_of_file, recap_of_repository

    act = _ALONE
    if args.team:
        from parlerd.cli.team import require_person

        require_person()
        act = _TEAM
    directory = _here()
    recap = recap_of_file(Path(args.context_file)) if args.context_file else recap_of_repository(directory)
    teller = _Teller(ctx.out, act.greeting)
    begun = ctx.monotonic()
    story, interrupted = _play(recap, directory, teller, keep=args.keep, team=args.team)
    if interrupted:
        raise KeyboardInterrupt
    if teller.lost is not None:
        raise teller.lost
    seconds = ctx.monotonic() - begun
    if ctx.out.json:
        ctx.out.document(_document(story, seconds, act))
    else:
        _conclude(ctx.out, story, seconds, act, says_next=not args.no_next)
    return DONE if story.held else FAILED


def _play(recap: Recap, directory: Path, teller: _Teller, *, keep: bool, team: bool) -> tuple[Story, bool]:
    """The story after it was played, and whether a signal ended it early."""
    import trio

    interrupted = False

    async def main() -> Story:
        # From now on a signal ends the story as a broken step does, and everything is cleaned up.
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            story = _story(recap, directory, teller, keep=keep, team=team)
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal interrupted
                    async for _ in signals:
                        interrupted = True
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await story.play()
                nursery.cancel_scope.cancel()
        return story

    return trio.run(main), interrupted


def _story(recap: Recap, directory: Path, teller: _Teller, *, keep: bool, team: bool) -> Story:
    from parlerd.cli.demo_home import DemoHome
    from parlerd.cli.demo_story import Story

    if not team:
        return Story(DemoHome(), recap, directory, teller, keep=keep)
    from parlerd.cli.demo_relay import DemoRelay
    from parlerd.cli.demo_team import TeamStory

    return TeamStory(DemoHome(), DemoHome(), DemoRelay(), recap, directory, teller, keep=keep)


def _here() -> Path:
    try:
        return Path(os.getcwd())
    except OSError:
        return Path("/")  # the directory was removed; any folder that is no repository will do


class _Teller:
    """Shows the story as it happens: a line for each step, and below it what was said in this step."""

    def __init__(self, out: Output, greeting: str) -> None:
        self._out = out
        # How many steps were shown.
        self._count = 0
        # What was said in the step under way: who, and the text.
        self._said: list[tuple[str, str]] = []
        self.lost: OSError | None = None
        """Why the output cannot be written any more. The story goes on to its end, which cleans up."""
        if not out.json:
            out.say((greeting, "bold"))
            out.say()

    def doing(self, what: str) -> AbstractContextManager[object]:
        return self._out.progress(what, after_s=0.0)

    def said(self, who: str, text: str) -> None:
        self._said.append((who, text))

    def done(self, step: Step) -> None:
        said, self._said = self._said, []
        self._count += 1
        if self._out.json or self.lost is not None:
            return
        try:
            self._show(step, said)
        except OSError as error:
            self.lost = error

    def _show(self, step: Step, said: list[tuple[str, str]]) -> None:
        out = self._out
        mark: tuple[str, Any] = ("ok", "good") if step.ok else ("BROKEN", "bad")
        number, title = f"{self._count:2}", f"{_TITLES[step.name]:21}"
        out.say((f"{number}  ", "dim"), (title, "bold"), (f"{step.ms / 1000:7.3f} s  ", "dim"), mark)
        out.say("      ", step.detail)
        for who, text in said:
            out.say("      ", (who, "name"))
            out.text(text, indent="      ")
        out.flush()


def _document(story: Story, seconds: float, act: _Act) -> dict[str, Any]:
    return {
        "ok": story.held,
        "elapsed_ms": round(seconds * 1000),
        "steps": [
            {"step": step.name, "ok": step.ok, "ms": round(step.ms, 1), "detail": step.detail, **step.facts}
            for step in story.steps
        ],
        "messages": story.counts,
        "log": [] if story.held else story.log,
        "next": act.next,
    }


def _conclude(out: Output, story: Story, seconds: float, act: _Act, *, says_next: bool) -> None:
    out.say()
    if not story.held:
        broken = next(step.name for step in story.steps if not step.ok)
        out.note(("The demo broke", "bad"), f" at `{broken}`, after {seconds:.1f} s. {act.log}")
        for line in story.log:
            out.note("  ", line)
        hint = f"`{act.command} --keep` leaves its home for a look; `parler doctor` checks this install."
        out.note(("hint: ", "dim"), hint)
        return
    count = story.counts
    told = f"{count['sent']} messages sent, {count['stored']} stored, {count['lost']} lost, {count['doubled']} doubled."
    out.say((f"All {len(story.steps)} steps held, in {seconds:.1f} s: ", "good"), told)
    if says_next:
        out.say(act.says_next)
        out.paste(act.next)
