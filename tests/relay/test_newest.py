"""Which link of a daemon counts: the one with the greatest number that was heard, in whatever order numbers come."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import PrincipalId
from relay.newest import LOOK_S, Newest
from tests.support.engine import run

ANN, BEN = PrincipalId("ANN"), PrincipalId("BEN")


class Given:
    """Numbers that are as a test says."""

    def __init__(self) -> None:
        self.numbers: dict[PrincipalId, int] = {}
        self.asked: list[list[PrincipalId]] = []
        self.fails = False

    async def claim(self, principal: PrincipalId) -> int:
        await trio.lowlevel.checkpoint()
        self.numbers[principal] = self.numbers.get(principal, 0) + 1
        return self.numbers[principal]

    async def newest(self, principals: Collection[PrincipalId]) -> dict[PrincipalId, int]:
        await trio.lowlevel.checkpoint()
        self.asked.append(list(principals))
        if self.fails:
            raise StoreError("store_unreachable")
        return {each: self.numbers[each] for each in principals if each in self.numbers}


def test_a_greater_number_ends_what_is_here_with_a_lesser_one_once() -> None:
    newest, ended = Newest(Given()), []
    with newest.entered(ANN, 1, lambda: ended.append(1)), newest.entered(BEN, 1, lambda: ended.append(0)):
        with newest.entered(ANN, 3, lambda: ended.append(3)):
            newest.hear(ANN, 2)
            newest.hear(ANN, 3)
        newest.hear(ANN, 4)
    assert ended == [1]
    assert newest.ended == 1


def test_what_comes_late_with_a_lesser_number_is_not_let_in() -> None:
    newest, ended = Newest(Given()), []
    newest.hear(ANN, 5)
    with pytest.raises(ParlerError, match="draining"), newest.entered(ANN, 4, lambda: ended.append(4)):
        pytest.fail("it was let in")
    # Several lanes of one link have one number.
    with newest.entered(ANN, 5, lambda: ended.append(5)), newest.entered(ANN, 5, lambda: ended.append(5)):
        pass
    assert ended == []


def test_a_number_of_a_daemon_that_is_here_is_not_forgotten_where_many_others_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.newest.MAX_HEARD", 2)
    newest, ended = Newest(Given()), []
    with newest.entered(ANN, 5, lambda: ended.append(5)):
        for number in range(4):
            newest.hear(PrincipalId(f"OTHER{number}"), 1)
        with pytest.raises(ParlerError), newest.entered(ANN, 4, lambda: ended.append(4)):
            pytest.fail("it was let in")
    assert ended == []


def test_the_database_is_asked_again_and_again_also_after_it_did_not_answer() -> None:
    async def main() -> None:
        given, ended = Given(), []
        newest = Newest(given)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(newest.run)
            await trio.sleep(LOOK_S + 0.1)
            # Nobody is here, so nothing is asked.
            assert given.asked == []
            with newest.entered(ANN, await newest.claim(ANN), lambda: ended.append(1)):
                given.fails = True
                await trio.sleep(LOOK_S)
                given.fails = False
                given.numbers[ANN] = 2
                assert ended == []
                await trio.sleep(LOOK_S)
                assert ended == [1]
            assert given.asked == [[ANN], [ANN]]
            nursery.cancel_scope.cancel()

    run(main)
