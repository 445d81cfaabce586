"""Callers as the doors make them: one call for each way in, and no connection behind it."""

from __future__ import annotations

from typing import Any, Final

from parlerd.core.model import PrincipalId, Via
from parlerd.engine import authority
from parlerd.engine.authority import Authority
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.readers import ReaderSession

PERSON: Final = PrincipalId("A" + "P" * 55)
"""Whose home it is, where no key ring is involved."""


def authority_of(via: Via, as_name: str = "", principal: PrincipalId = PERSON) -> Authority:
    """What the doors of this machine let a caller do; over HTTP what an agent may."""
    match via:
        case "mcp":
            return authority.of_window(principal)
        case "cli":
            return authority.of_command(principal, names_agent=bool(as_name))
        case "hook":
            return authority.of_hook(principal)
        case "http":
            return Authority(principal, frozenset({"agent"}))
        case "link":
            return authority.of_link(principal)


def caller_of(
    via: Via, *, session: str = "s", as_name: str = "", principal: PrincipalId = PERSON, **about: Any
) -> Caller:
    """A caller; `about` are further facts, such as `window` and `host`."""
    may = authority_of(via, as_name, principal)
    facts = Facts(**{"session": session, "via": via, "authority": may, "as_name": as_name, **about})
    return Caller(facts, reader=ReaderSession(acknowledges="next_call" if via == "mcp" else "commit"))
