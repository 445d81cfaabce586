"""What relays count together, by every store that they may share: each number once, whoever asks and however many at
the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from parlerd.core.model import PrincipalId
from parlerd.store.counts import FORGOTTEN_AFTER_S, Ask, Counts
from parlerd.store.memory_counts import MemoryCounts

ANN, BEN = PrincipalId("ANN"), PrincipalId("BEN")


def ask(name: str = "guesses", **other: float) -> Ask:
    return Ask(name, **{"rate": 0.5, "burst": 4.0} | other)


@dataclass
class Shared:
    """A store under test: a relay's way to it, and what makes its clock go on for budgets."""

    connect: Callable[[], Counts]
    let_pass: Callable[[float], None]

    def __post_init__(self) -> None:
        self.one, self.other = self.connect(), self.connect()


@pytest.fixture
def memory() -> Shared:
    clock = [1000.0]
    counts = MemoryCounts(lambda: clock[0])

    def let_pass(seconds: float) -> None:
        clock[0] += seconds

    return Shared(lambda: counts, let_pass)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Shared]:
    import psycopg

    from parlerd.store.postgres.counts import Counts as OfServer
    from tests.support.postgres import shared, with_tables

    with ExitStack() as stack:
        database = stack.enter_context(shared().database(with_tables))

        def connect() -> Counts:
            return stack.enter_context(closing(OfServer(database.relay)))

        def let_pass(seconds: float) -> None:
            with psycopg.connect(database.superuser, autocommit=True) as connection:
                connection.execute("UPDATE budgets SET at = at - make_interval(secs => %s)", (seconds,))

        yield Shared(connect, let_pass)


@pytest.fixture(params=["memory", "server"])
def made(request: pytest.FixtureRequest) -> Shared:
    found: Shared = request.getfixturevalue(request.param)
    return found


def at_once(*work: Callable[[], object]) -> None:
    """Do these in threads of their own, at the same moment."""
    together, failed = threading.Barrier(len(work)), []

    def run(each: Callable[[], object]) -> None:
        together.wait(60)
        try:
            each()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


# -- links -------------------------------------------------------------------------------------------------


def test_each_link_of_a_daemon_has_a_greater_number_than_those_before_at_whichever_relay(made: Shared) -> None:
    assert [each.claim(ANN) for each in (made.one, made.other, made.one)] == [1, 2, 3]
    assert made.other.claim(BEN) == 1
    assert made.other.newest([ANN, BEN, PrincipalId("NOBODY")]) == {ANN: 3, BEN: 1}


def test_links_that_begin_at_the_same_moment_have_different_numbers(made: Shared) -> None:
    numbers: list[int] = []

    def claim(counts: Counts) -> None:
        for _ in range(50):
            numbers.append(counts.claim(ANN))

    at_once(lambda: claim(made.one), lambda: claim(made.other))
    assert sorted(numbers) == list(range(1, 101))
    assert made.one.newest([ANN]) == {ANN: 100}


# -- budgets -----------------------------------------------------------------------------------------------


def test_what_one_relay_draws_no_other_has(made: Shared) -> None:
    assert made.one.draw([ask(least=3.0, most=3.0)]).amounts == [3.0]
    refused = made.other.draw([ask(least=2.0, most=2.0)])
    assert refused.amounts == ()
    assert 1.0 <= refused.wait_s <= 2.0
    assert made.other.draw([ask()]).amounts == [1.0]


def test_as_much_as_there_is_is_drawn_where_less_is_enough(made: Shared) -> None:
    drawn = made.one.draw([ask(least=1.0, most=9.0)])
    assert (drawn.amounts, drawn.left, drawn.wait_s) == ([4.0], [0.0], 0.0)
    nothing = made.other.draw([ask(least=0.0, most=9.0)])
    assert nothing.wait_s == 0.0
    assert nothing.amounts[0] < 1.0


def test_a_budget_comes_back_steadily_and_never_beyond_what_it_was(made: Shared) -> None:
    made.one.draw([ask(least=4.0, most=4.0)])
    made.let_pass(4)
    assert made.other.draw([ask(least=2.0, most=2.0)]).wait_s == 0.0
    assert made.other.draw([ask()]).wait_s > 0.0
    made.let_pass(1000)
    assert made.other.draw([ask(least=4.0, most=4.0)]).wait_s == 0.0
    assert made.one.draw([ask()]).wait_s > 0.0


def test_of_several_budgets_all_are_drawn_from_or_none(made: Shared) -> None:
    made.one.draw([ask("strangers", least=4.0, most=4.0)])
    assert made.other.draw([ask("address"), ask("strangers")]).wait_s > 0.0
    assert made.one.draw([ask("address", least=4.0, most=4.0)]).wait_s == 0.0


def test_what_is_given_back_is_there_for_every_relay_and_no_more_than_all(made: Shared) -> None:
    made.one.draw([ask(least=4.0, most=4.0)])
    made.one.give([ask()])
    assert made.other.draw([ask()]).wait_s == 0.0
    for _ in range(9):
        made.other.give([ask()])
    assert made.one.draw([ask(least=4.0, most=4.0)]).wait_s == 0.0
    assert made.one.draw([ask()]).wait_s > 0.0


def test_a_budget_that_is_forgotten_is_whole(made: Shared) -> None:
    made.one.draw([ask(least=4.0, most=4.0)])
    made.other.forget(["guesses", "never drawn from"])
    assert made.one.draw([ask(least=4.0, most=4.0)]).wait_s == 0.0


def test_budgets_that_were_not_drawn_from_for_a_day_are_forgotten_and_others_are_not(made: Shared) -> None:
    made.one.draw([ask("old", rate=1e-9, least=4.0, most=4.0)])
    made.let_pass(FORGOTTEN_AFTER_S + 1)
    made.one.draw([ask("new", rate=1e-9, least=4.0, most=4.0)])
    made.other.forget_old()
    assert made.one.draw([ask("old", rate=1e-9, least=4.0, most=4.0)]).wait_s == 0.0
    assert made.one.draw([ask("new", rate=1e-9)]).wait_s > 0.0


def test_two_relays_that_draw_at_once_draw_no_more_than_there_is(made: Shared) -> None:
    drawn: list[float] = []

    def draw(counts: Counts, *names: str) -> None:
        for _ in range(40):
            drawn.extend(counts.draw([ask(name, rate=1e-6, burst=50.0) for name in names]).amounts)

    # In either order, as two who wait for each other would.
    at_once(lambda: draw(made.one, "a", "b"), lambda: draw(made.other, "b", "a"))
    assert sum(drawn) == 100.0


# -- what people keep --------------------------------------------------------------------------------------


def test_what_every_relay_says_of_a_person_is_one_sum(made: Shared) -> None:
    first = made.one.keep({ANN: 100, BEN: 5}, 0.0)
    assert first.bytes == {ANN: 100, BEN: 5}
    made.other.keep({ANN: 30}, 0.0)
    made.other.keep({ANN: -10}, 0.0)
    assert made.one.keep({}, first.mark).bytes[ANN] == 120


def test_of_two_counts_of_everything_one_is_added(made: Shared) -> None:
    counting = made.one.keep({}, 0.0).counting
    assert made.one.correct({ANN: 100}, counting)
    assert not made.other.correct({ANN: 100}, counting)
    seen = made.other.keep({}, 0.0)
    assert seen.bytes == {ANN: 100}
    assert made.other.correct({ANN: -40}, seen.counting)
    assert made.one.keep({}, 0.0).bytes == {ANN: 60}


def test_two_relays_that_add_at_once_lose_nothing(made: Shared) -> None:
    def add(counts: Counts, *people: PrincipalId) -> None:
        for _ in range(40):
            counts.keep(dict.fromkeys(people, 1), 0.0)

    at_once(lambda: add(made.one, ANN, BEN), lambda: add(made.other, BEN, ANN))
    assert made.one.keep({}, 0.0).bytes == {ANN: 80, BEN: 80}
