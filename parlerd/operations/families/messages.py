"""Messages: sending, reading, acknowledging, and where one got to."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from parlerd.core.model import RUNGS, Rung
from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENCY_ARGUMENT,
    IDEMPOTENT,
    IN_ROOM,
    MAX_PAGE,
    ROOM_ARGUMENT,
    SENDS_AWAY,
    WAIT_ARGUMENT,
    Agents,
    Argument,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Route,
    Short,
    ToolEntry,
    Wait,
)
from parlerd.operations.shared import (
    GATING,
    HandoffEntry,
    Message,
    SightSaid,
    Source,
    StageReached,
    TaskEntry,
    TimerAsked,
    TimerShown,
)

TOOL_PAGE: Final = 100
"""Messages in one tool result at most; a larger limit means this. The size limit of a result is usually reached
before."""


class Send(Params, frozen=True, kw_only=True):
    """`reply_to` is a message's id, or the caller's own number of it.

    `to` asks for the attention of agents in the room. Where no room is named and the one agent that it names is not in
    the active session, the message goes to that agent alone, in the room of the two, which is opened if need be. What
    is sent to a `service` is a task in the queue of that name, which is opened for the first who needs it.

    A reader is shown the message once the expression `enabled` is true for it; the expression reads state, actions,
    roles and `self` only. A `timer` with the effect `enable` lets the message wait until then, and one with `delete`
    takes the words away. A task that nobody has cannot be claimed after that."""

    text: str
    room: Short | None = None
    service: Short | None = None
    to: Agents = ()
    kind: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._/-]+\Z")] = "text"
    reply_to: Short | None = None
    visible_to: Agents = ()
    data: Any = None
    timer: TimerAsked | None = None
    enabled: Source | None = None
    idempotency_key: IdempotencyKey | None = None


class Sent(Result, frozen=True, kw_only=True):
    """`readers` are those others who alone may ever see it, by handle; null when all may. A message that is `queued` is
    stored on this machine, and goes out when the relay of its room answers: its id is fixed, and `seq` and `at` are
    null until then. A message that is `gated` waits for its condition or its timer, and nobody was shown it. `seq`
    is null too for what an agent asks of a queue of which it is no worker: it reads only what names it there.
    `opened`: the message is a direct one, and its room is new. `opened_queue`: the message is the first task of a
    queue that it opened, for which nobody else works yet. `awaits` is the name of the agent to which a direct
    message goes and that is not in yet, because its person is asked or its home was not heard from: the message
    waits in the room. With `needs_both` the relay showed no key to which the message could be sealed for that agent,
    so it reads the message once both machines were connected. `code` is what that person is asked to type; it is not
    there for a command that an agent host started. `warning` names recognised credentials that were taken out of the
    words before they left for the relay of its room."""

    room: str
    id: str
    seq: int | None
    at: int | None
    replayed: bool
    idempotency_key: str = msgspec.field(name="key")
    readers: list[str] | None = None
    name: str = ""
    queued: bool = False
    gated: bool = False
    opened: bool | msgspec.UnsetType = msgspec.UNSET
    opened_queue: bool | msgspec.UnsetType = msgspec.UNSET
    awaits: str | msgspec.UnsetType = msgspec.UNSET
    needs_both: bool | msgspec.UnsetType = msgspec.UNSET
    join_code: str | msgspec.UnsetType = msgspec.field(name="code", default=msgspec.UNSET)
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class WithdrawMessage(Params, frozen=True, kw_only=True):
    """`id` is that of a message which waits for its condition or its timer, or which not everyone was shown yet."""

    id: Short
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class Withdrawn(Result, frozen=True, kw_only=True):
    id: str
    replayed: bool
    idempotency_key: str = msgspec.field(name="key")
    room: str = ""
    name: str = ""
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class GatedEntry(Result, frozen=True, kw_only=True):
    """What a message waits for that its author alone knows of: the expression `enabled`, and its timer. `shown_to` are
    those who were shown it already, by handle; null where everyone was."""

    enabled: str | msgspec.UnsetType = msgspec.UNSET
    timer: TimerShown | msgspec.UnsetType = msgspec.UNSET
    shown_to: list[str] | None = []


class AboutGated(Params, frozen=True, kw_only=True):
    """`id` is that of a message of the caller which waits."""

    id: Short
    room: Short | None = None


class GatedIs(Result, frozen=True, kw_only=True):
    id: str
    gated: GatedEntry
    room: str = ""
    name: str = ""


class Recv(Params, frozen=True, kw_only=True):
    """`since` and `all` look back without moving anything; `peek` is a read that is not to be acknowledged. `unclaimed`
    asks for the open tasks that the agent could claim, wherever its cursor stands, and moves nothing either."""

    room: Short | None = None
    all_rooms: bool = False
    limit: Annotated[int, Meta(ge=1)] = 50
    wait_ms: Wait = 0
    since: Annotated[int, Meta(ge=0)] | None = None
    all: bool = False
    peek: bool = False
    take: bool = False
    mentions: bool = False
    kind: Short | None = None
    unclaimed: bool = False
    max_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] = 1024 * 1024


class Received(Result, frozen=True, kw_only=True):
    """`cursor` is what to acknowledge with `message.commit`; `unread` counts what is new after this page, `following`
    every message after it, the reader's own included. A page that is not whole (`truncated`) begins with the recap and
    goes on with the newest; `first_unshown` to `last_unshown` stand between and can be looked back at. `you` is the
    reader's handle."""

    room: str
    name: str
    messages: list[Message]
    cursor: str
    more: bool
    unread: int
    acknowledges: bool = True
    notice: str = ""
    you: str = ""
    following: int = 0
    truncated: bool = False
    first_unshown: int = 0
    last_unshown: int = 0


class ReceivedAll(Result, frozen=True, kw_only=True):
    rooms: list[Received]


class Commit(Params, frozen=True, kw_only=True):
    room: Short
    cursor: Short


class Committed(Result, frozen=True, kw_only=True):
    room: str
    cursor: str


class Why(Params, frozen=True, kw_only=True):
    """`id` is a message's id, or the caller's own number of it in `room`."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    room: Short | None = None


class ReaderLadder(Result, frozen=True, kw_only=True):
    """With `held` the message wakes nobody: the reader and the author began so many turns by each other's messages in
    this conversation, and their person has not let them go on. `held` is 0 where the person lets no message in this
    room begin a turn. `sight` is what the record of the reader's agent host says, where the reader's person lets Parler
    watch it. `stages` are those that marks record; `rungs` has `shown` among them."""

    agent: str
    name: str
    stages: list[StageReached]
    stopped: str | msgspec.UnsetType = msgspec.UNSET
    stopped_since: int = 0
    held: int | msgspec.UnsetType = msgspec.UNSET
    sight: SightSaid | msgspec.UnsetType = msgspec.UNSET

    @property
    def rungs(self) -> list[tuple[Rung, int]]:
        """The whole ladder, with when each rung was reached: the stages, and `shown` where the record proves it."""
        reached: dict[Rung, int] = {step.stage: step.at for step in self.stages}
        if self.sight is not msgspec.UNSET and self.sight.verdict in ("shown", "quoted"):
            reached["shown"] = self.sight.at
        return [(rung, reached[rung]) for rung in RUNGS if rung in reached]


class QueuedHere(Result, frozen=True, kw_only=True):
    """A message waits on its author's machine since then, and goes out when the link to `home` is up. `refused` is the
    code with which that home refused the message for good; it is empty while the message waits."""

    home: str
    since: int
    refused: str = ""


class WhyResult(Result, frozen=True, kw_only=True):
    """A message that is `queued` has reached nobody, so there are no readers. `handoff` is what became of an offer of
    the turn, where the message makes one, and `task` how the task stands that the message is. `gated` tells its author
    what the message waits for before others are shown it. `erased` says that its words went by retention or with its
    timer. With `away` the room lives elsewhere, its home did not answer, and only what is known here is said."""

    id: str
    room: str
    readers: list[ReaderLadder]
    queued: QueuedHere | msgspec.UnsetType = msgspec.UNSET
    handoff: HandoffEntry | msgspec.UnsetType = msgspec.UNSET
    task: TaskEntry | msgspec.UnsetType = msgspec.UNSET
    gated: GatedEntry | msgspec.UnsetType = msgspec.UNSET
    erased: bool | msgspec.UnsetType = msgspec.UNSET
    away: bool | msgspec.UnsetType = msgspec.UNSET


class ListDisclosures(Params, frozen=True, kw_only=True):
    """Among the `limit` messages of the room that follow the caller's number `after`, those that the caller wrote;
    without `after` among the newest."""

    room: Short | None = None
    after: Annotated[int, Meta(ge=0)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class Disclosure(Result, frozen=True, kw_only=True):
    """A message was shown to this agent, first at this moment; an agent of another machine counts as shown what its
    machine was given. `sight` is what the record of the agent's host says of it, where that is watched."""

    agent: str
    name: str
    at: int
    sight: SightSaid | msgspec.UnsetType = msgspec.UNSET


class DisclosedMessage(Result, frozen=True, kw_only=True):
    id: str
    seq: int
    at: int
    author: str
    shown: list[Disclosure]


class Disclosures(Result, frozen=True, kw_only=True):
    """`upto` is the number up to which was looked; `more` says whether there are messages after it. With `away` the
    room's home does not answer, and who of other machines was shown something is not known."""

    room: str
    name: str
    messages: list[DisclosedMessage]
    upto: int
    more: bool
    away: bool = False


FAMILY: Final = Family(
    operations=(
        Operation(
            name="message.send",
            summary="Post to a room.",
            params=Send,
            result=Sent,
            plane="agent",
            http=Route("POST /rooms/{room}/messages", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=(
                "invalid_param",
                *IN_ROOM,
                "text_too_long",
                "no_such_agent",
                "no_such_message",
                "too_many_audiences",
                "room_closed",
                "throttled",
                "too_many_tasks",
                *GATING,
                "too_many_pending",
                "person_only",
                "unknown_key",
                "too_many_keys",
                "too_many_rooms",
                *SENDS_AWAY,
                "agent_disabled",
                *IDEMPOTENT,
            ),
            facts=(
                "message_gated",
                "message_posted",
                "task_completed",
                "agents_paired",
                "room_opened",
                "key_minted",
                "member_joined",
                "direct_asked",
                "session_activated",
            ),
            example={"text": "on it, taking token rotation", "room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "id": "m_4",
                    "seq": 4,
                    "at": samples.AT,
                    "replayed": False,
                    "key": "k",
                },
            ),
            tool=Offer(tool="parler_send"),
            command="parler send",
        ),
        Operation(
            name="message.withdraw",
            summary="Take back a message that waits for a condition or a timer.",
            params=WithdrawMessage,
            result=Withdrawn,
            plane="agent",
            http=Route("DELETE /rooms/{room}/gated/{id}", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*IN_ROOM, "room_closed", "no_such_gated", "not_a_worker", *AWAY, *IDEMPOTENT),
            facts=("message_withdrawn",),
            example={"id": "m_0123456789abcdefghij"},
            answers=({"id": "m_4", "room": samples.ROOM, "name": samples.NAME, "replayed": False, "key": "k"},),
            tool=Offer(tool="parler_act", verb="withdraw"),
            command="parler withdraw",
        ),
        Operation(
            name="message.gated",
            summary="Show what a message waits for.",
            params=AboutGated,
            result=GatedIs,
            plane="agent",
            http=Route("GET /rooms/{room}/gated/{id}", "read"),
            effect="read",
            errors=(*IN_ROOM, "no_such_gated", "not_a_worker", *AWAY),
            example={"id": "m_0123456789abcdefghij"},
            answers=(
                {
                    "id": "m_4",
                    "gated": {"enabled": "has(state._shared.compass)"},
                    "room": samples.ROOM,
                    "name": samples.NAME,
                },
            ),
        ),
        Operation(
            name="message.recv",
            summary="Read what is new for you in a room, or wait for it.",
            params=Recv,
            result=Received,
            plane="agent",
            http=Route("GET /rooms/{room}/messages", "read"),
            effect="read",
            waits=True,
            errors=(*IN_ROOM, "room_closed"),
            facts=("session_activated",),
            example={"room": "auth-redesign", "wait_ms": 30000},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "messages": [
                        samples.message(5, samples.ANN, "who takes rotation?", reply_seq=3, reply_to="m_3"),
                        samples.message(
                            6,
                            samples.ANN,
                            "",
                            kind="handoff",
                            handoff={
                                "next": "wire the login form",
                                "summary": "rotation is done",
                                "for": samples.BOB,
                                "to_you": True,
                            },
                        ),
                    ],
                    "cursor": "6",
                    "more": True,
                    "unread": 2,
                    "you": samples.BOB,
                },
            ),
            tool=Offer(tool="parler_recv"),
            command="parler recv",
        ),
        Operation(
            name="message.recv_all",
            summary="Read what is new for you in every room.",
            params=Recv,
            result=ReceivedAll,
            plane="agent",
            http=Route("GET /messages", "read"),
            effect="read",
            waits=True,
            example={"all_rooms": True},
            command="parler recv --all-rooms",
        ),
        Operation(
            name="message.commit",
            summary="Acknowledge a page: what it showed is not new any more.",
            params=Commit,
            result=Committed,
            plane="agent",
            http=Route("POST /rooms/{room}/commit", "read"),
            effect="write",
            errors=("no_such_room", "room_deleted", "ambiguous_name", "cursor_ahead", "invalid_cursor"),
            example={"room": "auth-redesign", "cursor": "12"},
        ),
        Operation(
            name="message.disclosures",
            summary="Show to whom your messages were shown, and when first.",
            params=ListDisclosures,
            result=Disclosures,
            plane="agent",
            http=Route("GET /rooms/{room}/disclosures", "read"),
            effect="read",
            errors=IN_ROOM,
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "messages": [
                        {
                            "id": "m_4",
                            "seq": 4,
                            "at": samples.AT,
                            "author": samples.ANN,
                            "shown": [{"agent": "U", "name": samples.BOB, "at": samples.AT}],
                        }
                    ],
                    "upto": 4,
                    "more": False,
                },
            ),
            command="parler disclosures",
        ),
        Operation(
            name="message.why",
            summary="Show where a message got to, reader by reader.",
            params=Why,
            result=WhyResult,
            plane="agent",
            http=Route("GET /rooms/{room}/messages/{id}/why", "read"),
            effect="read",
            errors=(
                "no_such_room",
                "room_deleted",
                "no_active_session",
                "join_pending",
                "join_denied",
                "ambiguous_name",
                "no_such_message",
                *AWAY,
            ),
            example={"id": "m_0123456789abcdefghij"},
            answers=(
                {
                    "id": "m_4",
                    "room": samples.ROOM,
                    "readers": [
                        {
                            "agent": "U",
                            "name": samples.BOB,
                            "stages": [{"stage": "stored", "at": samples.AT}, {"stage": "read", "at": samples.AT}],
                        }
                    ],
                },
                {
                    "id": "m_5",
                    "room": samples.ROOM,
                    "readers": [],
                    "queued": {"home": samples.RELAY, "since": samples.AT},
                },
            ),
            tool=Offer(tool="parler_rooms", verb="why"),
            command="parler why",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_send",
            title="Send a message",
            arguments=(
                Argument(name="text", required=True, is_free=True),
                ROOM_ARGUMENT,
                Argument(name="service", help="a queue"),
                Argument(name="to", help="any agent", is_list=True),
                Argument(name="visible_to", kind="strings", help="readers"),
                Argument(
                    name="kind",
                    help="task, ...",
                    rule="kind is one word of letters, digits and . _ / -, at most 64 characters.",
                ),
                Argument(name="reply_to", help="message number", is_number=True),
                Argument(name="timer", kind="json", help="as in parler_state"),
                Argument(name="enabled", help="CEL"),
                IDEMPOTENCY_ARGUMENT,
            ),
            example={"text": "on it"},
        ),
        ToolEntry(
            name="parler_recv",
            title="Receive messages",
            usage="Do not poll: wait with wait_secs, act, call again.",
            arguments=(
                WAIT_ARGUMENT,
                ROOM_ARGUMENT,
                Argument(name="limit", kind="integer", least=1, most=TOOL_PAGE),
                Argument(name="unclaimed", kind="boolean"),
                Argument(name="since", kind="integer", help="look back from this number"),
                Argument(name="offset", kind="integer", beside="since"),
            ),
            example={"wait_secs": 600},
        ),
    ),
)
