"""Two people on two machines, as new users, hand a live session over between two real hosts of different makers, and
their relay cannot read a word of it.

What counts is what each model received, everything that the other said and once, and that neither has to know of any
of this: one line more is all that a model is told. Other hosts talk in `test_conversations`, and what else the relay
has of a sealed room is in `tests/e2e/test_canaries.py`.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from mcp_server.heard import hear
from parlerd.paths import relay_home
from tests.e2e.hosts.seat import seated
from tests.e2e.hosts.test_conversations import (
    ANSWER,
    NEXT,
    QUESTION,
    RECAP,
    STATE,
    Table,
    assert_nothing_was_wasted,
    joins,
    opens,
)
from tests.e2e.hosts.test_network import CLAUDE, CODEX, received
from tests.e2e.test_sealed import found_in
from tests.support.team import apart

pytestmark = pytest.mark.e2e

TOLD: Final = "The relay cannot read what is said here. It sees who is in, when, and the state of the room."
LINE_BYTES: Final = 93
"""What whoever opens pays for it, with the end of the line."""
ABOUT: Final = re.compile("seal|epoch|key change|cannot read|relay sees", re.IGNORECASE)


def test_two_people_hand_a_sealed_session_over_and_their_models_are_told_one_line_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with apart(monkeypatch) as people:
        team = people.team
        team.joins(team.ben)
        table = Table()
        with (
            seated(team.ann, CLAUDE) as one,
            seated(team.ben, CODEX) as two,
            one.runs(opens(table)) as opening,
            two.runs(joins(table)) as joining,
        ):
            code = joining.gets(table.codes)
            (request,) = team.ann.asks("approvals")["requests"]
            team.ann.asks("session", "approve", request["agent"], "--code", code)
            joining.ends()
            opening.ends()
        assert [room["sealed"] for room in team.ann.asks("rooms")["rooms"]] == [True]
        assert received(one) == [QUESTION]
        assert received(two) == [RECAP, ANSWER, NEXT, STATE]
        lines = [line for seat in (one, two) for each in seat.heard for line in hear(each.text).said.splitlines()]
        assert [line for line in lines if ABOUT.search(line)] == [TOLD]
        assert len(f"{TOLD}\n".encode()) == LINE_BYTES
        for seat in (one, two):
            assert_nothing_was_wasted(seat)
        for word in (*RECAP.splitlines(), QUESTION, ANSWER, NEXT, STATE):
            assert found_in(relay_home(team.ann.home).root, word) == [], word
