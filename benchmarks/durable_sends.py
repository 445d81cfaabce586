"""How many sends a second are signed, stored, on the disk and acknowledged.

First one client sends the next message when the last is acknowledged. Then 10 and 50 clients, each an agent of its own,
have 16 sends under way each, all in one room; and last 50 clients send in 25 rooms. This process makes the load, and
its share of a processor is printed beside the rate, so that nobody takes its limit for the daemon's.
"""

from __future__ import annotations

import selectors
import statistics
import time
from collections import deque
from pathlib import Path

from benchmarks import common, peers
from parlerd.operations import types as t

PIPELINED = 16
ONE = "durable acknowledged sends, 1 client one at a time"
FLOORS = {1: 1_500.0, 10: 5_000.0, 50: 5_000.0}


def many(clients: int) -> str:
    """The name of the figure."""
    return f"durable acknowledged sends, {clients} clients, {PIPELINED} under way each"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=3, seconds=3)
    report = common.Report("durable_sends", given.place)
    rates: dict[str, float] = {}
    for clients, depth in ((1, 1), (10, PIPELINED), (50, PIPELINED)):
        name = ONE if clients == 1 else many(clients)
        rates[str(clients)] = measure(report, name, clients, depth, given.runs, given.seconds, given.place)
    report.growth.append({"what": "sends a second in one room, by clients", **rates})
    name = "durable acknowledged sends, 50 clients in 25 rooms, 16 under way each"
    measure(report, name, 50, PIPELINED, given.runs, given.seconds, given.place, rooms=25)
    if given.compare:
        peers.sends(report, given.peers, {1: ONE, 10: many(10), 50: many(50)}, given.seconds)
    report.print()


def measure(
    report: common.Report,
    name: str,
    clients: int,
    depth: int,
    runs: int,
    seconds: int,
    place: Path | None,
    *,
    rooms: int = 1,
) -> float:
    """Measure one figure. Gives its median."""
    found: list[float] = []
    waits: list[float] = []
    shares: list[float] = []
    busy: list[float] = []
    with common.home(place) as made:
        pid = made.daemon()
        connections: list[tuple[common.RawConnection, str]] = []
        try:
            for number in range(rooms):
                names = [f"agent{client}" for client in range(number, clients, rooms)]
                room = common.room_of(made, *names)
                connections += [(common.RawConnection(made, as_name=name), room) for name in names]
            for _ in range(runs):
                daemon_before, own_before, begun = common.cpu_seconds(pid), time.process_time(), time.perf_counter()
                latencies, taken = send_for(seconds, connections, depth)
                spent = time.perf_counter() - begun
                found.append(len(latencies) / taken)
                waits += latencies
                shares.append((time.process_time() - own_before) / spent)
                busy.append((common.cpu_seconds(pid) - daemon_before) / spent)
        finally:
            for connection, _ in connections:
                connection.sock.close()
    note = (
        f"answered after {statistics.median(waits):.2f} ms, p99 {common.percentile(waits, 0.99):.2f} ms;"
        f" the generator used {statistics.median(shares):.0%} of a CPU, the daemon {statistics.median(busy):.0%}"
    )
    floor = FLOORS.get(clients) if rooms == 1 else None
    return report.add(common.spread(name, "/s", found, floor=floor, note=note)).median


def send_for(
    seconds: float, connections: list[tuple[common.RawConnection, str]], depth: int
) -> tuple[list[float], float]:
    """Keep `depth` sends under way on each connection. Gives the latency of each send (ms), and how long all took
    (s)."""
    latencies: list[float] = []
    begun = time.perf_counter()
    deadline = begun + seconds
    under_way: dict[common.RawConnection, deque[float]] = {connection: deque() for connection, _ in connections}
    rooms = dict(connections)
    with selectors.DefaultSelector() as selector:
        for connection, room in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
            connection.send(b"".join(_send(connection, room) for _ in range(depth)))
            under_way[connection].extend([time.perf_counter()] * depth)
        while any(under_way.values()):
            for key, _ in selector.select(common.PATIENCE_S):
                connection = key.data
                answered = connection.take()
                now = time.perf_counter()
                for _ in range(answered):
                    connection.hear()
                    latencies.append((now - under_way[connection].popleft()) * 1000)
                if now < deadline:
                    connection.send(b"".join(_send(connection, rooms[connection]) for _ in range(answered)))
                    under_way[connection].extend([now] * answered)
    return latencies, time.perf_counter() - begun


def _send(connection: common.RawConnection, room: str) -> bytes:
    return connection.pack("message.send", t.Send(text=common.TEXT, room=room))


if __name__ == "__main__":
    main()
