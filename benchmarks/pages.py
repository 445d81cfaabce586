"""What a browser's view of a room costs: bytes and processor time of its page, and the memory of one that is live.

A page shows the newest 50 messages of a room. It is asked for again and again on one kept connection, in rooms of two
lengths with messages of a hundred bytes, and in one whose messages have more words than a page has space for. Bytes are
those of the page as it is sent; what it loads besides (style, script, icon) a browser keeps. A live view is a stream on
a connection of its own. The daemon's private memory is read before and after such streams come; the first few, for
which code is loaded, came before.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from benchmarks import common, filling
from parlerd.cli.demo_home import DemoHome
from parlerd.operations import types as t
from parlerd.web.door import MAX_CONNECTIONS
from parlerd.web.pages.app import MAX_PAGE, MAX_STREAMS

SIZES: Final = (1_000, 10_000)
"""Messages of a room."""
LONG: Final = 60
"""Messages of the room whose words do not fit."""
LONG_TEXT: Final = f"{common.TEXT}\n" * 80
WARM_UP: Final = 5
FIRST: Final = 12
"""Live views that come before memory is measured."""
SPARE: Final = 4
"""Connections that live views leave free."""
_CHUNK: Final = 64 * 1024


class View(NamedTuple):
    """A view that was opened: where, the path of its room, and the cookie that opens it."""

    url: str
    path: str
    cookie: str


class Answer(NamedTuple):
    head: bytes
    body: bytes


class Connection:
    """A browser's connection, with what a browser says of where its requests come from."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._url = url
        self._host = at.netloc
        self._sock = socket.create_connection((at.hostname, at.port), common.PATIENCE_S)

    def ask(self, line: str, cookie: str = "", form: bytes = b"") -> None:
        fields = [f"{line} HTTP/1.1", f"Host: {self._host}", "Sec-Fetch-Site: same-origin"]
        fields += [f"Cookie: {cookie}"] if cookie else []
        if form:
            fields += [f"Origin: {self._url}", "Content-Type: application/x-www-form-urlencoded"]
            fields += [f"Content-Length: {len(form)}"]
        self._sock.sendall("\r\n".join([*fields, "", ""]).encode() + form)

    def hear(self) -> Answer:
        """The whole answer."""
        head, _, body = self.upto(b"\r\n\r\n").partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            body += self._receive()
        return Answer(head, body)

    def upto(self, wanted: bytes) -> bytes:
        """What comes, until this came."""
        data = b""
        while wanted not in data:
            data += self._receive()
        return data

    def close(self) -> None:
        self._sock.close()

    def _receive(self) -> bytes:
        data = self._sock.recv(_CHUNK)
        if not data:
            raise RuntimeError("the daemon closed the connection")
        return data


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, rounds=100, runs=3, views=60)
    report = common.Report("pages", given.place)
    took = {}
    for size in SIZES:
        with common.empty_home(given.place) as made:
            room = filling.long_room(made, size).id
            common.start(made)
            name = f"the page of a room of {size} messages"
            took[f"{size} messages"] = page(report, made, room, name, given.rounds)
            if size == SIZES[0]:
                page(report, made, long_words(made), f"the page of a room of {LONG} long messages", given.rounds)
    report.growth.append({"what": "milliseconds of the daemon's processor time for a page", **took})
    live(report, given.place, given.runs, given.views)
    report.print()


def page(report: common.Report, made: DemoHome, room: str, name: str, rounds: int) -> float:
    """Bytes of a room's page, and the processor time that it takes, which is returned."""
    view = opened(made, room)
    with contextlib.closing(Connection(view.url)) as browser:
        sizes = [len(shown(browser, view).body) for _ in range(WARM_UP)]
        before = common.cpu_seconds(made.daemon())
        sizes += [len(shown(browser, view).body) for _ in range(rounds)]
        spent = (common.cpu_seconds(made.daemon()) - before) * 1000 / rounds
    report.add(common.Figure(name, "bytes", statistics.median(sizes), len(sizes), floor=MAX_PAGE))
    report.add(common.Figure(f"{name}: processor time of the daemon", "ms", round(spent, 2), rounds))
    return round(spent, 2)


def shown(browser: Connection, view: View) -> Answer:
    """The page of the room."""
    browser.ask(f"GET {view.path}", view.cookie)
    answer = browser.hear()
    if (
        not answer.head.startswith(b"HTTP/1.1 200")
        or not 0 < answer.body.count(b'<li class="message hue-') <= t.MAX_SHOWN
    ):
        raise RuntimeError(answer.head.decode())
    return answer


def long_words(made: DemoHome) -> str:
    """A room of messages that are longer than a page has space for."""
    room = common.room_of(made, "ann", "bob")
    with common.RawConnection(made, as_name="ann") as author:
        for _ in range(LONG):
            author.call("message.send", t.Send(text=LONG_TEXT, room=room))
    return room


def live(report: common.Report, place: Path | None, runs: int, wanted: int) -> None:
    """The daemon's memory for each of as many live views as its door takes."""
    count = min(wanted, MAX_CONNECTIONS - SPARE)
    codes = -(-count // MAX_STREAMS)
    grown: list[float] = []
    for _ in range(runs):
        with common.home(place) as made, contextlib.ExitStack() as stack:
            room = common.room_of(made, "ann", "bob")
            views = [opened(made, room) for _ in range(codes)]

            def come(numbers: range, stack: contextlib.ExitStack = stack, views: list[View] = views) -> None:
                for number in numbers:
                    view = views[number % len(views)]
                    browser = stack.enter_context(contextlib.closing(Connection(view.url)))
                    browser.ask(f"GET {view.path}", view.cookie)
                    after = browser.hear().body.partition(b'data-after="')[2].partition(b'"')[0].decode()
                    browser.ask(f"GET {view.path}/live?{urlencode({'after': after})}", view.cookie)
                    # The last of the lists that come first.
                    browser.upto(b'"list":"actions"')

            come(range(FIRST))
            before = common.memory(made.daemon())["private"]
            come(range(FIRST, count))
            grown.append((common.memory(made.daemon())["private"] - before) * 1024 / (count - FIRST))
    note = f"{count} views with {codes} codes: the door takes {MAX_CONNECTIONS} connections"
    report.add(common.spread("private memory of the daemon for a live view of a room", "KB", grown, note=note))


def opened(made: DemoHome, room: str) -> View:
    """Open a view of a room, as a browser does that is shown its address."""
    with common.RawConnection(made) as person:
        pages = person.call("page.open", t.OpenPages(room=room))
    at = urlsplit(pages.url)
    url = f"{at.scheme}://{at.netloc}"
    with contextlib.closing(Connection(url)) as browser:
        browser.ask(f"POST {at.path}", form=urlencode({"code": pages.watch_code}).encode())
        fields = dict(line.split(b": ", 1) for line in browser.hear().head.split(b"\r\n")[1:])
    found = {name.lower(): value.decode() for name, value in fields.items()}
    return View(url, found[b"location"].partition("#")[0], found[b"set-cookie"].partition(";")[0])


if __name__ == "__main__":
    main()
