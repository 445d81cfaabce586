"""What an MCP session needs of whoever can show its person a form, and of the way to its host: faces without code.

`mcp_server.sdk` is the real host side. What a session needs of the engine is the face of every surface
(`parlerd.engine.face`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Say = Callable[[bytes], Awaitable[None]]
"""Send one line to the host. It waits while too much is on its way there."""


class Form(Protocol):
    """The person at this host, as far as the host can ask them."""

    @property
    def offered(self) -> bool:
        """Whether the host can show a form."""
        ...

    async def ask_code(self, message: str) -> str | None:
        """Show `message` with one required field for a code; what was typed, or None when nothing was decided."""
        ...
