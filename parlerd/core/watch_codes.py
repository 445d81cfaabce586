"""Watch codes: what lets somebody look on in a browser, at one room, or the person at their whole home.

    minted --> used, once, by `use_by` --> pages are open until `expires_at`
       '------------'--> revoked, or expired

A code is known by the digest of its text, and the text is nowhere. Whoever shows the text first opens pages with it,
and nobody does so again.

Not here: what a text looks like and who may look at what (the engine), pages (`parlerd.web.pages`). Above: `home`.
Below: the shapes. Invariants: a code that was used or revoked opens nothing; one that expired opens nothing by the wall
clock as it is then; the number of codes is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import AgentId, By, Ids, Millis, RoomId

MAX_CODES: Final = 200
"""Watch codes of one home that hold. Each stands for a person who looks on."""
HOUR_MS: Final = 3600 * 1000
HOLDS_MS: Final = 24 * HOUR_MS
"""For how long a code holds, and what was opened with it. Source: contract spec, Pages."""
HOME_USE_MS: Final = 10 * 60 * 1000
"""Within what time the code of a whole home has to be used: it has a person's rights, and its person is there."""
WHOLE_HOME: Final = RoomId("")
"""In the place of a room, in the code of a person for their own home."""


class WatchCode(msgspec.Struct, frozen=True, array_like=True):
    """A watch code that was minted: with whose eyes one looks at which room, and until when. `used_at` is when pages
    were opened with it, 0 for not yet."""

    id: str
    digest: bytes
    agent: AgentId
    as_person: bool
    room: RoomId
    minted_at: Millis
    use_by: Millis
    expires_at: Millis
    used_at: Millis = Millis(0)


class WatchCodesState(msgspec.Struct):
    """The codes that were minted and not revoked, in the order in which they came; expired ones until there are new
    ones."""

    codes: dict[str, WatchCode] = {}


class WatchCodes(Facet[WatchCodesState]):
    """Mints watch codes, takes them once, and revokes them."""

    __slots__ = ()

    # -- asking --------------------------------------------------------------------------------------------

    def find(self, digest: bytes, now: Millis) -> WatchCode | None:
        """The code with a text of this digest, if it can be used at `now`, by the wall clock."""
        # A few codes hold at a time, so no table by digests is kept.
        for code in self.state.codes.values():
            if code.digest == digest:
                return code if is_open(code, now) else None
        return None

    def holding(self, id: str, now: Millis) -> WatchCode | None:
        """The code of this id, if it, or what was opened with it, holds at `now`, by the wall clock."""
        code = self.state.codes.get(id)
        return code if code is not None and (is_open(code, now) or (code.used_at and now < code.expires_at)) else None

    def all(self, now: Millis) -> Iterator[WatchCode]:
        """Every code that holds at `now`, the oldest first."""
        return (code for id in self.state.codes if (code := self.holding(id, now)) is not None)

    # -- deciding ------------------------------------------------------------------------------------------

    def _mint(self, command: c.MintWatchCode, by: By, now: Millis, ids: Ids) -> Decision:
        if sum(1 for _ in self.all(command.wall)) >= MAX_CODES:
            raise Refused("too_many_watch_codes", limit=MAX_CODES)
        if not command.wall < command.use_by <= command.expires_at <= command.wall + HOLDS_MS:
            raise Refused("invalid_param", "A watch code holds for a day at most.", param="expires_at")
        minted = e.WatchCodeMinted(
            code=ids.new("wc"),
            digest=command.digest,
            agent=command.agent,
            as_person=command.as_person,
            room=command.room,
            use_by=command.use_by,
            expires_at=command.expires_at,
        )
        return Decision((minted,), authority="person")

    def _use(self, command: c.UseWatchCode, by: By, now: Millis, ids: Ids) -> Decision:
        code = self.state.codes.get(command.code)
        if code is None or not is_open(code, command.wall):
            raise Refused("watch_code_invalid")
        return Decision((e.WatchCodeUsed(code=code.id),), authority="watch_code")

    def _revoke(self, command: c.RevokeWatchCode, by: By, now: Millis, ids: Ids) -> Decision:
        if command.code not in self.state.codes:
            raise Refused("no_such_watch_code")
        return Decision((e.WatchCodeRevoked(code=command.code),), authority="person")

    # -- becoming ------------------------------------------------------------------------------------------

    def _minted(self, event: e.WatchCodeMinted, header: e.Header) -> None:
        codes = self.state.codes
        if len(codes) >= 2 * MAX_CODES:
            # So many that most of them have expired.
            for old in [code for code in codes.values() if code.expires_at <= header.at]:
                del codes[old.id]
        codes[event.code] = WatchCode(
            event.code,
            event.digest,
            event.agent,
            event.as_person,
            event.room,
            header.at,
            event.use_by,
            event.expires_at,
        )

    def _used(self, event: e.WatchCodeUsed, header: e.Header) -> None:
        code = self.state.codes.get(event.code)
        if code is not None:
            self.state.codes[event.code] = msgspec.structs.replace(code, used_at=header.at)

    def _revoked(self, event: e.WatchCodeRevoked, header: e.Header) -> None:
        self.state.codes.pop(event.code, None)

    DECIDES = (decides(c.MintWatchCode, _mint), decides(c.UseWatchCode, _use), decides(c.RevokeWatchCode, _revoke))
    APPLIES = (
        applies(e.WatchCodeMinted, _minted),
        applies(e.WatchCodeUsed, _used),
        applies(e.WatchCodeRevoked, _revoked),
    )
    TOUCHES = (
        touches(e.WatchCodeMinted, nobody),
        touches(e.WatchCodeUsed, nobody),
        touches(e.WatchCodeRevoked, nobody),
    )


def is_open(code: WatchCode, now: Millis) -> bool:
    """Whether pages can be opened with a code at `now`."""
    return not code.used_at and now < code.use_by
