"""Remembered answers: what a commit changed is never answered from memory, also when it lands amid a read."""

from __future__ import annotations

from collections.abc import Callable

from parlerd.store import memo
from parlerd.store.memo import Memo


class Source:
    """Values that change, and how often each was read."""

    def __init__(self) -> None:
        self.values = {"a": 1, "b": 1}
        self.reads: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def read(self, key: str) -> int:
        self.reads.append(key)
        value = self.values[key]
        self.meanwhile()
        return value


def test_an_answer_is_read_once_until_a_commit_changes_it() -> None:
    source = Source()
    answer = Memo(source.read)
    assert [answer("a"), answer("a"), answer("b")] == [1, 1, 1]
    source.values["a"] = 2
    answer.forget(["a", "unknown"])
    assert [answer("a"), answer("a"), answer("b")] == [2, 2, 1]
    assert source.reads == ["a", "b", "a"]


def test_everything_is_forgotten_when_it_is_not_known_what_changed() -> None:
    source = Source()
    answer = Memo(source.read)
    assert [answer("a"), answer("b")] == [1, 1]
    source.values = {"a": 2, "b": 2}
    answer.forget()
    assert [answer("a"), answer("b")] == [2, 2]


def test_a_read_that_a_commit_overtakes_is_not_remembered() -> None:
    source = Source()
    answer = Memo(source.read)

    def commit() -> None:
        source.meanwhile = lambda: None
        source.values["a"] = 2
        answer.forget(["a"])

    source.meanwhile = commit
    assert answer("a") == 1, "as it was when it was asked"
    assert answer("a") == 2


def test_what_is_remembered_is_bounded() -> None:
    reads: list[int] = []

    def read(key: int) -> int:
        reads.append(key)
        return key

    answer = Memo(read)
    for key in range(memo.MAX_REMEMBERED + 1):
        answer(key)
    assert len(answer._known) == 1
    assert answer(memo.MAX_REMEMBERED) == memo.MAX_REMEMBERED
    assert len(reads) == memo.MAX_REMEMBERED + 1
