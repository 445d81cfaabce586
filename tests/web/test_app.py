"""The operations of agents over HTTP: as whom, for what, and with which answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest
import trio

from parlerd.core.errors import ERRORS
from parlerd.engine.callers import Caller
from parlerd.engine.engine import Engine
from parlerd.identity import tokens
from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT
from parlerd.operations.registry import OPERATIONS
from parlerd.web import description
from parlerd.web.app import MAX_CALLS
from tests.support.engine import Party, Served, engine_world, run
from tests.support.http import NAME, OverHttp, minted, over_http


@dataclass
class House:
    """Alice and bob in a room, and bob's token for it."""

    home: Served
    web: OverHttp
    alice: Party
    bob: Party
    room: str
    token: str
    info: t.TokenInfo


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with engine_world() as home, over_http(home) as web:
        alice, bob = await home.agent("alice"), await home.agent("bob")
        opened = await alice.open(approval=False)
        await bob.come_in(opened.session_key)
        told = await minted(bob)
        yield House(home, web, alice, bob, opened.room, told.token, told.info)


# -- talking -----------------------------------------------------------------------------------------------


def test_a_program_with_a_token_talks_reads_and_acknowledges() -> None:
    async def main() -> None:
        async with house() as at:
            client, messages = at.web.connect(), f"/v1/rooms/{at.room}/messages"
            me = await client.ask("GET /v1/me", token=at.token)
            assert (me.status, me.document["name"]) == (200, "bob")
            await at.alice.send("hello bob")
            page = (await client.ask(f"GET {messages}", token=at.token)).document
            assert [each["text"] for each in page["messages"]] == ["hello bob"]
            # To read is not to acknowledge.
            again = (await client.ask(f"GET {messages}", token=at.token)).document
            assert again["messages"] == page["messages"]
            done = await client.ask(f"POST /v1/rooms/{at.room}/commit", {"cursor": page["cursor"]}, token=at.token)
            assert done.status == 200
            assert (await client.ask(f"GET {messages}", token=at.token)).document["messages"] == []
            sent = await client.ask(f"POST {messages}", {"text": "hello alice"}, token=at.token)
            assert (sent.status, sent.headers["parler-version"]) == (201, CONTRACT)
            [message] = (await at.alice.recv()).messages
            assert (message.author.name, message.verified, message.via) == ("bob", "valid", "http")

    run(main)


def test_the_same_key_is_the_same_request_over_any_door() -> None:
    async def main() -> None:
        async with house() as at:
            line, said = f"POST /v1/rooms/{at.room}/messages", {"text": "once"}
            first = await at.web.ask(line, said, token=at.token, headers={"Idempotency-Key": '"once-1"'})
            again = await at.web.ask(line, said, token=at.token, headers={"Idempotency-Key": "once-1"})
            assert (first.status, again.status, again.document["replayed"]) == (201, 200, True)
            assert first.document["id"] == again.document["id"]
            over_socket = await at.bob.send("once", room=at.room, idempotency_key="once-1")
            assert (over_socket.id, over_socket.replayed) == (first.document["id"], True)
            other = await at.web.ask(line, {"text": "twice"}, token=at.token, headers={"Idempotency-Key": "once-1"})
            assert (other.status, other.code) == (409, "idempotency_conflict")
            drawn = await at.web.ask(line, said, token=at.token)
            assert len(drawn.headers["idempotency-key"]) > 16

    run(main)


def test_state_is_written_read_and_waited_for() -> None:
    async def main() -> None:
        async with house() as at:
            state = f"/v1/rooms/{at.room}/state"
            wrote = await at.web.ask(f"PUT {state}", {"key": "turn", "value": {"n": 1}}, token=at.token)
            assert (wrote.status, wrote.document["version"]) == (201, 1)
            found = await at.web.ask(f"GET {state}/entry?key=turn", token=at.token)
            assert found.document["value"] == {"n": 1}
            conflict = await at.web.ask(f"PUT {state}", {"key": "turn", "value": 2, "if_version": 7}, token=at.token)
            assert (conflict.status, conflict.code) == (409, "version_conflict")
            assert conflict.document["error"]["details"]["current"]["version"] == 1
            waiting = at.web.connect()
            condition = "state._shared.turn.n%20%3D%3D%202"
            await waiting.begin(f"GET /v1/rooms/{at.room}/wait?condition={condition}&wait_ms=50000", token=at.token)
            await trio.sleep(5)
            await at.web.ask(f"PUT {state}", {"key": "turn", "value": {"n": 2}}, token=at.token)
            answer = await waiting.answer()
            assert answer.document["triggered"] is True
            gone = await at.web.ask(f"DELETE {state}?key=turn", token=at.token)
            assert gone.status == 201

    run(main)


def test_a_long_poll_that_nobody_waits_for_any_more_ends() -> None:
    async def main() -> None:
        async with house() as at:
            client = at.web.connect()
            await client.begin(f"GET /v1/rooms/{at.room}/messages?wait_ms=50000", token=at.token)
            await trio.sleep(1)
            token, _ = await at.home.engine.bearers.caller_of(at.token, at.bob.caller)
            assert at.home.engine.bearers.count(token) == 1
            await client.stream.aclose()
            await trio.sleep(1)
            assert at.home.engine.bearers.count(token) == 0

    run(main)


async def _revoke(at: House) -> None:
    await at.bob.ask("token.revoke", t.RevokeToken(id=at.info.id), t.RevokedToken)


# -- who may what ------------------------------------------------------------------------------------------


def test_without_a_token_nothing_of_a_room_is_answered() -> None:
    async def main() -> None:
        async with house() as at:
            for operation in description.served():
                assert operation.http is not None
                if operation.plane == "visitor":
                    continue
                path = operation.http.path.replace("{room}", at.room)
                line = f"{operation.http.method} /v1{path}".replace("{", "").replace("}", "")
                body: object = None if operation.http.method in ("GET", "DELETE") else {}
                bare = await at.web.ask(line, body, headers={"Content-Type": "application/json"})
                if operation.name == "join.begin":
                    # It knows no more than that somebody is to be named.
                    assert (bare.status, bare.code) == (400, "invalid_param"), line
                    continue
                assert (bare.status, bare.code) == (401, "token_required"), line
                assert bare.headers["www-authenticate"] == "Bearer"
                assert bare.headers["cache-control"] == "no-store"

    run(main)


def test_a_wrong_token_an_expired_and_a_revoked_one_are_answered_alike() -> None:
    async def main() -> None:
        async with house() as at:
            never = tokens.made_of(bytes(32))
            answers = []
            for token in (never, at.token[:-1], "as_x", "x" * 500):
                answers.append(await at.web.ask("GET /v1/me", token=token))
            await _revoke(at)
            answers.append(await at.web.ask("GET /v1/me", token=at.token))
            for answer in answers:
                assert (answer.status, answer.code) == (401, "token_invalid")
                answer.document["error"].pop("request")
            bodies = [{**each.document["error"], "request": ""} for each in answers]
            assert all(body == bodies[0] for body in bodies)

    run(main)


def test_whoever_guesses_is_slowed_down_on_however_many_connections_and_whoever_has_a_token_is_not() -> None:
    async def main() -> None:
        async with house() as at:
            codes = {(await at.web.ask("GET /v1/me", token=tokens.made_of(bytes([n] * 32)))).code for n in range(30)}
            assert codes == {"token_invalid", "throttled"}
            assert (await at.web.ask("GET /v1/me", token=at.token)).status == 200
            # What is guessed here spends nothing of what those have who come with a key by another door.
            opened = await at.alice.open("annex", approval=False)
            carol = await at.home.agent("carol")
            began = trio.current_time()
            await carol.come_in(opened.session_key)
            assert trio.current_time() - began < 1

    run(main)


def test_a_token_is_for_one_room_and_for_what_it_was_minted() -> None:
    async def main() -> None:
        async with house() as at:
            other = await at.bob.open("annex", "")
            for line in (f"GET /v1/rooms/{other.room}/messages", "GET /v1/rooms/r_none/messages"):
                answer = await at.web.ask(line, token=at.token)
                assert (answer.status, answer.code) == (404, "no_such_room")
            reads = await minted(at.bob, room=at.room, access=("read",))
            assert (await at.web.ask("GET /v1/me", token=reads.token)).status == 200
            post = await at.web.ask(f"POST /v1/rooms/{at.room}/messages", {"text": "x"}, token=reads.token)
            assert (post.status, post.code) == (403, "not_permitted")
            opens = await at.web.ask("POST /v1/rooms", {"context": "x"}, token=at.token)
            assert (opens.status, opens.code) == (403, "not_permitted")

    run(main)


def test_no_operation_of_a_person_is_reached() -> None:
    paths = [operation.http for operation in OPERATIONS.values() if operation.http is not None]
    assert len({route.line for route in paths}) == len(paths)
    assert {operation.plane for operation in OPERATIONS.values() if operation.http is not None} == {
        "agent",
        "visitor",
        "joiner",
    }
    reached = ("agent", "visitor", "joiner")
    assert all(operation.http is not None for operation in OPERATIONS.values() if operation.plane in reached)
    for operation in OPERATIONS.values():
        if operation.http is not None:
            fields = {field.encode_name for field in msgspec.structs.fields(operation.params)}
            assert set(operation.http.fields) <= fields
            # Keys and expressions never stand in a path.
            assert not {"key", "expr", "condition", "session_key"} & set(operation.http.fields)


def test_a_token_ends_with_its_time() -> None:
    async def main() -> None:
        async with house() as at:
            brief = await minted(at.bob, room=at.room, days=1)
            assert (await at.web.ask("GET /v1/me", token=brief.token)).status == 200
            at.home.world.clock.move(seconds=86_400)
            assert (await at.web.ask("GET /v1/me", token=brief.token)).code == "token_invalid"
            listed = await at.bob.ask("token.list", t.ListTokens(), t.TokenList)
            assert [each.id for each in listed.tokens] == [at.info.id]

    run(main)


def test_so_many_calls_are_under_way_with_one_token() -> None:
    async def main() -> None:
        async with house() as at:
            clients = [at.web.connect() for _ in range(MAX_CALLS)]
            for client in clients:
                await client.begin(f"GET /v1/rooms/{at.room}/messages?wait_ms=50000", token=at.token)
            await trio.sleep(1)
            busy = await at.web.ask("GET /v1/me", token=at.token)
            assert (busy.status, busy.code, busy.headers["retry-after"]) == (429, "busy", "1")

    run(main)


# -- what is sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "body", "code"),
    [
        ("POST /v1/rooms/ROOM/messages", {"text": "x", "txet": "y"}, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b'{"text":"x","text":"y"}', "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b'{"text":', "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b'["text"]', "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b'{"text":NaN}', "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b"[" * 100_000, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b"\xff\xfe", "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", {"text": 7}, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", {"text": "x", "room": "r_other"}, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages?text=x", {}, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", {}, "invalid_param"),
        ("GET /v1/rooms/ROOM/messages?limit=1&limit=2", None, "invalid_param"),
        ("GET /v1/rooms/ROOM/messages?limit=many", None, "invalid_param"),
        ("GET /v1/rooms/ROOM/messages?what=1", None, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", {"text": "x", "idempotency_key": "k-1"}, "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b'{"text":"x","kind":"\\ud800"}', "invalid_param"),
        ("POST /v1/rooms/ROOM/messages", b'{"text":"x","\\ud800":1}', "invalid_param"),
        ("POST /rooms/ROOM/agents", b'{"id":"bob","name":"\\ud800"}', "invalid_param"),
        ("GET /rooms/ROOM/state", {"key": "x"}, "invalid_param"),
        ("HEAD /v1/nothing", None, ""),
        ("PUT /v1/rooms/ROOM/state", b'{"key":"\\ud800","value":1}', "invalid_param"),
        ("PUT /v1/rooms/ROOM/state", {"key": "k", "value": 1, "if_version": 10**30}, "invalid_param"),
        ("PUT /v1/rooms/ROOM/state", {"key": "k", "increment": 10**30}, "invalid_param"),
        ("DELETE /v1/rooms/ROOM/state?key=k&if_version=99999999999999999999999", None, "invalid_param"),
        ("DELETE /v1/rooms/ROOM/state?key=k", {"if_version": 77}, "invalid_param"),
        ("GET /v1/rooms/ROOM/messages", {"limit": 1}, "invalid_param"),
        ("GET /v1/nothing", None, "unknown_operation"),
        ("PATCH /v1/me", b"", "unknown_operation"),
    ],
)
def test_what_is_wrong_is_said_with_its_code(line: str, body: object, code: str) -> None:
    async def main() -> None:
        async with house() as at:
            answer = await at.web.ask(line.replace("ROOM", at.room), body, token=at.token)
            assert answer.status in (400, 404, 405)
            if line.startswith("HEAD"):
                return
            error = answer.document["error"]
            if " /rooms" in line:
                assert error == code
                return
            assert answer.code == code
            assert {"code", "message", "action", "scope", "retryable", "hint", "request"} <= error.keys()

    run(main)


def test_a_token_in_an_address_is_refused() -> None:
    async def main() -> None:
        async with house() as at:
            for line in (f"/v1/me?token={at.token}", f"/v1/me?{at.token}=1", f"/v1/rooms/{at.token}/messages"):
                answer = await at.web.ask(f"GET {line}", token=at.token)
                assert (answer.status, answer.code) == (400, "token_in_url")
                assert at.token.encode() not in answer.body
            for line in (f"/openapi.json?t=Bearer%20{at.token}", f"/nothing/{at.token.replace('as_', 'as%5F')}"):
                assert (await at.web.ask(f"GET {line}")).code == "token_in_url"

    run(main)


def test_where_nothing_is_the_guide_is_named() -> None:
    async def main() -> None:
        async with house() as at:
            nothing = await at.web.ask("GET /v1/nothing")
            assert "/llms.txt" in nothing.document["error"]["hint"]

    run(main)


# -- finding out -------------------------------------------------------------------------------------------


def test_a_program_finds_out_everything_without_a_token() -> None:
    async def main() -> None:
        async with house() as at:
            guide = await at.web.ask("GET /llms.txt")
            assert (guide.status, len(guide.body) < 12 * 1024) == (200, True)
            api = (await at.web.ask("GET /openapi.json")).document
            assert api["openapi"].startswith("3.1")
            errors = (await at.web.ask("GET /v1/errors")).document
            assert errors.keys() == ERRORS.keys()
            for operation in description.served():
                assert operation.http is not None
                assert f"{operation.http.method} /v1{operation.http.path}" in guide.body.decode()
                described = api["paths"][f"/v1{operation.http.path}"][operation.http.method.lower()]
                assert described["operationId"] == operation.name
            assert at.room not in guide.body.decode()
            tag = {"If-None-Match": guide.headers["etag"]}
            kept = await at.web.ask("GET /llms.txt", headers=tag)
            assert (kept.status, kept.body, kept.headers["etag"]) == (304, b"", guide.headers["etag"])
            assert (await at.web.ask("GET /openapi.json", headers=tag)).status == 200

    run(main)


def test_an_idempotency_key_that_is_none_is_refused_and_not_replaced() -> None:
    async def main() -> None:
        async with house() as at:
            for key in ("", '""', "a b", "x" * 200):
                headers = {"Idempotency-Key": key}
                line, said = f"POST /v1/rooms/{at.room}/messages", {"text": "x"}
                answer = await at.web.ask(line, said, token=at.token, headers=headers)
                assert (answer.status, answer.code) == (400, "invalid_param"), key

    run(main)


def test_a_name_with_a_slash_is_one_segment() -> None:
    async def main() -> None:
        async with house() as at:
            actions = f"/v1/rooms/{at.room}/actions"
            made = await at.web.ask(f"PUT {actions}", {"id": "a/b", "writes": []}, token=at.token)
            assert made.status == 201
            invoked = await at.web.ask(f"POST {actions}/a%2Fb/invoke", {}, token=at.token)
            assert (invoked.status, invoked.document["action"]) == (201, "a/b")
            assert (await at.web.ask(f"DELETE {actions}/a%2Fb", token=at.token)).status == 201

    run(main)


def test_a_body_that_does_not_come_is_answered_with_its_status() -> None:
    async def main() -> None:
        async with house() as at:
            for line in (f"POST /v1/rooms/{at.room}/messages", f"GET /v1/rooms/{at.room}/events"):
                client = at.web.connect()
                raw = (
                    f"{line} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {at.token}\r\nContent-Length: 9\r\n\r\n"
                )
                await client.stream.send_all(raw.encode())
                got = b""
                while piece := await client.stream.receive_some():
                    got += piece
                assert got.startswith(b"HTTP/1.1 408"), got[:80]

    run(main)


# -- narrower tokens ---------------------------------------------------------------------------------------


def test_a_token_makes_others_that_are_no_wider_and_end_with_it() -> None:
    async def main() -> None:
        async with house() as at:
            wide = await minted(at.bob, room=at.room, access=("read", "post", "mint"), days=10)
            asked = {"access": ["read"], "days": 180, "label": "a reader"}
            made = await at.web.ask("POST /v1/tokens", asked, token=wide.token)
            assert made.status == 201
            child = made.document
            assert (child["info"]["access"], child["info"]["parent"]) == (["read"], wide.info.id)
            assert child["info"]["expires_at"] == wide.info.expires_at
            assert (await at.web.ask("GET /v1/me", token=child["token"])).document["name"] == "bob"
            post = await at.web.ask(f"POST /v1/rooms/{at.room}/messages", {"text": "x"}, token=child["token"])
            assert (post.status, post.code) == (403, "not_permitted")
            wider = await at.web.ask("POST /v1/tokens", {"access": ["read", "state"]}, token=wide.token)
            assert (wider.status, wider.code) == (403, "not_permitted")
            for token in (child["token"], at.token):
                again = await at.web.ask("POST /v1/tokens", {"access": ["read"]}, token=token)
                assert (again.status, again.code) == (403, "not_permitted")
            # Whatever is under way with the child ends with its parent.
            waiting = at.web.connect()
            await waiting.begin(f"GET /v1/rooms/{at.room}/messages?wait_ms=50000", token=child["token"])
            await trio.sleep(1)
            await at.bob.ask("token.revoke", t.RevokeToken(id=wide.info.id), t.RevokedToken)
            assert (await waiting.answer()).code == "token_invalid"
            assert (await at.web.ask("GET /v1/me", token=child["token"])).code == "token_invalid"

    run(main)


def test_a_path_says_which_methods_it_has() -> None:
    async def main() -> None:
        async with house() as at:
            answer = await at.web.ask(f"PATCH /v1/rooms/{at.room}/actions", b"", token=at.token)
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, PUT")
            head = await at.web.ask(f"HEAD /v1/rooms/{at.room}/events", token=at.token)
            assert head.status == 404

    run(main)


@pytest.mark.parametrize("line", ["me", "rooms/{room}/messages?wait_ms=1000"])
def test_what_fails_unexpectedly_is_answered_and_ends_its_connection_alone(
    line: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both where the answer is made and where somebody waits for it."""

    async def fails(self: Engine, op: str, params: t.Params, caller: Caller) -> t.Result:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a secret of the engine")

    async def main() -> None:
        async with house() as at:
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "call", fails)
                answer = await at.web.ask(f"GET /v1/{line.format(room=at.room)}", token=at.token)
            assert (answer.status, answer.code) == (500, "internal")
            assert (await at.web.ask("GET /v1/me", token=at.token)).status == 200

    run(main)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
