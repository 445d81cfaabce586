"""What the approvals screen does, as a pure state machine: requests and keys in, screens and decisions out.

    mode         keys that do something                               next mode
    list         up, down, `a`, `d`, `D`, `/`, Escape, `q`            code, allow, deny, deny_queue, filter, the end
    code         letters and digits, Backspace, Enter, Escape         list; code again after a wrong code
    allow        `y` to let somebody write directly, any other key    list
    deny         `y` to deny, any other key to go back                list
    deny_queue   the same, for all who knocked with the same key      list
    filter       characters, Backspace, up, down, Enter, Escape       list

Not here: a clock, a terminal, calls. Times are milliseconds of any steady clock, which the caller gives. Above:
`approvals` (terminal, threads, calls) and `approvals_view` (how the screen looks).

Invariants (security spec A3): a decision is about the request that was selected when its key was pressed, by its id and
never by a row number; requests that arrive never move the selection; keys are ignored for `QUIET_MS` after the list on
the screen changed; to approve takes the joiner's code and Enter, or where nobody joins a `y`; to deny takes a `y`; a
request that a filter hides is neither selected nor decided on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

QUIET_MS: Final = 500
"""How long keys are ignored after the list changed, so that nobody decides on a request that they had no time to see.
Source: security spec A3."""
CODE_LENGTH: Final = 4
PAGE: Final = 10
"""How many rows a page key moves: about what a screen of 24 lines shows."""
MAX_FILTER: Final = 32
"""The most characters of a filter. Nobody looks for a longer part of a name."""

_STEPS: Final = {
    "j": 1,
    "down": 1,
    "k": -1,
    "up": -1,
    "pagedown": PAGE,
    "pageup": -PAGE,
    "home": -(10**9),
    "end": 10**9,
}
"""How far a key moves the selection; it stops at both ends."""

Mode = Literal["list", "code", "allow", "deny", "deny_queue", "filter"]
Tone = Literal["plain", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Row:
    """One request. Everything except `id` and `agent` is what others say. Rows with the same `room` and `queue` knocked
    with the same key. With `direct_to` nobody knocks: the agent wants to write to that agent of the person."""

    id: str
    agent: str
    room: str
    room_name: str
    name: str
    host: str
    fingerprint: str
    home: str
    requested: int
    queue: str = ""
    topic: str = ""
    role: str = ""
    direct_to: str = ""


@dataclass(frozen=True, slots=True)
class Screen:
    """The whole state of the screen."""

    rows: tuple[Row, ...] = ()
    """Every request, in the order in which it is listed."""
    selected: str | None = None
    """The id of the selected request."""
    mode: Mode = "list"
    about: tuple[str, ...] = ()
    """The ids of the requests that the open question is about, fixed when the question was opened."""
    typed: str = ""
    """The characters of the code so far."""
    quiet_until: int = 0
    """Keys are ignored before this time."""
    busy: bool = False
    """Whether a decision is under way at the daemon."""
    note: str = ""
    """A sentence on the last decision."""
    tone: Tone = "plain"
    filter: str = ""
    """Only rows that contain this text are shown; an empty text shows all."""

    def visible(self) -> tuple[Row, ...]:
        """The rows that the filter lets through."""
        return tuple(row for row in self.rows if _contains(row, self.filter)) if self.filter else self.rows

    def same_key(self) -> tuple[Row, ...]:
        """The rows among those shown that knocked at the same room with the same key as the selected one."""
        row = self.row(self.selected)
        if row is None:
            return ()
        return tuple(each for each in self.visible() if (each.room, each.queue) == (row.room, row.queue))

    def row(self, request: str | None) -> Row | None:
        """The row of a request id, if it is still there."""
        return next((row for row in self.rows if row.id == request), None)

    def subjects(self) -> tuple[Row, ...]:
        """The rows that the open question is about."""
        return tuple(row for row in self.rows if row.id in self.about)


@dataclass(frozen=True, slots=True)
class Approve:
    """Let this one in, by the code that it shows; without one let it write directly."""

    row: Row
    code: str


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse these, each by its own id."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Quit:
    pass


Decision = Approve | Deny | Quit


def shown(screen: Screen, rows: tuple[Row, ...], now: int) -> Screen:
    """The screen with the list as it is now. Rows that were there keep their order; new rows come below."""
    fresh = {row.id: row for row in rows}
    kept = [fresh.pop(row.id) for row in screen.rows if row.id in fresh]
    arrived = sorted(fresh.values(), key=lambda row: (row.requested, row.id))
    after = replace(screen, rows=(*kept, *arrived))
    if [row.id for row in after.rows] == [row.id for row in screen.rows]:
        return after
    after = replace(after, selected=_still_selected(screen, after), quiet_until=now + QUIET_MS)
    if screen.mode in ("code", "allow", "deny", "deny_queue") and not after.subjects():
        return replace(_listing(after), note="That request is gone.", tone="plain")
    return after


def pressed(screen: Screen, key: str, now: int) -> tuple[Screen, Decision | None]:
    """The screen after a key, and the decision to carry out, if the key made one. Keys are single characters, or `up`,
    `down`, `pageup`, `pagedown`, `home`, `end`, `enter`, `escape`, `backspace`."""
    if screen.mode == "list" and key == "q":
        return screen, Quit()
    if now < screen.quiet_until or screen.busy:
        return screen, None
    if screen.mode == "code":
        return _typing(screen, key)
    if screen.mode in ("allow", "deny", "deny_queue"):
        return _confirming(screen, key)
    if screen.mode == "filter":
        return _filtering(screen, key), None
    return _listed(screen, key), None


def decided(screen: Screen, note: str, *, good: bool, again: bool = False) -> Screen:
    """The screen after the daemon answered the decision that was under way. With `again` the code was wrong, and the
    person may type another."""
    if again and screen.mode == "code" and screen.subjects():
        return replace(screen, busy=False, typed="", note=note, tone="bad")
    return replace(_listing(screen), busy=False, note=note, tone="good" if good else "bad")


def _listed(screen: Screen, key: str) -> Screen:
    if key in _STEPS:
        return _moved(screen, _STEPS[key])
    if key == "/" and (len(screen.rows) > 1 or screen.filter):
        return replace(screen, mode="filter", note="")
    if key == "escape" and screen.filter:
        return _filtered(screen, "")
    row = screen.row(screen.selected)
    if row is None:
        return screen
    if key == "a":
        return replace(screen, mode="allow" if row.direct_to else "code", about=(row.id,), typed="", note="")
    if key == "d":
        return replace(screen, mode="deny", about=(row.id,), note="")
    if key == "D":
        queue = tuple(each.id for each in screen.same_key())
        return replace(screen, mode="deny_queue", about=queue, note="")
    return screen


def _typing(screen: Screen, key: str) -> tuple[Screen, Decision | None]:
    if key == "escape":
        return replace(_listing(screen), note="Nothing was decided.", tone="plain"), None
    if key == "backspace":
        return replace(screen, typed=screen.typed[:-1]), None
    if key == "enter":
        subjects = screen.subjects()
        if len(screen.typed) != CODE_LENGTH or not subjects:
            return screen, None
        return replace(screen, busy=True, note=""), Approve(subjects[0], screen.typed)
    if len(key) == 1 and key.isascii() and key.isalnum() and len(screen.typed) < CODE_LENGTH:
        return replace(screen, typed=screen.typed + key.upper()), None
    return screen, None


def _confirming(screen: Screen, key: str) -> tuple[Screen, Decision | None]:
    subjects = screen.subjects()
    if key == "y" and subjects:
        decision = Approve(subjects[0], "") if screen.mode == "allow" else Deny(subjects)
        return replace(screen, busy=True, note=""), decision
    return replace(_listing(screen), note="Nothing was decided.", tone="plain"), None


def _filtering(screen: Screen, key: str) -> Screen:
    if key == "escape":
        return replace(_filtered(screen, ""), mode="list")
    if key == "enter":
        return replace(screen, mode="list")
    if key == "backspace":
        return _filtered(screen, screen.filter[:-1])
    if key in _STEPS and len(key) > 1:
        return _moved(screen, _STEPS[key])
    if len(key) == 1 and len(screen.filter) < MAX_FILTER:
        return _filtered(screen, screen.filter + key)
    return screen


def _filtered(screen: Screen, filter: str) -> Screen:
    """Show the rows that contain `filter`. The selection stays on its row if that is shown, and otherwise goes to the
    first."""
    after = replace(screen, filter=filter, note="")
    ids = [row.id for row in after.visible()]
    return after if after.selected in ids else replace(after, selected=ids[0] if ids else None)


def _contains(row: Row, filter: str) -> bool:
    wanted = filter.casefold()
    return any(wanted in fact.casefold() for fact in (row.name, row.host, row.room_name, row.fingerprint))


def _listing(screen: Screen) -> Screen:
    return replace(screen, mode="list", about=(), typed="")


def _moved(screen: Screen, step: int) -> Screen:
    ids = [row.id for row in screen.visible()]
    if not ids:
        return screen
    if screen.selected not in ids:
        return replace(screen, selected=ids[0], note="")
    place = min(max(ids.index(screen.selected) + step, 0), len(ids) - 1)
    return replace(screen, selected=ids[place], note="")


def _still_selected(before: Screen, after: Screen) -> str | None:
    """What to select in `after`: the request that was selected if it is there, else the next one below it, else the
    next one above it, else the first."""
    ids = [row.id for row in after.visible()]
    if before.selected in ids:
        return before.selected
    old = [row.id for row in before.visible()]
    if before.selected in old:
        place = old.index(before.selected)
        neighbours = old[place + 1 :] + old[:place][::-1]
        return next((each for each in neighbours if each in ids), ids[0] if ids else None)
    return ids[0] if ids else None
