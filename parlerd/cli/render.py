"""How messages, requests and times look to a person. Everything here goes out through `Output`, which escapes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from parlerd.cli.output import Cell, Output, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parlerd.operations import types as t

GATE_NOTE: Final = (
    "Parler asks a person and records how sure it is; only a sealed decision stops an agent that has your shell."
)
"""Said once by what opens a door. Source: security spec A2."""
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def span_of(seconds: float) -> str:
    """A span in words, in its largest unit: `3 minutes`."""
    whole = max(int(seconds), 0)
    for size, unit in _UNITS:
        if whole >= size:
            return counted(whole // size, unit)
    return "0 seconds"


def counted(count: int, one: str, more: str = "") -> str:
    """A number and what it counts: `1 room`, `2 rooms`."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def size_of(size: int) -> str:
    """A size of bytes as a person reads it on a disk: `70.7 GB`."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1000:.0f} kB"


def clock(at_ms: int, now: float) -> str:
    """A time of day in local time, with the date when it was not within the last day."""
    form = "%H:%M" if abs(now - at_ms / 1000) < 86_400 else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(at_ms / 1000))


def day_or_time(at_ms: int, now: float) -> str:
    """As `clock`, in at most ten columns: a day alone when it was not within the last one."""
    return clock(at_ms, now)[:10]


def moment(at_ms: int) -> str:
    """Date and time in local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def says_it_is(name: str, host: str) -> str:
    """A name and a host, which only their bearer vouches for."""
    return f"says it is {name}" + (f", on {host}" if host else "")


def table_of_used(out: Output, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table without the columns that are empty in every row."""
    used = [index for index in range(len(headers)) if any(row[index] for row in rows)]
    if used:
        out.table([headers[index] for index in used], [[row[index] for index in used] for row in rows])


def unsaid(topic: str) -> str:
    """The topic, where the name that was made of it cannot say it: names are ASCII."""
    return "" if topic.isascii() else topic


def say_hidden(out: Output, count: int) -> None:
    """How many closed rooms a list left out."""
    if count:
        out.note(f"{count} closed {'one is' if count == 1 else 'ones are'} not shown; --wide shows all.")


def agents_in(rows: Sequence[Sequence[str]], *, all: bool = True) -> list[str]:
    """Which of one's agents is in each room, the first of them and how many more, or `all`; nothing where it is the
    same single one everywhere."""
    if len({tuple(agents) for agents in rows}) == 1 and len(rows[0]) < 2:
        return [""] * len(rows)
    if all:
        return [", ".join(agents) for agents in rows]
    return [agents[0] + (f" +{len(agents) - 1}" if len(agents) > 1 else "") if agents else "" for agents in rows]


def show_messages(out: Output, messages: Sequence[t.Message], now: float) -> None:
    """Messages one after another; a handoff to this reader stands in a banner."""
    for message in messages:
        show_message(out, message, now)


def show_message(out: Output, message: t.Message, now: float) -> None:
    """One message: a head line of ours, then the words of others behind a bar."""
    import msgspec

    handoff = message.handoff
    out.say(*_head(message, now))
    if isinstance(handoff, msgspec.UnsetType):
        out.text(message.text)
        if not isinstance(message.data, msgspec.UnsetType) and message.data is not None:
            from parlerd.cli.output import to_json

            out.text("data: " + to_json(message.data))
    else:
        lines = [(f"done, as {message.author.name} tells it", handoff.summary)] if handoff.summary else []
        lines.append(("next", handoff.next))
        if handoff.to_you:
            out.banner("HANDOFF TO YOU", lines)
        else:
            for label, body in lines:
                out.say(("  " + label, "dim"))
                out.text(body)


def _head(message: t.Message, now: float) -> list[Span]:
    import msgspec

    author = message.author
    head: list[Span] = [(f"#{message.seq} ", "dim"), (f"{clock(message.at, now)} ", "dim"), (author.name, "name")]
    about = [f"says it is on {author.host}"] if author.host else []
    about.append(f"via {message.via}")
    if author.role:
        about.insert(0, author.role)
    head.append((" · " + ", ".join(about), "dim"))
    if isinstance(message.to, list) and message.to and isinstance(message.handoff, msgspec.UnsetType):
        head.append((" → " + ", ".join(message.to), "bold"))
    handoff = message.handoff
    if not isinstance(handoff, msgspec.UnsetType):
        head.append((f" · handoff to {handoff.for_ or 'anyone'}", "bold"))
    elif message.kind != "text":
        head.append((f" · {message.kind}", "bold"))
    if message.private is True:
        head.append((" · private", "warn"))
    if message.opening is True:
        head.append((" · the recap this session opened with", "dim"))
    if isinstance(message.reply_to, str):
        head.append((f" · reply to {message.reply_to}", "dim"))
    if message.verified != "valid":
        head.append((f" · {message.verified}", "bad"))
    head.append((f" · {message.id}", "dim"))
    return head


def show_requests(out: Output, requests: Sequence[t.Request], now: float) -> None:
    """Who knocks, with the command that lets each one in alone on its line."""
    if not requests:
        out.say("Nobody is waiting.")
        return
    for request in requests:
        waited = span_of(now - request.requested / 1000)
        out.say(
            (says_it_is(request.name, request.host), "name"),
            f", and has been at the door of '{request.room_name}' for {waited}",
        )
        home = request.home or "this machine"
        out.say(("  ", "dim"), f"fingerprint {request.fingerprint} · home {home} · room {request.room}")
        out.say(
            "To let it in (with --code CODE: the code that it shows on its side; to refuse, deny in place of approve):"
        )
        out.paste(f"parler session approve --room {request.room} {request.agent}")


def show_checks(out: Output, checks: Sequence[t.Check]) -> None:
    """How each thing of a checkup is, and the fix of each that is wrong."""
    for check in checks:
        mark: Span = ("ok    ", "good") if check.ok else ("WRONG ", "bad")
        out.say(mark, (check.name, "bold"), f": {check.detail}", hang=6)
        if not check.ok:
            out.say(("      fix: ", "warn"), check.fix, hang=5)
