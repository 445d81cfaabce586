"""Looking at rooms: which there are, who is in one, who knocks, what happens, and how much is kept of one."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import PeerText
from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IN_ROOM,
    MAX_PAGE,
    Argument,
    Family,
    Offer,
    Operation,
    Params,
    Result,
    Route,
    Short,
    ToolEntry,
)
from parlerd.operations.shared import REQUESTS_OF_ROOM, Message, RequestList, SessionRequests, StatedStatus


class Knocking(Result, frozen=True, kw_only=True):
    """A session that the agent asked to come into and where it waits for a person, who types `join_code`;
    null where that
    is not shown: to a command that an agent host started. `begins` are the first characters of the key that it used."""

    room: str
    join_code: str | None = msgspec.field(name="code")
    begins: str = ""


class ListRooms(Params, frozen=True, kw_only=True):
    """With `size` the answer says how much is kept of each room, for which every message of it is looked at."""

    size: bool = False


class KeptLimits(Result, frozen=True, kw_only=True):
    """How many messages have their words on this machine at most, how many bytes these words take, and for how many
    days they are kept; 0 is no limit."""

    messages: int = 0
    bytes: int = 0
    days: int = 0


class KeptSize(Result, frozen=True, kw_only=True):
    """How many messages have their words on this machine, and how many bytes these words take. Of a room that lives
    elsewhere only the newest are kept here. `has_own` says that the person set a limit for this room alone. `files` are
    the files and bundles that these messages bring, and `file_bytes` what of them is on this machine; `erased` counts
    the messages whose words went by retention."""

    messages: int
    bytes: int
    limits: KeptLimits
    file_bytes: int
    files: int | msgspec.UnsetType = msgspec.UNSET
    erased: int | msgspec.UnsetType = msgspec.UNSET
    has_own: bool = False


KeptNumber = Annotated[int, Meta(ge=1, le=2**53)] | Literal["default"]
"""A limit, or `default` to leave it to the home."""


class KeepOfRoom(Params, frozen=True, kw_only=True):
    """How much is kept of the words of a room that lives here: of how many messages, the newest, how many bytes, and
    for how many days. None is more than the home keeps of any room. What is not named stays as it is."""

    room: Short | None = None
    messages: KeptNumber | None = None
    bytes: KeptNumber | None = None
    days: KeptNumber | None = None


class KeptOfRoom(Result, frozen=True, kw_only=True):
    """`own` is what the person set for this room, where 0 is nothing, and `limits` what holds: of each number the
    smaller of the room's own and the home's for any room."""

    room: str
    name: str
    own: KeptLimits
    limits: KeptLimits


class RoomInfo(Result, frozen=True, kw_only=True):
    """`agents` are the caller's that are in it, by name: a person has several. `unread` and `last_at` are of the first
    of them, which is the acting agent wherever that is in; `active` says that it is the acting agent's session.
    `alarm` is the code of the error that says why nothing is sent to a room that was not closed; it is empty where
    nothing is wrong. With `silent_since` the room is shown as of then, when its home was last heard from; 0 is not
    since this daemon started. `kept` is there where sizes were asked for. A `sealed` room's home carries its words and
    cannot read them; every other `home` than `local` can."""

    room: str
    name: str
    topic: PeerText
    kind: str
    home: str
    owner: str
    owner_name: str = ""
    agents: list[str] = []
    members: int
    unread: int
    last_at: int
    active: bool
    state: str
    pending: int = 0
    alarm: str = ""
    sealed: bool = False
    silent_since: int | msgspec.UnsetType = msgspec.UNSET
    kept: KeptSize | msgspec.UnsetType = msgspec.UNSET


class RoomList(Result, frozen=True, kw_only=True):
    """`you` is the name of the agent that asks; `waits` are the sessions whose door it waits at. `notice` says which
    homes were not heard from, so that their rooms are shown as of then. `kept` is what this machine keeps of all rooms
    together, private memories among them, with the limit for those that live here; it is told to the person who asked
    for sizes."""

    rooms: list[RoomInfo]
    you: str = ""
    waits: list[Knocking] = []
    notice: str = ""
    kept: KeptSize | msgspec.UnsetType = msgspec.UNSET


class Roster(Params, frozen=True, kw_only=True):
    room: Short | None = None


class RosterMember(Result, frozen=True, kw_only=True):
    """`presence` is what was found out of the member, `stated` what it says that it is doing. A `locked` role is the
    word of the room's owner, any other the member's own."""

    id: str
    name: str
    role: str
    host: str
    owner: bool
    state: str
    presence: str
    since: int
    stated: StatedStatus | msgspec.UnsetType = msgspec.UNSET
    locked: bool = False


class RosterResult(Result, frozen=True, kw_only=True):
    """With `silent_since` the members are those as of then, when the room's home was last heard from; 0 is not since
    this daemon started. `notice` says so. `turns` are how many two agents may begin by their messages in each
    conversation, where the person set a number. `home` and `sealed` are as in `RoomInfo`. In a `sealed` room
    `key_change_since` says since when somebody is in who cannot read yet, or is out who still could; it is left out
    where nobody is. There `owner_heard` is when the machine of the owner last signed something that came here, by that
    machine's clock, and `successor` are the agents of the person whom the owner named to go on; both are left out where
    there is nothing to say."""

    room: str
    name: str
    members: list[RosterMember]
    you: str = ""
    turns: int | msgspec.UnsetType = msgspec.UNSET
    silent_since: int | msgspec.UnsetType = msgspec.UNSET
    notice: str = ""
    home: str = ""
    sealed: bool = False
    key_change_since: int | msgspec.UnsetType = msgspec.UNSET
    owner_heard: int | msgspec.UnsetType = msgspec.UNSET
    successor: list[str] | msgspec.UnsetType = msgspec.UNSET


class WatchRoom(Params, frozen=True, kw_only=True):
    """A stream for a person: one `WatchItem` for each message their agents may see, from the newest `tail` on, and for
    what happens to the room meanwhile."""

    room: Short | None = None
    tail: Annotated[int, Meta(ge=0, le=MAX_PAGE)] = 20


class WatchItem(Result, frozen=True, kw_only=True):
    """`number` counts the items of this stream, from 1, and is the `seq` of its message too: each agent numbers a room
    for itself, so the numbers of several would repeat. `event` is message, joined, left, role, knocked, denied or
    closed; `agent` is who came, went, knocked or was given a role, by name, and `role` is that role, empty for none."""

    room: str
    name: str
    event: str
    number: int = 0
    message: Message | msgspec.UnsetType = msgspec.UNSET
    agent: str | msgspec.UnsetType = msgspec.UNSET
    role: str | msgspec.UnsetType = msgspec.UNSET
    at: int = 0


class Resync(Result, frozen=True, kw_only=True):
    """More happened than is told one by one. What is left out the reads say: messages after the number `since`, changes
    of the state after the place `after`, and how members, work and requests stand now."""

    room: str
    name: str
    since: int | msgspec.UnsetType = msgspec.UNSET
    after: str | msgspec.UnsetType = msgspec.UNSET


class CompareRoom(Params, frozen=True, kw_only=True):
    """What the members of a sealed room compare, each on a screen of their own. Nothing is asked of the room's home:
    the answer is as the room is here."""

    room: Short | None = None


class Reader(Result, frozen=True, kw_only=True):
    """An agent that is given the keys of a sealed room, and the person for whom it acts, both as the record of its
    epoch names them. `fingerprint` is of the agent's key, as `agent.whoami` shows it to that agent. A `requester` of a
    queue is given no key but that of what it asks itself."""

    id: str
    name: str
    fingerprint: str
    principal: str
    owner: bool = False
    requester: bool = False


class RoomCompared(Result, frozen=True, kw_only=True):
    """`characters` are twenty of Parler's alphabet, in groups of four: the same for every member whose copy of the room
    has the same newest record and the same readers. `epoch` is the number of that record, and `since` when the room's
    home took it in. `key_change_since` and `notice` say that another record is due, after which the characters are
    others; `silent_since` and `notice` that the room is shown as of then, when its home was last heard from. `alarm` is
    the code of the error that says why nothing is sent to this room any more; it is empty where nothing is wrong.
    `owner_heard` and `successor` are as in `rooms.roster`. `taken_over` is when the owner took the room over, whom the
    owner before had named."""

    room: str
    name: str
    home: str
    characters: str
    epoch: int
    since: int
    readers: list[Reader]
    key_change_since: int | msgspec.UnsetType = msgspec.UNSET
    silent_since: int | msgspec.UnsetType = msgspec.UNSET
    alarm: str = ""
    notice: str = ""
    owner_heard: int | msgspec.UnsetType = msgspec.UNSET
    successor: list[str] | msgspec.UnsetType = msgspec.UNSET
    taken_over: int | msgspec.UnsetType = msgspec.UNSET


class RewindRoom(Params, frozen=True, kw_only=True):
    """Let a room go on that its relay holds less of than it told. Without `confirmed` nothing is done, and the answer
    says what would be lost."""

    room: Short
    confirmed: bool = False


class LostWords(Result, frozen=True, kw_only=True):
    """How many messages of one author the relay has no more, of those that this machine holds."""

    author: str
    messages: int


class RewoundRoom(Result, frozen=True, kw_only=True):
    """`status`: `asked` where nothing was done yet, `rewound`, or `nothing` where the room was rewound and nothing came
    after that. `newest` is the newest message that stays, by its author's name and its time; empty and 0 without
    one."""

    room: str
    name: str
    home: str
    status: Literal["asked", "rewound", "nothing"]
    lost: list[LostWords] = []
    newest: str = ""
    newest_at: int = 0


FAMILY: Final = Family(
    operations=(
        Operation(
            name="rooms.list",
            summary="Show your rooms, with what is unread.",
            params=ListRooms,
            result=RoomList,
            plane="agent",
            http=Route("GET /rooms", "read"),
            effect="read",
            answers=(
                {
                    "you": samples.ANN,
                    "rooms": [
                        {
                            "room": samples.ROOM,
                            "name": samples.NAME,
                            "topic": "Auth redesign",
                            "kind": "session",
                            "home": "local",
                            "owner": "U",
                            "owner_name": samples.ANN,
                            "members": 2,
                            "unread": 3,
                            "last_at": samples.AT,
                            "active": True,
                            "state": "open",
                        }
                    ],
                },
            ),
            tool=Offer(tool="parler_rooms", verb="list"),
            command="parler rooms",
        ),
        Operation(
            name="room.retention",
            summary="Say how much is kept of the words of a room of yours.",
            params=KeepOfRoom,
            result=KeptOfRoom,
            plane="person",
            effect="write",
            errors=(*IN_ROOM, "invalid_param", "not_owner", "room_elsewhere"),
            facts=("room_limited",),
            example={"room": "auth-redesign", "messages": 5000},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "own": {"messages": 5000},
                    "limits": {"messages": 5000, "bytes": 1073741824},
                },
            ),
            command="parler room retention",
        ),
        Operation(
            name="rooms.roster",
            summary="Show who is in a room.",
            params=Roster,
            result=RosterResult,
            plane="agent",
            http=Route("GET /rooms/{room}/agents", "read"),
            effect="read",
            errors=IN_ROOM,
            example={"room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "you": samples.ANN,
                    "members": [
                        samples.member(samples.ANN, "owner", "active"),
                        samples.member(samples.BOB, "guest", "waiting"),
                    ],
                },
            ),
            tool=Offer(tool="parler_rooms", verb="roster"),
            command="parler roster",
        ),
        Operation(
            name="rooms.requests",
            summary="Show who knocks at the rooms this agent owns.",
            params=SessionRequests,
            result=RequestList,
            plane="agent",
            http=Route("GET /requests", "read"),
            effect="read",
            errors=REQUESTS_OF_ROOM,
            answers=(
                {
                    "room": None,
                    "requests": [
                        {
                            "id": "q",
                            "room": samples.ROOM,
                            "room_name": samples.NAME,
                            "agent": "U",
                            "name": samples.BOB,
                            "host": "codex",
                            "requested": samples.AT,
                            "fingerprint": "ABCD-EFGH-IJKL",
                            "home": "local",
                        }
                    ],
                },
            ),
            tool=Offer(tool="parler_rooms", verb="requests"),
        ),
        Operation(
            name="room.verify",
            summary="Show twenty characters that all members of a sealed room can compare.",
            params=CompareRoom,
            result=RoomCompared,
            plane="person",
            effect="read",
            errors=(*IN_ROOM, "not_sealed", "not_sealed_in"),
            example={"room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "home": samples.RELAY,
                    "characters": "A3KE-7DJR-V4Q7-M2XC-9PHT",
                    "epoch": 2,
                    "since": samples.AT,
                    "readers": [
                        {
                            "id": "U",
                            "name": samples.ANN,
                            "fingerprint": "MNPQ-RSTV-WXYZ",
                            "principal": "A",
                            "owner": True,
                        },
                        {"id": "U", "name": samples.BOB, "fingerprint": "ABCD-EFGH-IJKL", "principal": "A"},
                    ],
                },
            ),
            command="parler room verify",
        ),
        Operation(
            name="room.rewind",
            summary="Let a room go on of which its relay, restored from an older copy, lost the newest messages.",
            params=RewindRoom,
            result=RewoundRoom,
            plane="person",
            effect="destructive",
            errors=(
                "no_such_room",
                "room_deleted",
                "ambiguous_name",
                "not_owner",
                "room_closed",
                "room_is_here",
                "rewind_refused",
                "statement_refused",
                *AWAY,
            ),
            example={"room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "home": "team-7f3k2q",
                    "status": "asked",
                    "lost": [{"author": samples.ANN, "messages": 2}, {"author": samples.BOB, "messages": 1}],
                    "newest": samples.BOB,
                    "newest_at": samples.AT,
                },
            ),
            command="parler room rewind",
        ),
        Operation(
            name="room.watch",
            summary="Follow a room live, as a person.",
            params=WatchRoom,
            result=WatchItem,
            plane="agent",
            http=Route("GET /rooms/{room}/events", "read"),
            effect="read",
            stream=True,
            errors=IN_ROOM,
            command="parler watch",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_rooms",
            title="Look around",
            does="Rooms and what is unread (list), members (roster), who knocks (requests), where a message got to "
            "(why), offers of the turn (handoffs).",
            arguments=(
                Argument(name="room"),
                Argument(name="id", help="message number", is_number=True),
            ),
            default="list",
            example={"action": "roster"},
            reaches_others=False,
        ),
    ),
)
