"""What every command is given: the output, the home, who acts, and a client that is opened when it is first needed.

A command runs an operation by its name, with typed parameters, and gets a typed result. Above: every command. Below:
`output`, `parlerd.client`. Invariant: the client library is imported at the first call, so a command that needs no
daemon never pays for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeVar

from parlerd.cli.output import ELSEWHERE_CODES, UNREACHABLE_CODES, Output
from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from pathlib import Path

    from parlerd.operations.types import Params, Result
    from parlerd.paths import Home

R = TypeVar("R", bound="Result")

WAIT_SLICE_MS: Final = 50_000
"""The longest wait that one call asks for. A longer wait is several calls, so that a restarted daemon is noticed."""
ANSWER_S: Final = 30.0
"""How long a call may take beyond the wait that it asks for."""
AGAIN_S: Final = 0.5
"""How often a daemon that was stopped is looked for."""
MAX_LOST: Final = 5
"""How many times in a row a wait is begun again after the daemon went away. The next loss is reported."""
MAX_SECRET: Final = 1024
"""The most bytes of a secret that are read."""
RETRIED: Final = frozenset({"connection_lost", "draining"})
"""The errors after which a wait or a read is begun again."""


class ClientLike(Protocol):
    """The part of `parlerd.client.Client` that commands use."""

    def call(self, op: str, params: Params, timeout: float | None = None) -> Result: ...

    def carry(self, op: str, params: Callable[[int], Params], file: int) -> Iterator[Result]: ...

    def stream(self, op: str, params: Params) -> Iterator[Result]: ...

    def close(self) -> None: ...


class OpenClient(Protocol):
    """`parlerd.client.connect`."""

    def __call__(
        self, home: Home, *, as_name: str, host: str, start: bool = True, hello_s: float | None = None
    ) -> ClientLike: ...


class Context:
    """One run of one command."""

    def __init__(
        self,
        out: Output,
        home: Home,
        env: Mapping[str, str],
        open_client: OpenClient,
        *,
        as_name: str = "",
        words: Sequence[str] = (),
        stdin: BinaryIO | None = None,
    ) -> None:
        self.out = out
        self.home = home
        self.env = env
        self.open_client = open_client
        """What opens a connection to the daemon. Tests pass one of their own."""
        self.as_name = as_name
        """The agent to act as; empty for the person's own."""
        self.words = words
        """What was typed after `parler`."""
        self.stdin = stdin if stdin is not None else sys.stdin.buffer
        self.wants_receipt = False
        """Whether what is done brings its receipt along."""
        self._receipts: list[str] = []
        """The receipts of what this command did, in the order in which it was done."""
        self.monotonic: Callable[[], float] = time.monotonic
        """The steady clock, in seconds. Tests replace this and the next two."""
        self.now: Callable[[], float] = time.time
        """The wall clock, in seconds."""
        self.sleep: Callable[[float], None] = time.sleep
        # The connection of this command; None before its first call, and after it was lost.
        self._client: ClientLike | None = None

    def client(self, *, start: bool = True) -> ClientLike:
        """The connection to the daemon. With `start`, a daemon is started when none runs. Raises `ParlerError`."""
        if self._client is None:
            with self.out.progress("Starting the daemon"):
                self._client = self.another_client(start=start)
        return self._client

    def another_client(self, *, start: bool = True, hello_s: float | None = None) -> ClientLike:
        """A second connection, for a stream that runs beside calls. The caller closes it.

        `hello_s` is how many seconds a running daemon may take to answer the hello, where the usual span is too long.
        """
        return self.open_client(self.home, as_name=self.as_name, host="cli", start=start, hello_s=hello_s)

    def call(self, op: str, params: Params, answer: type[R], *, wait_ms: int = 0, start: bool = True) -> R:
        """Run an operation and give its result. Raises `ParlerError`."""
        client = self.client(start=start)
        with self.out.progress("Waiting for the daemon's answer"):
            try:
                result = client.call(op, params, timeout=ANSWER_S + wait_ms / 1000)
            except ParlerError as error:
                key = getattr(params, "idempotency_key", None)
                if key and error.spec.retryable:
                    # What makes a second try the same request, also where the command drew the key itself.
                    error.details["idempotency_key"] = key
                raise
        if self.wants_receipt:
            result = self._with_receipt(client, result)
        assert isinstance(result, answer), f"{op} answered with {type(result).__name__}"
        return result

    def _with_receipt(self, client: ClientLike, result: Result) -> Result:
        """The answer of a write with its receipt. What was done is done, also where no receipt can be had now."""
        import msgspec

        from parlerd.operations.types import GetReceipt, ReceiptGiven, ReceiptRef

        named = getattr(result, "receipt", None)
        if not isinstance(named, ReceiptRef):
            return result
        params = GetReceipt(id=named.fact, room=getattr(result, "room", None))
        try:
            given = client.call("receipt.get", params, timeout=ANSWER_S)
        except ParlerError as error:
            self.out.note(("No receipt", "warn"), f" can be had now: {error.message} Ask again later:")
            self.out.note(f"parler receipt show {named.fact}")
            return result
        assert isinstance(given, ReceiptGiven)
        self._receipts.append(given.receipt)
        return msgspec.structs.replace(result, receipt=msgspec.structs.replace(named, text=given.receipt))

    def say_receipts(self) -> None:
        """Print the receipts of what was done, as `receipt show` prints them. In JSON they stand in the answers."""
        for receipt in () if self.out.json else self._receipts:
            self.out.line()
            for line in receipt.removesuffix("\n").split("\n"):
                self.out.line(line)

    def call_again(self, op: str, params: Params, answer: type[R]) -> R:
        """Run an operation, and once more when the daemon went away in the middle of it.

        Use this only for reads, and for writes that carry an idempotency key, which cannot be done twice.
        """
        try:
            return self.call(op, params, answer)
        except ParlerError as error:
            if error.code not in RETRIED:
                raise
            self.disconnect()
            return self.call(op, params, answer)

    def carry(
        self, op: str, params: Callable[[int], Params], file: int, answer: type[R], until: Callable[[R], bool]
    ) -> R:
        """Hand a file over, and run an operation on it until `until` accepts an answer. When the daemon goes away, the
        file is handed over once more."""
        is_again = False
        while True:
            try:
                for result in self.client().carry(op, params, file):
                    assert isinstance(result, answer), f"{op} answered with {type(result).__name__}"
                    if until(result):
                        return result
                raise AssertionError(f"{op} ended without its last answer")
            except ParlerError as error:
                if error.code not in RETRIED or is_again:
                    raise
                self.disconnect()
                is_again = True

    def wait_for(
        self,
        op: str,
        ask: Callable[[int], Params],
        answer: type[R],
        *,
        deadline: float | None,
        until: Callable[[R], bool],
    ) -> R:
        """Run an operation that waits, in slices, until `until` accepts a result or `deadline` (on `monotonic`) has
        passed.

        `ask` makes the parameters for a wait in ms. When the daemon goes away, the wait begins again at the next
        daemon. When the daemon was stopped in order, this waits for another one and starts none, because somebody
        wanted it stopped.
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

    def follow(
        self, op: str, ask: Callable[[int], Params], answer: type[R], *, until: Callable[[R], bool]
    ) -> Iterator[R]:
        """Every result that `until` accepts, without end, as `wait_for` gets each of them. When the home of a room
        cannot be reached after the first, that is said, and this goes on when it can."""
        is_first, is_away = True, False
        while True:
            try:
                found = self.wait_for(op, ask, answer, deadline=None, until=until)
            except ParlerError as error:
                if is_first or error.code not in ELSEWHERE_CODES:
                    raise
                if not is_away:
                    self.out.note(("The room's home cannot be reached. The command goes on when it can.", "warn"))
                is_away = True
                self.sleep(AGAIN_S)
                continue
            is_first = is_away = False
            yield found

    def recover(self, error: ParlerError, deadline: float | None) -> None:
        """Prepare to begin again after `error`, which is one of `RETRIED`."""
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
        """The home that is used when neither the command line nor the environment names one."""
        from parlerd.paths import home_from

        return home_from({name: value for name, value in self.env.items() if name == "HOME"}).root

    def at_terminal(self) -> bool:
        """Whether a person types at this command."""
        return self.stdin.isatty() and self.out.stderr.isatty()

    def agree(self, question: str) -> None:
        """Ask the person, and go on only with a yes. Raises `ParlerError(needs_yes)` with the command that says yes
        beforehand, also where nobody can be asked. A command that asks takes `--yes`."""
        import shlex

        options = list(self.words).index("--") if "--" in self.words else len(self.words)
        command = shlex.join(["parler", *self.words[:options], "--yes", *self.words[options:]])
        if self.out.json or not self.at_terminal():
            raise ParlerError("needs_yes", f"{question} Nobody said yes.", hint=f"To say yes: {command}")
        self.out.flush()
        self.out.note(question)
        self.out.stderr.write("Go on? [y/N] ")
        self.out.stderr.flush()
        if self.stdin.readline().strip().lower() not in (b"y", b"yes"):
            raise ParlerError("needs_yes", "Nothing was changed.", hint=f"To do it after all: {command}")

    def read_secret(self, prompt: str) -> str:
        """One line that the person types at the terminal, which does not show it."""
        self.out.flush()
        self.out.stderr.write(prompt)
        self.out.stderr.flush()
        with _unseen(self.stdin):
            line = self.stdin.readline(MAX_SECRET)
        self.out.stderr.write("\n")
        self.out.stderr.flush()
        return decode_text(line, "what was typed").strip()

    def read_stdin(self) -> str:
        """All of stdin as text, without its last line break. Raises `ParlerError(invalid_param)` if it is not UTF-8."""
        return decode_text(self.stdin.read(), "stdin")


@contextlib.contextmanager
def _unseen(stdin: BinaryIO) -> Iterator[None]:
    """Keep a terminal from showing what is typed; whatever happens, it shows it again afterwards."""
    import termios

    try:
        descriptor = stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield  # this is no terminal
        return
    hidden = list(before)
    hidden[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


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
