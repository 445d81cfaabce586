"""Joining over HTTP: the exchange of a token that joins for one that acts, and all that such a token is not for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from parlerd.operations import types as t
from parlerd.web import description
from tests.support.engine import Party, Served, engine_world, run
from tests.support.http import OverHttp, minted, over_http

KEY = {"Idempotency-Key": "0123456789abcdef"}


@dataclass
class House:
    home: Served
    web: OverHttp
    alice: Party
    room: str
    token: str
    """With it a person lets two agents in."""
    asks: str
    """With it an agent lets two agents knock."""


@asynccontextmanager
async def house(*, lets_in: bool = False) -> AsyncIterator[House]:
    async with engine_world() as home, over_http(home, lets_in=lets_in) as web:
        alice = await home.agent("alice")
        room = (await alice.open()).room
        told = await minted(alice, join=True, uses=2)
        mints = await minted(alice, access=("read", "mint"))
        narrowed = await web.ask("POST /v1/tokens", {"access": ["read"], "join": True, "uses": 2}, token=mints.token)
        assert narrowed.status == 201
        yield House(home, web, alice, room, told.token, narrowed.document["token"])


def test_a_token_that_joins_is_exchanged_for_one_that_acts() -> None:
    async def main() -> None:
        async with house() as at:
            came = await at.web.ask("POST /v1/joins", {"name": "build-bot"}, token=at.token, headers=KEY)
            assert (came.status, came.document["status"], came.document["replayed"]) == (201, "joined", False)
            assert came.headers["idempotency-key"] == KEY["Idempotency-Key"]
            acts = came.document["token"]
            me = await at.web.ask("GET /v1/me", token=acts)
            assert me.document["name"] == "build-bot"
            again = await at.web.ask("POST /v1/joins", {"name": "build-bot"}, token=at.token, headers=KEY)
            assert (again.status, again.document) == (200, {**came.document, "replayed": True})
            other = await at.web.ask("POST /v1/joins", {"name": "deploy-bot"}, token=at.token, headers=KEY)
            assert (other.status, other.code) == (409, "idempotency_conflict")
            # Whoever sends no key is told the one that was drawn; a short one is as good as none for a secret.
            drawn = await at.web.ask("POST /v1/joins", {"name": "deploy-bot"}, token=at.token)
            assert len(drawn.headers["idempotency-key"]) >= 16
            short = await at.web.ask("POST /v1/joins", {"name": "x"}, token=at.token, headers={"Idempotency-Key": "x"})
            assert (short.status, short.code) == (400, "invalid_param")
            third = await at.web.ask("POST /v1/joins", {"name": "third"}, token=at.token)
            assert (third.status, third.code) == (403, "token_used_up")

    run(main)


def test_whoever_has_to_wait_is_given_an_id_and_later_the_token() -> None:
    async def main() -> None:
        async with house() as at, trio.open_nursery() as nursery:
            knock = await at.web.ask("POST /v1/joins", {"name": "bot"}, token=at.asks)
            assert (knock.status, knock.document["status"], knock.document["token"]) == (201, "pending", None)
            # Its process is not known here, so it may be of the side that decides.
            assert knock.document["code"] is None
            line, heard = f"GET /v1/joins/{knock.document['id']}", list[str]()

            async def wait() -> None:
                answer = await at.web.ask(f"{line}?wait_ms=50000", token=at.asks)
                heard.append(answer.document["token"])

            nursery.start_soon(wait)
            await trio.sleep(5)
            await at.alice.approve("bot")
            await trio.sleep(1)
            [token] = heard
            assert (await at.web.ask("GET /v1/me", token=token)).document["name"] == "bot"
            # An id is no token: it says nothing to whoever shows another one, or none.
            assert (await at.web.ask(line, token=at.token)).code == "no_such_join"
            assert (await at.web.ask(line)).code == "token_required"

    run(main)


def test_a_wait_ends_when_its_token_is_revoked() -> None:
    async def main() -> None:
        async with house() as at, trio.open_nursery() as nursery:
            knock = await at.web.ask("POST /v1/joins", {"name": "bot"}, token=at.asks)
            codes: list[tuple[int, str]] = []

            async def wait() -> None:
                line = f"GET /v1/joins/{knock.document['id']}?wait_ms=50000"
                answer = await at.web.ask(line, token=at.asks)
                codes.append((answer.status, answer.code))

            nursery.start_soon(wait)
            await trio.sleep(5)
            listed = (await at.alice.ask("token.list", t.ListTokens(), t.TokenList)).tokens
            [info] = [each for each in listed if each.uses and each.parent]
            began = trio.current_time()
            await at.alice.call("token.revoke", t.RevokeToken(id=info.id))
            await trio.sleep(0.5)
            assert (codes, trio.current_time() - began < 1) == ([(401, "token_invalid")], True)

    run(main)


def test_a_token_that_joins_is_for_nothing_else() -> None:
    async def main() -> None:
        async with house(lets_in=True) as at:
            for operation in description.served():
                if operation.plane == "joiner":
                    continue
                assert operation.http is not None
                path = operation.http.path.replace("{room}", at.room).replace("{", "").replace("}", "")
                body: object = None if operation.http.method in ("GET", "DELETE") else {}
                line = f"{operation.http.method} /v1{path}"
                answer = await at.web.ask(line, body, token=at.token)
                assert (answer.status, answer.code) == (403, "not_permitted"), line
            for line in (f"GET /v1/rooms/{at.room}/llms.txt", f"GET /rooms/{at.room}/state", "GET /rooms"):
                assert (await at.web.ask(line, token=at.token)).status == 403, line

    run(main)


def test_a_token_that_acts_joins_nothing_and_a_join_needs_a_token() -> None:
    async def main() -> None:
        async with house() as at:
            acts = await minted(at.alice, access=t.ACCESSES)
            refused = await at.web.ask("POST /v1/joins", {"name": "bot"}, token=acts.token)
            assert (refused.status, refused.code) == (403, "not_permitted")
            refused = await at.web.ask("GET /v1/joins/jn_none", token=acts.token)
            assert (refused.status, refused.code) == (403, "not_permitted")

    run(main)


def test_a_token_that_joins_is_refused_in_an_address() -> None:
    async def main() -> None:
        async with house() as at:
            for line in (f"GET /v1/joins/{at.token}", f"GET /v1/me?t={at.token.replace('aj_', 'aj%5F')}"):
                answer = await at.web.ask(line)
                assert (answer.status, answer.code) == (400, "token_in_url")

    run(main)


# -- with a session key ------------------------------------------------------------------------------------

AS_JSON = {"Content-Type": "application/json"}


async def key_of(at: House, **options: Any) -> str:
    """The key of another session of alice's."""
    opened = await at.alice.open("annex", **options)
    assert opened.session_key is not None
    return opened.session_key


def test_a_session_key_lets_a_program_knock_and_the_person_decides() -> None:
    async def main() -> None:
        async with house() as at:
            body = {"name": "bot", "session_key": await key_of(at)}
            knock = await at.web.ask("POST /v1/joins", body, headers={**KEY, **AS_JSON})
            assert (knock.status, knock.document["status"], knock.document["token"]) == (201, "pending", None)
            waits = knock.document["join_token"]
            assert waits.startswith("aj_")
            again = await at.web.ask("POST /v1/joins", body, headers={**KEY, **AS_JSON})
            assert (again.status, again.document) == (200, {**knock.document, "replayed": True})
            [request] = await at.alice.requests()
            assert (request.name, request.host) == ("bot", "http")
            line = f"GET /v1/joins/{knock.document['id']}"
            assert (await at.web.ask(line, token=waits)).document["status"] == "pending"
            # What it is told before the person decided lets it do nothing.
            assert (await at.web.ask("GET /v1/me", token=waits)).code == "not_permitted"
            assert (await at.web.ask("POST /v1/joins", {"name": "more"}, token=waits)).status in (403, 404)
            await at.alice.approve("bot")
            came = await at.web.ask(line, token=waits)
            assert came.document["status"] == "joined"
            me = await at.web.ask("GET /v1/me", token=came.document["token"])
            assert me.document["name"] == "bot"
            # A repetition is answered also after the key is dead.
            await at.alice.call("session.revoke", t.RevokeSessionKey(session_key=body["session_key"]))
            again = await at.web.ask("POST /v1/joins", body, headers={**KEY, **AS_JSON})
            assert again.document["token"] == came.document["token"]
            other = await at.web.ask("POST /v1/joins", {**body, "name": "bot-2"}, headers=AS_JSON)
            assert (other.status, other.code) == (404, "unknown_key")

    run(main)


def test_a_key_that_lets_in_unasked_needs_a_token_that_somebody_asked_for() -> None:
    async def main() -> None:
        async with house() as at:
            body = {"name": "bot", "session_key": await key_of(at, approval=False)}
            agents = len(at.home.engine.rooms.home.aggregate.state.agents)
            refused = await at.web.ask("POST /v1/joins", body, headers=AS_JSON)
            assert (refused.status, refused.code) == (403, "needs_person")
            assert len(at.home.engine.rooms.home.aggregate.state.agents) == agents
            away = await at.web.ask(
                "POST /v1/joins", {"name": "bot", "session_key": "ABCDEFGH-ABCDEFGH@team"}, headers=AS_JSON
            )
            assert away.code in ("home_not_trusted", "unknown_key")

    run(main)


def test_whoever_guesses_keys_is_slowed_down_on_however_many_connections() -> None:
    async def main() -> None:
        async with house() as at:
            codes = []
            for number in range(12):
                body = {"name": "bot", "session_key": f"ABCDEF{'BCDFGHJKLMNP'[number]}Z"}
                codes.append((await at.web.ask("POST /v1/joins", body, headers=AS_JSON)).code)
            assert (codes[0], codes[-1]) == ("unknown_key", "throttled")
            # Those who come with a token, or by another door, are not.
            assert (await at.web.ask("POST /v1/joins", {"name": "bot"}, token=at.token)).status == 201

    run(main)


def test_without_a_token_nothing_but_a_knock_is_heard_and_only_as_json() -> None:
    async def main() -> None:
        async with house() as at:
            body = {"name": "bot", "session_key": await key_of(at)}
            for sent, headers, code in (
                ({"name": "bot"}, AS_JSON, "token_required"),
                (body, {"Content-Type": "text/plain"}, "not_json"),
                (body, {}, "not_json"),
                ({**body, "name": ".."}, AS_JSON, "invalid_name"),
                ({**body, "name": "alice"}, AS_JSON, "agent_exists"),
            ):
                assert (await at.web.ask("POST /v1/joins", sent, headers=headers)).code == code
            both = await at.web.ask("POST /v1/joins", body, token=at.token)
            assert (both.status, both.code) == (400, "invalid_param")
            assert (await at.web.ask("GET /v1/joins/jn_1")).code == "token_required"
            assert await at.alice.requests() == []

    run(main)
