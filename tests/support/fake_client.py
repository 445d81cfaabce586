"""A client of no daemon: answers from a script, and remembers what was asked.

It obeys what commands lean on: parameters that the registry's type would refuse never get through, an error comes as
the operation raised it, a stream ends or breaks off where it was told to, and a closed client calls again. Verified by
`tests/contract/test_client.py`, which asks the real client before a real server the same.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from parlerd.core.errors import ParlerError
from parlerd.operations.registry import OPERATIONS
from parlerd.operations.types import Params, Result
from parlerd.paths import Home
from parlerd.wire import codec

Answer = Result | ParlerError | Callable[[Params], Result]


@dataclass(frozen=True)
class Asked:
    """One call that was made. `connection` counts from 1, and `timeout` is in seconds."""

    op: str
    params: Params
    connection: int
    timeout: float | None = None


@dataclass
class FakeDaemon:
    """What stands behind every `FakeClient`. The last answer of an operation is given again and again."""

    asked: list[Asked] = field(default_factory=list)
    opened: list[tuple[str, bool]] = field(default_factory=list)
    """(acting name, whether a daemon might be started) of every connection."""
    patience: list[float | None] = field(default_factory=list)
    """Seconds that every connection gave the daemon for its hello; None is the usual span."""
    closed: int = 0
    down: bool = False
    handed: list[int] = field(default_factory=list)
    """The descriptors of all files that were handed over. The number of a file is its place here."""
    _answers: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    _streams: dict[str, deque[list[Result | BaseException]]] = field(default_factory=lambda: defaultdict(deque))

    def answers(self, op: str, *answers: Answer) -> FakeDaemon:
        """Answer `op` with these, one after another."""
        self._answers[op].extend(answers)
        return self

    def streams(self, op: str, *items: Result | BaseException) -> FakeDaemon:
        """Answer one request for the stream `op` with these items; an exception is raised in its place."""
        self._streams[op].append(list(items))
        return self

    def connect(
        self, home: Home, *, as_name: str, host: str, start: bool = True, hello_s: float | None = None
    ) -> FakeClient:
        """Stands in for `parlerd.client.connect`."""
        self.opened.append((as_name, start))
        self.patience.append(hello_s)
        if self.down and not start:
            raise ParlerError("unreachable")
        return FakeClient(self, len(self.opened))

    def params_of(self, op: str) -> list[Params]:
        """The parameters of every call of `op`, in order."""
        return [asked.params for asked in self.asked if asked.op == op]

    def ops(self) -> list[str]:
        """The operations that were called, in order."""
        return [asked.op for asked in self.asked]

    def answer(self, op: str, params: Params, connection: int, timeout: float | None = None) -> Result:
        spec = OPERATIONS[op]
        assert isinstance(params, spec.params)
        decoded = codec.Shape[Params](spec.params, "invalid_param").decode(codec.encode(params))
        self.asked.append(Asked(op, decoded, connection, timeout))
        waiting = self._answers[op]
        if not waiting:
            raise AssertionError(f"nobody told the fake daemon what to answer to {op}")
        answer = waiting.popleft() if len(waiting) > 1 else waiting[0]
        if isinstance(answer, ParlerError):
            raise answer
        return answer if isinstance(answer, Result) else answer(decoded)

    def stream(self, op: str, params: Params, connection: int) -> Iterator[Result]:
        assert isinstance(params, OPERATIONS[op].params)
        self.asked.append(Asked(op, params, connection))
        for item in self._streams[op].popleft():
            if isinstance(item, BaseException):
                raise item
            yield item


@dataclass
class FakeClient:
    """One connection to a `FakeDaemon`."""

    daemon: FakeDaemon
    connection: int

    def call(self, op: str, params: Params, timeout: float | None = None) -> Result:
        return self.daemon.answer(op, params, self.connection, timeout)

    def carry(self, op: str, params: Callable[[int], Params], file: int) -> Iterator[Result]:
        number = len(self.daemon.handed)
        self.daemon.handed.append(file)
        while True:
            yield self.daemon.answer(op, params(number), self.connection)

    def stream(self, op: str, params: Params) -> Iterator[Result]:
        return self.daemon.stream(op, params, self.connection)

    def close(self) -> None:
        self.daemon.closed += 1
