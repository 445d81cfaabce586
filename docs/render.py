"""The reference pages that are made from the code: `python docs/render.py` writes them again.

    parlerd.core.errors  ------------------> errors.md
    parlerd.cli, parlerd.operations -------> cli.md
    mcp_server.static, .operations.tools --> mcp.md, with the answers of docs.answers
    docs.expressions ----------------------> expressions.md
    docs.delivery -------------------------> delivery.md
    docs.hosts ----------------------------> hosts.md, and the table of hosts in README.md
    docs.picture --------------------------> approvals.svg

Not here: pages that explain (the other files of this folder). Below: the tables in which the words stand that a page
says of a command, a tool or a code. Invariant: a generated page has no such words of its own, and a test compares the
files with what would be generated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

HERE: Final = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

import msgspec  # noqa: E402 - from here on the checkout's own packages are found

from docs.answers import answers  # noqa: E402
from docs.delivery import delivery_page  # noqa: E402
from docs.expressions import expressions_page  # noqa: E402
from docs.hosts import hosts_page, readme_with_table  # noqa: E402
from docs.picture import PICTURE, picture  # noqa: E402
from mcp_server import prompts, resources  # noqa: E402
from parlerd.cli.commands import COMMANDS, GROUP_SUMMARY, Command, examples, summary  # noqa: E402
from parlerd.cli.main import handler_of, parser_of  # noqa: E402
from parlerd.core.errors import ERRORS, ErrorSpec  # noqa: E402
from parlerd.operations import types as t  # noqa: E402
from parlerd.operations.registry import OPERATIONS  # noqa: E402
from parlerd.operations.tools import TOOLS, Tool, description  # noqa: E402

MADE: Final = "<!-- Made by `python docs/render.py`; do not edit. -->\n"

NAMED: Final[dict[type, str]] = {t.Message: "message", t.RequestInfo: "request", t.Check: "check", t.Received: "page"}
"""Shapes that several answers hold. Each is written once, and the answers name it."""

_STATUS: Final = "as `parler daemon status`"
_RELAY_STATUS: Final = "as `parler relay status`"
OTHER_DOCUMENTS: Final[dict[str, str]] = {
    "recv": '`page`; with `--all-rooms` `{"rooms":[page]}`; with `--watch` one page a line',
    "serve": "{shape}; with `--watch` as `parler claim`, one object a line",
    "approvals": '`{"room","requests":[request]}`',
    "connect": '`{"hosts":[{"host","detected","path","status"}],"home"}`, a row for each file. `status` is `added`, '
    "`updated`, `unchanged`, `skipped` or `failed`; with `--remove` `removed`, `unchanged` or `failed`; with "
    "`--list` `connected`, `not_connected` or `not_detected`. A row may also have `reason`, `hint`, `snippet` (to "
    "paste by hand), `backup` and `notes`, with `--dry-run` `diff`, with `--verify` `seen` and `seen_at` or `why`. "
    "`hooks` has the same rows for `--wake`, `allowed` for `--allow`; a connected host also has `consent`: `allowed`, "
    "`asks`, `runs` or `by_hand`. With `--list`, `sight` is true of a host whose records are watched. With `--print` "
    '`{"hosts":[{"host","path","format","snippet"}]}`. `home` is where new '
    'sessions open; with `--team` `relay` has `{"name","status","url","fingerprint","join_line","join_secret_file"}`, '
    'with `--relay` the first four of these; with `--remove` `service` has `{"kind","status"}` where a relay had one',
    "relay": "none: it becomes the relay",
    "relay start": _RELAY_STATUS,
    "relay status": '{shape}; when none runs `{"running":false,"pid":null}` and exit 3',
    "relay stop": '`{"running":false,"pid":null,"stopped"}`: `stopped` is the pid of the relay that ended, or null',
    "relay logs": '`{"path","lines":[...]}`; with `--follow` `{"line"}` a line',
    "daemon start": _STATUS,
    "daemon restart": _STATUS,
    "daemon status": '{shape}; when none runs `{"running":false,"pid":null}` and exit 3',
    "daemon stop": '`{"running":false,"pid":null,"stopped"}`: `stopped` is the pid of the daemon that ended, or null',
    "daemon logs": '`{"path","lines":[...]}`; with `--follow` `{"line"}` a line',
    "bring": '`{"host","command","room","agent"?}`: `agent` after a run with `--headless`, whose output then goes to '
    "stderr; `room` is null where `--dry-run` would open one",
    "doctor": '`{"ok","checks":[check]}`, with `--probe` also `host` and `reached`; exit 1 unless all is in order',
    "demo": "none: it shows what happens, step by step",
    "version": '`{"version","protocol","python","daemon":{"running","version"}}`',
    "mcp": "none: stdin and stdout carry MCP",
    "hook": "one object in the host's own shape, with or without `--json`; `{}` when nothing waits",
    "completion": '`{"shell","script"}`; with `--words` `{"words"}`',
    "help": '`{"commands":[{"command","summary","examples":[...]}]}`',
}
"""What a command prints with `--json`, where this is not the result of its operation."""

CLI_HEAD: Final = """\
# The `parler` command

`parler` is a client of the daemon. A command that needs the daemon starts it. Commands print for people; with
`--json` a command prints exactly one JSON document on stdout and nothing else there, and a stream prints one
object a line. Diagnostics go to stderr. Colour is left out when stdout is no terminal or `NO_COLOR` is set.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | refused or failed; with `--json` stdout holds `{"error":{"code","message","hint",...}}` ([codes](errors.md)) |
| 2 | the command line is not valid |
| 3 | the daemon or a relay could not be reached |
| 4 | waiting for a person: a join that is still pending |
| 130 | interrupted |

Every command takes these, before or after its name:

| option | meaning |
|---|---|
| `--json` | one JSON document on stdout |
| `--as NAME` | act as this agent, made at its first use; else `PARLER_AGENT`, else your own agent, named after you |
| `--home DIR` | the home to use; else `PARLER_HOME`, else `~/.parler`. Two homes are two users, each with a daemon |
| `-h`, `--help` | what the command takes |

Without `--room` a command uses the active session of the agent that acts. Times are epoch milliseconds; names
that end in `_ms` are spans. `seq` is the reader's own number: it counts the messages that this reader may ever
see, so it differs between two readers when only one of them may see an earlier message. `?` marks a field that may be
missing.

**Your agents' rooms.** At your own shell, without `--as` and `PARLER_AGENT`, `rooms`, `roster`, `session list`,
`session close`, `why` and `watch` cover every room that any of your agents is in. A command that an agent host
started may look at these rooms, but ends only a session of the agent that it acts as. `watch` numbers what it shows
from 1 (`number`, and the `seq` of its messages), because several of your agents may be in the room and each of them has
numbers of its own.

**Reading.** `recv` prints what is new and then acknowledges it; if the write to stdout fails, nothing is acknowledged.
`--since`, `--all` and `--no-ack` print messages without acknowledging them. A command that acts under the name of a
live agent window does not acknowledge either, unless `--take` is given. What a join printed counts as read.

**Deciding.** Without `--as` and `PARLER_AGENT`, `approvals` and `session requests`, `approve` and `deny` cover
every room that any of your agents owns. With a named agent they cover the rooms which that agent owns. `session join`
waits for the decision at a terminal only.
"""

OF_EVERY_COMMAND: Final = """\
**Errors.** Every command that acts as an agent can also end with {codes}. What else a command can end with stands with
the command.
"""

MCP_HEAD: Final = """\
# The MCP server

An agent host starts a small program that passes its lines to the daemon: `parler mcp`, or the entry that `parler
connect --print HOST` prints. This program starts the daemon when none runs, and lives on when the daemon is stopped,
upgraded or killed. A call that was under way then gets an error that says that the call may be repeated, and the next
call works with the same identity and reading position.

**Answers.** A tool answers with one text and nothing else. The text says what happened, with the names that a model
needs, then what others wrote, and then how to go on, as the exact call. There is no structured content, because
several hosts show it to their model in place of the text or beside the text. An error is a tool result with
`isError`; its text gives a [code](errors.md), what is wrong, what to do and, where one helps, a valid example.

**Peer text.** What others wrote stands between `[peer MARK #12 bob]` and `[end MARK]`. Parler draws the mark for each
answer after the texts were written, so no text can contain the mark. The opening line gives the message's number, its
author, and only what is unusual (`NOT VERIFIED`, `NOT SIGNED BY ITS AUTHOR`, `private`, `reply to #9`); `you` is the
reader. The first such answer of a conversation explains the marks in one sentence.

**Numbers.** `#12` is the twelfth message that this reader may see in the room. Agents who may see the same messages
have the same numbers; a private message, or a history that a newcomer may not read, shifts the numbers of those who
may not see it. `parler_send` takes such a number in `reply_to`, and translates it for each reader.

**How much.** An answer is no longer than what its host was measured to pass on whole, and several messages together
take at most 8,000 bytes. Messages that do not fit stay unread, and the answer names the call that brings them. A
longer message is shown in parts: `#12 goes on:` names the call for the next part.

**Reading.** The messages of an answer count as read with the next call of the same conversation, if the host took the
answer. Messages of an answer that the host cancelled are shown again.

**Sight.** Where the person lets Parler [watch what the host records](security.md#what-your-agent-hosts-record), each
message of another is followed by a line `[MARK rcpt-...]`, which is Parler's own. A message whose head says `again:`
was shown before, and the host cut it or did not show it to the model; this happens twice at most for one message. A
call may quote such markers in an argument `seen`; nothing is lost where no call does. What a resource shows has no
markers, because many hosts show resources to nobody.

**News.** An answer ends with a line `Meanwhile: ...` when something else happened: somebody knocks or came in, the
person decided, or messages wait in a room. Parler says each change once. A knock, an arrival and a decision also end a
`parler_recv` that waits.

**Waiting.** `wait_secs` waits for at most an hour, and no longer than the host waits for an answer: 50 seconds in a
host that nobody has measured, and up to 25 minutes in one that goes on waiting while it hears of progress. A wait
that was cut short says so, and a call that waits holds up no other call. `[mcp] wait_max_ms` in the
[settings](settings.md) makes every wait shorter.

**Identity.** Where the host names the conversation that a call or a window belongs to, this conversation is one agent,
also when the host resumes it later. Elsewhere the first window in a workspace is its first agent, and a second window
that is open at the same time is its second agent. `PARLER_AGENT` in the server's environment names the agent to act as.
With `PARLER_SESSION_KEY` a window knocks with that key when it opens, or with the first call where calls name their
conversation; with a key of a relay it does so only once somebody joined there, because whoever set the variable chose
the session. Parler ignores both variables where one server process serves several windows whose calls do not tell them
apart, because all these windows have the environment of the first one.
"""

ERRORS_HEAD: Final = """\
# Error codes

Every error has a stable code, a sentence that says what is wrong, a hint that says what helps, and a mark that says
whether a retry can help. A person finds the error on stderr, a script with `--json` as `{"error":{...}}`, and an
agent in a tool result with `isError`. `parler help CODE` explains a code in a terminal.

**To do** is one of: `retry` the same request (with the same idempotency key, if it has one), `back_off` and try later,
`fix_request`, `ask_person`, `reauthorize`, or `stop`. **Fault** says whose side the error is on: the caller, the
person, this home, or a peer.
"""


def pages() -> dict[str, str]:
    """Every generated page, and the picture, by file name."""
    return {
        "errors.md": errors_page(),
        "cli.md": cli_page(),
        "mcp.md": mcp_page(),
        "expressions.md": expressions_page(MADE),
        "delivery.md": delivery_page(MADE),
        "hosts.md": hosts_page(MADE),
        PICTURE.name: picture(),
    }


# -- errors --------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """All codes, in the order of the table."""
    rows = [_error_row(spec) for spec in ERRORS.values()]
    return "\n".join((MADE, ERRORS_HEAD, *_table(("code", "means", "what helps", "to do", "fault", "retry"), rows), ""))


def _error_row(spec: ErrorSpec) -> tuple[str, ...]:
    retry = "yes" if spec.retryable else "no"
    return (f"`{spec.code}`", _cell(spec.message), _cell(spec.hint), f"`{spec.action}`", spec.fault, retry)


# -- commands ------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Every command: what it takes and what it prints."""
    parts = [MADE, CLI_HEAD, OF_EVERY_COMMAND.format(codes=_codes(t.OF_PLANE["agent"]))]
    group = ""
    for command in COMMANDS:
        if command.path[0] in GROUP_SUMMARY and command.path[0] != group:
            group = command.path[0]
            if len(command.path) > 1:
                # A group whose name is a command by itself has that command's heading.
                parts.append(f"## parler {group}\n\n{GROUP_SUMMARY[group]}\n")
        parts.append("\n".join(_command(command)))
    parts.append("## Shapes\n")
    rows = [(f"`{name}`", f"`{shape(kind)}`") for kind, name in NAMED.items()]
    parts.append("\n".join((*_table(("name", "shape"), rows), "")))
    return "\n".join(parts)


def _command(command: Command) -> Iterator[str]:
    name = " ".join(command.path)
    parser = parser_of(command, handler_of(command))
    common = {id(action) for action in _common(parser)}
    own = [action for action in parser._actions if id(action) not in common]
    yield f"{'#' * (len(command.path) + 1)} parler {name}"
    yield ""
    if name in GROUP_SUMMARY:
        yield GROUP_SUMMARY[name]
        yield ""
    yield summary(command)
    yield ""
    yield "```text"
    yield " ".join(["parler", name, *map(_usage, own)])
    yield ""
    yield from examples(command)
    yield "```"
    yield ""
    if own:
        yield from _table(
            ("argument", "meaning"), [(_cell(f"`{_spelling(action)}`"), _cell(action.help or "")) for action in own]
        )
        yield ""
    printed = document_of(command)
    yield f"JSON: {printed}."
    if errors := _errors(command):
        yield ""
        yield f"Errors, beside those of every command: {_codes(errors)}."
    yield ""


def document_of(command: Command) -> str:
    """What a command prints with `--json`, as the page says it."""
    known = OTHER_DOCUMENTS.get(" ".join(command.path), "")
    shown = f"`{shape(OPERATIONS[command.operation].result)}`" if command.operation else ""
    return known.replace("{shape}", shown) or shown


def _errors(command: Command) -> list[str]:
    """The codes of a command that not every command has."""
    if not command.operation:
        return []
    operation = OPERATIONS[command.operation]
    return [*operation.errors, *(code for code in t.OF_PLANE[operation.plane] if code not in t.OF_PLANE["agent"])]


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _common(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    (group,) = (group for group in parser._action_groups if group.title == "everywhere")
    return group._group_actions


def _spelling(action: argparse.Action) -> str:
    value = str(action.metavar or "|".join(map(str, action.choices or ())))
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 else "")


def _usage(action: argparse.Action) -> str:
    value = _spelling(action).rpartition(", ")[2]
    repeated = action.nargs == "*" or isinstance(action, argparse._AppendAction)
    optional = bool(action.option_strings) or action.nargs in ("?", "*")
    shown = f"[{value}]" if optional and not action.required else value
    return shown + ("..." if repeated else "")


# -- shapes --------------------------------------------------------------------------------------------------


def shape(kind: Any) -> str:
    """The fields of a result in the notation of the pages: `{"room","keys":[{"key","state"}],"warning?"}`."""
    fields = []
    for field in msgspec.structs.fields(kind):
        optional = "?" if field.default is msgspec.UNSET else ""
        inner = _inner(field.type)
        fields.append(f'"{field.encode_name}{optional}"' + (f":{inner}" if inner else ""))
    return "{" + ",".join(fields) + "}"


def _inner(kind: Any) -> str:
    """What a page says of a field's type: nothing for a plain value, else the shape or its name."""
    if isinstance(kind, type) and issubclass(kind, t.Result):
        return NAMED.get(kind) or shape(kind)
    if get_origin(kind) is list:
        inner = _inner(get_args(kind)[0])
        return f"[{inner or '...'}]"
    if get_origin(kind) in (Union, UnionType):
        return next((found for part in get_args(kind) if (found := _inner(part))), "")
    return ""


# -- tools ---------------------------------------------------------------------------------------------------


def mcp_page() -> str:
    """Every tool, prompt and resource."""
    parts = [MADE, MCP_HEAD, "## Tools\n"]
    parts += ["\n".join(_tool(tool)) for tool in TOOLS.values()]
    prompted = [
        (
            f"`{prompt['name']}`",
            _cell(prompt["description"]),
            ", ".join(f"`{a['name']}`" for a in prompt.get("arguments", [])),
        )
        for prompt in prompts.LIST["prompts"]
    ]
    parts += ["## Prompts\n", *_table(("prompt", "does", "arguments"), prompted), "", "## Resources\n"]
    listed = [(f"`{entry['uri']}`", entry["title"]) for entry in resources.LIST["resources"]]
    listed += [(f"`{entry['uriTemplate']}`", entry["title"]) for entry in resources.TEMPLATES["resourceTemplates"]]
    parts += [*_table(("resource", "holds"), listed), ""]
    return "\n".join(parts)


def _tool(tool: Tool) -> Iterator[str]:
    yield f"### {tool.name}"
    yield ""
    yield description(tool)
    yield ""
    rows = []
    if tool.default:
        actions = ", ".join(f"`{verb}`" for verb in sorted(tool.operations))
        rows.append(("`action`", "string", f"{actions}; default: `{tool.default}`"))
    rows += [(f"`{argument.name}`", _kind(argument), _cell(argument.help)) for argument in tool.arguments]
    yield from _table(("argument", "kind", "meaning"), rows)
    yield ""
    yield from answers(tool)


def _kind(argument: t.Argument) -> str:
    kind = {"seconds": "whole seconds", "strings": "list of strings"}.get(argument.kind, argument.kind)
    return f"{kind}, required" if argument.required else kind


# -- Markdown ------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}")
    readme = HERE.parent / "README.md"
    readme.write_text(readme_with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    print("README.md")
