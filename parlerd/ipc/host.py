"""What the local door needs of whoever serves windows: a face, and no code.

The daemon passes the MCP session in. So this package imports neither the session nor the MCP library, and tests pass in
small fakes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from parlerd.engine.callers import Caller
from parlerd.wire.messages import Hello

Say = Callable[[bytes], Awaitable[None]]
"""Send one line to the host of a window. The call waits while too many bytes wait to be sent."""
StdioHost = Callable[[Hello, Caller, AsyncIterator[bytes], Say], Awaitable[None]]
"""Serve one window: the lines of its host come in, and lines for it go out. Returning ends the connection; when the
incoming lines end, the host has closed its stdin or the shim is gone."""
