"""How messages, requests and times look to a person.

Not here: printing. Above: the commands. Below: `Output`, through which everything goes out, and which escapes it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from parlerd.cli.output import Output, Span, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parlerd.operations import types as t
from parlerd.text.verdicts import said_of

_ROUNDING_S: Final = 30.0
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def span_of(seconds: float) -> str:
    """A span in words, in its largest unit: `3 minutes`."""
    whole = max(int(seconds), 0)
    for size, unit in _UNITS:
        if whole >= size:
            return counted(whole // size, unit)
    return "0 seconds"


def left_of(until_ms: int, now: float) -> str:
    """How much time is left until a moment, in words: a little more than there is, because what was made a moment ago
    for a day is not to read as `23 hours`."""
    return span_of(until_ms / 1000 - now + _ROUNDING_S)


def counted(count: int, one: str, more: str = "") -> str:
    """A number and what it counts: `1 room`, `2 rooms`."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def turns_line(turns: int) -> str:
    """How many turns two agents may begin in a room."""
    if not turns:
        return "No agent's message begins a turn of your agents here."
    return f"Two agents begin at most {counted(turns, 'turn')} by their messages in one conversation here."


def at_most(limits: t.KeptLimits) -> str:
    """A limit of what is kept, in words."""
    said = [f"the newest {counted(limits.messages, 'message')}"] if limits.messages else []
    said += [f"at most {size_of(limits.bytes)} of words"] if limits.bytes else []
    said += [f"what is no older than {counted(limits.days, 'day')}"] if limits.days else []
    return " and ".join(said) or "everything"


def size_of(size: int) -> str:
    """A size of bytes as a person reads it on a disk: `70.7 GB`."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1000:.0f} kB" if size >= 1000 else counted(size, "byte")


def clock(at_ms: int, now: float) -> str:
    """A moment in local time: the time of day, and the date too when it was more than a day ago."""
    form = "%H:%M" if abs(now - at_ms / 1000) < 86_400 else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(at_ms / 1000))


def later(at_ms: int, now: float) -> str:
    """A moment to come, in local time: the time of day, and the date too where it is another day's."""
    at = time.localtime(at_ms / 1000)
    is_today = at[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", at)


def to_the_second(at_ms: int, now: float) -> str:
    """The moment as `clock` gives it, with seconds."""
    return moment(at_ms)[11:] if abs(now - at_ms / 1000) < 86_400 else moment(at_ms)


def day_or_time(at_ms: int, now: float) -> str:
    """The moment in at most ten columns: the time of day, or only the date when it was more than a day ago."""
    return clock(at_ms, now)[:10]


def unsaid(topic: str) -> str:
    """The topic of a room whose name cannot show it, because names are ASCII; empty for any other."""
    return "" if topic.isascii() else topic


def say_hidden(out: Output, count: int) -> None:
    """Say how many closed rooms a list left out."""
    if count:
        out.note(f"{counted(count, 'closed room')} {'is' if count == 1 else 'are'} not shown; --all shows all.")


def agents_in(rows: Sequence[Sequence[str]], *, all: bool = True) -> list[str]:
    """For each room, which of the person's agents are in it: all of them, or the first and how many more. The texts are
    empty where the same single agent is in every room."""
    if len({tuple(agents) for agents in rows}) == 1 and len(rows[0]) < 2:
        return [""] * len(rows)
    if all:
        return [", ".join(agents) for agents in rows]
    return [first_of(agents) for agents in rows]


GLIMPSE: Final = 160
"""Characters of a fact that are shown among messages."""


def first_of(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are: `bob +2`."""
    return names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "") if names else ""


def within(room: str | None) -> str:
    """What a command to paste says of its room: nothing where the room is the active session."""
    if not room:
        return ""
    from shlex import quote

    return f" --room {quote(room)}"


def show_messages(
    out: Output,
    messages: Sequence[t.Message],
    now: float,
    *,
    you: str | None,
    wide: bool = False,
    room: str | None = None,
) -> None:
    """Show messages one after another."""
    for message in messages:
        show_message(out, message, now, you=you, wide=wide, room=room)


def show_message(
    out: Output,
    message: t.Message,
    now: float,
    *,
    you: str | None,
    wide: bool = False,
    room: str | None = None,
) -> None:
    """Show one message: a head line, and then the words of its author behind a bar.

    `you` is the reader's name in the room, or None where no agent reads. A turn that somebody else hands to `you` is
    shown in a banner. `room` is how a command names the room, None where it is the active session.
    """
    handoff = message.handoff
    out.say(*_head(message, now, wide=wide), hang=2)
    if not isinstance(message.memory, msgspec.UnsetType):
        if message.text:
            out.text(glimpse(message.text))
    elif not isinstance(message.handoff_answer, msgspec.UnsetType):
        if message.handoff_answer.reason:
            out.text(message.handoff_answer.reason)
    elif isinstance(handoff, msgspec.UnsetType):
        if message.text or isinstance(message.brings, msgspec.UnsetType):
            out.text(message.text)
        if not isinstance(message.brings, msgspec.UnsetType):
            _show_brought(out, message.brings)
        if not isinstance(message.data, msgspec.UnsetType) and message.data is not None:
            from parlerd.cli.output import to_json
            from parlerd.core.model import INVOCATION

            if message.kind != INVOCATION or message.verified != "unsigned":
                # Of an invocation the line says all of it.
                out.text("data: " + to_json(message.data))
    else:
        lines: list[tuple[str, str]] = []
        if handoff.summary:
            lines.append((f"done, as {message.author.name} tells it", handoff.summary))
        lines += capsule(handoff)
        if not isinstance(handoff.transcript, msgspec.UnsetType):
            lines += transcript(handoff.transcript, message.author.name)
        lines.append(("next", handoff.next))
        is_mine = handoff.to_you and you is not None and message.author.name != you
        if is_mine and handoff.status in ("offered", msgspec.UNSET):
            out.banner("HANDOFF TO YOU", lines)
        else:
            for label, body in lines:
                out.say(("  " + label, "dim"))
                out.text(body)
        if not isinstance(message.brings, msgspec.UnsetType):
            _show_brought(out, message.brings)
        if is_mine and handoff.status == "offered":
            answer = f"{message.seq}{within(room)}"
            out.note(f"To take the turn: parler handoff accept {answer} (or: decline {answer} --reason WHY)")


def _show_brought(out: Output, brings: t.BlobInfo) -> None:
    """What a message brings, and the command that fetches it."""
    is_code = isinstance(brings.tip, str)
    said: list[Span] = [("code of " if is_code else "file ", "dim"), (brings.name or brings.blob[:16], "name")]
    said.append(f", {size_of(brings.size)}")
    if isinstance(brings.tip, str):
        said.append(f", at {brings.tip[:12]}")
    if isinstance(brings.base, str):
        said.append(f", on {brings.base[:12]}")
    if not isinstance(brings.left_out, msgspec.UnsetType):
        said.append((f", {counted(brings.left_out, 'path')} left out", "warn"))
    out.say("  ", *said, hang=2)
    out.paste(f"parler {'apply' if is_code else 'fetch'} {brings.blob}")


def offer_line(each: t.HandoffEntry, now: float) -> Sequence[Span]:
    """One offer in a line: who offered whom the turn, and what became of the offer."""
    number = f"#{each.seq} " if each.seq else ""
    said: list[Span] = [(number, "dim"), (each.giver, "name"), " offers the turn to ", (each.for_ or "anyone", "name")]
    match each.status:
        case "offered":
            said.append((f": open for {left_of(each.expires, now)}", "warn"))
        case "accepted":
            said += [(": taken by ", "good"), (each.holder, "name")]
        case status:
            said.append((f": {status}", "bad"))
    if isinstance(each.ended, int):
        said.append(f", {to_the_second(each.ended, now)}")
    if isinstance(each.declined, list):
        said.append(f"; declined by {', '.join(each.declined)}")
    if each.status != "accepted":
        said += ["; ", (each.holder, "name"), " has the turn"]
    return said


def capsule(handoff: t.Handoff) -> list[tuple[str, str]]:
    """What goes along with an offer of the turn beside the next step and the summary: what it is, and the words."""
    found: list[tuple[str, str]] = []
    for name in ("goal", "state", "decisions", "failed", "questions", "files", "refs"):
        words = getattr(handoff, name)
        if isinstance(words, msgspec.UnsetType):
            continue
        label = "tried and failed" if name == "failed" else "open questions" if name == "questions" else name
        found.append((label, words if isinstance(words, str) else "\n".join(f"- {each}" for each in words)))
    return found


def transcript(said: t.HandoffTranscript, giver: str) -> list[tuple[str, str]]:
    """The conversation that goes along with an offer of the turn: where it stands, or as its giver quotes it."""
    if isinstance(said.quoted, list):
        older = f", {counted(said.left_out, 'older message')} left out" if said.left_out else ""
        return [
            (f"{_quoted_author(each)}, as {giver} quotes it{older if number == 0 else ''}", each.text)
            for number, each in enumerate(said.quoted)
        ]
    messages = counted(said.count, "message")
    if not said.first_seq or not said.last_seq:
        return [("conversation", f"{messages} that you cannot read here")]
    return [("conversation", f"{messages}: #{said.first_seq} to #{said.last_seq}")]


def _quoted_author(quoted: t.QuotedMessage) -> str:
    return quoted.author if quoted.kind == "text" else f"{quoted.author} ({quoted.kind})"


def remembers(mark: t.MemoryMark) -> str:
    """What a message does in the room's memory."""
    verb = "forgets" if mark.forgets else "remembers"
    return f"{verb} {mark.key} v{mark.version}" if mark.key else verb


def glimpse(text: str) -> str:
    """The beginning of a fact, on one line: many facts are not to drown a conversation, and `recall` shows them
    whole."""
    line, _, rest = text.partition("\n")
    return f"{line[:GLIMPSE]}..." if rest or len(line) > GLIMPSE else line


def _head(message: t.Message, now: float, *, wide: bool) -> list[Span]:
    """Number, time and author of a message, and what is unusual about it; with `wide` also what is usual, and the
    id."""
    author = message.author
    head: list[Span] = [(f"#{message.seq} {clock(message.at, now)} ", "dim"), (author.name, "name")]
    facts: list[Span] = []
    if doubt := said_of(message.verified):
        facts.append((doubt, "warn" if message.verified == "home" else "bad"))
    if message.private is True:
        facts.append(("private", "warn"))
    if message.lost is True:
        facts.append(("lost by the relay", "warn"))
    if message.erased is True:
        facts.append(("words erased", "warn"))
    if isinstance(message.to, list) and message.to and isinstance(message.handoff, msgspec.UnsetType):
        facts.append(("to " + ", ".join(message.to), "bold"))
    if not isinstance(message.handoff, msgspec.UnsetType):
        facts.append((f"handoff to {message.handoff.for_ or 'anyone'}", "bold"))
        if isinstance(message.handoff.taken_by, str):
            facts.append((f"taken by {message.handoff.taken_by}", "good"))
        elif message.handoff.status in ("declined", "withdrawn", "expired"):
            facts.append((str(message.handoff.status), "dim"))
    elif message.opening is True:
        facts.append(("the opening recap", "dim"))
    elif not isinstance(message.memory, msgspec.UnsetType):
        facts.append((remembers(message.memory), "dim"))
    elif message.kind != "text":
        facts.append((message.kind, "bold"))
    if isinstance(message.reply_seq, int):
        facts.append((f"reply to #{message.reply_seq}", "dim"))
    elif isinstance(message.reply_to, str):
        facts.append((f"reply to {message.reply_to}", "dim"))
    if wide:
        usual = [author.role, f"says it is on {author.host}" if author.host else "", f"via {message.via}", message.id]
        facts += [(fact, "dim") for fact in usual if fact]
    for fact in facts:
        head += [(" · ", "dim"), fact]
    return head


def show_requests(out: Output, requests: Sequence[t.RequestInfo], now: float) -> None:
    """Show who knocks and who wants to write directly, and for each the command that agrees, alone on a line."""
    if not requests:
        out.say("Nobody is waiting.")
        return
    from shlex import quote

    known_by = [(request.room, request.name) for request in requests]
    for request in requests:
        waited = span_of(now - request.requested / 1000)
        said = ", ".join(filter(None, (request.host, request.role)))
        claimed = f" (says: {said})" if said else ""
        wants = (
            f"wants to write to {request.direct_to}" if request.direct_to else f"wants to join '{request.room_name}'"
        )
        out.say((request.name + claimed, "name"), f" {wants}, {waited} ago")
        home = "this machine" if request.home in ("", "local") else request.home
        out.say((f"  fingerprint {request.fingerprint} · home {home}", "dim"))
        if unsaid(request.topic):
            out.say(("  about ", "dim"), request.topic, hang=2)
        # A name that two requests have, or that looks like an option, would not say who is meant.
        by_name = known_by.count((request.room, request.name)) == 1 and not request.name.startswith("-")
        whom = quote(request.name) if by_name else request.agent
        out.paste(f"parler session approve --room {quote(request.room_name)} {whom}")
    out.note("To refuse, type `deny` in place of `approve`. To be sure who knocks, add --code and the joiner's code.")


def show_checks(out: Output, checks: Sequence[t.Check]) -> None:
    """Show every check, and the fix of each that failed."""
    for check in checks:
        mark: Span = ("ok    ", "good") if check.ok else ("WRONG ", "bad")
        out.say(mark, (check.name, "bold"), f": {check.detail}", hang=6)
        if not check.ok:
            out.say(("      fix: ", "warn"), check.fix, hang=5)


def stated_by(stated: t.StatedStatus | msgspec.UnsetType) -> str:
    """What an agent says that it is doing, in a line; '' for one that says nothing."""
    if isinstance(stated, msgspec.UnsetType):
        return ""
    return f"{stated.status}: {stated.text}" if stated.text else stated.status
