"""The one module that knows the MCP library: a window's requests in its types, our answers in its results.

    session (decoded JSON-RPC in and out) == serve() == mcp low-level Server --handlers--> Window

It serves prompts, resources and subscriptions. Importing the MCP library takes a second and 40 MB, so the daemon does
that for the first request of these kinds (`library`). Not here: tool calls and lists, which need no library (`calls`,
`session`), and requests of ours to the host (`asking`): the library makes none.
"""

from __future__ import annotations

import logging
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
from mcp_server.library import Message, Place, Write
from mcp_server.modern import MAX_SUBSCRIPTIONS, HostStreams
from mcp_server.window import Window
from parlerd import __version__
from parlerd.core.errors import ParlerError
from parlerd.core.model import RoomId
from parlerd.operations import types as t

log = logging.getLogger("parlerd.mcp")

RequestContext = ServerRequestContext[Any, Any]
_BUFFER: Final = 16


async def serve(window: Window, place: Place, incoming: trio.MemoryReceiveChannel[Message], write: Write) -> None:
    """Serve one connection until `incoming` ends. `window` is its first conversation; `place` is called before anything
    that takes an identity; `write` takes what goes to the host, in order."""
    async with trio.open_nursery() as nursery:
        server = _Handlers(window, place, nursery).server()
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
                # A notification that the library cannot read. Nobody waits for a word about it.
                log.debug("dropped a message that is not JSON-RPC: %s", type(error).__name__)
                continue
            await to_server.send(SessionMessage(parsed))


async def _pass_out(from_server: Any, write: Write) -> None:
    async with from_server:
        async for outgoing in from_server:
            await write(outgoing.message.model_dump(by_alias=True, mode="json", exclude_unset=True))


class _Handlers:
    """The library's callbacks for one window."""

    def __init__(self, window: Window, place: Place, nursery: trio.Nursery) -> None:
        self._window = window
        self._place = place
        self._nursery = nursery
        # The resources that the host subscribed to, each with the room it is about; None stands for every room.
        self._subscribed: dict[str, RoomId | None] = {}
        # Whether a task follows the changes, and the lock under which the first subscription starts it.
        self._following = False
        self._starting = trio.Lock()
        # The streams of the envelope era.
        self._streams = HostStreams(window)

    def server(self) -> Server[Any]:
        server: Server[Any] = Server(
            "parler",
            version=__version__,
            title="Parler",
            on_get_prompt=self.get_prompt,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.subscribe,
            on_unsubscribe_resource=self.unsubscribe,
            on_subscriptions_listen=self._streams.listen,
        )
        # By default the library traces requests. Nothing here exports traces, and bodies have no place in them.
        server.middleware.clear()
        return server

    async def get_prompt(self, ctx: RequestContext, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        try:
            text = prompts.get(params.name, params.arguments)
        except ParlerError as error:
            raise _rpc(error) from None
        content = types.TextContent(type="text", text=text)
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])

    async def read_resource(
        self, ctx: RequestContext, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        await self._place()
        uri = str(params.uri)
        try:
            text, mime = await self._window.read_resource(uri)
        except ParlerError as error:
            raise _rpc(error) from None
        except Exception as error:
            raise _internal("resources/read", error) from None
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, text=text, mime_type=mime)])

    # -- subscriptions -----------------------------------------------------------------------------------------

    async def subscribe(self, ctx: RequestContext, params: types.SubscribeRequestParams) -> types.EmptyResult:
        await self._place()
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
        # Under the lock, so that no host is told that it is subscribed before the heads of the rooms are known.
        async with self._starting:
            if not self._following:
                try:
                    await self._nursery.start(self._follow, ctx)
                except ParlerError as error:
                    self._subscribed.pop(uri, None)
                    raise _rpc(error) from None
        return types.EmptyResult()

    async def unsubscribe(self, ctx: RequestContext, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._subscribed.pop(str(params.uri), None)
        await trio.lowlevel.checkpoint()
        return types.EmptyResult()

    async def _follow(self, ctx: RequestContext, task_status: trio.TaskStatus[None]) -> None:
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


def _rpc(error: ParlerError) -> MCPError:
    """A coded error where the protocol has no error result. `data` is the body every surface shows."""
    code = types.INVALID_PARAMS if error.spec.action == "fix_request" else types.INTERNAL_ERROR
    body = {**msgspec.to_builtins(error.body()), "hint": error.tool_hint}
    return MCPError(code, f"{error.code}: {error.message} {error.tool_hint}", data={"error": body})


def _internal(where: str, error: Exception) -> MCPError:
    log.error("%s failed with %s", where, type(error).__name__)
    return _rpc(ParlerError("internal"))
