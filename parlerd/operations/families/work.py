"""Work: queues and their workers, and the tasks of any room, which one worker at a time holds."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENT,
    IN_ROOM,
    SENDS_AWAY,
    WAIT_ARGUMENT,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Route,
    Short,
    Wait,
)
from parlerd.operations.shared import Lease, Message, TaskStatus


class Serve(Params, frozen=True, kw_only=True):
    """`service` is the name of the queue; `NAME@HOME` where more than one home has a queue of that name, or where the
    first worker wants it to be in a certain home. `clear`: as in `OpenSession`, for a queue that this opens on a
    relay."""

    service: Annotated[Short, Meta(min_length=1)]
    clear: bool = False


class Served(Result, frozen=True, kw_only=True):
    """The agent is a worker of the queue. `opened` says that the queue was made for it; `open` counts the tasks that it
    could claim now. `sealed` says whether the relay that it is on cannot read it."""

    room: str
    name: str
    status: Literal["serving", "already_serving"]
    opened: bool = False
    open: int = 0
    sealed: bool = False


class ClaimTask(Params, frozen=True, kw_only=True):
    """`id` is a task: its id, or the agent's own number of it. Without one the oldest task is meant that the agent can
    have, in the queue `service`, in the room, or in the active session."""

    id: Short | None = None
    service: Short | None = None
    room: Short | None = None
    wait_ms: Wait = 0
    lease_ms: Lease | None = None
    idempotency_key: IdempotencyKey | None = None


class RenewTask(Params, frozen=True, kw_only=True):
    """With `wait_ms` the answer comes once the agent does not hold the task any more, or at the end of that time, and
    the lease counts from then."""

    id: Short
    service: Short | None = None
    room: Short | None = None
    lease_ms: Lease | None = None
    wait_ms: Wait = 0


class ReleaseTask(Params, frozen=True, kw_only=True):
    id: Short
    service: Short | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class CompleteTask(Params, frozen=True, kw_only=True):
    """`text` is the result, and `blob` a file or code that belongs to it: the number or the id of a message of the room
    that brings it, or its own id. `fence` is the number of the claim, so that a claim that was lost and won again is
    not taken for the first."""

    id: Short
    fence: Annotated[int, Meta(ge=0)] = 0
    text: str = ""
    blob: Short | None = None
    service: Short | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class SayOfTask(Params, frozen=True, kw_only=True):
    """Without an `id` the one task is meant that the agent holds. `blob` as with `task.complete`."""

    status: Literal["accepted", "working", "awaiting", "done", "failed", "cancelled"]
    id: Short | None = None
    text: str = ""
    blob: Short | None = None
    service: Short | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class TaskHeld(Result, frozen=True, kw_only=True):
    """A task as the agent has it now. `id` is null where there was nothing to claim; `lease_until` and `fence` are null
    for a task that the agent does not hold any more. `message` is the task's message, after a claim. `result` is the id
    of the message by which something was said of the task."""

    id: str | None
    lease_until: int | None
    fence: int | None
    message: Message | None
    status: Literal["none", "already_yours", TaskStatus]
    room: str
    name: str = ""
    result: str | msgspec.UnsetType = msgspec.UNSET
    idempotency_key: str = msgspec.field(name="key", default="")
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


_OF_TASK: Final = (*IN_ROOM, "no_such_message", "no_such_task", "not_a_worker", "invalid_param", "room_closed", *AWAY)
_SAYING: Final = (
    *_OF_TASK,
    "agent_disabled",
    "claim_lost",
    "task_over",
    "text_too_long",
    "throttled",
    "too_many_audiences",
    "no_such_blob",
    "upload_unfinished",
    *SENDS_AWAY[len(AWAY) :],
    *IDEMPOTENT,
)
_HELD: Final = {
    "id": "m_7",
    "lease_until": samples.AT + 300_000,
    "fence": 12,
    "message": None,
    "status": "claimed",
    "room": samples.ROOM,
    "name": "review",
}

FAMILY: Final = Family(
    operations=(
        Operation(
            name="queue.serve",
            summary="Let this agent work for a queue.",
            params=Serve,
            result=Served,
            plane="agent",
            http=Route("POST /queues", "work"),
            effect="write",
            errors=(
                "no_such_room",
                "ambiguous_name",
                "invalid_param",
                "person_only",
                "needs_person",
                "join_pending",
                "join_denied",
                "room_closed",
                "throttled",
                "unknown_key",
                "too_many_keys",
                "too_many_rooms",
                *SENDS_AWAY,
                *IDEMPOTENT,
            ),
            facts=("room_opened", "member_joined", "member_left", "key_minted"),
            example={"service": "review"},
            answers=({"room": samples.ROOM, "name": "review", "status": "serving", "opened": True},),
            tool=Offer(tool="parler_act", verb="serve"),
            command="parler serve",
        ),
        Operation(
            name="task.claim",
            summary="Take a task, which nobody else has then.",
            params=ClaimTask,
            result=TaskHeld,
            plane="agent",
            http=Route("POST /rooms/{room}/claim", "work"),
            effect="write",
            needs_idempotency_key=True,
            waits=True,
            errors=(
                *_OF_TASK,
                "agent_disabled",
                "already_claimed",
                "task_not_yours",
                "task_not_offered",
                "task_over",
                "claim_lost",
                *IDEMPOTENT,
            ),
            facts=("task_claimed", "task_completed", "task_lapsed"),
            example={"service": "review"},
            answers=(
                {**_HELD, "message": samples.message(7, samples.ANN, "review PR #42", kind="task")},
                {**_HELD, "id": None, "lease_until": None, "fence": None, "status": "none"},
            ),
            tool=Offer(tool="parler_act", verb="claim", arguments=(WAIT_ARGUMENT,)),
            command="parler claim",
        ),
        Operation(
            name="task.renew",
            summary="Keep a task longer.",
            params=RenewTask,
            result=TaskHeld,
            plane="agent",
            http=Route("POST /rooms/{room}/tasks/{id}/renew", "work"),
            effect="write",
            waits=True,
            errors=(*_OF_TASK, "claim_lost", "task_over"),
            facts=("task_completed", "task_lapsed"),
            example={"id": "7"},
            answers=(_HELD,),
            tool=Offer(tool="parler_act", verb="renew"),
            command="parler renew",
        ),
        Operation(
            name="task.release",
            summary="Give a task back, for another worker.",
            params=ReleaseTask,
            result=TaskHeld,
            plane="agent",
            http=Route("POST /rooms/{room}/tasks/{id}/release", "work"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*_OF_TASK, "claim_lost", "task_over", *IDEMPOTENT),
            facts=("task_completed", "task_released", "task_lapsed"),
            example={"id": "7"},
            answers=({**_HELD, "lease_until": None, "fence": None, "status": "open"},),
            tool=Offer(tool="parler_act", verb="release"),
            command="parler release",
        ),
        Operation(
            name="task.complete",
            summary="End a task with its result.",
            params=CompleteTask,
            result=TaskHeld,
            plane="agent",
            http=Route("POST /rooms/{room}/tasks/{id}/complete", "work"),
            effect="write",
            needs_idempotency_key=True,
            errors=_SAYING,
            facts=("message_posted", "task_completed", "task_lapsed"),
            example={"id": "7", "fence": 12, "text": "approved"},
            answers=({**_HELD, "lease_until": None, "fence": None, "status": "done", "result": "m_8"},),
            tool=Offer(tool="parler_act", verb="complete"),
            command="parler complete",
        ),
        Operation(
            name="task.say",
            summary="Tell how a task is.",
            params=SayOfTask,
            result=TaskHeld,
            plane="agent",
            http=Route("POST /rooms/{room}/tasks", "work"),
            effect="write",
            needs_idempotency_key=True,
            errors=_SAYING,
            facts=("message_posted", "task_completed", "task_lapsed"),
            example={"status": "working", "id": "7"},
            answers=({**_HELD, "status": "working", "result": "m_8"},),
            tool=Offer(tool="parler_act", verb="task"),
            command="parler task",
        ),
    ),
)
