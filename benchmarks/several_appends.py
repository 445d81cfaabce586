"""How many messages a second 1, 2 and 4 relays over one database take, in one room and in 100.

Each home of relays has a database of its own at one server, and four daemons, which are spread over its relays, with an
agent each and 16 sends under way. They talk in the same room, or each in 25 rooms of its own, which fall to relays as
they do. The homes take turns, and a home with one relay is the yardstick of each turn. Everything runs on this machine,
so more relays bring no more processors here: what shows is what it costs that relays ask each other. The processor time
of all relays for a message says the same without the daemons, the server and the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from benchmarks import common, relays

COUNTS: Final = (1, 2, 4)
AUTHORS: Final = 4
UNDER_WAY: Final = 16


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=800, rounds=7, rooms=100)
    report = common.Report("several_appends", given.place)
    with ExitStack() as stack:
        clusters = stack.enter_context(relays.clusters(given.place, *COUNTS))
        loads = {len(each.relays): Load(stack, each, given.rooms, report) for each in clusters}
        for rooms in (1, given.rooms):
            rates: dict[int, list[float]] = {count: [] for count in loads}
            costs: dict[int, list[float]] = {count: [] for count in loads}
            for number in range(given.rounds + 1):
                for count in sorted(loads, reverse=bool(number % 2)):
                    rate, cost = loads[count].run(rooms, given.messages)
                    # The first is to warm up.
                    if number:
                        rates[count].append(rate)
                        costs[count].append(cost)
            for count in COUNTS:
                where = f"{count} relays, {rooms} rooms"
                report.add(common.spread(f"messages of {where}", "messages/s", rates[count]))
                report.add(common.spread(f"processor time of all relays, {where}", "ms a message", costs[count]))
                if count > 1:
                    report.add(_beside(f"rate of {where}, in that of one relay", rates, count))
                    report.add(_beside(f"processor time of {where}, in that of one relay", costs, count))
    report.print()


def _beside(figure: str, found: Mapping[int, Sequence[float]], count: int) -> common.Figure:
    return common.spread(figure, "times", [many / one for one, many in zip(found[1], found[count], strict=True)])


class Load:
    """The authors of one home."""

    def __init__(self, stack: ExitStack, cluster: relays.Cluster, rooms: int, report: common.Report) -> None:
        self._relays = cluster.relays
        ends = [cluster.relays[number % len(cluster.relays)] for number in range(AUTHORS)]
        made = [stack.enter_context(relays.home(relay, report.place)) for relay in ends]
        names = [f"author{number}" for number in range(AUTHORS)]
        everybody = list(zip(made, names, strict=True))
        self._shared = relays.room_of(*everybody[0], *everybody[1:])
        self._own = [[relays.room_of(home, name) for _ in range(rooms // AUTHORS)] for home, name in everybody]
        self._senders = [stack.enter_context(common.RawConnection(home, as_name=name)) for home, name in everybody]
        self._pool = stack.enter_context(ThreadPoolExecutor(AUTHORS))

    def run(self, rooms: int, messages: int) -> tuple[float, float]:
        """How many messages a second are answered, and how many milliseconds of processor time all relays take for
        one."""
        each = messages // AUTHORS
        before = sum(common.cpu_seconds(relay.pid) for relay in self._relays)
        tasks = [
            self._pool.submit(relays.send, sender, [self._shared] if rooms == 1 else own, UNDER_WAY, each)
            for sender, own in zip(self._senders, self._own, strict=True)
        ]
        took = max(task.result() for task in tasks)
        spent = sum(common.cpu_seconds(relay.pid) for relay in self._relays) - before
        return each * AUTHORS / took, spent * 1000 / (each * AUTHORS)


if __name__ == "__main__":
    main()
