"""A client of the daemon: typed calls and streams over one blocking connection, which is made again between calls.

Not here: sockets (`link`), starting the daemon (`launch`). Above: `parlerd.cli`, which uses a client from one thread at
a time. Invariant: a call is sent at most once. Once a byte of a call left, the client does not repeat it; the caller
may, with the same idempotency key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from types import TracebackType
from typing import Final

import parlerd
from parlerd.client import launch
from parlerd.client.link import HELLO_SECONDS, Link, Response
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.paths import Home
from parlerd.wire import codec
from parlerd.wire.messages import PROTOCOL, Failure, Hello, Item

CALL_SECONDS: Final = 30.0
"""How long an answer may take, on top of the time that the call itself asks to wait."""


def connect(
    home: Home,
    *,
    as_name: str = "",
    host: str = "",
    project_dir: str = "",
    start: bool = True,
    hello_s: float | None = None,
    spawn: launch.Spawn = launch.spawn,
) -> Client:
    """A client of the daemon that serves `home`; with `start`, the daemon is started if absent, replaced if older.

    `as_name` is the agent to act as, `host` the kind of caller, `project_dir` the workspace when it is not the current
    directory, `hello_s` how many seconds a running daemon has for its answer to the hello (default: 5).
    Raises `ParlerError`: `unreachable`, `unsupported_version`, `not_permitted`, `busy`, `invalid_name`, `home_unsafe`,
    `home_not_writable`.
    """
    try:
        # A folder whose name is not UTF-8 is taken for no work tree, and a command in it works all the same.
        cwd = os.fsencode(os.getcwd()).decode("utf-8", "replace")
    except OSError:
        cwd = ""  # the current directory was removed
    hello = Hello(
        protocol=PROTOCOL,
        version=parlerd.__version__,
        role="client",
        host=host,
        cwd=cwd,
        pid=os.getpid(),
        ppid=os.getppid(),
        as_name=as_name,
        project_dir=project_dir,
    )
    client = Client(home, hello, start=start, hello_s=HELLO_SECONDS if hello_s is None else hello_s, spawn=spawn)
    client.open()
    return client


class Client:
    """A client of one home's daemon, made by `connect`. As a context manager it closes its connection at the end."""

    def __init__(self, home: Home, hello: Hello, *, start: bool, hello_s: float, spawn: launch.Spawn) -> None:
        self._home = home
        # What is said at each connection.
        self._hello = hello
        # Whether a daemon is started where none runs, and what starts it.
        self._start = start
        self._spawn = spawn
        # How many seconds a running daemon may take to answer the hello.
        self._hello_s = hello_s
        # The connection; None before the first call and after `close`.
        self._link: Link | None = None

    def open(self) -> Link:
        """The connection, which is made (again) if there is none that works. A new connection has sent no call yet."""
        if self._link is None or not self._link.is_open():
            self.close()
            self._link = launch.reach(
                self._home, self._hello, start=self._start, hello_s=self._hello_s, spawn=self._spawn
            )
        return self._link

    @property
    def daemon_version(self) -> str:
        """The version of the daemon on the other side; empty when not connected."""
        return self._link.welcome.version if self._link is not None and self._link.welcome is not None else ""

    @property
    def daemon_pid(self) -> int:
        """The daemon's process; 0 when not connected."""
        return self._link.welcome.pid if self._link is not None and self._link.welcome is not None else 0

    def call(self, op: str, params: t.Params, timeout: float | None = None) -> t.Result:
        """Run an operation; the result has the type that the registry names.

        `timeout` in seconds bounds the wait for the answer; by default 30 s and what `params` asks to wait.
        Raises the operation's own errors; `connection_lost` when the daemon went away under way, `unreachable` when it
        did not answer in time. Both can be repeated with the same idempotency key.
        """
        if timeout is None:
            timeout = CALL_SECONDS + getattr(params, "wait_ms", 0) / 1000
        link = self.open()
        return _result(op, self._answer(link, link.begin(op, codec.encode(params), CALL_SECONDS), timeout))

    def _answer(self, link: Link, id: int, timeout: float) -> Response:
        try:
            answer = link.next(id, timeout)
        finally:
            # This also runs when the person interrupts the wait; an answer that comes later is dropped.
            link.forget(id)
        if answer is None:
            raise ParlerError("unreachable", f"The daemon did not answer within {timeout:.0f} s.")
        return answer

    def carry(self, op: str, params: Callable[[int], t.Params], file: int) -> Iterator[t.Result]:
        """Hand over the file of the descriptor `file`, and run an operation on it again and again, as long as the
        answers are taken. `params` makes the parameters of the number that the file has on this connection.

        Raises what `call` raises; after `connection_lost` the file has to be handed over anew.
        """
        link = self.open()
        number = link.handed
        to_hand: int | None = file
        while True:
            if not link.is_open():
                raise ParlerError("connection_lost")
            id = link.begin(op, codec.encode(params(number)), CALL_SECONDS, to_hand)
            to_hand = None
            yield _result(op, self._answer(link, id, CALL_SECONDS))

    def stream(self, op: str, params: t.Params) -> Stream:
        """Follow an operation. The errors of the operation are raised by the stream, and not here."""
        link = self.open()
        return Stream(link, op, link.begin(op, codec.encode(params), CALL_SECONDS))

    def close(self) -> None:
        """End the connection. A later call makes a new one."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream(Iterator[t.Result]):
    """What an operation sends, one after another. Close it, or use it as a context manager, to withdraw it.

    Other calls of the same client may be made between two items. Raises what `Client.call` raises.
    """

    def __init__(self, link: Link, op: str, id: int) -> None:
        self._link = link
        self._op = op
        self._id = id
        self._ended = False

    def fileno(self) -> int:
        """For `select`. Call `poll(0)` until it gives None before you wait, because items that have arrived already do
        not make the descriptor readable."""
        return self._link.fileno()

    def __next__(self) -> t.Result:
        """The next item, waiting for it without limit."""
        item = self.poll(None)
        if item is None:
            raise StopIteration
        return item

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more."""
        return self._ended

    def poll(self, seconds: float | None) -> t.Result | None:
        """The next item if one comes within `seconds` (None: without limit); None otherwise, and after the end."""
        if self._ended:
            return None
        try:
            answer = self._link.next(self._id, seconds)
            if answer is None:
                return None
            if not isinstance(answer, Item):
                self.close()
                _result_of_end(answer)
                return None
            self._link.took(self._id)
            return _item_shape(self._op).decode(answer.item)
        except ParlerError:
            self.close()
            raise

    def close(self) -> None:
        """Withdraw the stream. Safe to repeat."""
        if not self._ended:
            self._ended = True
            self._link.forget(self._id)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@cache
def _item_shape(op: str) -> codec.Shape[t.Result]:
    return codec.Shape(OPERATIONS[op].result)


def _result(op: str, answer: Response) -> t.Result:
    _result_of_end(answer)
    assert not isinstance(answer, (Failure, Item))
    return _item_shape(op).decode(answer.result)


def _result_of_end(answer: Response) -> None:
    if isinstance(answer, Failure):
        raise ParlerError.from_body(answer.error)
