"""How the approvals screen looks: from its state to something rich can draw. Every foreign word is escaped."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from parlerd.cli.approvals_model import CODE_LENGTH, Row, Screen
from parlerd.cli.printable import printable_line
from parlerd.cli.render import moment, span_of

_TONES = {"plain": "dim", "good": "green", "bad": "bold red"}
_AROUND = {"list": 17, "code": 21, "deny": 20, "deny_queue": 20}
"""Lines that everything but the rows takes, by what is asked."""
_KEYS = "j/k or arrows move · a approve · d deny · D deny all that used its key · q quit"


def view(screen: Screen, now_s: float, height: int, *, lost: bool = False) -> RenderableType:
    """The whole screen, at most `height` lines of requests. `lost` says that the list may be out of date."""
    parts: list[RenderableType] = [_title(screen, lost)]
    if screen.rows:
        parts += [_list(screen, now_s, max(height - _AROUND[screen.mode], 3)), _below(screen)]
    else:
        parts.append(
            Panel(Text("Nobody is waiting. This screen shows whoever knocks, as they knock."), box=box.ROUNDED)
        )
    parts += [Text(printable_line(screen.note) or " ", style=_TONES[screen.tone]), Text(_KEYS, style="dim")]
    return Group(*parts)


def _title(screen: Screen, lost: bool) -> Text:
    count = len(screen.rows)
    title = Text("Parler approvals", style="bold")
    title.append(f"   {count} waiting" if count else "   nobody waiting", style="yellow" if count else "dim")
    if lost:
        title.append("   the daemon went away; connecting again", style="bold red")
    return title


def _list(screen: Screen, now_s: float, height: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("", width=1)
    for header, ratio in (("says it is", 10), ("on", 6), ("for room", 8), ("fingerprint", 8), ("waiting", 5)):
        table.add_column(header, no_wrap=True, ratio=ratio, overflow="ellipsis")
    first = _first(screen, height)
    for row in screen.rows[first : first + height]:
        chosen = row.id == screen.selected
        waited = span_of(now_s - row.requested / 1000)
        cells = (row.name, row.host, row.room_name, row.fingerprint, waited)
        table.add_row(
            Text("▶" if chosen else " "),
            *(Text(printable_line(cell, 48)) for cell in cells),
            style="bold reverse" if chosen else "",
        )
    hidden = len(screen.rows) - min(height, len(screen.rows))
    if hidden:
        table.caption = f"{hidden} more"
    return table


def _first(screen: Screen, height: int) -> int:
    place = next((index for index, row in enumerate(screen.rows) if row.id == screen.selected), 0)
    return max(0, min(place - height // 2, len(screen.rows) - height))


def _below(screen: Screen) -> Panel:
    if screen.mode == "code":
        return _ask_code(screen)
    if screen.mode in ("deny", "deny_queue"):
        return _ask_deny(screen)
    row = screen.row(screen.selected)
    return Panel(_details(row) if row else Text("j or k selects a request."), title="who knocks", box=box.ROUNDED)


def _details(row: Row) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    facts = (
        ("says it is", f"{row.name}, on {row.host}" if row.host else row.name),
        ("fingerprint", row.fingerprint),
        ("agent", row.agent),
        ("home", row.home or "this machine"),
        ("wants into", f"{row.room_name} ({row.room})"),
        ("since", moment(row.requested)),
    )
    for label, value in facts:
        grid.add_row(Text(label), Text(printable_line(value)))
    return grid


def _ask_code(screen: Screen) -> Panel:
    (row,) = screen.subjects()[:1]
    typed = Text("code: ", style="bold")
    typed.append(" ".join(screen.typed.ljust(CODE_LENGTH, "_")), style="bold green")
    typed.append("   asking the daemon" if screen.busy else "   Enter lets it in · Esc goes back", style="dim")
    body = Group(
        Text(f"Type the {CODE_LENGTH} characters that this joiner shows on its side:"),
        typed,
        _details(row),
    )
    return Panel(body, title="approve", border_style="green", box=box.HEAVY)


def _ask_deny(screen: Screen) -> Panel:
    rows = screen.subjects()
    question = "Deny this request?" if screen.mode == "deny" else f"Deny all {len(rows)} that knocked with this key?"
    lines = [Text(f"{question} It stays denied until the owner lifts it.", style="bold")]
    lines += [Text(printable_line(f"  says it is {row.name}, {row.fingerprint}", 90)) for row in rows[:6]]
    if len(rows) > 6:
        lines.append(Text(f"  and {len(rows) - 6} more"))
    lines.append(Text("asking the daemon" if screen.busy else "y denies · any other key goes back", style="dim"))
    return Panel(Group(*lines), title="deny", border_style="red", box=box.HEAVY)
