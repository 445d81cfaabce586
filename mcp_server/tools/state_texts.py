"""How results about a room's state and its actions read.

A number, true, false and null stand as they are; every other value is somebody's text, in a fence, as JSON. Keys,
scopes and names of agents are labels, and stand outside.

Not here: messages and everything else (`results`). Above: `results`. Below: `mcp_server.fence`. Invariants: those of
`results`; a value that is longer than a page is continued by offset until it is whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from mcp_server.budget import PAGE, RESERVE, Budget
from mcp_server.fence import Fencer, is_name, reveal
from parlerd.core.model import ACTIONS, SHARED, is_moment
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

GLIMPSE: Final = 200
"""Characters of a value that are shown among others."""
_MARKED: Final = 40
"""What a fence takes around one text."""
_HELD: Final = 200
"""What is said around the values of an answer."""
_WHY_NOT: Final = {
    "needs_params": "that depends on its params",
    "action_cooldown": "it cools down",
    "precondition_failed": "its condition is not true",
    "expression_failed": "its condition comes to no value",
    "expression_budget": "its condition takes too long",
    "scope_denied": "it writes another agent's scope",
}


class Writer(Protocol):
    """What writes the results of a conversation (`results.Scribe`)."""

    fencer: Fencer
    budget: Budget


# -- values ------------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _fenced(lead: str, value: Any, writer: Writer) -> str:
    """A value after what leads to it, as much of it as shows what it is."""
    if _is_plain(value):
        return f"{lead} {_json(value)}"
    text = _json(value)
    more = "" if len(text) <= GLIMPSE else f"{text[:GLIMPSE]}..."
    return f"{lead}\n{writer.fencer.wrap(more or text)}"


def _whole(lead: str, value: Any, writer: Writer, offset: int) -> list[str]:
    """A value after what leads to it, from where the call said on, and how to read on."""
    if _is_plain(value):
        return [f"{lead} {_json(value)}"]
    text = _json(value)
    start = min(offset, len(text))
    room = max(writer.budget.page - RESERVE, writer.budget.page // 2) - writer.budget.size(lead) - _MARKED
    revealed = reveal(text, start, max(room, 0) + 2, partial(writer.budget.prefix, room=room))
    is_part = start or revealed.end < len(text)
    head = f"characters {start} to {revealed.end} of {len(text)}" if is_part else ""
    fence = writer.fencer.fence((revealed.text,))
    lines = [lead, fence.part(head, revealed), fence.end]
    if revealed.end < len(text):
        lines.append(f"To read on: the same call with offset {revealed.end}.")
    return lines


def _listed(lines: Iterable[str], writer: Writer) -> tuple[list[str], int]:
    """Lines of others' text under one fence, as many as a page holds, and how many were left out."""
    texts = [reveal(line) for line in lines]
    left = min(PAGE, max(writer.budget.page - RESERVE, writer.budget.page // 2)) - _HELD
    shown: list[str] = []
    for each in texts:
        left -= max(writer.budget.size(each.text), len(each.text.encode("utf-8", "surrogatepass"))) + 1
        if shown and left < 0:
            break
        shown.append(each.text)
    return [writer.fencer.wrap("\n".join(shown))] if shown else [], len(texts) - len(shown)


def _glimpse(value: Any) -> str:
    text = _json(value)
    return text if len(text) <= GLIMPSE else f"{text[:GLIMPSE]}... (get it to read all)"


def _plain(name: str) -> str:
    return name if is_name(name) else "(a name that cannot be shown)"


def _place(scope: str, key: str) -> str:
    """A key as it is named in a sentence."""
    if scope == ACTIONS:
        return f"the action {_plain(key)}"
    return _plain(key) if scope == SHARED else f"{_plain(scope)}.{_plain(key)}"


def _at(moment: int) -> str:
    # A relay may have sent it, so it may be none.
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment / 1000)) if is_moment(moment) else "once"


def _writes(count: int | msgspec.UnsetType) -> str:
    return "1 more write" if count == 1 else f"{count} more writes"


def _life(entry: t.StateEntry) -> list[str]:
    """What is said of an entry that comes or goes."""
    said = []
    timer = entry.timer
    if isinstance(timer, t.TimerShown):
        what = "gone" if timer.effect == "delete" else "there"
        if isinstance(timer.at, int):
            said.append(f"It is {what} at {_at(timer.at)}.")
        else:
            said.append(f"It is {what} after {_writes(timer.ticks_left)} of {_plain(str(timer.tick_on))}.")
    if entry.dormant is True:
        said.append("It is not there now.")
    return said


# -- state -------------------------------------------------------------------------------------------------


def read(result: t.StateRead, writer: Writer, offset: int) -> str:
    lead = f"{_place(result.scope, result.key)}, version {result.version}, by {_plain(result.updated_by)}:"
    if isinstance(result.error, str):
        return f"{lead} no value now.\n{writer.fencer.wrap(result.error)}"
    return "\n".join([*_whole(lead, result.value, writer, offset), *_life(result)])


def listed(result: t.StateListed, writer: Writer, offset: int) -> str:
    where = writer.fencer.name(result.name or result.room)
    if not result.entries:
        return f"There is nothing in the state of {where} yet."
    lines, left = _listed((_line(each) for each in result.entries), writer)
    if left or result.more:
        lines.append("There are more: name a scope, or get a key.")
    return "\n".join([f"The state of {where} (key vVERSION by WHO: value):", *lines])


def _line(entry: t.StateEntry) -> str:
    """An entry as one line, which stands in a fence."""
    worth = entry.error if isinstance(entry.error, str) else _glimpse(entry.value)
    view = f" = {entry.expr}" if isinstance(entry.expr, str) else ""
    return f"{entry.scope}.{entry.key} v{entry.version} by {entry.updated_by}{view}: {worth}"


def written(result: t.StateWritten, writer: Writer, offset: int) -> str:
    again = " before, and not again" if result.replayed else ""
    if result.deleted is True:
        return f"Deleted{again}: {_place(result.scope, result.key)}, which was at version {result.version}."
    lead = f"{_place(result.scope, result.key)} is at version {result.version} now{again}"
    if result.scope == ACTIONS:
        return " ".join([f"The timer of {_place(result.scope, result.key)} begins again.", *_life(result)])
    if isinstance(result.error, str):
        return f"{lead}; it comes to no value:\n{writer.fencer.wrap(result.error)}"
    # Whoever wrote it knows what it is, but for what was counted.
    worth = f": {_json(result.value)}" if _is_plain(result.value) and result.value is not None else "."
    life = [*_life(result), *_seen(result.warning)]
    return " ".join([f"{lead}{worth}{'.' if life and worth != '.' else ''}", *life])


def _seen(warning: str | msgspec.UnsetType) -> list[str]:
    """Who else sees what was written. A relay says nothing there: whoever keeps the link to it does."""
    return [warning] if isinstance(warning, str) else []


def batch(result: t.BatchWritten, writer: Writer, offset: int) -> str:
    again = " before, and not again" if result.replayed else ""
    lines, left = _listed((_after(each) for each in result.writes), writer)
    more = [f"{left} more are not listed."] if left else []
    return "\n".join([f"{_keys(len(result.writes))} written{again}:", *lines, *more, *_seen(result.warning)])


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"


def _after(entry: t.StateEntry) -> str:
    return f"{entry.scope}.{entry.key} is deleted" if entry.deleted is True else _line(entry)


def history(result: t.StateHistory, writer: Writer, offset: int) -> str:
    lines, left = _listed((_version(each) for each in result.versions), writer)
    more = ["There are older versions."] if left or result.more else []
    return "\n".join([f"Versions of {_place(result.scope, result.key)}, the newest first:", *lines, *more])


def _version(each: t.StateVersion) -> str:
    if each.deleted:
        worth = "ran out" if each.expired else "deleted"
    else:
        worth = "erased" if each.erased else _glimpse(each.expr if isinstance(each.expr, str) else each.value)
    return f"v{each.version} by {each.updated_by} at {_at(each.updated_at)} over {each.via}: {worth}"


def hidden(result: t.ScopeShown, writer: Writer, offset: int) -> str:
    whose = f"The scope {_plain(result.scope)}" if result.scope else "Each agent's scope"
    return f"{whose} is read by {'its agent alone' if result.hidden else 'everybody in the room'} now."


def evaluated(result: t.Evaluated, writer: Writer, offset: int) -> str:
    return "\n".join(_whole("It is worth:", result.value, writer, offset))


def ended(result: t.WaitEnded, writer: Writer, offset: int) -> str:
    seconds = f"after {result.elapsed_ms / 1000:.0f} s"
    if result.triggered:
        lines = [f"It is true, {seconds}."]
    elif isinstance(result.deadlock_suspected, dict):
        waits = (f"{name} waits for {'; '.join(each)}" for name, each in result.deadlock_suspected.items())
        lines = ["Everybody here waits, and nothing is due that could change anything: one of you has to act."]
        lines += _listed(waits, writer)[0]
    else:
        lines = [_fenced(f"It did not become true, {seconds}; it is worth:", result.value, writer)]
        if isinstance(result.condition_error, dict):
            lines.append(f"It comes to no value:\n{writer.fencer.wrap(str(result.condition_error.get('reason', '')))}")
    for name in ("state", "agents", "messages", "actions"):
        shown = getattr(result, name)
        if isinstance(shown, dict):
            lines += _whole(f"{name}:", shown, writer, offset)
    if not result.triggered and not isinstance(result.deadlock_suspected, dict):
        lines.append("Wait again with the same call, or look at the state.")
    if isinstance(result.cut, list):
        lines.append(f"Too much for one answer: {', '.join(map(_plain, result.cut))}.")
    return "\n".join(lines)


# -- actions -----------------------------------------------------------------------------------------------


def actions(result: t.ActionsListed, writer: Writer, offset: int) -> str:
    where = writer.fencer.name(result.name or result.room)
    if not result.actions:
        return f"There is no action in {where} that you could invoke."
    lines, left = _listed((_action(each) for each in result.actions), writer)
    if left or result.more:
        lines.append("There are more: name one by id.")
    if len(result.actions) == 1:
        lines += _whole("All of it:", result.actions[0], writer, offset)
    lines.append('Invoke one: parler_act {"action":"invoke","id":"...","params":{}}')
    return "\n".join([f"Actions of {where}:", *lines])


def _action(action: t.ActionShown) -> str:
    """An action as one line, which stands in a fence."""
    said = [action.id, "available" if action.available else f"not available: {_why_not(action)}"]
    if isinstance(action.params, dict):
        said.append(f"params {', '.join(_param(name, each) for name, each in action.params.items())}")
    if isinstance(action.description, str):
        said.append(action.description)
    return "; ".join(said)


def _param(name: str, about: Any) -> str:
    values = about.get("enum")
    shown = "|".join(map(str, values[:10])) if isinstance(values, list) else about.get("type", "any")
    return f"{name}:{shown}{'' if about.get('required') else '?'}"


def _why_not(action: t.ActionShown) -> str:
    if isinstance(action.available_at, int):
        return f"until {_at(action.available_at)}"
    if isinstance(action.ticks_left, int):
        return f"for {_writes(action.ticks_left)}"
    return _reason(action.reason)


def registered(result: t.ActionRegistered, writer: Writer, offset: int) -> str:
    again = " before, and not again" if result.replayed else ""
    lines = [f"The action {_plain(result.id)} is registered{again}, version {result.version}."]
    if result.dormant is True:
        lines.append("It is not there now: what has to be true for it is not, or its timer runs.")
    if isinstance(result.contested, list):
        lines.append(f"These actions write one of its keys too: {', '.join(map(_plain, result.contested))}.")
    return "\n".join([*lines, *_seen(result.warning)])


def unregistered(result: t.ActionDeleted, writer: Writer, offset: int) -> str:
    return f"Deleted: the action {_plain(result.id)}, which was at version {result.version}."


def invoked(result: t.ActionInvoked, writer: Writer, offset: int) -> str:
    again = " before, and not again" if result.replayed else ""
    writes, left = _listed((_after(each) for each in result.writes), writer)
    lines = [f"Invoked{again}: {_plain(result.action)}, {_keys(len(result.writes))} written.", *writes]
    if left:
        lines.append(f"{left} more are not listed.")
    if result.result is not msgspec.UNSET:
        lines += _whole("It gave:", result.result, writer, offset)
    if isinstance(result.available_at, int):
        lines.append(f"It can be invoked again at {_at(result.available_at)}.")
    elif isinstance(result.ticks_left, int):
        lines.append(f"It can be invoked again after {_writes(result.ticks_left)}.")
    return "\n".join([*lines, *_seen(result.warning)])


# -- who is there ------------------------------------------------------------------------------------------


def enabled(result: t.AgentEnabled, writer: Writer, offset: int) -> str:
    if not isinstance(result.enabled, str):
        return " ".join(["You are there always.", *_seen(result.warning)])
    state = "is not true now, so you can read and wait, and nothing else" if result.disabled else "is true now"
    lead = f"You are there while this is true; it {state}."
    return "\n".join([lead, writer.fencer.wrap(result.enabled), *_seen(result.warning)])


def module(result: t.ModuleRegistered, writer: Writer, offset: int) -> str:
    again = " before, and not again" if result.replayed else ""
    absent = " It is not there now." if result.dormant is True else ""
    lead = f"The module {_plain(result.id)} is registered{again}, version {result.version}.{absent}"
    return " ".join([lead, *_seen(result.warning)])


def modules(result: t.ModulesListed, writer: Writer, offset: int) -> str:
    where = writer.fencer.name(result.name or result.room)
    if not result.modules:
        return f"There is no module in {where}."
    lines, left = _listed((_module(each) for each in result.modules), writer)
    more = [f"{left} more are not listed."] if left else []
    return "\n".join([f"Modules of {where}:", *lines, *more])


def _module(each: t.ModuleShown) -> str:
    """A module as one line, which stands in a fence."""
    there = "not there now" if each.dormant is True else "there"
    condition = f"; while {each.enabled}" if isinstance(each.enabled, str) else ""
    return f"{each.id}; {each.role}; of {each.registered_by}; {there}{condition}"


def no_module(result: t.ModuleDeleted, writer: Writer, offset: int) -> str:
    return f"Deleted: the module {_plain(result.id)}."


# -- what may be done --------------------------------------------------------------------------------------


def affordances(result: t.Affordances, writer: Writer, offset: int) -> str:
    where = writer.fencer.name(result.name or result.room)
    may = [call for each in result.affordances if each.allowed and (call := _call(each.operation))]
    by_command = [call for each in result.affordances if each.allowed and (call := _command(each.operation))]
    not_now = [
        f"{call} ({each.reason})" for each in result.affordances if not each.allowed and (call := _call(each.operation))
    ]
    lines = [f"You are {_plain(result.you)} in {where}. You may: {', '.join(may) or 'nothing'}."]
    if by_command:
        lines.append(f"Your user may, in a terminal: {', '.join(by_command)}.")
    if not_now:
        lines.append(f"Not: {', '.join(not_now)}.")
    if isinstance(result.actions, list) and result.actions:
        lines += _listed((_available(each) for each in result.actions), writer)[0]
    lines += [f"Next: {_step(each)}" for each in result.next]
    return "\n".join([*lines, *([result.notice] if result.notice else [])])


def _available(action: t.ActionAffordance) -> str:
    return f"action {action.id}: {'available' if action.available else f'not available: {_reason(action.reason)}'}"


def _reason(code: Any) -> str:
    return _WHY_NOT.get(str(code), str(code))


def _call(operation: str) -> str:
    """An operation as the tool and the verb by which a model does it; empty where it is a command alone."""
    known = OPERATIONS.get(operation)
    if known is None or known.tool is None:
        return ""
    return f"{known.tool.tool}{f' {known.tool.verb}' if known.tool.verb else ''}"


def _command(operation: str) -> str:
    """The command of an operation that no tool does; empty for any other."""
    known = OPERATIONS.get(operation)
    return "" if known is None or known.tool is not None else known.command


def _step(step: t.NextStep) -> str:
    known = OPERATIONS.get(step.operation)
    if known is None or known.tool is None:
        return "parler_approve asks your user: somebody knocks."
    named = {"action": known.tool.verb} if known.tool.verb else {}
    id, wait = step.params.get("id"), step.params.get("wait_ms")
    if isinstance(id, str) and is_name(id):
        named["id"] = id
    waits = {"wait_secs": wait // 1000} if isinstance(wait, int) else {}
    return f"{known.tool.tool} {json.dumps({**named, **waits}, separators=(',', ':'))} ({_WHYS[step.why]})"


_WHYS: Final = {
    "offer": "the turn is offered to you",
    "claim_ends": "your claim ends soon",
    "unread": "there is something that you have not read",
    "knock": "somebody knocks",
    "open_work": "there is open work",
    "wait": "nothing waits for you",
}

TEXTS: Final[dict[type[t.Result], Callable[[Any, Writer, int], str]]] = {
    t.StateRead: read,
    t.StateListed: listed,
    t.StateWritten: written,
    t.BatchWritten: batch,
    t.StateHistory: history,
    t.ScopeShown: hidden,
    t.Evaluated: evaluated,
    t.WaitEnded: ended,
    t.ActionsListed: actions,
    t.ActionRegistered: registered,
    t.ActionDeleted: unregistered,
    t.ActionInvoked: invoked,
    t.Affordances: affordances,
    t.AgentEnabled: enabled,
    t.ModuleRegistered: module,
    t.ModulesListed: modules,
    t.ModuleDeleted: no_module,
}
