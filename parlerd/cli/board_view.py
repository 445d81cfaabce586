"""How the board of a room looks: from an answer to lines of text with styles.

    auth-redesign   2 here · 14 messages · 1 open task
    Agents          who is in, as what, and what each waits for
    State           keys with their values, timers and conditions; views; what is not there yet
    Tasks, Actions  who holds which until when; which can be invoked now, and if not, why

Pure. Not here: asking and drawing (`board`). Above: `board`. Below: `printable`, `render`. Invariants: every word of
others is escaped; every line fits the width, and all of them the height, where there is one; each part keeps some lines
however long another is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.printable import clip, columns, printable_line
from parlerd.cli.render import counted, span_of
from parlerd.core.model import SHARED
from parlerd.operations import types as t

if TYPE_CHECKING:
    from parlerd.cli.output import Span, Style

GAP: Final = 2
"""Columns between two cells, and before the first."""
MIN_CELL: Final = 6
"""How many columns a cell keeps that has to be cut."""
MAX_VALUE: Final = 400
"""Characters of a value before it is cut to its column: a long one takes time to measure."""
SAYS: Final = {
    "precondition_failed": "its condition is not true",
    "expression_failed": "its condition has no value",
    "expression_budget": "its condition takes too long",
    "needs_params": "needs parameters",
    "scope_denied": "writes what you may not",
    "agent_disabled": "you are disabled",
    "room_closed": "the room is closed",
}
"""Why an action cannot be invoked, in words."""

Row = Sequence["Span"]


class _Part:
    """A part of the board: its rows, and how many more there are that nobody told of."""

    def __init__(self, title: str, rows: list[Row], left_out: int = 0) -> None:
        self.title, self.rows, self.left_out = title, rows, left_out


def lines(board: t.Board, now: float, *, width: int | None = None, height: int | None = None) -> list[list[Span]]:
    """The board as lines, each a row of texts with styles. `now` is the room's time, in seconds. Without a width or a
    height nothing is cut to it."""
    parts = [
        _Part("Agents", [_agent(each, now) for each in board.agents], board.left_out.get("agents", 0)),
        _Part("State", [_entry(each, now) for each in board.entries], board.left_out.get("entries", 0)),
        _Part("Tasks", [_task(each, now) for each in board.tasks], board.left_out.get("tasks", 0)),
        _Part("Actions", [_action(each, now) for each in board.actions], board.left_out.get("actions", 0)),
    ]
    if not board.entries:
        parts[1].rows = [[("nothing yet", "dim")]]
    parts = [part for part in parts if part.rows]
    needed = [len(part.rows) for part in parts]
    room = None if height is None else max(0, height - 1 - len(parts))
    shown = needed if room is None else shares(needed, room)
    spare = len(parts) if room is None else room - sum(shown)
    found: list[list[Span]] = [_fitted([_title(board)], width)[0]]
    for part, count in zip(parts, shown, strict=True):
        # Blank lines only where there is one for each part, so that the parts look alike.
        if spare >= len(parts):
            found.append([])
        hidden = len(part.rows) - count + part.left_out
        heading: list[Span] = [(part.title, "bold"), (f"  and {hidden} more" if hidden else "", "dim")]
        found.append(heading if width is None else _cut(heading, width))
        found += _fitted(part.rows[:count], width, indent=GAP)
    return found if height is None else found[:height]


def shares(needed: Sequence[int], room: int) -> list[int]:
    """How many lines each part gets of `room`: what it needs, and where that is too much, as many as any other."""
    given = [0] * len(needed)
    open = [index for index, each in enumerate(needed) if each]
    while open and room > 0:
        each = max(1, room // len(open))
        for index in list(open):
            more = min(each, needed[index] - given[index], room)
            given[index] += more
            room -= more
            if given[index] == needed[index] or not room:
                open.remove(index)
    return given


def countdown(seconds: float) -> str:
    """How much time is left, to the second under a day: `0:07`, `1:02:03`."""
    if seconds >= 86_400:
        return span_of(seconds)
    # Rounded up: something that is there for another moment is not shown as over.
    whole = max(0, int(-(-seconds // 1)))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# -- rows --------------------------------------------------------------------------------------------------


def _title(board: t.Board) -> Row:
    here = len(board.agents) + board.left_out.get("agents", 0)
    about = [f"{here} here", counted(board.messages, "message")]
    if board.unclaimed:
        about.append(f"{counted(board.unclaimed, 'task')} that you could claim")
    return [(board.name or board.room, "bold"), (" · ".join(about), "dim"), ("closed" if board.closed else "", "warn")]


def _agent(agent: t.BoardAgent, now: float) -> Row:
    styles: dict[str, Style] = {"active": "good", "waiting": "warn", "idle": "dim", "offline": "dim"}
    note: Span = ""
    if agent.waiting_on is not None:
        note = f"waits for {agent.waiting_on}"
    elif agent.last_seen and agent.status in ("idle", "offline"):
        note = (f"seen {span_of(now - agent.last_seen / 1000)} ago", "dim")
    return [(agent.name, "name"), (agent.status, styles.get(agent.status, "plain")), agent.role, note]


def _entry(entry: t.StateEntry, now: float) -> Row:
    is_dormant = entry.dormant is True
    place = entry.key if entry.scope == SHARED else f"{entry.scope}.{entry.key}"
    value: Span = (_value(entry.value), "dim" if is_dormant else "plain")
    if isinstance(entry.error, str):
        value = (entry.error, "warn")
    elif is_dormant and entry.value is None and isinstance(entry.expr, str):
        value = ""
    return [
        (place, "dim" if is_dormant else "bold"),
        value,
        (_life(entry, now), "dim" if is_dormant else "warn" if isinstance(entry.timer, t.TimerShown) else "dim"),
        (f"v{entry.version}", "dim"),
        (entry.updated_by, "name"),
    ]


def _life(entry: t.StateEntry, now: float) -> str:
    """What an entry's being there depends on, and what a view is."""
    words = ["dormant"] if entry.dormant is True else []
    if isinstance(entry.timer, t.TimerShown):
        words.append(_timer(entry.timer, now))
    if isinstance(entry.enabled, str):
        words.append(f"while {entry.enabled}")
    if isinstance(entry.expr, str):
        words.append(f"= {entry.expr}")
    return ", ".join(words)


def _timer(timer: t.TimerShown, now: float) -> str:
    what = "gone" if timer.effect == "delete" else "there"
    if isinstance(timer.at, int):
        return f"{what} in {countdown(timer.at / 1000 - now)}"
    left = timer.ticks_left if isinstance(timer.ticks_left, int) else 0
    watched = str(timer.tick_on).removeprefix(f"state.{SHARED}.")
    return f"{what} after {counted(left, 'write')} of {watched}"


def _task(task: t.BoardTask, now: float) -> Row:
    number = f"#{task.seq}" if task.seq else ""
    held: Span = ("open", "good") if not task.holder else f"{task.status} by {task.holder}"
    left = f"{countdown(task.lease_until / 1000 - now)} left" if task.holder else ""
    return [
        (number, "dim"),
        task.text,
        held,
        (left, "warn"),
        (f"from {task.author}", "dim"),
    ]


def _action(action: t.BoardAction, now: float) -> Row:
    place = action.id if action.scope == SHARED else f"{action.scope}.{action.id}"
    state: Span = ("available", "good")
    if not action.available:
        reason = action.reason if isinstance(action.reason, str) else ""
        state = (SAYS.get(reason, f"not now: {reason}" if reason else "not now"), "warn")
        if isinstance(action.available_at, int):
            state = (f"cools down, {countdown(action.available_at / 1000 - now)} left", "warn")
        elif isinstance(action.ticks_left, int):
            state = (f"cools down, {counted(action.ticks_left, 'write')} left", "warn")
    timer = _timer(action.timer, now) if isinstance(action.timer, t.TimerShown) else ""
    about = action.description if isinstance(action.description, str) else ""
    return [(place, "bold"), state, (timer, "dim"), (about, "dim")]


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:MAX_VALUE]


# -- fitting -----------------------------------------------------------------------------------------------


def _fitted(rows: Sequence[Row], width: int | None, indent: int = 0) -> list[list[Span]]:
    """Rows as lines in columns: the widest columns are cut where not all fit, and nothing stands right of the last."""
    if not rows:
        return []
    cells = [[_cell(span) for span in row] for row in rows]
    widths = [max(columns(row[place][0]) for row in cells if place < len(row)) for place in range(max(map(len, cells)))]
    used = [place for place, each in enumerate(widths) if each]
    if width is not None:
        room = max(width - indent - GAP * (len(used) - 1), 1)
        cap = _cap([widths[place] for place in used], room)
        widths = [min(each, cap) for each in widths]
    found: list[list[Span]] = []
    for row in cells:
        line: list[Span] = [" " * indent] if indent else []
        blank = 0
        for place in used:
            text, style = row[place] if place < len(row) else ("", "plain")
            if text:
                shown = clip(text, widths[place])
                line += [" " * blank, (shown, style)] if blank else [(shown, style)]
                blank = 0
                blank = widths[place] - columns(shown) + GAP
            else:
                blank += widths[place] + GAP
        found.append(line if width is None else _cut(line, width))
    return found


def _cut(line: list[Span], width: int) -> list[Span]:
    """A line that ends at the width, on a terminal that is too narrow for its columns."""
    left = width
    found: list[Span] = []
    for span in line:
        text, style = _cell(span)
        if left <= 0:
            break
        shown = clip(text, left)
        left -= columns(shown)
        found.append((shown, style))
    return found


def _cap(widths: Sequence[int], room: int) -> int:
    """How wide a column may be, so that all of them fit into `room`."""
    cap = max(widths, default=0)
    while sum(min(each, cap) for each in widths) > room and cap > MIN_CELL:
        cap -= 1
    return cap


def _cell(span: Span) -> tuple[str, Style]:
    if isinstance(span, str):
        return printable_line(span), "plain"
    return printable_line(span[0]), span[1]
