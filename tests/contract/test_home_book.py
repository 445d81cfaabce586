"""The relays that a person added: what the handlers lean on holds of every book of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.engine.ports import HomeBook, NoHomeBook
from tests.support.fake_home_book import LINE, SECRET, FakeHomeBook


@dataclass
class Case:
    """A book, a relay that it can reach, and the secret there."""

    book: HomeBook
    line: str
    secret: str


BOOKS: dict[str, Callable[[], Case]] = {"fake": lambda: Case(FakeHomeBook(), LINE, SECRET)}
EVERY_BOOK = pytest.mark.parametrize("make", BOOKS.values(), ids=BOOKS)


def refused(book: HomeBook, line: str, secret: str) -> str:
    async def main() -> str:
        with pytest.raises(Refused) as error:
            await book.add(line, secret)
        return error.value.code

    return trio.run(main)


@EVERY_BOOK
def test_a_relay_is_stored_only_once_its_key_and_the_secret_hold(make: Callable[[], Case]) -> None:
    case = make()
    assert refused(case.book, "wss://192.168.1.20:7777", case.secret) == "invalid_param"
    assert refused(case.book, case.line, "") == "not_enrolled"
    assert refused(case.book, case.line, "A3KE7-DJRQ2-9FHT4-WXC6M-0BNV54") == "wrong_secret"
    assert case.book.listed() == []


@EVERY_BOOK
def test_a_relay_that_was_added_is_the_default_and_adding_it_again_needs_no_secret(make: Callable[[], Case]) -> None:
    async def main() -> None:
        case = make()
        added = await case.book.add(case.line, case.secret)
        assert (added.status, added.home.default) == ("added", True)
        assert [home.id for home in case.book.listed()] == [added.home.id]
        case.book.choose("local")
        assert not case.book.listed()[0].default
        again = await case.book.add(case.line, "")
        assert (again.status, again.home.default, again.home.name) == ("unchanged", True, added.home.name)
        assert len(case.book.listed()) == 1

    trio.run(main)


@EVERY_BOOK
def test_a_home_is_chosen_and_taken_out_by_its_name(make: Callable[[], Case]) -> None:
    async def main() -> None:
        case = make()
        name = (await case.book.add(case.line, case.secret)).home.name
        assert case.book.choose("local") is None
        chosen = case.book.choose(name)
        assert chosen is not None
        assert (chosen.name, chosen.default) == (name, True)
        removed = await case.book.remove(name)
        assert (removed.name, removed.dropped, removed.default) == (name, 0, "local")
        assert case.book.listed() == []

    trio.run(main)


@pytest.mark.parametrize("make", [*BOOKS.values(), lambda: Case(NoHomeBook(), LINE, SECRET)], ids=[*BOOKS, "none"])
def test_a_name_that_no_home_has_is_refused(make: Callable[[], Case]) -> None:
    async def main() -> None:
        case = make()
        with pytest.raises(Refused) as error:
            case.book.choose("nowhere")
        assert error.value.code == "no_such_home"
        with pytest.raises(Refused) as error:
            await case.book.remove("nowhere")
        assert error.value.code == "no_such_home"
        assert case.book.choose("local") is None

    trio.run(main)
