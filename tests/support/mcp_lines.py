"""An agent host at the far end of a session: it writes lines of JSON-RPC and reads what comes back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import trio
import trio.testing

import mcp_server.sdk  # noqa: F401 - loaded here, because a clock that jumps while a thread imports makes that slow
from configs.hosts import HOSTS
from mcp_server.conversations import Shared
from mcp_server.forms import Forms
from mcp_server.heard import Heard, hear
from mcp_server.ringing import NO_BELLS, Bell
from mcp_server.session import McpHost
from mcp_server.sighting import Lookouts
from mcp_server.window import LONGEST
from parlerd.core.model import Millis
from parlerd.engine.callers import Caller
from parlerd.operations.traits import HostTraits
from parlerd.settings import Era
from parlerd.wire.messages import Hello
from tests.support.fake_mcp_engine import FakeMcpEngine, caller, hello

Json = dict[str, Any]
FORMS: Json = {"elicitation": {}}
_META = "io.modelcontextprotocol/"
ENVELOPE: Json = {
    _META + "protocolVersion": "2026-07-28",
    _META + "clientCapabilities": {},
    _META + "clientInfo": {"name": "test-host", "version": "1"},
}
FORM_ENVELOPE: Json = {**ENVELOPE, _META + "clientCapabilities": FORMS}


class HostEnd:
    """What the host does on one connection."""

    def __init__(
        self,
        engine: FakeMcpEngine,
        caller: Caller,
        send: trio.MemorySendChannel[bytes],
        receive: trio.MemoryReceiveChannel[bytes],
        server: McpHost,
    ) -> None:
        self.server = server
        self.engine = engine
        self.caller = caller
        self.channel = send
        self._receive = receive
        self._id = 0
        self.aside: list[Json] = []

    async def say(self, message: Json | bytes) -> None:
        """Write a line."""
        await self.channel.send(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def hear(self) -> Json:
        """The next line."""
        message: Json = json.loads(await self._receive.receive())
        return message

    async def ask(self, method: str, params: Json | None = None) -> int:
        """Send a request; gives its id."""
        self._id += 1
        await self.say({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        return self._id

    async def tell(self, method: str, params: Json | None = None) -> None:
        """Send a notification."""
        await self.say({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    async def answer_to(self, id: int) -> Json:
        """The answer to a request; what else comes before it is put aside."""
        while True:
            message = await self.hear()
            if message.get("id") == id and "method" not in message:
                return message
            self.aside.append(message)

    async def get(self, method: str, params: Json | None = None) -> Json:
        """The whole answer to a request made now."""
        return await self.answer_to(await self.ask(method, params))

    async def call(self, tool: str, **arguments: Any) -> Json:
        """The result of a tool call."""
        answer = await self.get("tools/call", {"name": tool, "arguments": arguments})
        result: Json = answer["result"]
        return result

    async def begin(
        self, capabilities: Json | None = None, version: str = "2025-11-25", client: Json | None = None
    ) -> Json:
        """The handshake, in which the host says of itself what `client` holds; gives the result of `initialize`."""
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": client or {"name": "test-host", "version": "1"},
        }
        answer = await self.get("initialize", params)
        await self.tell("notifications/initialized")
        result: Json = answer["result"]
        return result


def text_of(result: Json) -> str:
    """The text block of a tool result."""
    text: str = result["content"][0]["text"]
    return text


TRAITS: Final[Mapping[str, HostTraits]] = {host.id: host.traits for host in HOSTS}
"""What the daemon passes on."""


def heard_in(result: Json) -> Heard:
    """What a reader takes out of a tool result, which is one text block and nothing else."""
    assert set(result) - {"resultType", "_meta"} == {"content", "isError"}
    (block,) = result["content"]
    assert set(block) == {"type", "text"}
    assert block["text"].endswith("\n")
    return hear(block["text"])


@asynccontextmanager
async def hosted(
    engine: FakeMcpEngine,
    first: Hello | None = None,
    who: Caller | None = None,
    bells: Mapping[str, Bell] = NO_BELLS,
    era: Era = "legacy",
    wait_max_ms: Millis = LONGEST,
    traits: Mapping[str, HostTraits] = TRAITS,
    words: Sequence[str] = (),
    forms: Forms | None = None,
    is_loaded: bool = True,
    lookouts: Lookouts | None = None,
) -> AsyncIterator[HostEnd]:
    """A session, with the MCP library loaded by another window, and the host's end of it. Leaving closes stdin and
    waits for the session."""
    shared = Shared(
        engine,
        bells=bells,
        wait_max_ms=wait_max_ms,
        traits=traits,
        forms=forms or Forms(),
        lookouts=lookouts,
        words_of=lambda pid: words if pid else (),
    )
    host = McpHost(shared, era)
    if is_loaded:
        await host.load()
    who = who or caller()
    send, incoming = trio.open_memory_channel[bytes](16)
    outgoing, receive = trio.open_memory_channel[bytes](16)
    async with trio.open_nursery() as nursery:

        async def say(line: bytes) -> None:
            # As the door does it: a line for a host that is gone goes nowhere.
            with suppress(trio.BrokenResourceError):
                await outgoing.send(line)

        async def serve() -> None:
            async with incoming, outgoing:
                await host(first or hello(), who, incoming, say)

        nursery.start_soon(serve)
        async with send, receive:
            yield HostEnd(engine, who, send, receive, host)


def run(test: Callable[[FakeMcpEngine], Awaitable[None]]) -> None:
    """Run an asynchronous test in virtual time."""

    async def main() -> None:
        await test(FakeMcpEngine())

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
