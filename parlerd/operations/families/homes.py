"""The homes where rooms live: this machine, and the relays that the person added.

Only the person adds, removes and chooses, because a home that was added is dialled from then on. Source: security spec
D12.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import Family, Operation, Params, Result, Short

HomeState = Literal["local", "connected", "connecting", "idle", "unreachable", "refused"]
"""How a home is: `local` is this machine; a link to a relay is open, is being made, is closed because nobody needs it,
cannot be made now and is tried again, or was refused and is not tried again until a person does something."""


class ListHomes(Params, frozen=True, kw_only=True):
    pass


class HomeEntry(Result, frozen=True, kw_only=True):
    """One home. `id` is its key. `url` is where it was last reached, empty for this machine. `fingerprint` is what
    stands behind `#` in the line by which the home was added. `default`: new sessions open there. `waiting` messages
    and `cards` of this machine's agents wait to be sent there; only the person is told. `heard_at` is when the relay
    last answered, 0 where it never did. `reason` is the code of the error that keeps a link from being made, or empty.
    `clock_ahead_ms` is how far the relay's clock was ahead of this machine's at the last link, negative where it was
    behind."""

    name: str
    id: str
    url: str
    fingerprint: str
    state: HomeState
    default: bool
    waiting: int = 0
    cards: int = 0
    heard_at: int = 0
    reason: str = ""
    clock_ahead_ms: int = 0


class HomeList(Result, frozen=True, kw_only=True):
    homes: list[HomeEntry]


class AddHome(Params, frozen=True, kw_only=True):
    """`line` is the line that the relay's own machine printed. `secret` enrols this person there once; a person whom
    the relay knows needs none. Both are checked with the relay before anything is stored. The home becomes the default.

    The secret is in no log and no error, and the relay is never sent it.
    """

    line: Annotated[str, Meta(max_length=512)]
    secret: Annotated[str, Meta(max_length=128)] = ""


class HomeAdded(Result, frozen=True, kw_only=True):
    """`unchanged`: this relay was there already, and answered as it should."""

    home: HomeEntry
    status: Literal["added", "unchanged"]


class RemoveHome(Params, frozen=True, kw_only=True):
    """`name` is a home's name or id. `drop`: messages that wait to be sent there are given up."""

    name: Short
    drop: bool = False


class HomeRemoved(Result, frozen=True, kw_only=True):
    """`rooms` rooms of that home stay here as an archive that can be read; `dropped` messages were given up; new
    sessions open at the home `default`."""

    name: str
    rooms: int
    dropped: int
    default: str


class ChooseHome(Params, frozen=True, kw_only=True):
    """From now on new sessions open at this home; `local` is this machine."""

    name: Short


FAMILY: Final = Family(
    operations=(
        Operation(
            name="homes.list",
            summary="List this machine and the relays that were added, and how each is.",
            params=ListHomes,
            result=HomeList,
            plane="local",
            effect="read",
            command="parler homes",
        ),
        Operation(
            name="homes.add",
            summary="Add a relay that somebody else runs, so that sessions can live there.",
            params=AddHome,
            result=HomeAdded,
            plane="person",
            effect="write",
            errors=(
                "invalid_param",
                "home_not_trusted",
                "wrong_relay",
                "wrong_secret",
                "not_enrolled",
                "kicked",
                "home_unreachable",
            ),
            example={"line": samples.JOIN_LINE, "secret": "EXAMPLE"},
            command="parler connect --relay",
        ),
        Operation(
            name="homes.remove",
            summary="Take a relay out again. Its rooms stay here to be read.",
            params=RemoveHome,
            result=HomeRemoved,
            plane="person",
            effect="destructive",
            errors=("no_such_home", "outbox_not_empty", "invalid_param"),
            example={"name": "team-7f3k2q"},
            command="parler homes remove",
        ),
        Operation(
            name="homes.default",
            summary="Choose the home where new sessions open.",
            params=ChooseHome,
            result=HomeEntry,
            plane="person",
            effect="write",
            errors=("no_such_home",),
            example={"name": "local"},
            command="parler connect --local",
        ),
    )
)
