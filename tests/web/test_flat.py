"""The paths without a version: rooms that every program of this machine may come into, names and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.web.flat import FLAT
from tests.support.engine import Served, engine_world, run
from tests.support.http import Answer, OverHttp, minted, over_http

JSON = {"Content-Type": "application/json; charset=utf-8"}


class Guests:
    """Programs that have nothing but a base URL."""

    def __init__(self, home: Served, web: OverHttp) -> None:
        self.home = home
        self.web = web
        self.tokens: dict[str, str] = {}

    async def begin(self, id: str = "team") -> Answer:
        return await self.web.ask("POST /rooms", {"id": id}, headers=JSON)

    async def enter(self, id: str, room: str = "team", **more: Any) -> Answer:
        answer = await self.web.ask(f"POST /rooms/{room}/agents", {"id": id, **more}, headers=JSON)
        if answer.status == 201 and room == "team":
            self.tokens[id] = answer.document["token"]
        return answer

    async def ask(self, who: str, line: str, body: object = None) -> Answer:
        method, _, path = line.partition(" ")
        return await self.web.ask(f"{method} /rooms/team{path}", body, token=self.tokens[who])

    async def done(self, who: str, line: str, body: object = None) -> Any:
        answer = await self.ask(who, line, body)
        assert answer.status in (200, 201), answer.body
        return answer.document


@asynccontextmanager
async def guests(*names: str, lets_in: bool = True) -> AsyncIterator[Guests]:
    """A home that lets programs in, with a room in which there are these."""
    async with engine_world() as home, over_http(home, lets_in=lets_in) as web:
        there = Guests(home, web)
        if lets_in:
            assert (await there.begin()).status == 201
        for name in names:
            assert (await there.enter(name)).status == 201
        yield there


# -- coming in ---------------------------------------------------------------------------------------------


def test_whoever_has_nothing_opens_a_room_and_comes_into_it() -> None:
    async def main() -> None:
        async with guests() as at:
            begun = await at.begin("my-room")
            assert (begun.status, begun.document["id"]) == (201, "my-room")
            came = await at.enter("agent-a", "my-room", name="Alice", role="coordinator")
            assert came.document.items() >= {"id": "agent-a", "name": "Alice", "role": "coordinator"}.items()
            assert came.document["status"] == "active"
            token = came.document["token"]
            me = await at.web.ask("GET /v1/me", token=token)
            assert me.document["name"] == "agent-a"
            (room,) = (await at.web.ask("GET /rooms", token=token)).document
            assert (room["id"], room["room"]) == ("my-room", begun.document["room"])
            (agent,) = (await at.web.ask("GET /rooms/my-room/agents", token=token)).document
            # The room's owner is an agent that is not there for others.
            assert (agent["id"], agent["role"], agent["status"]) == ("agent-a", "coordinator", "active")

    run(main)


def test_who_came_first_has_the_name_and_comes_again_with_its_token_alone() -> None:
    async def main() -> None:
        async with guests("agent-a", "agent-b") as at:
            taken = await at.enter("agent-a")
            assert (taken.status, taken.document["error"]) == (409, "agent_exists")
            line = "POST /rooms/team/agents"
            stolen = await at.web.ask(line, {"id": "agent-a"}, token=at.tokens["agent-b"])
            assert (stolen.status, stolen.document["error"]) == (401, "token_invalid")
            before = at.tokens["agent-a"]
            await at.done("agent-a", "PUT /state", {"scope": "agent-a", "key": "score", "value": 1})
            again = await at.web.ask(line, {"id": "agent-a", "name": "Alice"}, token=before)
            assert (again.status, again.document["id"]) == (201, "agent-a")
            at.tokens["agent-a"] = again.document["token"]
            assert (await at.web.ask("GET /v1/me", token=before)).status == 401
            # It is the same agent.
            assert await at.done("agent-a", "GET /state?scope=agent-a&key=score") != []

    run(main)


def test_whoever_comes_again_elsewhere_or_was_put_out_keeps_its_token() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            assert (await at.begin("annex")).status == 201
            token, me = at.tokens["agent-a"], {"id": "agent-a"}
            for room in ("annex", "nowhere"):
                elsewhere = await at.web.ask(f"POST /rooms/{room}/agents", me, token=token)
                assert (elsewhere.status, elsewhere.document["error"]) == (404, "no_such_room")
            wrong = await at.web.ask("POST /rooms/team/agents", {**me, "bogus": 1}, token=token)
            assert (wrong.status, wrong.document["error"]) == (400, "invalid_param")
            assert (await at.web.ask("GET /v1/me", token=token)).status == 200
            owner = await at.home.agent("http")
            await owner.ask("room.kick", t.KickMember(room="team", agent="agent-a"), t.MemberGone)
            out = await at.web.ask("POST /rooms/team/agents", me, token=token)
            assert (out.status, out.document["error"]) == (404, "no_such_room")

    run(main)


def test_the_same_name_in_two_rooms_is_two_agents() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            assert (await at.begin("annex")).status == 201
            other = (await at.enter("agent-a", "annex")).document
            assert other["id"] == "agent-a"
            for path, token in (("annex", at.tokens["agent-a"]), ("team", other["token"])):
                found = await at.web.ask(f"GET /rooms/{path}/state", token=token)
                assert (found.status, found.document["error"]) == (404, "no_such_room")

    run(main)


def test_an_agent_may_be_there_only_while_something_is_true() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            wrong = await at.enter("path", enabled="has(state._shared.compass")
            assert (wrong.status, wrong.document["error"]) == (400, "expression_invalid")
            came = await at.enter("path", name="The Path", role="guide", enabled="has(state._shared.compass)")
            assert came.status == 201
            there = [each["id"] for each in await at.done("agent-a", "GET /agents")]
            assert there == ["agent-a"]
            await at.done("agent-a", "PUT /state", {"key": "compass", "value": True})
            there = [each["id"] for each in await at.done("agent-a", "GET /agents")]
            assert there == ["agent-a", "path"]

    run(main)


@pytest.mark.parametrize(
    ("line", "body", "status", "code"),
    [
        ("POST /rooms", {"id": "team"}, 409, "room_exists"),
        ("POST /rooms", {}, 400, "invalid_param"),
        ("POST /rooms", {"id": 7}, 400, "invalid_param"),
        ("POST /rooms", {"id": "x", "meta": {}}, 400, "invalid_param"),
        ("POST /rooms", {"id": ".."}, 400, "invalid_name"),
        ("POST /rooms", {"id": "r_0123456789"}, 400, "invalid_name"),
        ("POST /rooms/team/agents", {"id": "."}, 400, "invalid_name"),
        ("POST /rooms/team/agents", {"id": "a", "idempotency_key": "k"}, 400, "invalid_param"),
        ("POST /rooms/team/nothing", {}, 404, "unknown_operation"),
        ("POST /rooms", {"id": "a b"}, 400, "invalid_name"),
        ("POST /rooms?id=x", {}, 400, "invalid_param"),
        ("POST /rooms/nowhere/agents", {"id": "a"}, 404, "no_such_room"),
        ("POST /rooms/team/agents", {}, 400, "invalid_param"),
        ("POST /rooms/team/agents", {"id": "system"}, 400, "invalid_name"),
        ("POST /rooms/team/agents", {"id": "a", "name": 7}, 400, "invalid_param"),
        ("POST /rooms/team/agents", {"id": "a", "role": "system"}, 400, "invalid_name"),
        ("PUT /rooms/team/state", {"key": "x", "value": 1}, 401, "token_required"),
        ("GET /rooms/team/state", None, 401, "token_required"),
        ("GET /rooms", None, 401, "token_required"),
    ],
)
def test_what_is_wrong_with_coming_in_is_said(line: str, body: object, status: int, code: str) -> None:
    async def main() -> None:
        async with guests() as at:
            answer = await at.web.ask(line, body, headers=JSON)
            assert (answer.status, answer.document["error"]) == (status, code)
            assert answer.document["hint"]

    run(main)


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
def test_a_form_of_a_web_page_opens_nothing(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with guests() as at:
            for line in ("POST /rooms", "POST /rooms/team/agents"):
                answer = await at.web.ask(line, {"id": "x"}, headers=headers)
                assert (answer.status, answer.document["error"]) == (415, "not_json")

    run(main)


def test_a_home_that_lets_nobody_in_asks_for_a_token() -> None:
    async def main() -> None:
        async with guests(lets_in=False) as at:
            alice = await at.home.agent("alice")
            await alice.open(topic="team")
            token = (await minted(alice)).token
            for line in ("POST /rooms", "POST /rooms/team/agents"):
                bare = await at.web.ask(line, {"id": "x"}, headers=JSON)
                assert (bare.status, bare.document["error"]) == (401, "token_required")
                assert bare.document["hint"] == "Ask the person for a token."
            shown = await at.web.ask("POST /rooms", {"id": "x"}, token=token, headers=JSON)
            assert (shown.status, shown.document["error"]) == (403, "not_permitted")

    run(main)


def test_nobody_comes_into_a_room_of_a_person() -> None:
    async def main() -> None:
        async with guests() as at:
            alice = await at.home.agent("alice")
            opened = await alice.open(topic="private", approval=False)
            for room in (opened.room, "private"):
                answer = await at.enter("mallory", room)
                assert (answer.status, answer.document["error"]) == (404, "no_such_room")

    run(main)


# -- acting ------------------------------------------------------------------------------------------------


def test_whoever_names_itself_names_the_agent_of_its_token() -> None:
    async def main() -> None:
        async with guests("agent-a", "agent-b") as at:
            for line, body in (
                ("POST /messages", {"from": "agent-b", "body": "x"}),
                ("PUT /state", {"agent": "agent-b", "key": "x", "value": 1}),
                ("POST /agents/agent-b/heartbeat", {"status": "busy"}),
                ("GET /wait?condition=true&agent=agent-b", None),
                ("POST /messages", {"from": 7, "body": "x"}),
            ):
                answer = await at.ask("agent-a", line, body)
                assert (answer.status, answer.document["error"]) == (403, "identity_mismatch"), line
            assert (await at.ask("agent-a", "POST /messages", {"from": "agent-a", "body": "x"})).status == 201

    run(main)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("PUT /state", {"key": "x", "value": 1, "room": "annex"}),
        ("PUT /state", {"key": "x", "value": 1, "idempotency_key": "k-1"}),
        ("POST /messages", {"body": "innocent", "data": {"evil": 1}}),
        ("POST /messages", {"body": "innocent", "text": "evil"}),
        ("POST /actions/go/invoke", {"id": "stop"}),
        ("GET /messages?since=3", None),
        ("GET /messages?after=null", None),
        ("GET /messages?after=", None),
        ("GET /messages?after=-1", None),
        ("GET /wait?condition=true&wait_ms=1000", None),
        ("GET /wait?condition=true&timeout=-1", None),
        ("GET /agents?expr=1", None),
        ("GET /state?after=x", None),
        ("GET /state?limit=1", None),
        ("PATCH /state/timer", None),
        ("DELETE /state?key=a", {"key": "b"}),
    ],
)
def test_what_is_no_parameter_of_a_call_is_refused_and_not_replaced(line: str, body: object) -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            answer = await at.ask("agent-a", line, body)
            assert (answer.status, answer.document["error"]) == (400, "invalid_param"), answer.body

    run(main)


def test_a_heartbeat_goes_to_the_room_of_its_token() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            line = "POST /rooms/nowhere/agents/agent-a/heartbeat"
            answer = await at.web.ask(line, {"status": "busy"}, token=at.tokens["agent-a"])
            assert (answer.status, answer.document["error"]) == (404, "no_such_room")
            assert (await at.done("agent-a", "POST /eval", {"expr": "agents[self].status"}))["value"] == "active"

    run(main)


def test_messages_have_numbers_bodies_and_claims() -> None:
    async def main() -> None:
        async with guests("coord", "worker-1", "worker-2") as at:
            posted = await at.ask("coord", "POST /messages", {"from": "coord", "kind": "task", "body": "analyze X"})
            assert (posted.status, posted.document["kind"]) == (201, "task")
            number = posted.document["id"]
            (found,) = await at.done("worker-1", "GET /messages?unclaimed=true&kind=task")
            assert (found["id"], found["from"], found["body"]) == (number, "coord", "analyze X")
            claimed = await at.done("worker-1", f"POST /messages/{number}/claim", {"agent": "worker-1"})
            assert claimed.items() >= {"claimed": True, "claimed_by": "worker-1", "message_id": number}.items()
            taken = await at.ask("worker-2", f"POST /messages/{number}/claim", {"agent": "worker-2"})
            assert taken.status == 409
            told = {"error": "already_claimed", "claimed": False, "claimed_by": "worker-1"}
            assert taken.document.items() >= told.items()
            result = {"from": "worker-1", "kind": "result", "reply_to": number, "body": {"found": [1, 2]}}
            await at.done("worker-1", "POST /messages", result)
            last = (await at.done("coord", f"GET /messages?after={number}"))[-1]
            assert (last["body"], last["reply_to"], last["verified"]) == ({"found": [1, 2]}, number, "valid")
            assert await at.done("coord", "GET /messages?limit=1") == [(await at.done("coord", "GET /messages"))[0]]
            for line in ("GET /messages?after=1&unclaimed=true", "GET /messages?sort=up", "GET /messages?after=x"):
                assert (await at.ask("coord", line)).document["error"] == "invalid_param"
            assert (await at.ask("coord", "POST /messages", {"kind": "text"})).document["error"] == "invalid_param"

    run(main)


def test_state_is_a_bare_list_and_a_conflict_has_what_stands_there() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            first = {"writes": [{"key": "phase", "value": "planning"}, {"key": "turn", "value": 0}]}
            batch = await at.done("agent-a", "PUT /state/batch", first)
            assert (batch["ok"], batch["count"]) == (True, 2)
            listed = await at.done("agent-a", "GET /state")
            assert [(each["scope"], each["key"], each["value"]) for each in listed] == [
                ("_shared", "phase", "planning"),
                ("_shared", "turn", 0),
            ]
            assert (await at.done("agent-a", "GET /state?key=turn"))["value"] == 0
            conflict = await at.ask("agent-a", "PUT /state", {"key": "turn", "value": 5, "if_version": 7})
            assert (conflict.status, conflict.document["error"]) == (409, "version_conflict")
            assert conflict.document["current"]["value"] == 0
            gated = {"key": "turn", "value": 5, "if": 'state._shared.phase == "done"'}
            refused = await at.ask("agent-a", "PUT /state", gated)
            assert refused.document.items() >= {"error": "precondition_failed", "evaluated": False}.items()
            assert refused.document["expression"] == gated["if"]
            gone = await at.done("agent-a", "DELETE /state", {"scope": "_shared", "key": "turn"})
            assert gone["deleted"] is True
            assert (await at.done("agent-a", "DELETE /state?key=phase"))["deleted"] is True
            assert await at.done("agent-a", "GET /state") == []

    run(main)


def test_all_of_a_long_list_comes_in_one_answer() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            for part in range(0, 300, 20):
                writes = [{"key": f"k{number:03}", "value": number} for number in range(part, part + 20)]
                await at.done("agent-a", "PUT /state/batch", {"writes": writes})
            listed = await at.done("agent-a", "GET /state")
            assert [each["value"] for each in listed] == list(range(300))

    run(main)


def test_a_wait_tells_when_its_time_was_over() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            started = trio.current_time()
            ended = await at.done("agent-a", "GET /wait?condition=has(state._shared.go)&timeout=3000&include=state")
            assert ended.items() >= {"triggered": False, "timeout": True}.items()
            assert "_shared" in ended["state"]
            assert 3 <= trio.current_time() - started < 4

    run(main)


def test_actions_are_a_bare_list() -> None:
    async def main() -> None:
        async with guests("agent-a") as at:
            craft = {
                "id": "craft",
                "params": {"item": {"type": "string", "enum": ["trap", "hut"]}},
                "writes": [{"key": "inventory_${params.item}", "value": 1, "increment": True}],
            }
            assert (await at.ask("agent-a", "PUT /actions", craft)).status == 201
            (shown,) = await at.done("agent-a", "GET /actions?expand_params=true")
            assert (shown["id"], shown["availability_by_param"]["item"]["hut"]) == ("craft", {"available": True})
            invoked = await at.done("agent-a", "POST /actions/craft/invoke", {"params": {"item": "hut"}})
            assert (invoked["invoked"], invoked["agent"], len(invoked["writes"])) == (True, "agent-a", 1)
            assert (await at.done("agent-a", "DELETE /actions/craft"))["deleted"] is True
            assert await at.done("agent-a", "GET /actions") == []

    run(main)


def test_a_heartbeat_states_what_an_agent_does_until_it_is_active_again() -> None:
    async def main() -> None:
        async with guests("agent-a", "agent-b") as at:
            for stated, seen in (({"status": "busy"}, "busy"), ({"status": "active"}, "active"), ({}, "active")):
                assert (await at.done("agent-a", "POST /agents/agent-a/heartbeat", stated))["ok"] is True
                found = await at.done("agent-b", "POST /eval", {"expr": 'agents["agent-a"].status'})
                assert found["value"] == seen

    run(main)


def test_nothing_is_there_that_has_no_path_below_v1() -> None:
    assert len({(flat.method, flat.path) for flat in FLAT}) == len(FLAT)
    assert all(flat.path.startswith("/rooms") for flat in FLAT)
    assert {operation.name for operation in OPERATIONS.values() if operation.plane == "visitor"} == {
        "room.begin",
        "room.enter",
    }


# -- with a token that opens, and one that joins -----------------------------------------------------------


@pytest.mark.parametrize("lets_in", [False, True])
def test_a_token_that_opens_rooms_opens_one_of_its_agents_and_others_come_in_with_one_that_joins(
    lets_in: bool,
) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home, lets_in=lets_in) as web:
            alice = await home.agent("alice")
            token = (await minted(alice, opens=2, access=("read", "state"))).token
            began = await web.ask("POST /rooms", {"id": "my-room"}, token=token)
            assert (began.status, began.document["id"], began.document["approval"]) == (201, "my-room", True)
            room = began.document["room"]
            taken = await web.ask("POST /rooms", {"id": "my-room"}, token=token)
            assert (taken.status, taken.document["error"]) == (409, "room_exists")
            assert (await web.ask("PUT /rooms/my-room/state", {"key": "a", "value": 1}, token=token)).status == 200
            assert [each["id"] for each in (await web.ask("GET /rooms", token=token)).document] == ["my-room"]
            assert (await web.ask("POST /rooms", {"id": "other"}, token=token)).status == 201
            more = await web.ask("POST /rooms", {"id": "third"}, token=token)
            assert (more.status, more.document["error"]) == (403, "token_used_up")

            joins = (await minted(alice, join=True, room=room, uses=2)).token
            asked = {"id": "agent-a", "name": "Alice", "role": "coordinator"}
            came = await web.ask("POST /rooms/my-room/agents", asked, token=joins)
            assert came.status == 201
            assert came.document == {
                "id": "agent-a",
                "name": "Alice",
                "role": "coordinator",
                "status": "active",
                "room": room,
                "token": came.document["token"],
            }
            me = came.document["token"]
            assert (await web.ask("GET /rooms/my-room/state?key=a", token=me)).document["value"] == 1
            # First join wins, and whoever comes again with its own token goes on with another.
            first = await web.ask("POST /rooms/my-room/agents", asked, token=joins)
            assert (first.status, first.document["error"]) == (409, "agent_exists")
            again = await web.ask("POST /rooms/my-room/agents", asked, token=me)
            assert (again.status, again.document["id"]) == (201, "agent-a")
            elsewhere = await web.ask("POST /rooms/other/agents", {"id": "agent-b"}, token=joins)
            assert (elsewhere.status, elsewhere.document["error"]) == (404, "no_such_room")

    run(main)


def test_whoever_has_to_wait_is_told_where_to_ask_and_a_repetition_is_no_second_agent() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice = await home.agent("alice")
            opener = (await minted(alice, opens=1, access=("read", "open", "mint"))).token
            assert (await web.ask("POST /rooms", {"id": "team"}, token=opener)).status == 201
            narrowed = await web.ask("POST /v1/tokens", {"access": ["read"], "join": True}, token=opener)
            joins, key = narrowed.document["token"], {"Idempotency-Key": "0123456789abcdef"}
            waits = await web.ask("POST /rooms/team/agents", {"id": "agent-a"}, token=joins, headers=key)
            assert (waits.status, waits.document["status"], waits.document["token"]) == (201, "pending", None)
            await alice.approve("agent-a")
            again = await web.ask("POST /rooms/team/agents", {"id": "agent-a"}, token=joins, headers=key)
            assert (again.status, again.document["status"]) == (200, "active")
            found = await web.ask(f"GET /v1/joins/{waits.document['join']}", token=joins)
            assert found.document["token"] == again.document["token"]

    run(main)


def test_a_token_that_is_not_for_open_opens_nothing_and_says_how_to_get_one_that_does() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice = await home.agent("alice")
            await alice.open(topic="team")
            for access, said in ((("read",), "not_permitted"), (("read", "open"), "not_permitted")):
                token = (await minted(alice, access=access)).token
                refused = await web.ask("POST /rooms", {"id": "x"}, token=token)
                assert (refused.status, refused.document["error"]) == (403, said)
                below = await web.ask("POST /v1/rooms", {"topic": "x"}, token=token)
                assert (below.status, below.code) == (403, said)
                assert "parler token mint" in below.document["error"]["hint"]

    run(main)
