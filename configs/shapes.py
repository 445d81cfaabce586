"""The shapes that entries take in more than one host, in the key order that those hosts write themselves."""

from __future__ import annotations

from typing import Any

from configs.model import Shim


def bare(shim: Shim) -> dict[str, Any]:
    """`command` and `args`, as most hosts read it."""
    return {"command": shim.python, "args": shim.arguments}


def stdio(shim: Shim) -> dict[str, Any]:
    """The same with its transport named."""
    return {"type": "stdio", **bare(shim)}
