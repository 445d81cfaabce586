"""A browser that shows nothing: it keeps cookies by their paths, says where its requests come from, and follows a
redirect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import trio

from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.operations import types as t
from parlerd.web.app import Web, is_upload
from parlerd.web.local import beside
from parlerd.web.pages.app import Pages
from tests.support.engine import Served, World
from tests.support.http import NAME, Answer, Client, OverHttp, served

FORM = "application/x-www-form-urlencoded"


class OpenDoor:
    """A door over HTTP that is open already, wherever it is."""

    url: str | None = f"http://{NAME}"
    lets_in = False

    async def open(self, port: int, *, lets_in: bool) -> str:
        await trio.lowlevel.checkpoint()
        return f"http://{NAME}"

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


@dataclass
class Browser:
    """One browser."""

    web: OverHttp
    cookies: dict[str, str] = field(default_factory=dict)
    """By their paths."""
    root: str = ""
    """Where its pages are."""

    def headers(self, line: str, *, site: str = "same-origin", origin: str = f"http://{NAME}") -> dict[str, str]:
        """What a browser says with a request of a page of this home."""
        method, _, target = line.partition(" ")
        sent = {"Sec-Fetch-Site": site}
        shown = [value for path, value in self.cookies.items() if target.startswith(path)]
        if shown:
            sent["Cookie"] = "; ".join(shown)
        if method == "POST":
            sent |= {"Origin": origin, "Content-Type": FORM}
        return sent

    async def ask(self, line: str, form: Mapping[str, str] | None = None, **about: str) -> Answer:
        """One request, `GET directory` below its own pages or `GET /view`."""
        line = self._line(line)
        body = None if form is None else urlencode(form).encode()
        answer = await self.web.ask(line, body, headers=self.headers(line, **about))
        self._keep(answer)
        return answer

    def _line(self, line: str) -> str:
        method, _, target = line.partition(" ")
        return line if target.startswith("/") else f"{method} {self.root}{target}"

    def _keep(self, answer: Answer) -> None:
        if cookie := answer.headers.get("set-cookie"):
            parts = [part.strip() for part in cookie.split(";")]
            path = next(part.removeprefix("Path=") for part in parts if part.startswith("Path="))
            self.cookies[path] = parts[0]

    async def see(self, line: str = "GET ") -> str:
        """The page at a path."""
        answer = await self.ask(line)
        assert answer.status == 200, answer.body.decode()
        return answer.body.decode()

    async def enter(self, code: str, **about: str) -> Answer:
        """Type a code."""
        answer = await self.ask("POST /view", {"code": code}, **about)
        if answer.status == 303:
            self.root = "/".join(urlsplit(answer.headers["location"]).path.split("/")[:3]) + "/"
        return answer

    async def follow(self, line: str) -> Client:
        """A stream that has begun. Close its `stream`."""
        line = self._line(line)
        client = self.web.connect()
        await client.begin(line, headers=self.headers(line))
        assert await client.piece() == b":\n\n"
        return client


@dataclass
class Looked:
    """A home with pages."""

    home: Served
    web: OverHttp

    def browser(self) -> Browser:
        return Browser(self.web)

    async def opened(self, room: str | None = None) -> tuple[Browser, t.OpenedPages]:
        """A browser in which the person opened their home or a room."""
        person = await self.home.person()
        opened = await person.ask("page.open", t.OpenPages(room=room), t.OpenedPages)
        browser = self.browser()
        assert (await browser.enter(opened.watch_code)).status == 303
        return browser, opened


def pages_world() -> World:
    """A home whose door over HTTP is open."""
    return World(web=OpenDoor())


@asynccontextmanager
async def looking(world: World | None = None, *, is_own: bool = True) -> AsyncIterator[Looked]:
    """A home with pages, and what programs ask for beside them."""
    async with (world or pages_world()).serving() as home, pages_of(home, is_own=is_own) as looked:
        yield looked


@asynccontextmanager
async def pages_of(home: Served, *, is_own: bool = True) -> AsyncIterator[Looked]:
    """The pages of a home whose door is open."""
    authority = of_visitor(home.world.keys.principal, is_let_in=False, is_own=is_own)

    def stranger(peer: object = None) -> Caller:
        return Caller(Facts("http", "http", authority))

    pages = Pages(home.engine, home.engine.viewers, stranger, lambda peer: is_own, now=home.world.clock.now)
    web = Web(home.engine, home.engine.bearers, stranger)
    async with served(beside(pages.app, web.app), is_upload=is_upload) as (door, nursery):
        yield Looked(home, OverHttp(door, nursery))
        nursery.cancel_scope.cancel()
