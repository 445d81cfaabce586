"""`parler bring`: starts the program of an agent host here, with a first prompt, in the person's session.

    checks (program, entry, consent) -> session.bring -> the command is shown -> the program

In a terminal this process becomes the program, so the terminal and the exit status are the program's own; without a
terminal (`--headless`) the program runs below this process, which says afterwards who came. In both cases the daemon
knows the started agent by its descent from this very process, so no key is handed on. Not here: who is let in
(`engine.bringing`), what a host is started with (`Host.start`). Invariant: nothing is started before its command line
was shown.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, unicode_text
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from configs.detect import Place
    from configs.model import Host

MAX_PROMPT: Final = 100_000
"""Bytes of the first prompt at most. Linux takes 131,072 in one argument."""
STDOUT: Final = 1
STDERR: Final = 2
IDLE: Final = "say in one message that you are here, and then wait for the others: parler_recv with wait_secs."
"""What the agent is to do where the person says nothing."""


def _arguments(parser: Parser) -> None:
    parser.alternates = True
    parser.add_argument("host", type=unicode_text, metavar="HOST", help="the agent host, as `codex`")
    parser.add_argument("text", nargs="*", type=unicode_text, metavar="TEXT", help="what its agent is to do")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--room",
        type=unicode_text,
        metavar="ROOM",
        help="a room's id or name (default: the active session, else that of your agents in this folder)",
    )
    where.add_argument("--context", type=unicode_text, metavar="TEXT", help="open a new session with this recap")
    parser.add_argument("--headless", action="store_true", help="without a terminal: the program ends when it is done")
    parser.add_argument("--dry-run", action="store_true", help="show the command line, and start nothing")


def _bring(ctx: Context, args: Namespace) -> int:
    from parlerd.cli.connect import place_of

    host = _host(args.host)
    place, text = place_of(ctx), " ".join(args.text)
    words, program = start_words(host, headless=args.headless), program_of(place, host)
    _require_ready(place, host, headless=args.headless)
    if not (args.headless or args.dry_run or ctx.at_terminal()):
        raise UsageError("this is no terminal; --headless starts it without one", path="parler bring")
    first_prompt("x" * 64, "r" * 64, text)  # one that is too long is refused before anything is opened
    params = t.BringAgent(host=host.id, room=args.room, context=args.context, check=args.dry_run)
    begun = ctx.call("session.bring", params, t.Bringing)
    prompt = first_prompt(begun.name, begun.room, text)
    command = [str(program), *(prompt if word == _placeholder() else word for word in words)]
    shown = shlex.join(command)
    document: dict[str, object] = {"host": host.id, "command": shown, "room": begun.room}
    if args.dry_run:
        if ctx.out.json:
            ctx.out.document(document)
        else:
            ctx.out.paste(shown)
        return DONE
    _announce(ctx, place, host, begun, shown, headless=args.headless)
    ctx.disconnect()
    if args.headless:
        return _run(ctx, host, command, document)
    if ctx.out.json:
        ctx.out.document(document)
        ctx.out.flush()
        # Stdout is the script's, and the person sees the program where stderr goes.
        os.dup2(STDERR, STDOUT)
    ctx.out.flush()
    try:
        os.execve(command[0], command, dict(ctx.env))  # noqa: S606 - the words are given one by one
    except OSError as error:
        raise _not_started(host, error) from error


# -- before it is started ------------------------------------------------------------------------------------------


def _host(name: str) -> Host:
    from configs.hosts import find_host
    from configs.model import UnknownHost

    try:
        return find_host(name)
    except UnknownHost as error:
        raise UsageError(str(error), path="parler bring") from error


def _placeholder() -> str:
    from configs.model import PROMPT

    return PROMPT


def start_words(host: Host, *, headless: bool) -> Sequence[str]:
    """The arguments of the program. Raises `ParlerError(host_not_startable)`."""
    from configs.hosts import HOSTS

    start = host.start
    words = () if start is None else start.headless if headless else start.terminal
    if start is not None and words:
        return (*start.allowed, *words)
    if start is not None and start.headless:
        said = f"How {host.name} begins a conversation in a terminal with a first prompt is not known."
        hint = f"It can be started without a terminal: parler bring {host.id} --headless"
        raise ParlerError("host_not_startable", said, hint=hint)
    said = f"{host.name} has no start with a first prompt that Parler knows."
    able = ", ".join(each.id for each in HOSTS if each.start is not None)
    hint = f"{ERRORS['host_not_startable'].hint} These can be brought: {able}."
    raise ParlerError("host_not_startable", said, hint=hint)


def program_of(place: Place, host: Host) -> Path:
    """The program of a host on PATH. Raises `ParlerError(host_not_installed)`."""
    from configs.detect import program

    for name in host.programs:
        found = program(place, name)
        if found is not None:
            return found
    said = f"{host.name} is not here: no program {' or '.join(host.programs)} is on PATH."
    raise ParlerError("host_not_installed", said if host.programs else None, host=host.id)


def _require_ready(place: Place, host: Host, *, headless: bool) -> None:
    """Refuse to start a program whose model would not reach Parler. Raises `ParlerError`."""
    from configs.consent import sentence, standing
    from configs.survey import hindrance

    hinders = hindrance(place, host)
    if hinders is not None:
        raise ParlerError("host_not_connected", hinders, hint=f"Run: parler connect {host.id}")
    start = host.start
    if headless and start is not None and not start.allowed and standing(place, host) in ("asks", "by_hand"):
        said = sentence(place, host).partition(". ")[0]
        hint = f"Run it without --headless, or first: parler connect {host.id} --allow"
        raise ParlerError("host_would_refuse", f"{said}.", hint=hint)


def first_prompt(name: str | None, room: str | None, text: str) -> str:
    """The first prompt: where the agent is, what to call first, and the person's own words as they are."""
    session = "a new Parler session" if name is None else f"the Parler session '{name}' ({room})"
    prompt = (
        f"Your user started you with `parler bring`, which put you into {session}: it is your active session. First "
        "call the tool parler_recv of the MCP server parler and read what was said there; whatever you have to say to "
        f"the others goes through parler_send. Then {text or IDLE}"
    )
    if len(prompt.encode("utf-8", "surrogateescape")) > MAX_PROMPT:
        raise ParlerError("text_too_long", f"A first prompt has at most {MAX_PROMPT} bytes.", hint="Put it in a file.")
    return prompt


# -- starting it ---------------------------------------------------------------------------------------------------


def _announce(ctx: Context, place: Place, host: Host, begun: t.Bringing, shown: str, *, headless: bool) -> None:
    """Say what is run, before it is run."""
    from configs.consent import sentence, standing

    out = ctx.out
    room = begun.name or begun.room or ""
    out.note(f"{host.name} starts in ", (f"'{room}'", "name"), ". Its agent comes in by this start, and nobody else.")
    if not headless and standing(place, host) in ("asks", "by_hand"):
        out.note(sentence(place, host))
    if not headless and host.silent:
        out.note(host.silent)
    out.paste(shown, beside=True)
    out.stderr.flush()


def _run(ctx: Context, host: Host, command: Sequence[str], document: dict[str, object]) -> int:
    """Run the program without a terminal, and say who came. Its exit status is passed on. Raises `ParlerError`."""
    out = ctx.out
    out.flush()
    try:
        # With --json stdout has one document and nothing else.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=STDERR if out.json else None, env=dict(ctx.env)
        )
    except OSError as error:
        raise _not_started(host, error) from error
    try:
        status = child.wait()
    except KeyboardInterrupt:
        # The terminal told the program too, which may take a moment to end.
        child.wait()
        raise
    came = ctx.call_again("session.brought", t.AskBrought(), t.Brought)
    if status == 0 and came.status != "joined":
        raise _never_came(host, came)
    if came.status == "joined":
        document["agent"] = came.agent
    if out.json:
        out.document(document)
    elif came.status == "joined":
        out.note((came.name, "name"), " was in the session.")
    else:
        out.note("Its agent never came to the session.")
    if status != 0:
        out.note(f"{host.name} ended with status {status}.")
    return status if status >= 0 else 128 - status


def _never_came(host: Host, came: t.Brought) -> ParlerError:
    if came.status == "refused" and came.code in ERRORS:
        spec = ERRORS[came.code]
        return ParlerError("did_not_join", f"Its agent was not let in: {spec.message}", hint=spec.hint, why=came.code)
    hint = f"{host.silent} " if host.silent else ""
    hint += f"Look at what it printed, and run: parler doctor --probe {host.id}"
    return ParlerError("did_not_join", f"{host.name} ended, and its agent never came to the session.", hint=hint)


def _not_started(host: Host, error: OSError) -> ParlerError:
    return ParlerError("host_not_started", f"{host.name} could not be started: {error.strerror or error}.")


HANDLERS: Final = {
    "bring": Handler(
        _arguments,
        _bring,
        section="Begin",
        rank=35,
        examples=(
            'parler bring codex "Review what claude wrote."',
            'parler bring claude-code --context "Left: rotation." --dry-run',
            'parler bring gemini "Plan the rest." --room auth-redesign --headless',
        ),
        operation="session.bring",
    ),
}
