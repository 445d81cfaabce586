"""One conversation of an agent window: how its tool calls are answered.

    tool call -> acknowledge the page before -> resolve -> engine -> text -> notice -> answer

Not here: JSON-RPC (`session`), what was shown and is acknowledged (`showing`), idempotency keys (`repeats`), the key
from the environment (`knock`). Above: `conversations`, `calls`, `sdk`. Below: `parlerd.operations.tools` for what a
call means, `tools.results` for how an answer reads, the engine behind its `face`.

Invariant: a call is answered with a text, and an exception never reaches the host as anything but a coded error.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import trio

from mcp_server import resources
from mcp_server.budget import Budget
from mcp_server.fence import Fencer
from mcp_server.forms import Form
from mcp_server.knock import Knock
from mcp_server.repeats import CallId, Lost, Repeats
from mcp_server.showing import Begun, Showing
from mcp_server.sighting import SEEN, Lookout
from mcp_server.tools import approve
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Scribe, Shown, ended, length_of
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import Millis
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.engine.readers import PendingAnswer
from parlerd.groups import unwrapped
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS, Meaning, Tool, resolve, takes_key
from parlerd.operations.traits import UNMEASURED, HostTraits

log = logging.getLogger("parlerd.mcp")

MAX_CALLS: Final = 64
"""Tool calls of one window under way at once; one more is answered `busy`."""
_NO_META: Final[Mapping[str, object]] = {}
LONGEST: Final = Millis(t.MAX_WAIT_MS)
"""What no wait of any surface exceeds."""
PROGRESS_WAIT_MS: Final = Millis(1_500_000)
"""The longest wait of a host that progress keeps waiting. Measured in three hosts to 1,500 s; source: hosts
reference."""


async def as_named(directory: str) -> str:
    """A directory as its own workspace, where nobody looks for the work tree around it."""
    await trio.lowlevel.checkpoint()
    return directory


class Answer(msgspec.Struct, frozen=True):
    """What a tool call is answered with: one text block."""

    text: str
    is_error: bool = False


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
        lost: Lost | None = None,
        lost_until: float | None = None,
        session_key: str = "",
        wait_max_ms: Millis = LONGEST,
        fencer: Fencer | None = None,
    ) -> None:
        self.engine = engine
        self.caller = caller
        # Writes the answers, and tells the engine how much of a page it can show.
        self.scribe = Scribe(fencer)
        # What the host does with our answers; the scribe has a budget after it.
        self.traits = traits
        # Finds the work tree around a directory that the client names.
        self._workspace_of = workspace_of
        self._wait_max_ms = wait_max_ms
        self.lookout: Lookout | None = None
        """Watches the host's record, where the person lets Parler do so."""
        # How many tool calls are under way.
        self._calls = 0
        # What was shown, which writes repeat one another, and the key that the window came with.
        self._showing = Showing(caller, self.scribe)
        self._repeats = Repeats(caller, lost or {}, lost_until)
        self._knock = Knock(engine, caller, session_key)

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
        self,
        request: CallId,
        name: str,
        arguments: Mapping[str, Any],
        form: Form,
        *,
        progress: bool = False,
        meta: Mapping[str, object] = _NO_META,
    ) -> Answer:
        """Answer one tool call, which came with this `_meta`. Raises `KeyError` for a name that is no tool's, and
        nothing else but cancellation."""
        tool = TOOLS[name]
        key = ""
        replay, done = False, False
        self._calls += 1
        try:
            if self._calls > MAX_CALLS:
                raise Refused("busy", limit=MAX_CALLS)
            if (lookout := self.lookout) is not None and lookout.is_on:
                lookout.quoted(arguments)
                arguments = {name: value for name, value in arguments.items() if name != SEEN}
            meaning = resolve(tool, arguments)
            meaning, replay = self._repeats.keyed(request, tool, arguments, meaning)
            key = (
                getattr(meaning.params, "idempotency_key", None) or ""
                if meaning.operation.needs_idempotency_key
                else ""
            )
            if not replay:
                await self._call("window.acknowledge", t.AcknowledgeShown())
            await self.knock()
            longest_ms = self.longest_wait_ms(progress=progress)
            self.scribe.wait_s = longest_ms // 1000
            watched = self.lookout if self.lookout is not None and self.lookout.is_on else None
            self.scribe.draw = None if watched is None else watched.draw
            shown, said = await self._run(request, meaning, form, longest_ms)
            text = await self._finished(shown.text, said)
            if watched is not None:
                await watched.begin(request, shown.marked, meta)
            done = True
            return Answer(text)
        except ParlerError as error:
            return await self._failed(error, self._key_told(tool, arguments, key, error))
        except Exception as error:
            reason = unwrapped(error)
            if isinstance(reason, ParlerError):
                return await self._failed(reason, self._key_told(tool, arguments, key, reason))
            # Only place and type are logged: the text of an exception may hold what someone wrote.
            place = "".join(traceback.format_tb(reason.__traceback__))
            log.error("%s failed with %s\n%s", name, type(reason).__name__, place)
            failed = ParlerError("internal")
            return await self._failed(failed, self._key_told(tool, arguments, key, failed))
        finally:
            self._calls -= 1
            self._showing.ended(request)
            if replay and not done:
                self._repeats.failed(name, arguments, key)

    def _key_told(self, tool: Tool, arguments: Mapping[str, Any], key: str, error: ParlerError) -> str:
        """The idempotency key that a model is told, to ask for the same again. Where a tool takes none, the model asks
        the same once more, and that is the same request."""
        if takes_key(tool):
            return key
        error.details.pop("key", None)
        if key and error.spec.retryable:
            self._repeats.failed(tool.name, arguments, key)
        return ""

    def settled(self, request: CallId, *, written: bool) -> None:
        """The call `request` was answered to the host, or (`written` false) withdrawn by it. See `Showing.settled`."""
        self._showing.settled(request, written=written, cancels_answered=self.traits.cancels_answered)
        if self.lookout is not None:
            self.lookout.settled(request, written=written, cancels_answered=self.traits.cancels_answered)

    async def _run(
        self, request: CallId, meaning: Meaning, form: Form, longest_ms: Millis
    ) -> tuple[Shown, t.AskNotice]:
        """The answer to a call, and what of the news it says itself."""
        scribe = self.scribe
        params = meaning.params
        if isinstance(params, t.AskApproval):
            decided = await approve.ask(self.engine, self.caller, params, form)
            return scribe.write(decided), t.AskNotice(said=("knock", "people"), room=decided.room)
        if not meaning.operation.waits and not meaning.operation.needs_idempotency_key:
            result = await self._call(meaning.operation.name, params)
            said = _LISTED.get(type(result), _NOTHING)
            if isinstance(result, t.Served):
                said = t.AskNotice(said=("answer",), room=result.room)
            return scribe.write(result, offset=meaning.offset), said
        answer = self._showing.begin(request)
        try:
            if isinstance(params, t.Recv):
                return await self._receive(answer, params, meaning.offset, longest_ms)
            asked_ms = getattr(params, "wait_ms", 0)
            if isinstance(params, t.JoinSession | t.ClaimTask) and asked_ms > longest_ms:
                params = msgspec.structs.replace(params, wait_ms=longest_ms)
            result = await self._call(meaning.operation.name, params)
            if isinstance(result, t.JoinedSession):
                shown = scribe.write(result)
                self._showing.shows(answer, result.room, result.name, shown.cut)
                if result.status == "pending" and asked_ms > longest_ms:
                    shown = replace(shown, text=f"{shown.text}{_cut_short(longest_ms)}\n")
                return shown, _of_page(result.room)
            if not isinstance(result, t.Sent):
                shown = scribe.write(result)
                if isinstance(result, t.TaskHeld) and result.id is None and asked_ms > longest_ms:
                    shown = replace(shown, text=f"{shown.text}{_cut_short(longest_ms)}\n")
                return shown, _NOTHING
            # Readers that this message woke go first: they have waited for it, and its author can wait for the news.
            await trio.lowlevel.checkpoint()
            assert isinstance(params, t.Send)
            return await self._with_news(answer, params, result)
        except BaseException:
            self._showing.failed(request)
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
        told = self.caller.reader.told.copy()
        try:
            found = await self._call("window.notice", said)
            assert isinstance(found, t.Notice)
            notice = found.line
        except ParlerError as error:
            # What was done and shown stands. The answer only does not say what else waits.
            log.warning("no notice: %s", error.code)
            self.caller.reader.told = told
            notice = ""
        if notice and budget.size(f"{text}{notice}\n") > most:
            self.caller.reader.told = told
            notice = ""
        refused, self._knock.refusal = self._knock.refusal, ""
        lines = [line for line in (refused, notice) if line]
        return ended(f"{text}{' '.join(lines)}" if lines else text)

    async def _failed(self, error: ParlerError, key: str) -> Answer:
        scribe = self.scribe
        refused = self._knock.refusal
        most = scribe.budget.error
        said = (
            t.AskNotice(said=("waits", "answer"), room=error.details["door"]) if "door" in error.details else _NOTHING
        )
        text = await self._finished(ended(failure(error, scribe, key)), said, most)
        if refused and error.code == "no_active_session":
            # This is said with every such answer and not once: the key is why there is no session.
            self._knock.refusal = refused
        return Answer(text, is_error=True)

    # -- pages -------------------------------------------------------------------------------------------------

    async def _page(self, params: t.Recv) -> t.Received:
        page = await self._call("message.recv", params)
        assert isinstance(page, t.Received)
        return page

    async def _receive(
        self, answer: PendingAnswer, params: t.Recv, offset: int, longest_ms: Millis
    ) -> tuple[Shown, t.AskNotice]:
        asked_ms = params.wait_ms
        params = msgspec.structs.replace(params, wait_ms=min(asked_ms, longest_ms))
        begun = await self._goes_on(params, offset)
        if begun is not None:
            try:
                return await self._rest(answer, params, begun, offset)
            except Refused as error:
                if error.code not in ("no_such_room", "room_deleted"):
                    raise
                # The reader left that room, or it was deleted: there is no rest to show.
                self._showing.forget(begun.room)
        if offset:
            params = msgspec.structs.replace(params, limit=1)
        page = await self._page(params)
        if offset and page.messages and offset >= (length := length_of(page.messages[0], page.you)):
            seq = page.messages[0].seq
            raise Refused("invalid_param", f"#{seq} has {length} characters: offset is past its end.", param="offset")
        shown = self.scribe.write(page, offset=offset, room=params.room)
        self._showing.shows(answer, page.room, page.name, shown.cut)
        if not page.messages and asked_ms > longest_ms:
            shown = replace(shown, text=f"{shown.text}{_cut_short(longest_ms)}\n")
        return shown, _of_page(page.room)

    async def _goes_on(self, params: t.Recv, offset: int) -> Begun | None:
        """The message that was shown in part, if this call asks for its rest: by its offset, or by asking for what is
        new where it is the newest that was shown."""
        if not self._showing.has_begun or params.all or params.mentions or params.kind is not None:
            return None
        room = params.room
        if room is None:
            me = await self._call("agent.whoami", t.WhoAmI())
            assert isinstance(me, t.Me)
            room = me.active or ""
        begun = self._showing.begun_in(room)
        if begun is None or params.since is None:
            return begun
        return begun if params.since == begun.seq - 1 and 0 < offset <= begun.offset else None

    async def _rest(
        self, answer: PendingAnswer, params: t.Recv, begun: Begun, offset: int
    ) -> tuple[Shown, t.AskNotice]:
        page = await self._page(t.Recv(room=begun.room, since=begun.seq - 1, limit=1))
        page = msgspec.structs.replace(page, acknowledges=True)
        shown = self.scribe.write(page, offset=offset or begun.offset, room=params.room)
        self._showing.goes_on(answer, begun, shown.cut)
        return shown, _of_page(page.room)

    async def _with_news(self, answer: PendingAnswer, params: t.Send, sent: t.Sent) -> tuple[Shown, t.AskNotice]:
        """The answer to a send, and what arrived meanwhile. The send stands whatever becomes of that."""
        scribe = self.scribe
        shown = scribe.write(sent)
        if self._showing.begun_in(sent.room) is not None:
            return shown, _of_page(sent.room)
        try:
            page = await self._page(t.Recv(room=sent.room, limit=t.MAX_PAGE))
        except ParlerError:
            return shown, _NOTHING
        if not page.messages:
            return shown, _of_page(sent.room)
        news = scribe.write(page, room=params.room)
        self._showing.shows(answer, page.room, page.name, news.cut)
        # A page in a room that the reader has not met begins with who it is there.
        meanwhile = "Meanwhile " if news.text[0].isdigit() else ""
        return replace(news, text=f"{shown.text}{meanwhile}{news.text}"), _of_page(sent.room)

    # -- what is learnt about it later -------------------------------------------------------------------------

    def repeats(self, lost: Lost) -> None:
        """These calls of its conversation were lost too: it is known only now which conversation that is."""
        self._repeats.add(lost)

    def forget_key(self) -> None:
        """The key is not this window's: its process has the environment of another one."""
        self._knock.forget()

    async def knock(self) -> None:
        """Come in by the start or with the key that the window came with, once."""
        await self._knock.knock()

    # -- where it stands ---------------------------------------------------------------------------------------

    @property
    def needs_root(self) -> bool:
        """Whether only the client's roots could say which workspace this is. It never changes once an identity is
        taken."""
        return not self.caller.facts.workspace and self.caller.agent is None

    async def stand_in(self, root: str) -> None:
        """Take the first root of the client, a `file:` URI, as where the window stands."""
        parts = urlsplit(root)
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and self.needs_root:
            found = await self._workspace_of(unquote(parts.path))
            if self.needs_root:
                self.caller.facts = replace(self.caller.facts, workspace=found)

    # -- resources ---------------------------------------------------------------------------------------------

    async def read_resource(self, uri: str) -> tuple[str, str]:
        """(text, MIME type) of a resource. Acknowledges nothing. Raises `ParlerError`."""
        # A resource has a writer of its own: hosts read resources without showing them to their model, so what a
        # model must be told once does not count as told by them.
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
