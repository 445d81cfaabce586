"""The streams of changes of the envelope era (revision 2026-07-28), in which the host opens what it wants to hear.

    subscriptions/listen -> acknowledged -> updated ... updated, until the host cancels it

Not here: subscriptions of the handshake era (`sdk`), forms (`forms`). Above: `sdk`. Below: the MCP library,
`resources`. Invariant: a stream names resources that the host itself named, and holds nothing of what is in them.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import mcp_types as types
import trio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY, ResourceUpdated, event_to_notification

from mcp_server import resources
from mcp_server.window import Window
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import RoomId
from parlerd.operations import types as t

RequestContext = ServerRequestContext[Any, Any]

MAX_STREAMS: Final = 16
"""Streams of one window open at once."""
MAX_SUBSCRIPTIONS: Final = 256
"""Resources that one stream, or one connection with a handshake, may name."""


class HostStreams:
    """The `subscriptions/listen` streams of one window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        # How many streams are open.
        self._count = 0

    async def listen(
        self, ctx: RequestContext, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one stream until the host cancels it or the connection ends. Changes that come faster than the host
        reads are told once."""
        uris = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        if self._count >= MAX_STREAMS or len(uris) > MAX_SUBSCRIPTIONS:
            raise MCPError(types.INTERNAL_ERROR, "busy: Too many subscriptions.")
        self._count += 1
        try:
            await self._serve(ctx, params.notifications, [uri for uri in uris if _is_ours(uri)])
        finally:
            self._count -= 1

    async def _serve(self, ctx: RequestContext, wanted: types.SubscriptionFilter, uris: list[str]) -> NoReturn:
        assert ctx.request_id is not None
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        # Tools change with an upgrade alone, after which the shim tells of them; so do prompts and the list of
        # resources, of which nobody is told.
        honoured = types.SubscriptionFilter(
            tools_list_changed=True if wanted.tools_list_changed else None, resource_subscriptions=uris or None
        )
        acknowledged = types.SubscriptionsAcknowledgedNotification(
            params=types.SubscriptionsAcknowledgedNotificationParams(notifications=honoured, _meta=meta)
        )
        changing = [uri for uri in uris if uri != resources.GUIDE]
        if not changing:
            # A health check listens as well, and must not become an agent: nothing on this path takes an identity.
            await ctx.session.send_notification(acknowledged, related_request_id=ctx.request_id)
            await trio.sleep_forever()
        window = self._window
        try:
            async with window.changes() as changed:
                await ctx.session.send_notification(acknowledged, related_request_id=ctx.request_id)
                watched = Watched(window, changing)
                await watched.resolve()
                async for item in changed:
                    assert isinstance(item, t.RoomChanged)
                    for uri in await watched.about(RoomId(item.room)):
                        event = event_to_notification(ResourceUpdated(uri), meta)
                        await ctx.session.send_notification(event, related_request_id=ctx.request_id)
        except ParlerError as error:
            if error.code != "draining":
                raise MCPError(types.INTERNAL_ERROR, f"{error.code}: {error.message}") from None
        # The daemon stops. Because the stream gets no answer, the shim opens it again at the next daemon.
        await trio.sleep_forever()


class Watched:
    """The resources of one stream, by the room each is about.

    A room that is not there, or not for this agent, is awaited in silence: whether it exists is not told.
    """

    def __init__(self, window: Window, uris: list[str]) -> None:
        self._window = window
        # The resources that change with any room; those whose room is not known (yet); and the room of each other one.
        self._all = [uri for uri in uris if uri == resources.ROOMS]
        self._unresolved = [uri for uri in uris if uri != resources.ROOMS]
        self._rooms: dict[str, RoomId] = {}

    async def resolve(self) -> None:
        """Look for the rooms that are not known yet."""
        for uri in list(self._unresolved):
            try:
                room = await resources.room_id(self._window.engine, self._window.caller, uri)
            except ParlerError:
                continue
            assert room is not None
            self._rooms[uri] = RoomId(room)
            self._unresolved.remove(uri)

    async def about(self, room: RoomId) -> list[str]:
        """The resources that changed with `room`."""
        if self._unresolved and room not in self._rooms.values():
            await self.resolve()
        return [*self._all, *(uri for uri, known in self._rooms.items() if known == room)]


def _is_ours(uri: str) -> bool:
    if uri in (resources.ROOMS, resources.GUIDE):
        return True
    try:
        resources.room_of(uri)
    except Refused:
        return False
    return True
