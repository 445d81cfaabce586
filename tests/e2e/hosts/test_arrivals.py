"""What arrives at the model of a real host, as its model server received it: a long recap, many short messages, and
what is left of both when the host is killed in between.

An agent of the shell opens the session and writes; the host's model joins and follows the calls that the texts name,
until they name none that brings more. Nobody is asked here who comes in: that is in `test_conversations`.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from typing import Final, NamedTuple

import pytest

from configs.hosts import find_host
from mcp_server.budget import Budget
from mcp_server.heard import hear
from parlerd.operations import types as t
from tests.e2e.hosts.drivers import DRIVERS, Driver
from tests.e2e.hosts.seat import LIMIT_S, Heard, Talk, seated
from tests.support.dialects.blocks import Block, calls
from tests.support.processes import Somebody, somebody, until
from tests.support.reader import next_read

pytestmark = pytest.mark.e2e

RECAP: Final = "\n".join(f"{number:04} {'abcdefghij'[number % 10] * 54}" for number in range(500)) + "."
"""Thirty thousand characters, no two lines alike."""
SHORT: Final = tuple(f"note {number:02}" for number in range(60))
"""Seven bytes each."""
OVERHEAD: Final = 1_000
"""Of a host's ceiling, at most this is taken by what we say around the recap: who you are, heads, the next call.
Source: the lines of `mcp_server.tools.results`, with the longest names."""
PAGE: Final = 20
"""Messages of one page in the run that is killed: three pages make the sixty."""


class Visit(NamedTuple):
    """What one run of a host heard: from the join until the recap was read, and then of the short messages."""

    driver: Driver
    recap: Sequence[Heard]
    short: Sequence[Heard]


def reads_on(text: str) -> Generator[Block, str, None]:
    """Follow the calls that bring what is there already."""
    while (call := next_read(text)) is not None:
        text = yield call


def visits(key: str, joined: queue.Queue[None], sent: threading.Event) -> Talk:
    """Join, read all there is, and read again when something was sent."""
    text = yield calls("parler_join_session", key=key)
    yield from reads_on(text)
    joined.put(None)
    assert sent.wait(LIMIT_S)
    text = yield calls("parler_recv")
    yield from reads_on(text)


@pytest.fixture(scope="module")
def visit(request: pytest.FixtureRequest) -> Iterator[Visit]:
    driver: Driver = request.param
    with pytest.MonkeyPatch.context() as patch, somebody(patch) as person:
        person.trusts_everyone()
        with seated(person, driver) as seat:
            opened = person.opens("alice", context=RECAP)
            assert opened.session_key is not None
            joined: queue.Queue[None] = queue.Queue()
            sent = threading.Event()
            with seat.runs(visits(opened.session_key, joined, sent)) as run:
                run.gets(joined)
                before = len(seat.heard)
                for text in SHORT:
                    person.sends("alice", text)
                sent.set()
                run.ends()
            yield Visit(driver, seat.heard[:before], seat.heard[before:])


def each_host(*promises: str) -> list[pytest.ParameterSet]:
    """All hosts, each with the mark that says what the test proves of it."""
    return [
        pytest.param(driver, marks=pytest.mark.proves(driver.host, *promises), id=driver.program) for driver in DRIVERS
    ]


def texts(heard: Sequence[Heard]) -> list[str]:
    """What peers wrote, in the order in which it arrived."""
    return [part.text for each in heard for part in hear(each.text).parts]


@pytest.mark.parametrize("visit", each_host("recap"), indirect=True)
def test_a_recap_of_thirty_thousand_characters_arrives_whole_in_the_fewest_calls(visit: Visit) -> None:
    parts = [part for each in visit.recap for part in hear(each.text).parts if part.seq == 1]
    assert "".join(part.text for part in parts) == RECAP
    budget = Budget(find_host(visit.driver.host).traits)
    fewest = math.ceil(budget.size(RECAP) / (budget.page - OVERHEAD))
    assert [each.call.tool for each in visit.recap] == ["parler_join_session", *["parler_recv"] * (fewest - 1)]


@pytest.mark.parametrize("visit", each_host("messages"), indirect=True)
def test_sixty_short_messages_arrive_each_once_and_in_order(visit: Visit) -> None:
    assert texts(visit.short) == list(SHORT)
    assert [each.text for each in visit.short if each.is_wasted] == []


class Interrupted:
    """Where the host is killed: the model has been given two pages, and has not asked for the third."""

    def __init__(self) -> None:
        self.joined: queue.Queue[None] = queue.Queue()
        self.sent = threading.Event()
        self.arrived: queue.Queue[None] = queue.Queue()
        self.killed = threading.Event()


def is_interrupted(key: str, at: Interrupted) -> Talk:
    yield calls("parler_join_session", key=key)
    at.joined.put(None)
    assert at.sent.wait(LIMIT_S)
    yield calls("parler_recv", limit=PAGE)
    yield calls("parler_recv", limit=PAGE)
    at.arrived.put(None)
    at.killed.wait(LIMIT_S)


def comes_back() -> Talk:
    text = yield calls("parler_recv")
    yield from reads_on(text)


def acknowledged(person: Somebody, sent: dict[str, str]) -> list[str]:
    """The texts whose message somebody other than their author has acknowledged, as the daemon says it."""
    found = []
    with person.client("alice") as client:
        for id, text in sent.items():
            why = client.call("message.why", t.Why(id=id))
            assert isinstance(why, t.WhyResult)
            stages = [reached.stage for reader in why.readers if reader.name != "alice" for reached in reader.stages]
            if "acknowledged" in stages:
                found.append(text)
    return found


@pytest.mark.parametrize("driver", each_host("killed"))
def test_what_a_killed_host_did_not_get_comes_when_it_is_back_and_nothing_else_was_acknowledged(
    somebody: Somebody, driver: Driver
) -> None:
    somebody.trusts_everyone()
    with seated(somebody, driver) as seat:
        opened = somebody.opens("alice")
        assert opened.session_key is not None
        at = Interrupted()
        with seat.runs(is_interrupted(opened.session_key, at)) as run:
            run.gets(at.joined)
            sent = {somebody.sends("alice", text).id: text for text in SHORT}
            at.sent.set()
            run.gets(at.arrived)
            run.kill()
        at.killed.set()
        until(lambda: not somebody.shims(driver.host), "end of the program that the host had started")
        arrived = texts(seat.heard[1:])
        seen = acknowledged(somebody, sent)
        assert arrived == list(SHORT[: 2 * PAGE])
        assert set(seen) >= set(SHORT[:PAGE]), "the second call acknowledges what the first brought"
        assert set(seen) <= set(arrived)

        before = len(seat.heard)
        with seat.runs(comes_back(), again=True) as run:
            run.ends()
        later = texts(seat.heard[before:])
    assert later == [text for text in SHORT if text not in seen]
    assert max(Counter(later).values()) == 1
