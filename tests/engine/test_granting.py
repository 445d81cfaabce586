"""Agents that a relay speaks for: they come in by a grant, speak over HTTP, and end with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.envelope import TextPart
from parlerd.core.errors import Refused
from parlerd.core.model import MAX_PENDING_PER_KEY, AgentId, By, HomeId, MessageId, Millis, PrincipalId, RoomId
from parlerd.core.statements import Grant, MayOpen, encode
from parlerd.core.tokens import Token
from parlerd.engine import granting
from parlerd.engine.authors import Place
from parlerd.engine.engine import Engine
from parlerd.engine.granting import HomeAuthor
from parlerd.identity import tokens
from parlerd.identity.receipt_checks import check
from parlerd.operations import types as t
from tests.support.engine import CountedRandomness, PlugDriver, Served, draft, run, settle
from tests.support.granted import Meeting, meeting, over_relay
from tests.support.http import Answer
from tests.support.linked import Elsewhere, LinkParty
from tests.support.relayed import RelayKeys, homes_of

DAY_S = 86_400


async def link(at: Meeting, name: str = "ann") -> LinkParty:
    """One more link of a person's daemon to the relay."""
    person = Elsewhere(name)
    person.principal = (at.ann if name == "ann" else at.ben).keys.principal
    return await person.link(Served(at.ann_served.world, at.engine, at.ann_served.driver))


def test_what_a_program_with_a_token_says_at_a_relay_is_the_word_of_the_rooms_home(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints()
            said = await at.says(minted.token, "built")
            assert said.status == 201
            await settle()
            for reader in (at.alice, at.bob):
                assert await at.reads(reader) == [("ci", "built", "home")]
            await at.bob.send("thanks")
            got = await at.web.ask(f"GET /v1/rooms/{at.room}/messages", token=minted.token)
            shown = [(each["author"]["name"], each["text"], each["verified"]) for each in got.document["messages"]]
            assert shown == [("alice", "Chose PKCE.", "valid"), ("bob", "thanks", "valid")]

    run(main)


def test_a_receipt_of_what_an_agent_without_a_key_said_names_the_home_as_whose_word_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints()
            fact = (await at.says(minted.token, "built")).document["receipt"]["fact"]
            await settle()
            got = await at.web.ask(f"GET /v1/rooms/{at.room}/receipts/{fact}?proof=true", token=minted.token)
            read = await at.bob.ask("receipt.get", t.GetReceipt(id=fact, proof=True), t.ReceiptGiven)
            assert got.document["receipt"] == read.receipt
            home = at.engine.desk.keys.id
            found = check(got.body, {home})
            assert found == check(msgspec.json.encode(read), {home})
            # The person's grant is shown, and nobody but the home signed the words.
            assert (found.verdict, found.is_proved, found.is_opened, found.is_authored) == ("valid", True, True, False)
            assert found.receipt is not None
            assert (found.receipt.verified, found.receipt.actor) == ("home", at.agent())
            opening = read.opening
            assert opening is not None
            forged = msgspec.structs.replace(opening, signature=bytes(64))
            wrong = msgspec.json.encode(msgspec.structs.replace(read, opening=forged))
            assert check(wrong, {home}).verdict == "author_mismatch"
            assert isinstance(read.author, t.AuthorProof)
            other = msgspec.structs.replace(read.author, granted_as="another")
            assert check(msgspec.json.encode(msgspec.structs.replace(read, author=other)), {home}).verdict != "valid"

    run(main)


def test_what_a_program_with_a_token_did_at_a_relay_has_a_receipt_for_it_and_for_readers(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            token = (await at.mints(access=("read", "post", "state"))).token
            sent = await at.says(token, "built", receipt="text")
            body = {"key": "n", "value": 1, "receipt": "text"}
            wrote = await at.web.ask(f"PUT /v1/rooms/{at.room}/state", body, token=token)
            assert wrote.document["receipt"]["text"].startswith("parler/receipt v1\n")
            await settle()
            fact = sent.document["id"]
            mine = await at.web.ask(f"GET /v1/rooms/{at.room}/receipts/{fact}", token=token)
            for reader in (at.alice, at.bob):
                theirs = await reader.ask("receipt.get", t.GetReceipt(id=fact), t.ReceiptGiven)
                assert mine.document["receipt"] == theirs.receipt == sent.document["receipt"]["text"]
                found = check(msgspec.json.encode(theirs), {at.relay.keys.id})
                assert (found.verdict, found.is_authored) == ("valid", False)
                assert found.receipt is not None
                assert (found.receipt.verified, found.receipt.actor) == ("home", at.agent())
                assert found.receipt.principal == at.ann.keys.principal

    run(main)


def test_the_application_at_a_relay_is_that_of_a_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            token = (await at.mints()).token
            here = f"/v1/rooms/{at.room}"

            async def done(line: str, body: Any = None) -> Any:
                answer = await at.web.ask(line, body, token=token)
                assert answer.status in (200, 201), answer.document
                return answer.document

            me = await done("GET /v1/me")
            assert me["id"] == at.agent()
            assert [room["room"] for room in (await done("GET /v1/rooms"))["rooms"]] == [at.room]
            roster = await done(f"GET {here}/agents")
            assert {each["name"] for each in roster["members"]} == {"alice", "bob", "ci"}
            await done(f"PUT {here}/state", {"key": "phase", "value": "testing"})
            assert (await done(f"GET {here}/state/entry?key=phase"))["value"] == "testing"
            wait = f"GET {here}/wait?condition=state._shared.phase+%3D%3D+%22testing%22&wait_ms=1000"
            assert (await done(wait))["triggered"]
            task = await at.bob.ask("message.send", t.Send(text="run it", kind="task", room=at.room), t.Sent)
            claimed = await done(f"POST {here}/claim", {})
            assert claimed["status"] == "claimed", claimed
            await done(f"POST {here}/tasks/{task.id}/complete", {"text": "green"})
            await done(f"POST {here}/handoffs", {"next": "read the log", "for": "bob"})
            await done(f"POST {here}/memory", {"key": "ci", "text": "runs on Mondays"})
            await settle()
            said = await at.reads(at.bob)
            assert {verified for _, _, verified in said} == {"home"}
            assert said[0] == ("ci", "green", "home")
            assert "room.affordances" not in (await at.web.ask(f"GET {here}/llms.txt", token=token)).body.decode()

    run(main)


@pytest.mark.parametrize(
    ("line", "body", "code"),
    [
        ("POST /v1/card", {"description": "x"}, "unknown_operation"),
        ("POST /v1/rooms/ROOM/messages", {"text": "later", "enabled": "true"}, "needs_key"),
        ("POST /v1/rooms", {"context": "x"}, "not_permitted"),
        ("POST /v1/tokens", {"access": ["read"]}, "not_permitted"),
        ("DELETE /v1/rooms/ROOM/agents/bob", None, "not_permitted"),
        ("GET /v1/rooms/r_other/messages", None, "no_such_room"),
        ("POST /v1/open-rooms", {"name": "x"}, "not_permitted"),
    ],
)
def test_what_needs_a_key_or_a_person_is_refused(line: str, body: Any, code: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            token = (await at.mints()).token
            answer = await at.web.ask(
                line.replace("ROOM", at.room), body, token=token, headers={"Content-Type": "application/json"}
            )
            assert answer.code == code, answer.document
            before = await at.alice.recv()
            assert before.messages == []

    run(main)


# -- how it ends -------------------------------------------------------------------------------------------


async def revoke(at: Meeting, minted: t.MintedToken) -> None:
    await at.revokes(minted.info.id)


async def kick(at: Meeting, minted: t.MintedToken) -> None:
    await at.alice.ask("room.kick", t.KickMember(agent="ci", room=at.room), t.MemberGone)


async def leave(at: Meeting, minted: t.MintedToken) -> None:
    left = await at.web.ask(f"POST /v1/rooms/{at.room}/leave", token=minted.token)
    assert left.code == "not_permitted"
    await kick(at, minted)


async def close(at: Meeting, minted: t.MintedToken) -> None:
    await at.alice.close(at.room)


async def put_out(at: Meeting, minted: t.MintedToken) -> None:
    await at.engine.people.take_away(at.ann.keys.principal)


async def expire(at: Meeting, minted: t.MintedToken) -> None:
    at.relay.clock.move(seconds=DAY_S)
    await trio.sleep(60)


@pytest.mark.parametrize("ends", [revoke, kick, leave, close, put_out, expire])
def test_what_is_under_way_ends_with_the_agent(
    ends: Callable[[Meeting, t.MintedToken], Awaitable[None]], tmp_path: Path
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(days=1)
            stream = at.web.connect()
            await stream.begin(f"GET /v1/rooms/{at.room}/events", token=minted.token)
            assert await stream.piece() == b":\n\n"
            assert b"event: hello" in await stream.piece()
            waits = at.web.connect()
            line = f"GET /v1/rooms/{at.room}/wait?condition=false"
            await waits.begin(line, token=minted.token, headers={"Accept": "text/event-stream"})
            await settle()
            await ends(at, minted)
            start = trio.current_time()
            for each in (stream, waits):
                while await each.piece():
                    pass
            assert trio.current_time() - start <= 1
            said = await at.says(minted.token, "still here")
            assert said.code == ("room_closed" if ends is close else "token_invalid")

    run(main)


def test_a_grant_that_was_ended_opens_nothing_when_it_is_shown_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted, token = await at.mints(), at.token()
            params = await at.shown()
            ann, ben = await link(at), await link(at, "ben")
            # An answer that was lost: the same again is the same agent.
            again = await ann.ask("link.grant", params, t.GrantedAtRoom)
            assert (again.agent, at.token()) == (token.agent, token)
            other = msgspec.structs.replace(params, token=tokens.digest_of("another text"))
            assert (await ann.refused("link.grant", other)).details["what"] == "used"
            # Every member is shown the grant, and for another person it is none.
            assert (await ben.refused("link.grant", params)).code == "no_such_room"
            await at.revokes(minted.info.id)
            await settle()
            for each in (params, other):
                assert (await ann.refused("link.grant", each)).details["what"] == "used"
            assert list(at.engine.desk.rooms.home.aggregate.tokens.all()) == []

    run(main)


def test_a_rotated_token_stays_the_agents_and_its_old_text_is_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints()
            rotated = await at.web.ask("POST /v1/tokens/rotate", token=minted.token)
            assert rotated.status == 201
            assert (await at.says(minted.token, "old")).code == "token_invalid"
            assert (await at.says(rotated.document["token"], "new")).status == 201
            await at.revokes(minted.info.id)
            assert (await at.says(rotated.document["token"], "newer")).code == "token_invalid"

    run(main)


def test_a_person_has_so_many_agents_without_a_key_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(granting, "MAX_OF_PERSON", 2)

    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = [await at.mints(), await at.mints()][1]
            refused = await at.alice.refused("token.mint", t.MintToken(room=at.room))
            assert (refused.code, refused.details["limit"]) == ("too_many_tokens", 2)
            listed = await at.alice.ask("token.list", t.ListTokens(), t.TokenList)
            assert [each.agent for each in listed.tokens] == ["ci", "ci-2"]
            await at.revokes(minted.info.id)
            await settle()
            assert (await at.mints()).info.agent == "ci-3"

    run(main)


def test_what_a_persons_agents_say_counts_for_that_person(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted, person = await at.mints(), at.ann.keys.principal
            before = at.engine.desk.kept.of(person)
            await at.says(minted.token, "x" * 1_000)
            assert at.engine.desk.kept.of(person) >= before + 1_000
            assert at.engine.granting.person_of(at.agent()) == person
            assert at.engine.granting.person_of(AgentId("U")) is None
            at.engine.desk.kept._limit = 1
            assert (await at.says(minted.token, "more")).code == "too_many_bytes"
            assert (await at.web.ask("GET /v1/me", token=minted.token)).status == 200

    run(main)


def test_a_home_of_a_person_speaks_for_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            await at.mints()
            params, person = await at.shown(), Elsewhere("cara")
            refused = await (await person.link(at.ben_served)).refused("link.grant", params)
            assert refused.code == "unknown_operation"

    run(main)


def test_a_relay_signs_for_nobody_that_has_a_key() -> None:
    author = HomeAuthor(RelayKeys(), CountedRandomness(), lambda person, size: None)
    grant = Grant(home=HomeId("N"), rooms=(), principal=PrincipalId("A"), scopes=(), not_after=Millis(1), nonce=b"")
    posted = e.MessagePosted(id=MessageId("m_1"), kind="text", chain="c_1", counter=1)
    place = Place(RoomId("r_1"), "k", By(AgentId("U" + "A" * 55), PrincipalId("A"), "", "", "http"), b"", Millis(1))
    for act in (
        lambda: author.sign(draft(TextPart("x")), posted, place),
        lambda: author.gate(AgentId("T" + "A" * 52), b""),
        lambda: author.attest(grant, place.by),
    ):
        with pytest.raises(Refused, match="key"):
            act()


def test_a_relay_that_was_restored_lets_nobody_go_on_whom_its_person_put_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted, kept = await at.mints(), await at.mints("cd")
            await at.says(minted.token, "before the backup")
            await settle()
            backup = at.relay.copied()
            await at.revokes(minted.info.id)
            await at.alice.send("said and lost")
            await settle()
        at.relay.store = backup
        async with at.relay.serving() as engine, at.ann.serving() as ann, over_relay(engine) as web:
            alice = await ann.agent("alice")
            await alice.recv(wait=60)
            line = f"GET /v1/rooms/{at.room}/messages"
            assert (await web.ask(line, token=minted.token)).status == 200
            rewound = await (await ann.person()).ask(
                "room.rewind", t.RewindRoom(room=at.room, confirmed=True), t.RewoundRoom
            )
            assert rewound.status == "rewound"
            assert (await web.ask(line, token=minted.token)).code == "token_invalid"
            said = await web.ask(f"POST /v1/rooms/{at.room}/messages", {"text": "goes on"}, token=kept.token)
            assert said.status == 201
            await settle()
            page = await alice.recv(wait=60)
            assert [(each.text, each.verified) for each in page.messages][-1] == ("goes on", "home")

    run(main)


# -- who comes with a token that joins -----------------------------------------------------------------------

KEY = {"Idempotency-Key": "0123456789abcdef"}


async def mints_many(at: Meeting, uses: int = 2, **rest: Any) -> t.MintedToken:
    """Ann lets the relay speak for so many agents, under whatever names they come."""
    params = t.MintToken(room=at.room, join=True, uses=uses, **rest)
    return await at.alice.ask("token.mint", params, t.MintedToken)


async def joins(at: Meeting, token: str, name: str = "build-bot", **rest: Any) -> Answer:
    return await at.web.ask("POST /v1/joins", {"name": name, **rest}, token=token, headers=KEY)


def joiner(at: Meeting) -> Token:
    """The token that joins, as the relay knows it."""
    [found] = [each for each in at.engine.desk.rooms.home.aggregate.tokens.all() if each.kind == "aj"]
    return found


def many(at: Meeting) -> t.GrantManyAtRoom:
    """The grant that counts, as Ann's daemon showed it."""
    token = joiner(at)
    return t.GrantManyAtRoom(room=at.room, grant=token.grant, grant_signature=token.grant_signature, token=token.digest)


def test_at_a_relay_as_many_new_agents_come_in_with_a_token_as_the_person_signed(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at, access=("read", "post"))
            assert minted.token.startswith("aj_")
            assert (minted.info.kind, minted.info.uses_left, minted.url) == ("aj", 2, f"https://{RelayKeys.address}")
            came = await joins(at, minted.token, role="worker")
            assert (came.status, came.document["status"], came.document["agent"]) == (201, "joined", "build-bot")
            assert came.document["role"] == "worker"
            own = came.document["token"]
            assert own.startswith("as_")
            # Asked again it is the same agent and the same token; another name is another request.
            again = await joins(at, minted.token, role="worker")
            assert (again.status, again.document["token"]) == (200, own)
            found = await at.web.ask(f"GET /v1/joins/{came.document['id']}", token=minted.token)
            assert found.document["token"] == own
            assert (await joins(at, minted.token, "other")).code == "idempotency_conflict"
            assert (await at.says(own, "built")).status == 201
            await settle()
            for reader in (at.alice, at.bob):
                assert await at.reads(reader) == [("build-bot", "built", "home")]
            assert (await at.bob.roster())["build-bot"].role == "worker"
            # What it may do is what the grant says, and the token that joins does nothing else.
            state = await at.web.ask(f"PUT /rooms/{at.room}/state", {"key": "k", "value": 1}, token=own)
            assert (state.status, state.document["error"]) == (403, "not_permitted")
            assert (await at.says(minted.token, "x")).code == "not_permitted"

            taken = await at.web.ask("POST /v1/joins", {"name": "build-bot"}, token=minted.token)
            assert (taken.status, taken.code) == (409, "agent_exists")
            second = await at.web.ask("POST /v1/joins", {"name": "second"}, token=minted.token)
            assert second.status == 201
            third = await at.web.ask("POST /v1/joins", {"name": "third"}, token=minted.token)
            assert (third.status, third.code) == (403, "token_used_up")
            await settle()
            [info] = (await at.alice.ask("token.list", t.ListTokens(), t.TokenList)).tokens
            assert (info.uses, info.uses_left) == (2, 0)

    run(main)


def test_a_newcomer_whose_answer_was_lost_gets_the_same_token_after_the_relay_began_anew(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        ann = home("ann")
        relay.driver = PlugDriver
        for commit in range(6):
            for stored in (False, True):
                async with ann.serving() as served:
                    async with relay.serving() as engine, over_relay(engine) as web:
                        alice = await served.agent("alice")
                        room = (await alice.open(f"room {commit} {stored}", clear=True)).room
                        asked = t.MintToken(room=room, join=True)
                        minted = await alice.ask("token.mint", asked, t.MintedToken)
                        driver = engine.desk.library._driver
                        assert isinstance(driver, PlugDriver)
                        driver.cut = (driver.commits + commit, stored)
                        with trio.move_on_after(60):
                            await web.ask("POST /v1/joins", {"name": "ci"}, token=minted.token, headers=KEY)
                    async with relay.serving() as engine, over_relay(engine) as web:
                        came = await web.ask("POST /v1/joins", {"name": "ci"}, token=minted.token, headers=KEY)
                        assert (came.status // 100, came.document["status"]) == (2, "joined")
                        own = came.document["token"]
                        assert (await web.ask("GET /v1/me", token=own)).document["name"].startswith("ci")
                        state = (await (await engine.rooms.get(RoomId(room))).quiet()).state
                        assert [each.handle for each in state.members.values()] == ["alice", "ci"]
        del wires

    run(main)


async def revokes_it(at: Meeting, minted: t.MintedToken, own: str) -> None:
    await at.revokes(minted.info.id)


async def puts_her_out(at: Meeting, minted: t.MintedToken, own: str) -> None:
    await at.engine.people.take_away(at.ann.keys.principal)


@pytest.mark.parametrize("ends", [revokes_it, puts_her_out])
def test_once_a_token_that_joins_is_over_nobody_comes_and_whoever_came_is_out(
    ends: Callable[[Meeting, t.MintedToken, str], Awaitable[None]], tmp_path: Path
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at)
            shown = many(at)
            own = (await joins(at, minted.token)).document["token"]
            stream = at.web.connect()
            await stream.begin(f"GET /v1/rooms/{at.room}/events", token=own)
            assert await stream.piece() == b":\n\n"
            assert b"event: hello" in await stream.piece()
            await settle()
            await ends(at, minted, own)
            start = trio.current_time()
            while await stream.piece():
                pass
            assert trio.current_time() - start <= 1
            await settle()
            assert (await at.says(own, "still here")).code == "token_invalid"
            late = await at.web.ask("POST /v1/joins", {"name": "late"}, token=minted.token)
            assert (late.status, late.code) == (401, "token_invalid")
            state = (await (await at.engine.rooms.get(RoomId(at.room))).quiet()).state
            assert not [each for each in state.members.values() if each.given is not None and each.present]
            # To show the grant again undoes nothing, under whatever token.
            ann = await link(at)
            for each in (shown, msgspec.structs.replace(shown, token=tokens.digest_of("another text"))):
                assert (await ann.refused("link.grant_many", each)).details["what"] == "used"

    run(main)


def test_whoever_left_does_not_come_again_under_its_name_and_its_use_stays_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at)
            await joins(at, minted.token)
            await at.alice.ask("room.kick", t.KickMember(room=at.room, agent="build-bot"), t.MemberGone)
            await settle()
            again = await at.web.ask("POST /v1/joins", {"name": "build-bot"}, token=minted.token)
            assert again.code == "agent_exists"
            assert (await at.web.ask("POST /v1/joins", {"name": "second"}, token=minted.token)).status == 201
            third = await at.web.ask("POST /v1/joins", {"name": "third"}, token=minted.token)
            assert third.code == "token_used_up"

    run(main)


def test_a_relay_keeps_no_token_that_joins_but_of_the_person_of_the_room_and_for_a_grant_that_counts(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            await mints_many(at)
            shown, ann, ben = many(at), await link(at), await link(at, "ben")
            again = await ann.ask("link.grant_many", shown, t.GrantedAtRoom)
            assert (again.agent, again.handle) == (joiner(at).agent, "")
            other = msgspec.structs.replace(shown, token=tokens.digest_of("another text"))
            assert (await ann.refused("link.grant_many", other)).details["what"] == "used"
            # Every member is shown the grant once somebody came by it, and for another person it is none.
            assert (await ben.refused("link.grant_many", shown)).code == "no_such_room"
            await at.mints()
            named = await at.shown()
            of_one = msgspec.structs.replace(
                shown, grant=named.grant, grant_signature=named.grant_signature, token=tokens.digest_of("x")
            )
            assert (await ann.refused("link.grant_many", of_one)).details["what"] == "count"
            forged = msgspec.structs.replace(shown, grant_signature=bytes(64))
            assert (await ann.refused("link.grant_many", forged)).details["what"] == "signature"

    run(main)


def test_with_here_newcomers_of_a_room_of_a_relay_come_in_at_this_machines_door_with_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at, here=True)
            assert (minted.info.agent, minted.authority_file) == ("alice", "")
            assert at.engine.bearers.shown(minted.token) is None
            assert (await joins(at, minted.token)).code == "token_invalid"

    run(main)


def test_a_relay_takes_as_many_by_one_token_as_a_grant_can_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            refused = await at.alice.refused("token.mint", t.MintToken(room=at.room, join=True, uses=65))
            assert refused.details["param"] == "uses"
            bob = await at.bob.refused("token.mint", t.MintToken(room=at.room, join=True))
            assert bob.code == "not_owner"

    run(main)


# -- whom the person is asked about --------------------------------------------------------------------------


async def requests(at: Meeting) -> list[t.RequestInfo]:
    return await (await at.ann_served.person()).requests()


def test_of_a_grant_that_asks_the_person_decides_about_each_and_every_reader_checks_that(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at, approval=True)
            waits = await joins(at, minted.token, role="worker")
            assert (waits.status, waits.document["status"], waits.document["token"]) == (201, "pending", None)
            await settle()
            [request] = await requests(at)
            assert (request.name, request.room) == ("build-bot", at.room)
            person = await at.ann_served.person()
            assert (await person.approve("build-bot")).status == "approved"
            came = await joins(at, minted.token, role="worker")
            assert (came.status, came.document["status"], came.document["agent"]) == (200, "joined", "build-bot")
            assert (await at.says(came.document["token"], "built")).status == 201
            await settle()
            for reader in (at.alice, at.bob):
                assert await at.reads(reader) == [("build-bot", "built", "home")]
            denied = await at.web.ask("POST /v1/joins", {"name": "second"}, token=minted.token)
            await settle()
            await person.deny("second")
            found = await at.web.ask(f"GET /v1/joins/{denied.document['id']}", token=minted.token)
            assert (found.document["status"], found.document["token"]) == ("denied", None)
            # Whoever was denied leaves its use to another.
            third = await at.web.ask("POST /v1/joins", {"name": "third"}, token=minted.token)
            assert third.document["status"] == "pending"
            again = await at.web.ask("POST /v1/joins", {"name": "second"}, token=minted.token)
            assert again.status in (403, 409)
            # What each of the three keeps is signed as it should be.
            for engine in (at.engine, at.ann_served.engine, at.ben_served.engine):
                person = await Served(at.ann_served.world, engine, at.ann_served.driver).person()
                audited = await person.ask("log.audit", t.AuditRoom(room=at.room), t.AuditedRoom)
                assert (audited.wrong, audited.upto) == (None, audited.end)

    run(main)


def test_whoever_waits_hears_of_the_decision_at_once_and_no_other_person_makes_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at, approval=True)
            waits = await joins(at, minted.token)
            ben = await at.ben_served.person()
            assert await ben.requests() == []
            heard: list[Answer] = []

            async def wait() -> None:
                line = f"GET /v1/joins/{waits.document['id']}?wait_ms=50000"
                heard.append(await at.web.ask(line, token=minted.token))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                start = trio.current_time()
                await (await at.ann_served.person()).approve("build-bot")
            assert trio.current_time() - start < 5
            assert heard[0].document["status"] == "joined"

    run(main)


def test_who_waits_when_the_token_is_revoked_is_denied(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at, approval=True)
            await joins(at, minted.token)
            await settle()
            await at.revokes(minted.info.id)
            state = (await (await at.engine.rooms.get(RoomId(at.room))).quiet()).state
            assert [request.state for request in state.requests.values()][-1] == "denied"
            assert await requests(at) == []
            assert (await joins(at, minted.token)).code == "token_invalid"

    run(main)


def test_a_grant_for_one_name_asks_nobody_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            refused = await at.alice.refused("token.mint", t.MintToken(room=at.room, approval=True))
            assert refused.details["param"] == "approval"
            await mints_many(at, approval=True)
            shown, ann = many(at), await link(at)
            one = t.GrantAtRoom(
                room=at.room,
                grant=shown.grant,
                grant_signature=shown.grant_signature,
                name="ci",
                token=tokens.digest_of("another text"),
            )
            assert (await ann.refused("link.grant", one)).details["what"] == "approval"

    run(main)


def test_whoever_is_not_asked_about_any_more_leaves_nothing_at_the_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await mints_many(at, uses=64, approval=True)
            for number in range(MAX_PENDING_PER_KEY):
                waits = await at.web.ask("POST /v1/joins", {"name": f"bot-{number}"}, token=minted.token)
                assert waits.document["status"] == "pending"
            kept = set(at.engine.desk.rooms.home.aggregate.state.agents)
            for number in range(3):
                more = await at.web.ask("POST /v1/joins", {"name": f"more-{number}"}, token=minted.token)
                assert more.code == "too_many_pending"
            assert set(at.engine.desk.rooms.home.aggregate.state.agents) == kept

    run(main)


# -- rooms that are opened with a token --------------------------------------------------------------------------


async def opens(at: Meeting, token: str, name: str, **rest: Any) -> Answer:
    """A program opens a room at the relay."""
    return await at.web.ask("POST /v1/rooms", {"name": name, **rest}, token=token)


async def members_of(engine: Engine, room: str) -> dict[str, str]:
    state = (await (await engine.rooms.get(RoomId(room))).quiet()).state
    return {member.handle: member.agent for member in state.members.values() if member.present}


def test_a_token_opens_rooms_at_a_relay_and_they_are_the_persons(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=2)
            assert (minted.info.kind, minted.info.opens, minted.info.opens_left) == ("ah", 2, 2)
            opened = await opens(at, minted.token, "build")
            assert opened.status == 201, opened.document
            room = opened.document["room"]
            assert (opened.document["key"], opened.document["approval"]) == (None, True)
            said = await at.web.ask(f"POST /v1/rooms/{room}/messages", {"text": "begun"}, token=minted.token)
            assert said.status == 201, said.document
            await settle()
            # The person's own daemon follows it at once, as the owner's.
            assert await members_of(at.engine, room) == {"alice": at.alice_id(), "ci": at.agent()}
            assert await members_of(at.ann_served.engine, room) == {"alice": at.alice_id(), "ci": at.agent()}
            page = await at.alice.recv(room=room)
            assert [(each.author.name, each.text, each.verified) for each in page.messages] == [("ci", "begun", "home")]
            for engine in (at.ann_served.engine, at.engine):
                state = (await (await engine.rooms.get(RoomId(room))).quiet()).state
                assert (state.name, state.owner_principal) == ("build", at.ann.keys.principal)
                assert (state.lifecycle.approval, state.approver, dict(state.keys)) == (True, "person", {})
            # What was said in it has a receipt that shows by whose leave.
            fact = said.document["receipt"]["fact"]
            given = await at.alice.ask("receipt.get", t.GetReceipt(id=fact, proof=True), t.ReceiptGiven)
            found = check(msgspec.json.encode(given), {at.relay.keys.id})
            assert (found.verdict, found.is_proved, found.is_authored) == ("valid", True, False)
            # In which session the owner is stays as it was.
            assert (await at.alice.whoami()).active == at.room
            listed = (await at.alice.ask("token.list", t.ListTokens(), t.TokenList)).tokens
            assert [(each.opens_left, each.rooms) for each in listed] == [(1, [at.room, room])]

    run(main)


def test_a_token_opens_as_many_rooms_at_a_relay_as_the_person_signed_and_a_retry_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=2)
            first = await at.web.ask("POST /v1/rooms", {"name": "one"}, token=minted.token, headers=KEY)
            again = await at.web.ask("POST /v1/rooms", {"name": "one"}, token=minted.token, headers=KEY)
            assert (first.status, first.document["replayed"]) == (201, False)
            assert (again.document["room"], again.document["replayed"]) == (first.document["room"], True)
            other = await at.web.ask("POST /v1/rooms", {"name": "other"}, token=minted.token, headers=KEY)
            assert other.code == "idempotency_conflict"
            # What is made of the token opens some of the same number, and so does the one that takes its place.
            rest = {"access": ["read", "post", "open"], "opens": 1}
            assert (await at.web.ask("POST /v1/tokens", rest, token=minted.token)).code == "not_permitted"
            rotated = await at.web.ask("POST /v1/tokens/rotate", token=minted.token)
            assert (await opens(at, rotated.document["token"], "two")).status == 201
            assert (await opens(at, rotated.document["token"], "three")).code == "token_used_up"
            await settle()
            assert {room.name for room in await at.alice.rooms()} == {"auth-redesign", "one", "two"}

    run(main)


def test_the_person_decides_puts_out_and_closes_in_a_room_that_a_token_opened(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=1)
            room = (await opens(at, minted.token, "build")).document["room"]
            await settle()
            invited = await at.alice.ask("room.invite", t.Invite(room=room), t.Invited)
            waits = await at.bob.join(invited.code)
            assert waits.status == "pending"
            await (await at.ann_served.person()).approve("bob", join_code=waits.join_code)
            await at.bob.come_in(invited.code)
            line = f"POST /v1/rooms/{room}/messages"
            assert (await at.web.ask(line, {"text": "begun"}, token=minted.token)).status == 201
            await settle()
            # Another person's daemon finds the same in the room's opening.
            page = await at.bob.recv(room=room)
            assert [(each.text, each.verified) for each in page.messages] == [("begun", "home")]
            await at.alice.ask("room.kick", t.KickMember(agent="ci", room=room), t.MemberGone)
            assert (await at.web.ask(line, {"text": "still here"}, token=minted.token)).code == "no_such_room"
            assert (await at.says(minted.token, "in the first room")).status == 201
            await at.alice.close(room)
            assert (await at.bob.refused("message.send", t.Send(text="x", room=room))).code == "room_closed"

    run(main)


def test_a_token_that_is_revoked_opens_no_more_and_its_agent_is_in_no_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=2)
            room = (await opens(at, minted.token, "build")).document["room"]
            await settle()
            await at.revokes(minted.info.id)
            assert (await opens(at, minted.token, "more")).code == "token_invalid"
            for each in (room, at.room):
                for engine in (at.engine, at.ann_served.engine):
                    assert "ci" not in await members_of(engine, each)
            assert list(at.engine.desk.rooms.home.aggregate.tokens.all()) == []

    run(main)


def test_a_token_is_revoked_also_where_the_first_of_its_rooms_was_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=2)
            room = (await opens(at, minted.token, "build")).document["room"]
            await settle()
            person = await at.ann_served.person()
            await person.ask("room.delete", t.DeleteRoom(room=at.room, confirmed=True), t.DeletedRoom)
            await at.revokes(minted.info.id)
            assert (await opens(at, minted.token, "more")).code == "token_invalid"
            assert "ci" not in await members_of(at.engine, room)

    run(main)


def test_a_room_that_was_opened_while_the_person_was_away_is_theirs_when_they_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=1)
            at.wires.cut()
            await settle()
            room = (await opens(at, minted.token, "build")).document["room"]
            at.wires.mend()
            await trio.sleep(120)
            await at.alice.recv(wait=1)
            assert room in [each.room for each in await at.alice.rooms()]

    run(main)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"context": "begun"}, "invalid_param"),
        ({"approval": False}, "invalid_param"),
        ({"preapprove": ["U" + "A" * 55]}, "invalid_param"),
        ({"approver": "agent"}, "invalid_param"),
        ({"ttl_ms": 60_000}, "invalid_param"),
        ({"max_uses": 1}, "invalid_param"),
        ({"home": "elsewhere"}, "home_not_trusted"),
    ],
)
def test_what_the_person_did_not_sign_no_room_at_a_relay_is_opened_with(
    body: dict[str, Any], code: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=1)
            refused = await opens(at, minted.token, "build", **body)
            assert refused.code == code, refused.document
            assert (await opens(at, minted.token, "build")).status == 201

    run(main)


def test_a_token_at_a_relay_that_is_for_no_rooms_opens_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            assert (await opens(at, (await at.mints()).token, "build")).code == "not_permitted"
            params = t.MintToken(room=at.room, access=("read", "open"))
            assert (await at.alice.refused("token.mint", params)).code == "invalid_param"
            # With the room's own door it is as before: this machine's agent opens them.
            here = await at.alice.ask("token.mint", t.MintToken(room=at.room, opens=1, here=True), t.MintedToken)
            assert at.ann_served.engine.bearers.shown(here.token) is not None

    run(main)


def test_a_relay_that_opens_more_rooms_than_the_person_signed_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=1)
            first = (await opens(at, minted.token, "one")).document["room"]
            await settle()
            monkeypatch.setattr("parlerd.core.tokens.Tokens.require_opening", lambda *about: None)
            second = await opens(at, minted.token, "two")
            assert second.status == 201
            await settle()
            assert {room.room for room in await at.alice.rooms()} == {at.room, first}
            # And nothing else ends by it.
            assert (await at.alice.send("goes on", room=first)).queued is False

    run(main)


async def for_bob(at: Meeting) -> t.GrantAtRoom:
    """A grant for rooms that Ann signed, and that names an agent of Ben's as their owner."""
    agents = at.ben_served.engine.desk.rooms.home.aggregate.state.agents
    bob = next(id for id, record in agents.items() if record.name == "bob")
    body = encode(
        Grant(
            home=at.relay.keys.id,
            rooms=(RoomId(at.room),),
            principal=at.ann.keys.principal,
            names=("ci",),
            scopes=("read", "post", "open"),
            not_after=Millis(at.relay.clock.now() + 60_000),
            opens=MayOpen(rooms=1, owner=bob, handle="bob"),
            nonce=bytes(16),
        )
    )
    signature = at.ann.keys.sign(at.ann.keys.principal, "parler/grant", body)
    digest = tokens.digest_of(FOR_BOB)
    return t.GrantAtRoom(room=at.room, grant=body, grant_signature=signature, name="ci", token=digest)


FOR_BOB = tokens.made_of(bytes(32), "ah")


@pytest.mark.parametrize("lies", [False, True])
def test_nobody_makes_another_persons_agent_the_owner_of_a_room(
    lies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            ann = await link(at)
            if not lies:
                assert (await ann.refused("link.grant", await for_bob(at))).code == "not_permitted"
                return
            monkeypatch.setattr("parlerd.engine.granting.require_attached", lambda *about: None)
            await ann.ask("link.grant", await for_bob(at), t.GrantedAtRoom)
            assert (await opens(at, FOR_BOB, "trap")).status == 201
            await settle()
            # Ben's daemon takes no such room in, whatever the relay says.
            assert [room.room for room in await at.bob.rooms()] == [at.room]
            assert (await at.bob.send("goes on")).queued is False

    run(main)


def test_a_room_that_a_program_opens_becomes_nobodys_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            carol = await at.ann_served.agent("carol")
            team = await carol.open("team", clear=True)
            minted = await carol.ask("token.mint", t.MintToken(room=team.room, name="cd", opens=1), t.MintedToken)
            await carol.close(team.room)
            before = (await carol.whoami()).active
            opened = await opens(at, minted.token, "build")
            assert opened.status == 201, opened.document
            await settle()
            assert opened.document["room"] in [room.room for room in await carol.rooms()]
            assert (await carol.whoami()).active == before

    run(main)


def test_a_relay_that_died_before_it_opened_the_room_opens_it_when_it_is_asked_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=1)
            with pytest.MonkeyPatch.context() as patch:

                async def dies(*about: object) -> None:
                    raise Refused("home_unreachable")

                patch.setattr("parlerd.engine.rooms.Rooms.create", dies)
                failed = await at.web.ask("POST /v1/rooms", {"name": "build"}, token=minted.token, headers=KEY)
                assert failed.code == "home_unreachable"
        async with at.relay.serving() as engine, at.ann.serving() as ann, over_relay(engine) as web:
            # It was counted, and is the same room: nothing in its opening is drawn.
            opened = await web.ask("POST /v1/rooms", {"name": "build"}, token=minted.token, headers=KEY)
            assert opened.status == 201, opened.document
            assert (await web.ask("POST /v1/rooms", {"name": "more"}, token=minted.token)).code == "token_used_up"
            alice = await ann.agent("alice")
            await alice.recv(wait=60)
            assert opened.document["room"] in [room.room for room in await alice.rooms()]

    run(main)


def test_after_a_restart_a_reader_still_counts_the_rooms_of_a_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(opens=1)
            first = (await opens(at, minted.token, "one")).document["room"]
            await settle()
        monkeypatch.setattr("parlerd.core.tokens.Tokens.require_opening", lambda *about: None)
        async with at.relay.serving() as engine, at.ann.serving() as ann, over_relay(engine) as web:
            alice = await ann.agent("alice")
            await alice.recv(wait=60)
            second = await web.ask("POST /v1/rooms", {"name": "two"}, token=minted.token)
            assert second.status == 201, second.document
            await settle()
            assert {room.room for room in await alice.rooms()} == {at.room, first}

    run(main)


def test_a_relay_that_says_of_other_rooms_that_they_were_opened_for_an_agent_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            other = await at.bob.open("of another", clear=True)
            told: list[object] = []

            async def lies(self: object, stream: object) -> list[t.LinkItem]:
                await trio.lowlevel.checkpoint()
                if stream in told:
                    return []
                told.append(stream)
                named = (other.room, "r_" + "a" * 32, "home", "", at.room)
                return [t.LinkItem(room=room, opened=[at.alice_id()]) for room in named]

            monkeypatch.setattr("parlerd.engine.following.Following._awaits", lies)
            await at.bob.send("wakes each stream", room=at.room)
            await trio.sleep(30)
            assert len(told) == 2
            assert [room.room for room in await at.alice.rooms()] == [at.room]
            assert (await at.alice.send("goes on")).queued is False

    run(main)
