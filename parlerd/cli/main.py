"""`parler`: find the command, run it, and turn whatever happens into an exit code.

Not here: what a command does, which its module knows (`commands` lists the modules). Below: `parsing`, `context`,
`output`. Invariant: `parler --version` imports only the version, and every other import happens once the command is
known. Exit codes: 0 done, 1 refused or failed, 2 usage, 3 daemon not reached, 4 waiting for a person, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from parlerd import __version__

# The name is not imported from `typing`, whose import takes as long as everything else that `parler --version` does.
TYPE_CHECKING = False
COLLECTED_AFTER = 100_000
"""How many new objects there may be between two looks for garbage: several times what a one-shot command makes."""
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO, NoReturn

    from parlerd.cli.commands import Command
    from parlerd.cli.context import ClientLike, Context, OpenClient
    from parlerd.cli.handlers import Handler
    from parlerd.cli.output import Output
    from parlerd.cli.parsing import Parser, UsageError
    from parlerd.core.errors import ParlerError
    from parlerd.paths import Home


def entry() -> NoReturn:
    """The console script."""
    if sys.argv[1:] == ["--version"]:
        print(f"parler {__version__}")
        _leave(0)
    if sys.platform == "win32":
        sys.exit("Parler runs on Linux and macOS. On Windows, install it inside WSL.")
    import gc

    # Almost everything that a command makes belongs to a module and stays. Looking through it for garbage again and
    # again would take a tenth of a command. A command that goes on for hours still collects garbage.
    gc.set_threshold(COLLECTED_AFTER)
    import parlerd.lean  # noqa: F401  # isort: split - used by being first
    from parlerd.cli.output import Output, standard_streams, wants_colour

    stdout, stderr = standard_streams()
    argv = sys.argv[1:]
    out = Output(stdout, stderr, json=wants_json(argv), colour=wants_colour(stdout, os.environ))
    try:
        code = main(argv, out=out, env=os.environ)
    except Exception as error:
        code = _mistake(error, out)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process at once. The interpreter would first take a hundred modules apart, which takes a tenth of a
    command. The kernel takes back what the process had, and no file is left to be written or removed at the end."""
    for stream in (sys.stdout, sys.stderr):
        # `main` has flushed the answer, and has reported it if that failed.
        try:  # noqa: SIM105 - `contextlib` takes longer to import than `--version` to run
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


def _mistake(error: Exception, out: Output) -> int:
    """Report an error that nobody foresaw, in a sentence with what is needed to mend it, and without a stack trace."""
    from parlerd.core.errors import ParlerError

    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "" if frame is None else f" at {os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}"
    # The error's own text is left out, because it may quote words that somebody wrote.
    message = f"This command ended by a mistake in Parler: {type(error).__name__}{place}."
    hint = f"Please report this line, the command, and `parler --version` ({__version__})."
    return out.fail(ParlerError("internal", message, hint=hint))


def main(
    argv: Sequence[str],
    *,
    out: Output,
    env: Mapping[str, str],
    open_client: OpenClient | None = None,
    stdin: BinaryIO | None = None,
) -> int:
    """Run one command line and give its exit code. Only a bug makes this raise."""
    from parlerd.cli.output import FAILED, INTERRUPTED, silence
    from parlerd.core.errors import ParlerError

    try:
        return _answer(list(argv), out, env, open_client or _connect, stdin)
    except KeyboardInterrupt:
        if out.awaits_document:
            out.fail(ParlerError("interrupted"))
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output went away. Nobody is left to tell, and nothing was acknowledged.
        silence(out.stdout)
        return FAILED
    except OSError as error:
        silence(out.stdout)
        out.note(("error: ", "bad"), f"The output could not be written: {error.strerror or error}.")
        return FAILED


def wants_json(argv: Sequence[str]) -> bool:
    """Whether `--json` is among the options. This is found before the rest is parsed, so that usage errors are JSON
    too."""
    words = list(argv)
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def find_command(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that `words` name and what follows its name. Raises `UsageError`."""
    from parlerd.cli.commands import BY_PATH, GROUPS
    from parlerd.cli.parsing import UsageError

    if not words:
        raise UsageError("no command was named")
    for length in (2, 1):
        command = BY_PATH.get(tuple(words[:length]))
        if command is not None:
            return command, list(words[length:])
    if words[0] in GROUPS:
        wanted = "" if len(words) == 1 or words[1].startswith("-") else words[1]
        names = [path[1] for path in BY_PATH if path[0] == words[0]]
        raise UsageError(_unknown(f"{words[0]} {wanted}".strip(), wanted, names), path=f"parler {words[0]}")
    # Whoever leaves the first word of a command out means the whole command.
    within = [" ".join(path) for path in BY_PATH if len(path) == 2 and path[1] == words[0]]
    if within:
        raise UsageError(f"there is no command `{words[0]}`; did you mean `{'` or `'.join(within)}`?")
    raise UsageError(_unknown(words[0], words[0], sorted({path[0] for path in BY_PATH})))


def handler_of(command: Command) -> Handler:
    """The code behind a command; imports its module."""
    module = __import__(command.module, fromlist=["HANDLERS"])
    handler: Handler = module.HANDLERS[" ".join(command.path)]
    return handler


def parser_of(command: Command, handler: Handler) -> Parser:
    """The parser of one command."""
    from parlerd.cli.commands import examples, summary
    from parlerd.cli.parsing import Parser

    parser = Parser("parler " + " ".join(command.path), lambda: _wrapped(summary(command)))
    handler.arguments(parser)
    if handler.gives_receipt:
        parser.add_argument("--receipt", action="store_true", help="with the receipt that the room's home signs")
    parser.epilog = "\n  ".join(("examples:", *examples(command)))
    return parser


def _wrapped(text: str) -> str:
    """A summary above the options, which argparse breaks two columns before the end of the line."""
    from parlerd.cli.parsing import help_width
    from parlerd.cli.printable import wrap

    return "\n".join(wrap(text, help_width() - 2))


def _answer(
    argv: list[str], out: Output, env: Mapping[str, str], open_client: OpenClient, stdin: BinaryIO | None
) -> int:
    from parlerd.cli.commands import BY_PATH, GROUPS
    from parlerd.cli.output import DONE, USAGE
    from parlerd.cli.parsing import HelpWanted, UsageError, split_globals

    try:
        early, words = split_globals(argv)
        if not words and not early:
            words = ["help"]
        elif len(words) == 1 and words[0] in GROUPS and (words[0],) not in BY_PATH and not early:
            words = ["help", words[0]]
        if words[:1] == ["--version"] or words[:1] == ["-V"]:
            words[:1] = ["version"]
        if words[:1] == ["--help"] or words[:1] == ["-h"]:
            words[:1] = ["help"]
        if words[1:2] == ["--help"] or words[1:2] == ["-h"]:
            words = ["help", words[0]]
        command, rest = find_command(words)
        handler = handler_of(command)
        parser = parser_of(command, handler)
        args = parser.parse_words([*early, *rest])
        if args.as_name == "" or args.home == "":
            raise UsageError("--as and --home need a value", path="parler " + " ".join(command.path))
    except HelpWanted as wanted:
        out.stdout.write(str(wanted))
        out.flush()
        return DONE
    except UsageError as error:
        _refuse_usage(error, out)
        return USAGE
    return _run(handler, parser, args, argv, out, env, open_client, stdin)


def _run(
    handler: Handler,
    parser: Parser,
    args: Namespace,
    argv: Sequence[str],
    out: Output,
    env: Mapping[str, str],
    open_client: OpenClient,
    stdin: BinaryIO | None,
) -> int:
    from parlerd.cli.context import Context
    from parlerd.cli.output import USAGE
    from parlerd.cli.parsing import UsageError, is_text
    from parlerd.core.errors import ParlerError
    from parlerd.paths import home_from

    ctx: Context | None = None
    try:
        home = home_from(env, args.home)
        as_name = args.as_name or env.get("PARLER_AGENT", "")
        if not is_text(as_name):
            raise ParlerError("invalid_name", "PARLER_AGENT is not valid UTF-8.")
        ctx = Context(out, home, env, open_client, as_name=as_name, words=argv, stdin=stdin)
        ctx.wants_receipt = handler.gives_receipt and args.receipt
        code = handler.run(ctx, args)
        ctx.say_receipts()
        out.flush()
        return code
    except UsageError as error:
        _refuse_usage(error, out)
        return USAGE
    except ParlerError as error:
        from parlerd.cli.typed import as_typed

        code = out.fail(as_typed(error, parser.actions))
        _say_key(error, args, out)
        return code
    finally:
        if ctx is not None:
            ctx.disconnect()


def _say_key(error: ParlerError, args: Namespace, out: Output) -> None:
    """Say what makes a second try the same request, where the command takes that and nobody chose it before. In JSON
    it stands among the error's details."""
    key = error.details.get("idempotency_key")
    # `--key` names a fact or a key of the state where the request has a `--once`.
    option = next((each for each in ("once", "key") if hasattr(args, each)), None)
    if out.json or not isinstance(key, str) or option is None or getattr(args, option):
        return
    out.note("To try again as the same request, add: ", (f"--{option} {key}", "bold"))


def _connect(home: Home, *, as_name: str, host: str, start: bool = True, hello_s: float | None = None) -> ClientLike:
    from parlerd.client import connect

    return connect(home, as_name=as_name, host=host, start=start, hello_s=hello_s)


def _refuse_usage(error: UsageError, out: Output) -> None:
    hint = f"Run `{error.path.replace('parler', 'parler help', 1)}`."
    if out.json:
        from parlerd.core.errors import ParlerError

        refused = ParlerError("invalid_param", error.message, hint=hint)
        out.fail(refused)
        return
    out.note(("error: ", "bad"), error.message)
    if error.usage:
        out.stderr.write(error.usage + "\n")
    out.note(("hint: ", "dim"), hint)


def _unknown(shown: str, word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    if not word:
        return f"`{shown}` needs one of: {', '.join(known)}"
    near = get_close_matches(word, known, n=1)
    guess = f"; did you mean `{near[0]}`?" if near else ""
    return f"there is no command `{shown}`{guess}"
