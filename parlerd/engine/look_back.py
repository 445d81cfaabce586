"""A look back that goes through what this home's log of a room leaves out.

    numbers of the reader   1 ... low | low+1 ... high | high+1 ...
                            the log   |  a gap: asked  |  the log
                                      |  of the home   |

Each page lies in the log or in one gap, so a reader that goes on from page to page comes through both. What a gap holds
is shown and neither stored nor marked as read: the log has no place for it. Where the room's home does not tell it, the
page goes on behind the gap, and a sentence beside the page names the numbers that are missing.

Not here: how another home is asked (`handles`, and whoever implements it). Above: `receiving`, `joining`. Below: the
library. Invariant: no number of a reader is passed over without a word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import trio

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import Position, RoomId, Seq, View
from parlerd.core.room import Room
from parlerd.engine.absent import ASKING_S, unproven, untold, within
from parlerd.engine.handles import RoomHandle
from parlerd.engine.library import Library
from parlerd.operations import types as t
from parlerd.store.port import Page, StoredMessage

RECAP_S: Final = 2.0
"""How long somebody who comes in waits for the recap."""

ReadLog = Callable[[Position], Awaitable[Page]]
"""Reads a page of the log after a position, as the reader asked for it."""


class LookedBack(NamedTuple):
    """A page, and what is said beside it. `after` is the position that a page of the log was read from; None for a page
    that was told by the room's home and is in no log here."""

    page: Page
    after: Position | None
    said: str


class Gap(NamedTuple):
    """The reader's numbers in (`low`, `high`] are left out at the position `place`."""

    low: Seq
    high: Seq
    place: Position


async def look_back(
    library: Library,
    handle: RoomHandle,
    aggregate: Room,
    view: View,
    params: t.Recv,
    *,
    newest: Seq,
    names: Sequence[str],
    read: ReadLog,
) -> LookedBack:
    """The page after the reader's number that `params` names, of the room as it is in memory. `newest` is the number of
    the reader's newest message."""
    room, since, said = handle.room, Seq(0 if params.all else params.since or 0), list[str]()
    gaps = await gaps_of(library, aggregate, view)
    while True:
        gap = next((gap for gap in gaps if gap.high > since), None)
        if gap is None or since < gap.low:
            after = await library.position_of(room, view, since)
            page = await read(after)
            held = page.messages if gap is None else [each for each in page.messages if each.seq <= gap.low]
            if gap is None or (page.more and len(held) == len(page.messages)):
                return LookedBack(page, after, " ".join(said))
            if held:
                return LookedBack(await cut(library, room, page, held), after, " ".join(said))
            since = gap.low
        found, upto, code = await _ask(handle, view, since, gap, params, names)
        said += _unshown(handle.home_name, found, since, upto, gap, code, is_whole=params.kind is None and not names)
        if found:
            shown = await library.shown_at(room, Position(gap.place - 1))
            page = Page(found, Position(gap.place), found[-1].seq, shown, more=found[-1].seq < newest)
            return LookedBack(page, None, " ".join(said))
        since = gap.high


async def told_recap(library: Library, handle: RoomHandle, aggregate: Room, view: View) -> StoredMessage | None:
    """The recap of a room whose log here begins after it, if the room's home tells it at once."""
    gaps = await gaps_of(library, aggregate, view)
    if not gaps or gaps[0].low:
        return None
    with trio.move_on_after(RECAP_S):
        try:
            told = await handle.earlier(view.reader, Seq(0), 1)
        except Refused:
            return None
        for stored in told.messages:
            event = stored.header.event
            if isinstance(event, e.MessagePosted) and event.opening:
                return stored
    return None


async def gaps_of(library: Library, room: Room, view: View) -> list[Gap]:
    """What the log leaves out, in order. Gaps between which the reader has no message are one."""
    gaps: list[Gap] = []
    for place, count in view.gaps:
        high = await library.seq_at(room, view, Position(place))
        low = Seq(high - count)
        if gaps and gaps[-1].high == low:
            low = gaps.pop().low
        gaps.append(Gap(low, high, Position(place)))
    return gaps


async def cut(library: Library, room: RoomId, page: Page, held: list[StoredMessage]) -> Page:
    """A page of the log that ends earlier, with only the first of its messages."""
    end = held[-1].header.position
    shown = await library.shown_at(room, end)
    return msgspec.structs.replace(page, messages=held, end=end, end_seq=held[-1].seq, shown=shown, more=True)


async def _ask(
    handle: RoomHandle, view: View, since: Seq, gap: Gap, params: t.Recv, names: Sequence[str]
) -> tuple[list[StoredMessage], Seq, str]:
    """Messages of a gap after a number, up to which number they were told, and the code of what kept the room's home
    from telling more."""
    upto, wanted = since, set(names)
    with trio.move_on_after(ASKING_S):
        while upto < gap.high:
            limit = min(params.limit, t.MAX_PAGE, gap.high - upto)
            try:
                told = await handle.earlier(view.reader, upto, limit)
            except Refused as error:
                return [], upto, error.code
            if told.upto <= upto:
                return [], upto, ""
            upto = min(told.upto, gap.high)
            found = [each for each in told.messages if each.seq <= upto and _is_wanted(each, params.kind, wanted)]
            if found:
                return within(found, params.max_bytes), upto, ""
        return [], upto, ""
    return [], upto, "home_unreachable"


def _is_wanted(stored: StoredMessage, kind: str | None, names: set[str]) -> bool:
    event = stored.header.event
    assert isinstance(event, e.MessagePosted)
    return (kind is None or event.kind == kind) and not (names and names.isdisjoint(e.found_under(event)))


def _unshown(
    home: str,
    found: Sequence[StoredMessage],
    since: Seq,
    upto: Seq,
    gap: Gap,
    code: str,
    *,
    is_whole: bool,
) -> list[str]:
    """What is said of numbers after `since` that the page does not show."""
    said: list[str] = []
    end = found[-1].seq if found else upto
    shown = {each.seq for each in found}
    # A filter leaves messages out that could be shown, so nothing follows from what is not there.
    unshown = [number for number in range(since + 1, end + 1) if number not in shown] if is_whole else []
    if unshown:
        said.append(unproven(home, unshown))
    if not found and upto < gap.high:
        said.append(untold(home, range(upto + 1, gap.high + 1), code))
    return said
