"""The registry as MCP tools: small, flat, and strict about what a call may say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.operations.tools import (
    TOOLS,
    Tool,
    definition,
    description,
    resolve,
    takes_key,
    tools_of,
)

EVERY_TOOL = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)


def keys_of(value: Any) -> set[str]:
    """Every keyword of a schema and of all schemas in it. The names of properties are none."""
    if isinstance(value, dict):
        inner = (each.values() if name == "properties" else [each] for name, each in value.items())
        return set(value).union(*(keys_of(each) for found in inner for each in found))
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    return set()


def annotations_of(tool: Tool) -> dict[str, bool]:
    """What the tool says of its effect."""
    found: dict[str, bool] = definition(tool).get("annotations", {})
    return found


def refusal(tool: str, arguments: dict[str, Any]) -> ParlerError:
    with pytest.raises(ParlerError) as raised:
        resolve(TOOLS[tool], arguments)
    assert raised.value.code == "invalid_param"
    return raised.value


def test_every_operation_that_names_a_tool_is_in_it_and_no_tool_has_another() -> None:
    named = {(entry.tool.tool, entry.tool.verb) for entry in OPERATIONS.values() if entry.tool}
    rendered = {(tool.name, verb) for tool in TOOLS.values() for verb in tool.operations if tool.name != t.APPROVE}
    assert rendered == named


def look(name: str = "look.at", **more: Any) -> t.Operation:
    fields: dict[str, Any] = {
        "name": name,
        "summary": "Look.",
        "params": t.ListRooms,
        "result": t.RoomList,
        "plane": "agent",
        "effect": "read",
        "tool": t.Offer(tool="look", verb=name),
    }
    return t.Operation(**{**fields, **more})


def family(*operations: t.Operation, default: str = "look.at") -> t.Family:
    return t.Family(operations=operations, tools=(t.ToolEntry(name="look", title="Look", default=default),))


def test_a_verb_brings_its_own_arguments_to_its_tool() -> None:
    for_why = t.Argument(name="id", help="which")
    tools = tools_of((family(look(), look("look.into", tool=t.Offer(tool="look", verb="into", arguments=(for_why,)))),))
    assert [(each.name, each.only) for each in tools["look"].arguments] == [("id", ("into",))]
    assert set(tools["look"].operations) == {"look.at", "into"}


@pytest.mark.parametrize(
    ("other", "hints"),
    [
        # Of a tool that only reads the other hints say nothing. Source: the schema of MCP, `ToolAnnotations`.
        (look("look.away"), (True, True, False)),
        (look("look.away", effect="write"), (False, False, True)),
        (look("look.away", effect="destructive"), (False, True, True)),
        (look("look.away", effect="write", needs_idempotency_key=True), (False, False, False)),
    ],
)
def test_a_tool_says_of_itself_what_is_true_of_the_verb_that_does_most(
    other: t.Operation, hints: tuple[bool, bool, bool]
) -> None:
    said = annotations_of(tools_of((family(look(), other),))["look"])
    unsaid = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False}
    assert tuple(said.get(name, value) for name, value in unsaid.items()) == hints


@pytest.mark.parametrize(
    "wrong",
    [
        (family(look(), look("look.again", tool=t.Offer(tool="look", verb="look.at"))),),
        (family(look(), look("look.again", tool=t.Offer(tool="other"))),),
        (family(look(), default="away"),),
        (family(look(tool=t.Offer(tool="look"))),),
        (family(look()), family()),
        (family(),),
    ],
    ids=["a verb twice", "no such tool", "no such default", "a default without verbs", "a tool twice", "no operation"],
)
def test_a_set_of_tools_that_cannot_be_is_refused(wrong: tuple[t.Family, ...]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        tools_of(wrong)


def test_no_operation_of_the_person_plane_is_reachable_by_a_tool() -> None:
    reachable = {entry.name for tool in TOOLS.values() if tool.name != t.APPROVE for entry in tool.operations.values()}
    assert {OPERATIONS[name].plane for name in reachable} == {"agent", "window"}
    assert resolve(TOOLS[t.APPROVE], {}).params == t.AskApproval()


def test_the_whole_list_stays_under_8000_bytes() -> None:
    listed = json.dumps({"tools": [definition(tool) for tool in TOOLS.values()]}, separators=(",", ":"))
    assert len(listed.encode()) < 8000


@EVERY_TOOL
def test_a_tool_is_one_flat_object_that_every_host_accepts(tool: Tool) -> None:
    shown = definition(tool)
    schema = shown["inputSchema"]
    assert not keys_of(shown) & {"$ref", "$defs", "oneOf", "anyOf", "allOf", "not", "if"}
    assert schema["type"] == "object"
    assert set(schema.get("required", [])) <= set(schema["properties"])
    for shape in schema["properties"].values():
        assert shape.get("type") in {"string", "integer", "array", "boolean", None}
        assert shape.get("type") != "array" or shape["items"] == {"type": "string"}


@EVERY_TOOL
def test_a_tool_has_a_title_three_sentences_one_example_and_the_annotations_that_say_something(tool: Tool) -> None:
    shown = definition(tool)
    text = description(tool)
    assert shown["title"]
    assert len(tool.name) <= 30
    assert text.count("Example: ") == 1
    assert text.partition("Example: ")[0].count(". ") <= 2
    unsaid = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
    assert all(unsaid[name] is not value for name, value in annotations_of(tool).items())


@EVERY_TOOL
def test_the_example_of_a_tool_is_a_valid_call(tool: Tool) -> None:
    resolve(tool, tool.example)


def test_only_what_reads_is_marked_read_only() -> None:
    marked = {tool.name for tool in TOOLS.values() if annotations_of(tool).get("readOnlyHint")}
    assert marked == {"parler_recv", "parler_rooms"}


def test_seconds_become_milliseconds_and_are_held_to_an_hour() -> None:
    waits = [resolve(TOOLS["parler_recv"], {"wait_secs": secs}).params for secs in (0, 7, 7.0, 3600, 99_999)]
    assert [params.wait_ms for params in waits if isinstance(params, t.Recv)] == [
        0,
        7000,
        7000,
        3_600_000,
        3_600_000,
    ]


def test_a_limit_is_at_least_one_and_says_so_where_it_is_offered() -> None:
    assert definition(TOOLS["parler_recv"])["inputSchema"]["properties"]["limit"]["minimum"] == 1
    with pytest.raises(Refused, match="limit is a whole number, 1 or more"):
        resolve(TOOLS["parler_recv"], {"limit": 0})


@pytest.mark.parametrize("number", [12, "12", "#12"])
def test_a_message_is_named_by_its_number_however_a_model_writes_it(number: object) -> None:
    params = resolve(TOOLS["parler_send"], {"text": "yes", "reply_to": number}).params
    assert isinstance(params, t.Send)
    assert str(params.reply_to).removeprefix("#") == "12"


def test_leaving_is_marked_destructive_for_one_may_end_a_session_for_all_and_no_host_has_to_load_it_at_once() -> None:
    changing = [tool for tool in TOOLS.values() if not annotations_of(tool).get("readOnlyHint")]
    marked = {tool.name for tool in changing if annotations_of(tool).get("destructiveHint", True)}
    assert marked == {"parler_leave", "parler_memory", "parler_state"}
    assert "_meta" not in definition(TOOLS["parler_leave"])
    assert resolve(TOOLS["parler_leave"], {}).params == t.CloseSession()
    assert resolve(TOOLS["parler_leave"], {"room": "auth"}).params == t.CloseSession(room="auth")


def test_one_name_to_send_to_becomes_the_list_that_the_operation_takes() -> None:
    meaning = resolve(TOOLS["parler_send"], {"text": "hi", "to": "bob", "visible_to": ["bob", "eve"]})
    assert meaning.params == t.Send(text="hi", to=("bob",), visible_to=("bob", "eve"))


def test_what_a_host_fills_in_for_a_model_counts_as_not_given() -> None:
    given = {"text": "", "room": None, "to": "", "reply_to": "", "key": ""}
    assert resolve(TOOLS["parler_send"], given).params == t.Send(text="")
    waits = resolve(TOOLS["parler_state"], {"action": "wait", "expr": "true", "include": []}).params
    assert waits == t.WaitUntil(condition="true")


def test_a_verb_chooses_the_operation_and_none_means_the_default() -> None:
    rooms = TOOLS["parler_rooms"]
    chosen = [resolve(rooms, arguments).operation.name for arguments in ({}, {"action": "roster"}, {"action": ""})]
    assert chosen == ["rooms.list", "rooms.roster", "rooms.list"]


def test_a_page_is_never_asked_for_with_more_than_the_maximum() -> None:
    params = [resolve(TOOLS["parler_recv"], given).params for given in ({}, {"limit": 3}, {"limit": 9999})]
    assert [one.limit for one in params if isinstance(one, t.Recv)] == [t.TOOL_PAGE, 3, t.TOOL_PAGE]


def test_an_offset_is_kept_beside_the_parameters_and_needs_a_since() -> None:
    assert resolve(TOOLS["parler_recv"], {"since": 4, "offset": 900}).offset == 900
    assert refusal("parler_recv", {"offset": 900}).details["param"] == "offset"


@pytest.mark.parametrize(
    ("tool", "arguments", "param"),
    [
        ("parler_send", {"text": "x", "rom": "a"}, "rom"),
        ("parler_send", {}, "text"),
        ("parler_send", {"text": 5}, "text"),
        ("parler_send", {"text": "x", "visible_to": "bob"}, "visible_to"),
        ("parler_recv", {"wait_secs": "5"}, "wait_secs"),
        ("parler_recv", {"wait_secs": -1}, "wait_secs"),
        ("parler_recv", {"wait_secs": 1.5}, "wait_secs"),
        ("parler_recv", {"wait_secs": True}, "wait_secs"),
        ("parler_recv", {"limit": float("nan")}, "limit"),
        ("parler_rooms", {"action": "destroy"}, "action"),
        ("parler_rooms", {"action": "list", "id": "m_1"}, "id"),
        ("parler_rooms", {"action": "list", "room": "r_1"}, "room"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed_and_an_example(
    tool: str, arguments: dict[str, Any], param: str
) -> None:
    error = refusal(tool, arguments)
    assert error.details["param"] == param
    assert f"{tool} takes: " in error.hint
    assert error.example is not None
    assert error.example.startswith(tool)


def test_a_value_that_the_operation_does_not_take_is_refused_too() -> None:
    refusal("parler_send", {"text": "x", "key": "white space"})
    refusal("parler_recv", {"limit": 0})
    refusal("parler_join_session", {"key": ""})


def test_a_made_up_name_is_repeated_short_and_without_hidden_characters() -> None:
    error = refusal("parler_send", {"text": "x", "\u202e" + "a" * 500: 1})
    assert "\u202e" not in error.message
    assert len(error.message) < 200


def test_the_tools_that_take_a_key_are_those_whose_call_may_name_one() -> None:
    assert {tool.name for tool in TOOLS.values() if takes_key(tool)} == {"parler_send"}


def test_every_error_an_operation_behind_a_tool_can_give_is_known() -> None:
    codes = {code for tool in TOOLS.values() for entry in tool.operations.values() for code in entry.errors}
    assert codes <= set(ERRORS)


@pytest.mark.parametrize(
    ("given", "value"),
    [(3, 3), ("3", 3), ('"3"', "3"), ("three", "three"), ("", ""), ({"a": [1]}, {"a": [1]}), ('{"a": [1]}', {"a": [1]}),
     (True, True), ([], []), ({}, {}), ("{broken", "{broken"), ("[" * 100_000, "[" * 100_000)],
)  # fmt: skip
def test_a_value_is_json_as_a_text_or_as_it_is_and_else_a_text(given: Any, value: Any) -> None:
    params = resolve(TOOLS["parler_state"], {"action": "set", "key": "k", "value": given}).params
    assert params == t.SetState(key="k", value=value)


@pytest.mark.parametrize("given", ["{", "two words", "1 2"])
def test_json_that_is_no_text_has_to_be_json(given: str) -> None:
    error = refusal("parler_state", {"action": "batch", "writes": given})
    assert error.message == "writes is JSON."


def test_what_a_definition_holds_are_the_parameters_themselves() -> None:
    define = {"id": "go", "if": "true", "writes": [{"key": "n", "value": 1}], "room": "other"}
    for given in (define, json.dumps(define)):
        params = resolve(TOOLS["parler_act"], {"action": "register", "define": given, "room": "auth"}).params
        assert isinstance(params, t.RegisterAction)
        assert (params.id, params.gate, params.writes[0].key, params.room) == ("go", "true", "n", "auth")
    assert refusal("parler_act", {"action": "register", "define": "[1]"}).message == "define is a JSON object."
    assert "nope" in refusal("parler_act", {"action": "register", "define": {"id": "a", "nope": 1}}).message
    broken = refusal("parler_act", {"action": "register", "define": {"id": "a", "writes": [{"key": 1}]}})
    assert broken.message.startswith("writes is not valid: ")


def test_one_name_means_what_its_verb_means_by_it() -> None:
    waits = resolve(
        TOOLS["parler_state"], {"action": "wait", "expr": "a == 1", "wait_secs": 5, "include": "state\nagents"}
    )
    assert waits.params == t.WaitUntil(condition="a == 1", wait_ms=5_000, include=("state", "agents"))
    assert resolve(TOOLS["parler_state"], {"action": "eval", "expr": "1"}).params == t.Evaluate(expr="1")
    assert resolve(TOOLS["parler_state"], {"action": "delete_action", "key": "go"}).params == t.DeleteAction(id="go")
    assert resolve(TOOLS["parler_state"], {"action": "delete", "key": "go"}).params == t.DeleteState(key="go")


def test_lines_are_a_list_or_a_text_with_one_in_each() -> None:
    for given in (["a", "b c"], "a\n\n  b c\n"):
        params = resolve(TOOLS["parler_handoff"], {"next": "x", "decisions": given}).params
        assert isinstance(params, t.GiveHandoff)
        assert params.decisions == ("a", "b c")
    assert refusal("parler_handoff", {"next": "x", "decisions": [1]}).code == "invalid_param"
