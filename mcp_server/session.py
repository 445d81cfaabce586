"""The MCP sessions that the daemon runs: one for each connected shim, over lines of JSON-RPC.

    ipc (lines) <-> Session --static answers, handshake order--> host
                        |--tool calls--> Calls -----------.
                        `--everything else--> sdk.serve --> Window --> engine

A host that names its conversation in each call may keep several in one process: each has a `Window` of its own, and
acts as an agent of its own. What a client says of itself decides which host it is, for hosts read each other's files.

Not here: the MCP library (`sdk`, loaded after the daemon serves its socket) and what tools do (`window`). Above:
`parlerd.daemon`, which hands `McpHost` to `parlerd.ipc`. Invariants: what stands in the static table is answered with
its bytes, whether the library is loaded or not; requests of ours carry ids that no other connection ever used, so that
an answer to a form that was open before a restart can never answer a new one; an error here ends this connection and
nothing else.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

import msgspec
import trio

from mcp_server import envelope, static
from mcp_server.calls import Calls, Held
from mcp_server.port import Say
from mcp_server.ringing import NO_BELLS, Bell, watch
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Scribe
from mcp_server.window import LONGEST, REPLAY_SECONDS, Window, as_named, lost_writes
from parlerd.core.errors import ParlerError
from parlerd.core.model import Millis, label, slug
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.operations.traits import UNMEASURED, HostTraits
from parlerd.settings import Era
from parlerd.wire.messages import Hello

log = logging.getLogger("parlerd.mcp")

Message = dict[str, Any]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
UNSUPPORTED_VERSION: Final = -32022
KNOCK_SECONDS: Final = 1.0
"""A window that stays this long after its handshake is no health check: it knocks with the key it came with."""
MAX_REQUEST: Final = 1024 * 1024
"""Bytes of one request: a message of the largest size, with each character escaped, fits. Taken apart it may be tens of
times as much, and the loop waits meanwhile."""
MAX_CONVERSATIONS: Final = 64
"""Further conversations of one window that are kept at once."""
_QUEUE: Final = 16
_NO_TRAITS: Final[Mapping[str, HostTraits]] = {}


def _no_words(pid: int) -> Sequence[str]:
    """For hosts of which nobody looks at the command line."""
    del pid
    return ()


class _Head(msgspec.Struct):
    """What of a request is looked at before it is taken apart."""

    id: str | int | None = None
    method: str | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)


def _decoded(line: bytes) -> object:
    """A line as a value. Many small objects would be looked through by the collector again and again meanwhile, which
    takes far longer than making them; none of them can be garbage yet."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return msgspec.json.decode(line)
    finally:
        if was_enabled:
            gc.enable()


class _Sdk(Protocol):
    async def serve(
        self,
        window: Window,
        window_of: Callable[[Message], Awaitable[Window]],
        incoming: trio.MemoryReceiveChannel[Message],
        write: Callable[[Message], Awaitable[None]],
    ) -> None: ...


class McpHost:
    """Serves windows; an instance is the `StdioHost` of `parlerd.ipc`.

    `workspace_of` finds the work tree around a directory; `bells` wake idle conversations, by host. `era` is what a
    host is offered that asks: `server/discover` is answered in the modern one only. Either is served to whom speaks it.
    `wait_max_ms` caps what one call waits. `traits` says of each known host what it does with our answers, `words_of`
    gives the command line of a process.
    """

    def __init__(
        self,
        engine: EngineFace,
        workspace_of: Callable[[str], Awaitable[str]] = as_named,
        bells: Mapping[str, Bell] = NO_BELLS,
        era: Era = "legacy",
        wait_max_ms: Millis = LONGEST,
        traits: Mapping[str, HostTraits] = _NO_TRAITS,
        words_of: Callable[[int], Sequence[str]] = _no_words,
    ) -> None:
        self.engine = engine
        self.wait_max_ms = wait_max_ms
        self.traits = traits
        self.words_of = words_of
        self.era = era
        self.bells = bells
        self.workspace_of = workspace_of
        self._sdk: _Sdk | None = None
        self._loading = trio.Lock()

    @property
    def is_loaded(self) -> bool:
        """Whether the MCP library is there."""
        return self._sdk is not None

    async def load(self) -> _Sdk:
        """Import the MCP library, in a thread, once. The daemon calls it when its socket is served; a session waits for
        it."""
        async with self._loading:
            if self._sdk is None:
                # A window that ends meanwhile does not wait for it: the thread goes on, and whoever asks next finds it.
                module = await trio.to_thread.run_sync(
                    importlib.import_module, "mcp_server.sdk", abandon_on_cancel=True
                )
                self._sdk = cast(_Sdk, module)
                # It stays for good: collecting it again and again would be a pause in the middle of a wake.
                gc.freeze()
            return self._sdk

    async def __call__(
        self,
        hello: Hello,
        caller: Caller,
        incoming: AsyncIterator[bytes],
        say: Say,
    ) -> None:
        """Serve one window until its lines end."""
        session = _Session(self, caller, hello, say)
        try:
            await session.run(incoming)
        except* Exception as group:
            place = "".join(traceback.format_tb(_first(group).__traceback__))
            log.error("a session failed with %s\n%s", type(_first(group)).__name__, place)
        finally:
            await session.end()

    def host_named(self, client: str) -> str | None:
        """The host whose client calls itself that, if it is a known one."""
        for host, traits in self.traits.items():
            for name in traits.clients:
                if client == name or (name.endswith("*") and client.startswith(name[:-1])):
                    return host
        return None


class _Session:
    """One connection."""

    def __init__(self, host: McpHost, caller: Caller, hello: Hello, say: Say) -> None:
        self._host = host
        self._caller = caller
        self._hello = hello
        self._say = say
        self._prefix = f"parler-{caller.session}-"
        self._began = trio.current_time()
        self._window = self._window_for(caller, session_key=hello.session_key)
        self._further: dict[str, Window] = {}
        self._opening = trio.Lock()
        self._handshakes: dict[str | int, object] = {}
        self._greeted: set[str | int] = set()
        self._handshaken = False
        self._modern = False
        self._has_roots = False
        self._calls = Calls(self._answer_call, self._tell_progress)
        self._watched: set[Window] = set()
        self._held = Held()
        self._running: set[str | int] = set()

    @property
    def _traits(self) -> HostTraits:
        return self._host.traits.get(self._caller.host, UNMEASURED)

    def _window_for(self, caller: Caller, session_key: str = "") -> Window:
        return Window(
            self._host.engine,
            caller,
            self._host.workspace_of,
            traits=self._traits,
            lost=self._lost_of(caller.conversation),
            lost_until=self._began + REPLAY_SECONDS,
            session_key=session_key,
            wait_max_ms=self._host.wait_max_ms,
        )

    def _lost_of(self, conversation: str) -> dict[tuple[str, bytes], str]:
        """The calls of a conversation that were lost; all, where calls name none."""
        field, hello = self._traits.conversation_meta, self._hello
        return lost_writes(
            hello.window,
            hello.unanswered,
            lambda params: not field or _conversation(params, field) in ("", conversation),
        )

    async def end(self) -> None:
        """The further conversations end with their window."""
        with trio.CancelScope(shield=True):
            for window in self._further.values():
                await self._host.engine.disconnect(window.caller)

    async def run(self, incoming: AsyncIterator[bytes]) -> None:
        to_sdk, from_lines = trio.open_memory_channel[Message](_QUEUE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, from_lines, nursery.cancel_scope)
            async with to_sdk:
                async for line in incoming:
                    await self._held.room_for(len(line))
                    await self._take(line, to_sdk, nursery)
            if not self._host.is_loaded and not self._handshakes:
                # Nothing waits for the library, and its import would hold this window's seat for a second.
                nursery.cancel_scope.cancel()

    async def _serve(self, from_lines: trio.MemoryReceiveChannel[Message], session: trio.CancelScope) -> None:
        async with from_lines:
            sdk = await self._host.load()
            await sdk.serve(self._window, self._window_of, from_lines, self._write)
        # The library ends when its input does; nothing else here has anything left to wait for.
        session.cancel()

    # -- from the host -----------------------------------------------------------------------------------------

    async def _take(self, line: bytes, to_sdk: trio.MemorySendChannel[Message], nursery: trio.Nursery) -> None:
        if len(line) > MAX_REQUEST:
            await self._refuse_large(line)
            return
        try:
            message = _decoded(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await self._refuse(None, PARSE_ERROR, "This line is not JSON.")
            return
        if not isinstance(message, dict):
            await self._refuse(None, INVALID_REQUEST, "One JSON-RPC message a line, no batches.")
            return
        method, id = message.get("method"), message.get("id")
        if method is None:
            if self._own_answer(message):
                await to_sdk.send(message)
        elif not isinstance(method, str) or isinstance(id, bool | float) or not isinstance(id, str | int | None):
            await self._refuse(None, INVALID_REQUEST, "This is not a JSON-RPC request.")
        elif id is not None:
            self._held.take(id, len(line))
            if method not in ("initialize", static.DISCOVER) and envelope.is_claimed(message.get("params")):
                await self._begin_modern(message.get("params"), nursery)
            if method == "tools/call":
                self._note_conversation(message.get("params"))
                if self._needs_no_library(id, message.get("params")):
                    window = await self._window_of(_meta(message["params"]))
                    self._watch(window, nursery)
                    nursery.start_soon(self._run_call, id, message["params"], window)
                    return
            await self._request(id, method, message, to_sdk)
        elif self._handshaken or self._modern:
            self._notified(method, message, nursery)
            await to_sdk.send(message)

    async def _run_call(self, id: str | int, params: Message, window: Window) -> None:
        self._running.add(id)
        try:
            await self._calls.run(id, params, window)
        finally:
            self._running.discard(id)
            self._held.free(id)

    async def _refuse_large(self, line: bytes) -> None:
        """Answer a line that is too long to be taken apart."""
        try:
            head = _HEAD.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await self._refuse(None, PARSE_ERROR, "This line is not a JSON-RPC request.")
            return
        said = f"The request has {len(line)} bytes; one has at most {MAX_REQUEST}."
        if head.id is None:
            return  # an answer or a notification: nobody waits for a word about it
        if head.method == "tools/call":
            text = failure(ParlerError("text_too_long", said), Scribe())
            result = {"content": [{"type": "text", "text": f"{text}\n"}], "isError": True}
            await self._answer_call(head.id, msgspec.json.encode(result))
        else:
            await self._refuse(head.id, INVALID_REQUEST, said)

    async def _request(
        self, id: str | int, method: str, message: Message, to_sdk: trio.MemorySendChannel[Message]
    ) -> None:
        params = message.get("params")
        if method == static.DISCOVER:
            await self._discover(id, params)
        elif self._modern:
            if method in static.METHODS and envelope.is_whole(params):
                await self._answer(id, static.stamped(static.raw()[method], static.LISTED_STAMP))
            else:
                # `initialize` and an envelope with something missing are the library's to refuse.
                await to_sdk.send(message)
        elif method in static.METHODS and method != "initialize":
            await self._answer(id, static.raw()[method])
        elif method == "ping":
            await self._answer(id, b"{}")
        elif method == "initialize":
            self._handshaken = True
            if isinstance(params, dict):
                if _is_whole(params):
                    # From the table, at once: hosts give a server a second. The library hears of it as well.
                    self._greeted.add(id)
                    await self._answer(id, static.initialize_result(params["protocolVersion"]))
                else:
                    self._handshakes[id] = params.get("protocolVersion")
                await self._introduce(params.get("clientInfo"))
                capabilities = params.get("capabilities")
                self._has_roots = isinstance(capabilities, dict) and "roots" in capabilities
            await to_sdk.send(message)
        elif not self._handshaken:
            await self._refuse(id, INVALID_REQUEST, "initialize comes first.")
        else:
            await to_sdk.send(message)

    async def _discover(self, id: str | int, params: object) -> None:
        if self._host.era != "modern" or self._handshaken or not envelope.is_claimed(params):
            # Hosts that get this answer go on with the handshake era, in which we can reach them unasked.
            await self._refuse(id, METHOD_NOT_FOUND, "Method not found")
        elif envelope.is_whole(params):
            result = static.raw()[static.DISCOVER]
            await self._answer(id, static.stamped(result, static.LISTED_STAMP))
        else:
            asked = envelope.version(params)
            supported = {"supported": [envelope.VERSION], "requested": asked if isinstance(asked, str) else ""}
            await self._refuse(id, UNSUPPORTED_VERSION, "This revision is not served.", supported)

    async def _begin_modern(self, params: object, nursery: trio.Nursery) -> None:
        """The first request of the modern era decides that this connection is of it. A handshake before it, and the
        library refuses it."""
        if self._handshaken or self._modern:
            return
        self._modern = True
        await self._introduce(envelope.client_info(params))
        if self._hello.session_key:
            nursery.start_soon(self._knock)

    def _needs_no_library(self, id: str | int, params: object) -> bool:
        if self._modern:
            return envelope.is_whole(params) and self._calls.takes(id, params)
        # A client that has yet to name its roots is asked for them by way of the library.
        asks_roots = self._has_roots and self._window.needs_root
        return self._handshaken and not asks_roots and self._calls.takes(id, params)

    async def _introduce(self, client: object) -> None:
        """What the client says of itself wins over the `--host` of the file that started it, which may be another
        host's; without `--host` its name is the host's. Source: hosts spec."""
        name = client.get("name") if isinstance(client, dict) else None
        if not isinstance(name, str):
            return
        host = self._host.host_named(name)
        if host is None and not self._caller.host:
            host = slug(name, fallback="unknown")
        if host is not None:
            await self._host.engine.call("window.introduce", t.Introduce(host=host), self._caller)
        self._place_conversation()
        self._window.traits = self._traits

    def _place_conversation(self) -> None:
        """Which conversation this is, where the host tells by a variable of its own. A server that other windows share
        has the variables of the first one, so there nothing of them is believed."""
        traits, caller, hello = self._traits, self._caller, self._hello
        if traits.conversation_env:
            caller.conversation = hello.conversations.get(traits.conversation_env, "")[:128]
        if caller.conversation and traits.throwaway_with:
            words = self._host.words_of(hello.ppid)
            if all(any(word in words for word in group) for group in traits.throwaway_with):
                caller.conversation, caller.continues = "", True
        if traits.shares_servers and not traits.conversation_meta:
            caller.as_name = ""
            self._window.forget_key()

    def _note_conversation(self, params: object) -> None:
        """The first conversation of a process is its window's own, where calls name them."""
        caller = self._caller
        field = self._traits.conversation_meta
        named = _conversation(params, field) if field else ""
        if named and not caller.conversation and caller.agent is None:
            caller.conversation, caller.is_exact = named, True
            self._window.repeats(self._lost_of(named))

    def _watch(self, window: Window, nursery: trio.Nursery) -> None:
        """The first call after which the host's bell knows where to ring starts the watch of a conversation, where the
        person set one up."""
        caller = window.caller
        bell = self._host.bells.get(caller.host)
        if bell is not None and window not in self._watched and bell.address(caller, self._hello.cwd):
            self._watched.add(window)
            nursery.start_soon(watch, self._host.engine, caller, self._hello.cwd, bell)

    async def _window_of(self, meta: Message) -> Window:
        """The conversation that a call belongs to; one that was not seen before is connected."""
        field = self._traits.conversation_meta
        named = _conversation({"_meta": meta}, field) if field else ""
        if not named or named == self._caller.conversation:
            return self._window
        async with self._opening:
            known = self._further.get(named)
            if known is not None:
                # Last again: the one that is let go of when there are too many is the one that was used longest ago.
                self._further[named] = self._further.pop(named)
                return known
            if len(self._further) >= MAX_CONVERSATIONS:
                # Nobody keeps that many at work in one process.
                gone = self._further.pop(next(iter(self._further))).caller
                base = self._caller
                base.siblings.remove(gone)
                await self._host.engine.disconnect(gone)
            base = self._caller
            digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            caller = Caller(
                session=base.session,
                via=base.via,
                host=base.host,
                window=label(f"{base.window[:40]}.{digest}") if base.window else "",
                workspace=base.workspace,
                as_name=base.as_name,
                conversation=named,
                is_exact=True,
                parents=base.parents,
                peer=base.peer,
            )
            await self._host.engine.connect(caller)
            base.siblings.append(caller)
            window = self._further[named] = self._window_for(caller)
            return window

    def _notified(self, method: str, message: Message, nursery: trio.Nursery) -> None:
        params = message.get("params")
        if method == "notifications/cancelled" and isinstance(params, dict):
            request = params.get("requestId")
            if isinstance(request, str | int):
                self._calls.withdraw(request)
                if request not in self._running:
                    # One that runs here may hold an answer still, and frees itself.
                    self._held.free(request)
                for window in (self._window, *self._further.values()):
                    window.settled(request, written=False)
        elif method == "notifications/initialized" and self._hello.session_key:
            nursery.start_soon(self._knock)

    async def _knock(self) -> None:
        await trio.sleep(KNOCK_SECONDS)
        # Where calls name the conversation, the first of them says who knocks.
        if not self._traits.conversation_meta:
            await self._window.knock()

    def _own_answer(self, message: Message) -> bool:
        """Whether this answers a request of this connection; gives it the library's own id again."""
        id = message.get("id")
        if not isinstance(id, str) or not id.startswith(self._prefix):
            return False
        number = id.removeprefix(self._prefix)
        if not number.isascii() or not number.isdigit():
            return False
        message["id"] = int(number)
        if "error" not in message and not isinstance(message.get("result"), dict):
            # An answer that says nothing decides nothing, at once: the library would wait for a better one.
            message.pop("result", None)
            message["error"] = {"code": INVALID_REQUEST, "message": "The answer has no result."}
        return True

    # -- to the host -------------------------------------------------------------------------------------------

    async def _write(self, message: Message) -> None:
        """Pass on what the library says."""
        if "method" in message:
            await self._send(self._own_request(message))
            return
        id = message.get("id")
        if id in self._greeted:
            self._greeted.discard(id)
            self._held.free(id)
            return
        wanted = None if id is None else self._handshakes.pop(id, None)
        if id is not None and wanted is not None and "result" in message:
            await self._answer(id, static.initialize_result(wanted))
        else:
            await self._send(message)
        if id is not None:
            self._held.free(id)
            for window in (self._window, *self._further.values()):
                window.settled(id, written=True)

    def _own_request(self, message: Message) -> Message:
        if "id" in message:
            return {**message, "id": f"{self._prefix}{message['id']}"}
        params = message.get("params")
        if message["method"] == "notifications/cancelled" and isinstance(params, dict):
            return {**message, "params": {**params, "requestId": f"{self._prefix}{params.get('requestId')}"}}
        return message

    async def _answer(self, id: str | int, result: bytes) -> None:
        await self._say(b'{"jsonrpc":"2.0","id":' + msgspec.json.encode(id) + b',"result":' + result + b"}")
        self._held.free(id)

    async def _answer_call(self, id: str | int, result: bytes) -> None:
        await self._answer(id, static.stamped(result, static.RESULT_STAMP) if self._modern else result)

    async def _tell_progress(self, token: str | int, times: int) -> None:
        params = {"progressToken": token, "progress": times, "message": "waiting"}
        await self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    async def _refuse(self, id: str | int | None, code: int, message: str, data: object = None) -> None:
        error = {"code": code, "message": message, **({"data": data} if data is not None else {})}
        await self._send({"jsonrpc": "2.0", "id": id, "error": error})
        if id is not None:
            self._held.free(id)

    async def _send(self, message: Message) -> None:
        await self._say(msgspec.json.encode(message))


def _meta(params: object) -> Message:
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def _conversation(params: object, field: str) -> str:
    """The conversation that a call names, as its host's file says where; empty when it names none."""
    named = _meta(params).get(field)
    return named[:128] if isinstance(named, str) else ""


def _is_whole(params: dict[str, Any]) -> bool:
    """Whether the library will take this for a handshake; what lacks something is its to refuse."""
    client = params.get("clientInfo")
    return (
        isinstance(params.get("protocolVersion"), str)
        and isinstance(params.get("capabilities"), dict)
        and isinstance(client, dict)
        and isinstance(client.get("name"), str)
        and isinstance(client.get("version"), str)
    )


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
