"""Where new sessions live: `parler connect --team`, `--relay LINE` and `--local`, and starting one's own relay.

A relay makes its own key, certificate and secret when its program first starts; a command writes where the relay
listens, starts it, and asks it for its line. Not here: the other commands about a relay (`relay`), agent hosts
(`connect`). Below: `relay.place`, `relay.service`, and the daemon, which alone knows and dials homes. Invariants: a
secret is read from a terminal, a file or stdin, and never from the command line; a relay that could not be set up
leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from parlerd import __version__
from parlerd.cli.context import MAX_SECRET, Context, decode_text, unreachable
from parlerd.cli.parsing import UsageError
from parlerd.client.versions import is_older
from parlerd.core.errors import ParlerError
from parlerd.core.model import LOCAL_HOME
from parlerd.operations import types as t
from parlerd.paths import Home, prepare, relay_home
from parlerd.process import is_alive
from parlerd.wire.messages import PROTOCOL
from relay import place as places
from relay.network import HERE, Network, SystemNetwork, spelled
from relay.service import Runner, Service, SystemRunner

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

MAKE: Final = "parler connect --team"
"""Makes the relay, and puts this release in the place of an older one that runs."""
NOT_REACHED: Final = (
    "Nothing was stored. Look whether the relay runs (`parler relay status`, on its machine) and whether this machine "
    "is in its network; then run this again."
)
START_S: Final = 20.0
"""How long a relay may take to answer after it was started: its program imports an engine and makes a certificate."""
STOP_S: Final = 15.0
POLL_S: Final = 0.05
TRIES: Final = 3
"""How often a person may type the secret at a terminal."""
ADD_S: Final = 30.0
_STDIN: Final = "-"


class Team(NamedTuple):
    """The relay that runs on this machine. `is_new` says that nobody was enrolled there yet, so that the secret was
    never shown."""

    info: t.RelayInfo
    home: t.HomeEntry
    is_new: bool
    lingers: bool


# -- the relay of this person ------------------------------------------------------------------------------


def relay_of(ctx: Context) -> Home:
    """The home of this person's relay."""
    return relay_home(ctx.home)


def service_of(ctx: Context, runner: Runner | None = None) -> Service:
    """The service of this person's relay."""
    return Service(ctx.home, relay_of(ctx), runner or SystemRunner(ctx.env), ctx.env, is_macos=sys.platform == "darwin")


def ask(ctx: Context, op: str, params: t.Params) -> t.Result:
    """Run an operation of the relay. Raises `ParlerError`: `relay_not_running` where none answers, and
    `unsupported_version`, which says whether the relay or this command is the older one."""
    try:
        client = ctx.open_client(relay_of(ctx), as_name="", host="cli", start=False)
        try:
            return client.call(op, params)
        finally:
            client.close()
    except ParlerError as error:
        if error.code == "unsupported_version":
            raise _other_release(error) from None
        raise (ParlerError("relay_not_running") if unreachable(error) else error) from None


def _other_release(error: ParlerError) -> ParlerError:
    """What a person does about a relay that does not take the calls of this release."""
    if _is_outdated(error):
        said, hint = "The relay that runs here is older than this command.", f"Put this release in its place: {MAKE}"
    else:
        said, hint = "The relay that runs here is newer than this command.", "Use the newer install, or upgrade this."
    return ParlerError(error.code, said, hint=hint, **error.details)


def _is_outdated(error: ParlerError) -> bool:
    """Whether a relay that does not take the calls of this release came before it."""
    return error.code == "unsupported_version" and error.details.get("daemon", PROTOCOL) < PROTOCOL


def agent_host_above() -> str:
    """The agent host that started this command, or nothing."""
    import os

    from configs.hosts import recognised
    from parlerd.process import surroundings_of

    return surroundings_of(os.getpid(), recognised()).agent_host


def require_person() -> None:
    """To open a port of this machine to others is the person's. Raises `ParlerError(needs_person)` for a command that
    an agent host started: a speed bump, as for the daemon's own decisions."""
    if host := agent_host_above():
        raise ParlerError("needs_person", f"This was started by an agent host ({host}).")


def status(ctx: Context) -> t.RelayInfo | None:
    """How the relay is; None when none runs."""
    try:
        found = ask(ctx, "relay.status", t.RelayStatus())
    except ParlerError as error:
        if error.code in ("relay_not_running", "connection_lost", "draining"):
            return None
        raise
    assert isinstance(found, t.RelayInfo)
    return found


def start(ctx: Context, service: Service, *, again: bool = False) -> t.RelayInfo:
    """Start the relay's service and give its status once it serves. Raises `ParlerError`, with what the relay said
    where it could not."""
    from parlerd.client.launch import last_failure

    # A home that was brought back from a backup has no folder for the log yet.
    prepare(relay_of(ctx))
    log = relay_of(ctx).log
    before = _size_of(log)
    service.start(again=again)
    deadline = ctx.monotonic() + START_S
    with ctx.out.progress("Waiting for the relay to answer"):
        while (found := status(ctx)) is None:
            # A log that did not grow ends with what an earlier relay said.
            if _size_of(log) > before and (said := last_failure(relay_of(ctx), program="relay")) is not None:
                raise said
            if ctx.monotonic() > deadline:
                raise ParlerError(
                    "relay_not_running",
                    f"The relay did not answer within {START_S:.0f} s.",
                    hint="Its log may say why: parler relay logs",
                )
            ctx.sleep(POLL_S)
    return found


def _size_of(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def wait_until_it_ended(ctx: Context, pid: int) -> None:
    """Until the process is gone. Raises `ParlerError(unreachable)`."""
    deadline = ctx.monotonic() + STOP_S
    with ctx.out.progress("Waiting for the relay to end"):
        while is_alive(pid):
            if ctx.monotonic() > deadline:
                raise ParlerError(
                    "unreachable", f"The relay (pid {pid}) was asked to stop and still runs.", hint=f"kill {pid}"
                )
            ctx.sleep(POLL_S)


def stop(ctx: Context, service: Service) -> int | None:
    """Stop the relay and wait for its end; its pid, or None where none ran."""
    try:
        running = status(ctx)
    except ParlerError as error:
        if not _is_outdated(error):
            raise
        return _stop_outdated(ctx, service)
    service.stop()
    if running is None:
        return None
    if is_alive(running.pid):
        try:
            ask(ctx, "relay.stop", t.StopRelay())
        except ParlerError as error:
            if error.code not in ("relay_not_running", "connection_lost", "draining"):
                raise
        wait_until_it_ended(ctx, running.pid)
    return running.pid


def _stop_outdated(ctx: Context, service: Service) -> int:
    """Stop a relay that takes no other call of this release, and wait for its end; its pid."""
    stopping = ask(ctx, "daemon.stop", t.StopDaemon(reason="upgrade"))
    assert isinstance(stopping, t.Stopping)
    service.stop()
    wait_until_it_ended(ctx, stopping.pid)
    return stopping.pid


def keep_place(
    ctx: Context, args: Namespace, network: Network | None = None
) -> tuple[places.Place | None, places.Place]:
    """The place of the relay before, and the place that is asked for now. Nothing is written. Raises `ParlerError`."""
    known = places.load(relay_of(ctx))
    return known, places.choose(network or SystemNetwork(), known, bind=args.bind, port=args.port, name=args.name)


def refuse_taken_port(address: str, port: int) -> None:
    """Raises `ParlerError(port_taken)` where another program listens there. The relay itself says so too, but by then
    its service is there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ParlerError("port_taken", f"Another program has the port {spelled(address, port)}.") from None
            if error.errno == errno.EACCES:
                raise ParlerError(
                    "port_taken", f"This user may not listen on port {port}.", hint="Take a port from 1024 on."
                ) from None
            raise ParlerError("no_address", f"{address} cannot be used: {error.strerror}.") from error


# -- connect --team, --relay, --local ----------------------------------------------------------------------


def make_team(ctx: Context, args: Namespace, *, network: Network | None = None, runner: Runner | None = None) -> Team:
    """Set the relay up, or leave one that is as it is asked for alone; add it here and make it the default. A relay
    that is older than this program is ended, and this one begun in its place."""
    require_person()
    network = network or SystemNetwork()
    # What cannot be a place is refused before anything is written.
    keep_place(ctx, args, network)
    prepare(ctx.home)
    with _alone(ctx.home):
        return _make_team(ctx, args, network, service_of(ctx, runner))


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Let no second command make, move or replace the relay of this person meanwhile. It waits for the first."""
    import fcntl
    import os

    descriptor = os.open(home.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system that locks no directories
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_team(ctx: Context, args: Namespace, network: Network, service: Service) -> Team:
    home = relay_of(ctx)
    known, wanted = keep_place(ctx, args, network)
    try:
        running = status(ctx)
    except ParlerError as error:
        if not _is_outdated(error):
            raise
        stop(ctx, service)
        running = None
    if running is None or wanted != known or is_older(running.version, __version__):
        if running is None or wanted != known:
            address = places.resolve(network, wanted)
            if running is None or spelled(address, wanted.port) not in running.addresses:
                refuse_taken_port(address, wanted.port)
        prepare(home)
        places.store(home, wanted)
        try:
            service.make()
            if running is not None:
                stop(ctx, service)
            running = start(ctx, service, again=running is not None)
        except ParlerError:
            if known is None:
                service.remove()
                places.file_of(home).unlink(missing_ok=True)
            elif wanted != known:
                places.store(home, known)
            raise
    is_new = running.people == 0
    added = _add_own(ctx, running, wanted.port, places.secret_of(home).read_text(encoding="ascii").strip())
    return Team(running, added.home, is_new, service.lingers())


def _add_own(ctx: Context, running: t.RelayInfo, port: int, secret: str) -> t.HomeAdded:
    """Add the relay of this machine: at the address by which others reach it, and at the loopback, where the agents of
    this machine find it whatever becomes of the network."""
    here = f"wss://{spelled(HERE, port)}/#{running.fingerprint}"
    try:
        # First, because the daemon makes its link as soon as it knows an address.
        added = add(ctx, here, secret)
    except ParlerError as error:
        # Another program has that port of the loopback.
        if error.code not in ("home_unreachable", "wrong_relay") or running.join_line in ("", here):
            raise
    else:
        if running.join_line in ("", here):
            return added
    return add(ctx, running.join_line, secret)


def join_relay(ctx: Context, args: Namespace) -> t.HomeAdded:
    """Add the relay of somebody's line. The person is asked for the secret where the relay does not know them yet, and
    no file was named."""
    secret = "" if args.join_secret_file is None else read_secret_file(ctx, args.join_secret_file)
    tries = 0
    while True:
        try:
            return add(ctx, args.relay, secret)
        except ParlerError as error:
            wants_secret = error.code == "not_enrolled" or (error.code == "wrong_secret" and 0 < tries < TRIES)
            if args.join_secret_file is not None or not wants_secret:
                raise
            if not ctx.at_terminal():
                raise ParlerError(
                    error.code, hint="Name the file with its join secret (- is stdin): --join-secret-file FILE"
                ) from None
            if tries:
                ctx.out.note((error.message, "warn"))
            secret = ctx.read_secret("The join secret of this relay: ")
            tries += 1


def add(ctx: Context, line: str, secret: str) -> t.HomeAdded:
    with ctx.out.progress("Asking the relay"):
        try:
            return ctx.call("homes.add", t.AddHome(line=line, secret=secret), t.HomeAdded, wait_ms=round(ADD_S * 1000))
        except ParlerError as error:
            if error.code == "home_unreachable":
                error.hint = NOT_REACHED
            raise


def choose_local(ctx: Context) -> None:
    """From now on new sessions open on this machine, as they do where no relay was ever added."""
    if ctx.home.homes.exists():
        ctx.call("homes.default", t.ChooseHome(name=LOCAL_HOME), t.HomeEntry)


def read_secret_file(ctx: Context, name: str) -> str:
    """The secret in a file, or on stdin for `-`. Raises `UsageError`."""
    import os
    import stat

    if name == _STDIN:
        return decode_text(ctx.stdin.read(MAX_SECRET), "stdin").strip()
    try:
        with open(name, "rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                ctx.out.note(("Other users can read this secret: ", "warn"), f"chmod 600 {name}")
            data = file.read(MAX_SECRET)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", path="parler connect") from error
    return decode_text(data, name).strip()
