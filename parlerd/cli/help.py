"""`parler help`: all commands, one command, or what an error code means. The text is made from the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.commands import BY_PATH, COMMANDS, GROUP_SUMMARY, GROUPS, SECTIONS, Command, examples, summary
from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE, Output
from parlerd.cli.parsing import Parser, UsageError
from parlerd.core.errors import ERRORS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

NAME_WIDTH: Final = max(len(" ".join(command.path)) for command in COMMANDS)
SHOWN_FIRST: Final = (
    'parler session open --topic auth-redesign --context "what is left"',
    "parler approvals",
    "parler --as bob session join A3KE7DJR",
)
"""The main job in three lines: one agent opens a session, a person decides, another agent comes in."""


def _arguments(parser: Parser) -> None:
    parser.add_argument("topic", nargs="*", metavar="COMMAND|CODE", help="a command, or the code of an error")


def _help(ctx: Context, args: Namespace) -> int:
    out, topic = ctx.out, args.topic
    if out.json:
        chosen = [command for command in COMMANDS if list(command.path[: len(topic)]) == topic]
        if not chosen:
            raise UsageError(f"there is no command `{' '.join(topic)}`")
        out.document({"commands": [_object(command) for command in chosen]})
    elif not topic:
        _overview(ctx)
    elif len(topic) == 1 and topic[0] in ERRORS:
        _error_code(out, topic[0])
    elif len(topic) == 1 and topic[0] in GROUPS and tuple(topic) not in BY_PATH:
        _group(out, topic[0])
    else:
        _one(out, topic)
    return DONE


def _object(command: Command) -> dict[str, object]:
    return {"command": " ".join(command.path), "summary": summary(command), "examples": list(examples(command))}


def _overview(ctx: Context) -> None:
    """Print all commands by what a person wants to do, examples, and what to type next."""
    out = ctx.out
    out.say(("parler", "bold"), ": the room where coding agents meet. One key, a person's approval, one conversation.")
    for title, names in SECTIONS:
        out.say()
        out.say((title, "bold"))
        _commands(out, [BY_PATH[tuple(name.split())] for name in names])
    out.say()
    out.say(("Examples", "bold"))
    for line in SHOWN_FIRST:
        out.paste(("  " + line, "plain"))
    out.say()
    out.say("`parler help COMMAND` explains a command, and `parler help CODE` an error. Every command takes --json.")
    if ctx.home.root.is_dir():
        out.say("Next, see what waits for you:")
        out.paste("parler rooms")
    else:
        out.say("Next, connect the agents on this machine:")
        out.paste("parler connect")


def _group(out: Output, name: str) -> None:
    within = [command for command in COMMANDS if command.path[0] == name]
    out.say(GROUP_SUMMARY[name])
    out.say()
    _commands(out, within)
    out.say()
    out.say(("Examples", "bold"))
    for command in within:
        out.paste(("  " + examples(command)[0], "plain"))
    out.say()
    out.say(f"`parler help {name} COMMAND` explains one of these.")


def _commands(out: Output, commands: Sequence[Command]) -> None:
    for command in commands:
        name = " ".join(command.path).ljust(NAME_WIDTH)
        out.say("  ", (name, "name"), f"  {summary(command)}", hang=NAME_WIDTH + 2)


def _error_code(out: Output, code: str) -> None:
    spec = ERRORS[code]
    out.say((code, "bold"), f": {spec.message}")
    out.say(spec.hint)
    retryable = "true" if spec.retryable else "false"
    out.say((f"A script reads: fault {spec.fault}, action {spec.action}, retryable {retryable}.", "dim"))


def _one(out: Output, topic: list[str]) -> None:
    from parlerd.cli.main import find_command, handler_of, parser_of

    command, rest = find_command(topic)
    if rest:
        raise UsageError(f"there is no command `{' '.join(topic)}`")
    out.stdout.write(parser_of(command, handler_of(command)).format_help())
    if len(topic) == 1 and topic[0] in GROUPS:
        # The name is a command by itself and the first word of others.
        out.say()
        out.say(GROUP_SUMMARY[topic[0]])
        _commands(out, [other for other in COMMANDS if other.path[0] == topic[0] and other.path != command.path])


HANDLERS: Final = {
    "help": Handler(
        _arguments,
        _help,
        section="This install",
        rank=90,
        summary="Explain a command or the code of an error.",
        examples=(
            "parler help session open",
            "parler help unknown_key",
        ),
    ),
}
