"""The pages in which a person sees their home in a browser: the codes that open them, and what pages ask."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from parlerd.core.model import PeerText
from parlerd.operations import samples
from parlerd.operations.entry import IN_ROOM, Family, Operation, Params, Result, Short
from parlerd.operations.shared import Message

MAX_SHOWN: Final = 50
"""Messages of one page. Source: contract spec, Pages."""


class OpenPages(Params, frozen=True, kw_only=True):
    """With a `room` the code shows that room; without one the whole home of the person. A door over HTTP that is closed
    is opened at this `port`, or at any for 0."""

    room: Short | None = None
    port: Annotated[int, Meta(ge=0, le=65535)] = 0


class WatchCodeInfo(Result, frozen=True, kw_only=True):
    """A watch code by its id: who looks with it, as `agent` or with `as_person` as every agent of that one's person, at
    which `room` (empty: the whole home), and until when pages can be opened with it and stay open. `used_at` is 0 until
    then. `streams` is how many pages follow what happens now."""

    id: str
    agent: str
    as_person: bool
    room: str
    minted_at: int
    use_by: int
    expires_at: int
    used_at: int = 0
    streams: int = 0
    name: str = ""


class OpenedPages(Result, frozen=True, kw_only=True):
    """`code` is told this once and kept nowhere; `url` is where it is typed. A browser that is shown `url#code` types
    it by itself: what stands behind the `#` is sent nowhere."""

    url: str
    watch_code: str
    info: WatchCodeInfo


class ListWatchCodes(Params, frozen=True, kw_only=True):
    pass


class WatchCodeList(Result, frozen=True, kw_only=True):
    codes: list[WatchCodeInfo]


class RevokeWatchCode(Params, frozen=True, kw_only=True):
    id: Short


class RevokedWatchCode(Result, frozen=True, kw_only=True):
    id: str


class LookBack(Params, frozen=True, kw_only=True):
    """The newest messages of a room, or with `before` the newest before the message of this id; with `only` that one
    alone."""

    room: Short
    before: Short = ""
    only: Short = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_SHOWN)] = MAX_SHOWN


class LookedBack(Result, frozen=True, kw_only=True):
    """Messages in order, the oldest first, as whoever looks may see them; `more` says that older ones follow. `cursor`
    is from where `page.follow` goes on. `home` is where the room lives, `is_closed` that nothing will happen any
    more."""

    room: str
    name: str
    topic: PeerText
    kind: str
    home: str
    owner: str
    is_closed: bool
    messages: list[Message]
    more: bool
    cursor: str


class LookOn(Params, frozen=True, kw_only=True):
    """What happens in a room after a place that this reader was told."""

    room: Short
    after: Short


class Happened(Result, frozen=True, kw_only=True):
    """`event` is message, joined, left, role, knocked, denied or closed, as in `room.watch`. `cursor` is the place
    behind it, or empty where what comes next was found with it."""

    event: str
    at: int
    cursor: str = ""
    message: Message | None = None
    agent: str = ""
    role: str = ""


_CODE: Final = {
    "id": "wc_0123456789abcdefghij",
    "agent": samples.ANN,
    "as_person": True,
    "room": samples.ROOM,
    "minted_at": samples.AT,
    "use_by": samples.AT + 86_400_000,
    "expires_at": samples.AT + 86_400_000,
    "name": samples.NAME,
}

FAMILY: Final = Family(
    operations=(
        Operation(
            name="page.open",
            summary="Show a room, or your whole home, in a browser.",
            params=OpenPages,
            result=OpenedPages,
            plane="person",
            effect="write",
            errors=(*IN_ROOM, "too_many_watch_codes", "port_taken"),
            facts=("watch_code_minted",),
            example={"room": "auth-redesign"},
            answers=({"url": "http://127.0.0.1:8756/view", "watch_code": "0123-4567-89AB-CDEF", "info": _CODE},),
            command="parler view",
        ),
        Operation(
            name="page.codes",
            summary="List the watch codes that hold, and what is open with them.",
            params=ListWatchCodes,
            result=WatchCodeList,
            plane="person",
            effect="read",
            answers=({"codes": [_CODE]},),
            command="parler view --list",
        ),
        Operation(
            name="page.revoke",
            summary="Revoke a watch code: pages that were opened with it are closed.",
            params=RevokeWatchCode,
            result=RevokedWatchCode,
            plane="person",
            effect="destructive",
            errors=("no_such_watch_code",),
            facts=("watch_code_revoked",),
            example={"id": "wc_0123456789abcdefghij"},
            answers=({"id": "wc_0123456789abcdefghij"},),
            command="parler view --revoke",
        ),
        Operation(
            name="page.look_back",
            summary="Show a page of a room's messages to whoever looks on.",
            params=LookBack,
            result=LookedBack,
            plane="page",
            effect="read",
            errors=(*IN_ROOM, "no_such_message"),
            example={"room": samples.ROOM},
        ),
        Operation(
            name="page.follow",
            summary="Follow a room from a page of it on.",
            params=LookOn,
            result=Happened,
            plane="page",
            effect="read",
            stream=True,
            errors=(*IN_ROOM, "invalid_cursor"),
            example={"room": samples.ROOM, "after": "c"},
        ),
    ),
)
