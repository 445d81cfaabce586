"""How the person whose agent opened a room elsewhere lets it go on here, and what those who follow it are told."""

from __future__ import annotations

from typing import Any

import pytest

from parlerd.core import statements as st
from parlerd.core.model import RoomId
from parlerd.core.public_line import epoch_of, first_number
from parlerd.operations import types as t
from tests.engine.test_letting_in import olga_and_ann
from tests.support.engine import engine_world, run, settle
from tests.support.linked import Elsewhere, LinkParty


async def head(link: LinkParty, room: str) -> t.RoomHead:
    return await link.ask("link.head", t.AskHead(room=room), t.RoomHead)


async def signed(
    link: LinkParty, at: str, epoch: int = 1, *, by: Elsewhere | None = None, **said: Any
) -> t.RewindAtRoom:
    """A rewind to where the room stands; `said` are fields that say something else."""
    stands, person = await head(link, at), by or link.person
    fields: dict[str, Any] = {
        "home": link.served.world.keys.id,
        "room": RoomId(at),
        "epoch": epoch,
        "public": stands.public,
        "line": stands.line,
        "at": link.served.world.clock.now(),
        "nonce": bytes(st.NONCE),
    }
    statement = st.encode(st.Rewind(**(fields | said)))
    return t.RewindAtRoom(
        room=at, statement=statement, signature=person.sign(person.principal, "parler/rewind", statement)
    )


def test_where_a_room_stands_is_told_to_the_person_whose_agent_opened_it_and_to_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            assert (await ann.refused("link.head", t.AskHead(room=opened.room))).code == "no_such_room"
            await olga.post("olive", opened.room, "hello")
            stands = await head(olga, opened.room)
            assert (stands.public, stands.before) == (1, {olga.person.agent("olive"): 1})
            card, request = await _pending(olga, ann, opened)
            await olga.call("link.decide", olga.deciding(opened.room, card, request))
            assert (await ann.refused("link.head", t.AskHead(room=opened.room))).code == "not_owner"

    run(main)


async def _pending(olga: LinkParty, ann: LinkParty, opened: t.OpenedSession) -> tuple[t.Card, t.RequestEntry]:
    await ann.knock("ann", opened)
    async with olga.following(opened.room) as told:
        (card,) = told.cards
        return card, card.requests[-1]


def test_a_rewind_is_told_in_its_place_with_a_whole_card_and_the_numbers_that_follow() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, _, opened = await olga_and_ann(served)
            room, olive = opened.room, olga.person.agent("olive")
            await olga.post("olive", room, "before")
            rewind = await signed(olga, room)
            async with olga.following(room) as told:
                told.items.clear()
                await olga.call("link.rewind", rewind)
                await olga.call("link.rewind", rewind)
                await settle()
                entry, card, page = told.of(room)
                assert entry.rewound is not None
                assert card.card is not None
                assert page.page is not None
                assert (entry.rewound.statement, entry.rewound.signature) == (rewind.statement, rewind.signature)
                assert entry.rewound.before == {olive: 1}
                assert card.card.whole
                assert [member.agent for member in card.card.members] == [olive]
                assert (page.page.public, page.page.before) == (first_number(1), {olive: 1})
                told.items.clear()
                assert (await olga.post("olive", room, "after")).seq == 2
                await settle()
                [page] = told.of(room)
                assert page.page is not None
                assert (page.page.public, len(page.page.messages)) == (first_number(1), 1)
            stands = await head(olga, room)
            assert (stands.public, stands.before) == (first_number(1) + 1, {olive: 2})

    run(main)


@pytest.mark.parametrize("public", [0, 1, 9])
def test_whoever_comes_from_before_a_rewind_is_told_it_and_all_that_came_after_it(public: int) -> None:
    """One that has nothing, one that has what is left, and one that holds more than is left."""

    async def main() -> None:
        async with engine_world() as served:
            olga, _, opened = await olga_and_ann(served)
            room, olive = opened.room, olga.person.agent("olive")
            await olga.post("olive", room, "before")
            await olga.call("link.rewind", await signed(olga, room))
            await olga.post("olive", room, "after")
            await olga.post("olive", room, "after that")
            resume = t.Resume(room=room, public=public, before={olive: public} if public else {}, newest=10)
            async with olga.resuming(resume) as told:
                items = told.of(room)
                [place] = [n for n, item in enumerate(items) if item.rewound is not None]
                after = [item.page for item in items[place:] if item.page is not None]
                assert sum(len(page.messages) for page in after) == 2
                assert all(epoch_of(page.public) == 1 for page in after)
                before = [item.page for item in items[:place] if item.page is not None]
                assert sum(len(page.messages) for page in before) == (0 if public else 1)
                assert any(item.card is not None and item.card.whole for item in items)
            async with olga.resuming(t.Resume(room=room, public=first_number(1) + 1, before={olive: 2})) as told:
                assert all(item.rewound is None for item in told.of(room))
                assert len(told.messages) == 1

    run(main)


def test_whoever_begins_behind_a_rewind_is_told_that_there_was_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, _, opened = await olga_and_ann(served)
            room = opened.room
            await olga.post("olive", room, "before")
            await olga.call("link.rewind", await signed(olga, room))
            for number in range(5):
                await olga.post("olive", room, f"after {number}")
            async with olga.resuming(t.Resume(room=room, newest=2)) as told:
                kinds = ["card" if item.card else "rewound" if item.rewound else "page" for item in told.of(room)]
                assert kinds == ["card", "rewound", "page", "page"][: len(kinds)]
                assert len(told.messages) == 2

    run(main)


def test_a_rewind_that_another_person_signed_or_that_names_another_place_is_refused() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            room = opened.room
            await olga.post("olive", room, "before")
            by_ann = await signed(olga, room, by=ann.person)
            refused = await olga.refused("link.rewind", by_ann)
            assert (refused.code, refused.details["what"]) == ("statement_refused", "signature")
            assert (await ann.refused("link.rewind", by_ann)).code == "no_such_room"
            for said, what in (({"public": 0}, "line"), ({"room": RoomId("r_other")}, "room"), ({"epoch": 0}, "epoch")):
                refused = await olga.refused("link.rewind", await signed(olga, room, **said))
                assert (refused.code, refused.details["what"]) == ("statement_refused", what)
            assert (await head(olga, room)).public == 1

    run(main)
