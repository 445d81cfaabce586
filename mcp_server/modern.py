"""What the modern era (revision 2026-07-28) does in its own way: forms inside answers, and streams of changes.

    tools/call -> input required (the form) -> the same tools/call with the answer
    subscriptions/listen -> acknowledged -> updated ... updated, until the host cancels it

The server asks the host nothing there. Not here: tools, and the handshake era (`sdk`). Above: `sdk`. Below: the MCP
library, `resources`. Invariants: a form is answered once, in the window that was asked, while it is open, and an empty
or other answer decides nothing; a stream names resources that the host itself named, and holds nothing of what is in
them.
"""

from __future__ import annotations

import secrets
from typing import Any, Final, NoReturn

import mcp_types as types
import trio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY, ResourceUpdated, event_to_notification

from mcp_server import envelope, resources
from mcp_server.tools.approve import FORM_SECONDS
from mcp_server.window import Window
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import RoomId
from parlerd.operations import types as t

Context = ServerRequestContext[Any, Any]

CODE: Final = "code"
FORM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {CODE: {"type": "string", "title": "Code", "description": "the 4 characters the joiner shows"}},
    "required": [CODE],
}
"""No default and no enum: a form that a machine can pass by accepting it is no question. Source: security spec A2."""
MAX_STREAMS: Final = 16
"""Streams of one window open at once."""
MAX_SUBSCRIPTIONS: Final = 256
"""Resources that one stream, or one connection with a handshake, may name."""

_open: Final[dict[str, tuple[str, str, float]]] = {}
"""Forms that wait for an answer: what each asks -> (its state, the connection that was asked, until when)."""


def is_modern(ctx: Context) -> bool:
    """Whether a request is of this era."""
    return ctx.protocol_version == envelope.VERSION


def offers_forms(capabilities: types.ClientCapabilities | None) -> bool:
    """Whether a host can show a form. An empty offer means forms; one that names only URLs does not."""
    offer = capabilities.elicitation if capabilities is not None else None
    return offer is not None and (offer.form is not None or offer.url is None)


def typed_in(answer: object) -> str | None:
    """What the person typed into the form; None when nothing was decided."""
    if not isinstance(answer, types.ElicitResult) or answer.action != "accept":
        return None
    typed = (answer.content or {}).get(CODE)
    return typed if isinstance(typed, str) else None


class InputForm:
    """The person at this host, for one call: asked in its answer, heard in its repetition."""

    def __init__(self, ctx: Context, params: types.CallToolRequestParams, session: str) -> None:
        self._capabilities = ctx.session.client_capabilities
        self._params = params
        self._session = session
        self._asked: tuple[str, str] | None = None

    @property
    def offered(self) -> bool:
        return offers_forms(self._capabilities)

    async def ask_code(self, message: str) -> str | None:
        """What was typed into the form about `message`, if this call brings it back; else the call is to be answered
        with `required`. Raises `Refused(busy)` while another window has that form open."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        for old in [each for each, (_, _, until) in _open.items() if until < now]:
            del _open[old]
        state, session, _ = _open.get(message, ("", self._session, 0.0))
        if session != self._session:
            raise Refused(
                "busy", "A form about this request is open already.", hint="Wait for the person to answer it."
            )
        if state and self._params.request_state == state:
            del _open[message]
            return typed_in((self._params.input_responses or {}).get(CODE))
        state = secrets.token_urlsafe(16)
        _open[message] = (state, self._session, now + FORM_SECONDS)
        self._asked = (message, state)
        return None

    @property
    def required(self) -> types.InputRequiredResult | None:
        """The answer that asks the person; None when there is nothing to ask."""
        if self._asked is None:
            return None
        message, state = self._asked
        form = types.ElicitRequestFormParams(message=message, requested_schema=FORM_SCHEMA)
        return types.InputRequiredResult(
            input_requests={CODE: types.ElicitRequest(params=form)},
            request_state=state,
        )


class Streams:
    """The `subscriptions/listen` streams of one window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._count = 0

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
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

    async def _serve(self, ctx: Context, wanted: types.SubscriptionFilter, uris: list[str]) -> NoReturn:
        assert ctx.request_id is not None
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        # The shim tells of other tools after an upgrade; prompts and the list of resources change with it alone.
        honoured = types.SubscriptionFilter(
            tools_list_changed=True if wanted.tools_list_changed else None, resource_subscriptions=uris or None
        )
        acknowledged = types.SubscriptionsAcknowledgedNotification(
            params=types.SubscriptionsAcknowledgedNotificationParams(notifications=honoured, _meta=meta)
        )
        changing = [uri for uri in uris if uri != resources.GUIDE]
        if not changing:
            # Nothing here takes an identity: a health check listens too.
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
        # The daemon stops. Without an answer the shim opens the stream again at the next one.
        await trio.sleep_forever()


class Watched:
    """The resources of one stream, by the room each is about.

    A room that is not there, or not for this agent, is awaited in silence: whether it exists is not told.
    """

    def __init__(self, window: Window, uris: list[str]) -> None:
        self._window = window
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
