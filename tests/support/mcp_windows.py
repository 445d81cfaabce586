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

from tests.support.processes import PARLER, PATIENCE_S, Somebody

Content = dict[str, Any]
Form = Callable[[types.ElicitRequestParams], Awaitable[types.ElicitResult | types.ErrorData]]
"""A person at a form."""

_FENCED = re.compile(r"\[peer text (\w+)[^\]\n]*\]\n(.*?)\n\[end \1", re.DOTALL)


class Agent:
    """One agent window of one host. `heard` is every text that its model was shown."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.heard: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> Content:
        """Structured content of a tool call, an error's included. Fails when no answer comes in time."""
        with trio.fail_after(2 * PATIENCE_S):
            result = await self.session.call_tool(tool, arguments)
        assert isinstance(result.content[0], types.TextContent)
        content: Content | None = result.structured_content
        assert content is not None
        self.heard.append(result.content[0].text)
        assert result.is_error == ("error" in content)
        return content

    async def insist(self, tool: str, **arguments: Any) -> Content:
        """The same, made again exactly as it is while the answer is an error that says a retry helps."""
        while True:
            content = await self.call(tool, **arguments)
            if "error" not in content:
                return content
            assert content["error"]["retryable"], content

    async def refused(self, tool: str, **arguments: Any) -> Content:
        """The error that a call is answered with. Its code and what to do are in the text too."""
        content = await self.call(tool, **arguments)
        error: Content = content["error"]
        assert error["code"] in self.heard[-1]
        assert error["message"] in self.heard[-1]
        return error


def texts(content: Content) -> list[str]:
    """The texts of the messages of a page, out of their fences."""
    found = []
    for message in content["messages"]:
        fenced = _FENCED.match(message["text"])
        assert fenced is not None, f"text of another agent stands outside a fence: {message}"
        found.append(fenced[2])
    return found


@asynccontextmanager
async def window(
    somebody: Somebody,
    host: str,
    workspace: str = "work",
    *,
    form: Form | None = None,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[Agent]:
    """A window of `host` in a workspace of `somebody`. Without `form`, this host offers no forms."""
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
        ClientSession(read, write, elicitation_callback=None if form is None else asked) as session,
    ):
        with trio.fail_after(PATIENCE_S):
            await session.initialize()
        yield Agent(session)
