"""Every command of `parler`, and where it lives. A table: nothing here imports a command.

A command that runs an operation takes its summary from the registry, so the command line never describes an operation
in words of its own; the others say theirs here.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """`module.HANDLERS[path[-1]]` builds the arguments and runs the command."""

    path: tuple[str, ...]
    module: str
    operation: str = ""
    summary: str = ""


def _c(path: str, module: str, operation: str = "", summary: str = "") -> Command:
    return Command(tuple(path.split()), f"parlerd.cli.{module}", operation, summary)


COMMANDS: Final = (
    _c("session open", "session", "session.open"),
    _c("session join", "session", "session.join"),
    _c("session requests", "session", "session.requests"),
    _c("session approve", "session", "session.approve"),
    _c("session deny", "session", "session.deny"),
    _c("session close", "session", "session.close"),
    _c("session list", "session", "session.list"),
    _c("session revoke", "session", "session.revoke"),
    _c("approvals", "approvals", "approvals.list"),
    _c("send", "messages", "message.send"),
    _c("recv", "messages", "message.recv"),
    _c("handoff", "messages", "handoff.give"),
    _c("why", "messages", "message.why"),
    _c("rooms", "rooms", "rooms.list"),
    _c("roster", "rooms", "rooms.roster"),
    _c("whoami", "rooms", "agent.whoami"),
    _c("watch", "watch", "room.watch"),
    _c("connect", "connect", summary="Add Parler to the settings of every agent host on this machine."),
    _c("daemon start", "daemon", summary="Start the daemon if it is not running, and wait until it answers."),
    _c("daemon stop", "daemon", "daemon.stop"),
    _c("daemon restart", "daemon", summary="Stop the daemon and start it again."),
    _c("daemon status", "daemon", "daemon.status"),
    _c("daemon logs", "daemon", summary="The end of the daemon's log."),
    _c("doctor", "doctor", summary="A checkup that names the fix for each thing that is wrong. Changes nothing."),
    _c("demo", "program", summary="The main job, end to end, on this machine, in a throw-away home."),
    _c("version", "program", summary="The version of this install and of the daemon."),
    _c("mcp", "program", summary="The MCP server on stdin and stdout, as agent hosts start it."),
    _c("hook", "hook", summary="How much waits, in an agent host's own words: what `connect --wake` has hosts run."),
    _c("completion", "completion", summary="The script that completes commands in bash, zsh or fish."),
    _c("help", "help", summary="What there is, or what a command or an error code means."),
)

BY_PATH: Final = {command.path: command for command in COMMANDS}
GROUPS: Final = frozenset(command.path[0] for command in COMMANDS if len(command.path) > 1)

GROUP_SUMMARY: Final = {
    "session": "One shared conversation from one key, with a person's approval.",
    "daemon": "The one process per user that everything talks to.",
}


def summary(command: Command) -> str:
    """One line on what the command does. Imports the registry for those that run an operation."""
    if not command.operation:
        return command.summary
    from parlerd.operations.registry import OPERATIONS

    return OPERATIONS[command.operation].summary
