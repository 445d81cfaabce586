"""How fast workers that race for the tasks of one queue get them, each task exactly once, in durable rows.

Each worker is an agent with a connection of its own, which claims the next task as soon as it has the last one. The
yardstick is one row: 400 bytes appended to a file and flushed to the disk, one after the other. It is measured in turn
with the race, because the machine's speed changes within minutes. One worker alone is measured as well: its claims wait
for the disk one by one, and those of many share a flush. At last each task is completed by whoever has it.
"""

from __future__ import annotations

import os
import selectors
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import common
from parlerd.operations import types as t

SERVICE: Final = "bench"
RACE: Final = "a claim, {} workers racing for {:,} tasks, in durable rows"
COMPLETE: Final = "a completion with its result, {} workers, in durable rows"
_ROWS: Final = 200


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, tasks=1_000, workers=50)
    report = common.Report("claims", given.place)
    grown: dict[str, dict[str, float]] = {}
    for workers in (1, given.workers):
        row, claims, completions = measured(workers, given.tasks, given.place)
        for name, ms in ((RACE.format(workers, given.tasks), claims), (COMPLETE.format(workers), completions)):
            note = f"{ms:.3g} ms each, {1000 / ms:,.0f} a second; a durable row takes {row:.3g} ms"
            report.add(common.Figure(name, "x", float(f"{ms / row:.4g}"), 1, note=note))
        grown[str(workers)] = {"claims a second": 1000 / claims, "completions a second": 1000 / completions}
    report.growth.append({"what": "claims and completions a second, by workers", **grown})
    report.print()


def measured(workers: int, tasks: int, place: Path | None) -> tuple[float, float, float]:
    """Milliseconds of a durable row, of a claim and of a completion. Raises `RuntimeError` where a task was given to
    two workers, or to none."""
    with common.home(place) as made:
        made.daemon()
        connections = [common.RawConnection(made, as_name=f"worker-{number}") for number in range(workers)]
        try:
            for connection in connections:
                connection.call("queue.serve", t.Serve(service=SERVICE))
            sends = [connections[0].pack("message.send", _task(number)) for number in range(tasks)]
            for begin in range(0, tasks, 50):
                connections[0].send(b"".join(sends[begin : begin + 50]))
                for _ in sends[begin : begin + 50]:
                    connections[0].hear()
            before = _row_ms(place)
            begun = time.perf_counter()
            held = _race(connections)
            claimed = time.perf_counter()
            ids = [id for mine in held.values() for id in mine]
            if len(set(ids)) != len(ids) or len(ids) != tasks:
                raise RuntimeError(f"{tasks} tasks were given {len(ids)} times, {len(set(ids))} of them differ")
            _complete(held)
            completed = time.perf_counter()
            row = statistics.median((before, _row_ms(place)))
        finally:
            for connection in connections:
                connection.sock.close()
    return row, (claimed - begun) * 1000 / tasks, (completed - claimed) * 1000 / tasks


def _task(number: int) -> t.Send:
    return t.Send(text=f"{common.TEXT} {number}", service=SERVICE)


def _race(connections: Sequence[common.RawConnection]) -> dict[common.RawConnection, list[str]]:
    """Every worker claims until there is nothing left. Gives what each has."""
    held: dict[common.RawConnection, list[str]] = {connection: [] for connection in connections}
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
            connection.send(connection.pack("task.claim", t.ClaimTask(service=SERVICE, lease_ms=3_600_000)))
        racing = len(connections)
        while racing:
            for key, _ in selector.select(common.PATIENCE_S):
                connection = key.data
                connection.take()
                found = connection.result(t.TaskHeld)
                if found.id is None:
                    racing -= 1
                    continue
                held[connection].append(found.id)
                connection.send(connection.pack("task.claim", t.ClaimTask(service=SERVICE, lease_ms=3_600_000)))
    return held


def _complete(held: dict[common.RawConnection, list[str]]) -> None:
    """Every worker ends what it has, one task after the other."""
    left = {connection: list(ids) for connection, ids in held.items() if ids}
    with selectors.DefaultSelector() as selector:
        for connection, ids in left.items():
            selector.register(connection, selectors.EVENT_READ, connection)
            connection.send(connection.pack("task.complete", t.CompleteTask(id=ids.pop(), text=common.TEXT)))
        working = len(left)
        while working:
            for key, _ in selector.select(common.PATIENCE_S):
                connection = key.data
                connection.take()
                done = connection.result(t.TaskHeld)
                if done.status != "done":
                    raise RuntimeError(f"a task is {done.status} after it was completed")
                if not left[connection]:
                    working -= 1
                    continue
                id = left[connection].pop()
                connection.send(connection.pack("task.complete", t.CompleteTask(id=id, text=common.TEXT)))


def _row_ms(place: Path | None) -> float:
    """How long it takes to append a row to a file and to flush it."""
    with tempfile.NamedTemporaryFile(prefix="parler-bench-", dir=place) as file:
        descriptor = file.fileno()

        def append() -> None:
            os.write(descriptor, bytes(400))
            os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

        return statistics.median(common.milliseconds(append) for _ in range(_ROWS))


if __name__ == "__main__":
    main()
