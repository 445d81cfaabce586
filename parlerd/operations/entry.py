"""What an operation is declared with: the bases of its shapes, their bounds, its entry, and how a tool offers it.

Not here: any operation (`families`), the whole set of them (`registry`), or how a tool's call is understood (`tools`).
Above: the families. Below: the core's error codes and nothing else. Invariant: everything here is data, so a program
that runs one command pays for no more than the declarations themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

MAX_PAGE: Final = 500
"""Messages in one page at most; a larger limit means this. Source: CLI spec."""
MAX_WAIT_MS: Final = 3_600_000
"""A wait is at most an hour; callers that want more ask again."""
MAX_PARAMS: Final = 640 * 1024
"""Bytes of all parameters of one call: what the largest of them has, a message with the longest text and as much data,
addressed to as many agents by id as it may name. More is refused before it is taken apart: the loop waits meanwhile."""
MAX_LIST: Final = 1024
"""Agents that one request may name."""

IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+\Z")]
Wait = Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)]
Short = Annotated[str, Meta(max_length=256)]
"""A name, an id, a code or a position. None is longer, and errors may repeat it."""
Agents = Annotated[tuple[Short, ...], Meta(max_length=MAX_LIST)]

Plane = Literal["agent", "person", "local", "hook", "window", "link", "visitor", "joiner", "page", "relay"]
"""Who may call an operation. `agent`: any agent, over any door. `person`: the person alone; absent from MCP, and
refused to a caller with an agent host among its ancestors. `local`: about this daemon; no identity is needed. `hook`:
an agent host's hook, which acts as nobody and learns how much waits for the agent beside it. `window`: the window of
an agent host: what its door asks by itself, for what the host shows and tells, which nobody calls by name; and what a
tool does in the window's own workspace. `link`: the daemon of another
home, for the agents that it attached; to every other door there is no such operation, and over a link there is no
other. `visitor`: whoever comes over HTTP without a token, where a person let every program of theirs in.
`page`: what a page in a browser asks by itself, for whoever looks on; to every other door there is no such operation.
`joiner`: whoever comes over HTTP to become a new agent, with a token for that or with a session key.
`relay`: about a relay on this machine, over the socket of the relay's own program; no daemon answers it."""
ELSEWHERE: Final[frozenset[Plane]] = frozenset({"relay"})
"""The planes that no engine answers."""
Effect = Literal["read", "write", "destructive"]
Kind = Literal["string", "integer", "seconds", "strings", "lines", "boolean", "json"]
"""What an argument is. `lines` is a list of strings, or a text with one in each line. `json` is anything, or a text
that says it: hosts that hold a call against the schema let both through, because the schema names no type."""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of parameters. An unknown field is an error: it is a typo or a newer client."""


class WaitingParams(Params, frozen=True, kw_only=True):
    """Base of the parameters of what the home of a room answers once there is something to answer: after `wait_ms`
    (milliseconds) at the latest."""

    wait_ms: Wait = 25_000


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of results. Every field is always present in the JSON, unless it is `msgspec.UNSET`."""


class ReceiptRef(Result, frozen=True, kw_only=True):
    """Of which fact there is a receipt, and its number in its author's own line, where this home knows it. What a write
    answers has one as its `receipt`, but where nothing is stored in its room yet. `text` is the receipt, where it was
    asked for with the write."""

    fact: str
    number: int | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """One property of a tool. `field` is the parameter that it fills, where that has another name."""

    name: str
    help: str = ""
    kind: Kind = "string"
    field: str = ""
    required: bool = False
    is_free: bool = False
    """Free text: the empty string is a value. Elsewhere the empty string means "not given", because hosts fill in what
    a model left out. JSON that is free may be any text, too."""
    is_number: bool = False
    """A message's number, which a model may write as one although the parameter is text."""
    is_list: bool = False
    """The parameter is a list, and the tool takes one member of it."""
    spreads: bool = False
    """The members of the object are parameters themselves."""
    least: int = 0
    """The smallest number that is taken."""
    most: int | None = None
    """A larger number means this one, and so does none."""
    beside: str = ""
    """The argument without which this one says nothing."""
    rule: str = ""
    """What a value has to be, for a model whose value does not fit."""
    only: tuple[str, ...] = ()
    """The verbs that take it; the registry fills this in for the arguments of one verb."""


class ToolEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP tool. The operations that name it in `Operation.tool` are its verbs, and a tool with one operation has the
    verb `""`."""

    name: str
    title: str
    arguments: tuple[Argument, ...] = ()
    """What every verb takes."""
    stands_for: str = ""
    """The operation that is described for a tool that no operation names, because an agent may only ask for it."""
    params: type[Params] | None = None
    """Another shape than the operation's own, for a tool that finds out the rest itself."""
    usage: str = ""
    """A sentence beside the summary: what the arguments cannot say."""
    does: str = ""
    """What its verbs do, in one sentence that names each verb whose word does not say it: for a tool whose operations'
    summaries, one after the other, would take too many tokens."""
    default: str = ""
    """The verb that a call without `action` means."""
    example: Mapping[str, Any] = {}
    errors: tuple[str, ...] = ()
    """What the tool itself can answer, beside the codes of its operations."""
    is_core: bool = True
    """Whether a host should always load it. Source: MCP spec, Tools."""
    reaches_others: bool = True
    """Whether what others wrote comes back or what is said goes to others."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """By which tool an agent reaches an operation: the tool's name, the verb, and the arguments of this verb alone."""

    tool: str
    verb: str = ""
    arguments: tuple[Argument, ...] = ()


Access = Literal["read", "post", "state", "work", "files", "join", "open", "mint"]
"""What a token may be for."""


class Route(msgspec.Struct, frozen=True):
    """How an operation is asked for over HTTP: a method and a path below `/v1`, as in `POST /rooms/{room}/messages`.
    What stands in braces is a parameter, which is an id, a handle or the room; keys and expressions never do. The other
    parameters come from the query for GET and DELETE, and else from a JSON object. `access` is what a token has to be
    for. Source: contract spec, HTTP from the registry."""

    line: str
    access: Access

    @property
    def method(self) -> str:
        return self.line.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.line.partition(" ")[2]

    @property
    def fields(self) -> tuple[str, ...]:
        """The parameters that stand in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. `example` is parameters that decode, and `answers` are results that decode, both under the names that
    the JSON has; `facts` are event types; `command` is the command that runs it."""

    name: str
    summary: str
    params: type[Params]
    result: type[Result]
    plane: Plane
    effect: Effect
    needs_idempotency_key: bool = False
    stream: bool = False
    waits: bool = False
    errors: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    example: dict[str, Any] = {}
    answers: tuple[dict[str, Any], ...] = ()
    tool: Offer | None = None
    command: str = ""
    http: Route | None = None

    @property
    def has_receipt(self) -> bool:
        """Whether the answer names a fact of which there is a receipt, which may come along."""
        named = next((each for each in msgspec.structs.fields(self.result) if each.name == "receipt"), None)
        return named is not None and named.default is msgspec.UNSET

    @property
    def every_error(self) -> frozenset[str]:
        """Every code that the engine can answer it with: its own, and those that follow from its plane."""
        return frozenset((*self.errors, *OF_PLANE[self.plane]))

    @property
    def every_fact(self) -> frozenset[str]:
        """Every type of fact that it can leave: its own, and those of an agent that comes to be at its first call."""
        return frozenset((*self.facts, *OF_AGENT) if self.plane in ACTING else self.facts)


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """The operations of one topic, and the tools that are declared beside them."""

    operations: tuple[Operation, ...]
    tools: tuple[ToolEntry, ...] = ()


OF_HOME: Final = (
    "store_full",
    "store_locked",
    "store_readonly",
    "store_corrupt",
    "store_failed",
    "store_unknown",
    "store_unreachable",
    "store_busy",
    "stale_position",
    "room_busy",
    "newer_log",
)
"""What may be wrong with the home itself, whatever is asked of it. A read meets them too: it leases an agent and marks
what was delivered."""
OF_PLANE: Final[Mapping[Plane, tuple[str, ...]]] = {
    "agent": (*OF_HOME, "draining", "room_moved", "invalid_name", "not_permitted", "needs_key", "token_invalid"),
    "person": (*OF_HOME, "draining", "invalid_name", "not_permitted", "person_only", "needs_person"),
    "local": ("person_only",),
    "hook": (*OF_HOME, "draining", "hook_only"),
    "window": (*OF_HOME, "invalid_name", "not_permitted", "window_only"),
    "link": (*OF_HOME, "draining", "room_moved"),
    "visitor": (*OF_HOME, "draining", "not_permitted"),
    "page": (*OF_HOME, "draining", "not_permitted"),
    "joiner": (*OF_HOME, "draining", "room_moved", "not_permitted"),
    "relay": (),
}
"""The codes that follow from who may call. `invalid_name`: the name that a caller asks to act under may be taken for
someone else, which shows at its first call. `not_permitted`: a door may stand for one agent, and that agent may not
be there, or be another person's. `needs_key`, `token_invalid`: an agent that has only a token at a relay signs nothing
itself, and is there no longer once its time is over. `room_moved`: several relays may share the rooms of a home.
`person_only`: what is about this machine's daemon is not offered at every door."""
ACTING: Final[frozenset[Plane]] = frozenset({"agent", "person", "window", "visitor", "joiner"})
"""The planes whose callers act as an agent, or become one."""
OF_AGENT: Final = ("agent_created", "conversation_bound", "delegation_issued")
"""The facts of a caller that becomes an agent."""
IN_ROOM: Final = ("no_such_room", "room_deleted", "no_active_session", "join_pending", "join_denied", "ambiguous_name")
AWAY: Final = (
    "home_not_trusted",
    "offline",
    "home_unreachable",
    "not_enrolled",
    "kicked",
    "relay_refused",
    "relay_failed",
    "relay_older",
    "relay_equivocation",
    "room_archived",
    "relay_rolled_back",
    "stale_epoch",
    "not_sealed_in",
    "sealed_room",
)
"""What is answered where a room lives in another home, to whatever that home has to carry out."""
SENDS_AWAY: Final = (*AWAY, "outbox_full", "key_used_elsewhere", "too_many_bytes")
"""The same for messages, which wait here while that home cannot be reached."""
IDEMPOTENT: Final = ("idempotency_conflict", "idempotency_expired")

ROOM_ARGUMENT: Final = Argument(name="room", help="default: active session")
IDEMPOTENCY_ARGUMENT: Final = Argument(
    name="key",
    field="idempotency_key",
    help="to retry safely",
    rule="key is 1 to 128 of letters, digits and . _ : -",
)
WAIT_ARGUMENT: Final = Argument(name="wait_secs", kind="seconds", field="wait_ms")
