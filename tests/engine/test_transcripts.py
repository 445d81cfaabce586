"""Which messages go along with an offer of the turn, and what of them is quoted."""

from __future__ import annotations

import msgspec

from parlerd.core.words import MAX_QUOTED_BYTES
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run


async def quoted(served: Served, *texts: str, count: int = 100) -> tuple[t.SentTranscript, list[str]]:
    """What is quoted of these messages to one who came in after them: the texts, without the recap."""
    alice = await served.agent("alice")
    opened = await alice.open("auth redesign", "", history="none")
    for text in texts:
        await alice.send(text)
    late = await served.agent("late")
    await served.admit(opened, late)
    given = await alice.handoff("go", to="late", transcript=count)
    assert not isinstance(given.transcript, msgspec.UnsetType)
    return given.transcript, [each.text for each in await quotations(late)]


async def quotations(who: Party) -> list[t.QuotedMessage]:
    """What the newest offer quotes."""
    handoff = (await who.recv(all=True)).messages[-1].handoff
    assert not isinstance(handoff, msgspec.UnsetType)
    if isinstance(handoff.transcript, msgspec.UnsetType) or isinstance(handoff.transcript.quoted, msgspec.UnsetType):
        return []
    return handoff.transcript.quoted


def test_the_newest_that_were_asked_for_are_quoted_in_order() -> None:
    async def main() -> None:
        async with engine_world() as served:
            sent, texts = await quoted(served, "one", "two", "three", count=2)
            assert (sent, texts) == (t.SentTranscript(count=2, quoted=True), ["two", "three"])

    run(main)


def test_what_does_not_fit_is_left_out_from_the_oldest_on_and_counted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            half = MAX_QUOTED_BYTES // 2
            # The author's name counts too.
            sent, texts = await quoted(served, "old", "a" * half, "b" * (half - 100), "c" * 120)
            assert (sent.count, sent.left_out) == (2, 2)
            assert texts == ["b" * (half - 100), "c" * 120]

    run(main)


def test_a_secret_that_is_shorter_than_what_stands_in_its_place_never_makes_the_offer_too_long() -> None:
    async def main() -> None:
        async with engine_world() as served:
            secrets = "A_KEY=x\n" * (MAX_QUOTED_BYTES // 8 - 1)
            sent, texts = await quoted(served, secrets, "short")
            assert (sent.count, sent.left_out, texts) == (1, 1, ["short"])

    run(main)


def test_where_the_newest_alone_is_too_long_nothing_goes_along_and_the_giver_is_told() -> None:
    async def main() -> None:
        async with engine_world() as served:
            sent, texts = await quoted(served, "short", "x" * (MAX_QUOTED_BYTES + 1))
            assert (sent, texts) == (t.SentTranscript(count=0, quoted=False), [])

    run(main)


def test_what_a_room_remembers_and_what_was_asked_of_others_in_private_is_not_part_of_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.ask("memory.remember", t.Remember(text="blue-green", key="deploy"), t.Remembered)
            await alice.send("between us", visible_to=("bob",))
            sent = await bob.send("said to all")
            given = await alice.handoff("go", to="bob", transcript=1)
            handoff = (await bob.recv(all=True)).messages[-1].handoff
            assert not isinstance(handoff, msgspec.UnsetType)
            assert not isinstance(handoff.transcript, msgspec.UnsetType)
            assert (handoff.transcript.first, handoff.transcript.last) == (sent.id, sent.id)
            assert given.transcript == t.SentTranscript(count=1, quoted=False)

    run(main)


def test_an_offer_that_is_quoted_says_what_was_next_and_an_answer_why() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("auth redesign", "", history="none")
            await served.admit(opened, bob)
            offer = await alice.handoff("wire the UI", to="bob", summary="rotation done")
            await bob.ask("handoff.decline", t.DeclineHandoff(id=offer.id, reason="no access"), t.AnsweredHandoff)
            late = await served.agent("late")
            await served.admit(opened, late)
            await alice.handoff("go", to="late", transcript=2)
            found = await quotations(late)
            assert [(each.kind, each.text) for each in found] == [
                ("handoff", "rotation done\nwire the UI"),
                ("handoff-declined", "no access"),
            ]

    run(main)
