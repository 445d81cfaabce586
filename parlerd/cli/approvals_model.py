"""What the approvals screen does, as a pure state machine: requests and keys in, screens and decisions out.

Above: `approvals` (terminal, threads, calls) and `approvals_view` (how it looks). Here: no clock, no terminal, no
calls; times are milliseconds of any steady clock, given by the caller.

Invariants (security spec A3): a decision is about the request id that was shown as selected when its key was pressed,
never about a row number; requests that arrive never move the selection; keys are ignored for `QUIET_MS` after the
list on the screen changed; approving takes the joiner's code and Enter; denying takes a `y`. What a filter hides is
neither selected nor decided on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

QUIET_MS: Final = 500
"""Source: security spec A3: nobody decides on what they had no time to see."""
CODE_LENGTH: Final = 4
PAGE: Final = 10
"""Rows that a page key moves: about what a screen of 24 lines shows."""
MAX_FILTER: Final = 32
"""Longer than any part of a name that one would look for."""

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

Mode = Literal["list", "code", "deny", "deny_queue", "filter"]
Tone = Literal["plain", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Row:
    """One request. Everything but `id` and `agent` is what others say. `queue` is what it knocked with."""

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


@dataclass(frozen=True, slots=True)
class Screen:
    """All there is to show. `about` are the ids that the open question is about, fixed when it was opened; `filter` is
    what the rows that are shown contain."""

    rows: tuple[Row, ...] = ()
    selected: str | None = None
    mode: Mode = "list"
    about: tuple[str, ...] = ()
    typed: str = ""
    quiet_until: int = 0
    busy: bool = False
    note: str = ""
    tone: Tone = "plain"
    filter: str = ""

    def visible(self) -> tuple[Row, ...]:
        """The rows that the filter lets through."""
        return tuple(row for row in self.rows if _contains(row, self.filter)) if self.filter else self.rows

    def same_key(self) -> tuple[Row, ...]:
        """Of the rows that are shown, those that knocked as the selected one did: with the same key, at one room."""
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
    """The list as it is now. Rows that were there keep their order; new ones come below."""
    fresh = {row.id: row for row in rows}
    kept = [fresh.pop(row.id) for row in screen.rows if row.id in fresh]
    arrived = sorted(fresh.values(), key=lambda row: (row.requested, row.id))
    after = replace(screen, rows=(*kept, *arrived))
    if [row.id for row in after.rows] == [row.id for row in screen.rows]:
        return after
    after = replace(after, selected=_still_selected(screen, after), quiet_until=now + QUIET_MS)
    if screen.mode in ("code", "deny", "deny_queue") and not after.subjects():
        return replace(_listing(after), note="That request is gone.", tone="plain")
    return after


def pressed(screen: Screen, key: str, now: int) -> tuple[Screen, Decision | None]:
    """What a key does. Keys are single characters, or `up`, `down`, `pageup`, `pagedown`, `home`, `end`, `enter`,
    `escape`, `backspace`."""
    if screen.mode == "list" and key == "q":
        return screen, Quit()
    if now < screen.quiet_until or screen.busy:
        return screen, None
    if screen.mode == "code":
        return _typing(screen, key)
    if screen.mode in ("deny", "deny_queue"):
        return _confirming(screen, key)
    if screen.mode == "filter":
        return _filtering(screen, key), None
    return _listed(screen, key), None


def decided(screen: Screen, note: str, *, good: bool, again: bool = False) -> Screen:
    """The daemon answered the decision that was under way. `again`: the code was another, and may be typed anew."""
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
        return replace(screen, mode="code", about=(row.id,), typed="", note="")
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
        return replace(screen, busy=True, note=""), Deny(subjects)
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
    """Show what contains `filter`. What was selected stays so while it is shown, else the first is."""
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
    """The same request while it is there; else the one that stood below it, else above; the first of a new list."""
    ids = [row.id for row in after.visible()]
    if before.selected in ids:
        return before.selected
    old = [row.id for row in before.visible()]
    if before.selected in old:
        place = old.index(before.selected)
        neighbours = old[place + 1 :] + old[:place][::-1]
        return next((each for each in neighbours if each in ids), ids[0] if ids else None)
    return ids[0] if ids else None
