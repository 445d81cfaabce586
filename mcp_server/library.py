"""The MCP library of one connection, which runs from the first request that only the library answers.

    session --prompts, resources, subscriptions--> Library --(loads) sdk.serve--> host

Most windows never ask for one: handshakes, lists, tool calls and forms are answered without the library, whose import
takes a second of the interpreter and 40 MB of the daemon's memory. The library has to know of the handshake, so the
handshake is kept for it. Not here: the library's own types (`sdk`), and who answers which request (`session`). Above:
`session`. Invariant: what the library hears is a handshake and then requests, in the order in which the host sent them,
whether they come before or after the library is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from mcp_server.window import Window

Message = dict[str, Any]
Write = Callable[[Message], Awaitable[None]]
Place = Callable[[], Awaitable[None]]
"""Learn from the host where the window stands, if nothing else says so."""

METHODS: Final = frozenset(
    {"prompts/get", "resources/read", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen"}
)
"""The requests that the library answers."""
_QUEUE: Final = 16


class Sdk(Protocol):
    """The module `mcp_server.sdk`."""

    async def serve(
        self, window: Window, place: Place, incoming: trio.MemoryReceiveChannel[Message], write: Write
    ) -> None: ...


class Library:
    """`load` gives the module, `window` is the connection's first conversation, and `write` takes what goes to the
    host."""

    def __init__(self, load: Callable[[], Awaitable[Sdk]], window: Window, place: Place, write: Write) -> None:
        self._load = load
        self._window = window
        self._place = place
        self._write = write
        # The handshake that was answered from the table, and the host's word that it took the answer. The library
        # answers the handshake too, which is not for the host.
        self._greeting: Message | None = None
        self._initialized: Message | None = None
        # Leads to the library once it was needed.
        self._input: trio.MemorySendChannel[Message] | None = None
        self._is_loaded = False
        self._ended = trio.Event()

    def greeted(self, handshake: Message) -> None:
        """The host was answered a handshake. Once the library runs, a further one is none of its business."""
        if self._input is None:
            self._greeting = handshake

    async def notified(self, message: Message) -> None:
        """The host told something. Before a first request, the library misses nothing but the handshake's end."""
        if self._input is not None:
            await self._input.send(message)
        elif message.get("method") == "notifications/initialized":
            self._initialized = message

    async def ask(self, message: Message, nursery: trio.Nursery) -> None:
        """Have a request answered. The first one starts the library in `nursery`."""
        if self._input is None:
            self._input, incoming = trio.open_memory_channel[Message](_QUEUE)
            nursery.start_soon(self._serve, incoming)
            for earlier in (self._greeting, self._initialized):
                if earlier is not None:
                    await self._input.send(earlier)
        await self._input.send(message)

    async def end(self) -> None:
        """Nothing more comes from the host: wait until the library has said its last. One that is still being imported
        is not waited for, because the import would hold this window's seat for a second."""
        if self._input is not None:
            self._input.close()
            if self._is_loaded:
                await self._ended.wait()

    async def _serve(self, incoming: trio.MemoryReceiveChannel[Message]) -> None:
        async with incoming:
            sdk = await self._load()
            self._is_loaded = True
            await sdk.serve(self._window, self._place, incoming, self._pass_out)
        self._ended.set()

    async def _pass_out(self, message: Message) -> None:
        if self._greeting is not None and message.get("id") == self._greeting["id"]:
            self._greeting = None
        else:
            await self._write(message)
