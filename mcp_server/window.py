"""One conversation of an agent window: what it has been shown, which request it repeats, which key it came with, and
how its calls are answered.

    tool call -> acknowledge the page before -> resolve -> engine -> text -> notice -> answer

Not here: JSON-RPC and the MCP library (`session`, `sdk`). Above: both. Below: `parlerd.operations.tools` for what a
call means, `tools.results` for how an answer reads, the engine behind `port.EnginePort`.

Invariants: a page is acknowledged only by a later call, only after its answer was written, and not when the host
withdrew that call (decision 14); a message that was shown in part is acknowledged when its last part was shown; a write
whose answer was lost and that is asked for again carries the idempotency key of the first attempt (decision 16); an
exception never reaches the host as anything but a coded error.
"""

from __future__ import annotations

import hashlib
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import trio

from mcp_server import resources
from mcp_server.budget import Budget
from mcp_server.fence import Fencer
from mcp_server.port import EnginePort, Form
from mcp_server.tools import approve
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Cut, Scribe, Shown, ended, length_of
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import Millis, Position, RoomId
from parlerd.engine.callers import NOTHING, Caller, Said, Told
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS, AskApproval, Meaning, Tool, resolve
from parlerd.operations.traits import UNMEASURED, HostTraits

log = logging.getLogger("parlerd.mcp")

MAX_CALLS: Final = 64
"""Tool calls of one window under way at once; one more is answered `busy`."""
REPLAY_SECONDS: Final = 600.0
"""How long a repeated request is taken for the one whose answer was lost. Source: decision 16."""
LONGEST: Final = Millis(t.MAX_WAIT_MS)
"""What no wait of any surface exceeds."""
PROGRESS_WAIT_MS: Final = Millis(1_500_000)
"""The longest wait of a host that progress keeps waiting. Measured in three hosts to 1,500 s; source: hosts
reference."""
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
    """What a tool call is answered with: one text block."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class _Begun:
    """A message that was shown in part. `asked` is the room as the call named it; `upto` is acknowledged once the rest
    was shown, which begins at `offset`."""

    asked: str | None
    room: RoomId
    seq: int
    offset: int
    upto: Position


@dataclass(frozen=True, slots=True)
class _Before:
    """What the reader had been shown and told before an answer: where all stands again when the host drops that."""

    shown: dict[RoomId, Position]
    begun: _Begun | None
    told: Told
    met: frozenset[str]
    explained: bool


class Window:
    """One conversation of one connection.

    `lost` are tool calls whose answer was lost with the last connection, by what was asked, with the key each was made
    with; `session_key` is the key that the window came with; `wait_max_ms` is the longest wait that the person allows,
    whatever the host would sit out.
    """

    def __init__(
        self,
        engine: EnginePort,
        caller: Caller,
        workspace_of: Callable[[str], Awaitable[str]] = as_named,
        *,
        traits: HostTraits = UNMEASURED,
        lost: Mapping[tuple[str, bytes], str] | None = None,
        session_key: str = "",
        wait_max_ms: Millis = LONGEST,
        fencer: Fencer | None = None,
    ) -> None:
        self.engine = engine
        self.caller = caller
        self.scribe = Scribe(fencer)
        self._workspace_of = workspace_of
        self._wait_max_ms = wait_max_ms
        self._calls = 0
        self._unwritten: dict[RequestId, _Before] = {}
        self._written: dict[RequestId, _Before] = {}
        self._begun: _Begun | None = None
        self._used: dict[str, int] = {}
        self._lost = dict(lost or {})
        self._lost_until = trio.current_time() + REPLAY_SECONDS
        self._key = session_key
        self._knocking = trio.Lock()
        self._key_refused = ""
        self.traits = traits
        caller.fits = self.scribe

    @property
    def traits(self) -> HostTraits:
        """What this window's host does with our answers."""
        return self._traits

    @traits.setter
    def traits(self, traits: HostTraits) -> None:
        self._traits = traits
        self.scribe.budget = Budget(traits)

    def longest_wait_ms(self, *, progress: bool) -> Millis:
        """The longest that one call may wait here. `progress` says that the host asked to hear of it."""
        own = PROGRESS_WAIT_MS if progress and self.traits.progress else Millis(self.traits.wait_s * 1000)
        return min(own, self._wait_max_ms)

    # -- tool calls --------------------------------------------------------------------------------------------

    async def call_tool(
        self, request: RequestId, name: str, arguments: Mapping[str, Any], form: Form, *, progress: bool = False
    ) -> Answer:
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
            longest_ms = self.longest_wait_ms(progress=progress)
            self.scribe.wait_s = longest_ms // 1000
            shown, said = await self._run(request, meaning, form, longest_ms)
            answer = Answer(await self._finished(shown.text, said))
            done = True
            return answer
        except ParlerError as error:
            return await self._failed(error, key)
        except Exception as error:
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            if isinstance(error, ParlerError):
                return await self._failed(error, key)
            # By place and type only: the text of an exception may hold what someone wrote.
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s failed with %s\n%s", name, type(error).__name__, place)
            return await self._failed(ParlerError("internal"), key)
        finally:
            self._calls -= 1
            self.caller.fresh.discard(key)
            if replay and not done:
                # The first attempt may have been stored, so the next one still repeats it.
                self._lost[_input(name, arguments)] = key

    def settled(self, request: RequestId, *, written: bool) -> None:
        """The call `request` was answered to the host, or (`written` false) withdrawn by it: then nothing was shown.

        A host that withdraws a call which was answered just now drops the answer; some also withdraw what succeeded,
        and of those only a withdrawal before the answer counts.
        """
        before = self._unwritten.pop(request, None)
        if written and before is not None:
            self._written[request] = before
            if len(self._written) > MAX_CALLS:
                # Calls that overlap for ever: whoever withdraws one this old has read its answer.
                del self._written[next(iter(self._written))]
        elif not written and before is not None:
            self._go_back(before)
        elif not written and not self.traits.cancels_answered and request in self._written:
            self._go_back(self._written.pop(request))

    async def _begin(self, replay: bool) -> None:
        """What every tool call does first."""
        # A page whose answer is not out yet was not seen: the next call acknowledges it.
        if not self._unwritten and not replay:
            self._written.clear()
            await self.engine.acknowledge_shown(self.caller)
        await self.knock()

    async def _run(self, request: RequestId, meaning: Meaning, form: Form, longest_ms: Millis) -> tuple[Shown, Said]:
        """The answer to a call, and what of the news it says itself."""
        scribe = self.scribe
        params = meaning.params
        if isinstance(params, AskApproval):
            decided = await approve.ask(self.engine, self.caller, params, form)
            return scribe.write(decided), Said(frozenset({"knock", "people"}), decided.room)
        if not meaning.operation.waits and not meaning.operation.needs_key:
            result = await self._call(meaning.operation.name, params)
            return scribe.write(result), _LISTED.get(type(result), NOTHING)
        before = self._unwritten[request] = self._stand()
        try:
            if isinstance(params, t.Recv):
                return await self._receive(params, meaning.offset, longest_ms)
            asked_ms = getattr(params, "wait_ms", 0)
            if isinstance(params, t.JoinSession) and asked_ms > longest_ms:
                params = msgspec.structs.replace(params, wait_ms=longest_ms)
            result = await self._call(meaning.operation.name, params)
            if isinstance(result, t.JoinedSession):
                shown = scribe.write(result)
                self._take_down(before.shown, shown.cut, None)
                if result.status == "pending" and asked_ms > longest_ms:
                    shown = Shown(f"{shown.text}{_cut_short(longest_ms)}\n", shown.cut)
                return shown, _of_page(result.room)
            if not isinstance(result, t.Sent):
                return scribe.write(result), NOTHING
            # Whoever was woken by it goes first: they wait longer for it than its author for the news.
            await trio.lowlevel.checkpoint()
            assert isinstance(params, t.Send)
            return await self._with_news(params, result)
        except BaseException:
            # The engine may have counted a page as shown that the host will never see.
            self._unwritten.pop(request, None)
            self._go_back(before)
            raise

    async def _call(self, operation: str, params: t.Params) -> t.Result:
        return await self.engine.call(operation, params, self.caller)

    async def _finished(self, text: str, said: Said) -> str:
        """An answer with what its reader must know besides: what a fence means, and what is new."""
        explanation = self.scribe.fencer.explanation()
        if explanation:
            first, _, rest = text.partition("\n")
            text = f"{first}\n{explanation}\n{rest}"
        try:
            notice = await self.engine.notice(self.caller, said)
        except ParlerError as error:
            # What was done and shown stands; it is only not said what else waits.
            log.warning("no notice: %s", error.code)
            notice = ""
        if self._key_refused:
            notice = " ".join(line for line in (self._key_refused, notice) if line)
            self._key_refused = ""
        return ended(f"{text}{notice}" if notice else text)

    async def _failed(self, error: ParlerError, key: str) -> Answer:
        scribe = self.scribe
        refused = self._key_refused
        said = Said(frozenset({"door"}), error.details["door"]) if "door" in error.details else NOTHING
        text = await self._finished(ended(failure(error, scribe, key)), said)
        if refused and error.code == "no_active_session":
            # Wherever the session is asked about, not once: the key is why there is none.
            self._key_refused = refused
        most = scribe.budget.error
        if scribe.budget.size(text) > most:
            text = ended(text[: scribe.budget.prefix(text, most - 8)] + " ...")
        return Answer(text, is_error=True)

    # -- what was shown ----------------------------------------------------------------------------------------

    def _stand(self) -> _Before:
        scribe, caller = self.scribe, self.caller
        return _Before(
            dict(caller.shown), self._begun, caller.told.copy(), frozenset(scribe.met), scribe.fencer.explained
        )

    def _go_back(self, before: _Before) -> None:
        """The reader never saw an answer: what it showed is shown again, and what it said is said again."""
        # Other calls may have shown something meanwhile. At worst something is shown twice; nothing is lost.
        self.caller.shown = dict(before.shown)
        self.caller.told = before.told.copy()
        self._begun = before.begun
        self.scribe.met = set(before.met)
        self.scribe.fencer.explained = before.explained

    def _take_down(self, before: Mapping[RoomId, Position], cut: Cut | None, asked: str | None) -> None:
        """Of a message that goes on nothing counts as shown yet."""
        if cut is None:
            return
        shown = self.caller.shown
        for room, upto in list(shown.items()):
            if before.get(room) != upto:
                self._begun = _Begun(asked, room, cut.seq, cut.offset, upto)
                if room in before:
                    shown[room] = before[room]
                else:
                    del shown[room]
                return

    # -- pages -------------------------------------------------------------------------------------------------

    async def _page(self, params: t.Recv) -> t.Received:
        page = await self._call("message.recv", params)
        assert isinstance(page, t.Received)
        return page

    async def _receive(self, params: t.Recv, offset: int, longest_ms: Millis) -> tuple[Shown, Said]:
        asked_ms = params.wait_ms
        params = msgspec.structs.replace(params, wait_ms=min(asked_ms, longest_ms))
        begun = self._goes_on(params, offset)
        if begun is not None:
            return await self._rest(params, begun, offset)
        if offset:
            params = msgspec.structs.replace(params, limit=1)
        before = dict(self.caller.shown)
        page = await self._page(params)
        if offset and page.messages and offset >= (length := length_of(page.messages[0], page.you)):
            seq = page.messages[0].seq
            raise Refused("invalid_param", f"#{seq} has {length} characters: offset is past its end.", param="offset")
        shown = self.scribe.write(page, offset=offset, room=params.room)
        self._take_down(before, shown.cut, params.room)
        if not page.messages and asked_ms > longest_ms:
            shown = Shown(f"{shown.text}{_cut_short(longest_ms)}\n")
        return shown, _of_page(page.room)

    def _goes_on(self, params: t.Recv, offset: int) -> _Begun | None:
        """The message that was shown in part, if this call asks for its rest: by its offset, or by asking for what is
        new where it is the newest that was shown."""
        begun = self._begun
        if begun is None or params.all:
            return None
        here = params.room in (begun.asked, begun.room)
        if params.since is None:
            return begun if here and not params.mentions and params.kind is None else None
        return begun if here and params.since == begun.seq - 1 and 0 < offset <= begun.offset else None

    async def _rest(self, params: t.Recv, begun: _Begun, offset: int) -> tuple[Shown, Said]:
        look = t.Recv(room=begun.room, since=begun.seq - 1, limit=1)
        page = await self._page(look)
        page = msgspec.structs.replace(page, acknowledges=True)
        shown = self.scribe.write(page, offset=offset or begun.offset, room=params.room)
        if shown.cut is not None:
            self._begun = replace(begun, offset=max(begun.offset, shown.cut.offset))
        else:
            self.caller.shown[begun.room] = max(begun.upto, self.caller.shown.get(begun.room, begun.upto))
            self._begun = None
        return shown, _of_page(page.room)

    async def _with_news(self, params: t.Send, sent: t.Sent) -> tuple[Shown, Said]:
        """The answer to a send, and what arrived meanwhile. The send stands whatever becomes of that."""
        scribe = self.scribe
        shown = scribe.write(sent)
        begun = self._begun
        if begun is not None and begun.room == sent.room:
            return shown, _of_page(sent.room)
        before = dict(self.caller.shown)
        try:
            page = await self._page(t.Recv(room=sent.room, limit=t.MAX_PAGE))
        except ParlerError:
            self.caller.shown = before
            return shown, NOTHING
        if not page.messages:
            return shown, _of_page(sent.room)
        news = scribe.write(page, room=params.room)
        self._take_down(before, news.cut, params.room)
        # A page in a room that the reader has not met begins with who it is there.
        meanwhile = "Meanwhile " if news.text[0].isdigit() else ""
        return Shown(f"{shown.text}{meanwhile}{news.text}", news.cut), _of_page(sent.room)

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

    def forget_key(self) -> None:
        """The key is not this window's: its process has the environment of another one."""
        self._key = ""

    async def knock(self) -> None:
        """Knock with the key that the window came with, once. What becomes of it stands in notices and in the answers
        of calls that need a session; it raises nothing.

        It asks for no page: nobody would see it, and the context comes with the first read.
        """
        if not self._key:
            return
        async with self._knocking:
            key, self._key = self._key, ""
            if not key:
                return
            try:
                await self._call("session.join", t.JoinSession(key=key, limit=0))
            except ParlerError as error:
                if error.spec.retryable:
                    # What may work later is tried again at the next call.
                    self._key = key
                self._key_refused = f"PARLER_SESSION_KEY was not accepted: {error.code}: {error.message}"

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
        return await resources.read(self.engine, self.caller, uri, self.scribe)


_LISTED: Final[Mapping[type[t.Result], Said]] = {
    t.RoomList: Said(frozenset({"unread", "knock", "door"})),
    t.RequestList: Said(frozenset({"knock"})),
}
"""What lists say of every room."""


def _of_page(room: str) -> Said:
    """What an answer says that shows what is new in a room, and how one stands there."""
    return Said(frozenset({"unread", "door"}), room)


def _cut_short(longest_ms: Millis) -> str:
    return f"One call waits {longest_ms // 1000} s at most here; to wait on, make the same call again."


def lost_writes(
    window: str, lines: tuple[bytes, ...], is_mine: Callable[[Mapping[str, Any]], bool] = lambda params: True
) -> dict[tuple[str, bytes], str]:
    """Tool calls whose answer was lost with the last connection, and the key each was made with; newest last.
    `is_mine` says by a call's parameters whether it is of this conversation."""
    lost: dict[tuple[str, bytes], str] = {}
    for line in lines:
        try:
            message = msgspec.json.decode(line)
            params = message["params"]
            name, request = params["name"], message["id"]
            arguments = params.get("arguments") or {}
            if message["method"] != "tools/call" or name not in TOOLS or not isinstance(request, str | int):
                continue
            if is_mine(params):
                lost[_input(name, arguments)] = arguments.get("key") or idempotency_key(window, request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return lost


def _input(tool: str, arguments: Mapping[str, Any]) -> tuple[str, bytes]:
    """What makes two calls the same request: the tool and its arguments, whatever their order."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return tool, hashlib.sha256(msgspec.json.encode(given, order="deterministic")).digest()
