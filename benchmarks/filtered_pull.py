"""How long a filtered read takes: the newest 50 messages of one kind, for the reader, or both, out of a long room.

The store alone is measured, from the call to the page, in turn with the plain read of the newest 50 messages. The
wanted messages are spread evenly over the whole room, so that a read which looked at one message after the other would
pass over everything else.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import common, filling
from parlerd.core.events import names_of
from parlerd.core.model import Position, View

NEW = 50
RATIO_FLOOR = 2.0
PLAIN = "plain read of the newest 50 messages in a room of {:,}"
FIGURE = "read of the newest 50 {}, in a room of {:,}, in plain reads"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=200, messages=100_000)
    report = common.Report("filtered_pull", given.place)
    with common.empty_home(given.place) as made:
        room = filling.long_room(made, given.messages, marked=2 * NEW)
        with filling.opened_store(made) as store:
            view = View(reader=room.reader, spans=((0, None),))
            head = store.head(room.id).position
            names = names_of(room.reader, filling.READER)

            def reading(after: int, **filters: Any) -> Callable[[], object]:
                def once() -> None:
                    page = store.page(
                        room.id, view, Position(after), limit=NEW, max_bytes=1 << 20, skip_own=True, **filters
                    )
                    assert len(page.messages) == NEW
                    assert page.end == head

                return once

            middle = head - given.messages // 2
            reads = {
                "": reading(head - NEW),
                "of a kind": reading(middle, kind=filling.MARKED),
                "for the reader": reading(middle, names=names),
                "of a kind and for the reader": reading(middle, kind=filling.MARKED, names=names),
            }
            for once in reads.values():
                once()
            times: dict[str, list[float]] = {what: [] for what in reads}
            for _ in range(given.runs):
                for what, once in reads.items():
                    times[what].append(common.milliseconds(once))
    plain = times.pop("")
    report.add(common.spread(PLAIN.format(given.messages), "ms", plain))
    typical = statistics.median(plain)
    for what, found in times.items():
        ratios = [time / typical for time in found]
        report.add(common.spread(FIGURE.format(what, given.messages), "x", ratios, floor=RATIO_FLOOR))
    report.print()


if __name__ == "__main__":
    main()
