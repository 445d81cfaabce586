"""Tokens for rooms on a relay, as their person asks for them: what is signed, what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from parlerd.core.grants import agent_of, digest_of
from parlerd.core.statements import Grant, MayOpen, check
from parlerd.engine import granting
from parlerd.identity import tokens
from parlerd.identity.signatures import verify
from parlerd.operations import types as t
from tests.support.doors import certificate
from tests.support.engine import Party, run
from tests.support.granted import meeting
from tests.support.relayed import RelayKeys


async def listed(party: Party) -> list[t.TokenInfo]:
    return (await party.ask("token.list", t.ListTokens(), t.TokenList)).tokens


def test_the_person_signs_a_grant_for_one_name_and_the_relay_is_told_no_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(access=("read", "post"), days=7, label="nightly")
            shown = await at.shown()
            grant, person = check(shown.grant, Grant), at.ann.keys.principal
            assert verify(person, "parler/grant", shown.grant, shown.grant_signature)
            assert (grant.home, grant.rooms, grant.principal) == (at.relay.keys.id, (at.room,), person)
            assert (grant.names, grant.count, grant.scopes, grant.approval) == (("ci",), 0, ("read", "post"), False)
            assert grant.not_after == at.relay.clock.now() + 7 * 86_400_000
            assert at.agent() == agent_of(digest_of(shown.grant), "ci")
            assert at.token().digest == tokens.digest_of(minted.token)
            for store in (at.relay.store, at.ann.world.store):
                assert minted.token.encode() not in repr(store.__dict__).encode()
            assert minted.info.label == "nightly"

    run(main)


def test_a_grant_to_open_rooms_says_how_many_and_whose_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(access=("read", "post"), opens=3)
            assert minted.token.startswith("ah_")
            grant = check((await at.shown()).grant, Grant)
            assert grant.scopes == ("read", "post", "open")
            assert grant.opens == MayOpen(rooms=3, owner=at.alice_id(), handle="alice")
            token = at.token()
            assert (token.kind, token.rooms, token.opens, token.opened) == ("ah", (at.room,), 3, 0)
            too_many = t.MintToken(room=at.room, opens=32)
            assert (await at.alice.refused("token.mint", too_many)).code == "invalid_param"

    run(main)


def test_a_token_is_listed_with_its_agent_and_opens_nothing_at_this_machine(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints()
            assert await listed(at.alice) == [minted.info]
            assert at.ann_served.engine.bearers.shown(minted.token) is None
            await at.revokes(minted.info.id)
            assert await listed(at.alice) == []
            assert (await at.alice.refused("token.revoke", t.RevokeToken(id=minted.info.id))).code == "no_such_token"

    run(main)


def test_with_here_a_token_is_for_this_machines_door_and_its_agent_signs_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            minted = await at.mints(here=True, name="")
            assert (minted.info.agent, minted.authority_file) == ("alice", "")
            assert at.ann_served.engine.bearers.shown(minted.token) is not None
            assert list(at.engine.desk.rooms.home.aggregate.tokens.all()) == []

    run(main)


@pytest.mark.parametrize(
    ("about", "code"),
    [
        ({"access": ("read", "mint")}, "invalid_param"),
        ({"access": ("open",)}, "invalid_param"),
        ({"name": "owner"}, "invalid_name"),
        ({"name": "two words"}, "invalid_name"),
    ],
)
def test_what_no_grant_can_say_is_refused_before_anything_is_signed(
    about: dict[str, object], code: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            params = t.MintToken(room=at.room, **about)  # type: ignore[arg-type]
            assert (await at.alice.refused("token.mint", params)).code == code
            assert await listed(at.alice) == []

    run(main)


def test_only_the_person_of_the_owner_grants(tmp_path: Path) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            assert (await at.bob.refused("token.mint", t.MintToken(room=at.room))).code == "not_owner"
            assert list(at.engine.desk.rooms.home.aggregate.tokens.all()) == []

    run(main)


def test_what_the_relay_refused_is_not_listed_and_what_nobody_knows_of_can_be_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            monkeypatch.setattr(granting, "MAX_OF_PERSON", 0)
            refused = await at.alice.refused("token.mint", t.MintToken(room=at.room))
            assert refused.code == "too_many_tokens"
            assert await listed(at.alice) == []
            at.wires.cut()
            refused = await at.alice.refused("token.mint", t.MintToken(room=at.room))
            assert refused.code in ("home_unreachable", "offline")
            [unknown] = await listed(at.alice)
            assert (await at.alice.refused("token.revoke", t.RevokeToken(id=unknown.id))).code in (
                "home_unreachable",
                "offline",
            )
            at.wires.mend()
            await at.bob.recv(wait=120)
            await at.revokes(unknown.id)
            assert await listed(at.alice) == []

    run(main)


def test_the_certificate_of_the_relay_is_kept_in_a_file_and_nothing_else_that_it_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with meeting(tmp_path) as at:
            desk = at.ann_served.engine.desk
            desk.home_path = str(tmp_path)
            with certificate() as made:
                monkeypatch.setattr(RelayKeys, "authority", made.authority.decode())
                minted = await at.mints()
            path = trio.Path(minted.authority_file)
            assert path.parent == trio.Path(tmp_path / "authorities")
            assert await path.read_bytes() == made.authority
            assert (await path.stat()).st_mode & 0o777 == 0o600
            for said in ("", "x", made.authority.decode() + "; rm -rf", "-----BEGIN PRIVATE KEY-----\n"):
                monkeypatch.setattr(RelayKeys, "authority", said)
                assert (await at.mints()).authority_file == ""
            for said in ("", "evil.example/x#", "a b:1", "[::1]", "https://x:1"):
                monkeypatch.setattr(RelayKeys, "address", said)
                assert (await at.mints()).url is None

    run(main)
