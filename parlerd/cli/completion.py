"""`parler completion bash|zsh|fish`: a script that knows every command, and asks for rooms, agents, keys and knocks.

Commands and options stand in the script, so that completing one starts no Python. For words that only the daemon knows,
the script runs `parler completion --words`, which never starts a daemon, gives up soon, and then completes nothing.
This is the only command that builds the parsers of all others, and the only importer of shtab. Invariant: `--words`
prints only words that no shell changes, because bash expands a list of words once more.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from configs.hosts import HOSTS
from parlerd.cli.commands import COMMANDS, GROUP_SUMMARY, GROUPS, summary
from parlerd.cli.context import ClientLike, Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

SHELLS: Final = ("bash", "zsh", "fish")
WORDS: Final = ("rooms", "agents", "mine", "keys", "knocks", "homes")
"""The kinds of words that the daemon knows: your rooms, who is in them, your agents, your keys, who knocks, the relays
that you added."""
ASK_S: Final = 0.5
"""How long a Tab may wait for the daemon, hello and answer together: a person presses Tab again sooner."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@#/-]*\Z")
"""A word that no shell expands, splits or takes for an option."""
_BY_ARGUMENT: Final = {
    "room": "rooms",
    "to": "agents",
    "visible_to": "agents",
    "whom": "agents",
    "as_name": "mine",
    "session_key": "keys",
    "agent": "knocks",
    "added": "homes",
    "at": "homes",
}
"""The kind of words that completes an argument, by the argument's name in the parser."""
_TOPIC: Final = "COMMAND|CODE"
"""How `parler help` names its argument. It is completed with commands, and not with the codes of errors, which are more
than a list can show."""
_ASK: Final = "parler completion --words"
_PREAMBLE: Final = {
    "bash": "\n".join(f'_parler_{kind}() {{ compgen -W "$({_ASK} {kind} 2>/dev/null)" -- "$1"; }}' for kind in WORDS),
    "zsh": "\n".join(f'_parler_{kind}() {{ compadd -- ${{(f)"$({_ASK} {kind} 2>/dev/null)"}} }}' for kind in WORDS),
}
_ZSH_VALUE: Final = re.compile(r'("\*?--[a-z-]+)(\[(?:[^]\\]|\\.)*\]:)')
"""An option with a value, as shtab writes it for zsh."""
_ZSH_REST: Final = ('"(*)::', '"*:')
"""Arguments of any number, as shtab writes them for zsh, and as zsh completes more of them than the first."""
_WHERE: Final = {
    "bash": "~/.local/share/bash-completion/completions/parler",
    "zsh": "a folder of $fpath, as _parler",
    "fish": "~/.config/fish/completions/parler.fish",
}


def _arguments(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=SHELLS, help="the shell that reads the script")
    what.add_argument(
        "--words", choices=WORDS, help="what the scripts ask: one word a line, nothing where no daemon runs"
    )


def _completion(ctx: Context, args: Namespace) -> int:
    if args.words:
        return _print_words(ctx, args.words)
    import shtab

    script = shtab.complete(whole_parser(), shell=args.shell, preamble=_PREAMBLE.get(args.shell, ""))
    if args.shell == "zsh":
        # shtab completes the value after `--room ` alone; zsh takes `--room=` too where the description says so.
        script = _ZSH_VALUE.sub(r"\1=\2", script).replace(*_ZSH_REST)
    if ctx.out.json:
        ctx.out.document({"shell": args.shell, "script": script})
        return DONE
    ctx.out.stdout.write(script if script.endswith("\n") else script + "\n")
    if ctx.out.terminal:
        ctx.out.note(f"To keep it, write this to {_WHERE[args.shell]}.")
    return DONE


def _print_words(ctx: Context, kind: str) -> int:
    try:
        words = sorted({word for word in _words(ctx, kind) if _PLAIN.match(word)})
    except ParlerError:
        # Whoever presses Tab wants words or nothing; the command itself will say what is wrong.
        words = []
    if ctx.out.json:
        ctx.out.document({"words": words})
    else:
        for word in words:
            ctx.out.line(word)
    return DONE


def _words(ctx: Context, kind: str) -> Iterable[str]:
    deadline = ctx.monotonic() + ASK_S
    # The context's own connection would show progress, and its hello may take longer than a Tab may wait.
    with contextlib.closing(ctx.another_client(start=False, hello_s=ASK_S)) as client:
        return list(_asked(client, kind, max(deadline - ctx.monotonic(), 0.0)))


def _asked(client: ClientLike, kind: str, left_s: float) -> Iterable[str]:
    if kind in ("rooms", "mine"):
        rooms = client.call("rooms.list", t.ListRooms(), left_s)
        assert isinstance(rooms, t.RoomList)
        if kind == "mine":
            return [agent for room in rooms.rooms for agent in room.agents]
        return [room.name for room in rooms.rooms if room.state == "open"]
    if kind == "homes":
        homes = client.call("homes.list", t.ListHomes(), left_s)
        assert isinstance(homes, t.HomeList)
        return [home.name for home in homes.homes if home.state != "local"]
    if kind == "agents":
        roster = client.call("rooms.roster", t.Roster(), left_s)
        assert isinstance(roster, t.RosterResult)
        return [member.name for member in roster.members if member.name != roster.you]
    if kind == "knocks":
        found = client.call("approvals.list", t.ListApprovals(), left_s)
        assert isinstance(found, t.RequestList)
        return [request.name for request in found.requests]
    listed = client.call("session.list", t.ListSessions(), left_s)
    assert isinstance(listed, t.SessionList)
    # A key that admits unasked is a secret, which must not get into the history of a shell.
    keys = [key for session in listed.sessions for key in session.keys]
    return [key.session_key for key in keys if key.approval and key.state == "live"]


def whole_parser() -> Parser:
    """Every command in one parser."""
    from parlerd.cli.main import handler_of

    root = Parser("parler", lambda: "the room where coding agents meet")
    _complete(root)
    commands: Any = root.add_subparsers(metavar="COMMAND")
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        parent, name = commands, command.path[0]
        if len(command.path) == 1 and name in GROUPS:
            # A command by itself whose name is also the first word of others.
            both = commands.add_parser(name, describe=lambda: "", help=summary(command))
            handler_of(command).arguments(both)
            _complete(both)
            groups[name] = both.add_subparsers(metavar="COMMAND")
            continue
        if len(command.path) > 1:
            if name not in groups:
                group = commands.add_parser(name, describe=lambda: "", help=GROUP_SUMMARY[name])
                groups[name] = group.add_subparsers(metavar="COMMAND")
            parent = groups[name]
        leaf = parent.add_parser(command.path[-1], describe=lambda: "", help=summary(command))
        handler_of(command).arguments(leaf)
        _complete(leaf)
    return root


def _complete(parser: argparse.ArgumentParser) -> None:
    """Set for each argument of a parser what completes it."""
    import shtab

    for action in parser._actions:
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar == "HOST":
            action.choices = [host.id for host in HOSTS]
        elif action.metavar == _TOPIC:
            action.choices = sorted({command.path[0] for command in COMMANDS})
            # The words that may come second depend on the first, and a script of shtab cannot express that.
            action.nargs = argparse.OPTIONAL
        elif action.dest in _BY_ARGUMENT:
            kind = _BY_ARGUMENT[action.dest]
            function = f"_parler_{kind}"
            asked = {"bash": function, "zsh": function, "fish": f"({_ASK} {kind} 2>/dev/null)"}
            action.complete = asked  # type: ignore[attr-defined]


HANDLERS: Final = {
    "completion": Handler(
        _arguments,
        _completion,
        section="This install",
        rank=70,
        summary="Print the script that completes commands in a shell.",
        examples=(
            "parler completion bash > ~/.local/share/bash-completion/completions/parler",
            "parler completion fish > ~/.config/fish/completions/parler.fish",
        ),
    ),
}
