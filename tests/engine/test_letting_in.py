"""How agents of other homes come into rooms of this one, and how an owner elsewhere decides who does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import statements as st
from parlerd.core.model import HomeId, PrincipalId, RoomId
from parlerd.engine.quota import OPENING
from parlerd.engine.throttle import CALLER_BURST
from parlerd.identity.proofs import Evidence, read_opening, unproven
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.engine import Served, engine_world, run, settle
from tests.support.linked import Elsewhere, LinkParty, Told


def proof_of(room: str, card: t.Card, member: t.MemberEntry) -> str | None:
    """What keeps a card from proving that a member was let in."""
    opening = read_opening(RoomId(room), HomeId(card.home), card.opening, card.opening_signature)
    claim = st.Claim(member.agent, PrincipalId(member.principal), member.handle)  # type: ignore[arg-type]
    evidence = Evidence(
        decision=member.proof,
        decision_signature=member.proof_signature,
        knock=member.knock,
        knock_signature=member.knock_signature,
        terms=member.terms,
        terms_signature=member.terms_signature,
    )
    return unproven(RoomId(room), opening, claim, evidence)


async def proofs(link: LinkParty, room: str) -> list[str | None]:
    """What keeps the card that this link is told from proving that each member was let in."""
    async with link.following(room) as told:
        (card,) = told.cards
        return [proof_of(room, card, member) for member in card.members]


async def olga_and_ann(served: Served, **how: Any) -> tuple[LinkParty, LinkParty, t.OpenedSession]:
    """Olga, of one home, opened a room at this one; ann, of another, has its key."""
    olga = await Elsewhere("olga").link(served, "olive")
    ann = await Elsewhere("mia").link(served, "ann", "bea")
    return olga, ann, await olga.open("olive", **how)


async def pending(link: LinkParty, room: str) -> tuple[t.Card, t.RequestEntry]:
    async with link.following(room) as told:
        (card,) = told.cards
        return card, next(request for request in card.requests if request.state == "pending")


def test_a_key_tells_the_signed_opening_and_its_terms_and_neither_name_nor_members() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served, topic="a secret topic")
            found = await ann.find(opened.session_key)
            opening = read_opening(RoomId(found.room), served.world.keys.id, found.opening, found.opening_signature)
            assert (found.room, opening.handle) == (opened.room, "olive")
            assert st.check(found.terms, st.KeyTerms).ref == found.ref
            assert b"secret" not in msgspec.msgpack.encode(found)

    run(main)


def test_an_agent_that_comes_and_goes_in_a_loop_is_held_back() -> None:
    """Each time is two facts in the log, of which everybody in the room is told."""

    async def main() -> None:
        async with engine_world(settings=Settings(quota_agent_messages=OPENING + 1)) as served:
            _, ann, opened = await olga_and_ann(served, approval=False)
            knock = await ann.knocking("ann", opened)
            for _ in range(OPENING + 1):
                await ann.call("link.knock", knock)
                await ann.call("link.close", t.LeaveRoom(room=opened.room, agent=ann.person.agent("ann")))
            assert (await ann.refused("link.knock", knock)).code == "throttled"

    run(main)


def test_an_owner_elsewhere_lets_in_one_who_knocks_from_elsewhere_and_all_can_prove_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            knocked = await ann.knock("ann", opened)
            assert (knocked.status, len(knocked.join_code)) == ("pending", 4)
            assert await ann.knock("ann", opened) == knocked
            card, request = await pending(olga, opened.room)
            assert (request.request, request.name, request.host) == (knocked.request, "ann", "claude-code")
            typed = t.CheckCode(room=opened.room, request=request.request, join_code=knocked.join_code, door="cli")
            await olga.call("link.check_code", typed)
            decided = await olga.ask("link.decide", olga.deciding(opened.room, card, request), t.DecidedAtRoom)
            assert (decided.agent, decided.handle, decided.status) == (ann.person.agent("ann"), "ann", "approved")
            assert (await ann.knock("ann", opened)).status == "member"
            async with ann.following(opened.room) as told:
                (card,) = told.cards
                assert {member.handle for member in card.members} == {"olive", "ann"}
                assert [proof_of(opened.room, card, member) for member in card.members] == [None, None]
                assert st.check_title(card.title, st.check(card.opening, st.Opening).title).topic == "auth redesign"
                (entry,) = card.requests
                assert entry.decision == card.members[1].proof

    run(main)


def test_a_key_that_asks_nobody_lets_in_at_once_and_the_knock_proves_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served, approval=False)
            knocked = await ann.knock("ann", opened)
            assert (knocked.status, knocked.handle, knocked.request) == ("joined", "ann", "")
            async with ann.following(opened.room) as told:
                assert [proof_of(opened.room, told.cards[0], member) for member in told.cards[0].members] == [
                    None,
                    None,
                ]

    run(main)


def test_a_decision_of_anybody_but_the_owners_side_lets_nobody_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            await ann.knock("ann", opened)
            card, request = await pending(olga, opened.room)
            # Of the one who knocks, who may not know of the room beyond its own request.
            own = ann.deciding(opened.room, card, request)
            assert (await ann.refused("link.decide", own)).code == "no_such_room"
            forged = msgspec.structs.replace(own, signature=bytes(64))
            for params, what in (
                (forged, "signature"),
                (olga.deciding(opened.room, card, request, by=olga.person.agent("olive")), "signature"),
                (olga.deciding(opened.room, card, request, handle="ann-2"), "handle"),
                (olga.deciding(opened.room, card, request, agent=ann.person.agent("bea")), "agent"),
                (olga.deciding(opened.room, card, request, home="A" + "B" * 55), "home"),
            ):
                refused = await olga.refused("link.decide", params)
                assert (refused.code, refused.details["what"]) == ("statement_refused", what)
            nobody = olga.deciding(opened.room, card, request, request="q_none")
            assert (await olga.refused("link.decide", nobody)).code == "no_such_request"
            # The owner alone may not decide, in a room where the person does.
            alone = olga.deciding(opened.room, card, request, proof="none", by=olga.person.agent("olive"))
            assert (await olga.refused("link.decide", alone)).code == "not_owner"
            assert (await ann.knock("ann", opened)).status == "pending"

    run(main)


def test_where_the_room_lets_it_its_owner_decides_for_the_person() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served, approver="agent")
            await ann.knock("ann", opened)
            card, request = await pending(olga, opened.room)
            alone = olga.deciding(opened.room, card, request, proof="none", by=olga.person.agent("olive"))
            assert (await olga.ask("link.decide", alone, t.DecidedAtRoom)).status == "approved"
            async with ann.following(opened.room) as told:
                assert [proof_of(opened.room, told.cards[0], member) for member in told.cards[0].members] == [
                    None,
                    None,
                ]

    run(main)


def test_one_who_was_turned_away_is_told_so_and_so_is_the_owner() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            await ann.knock("ann", opened)
            card, request = await pending(olga, opened.room)
            async with ann.following(opened.room) as told, olga.following(opened.room) as told_owner:
                denied = olga.deciding(opened.room, card, request, admit=False)
                assert (await olga.ask("link.decide", denied, t.DecidedAtRoom)).status == "denied"
                await settle()
                for each in (told, told_owner):
                    (entry,) = each.cards[-1].requests
                    assert (entry.state, st.check(entry.decision, st.DecisionStatement).admit) == ("denied", False)
            assert (await ann.knock("ann", opened)).status == "denied"
            # A denial covers the person's other agents.
            assert (await ann.knock("bea", opened)).status == "denied"
            assert (await olga.refused("link.decide", denied)).code == "already_decided"

    run(main)


def test_a_wrong_code_counts_as_a_guess_at_its_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            knocked = await ann.knock("ann", opened)
            card, request = await pending(olga, opened.room)

            def code(typed: str, door: t.Door = "cli") -> t.CheckCode:
                return t.CheckCode(room=opened.room, request=request.request, join_code=typed, door=door)

            wrong = "0000" if knocked.join_code != "0000" else "1111"
            decision = msgspec.structs.replace(olga.deciding(opened.room, card, request), join_code=wrong)
            assert (await olga.refused("link.decide", decision)).code == "code_mismatch"
            for _ in range(4):
                assert (await olga.refused("link.check_code", code(wrong))).code == "code_mismatch"
            assert (await olga.refused("link.check_code", code(knocked.join_code))).code == "throttled"
            await olga.call("link.check_code", code(knocked.join_code, "terminal"))
            assert (await ann.refused("link.check_code", code(knocked.join_code))).code == "no_such_room"
            gone = t.CheckCode(room=opened.room, request="q_none", join_code=wrong, door="cli")
            assert (await olga.refused("link.check_code", gone)).code == "no_such_request"

    run(main)


def test_a_revoked_key_is_one_that_nobody_knows() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            knock = await ann.knocking("ann", opened)
            ref = (await ann.find(opened.session_key)).ref
            revoke = t.RevokeKeyOfRoom(room=opened.room, ref=ref)
            assert (await ann.refused("link.revoke", revoke)).code == "no_such_room"
            nothing = t.RevokeKeyOfRoom(room=opened.room, ref="k_none")
            assert (await olga.refused("link.revoke", nothing)).code == "unknown_key"
            async with olga.following(opened.room) as told:
                await olga.call("link.revoke", revoke)
                await settle()
                assert [key.revoked for card in told.cards for key in card.keys] == [False, True]
            for op, params in (("link.find", t.FindKey(session_key=str(opened.session_key))), ("link.knock", knock)):
                assert (await ann.refused(op, params)).code == "unknown_key"

    run(main)


def test_members_who_do_not_own_a_room_decide_nothing_there() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served, approval=False)
            await ann.knock("ann", opened)
            for op, params in (
                ("link.revoke", t.RevokeKeyOfRoom(room=opened.room, ref="k_olive")),
                ("link.check_code", t.CheckCode(room=opened.room, request="q_1", join_code="0000", door="cli")),
                ("link.kick", t.KickFromRoom(room=opened.room, agent="olga")),
                ("link.role", t.RoleInRoom(room=opened.room, agent="ann", role="admin")),
            ):
                assert (await ann.refused(op, params)).code == "not_owner"

    run(main)


@pytest.mark.parametrize(
    ("said", "code", "what"),
    [
        ({"ref": "k_other"}, "statement_refused", "ref"),
        ({"room": "r_other"}, "statement_refused", "room"),
        ({"home": "A" + "B" * 55}, "statement_refused", "home"),
        ({"principal": "A" + "B" * 55}, "statement_refused", "principal"),
        ({"name": "owner"}, "invalid_name", None),
        ({"agent": "U" + "B" * 55}, "not_permitted", None),
    ],
)
def test_a_knock_says_what_it_is_for_and_by_whom(said: dict[str, object], code: str, what: str | None) -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served)
            refused = await ann.refused("link.knock", await ann.knocking("ann", opened, **said))
            assert (refused.code, refused.details.get("what")) == (code, what)
            forged = msgspec.structs.replace(await ann.knocking("ann", opened), signature=bytes(64))
            assert (await ann.refused("link.knock", forged)).details["what"] == "signature"

    run(main)


@pytest.mark.parametrize("role", ["owner", "Owner", "person", "system", "two words"])
def test_nobody_comes_in_with_a_role_that_stands_for_somebody_else(role: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served)
            knock = msgspec.structs.replace(await ann.knocking("ann", opened), role=role)
            assert (await ann.refused("link.knock", knock)).code == "invalid_name"

    run(main)


def test_one_persons_guesses_are_slowed_down_and_delay_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ann, opened = await olga_and_ann(served)
            eve = await Elsewhere("eve").link(served, "eve")
            again = await eve.person.link(served, "eve")
            codes = [
                (await eve.refused("link.find", t.FindKey(session_key=f"ZZZZZ{n:03}"))).code
                for n in range(int(CALLER_BURST) + 1)
            ]
            assert codes == ["unknown_key"] * int(CALLER_BURST) + ["throttled"]
            # It is the person who is slowed down, over whatever link, also with the right key.
            right = t.FindKey(session_key=str(opened.session_key))
            assert (await again.refused("link.find", right)).code == "throttled"
            before = trio.current_time()
            assert (await ann.find(opened.session_key)).room == opened.room
            assert trio.current_time() == before
            for text in ("", "not a key!", "@"):
                assert (await ann.refused("link.find", t.FindKey(session_key=text))).code == "unknown_key"

    run(main)


def told_requests(told: Told) -> list[tuple[str, str]]:
    return [(request.name, request.state) for card in told.cards for request in card.requests]


def test_the_owners_person_is_told_of_those_who_knock_while_they_are_linked_and_of_what_they_missed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            async with olga.following(opened.room) as told:
                await ann.knock("ann", opened)
                await settle()
                assert told_requests(told) == [("ann", "pending")]
                asks = told.cards[-1].asks
                moves = told.cards[0].moves
            zed = await Elsewhere("zoe").link(served, "zed")
            await zed.knock("zed", opened)
            resume = t.Resume(room=opened.room, moves=moves, asks=asks, before={olga.person.agent("olive"): 0})
            async with olga.resuming(resume) as again:
                assert told_requests(again) == [("ann", "pending"), ("zed", "pending")]
                assert not again.cards[0].whole
                assert again.cards[0].asks == asks + 1
            resume = msgspec.structs.replace(resume, asks=asks + 1)
            async with olga.resuming(resume) as level:
                assert level.cards == []

    run(main)
