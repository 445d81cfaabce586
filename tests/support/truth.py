"""Whether the registry tells the truth: what every operation gives and leaves in a test, against what it declares.

`tests/conftest.py` puts this around every engine of every test. A test fails when an operation raises a code or leaves
a fact that its entry does not declare; with `pytest --declared` the run ends with what entries declare and no test led
to. Only the engine's door is looked at: what a socket or a host's window adds by itself has its own tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

import pytest

from parlerd.core import commands as c
from parlerd.core.errors import ParlerError
from parlerd.core.model import By
from parlerd.engine.actor import RoomActor
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.engine import Engine, Handlers
from parlerd.engine.face import Outlet
from parlerd.engine.submissions import Submission
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

SEEN_CODES: Final[dict[str, set[str]]] = defaultdict(set)
SEEN_FACTS: Final[dict[str, set[str]]] = defaultdict(set)
"""By operation, over the whole run."""
OF_NO_OPERATION: Final = frozenset({"unknown_operation", "internal"})
"""What the engine says when it knows no such operation, and when it made a mistake."""
_running: ContextVar[str] = ContextVar("_running", default="")


class Truth:
    """What one test saw of operations."""

    def __init__(self) -> None:
        self.codes: set[tuple[str, str]] = set()
        self.submissions: list[tuple[str, Submission]] = []

    def raised(self, op: str, error: ParlerError) -> None:
        if error.code not in OF_NO_OPERATION:
            self.codes.add((op, error.code))

    def facts(self) -> set[tuple[str, str]]:
        """(operation, type of a fact) of what was committed."""
        return {
            (op, str(type(header.event).__struct_config__.tag))
            for op, submission in self.submissions
            if submission.settled is not None
            for header in submission.settled.facts
        }

    def lies(self) -> list[str]:
        """What operations gave or left without saying so."""
        facts = self.facts()
        for op, code in self.codes:
            SEEN_CODES[op].add(code)
        for op, fact in facts:
            SEEN_FACTS[op].add(fact)
        undeclared = [f"{op} raised {code}" for op, code in self.codes if code not in OPERATIONS[op].every_error]
        undeclared += [f"{op} left {fact}" for op, fact in facts if fact not in OPERATIONS[op].every_fact]
        return sorted(undeclared)


@contextmanager
def watching(patch: pytest.MonkeyPatch) -> Iterator[Truth]:
    """See what operations give and leave, at every engine that is opened meanwhile."""
    truth = Truth()
    call, begin, stream, place = Engine.call, Engine.begin, Engine.stream, RoomActor.place
    handlers_over = Engine._handlers_over

    async def watched_call(self: Engine, op: str, params: t.Params, caller: Caller) -> t.Result:
        token = _running.set(op)
        try:
            return await call(self, op, params, caller)
        except ParlerError as error:
            truth.raised(op, error)
            raise
        finally:
            _running.reset(token)

    def watched_begin(self: Engine, op: str, params: t.Params, caller: Caller) -> Any:
        token = _running.set(op)
        try:
            return begin(self, op, params, caller)
        except ParlerError as error:
            truth.raised(op, error)
            raise
        finally:
            _running.reset(token)

    def watched_stream(self: Engine, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None) -> Any:
        try:
            return stream(self, op, params, caller, outlet)
        except ParlerError as error:
            truth.raised(op, error)
            raise

    def watched_handlers(self: Engine, desk: Desk) -> Handlers:
        handlers = handlers_over(self, desk)
        streams = {op: _watched_stream(truth, op, handler) for op, handler in handlers.streams.items()}
        return replace(handlers, streams=streams)

    def watched_place(self: RoomActor[Any], command: c.Command, by: By, *more: Any) -> Submission:
        submission = place(self, command, by, *more)
        # What arrives in a mirror was left by whoever acts in the room's home.
        if (op := _running.get()) and not isinstance(command, c.Arrive):
            truth.submissions.append((op, submission))
        return submission

    patch.setattr(Engine, "call", watched_call)
    patch.setattr(Engine, "begin", watched_begin)
    patch.setattr(Engine, "stream", watched_stream)
    patch.setattr(Engine, "_handlers_over", watched_handlers)
    patch.setattr(RoomActor, "place", watched_place)
    yield truth


def _watched_stream(truth: Truth, op: str, handler: Any) -> Any:
    async def watched(caller: Caller, params: t.Params, *more: Outlet | None) -> AsyncGenerator[t.Result, None]:
        try:
            async with aclosing(handler(caller, params, *more)) as items:
                async for item in items:
                    yield item
        except ParlerError as error:
            truth.raised(op, error)
            raise

    return watched


def unseen() -> list[str]:
    """What entries declare for themselves and nothing in this run led to."""
    lines = []
    for name, operation in OPERATIONS.items():
        codes = [code for code in operation.errors if code not in SEEN_CODES[name]]
        facts = [fact for fact in operation.facts if fact not in SEEN_FACTS[name]]
        lines += [f"{name}: {', '.join([*codes, *facts])}"] if codes or facts else []
    return lines
