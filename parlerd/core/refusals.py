"""Refusals whose sentence follows from their code and their details alone.

What a home refuses about the state of a room crosses a link as a code and details: no sentence of another party is ever
shown as ours. Whoever hears the refusal makes the same sentence of it here. A detail of another home may be anything,
so a sentence repeats only what has the form that it should have.

Not here: the other refusals, whose sentences are written where they are raised. Above: the facets of coordination, and
the uplink. Below: the errors. Invariant: `refusal` raises for no details.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from parlerd.core.errors import ERRORS, Refused
from parlerd.core.model import is_label

MAX_DETAILS: Final = 16
"""Details of a refusal of another home that are kept."""
_DETAIL: Final = re.compile(r"[a-z_]{1,32}\Z")


def refusal(code: str, details: Mapping[str, Any]) -> Refused:
    """A refusal with a code of the error table, and with the sentence of its details where there is one."""
    write = _SENTENCES.get(code)
    refused = Refused(code, None if write is None else write(details))
    # Not as keywords: a detail may have the name of a parameter.
    refused.details = dict(details)
    return refused


def heard(code: str, details: Mapping[str, Any]) -> Refused:
    """A refusal that another home told. A code that this version does not know is `relay_refused`; details whose names
    are none of ours are left out."""
    kept = {name: value for name, value in details.items() if _DETAIL.match(name)}
    known = code if code in ERRORS else "relay_refused"
    return refusal(known, dict(list(kept.items())[:MAX_DETAILS]))


def _name(details: Mapping[str, Any], name: str) -> str:
    """A detail that is a label; empty for anything else."""
    value = details.get(name)
    return value if isinstance(value, str) and is_label(value) else ""


def _number(details: Mapping[str, Any], name: str) -> int | None:
    value = details.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _version_conflict(details: Mapping[str, Any]) -> str | None:
    key, current = _name(details, "key"), details.get("current")
    if not key:
        return None
    version = _number(current, "version") if isinstance(current, dict) else None
    if version is None:
        return f"There is no key {key}, which counts as version 0."
    return f"The key {key} is at version {version}."


def _no_such_key(details: Mapping[str, Any]) -> str | None:
    key, near = _name(details, "key"), _name(details, "near")
    if not key:
        return None
    return f"There is no key {key}" + (f"; did you mean {near}?" if near else ".")


def _scope_denied(details: Mapping[str, Any]) -> str | None:
    if read := _name(details, "read_scope"):
        return f"Only {read} reads the scope {read}."
    scope = _name(details, "write_scope")
    return (
        f"The scope {scope} is another agent's: everybody reads it, and only that agent writes it." if scope else None
    )


def _wrong_type(details: Mapping[str, Any]) -> str | None:
    act, found = _name(details, "act"), _name(details, "is")
    done = {"increment": "incremented", "merge": "merged", "append": "appended to"}.get(act)
    if not (done and found):
        return None
    value = f"{_ARTICLES.get(found, '')}{found}, which cannot be {done}."
    key = _name(details, "key")
    return f"The key {key} holds {value}" if key else f"There is {value}"


def _invalid_param(details: Mapping[str, Any]) -> str | None:
    """Of a parameter of an action."""
    param, problem = _name(details, "param"), details.get("problem")
    sentence = _PROBLEMS.get(problem) if isinstance(problem, str) else None
    return None if not param or sentence is None else sentence.format(param)


def _no_such_action(details: Mapping[str, Any]) -> str | None:
    action, near = _name(details, "action"), _name(details, "near")
    if not action:
        return None
    return f"There is no action {action}" + (f"; did you mean {near}?" if near else ".")


def _action_owned(details: Mapping[str, Any]) -> str | None:
    owner = _name(details, "owner")
    return f"This action belongs to {owner}." if owner else None


def _action_cooldown(details: Mapping[str, Any]) -> str | None:
    ticks = _number(details, "ticks_left")
    if ticks is None:
        return None
    return (
        f"This action was invoked just now; it is there again after {ticks} more {'write' if ticks == 1 else 'writes'}."
    )


_PROBLEMS: Final = {
    "missing": "The parameter {} is missing.",
    "type": "The parameter {} has another type.",
    "value": "The parameter {} has none of the values that it may have.",
    "unknown": "The action has no parameter {}.",
}
_ARTICLES: Final = {"boolean": "a ", "number": "a ", "string": "a ", "list": "a ", "object": "an "}
_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "version_conflict": _version_conflict,
    "no_such_key": _no_such_key,
    "scope_denied": _scope_denied,
    "wrong_type": _wrong_type,
    "invalid_param": _invalid_param,
    "no_such_action": _no_such_action,
    "action_owned": _action_owned,
    "action_cooldown": _action_cooldown,
}
