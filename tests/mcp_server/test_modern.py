"""The revision without a handshake, line by line: what it is offered, forms inside answers, streams of changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from mcp_types import methods

from mcp_server import envelope, static
from mcp_server.forms import FORM_SECONDS, Forms
from mcp_server.modern import MAX_STREAMS
from mcp_server.session import KNOCK_SECONDS
from mcp_server.stdio.table import Table
from parlerd.core.errors import Refused
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS
from tests.support.fake_mcp_engine import AT, ROOM, FakeMcpEngine, caller, hello
from tests.support.mcp_lines import ENVELOPE, FORM_ENVELOPE, HostEnd, Json, heard_in, hosted, run

METHODS = [method for method in static.METHODS if method != "initialize"]
MESSAGES = "parler://room/auth/messages"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def knocking(engine: FakeMcpEngine, name: str = "codex@repo") -> None:
    fields: dict[str, Any] = {
        "room": ROOM,
        "room_name": "auth",
        "host": "codex",
        "fingerprint": "AAAA-BBBB",
        "home": "local",
    }
    request = t.RequestInfo(id=f"q_{name}", agent="U" + "B" * 55, name=name, requested=AT, **fields)
    engine.script["rooms.requests"] = t.RequestList(room=None, requests=[request])


@asynccontextmanager
async def modern(engine: FakeMcpEngine, **more: Any) -> AsyncIterator[HostEnd]:
    async with hosted(engine, more.pop("first", None), more.pop("who", None), era="modern", **more) as host:
        yield host


async def get(host: HostEnd, method: str, meta: Json = ENVELOPE, **params: Any) -> Json:
    return await host.get(method, {**params, "_meta": meta})


async def approve(host: HostEnd, meta: Json = FORM_ENVELOPE, **more: Any) -> Json:
    answer = await get(host, "tools/call", meta, name="parler_approve", arguments={}, **more)
    result: Json = answer["result"]
    return result


def typed(asked: Json, answer: Json) -> Json:
    return {"inputResponses": {"code": answer}, "requestState": asked["requestState"]}


def accepted(code: str) -> Json:
    return {"action": "accept", "content": {"code": code}}


def test_a_host_that_asks_is_offered_the_era_only_when_it_is_set() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            refused = await get(host, "server/discover")
            assert refused["error"]["code"] == -32601
            assert (await host.begin())["protocolVersion"] == "2025-11-25"
        async with modern(engine) as host:
            found = (await get(host, "server/discover"))["result"]
            assert found["supportedVersions"] == ["2026-07-28"]
            assert found["instructions"] == static.INSTRUCTIONS

    run(main)


def test_daemon_and_shim_answer_the_same_and_what_the_library_holds_to_be_valid() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        table = Table(str(static.PATH))
        async with modern(engine) as host:
            for method in (static.DISCOVER, *METHODS):
                result = (await get(host, method))["result"]
                assert methods.serialize_server_result(method, envelope.VERSION, result)
                assert result["resultType"] == "complete"
                assert result["_meta"][envelope.SERVER_INFO]["name"] == "parler"
                alone = table.result(method, {"_meta": ENVELOPE})
                if method == static.DISCOVER:
                    assert alone is None, "the package's own table offers nothing: the home's does, when it is set"
                else:
                    assert alone is not None
                    assert json.loads(alone) == result

    run(main)


def test_asking_does_not_decide_the_era() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine) as host:
            await get(host, "server/discover")
            assert (await host.begin())["protocolVersion"] == "2025-11-25"
            assert (await get(host, "server/discover"))["error"]["code"] == -32601
            assert "error" in await get(host, "resources/read", uri="parler://guide")

    run(main)


@pytest.mark.parametrize("version", ["2031-01-01", 5, None])
def test_another_revision_is_refused_with_the_one_that_is_served(version: object) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        meta = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": version}
        async with modern(engine) as host:
            error = (await get(host, "server/discover", meta))["error"]
            assert (error["code"], error["data"]["supported"]) == (-32022, ["2026-07-28"])
            assert "error" in await get(host, "tools/list", meta)

    run(main)


def test_a_handshake_is_refused_once_the_connection_is_of_this_era() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine) as host:
            await get(host, "resources/read", uri="parler://guide")
            answer = await host.get("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
            assert answer["error"]["code"] == -32022
            assert "error" in await host.get("resources/read", {"uri": "parler://guide"}), "no envelope"

    run(main)


def test_tools_are_called_and_resources_and_prompts_read_without_a_handshake() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.list"] = t.RoomList(rooms=[])
        async with modern(engine) as host:
            result = (await get(host, "tools/call", name="parler_rooms", arguments={"action": "list"}))["result"]
            assert "You are in no room." in heard_in(result).said
            assert (result["resultType"], result["isError"]) == ("complete", False)
            read = (await get(host, "resources/read", uri="parler://guide"))["result"]
            assert "parler_recv" in read["contents"][0]["text"]
            prompt = (await get(host, "prompts/get", name="catch-up"))["result"]
            assert "parler_recv" in prompt["messages"][0]["content"]["text"]

    run(main)


def test_a_running_host_is_served_when_the_setting_went_back() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with hosted(engine) as host:
            tools = (await get(host, "tools/list"))["result"]["tools"]
            assert [tool["name"] for tool in tools] == list(TOOLS)

    run(main)


def test_the_clients_name_says_which_host_this_is_where_nothing_else_does() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        for host_name, expected in (("", "test-host"), ("codex", "codex")):
            who = caller(host=host_name)
            async with modern(engine, who=who) as host:
                await get(host, "tools/list")
            assert who.facts.host == expected

    run(main)


def test_a_window_knocks_with_its_key_after_its_first_request_and_asking_is_none() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine, first=hello(session_key="A3KE7DJR"), who=caller(host="gemini")) as host:
            await get(host, "server/discover")
            await trio.sleep(KNOCK_SECONDS * 2)
            assert not engine.made("session.join")
            await get(host, "tools/list")
            await trio.sleep(KNOCK_SECONDS * 2)
            assert [params.session_key for params in engine.made("session.join")] == ["A3KE7DJR"]

    run(main)


# -- forms ---------------------------------------------------------------------------------------------------------


def test_the_form_is_the_answer_and_its_code_decides_in_the_repetition() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine)
        async with modern(engine) as host:
            asked = await approve(host)
            assert asked["resultType"] == "input_required"
            form = asked["inputRequests"]["code"]
            assert form["method"] == "elicitation/create"
            schema = form["params"]["requestedSchema"]
            assert schema["required"] == ["code"]
            assert not {"default", "enum"} & set(schema["properties"]["code"])
            assert "codex@repo" in form["params"]["message"]
            assert not engine.decisions
            decided = await approve(host, **typed(asked, accepted(" K7QD ")))
            assert heard_in(decided).said.startswith("Your user let ")
        assert [decision.join_code for decision in engine.decisions] == ["K7QD"]

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "accept", "content": {}},
        {"action": "accept"},
        {"action": "accept", "content": {"code": "  "}},
        {"action": "accept", "content": {"code": 7}},
        {"action": "accept", "content": {"other": "K7QD"}},
        {"action": "decline", "content": {"code": "K7QD"}},
        {"action": "cancel"},
    ],
)
def test_a_form_without_its_code_decides_nothing(answer: Json) -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine)
        async with modern(engine) as host:
            result = await approve(host, **typed(await approve(host), answer))
            assert result["isError"] is True
            assert heard_in(result).error == "form_undecided"
        assert not engine.decisions

    run(main)


def test_a_code_for_a_form_that_is_not_open_is_asked_for_again() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine)
        async with modern(engine) as host:
            first = await approve(host)
            for state in ("made up", None):
                again = await approve(host, **{**typed(first, accepted("K7QD")), "requestState": state})
                assert again["resultType"] == "input_required"
            replaced = await approve(host, **typed(first, accepted("K7QD")))
            assert replaced["resultType"] == "input_required"
            await trio.sleep(FORM_SECONDS + 1)
            late = await approve(host, **typed(replaced, accepted("K7QD")))
            assert late["resultType"] == "input_required"
            knocking(engine, "another@repo")
            other = await approve(host, **typed(late, accepted("K7QD")))
            assert other["resultType"] == "input_required"
            assert "another@repo" in other["inputRequests"]["code"]["params"]["message"]
            assert not engine.decisions
            await approve(host, **typed(other, accepted("K7QD")))
            assert len(engine.decisions) == 1
            spent = await approve(host, **typed(other, accepted("K7QD")))
            assert spent["resultType"] == "input_required"

    run(main)


def test_one_request_has_one_form_open_in_all_windows() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, "third@repo")
        second = caller(session="another")
        forms = Forms()
        async with modern(engine, forms=forms) as one, modern(engine, who=second, forms=forms) as two:
            asked = await approve(one)
            busy = await approve(two, **typed(asked, accepted("K7QD")))
            assert heard_in(busy).error == "busy"
            assert not engine.decisions

    run(main)


def test_a_host_without_forms_is_told_what_the_person_runs() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine)
        async with modern(engine) as host:
            result = await approve(host, ENVELOPE)
            assert heard_in(result).error == "no_form"

    run(main)


# -- streams -------------------------------------------------------------------------------------------------------


async def listen(host: HostEnd, *uris: str, **more: Any) -> tuple[int, Json]:
    wanted = {"resourceSubscriptions": list(uris), **more}
    id = await host.ask("subscriptions/listen", {"notifications": wanted, "_meta": ENVELOPE})
    acknowledged = await host.hear()
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert acknowledged["params"]["_meta"] == {SUBSCRIPTION: id}
    honoured: Json = acknowledged["params"]["notifications"]
    return id, honoured


def test_a_stream_tells_of_changes_in_its_room_under_its_id_and_without_content() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.script["rooms.roster"] = t.RosterResult(room=ROOM, name="auth", members=[])
        async with modern(engine) as host:
            id, honoured = await listen(host, MESSAGES, "parler://guide", "file:///etc/passwd", "parler://nonsense")
            assert honoured == {"resourceSubscriptions": [MESSAGES, "parler://guide"]}
            await engine.changed.send(RoomId("r_another"))
            await engine.changed.send(ROOM)
            told = await host.hear()
            assert told["method"] == "notifications/resources/updated"
            assert told["params"] == {"uri": MESSAGES, "_meta": {SUBSCRIPTION: id}}
            await host.tell("notifications/cancelled", {"requestId": id})
            await trio.testing.wait_all_tasks_blocked()
            assert (await get(host, "tools/list"))["result"]["tools"]
            assert not host.aside

    run(main)


def test_every_room_is_watched_with_the_list_of_rooms() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine) as host:
            await listen(host, "parler://rooms")
            await engine.changed.send(RoomId("r_any"))
            assert (await host.hear())["params"]["uri"] == "parler://rooms"

    run(main)


def test_a_room_that_is_not_there_or_not_for_this_agent_is_awaited_in_silence() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine) as host:
            engine.refusal = None
            engine.script["rooms.roster"] = Refused("no_such_room")
            _, honoured = await listen(host, MESSAGES)
            assert honoured == {"resourceSubscriptions": [MESSAGES]}
            await engine.changed.send(RoomId("r_another"))
            await trio.testing.wait_all_tasks_blocked()
            engine.script["rooms.roster"] = t.RosterResult(room=ROOM, name="auth", members=[])
            await engine.changed.send(ROOM)
            assert (await host.hear())["params"]["uri"] == MESSAGES

    run(main)


def test_listening_for_tools_alone_takes_no_identity() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine) as host:
            _, honoured = await listen(host, toolsListChanged=True, promptsListChanged=True)
            assert honoured == {"toolsListChanged": True}
        assert not engine.calls

    run(main)


def test_a_window_has_a_bounded_number_of_streams() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        async with modern(engine) as host:
            for _ in range(MAX_STREAMS):
                await listen(host, toolsListChanged=True)
            refused = await get(host, "subscriptions/listen", notifications={"toolsListChanged": True})
            assert "Too many" in refused["error"]["message"]

    run(main)
