"""Who comes into a room and who leaves it: invites, and what its owner does about members and about the room.

room.invite            one key more; the first invite of a channel opens it
room.leave, room.kick  somebody is in the room no longer
room.role              what a member is in the room
room.transfer, room.takeover   another owns the room
room.successor         who may take a sealed room over
room.archive           the room is over
room.delete            the room is gone, with everything in it
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENT,
    IN_ROOM,
    Family,
    IdempotencyKey,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Route,
    Short,
)
from parlerd.operations.shared import MAX_TTL_MS, MIN_TTL_MS


class Invite(Params, frozen=True, kw_only=True):
    """Either `group`, a channel by its name, which opens with its first invite; or `service`, a queue that is there, by
    its name; or `room`, a room that is there; or none of them, for a code with which one agent gets a direct room with
    the caller.

    `approval`: whether a person decides about each newcomer; if it is not said, a new room opens without, a queue is
    entered by a person's decision, and a room goes on as it was opened. `home` is where the room is, by name. `clear`:
    as in `OpenSession`, for a channel that this invite opens on a relay. `requester`: whether whoever comes into the
    queue with it only asks for work there, and reads nothing but what is for them."""

    group: Short = ""
    service: Short = ""
    room: Short | None = None
    approval: bool | None = None
    ttl_ms: Annotated[int, Meta(ge=MIN_TTL_MS, le=MAX_TTL_MS)] | None = None
    max_uses: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    home: Short = ""
    clear: bool = False
    requester: bool = False
    idempotency_key: IdempotencyKey | None = None


class Invited(Result, frozen=True, kw_only=True):
    """`code` is what a newcomer types, and `link` the same as one word that nothing else looks like. `opened` says that
    this invite opened the room. `connect_command` adds the relay that the room lives on, on a machine that does not
    know it; null for a room of this machine. `sealed` says whether the relay that it lives on cannot read it. A retry
    is given the same code again."""

    code: str
    link: str
    room: str
    name: str
    kind: str
    expires: int
    max_uses: int
    approval: bool
    sealed: bool = False
    connect_command: str | None = None
    opened: bool = False
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET


class LeaveAsMember(Params, frozen=True, kw_only=True):
    room: Short | None = None


class KickMember(Params, frozen=True, kw_only=True):
    """`agent` is an id, or a name in the room."""

    agent: Annotated[str, Meta(min_length=1, max_length=128)]
    room: Short | None = None


class MemberGone(Result, frozen=True, kw_only=True):
    """`agent` and `name` say who is in the room no longer."""

    room: str
    room_name: str
    agent: str
    name: str
    status: str
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class GiveRole(Params, frozen=True, kw_only=True):
    """`agent` is an id, or a name in the room. An empty `role` takes the member's role away. With `lock` the member
    keeps this role, or none, whatever it says when it comes in again."""

    agent: Annotated[str, Meta(min_length=1, max_length=128)]
    role: Short
    lock: bool = False
    room: Short | None = None


class RoleOfMember(Result, frozen=True, kw_only=True):
    """`role` is what the member is from now on, empty for nothing but a member."""

    room: str
    room_name: str
    agent: str
    name: str
    role: str
    locked: bool
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ArchiveRoom(Params, frozen=True, kw_only=True):
    room: Short


class ArchivedRoom(Result, frozen=True, kw_only=True):
    room: str
    name: str
    status: str


class DeleteRoom(Params, frozen=True, kw_only=True):
    """Without `confirmed` nothing is done, and the answer says what would be gone."""

    room: Short
    confirmed: bool = False


class DeletedRoom(Result, frozen=True, kw_only=True):
    """`status`: `asked` where nothing was done yet; `deleted` where nothing of the room is in the database any more;
    `clearing` where the room is gone and its words are still being taken out of the file. `messages` are those that had
    words, `bytes` what these took. `copies` are the copies of the database that Parler made itself, in which the room
    may still be."""

    room: str
    name: str
    home: str
    status: Literal["asked", "deleted", "clearing"]
    members: int
    messages: int
    bytes: int
    copies: list[str] = []


class TransferRoom(Params, frozen=True, kw_only=True):
    """`agent` is a member, by its id or its name in the room."""

    agent: Annotated[str, Meta(min_length=1, max_length=128)]
    room: Short


class NameSuccessor(Params, frozen=True, kw_only=True):
    """`person` is who may take a sealed room over once its owner's person is gone: the id of a person, or an agent of
    theirs in the room, by its id or its name there. With `nobody` it is nobody any more. Exactly one of the two."""

    room: Short | None = None
    person: Annotated[str, Meta(max_length=128)] = ""
    nobody: bool = False


class SuccessorNamed(Result, frozen=True, kw_only=True):
    """`principal` is the person, empty for nobody, and `names` are the agents of theirs that can read the room.
    `status` is `nothing` where it was so before."""

    room: str
    room_name: str
    status: Literal["named", "nobody", "nothing"]
    principal: str = ""
    names: list[str] = []


class TakeOver(Params, frozen=True, kw_only=True):
    """`agent` is the one of the person's agents in the room that is to own it; empty where there is only one."""

    room: Short
    agent: Short = ""


class OwnedRoom(Result, frozen=True, kw_only=True):
    """`owner` and `name` are whose the room is from now on."""

    room: str
    room_name: str
    owner: str
    name: str
    status: Literal["transferred", "taken_over"]


FAMILY: Final = Family(
    operations=(
        Operation(
            name="room.invite",
            summary="Make a code that lets others into a room; the first code of a channel opens it.",
            params=Invite,
            result=Invited,
            plane="agent",
            http=Route("POST /invites", "open"),
            effect="write",
            needs_idempotency_key=True,
            errors=(
                "token_used_up",
                "no_such_room",
                "room_deleted",
                "ambiguous_name",
                "not_owner",
                "room_closed",
                "invalid_param",
                "person_only",
                "needs_person",
                "too_many_keys",
                "too_many_rooms",
                "too_many_bytes",
                "statement_refused",
                "throttled",
                *AWAY,
                *IDEMPOTENT,
            ),
            facts=("room_named", "session_activated", "room_opened", "member_joined", "key_minted"),
            example={"group": "team"},
            answers=(
                {
                    "code": "VBZHDHGR",
                    "link": "parler:join/VBZHDHGR",
                    "room": samples.ROOM,
                    "name": "team",
                    "kind": "channel",
                    "expires": samples.AT + 86_400_000,
                    "max_uses": 50,
                    "approval": True,
                    "opened": True,
                },
            ),
            command="parler invite",
        ),
        Operation(
            name="room.leave",
            summary="Leave a room as a member.",
            params=LeaveAsMember,
            result=MemberGone,
            plane="agent",
            http=Route("POST /rooms/{room}/leave", "join"),
            effect="write",
            errors=(*IN_ROOM, *AWAY, "room_closed", "owner_stays"),
            facts=("member_left", "session_activated"),
            example={"room": "team"},
            answers=({"room": samples.ROOM, "room_name": "team", "agent": "U", "name": samples.BOB, "status": "left"},),
            command="parler room leave",
        ),
        Operation(
            name="room.kick",
            summary="Put a member out of a room; a person decides before it comes in again.",
            params=KickMember,
            result=MemberGone,
            plane="agent",
            http=Route("DELETE /rooms/{room}/agents/{agent}", "open"),
            effect="destructive",
            errors=(*IN_ROOM, *AWAY, "room_closed", "not_owner", "no_such_agent", "owner_stays"),
            facts=("member_left", "session_activated"),
            example={"agent": samples.BOB, "room": "team"},
            answers=(
                {"room": samples.ROOM, "room_name": "team", "agent": "U", "name": samples.BOB, "status": "kicked"},
            ),
            command="parler room kick",
        ),
        Operation(
            name="room.role",
            summary="Say what a member is in a room, as its owner; hand-offs, tasks and expressions go by it.",
            params=GiveRole,
            result=RoleOfMember,
            plane="agent",
            http=Route("PUT /rooms/{room}/agents/{agent}/role", "open"),
            effect="write",
            errors=(*IN_ROOM, *AWAY, "room_closed", "not_owner", "no_such_agent"),
            facts=("role_given",),
            example={"agent": samples.BOB, "role": "reviewer", "lock": True, "room": "team"},
            answers=(
                {
                    "room": samples.ROOM,
                    "room_name": "team",
                    "agent": "U",
                    "name": samples.BOB,
                    "role": "reviewer",
                    "locked": True,
                },
            ),
            command="parler role",
        ),
        Operation(
            name="room.transfer",
            summary="Give a room to another member, who owns it from then on.",
            params=TransferRoom,
            result=OwnedRoom,
            plane="person",
            effect="destructive",
            errors=(
                *IN_ROOM,
                *AWAY,
                "room_closed",
                "not_owner",
                "no_such_agent",
                "invalid_param",
                "statement_refused",
                "too_many_transfers",
            ),
            facts=("owner_changed", "room_named"),
            example={"agent": samples.BOB, "room": "team"},
            answers=(
                {"room": samples.ROOM, "room_name": "team", "owner": "U", "name": samples.BOB, "status": "transferred"},
            ),
            command="parler room transfer",
        ),
        Operation(
            name="room.successor",
            summary="Say who may go on with a sealed room that you own, once you are gone.",
            params=NameSuccessor,
            result=SuccessorNamed,
            plane="person",
            effect="write",
            errors=(*IN_ROOM, *AWAY, "room_closed", "not_owner", "not_sealed", "no_such_agent", "invalid_param"),
            facts=("epoch_turned",),
            example={"room": "auth-redesign", "person": samples.BOB},
            answers=(
                {
                    "room": samples.ROOM,
                    "room_name": samples.NAME,
                    "status": "named",
                    "principal": "A",
                    "names": [samples.BOB],
                },
            ),
            command="parler room successor",
        ),
        Operation(
            name="room.takeover",
            summary="Take a room over whose owner's person has been away for long.",
            params=TakeOver,
            result=OwnedRoom,
            plane="person",
            effect="destructive",
            errors=(
                *IN_ROOM,
                *AWAY,
                "room_closed",
                "no_such_agent",
                "invalid_param",
                "owner_is_there",
                "not_successor",
                "statement_refused",
                "too_many_transfers",
            ),
            facts=("owner_changed", "room_named"),
            example={"room": "team"},
            answers=(
                {"room": samples.ROOM, "room_name": "team", "owner": "U", "name": samples.ANN, "status": "taken_over"},
            ),
            command="parler room takeover",
        ),
        Operation(
            name="room.archive",
            summary="End a room for all, as its owner; it stays to be read.",
            params=ArchiveRoom,
            result=ArchivedRoom,
            plane="agent",
            http=Route("POST /rooms/{room}/archive", "open"),
            effect="destructive",
            errors=(*IN_ROOM, *AWAY, "room_closed", "not_owner", "needs_person"),
            facts=("room_closed", "session_activated"),
            example={"room": "team"},
            answers=({"room": samples.ROOM, "name": "team", "status": "archived"},),
            command="parler room archive",
        ),
        Operation(
            name="room.delete",
            summary="Delete a room with everything in it, for everyone, as the person whose agent owns it.",
            params=DeleteRoom,
            result=DeletedRoom,
            plane="person",
            effect="destructive",
            errors=(
                "no_such_room",
                "room_deleted",
                "ambiguous_name",
                "not_owner",
                *AWAY,
            ),
            facts=("room_deleted",),
            example={"room": "team"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": "team",
                    "home": "local",
                    "status": "asked",
                    "members": 3,
                    "messages": 128,
                    "bytes": 61_440,
                },
            ),
            command="parler room delete",
        ),
    ),
)
