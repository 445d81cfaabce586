"""How the board of a room looks: pure, from an answer to lines."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.cli.board_view import countdown, lines, shares
from parlerd.cli.printable import columns
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import ROOM

NOW_MS = 1_000_000
NOW = NOW_MS / 1000
CANARY = "\x1b]52;c;eA==\x07\x1b[2K\r\n\u202e\u200b[red]x[/red]"


def board(**about: Any) -> t.Board:
    said: dict[str, Any] = {
        "agents": [], "entries": [], "tasks": [], "actions": [], "left_out": {}, "messages": 1, "unclaimed": 0,
        "closed": False, "now": NOW_MS, "mark": "m", "room": ROOM, "name": "auth",
    }  # fmt: skip
    return t.Board(**{**said, **about})


def agent(name: str = "bob", **about: Any) -> t.BoardAgent:
    said: dict[str, Any] = {"status": "active", "role": "", "waiting_on": None, "last_seen": NOW_MS}
    return t.BoardAgent(name=name, **{**said, **about})


def entry(key: str = "turn", **about: Any) -> t.StateEntry:
    said: dict[str, Any] = {"scope": "_shared", "value": 2, "version": 3, "updated_by": "bob", "updated_at": 0}
    return t.StateEntry(key=key, **{**said, **about})


def task(text: str = "review it", **about: Any) -> t.BoardTask:
    said: dict[str, Any] = {"seq": 7, "author": "ann", "status": "open", "holder": "", "lease_until": 0}
    return t.BoardTask(id="m_1", text=PeerText(text), **{**said, **about})


def action(id: str = "go", **about: Any) -> t.BoardAction:
    return t.BoardAction(**{"id": id, "scope": "_shared", "available": True, **about})


def drawn(shown: t.Board, **how: Any) -> list[str]:
    """The lines as a terminal shows them."""
    found = lines(shown, NOW, **how)
    return ["".join(span if isinstance(span, str) else span[0] for span in line) for line in found]


def row_of(shown: t.Board, first: str) -> str:
    """The row that begins with this, its columns parted by one blank."""
    (row,) = [line for line in drawn(shown) if line.split()[:1] == [first]]
    return " ".join(row.split())


def test_a_board_has_a_title_and_a_part_for_each_of_what_is_there() -> None:
    shown = board(agents=[agent()], entries=[entry()], tasks=[task()], actions=[action()], unclaimed=1, messages=3)
    assert drawn(shown) == [
        "auth  1 here · 3 messages · 1 task that you could claim",
        "",
        "Agents",
        "  bob  active",
        "",
        "State",
        "  turn  2  v3  bob",
        "",
        "Tasks",
        "  #7  review it  open  from ann",
        "",
        "Actions",
        "  go  available",
    ]


def test_where_nothing_is_in_the_state_that_is_said_and_a_closed_room_too() -> None:
    assert drawn(board(agents=[agent()], closed=True)) == [
        "auth  1 here · 1 message  closed", "", "Agents", "  bob  active", "", "State", "  nothing yet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"status": "waiting", "waiting_on": "a == 1"}, "bob waiting waits for a == 1"),
        ({"status": "waiting", "waiting_on": "(private)", "role": "judge"}, "bob waiting judge waits for (private)"),
        ({"status": "idle", "last_seen": NOW_MS - 120_000}, "bob idle seen 2 minutes ago"),
        ({"status": "offline", "last_seen": 0}, "bob offline"),
        ({"status": "baking", "last_seen": 0}, "bob baking"),
    ],
)
def test_an_agent_is_shown_with_what_it_waits_for_or_when_it_was_seen(about: dict[str, Any], said: str) -> None:
    assert row_of(board(agents=[agent(**about)]), "bob") == said


TICKS = t.TimerShown(effect="enable", ticks_left=1, tick_on="state._shared.turn")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"timer": t.TimerShown(effect="delete", at=NOW_MS + 61_000)}, "turn 2 gone in 1:01 v3 bob"),
        (
            {"timer": t.TimerShown(effect="enable", at=NOW_MS + 9_500), "dormant": True},
            "turn 2 dormant, there in 0:10 v3 bob",
        ),
        ({"timer": TICKS, "dormant": True}, "turn 2 dormant, there after 1 write of turn v3 bob"),
        ({"enabled": "a > 1"}, "turn 2 while a > 1 v3 bob"),
        ({"enabled": "a > 1", "dormant": True}, "turn 2 dormant, while a > 1 v3 bob"),
        ({"expr": "1 + 1"}, "turn 2 = 1 + 1 v3 bob"),
        ({"expr": "x", "value": None, "error": "came to no value"}, "turn came to no value = x v3 bob"),
        ({"expr": "x", "value": None, "dormant": True, "enabled": "b"}, "turn dormant, while b, = x v3 bob"),
        ({"value": {"ä": "日本"}}, 'turn {"ä": "日本"} v3 bob'),
    ],
)
def test_an_entry_is_shown_with_its_timer_its_condition_and_whether_it_is_there(
    about: dict[str, Any], said: str
) -> None:
    assert row_of(board(entries=[entry(**about)]), "turn") == said


def test_a_key_of_another_scope_is_named_with_it() -> None:
    assert row_of(board(entries=[entry(scope="_view")]), "_view.turn") == "_view.turn 2 v3 bob"


def test_a_task_is_shown_with_who_holds_it_and_for_how_long() -> None:
    held = task(holder="bob", status="working", lease_until=NOW_MS + 3_661_000)
    assert row_of(board(tasks=[held]), "#7") == "#7 review it working by bob 1:01:01 left from ann"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"reason": "action_cooldown", "available_at": NOW_MS + 5_000}, "go cools down, 0:05 left"),
        ({"reason": "action_cooldown", "ticks_left": 2}, "go cools down, 2 writes left"),
        ({"reason": "precondition_failed"}, "go its condition is not true"),
        ({"reason": "a_new_code"}, "go not now: a_new_code"),
        ({"description": PeerText("one log")}, "go not now one log"),
    ],
)
def test_an_action_that_cannot_be_invoked_says_why(about: dict[str, Any], said: str) -> None:
    assert row_of(board(actions=[action(available=False, **about)]), "go") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0:00"), (0, "0:00"), (0.2, "0:01"), (59.5, "1:00"), (3_600, "1:00:00"), (86_400 * 2, "2 days")],
)
def test_what_is_left_is_counted_to_the_second(seconds: float, said: str) -> None:
    assert countdown(seconds) == said


@pytest.mark.parametrize(
    ("needed", "room", "given"),
    [
        ([2, 3], 10, [2, 3]),
        ([2, 30, 4, 2], 18, [2, 10, 4, 2]),
        ([30, 30, 30], 10, [4, 3, 3]),
        ([1, 9, 9], 8, [1, 4, 3]),
        ([5, 5, 5], 2, [1, 1, 0]),
        ([5], 0, [0]),
        ([0, 4], 9, [0, 4]),
    ],
)
def test_a_long_part_takes_what_the_others_leave_and_no_more(needed: list[int], room: int, given: list[int]) -> None:
    assert shares(needed, room) == given


def test_a_part_that_is_cut_says_how_many_there_are_besides() -> None:
    shown = board(
        agents=[agent(f"a{n}") for n in range(3)], entries=[entry(f"k{n}") for n in range(40)], left_out={"entries": 5}
    )
    found = drawn(shown, width=80, height=20)
    assert len(found) == 20
    assert found[1:5] == ["Agents", *(f"  a{n}  active" for n in range(3))]
    assert found[5] == "State  and 31 more"


def test_the_countdown_and_the_version_of_a_long_value_stay_in_sight() -> None:
    timer = t.TimerShown(effect="delete", at=NOW_MS + 5_000)
    (row,) = [line for line in drawn(board(entries=[entry(value="x" * 500, timer=timer)]), width=80) if "turn" in line]
    assert columns(row) <= 80
    assert "…" in row
    assert row.endswith("gone in 0:05  v3  bob")


words = st.text(
    st.sampled_from([*"ab \n\t", "\x1b", "\x9b", "\u202e", "\u200b", "日", "é", "\u0301", "🙂"]), max_size=60
)


@settings(max_examples=60)
@given(words, words, st.integers(1, 100), st.integers(1, 40), st.integers(0, 30))
def test_whatever_others_wrote_no_line_is_wider_and_nothing_is_taller_than_the_screen(
    one: str, other: str, width: int, height: int, many: int
) -> None:
    timer = t.TimerShown(effect="delete", ticks_left=1, tick_on=other)
    shown = board(
        agents=[agent(one, role=other, status=one, waiting_on=PeerText(other))] * min(many, 3),
        entries=[entry(one, scope=other, value=one, updated_by=other, timer=timer)] * many,
        tasks=[task(one, author=other, holder=other, status=one)] * many,
        actions=[action(one, available=False, reason=other, description=PeerText(one))],
        name=one,
    )
    found = drawn(shown, width=width, height=height)
    assert len(found) <= height
    assert all(columns(line) <= width for line in found)
    assert not [char for char in "".join(found) if unicodedata.category(char) in ("Cc", "Zl", "Zp")]


def test_no_word_of_others_is_obeyed_by_the_terminal() -> None:
    shown = board(
        agents=[agent(CANARY, role=CANARY, status=CANARY, waiting_on=PeerText(CANARY))],
        entries=[entry(CANARY, scope=CANARY, value={CANARY: CANARY}, updated_by=CANARY, enabled=CANARY, expr=CANARY)],
        tasks=[task(CANARY, author=CANARY, holder=CANARY, status=CANARY)],
        actions=[action(CANARY, scope=CANARY, available=False, reason=CANARY, description=PeerText(CANARY))],
        name=CANARY,
    )
    found = "".join(drawn(shown))
    assert not {"\x1b", "\x07", "\r", "\n", "\u202e", "\u200b"} & {*found}
    assert "[red]x[/red]" in found
