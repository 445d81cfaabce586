"""Asking the person at this host who may come in: a form whose one field takes the code that the joiner shows.

The approver's agent asks, a person answers, the engine decides. A form counts only with the code, which that agent
never saw: a form that came back empty, was closed or holds another code has decided nothing. Source: security spec A2.

Not here: how a host shows a form (`mcp_server.sdk`), who may decide (`parlerd.engine`). Invariant: no output of this
module, to the agent or to the form, holds the code; and one request has at most one form open in all windows of this
daemon.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
import trio

from mcp_server.fence import is_name
from mcp_server.port import EnginePort, Form
from parlerd.core.errors import Refused
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.operations.tools import AskApproval

FORM_SECONDS: Final = 110.0
"""How long a form stays open: the person has to look at another screen, and hosts give a call 120 s."""

_open_forms: Final[set[str]] = set()


async def ask(engine: EnginePort, caller: Caller, params: AskApproval, form: Form) -> t.Decided:
    """Ask about one request and carry out the answer.

    Raises `Refused`: `no_form` when this host cannot ask, `form_undecided` when nothing was decided, `busy` while
    another form about the same request is open, and what deciding itself refuses."""
    request, owner_decides = await engine.find_request(await _named(engine, caller, params), caller)
    meant = t.DecideJoin(agent=request.agent, room=request.room)
    if owner_decides:
        return await engine.decide_by_form(meant, caller, admit=True)
    command = _command(request)
    if not form.offered:
        raise Refused("no_form", tool_hint=f"Ask the person to run: {command}")
    if request.id in _open_forms:
        raise Refused("busy", "A form about this request is open already.", hint="Wait for the person to answer it.")
    _open_forms.add(request.id)
    try:
        code = None
        with trio.move_on_after(FORM_SECONDS):
            code = await form.ask_code(_message(request, command))
    finally:
        _open_forms.discard(request.id)
    undecided = Refused("form_undecided", tool_hint=f"Ask the person whether to try again, or to run: {command}")
    if code is None or not code.strip():
        raise undecided
    try:
        return await engine.decide_by_form(msgspec.structs.replace(meant, code=code.strip()), caller, admit=True)
    except Refused as error:
        if error.code == "code_mismatch":
            raise undecided from None
        raise


async def _named(engine: EnginePort, caller: Caller, params: AskApproval) -> t.DecideJoin:
    """The request that is meant: by name, or the only one there is."""
    if params.agent:
        return t.DecideJoin(agent=params.agent, room=params.room)
    listed = await engine.call("rooms.requests", t.SessionRequests(room=params.room), caller)
    assert isinstance(listed, t.RequestList)
    if not listed.requests:
        raise Refused(
            "no_such_request", "Nobody is knocking.", tool_hint="parler_rooms with action requests lists who is."
        )
    if len(listed.requests) > 1:
        candidates = [f"{request.name} at {request.room_name} ({request.agent})" for request in listed.requests]
        raise Refused("ambiguous_name", "More than one is knocking.", candidates=candidates)
    (only,) = listed.requests
    return t.DecideJoin(agent=only.agent, room=only.room)


def _command(request: t.Request) -> str:
    """What the person runs instead. Ids, so that nothing another party chose is pasted into a shell."""
    return f"parler session approve {_bare(request.agent)} --room {_bare(request.room)}"


def _message(request: t.Request, command: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(request.requested / 1000))
    # Some hosts show three lines and fold the rest away, so what to do and for whom comes first.
    return "\n".join(
        (
            f"To let {_bare(request.name)} into {_bare(request.room_name)}, type the code that its own window shows.",
            f"It says it is {_bare(request.name)} on {_bare(request.host)}; fingerprint {_bare(request.fingerprint)}.",
            f"It waits since {since}, home {_bare(request.home)}. Anything but the code decides nothing.",
            f"To refuse it for good, run: {command.replace('session approve', 'session deny', 1)}",
        )
    )


def _bare(text: str) -> str:
    """A name as it is; anything that could be more than a name is left out, since a form has no fences."""
    return text if text and is_name(text) else "(a name that cannot be shown)" if text else "(not said)"
