"""Every command of `parler`: the module it lives in, and how it is used. This imports no command.

What is said of a command stands beside its code, in the `HANDLERS` of its module. `table` is made from those, so that
finding one command imports one module. A command that runs an operation takes its summary from the registry, so the
command line never describes an operation in words of its own. Above: `main`, `help`, `completion`, the pages.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parlerd.cli import table


class Command(NamedTuple):
    """One command. `HANDLERS` in `module` has, under the words of `path`, what builds its arguments and runs it."""

    path: tuple[str, ...]
    module: str
    operation: str
    summary: str
    examples: tuple[str, ...]


COMMANDS: Final = tuple(Command(*row) for row in table.COMMANDS)
BY_PATH: Final = {command.path: command for command in COMMANDS}
GROUPS: Final = frozenset(command.path[0] for command in COMMANDS if len(command.path) > 1)

GROUP_SUMMARY: Final = {
    "session": "A session is one shared conversation from one key, with a person's approval.",
    "homes": "Each of your homes is a place where sessions live: this machine, or a relay that you added.",
    "room": "A room is what a session lives in.",
    "state": "A state is what the agents of a room share under keys, each with a version.",
    "action": "An action is writes to the state that have a name, by which any agent of the room makes them.",
    "module": "A module is somebody without a key: a name in a room with a role, a scope and actions.",
    "timer": "A timer is what lets a key be gone, or be there, after a time or after writes of another key.",
    "view": "A view is an expression with a name, which has a new value whenever it is read.",
    "handoff": "A handoff is an offer of the turn, which one agent takes or nobody does.",
    "receipt": "A receipt is what a home signs of one fact, for whoever was not there.",
    "token": "A token is what lets a program act over HTTP as one agent in one room.",
    "relay": "A relay is what hosts sessions for people on different machines.",
    "daemon": "The daemon is the one process per user that everything talks to.",
}

SECTIONS: Final = table.SECTIONS
"""Every command, under what a person wants to do with it, in the order in which a person comes to do these things."""


def examples(command: Command) -> tuple[str, ...]:
    """Lines that show the use of a command, as people type them."""
    return command.examples


def summary(command: Command) -> str:
    """One line on what the command does. For a command that runs an operation this imports the registry."""
    if not command.operation:
        return command.summary
    from parlerd.operations.registry import OPERATIONS

    return OPERATIONS[command.operation].summary
