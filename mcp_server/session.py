"""The MCP sessions that the daemon runs: one for each connected shim, over lines of JSON-RPC.

    ipc (lines) <-> Session --static answers, handshake order--> host
                        |--tools/call--> Calls ------------> Window --> engine
                        |--prompts, resources--> Library ----^
                        `--answers to requests of ours--> Asking

What a client says of itself decides which host it is, for hosts read each other's files (`conversations`).

Not here: the MCP library (`library`, which loads `sdk` for the first request that only it answers) and what tools do
(`window`). Above: `parlerd.daemon`, which hands `McpHost` to `parlerd.ipc`. Invariants: what stands in the static table
is answered with its bytes, whether the library is loaded or not; each request has one way, through this module or
through the library; an error here ends this connection and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, cast

import msgspec
import trio

from mcp_server import envelope, library, static
from mcp_server.asking import Asking
from mcp_server.calls import Calls, Held, fault_of
from mcp_server.conversations import Conversations, Shared
from mcp_server.era import Era
from mcp_server.forms import AnswerForm, Form, HostForm
from mcp_server.library import Library, Sdk
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Scribe
from mcp_server.window import Window
from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.groups import unwrapped
from parlerd.settings import Era as EraSetting
from parlerd.wire.codec import uncollected
from parlerd.wire.messages import Hello

log = logging.getLogger("parlerd.mcp")

Say = Callable[[bytes], Awaitable[None]]
"""Send one line to the host. It waits while too much is on its way there."""

Message = dict[str, Any]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
UNSUPPORTED_VERSION: Final = -32022
KNOCK_SECONDS: Final = 1.0
"""A window that stays this long after its handshake is no health check: it comes in by the start or with the key that
it came with."""
ROOTS_SECONDS: Final = 1.0
"""How long a client may take to name its roots. Source: decision 10."""
MAX_REQUEST: Final = 1024 * 1024
"""Bytes of one request: a message of the largest size, with each character escaped, fits. Taken apart it may be tens of
times as much, and the loop waits meanwhile."""


class _Head(msgspec.Struct):
    """What of a request is looked at before it is taken apart."""

    id: str | int | None = None
    method: str | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)


class McpHost:
    """Serves windows; an instance is the `StdioHost` of `parlerd.ipc`.

    `shared` is what its sessions share. `era` is what a host is offered that asks: `server/discover` is answered in the
    modern one only. Either is served to whom speaks it.
    """

    def __init__(self, shared: Shared, era: EraSetting = "legacy") -> None:
        self.shared = shared
        self.era = era
        # The module that knows the MCP library, once somebody needed it, and the lock of whoever loads it.
        self._sdk: Sdk | None = None
        self._loading = trio.Lock()

    @property
    def is_loaded(self) -> bool:
        """Whether the MCP library is there."""
        return self._sdk is not None

    async def load(self) -> Sdk:
        """Import the MCP library, in a thread, once for all windows. Who asked for what it answers waits for it."""
        async with self._loading:
            if self._sdk is None:
                # A window that ends meanwhile does not wait: the thread goes on, and the next who asks has the module.
                module = await trio.to_thread.run_sync(
                    importlib.import_module, "mcp_server.sdk", abandon_on_cancel=True
                )
                self._sdk = cast(Sdk, module)
                # The library stays for good: collecting it again and again would be a pause in the middle of a wake.
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
            reason = unwrapped(group, first_of_several=True)
            place = "".join(traceback.format_tb(reason.__traceback__))
            log.error("a session failed with %s\n%s", type(reason).__name__, place)
        finally:
            await session.end()


class _Session:
    """One connection."""

    def __init__(self, host: McpHost, caller: Caller, hello: Hello, say: Say) -> None:
        self._host = host
        self._caller = caller
        # Writes one line to the host.
        self._say = say
        # What was settled by the first request: the era, and of the handshake era what the client can do.
        self._era = Era.UNDECIDED
        self._capabilities: Mapping[str, Any] = {}
        # Whether the client was asked for its roots, which happens once.
        self._was_placed = False
        # The conversations of this connection, and the calls, requests and questions that are under way.
        self._windows = Conversations(host.shared, caller, hello)
        self._calls = Calls(self._answer_call, self._tell_progress)
        self._held = Held()
        self._asking = Asking(caller.facts.session, self._send)
        self._library = Library(host.load, self._windows.own, self._place, self._write)

    async def end(self) -> None:
        """The connection ended."""
        await self._windows.end()

    async def run(self, incoming: AsyncIterator[bytes]) -> None:
        async with trio.open_nursery() as nursery:
            async for line in incoming:
                await self._held.room_for(len(line))
                await self._take(line, nursery)
            await self._library.end()
            # Nobody is there to hear an answer.
            nursery.cancel_scope.cancel()

    # -- from the host -----------------------------------------------------------------------------------------

    async def _take(self, line: bytes, nursery: trio.Nursery) -> None:
        if len(line) > MAX_REQUEST:
            await self._refuse_large(line)
            return
        try:
            message: object = uncollected(msgspec.json.decode, line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await self._refuse(None, PARSE_ERROR, "This line is not JSON.")
            return
        if not isinstance(message, dict):
            await self._refuse(None, INVALID_REQUEST, "One JSON-RPC message a line, no batches.")
            return
        method, id = message.get("method"), message.get("id")
        if method is None:
            self._asking.answered(message)
        elif not isinstance(method, str) or isinstance(id, bool | float) or not isinstance(id, str | int | None):
            await self._refuse(None, INVALID_REQUEST, "This is not a JSON-RPC request.")
        elif id is not None:
            self._held.take(id, len(line))
            await self._request(id, method, message, nursery)
        elif self._era is not Era.UNDECIDED:
            self._notified(method, message, nursery)
            await self._library.notified(message)

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
            await self._answer_call(head.id, msgspec.json.encode(result), static.RESULT_STAMP)
        else:
            await self._refuse(head.id, INVALID_REQUEST, said)

    async def _request(
        self,
        id: str | int,
        method: str,
        message: Message,
        nursery: trio.Nursery,
    ) -> None:
        """Answer a request, or have it answered. What each era does with it stands in the table of `era`."""
        params = message.get("params")
        if method == static.DISCOVER:
            await self._discover(id, params)
            return
        if method != "initialize" and self._era is Era.UNDECIDED and envelope.is_claimed(params):
            await self._begin_envelopes(params, nursery)
        if self._era is Era.ENVELOPES:
            if not envelope.is_whole(params) or method == "initialize":
                # The library refuses a handshake here, and says what an envelope lacks.
                await self._pass_on(id, message, nursery)
            elif method in static.METHODS:
                await self._answer(id, static.stamped(static.raw()[method], static.LISTED_STAMP))
            else:
                await self._work(id, method, message, nursery)
        elif method == "initialize":
            await self._greet(id, params, message)
        elif method in static.METHODS:
            await self._answer(id, static.raw()[method])
        elif method == "ping":
            await self._answer(id, b"{}")
        elif self._era is Era.UNDECIDED:
            await self._refuse(id, INVALID_REQUEST, "initialize comes first.")
        else:
            await self._work(id, method, message, nursery)

    async def _work(
        self,
        id: str | int,
        method: str,
        message: Message,
        nursery: trio.Nursery,
    ) -> None:
        """Have a request answered that takes an identity or may wait: a tool call here, others by the library."""
        if method != "tools/call":
            if method in library.METHODS or not isinstance(message.get("params"), dict | None):
                await self._pass_on(id, message, nursery)
            else:
                await self._refuse(id, METHOD_NOT_FOUND, "Method not found", method)
            return
        params = message.get("params")
        if fault := fault_of(params):
            await self._refuse(id, INVALID_PARAMS, fault)
            return
        assert isinstance(params, dict)
        window = await self._windows.of_call(params)
        self._windows.watch(window, nursery)
        nursery.start_soon(self._call, id, params, window)

    async def _pass_on(self, id: str | int, message: Message, nursery: trio.Nursery) -> None:
        """Have the library answer a request. Parameters that are no object it would drop without an answer."""
        if isinstance(message.get("params"), dict | None):
            await self._library.ask(message, nursery)
        else:
            await self._refuse(id, INVALID_PARAMS, "Invalid request parameters")

    async def _call(self, id: str | int, params: Message, window: Window) -> None:
        try:
            await self._place()
            await self._calls.run(id, params, window, self._form(params))
        finally:
            self._held.free(id)

    def _form(self, params: Message) -> Form:
        """The person at this host, for one call."""
        forms, session = self._host.shared.forms, self._caller.facts.session
        if self._era is Era.ENVELOPES:
            return AnswerForm(forms, params, envelope.capabilities(params), session)
        return HostForm(forms, self._asking, self._capabilities, session)

    # -- how a connection begins -------------------------------------------------------------------------------

    async def _greet(self, id: str | int, params: object, message: Message) -> None:
        """Answer a handshake from the table, at once, because hosts give a server a second."""
        if not isinstance(params, dict) or not _is_whole(params):
            await self._refuse(id, INVALID_PARAMS, "Invalid request parameters")
            return
        self._era = Era.HANDSHAKE
        self._capabilities = params["capabilities"]
        await self._windows.introduced(params["clientInfo"])
        self._library.greeted(message)
        await self._answer(id, static.initialize_result(params["protocolVersion"]))

    async def _discover(self, id: str | int, params: object) -> None:
        if self._host.era != "modern" or self._era is Era.HANDSHAKE or not envelope.is_claimed(params):
            # Hosts that get this answer go on with the handshake era, in which we can reach them unasked.
            await self._refuse(id, METHOD_NOT_FOUND, "Method not found")
        elif envelope.is_whole(params):
            result = static.raw()[static.DISCOVER]
            await self._answer(id, static.stamped(result, static.LISTED_STAMP))
        else:
            asked = envelope.version(params)
            supported = {"supported": [envelope.VERSION], "requested": asked if isinstance(asked, str) else ""}
            await self._refuse(id, UNSUPPORTED_VERSION, "This revision is not served.", supported)

    async def _begin_envelopes(self, params: object, nursery: trio.Nursery) -> None:
        self._era = Era.ENVELOPES
        await self._windows.introduced(envelope.client_info(params))
        nursery.start_soon(self._knock)

    async def _place(self) -> None:
        """Learn where the window stands from the first root of its client, before anything that takes an identity, if
        nothing else says so. In the envelope era a server cannot ask."""
        window = self._windows.own
        if self._was_placed or self._era is Era.ENVELOPES:
            return
        self._was_placed = True
        if not window.needs_root or not isinstance(self._capabilities.get("roots"), dict):
            return
        with trio.move_on_after(ROOTS_SECONDS):
            listed = await self._asking.ask("roots/list")
            roots = listed.get("roots") if listed is not None else None
            first = roots[0] if isinstance(roots, list) and roots else None
            uri = first.get("uri") if isinstance(first, dict) else None
            if isinstance(uri, str):
                await window.stand_in(uri)

    async def _knock(self) -> None:
        await trio.sleep(KNOCK_SECONDS)
        await self._windows.knock()

    def _notified(self, method: str, message: Message, nursery: trio.Nursery) -> None:
        params = message.get("params")
        if method == "notifications/cancelled" and isinstance(params, dict):
            request = params.get("requestId")
            if isinstance(request, str | int):
                if not self._calls.withdraw(request):
                    # A call that runs here frees itself, because its answer may still be on the way.
                    self._held.free(request)
                self._windows.settled(request, written=False)
        elif method == "notifications/initialized":
            nursery.start_soon(self._knock)

    # -- to the host -------------------------------------------------------------------------------------------

    async def _write(self, message: Message) -> None:
        """Pass on what the library says."""
        await self._send(message)
        id = message.get("id")
        if id is not None:
            self._held.free(id)

    async def _answer(self, id: str | int, result: bytes) -> None:
        await self._say(b'{"jsonrpc":"2.0","id":' + msgspec.json.encode(id) + b',"result":' + result + b"}")
        self._held.free(id)

    async def _answer_call(self, id: str | int, result: bytes, stamp: str) -> None:
        await self._answer(id, static.stamped(result, stamp) if self._era is Era.ENVELOPES else result)

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


def _is_whole(params: dict[str, Any]) -> bool:
    """Whether the library will take this for a handshake; the session refuses what lacks something, as the library
    would."""
    client = params.get("clientInfo")
    return (
        isinstance(params.get("protocolVersion"), str)
        and isinstance(params.get("capabilities"), dict)
        and isinstance(client, dict)
        and isinstance(client.get("name"), str)
        and isinstance(client.get("version"), str)
    )
