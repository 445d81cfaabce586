"""What the door over HTTP costs: a send beside the same over the socket, the memory of a reader, the description.

One agent sends into one room by both ways, in rounds that take turns: one message at a time on one kept connection, and
with 16 connections that have one message under way each. A send is timed from its first byte sent to its last byte
heard, and the figure is its median over HTTP divided by the median over the socket in the same round. Both clients are
bare: what is made before a call is sent and what is read of its answer costs next to nothing.

A reader waits in a long poll or follows a room as a stream, on a connection of its own: to a daemon, and over TLS to a
relay. The private memory of the process is read before and after they come, in several homes; the first few, for which
code is loaded, came before. There are as many readers as the door takes, which is fewer than the thousand of the floor.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome
from parlerd.operations import types as t
from parlerd.web.app import MAX_CALLS
from parlerd.web.door import MAX_CONNECTIONS
from relay.web import MAX_CONNECTIONS as RELAY_CONNECTIONS

SEND_FLOORS: Final = {1: 2.0, 16: None}
"""In sends over the socket, by how many are under way; none is stated for many. Source of all floors: contract spec,
Floors."""
READER_FLOORS_KB: Final = {"daemon": 20.0, "relay": 40.0}
WAYS: Final = {"waits in a long poll": "messages?wait_ms=50000", "follows a room": "events"}
"""How a reader waits, and what it asks for of its room."""
DESCRIPTION_FLOOR: Final = 200_000
SPARE: Final = 2
"""Connections that readers leave free."""
FIRST: Final = 16
"""Readers that come before memory is measured."""
SETTLE_S: Final = 0.5
WARM_UP: Final = 50
_CHUNK: Final = 64 * 1024


class Line(Protocol):
    """A connection with one call under way at most, always the same."""

    def ask(self) -> None: ...

    def hear(self) -> None:
        """Wait for the whole answer. Raises `RuntimeError` where it is an error."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class SocketLine:
    """Sends messages as a client of the socket does."""

    def __init__(self, made: DemoHome, name: str, room: str) -> None:
        self._connection = common.RawConnection(made, as_name=name)
        self._params = t.Send(text=common.TEXT, room=room)

    def ask(self) -> None:
        self._connection.send(self._connection.pack("message.send", self._params))

    def hear(self) -> None:
        self._connection.result(t.Sent)

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.sock.close()


class HttpLine:
    """Sends one request again and again, as in `GET /v1/me`, on one connection."""

    def __init__(
        self, url: str, line: str, token: str = "", body: object = None, trusts: ssl.SSLContext | None = None
    ) -> None:
        at = urlsplit(url)
        self._sock = socket.create_connection((at.hostname, at.port), common.PATIENCE_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if trusts is not None:
            self._sock = trusts.wrap_socket(self._sock, server_hostname=at.hostname)
        payload = b"" if body is None else json.dumps(body).encode()
        fields = [f"{line} HTTP/1.1", f"Host: {at.netloc}", f"Content-Length: {len(payload)}"]
        fields += [f"Authorization: Bearer {token}"] if token else []
        self._request = "\r\n".join([*fields, "", ""]).encode() + payload
        self.answer = b""
        """The body of the last answer."""

    def ask(self) -> None:
        self._sock.sendall(self._request)

    def hear(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._receive()
        self.answer = body
        if head.split(b" ", 2)[1] not in (b"200", b"201"):
            raise RuntimeError(body.decode() or head.decode())

    def hear_hello(self) -> None:
        """Wait until a stream has begun."""
        data = b""
        while b"event: hello" not in data:
            data += self._receive()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def _receive(self) -> bytes:
        data = self._sock.recv(_CHUNK)
        if not data:
            raise RuntimeError("the daemon closed the connection")
        return data


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, rounds=15, messages=200, runs=3, readers=1_000)
    report = common.Report("http", given.place)
    with common.home(given.place) as made:
        sends(report, made, given.rounds, given.messages)
        description(report, made)
    readers(report, given.place, given.runs, given.readers)
    report.print()


def sends(report: common.Report, made: DemoHome, rounds: int, messages: int) -> None:
    """A send by both ways, with so many under way."""
    room, pid = common.room_of(made, "ann", "bob"), made.daemon()
    url, (token,) = opened(made, "bob", room)
    request = (url, f"POST /v1/rooms/{room}/messages", token, {"text": common.TEXT})
    for depth, floor in SEND_FLOORS.items():
        with contextlib.ExitStack() as stack:
            ways: dict[str, list[Line]] = {
                "the socket": [SocketLine(made, "bob", room) for _ in range(depth)],
                "HTTP": [HttpLine(*request) for _ in range(depth)],
            }
            for lines in ways.values():
                for line in lines:
                    stack.callback(line.close)
            times: dict[str, list[float]] = {way: [] for way in ways}
            spent = dict.fromkeys(ways, 0.0)
            for lines in ways.values():
                latencies(lines, WARM_UP)
            for _ in range(rounds):
                for way, lines in ways.items():
                    before = common.cpu_seconds(pid)
                    times[way].append(statistics.median(latencies(lines, messages)))
                    spent[way] += common.cpu_seconds(pid) - before
        note = ", ".join(
            f"over {way} {statistics.median(found):.2f} ms and"
            f" {spent[way] * 1000 / rounds / messages:.2f} ms of the daemon's processor time"
            for way, found in times.items()
        )
        ratios = [http / local for local, http in zip(*times.values(), strict=True)]
        name = f"a durable send over HTTP, {depth} under way"
        report.add(common.spread(name, "sends over the socket", ratios, floor=floor, note=note))


def latencies(lines: list[Line], count: int) -> list[float]:
    """Milliseconds of each of so many sends, while every line has one under way."""
    found: list[float] = []
    begun: dict[Line, float] = {}
    left = count
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.fileno(), selectors.EVENT_READ, line)
            begun[line] = time.perf_counter()
            line.ask()
            left -= 1
        while len(found) < count:
            if not (ready := selector.select(common.PATIENCE_S)):
                raise RuntimeError("the daemon says nothing")
            for key, _ in ready:
                line = key.data
                line.hear()
                found.append((time.perf_counter() - begun[line]) * 1000)
                if left > 0:
                    left -= 1
                    begun[line] = time.perf_counter()
                    line.ask()
    return found


class Door(NamedTuple):
    """Where readers come in: its base URL, the process behind it, a room, tokens, and whom a client trusts there."""

    url: str
    pid: int
    room: str
    tokens: list[str]
    trusts: ssl.SSLContext | None = None


def readers(report: common.Report, place: Path | None, runs: int, wanted: int) -> None:
    """The memory for each of as many readers as wait at once, at both doors."""
    for of, most in (("daemon", MAX_CONNECTIONS), ("relay", RELAY_CONNECTIONS)):
        count = min(wanted, most - SPARE)
        tokens = -(-count // MAX_CALLS)
        for way, path in WAYS.items():
            grown: list[float] = []
            for _ in range(runs):
                with door(of, place, tokens) as opened_door:
                    grown.append(memory_of_readers(opened_door, path, count))
            note = (
                f"{count} readers with {tokens} tokens, where the floor is for 1,000: the door takes {most}"
                f" connections, and {MAX_CALLS} calls a token"
            )
            name = f"private memory of the {of} for a reader that {way}{', over TLS' if of == 'relay' else ''}"
            report.add(common.spread(name, "KB", grown, floor=READER_FLOORS_KB[of], note=note))


@contextlib.contextmanager
def door(of: str, place: Path | None, tokens: int) -> Iterator[Door]:
    """The door of a daemon, or of a relay, in a throw-away home."""
    if of == "daemon":
        with common.home(place) as made:
            room = common.room_of(made, "ann", "bob")
            url, texts = opened(made, "bob", room, tokens)
            yield Door(url, made.daemon(), room, texts)
        return
    with relays.running(place) as relay, relays.home(relay, place) as made:
        room = relays.room_of(made, "ann")
        with common.RawConnection(made, as_name="ann") as owner:
            minted = [
                owner.call("token.mint", t.MintToken(room=room, name=f"reader-{number}")) for number in range(tokens)
            ]
        trusts = ssl.create_default_context(cafile=minted[0].authority_file)
        for each in minted:
            acknowledge(minted[0].url, room, each.token, trusts)
        yield Door(minted[0].url, relay.pid, room, [each.token for each in minted], trusts)


def acknowledge(url: str, room: str, token: str, trusts: ssl.SSLContext) -> None:
    """Take in what was said before the agent of a token came, so that it waits."""
    with contextlib.closing(HttpLine(url, f"GET /v1/rooms/{room}/messages", token, trusts=trusts)) as line:
        line.ask()
        line.hear()
    read = {"cursor": json.loads(line.answer)["cursor"]}
    with contextlib.closing(HttpLine(url, f"POST /v1/rooms/{room}/commit", token, read, trusts)) as line:
        line.ask()
        line.hear()


def memory_of_readers(at: Door, path: str, count: int) -> float:
    """Kilobytes of the process for each of so many readers."""
    line, is_stream = f"GET /v1/rooms/{at.room}/{path}", path == WAYS["follows a room"]
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as answered:

        def come(numbers: range) -> None:
            for number in numbers:
                token = at.tokens[number % len(at.tokens)]
                reader = stack.enter_context(contextlib.closing(HttpLine(at.url, line, token, trusts=at.trusts)))
                reader.ask()
                if is_stream:
                    reader.hear_hello()
                else:
                    answered.register(reader.fileno(), selectors.EVENT_READ)
            if answered.select(SETTLE_S):
                raise RuntimeError("a reader does not wait")

        come(range(FIRST))
        before = common.memory(at.pid)["private"]
        come(range(FIRST, count))
        return (common.memory(at.pid)["private"] - before) * 1024 / (count - FIRST)


def description(report: common.Report, made: DemoHome) -> None:
    """How long the description of every call is."""
    url, _ = opened(made, "bob", "", tokens=0)
    with contextlib.closing(HttpLine(url, "GET /openapi.json")) as line:
        line.ask()
        line.hear()
        size = len(line.answer)
    report.add(common.Figure("/openapi.json", "bytes", size, 1, floor=DESCRIPTION_FLOOR))


def opened(made: DemoHome, name: str, room: str, tokens: int = 1) -> tuple[str, list[str]]:
    """Open the door. Gives its URL, and tokens of an agent in a room."""
    with common.RawConnection(made, as_name=name) as person:
        url: str = person.call("http.serve", t.ServeHttp()).url
        return url, [person.call("token.mint", t.MintToken(room=room)).token for _ in range(tokens)]


if __name__ == "__main__":
    main()
