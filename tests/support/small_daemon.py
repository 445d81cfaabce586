"""A daemon in a process or a thread of its own, for tests of the blocking client: a real socket before a fake engine.

As a program: `small_daemon.py ROOT VERSION` serves until it is asked to stop; it exits with 75 if another one does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import trio

from parlerd.client.launch import EXIT_ALREADY_RUNNING
from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.ipc.server import Server
from parlerd.listener import listening
from parlerd.operations import types as t
from parlerd.paths import Home, prepare
from tests.support.callers import PERSON
from tests.support.fake_engine import FakeEngine
from tests.support.wire_client import no_windows


class Stoppable(FakeEngine):
    """Ends its daemon when `daemon.stop` is called; `rooms.list` kills it at once, as a crash would."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = trio.Event()
        self.reasons: list[str] = []
        self.crashing = False

    async def _answer(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if isinstance(params, t.StopDaemon):
            self.reasons.append(params.reason)
            self.stopping.set()
            return t.Stopping(pid=os.getpid())
        if isinstance(params, t.ListRooms):
            self.crashing = True
            self.stopping.set()
            await trio.sleep_forever()
        return await super()._answer(op, params, caller)


class ThreadDaemon:
    """A daemon in a thread; `engine` may be looked at while no call is under way."""

    def __init__(self, home: Home, version: str) -> None:
        self.engine = Stoppable()
        self._home = home
        self._version = version
        self._up = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._token: trio.lowlevel.TrioToken | None = None

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with listening(self._home) as sock:
            self._up.set()
            await serve_until_stopped(
                Server(self.engine, no_windows, version=self._version, principal=PERSON), sock, self.engine
            )

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(60)

    def stop(self) -> None:
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self.engine.stopping.set, trio_token=self._token)
        self._thread.join(60)
        assert not self._thread.is_alive()


async def serve_until_stopped(server: Server, sock: socket.socket, engine: Stoppable) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, sock)
        await engine.stopping.wait()
        if engine.crashing:
            nursery.cancel_scope.cancel()
        else:
            await server.drain()


@contextlib.contextmanager
def daemon_in_a_thread(home: Home, version: str = "0.1.0") -> Iterator[ThreadDaemon]:
    daemon = ThreadDaemon(home, version)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


async def main(root: str, version: str) -> None:
    home = Home(root=Path(root), explicit=True)
    prepare(home)
    engine = Stoppable()
    with listening(home) as sock:
        (home.root / "started").write_text(f"{os.getcwd()}\n{' '.join(os.environ)}\n{os.umask(0o077):o}\n")
        await serve_until_stopped(Server(engine, no_windows, version=version, principal=PERSON), sock, engine)
    with (home.root / "reasons").open("a") as file:
        file.writelines(f"{version} {reason}\n" for reason in engine.reasons)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], sys.argv[2])
    except ParlerError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_ALREADY_RUNNING if error.code == "already_running" else 1)
