"""What a task costs in a sealed queue on a relay in processor time, beside one in a clear queue there.

One agent asks, and a worker of the same home claims each task and ends it with a result. Counted is the processor time
of their daemon and of the relay together, from the request to the result, in pairs: as many tasks in the clear queue as
in the sealed one, in turns. The unit is V, one check of an Ed25519 signature in processor time of the same run. The
ratio is that of the two in one pair, whose order changes from pair to pair: it says something on a busy machine too.

Not here: a send alone (`sealed_send`), and workers that race (`claims`).
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks import common, relays
from parlerd.operations import types as t

QUEUES: Final = {"clear": True, "sealed": False}
"""The queues by their names, each with whether the relay can read it."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, tasks=200, runs=5)
    report = common.Report("sealed_queue", given.place)
    with relays.running(given.place) as relay, relays.home(relay, given.place) as made:
        pids = (made.daemon(), relay.pid)
        with (
            common.RawConnection(made, as_name="worker") as worker,
            common.RawConnection(made, as_name="asker") as asker,
        ):
            for name, is_clear in QUEUES.items():
                served = worker.call("queue.serve", t.Serve(service=name, clear=is_clear))
                assert served.sealed is not is_clear
                _play(worker, asker, name, 10)
            ratios: list[float] = []
            costs: dict[str, list[float]] = {name: [] for name in QUEUES}
            for number in range(given.runs):
                unit = common.verification_ms(200, common.cpu_milliseconds)
                for name in list(QUEUES)[:: 1 if number % 2 else -1]:
                    before = sum(map(common.cpu_seconds, pids))
                    _play(worker, asker, name, given.tasks)
                    spent = sum(map(common.cpu_seconds, pids)) - before
                    costs[name].append(spent * 1000 / given.tasks / unit)
                ratios.append(costs["sealed"][-1] / costs["clear"][-1])
            note = ", ".join(f"{name} {statistics.median(each):.1f} V" for name, each in costs.items())
            name = "a task of a sealed queue, asked, claimed and done, to one of a clear queue"
            report.add(common.spread(name, "times", ratios, note=note))
    report.print()


def _play(worker: common.RawConnection, asker: common.RawConnection, queue: str, tasks: int) -> None:
    """So many tasks, one after the other."""
    for _ in range(tasks):
        asked = asker.call("message.send", t.Send(text=common.TEXT, service=queue))
        held = worker.call("task.claim", t.ClaimTask(service=queue, wait_ms=5_000))
        assert held.id == asked.id, f"asked for {asked.id}, and was given {held.id}"
        done = worker.call("task.complete", t.CompleteTask(id=held.id, fence=held.fence, text=common.TEXT))
        assert done.status == "done"


if __name__ == "__main__":
    main()
