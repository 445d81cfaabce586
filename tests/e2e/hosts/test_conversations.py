"""Two real hosts of different makers and one person: from "open a session" to a finished hand-off, without a call that
brought nothing.

Every host opens once and joins once. A model here knows what the texts say that it was given: the key, its code, the
names of others, and which call comes next.
"""

from __future__ import annotations

import queue
import threading
from typing import Final

import pytest

from mcp_server.heard import Part, hear
from tests.e2e.hosts.drivers import DRIVERS, Driver
from tests.e2e.hosts.seat import LIMIT_S, Seat, Talk, seated
from tests.support.dialects.blocks import Block, calls
from tests.support.processes import Somebody
from tests.support.reader import key_in, named_calls
from tests.support.team import Team

pytestmark = pytest.mark.e2e

RECAP: Final = "Chose PKCE.\nLeft: rotation of the tokens."
QUESTION: Final = "Which store holds the tokens?"
ANSWER: Final = "The keyring."
NEXT: Final = "Wire the login page."
STATE: Final = "Rotation works."

OPENS: Final = ("connected", "tools", "call", "opens")
JOINS: Final = ("joins",)
PAIRS: Final = [(opener, DRIVERS[(index + 1) % len(DRIVERS)]) for index, opener in enumerate(DRIVERS)]


class Table:
    """What passes between the two agents outside of Parler: the key, which a person carries over, and the code, which
    the joiner tells the person. Both begin when both programs are up, so that no wait has to outlast a start."""

    def __init__(self) -> None:
        self.up = threading.Barrier(2, timeout=LIMIT_S)
        self.keys: queue.Queue[str] = queue.Queue()
        self.codes: queue.Queue[str] = queue.Queue()


def next_call(text: str, last: Block | None = None) -> Block:
    """The call that a text names last; where it names none, the one before."""
    named = [*([last] if last else []), *named_calls(text)]
    assert named, text
    return named[-1]


def other(parts: list[Part]) -> Part | None:
    """What somebody else wrote, other than the recap."""
    return next((part for part in parts if part.author != "you" and "opening recap" not in part.facts), None)


def opens(table: Table) -> Talk:
    table.up.wait()
    text = yield calls("parler_open_session", topic="auth", context=RECAP)
    table.keys.put(key_in(text))
    wait = next_call(text)
    while (question := other(hear(text).parts)) is None:
        text = yield wait
        wait = next_call(text, wait)
    assert question.text == QUESTION
    yield calls("parler_send", text=ANSWER)
    yield calls("parler_handoff", **{"for": question.author, "state": STATE, "next": NEXT})


def joins(table: Table) -> Talk:
    table.up.wait()
    text = yield calls("parler_join_session", key=table.keys.get(timeout=LIMIT_S))
    code = hear(text).join_code
    assert code, text
    table.codes.put(code)
    wait = next_call(text)
    while not hear(text).parts:
        text = yield wait
        wait = next_call(text, wait)
    (recap,) = hear(text).parts
    assert recap.text == RECAP
    yield calls("parler_send", text=QUESTION)
    heard: list[Part] = []
    while not any(part.turn_to == "you" for part in heard):
        text = yield wait
        wait = next_call(text, wait)
        heard += hear(text).parts
    assert [part.text for part in heard] == [ANSWER, NEXT, STATE]
    assert {part.author for part in heard if part.author} == {recap.author}


@pytest.mark.parametrize(
    ("opener", "joiner"),
    [
        pytest.param(
            opener,
            joiner,
            marks=[pytest.mark.proves(opener.host, *OPENS), pytest.mark.proves(joiner.host, *JOINS)],
            id=f"{opener.program}-{joiner.program}",
        )
        for opener, joiner in PAIRS
    ],
)
def test_two_hosts_meet_by_a_key_and_a_persons_word_and_the_turn_is_handed_over_without_a_wasted_call(
    somebody: Somebody, opener: Driver, joiner: Driver
) -> None:
    meet((somebody, opener), (somebody, joiner))


def test_the_hosts_of_two_people_meet_over_a_relay_and_the_turn_is_handed_over_without_a_wasted_call(
    team: Team,
) -> None:
    by_program = {driver.program: driver for driver in DRIVERS}
    team.joins(team.ben)
    key = meet((team.ann, by_program["claude"]), (team.ben, by_program["codex"]))
    assert key.endswith(f"@{team.relay['name']}")


def meet(opener: tuple[Somebody, Driver], joiner: tuple[Somebody, Driver]) -> str:
    """Two hosts meet, and the first one's person lets the second in. Returns the key that was carried over."""
    table = Table()
    with (
        seated(*opener) as one,
        seated(*joiner) as two,
        one.runs(opens(table)) as opening,
        two.runs(joins(table)) as joining,
    ):
        code = joining.gets(table.codes)
        (request,) = opener[0].asks("approvals")["requests"]
        opener[0].asks("session", "approve", request["agent"], "--code", code)
        joining.ends()
        opening.ends()
    assert_nothing_was_wasted(one)
    assert_nothing_was_wasted(two)
    return next(str(each.call.arguments["key"]) for each in two.heard if each.call.tool == "parler_join_session")


def assert_nothing_was_wasted(seat: Seat) -> None:
    assert [f"{each.call.tool} {dict(each.call.arguments)}: {each.text}" for each in seat.wasted()] == []
