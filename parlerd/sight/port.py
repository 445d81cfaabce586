"""What the engine and the MCP face ask of sight.

    offers   before a conversation: whether this host's record proves anything
    begin    before an answer is made: from here on, what the host appends to its records counts
    expect   the answer was written, with these messages in it
    drop     the answer was never written
    ended    the host's process is gone

Not here: who consented (the engine), where markers are drawn and put (`mcp_server`), how records are watched
(`watching`). Above: `parlerd.engine`, `mcp_server`, `parlerd.daemon`. Below: `core.sight`. Invariant: each marker that
was expected gets one `Found`, and another one only after one that `stays`; nothing is read before something
is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

from parlerd.core.sight import Expected, Found, Reason

Told = Callable[[Found], None]
"""Is given each verdict, in the daemon's loop and outside of every lock of sight. It must not block or raise."""


class Watch(Protocol):
    """One answer that is being made or was written. Ends by itself when each of its markers has a verdict after which
    no other one can come."""

    def expect(self, expected: Sequence[Expected], *, call: str = "") -> None:
        """The answer was written. To be called once, with the messages in the order in which they stand in the answer.

        `call` is the id under which the host's record knows the call, where the host gives one in `_meta`
        (`Sight.call_of`); else it is empty. Verdicts come later, at most `LIMIT_S` after this call.
        """
        ...

    def drop(self) -> None:
        """The answer was not written, or nobody wants to know any more: no verdict comes. Idempotent."""
        ...

    def ended(self) -> None:
        """The host's process is gone, or no longer talks to us: what stands in no record `GONE_S` later is unknown, as
        `no_record`. What stands in one is waited for as before, because somebody may go on with the conversation. Does
        nothing before `expect`. Idempotent."""
        ...


class Sight(Protocol):
    """The records of all hosts of this machine."""

    def offers(self, host: str, version: str) -> Reason | Literal[""]:
        """Empty where the record of this host, of the version that it gives in `clientInfo`, can be watched; else why
        everything would be `unknown`. Looks at no file."""
        ...

    def variables(self, host: str) -> tuple[str, ...]:
        """The names of the environment variables of the host that say where its records are. No others are of use."""
        ...

    def call_of(self, host: str, meta: Mapping[str, object]) -> str:
        """The id of a tool call, from the `_meta` that came with it; empty where the host gives none."""
        ...

    async def begin(
        self, host: str, version: str, variables: Mapping[str, str], conversation: str, told: Told
    ) -> Watch:
        """Note how far the host's records go now. To be called before an answer is made.

        `variables` are those that `variables` names, as the host has them. `conversation` is the conversation's id
        where the host gives one, and may be out of date: it only says which file is looked at first. Never raises: a
        watch that can see nothing says so as the verdict of each marker. Takes at most `BEGIN_S`.
        """
        ...


BEGIN_S: Final = 1.0
"""How many seconds an answer may be held up. The first one for a host waits for its folders to be listed."""
LIMIT_S: Final = 600.0
"""After how many seconds an expected message is `unknown`, and one that was not shown is watched no longer."""
NOWHERE_S: Final = 60.0
"""After how many seconds an answer that stands in no record is `unknown`, for as long as the host writes it nowhere:
most likely this conversation is not recorded. A host may wait with its entry for other calls of the same reply, so the
answer is looked for on."""
GONE_S: Final = 30.0
"""How many seconds a host that is gone may still take to write down what it was given. Where only our shim is gone, the
host goes on; no host was seen to write an answer later than 0.2 s after it came."""
