"""What an agent and a home may store in an hour: a burst, then a steady trickle, and nobody is silenced by others."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, PrincipalId
from parlerd.engine import quota
from parlerd.engine.quota import EMPTY_S, HOUR_S, SLICE, Quotas
from parlerd.operations import types as t
from parlerd.settings import Settings
from relay.counting import Counting
from tests.support.engine import engine_world, run, texts
from tests.support.shared_counts import SharedCounts

MIA = PrincipalId("AMIA")
ANN, BEN, CAT = AgentId("UANN"), AgentId("UBEN"), AgentId("UCAT")


def quotas(_counts: Counting | None = None, **limits: Any) -> Quotas:
    """Without a limit that is not named."""
    none: dict[str, Any] = dict.fromkeys(
        [f"{whose}_{what}" for whose in ("agent", "person", "home") for what in ("messages", "bytes")], 0
    )
    return Quotas(Settings(**{f"quota_{name}": limit for name, limit in (none | limits).items()}), _counts)


def refusal(of: Quotas, agent: AgentId, **what: Any) -> ParlerError:
    with pytest.raises(Refused) as refused:
        of.take_now(agent, **({"bytes": 0} | what))
    assert refused.value.code == "throttled"
    return refused.value


@pytest.mark.parametrize(("limits", "one"), [({"agent_messages": 60}, {}), ({"agent_bytes": 6_000}, {"bytes": 100})])
def test_an_agent_has_a_burst_of_an_hours_worth_which_comes_back_steadily(
    limits: dict[str, int], one: dict[str, Any]
) -> None:
    async def main() -> None:
        budget = quotas(None, **limits)
        for _ in range(60):
            budget.take_now(ANN, **({"bytes": 0} | one))
        error = refusal(budget, ANN, **one)
        assert error.retry_after_ms == 60_001
        budget.take_now(BEN, **({"bytes": 0} | one))
        await trio.sleep(60.001)
        budget.take_now(ANN, **({"bytes": 0} | one))
        refusal(budget, ANN, **one)
        await trio.sleep(10 * HOUR_S)
        for _ in range(60):
            budget.take_now(ANN, **({"bytes": 0} | one))
        refusal(budget, ANN, **one)

    run(main)


def test_a_refusal_counts_nothing() -> None:
    async def main() -> None:
        budget = quotas(agent_messages=10, agent_bytes=100)
        budget.take_now(ANN, bytes=60)
        for _ in range(20):
            refusal(budget, ANN, bytes=60)
        for _ in range(9):
            budget.take_now(ANN, bytes=4)

    run(main)


def test_what_is_larger_than_a_whole_budget_takes_a_full_one_and_leaves_a_debt() -> None:
    async def main() -> None:
        budget = quotas(agent_bytes=100)
        budget.take_now(ANN, bytes=1_000)
        assert refusal(budget, ANN, bytes=1).retry_after_ms == pytest.approx(1.01 * HOUR_S * 1000, abs=2)
        await trio.sleep(2 * HOUR_S)
        budget.take_now(ANN, bytes=1_000)

    run(main)


def test_the_home_holds_back_who_used_much_and_not_who_used_little() -> None:
    async def main() -> None:
        budget = quotas(agent_messages=100, home_messages=50)
        for _ in range(50):
            budget.take_now(ANN, bytes=0)
        assert refusal(budget, ANN).retry_after_ms == 72_001
        # Its own tenth is for everyone, whatever the others did.
        for _ in range(11):
            budget.take_now(BEN, bytes=0)
        refusal(budget, BEN)
        await trio.sleep(HOUR_S / 2)
        budget.take_now(BEN, bytes=0)

    run(main)


def test_no_limit_is_none() -> None:
    async def main() -> None:
        budget = quotas()
        for _ in range(1_000):
            budget.take_now(ANN, bytes=10**12)
            await trio.sleep(0.001)

    run(main)


def test_the_agents_that_are_remembered_are_bounded_and_the_one_that_posted_longest_ago_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota, "MAX_AGENTS", 2)

    async def main() -> None:
        budget = quotas(agent_messages=2)
        for agent in (ANN, BEN, ANN, CAT):
            budget.take_now(agent, bytes=0)
        refusal(budget, ANN)
        budget.take_now(BEN, bytes=0)
        budget.take_now(BEN, bytes=0)

    run(main)


POSTS: dict[str, t.Params] = {
    "message.send": t.Send(text="x" * 60, idempotency_key="mine"),
    "handoff.give": t.GiveHandoff(next="x" * 30, summary="x" * 30, idempotency_key="mine"),
    "session.open": t.OpenSession(topic="x", context="x" * 60, idempotency_key="mine"),
}


@pytest.mark.parametrize("op", POSTS)
@pytest.mark.parametrize("limits", [{"quota_agent_messages": quota.OPENING + 1}, {"quota_agent_bytes": 100}])
def test_whatever_posts_is_counted_and_told_when_to_come_again(op: str, limits: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(**limits)) as served:
            alice, bob = await served.room("alice", "bob", context="")
            await alice.send("x" * 60)
            error = await alice.refused(op, POSTS[op])
            assert error.code == "throttled"
            assert error.spec.retryable
            await bob.send("I am not held back")
            assert error.retry_after_ms is not None
            await trio.sleep(error.retry_after_ms / 1000)
            await alice.call(op, POSTS[op])

    run(main)


def test_a_pipelined_send_is_counted_too_and_its_refusal_carries_its_key() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_agent_messages=quota.OPENING + 1)) as served:
            (alice,) = await served.room("alice", context="")
            begin = served.engine.begin
            posting = begin("message.send", t.Send(text="x"), alice.caller)
            assert posting is not None
            await posting.result()
            with pytest.raises(Refused) as refused:
                begin("message.send", t.Send(text="x", idempotency_key="mine"), alice.caller)
            assert (refused.value.code, refused.value.details["key"]) == ("throttled", "mine")
            assert texts(await alice.recv(all=True)) == ["x"]

    run(main)


@pytest.mark.parametrize("limits", [{"person_messages": 4}, {"person_bytes": 40}])
def test_a_person_elsewhere_has_one_budget_for_however_many_agents_and_nobody_else_draws_on_it(
    limits: dict[str, int],
) -> None:
    async def main() -> None:
        budget = quotas(None, **limits)
        for number in range(4):
            budget.take_now(AgentId(f"U{number}"), bytes=10, person=MIA)
        error = refusal(budget, AgentId("U9"), bytes=10, person=MIA)
        assert error.retry_after_ms == 900_001
        # Neither another person nor an agent of this home is held back.
        budget.take_now(ANN, bytes=10, person=PrincipalId("AOLGA"))
        budget.take_now(BEN, bytes=10)
        await trio.sleep(900.001)
        budget.take_now(AgentId("U9"), bytes=10, person=MIA)

    run(main)


# -- where several relays draw from the same budgets -------------------------------------------------------


async def stored(of: Quotas, agent: AgentId, count: int, **what: Any) -> int:
    """How many of so many messages are taken."""
    for number in range(count):
        try:
            await of.take(agent, **({"bytes": 0} | what))
        except Refused:
            return number
    return count


@pytest.mark.parametrize(("limits", "one"), [({"agent_messages": 60}, {}), ({"agent_bytes": 6_000}, {"bytes": 100})])
def test_an_agent_has_one_budget_at_all_relays_which_comes_back_steadily(
    limits: dict[str, int], one: dict[str, Any]
) -> None:
    async def main() -> None:
        counts = SharedCounts()
        first, second = quotas(counts.way(), **limits), quotas(counts.way(), **limits)
        assert await stored(first, ANN, 40, **one) == 40
        assert await stored(second, ANN, 40, **one) == 20
        for each in (first, second):
            with pytest.raises(Refused) as refused:
                await each.take(ANN, **({"bytes": 0} | one))
            assert refused.value.retry_after_ms == 60_001
        # A relay that begins has no budget of its own.
        assert await stored(quotas(counts.way(), **limits), ANN, 1, **one) == 0
        assert await stored(second, BEN, 1, **one) == 1
        await trio.sleep(60.001)
        assert await stored(second, ANN, 2, **one) == 1
        assert await stored(first, ANN, 1, **one) == 0

    run(main)


def test_of_a_large_budget_a_relay_draws_a_part_at_once_and_a_row_is_seldom_written() -> None:
    async def main() -> None:
        counts = SharedCounts()
        first, second = (quotas(counts.way(), agent_messages=64_000) for _ in range(2))
        assert not first.take_now(ANN, bytes=0)
        assert await stored(first, ANN, 3_000) == 3_000
        assert counts.draws == 3
        assert first.take_now(ANN, bytes=0) is False
        assert await stored(second, ANN, 64_000) == 61_000

    run(main)


def test_what_lies_in_a_purse_is_void_after_an_hour_in_which_the_budget_came_back() -> None:
    async def main() -> None:
        counts = SharedCounts()
        relays = [quotas(counts.way(), agent_messages=6_400) for _ in range(3)]
        for each in relays:
            assert await stored(each, ANN, 1) == 1
        await trio.sleep(HOUR_S)
        assert not any(each.take_now(ANN, bytes=0) for each in relays)
        total = sum([await stored(each, ANN, 10_000) for each in relays])
        assert total == 6_400

    run(main)


def test_together_relays_give_no_more_than_a_budget_and_for_each_of_them_a_part_of_it() -> None:
    async def main() -> None:
        counts, limit = SharedCounts(), 6_400
        relays = [quotas(counts.way(), agent_messages=limit) for _ in range(3)]
        for each in relays:
            assert await stored(each, ANN, 1) == 1
        await trio.sleep(HOUR_S - 1)
        total = sum([await stored(each, ANN, 10_000) for each in relays])
        assert limit < total <= limit * (1 + 3 * SLICE) + 2

    run(main)


def test_at_several_relays_the_home_holds_back_who_used_much_and_not_who_used_little() -> None:
    async def main() -> None:
        counts = SharedCounts()
        first, second = (quotas(counts.way(), agent_messages=100, home_messages=50) for _ in range(2))
        assert await stored(first, ANN, 100) == 50
        # Its own tenth is for everyone, whatever the others did.
        assert await stored(second, BEN, 100) == 11
        drawn = counts.draws
        assert await stored(second, CAT, 2) == 2
        assert counts.draws - drawn <= 4
        await trio.sleep(max(EMPTY_S, HOUR_S / 2))
        assert await stored(second, BEN, 1) == 1

    run(main)


def test_at_several_relays_a_refusal_counts_nothing_and_what_is_larger_than_a_budget_takes_a_full_one() -> None:
    async def main() -> None:
        counts = SharedCounts()
        first, second = (quotas(counts.way(), agent_messages=10, agent_bytes=100) for _ in range(2))
        await first.take(ANN, bytes=60)
        assert [await stored(each, ANN, 1, bytes=60) for each in (first, second) for _ in range(10)] == [0] * 20
        assert await stored(second, ANN, 20, bytes=4) == 9
        await second.take(BEN, bytes=1_000)
        assert await stored(first, BEN, 1, bytes=1) == 0

    run(main)


def test_at_several_relays_files_have_budgets_of_their_own() -> None:
    async def main() -> None:
        counts = SharedCounts()
        limits = Settings(quota_agent_blob_bytes=1_000, quota_person_blob_bytes=1_500, quota_agent_messages=1)
        first, second = Quotas(limits, counts.way()), Quotas(limits, counts.way())
        await first.take_blob(ANN, 800, MIA)
        for agent, size in ((ANN, 300), (BEN, 800)):
            with pytest.raises(Refused):
                await second.take_blob(agent, size, MIA)
        await second.take_blob(BEN, 700, MIA)
        await second.take(ANN, bytes=10)

    run(main)
