"""The usual way to write a local MCP server: the MCP library, a process per window. Its one tool does nothing."""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("usual")


@server.tool()
def say(text: str) -> str:
    """Say something."""
    return text


if __name__ == "__main__":
    server.run()
