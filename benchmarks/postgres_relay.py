"""What one relay over PostgreSQL takes beside one over a file: the same sends by the same daemons, in turns.

Each relay has four daemons with an agent each, in one room. A daemon counts an answer that came from the relay, and so
was on the disk there. The server of the database runs on this machine, on a Unix socket, and its files are on the disk
on which those of the other relay are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome

AUTHORS: Final = 4
UNDER_WAY: Final = 16
SHARE: Final = 0.7
"""Source: the specification of many relays, How it is proved."""
RATE: Final = "durable sends through a relay, {}"
SHARE_OF: Final = "share of the rate of a relay over a file, {}"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=400, rounds=7)
    report = common.Report("postgres_relay", given.place)
    with ExitStack() as stack:
        (cluster,) = stack.enter_context(relays.clusters(given.place, 1))
        over = {"file": stack.enter_context(relays.running(given.place)), "postgres": cluster.relays[0]}
        loads = {who: Load(stack, relay, report) for who, relay in over.items()}
        for authors, depth in ((1, 1), (1, UNDER_WAY), (AUTHORS, UNDER_WAY)):
            what = f"{authors} authors, {depth} under way each"
            rates: dict[str, list[float]] = {who: [] for who in loads}
            for number in range(given.rounds + 1):
                # The one that begins would have the quieter half of whatever comes and goes.
                for who in sorted(loads, reverse=bool(number % 2)):
                    rate = loads[who].rate(authors, depth, given.messages)
                    # The first is to warm up.
                    if number:
                        rates[who].append(rate)
            for who, found in rates.items():
                report.add(common.spread(RATE.format(what), "messages/s", found, who=who))
            shares = [ours / theirs for ours, theirs in zip(rates["postgres"], rates["file"], strict=True)]
            floor = SHARE if depth > 1 else None
            report.add(common.spread(SHARE_OF.format(what), "times", shares, floor=floor, who="postgres"))
            report.growth.append({"what": f"pairs of {what}", "shares": [round(share, 2) for share in sorted(shares)]})
    report.print()


class Load:
    """The authors at one relay."""

    def __init__(self, stack: ExitStack, relay: relays.Relay, report: common.Report) -> None:
        made: Sequence[DemoHome] = [stack.enter_context(relays.home(relay, report.place)) for _ in range(AUTHORS)]
        names = [f"author{number}" for number in range(AUTHORS)]
        self._room = relays.room_of(made[0], names[0], *zip(made[1:], names[1:], strict=True))
        self._senders = [
            stack.enter_context(common.RawConnection(home, as_name=name))
            for home, name in zip(made, names, strict=True)
        ]
        self._pool = stack.enter_context(ThreadPoolExecutor(AUTHORS))

    def rate(self, authors: int, depth: int, messages: int) -> float:
        """How many messages a second are answered while so many authors send."""
        each = messages // authors
        tasks = [
            self._pool.submit(relays.send, sender, [self._room], depth, each) for sender in self._senders[:authors]
        ]
        return each * authors / max(task.result() for task in tasks)


if __name__ == "__main__":
    main()
