"""`parler doctor --probe HOST`: how far a message gets through a host, and with the person's yes through its model.

    entry -> start -> handshake -> tools -> call -> program -> write -> message -> shown

    entry       Our entry is read in the host's config.
    start to    Exactly the command of the entry is started, in an environment as bare as any host gives its servers,
    call        and is spoken to as the host would.
    program     The host's own program is asked, in a home that is thrown away. It gets a copy of the person's file
                without the servers of others, because it would start those.
    write       The host's settings say whether it would let its model write. The probe does not go past the host's
                approval: where the host asks or refuses, the probe ends before this stage and names the setting.
    message,    A real message goes through the host's model, which costs a call of it: only with the person's yes
    shown       (`probe_model`).

Each stage needs the one before, and a stage that fails says how to mend it. Not here: other checks (`doctor`), what a
host allows (`configs.consent`). Invariant: up to `write` nothing stays behind apart from a daemon, which is started if
none runs. The daemon refuses the probe's call for its arguments, so that no agent is made and nothing is posted; and
the host's program never sees the person's own files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parlerd.cli import probe_model
from parlerd.cli.context import Context
from parlerd.cli.output import DONE, FAILED
from parlerd.cli.parsing import UsageError
from parlerd.cli.probe_model import Failed
from parlerd.cli.render import show_checks
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from types import TracebackType

    from configs.detect import Place
    from configs.model import Host

STAGES: Final = ("entry", "start", "handshake", "tools", "call", "program", "write", "message", "shown")
PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""What the strictest host passes on to its servers. Source: measured on Codex."""
STEP_S: Final = 10.0
"""How long one answer may take. A daemon that has to start first is up in well under a second."""
PROGRAM_S: Final = 60.0
"""How long a host's own command may take. Some start slowly and give a server half a minute."""
NEUTRAL: Final = {"DO_NOT_TRACK": "1", "NO_COLOR": "1"}
"""Variables that belong to no host in particular."""
_LINE: Final = 1 << 20


_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run(ctx: Context, name: str, *, yes: bool = False) -> int:
    """Probe one host and print how far it got. With `yes`, or when the person says so, its model is asked as well. The
    exit code is 1 when a stage failed. Raises `UsageError`."""
    from configs.hosts import find_host
    from configs.model import UnknownHost
    from parlerd.cli.connect import place_of

    try:
        host = find_host(name)
    except UnknownHost as error:
        raise UsageError(str(error), path="parler doctor") from error
    checks = list(probe(ctx, place_of(ctx), host, yes=yes))
    ok = all(check.ok for check in checks)
    reached = [check.name for check in checks if check.ok]
    last = reached[-1] if reached else ""
    if ctx.out.json:
        ctx.out.document({"ok": ok, "host": host.id, "reached": last, "checks": checks})
        return DONE if ok else FAILED
    show_checks(ctx.out, checks)
    ctx.out.say(f"{host.name}: reached {last or 'nothing'}.")
    return DONE if ok else FAILED


def probe(ctx: Context, place: Place, host: Host, *, yes: bool = False) -> Iterator[t.Check]:
    """One check for each stage, up to the first that fails."""
    done = 0
    try:
        for name, detail in _stages(ctx, place, host, yes=yes):
            yield t.Check(name=name, ok=True, detail=detail, fix="")
            done = 1 + STAGES.index(name)
    except Failed as failed:
        yield t.Check(name=failed.stage or STAGES[done], ok=False, detail=failed.detail, fix=failed.fix)


def _stages(ctx: Context, place: Place, host: Host, *, yes: bool) -> Iterator[tuple[str, str]]:
    """Each stage that was reached, with what was found, in order. Raises `Failed` at the first that was not."""
    path, keys, entry = _entry(place, host)
    command, variables = command_of(entry)
    yield "entry", f"{path} starts {Path(command[0]).name}"
    environment = {name: ctx.env[name] for name in PASSED_ON if name in ctx.env} | variables
    with _Server(command, environment) as server:
        yield "start", f"pid {server.pid}, with {len(environment)} variables and no directory of its own"
        began = time.monotonic()
        told = server.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _CLIENT})
        info = told.get("serverInfo")
        version = info.get("version") if isinstance(info, dict) else None
        if not isinstance(version, str):
            raise Failed("something else than Parler's server answers", "parler connect --replace " + host.id)
        yield "handshake", f"version {version} answered in {(time.monotonic() - began) * 1000:.0f} ms"
        server.tell("notifications/initialized")
        tools = server.ask("tools/list", {}).get("tools")
        names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
        if CALL[0] not in names:
            raise Failed("its tools are not Parler's", "parler daemon restart, then try again")
        yield "tools", f"{len(names)} tools"
        yield "call", _called(server.ask("tools/call", {"name": CALL[0], "arguments": CALL[1]}))
    asked = _program(ctx, place, host, path, keys)
    if asked is not None:
        yield "program", asked
    allowed = _write(place, host)
    if allowed:
        yield "write", allowed
    if host.start is not None and host.start.headless and _may_ask(ctx, host, yes=yes):
        yield from probe_model.stages(ctx, place, host)


def _may_ask(ctx: Context, host: Host, *, yes: bool) -> bool:
    """Whether the person lets the host's model be asked; nobody is asked where nobody sits."""
    if yes or ctx.out.json or not ctx.at_terminal():
        return yes
    try:
        ctx.agree(
            f"All of this was without {host.name}'s model. The last stage starts {host.name} in this folder and asks "
            "its model to read one message, which costs a call of that model."
        )
    except ParlerError:
        return False
    return True


_CLIENT: Final = {"name": "parler-probe", "version": "1"}
CALL: Final[tuple[str, dict[str, object]]] = ("parler_recv", {"limit": -1})
"""A tool call that the daemon refuses before it asks whose call it is. So the call goes all the way and leaves nothing
behind."""


_CODE: Final = re.compile(r"([a-z][a-z_]{1,40}):")
"""The beginning of an error as a model reads it: the code and a colon."""


def _called(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    texts = [each.get("text") for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    found = _CODE.match(texts[0]) if texts and isinstance(texts[0], str) else None
    code = found[1] if found is not None else ""
    if code != "invalid_param":
        raise Failed(
            "a tool call did not get to the daemon and back" + (f" ({code})" if code else ""),
            "parler daemon restart; then look at parler daemon logs",
        )
    return "a tool call went to the daemon and back"


def _write(place: Place, host: Host) -> str:
    """What the host would do when its model posts something; empty where this is not known. Raises `Failed`."""
    from configs.consent import sentence, standing

    now = standing(place, host)
    if now in ("asks", "by_hand"):
        consent = host.consent
        assert consent is not None, "it is known what it does"
        fix = consent.by_hand or f"answer when it asks, or run: parler connect {host.id} --allow"
        said = sentence(place, host).partition(". ")[0]
        raise Failed(f"not tried, because it would go past the host's approval: {said}", fix, "write")
    return sentence(place, host).rstrip(".")


# -- the entry -------------------------------------------------------------------------------------------------


def _entry(place: Place, host: Host) -> tuple[Path, tuple[str, ...], dict[str, Any]]:
    """The file that holds our entry, where in it, and the entry. Raises `Failed`."""
    from configs.detect import server_path, targets
    from configs.document import Document, EditRefused, Rules

    connect = f"parler connect {host.id}"
    for path in targets(place, host):
        try:
            file = Document.read(path.read_bytes(), Rules.of(host))
            keys = server_path(file, host)
            entry = file.at(keys)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Failed(f"{path} cannot be read: {error.strerror}", "Make it readable for you.") from error
        except EditRefused as refused:
            raise Failed(f"{path}: {refused}", "Mend the file; the host cannot read it either.") from refused
        if isinstance(entry, dict):
            if host.disabled(entry):
                raise Failed(f"the entry in {path} is turned off", f"Turn it on in {host.name}.")
            return path, keys, entry
    raise Failed(f"no config of {host.name} has our entry", connect)


def command_of(entry: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """(command line, variables) of an entry, in whatever shape its host has. Raises `Failed`."""
    inner = entry.get("transport")
    if isinstance(inner, dict):
        return command_of(inner)
    command = entry.get("command", entry.get("cmd"))
    words = list(command) if isinstance(command, list) else [command]
    arguments = entry.get("args")
    words += arguments if isinstance(arguments, list) else []
    if not all(isinstance(word, str) for word in words):
        raise Failed("the entry has no command line", "parler connect --replace")
    tables = [entry[name] for name in ("env", "environment", "envs") if isinstance(entry.get(name), dict)]
    given: dict[str, Any] = tables[0] if tables else {}
    return words, {name: value for name, value in given.items() if isinstance(value, str)}


# -- the server ------------------------------------------------------------------------------------------------


class _Server:
    """The configured command, to which this speaks as a host would. Raises `Failed` where a host would give up."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=dict(environment),
            )
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else "not a command line"
            raise Failed(f"the command does not start: {said}", "Run install.sh again, then parler connect.") from error
        self._data = b""
        self._id = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> _Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the server's stdin, as hosts do, and see to it that the server ends."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STEP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def tell(self, method: str) -> None:
        self._write({"jsonrpc": "2.0", "method": method})

    def ask(self, method: str, params: Mapping[str, object]) -> dict[str, Any]:
        """The result of a request. Other lines of the server are passed over."""
        self._id += 1
        self._write({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        deadline = time.monotonic() + STEP_S
        while True:
            message = self._line(method, deadline)
            if message.get("id") != self._id or "method" in message:
                continue
            result = message.get("result")
            if not isinstance(result, dict):
                raise Failed(f"{method} was answered with an error", "parler daemon restart, then try again")
            return result

    def _write(self, message: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def _line(self, method: str, deadline: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._data:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failed(f"{method} was not answered within {STEP_S:.0f} s", "parler daemon logs")
            piece = os.read(descriptor, 65536)
            if not piece or len(self._data) > _LINE:
                raise self._ended()
            self._data += piece
        line, _, self._data = self._data.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Failed("it writes something that is not MCP to stdout", "parler connect --replace")
        return message

    def _ended(self) -> Failed:
        try:
            status = self._process.wait(STEP_S)
        except subprocess.TimeoutExpired:
            return Failed("it closed its output", "parler daemon restart, then try again")
        fix = "parler daemon start puts the shim where the entry points; then try again"
        return Failed(f"it ended at once with status {status}", fix)


# -- the host's own program ------------------------------------------------------------------------------------


def _alone(path: Path, host: Host, keys: tuple[str, ...]) -> bytes:
    """A copy of the person's file without the servers of others, which the program would start too.

    Everything else stays in the copy, because it decides whether our entry is used: a byte order mark, a comma too
    many, a list of servers that are left out.
    """
    from configs.document import Document, EditRefused, Rules

    try:
        file = Document.read(path.read_bytes(), Rules.of(host))
        for name in list(file.at(keys[:-1]) or ()):
            if name != keys[-1]:
                file = file.take((*keys[:-1], name))
    except (OSError, EditRefused) as error:
        raise Failed(f"{path} cannot be copied: {error}", "Mend the file; the host cannot read it either.") from error
    return file.data


def _program(ctx: Context, place: Place, host: Host, path: Path, keys: tuple[str, ...]) -> str | None:
    """What the host's own program says of our entry; None when no program can be asked."""
    from configs.hosts import quiet
    from configs.model import candidates

    health = host.health
    found = [there for name in host.programs if (there := shutil.which(name, path=ctx.env.get("PATH")))]
    if health is None or not found:
        return None
    program = f"{Path(found[0]).name} {' '.join(health.words)}"
    with tempfile.TemporaryDirectory(prefix="parler-probe-") as user:
        environment = {name: ctx.env[name] for name in ("PATH", "LANG", "TERM", "TMPDIR") if name in ctx.env}
        environment |= {"HOME": user, **NEUTRAL, **quiet(), **health.variables}
        config = candidates(host, place.system, environment)[0]
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_bytes(_alone(path, host, keys))
        try:
            ran = subprocess.run(
                [found[0], *health.words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=user,
                env=environment,
                timeout=PROGRAM_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`{program}` did not end within {PROGRAM_S:.0f} s", f"Run it yourself: {program}") from error
        except OSError as error:
            raise Failed(f"`{program}` does not start: {error.strerror}", f"Install {host.name} again.") from error
    said = _ESCAPES.sub("", ran.stdout.decode("utf-8", "replace"))
    if not re.search(health.shows, said):
        raise Failed(
            f"`{program}` does not show Parler as it should, over a copy of {path} without your other servers",
            f"Run it yourself: {program}",
        )
    did = "started it and is connected" if health.starts else "has read it (it starts nothing)"
    return f"`{program}` {did}, over a copy of {path} without your other servers{health.beside}"
