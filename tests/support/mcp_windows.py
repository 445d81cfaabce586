"""Agent hosts: the official library's client in front of a real shim, which `parler mcp` becomes.

Not here: the daemon and the home (`processes`). A window is a context; leaving it closes the shim's stdin, as a host
does that ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
import trio
from mcp import ClientSession, StdioServerParameters
from mcp.client.context import ClientRequestContext
from mcp.client.stdio import stdio_client

from mcp_server.heard import Heard, hear
from tests.support.processes import PARLER, PATIENCE_S, Somebody

Form = Callable[[types.ElicitRequestParams], Awaitable[types.ElicitResult | types.ErrorData]]
"""A person at a form."""


class Agent:
    """One agent window of one host. `heard` is every text that its model was shown."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.heard: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> Heard:
        """What the answer to a tool call says, an error's included. Fails when no answer comes in time."""
        with trio.fail_after(2 * PATIENCE_S):
            result = await self.session.call_tool(tool, arguments)
        heard = heard_in(result)
        self.heard.append(heard.text)
        return heard

    async def insist(self, tool: str, **arguments: Any) -> Heard:
        """The same, made again exactly as it is while the answer is an error that says a retry helps."""
        while True:
            heard = await self.call(tool, **arguments)
            if not heard.error:
                return heard
            assert heard.is_retryable, heard

    async def refused(self, tool: str, **arguments: Any) -> Heard:
        """The error that a call is answered with: its code and a sentence."""
        heard = await self.call(tool, **arguments)
        assert re.match(r"[a-z_]+: \S.*\.\n", heard.said), heard
        assert heard.error, heard
        return heard


def heard_in(result: types.CallToolResult) -> Heard:
    """What a tool result says. It is one text block and nothing else, and an error is marked as one."""
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    assert result.structured_content is None
    assert block.text.endswith("\n")
    heard = hear(block.text)
    assert result.is_error == (heard.error != ""), heard
    return heard


def texts(heard: Heard) -> list[str]:
    """The texts of the messages of a page, out of their fences. Each stands nowhere else in the answer."""
    outside = heard.said.splitlines()
    for text in heard.texts:
        leaked = [line for line in text.splitlines() if line and line in outside]
        assert leaked == [], f"text of another agent stands outside a fence: {heard.text}"
    return heard.texts


@asynccontextmanager
async def window(
    somebody: Somebody,
    host: str,
    workspace: str = "work",
    *,
    form: Form | None = None,
    variables: Mapping[str, str] | None = None,
    client: types.Implementation | None = None,
) -> AsyncIterator[Agent]:
    """A window of `host` in a workspace of `somebody`. Without `form`, this host offers no forms. `client` is what the
    host says of itself."""
    place = somebody.user / workspace
    place.mkdir(exist_ok=True)
    parameters = StdioServerParameters(
        command=PARLER[0],
        args=[*PARLER[1:], "mcp", "--host", host],
        env=somebody.environment(**(variables or {})),
        cwd=str(place),
    )

    async def asked(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        assert form is not None
        return await form(params)

    async with (
        stdio_client(parameters) as (read, write),
        ClientSession(read, write, elicitation_callback=None if form is None else asked, client_info=client) as session,
    ):
        with trio.fail_after(PATIENCE_S):
            await session.initialize()
        yield Agent(session)
