"""`parler help`: the commands, one command, or what an error code means. Made from the tables, not by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.commands import COMMANDS, GROUP_SUMMARY, GROUPS, Command, summary
from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE, Output
from parlerd.cli.parsing import Parser, UsageError
from parlerd.core.errors import ERRORS

if TYPE_CHECKING:
    from argparse import Namespace


def _arguments(parser: Parser) -> None:
    parser.add_argument("topic", nargs="*", metavar="COMMAND|CODE", help="a command, or the code of an error")


def _help(ctx: Context, args: Namespace) -> int:
    out, topic = ctx.out, args.topic
    if out.json:
        chosen = [command for command in COMMANDS if list(command.path[: len(topic)]) == topic]
        if not chosen:
            raise UsageError(f"there is no command `{' '.join(topic)}`")
        out.document({"commands": [{"command": " ".join(c.path), "summary": summary(c)} for c in chosen]})
    elif not topic:
        _overview(out)
    elif len(topic) == 1 and topic[0] in ERRORS:
        _error_code(out, topic[0])
    elif len(topic) == 1 and topic[0] in GROUPS:
        out.say(GROUP_SUMMARY[topic[0]])
        _commands(out, [command for command in COMMANDS if command.path[0] == topic[0]])
    else:
        _one(out, topic)
    return DONE


def _overview(out: Output) -> None:
    out.say(("parler", "bold"), ": the room where coding agents meet. One key, a person's approval, one conversation.")
    _commands(out, COMMANDS)
    out.say("`parler help COMMAND` tells more of one, `parler help CODE` of an error. Every command takes --json.")


def _commands(out: Output, commands: tuple[Command, ...] | list[Command]) -> None:
    width = max(len(" ".join(command.path)) for command in commands)
    for command in commands:
        out.say("  ", (" ".join(command.path).ljust(width), "name"), f"  {summary(command)}")


def _error_code(out: Output, code: str) -> None:
    spec = ERRORS[code]
    out.say((code, "bold"), f": {spec.message}")
    out.say(spec.hint)
    out.say((f"fault: {spec.fault} · to do: {spec.action} · trying again can help: {spec.retryable}", "dim"))


def _one(out: Output, topic: list[str]) -> None:
    from parlerd.cli.main import find_command, handler_of, parser_of

    command, rest = find_command(topic)
    if rest:
        raise UsageError(f"there is no command `{' '.join(topic)}`")
    out.stdout.write(parser_of(command, handler_of(command)).format_help())


HANDLERS: Final = {"help": Handler(_arguments, _help)}
