"""A real relay: its program serves over TLS, answers its person and stops in order; a mistake is a line with a code."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import pytest
import trio

from parlerd.client import connect
from parlerd.client.launch import last_failure
from parlerd.connections.dial import WebSocketDialer
from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Label, Millis, PrincipalId
from parlerd.identity import codes, join_line
from parlerd.operations import types as t
from parlerd.paths import Home, prepare, relay_home
from parlerd.uplink.connection import LinkConnection, connected
from relay import place as places
from relay.place import Place
from tests.support.links import PERSON, OneKey
from tests.support.team import free_port
from tests.support.wire_client import short_home

pytestmark = pytest.mark.e2e

PATIENCE_S: Final = 60.0
T = TypeVar("T")


def until(look: Callable[[], T | None], what: str) -> T:
    """What `look` gives first that is not None."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"in {PATIENCE_S:.0f} s there was no {what}"
        time.sleep(0.01)
    return found


class Running:
    """One relay in a process of its own, in the home of somebody."""

    def __init__(self, home: Home, port: int) -> None:
        self.home = home
        self.relay = relay_home(home)
        prepare(self.relay)
        places.store(self.relay, Place(name="crew", address="127.0.0.1", port=port))
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        descriptor = os.open(self.relay.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "_parler", "relay", "--home", str(self.home.root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self.home.root), "PATH": os.environ["PATH"]},
                cwd="/",
            )

    def ask(self, op: str, params: t.Params) -> t.Result:
        with connect(self.relay, start=False) as client:
            return client.call(op, params)

    def status(self) -> t.RelayInfo | None:
        try:
            found = self.ask("relay.status", t.RelayStatus())
        except ParlerError:
            return None
        assert isinstance(found, t.RelayInfo)
        return found

    def up(self) -> t.RelayInfo:
        self.start()
        return until(self.status, "status")

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def running() -> Iterator[Running]:
    with short_home() as home:
        found = Running(home, free_port())
        yield found
        if found.process is not None:
            found.process.kill()
            found.process.wait(PATIENCE_S)


def get(port: int, path: str, host: str = "127.0.0.1") -> bytes:
    """What the relay answers to a request over TLS, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as sock,
    ):
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        got = b""
        while chunk := sock.recv(4096):
            got += chunk
        return got


def test_a_relay_makes_what_it_needs_serves_and_is_the_same_after_a_restart(running: Running) -> None:
    info = running.up()
    assert info.name == str(join_line.home_name("crew", HomeId(info.home)))
    assert info.url == f"wss://127.0.0.1:{running.port}/"
    assert info.join_line == f"{info.url}#{info.fingerprint}"
    assert (info.rooms, info.daemons, info.people) == (0, 0, 0)
    assert len(codes.secret_bytes(Path(info.join_secret_file).read_text())) == 16
    assert get(running.port, "/healthz").startswith(b"HTTP/1.1 200 ")
    assert get(running.port, "/").startswith(b"HTTP/1.1 404 ")
    assert get(running.port, "/openapi.json").startswith(b"HTTP/1.1 200 ")
    assert get(running.port, "/v1/rooms").startswith(b"HTTP/1.1 401 ")
    assert get(running.port, "/openapi.json", host="evil.example").startswith(b"HTTP/1.1 421 ")
    assert get(running.port, "/healthz", host="evil.example").startswith(b"HTTP/1.1 421 ")
    for path in running.relay.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    secret = Path(info.join_secret_file).read_text()
    stopping = running.ask("relay.stop", t.StopRelay())
    assert isinstance(stopping, t.RelayStopping)
    assert stopping.pid == info.pid
    assert running.ended() == 0
    again = running.up()
    assert (again.home, again.join_line) == (info.home, info.join_line)
    assert Path(again.join_secret_file).read_text() == secret
    assert secret.strip() not in running.relay.log.read_text()


def test_a_relay_that_is_told_to_end_ends_in_order_and_leaves_no_socket(running: Running) -> None:
    running.up()
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0
    assert not running.relay.socket.exists()


def test_a_second_relay_of_one_home_leaves_the_first_alone(running: Running) -> None:
    first = running.up()
    process = running.process
    running.start()
    assert running.ended() == 75
    running.process = process
    found = running.status()
    assert found is not None
    assert found.pid == first.pid


def test_a_port_that_another_program_has_is_the_last_line_of_the_log(running: Running) -> None:
    with socket.create_server(("127.0.0.1", running.port)):
        running.start()
        assert running.ended() == 1
    failure = last_failure(running.relay, program="relay")
    assert failure is not None
    assert failure.code == "port_taken"
    assert str(running.port) in failure.message


def test_a_relay_that_nobody_placed_or_whose_address_is_gone_says_so(running: Running) -> None:
    places.store(running.relay, Place(address="192.0.2.77", port=running.port))
    running.start()
    assert running.ended() == 1
    failure = last_failure(running.relay, program="relay")
    assert failure is not None
    assert failure.code == "no_address"
    places.file_of(running.relay).unlink()
    running.start()
    assert running.ended() == 1
    failure = last_failure(running.relay, program="relay")
    assert failure is not None
    assert failure.code == "relay_not_running"


@pytest.mark.parametrize("data", [b"", b"\xff\x00" * 16, b"0" * 31, b"0" * 33])
def test_a_log_whose_name_was_damaged_is_said_with_what_it_would_cost_to_lose_it(data: bytes, running: Running) -> None:
    running.up()
    assert running.process is not None
    running.process.kill()
    running.ended()
    (running.relay.root / "log.id").write_bytes(data)
    running.start()
    assert running.ended() == 1
    failure = last_failure(running.relay, program="relay")
    assert failure is not None
    assert (failure.code, "log.id" in failure.message) == ("invalid_settings", True)
    assert failure.hint.startswith("Bring it back from a backup.")
    assert "hint:" not in failure.message


def test_its_person_lists_backs_up_and_is_told_who_is_unknown(running: Running) -> None:
    info = running.up()
    assert running.ask("relay.members", t.ListRelayMembers()) == t.RelayMemberList(members=[])
    with pytest.raises(ParlerError) as refused:
        running.ask("relay.kick", t.KickFromRelay(person="zoe"))
    assert refused.value.code == "no_such_agent"
    file = running.home.root / "b.tar"
    done = running.ask("relay.backup", t.BackUpRelay(file=str(file)))
    assert done == t.RelayBackedUp(file=str(file), bytes=file.stat().st_size)
    with tarfile.open(file) as archive:
        assert {"parler.db", "keys/relay.seed", "join-secret", "place.json", "log.id"} <= set(archive.getnames())
    found = running.status()
    assert found is not None
    assert found.home == info.home


def test_somebody_comes_by_the_secret_logs_in_by_key_and_is_put_out_for_good(running: Running) -> None:
    info = running.up()
    secret = codes.secret_bytes(Path(info.join_secret_file).read_text())

    async def linked(secret: bytes | None, then: Callable[[LinkConnection], Awaitable[None]]) -> str:
        """Dial once; the code of the error that refused the link, or nothing."""
        try:
            async with (
                WebSocketDialer().dial(info.url) as stream,
                connected(
                    stream,
                    fits=partial(join_line.fits, info.fingerprint.upper()),
                    keys=OneKey(PERSON),
                    secret=secret,
                    name=Label("ben"),
                    now=lambda: Millis(int(time.time() * 1000)),
                ) as link,
            ):
                await then(link)
        except ParlerError as error:
            return error.code
        return ""

    async def nothing(link: LinkConnection) -> None:
        assert link.welcome.name == "crew"
        assert link.welcome.addresses == (info.url.removeprefix("wss://").rstrip("/"),)

    async def is_put_out(link: LinkConnection) -> None:
        members = await trio.to_thread.run_sync(running.ask, "relay.members", t.ListRelayMembers())
        assert isinstance(members, t.RelayMemberList)
        (member,) = members.members
        assert (member.person, member.name, member.connected) == (PERSON.id, "ben", True)
        assert member.fingerprint == codes.fingerprint(PrincipalId(PERSON.id))
        kicked = await trio.to_thread.run_sync(running.ask, "relay.kick", t.KickFromRelay(person="ben"))
        assert isinstance(kicked, t.KickedFromRelay)
        assert (kicked.person, kicked.links) == (PERSON.id, 1)
        with trio.fail_after(PATIENCE_S):
            await link.closed.wait()
        assert link.lost is not None
        assert link.lost.code == "kicked"

    async def main() -> list[str]:
        return [
            await linked(None, nothing),
            await linked(bytes(16), nothing),
            await linked(secret, nothing),
            await linked(None, is_put_out),
            await linked(None, nothing),
            await linked(secret, nothing),
        ]

    assert trio.run(main) == ["not_enrolled", "wrong_secret", "", "", "kicked", "wrong_secret"]
    renewed = codes.secret_bytes(Path(info.join_secret_file).read_text())
    assert renewed != secret
    assert trio.run(linked, renewed, nothing) == ""
    log = running.relay.log.read_text()
    assert codes.secret_text(secret) not in log
    assert secret.hex() not in log


def test_a_relay_keeps_the_name_of_its_log_until_its_store_is_gone(running: Running) -> None:
    def restarted() -> str:
        running.up()
        running.ask("relay.stop", t.StopRelay())
        assert running.ended() == 0
        return (running.relay.root / "log.id").read_text()

    first = restarted()
    assert restarted() == first
    for file in running.relay.root.glob("parler.db*"):
        file.unlink()
    assert restarted() != first


def test_numbers_are_told_on_this_machine_alone_and_name_nobody(running: Running) -> None:
    port = free_port()
    running.relay.settings.write_text(f"[relay]\nmetrics_port = {port}\n")
    info = running.up()
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        page = sock.makefile("rb").read().decode()
    lines = page.partition("\r\n\r\n")[2].splitlines()
    numbers = {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}
    assert numbers["parler_relay_ready"] == 1
    assert numbers["parler_relay_links"] == 0
    assert numbers["parler_relay_commits_failed_total"] == 0
    assert numbers["parler_relay_people"] == 0
    assert {f"# TYPE {name} gauge" in lines or f"# TYPE {name} counter" in lines for name in numbers} == {True}
    for secret in (info.home, info.fingerprint, info.name, "crew", str(running.home.root)):
        assert secret not in page
    assert get(running.port, "/metrics").startswith(b"HTTP/1.1 404 ")
    assert get(running.port, "/readyz").startswith(b"HTTP/1.1 200 ")
