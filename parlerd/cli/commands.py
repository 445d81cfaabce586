"""Every command of `parler`: the module it lives in, and how it is used. This is a table, and imports no command.

A command that runs an operation takes its summary from the registry, so the command line never describes an operation
in words of its own. The other commands have their summaries here. Above: `main`, `help`, `completion`, the pages.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """One command. `HANDLERS[path[-1]]` in `module` builds its arguments and runs it."""

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
    _c("connect", "connect", summary="Add Parler to every agent host on this machine."),
    _c("daemon start", "daemon", summary="Start the daemon, and wait until it answers."),
    _c("daemon stop", "daemon", "daemon.stop"),
    _c("daemon restart", "daemon", summary="Stop the daemon and start it again."),
    _c("daemon status", "daemon", "daemon.status"),
    _c("daemon logs", "daemon", summary="Show the end of the daemon's log."),
    _c("doctor", "doctor", summary="Check everything, and name the fix for what is wrong."),
    _c("demo", "program", summary="Show the main job, end to end, in a throw-away home."),
    _c("version", "program", summary="Show the version of this install and of the daemon."),
    _c("mcp", "program", summary="Run the MCP server on stdin and stdout, as agent hosts do."),
    _c("hook", "hook", summary="Tell an agent host how much waits (`connect --wake`)."),
    _c("completion", "completion", summary="Print the script that completes commands in a shell."),
    _c("help", "help", summary="Explain a command or the code of an error."),
)

BY_PATH: Final = {command.path: command for command in COMMANDS}
GROUPS: Final = frozenset(command.path[0] for command in COMMANDS if len(command.path) > 1)

GROUP_SUMMARY: Final = {
    "session": "A session is one shared conversation from one key, with a person's approval.",
    "daemon": "The daemon is the one process per user that everything talks to.",
}


SECTIONS: Final = (
    ("Begin", ("connect", "demo", "session open", "session join")),
    (
        "Who may come in",
        ("approvals", "session requests", "session approve", "session deny", "session revoke", "session close"),
    ),
    ("Talk", ("send", "recv", "handoff", "watch", "why")),
    ("Look around", ("rooms", "session list", "roster", "whoami")),
    (
        "This install",
        (
            "doctor",
            "daemon status",
            "daemon logs",
            "daemon start",
            "daemon stop",
            "daemon restart",
            "completion",
            "version",
            "help",
        ),
    ),
    ("Started by agent hosts", ("mcp", "hook")),
)
"""Every command, under what a person wants to do with it, in the order in which a person comes to do these things."""

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "session open": (
        'parler session open --topic auth-redesign --context "Left: token rotation."',
        "parler session open --topic auth-redesign --context-file recap.md",
    ),
    "session join": ("parler session join A3KE7DJR", "parler --as bob session join A3KE7DJR --wait 60"),
    "session requests": ("parler session requests --room auth-redesign",),
    "session approve": ("parler session approve bob", "parler session approve bob --room auth-redesign --code K7QM"),
    "session deny": ("parler session deny bob --room auth-redesign",),
    "session close": ("parler session close --room auth-redesign",),
    "session list": ("parler session list", "parler session list --all --wide"),
    "session revoke": ("parler session revoke A3KE7DJR",),
    "approvals": ("parler approvals", "parler approvals --once --json"),
    "send": (
        'parler send --room auth-redesign "on it, taking token rotation"',
        "git diff | parler send --room auth-redesign --kind review -",
    ),
    "recv": ("parler recv", "parler --as bob recv --room auth-redesign --wait 60", "parler recv --all --wide"),
    "handoff": (
        'parler handoff --for bob --summary "rotation is done" --next "wire the UI"',
        'parler handoff --next "review the last commit"',
    ),
    "why": ("parler why 7 --room auth-redesign",),
    "rooms": ("parler rooms", "parler rooms --all --wide"),
    "roster": ("parler roster --room auth-redesign",),
    "whoami": ("parler whoami", "parler --as bob whoami"),
    "watch": ("parler watch --room auth-redesign",),
    "connect": ("parler connect", "parler connect --list", "parler connect claude-code codex --verify"),
    "daemon start": ("parler daemon start",),
    "daemon stop": ("parler daemon stop",),
    "daemon restart": ("parler daemon restart",),
    "daemon status": ("parler daemon status",),
    "daemon logs": ("parler daemon logs --follow", "parler daemon logs -n 200", "parler daemon logs --frames"),
    "doctor": ("parler doctor", "parler doctor --probe claude-code"),
    "demo": ("parler demo",),
    "version": ("parler version --json",),
    "mcp": ("parler mcp --host claude-code",),
    "hook": ("parler hook claude-code Stop",),
    "completion": (
        "parler completion bash > ~/.local/share/bash-completion/completions/parler",
        "parler completion fish > ~/.config/fish/completions/parler.fish",
    ),
    "help": ("parler help session open", "parler help unknown_key"),
}
"""Lines to type, by command. The first line of each is the most common use."""


def examples(command: Command) -> tuple[str, ...]:
    """Lines that show the use of a command, as people type them."""
    return EXAMPLES[" ".join(command.path)]


def summary(command: Command) -> str:
    """One line on what the command does. For a command that runs an operation this imports the registry."""
    if not command.operation:
        return command.summary
    from parlerd.operations.registry import OPERATIONS

    return OPERATIONS[command.operation].summary
