"""`parler daemon ...`: start, stop and look at the one daemon of this home.

Not here: how a daemon is started (`parlerd.client.launch`), and how it stops (`parlerd.daemon`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, Literal, TextIO

from parlerd.cli.context import Context, unreachable
from parlerd.cli.handlers import Handler, no_arguments
from parlerd.cli.output import DONE, UNREACHABLE, Output, moment
from parlerd.cli.parsing import Parser, positive
from parlerd.cli.render import counted, span_of
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.process import is_alive

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from parlerd.paths import Home

STOP_S: Final = 15.0
"""How long a daemon may take to end: 2 s to drain, the rest to write its snapshots."""
POLL_S: Final = 0.02
FOLLOW_S: Final = 0.25
LINES: Final = 50
"""How many lines of the log are shown where nobody names a number."""
NOT_RUNNING: Final[dict[str, object]] = {"running": False, "pid": None}


def _start_arguments(parser: Parser) -> None:
    parser.add_argument("--foreground", action="store_true", help="become the daemon instead of starting one")


def _start(ctx: Context, args: Namespace) -> int:
    if args.foreground:
        from parlerd.client.launch import daemon_command

        os.execve(sys.executable, daemon_command(ctx.home), dict(ctx.env))  # noqa: S606 - there is no shell to keep
    return _show(ctx, ctx.call("daemon.status", t.DaemonStatus(), t.DaemonInfo))


def _stop(ctx: Context, _args: Namespace) -> int:
    pid = _stop_and_wait(ctx)
    if ctx.out.json:
        ctx.out.document({**NOT_RUNNING, "stopped": pid})
    elif pid is None:
        ctx.out.say("No daemon is running.")
    else:
        ctx.out.say(f"The daemon (pid {pid}) stopped. The next command, or an agent's next tool call, starts it again.")
    return DONE


def _restart(ctx: Context, _args: Namespace) -> int:
    _stop_and_wait(ctx)
    return _show(ctx, ctx.call("daemon.status", t.DaemonStatus(), t.DaemonInfo))


def _status(ctx: Context, _args: Namespace) -> int:
    try:
        info = ctx.call("daemon.status", t.DaemonStatus(), t.DaemonInfo, start=False)
    except ParlerError as error:
        if not unreachable(error) or at_socket(ctx.home) != "nobody":
            raise
        if (found := hidden(ctx.home)) is not None:
            raise found from None
        if ctx.out.json:
            ctx.out.document(NOT_RUNNING)
        else:
            ctx.out.say("No daemon is running. The next command starts it.")
        return UNREACHABLE
    return _show(ctx, info)


def _show(ctx: Context, info: t.DaemonInfo) -> int:
    out = ctx.out
    if out.json:
        out.document(info)
        return DONE
    up = span_of(info.uptime_ms / 1000)
    out.say("The daemon has been ", ("running", "good"), f" for {up}: pid {info.pid}, version {info.version}")
    counts = (counted(info.rooms, "room"), counted(info.connections, "connection"))
    out.say(f"{', '.join(counts)}, {counted(info.windows, 'agent window')}")
    out.say(("home    ", "dim"), info.home)
    out.say(("socket  ", "dim"), info.socket)
    if info.http is not None:
        out.say(("http    ", "dim"), info.http, ", where your programs are let in without a token" * info.http_open)
    if info.watched:
        out.say(("sight   ", "dim"), f"watches what {', '.join(info.watched)} records, as you chose")
    return DONE


def _stop_and_wait(ctx: Context) -> int | None:
    """Ask the daemon to drain and wait for its process to end; its pid, or `None` when none ran."""
    try:
        pid = ctx.call("daemon.stop", t.StopDaemon(), t.Stopping, start=False).pid
    except ParlerError as error:
        if error.code != "unreachable" or at_socket(ctx.home) != "nobody":
            raise
        from parlerd.client.launch import holder

        pid = holder(ctx.home)
        if not pid:
            return None
        # The daemon cannot be reached over its socket, so it gets the signal that a service manager would send.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    ctx.disconnect()
    deadline = ctx.monotonic() + STOP_S
    with ctx.out.progress("Waiting for the daemon to end"):
        while is_alive(pid):
            if ctx.monotonic() > deadline:
                raise ParlerError(
                    "unreachable", f"The daemon (pid {pid}) was asked to stop and still runs.", hint=f"kill {pid}"
                )
            ctx.sleep(POLL_S)
    return pid


def at_socket(home: Home) -> Literal["nobody", "somebody", "forbidden"]:
    """Whether a process accepts connections at this home's socket; `forbidden` when this program may not connect."""
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(home.address())
    except PermissionError:
        return "forbidden"
    except OSError:
        return "nobody"
    return "somebody"


def hidden(home: Home) -> ParlerError | None:
    """The error for a daemon that holds this home and cannot be reached, because its socket was removed; None when
    there is no such daemon."""
    from parlerd.client.launch import holder

    pid = holder(home)
    if not pid:
        return None
    said = f"A daemon (pid {pid}) holds this home, and its socket {home.socket} is not there."
    return ParlerError("unreachable", said, hint="It leaves by itself in a moment; `parler daemon stop` ends it now.")


def log_arguments(parser: Parser) -> None:
    """What showing a log takes."""
    parser.add_argument("-n", "--lines", type=positive, metavar="N", help="how many lines (default 50)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with whatever is logged, until interrupted")


def _logs_arguments(parser: Parser) -> None:
    log_arguments(parser)
    parser.add_argument(
        "--frames",
        action="store_true",
        help="follow the frames of the local socket instead, without their contents, until interrupted or for N frames",
    )


def _logs(ctx: Context, args: Namespace) -> int:
    if args.frames:
        return _frames(ctx, args.lines)
    path = ctx.home.log
    hint = "No daemon ever ran in this home; any command starts one."
    return show_log(ctx, path, args, ParlerError("unreachable", f"There is no log at {path}.", hint=hint))


def show_log(ctx: Context, path: Path, args: Namespace, absent: ParlerError) -> int:
    """Print the end of a log, or follow it. Raises `absent` where there is none."""
    out = ctx.out
    try:
        log = path.open(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        raise absent from None
    except OSError as error:
        raise ParlerError("home_unsafe", f"{path} cannot be read: {error.strerror}.") from error
    with log:
        lines = log.readlines()[-(args.lines or LINES) :]
        if args.follow:
            out.stream()
            _follow(ctx, log, lines)
        elif out.json:
            out.document({"path": str(path), "lines": [line.rstrip("\n") for line in lines]})
        else:
            for line in lines:
                out.line(line.rstrip("\n"))
    return DONE


def _frames(ctx: Context, count: int | None) -> int:
    """Show what passes the socket from now on. The daemon drops the contents of frames, and keeps frames only while
    this command follows them."""
    out = ctx.out
    out.stream()
    out.note("This command follows the frames of the local socket, without their contents. Ctrl-C ends the command.")
    for number, item in enumerate(ctx.client().stream("daemon.frames", t.FollowFrames()), start=1):
        assert isinstance(item, t.FrameInfo)
        if out.json:
            out.item(item)
        else:
            _show_frame(out, item)
        if number == count:
            break
    return DONE


def _show_frame(out: Output, item: t.FrameInfo) -> None:
    if item.left_out:
        out.note((f"{counted(item.left_out, 'frame')} left out here: more came than this command took.", "warn"))
    way = "->" if item.direction == "in" else "<-"
    said = [str(each) for each in (item.type, item.id, item.operation, item.code) if isinstance(each, str | int)]
    fields = ", ".join(f"{name}: {kind}" for name, kind in item.fields.items())
    clock = f"{moment(item.at)}.{item.at % 1000:03d} "
    size = f" {item.size} bytes" + (f"; {fields}" if fields else "")
    out.line((clock, "dim"), f"#{item.connection} {way} ", (" ".join(said), "name"), (size, "dim"))
    out.flush()


def _follow(ctx: Context, log: TextIO, lines: list[str]) -> None:
    while True:
        for line in lines:
            if ctx.out.json:
                ctx.out.item({"line": line.rstrip("\n")})
            else:
                ctx.out.line(line.rstrip("\n"))
        ctx.out.flush()
        ctx.sleep(FOLLOW_S)
        lines = log.readlines()


HANDLERS: Final = {
    "daemon start": Handler(
        _start_arguments,
        _start,
        section="This install",
        rank=40,
        summary="Start the daemon, and wait until it answers.",
        examples=("parler daemon start",),
    ),
    "daemon stop": Handler(no_arguments, _stop, section="This install", rank=50, examples=("parler daemon stop",)),
    "daemon restart": Handler(
        no_arguments,
        _restart,
        section="This install",
        rank=60,
        summary="Stop the daemon and start it again.",
        examples=("parler daemon restart",),
    ),
    "daemon status": Handler(
        no_arguments, _status, section="This install", rank=20, examples=("parler daemon status",)
    ),
    "daemon logs": Handler(
        _logs_arguments,
        _logs,
        section="This install",
        rank=30,
        summary="Show the end of the daemon's log.",
        examples=(
            "parler daemon logs --follow",
            "parler daemon logs -n 200",
            "parler daemon logs --frames",
        ),
    ),
}
