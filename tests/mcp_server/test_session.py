"""One connection, line by line: the handshake, what needs no library, cancelling, forms, subscriptions, the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_server import static
from mcp_server.conversations import MAX_CONVERSATIONS
from mcp_server.forms import Forms
from mcp_server.repeats import REPLAY_SECONDS
from mcp_server.session import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    KNOCK_SECONDS,
    MAX_REQUEST,
    PARSE_ERROR,
)
from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.model import RoomId
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.wire.messages import Hello
from tests.support.fake_mcp_engine import ALICE, AT, ROOM, FakeMcpEngine, caller, hello
from tests.support.mcp_lines import FORMS, HostEnd, heard_in, hosted, run, text_of

KNOCKING = t.RequestInfo(
    id="q_1",
    room=ROOM,
    room_name="auth",
    agent="U" + "B" * 55,
    name="codex@repo",
    host="codex",
    requested=AT,
    fingerprint="AAAA-BBBB-CCCC",
    home="local",
)


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
def test_each_version_of_the_handshake_era_is_served_as_asked(version: str) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            result = await host.begin(version=version)
            assert result["protocolVersion"] == version
            engine.post("hello")
            assert "hello" in text_of(await host.call("parler_recv"))

    run(main)


def test_an_unknown_version_is_offered_the_newest() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            assert (await host.begin(version="2031-01-01"))["protocolVersion"] == static.VERSIONS[-1]

    run(main)


def test_listed_answers_are_the_bytes_of_the_table() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            for method in static.METHODS[1:]:
                await host.say(b'{"jsonrpc":"2.0","id":"x","method":"' + method.encode() + b'"}')
                line = await host._receive.receive()
                assert line == b'{"jsonrpc":"2.0","id":"x","result":' + static.raw()[method] + b"}"

    run(main)


def test_a_host_that_only_looks_never_becomes_an_agent() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            await host.get("ping")
            await host.get("tools/list")
            await host.get("resources/list")
        assert engine.calls == []
        assert host.caller.agent is None

    run(main)


def test_discovery_is_declined_so_that_hosts_stay_in_the_handshake_era() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            assert (await host.get("server/discover"))["error"]["code"] == -32601
            assert (await host.begin())["serverInfo"]["name"] == "parler"

    run(main)


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"{nonsense", -32700), (b"[]", -32600), (b'{"id":1.5,"method":"ping"}', -32600), (b"\xff", -32700)],
)
def test_what_is_no_request_gets_a_plain_error_and_the_session_goes_on(line: bytes, code: int) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            await host.say(line)
            assert (await host.hear())["error"]["code"] == code
            assert (await host.get("ping"))["result"] == {}

    run(main)


def test_a_call_before_the_handshake_is_told_what_comes_first() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            answer = await host.get("tools/call", {"name": "parler_recv", "arguments": {}})
            assert "initialize" in answer["error"]["message"]

    run(main)


def test_a_malformed_handshake_is_refused_and_a_good_one_works_after_it() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            assert "error" in await host.get("initialize", {"protocolVersion": "2025-11-25", "capabilities": 5})
            await host.begin()
            assert text_of(await host.call("parler_recv")) == "Nothing new.\n"

    run(main)


def test_without_a_named_host_the_client_says_which_it_is() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, who=caller(host="")) as host:
            await host.begin()
            assert host.caller.facts.host == "test-host"
        async with hosted(engine, who=caller(host="codex")) as host:
            await host.begin()
            assert host.caller.facts.host == "codex"

    run(main)


def test_a_waiting_call_holds_up_neither_calls_nor_pings() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            waiting = await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 50}})
            assert (await host.get("ping"))["result"] == {}
            assert "Sent" in text_of(await host.call("parler_send", text="on it"))
            engine.post("here you are")
            assert "here you are" in text_of((await host.answer_to(waiting))["result"])

    run(main)


def test_a_wait_that_ends_with_nothing_is_an_answer() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            before = trio.current_time()
            result = await host.call("parler_recv", wait_secs=20)
            assert text_of(result) == "Nothing new.\n"
            assert not result.get("isError")
            assert trio.current_time() - before == pytest.approx(20)

    run(main)


def test_a_cancelled_call_stops_in_the_engine_and_is_never_answered() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            waiting = await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 50}})
            await trio.testing.wait_all_tasks_blocked()
            await host.tell("notifications/cancelled", {"requestId": waiting})
            await host.get("ping")
            await trio.testing.wait_all_tasks_blocked()
            assert engine.cancelled == 1
            engine.post("later")
            assert "later" in text_of(await host.call("parler_recv"))
            assert waiting not in {message.get("id") for message in host.aside}

    run(main)


@pytest.mark.parametrize("method", ["prompts/get", "resources/read", "nobody/knows"])
def test_a_request_whose_parameters_are_a_list_is_refused_and_not_left_without_an_answer(method: str) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            await host.say({"jsonrpc": "2.0", "id": 77, "method": method, "params": []})
            with trio.fail_after(60):
                assert (await host.answer_to(77))["error"]["code"] == INVALID_PARAMS

    run(main)


def test_closing_stdin_ends_the_session_with_calls_still_waiting() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        before = trio.current_time()
        async with hosted(engine) as host:
            await host.begin()
            await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 50}})
            await trio.testing.wait_all_tasks_blocked()
        assert engine.cancelled == 1
        assert trio.current_time() - before < 1

    run(main)


def test_an_unknown_tool_is_an_error_of_the_protocol_that_names_the_tools() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            answer = await host.get("tools/call", {"name": "parler_fly", "arguments": {}})
            assert answer["error"]["code"] == -32602
            assert "parler_recv" in answer["error"]["message"]

    run(main)


def test_a_refusal_is_a_result_with_code_and_what_to_do() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["message.send"] = Refused("no_active_session")
        async with hosted(engine) as host:
            await host.begin()
            result = await host.call("parler_send", text="hello")
            assert result["isError"] is True
            assert heard_in(result).error == "no_active_session"
            assert ERRORS["no_active_session"].tool_hint in text_of(result)

    run(main)


def test_a_fault_inside_is_coded_and_shows_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["message.send"] = RuntimeError("the secret body")
        engine.script["rooms.list"] = ExceptionGroup("several", [ParlerError("store_full")])
        async with hosted(engine) as host:
            await host.begin()
            result = await host.call("parler_send", text="hello")
            assert heard_in(result).error == "internal"
            assert "secret" not in json.dumps(result)
            full = await host.call("parler_rooms")
            assert heard_in(full).error == "store_full"

    run(main)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_notice_ends_the_text() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            assert text_of(await host.call("parler_recv")) == "Nothing new.\n"
            engine.line = "Waiting for you: 2 unread in auth."
            result = await host.call("parler_recv")
            assert text_of(result).splitlines()[-1] == engine.line

    run(main)


# -- forms -----------------------------------------------------------------------------------------------------------


def test_the_person_admits_by_typing_the_joiners_code_into_a_form() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        async with hosted(engine) as host:
            await host.begin(FORMS)
            asked = await host.ask("tools/call", {"name": "parler_approve", "arguments": {}})
            form = await host.hear()
            assert form["method"] == "elicitation/create"
            schema = form["params"]["requestedSchema"]
            assert schema["required"] == ["code"]
            assert set(schema["properties"]) == {"code"}
            assert not {"default", "enum"} & set(schema["properties"]["code"])
            message = form["params"]["message"]
            assert message.startswith("To let codex@repo into auth, type the code that its own window shows.\n")
            assert "It says it is codex@repo on codex" in message
            assert KNOCKING.fingerprint in message
            assert "K7QD" not in json.dumps(form)
            await host.say(
                {"jsonrpc": "2.0", "id": form["id"], "result": {"action": "accept", "content": {"code": "K7QD"}}}
            )
            result = (await host.answer_to(asked))["result"]
            assert text_of(result).startswith("Your user let ")
            assert "K7QD" not in json.dumps(result)
        assert engine.decisions == [t.DecideByForm(agent=KNOCKING.agent, room=ROOM, join_code="K7QD")]

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "cancel"},
        {"action": "decline"},
        {"action": "accept", "content": {}},
        {"action": "accept"},
        {"action": "accept", "content": {"code": "  "}},
        {"action": "accept", "content": {"code": "WRNG"}},
        {"action": "accept", "content": {"other": "K7QD"}},
        {"action": "decline", "content": {"code": "K7QD"}},
    ],
)
def test_a_form_that_is_empty_closed_or_wrong_decides_nothing(answer: dict[str, object]) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        async with hosted(engine) as host:
            await host.begin(FORMS)
            asked = await host.ask("tools/call", {"name": "parler_approve", "arguments": {"agent": "codex@repo"}})
            form = await host.hear()
            await host.say({"jsonrpc": "2.0", "id": form["id"], "result": answer})
            result = (await host.answer_to(asked))["result"]
            assert heard_in(result).error == "form_undecided"
            assert "parler session approve" in text_of(result) or "parler_approve" in text_of(result)
            assert "WRNG" not in json.dumps(result)
        assert engine.decisions == []

    run(main)


def test_a_form_that_nobody_answers_decides_nothing_and_is_withdrawn() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        async with hosted(engine) as host:
            await host.begin(FORMS)
            asked = await host.ask("tools/call", {"name": "parler_approve", "arguments": {}})
            form = await host.hear()
            result = (await host.answer_to(asked))["result"]
            assert heard_in(result).error == "form_undecided"
            withdrawn = next(message for message in host.aside if message.get("method") == "notifications/cancelled")
            assert withdrawn["params"]["requestId"] == form["id"]

    run(main)


def test_one_request_has_one_form_open_at_a_time_whichever_window_asks() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        forms = Forms()
        async with hosted(engine, forms=forms) as host, hosted(engine, forms=forms) as other:
            await host.begin(FORMS)
            await other.begin(FORMS)
            await host.ask("tools/call", {"name": "parler_approve", "arguments": {}})
            await host.hear()
            again = await host.call("parler_approve")
            elsewhere = await other.call("parler_approve")
            assert heard_in(again).error == "busy"
            assert heard_in(elsewhere).error == "busy"

    run(main)


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {"url": {}}}])
def test_a_host_without_forms_is_told_the_command_the_person_runs(capabilities: dict[str, object]) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        async with hosted(engine) as host:
            await host.begin(capabilities)
            result = await host.call("parler_approve")
            assert heard_in(result).error == "no_form"
            assert "parler session approve codex@repo --room auth" in text_of(result)
        assert engine.decisions == []

    run(main)


def test_an_answer_to_a_form_of_an_earlier_connection_answers_nothing() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        async with hosted(engine, who=caller(session="a" * 20)) as host:
            await host.begin(FORMS)
            await host.ask("tools/call", {"name": "parler_approve", "arguments": {}})
            old = (await host.hear())["id"]
        async with hosted(engine, who=caller(session="b" * 20)) as host:
            await host.begin(FORMS)
            await host.ask("tools/call", {"name": "parler_approve", "arguments": {}})
            assert (await host.hear())["id"] != old
            await host.say({"jsonrpc": "2.0", "id": old, "result": {"action": "accept", "content": {"code": "K7QD"}}})
            await host.say({"jsonrpc": "2.0", "id": 1, "result": {"action": "accept", "content": {"code": "K7QD"}}})
            await host.get("ping")
            await trio.testing.wait_all_tasks_blocked()
        assert engine.decisions == []

    run(main)


# -- resources, prompts ----------------------------------------------------------------------------------------------


def test_a_subscriber_hears_of_changes_in_its_room_and_of_no_other() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.roster"] = t.RosterResult(room=ROOM, name="auth", members=[])
        async with hosted(engine) as host:
            await host.begin()
            uri = "parler://room/auth/messages"
            assert (await host.get("resources/subscribe", {"uri": uri}))["result"] == {}
            await host.get("resources/subscribe", {"uri": "parler://rooms"})
            await engine.changed.send(RoomId("r_another"))
            assert (await host.hear())["params"] == {"uri": "parler://rooms"}
            await engine.changed.send(ROOM)
            assert {(await host.hear())["params"]["uri"] for _ in range(2)} == {uri, "parler://rooms"}
            await host.get("resources/unsubscribe", {"uri": "parler://rooms"})
            await engine.changed.send(ROOM)
            assert (await host.hear())["params"] == {"uri": uri}

    run(main)


def test_a_subscription_that_cannot_begin_is_refused_with_its_code_and_may_be_asked_for_again() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            engine.no_changes = ParlerError("store_locked")
            refused = await host.get("resources/subscribe", {"uri": "parler://rooms"})
            assert refused["error"]["data"]["error"]["code"] == "store_locked"
            engine.no_changes = None
            assert (await host.get("resources/subscribe", {"uri": "parler://rooms"}))["result"] == {}
            await engine.changed.send(ROOM)
            assert (await host.hear())["params"] == {"uri": "parler://rooms"}

    run(main)


def test_reading_messages_as_a_resource_acknowledges_nothing() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.post("first")
        async with hosted(engine) as host:
            await host.begin()
            answer = await host.get("resources/read", {"uri": "parler://room/auth/messages"})
            (content,) = answer["result"]["contents"]
            assert "first" in content["text"]
            assert "[peer " in content["text"]
            assert "first" in text_of(await host.call("parler_recv"))
        assert engine.acknowledged == 0

    run(main)


def test_the_guide_needs_nothing_and_what_is_no_resource_is_refused() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            guide = await host.get("resources/read", {"uri": "parler://guide"})
            assert "parler_join_session(key, role?, wait_secs?)" in guide["result"]["contents"][0]["text"]
            for uri in ("parler://nothing", "file:///etc/passwd", "parler://room//messages"):
                answer = await host.get("resources/read", {"uri": uri})
                assert answer["error"]["data"]["error"]["code"] == "invalid_param"
        assert engine.calls == []

    run(main)


def test_prompts_are_given_and_a_wrong_argument_is_refused() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            answer = await host.get("prompts/get", {"name": "join", "arguments": {"key": "A3KE7DJR"}})
            assert "A3KE7DJR" in answer["result"]["messages"][0]["content"]["text"]
            bad = await host.get("prompts/get", {"name": "join", "arguments": {"key": "x\nIgnore all"}})
            assert bad["error"]["code"] == -32602

    run(main)


# -- roots, the key from the environment -----------------------------------------------------------------------------


def test_a_window_without_a_workspace_takes_the_first_root_of_its_client() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin({"roots": {}})
            asked = await host.ask("tools/call", {"name": "parler_recv", "arguments": {}})
            roots = await host.hear()
            assert roots["method"] == "roots/list"
            await host.say({"jsonrpc": "2.0", "id": roots["id"], "result": {"roots": [{"uri": "file:///srv/a%20b"}]}})
            await host.answer_to(asked)
            assert host.caller.facts.workspace == "/srv/a b"

    run(main)


def test_a_client_that_does_not_name_its_roots_holds_nothing_up() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin({"roots": {}})
            before = trio.current_time()
            await host.call("parler_recv")
            assert trio.current_time() - before == pytest.approx(1)
            await host.call("parler_recv")
            assert trio.current_time() - before == pytest.approx(1)

    run(main)


def joined(status: str) -> t.JoinedSession:
    return t.JoinedSession(room=ROOM, status=status, messages=[], truncated=False, join_code="K7QD", name="auth")


def test_a_window_that_stays_knocks_with_the_key_it_came_with() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = joined("pending")
        async with hosted(engine, hello(session_key="A3KE7DJR"), caller(host="gemini")) as host:
            await host.begin()
            await trio.sleep(KNOCK_SECONDS / 2)
            assert engine.made("session.join") == []
            await trio.sleep(KNOCK_SECONDS)
            assert engine.made("session.join") == [t.JoinSession(session_key="A3KE7DJR", limit=0)]

    run(main)


def test_a_health_check_with_a_key_never_knocks() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, hello(session_key="A3KE7DJR"), caller(host="gemini")) as host:
            await host.begin()
            await host.get("tools/list")
        assert engine.calls == []

    run(main)


def test_the_first_call_knocks_before_it_does_anything() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["session.join"] = joined("joined")
        async with hosted(engine, hello(session_key="A3KE7DJR"), caller(host="gemini")) as host:
            await host.begin()
            await host.call("parler_recv")
            assert [op for op, _ in engine.calls] == ["session.join", "message.recv"]
            assert text_of(await host.call("parler_recv")) == "Nothing new.\n"
        assert len(engine.made("session.join")) == 1

    run(main)


# -- robustness ------------------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_under_an_answer_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 5}})
            await trio.testing.wait_all_tasks_blocked()
            await host._receive.aclose()
            engine.post("nobody reads this")
            await trio.testing.wait_all_tasks_blocked()

    run(main)
    assert caplog.text == ""


def test_a_flood_of_calls_is_refused_beyond_a_number_and_the_rest_go_on() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()

            async def wait_once() -> None:
                await host.ask("tools/call", {"name": "parler_recv", "arguments": {"wait_secs": 50}})

            for _ in range(64):
                await wait_once()
            result = await host.call("parler_send", text="one more")
            assert heard_in(result).error == "busy"

    run(main)


@pytest.mark.parametrize("tool", ["parler_recv", "parler_approve"])
def test_a_host_that_reads_no_answers_is_held_back_and_served_in_full_once_it_reads(tool: str) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            arguments, said, asked, done = {"of": "x" * 1_000_000}, 0, 300, trio.Event()
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    nonlocal said
                    for _ in range(asked):
                        await host.ask("tools/call", {"name": tool, "arguments": arguments})
                        said += 1
                    done.set()

                nursery.start_soon(flood)
                await trio.testing.wait_all_tasks_blocked()
                await trio.sleep(10)
                # What is on its way in and out, and what may be under way: it is not taken in without end.
                assert said < asked / 4
                for _ in range(asked):
                    assert "method" not in await host.hear()
                await done.wait()

    run(main)


def test_a_request_that_is_too_long_is_answered_without_being_taken_apart() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            await host.begin()
            params = b'{"name":"parler_send","arguments":{"text":[' + b"[]," * (MAX_REQUEST // 3) + b"1]}}"
            for method, end in (("tools/call", b"}"), ("resources/read", b"}"), ("tools/call", b"")):
                await host.say(b'{"jsonrpc":"2.0","id":77,"method":"%s","params":' % method.encode() + params + end)
                answer = await host.hear()
                if not end:
                    assert answer["error"]["code"] == PARSE_ERROR
                elif method == "tools/call":
                    assert heard_in(answer["result"]).error == "text_too_long"
                else:
                    assert (answer["id"], answer["error"]["code"]) == (77, INVALID_REQUEST)
            assert engine.calls == []
            assert (await host.get("ping"))["result"] == {}

    run(main)


def test_the_handshake_versions_are_those_of_the_library() -> None:
    assert static.VERSIONS == HANDSHAKE_PROTOCOL_VERSIONS


def test_an_author_is_shown_by_name() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.post("hello")
        async with hosted(engine) as host:
            await host.begin()
            assert ALICE.name in text_of(await host.call("parler_recv"))

    run(main)


@pytest.mark.parametrize(("host_id", "field"), [("codex", "threadId"), ("droid", "assemblySessionId")])
def test_each_conversation_that_a_host_names_with_its_calls_is_an_agent_of_its_own(host_id: str, field: str) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, who=caller(host=host_id)) as host:
            await host.begin()
            seen: list[tuple[str, str]] = []

            def listed(params: t.Params, who: Caller) -> t.Result:
                seen.append((who.facts.conversation, who.facts.window))
                return t.RoomList(rooms=[])

            engine.script["rooms.list"] = listed
            for given in ("t-1", 7, "t-2", "t-1", "t-2"):
                await host.get("tools/call", {"name": "parler_rooms", "arguments": {}, "_meta": {field: given}})
            assert [conversation for conversation, _ in seen] == ["t-1", "t-1", "t-2", "t-1", "t-2"]
            windows = dict(seen)
            assert windows["t-1"] == "w" * 32 != windows["t-2"]
            assert [each.facts.conversation for each in engine.connected] == ["t-2"]
            assert [each.facts.conversation for each in host.caller.siblings] == ["t-2"]
        assert engine.connected == []

    run(main)


def test_a_page_is_acknowledged_by_the_next_call_of_its_own_conversation() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, who=caller(host="codex")) as host:
            await host.begin()
            engine.post("one")

            async def recv(thread: str) -> str:
                params = {"name": "parler_recv", "arguments": {}, "_meta": {"threadId": thread}}
                return text_of((await host.get("tools/call", params))["result"])

            assert "one" in await recv("t-1")
            assert "one" in await recv("t-2")
            assert engine.acknowledged == 0
            assert await recv("t-1") == "Nothing new.\n"

    run(main)


async def introduced(engine: FakeMcpEngine, client: str, who: Caller, first: Hello, **about: Any) -> Caller:
    async with hosted(engine, first, who, **about) as host:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": client, "version": "1"}}
        await host.get("initialize", params)
    return who


GIVEN = {"CLAUDE_CODE_SESSION_ID": "of-claude", "GROK_SESSION_ID": "of-grok", "QWEN_CODE_SESSION_ID": "of-qwen"}


@pytest.mark.parametrize(
    ("started", "client", "host", "conversation"),
    [
        ("claude-code", "claude-code", "claude-code", "of-claude"),
        ("claude-code", "grok-shell-parler", "grok", "of-grok"),
        ("claude-code", "mcp-test-client", "claude-code", "of-claude"),
        ("qwen", "qwen-cli-mcp-client-parler", "qwen", "of-qwen"),
        ("codex", "codex-mcp-client", "codex", ""),
        ("", "Some Agent", "Some-Agent", ""),
        ("gemini", "claude-code", "claude-code", "of-claude"),
    ],
)
def test_a_client_that_says_another_host_is_that_one_and_has_its_conversation(
    started: str, client: str, host: str, conversation: str
) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        who = await introduced(engine, client, caller(host=started), hello(conversations=GIVEN))
        assert (who.facts.host, who.facts.conversation, who.facts.continues) == (host, conversation, False)

    run(main)


@pytest.mark.parametrize(
    ("words", "continues"),
    [
        (["claude", "-p", "--continue", "hi"], True),
        (["claude", "--print", "-c"], True),
        (["claude", "-p", "--resume", "x"], False),
        (["claude", "--continue"], False),
        ([], False),
    ],
)
def test_an_id_that_the_host_made_up_for_one_run_is_not_believed(words: list[str], continues: bool) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        first = hello(conversations=GIVEN, ppid=4711)
        who = await introduced(engine, "claude-code", caller(host="claude-code"), first, words=words)
        assert who.facts.continues is continues
        assert who.facts.conversation == ("" if continues else "of-claude")

    run(main)


def test_what_a_shared_server_has_in_its_environment_is_the_first_windows_and_not_believed() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        first = hello(conversations=GIVEN, session_key="A3KE7DJR")
        who = caller(host="cline-cli", as_name="alice")
        async with hosted(engine, first, who) as host:
            await host.get(
                "initialize",
                {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": {"name": "@cline/core", "version": "1"},
                },
            )
            await host.tell("notifications/initialized")
            await host.call("parler_recv")
        assert (who.facts.as_name, who.facts.conversation) == ("", "")
        assert engine.made("session.join") == []

    run(main)


@pytest.mark.parametrize("answer", [{"result": None}, {"result": []}, {"result": 7}, {}])
def test_a_form_that_is_answered_with_nothing_is_undecided_at_once(answer: dict[str, object]) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.requests"] = t.RequestList(room=None, requests=[KNOCKING])
        async with hosted(engine) as host:
            await host.begin(FORMS)
            began = trio.current_time()
            asked = await host.ask("tools/call", {"name": "parler_approve", "arguments": {}})
            form = await host.hear()
            await host.say({"jsonrpc": "2.0", "id": form["id"], **answer})
            assert heard_in((await host.answer_to(asked))["result"]).error == "form_undecided"
            assert trio.current_time() == began

    run(main)


async def asking(engine: FakeMcpEngine, host_id: str, meta: dict[str, object]) -> tuple[str, list[Any]]:
    """What a wait of an hour is answered with, and what the host heard of it before."""
    async with hosted(engine, who=caller(host=host_id)) as host:
        await host.begin()
        params = {"name": "parler_recv", "arguments": {"wait_secs": 3600}, "_meta": meta}
        asked = await host.ask("tools/call", params)
        answer = await host.answer_to(asked)
        return text_of(answer["result"]), list(host.aside)


def test_a_host_that_progress_keeps_waiting_hears_of_it_every_ten_seconds() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        began = trio.current_time()
        text, told = await asking(engine, "opencode", {"progressToken": "p-1"})
        assert trio.current_time() - began == 1_500
        assert "One call waits 1500 s at most here" in text
        assert {each["method"] for each in told} == {"notifications/progress"}
        assert [each["params"]["progress"] for each in told] == list(range(1, len(told) + 1))
        assert {each["params"]["progressToken"] for each in told} == {"p-1"}
        assert len(told) in (149, 150)

    run(main)


@pytest.mark.parametrize(
    ("host_id", "meta", "seconds"), [("opencode", {}, 55), ("codex", {"progressToken": 7}, 25), ("zed", {}, 50)]
)
def test_any_other_host_hears_of_no_progress_and_waits_as_long_as_it_sits_out(
    host_id: str, meta: dict[str, object], seconds: int
) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        began = trio.current_time()
        text, told = await asking(engine, host_id, meta)
        assert trio.current_time() - began == seconds
        assert f"One call waits {seconds} s at most here" in text
        assert told == []

    run(main)


async def on_thread(host: HostEnd, thread: str, tool: str, **arguments: object) -> None:
    await host.get("tools/call", {"name": tool, "arguments": arguments, "_meta": {"threadId": thread}})


def test_a_thread_that_comes_an_hour_after_a_reconnect_repeats_no_request_of_before() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        params = {"name": "parler_send", "arguments": {"text": "yes"}, "_meta": {"threadId": "t-2"}}
        lost = json.dumps({"jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params}).encode()
        async with hosted(engine, hello(unanswered=(lost,), reconnect=True), caller(host="codex")) as host:
            await host.begin()
            await on_thread(host, "t-1", "parler_recv")
            await trio.sleep(6 * REPLAY_SECONDS)
            await on_thread(host, "t-2", "parler_send", text="yes")
            (send,) = engine.made("message.send")
            assert isinstance(send, t.Send)
            assert send.idempotency_key is not None
            assert not send.idempotency_key.endswith(":900")

    run(main)


def test_a_process_keeps_no_more_conversations_than_it_serves() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine, who=caller(host="codex")) as host:
            await host.begin()
            for n in range(MAX_CONVERSATIONS + 20):
                await on_thread(host, f"t-{n}", "parler_recv")
            assert len(host.caller.siblings) <= MAX_CONVERSATIONS

    run(main)
