"""The texts of a demo: out of their fences to the letter, put together again, counted without mercy."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mcp_server.fence import Fencer
from parlerd.cli.demo_texts import Broken, Texts, unfenced, visible, whole_text


@pytest.mark.parametrize("text", ["", "one line", "two\nlines\n", "[peer text abc]\n[end abc]", "ends in a bracket]"])
def test_a_text_comes_out_of_its_fence_as_it_went_in(text: str) -> None:
    assert unfenced(Fencer().wrap(text)) == (text, 0)


def test_a_text_that_was_cut_says_where_to_read_on() -> None:
    rest = 'the rest: parler_recv {"since":1,"limit":1,"offset":{next}}'
    assert unfenced(Fencer().wrap("abcdef", limit=4, rest=rest)) == ("abcd", 4)


def test_a_text_outside_a_fence_breaks_the_demo() -> None:
    with pytest.raises(Broken):
        unfenced("hello")


def test_what_cannot_be_seen_is_written_out_once() -> None:
    seen = visible("a\u202eb\r\n")
    assert seen == "a\\u{202e}b\n"
    assert visible(seen) == seen


class Slices:
    """A window that shows `text` ten characters at a time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[dict[str, Any]] = []

    def fenced(self, offset: int) -> str:
        rest = 'the rest: parler_recv {"room":"r","since":6,"limit":1,"offset":{next}}'
        return Fencer().wrap(self.text, limit=10, start=offset, rest=rest)

    async def call_for_text(self, tool: str, **arguments: Any) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append({"tool": tool, **arguments})
        return f"1 in demo:\n#7 a | valid\n{self.fenced(arguments['offset'])}"


def test_a_long_text_is_read_on_as_its_cut_says() -> None:
    window = Slices("The quick brown fox jumps over it.")
    message = {"seq": 7, "text": window.fenced(0)}
    assert trio.run(whole_text, window, "r", message) == window.text
    assert [call["offset"] for call in window.asked] == [10, 20, 30]
    assert {(call["tool"], call["room"], call["since"], call["limit"]) for call in window.asked} == {
        ("parler_recv", "r", 6, 1)
    }


def counted(*stored: tuple[str, str]) -> dict[str, int]:
    texts = Texts("recap")
    texts.sent("one", "m_1")
    texts.sent("two", "m_2")
    texts.found([("m_0", "a", "recap"), *((id, "a", text) for id, text in stored)])
    return texts.counts


def test_texts_that_are_there_once_each_are_neither_lost_nor_doubled() -> None:
    assert counted(("m_1", "one"), ("m_2", "two")) == {"sent": 3, "stored": 3, "lost": 0, "doubled": 0}


def test_a_missing_text_is_lost() -> None:
    assert counted(("m_1", "one")) == {"sent": 3, "stored": 2, "lost": 1, "doubled": 0}


def test_a_text_that_is_there_twice_is_doubled() -> None:
    assert counted(("m_1", "one"), ("m_2", "two"), ("m_2", "two"))["doubled"] == 1


def test_a_changed_text_is_lost_and_another_one_too_many() -> None:
    found = counted(("m_1", "one"), ("m_2", "too"))
    assert (found["lost"], found["doubled"]) == (1, 1)


def test_a_message_with_another_id_than_its_sender_was_told_breaks_the_demo() -> None:
    with pytest.raises(Broken):
        counted(("m_1", "one"), ("m_9", "two"))
