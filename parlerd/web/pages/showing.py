"""What pages show, as rows of fields in pieces: a page is written of them, and the script shows the same ones live.

    t.Message --> {"id": ..., "is": "message", "fields": {"author": [...], "words": [...]}, "marks": [...]}

Every field is text of others or words of ours; both are pieces, so nothing depends on which is which. `marks` are
words of ours, by which the style tells rows apart.

Not here: getting anything (`app`, `live`), and HTML (the templates). Above: `app`, `live`. Below: `foreign`.
Invariant: no field is markup, and what a row may hold is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from zlib import crc32

import msgspec

from parlerd.operations import types as t
from parlerd.web.pages.foreign import Piece, fitting

HUES: Final = 8
"""Colours by which the names of agents are told apart."""
MAX_WORDS: Final = 4_000
"""Bytes of a page that the words of one message take in a list. Its own page has them all."""
MAX_WHOLE: Final = 512 * 1024
"""The same on a page of its own: twice the longest text, if nothing in it has to be escaped."""
MAX_MORE: Final = 1_500
"""The same, of what a message has beside its words."""
MAX_VALUE: Final = 240
"""The same, of one value of the state."""
MAX_LINE: Final = 400
"""The same, of a name, a topic or whatever else stands on a line."""
_LONG: Final = 350
"""Columns of a text that may be higher than is shown at once in a narrow window, so that the keyboard has to reach
it."""
_LINES: Final = 8
_WIDE: Final = "\u1100"
"""Characters from here on may take two columns."""
_SAYS: Final = {
    "valid": "signed",
    "home": "its home says so",
    "unsigned": "not signed",
    "invalid": "does not verify",
}
_VERIFIED: Final = {
    "valid": "The daemon that holds this agent's key signed it.",
    "home": "The home of the room says so, for an agent without a key.",
    "unsigned": "The home of the room composed it itself.",
    "invalid": "Neither the author's signature nor its home stands behind it.",
}
"""What `verified` means, for the page that shows one message."""
_HAPPENED: Final = {
    "joined": "came in",
    "left": "left",
    "knocked": "knocks, and says that this is its name",
    "denied": "was declined, and said that this was its name",
    "closed": "was closed",
}
_DAY_MS: Final = 86_400_000


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of a list. `is_` names the template; `long` that its text may be higher than is shown at once; `hue` the
    colour of its name."""

    id: str = ""
    is_: str = msgspec.field(name="is", default="line")
    fields: dict[str, list[Piece]]
    marks: list[str] = []
    hue: int = 0
    long: bool = False


def when(at: int, now: int) -> str:
    """A time of this machine, with its day where that is not today."""
    if not at:
        return ""
    moment, today = datetime.fromtimestamp(at / 1000), datetime.fromtimestamp(now / 1000)
    if moment.date() == today.date():
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b %H:%M}" if moment.year == today.year else f"{moment:%Y-%m-%d %H:%M}"


def ago(at: int, now: int) -> str:
    """How long ago something was, in words."""
    if not at:
        return ""
    seconds = max(0, now - at) // 1000
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return "just now"


def size_of(count: int) -> str:
    """A number of bytes, for people."""
    if count < 1000:
        return f"{count} bytes"
    for number, name in ((count / 1e3, "KB"), (count / 1e6, "MB")):
        if number < 1000:
            return f"{number:.1f} {name}"
    return f"{count / 1e9:.1f} GB"


def line(text: str, most: int = MAX_LINE) -> list[Piece]:
    """A text on one line, cut where it is too long."""
    return _cut(" ".join(text.split("\n")), most)


def _cut(text: str, most: int) -> list[Piece]:
    found, left = fitting(text, most)
    return [*found, Piece(f"… {left} more characters", "more")] if left else found


def hue_of(id: str) -> int:
    """The colour of an agent."""
    return crc32(id.encode("utf-8", "surrogatepass")) % HUES


def message_row(message: t.Message, now: int, *, whole: bool = False) -> Row:
    """A message. With `whole` it has a page of its own."""
    more = "\n".join(_beside(message))
    fields = {
        "author": line(message.author.name),
        "host": line(" · ".join(filter(None, (_role(message.author.role), message.author.host)))),
        "when": [Piece(when(message.at, now))],
        "verified": [Piece(_SAYS[message.verified])],
        "kind": [] if message.kind == "text" else line(message.kind),
        "to": line(f"to {', '.join(message.to)}") if isinstance(message.to, list) else [],
        "private": [Piece("private")] if message.private is True else [],
        "words": _cut(message.text, MAX_WHOLE if whole else MAX_WORDS),
        "more": _cut(more, MAX_WHOLE if whole else MAX_MORE),
    }
    marks = [f"is-{message.verified}"]
    if message.opening is True:
        marks.append("is-opening")
    if message.erased is True or message.lost is True:
        marks.append("is-gone")
    if isinstance(message.handoff, t.Handoff):
        marks.append("is-handoff")
    if isinstance(message.brings, t.BlobInfo):
        brings = message.brings
        fields["file"] = line(f"{brings.name or 'file'} ({size_of(brings.size)})")
    return Row(
        id=message.id,
        is_="message",
        fields={name: found for name, found in fields.items() if found},
        marks=marks,
        hue=hue_of(message.author.id),
        long=any(map(_is_long, (fields["words"], fields["more"]))),
    )


def _is_long(found: list[Piece]) -> bool:
    text = "".join(piece.text for piece in found)
    columns = len(text) + 2 * len(found) + sum(char >= _WIDE for char in text)
    return columns > _LONG or text.count("\n") > _LINES or "\t" in text


def _role(role: str) -> str:
    """A role that says something: everybody is a member, and who owns a room is said elsewhere."""
    return "" if role in ("member", "owner") else role


def meaning_of(message: t.Message) -> str:
    """What the word on a message's signature means."""
    return _VERIFIED[message.verified]


def _beside(message: t.Message) -> Iterable[str]:
    """What a message has beside its words, a line each."""
    if isinstance(message.handoff, t.Handoff):
        offer = message.handoff
        yield f"Next: {offer.next}"
        if offer.summary:
            yield f"So far: {offer.summary}"
        for name, said in (("Goal", offer.goal), ("State", offer.state)):
            if isinstance(said, str) and said:
                yield f"{name}: {said}"
        for name, listed in (
            ("Decided", offer.decisions),
            ("Failed", offer.failed),
            ("Open", offer.questions),
            ("Files", offer.files),
            ("Code", offer.refs),
        ):
            if isinstance(listed, list):
                yield from (f"{name}: {each}" for each in listed)
        stands = [f"For: {offer.for_}"] if offer.for_ else []
        if isinstance(offer.status, str):
            stands.append(f"The offer is {offer.status}" + (f" by {offer.taken_by}" if offer.taken_by else ""))
        if stands:
            yield ". ".join(stands)
    if isinstance(message.handoff_answer, t.HandoffAnswer):
        answer = message.handoff_answer
        yield f"The turn was {answer.answer}" + (f": {answer.reason}" if answer.reason else "")
    if isinstance(message.memory, t.MemoryMark):
        mark = message.memory
        yield f"{'Forgets' if mark.forgets else 'Remembers'} {mark.key}, version {mark.version}"
    if message.data is not msgspec.UNSET:
        yield shown_value(message.data)


def happened_row(happened: t.Happened, room: str, now: int) -> Row:
    """What happened in a room beside its messages."""
    if happened.event == "role":
        did = f"is {happened.role} now" if happened.role else "has no role any more"
    else:
        did = _HAPPENED.get(happened.event, happened.event)
    fields = {"who": line(happened.agent or room), "did": line(did), "when": [Piece(when(happened.at, now))]}
    return Row(is_="happened", fields=fields)


def roster_rows(found: t.RosterResult, board: t.Board | None, now: int) -> list[Row]:
    """Who is in a room."""
    waiting = {each.name: each.waiting_on for each in board.agents if each.waiting_on} if board is not None else {}
    rows = []
    for member in sorted(found.members, key=lambda each: (each.presence == "offline", each.name)):
        stated = f"{member.stated.status} {member.stated.text}" if isinstance(member.stated, t.StatedStatus) else ""
        about = [_role(member.role), member.host, "opened this room" if member.owner else ""]
        fields = {
            "name": line(member.name, 120),
            "about": line(" · ".join(filter(None, about)), 160),
            "presence": [Piece(member.presence if member.presence != "offline" else f"seen {ago(member.since, now)}")],
            "stated": line(stated, 200),
            "waits": line(f"waits for {waiting[member.name]}", 240) if member.name in waiting else [],
        }
        rows.append(
            Row(
                is_="member",
                fields={name: found for name, found in fields.items() if found},
                marks=[f"is-{member.presence}"],
                hue=hue_of(member.id),
            )
        )
    return rows


def task_rows(board: t.Board, now: int) -> list[Row]:
    """The work of a room that is not over: who has it, and until when."""
    rows = []
    for task in board.tasks:
        held = f"{task.holder}, until {when(task.lease_until, now)}" if task.holder else "nobody has it"
        fields = {
            "name": line(task.text or task.id, 300),
            "about": line(f"{task.status} · {held} · asked by {task.author}", 200),
        }
        rows.append(Row(is_="entry", fields=fields, marks=["is-open" if not task.holder else "is-held"]))
    return rows


def state_rows(board: t.Board, now: int) -> list[Row]:
    """The state of a room."""
    rows = []
    for entry in board.entries:
        value = entry.error if isinstance(entry.error, str) else shown_value(entry.value)
        fields = {
            "name": line(entry.key if entry.scope == "_shared" else f"{entry.scope}/{entry.key}", 160),
            "value": _cut(value, MAX_VALUE),
            "about": line(f"version {entry.version} · {entry.updated_by} · {when(entry.updated_at, now)}", 160),
        }
        rows.append(Row(is_="entry", fields=fields, marks=["is-dormant"] if entry.dormant is True else []))
    return rows


def action_rows(board: t.Board) -> list[Row]:
    """The actions of a room."""
    rows = []
    for action in board.actions:
        said = action.description if isinstance(action.description, str) else ""
        reason = action.reason if isinstance(action.reason, str) else "not now"
        fields = {
            "name": line(action.id, 160),
            "value": _cut(said, MAX_VALUE),
            "about": line("can be invoked" if action.available else reason, 120),
        }
        rows.append(Row(is_="entry", fields={name: found for name, found in fields.items() if found}))
    return rows


def shown_value(value: Any) -> str:
    """A value as JSON on a line."""
    return msgspec.json.encode(value).decode()
