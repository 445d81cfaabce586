"""The rule of what follows from a word on whether a model was shown a message, whoever says the word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId, Sighted
from parlerd.engine.sightings import LATE_MS, Sightings, as_told, is_shown, standing
from parlerd.operations import types as t
from parlerd.store.port import PROVEN, PutSight, Write
from tests.support.engine import engine_world, run

MESSAGE: Final = MessageId("m_1")
ANN: Final = AgentId("ann")
REASONS: Final[dict[Sighted, str]] = {"shown": "reply", "quoted": "quoted", "pending": ""}


def row(verdict: Sighted, reader: str = "ben", at: int = 1) -> PutSight:
    reason = REASONS.get(verdict, "timeout")
    return PutSight(RoomId("r"), AgentId(reader), Position(2), verdict, reason, "codex", Millis(at))


@given(st.lists(st.sampled_from(get_args(Sighted)), min_size=1, max_size=8))
def test_what_was_proved_stays_and_of_everything_else_the_newest_counts(verdicts: list[Sighted]) -> None:
    known: PutSight | None = None
    for verdict in verdicts:
        known = standing(known, row(verdict))
    first = next((verdict for verdict in verdicts if verdict in PROVEN), None)
    assert known is not None
    assert known.verdict == (first or verdicts[-1])
    assert is_shown(known) == (first is not None)


@pytest.mark.parametrize("verdict", get_args(Sighted))
@pytest.mark.parametrize("reason", ["reply", "quoted", "timeout", "", "a new one"])
def test_nothing_is_shown_without_what_proves_it(verdict: Sighted, reason: str) -> None:
    proves = (verdict, reason) in (("shown", "reply"), ("quoted", "quoted"))
    expect = ("unknown", "") if verdict in PROVEN and not proves else (verdict, reason)
    assert as_told(verdict, reason) == expect


def test_no_author_is_told_that_one_model_was_not_shown_what_another_was() -> None:
    sightings = Sightings()

    def unshown() -> list[str]:
        return [each.word.reader for each in sightings.unshown(ANN, Millis(1 + LATE_MS))]

    sightings.note(MESSAGE, ANN, row("not_shown"), [])
    assert unshown() == ["ben"]
    sightings.note(MESSAGE, ANN, row("shown"), [])
    # Nothing is stored of a room that lives elsewhere.
    sightings.note(MESSAGE, ANN, row("not_shown"), [])
    sightings.note(MESSAGE, ANN, row("cut", "cas"), [])
    assert unshown() == []
    other = MessageId("m_2")
    sightings.note(other, ANN, row("cut"), [row("shown", "cas")])
    sightings.note(other, ANN, row("cut"), [])
    assert unshown() == []


def test_what_is_on_its_way_to_an_author_is_replaced_by_nothing_less() -> None:
    sightings = Sightings()
    for verdict in ("not_shown", "shown", "not_shown", "unknown"):
        sightings.send(MESSAGE, ANN, row(verdict))
    assert [each.word.verdict for each in sightings.sent_after(0)] == ["shown"]


def test_until_a_verdict_is_stored_the_message_is_watched_and_nobody_restarted_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent, library = await alice.send("one"), served.engine.desk.library
            await bob.recv()
            record, seen = library.record, list[tuple[str, str]]()

            async def tell(*verdicts: Sighted) -> None:
                told = t.TellSights(sights=tuple(t.SightTold(id=sent.id, verdict=each) for each in verdicts))
                await served.engine.handlers["window.sighted"](bob.caller, told)

            async def look() -> None:
                (reader,) = (await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)).readers
                assert reader.sight is not msgspec.UNSET
                seen.append((reader.sight.verdict, reader.sight.reason))

            async def looks_first(writes: Sequence[Write]) -> None:
                await look()
                await record(writes)

            await tell("pending")
            with monkeypatch.context() as patched:
                patched.setattr(library, "record", looks_first)
                await tell("not_shown")
            await look()
            # In one call it has its verdict and is shown once more.
            await tell("not_shown", "pending")
            await look()
            assert seen == [("pending", ""), ("not_shown", ""), ("pending", "")]

    run(main)
