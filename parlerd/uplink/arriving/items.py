"""An item of the link, judged whole.

    item of the link -> hear(item, past, grounds) -> arrivals, in the order of the other home's log

Not here: the parts (`cards`, `records`, `pages`, `tasks`). Above: `mirrors`, and `asking.earlier` for what a page is
held against. Below: `hearing`. Pure. Invariant: each part of an item is judged by the ones before it, and nothing of an
item counts behind the part that contradicts.
"""

from __future__ import annotations

from typing import NamedTuple

from parlerd.core.errors import Refused
from parlerd.core.model import MessageId, Shown
from parlerd.core.statements import OwnerLine
from parlerd.operations import types as t
from parlerd.uplink.arriving.cards import hear_card
from parlerd.uplink.arriving.hearing import Arrival, Contradiction, Grounds, Hearing, Past
from parlerd.uplink.arriving.messages import decoded
from parlerd.uplink.arriving.pages import Page
from parlerd.uplink.arriving.records import hear_record
from parlerd.uplink.arriving.statements import statement_in
from parlerd.uplink.arriving.tasks import hear_tasks


class Wanted(NamedTuple):
    """What has to be looked up before an item is judged: at which numbers of the public line, and which ids."""

    numbers: frozenset[int]
    ids: frozenset[MessageId]


class Heard(NamedTuple):
    """What an item comes to."""

    arrivals: list[Arrival]
    """What the mirror takes in, in order. Nothing, once the home contradicted itself in this room."""
    erased: tuple[int, ...] = ()
    """The public messages, by their numbers in the room, of which the item said that their words were erased, and that
    the mirror knows."""


def wanted(item: t.LinkItem, shown: Shown) -> Wanted:
    """What `hear` needs of the past for this item; `shown` is how far the mirror goes. Nothing is asked that the mirror
    says itself: the store is asked for each number, and an item that goes on from the newest names none."""
    numbers: set[int] = set()
    ids: set[MessageId] = set()
    if item.card is not None and item.card.owner_line is not None:
        line = statement_in(item.card.owner_line.statement, OwnerLine)
        if line is not None and 0 < line.public < shown.number:
            numbers.add(line.public)
    if item.page is not None:
        behind = min(shown.number, item.page.public + len(item.page.messages) + 1)
        numbers.update(range(item.page.public, behind))
        for message in item.page.messages:
            envelope = decoded(message.body)
            if envelope is not None:
                ids.add(envelope.id)
                if 0 < envelope.shown < shown.number:
                    numbers.add(envelope.shown)
    return Wanted(frozenset(numbers), frozenset(ids))


def hear(item: t.LinkItem, past: Past, grounds: Grounds) -> Heard:
    """Judge one item of a room.

    Raises `Refused(relay_equivocation)` where no mirror can begin with this item: its opening is not the room's.
    """
    if grounds.mirror.state.contradicted:
        return Heard([])
    hearing = Hearing(past, grounds)
    page: Page | None = None
    try:
        if item.card is not None:
            hear_card(hearing, item.card, item.page)
        if item.epoch is not None and hearing.is_open:
            hear_record(hearing, item.epoch)
        if item.page is not None and hearing.is_open:
            page = Page(hearing, item.page)
            page.hear()
            if item.level and not item.page.messages:
                page.require_all()
        if hearing.is_open:
            hear_tasks(hearing, item.tasks)
    except Contradiction as lie:
        if not hearing.is_open:
            raise Refused("relay_equivocation", what=lie.fact.what) from None
        hearing.add((lie.fact,), hearing.owner, hearing.now)
        return Heard(hearing.arrivals)
    return Heard(hearing.arrivals, () if page is None else tuple(page.erased))
