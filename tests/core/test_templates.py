"""What an action consists of: its parameters, what goes into its templates, and what makes it one that can be
invoked."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from parlerd.core import templates
from parlerd.core.errors import Refused
from parlerd.core.templates import REDACTED, Param, check, default_of, filled, filled_name, given, redacted
from tests.support.core import an_action, doing, refused

ITEM = Param(type="string", enum=("trap", "hut"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


# -- templates ---------------------------------------------------------------------------------------------


@examples(value=JSON)
def test_a_template_that_is_one_parameter_is_that_parameter_with_its_type(value: Any) -> None:
    found = filled("${params.x}", {"x": value}, "ann")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("trap", "trap"), (3, "3"), (1.5, "1.5"), (True, "true"), (None, "null"), ([1, "a"], '[1,"a"]'), ({}, "{}")],
)
def test_within_a_text_a_parameter_is_a_text_or_json(value: Any, text: str) -> None:
    assert filled("a ${params.x} b", {"x": value}, "ann") == f"a {text} b"
    assert filled_name("${params.x}", {"x": value}, "ann") == text


def test_templates_stand_anywhere_in_a_value_names_of_members_included() -> None:
    template = {"${params.x}": ["${self}", {"deep": "${params.n}"}], "plain": 1}
    assert filled(template, {"x": "k", "n": 2}, "ann") == {"k": ["ann", {"deep": 2}], "plain": 1}


@examples(text=st.text(st.sampled_from("${params.x} self"), max_size=40))
def test_what_was_put_in_is_not_looked_at_again(text: str) -> None:
    assert filled("<${params.x}>", {"x": text, "y": "no"}, "ann") == f"<{text}>"


def test_a_template_whose_parameter_is_not_there_is_refused() -> None:
    with refused("invalid_param") as caught:
        filled("${params.x}", {}, "ann")
    assert caught.value.details == {"param": "x", "problem": "missing"}


# -- parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", ["", "a"], [1, None, [], True]),
        ("integer", [0, -5, 2**63 - 1], [True, 1.5, "1", None]),
        ("number", [0, 1.5], [True, "1", None]),
        ("boolean", [True, False], [0, 1, "true", None]),
        ("object", [{}, {"a": 1}], [[], "{}", None]),
        ("array", [[], [1]], [{}, "[]", None]),
        ("any", [None, 1, "a", [], {}, True], []),
    ],
)
def test_a_parameter_has_the_type_that_was_said(kind: templates.ParamType, good: list[Any], bad: list[Any]) -> None:
    action = an_action(params={"x": Param(type=kind)})
    for value in good:
        assert given(action, {"x": value}) == {"x": value}
    for value in bad:
        with refused("invalid_param") as caught:
            given(action, {"x": value})
        assert caught.value.details == {"param": "x", "problem": "type", "allowed": [kind]}


def test_a_parameter_with_an_enum_has_one_of_these_values_of_the_same_type() -> None:
    action = an_action(params={"item": ITEM, "many": Param(enum=(1, 2))})
    assert given(action, {"item": "hut", "many": 1}) == {"item": "hut", "many": 1}
    for asked in ({"item": "boat"}, {"many": True}, {"many": "1"}):
        with refused("invalid_param") as caught:
            given(action, asked)
        assert caught.value.details["problem"] == "value"
        assert caught.value.details["allowed"] == [*action.params[caught.value.details["param"]].enum]


def test_a_parameter_that_is_not_named_has_its_default_or_is_missing() -> None:
    params = {
        "a": Param(default=b"[1]"),
        "b": Param(),
        "c": Param(required=True),
        "d": Param(required=True, default=b"0"),
    }
    action = an_action(params=params)
    assert given(action, {"c": None}) == {"a": [1], "c": None, "d": 0}
    assert given(action, {}, is_complete=False) == {"a": [1], "d": 0}
    with refused("invalid_param") as caught:
        given(action, {"a": 2})
    assert caught.value.details["problem"] == "missing"
    assert caught.value.message == "The parameter c is missing."


def test_a_parameter_that_the_action_does_not_have_is_refused_with_the_nearest() -> None:
    with refused("invalid_param") as caught:
        given(an_action(params={"item": ITEM}), {"itme": "trap"})
    assert caught.value.details == {"param": "itme", "problem": "unknown", "allowed": ["item"], "suggest": "item"}


@pytest.mark.parametrize("value", [2**63, float("nan"), {1: 2}, b"x"])
def test_a_parameter_that_no_value_can_be_is_refused(value: Any) -> None:
    with refused("invalid_param"):
        given(an_action(params={"x": Param()}), {"x": value})


def test_a_secret_parameter_is_kept_nowhere() -> None:
    action = an_action(params={"x": Param(secret=True), "y": Param()})
    assert redacted(action, {"x": "canary", "y": 1}) == {"x": REDACTED, "y": 1}


# -- registering -------------------------------------------------------------------------------------------

BROKEN = {
    "another parameter in a key": an_action(doing("a_${params.y}"), params={"x": Param()}),
    "another parameter in a scope": an_action(doing("a", scope="${params.y}")),
    "another parameter deep in a value": an_action(doing("a", [{"k": "${params.y}"}])),
    "another parameter in the name of a member": an_action(doing("a", {"${params.y}": 1})),
    "another parameter in a gate": an_action(gate="params.y == 1", params={"x": Param()}),
    "another parameter in a computed value": an_action(doing("a", computed="params.y")),
    "another parameter in the result": an_action(result="params.y"),
    "no parameter": an_action(doing("a", "${x}")),
    "an expression in a template": an_action(doing("a", "${state._shared.x}")),
    "a secret in the result": an_action(result="params.x", params={"x": Param(secret=True)}),
    "a secret in the result, by its name": an_action(result="params['x' + '']", params={"x": Param(secret=True)}),
    "all parameters in the result": an_action(result="params", params={"x": Param(secret=True)}),
    "an enum of another type": an_action(params={"x": Param(type="string", enum=("a", 1))}),
    "a default of another type": an_action(params={"x": Param(type="integer", default=b"true")}),
    "a default that is none of the values": an_action(params={"x": Param(enum=(1, 2), default=b"3")}),
}


@pytest.mark.parametrize("action", BROKEN.values(), ids=BROKEN)
def test_an_action_that_could_not_be_invoked_is_refused(action: templates.Action) -> None:
    with refused("invalid_param"):
        check(action)


def test_an_action_that_can_be_invoked_is_taken() -> None:
    check(
        an_action(
            doing("has_${params.item}", {"by": "${self}"}, scope="${self}"),
            doing("sum", computed="params.n + 1"),
            gate="params.item != '' && params.n > 0",
            params={"item": ITEM, "n": Param(type="integer", default=b"1"), "word": Param(secret=True)},
            result="params.item",
        )
    )


def test_an_action_is_bounded_in_bytes() -> None:
    with refused("value_too_large"):
        check(an_action(*(doing("a", "x" * 1_000) for _ in range(40))))


@examples(value=JSON)
def test_a_default_is_what_was_said(value: Any) -> None:
    assert default_of(Param(default=msgspec.json.encode(value))) == value


@examples(template=JSON, params=st.dictionaries(st.sampled_from("xyz"), JSON), data=st.data())
def test_nothing_but_a_refusal_escapes_whatever_stands_in_a_template(
    template: Any, params: dict[str, Any], data: st.DataObject
) -> None:
    texts = st.text(st.sampled_from("${}.params xyz self"), max_size=30)
    for each in (template, data.draw(texts), [data.draw(texts)], {data.draw(texts): 1}):
        action = an_action(doing("a", each), params={name: Param() for name in params})
        with suppress(Refused):
            check(action)
            filled(each, params, "ann")
