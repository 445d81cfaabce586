"""A refusal of a parameter, in the words that the person typed.

The daemon checks parameters against the operation's types, and its error names a field (`$.ttl_ms`), where the person
typed `--ttl`. This module puts the option or argument in the place of the field, and makes a sentence of the rule. Not
here: the rules. Above: `main`. Below: the parser of the command. Invariant: an error that is not understood is passed
on as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Sequence

_RULE: Final = re.compile(r"Expected `(\w+)` (of length )?([<>]=?) (-?\d+) - at `\$\.(\w+)[^`]*`\Z")
_SIGNS: Final = re.compile(r"\[A-Za-z0-9([^\]]+)\]")
_SHAPE: Final = re.compile(r"Expected .+ - at `\$\.(\w+)[^`]*`\Z", re.DOTALL)
_INSIDE: Final = {"for_": "whom", "idempotency_key": "key", "join_code": "code"}
"""Fields whose argument has another name on the command line, because the field's name is a word of Python, or because
the option has a shorter name."""


def as_typed(error: ParlerError, actions: Sequence[Action]) -> ParlerError:
    """The same error, about the option or argument among `actions` that filled the wrong field, if that is found."""
    found = _SHAPE.match(error.message) if error.code == "invalid_param" else None
    if found is None:
        return error
    field = found[1]
    action = _action_of(field, actions)
    if action is None:
        return error
    shown = max(action.option_strings, key=len) if action.option_strings else str(action.metavar or action.dest)
    details = {**error.details, "param": shown}
    return ParlerError(error.code, f"{shown} {_rule(error.message, field)}.", hint=error.hint, **details)


def _action_of(field: str, actions: Sequence[Action]) -> Action | None:
    wanted = (field, field.removesuffix("_ms"), _INSIDE.get(field, field))
    return next((action for action in actions if action.dest in wanted), None)


def _rule(message: str, field: str) -> str:
    rule = _RULE.match(message)
    if rule is None:
        signs = _SIGNS.search(message)
        return f"may hold ASCII letters, digits and {' '.join(signs[1])} alone" if signs else "does not fit"
    kind, length, comparison, limit = rule[1], rule[2], rule[3], int(rule[4])
    most = comparison[0] == "<"
    if comparison in "<>":
        limit += -1 if most else 1
    if length:
        if not most and limit == 1:
            return "is empty"
        unit = "characters" if kind == "str" else "values"
        return f"has at {'most' if most else 'least'} {limit} {unit}"
    if field.endswith("_ms"):
        return f"is at {'most' if most else 'least'} {limit / 1000:g} seconds"
    return f"is at {'most' if most else 'least'} {limit}"
