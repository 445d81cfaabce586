"""How the approvals screen looks: from its state to something that rich can draw.

Not here: what a key does (`approvals_model`). Above: `approvals`, and the README's picture. Invariants: every word of
others is escaped; every line is made here and fits the width, so that the drawing is never taller than the screen;
everything that a decision needs stands whole below the list, however narrow the list has to be.
"""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from parlerd.cli.approvals_model import CODE_LENGTH, PAGE, Row, Screen
from parlerd.cli.output import moment
from parlerd.cli.printable import clip, columns, printable_line, wrap
from parlerd.cli.render import span_of, unsaid

_TONES = {"plain": "dim", "good": "green", "bad": "bold red"}
_AROUND = 8
"""How many lines there always are beside the rows and the text of the panel: title, heads, which rows these are,
borders, note, and one to spare."""
_BORDERS = 2
"""How many lines of a panel hold no text."""
_HEADS = 2
"""How many lines of the list are no rows: the heads of the columns, and which rows are shown."""
_FRAME = 4
"""How many columns of a panel hold no text."""
_LABEL = 13
"""How many columns the longest label takes, with the space behind it."""
_MANY = 6
"""How many requests a question about several names; the rest are counted."""
_MIN_NAME = 12
"""How many columns a name keeps in the list."""


def view(screen: Screen, now_s: float, height: int, width: int = 80, *, lost: bool = False) -> RenderableType:
    """The whole screen, at most `height` lines of `width` columns. `lost`: the list may be out of date."""
    rows = screen.visible()
    below = _below(screen, width - _FRAME)
    keys = _packed(keys_that_act(screen), width)
    note = wrap(printable_line(screen.note), width) if screen.note else [""]
    parts: list[RenderableType] = [_title(screen, lost)]
    left = height - 1 - _BORDERS - len(note) - len(keys)
    spare = left - len(below.lines)
    if rows and spare > _HEADS:
        room = max(height - _AROUND - len(below.lines) - len(keys) - len(note), min(3, spare - _HEADS))
        parts += _list(screen, rows, now_s, room, width)
    else:
        # The screen has only a few lines. Whom a decision is about, and its keys, are more important than the list.
        below.lines = below.lines[: max(left, 1)]
    parts.append(below.panel())
    parts += [Text(line, style=_TONES[screen.tone]) for line in note]
    parts += [Text(line, style="dim") for line in keys]
    return Group(*parts)


def keys_that_act(screen: Screen) -> list[str]:
    """What each key does that does something now."""
    if screen.busy:
        return ["asking the daemon"]
    if screen.mode == "code":
        enter = ["Enter lets it in"] if len(screen.typed) == CODE_LENGTH else []
        return [*enter, *(["Backspace"] if screen.typed else []), "Esc goes back"]
    if screen.mode == "allow":
        return ["y lets it write", "any other key goes back"]
    if screen.mode in ("deny", "deny_queue"):
        return ["y denies", "any other key goes back"]
    if screen.mode == "filter":
        return ["type part of a name, room, host, fingerprint", "Enter keeps it", "Esc shows all"]
    rows = screen.visible()
    keys = ["↑ ↓ PgUp PgDn move" if len(rows) > PAGE else "↑ ↓ move"] if len(rows) > 1 else []
    if screen.row(screen.selected) is not None:
        keys += ["a approve", "d deny"]
        if len(same := screen.same_key()) > 1:
            keys.append(f"D deny all {len(same)} with its key")
    if len(screen.rows) > 1 or screen.filter:
        keys.append("/ filter")
    return [*keys, *(["Esc shows all"] if screen.filter else []), "q quit"]


def _packed(keys: list[str], width: int) -> list[str]:
    """The keys on as few lines as possible, with no key broken over two lines."""
    lines = [""]
    for key in keys:
        joined = f"{lines[-1]} · {key}" if lines[-1] else key
        if columns(joined) > width and lines[-1]:
            lines.append(key)
        else:
            lines[-1] = joined
    return lines


def _title(screen: Screen, lost: bool) -> Text:
    count = len(screen.rows)
    title = Text("Parler approvals", style="bold")
    title.append(f"   {count} waiting" if count else "   nobody waiting", style="bold" if count else "dim")
    if screen.filter or screen.mode == "filter":
        title.append(f"   /{screen.filter}", style="not bold green")
        title.append("▏" if screen.mode == "filter" else "", style="dim")
    if lost:
        title.append("   the daemon went away; connecting again", style="bold red")
    return title


def _list(screen: Screen, rows: tuple[Row, ...], now_s: float, height: int, width: int) -> list[Text]:
    """The heads of the columns, the rows around the selected one, and a line that says which rows these are."""
    cells = [
        (row.name, _room(row), row.fingerprint, span_of(now_s - row.requested / 1000), row.id)
        for row in _window(screen, rows, height)
    ]
    heads = ("says it is", "for room", "fingerprint", "waiting")
    texts = [tuple(printable_line(cell) for cell in each[:4]) for each in cells]
    widths = [max(columns(row[place]) for row in (heads, *texts)) for place in range(4)]
    # Fingerprints and times are never cut. Names are cut instead: the panel below has those of the selected row whole.
    names = max(width - 2 - widths[2] - widths[3] - 6, 2 * _MIN_NAME)
    widths[1] = min(widths[1], max(names - widths[0], names // 2))
    widths[0] = min(widths[0], names - widths[1])
    lines = [Text(_line(" ", heads, widths, width), style="dim")]
    for (*_, id), row in zip(cells, texts, strict=True):
        chosen = id == screen.selected
        line = _line("▶" if chosen else " ", row, widths, width)
        lines.append(Text(line, style="bold reverse" if chosen else "", no_wrap=True))
    hidden = len(rows) - len(cells)
    first = next(place for place, row in enumerate(rows) if row.id == cells[0][-1]) + 1
    lines.append(Text(f"  {first} to {first + len(cells) - 1} of {len(rows)}" if hidden else "", style="dim"))
    return lines


def _room(row: Row) -> str:
    return " ".join(filter(None, (row.room_name, unsaid(row.topic))))


def _line(mark: str, cells: tuple[str, ...], widths: list[int], width: int) -> str:
    """One line of the list, filled up to the whole width, so that the bar over the selected line has no gap."""
    shown = [clip(cell, room) for cell, room in zip(cells, widths, strict=True)]
    line = f"{mark} " + "  ".join(text + " " * (room - columns(text)) for text, room in zip(shown, widths, strict=True))
    return clip(line + " " * max(width - columns(line), 0), width)


def _window(screen: Screen, rows: tuple[Row, ...], height: int) -> tuple[Row, ...]:
    place = next((index for index, row in enumerate(rows) if row.id == screen.selected), 0)
    first = max(0, min(place - height // 2, len(rows) - height))
    return rows[first : first + height]


class _Below:
    """The panel below the list."""

    def __init__(self, title: str, lines: list[Text], border: str = "") -> None:
        self.title, self.lines, self.border = title, lines, border

    def panel(self) -> Panel:
        style = box.HEAVY if self.border else box.ROUNDED
        return Panel(Group(*self.lines), title=self.title or None, border_style=self.border, box=style)


def _below(screen: Screen, width: int) -> _Below:
    if screen.mode == "code":
        return _ask_code(screen, width)
    if screen.mode == "allow":
        return _ask_allow(screen, width)
    if screen.mode in ("deny", "deny_queue"):
        return _ask_deny(screen, width)
    row = screen.row(screen.selected)
    if row is not None:
        return _Below("who knocks", _details(row, width))
    if screen.rows:
        return _Below("", _sentence("None of those who wait has that in its name, room, host or fingerprint.", width))
    return _Below("", _sentence("Nobody is waiting. This screen shows whoever knocks, as they knock.", width))


def _sentence(text: str, width: int, style: str = "") -> list[Text]:
    return [Text(line, style=style) for line in wrap(text, width)]


def _details(row: Row, width: int) -> list[Text]:
    facts = (
        ("says it is", ", ".join(filter(None, (row.name, row.role, f"on {row.host}" if row.host else "")))),
        ("fingerprint", row.fingerprint),
        ("agent", row.agent),
        ("home", "this machine" if row.home in ("", "local") else row.home),
        ("wants to", f"write to {row.direct_to}") if row.direct_to else ("wants into", f"{row.room_name} ({row.room})"),
        *((("about", row.topic),) if row.topic else ()),
        ("since", moment(row.requested)),
    )
    lines = []
    for label, value in facts:
        for number, piece in enumerate(wrap(printable_line(value), width - _LABEL)):
            line = Text(("" if number else label).ljust(_LABEL), style="dim")
            lines.append(line.append(piece, style="not dim"))
    return lines


def _ask_code(screen: Screen, width: int) -> _Below:
    (row,) = screen.subjects()[:1]
    typed = Text("code: ", style="bold")
    typed.append(" ".join(screen.typed.ljust(CODE_LENGTH, "_")), style="not bold green")
    question = _sentence(f"Type the {CODE_LENGTH} characters that this joiner shows on its side:", width)
    warning = _sentence(
        "Read them there yourself: an agent that tells you a code may not be the one that knocks.", width, "dim"
    )
    return _Below("approve", [*question, typed, *_details(row, width), *warning], "green")


def _ask_allow(screen: Screen, width: int) -> _Below:
    (row,) = screen.subjects()[:1]
    question = f"Let this agent write to {row.direct_to}? What it wrote waits until you answer."
    return _Below("allow", [*_sentence(question, width, "bold"), *_details(row, width)], "green")


def _ask_deny(screen: Screen, width: int) -> _Below:
    rows = screen.subjects()
    question = "Deny this request?" if screen.mode == "deny" else f"Deny all {len(rows)} that knocked with this key?"
    lines = _sentence(f"{question} The denial stands until you approve that agent.", width, "bold")
    if len(rows) == 1:
        return _Below("deny", [*lines, *_details(rows[0], width)], "red")
    for row in rows[:_MANY]:
        lines.append(Text(clip(printable_line(f"  {row.fingerprint}  says it is {row.name}"), width)))
    if len(rows) > _MANY:
        lines.append(Text(f"  and {len(rows) - _MANY} more"))
    return _Below("deny", lines, "red")
