"""What an agent with a token may do in a room, as it is listed, held against what happens when it does that."""

from __future__ import annotations

from typing import Any, Final, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.actions import MAX_ACTIONS
from parlerd.operations import types as t
from parlerd.web.calls import MAX_AFFORDANCES
from tests.scenario.test_actions import register
from tests.support.engine import engine_world, run
from tests.support.http import minted, over_http

BODIES: Final[dict[str, Any]] = {
    "message.send": {"text": "hello"},
    "handoff.give": {"next": "go on"},
    "memory.remember": {"text": "the port is 8756"},
    "task.claim": {},
    "state.list": {},
    "state.set": {"key": "turn", "value": 1},
    "state.evaluate": {"expr": "1 + 1"},
    "state.wait": {"condition": "true"},
    "action.list": {},
    "action.register": {"id": "go", "writes": []},
    "room.kick": {},
    "room.role": {"role": "helper"},
}
"""What each operation that is listed is asked with."""
OF_AUTHORITY: Final = {
    "not_permitted", "person_only", "needs_person", "not_owner", "not_a_worker", "room_closed", "agent_disabled",
    "no_such_room", "token_invalid", "unknown_operation",
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    is_owner=st.booleans(),
    is_closed=st.booleans(),
    is_enabled=st.booleans(),
    access=st.sets(st.sampled_from(get_args(t.Access))).map(lambda some: tuple(sorted({*some, "read"}))),
)
def test_what_is_listed_as_allowed_is_not_refused_for_authority_and_the_rest_is_with_its_reason(
    *, is_owner: bool, is_closed: bool, is_enabled: bool, access: tuple[t.Access, ...]
) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice, bob, _ = await home.room("alice", "bob", "carol")
            room = (await alice.rooms())[0].room
            who = alice if is_owner else bob
            token = (await minted(who, room=room, access=access)).token
            if not is_enabled:
                await who.ask("agent.enable", t.EnableAgent(enabled="false"), t.AgentEnabled)
            if is_closed:
                await alice.ask("room.archive", t.ArchiveRoom(room=room), t.ArchivedRoom)
            listed = (await web.ask(f"GET /v1/rooms/{room}/affordances", token=token)).document
            assert {row["operation"] for row in listed["affordances"]} == BODIES.keys()
            # Whoever is put out comes last: the others are for a member that is there.
            for row in sorted(listed["affordances"], key=lambda row: row["operation"] == "room.kick"):
                body = BODIES[row["operation"]]
                path = row["path"].replace("{agent}", "carol")
                if row["method"] in ("GET", "DELETE"):
                    query = "&".join(f"{name}={value}" for name, value in body.items())
                    answer = await web.ask(f"{row['method']} {path}{'?' * bool(query)}{query}", token=token)
                else:
                    answer = await web.ask(f"{row['method']} {path}", body, token=token)
                code = "" if answer.status < 300 else answer.code
                if row["allowed"]:
                    assert code not in OF_AUTHORITY, row
                else:
                    assert code == row["reason"], row
            for row in listed["affordances"]:
                assert ("unlock" in row) is not row["allowed"]
                if row["allowed"] and "example" in row:
                    method, _, rest = row["example"].partition(" ")
                    path, _, said = rest.partition(" ")
                    data = said.encode() if said or method in ("POST", "PUT") else None
                    answer = await web.ask(f"{method} {path}", data, token=token)
                    assert answer.status < 300, (row, answer.body)
            for step in listed["next"]:
                if "{" not in step["path"]:
                    answer = await web.ask(f"{step['method']} {step['path']}", step.get("body"), token=token)
                    assert answer.status < 300 or answer.code not in OF_AUTHORITY, step

    run(main)


def test_the_page_of_a_room_says_what_may_be_done_there_and_what_comes_next() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice, bob = await home.room("alice", "bob")
            room = (await alice.rooms())[0].room
            token = (await minted(bob, room=room, access=("read", "post"))).token
            await alice.send("look at this")
            page = await web.ask(f"GET /v1/rooms/{room}/llms.txt", token=token)
            assert (page.status, page.headers["content-type"]) == (200, "text/plain; charset=utf-8")
            lines = page.body.decode().splitlines()
            assert f"You are bob in the room {room}. There you may now:" in lines
            assert f'- POST /v1/rooms/{room}/messages {{"text":"on it"}}' in lines
            denied = f"- not PUT /v1/rooms/{room}/state: not_permitted. Ask the person for a token that is for `state`."
            assert denied in lines
            assert f"Next (unread): GET /v1/rooms/{room}/messages" in lines
            assert len(page.body) < 12 * 1024
            # What others wrote is in no such page.
            assert "look at this" not in page.body.decode()
            for line in (f"GET /v1/rooms/{room}/llms.txt", "GET /v1/rooms/r_none/llms.txt"):
                assert (await web.ask(line)).code == "token_required"
            assert (await web.ask("GET /v1/rooms/r_none/llms.txt", token=token)).code == "no_such_room"

    run(main)


def test_the_epoch_is_another_one_when_what_is_allowed_is_and_many_actions_are_counted() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice, bob = await home.room("alice", "bob")
            room = (await alice.rooms())[0].room
            token = (await minted(bob, room=room)).token
            line = f"GET /v1/rooms/{room}/affordances"
            first = (await web.ask(line, token=token)).document
            await alice.send("what is said changes nothing that is allowed")
            assert (await web.ask(line, token=token)).document["epoch"] == first["epoch"]
            await bob.ask("agent.enable", t.EnableAgent(enabled="false"), t.AgentEnabled)
            assert (await web.ask(line, token=token)).document["epoch"] != first["epoch"]
            for number in range(MAX_ACTIONS):
                await register(alice, id=f"action-{number:03}", writes=[{"key": "x", "value": number}])
            many = await web.ask(line, token=token)
            assert len(many.body) <= MAX_AFFORDANCES
            assert many.document["left_out"] > 0
            assert len(many.document["actions"]) + many.document["left_out"] == MAX_ACTIONS

    run(main)
