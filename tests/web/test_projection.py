"""What is hidden from an agent, asked for over HTTP by every read that there is: none of it is in any answer."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
import trio

from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.engine import entries_shown, telling
from parlerd.engine.changes import CHANGES
from parlerd.operations import types as t
from parlerd.store.port import NewFact
from parlerd.web import description
from parlerd.web.flat import FLAT
from tests.support.engine import engine_world, run
from tests.support.files import share
from tests.support.http import minted, over_http

CANARY: Final = "canary7f3q"
"""Stands in everything that bob may not see."""
SEEN: Final = "what everybody sees"


def test_nothing_hidden_is_in_any_answer_to_any_read() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice, bob, carol = await home.room("alice", "bob", "carol")
            token = await minted(bob, access=t.ACCESSES)
            room = token.info.room
            await alice.send(SEEN)
            secret = await alice.send(f"{CANARY} for carol", visible_to=("carol",))
            gated = await alice.send(f"{CANARY} under a condition", enabled='self == "carol"')
            await alice.ask("state.set", t.SetState(key="plan", scope="alice", value=CANARY), t.StateWritten)
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            await alice.ask("memory.remember", t.Remember(text=CANARY, key="deploy", private=True), t.Remembered)
            await alice.ask("agent.presence", t.StatePresence(status="busy"), t.PresenceIs)
            hidden = await share(alice, CANARY.encode(), name=f"{CANARY}.txt", text=CANARY, visible_to=("carol",))
            other = await alice.open(CANARY, f"{CANARY} as a recap")
            await alice.send(f"{CANARY} elsewhere", room=other.room)
            # Who may see these sees them, so the canary is where it is looked for.
            assert CANARY in str((await carol.recv(room=room, since=0)).messages)
            given = {"key": "plan", "scope": "alice", "blob": hidden.blob, "condition": "true", "since": "0"}
            asked = 0
            for operation in description.served():
                assert operation.http is not None
                if operation.http.method != "GET" or operation.stream:
                    continue
                for id in (secret.id, gated.id):
                    values = {**given, "id": id, "room": room}
                    path = operation.http.path
                    for name in operation.http.fields:
                        path = path.replace(f"{{{name}}}", values.get(name, "alice"))
                    names = {field.encode_name for field in msgspec.structs.fields(operation.params)}
                    wanted = {"key", "scope", "condition", "since"} & names - set(operation.http.fields)
                    more = "&".join(f"{name}={values[name]}" for name in sorted(wanted))
                    answer = await web.ask(f"GET /v1{path}{'?' * bool(more)}{more}", token=token.token)
                    assert CANARY.encode() not in answer.body, (operation.name, answer.body)
                    assert answer.status != 500
                    asked += 1
            assert asked > 40
            for flat in FLAT:
                if flat.method == "GET":
                    path = flat.path.replace("{room}", room)
                    for more in ("", "?scope=alice", "?condition=true&include=state,agents,messages,actions"):
                        answer = await web.ask(f"GET {path}{more}", token=token.token)
                        assert CANARY.encode() not in answer.body, (path, answer.body)
            for line, body in (
                (f"POST /v1/rooms/{room}/eval", {"expr": "state"}),
                (f"POST /rooms/{room}/eval", {"expr": "[state, agents, actions]"}),
                (f"POST /rooms/{room}/messages", {"reply_to": secret.id, "body": "x"}),
                (f"POST /v1/rooms/{room}/claim", {"id": secret.id}),
            ):
                answer = await web.ask(line, body, token=token.token)
                assert CANARY.encode() not in answer.body, (line, answer.body)
            client, told = web.connect(), b""
            await client.begin(f"GET /v1/rooms/{room}/events", token=token.token)
            with trio.move_on_after(60):
                while piece := await client.piece():
                    told += piece
            assert SEEN.encode() in told
            assert CANARY.encode() not in told

    run(main)


async def streamed() -> tuple[bytes, list[str]]:
    """What the stream of a room tells bob while everything happens that is hidden from him, and what is hidden."""
    async with engine_world() as home, over_http(home) as web:
        alice, bob, carol = await home.agent("alice"), await home.agent("bob"), await home.agent("carol")
        opened = await alice.open()
        await home.admit(opened, bob, carol)
        token = await minted(bob, access=t.ACCESSES)
        room, told = token.info.room, b""
        await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        client = web.connect()
        await client.begin(f"GET /v1/rooms/{room}/events", token=token.token)
        with trio.move_on_after(1):
            while piece := await client.piece():
                told += piece
        assert b"hello" in told
        secret = await alice.send(f"{CANARY} for carol", visible_to=("carol",))
        task = await alice.send(f"{CANARY} to do", kind="task", visible_to=("carol",))
        held = await carol.ask("task.claim", t.ClaimTask(id=task.id), t.TaskHeld)
        await alice.ask("state.set", t.SetState(key="plan", scope="alice", value=CANARY), t.StateWritten)
        knocking = await home.agent(CANARY)
        await knocking.join(opened.session_key)
        await carol.ask("task.complete", t.CompleteTask(id=task.id, fence=held.fence or 0, text=CANARY), t.TaskHeld)
        other = await alice.open(CANARY, f"{CANARY} as a recap")
        await alice.send(f"{CANARY} elsewhere", room=other.room)
        await knocking.ask("agent.presence", t.StatePresence(status="busy", text=CANARY), t.PresenceIs)
        await (await home.person()).deny(CANARY)
        await alice.send(SEEN, room=room)
        with trio.move_on_after(60):
            while piece := await client.piece():
                told += piece
        return told, [CANARY, secret.id, task.id, other.room]


def shown(found: tuple[bytes, list[str]]) -> list[str]:
    """What is hidden, and is told all the same."""
    told, hidden = found
    assert SEEN.encode() in told
    return [each for each in hidden if each.encode() in told]


def test_nothing_that_happens_out_of_sight_is_in_the_stream_of_a_room() -> None:
    assert shown(run(streamed)) == []


def _written(room: Room, resolver: Resolver, fact: NewFact) -> t.StateChange | None:
    is_change = isinstance(fact.header.event, CHANGES)
    return entries_shown.change(room, resolver, fact.header, fact.body) if is_change else None


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("_sees_task", lambda room, me, id: True),
        ("_owns", lambda room, me: True),
        ("change_shown", _written),
    ],
)
def test_a_rule_that_does_not_hide_is_found(rule: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is worth something: with each rule broken by itself it finds something."""
    monkeypatch.setattr(telling, rule, broken)
    assert shown(run(streamed))
