"""What tests of windows and their agents share: a workspace, an agent's name, windows in a conversation.

Over `tests.support.engine`, whose parties make the calls.
"""

from __future__ import annotations

from typing import Any

from tests.support.engine import Party, Served

REPO = "/home/sam/shop"
"""A workspace."""


async def name_of(party: Party) -> str:
    return (await party.whoami()).name


async def talking(
    served: Served, name: str, conversation: str, *, workspace: str = REPO, host: str = "claude-code", **about: Any
) -> Party:
    """A window in which a conversation of its host goes on."""
    return await served.connect("mcp", window=name, host=host, workspace=workspace, conversation=conversation, **about)
