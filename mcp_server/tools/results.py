"""How a result reads: a text block for the model, and beside it structured content with the fields of the CLI's JSON.

Both carry everything, text of others only inside fences. Together they stay under `BUDGET` bytes: what is too long
loses messages first where the caller can page for them, then the ends of long texts, and says so each time with the
call that gets the rest. The text block keeps more than the structured content, because it is what models are shown.

Not here: what an operation does (`parlerd.operations`), how a fence looks (`mcp_server.fence`). Invariant: nothing
another party could have chosen is outside a fence, unless it could only be a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mcp_server.fence import Fencer, is_name
from parlerd.core.model import PeerText
from parlerd.operations import types as t

BUDGET: Final = 19_500
"""Bytes of one result. Source: hosts spec, 20 kB; the rest is the JSON-RPC envelope and the notice."""

_OWN: Final = frozenset({"line", "join_command", "mcp_command", "warning", "hint", "notice", "stopped"})
"""Fields with sentences of ours; everything else that is text is a name or is fenced."""
_TEXT_LIMITS: Final = (16_000, 13_000, 10_000, 8_000, 6_000, 4_000, 3_000, 2_000, 1_000, 500, 200)
_LEAST: Final = 200
_TAIL_WHOLE: Final = 5
"""The newest messages of a join that are rather shortened than left out."""

FieldKind = Literal["peer", "own", "any", "value"]


class Shown(NamedTuple):
    """A result in both forms."""

    text: str
    content: dict[str, Any]

    def size(self) -> int:
        """Bytes of JSON that both take."""
        return len(msgspec.json.encode(self.text)) + len(msgspec.json.encode(self.content))


class Cut(NamedTuple):
    """How much of each text of a message is shown, and from where in the first message."""

    limit: int | None = None
    offset: int = 0


WHOLE: Final = Cut()


class Backlog(t.Received, frozen=True, kw_only=True):
    """A page with a gap: perhaps the recap, then the newest messages. `first_unshown` to `last_unshown` can be paged
    for."""

    truncated: bool = True
    first_unshown: int
    last_unshown: int


def backlog(page: t.Received, newest: Sequence[t.Message], cursor: str) -> Backlog:
    """The recap, if `page` begins with it, and `newest`; what stands between is the gap."""
    head = [message for message in page.messages[:1] if message.opening is True and message.id != newest[0].id]
    first = head[0].seq + 1 if head else min(page.messages[0].seq, newest[0].seq)
    return Backlog(
        room=page.room,
        name=page.name,
        messages=[*head, *newest],
        cursor=cursor,
        more=False,
        unread=0,
        acknowledges=page.acknowledges,
        notice=page.notice,
        truncated=first < newest[0].seq,
        first_unshown=first,
        last_unshown=newest[0].seq - 1,
    )


def render(result: t.Result, fencer: Fencer, *, offset: int = 0, reserve: int = 0) -> Shown:
    """`result` in both forms, within `BUDGET` less `reserve` as far as dropping and shortening can make it."""
    budget = BUDGET - reserve
    whole = _show(result, fencer, Cut(None, offset), Cut(None, offset))
    if whole.size() <= budget:
        return whole
    if isinstance(result, t.JoinedSession | Backlog):
        result = _drop_middle(result, fencer)
    shown = whole
    for limit in _TEXT_LIMITS:
        for beside in dict.fromkeys((limit, limit // 2, limit // 4, _LEAST)):
            shown = _show(result, fencer, Cut(limit, offset), Cut(max(beside, _LEAST), offset))
            if shown.size() <= budget:
                return shown
    return shown


def join_shown(first: Shown, second: Shown, page: t.Received) -> Shown:
    """An answer and the page that came with it. The page's fields stand beside the answer's own."""
    if not page.messages:
        return Shown(first.text, {**first.content, "messages": [], "more": False, "unread": page.unread})
    news = {name: second.content[name] for name in ("messages", "more", "unread")}
    return Shown(f"{first.text}\nMeanwhile {second.text}", {**first.content, **news})


def fitting(page: t.Received, fencer: Fencer, reserve: int = 0) -> int:
    """How many messages from the front of `page` fit with their texts whole; at least 1 of those there are."""
    budget = BUDGET - reserve
    count = len(page.messages)
    while count > 1:
        shorter = msgspec.structs.replace(page, messages=page.messages[:count])
        excess = _show(shorter, fencer, WHOLE, WHOLE).size() - budget
        if excess <= 0:
            break
        # A step in proportion to the excess: long pages must not be rendered once for each message.
        count = max(1, min(count - 1, count * budget // (budget + excess)))
    return count


def structured(result: t.Result, fencer: Fencer, cut: Cut = WHOLE) -> dict[str, Any]:
    """`result` with the field names of the CLI's JSON, text of others fenced."""
    shown: dict[str, Any] = _plain(result, fencer, cut, "")
    return shown


def _drop_middle(result: t.JoinedSession | Backlog, fencer: Fencer) -> t.JoinedSession | Backlog:
    """The recap and the newest that fit; what stands between can be paged for by its seq."""
    messages = result.messages
    head = [message for message in messages[:1] if message.opening is True]
    tail = messages[len(head) :]

    def with_tail(count: int) -> t.JoinedSession | Backlog:
        dropped, kept = tail[: len(tail) - count], tail[len(tail) - count :]
        if not dropped:
            return result
        return msgspec.structs.replace(
            result,
            messages=[*head, *kept],
            truncated=True,
            first_unshown=result.first_unshown if result.truncated else dropped[0].seq,
            last_unshown=dropped[-1].seq,
        )

    count = len(tail)
    least = min(_TAIL_WHOLE, count)
    while count > least:
        excess = _show(with_tail(count), fencer, WHOLE, WHOLE).size() - BUDGET
        if excess <= 0:
            break
        count = max(least, min(count - 1, count * BUDGET // (BUDGET + excess)))
    return with_tail(count)


def _show(result: t.Result, fencer: Fencer, text_cut: Cut, content_cut: Cut) -> Shown:
    return Shown(_TEXTS[type(result)](result, fencer, text_cut), structured(result, fencer, content_cut))


# -- structured content ------------------------------------------------------------------------------------------------


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, FieldKind], ...]:
    def kind(name: str, type: Any) -> FieldKind:
        if type is PeerText:
            return "peer"
        if type is Any:
            return "any"
        return "own" if name in _OWN else "value"

    fields = msgspec.structs.fields(struct)
    return tuple((field.name, field.encode_name, kind(field.name, field.type)) for field in fields)


def _plain(value: Any, fencer: Fencer, cut: Cut, rest: str) -> Any:
    if isinstance(value, t.Received | t.JoinedSession):
        return _page(value, fencer, cut)
    if isinstance(value, msgspec.Struct):
        shown: dict[str, Any] = {}
        for name, encoded, kind in _fields(type(value)):
            item = getattr(value, name)
            if item is msgspec.UNSET:
                continue
            if kind == "peer":
                shown[encoded] = fencer.wrap(item, limit=cut.limit, start=cut.offset, rest=rest) if item else ""
            elif kind == "any":
                shown[encoded] = fencer.wrap(_json(item), limit=cut.limit, start=cut.offset, rest=rest)
            elif kind == "own":
                shown[encoded] = item
            else:
                shown[encoded] = _plain(item, fencer, cut, rest)
        return shown
    if isinstance(value, list | tuple):
        return [_plain(item, fencer, cut, rest) for item in value]
    if isinstance(value, str):
        return fencer.name(value)
    return value


def _page(page: t.Received | t.JoinedSession, fencer: Fencer, cut: Cut) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, encoded, kind in _fields(type(page)):
        item = getattr(page, name)
        if name == "messages":
            shown[encoded] = [
                _plain(message, fencer, cut if index == 0 else Cut(cut.limit), _rest(page.room, message))
                for index, message in enumerate(page.messages)
            ]
        else:
            shown[encoded] = item if kind == "own" else _plain(item, fencer, cut, "")
    return shown


def _rest(room: str, message: t.Message) -> str:
    where = f'"room":"{room}",' if is_name(room) else ""
    return f'the rest: parler_recv {{{where}"since":{message.seq - 1},"limit":1,"offset":{{next}}}}'


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# -- the text block ----------------------------------------------------------------------------------------------------


def _opened(result: t.OpenedSession, fencer: Fencer, cut: Cut) -> str:
    lines = [f"Session {fencer.name(result.name)} ({fencer.name(result.room)}) is open and is your active session."]
    if result.key is not None:
        lines += [f"Key: {fencer.name(result.key)}", "The line to hand over:", result.join_command or ""]
        if result.mcp_command:
            lines += ["or, to a person with an agent:", result.mcp_command]
    else:
        lines.append("This repeats an earlier request, and its key was shown then: keys are not stored.")
    lines.append(
        "A person decides who comes in." if result.approval else "Whoever has the key comes in without being asked."
    )
    if result.warning is not msgspec.UNSET:
        lines.append(result.warning)
    lines.append(f"The key expires {_clock(result.expires)}. Idempotency key {fencer.name(result.idempotency_key)}.")
    return "\n".join(line for line in lines if line)


def _joined(result: t.JoinedSession, fencer: Fencer, cut: Cut) -> str:
    room = _room(result.name, result.room, fencer)
    if result.status == "pending":
        code = f"Your code is {fencer.name(result.code)}: " if result.code else ""
        lines = [
            f"Pending: a person has to admit you to {room}.",
            f"{code}tell it to the person, who types it where they approve.",
            "To wait for the decision call parler_join_session again with the same key and wait_secs 45.",
        ]
    elif result.status == "denied":
        lines = [f"Denied: the person declined your request to join {room}. It stays so until they lift it."]
    else:
        lines = [f"Joined {room}; it is your active session."]
    lines += _messages(result.room, result.messages, fencer, cut)
    lines += _gap(result, fencer)
    return "\n".join(lines)


def _received(result: t.Received, fencer: Fencer, cut: Cut) -> str:
    if not result.messages:
        return "Nothing new."
    lines = [f"{len(result.messages)} in {_room(result.name, result.room, fencer)}:"]
    lines += _messages(result.room, result.messages, fencer, cut)
    if isinstance(result, Backlog):
        lines += _gap(result, fencer)
    if result.more:
        follow = "call parler_recv again" if result.acknowledges else f"go on with since {result.messages[-1].seq}"
        lines.append(f"{result.unread} more: {follow}.")
    return "\n".join(lines)


def _sent(result: t.Sent, fencer: Fencer, cut: Cut) -> str:
    repeated = " (as before: this repeats an earlier request)" if result.replayed else ""
    where = f"to {fencer.name(result.room)} as {fencer.name(result.id)}, your #{result.seq}"
    return f"Sent {where}{repeated}. Idempotency key {fencer.name(result.key)}."


def _handed(result: t.GivenHandoff, fencer: Fencer, cut: Cut) -> str:
    repeated = " (as before: this repeats an earlier request)" if result.replayed else ""
    to = fencer.name(result.for_) if result.for_ else "anyone"
    key = f" Idempotency key {fencer.name(result.key)}." if result.key else ""
    return f"The turn is offered to {to} in {fencer.name(result.room)}, as {fencer.name(result.id)}{repeated}.{key}"


def _rooms(result: t.RoomList, fencer: Fencer, cut: Cut) -> str:
    if not result.rooms:
        return "You are in no room. Open a session with parler_open_session, or join one with a key."
    lines = []
    for room in result.rooms:
        facts = [
            fencer.name(room.kind),
            f"owner {fencer.name(room.owner)}",
            f"{room.members} members",
            f"{room.unread} unread",
        ]
        if room.pending:
            facts.append(f"{room.pending} knocking")
        if room.active:
            facts.append("active")
        if room.state != "open":
            facts.append(fencer.name(room.state))
        if room.home != "local":
            facts.append(f"home {fencer.name(room.home)}")
        if room.last_at:
            facts.append(f"last {_clock(room.last_at)}")
        lines.append(f"{_room(room.name, room.room, fencer)}: {', '.join(facts)}")
        if room.topic and room.topic != room.name:
            lines += ["topic", fencer.wrap(room.topic)]
    return "\n".join(lines)


def _roster(result: t.RosterResult, fencer: Fencer, cut: Cut) -> str:
    lines = [f"In {_room(result.name, result.room, fencer)}:"]
    for member in result.members:
        facts = [fencer.name(fact) for fact in (member.role, member.host, member.state, member.presence) if fact]
        if member.owner and member.role != "owner":
            facts.append("owner")
        if member.unread is not msgspec.UNSET:
            facts.append(f"{member.unread} unread")
        who = f"{fencer.name(member.name)} ({fencer.name(member.id)})"
        lines.append(f"{who}: {', '.join(facts)}, since {_clock(member.since)}")
    return "\n".join(lines)


def _requests(result: t.RequestList, fencer: Fencer, cut: Cut) -> str:
    if not result.requests:
        return "Nobody is knocking."
    lines = [request_line(request, fencer) for request in result.requests]
    lines.append("A person decides. parler_approve asks the one at this host.")
    return "\n".join(lines)


def request_line(request: t.Request, fencer: Fencer) -> str:
    """Who knocks, where, and since when. Names are what it says it is. Source: security spec A4."""
    return (
        f"At {_room(request.room_name, request.room, fencer)} knocks {fencer.name(request.agent)}. It says it is "
        f"{fencer.name(request.name)} on {fencer.name(request.host or 'unknown')}. Fingerprint "
        f"{fencer.name(request.fingerprint)}, home {fencer.name(request.home)}, since {_clock(request.requested)}."
    )


def _why(result: t.WhyResult, fencer: Fencer, cut: Cut) -> str:
    lines = [f"{fencer.name(result.id)} in {fencer.name(result.room)}:"]
    for reader in result.readers:
        stages = ", ".join(f"{reached.stage} {_clock(reached.at)}" for reached in reader.stages) or "not yet"
        stopped = "" if reader.stopped is msgspec.UNSET else f"; {reader.stopped}"
        lines.append(f"{fencer.name(reader.name)} ({fencer.name(reader.agent)}): {stages}{stopped}")
    return "\n".join(lines)


def _decided(result: t.Decided, fencer: Fencer, cut: Cut) -> str:
    return (
        f"The person {fencer.name(result.status)} {fencer.name(result.agent)} for {fencer.name(result.room)} "
        f"(proof: {fencer.name(result.proof)})."
    )


def _messages(room: str, messages: list[t.Message], fencer: Fencer, cut: Cut) -> list[str]:
    lines: list[str] = []
    for index, message in enumerate(messages):
        lines += _message(room, message, fencer, cut if index == 0 else Cut(cut.limit))
    return lines


def _message(room: str, message: t.Message, fencer: Fencer, cut: Cut) -> list[str]:
    author = message.author
    role = f" ({fencer.name(author.role)})" if author.role not in ("", "member") else ""
    facts = [
        f"#{message.seq} {fencer.name(author.name)}{role}" + (f" on {fencer.name(author.host)}" if author.host else ""),
        _clock(message.at),
        f"{message.verified} via {fencer.name(message.via)}",
        fencer.name(message.id),
    ]
    if message.kind != "text":
        facts.append(f"kind {fencer.name(message.kind)}")
    if message.opening is True:
        facts.append("the opening recap")
    if message.private is True:
        facts.append("private")
    if message.to is not msgspec.UNSET and message.to:
        facts.append(f"to {' '.join(map(fencer.name, message.to))}")
    if message.reply_to is not msgspec.UNSET:
        facts.append(f"reply to {fencer.name(message.reply_to)}")
    lines = [" | ".join(facts)]

    def add(text: str, label: str = "") -> None:
        if label:
            lines.append(label)
        lines.append(fencer.wrap(text, limit=cut.limit, start=cut.offset, rest=_rest(room, message)))

    handoff = message.handoff
    if handoff is not msgspec.UNSET:
        to = fencer.name(handoff.for_) if handoff.for_ else "anyone"
        lines.append(f"offers the turn to {'you' if handoff.to_you else to}; next:")
        add(handoff.next)
        if handoff.summary:
            add(handoff.summary, "summary:")
        if message.text and message.text not in (handoff.next, handoff.summary):
            add(message.text, "text:")
    else:
        add(message.text)
    if message.data is not msgspec.UNSET and message.data is not None:
        add(_json(message.data), "data:")
    return lines


def _gap(result: t.JoinedSession | Backlog, fencer: Fencer) -> list[str]:
    if not result.truncated:
        return []
    call = f'{{"room":"{fencer.name(result.room)}","since":{max(result.first_unshown - 1, 0)}}}'
    gap = f"Not shown: messages #{result.first_unshown} to #{result.last_unshown}"
    return [f"{gap}. To read them call parler_recv {call}."]


def _closed(result: t.ClosedSession, fencer: Fencer, cut: Cut) -> str:
    if result.status == "left":
        return f"You left {_room(result.name, result.room, fencer)}."
    return f"{_room(result.name, result.room, fencer)} is closed for everyone. It can still be read."


def _room(name: str | None, room: str, fencer: Fencer) -> str:
    return f"{fencer.name(name)} ({fencer.name(room)})" if name else fencer.name(room)


def _clock(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at / 1000))


_TEXTS: Final[dict[type[t.Result], Callable[[Any, Fencer, Cut], str]]] = {
    t.OpenedSession: _opened,
    t.JoinedSession: _joined,
    t.Received: _received,
    Backlog: _received,
    t.Sent: _sent,
    t.GivenHandoff: _handed,
    t.RoomList: _rooms,
    t.RosterResult: _roster,
    t.RequestList: _requests,
    t.WhyResult: _why,
    t.Decided: _decided,
    t.ClosedSession: _closed,
}
