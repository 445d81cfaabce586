"""An agent host's side of one window: the official MCP library's client, over stdio, through the shim.

    demo -> AgentWindow -> mcp Client ==stdin/stdout==> shim ==> parlerd

With it the demo is to Parler what Claude Code or Codex is. Not here: what is said (`parlerd.cli.demo_story`). It is the
other side of everything else in this package and imports none of it but `heard`, which reads a text as a model does.
Importing it takes most of a second.
Invariant: all that a window was ever shown stands in `shown`, so that one can look for what it must not have seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import mcp_types as types
import trio
from mcp import Client, StdioServerParameters
from mcp.client.context import ClientRequestContext
from mcp.shared.exceptions import MCPError

from mcp_server.heard import Heard, hear
from parlerd import __version__

Answering = Callable[[str], Awaitable[str | None]]
"""A person at this host: shown a form's message, gives what they type into its code field; None closes the form."""

ANSWER_SECONDS: Final = 60.0
"""For one answer: beyond the longest wait that the demo asks for."""


class ToolError(Exception):
    """A tool answered with an error, which the window was shown as `heard`."""

    def __init__(self, heard: Heard) -> None:
        super().__init__(heard.said.partition("\n")[0])
        self.code = heard.error
        self.retryable = heard.is_retryable
        self.key = heard.retry_key
        """The idempotency key of a write that failed."""


class AgentWindow:
    """One window. `run` is its life; everything else may be called while it runs, also from several tasks at once."""

    def __init__(self, command: Sequence[str], *, name: str, directory: Path, person: Answering) -> None:
        # The library passes on HOME, PATH and a few other variables, as hosts do.
        self._parameters = StdioServerParameters(command=command[0], args=list(command[1:]), cwd=directory)
        self._name = name
        self._person = person
        self._client: Client | None = None
        self._closing = trio.Event()
        self.ended = trio.Event()
        self.shown: list[str] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Start the shim, shake hands, and stay until `close`. Raises what the library raises when it cannot start."""
        try:
            client = Client(
                self._parameters,
                elicitation_callback=self._on_form,
                client_info=types.Implementation(name=self._name, version=__version__),
                read_timeout_seconds=ANSWER_SECONDS,
            )
            async with client:
                self._client = client
                task_status.started()
                await self._closing.wait()
        finally:
            self.ended.set()

    def close(self) -> None:
        """Close the shim's stdin, as a host does that ends. `ended` is set when its process is gone."""
        self._closing.set()

    async def tools(self) -> list[str]:
        """The names of the tools that the host would show its model."""
        return [tool.name for tool in (await self._open().list_tools()).tools]

    async def call(self, tool: str, **arguments: Any) -> Heard:
        """Call a tool; what the text says that a model is shown. Raises `ToolError`."""
        result = await self._open().call_tool(tool, arguments)
        self.shown.append(result.model_dump_json())
        heard = hear("".join(block.text for block in result.content if isinstance(block, types.TextContent)))
        if result.is_error:
            raise ToolError(heard)
        return heard

    async def read(self, uri: str) -> str | None:
        """A resource as text; None when it is refused."""
        try:
            result = await self._open().read_resource(uri)
        except MCPError as error:
            self.shown.append(str(error))
            return None
        text = "".join(part.text for part in result.contents if isinstance(part, types.TextResourceContents))
        self.shown.append(text)
        return text

    def _open(self) -> Client:
        assert self._client is not None, "the window does not run"
        return self._client

    async def _on_form(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        self.shown.append(params.message)
        if not isinstance(params, types.ElicitRequestFormParams):
            return types.ErrorData(code=types.INVALID_REQUEST, message="Only forms are shown here.")
        typed = await self._person(params.message)
        if typed is None:
            return types.ElicitResult(action="cancel")
        (field,) = params.requested_schema["properties"]
        return types.ElicitResult(action="accept", content={field: typed})
