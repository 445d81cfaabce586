"""The relay's own socket, asked by the client library that commands use."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from parlerd.client import Client, connect, launch
from parlerd.core.errors import ParlerError
from parlerd.listener import listening
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.paths import Home
from parlerd.process import Hosts
from parlerd.wire.frames import frame
from parlerd.wire.messages import HOST_PROTOCOL, PROTOCOL, Hello
from parlerd.wire.peer import UPGRADE_OPERATION, ClientPeer
from relay import admin
from relay.admin import Admin
from tests.support.answers import relay_info
from tests.support.wire_client import short_home


@pytest.fixture
def home() -> Iterator[Home]:
    with short_home() as home:
        yield home


@dataclass
class Scripted:
    """A relay that answers from a script."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    async def status(self) -> t.RelayInfo:
        return relay_info()

    async def members(self) -> t.RelayMemberList:
        raise RuntimeError("a mistake in the relay")

    async def kick(self, person: str) -> t.KickedFromRelay:
        self.asked.append(("kick", person))
        if person == "nobody":
            raise ParlerError("no_such_agent")
        return t.KickedFromRelay(
            person="A1", name=person, links=1, memberships=2, keys=3, join_secret_file="/relay/join-secret"
        )

    async def backup(self, file: str) -> t.RelayBackedUp:
        self.asked.append(("backup", file))
        return t.RelayBackedUp(file=file, bytes=7)

    async def stop(self) -> t.RelayStopping:
        self.asked.append(("stop", ""))
        return t.RelayStopping(pid=os.getpid())


@asynccontextmanager
async def serving(home: Home, control: Scripted, hosts: Hosts | None = None) -> AsyncIterator[None]:
    with listening(home) as sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Admin(control, hosts or Hosts()).serve, sock)
            yield
            nursery.cancel_scope.cancel()


async def ask(home: Home, op: str, params: t.Params) -> t.Result:
    def called() -> t.Result:
        with connect(home, start=False) as client:
            return client.call(op, params)

    return await trio.to_thread.run_sync(called)


async def refused(home: Home, op: str, params: t.Params) -> str:
    with pytest.raises(ParlerError) as error:
        await ask(home, op, params)
    return error.value.code


def test_it_answers_every_operation_of_its_plane_and_no_other(home: Home) -> None:
    of_relay = {name for name, operation in OPERATIONS.items() if operation.plane == "relay"}
    assert Admin(Scripted(), Hosts()).answers == of_relay | {UPGRADE_OPERATION}

    async def main() -> None:
        async with serving(home, Scripted()):
            for op in ("daemon.status", "message.recv", "homes.list"):
                assert await refused(home, op, OPERATIONS[op].params()) == "unknown_operation"

    trio.run(main)


def test_a_command_of_a_newer_protocol_may_end_it_and_nothing_else(home: Home) -> None:
    newer = Hello(protocol=PROTOCOL + 1, version="99.0.0", role="client", pid=os.getpid())
    control = Scripted()

    def asks(op: str, params: t.Params) -> t.Result:
        with Client(home, newer, start=False, hello_s=5, spawn=launch.spawn) as client:
            return client.call(op, params)

    async def main() -> None:
        async with serving(home, control):
            for op in ("relay.status", "relay.stop"):
                with pytest.raises(ParlerError) as error:
                    await trio.to_thread.run_sync(asks, op, OPERATIONS[op].params())
                assert error.value.code == "unsupported_version"
            assert control.asked == []
            stopping = await trio.to_thread.run_sync(asks, UPGRADE_OPERATION, t.StopDaemon(reason="upgrade"))
            assert stopping == t.Stopping(pid=os.getpid())
            assert control.asked == [("stop", "")]

    trio.run(main)


def test_a_command_gets_what_the_relay_says_and_what_it_refuses(home: Home) -> None:
    async def main() -> None:
        control = Scripted()
        async with serving(home, control):
            assert await ask(home, "relay.status", t.RelayStatus()) == relay_info()
            kicked = await ask(home, "relay.kick", t.KickFromRelay(person="ben"))
            assert isinstance(kicked, t.KickedFromRelay)
            assert (kicked.name, kicked.memberships) == ("ben", 2)
            assert await refused(home, "relay.kick", t.KickFromRelay(person="nobody")) == "no_such_agent"
            assert await ask(home, "relay.backup", t.BackUpRelay(file="/b")) == t.RelayBackedUp(file="/b", bytes=7)
            assert await ask(home, "relay.stop", t.StopRelay()) == t.RelayStopping(pid=os.getpid())
            assert await refused(home, "relay.members", t.ListRelayMembers()) == "internal"
            assert [what for what, _ in control.asked] == ["kick", "kick", "backup", "stop"]

    trio.run(main)


def test_a_program_that_an_agent_host_started_looks_and_changes_nothing(home: Home) -> None:
    # Every process has this variable, so every process counts as started by that host.
    hosts = Hosts(markers={"PATH": "codex"})

    async def main() -> None:
        control = Scripted()
        async with serving(home, control, hosts):
            assert await ask(home, "relay.status", t.RelayStatus()) == relay_info()
            for op, params in (
                ("relay.kick", t.KickFromRelay(person="ben")),
                ("relay.backup", t.BackUpRelay(file="/b")),
                ("relay.stop", t.StopRelay()),
            ):
                assert await refused(home, op, params) == "needs_person"
        assert control.asked == []

    trio.run(main)


def connected(home: Home) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(60)
    sock.connect(str(home.socket))
    return sock


def hello(**about: Any) -> bytes:
    return ClientPeer().hello(Hello(**{"protocol": PROTOCOL, "version": "1", "role": "client", **about}))


async def answer_to(home: Home, *sent: bytes) -> bytes:
    """What comes back until the relay ends the connection."""

    def talk() -> bytes:
        with connected(home) as sock:
            for data in sent:
                sock.sendall(data)
            got = b""
            while chunk := sock.recv(65_536):
                got += chunk
            return got

    return await trio.to_thread.run_sync(talk)


def test_what_is_no_command_is_told_so_and_the_next_is_served(home: Home) -> None:
    async def main() -> None:
        async with serving(home, Scripted()):
            assert b"bad_frame" in await answer_to(home, frame(b"\xc1"))
            assert b"bad_frame" in await answer_to(home, hello(role="stdio", protocol=HOST_PROTOCOL))
            assert b"unsupported_version" in await answer_to(home, hello(protocol=PROTOCOL - 1))
            assert await ask(home, "relay.status", t.RelayStatus()) == relay_info()

    trio.run(main)


def test_a_connection_that_says_nothing_ends_and_too_many_are_turned_away(home: Home) -> None:
    path = str(home.socket)

    async def main() -> None:
        async with serving(home, Scripted()), AsyncExitStack() as stack:
            held = [
                await stack.enter_async_context(await trio.open_unix_socket(path)) for _ in range(admin.CONNECTIONS)
            ]
            await wait_all_tasks_blocked()
            more = await stack.enter_async_context(await trio.open_unix_socket(path))
            assert b"busy" in await more.receive_some(4096)
            began = trio.current_time()
            assert await held[0].receive_some(4096) == b""
            assert trio.current_time() - began <= admin.HELLO_S + 1

    trio.run(main, clock=MockClock(autojump_threshold=0.02))
