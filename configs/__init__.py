"""The agent hosts: where each keeps its MCP configuration and what an entry looks like there.

Declarations and pure rendering. Nothing here needs a daemon, and nothing here writes.
"""
