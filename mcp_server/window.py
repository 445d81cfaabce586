"""One agent window: what it has been shown, which request it repeats, which key it came with, and how its calls are
answered.

    tool call -> acknowledge the page before -> resolve -> engine -> render -> notice -> (text, structured content)

Not here: JSON-RPC and the MCP library (`session`, `sdk`). Above: both. Below: `parlerd.operations.tools` for what a
call means, `tools.results` for how an answer reads, the engine behind `port.EnginePort`.

Invariants: a page is acknowledged only by a later call, and only after its answer was written (decision 14); a write
whose answer was lost and that is asked for again carries the idempotency key of the first attempt (decision 16); an
exception never reaches the host as anything but a coded error.
"""

from __future__ import annotations

import hashlib
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import trio

from mcp_server import resources
from mcp_server.fence import Fencer, is_name
from mcp_server.port import EnginePort, Form
from mcp_server.tools import approve
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Shown, backlog, fitting, join_shown, render
from parlerd.core.errors import ParlerError, Refused
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS, AskApproval, Meaning, Tool, resolve
from parlerd.wire.messages import Hello

log = logging.getLogger("parlerd.mcp")

MAX_CALLS: Final = 64
"""Tool calls of one window under way at once; one more is answered `busy`."""
REPLAY_SECONDS: Final = 600.0
"""How long a repeated request is taken for the one whose answer was lost. Source: decision 16."""
LONG_BACKLOG: Final = 100
"""More new messages than this are not paged through: the recap and the newest are shown, with the gap stated."""
TAIL: Final = 30
"""The newest messages of a long backlog that are asked for; what fits of them is shown."""
_REMEMBERED_IDS: Final = 4096

RequestId = str | int


def idempotency_key(window: str, request: RequestId) -> str:
    """The key of a write that named none: derivable from the request alone, so that it survives this daemon."""
    scope = f"mcp:{window[:16]}"
    if isinstance(request, int):
        return f"{scope}:{request}"
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", request):
        return f"{scope}:s.{request}"
    return f"{scope}:h.{hashlib.sha256(request.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


async def as_named(directory: str) -> str:
    """A directory as its own workspace, where nobody looks for the work tree around it."""
    await trio.lowlevel.checkpoint()
    return directory


class Answer(msgspec.Struct, frozen=True):
    """What a tool call is answered with."""

    text: str
    content: dict[str, Any]
    is_error: bool = False


class Window:
    """One connection of one agent window."""

    def __init__(
        self,
        engine: EnginePort,
        hello: Hello,
        caller: Caller,
        workspace_of: Callable[[str], Awaitable[str]] = as_named,
        fencer: Fencer | None = None,
    ) -> None:
        self.engine = engine
        self.caller = caller
        self.fencer = fencer or Fencer()
        self._workspace_of = workspace_of
        self._calls = 0
        self._unwritten: set[RequestId] = set()
        self._skipped: dict[str, str] = {}
        self._used: dict[str, int] = {}
        self._lost = _lost_writes(caller.window, hello.unanswered)
        self._lost_until = trio.current_time() + REPLAY_SECONDS
        self._key = hello.session_key
        self._knocking = trio.Lock()
        self._knock_line = ""
        self._knock_open = bool(self._key)

    # -- tool calls --------------------------------------------------------------------------------------------

    async def call_tool(self, request: RequestId, name: str, arguments: Mapping[str, Any], form: Form) -> Answer:
        """Answer one tool call. Raises `KeyError` for a name that is no tool's, and nothing else but cancellation."""
        tool = TOOLS[name]
        key = ""
        replay, done = False, False
        self._calls += 1
        try:
            if self._calls > MAX_CALLS:
                raise Refused("busy", limit=MAX_CALLS)
            meaning = resolve(tool, arguments)
            meaning, replay = self._with_key(request, tool, arguments, meaning)
            key = getattr(meaning.params, "key", None) or "" if meaning.operation.needs_key else ""
            await self._begin(replay)
            answer = await self._finish(await self._run(request, meaning, form))
            done = True
            return answer
        except ParlerError as error:
            return _failed(error, self.fencer, key)
        except Exception as error:
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            if isinstance(error, ParlerError):
                return _failed(error, self.fencer, key)
            # By place and type only: the text of an exception may hold what someone wrote.
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s failed with %s\n%s", name, type(error).__name__, place)
            return _failed(ParlerError("internal"), self.fencer, key)
        finally:
            self._calls -= 1
            self.caller.fresh.discard(key)
            if replay and not done:
                # The first attempt may have been stored, so the next one still repeats it.
                self._lost[_input(name, arguments)] = key

    def settled(self, request: RequestId, *, written: bool) -> None:
        """The call `request` was answered to the host, or (`written` false) withdrawn by it: then nothing was shown."""
        if request in self._unwritten:
            self._unwritten.discard(request)
            if not written:
                self._forget_shown()

    async def _begin(self, replay: bool) -> None:
        """What every tool call does first."""
        # A page whose answer is not out yet was not seen: the next call acknowledges it.
        if not self._unwritten and not replay:
            skipped, self._skipped = self._skipped, {}
            await self.engine.acknowledge_shown(self.caller)
            for room, cursor in skipped.items():
                try:
                    await self.engine.call("message.commit", t.Commit(room=room, cursor=cursor), self.caller)
                except ParlerError as error:
                    log.warning("a page was not acknowledged: %s", error.code)
        if self._knock_open:
            await self.knock()

    async def _run(self, request: RequestId, meaning: Meaning, form: Form) -> Shown:
        if isinstance(meaning.params, AskApproval):
            return render(await approve.ask(self.engine, self.caller, meaning.params, form), self.fencer)
        if not meaning.operation.waits and not meaning.operation.needs_key:
            return render(await self._call(meaning), self.fencer)
        self._unwritten.add(request)
        try:
            if isinstance(meaning.params, t.Recv):
                return await self._receive(meaning.params, meaning.offset)
            result = await self._call(meaning)
            if not isinstance(result, t.Sent):
                return render(result, self.fencer, offset=meaning.offset)
            # Whoever was woken by it goes first: they wait longer for it than its author for the news.
            await trio.lowlevel.checkpoint()
            return await self._with_news(result, render(result, self.fencer))
        except BaseException:
            self._unwritten.discard(request)
            # The engine may have counted a page as shown that the host will never see.
            self._forget_shown()
            raise

    async def _call(self, meaning: Meaning) -> t.Result:
        return await self.engine.call(meaning.operation.name, meaning.params, self.caller)

    async def _finish(self, shown: Shown) -> Answer:
        try:
            notice = await self.engine.notice(self.caller)
        except ParlerError as error:
            # What was done and shown stands; it is only not said what else waits.
            log.warning("no notice: %s", error.code)
            notice = ""
        lines = [line for line in (shown.content.get("notice"), self._knock_line, notice) if line]
        if self._knock_line and not self._knock_open:
            self._knock_line = ""
        if not lines:
            return Answer(shown.text, shown.content)
        line = " ".join(lines)
        return Answer(f"{shown.text}\n{line}", {**shown.content, "notice": line})

    def _forget_shown(self) -> None:
        # At worst something is shown twice; it is never lost.
        self.caller.shown.clear()
        self._skipped.clear()

    # -- pages -------------------------------------------------------------------------------------------------

    async def _page(self, params: t.Recv) -> t.Received:
        page = await self.engine.call("message.recv", params, self.caller)
        assert isinstance(page, t.Received)
        return page

    async def _receive(self, params: t.Recv, offset: int) -> Shown:
        page = await self._page(params)
        if params.since is not None or params.all:
            return render(_shortened(page, fitting(page, self.fencer)), self.fencer, offset=offset)
        if page.more and len(page.messages) + page.unread > LONG_BACKLOG:
            return await self._newest(params, page)
        page = await self._that_fits(params, page)
        return render(page, self.fencer)

    async def _that_fits(self, params: t.Recv, page: t.Received, reserve: int = 0) -> t.Received:
        """The same page, asked for again if it is too long: only what is shown may count as shown."""
        while (count := fitting(page, self.fencer, reserve)) < len(page.messages):
            again = msgspec.structs.replace(params, room=page.room, limit=count, wait_ms=0)
            page = await self._page(again)
        return page

    async def _newest(self, params: t.Recv, page: t.Received) -> Shown:
        """The recap, if it is among what is new, and the newest that fit, with the gap between them stated."""
        last = page.messages[-1].seq
        since = max(last, last + page.unread - TAIL)
        newest: list[t.Message] = []
        while True:
            look = await self._page(t.Recv(room=page.room, since=since, limit=t.MAX_PAGE))
            newest += [message for message in look.messages if message.author.id != self.caller.agent]
            if not look.more or not look.messages:
                break
            since = look.messages[-1].seq
        if not newest:
            return render(await self._that_fits(params, page), self.fencer)
        # The engine holds the first page as shown; the rest is acknowledged by the cursor of the newest.
        self._skipped[page.room] = look.cursor
        return render(backlog(page, newest[-TAIL:], look.cursor), self.fencer)

    async def _with_news(self, sent: t.Sent, shown: Shown) -> Shown:
        """What arrived meanwhile, beside the answer to a send. The send stands whatever becomes of this."""
        params = t.Recv(room=sent.room, limit=t.MAX_PAGE)
        try:
            page = await self._that_fits(params, await self._page(params), shown.size())
        except ParlerError:
            self._forget_shown()
            return shown
        return join_shown(shown, render(page, self.fencer, reserve=shown.size()), page)

    # -- lost answers ------------------------------------------------------------------------------------------

    def _with_key(
        self, request: RequestId, tool: Tool, arguments: Mapping[str, Any], meaning: Meaning
    ) -> tuple[Meaning, bool]:
        """`meaning` with an idempotency key, and whether it repeats a request whose answer was lost."""
        replay = False
        if trio.current_time() > self._lost_until:
            self._lost.clear()
        lost = self._lost.pop(_input(tool.name, arguments), None)
        if not meaning.operation.needs_key:
            return meaning, lost is not None
        key = getattr(meaning.params, "key", None)
        if key is None:
            replay = lost is not None
            key = lost if lost is not None else self._fresh_key(request)
        return msgspec.structs.replace(meaning, params=msgspec.structs.replace(meaning.params, key=key)), replay

    def _fresh_key(self, request: RequestId) -> str:
        key = idempotency_key(self.caller.window or self.caller.session, request)
        # Ids are unique by the protocol. A host that repeats one must not have its second message swallowed.
        times = self._used.get(key, 0)
        if len(self._used) >= _REMEMBERED_IDS:
            del self._used[next(iter(self._used))]
        self._used[key] = times + 1
        key = f"{key}:{times + 1}" if times else key
        self.caller.fresh.add(key)
        return key

    # -- the key from the environment --------------------------------------------------------------------------

    async def knock(self) -> None:
        """Knock with `PARLER_SESSION_KEY`, or see what became of it. Its outcome stands in the notices; it raises
        nothing.

        It asks for no page: nobody would see it, and the context comes with the first read.
        """
        async with self._knocking:
            if not self._knock_open:
                return
            try:
                result = await self.engine.call("session.join", t.JoinSession(key=self._key, limit=0), self.caller)
                assert isinstance(result, t.JoinedSession)
                self._knock_line = _knock_line(result)
                self._knock_open = result.status == "pending"
            except ParlerError as error:
                # What may work later is tried again at the next call.
                self._knock_open = error.spec.retryable
                self._knock_line = f"PARLER_SESSION_KEY was not accepted: {error.code}."

    # -- where it stands ---------------------------------------------------------------------------------------

    @property
    def needs_root(self) -> bool:
        """Whether only the client's roots could say which workspace this is. It never changes once an identity is
        taken."""
        return not self.caller.workspace and self.caller.agent is None

    async def stand_in(self, root: str) -> None:
        """Take the first root of the client, a `file:` URI, as where the window stands."""
        parts = urlsplit(root)
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and self.needs_root:
            found = await self._workspace_of(unquote(parts.path))
            if self.needs_root:
                self.caller.workspace = found

    # -- resources ---------------------------------------------------------------------------------------------

    async def read_resource(self, uri: str) -> tuple[str, str]:
        """(text, MIME type) of a resource. Acknowledges nothing. Raises `ParlerError`."""
        return await resources.read(self.engine, self.caller, uri, self.fencer)


def _failed(error: ParlerError, fencer: Fencer, key: str) -> Answer:
    shown = failure(error.body(), fencer, key)
    return Answer(shown.text, shown.content, is_error=True)


def _shortened(page: t.Received, count: int) -> t.Received:
    if count >= len(page.messages):
        return page
    return msgspec.structs.replace(page, messages=page.messages[:count], more=True)


def _knock_line(result: t.JoinedSession) -> str:
    room = result.name or result.room
    room = room if is_name(room) else "the session"
    if result.status == "pending":
        return f"Your request to join {room} waits for a person; the code to tell them is {result.code}."
    if result.status == "denied":
        return f"The person declined your request to join {room}."
    if result.status == "already_member":
        return ""
    return f"You are in {room} now: parler_recv gives its context."


def _lost_writes(window: str, lines: tuple[bytes, ...]) -> dict[tuple[str, bytes], str]:
    """Tool calls whose answer was lost with the last connection, and the key each was made with; newest last."""
    lost: dict[tuple[str, bytes], str] = {}
    for line in lines:
        try:
            message = msgspec.json.decode(line)
            params = message["params"]
            name, request = params["name"], message["id"]
            arguments = params.get("arguments") or {}
            if message["method"] != "tools/call" or name not in TOOLS or not isinstance(request, str | int):
                continue
            lost[_input(name, arguments)] = arguments.get("key") or idempotency_key(window, request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return lost


def _input(tool: str, arguments: Mapping[str, Any]) -> tuple[str, bytes]:
    """What makes two calls the same request: the tool and its arguments, whatever their order."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return tool, hashlib.sha256(msgspec.json.encode(given, order="deterministic")).digest()
