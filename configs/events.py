"""The hooks of a host as data: at which of its events it runs ours, what it makes of the answer, and what is written.

A host says this in its own file under `configs/hosts`, as the field `hooks`. Not here: how the entries get into a
settings file and out again (`configs.hooks`), what our hook says at an event (`mcp_server.stdio.hook`, to which
`mcp_server.static` hands the `answers` of every host). Above: the files of the hosts, `configs.model`. Below: nothing
of ours that does anything. Invariant: each event stands once in the hooks of a host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

HookAnswer = Literal["context", "added", "block", "follow up", "wait"]
"""What a host makes of what our hook prints at an event.

`context` and `added`: it shows the text to its model beside what the person typed; the two differ in the JSON that the
host reads. `block`: it goes on with the turn instead of ending it. `follow up`: it begins a turn with the text. `wait`:
it keeps the hook running in the background, and begins a turn when the hook ends.
"""

WAITER: Final = "Wait"
"""The event of the waiter. No host has an event of this name: it is our own word for a hook that a host keeps running
in the background."""
PROMPT_S: Final = 5
"""Seconds that a host gives a hook which answers at once; ours ends itself within two."""
WAIT_S: Final = 8 * 3600 + 60
"""Seconds that a host gives the waiter: a little more than the waiter takes itself."""


class Run(msgspec.Struct, frozen=True):
    """Stands in an entry for the command that the host is to run at `event`."""

    event: str


class Hook(msgspec.Struct, frozen=True):
    """Our hook at one event of a host.

    `event` is the host's name of the event, and the key of the event's list below `hooks` in the host's file. `entry`
    is the element that we add to that list, with `Run` in the place of each command.
    """

    event: str
    answer: HookAnswer
    entry: dict[str, Any]


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """The hooks of one host.

    `files` are templates of the host's settings file, of which the first that can be expanded counts; `format` is the
    language of that file. `beside` is what the file must also say where we create it. `rather` are files that hold
    nothing but hooks, so that the key `hooks` is left out in them: where one of them exists, the host does not look for
    hooks in `files`, and ours go there. `off` is what the first of `files` says when the host is to run no hook at all.
    `after` is what a person does next.
    """

    files: tuple[str, ...]
    rather: tuple[str, ...] = ()
    format: Literal["json", "jsonc", "toml"]
    events: tuple[Hook, ...]
    beside: tuple[tuple[tuple[str, ...], Any], ...] = ()
    off: tuple[tuple[str, ...], Any] | None = None
    after: str = ""

    @property
    def answers(self) -> dict[str, HookAnswer]:
        """What the host makes of our answer, by the event that our command names; the waiter's among them."""
        found: dict[str, HookAnswer] = {each.event: each.answer for each in self.events}
        if any(name == WAITER for each in self.events for name in _run(each.entry)):
            found[WAITER] = "wait"
        return found


def grouped(event: str, answer: HookAnswer, *, waits: bool = False) -> Hook:
    """A hook in the shape of Claude Code's settings, which several hosts took over; `waits` adds the waiter to it."""
    commands: list[dict[str, Any]] = [{"type": "command", "command": Run(event), "timeout": PROMPT_S}]
    if waits:
        commands.append({"type": "command", "command": Run(WAITER), "asyncRewake": True, "timeout": WAIT_S})
    return Hook(event, answer, {"hooks": commands})


def _run(value: Any) -> Iterator[str]:
    """The events of the commands in an entry."""
    if isinstance(value, Run):
        yield value.event
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _run(each)
