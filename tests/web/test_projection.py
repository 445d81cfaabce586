"""What is hidden from an agent, asked for over HTTP by every read that there is: none of it is in any answer."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from parlerd.operations import types as t
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
