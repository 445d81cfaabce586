"""The one module that knows the MCP library: a window's requests in its types, our answers in its results.

    session (decoded JSON-RPC in and out) == serve() == mcp low-level Server --handlers--> Window

Importing it takes most of a second, so the daemon does that after it serves its socket (`session.McpHost.load`). Not
here: what a tool does (`window`), which answers need no library (`session`). Two private corners of the library are
kept in here: its stream types, and the notifications it writes for requests of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import mcp_types as types
import msgspec
import trio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from mcp_server import prompts, resources
from mcp_server.modern import FORM_SCHEMA, MAX_SUBSCRIPTIONS, InputForm, Streams, is_modern, offers_forms, typed_in
from mcp_server.window import Window
from parlerd import __version__
from parlerd.core.errors import ParlerError
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS

log = logging.getLogger("parlerd.mcp")

Context = ServerRequestContext[Any, Any]
Message = dict[str, Any]
Write = Callable[[Message], Awaitable[None]]
WindowOf = Callable[[Message], Awaitable[Window]]
"""The conversation that a call belongs to, by the call's `_meta`."""

ROOTS_SECONDS: Final = 1.0
"""How long a client may take to name its roots. Source: decision 10."""
_BUFFER: Final = 16


async def serve(
    window: Window, window_of: WindowOf, incoming: trio.MemoryReceiveChannel[Message], write: Write
) -> None:
    """Serve one connection until `incoming` ends. `window` is its first conversation, `window_of` finds that of a call;
    `write` takes what goes to the host, in order."""
    async with trio.open_nursery() as nursery:
        server = _Handlers(window, window_of, nursery).server()
        to_server, from_host = anyio.create_memory_object_stream[SessionMessage | Exception](_BUFFER)
        to_host, from_server = anyio.create_memory_object_stream[SessionMessage](0)
        nursery.start_soon(_pass_out, from_server, write)
        nursery.start_soon(_pass_in, incoming, to_server)
        options = server.create_initialization_options(NotificationOptions(tools_changed=True))
        await server.run(from_host, to_host, options)
        nursery.cancel_scope.cancel()


async def _pass_in(incoming: trio.MemoryReceiveChannel[Message], to_server: Any) -> None:
    async with to_server:
        async for message in incoming:
            try:
                parsed = types.jsonrpc_message_adapter.validate_python(message, by_name=False)
            except ValueError as error:
                # No JSON-RPC message: what has an id was answered by the session, the rest concerns nobody.
                log.debug("dropped a message that is not JSON-RPC: %s", type(error).__name__)
                continue
            await to_server.send(SessionMessage(parsed))


async def _pass_out(from_server: Any, write: Write) -> None:
    async with from_server:
        async for outgoing in from_server:
            await write(outgoing.message.model_dump(by_alias=True, mode="json", exclude_unset=True))


class _Handlers:
    """The library's callbacks for one window."""

    def __init__(self, window: Window, window_of: WindowOf, nursery: trio.Nursery) -> None:
        self._window = window
        self._window_of = window_of
        self._nursery = nursery
        self._subscribed: dict[str, RoomId | None] = {}
        self._following = False
        self._starting = trio.Lock()
        self._placed = False
        self._streams = Streams(window)

    def server(self) -> Server[Any]:
        server: Server[Any] = Server(
            "parler",
            version=__version__,
            title="Parler",
            on_call_tool=self.call_tool,
            on_get_prompt=self.get_prompt,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.subscribe,
            on_unsubscribe_resource=self.unsubscribe,
            on_subscriptions_listen=self._streams.listen,
        )
        # The default is a tracer; nothing here exports traces, and bodies have no place in them.
        server.middleware.clear()
        return server

    async def call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool. The tools are: {', '.join(TOOLS)}")
        assert ctx.request_id is not None
        await self._place(ctx)
        asked = InputForm(ctx, params, self._window.caller.session) if is_modern(ctx) else None
        form = asked or _HostForm(ctx)
        window = await self._window_of(dict(params.meta or {}))
        answer = await window.call_tool(ctx.request_id, params.name, params.arguments or {}, form)
        if asked is not None and asked.required is not None:
            return asked.required
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=answer.text)], is_error=answer.is_error
        )

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        try:
            text = prompts.get(params.name, params.arguments)
        except ParlerError as error:
            raise _rpc(error) from None
        content = types.TextContent(type="text", text=text)
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])

    async def read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        await self._place(ctx)
        uri = str(params.uri)
        try:
            text, mime = await self._window.read_resource(uri)
        except ParlerError as error:
            raise _rpc(error) from None
        except Exception as error:
            raise _internal("resources/read", error) from None
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, text=text, mime_type=mime)])

    # -- subscriptions -----------------------------------------------------------------------------------------

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        await self._place(ctx)
        uri = str(params.uri)
        try:
            room = await resources.room_id(self._window.engine, self._window.caller, uri)
        except ParlerError as error:
            raise _rpc(error) from None
        except Exception as error:
            raise _internal("resources/subscribe", error) from None
        if len(self._subscribed) >= MAX_SUBSCRIPTIONS and uri not in self._subscribed:
            raise _rpc(ParlerError("busy", "Too many subscriptions.", limit=MAX_SUBSCRIPTIONS))
        self._subscribed[uri] = None if room is None else RoomId(room)
        # One at a time: nobody is told of being subscribed before the rooms' heads are known.
        async with self._starting:
            if not self._following:
                try:
                    await self._nursery.start(self._follow, ctx)
                except ParlerError as error:
                    self._subscribed.pop(uri, None)
                    raise _rpc(error) from None
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._subscribed.pop(str(params.uri), None)
        await trio.lowlevel.checkpoint()
        return types.EmptyResult()

    async def _follow(self, ctx: Context, task_status: trio.TaskStatus[None]) -> None:
        """Tell the host which subscribed resources changed, as long as the connection lasts."""
        window = self._window
        try:
            async with window.changes() as changed:
                self._following = True
                task_status.started()
                async for item in changed:
                    assert isinstance(item, t.RoomChanged)
                    for uri, wanted in list(self._subscribed.items()):
                        if wanted is None or wanted == item.room:
                            await ctx.session.send_resource_updated(uri)
        except ParlerError as error:
            if not self._following:
                raise
            log.info("a subscription ended: %s", error.code)
        finally:
            self._following = False

    # -- where the window stands -------------------------------------------------------------------------------

    async def _place(self, ctx: Context) -> None:
        """Before the first call that takes an identity: the host's name and its first root, where nothing else says."""
        if self._placed or is_modern(ctx):
            return
        self._placed = True
        client = ctx.session.client_params
        if client is None or not self._window.needs_root or client.capabilities.roots is None:
            return
        with trio.move_on_after(ROOTS_SECONDS):
            try:
                listed = await ctx.session.send_request(types.ListRootsRequest(), types.ListRootsResult)
            except (MCPError, ValueError):
                return
            if listed.roots:
                await self._window.stand_in(str(listed.roots[0].uri))


class _HostForm:
    """The host's own form, for one call."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    @property
    def offered(self) -> bool:
        return offers_forms(self._ctx.session.client_capabilities)

    async def ask_code(self, message: str) -> str | None:
        """What the person typed."""
        try:
            answer = await self._ctx.session.elicit_form(message, FORM_SCHEMA, related_request_id=self._ctx.request_id)
        except (MCPError, ValueError) as error:
            log.info("the host did not show the form: %s", type(error).__name__)
            return None
        return typed_in(answer)


def _rpc(error: ParlerError) -> MCPError:
    """A coded error where the protocol has no error result. `data` is the body every surface shows."""
    code = types.INVALID_PARAMS if error.spec.action == "fix_request" else types.INTERNAL_ERROR
    body = {**msgspec.to_builtins(error.body()), "hint": error.tool_hint}
    return MCPError(code, f"{error.code}: {error.message} {error.tool_hint}", data={"error": body})


def _internal(where: str, error: Exception) -> MCPError:
    log.error("%s failed with %s", where, type(error).__name__)
    return _rpc(ParlerError("internal"))
