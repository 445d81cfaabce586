"""A relay in a process of its own for the benchmarks, and homes that are enrolled there.

Not here: any figure. The relay listens on the loopback, with TLS. Its bounds are wide, because a benchmark brings more
links in a second than people do. Above: the scripts. Below: `relay`, used as its person uses it, and `parlerd.uplink`.
Invariant: as in `common`.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from benchmarks import common
from parlerd.cli.demo_home import DemoHome
from parlerd.client import connect
from parlerd.connections.dial import WebSocketDialer
from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Label, Millis
from parlerd.identity import codes, join_line
from parlerd.identity.keyring import KeyRing
from parlerd.operations import types as t
from parlerd.paths import prepare, relay_home
from parlerd.uplink.connection import Keys, LinkConnection, connected
from parlerd.uplink.homes import Homes
from relay import place as places

WIDE: Final = """
[relay]
links = 100000
people = 100000
enrolments = 100000
unproven = 1000
unproven_per_address = 1000
rate = 100000
rate_per_address = 100000
"""
START_S: Final = 20.0
STOP_S: Final = 10.0


@dataclass(frozen=True)
class Relay:
    """A relay that runs."""

    pid: int
    id: HomeId
    url: str
    pin: str
    secret: bytes

    @asynccontextmanager
    async def link(self, keys: Keys, *, enrol: bool = False) -> AsyncIterator[LinkConnection]:
        """A link of somebody who has these keys."""
        async with (
            WebSocketDialer().dial(self.url) as stream,
            connected(
                stream,
                fits=partial(join_line.fits, self.pin),
                keys=keys,
                secret=self.secret if enrol else None,
                name=Label("bench"),
                now=now,
            ) as connection,
        ):
            yield connection


def now() -> Millis:
    return Millis(int(time.time() * 1000))


@contextlib.contextmanager
def running(place: Path | None = None) -> Iterator[Relay]:
    """A relay in a throw-away home."""
    with common.empty_home(place) as made:
        own = relay_home(made.home)
        prepare(own)
        own.settings.write_text(WIDE)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = int(sock.getsockname()[1])
        places.store(own, places.Place(name="bench", address="127.0.0.1", port=port))
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "_parler", "relay", "--home", str(made.home.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            info = _status(made)
            yield Relay(
                process.pid,
                HomeId(info.home),
                info.url,
                join_line.parse(info.join_line).pin,
                codes.secret_bytes(Path(info.join_secret_file).read_text()),
            )
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def bare_send(readers: int, bursts: int) -> float:
    """Microseconds of processor time for one TLS send to one of so many readers (`peer_tls_send`)."""
    with tempfile.TemporaryDirectory() as folder:
        sender = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peer_tls_send", folder, str(readers), str(bursts)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sender.stdout is not None
        port = int(sender.stdout.readline())
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with selectors.DefaultSelector() as waiting, contextlib.ExitStack() as open_ends:
            for _ in range(readers):
                end = open_ends.enter_context(socket.create_connection(("127.0.0.1", port)))
                end = open_ends.enter_context(context.wrap_socket(end))
                end.setblocking(False)
                waiting.register(end, selectors.EVENT_READ)
            while waiting.get_map():
                for ready, _ in waiting.select():
                    assert isinstance(ready.fileobj, ssl.SSLSocket)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        while ready.fileobj.recv(65_536):
                            pass
                        waiting.unregister(ready.fileobj)
        found = float(sender.stdout.readline())
        sender.wait(STOP_S)
    return found


def _status(made: DemoHome) -> t.RelayInfo:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with connect(relay_home(made.home), start=False) as client:
                found = client.call("relay.status", t.RelayStatus())
        except ParlerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            assert isinstance(found, t.RelayInfo)
            return found


@contextlib.contextmanager
def home(relay: Relay, place: Path | None = None) -> Iterator[DemoHome]:
    """A throw-away home whose person is enrolled at the relay, with its daemon running. New sessions open at the
    relay."""
    with common.empty_home(place) as made:
        prepare(made.home)
        keys = KeyRing(made.home.keys)

        async def enrol() -> None:
            async with relay.link(keys, enrol=True) as connection:
                assert connection.home == relay.id

        # As `parler connect --relay` does, which only a person may run.
        trio.run(enrol)
        Homes(made.home.homes).add(relay.id, "bench", relay.url, relay.pin, default=True)
        common.start(made)
        yield made


def room_of(owner: DemoHome, name: str, *others: tuple[DemoHome, str], home: str = "") -> str:
    """Open a session as `name`, at the relay or where `home` says, with the others in it. Gives the room's id."""
    with common.RawConnection(owner, as_name=name) as opener:
        opened = opener.call(
            "session.open", t.OpenSession(context="benchmark", topic="bench", home=home, max_uses=1_000)
        )
    for made, who in others:
        with common.RawConnection(made, as_name=who) as joiner:
            joined = joiner.call("session.join", t.JoinSession(session_key=opened.session_key))
            assert joined.status == "joined", joined.status
            joiner.call("message.commit", t.Commit(room=opened.room, cursor=joined.cursor))
    room: str = opened.room
    return room
