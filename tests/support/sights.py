"""A record of an agent host that tests write: it says of each marker what the test says.

Over `parlerd.sight.port`. Nothing is watched here; a test looks at what was expected, and tells the verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from parlerd.core.sight import Expected, Found, Reason, Verdict
from parlerd.sight.port import Told

EVIDENCE: Final = "host 2.1.0: result, reply"
"""What the record says of the entries that decided."""


@dataclass(eq=False)
class FakeWatch:
    """One answer. `expected` is None until it was written."""

    host: str
    version: str
    variables: Mapping[str, str]
    conversation: str
    told: Told
    expected: list[Expected] | None = None
    call: str = ""
    is_dropped: bool = False
    is_ended: bool = False

    def expect(self, expected: Sequence[Expected], *, call: str = "") -> None:
        assert self.expected is None, "an answer is written once"
        self.expected, self.call = list(expected), call

    def drop(self) -> None:
        self.is_dropped = True

    def ended(self) -> None:
        self.is_ended = True

    def say(
        self, verdict: Verdict = "shown", reason: Reason = "reply", *, at: int | None = None, stays: bool = False
    ) -> None:
        """The record proves this of the message at this place in the answer, or of all. With `stays`, it may prove
        later that the message was shown."""
        assert self.expected is not None, "nothing was written yet"
        for each in self.expected if at is None else [self.expected[at]]:
            self.told(Found(marker=each.marker, verdict=verdict, reason=reason, evidence=EVIDENCE, stays=stays))


@dataclass(eq=False)
class FakeSight:
    """All records. `reasons` says of which host nothing can be proved, and why."""

    reasons: dict[str, Reason] = field(default_factory=dict)
    watches: list[FakeWatch] = field(default_factory=list)
    fails: bool = False

    def offers(self, host: str, version: str) -> Reason | Literal[""]:
        return self.reasons.get(host, "")

    def variables(self, host: str) -> tuple[str, ...]:
        return ("CLAUDE_CONFIG_DIR",) if host == "claude-code" else ()

    def call_of(self, host: str, meta: Mapping[str, object]) -> str:
        found = meta.get("claudecode/toolUseId")
        return found if isinstance(found, str) else ""

    async def begin(
        self, host: str, version: str, variables: Mapping[str, str], conversation: str, told: Told
    ) -> FakeWatch:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise RuntimeError("a fault of the watcher")
        watch = FakeWatch(host, version, variables, conversation, told)
        self.watches.append(watch)
        return watch

    @property
    def newest(self) -> FakeWatch:
        """The watch of the newest answer."""
        return self.watches[-1]
