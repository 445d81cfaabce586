"""Asking the person at this host who may come in, or write to an agent directly: a form whose one field takes the code
that the other side shows.

The approver's agent asks, a person answers, the engine decides. A form counts only with the code, which that agent
never saw: a form that came back empty, was closed or holds another code has decided nothing. Source: security spec A2.

Not here: how a host shows a form, and that one request has one form open at a time (`mcp_server.forms`); who may decide
(`parlerd.engine`). Invariant: no output of this module, to the agent or to the form, holds the code.
"""

from __future__ import annotations

import re
import time
from typing import Final

import msgspec

from mcp_server.fence import is_name
from mcp_server.forms import Form
from mcp_server.tools.results import approve_call
from parlerd.core.errors import Refused
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t

MAX_NAMED: Final = 5
"""Requests that are named when more than one is meant."""
_TYPED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@#/-]{0,63}\Z")
"""A label that begins like a word: no option, no comment, and nothing that a shell would expand."""


async def ask(engine: EngineFace, caller: Caller, params: t.AskApproval, form: Form) -> t.Decided:
    """Ask about one request and carry out the answer.

    Raises `Refused`: `no_form` when this host cannot ask, `form_undecided` when nothing was decided, `busy` while
    another form about the same request is open, and what deciding itself refuses."""
    try:
        found = await engine.call("window.find_request", await _named(engine, caller, params), caller)
    except Refused as error:
        if error.code != "ambiguous_name":
            raise
        raise await _which(engine, caller, params) from None
    assert isinstance(found, t.FoundRequest)
    request = found.request
    meant = t.DecideByForm(agent=request.agent, room=request.room)
    if found.owner_decides:
        return await _decide(engine, caller, meant)
    command = _command(request)
    if not form.offered:
        raise Refused("no_form", tool_hint=f"Ask the person to run: {command}")
    code = await form.ask_code(request.id, _message(request, command))
    undecided = Refused("form_undecided", tool_hint=f"Ask the person whether to try again, or to run: {command}")
    if code is None or not code.strip():
        raise undecided
    try:
        return await _decide(engine, caller, msgspec.structs.replace(meant, join_code=code.strip()))
    except Refused as error:
        if error.code == "code_mismatch":
            said = "That is not the code that the joiner shows, so nothing was decided."
            raise Refused(
                "form_undecided", said, tool_hint=f"Ask whether to try again: {approve_call(request)}"
            ) from None
        raise


async def _decide(engine: EngineFace, caller: Caller, params: t.DecideByForm) -> t.Decided:
    decided = await engine.call("window.decide", params, caller)
    assert isinstance(decided, t.Decided)
    return decided


async def _named(engine: EngineFace, caller: Caller, params: t.AskApproval) -> t.FindRequest:
    """The request that is meant: by name, or the only one there is."""
    if params.agent:
        return t.FindRequest(agent=params.agent, room=params.room)
    listed = await engine.call("rooms.requests", t.SessionRequests(room=params.room), caller)
    assert isinstance(listed, t.RequestList)
    if not listed.requests:
        raise Refused(
            "no_such_request", "Nobody is knocking.", tool_hint="parler_rooms with action requests lists who is."
        )
    if len(listed.requests) > 1:
        raise Refused("ambiguous_name")
    (only,) = listed.requests
    return t.FindRequest(agent=only.agent, room=only.room)


async def _which(engine: EngineFace, caller: Caller, params: t.AskApproval) -> Refused:
    """More than one request is meant: the calls that mean one each."""
    listed = await engine.call("rooms.requests", t.SessionRequests(room=params.room), caller)
    assert isinstance(listed, t.RequestList)
    meant = [each for each in listed.requests if params.agent in ("", each.agent, each.name)]
    calls = [approve_call(each) for each in meant[:MAX_NAMED]]
    more = f" (and {len(meant) - MAX_NAMED} more)" if len(meant) > MAX_NAMED else ""
    return Refused("ambiguous_name", f"{len(meant)} knock{more}.", tool_hint=" or ".join(calls))


def _command(request: t.RequestInfo) -> str:
    """What the person runs instead. A name that a shell or the command could take for something else is left out for
    the id behind it."""
    who = request.name if _TYPED.match(request.name) else _bare(request.agent)
    where = request.room_name if _TYPED.match(request.room_name) else _bare(request.room)
    return f"parler session approve {who} --room {where}"


def _message(request: t.RequestInfo, command: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(request.requested / 1000))
    # Some hosts show three lines and fold the rest away, so what to do and for whom comes first.
    wants = f"let {_bare(request.name)} into {_bare(request.room_name)}"
    if request.direct_to:
        wants = f"let {_bare(request.name)} write to {_bare(request.direct_to)}"
    return "\n".join(
        (
            f"To {wants}, type the code that its own window shows.",
            f"It says it is {_bare(request.name)} on {_bare(request.host)}; fingerprint {_bare(request.fingerprint)}.",
            f"It has waited since {since}, home {_bare(request.home)}. Anything but the code decides nothing.",
            f"To refuse this request, run: {command.replace('session approve', 'session deny', 1)}",
        )
    )


def _bare(text: str) -> str:
    """A name as it is; anything that could be more than a name is left out, since a form has no fences."""
    return text if text and is_name(text) else "(a name that cannot be shown)" if text else "(not said)"
