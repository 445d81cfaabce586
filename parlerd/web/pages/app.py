"""The pages of a home: what is at which path, who is let there, and with which headers everything leaves.

    /view                                  a code is typed, or stands behind the # of the address --> a path, a cookie
    /p/PATH/                               the home of the person; with a room's code, that room
    /p/PATH/rooms/ROOM                     a room: its newest messages, or those before one of them
    /p/PATH/rooms/ROOM/messages/MESSAGE    one message, whole
    /p/PATH/rooms/ROOM/files/MESSAGE       the file that it brings, as an attachment
    /p/PATH/rooms/ROOM/live                what happens there, as events; /p/PATH/live for what waits for the person
    /p/PATH/directory, /p/PATH/approvals   cards; who knocks, and what the person decides about that

Every page is written here and complete without the script, which makes it live. Cookies open these paths alone; tokens
open none of them.

Not here: HTTP itself (`..door`), what may be seen (the engine), how it looks (`templates`, `static`). Above: `local`.
Below: `browsers`, `showing`, `live`, Starlette, Jinja2. Invariants: no path below `/p/` answers without its cookie, and
what is asked for from elsewhere is refused; nothing is decided by GET; what fails is answered with the same headers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote

import trio
from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.watch_codes import WHOLE_HOME
from parlerd.engine.callers import Caller
from parlerd.engine.viewers import ENTRANCE
from parlerd.operations import types as t
from parlerd.web.files import Download
from parlerd.web.pages import showing
from parlerd.web.pages.browsers import Browser, Browsers, set_cookie
from parlerd.web.pages.foreign import foreign
from parlerd.web.pages.live import LiveHome, LiveRoom, rows_of
from parlerd.web.ports import Serving, ViewerBook
from parlerd.web.routing import answered_outside, route

Peer = tuple[str, int]
R = TypeVar("R", bound=t.Result)

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Source: contract spec, Pages."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
WITH_FORM: Final = {"Referrer-Policy": "same-origin"}
"""For a page with a form: a browser that may send no address says `Origin: null` with the form, and a form without our
origin is refused. Other origins are sent nothing either way."""
MAX_FORM: Final = 4 * 1024
MAX_FIELDS: Final = 8
MAX_STREAMS: Final = 12
"""Streams that may be under way with one code. A browser opens six at a time."""
MAX_PAGE: Final = 64 * 1024
"""Bytes of a room's page. Source: contract spec, Floors."""
FOR_MESSAGES: Final = 40 * 1024
"""Bytes of them for messages: what does not fit stands on the page of older ones."""
_STATIC: Final = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_DONE: Final = {"approved": "Let in.", "denied": "Declined.", "revoked": "Revoked: what was open with it is closed."}
MAX_ROSTERS: Final = 20
"""Rooms of which the page of a home asks who is there."""
MAX_LISTED: Final = 100
"""Rows of a list of such a page. It says how many there are besides."""


class Visit(NamedTuple):
    """Somebody who is let to pages."""

    path: str
    browser: Browser
    caller: Caller

    @property
    def root(self) -> str:
        """The address below which its pages stand."""
        return f"/p/{self.path}/"


class _Gone(Exception):
    """There is nothing at this path for whoever asks."""


class Pages:
    """The application. It keeps which browsers showed a code, for as long as it is there."""

    def __init__(
        self,
        engine: Serving,
        viewers: ViewerBook,
        stranger: Callable[[], Caller],
        is_own: Callable[[Peer | None], bool],
        folder: Path | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`stranger` makes the caller that somebody is who shows no code; `is_own` says whether a process of this user
        is at the other end of a connection. `folder` is for files of no name. `now` is the wall clock."""
        self._engine = engine
        self._viewers = viewers
        self._stranger = stranger
        self._is_own = is_own
        self._folder = folder
        self._now = now
        self._browsers = Browsers()
        self._templates = _templates()
        below = "/p/{path}"
        routes = [
            *(route("GET", f"{ENTRANCE}/{name}", _static(name, media)) for name, media in _STATIC.items()),
            route("GET", ENTRANCE, self._answering(self._entrance)),
            route("POST", ENTRANCE, self._answering(self._enter)),
            route("GET", f"{below}/", self._letting(self._home)),
            route("GET", f"{below}/live", self._letting(self._live)),
            route("POST", f"{below}/leave", self._letting(self._leave)),
            route("GET", f"{below}/rooms/{{room}}", self._letting(self._room)),
            route("GET", f"{below}/rooms/{{room}}/live", self._letting(self._live_room)),
            route("GET", f"{below}/rooms/{{room}}/messages/{{message}}", self._letting(self._message)),
            route("GET", f"{below}/rooms/{{room}}/files/{{message}}", self._letting(self._file)),
            route("GET", f"{below}/directory", self._letting(self._directory, home=True)),
            route("GET", f"{below}/approvals", self._letting(self._approvals, home=True)),
            route("POST", f"{below}/approvals", self._letting(self._decide, home=True)),
            route("POST", f"{below}/codes", self._letting(self._revoke, home=True)),
        ]
        routing = Starlette(routes=routes, exception_handlers={404: self._nothing, 405: self._nothing})
        routing.add_exception_handler(Exception, self._failed)
        routing.router.redirect_slashes = False
        self.app: Final[ASGIApp] = answered_outside(routing, self._failed_outside)

    # -- who is let where ------------------------------------------------------------------------------------

    def _answering(self, answer: Callable[[Request], Awaitable[ASGIApp]]) -> Callable[[Request], Awaitable[ASGIApp]]:
        """An answer, or the page of what is wrong."""

        async def answered(request: Request) -> ASGIApp:
            try:
                await trio.lowlevel.checkpoint()
                return await answer(request)
            except _Gone:
                return self._error(404, "This view is closed.", "Open it again with the command `parler view`.")
            except ParlerError as error:
                status = ERRORS.get(error.code, ERRORS["internal"]).status
                return self._error(status, error.message, error.hint)

        return answered

    def _letting(
        self, answer: Callable[[Visit, Request], Awaitable[ASGIApp]], *, home: bool = False
    ) -> Callable[[Request], Awaitable[ASGIApp]]:
        """An answer for whoever is let to this path; with `home` for the person alone."""

        async def let(request: Request) -> ASGIApp:
            _require_own_page(request)
            path = unquote(request.path_params["path"])
            browser = self._browsers.find(path, request.headers.get("cookie", ""))
            if browser is None or (home and not browser.is_home):
                raise _Gone
            if browser.is_home and request.method != "GET" and not self._is_own(request.scope["client"]):
                raise _Gone
            try:
                caller = self._viewers.caller_of(browser.code)
            except Refused:
                self._browsers.forget(path)
                raise _Gone from None
            return await answer(Visit(path, browser, caller), request)

        return self._answering(let)

    # -- coming and going ------------------------------------------------------------------------------------

    async def _entrance(self, request: Request) -> Response:
        return self._page("enter.html", headers=WITH_FORM, error="")

    async def _enter(self, request: Request) -> Response:
        _require_own_page(request)
        form = await _form(request)
        is_own = self._is_own(request.scope["client"])
        try:
            code = await self._viewers.open(form.get("code", ""), self._stranger(), is_own=is_own)
        except Refused as error:
            status = ERRORS[error.code].status
            return self._page("enter.html", status, headers=WITH_FORM, error=f"{error.message} {error.hint}")
        path, secret = self._browsers.admit(code.id, is_home=code.room == WHOLE_HOME)
        seconds = max(1, (code.expires_at - self._now()) // 1000)
        headers = {"Set-Cookie": set_cookie(path, secret, seconds), "Cache-Control": "no-store", **HEADERS}
        where = f"/p/{path}/" if code.room == WHOLE_HOME else f"/p/{path}/rooms/{code.room}#newest"
        return Response(None, 303, {**headers, "Location": where})

    async def _leave(self, visit: Visit, request: Request) -> Response:
        await _form(request)
        self._browsers.forget(visit.path)
        headers = {"Set-Cookie": set_cookie(visit.path, "", 0), "Cache-Control": "no-store", **HEADERS}
        return Response(None, 303, {**headers, "Location": ENTRANCE})

    # -- pages -----------------------------------------------------------------------------------------------

    async def _home(self, visit: Visit, request: Request) -> Response:
        now, listed = self._now(), await self._call(visit, "rooms.list", t.ListRooms(), t.RoomList)
        if not visit.browser.is_home:
            if not listed.rooms:
                raise Refused("no_such_room")
            return _see_other(f"{visit.root}rooms/{listed.rooms[0].room}#newest")
        waits = await self._call(visit, "approvals.list", t.ListApprovals(), t.RequestList)
        homes = await self._call(visit, "homes.list", t.ListHomes(), t.HomeList)
        daemon = await self._call(visit, "daemon.status", t.DaemonStatus(), t.DaemonInfo)
        codes = await self._call(visit, "page.codes", t.ListWatchCodes(), t.WatchCodeList)
        rooms = sorted(listed.rooms, key=lambda each: (each.state != "open", -each.last_at))
        return self._page(
            "home.html",
            headers=WITH_FORM,
            visit=visit,
            waits=len(waits.requests),
            rooms=rooms[:MAX_LISTED],
            more_rooms=max(0, len(rooms) - MAX_LISTED),
            agents=await self._agents(visit, rooms),
            homes=[home for home in homes.homes if home.url],
            codes=codes.codes,
            daemon=daemon,
            notice=listed.notice,
            done=_DONE.get(request.query_params.get("done", ""), ""),
            now=now,
        )

    async def _agents(self, visit: Visit, rooms: list[t.RoomInfo]) -> list[dict[str, Any]]:
        """The person's agents in these rooms, with how present they are."""
        found: dict[str, dict[str, Any]] = {}
        for number, room in enumerate(rooms):
            present: dict[str, t.RosterMember] = {}
            if number < MAX_ROSTERS and room.state == "open":
                try:
                    roster = await self._call(visit, "rooms.roster", t.Roster(room=room.room), t.RosterResult)
                except Refused:
                    continue  # they left meanwhile
                present = {member.name: member for member in roster.members}
            for name in room.agents:
                agent = found.setdefault(
                    name, {"name": name, "id": name, "presence": "", "since": 0, "host": "", "rooms": []}
                )
                agent["rooms"].append(room)
                if name in present:
                    member = present[name]
                    about = {"id": member.id, "presence": member.presence, "since": member.since, "host": member.host}
                    agent |= about
        agents = sorted(found.values(), key=lambda each: (each["presence"] in ("", "offline"), each["name"]))
        return agents[:MAX_LISTED]

    async def _room(self, visit: Visit, request: Request) -> Response:
        now, room = self._now(), unquote(request.path_params["room"])
        before = request.query_params.get("before", "")[:64]
        shown = await self._call(visit, "page.look_back", t.LookBack(room=room, before=before), t.LookedBack)
        board = await self._board(visit, room)
        beside = await rows_of(self._engine, visit.caller, room, board, now)
        rows, left = [showing.message_row(message, now) for message in shown.messages], FOR_MESSAGES
        for number, row in enumerate(reversed(rows)):
            left -= len(self._templates.get_template("row.html").render(row=row, base="").encode())
            if left < 0 and number:
                rows = rows[len(rows) - number :]
                break
        return self._page(
            "room.html",
            visit=visit,
            shown=shown,
            rows=rows,
            more=shown.more or len(rows) < len(shown.messages),
            beside=beside,
            board=board,
            before=before,
            is_live=not before and not shown.is_closed,
            now=now,
        )

    async def _board(self, visit: Visit, room: str) -> t.Board | None:
        """The board of a room; None where its home does not tell it now."""
        try:
            return await self._call(visit, "room.board", t.LookAtBoard(room=room, wait_ms=0), t.Board)
        except Refused as error:
            if error.code in ("no_such_room", "room_deleted"):
                raise
            return None

    async def _message(self, visit: Visit, request: Request) -> Response:
        room, id = unquote(request.path_params["room"]), unquote(request.path_params["message"])
        shown = await self._call(visit, "page.look_back", t.LookBack(room=room, only=id), t.LookedBack)
        if not shown.messages:
            raise Refused("no_such_message")
        [message] = shown.messages
        return self._page(
            "message.html",
            visit=visit,
            shown=shown,
            message=message,
            row=showing.message_row(message, self._now(), whole=True),
            meaning=showing.meaning_of(message),
            receipt=await self._receipt(visit, room, id),
        )

    async def _receipt(self, visit: Visit, room: str, message: str) -> str:
        """The receipt of a message; empty where its home gives none now."""
        try:
            given = await self._call(visit, "receipt.get", t.GetReceipt(room=room, id=message), t.ReceiptGiven)
        except Refused:
            return ""
        return given.receipt

    async def _file(self, visit: Visit, request: Request) -> Response:
        room, id = unquote(request.path_params["room"]), unquote(request.path_params["message"])
        if not id.startswith("m_"):
            raise Refused("no_such_message")
        found = await self._call(visit, "blob.find", t.FindBlob(blob=id, room=room), t.FoundBlob)

        def refused(error: ParlerError) -> Response:
            status = ERRORS.get(error.code, ERRORS["internal"]).status
            return self._error(status, error.message, error.hint)

        headers = {**HEADERS, "Cache-Control": "no-store"}
        del headers["Content-Security-Policy"]  # a file has one of its own: nothing at all, in a sandbox
        using = partial(self._viewers.using, visit.browser.code)
        over = "watch_code_invalid"
        return Download(self._engine, visit.caller, using, found, refused, headers, self._folder, over=over)

    async def _directory(self, visit: Visit, request: Request) -> Response:
        query = request.query_params.get("q", "")[:100]
        found = await self._call(visit, "directory.discover", t.Discover(query=query, limit=100), t.FoundAgents)
        return self._page("directory.html", headers=WITH_FORM, visit=visit, found=found, query=query, now=self._now())

    async def _approvals(self, visit: Visit, request: Request) -> Response:
        return await self._asked(visit, done=_DONE.get(request.query_params.get("done", ""), ""))

    async def _asked(self, visit: Visit, status: int = 200, *, done: str = "", error: str = "") -> Response:
        found = await self._call(visit, "approvals.list", t.ListApprovals(), t.RequestList)
        return self._page(
            "approvals.html",
            status,
            headers=WITH_FORM,
            visit=visit,
            requests=found.requests[:MAX_LISTED],
            more=max(0, len(found.requests) - MAX_LISTED),
            notice=found.notice,
            done=done,
            error=error,
            now=self._now(),
        )

    # -- what the person decides -----------------------------------------------------------------------------

    async def _decide(self, visit: Visit, request: Request) -> Response:
        form = await _form(request)
        decision, code = form.get("decision", ""), form.get("code", "").strip()
        try:
            if decision == "approve" and not code:
                raise Refused("form_undecided")
            asked = t.DecideJoin(
                agent=form.get("request", "")[:128] or "-",
                room=form.get("room", "")[:256] or None,
                join_code=code[:64] if decision == "approve" else None,
            )
            name = {"approve": "session.approve", "deny": "session.deny"}.get(decision)
            if name is None:
                raise Refused("form_undecided")
            await self._call(visit, name, asked, t.Decided)
        except Refused as error:
            return await self._asked(visit, ERRORS[error.code].status, error=f"{error.message} {error.hint}")
        return _see_other(f"{visit.root}approvals?done={'approved' if decision == 'approve' else 'denied'}")

    async def _revoke(self, visit: Visit, request: Request) -> Response:
        form = await _form(request)
        await self._call(visit, "page.revoke", t.RevokeWatchCode(id=form.get("id", "")[:64]), t.RevokedWatchCode)
        return _see_other(f"{visit.root}?done=revoked")

    # -- streams ---------------------------------------------------------------------------------------------

    async def _live(self, visit: Visit, request: Request) -> ASGIApp:
        if not visit.browser.is_home:
            raise _Gone
        return LiveHome(*self._follower(visit, request))

    async def _live_room(self, visit: Visit, request: Request) -> ASGIApp:
        room = unquote(request.path_params["room"])
        after = request.query_params.get("after", "")
        return LiveRoom(*self._follower(visit, request), room=room[:256], after=after[:256])

    def _follower(
        self, visit: Visit, request: Request
    ) -> tuple[Serving, ViewerBook, str, Caller, Callable[[], int], Mapping[str, str], str]:
        """Whoever may follow what happens. Raises `Refused`."""
        if request.method == "HEAD":
            raise Refused("unknown_operation", "A stream has no head alone.")
        if self._viewers.count(visit.browser.code) >= MAX_STREAMS:
            raise Refused("busy", retry_after_ms=1000)
        last = request.headers.get("last-event-id", "")[:256]
        return self._engine, self._viewers, visit.browser.code, visit.caller, self._now, _STREAMED, last

    # -- answers ---------------------------------------------------------------------------------------------

    async def _call(self, visit: Visit, op: str, params: t.Params, result: type[R]) -> R:
        """What the engine says to whoever looks on. Ends with the code."""
        found: list[t.Result] = []
        with self._viewers.using(visit.browser.code):
            found.append(await self._engine.call(op, params, visit.caller))
        if not found:
            raise _Gone  # revoked meanwhile
        [answer] = found
        assert isinstance(answer, result)
        return answer

    def _page(
        self, template: str, status: int = 200, *, headers: Mapping[str, str] | None = None, **shown: Any
    ) -> Response:
        text = self._templates.get_template(template).render(shown)
        headers = {**HEADERS, "Cache-Control": "no-store", **(headers or {})}
        return Response(text, status, headers, "text/html; charset=utf-8")

    def _error(self, status: int, said: str, hint: str) -> Response:
        return self._page("error.html", status, said=said, hint=hint)

    async def _nothing(self, request: Request, error: Exception) -> Response:
        await trio.lowlevel.checkpoint()
        return self._error(getattr(error, "status_code", 404), "There is nothing here.", "")

    async def _failed(self, request: Request, error: Exception) -> Response:
        await trio.lowlevel.checkpoint()
        return self._failure()

    async def _failed_outside(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._failure()(scope, receive, send)

    def _failure(self) -> Response:
        return self._error(500, "Something went wrong here.", "The daemon's log says what: parler daemon logs.")


_STREAMED: Final = {**HEADERS, "Cache-Control": "no-store"}


def owns(path: str) -> bool:
    """Whether a path is one of pages."""
    return path == ENTRANCE or path.startswith((f"{ENTRANCE}/", "/p/"))


def _require_own_page(request: Request) -> None:
    """Refuse what was not asked for by a page of ours, or by the person in the browser's own bar: another site, another
    port of this machine, or a program that says nothing of where it comes from."""
    is_get = request.method in ("GET", "HEAD")
    site = request.headers.get("sec-fetch-site")
    if site != "same-origin" and not (is_get and site == "none"):
        raise Refused("page_refused")
    if not is_get and request.headers.get("origin") != f"http://{request.headers['host']}":
        raise Refused("page_refused")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises `Refused(invalid_param)`."""
    body = await request.body()
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise Refused("invalid_param", "This is no form of ours.", param="body")
    if len(body) > MAX_FORM:
        raise Refused("invalid_param", "A form of ours is smaller.", param="body")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MAX_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError:
        raise Refused("invalid_param", "This is no form of ours.", param="body") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("invalid_param", "A field is there twice.", param="body")
    return found


def _see_other(where: str) -> Response:
    return Response(None, 303, {**HEADERS, "Cache-Control": "no-store", "Location": where})


def _static(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    """A file that is the same for everybody, until another version of Parler answers."""
    body = files("parlerd.web.pages").joinpath("static", name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag, "Cache-Control": "no-cache"}

    async def answer(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        return Response(body, 200, headers, f"{media}; charset=utf-8")

    return answer


def _templates() -> Environment:
    folder = files("parlerd.web.pages").joinpath("templates")

    def load(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    found = Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {
        "foreign": foreign,
        "line": showing.line,
        "when": showing.when,
        "ago": showing.ago,
        "hue": showing.hue_of,
    }
    return found
