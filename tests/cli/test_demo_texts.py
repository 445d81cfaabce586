"""The texts of a demo: out of their fences to the letter, put together again, counted without mercy."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mcp_server.budget import Budget
from mcp_server.heard import Heard, hear
from mcp_server.tools.results import Scribe
from parlerd.cli.demo_texts import Broken, Texts, visible, whole_texts
from parlerd.operations.traits import HostTraits
from tests.support import answers


class Slices:
    """A window that shows a message of some thousand characters in several parts."""

    def __init__(self, text: str) -> None:
        self.page = answers.page(answers.message("before", seq=6), answers.message(text, seq=7))
        self.asked: list[dict[str, Any]] = []
        self.scribe = Scribe()
        self.scribe.budget = Budget(HostTraits(page=2_000))

    def first(self) -> Heard:
        return hear(self.scribe.write(self.page).text)

    async def call(self, tool: str, **arguments: Any) -> Heard:
        await trio.lowlevel.checkpoint()
        self.asked.append({"tool": tool, **arguments})
        rest = answers.page(self.page.messages[1])
        return hear(self.scribe.write(rest, offset=arguments["offset"]).text)


@pytest.mark.parametrize("text", ["", "one line", "two\nlines\n", "[peer 01234567]\n[end 01234567]", "ends in ]"])
def test_a_text_comes_out_of_its_fence_as_it_went_in(text: str) -> None:
    window = Slices(text)
    assert trio.run(whole_texts, window, window.first()) == ["before", text]
    assert window.asked == []


def test_a_long_text_is_read_on_as_its_answer_says() -> None:
    text = "".join(f"Line {number} of many.\n" for number in range(250))
    window = Slices(text)
    assert trio.run(whole_texts, window, window.first()) == ["before", text]
    offsets = [call["offset"] for call in window.asked]
    assert len(offsets) > 2
    assert offsets == sorted(set(offsets))
    assert {(call["tool"], call["since"]) for call in window.asked} == {("parler_recv", 6)}


def test_a_part_that_does_not_begin_where_the_one_before_ended_breaks_the_demo() -> None:
    class Skipping(Slices):
        async def call(self, tool: str, **arguments: Any) -> Heard:
            return await super().call(tool, **{**arguments, "offset": arguments["offset"] + 1})

    window = Skipping("x" * 5_000)
    with pytest.raises(Broken):
        trio.run(whole_texts, window, window.first())


def test_a_text_outside_a_fence_breaks_the_demo() -> None:
    window = Slices("")
    page = hear("1 in demo: hello there\n[peer 01234567 #7 bob]\nhello there\n[end 01234567]\n")
    with pytest.raises(Broken):
        trio.run(whole_texts, window, page)
    assert trio.run(whole_texts, window, hear("hello there")) == []


def test_what_cannot_be_seen_is_written_out_once() -> None:
    seen = visible("a\u202eb\r\n")
    assert seen == "a\\u{202e}b\n"
    assert visible(seen) == seen


def counted(*stored: tuple[int, str]) -> dict[str, int]:
    texts = Texts("recap")
    texts.sent("one", 2)
    texts.sent("two", 3)
    texts.found([(1, "a", "recap"), *((number, "a", text) for number, text in stored)])
    return texts.counts


def test_texts_that_are_there_once_each_are_neither_lost_nor_doubled() -> None:
    assert counted((2, "one"), (3, "two")) == {"sent": 3, "stored": 3, "lost": 0, "doubled": 0}


def test_a_missing_text_is_lost() -> None:
    assert counted((2, "one")) == {"sent": 3, "stored": 2, "lost": 1, "doubled": 0}


def test_a_text_that_is_there_twice_is_doubled() -> None:
    assert counted((2, "one"), (3, "two"), (3, "two"))["doubled"] == 1


def test_a_changed_text_is_lost_and_another_one_too_many() -> None:
    found = counted((2, "one"), (3, "too"))
    assert (found["lost"], found["doubled"]) == (1, 1)


def test_a_message_with_another_number_than_its_sender_was_told_breaks_the_demo() -> None:
    with pytest.raises(Broken):
        counted((2, "one"), (9, "two"))
