"""One conversation of an agent window: what it has been shown, which request it repeats, which key it came with, and
how its calls are answered.

    tool call -> acknowledge the page before -> resolve -> engine -> text -> notice -> answer

Not here: JSON-RPC and the MCP library (`session`, `sdk`). Above: both. Below: `parlerd.operations.tools` for what a
call means, `tools.results` for how an answer reads, the engine behind its `face`.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import trio

from mcp_server import resources
from mcp_server.budget import Budget
from mcp_server.fence import Fencer
from mcp_server.port import Form
from mcp_server.tools import approve
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Cut, Scribe, Shown, ended, length_of
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import Millis, Position, RoomId
from parlerd.engine.callers import Caller, Told
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS, Meaning, Tool, resolve
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
    """A message that was shown in part. `names` are what a call may name its room by, `offset` is where the rest
    begins; `upto` is acknowledged once that was shown."""

    room: RoomId
    names: frozenset[str]
    seq: int
    offset: int
    upto: Position


@dataclass(slots=True)
class _Answer:
    """A call under way, or answered and not followed by another.

    `pages` are the rooms of which it shows something, with up to where the page before went. The rest is what the
    reader had been told before it, in case that the host drops the answer.
    """

    begun: dict[RoomId, _Begun]
    told: Told
    met: frozenset[str]
    explained: bool
    pages: dict[RoomId, Position | None] = field(default_factory=dict)
    is_withdrawn: bool = False


class Window:
    """One conversation of one connection.

    `lost` are tool calls whose answer was lost with the last connection, by what was asked, with the key each was made
    with; `lost_until` is when they are forgotten, on trio's clock. `session_key` is the key that the window came with;
    `wait_max_ms` is the longest wait that the person allows, whatever the host would sit out.
    """

    def __init__(
        self,
        engine: EngineFace,
        caller: Caller,
        workspace_of: Callable[[str], Awaitable[str]] = as_named,
        *,
        traits: HostTraits = UNMEASURED,
        lost: Mapping[tuple[str, bytes], str] | None = None,
        lost_until: float | None = None,
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
        self._unwritten: dict[RequestId, _Answer] = {}
        self._written: dict[RequestId, _Answer] = {}
        self._begun: dict[RoomId, _Begun] = {}
        self._used: dict[str, int] = {}
        self._lost = dict(lost or {})
        self._lost_until = trio.current_time() + REPLAY_SECONDS if lost_until is None else lost_until
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
            key = (
                getattr(meaning.params, "idempotency_key", None) or ""
                if meaning.operation.needs_idempotency_key
                else ""
            )
            await self._begin(replay)
            longest_ms = self.longest_wait_ms(progress=progress)
            self.scribe.wait_s = longest_ms // 1000
            shown, said = await self._run(request, meaning, form, longest_ms)
            text = await self._finished(shown.text, said)
            done = True
            return Answer(text)
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
            under_way = self._unwritten.get(request)
            if under_way is not None and under_way.is_withdrawn:
                self._go_back(self._unwritten.pop(request))
            self.caller.fresh.discard(key)
            if replay and not done:
                # The first attempt may have been stored, so the next one still repeats it.
                self._lost[_input(name, arguments)] = key

    def settled(self, request: RequestId, *, written: bool) -> None:
        """The call `request` was answered to the host, or (`written` false) withdrawn by it: then nothing was shown.

        A host that withdraws a call which was answered just now drops the answer; some also withdraw what succeeded,
        and of those only a withdrawal before the answer counts.
        """
        answer = self._unwritten.get(request)
        if not written and answer is not None:
            # What it shows may still be on its way: it goes back when it has ended.
            answer.is_withdrawn = True
            if not answer.pages:
                return
            self._go_back(self._unwritten.pop(request))
        elif answer is not None:
            del self._unwritten[request]
            self._written[request] = answer
            if len(self._written) > MAX_CALLS:
                # Calls that overlap for ever: whoever withdraws one this old has read its answer.
                del self._written[next(iter(self._written))]
        elif not written and not self.traits.cancels_answered and request in self._written:
            self._go_back(self._written.pop(request))

    async def _begin(self, replay: bool) -> None:
        """What every tool call does first: acknowledge what was shown. A page whose answer is not out yet was not
        seen, and waits for the next call."""
        if not replay:
            shown = self.caller.shown
            kept: dict[RoomId, Position] = {}
            for answer in self._unwritten.values():
                for room, before in answer.pages.items():
                    if room in shown and room not in kept:
                        kept[room] = shown.pop(room)
                        if before is not None:
                            shown[room] = before
            self._written.clear()
            await self._call("window.acknowledge", t.AcknowledgeShown())
            for room, upto in kept.items():
                self.caller.shown[room] = max(upto, self.caller.shown.get(room, upto))
        await self.knock()

    async def _run(
        self, request: RequestId, meaning: Meaning, form: Form, longest_ms: Millis
    ) -> tuple[Shown, t.AskNotice]:
        """The answer to a call, and what of the news it says itself."""
        scribe = self.scribe
        params = meaning.params
        if isinstance(params, t.AskApproval):
            decided = await approve.ask(self.engine, self.caller, params, form)
            return scribe.write(decided), t.AskNotice(said=("knock", "people"), room=decided.room)
        if not meaning.operation.waits and not meaning.operation.needs_idempotency_key:
            result = await self._call(meaning.operation.name, params)
            return scribe.write(result), _LISTED.get(type(result), _NOTHING)
        answer = self._unwritten[request] = self._stand()
        try:
            if isinstance(params, t.Recv):
                return await self._receive(answer, params, meaning.offset, longest_ms)
            asked_ms = getattr(params, "wait_ms", 0)
            if isinstance(params, t.JoinSession) and asked_ms > longest_ms:
                params = msgspec.structs.replace(params, wait_ms=longest_ms)
            had = dict(self.caller.shown)
            result = await self._call(meaning.operation.name, params)
            if isinstance(result, t.JoinedSession):
                shown = scribe.write(result)
                self._take_down(answer, result.room, result.name, shown.cut, had)
                if result.status == "pending" and asked_ms > longest_ms:
                    shown = Shown(f"{shown.text}{_cut_short(longest_ms)}\n", shown.cut)
                return shown, _of_page(result.room)
            if not isinstance(result, t.Sent):
                return scribe.write(result), _NOTHING
            # Whoever was woken by it goes first: they wait longer for it than its author for the news.
            await trio.lowlevel.checkpoint()
            assert isinstance(params, t.Send)
            return await self._with_news(answer, params, result)
        except BaseException:
            # The host will never see what this was about to show.
            self._unwritten.pop(request, None)
            self._go_back(answer)
            raise

    async def _call(self, operation: str, params: t.Params) -> t.Result:
        return await self.engine.call(operation, params, self.caller)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[t.Result]]:
        """A `RoomChanged` whenever something that this window's agent may see is posted; nothing that is posted after
        this was entered is missed. Raises `ParlerError`."""
        async with self.engine.stream("window.changes", t.WatchChanges(), self.caller) as items:
            await anext(items)
            yield items

    async def _finished(self, text: str, said: t.AskNotice, most: int | None = None) -> str:
        """An answer with what its reader must know besides, as far as there is room: what a fence means, and what is
        new. What does not fit is said with the next answer."""
        budget, fencer = self.scribe.budget, self.scribe.fencer
        most = budget.page if most is None else most
        explanation = fencer.explanation()
        if explanation:
            first, _, rest = text.partition("\n")
            explained = f"{first}\n{explanation}\n{rest}"
            if budget.size(explained) <= most:
                text = explained
            else:
                fencer.explained = False
        told = self.caller.told.copy()
        try:
            found = await self._call("window.notice", said)
            assert isinstance(found, t.Notice)
            notice = found.line
        except ParlerError as error:
            # What was done and shown stands; it is only not said what else waits.
            log.warning("no notice: %s", error.code)
            self.caller.told = told
            notice = ""
        if notice and budget.size(f"{text}{notice}\n") > most:
            self.caller.told = told
            notice = ""
        refused, self._key_refused = self._key_refused, ""
        lines = [line for line in (refused, notice) if line]
        return ended(f"{text}{' '.join(lines)}" if lines else text)

    async def _failed(self, error: ParlerError, key: str) -> Answer:
        scribe = self.scribe
        refused = self._key_refused
        most = scribe.budget.error
        said = (
            t.AskNotice(said=("waits", "answer"), room=error.details["door"]) if "door" in error.details else _NOTHING
        )
        text = await self._finished(ended(failure(error, scribe, key)), said, most)
        if refused and error.code == "no_active_session":
            # Wherever the session is asked about, not once: the key is why there is none.
            self._key_refused = refused
        return Answer(text, is_error=True)

    # -- what was shown ----------------------------------------------------------------------------------------

    def _stand(self) -> _Answer:
        scribe = self.scribe
        return _Answer(dict(self._begun), self.caller.told.copy(), frozenset(scribe.met), scribe.fencer.explained)

    def _go_back(self, answer: _Answer) -> None:
        """The reader never saw an answer: what it showed is shown again, and what it said is said again."""
        # Other calls may have shown something meanwhile. At worst something comes twice.
        for room, before in answer.pages.items():
            if before is None:
                self.caller.shown.pop(room, None)
            else:
                self.caller.shown[room] = before
        self.caller.told = answer.told.copy()
        self._begun = dict(answer.begun)
        self.scribe.met = set(answer.met)
        self.scribe.fencer.explained = answer.explained

    def _take_down(
        self, answer: _Answer, room: str, name: str | None, cut: Cut | None, had: Mapping[RoomId, Position]
    ) -> None:
        """Take down what an answer shows of a room. Of a message that goes on nothing counts as shown yet. `had` is up
        to where the pages before it went."""
        at = RoomId(room)
        shown = self.caller.shown
        if at not in shown or shown[at] == had.get(at):
            return
        before = had.get(at)
        if cut is not None:
            self._begun[at] = _Begun(at, frozenset((room, name or room)), cut.seq, cut.offset, shown[at])
            if before is None:
                del shown[at]
            else:
                shown[at] = before
        answer.pages[at] = before

    # -- pages -------------------------------------------------------------------------------------------------

    async def _page(self, params: t.Recv) -> t.Received:
        page = await self._call("message.recv", params)
        assert isinstance(page, t.Received)
        return page

    async def _receive(
        self, answer: _Answer, params: t.Recv, offset: int, longest_ms: Millis
    ) -> tuple[Shown, t.AskNotice]:
        asked_ms = params.wait_ms
        params = msgspec.structs.replace(params, wait_ms=min(asked_ms, longest_ms))
        begun = await self._goes_on(params, offset)
        if begun is not None:
            try:
                return await self._rest(answer, params, begun, offset)
            except Refused as error:
                if error.code != "no_such_room":
                    raise
                # It left that room: there is no rest to show.
                self._begun.pop(begun.room, None)
        if offset:
            params = msgspec.structs.replace(params, limit=1)
        had = dict(self.caller.shown)
        page = await self._page(params)
        if offset and page.messages and offset >= (length := length_of(page.messages[0], page.you)):
            seq = page.messages[0].seq
            raise Refused("invalid_param", f"#{seq} has {length} characters: offset is past its end.", param="offset")
        shown = self.scribe.write(page, offset=offset, room=params.room)
        self._take_down(answer, page.room, page.name, shown.cut, had)
        if not page.messages and asked_ms > longest_ms:
            shown = Shown(f"{shown.text}{_cut_short(longest_ms)}\n")
        return shown, _of_page(page.room)

    async def _goes_on(self, params: t.Recv, offset: int) -> _Begun | None:
        """The message that was shown in part, if this call asks for its rest: by its offset, or by asking for what is
        new where it is the newest that was shown."""
        if not self._begun or params.all or params.mentions or params.kind is not None:
            return None
        room = params.room
        if room is None:
            me = await self._call("agent.whoami", t.WhoAmI())
            assert isinstance(me, t.Me)
            room = me.active or ""
        begun = next((begun for begun in self._begun.values() if room in begun.names), None)
        if begun is None or params.since is None:
            return begun
        return begun if params.since == begun.seq - 1 and 0 < offset <= begun.offset else None

    async def _rest(self, answer: _Answer, params: t.Recv, begun: _Begun, offset: int) -> tuple[Shown, t.AskNotice]:
        page = await self._page(t.Recv(room=begun.room, since=begun.seq - 1, limit=1))
        page = msgspec.structs.replace(page, acknowledges=True)
        shown = self.scribe.write(page, offset=offset or begun.offset, room=params.room)
        if shown.cut is not None:
            self._begun[begun.room] = replace(begun, offset=max(begun.offset, shown.cut.offset))
        else:
            before = self.caller.shown.get(begun.room)
            answer.pages[begun.room] = before
            self.caller.shown[begun.room] = max(begun.upto, before or begun.upto)
            self._begun.pop(begun.room, None)
        return shown, _of_page(page.room)

    async def _with_news(self, answer: _Answer, params: t.Send, sent: t.Sent) -> tuple[Shown, t.AskNotice]:
        """The answer to a send, and what arrived meanwhile. The send stands whatever becomes of that."""
        scribe = self.scribe
        shown = scribe.write(sent)
        if sent.room in self._begun:
            return shown, _of_page(sent.room)
        had = dict(self.caller.shown)
        try:
            page = await self._page(t.Recv(room=sent.room, limit=t.MAX_PAGE))
        except ParlerError:
            return shown, _NOTHING
        if not page.messages:
            return shown, _of_page(sent.room)
        news = scribe.write(page, room=params.room)
        self._take_down(answer, page.room, page.name, news.cut, had)
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
        if not meaning.operation.needs_idempotency_key:
            return meaning, lost is not None
        key = getattr(meaning.params, "idempotency_key", None)
        if key is None:
            replay = lost is not None
            key = lost if lost is not None else self._fresh_key(request)
        return msgspec.structs.replace(
            meaning, params=msgspec.structs.replace(meaning.params, idempotency_key=key)
        ), replay

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

    def repeats(self, lost: Mapping[tuple[str, bytes], str]) -> None:
        """These calls of its conversation were lost too: it is known only now which one that is."""
        self._lost.update(lost)

    # -- the key from the environment --------------------------------------------------------------------------

    def forget_key(self) -> None:
        """The key is not this window's: its process has the environment of another one."""
        self._key = ""

    async def knock(self) -> None:
        """Knock with the key that the window came with, once. What becomes of it stands in notices and in the answers
        of calls that need a session; no refusal is raised.

        It asks for no page: nobody would see it, and the context comes with the first read.
        """
        if not self._key:
            return
        async with self._knocking:
            if not self._key:
                return
            try:
                await self._call("session.join", t.JoinSession(session_key=self._key, limit=0))
                self._key = ""
            except ParlerError as error:
                if not error.spec.retryable:
                    # What may work later is tried again at the next call.
                    self._key = ""
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
        # With a writer of its own: what a model is told once is not told by what a host reads.
        return await resources.read(self.engine, self.caller, uri, Scribe(budget=self.scribe.budget))


_NOTHING: Final = t.AskNotice()
"""What an answer is that says no news itself."""
_LISTED: Final[Mapping[type[t.Result], t.AskNotice]] = {
    t.RoomList: t.AskNotice(said=("unread", "knock", "waits")),
    t.RequestList: t.AskNotice(said=("knock",)),
}
"""What lists say of every room."""


def _of_page(room: str) -> t.AskNotice:
    """What an answer says that shows what is new in a room, and how one stands there."""
    return t.AskNotice(said=("unread", "waits", "answer"), room=room)


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
