"""The relay that this person runs, asked over the socket of its own program. No daemon answers these operations."""

from __future__ import annotations

from typing import Final

from parlerd.operations.entry import Family, Operation, Params, Result, Short


class RelayStatus(Params, frozen=True, kw_only=True):
    pass


class RelayOfHome(Result, frozen=True, kw_only=True):
    """One of the relays that share a database: its id, where it listens for daemons, its version, of how many of the
    1,024 shards of rooms it decides, and whether the relay that was asked reaches it. One that is `older` does not know
    all that newer ones wrote, so it takes no rooms."""

    relay: str
    address: str
    version: str
    shards: int
    reached: bool
    older: bool = False


class RelayInfo(Result, frozen=True, kw_only=True):
    """`home` is the relay's key and `name` what people call it. `url` is the first of its addresses, and
    `fingerprint` what stands behind `#` in `join_line`, which is the two together. `daemons` links are open now, and
    `people` are enrolled. `store` says where the rooms are kept, without a password, and `store_ok` whether that takes
    what is written now; `rooms` is null while it cannot be read. `relays` are those that share that store and live,
    this one among them, and `term` is how often a shard of rooms changed hands at most; both are empty for a store in
    a file."""

    running: bool
    pid: int
    version: str
    home: str
    name: str
    url: str
    fingerprint: str
    join_line: str
    join_secret_file: str
    addresses: list[str]
    rooms: int | None
    daemons: int
    people: int
    uptime_ms: int
    store: str = ""
    store_ok: bool = True
    relays: list[RelayOfHome] = []
    term: int = 0


class ListRelayMembers(Params, frozen=True, kw_only=True):
    pass


class RelayMember(Result, frozen=True, kw_only=True):
    """One person who is enrolled: their key, the name that their machine gave itself, since when, and whether their
    daemon is there now. `fingerprint` is for people to compare."""

    person: str
    name: str
    fingerprint: str
    enrolled_at: int
    connected: bool


class RelayMemberList(Result, frozen=True, kw_only=True):
    members: list[RelayMember]


class KickFromRelay(Params, frozen=True, kw_only=True):
    """`person` is a key, a fingerprint, or a name that only one of those who are enrolled has."""

    person: Short


class KickedFromRelay(Result, frozen=True, kw_only=True):
    """What ended with it: links, memberships of rooms, and session keys that the person's agents had made. The join
    secret is another one from now on."""

    person: str
    name: str
    links: int
    memberships: int
    keys: int
    join_secret_file: str


class BackUpRelay(Params, frozen=True, kw_only=True):
    """`file` is the absolute path of a file that does not exist yet."""

    file: str


class RelayBackedUp(Result, frozen=True, kw_only=True):
    file: str
    bytes: int


class StopRelay(Params, frozen=True, kw_only=True):
    """Tell every daemon to come back later, drain, and exit."""


class RelayStopping(Result, frozen=True, kw_only=True):
    pid: int


FAMILY: Final = Family(
    operations=(
        Operation(
            name="relay.status",
            summary="Show the relay that runs on this machine, and the line by which others add it.",
            params=RelayStatus,
            result=RelayInfo,
            plane="relay",
            effect="read",
            command="parler relay status",
        ),
        Operation(
            name="relay.members",
            summary="List the people who are enrolled at the relay.",
            params=ListRelayMembers,
            result=RelayMemberList,
            plane="relay",
            effect="read",
            command="parler relay members",
        ),
        Operation(
            name="relay.kick",
            summary="End a person's links, memberships and session keys at the relay, and change the join secret.",
            params=KickFromRelay,
            result=KickedFromRelay,
            plane="relay",
            effect="destructive",
            errors=("no_such_agent", "ambiguous_name"),
            example={"person": "ben"},
            command="parler relay kick",
        ),
        Operation(
            name="relay.backup",
            summary="Write the relay's store, keys and certificates to one file, which only you may read.",
            params=BackUpRelay,
            result=RelayBackedUp,
            plane="relay",
            effect="write",
            errors=("invalid_param", "home_not_writable", "backup_elsewhere"),
            example={"file": "/backups/relay.tar"},
            command="parler relay backup",
        ),
        Operation(
            name="relay.stop",
            summary="Stop the relay.",
            params=StopRelay,
            result=RelayStopping,
            plane="relay",
            effect="destructive",
            command="parler relay stop",
        ),
    )
)
