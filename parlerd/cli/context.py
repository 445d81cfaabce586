"""What every command is given: the output, the home, who acts, and a client that is opened when first needed.

A command asks for operations by name with typed parameters and gets the typed result. The client library is imported
at the first call, so commands that need no daemon never pay for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeVar

from parlerd.cli.output import UNREACHABLE_CODES, Output
from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from pathlib import Path

    from parlerd.operations.types import Params, Result
    from parlerd.paths import Home

R = TypeVar("R", bound="Result")

WAIT_SLICE_MS: Final = 50_000
"""One wait asked of the daemon; longer ones are asked again, so that a restarted daemon is noticed."""
ANSWER_S: Final = 30.0
"""How long a call may take beyond the wait it asks for."""
AGAIN_S: Final = 0.5
"""How often a daemon that was stopped is looked for."""
MAX_LOST: Final = 5
"""Times in a row that a wait is begun again after the daemon went away, before it is reported."""
RETRIED: Final = frozenset({"connection_lost", "draining"})


class ClientLike(Protocol):
    """The part of `parlerd.client.Client` that commands use."""

    def call(self, op: str, params: Params, timeout: float | None = None) -> Result: ...

    def stream(self, op: str, params: Params) -> Iterator[Result]: ...

    def close(self) -> None: ...


class OpenClient(Protocol):
    """`parlerd.client.connect`."""

    def __call__(
        self, home: Home, *, as_name: str, host: str, start: bool = True, hello_s: float | None = None
    ) -> ClientLike: ...


class Context:
    """One run of one command. `monotonic` and `now` are seconds."""

    def __init__(
        self,
        out: Output,
        home: Home,
        env: Mapping[str, str],
        open_client: OpenClient,
        *,
        as_name: str = "",
        stdin: BinaryIO | None = None,
    ) -> None:
        self.out = out
        self.home = home
        self.env = env
        self.open_client = open_client
        self.as_name = as_name
        self.stdin = stdin if stdin is not None else sys.stdin.buffer
        self.monotonic: Callable[[], float] = time.monotonic
        self.now: Callable[[], float] = time.time
        self.sleep: Callable[[float], None] = time.sleep
        self._client: ClientLike | None = None

    def client(self, *, start: bool = True) -> ClientLike:
        """The connection to the daemon. Starts one when none runs, unless told not to. Raises `ParlerError`."""
        if self._client is None:
            with self.out.progress("Starting the daemon"):
                self._client = self.another_client(start=start)
        return self._client

    def another_client(self, *, start: bool = True, hello_s: float | None = None) -> ClientLike:
        """A second connection, for a stream that runs beside calls. The caller closes it.

        `hello_s` is how many seconds a running daemon has for its hello, where the usual span is too long.
        """
        return self.open_client(self.home, as_name=self.as_name, host="cli", start=start, hello_s=hello_s)

    def call(self, op: str, params: Params, answer: type[R], *, wait_ms: int = 0, start: bool = True) -> R:
        """Run an operation and give its result. Raises `ParlerError`."""
        client = self.client(start=start)
        with self.out.progress("Waiting for the daemon's answer"):
            result = client.call(op, params, timeout=ANSWER_S + wait_ms / 1000)
        assert isinstance(result, answer), f"{op} answered with {type(result).__name__}"
        return result

    def call_again(self, op: str, params: Params, answer: type[R], *, wait_ms: int = 0) -> R:
        """The same, tried once more when the daemon went away in the middle.

        Only for reads, and for writes that carry an idempotency key: the second try cannot do it twice.
        """
        try:
            return self.call(op, params, answer, wait_ms=wait_ms)
        except ParlerError as error:
            if error.code not in RETRIED:
                raise
            self.disconnect()
            return self.call(op, params, answer, wait_ms=wait_ms)

    def wait_for(
        self,
        op: str,
        ask: Callable[[int], Params],
        answer: type[R],
        *,
        deadline: float | None,
        until: Callable[[R], bool],
    ) -> R:
        """Run an operation that waits, in slices, until its result will do or `deadline` (on `monotonic`) has passed.

        `ask` makes the parameters for a wait in ms. A daemon that goes away meanwhile is begun with again; one that was
        stopped in good order is waited for and not started, because somebody wanted it stopped.
        """
        lost = 0
        while True:
            left = WAIT_SLICE_MS if deadline is None else max(round((deadline - self.monotonic()) * 1000), 0)
            wait_ms = min(left, WAIT_SLICE_MS)
            try:
                result = self.call(op, ask(wait_ms), answer, wait_ms=wait_ms)
            except ParlerError as error:
                lost += 1
                if error.code not in RETRIED or lost > MAX_LOST:
                    raise
                self.recover(error, deadline)
                continue
            lost = 0
            if until(result) or wait_ms == 0 or (deadline is not None and deadline <= self.monotonic()):
                return result

    def recover(self, error: ParlerError, deadline: float | None) -> None:
        """Get ready to begin again after `error`, one of `RETRIED`."""
        self.disconnect()
        while error.code == "draining" and (deadline is None or self.monotonic() < deadline):
            try:
                self._client = self.another_client(start=False)
                return
            except ParlerError as absent:
                if not unreachable(absent):
                    raise
            self.sleep(AGAIN_S)

    def disconnect(self) -> None:
        """Drop the connection; the next call makes a new one."""
        if self._client is not None:
            with contextlib.suppress(OSError, ParlerError):
                self._client.close()
            self._client = None

    def usual_home(self) -> Path:
        """Where the home is when nobody says otherwise."""
        from parlerd.paths import home_from

        return home_from({name: value for name, value in self.env.items() if name == "HOME"}).root

    def at_terminal(self) -> bool:
        """Whether a person types at this command."""
        return self.stdin.isatty() and self.out.stderr.isatty()

    def read_stdin(self) -> str:
        """All of stdin as text, without its last line break. Raises `ParlerError(invalid_param)` if it is not UTF-8."""
        return decode_text(self.stdin.read(), "stdin")


def decode_text(data: bytes, name: str) -> str:
    """`data`, read from `name`, as text without its last line break. Raises `ParlerError(invalid_param)`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParlerError("invalid_param", f"{name} is not UTF-8 text (byte {error.start}).") from error
    return text.removesuffix("\n").removesuffix("\r")


def new_key() -> str:
    """A fresh idempotency key."""
    return "cli-" + os.urandom(12).hex()


def unreachable(error: ParlerError) -> bool:
    """Whether `error` says that no daemon answered."""
    return error.code in UNREACHABLE_CODES
