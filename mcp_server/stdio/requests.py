"""The host's requests that have no answer yet, and the tool calls whose answer was lost.

    held ------------- the daemon is ready ------------> flying ------ answered: forgotten
      | overdue, or a reason is known                      | the connection is lost: answered with an error;
      `-> answered without the daemon                      |   a tool call is remembered among the lost ones
                                                           `- overdue (lists only): answered without the daemon,
                                                              and the late answer is dropped
    held or flying -- withdrawn by the host: forgotten, without an answer

Not here: writing answers (`pipe`). Invariant: a request is held or flying or neither, never both, and a tool call goes
from held to flying at most once.
"""

from mcp_server.stdio.table import LISTED

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

STATIC_S = 0.4
"""How long the handshake and the lists wait for a daemon that is ready before the static table answers: hosts give a
server a second in all. Source: hosts reference, fact 3."""
NEVER_S = 365 * 86400.0
"""For a request that only the daemon can answer."""
STARTERS = ("tools/call", "resources/read", "prompts/get")
"""What an agent does. Nothing else starts a daemon that was stopped."""
MAX_UNANSWERED = 16
"""Lost calls that are remembered."""
UNANSWERED_S = 600.0
"""How long a lost call is told to daemons. Source: decision 16."""


class Request:
    """A request of the host that is not answered yet."""

    def __init__(self, id: str, method: str, params: Any, line: bytes, deadline: float) -> None:
        # The JSON of its id.
        self.id = id
        self.method = method
        self.params = params
        # The whole line, as the host wrote it.
        self.line = line
        # Until when it waits where it is now, as held or as flying.
        self.deadline = deadline
        # Whether a daemon is to be started for it where none is found, which happens once.
        self.starts = method in STARTERS
        # When its answer was lost; only of a tool call that is remembered.
        self.lost_at = 0.0

    @property
    def tool(self) -> Any:
        """The tool that it calls; None for another method."""
        return self.params.get("name") if self.method == "tools/call" and isinstance(self.params, dict) else None

    def repeats(self, other: "Request") -> bool:
        """Whether this asks for what `other` asked: the same tool, the same input."""
        same: bool = self.tool == other.tool and self.params.get("arguments") == other.params.get("arguments")
        return same


class Pending:
    """The requests without an answer, by where they are."""

    def __init__(self) -> None:
        # Requests that wait for a daemon, in the order in which they came.
        self.held: list[Request] = []
        # Requests that were sent to the daemon, by id.
        self.flying: dict[str, Request] = {}
        # Ids whose answers the host is not to see: of requests of our own, and of lists that were answered meanwhile.
        self.dropped: set[str] = set()

    def sent(self, request: Request, now: float) -> None:
        """The request goes to the daemon."""
        request.deadline = now + (STATIC_S if request.method in LISTED else NEVER_S)
        self.flying[request.id] = request

    def withdraw(self, id: str) -> None:
        """The host wants no answer to this any more."""
        self.held = [request for request in self.held if request.id != id]
        self.flying.pop(id, None)

    def take_start(self) -> bool:
        """Whether a daemon is to be started for any request that is held. It is asked for once."""
        wanted = [request for request in self.held if request.starts]
        for request in wanted:
            request.starts = False
        return bool(wanted)

    def take_held(self) -> list[Request]:
        """All requests that are held, which are held no longer."""
        held, self.held = self.held, []
        return held

    def take_overdue(self, now: float) -> list[Request]:
        """The requests whose deadline has come. What the daemon still answers to them is dropped."""
        overdue = [request for request in self.held if now >= request.deadline]
        if overdue:
            self.held = [request for request in self.held if now < request.deadline]
        for id, request in list(self.flying.items()):
            if now >= request.deadline:
                del self.flying[id]
                self.dropped.add(id)
                overdue.append(request)
        return overdue

    def take_flying(self) -> list[Request]:
        """All that was sent, when its answers are lost with the connection."""
        flying, self.flying = list(self.flying.values()), {}
        self.dropped.clear()
        return flying

    def deadlines(self) -> list[float]:
        """When the requests are overdue."""
        return [request.deadline for request in self.held] + [request.deadline for request in self.flying.values()]


class Lost:
    """Tool calls whose answer was lost with a connection. Each daemon is told of them, so that it recognises the call
    when the host makes it again, until a repetition was done."""

    def __init__(self) -> None:
        # The calls, oldest first.
        self._calls: list[Request] = []

    def add(self, request: Request, now: float) -> Request:
        """Remember a call. Gives the call whose idempotency key counts: a repetition went out under the key of the
        first, so the first is what is kept and named."""
        first = next((lost for lost in self._calls if request.repeats(lost)), request)
        if first is request:
            request.lost_at = now
            self._calls = [*self._calls[1 - MAX_UNANSWERED :], request]
        return first

    def settle(self, request: Request, answer: Any) -> None:
        """The daemon answered a call. If that was a repetition of a lost one and was done, the lost one is forgotten;
        until then every daemon must know what is repeated."""
        if not self._calls or request.tool is None:
            return
        result = answer.get("result")
        if isinstance(result, dict) and not result.get("isError"):
            self._calls = [lost for lost in self._calls if not request.repeats(lost)]

    def lines(self, now: float, room: int) -> list[bytes]:
        """The lines of the newest lost calls that fit in `room` bytes, oldest first."""
        self._calls = [request for request in self._calls if request.lost_at > now - UNANSWERED_S]
        lines: list[bytes] = []
        for request in reversed(self._calls):
            room -= len(request.line) + 5
            if room < 0:
                break
            lines.insert(0, request.line)
        return lines
