"""How a result reads: one text block for the model, within what its host lets through.

In this order and no more: what happened, in one line with the names a model needs; peer text, fenced, each message
under its number, its author and what is unusual about it; how to go on, as the exact call. A message that is longer
than the host's ceiling is shown up to there and continued by offset until it is whole.

Not here: what an operation does (`parlerd.operations`), how a fence looks (`mcp_server.fence`), how much a host lets
through (`mcp_server.budget`), what is acknowledged (`mcp_server.window`). Invariants: nothing another party could have
chosen is outside a fence, unless it could only be a name; the engine is told how much fits before it counts a page as
shown; a text ends in a newline, because hosts join text blocks without one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from mcp_server.budget import PAGE, RESERVE, Budget
from mcp_server.fence import Fence, Fencer, Revealed, is_name, reveal
from mcp_server.sighting import Marked
from mcp_server.tools import state_texts
from parlerd.core.model import INVOCATION
from parlerd.operations import types as t
from parlerd.text.sight import sentence_of
from parlerd.text.verdicts import said_of

TAIL_BYTES: Final = 2_000
"""Of the newest messages beside the recap, when not all fit. Source: performance spec, a join with a backlog of 111."""
_MARKED: Final = 18
"""Bytes of `[peer MARK ]` and its line ends around the words of a head."""
_MARKER: Final = "[00000000 rcpt-0000000000000000]"
"""As long as the line behind a message that bears its marker."""
_QUEUED: Final = "It is stored on this machine, and goes out when the relay answers."
"""Of a message that is not in its room yet."""
GLIMPSE: Final = 160
"""Characters of a fact that are shown among messages: many facts are not to drown a conversation."""
WAIT_S: Final = 600
"""Seconds that an agent is told to wait, where its host sits out so many."""
WAIT: Final = f'parler_recv {{"wait_secs":{WAIT_S}}}'
"""How an agent waits: what `Scribe.wait` gives in a host that sits it out."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A message that did not fit whole: its number, and the character at which the next part begins."""

    seq: int
    offset: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A result as text. `cut` is the message that it begins and does not end, `marked` are the messages of others that
    it shows, where the record of the host is watched."""

    text: str
    cut: Cut | None = None
    marked: tuple[Marked, ...] = ()


_PATHS: Final = 10
"""Paths that were left out of a push and are named."""
MAX_OFFERS: Final = 2
"""Offers of the turn in one answer for which the calls that answer them are said."""


@dataclass(slots=True)
class _Asked:
    """The call that a result answers: where the text of its first message begins, and the room as the call named it.
    `cut` is the message that the answer begins and does not end, `marked` are those whose markers are watched."""

    offset: int = 0
    room: str | None = None
    cut: Cut | None = None
    marked: list[Marked] = field(default_factory=list)

    def recv(self, **arguments: int) -> str:
        """The call that reads on, as a model would write it: it names the room as this one did."""
        where: dict[str, Any] = {} if self.room is None else {"room": self.room}
        return f"parler_recv {json.dumps({**where, **arguments}, separators=(',', ':'))}"

    def answer(self, action: str, seq: int, **arguments: str) -> str:
        """The call that answers the offer of the turn with this number."""
        where: dict[str, Any] = {} if self.room is None else {"room": self.room}
        said = {"action": action, "id": str(seq), **where, **arguments}
        return f"parler_handoff {json.dumps(said, separators=(',', ':'))}"

    def take(self, message: t.Message) -> str:
        """The call that takes what a message brings into the workspace."""
        where: dict[str, Any] = {} if self.room is None else {"room": self.room}
        said = {"action": "apply" if _brings_code(message) else "fetch", "blob": str(message.seq), **where}
        return f"parler_share {json.dumps(said, separators=(',', ':'))}"


class Scribe:
    """Writes the results of one conversation, and says how much of a page it can show: the engine asks before it counts
    anything as shown. `fencer` marks text of others, `budget` is what the host lets through, `met` are the rooms in
    which the reader was told who it is, `wait_s` is the longest wait of a call, in seconds. `draw` draws the marker of
    another's message, or gives '' where none would prove anything; it is None where no record is watched."""

    def __init__(self, fencer: Fencer | None = None, budget: Budget | None = None) -> None:
        self.fencer = fencer or Fencer()
        self.budget = budget or Budget()
        self.met: set[str] = set()
        self.wait_s = WAIT_S
        # The texts that were rendered whole while a page was measured, until the page is written: by the id of the
        # message and the number of the text in it, each with how much of the ceiling it takes.
        self.draw: Callable[[], str] | None = None
        self.rendered: dict[tuple[str, int], tuple[Revealed, int]] = {}

    @property
    def wait(self) -> str:
        """The call that waits as long as is useful and as this host allows."""
        return f'parler_recv {{"wait_secs":{min(WAIT_S, self.wait_s)}}}'

    def write(self, result: t.Result, *, offset: int = 0, room: str | None = None) -> Shown:
        """A result as its reader is shown it. `offset` is where the text of its first message begins, in characters of
        all its texts together; `room` is the room as the call named it."""
        asked = _Asked(offset, room)
        text = _TEXTS[type(result)](result, self, asked)
        self.rendered.clear()
        return Shown(ended(text), asked.cut, tuple(asked.marked))

    def name(self, text: str) -> str:
        """A name as it is, anything else in a fence."""
        return self.fencer.name(text)

    # -- what fits: asked by the engine before it counts a page as shown ----------------------------------------

    def front(self, messages: Sequence[t.Message], you: str) -> int:
        """How many messages from the front of a page are shown together: the first always, others whole."""
        return _front(messages, you, self)

    def newest(self, recap: Sequence[t.Message], tail: Sequence[t.Message], you: str, *, whole: bool) -> int:
        """How many of the newest messages, from the end of `tail`, are shown beside the recap; 0 when the recap has to
        stand alone. `whole` says that nothing is missing between the two."""
        both = [*recap, *tail]
        if whole and _front(both, you, self) == len(both):
            return len(tail)
        taken = sum(_width(message, you, self) for message in recap)
        if recap and taken > PAGE - TAIL_BYTES:
            return 0
        count, width = 0, 0
        for message in reversed(tail):
            width += _width(message, you, self)
            if count and width > TAIL_BYTES:
                break
            count += 1
        shown = [*recap, *tail[len(tail) - count :]]
        return count if _front(shown, you, self) == len(shown) or not recap else 0


def ended(text: str) -> str:
    """`text` with the newline that keeps a host from joining the next block to its last line."""
    return text if text.endswith("\n") else f"{text}\n"


# -- messages ----------------------------------------------------------------------------------------------------------


def _front(messages: Sequence[t.Message], you: str, scribe: Scribe) -> int:
    size, width = 0, 0
    ceiling = _ceiling(scribe)
    for index, message in enumerate(messages):
        for number, (head, text, start) in enumerate(_segments(message, you)):
            # A text may be far longer than the ceiling; no more of it is rendered than could be shown.
            shown = reveal(text, start, ceiling + 2)
            taken = scribe.budget.size(shown.text)
            if shown.end == len(text):
                scribe.rendered[message.id, number] = shown, taken
            size += taken + scribe.budget.size(head + shown.facts) + _MARKED
            width += len(shown.text.encode("utf-8", "surrogatepass")) + len(head + shown.facts) + _MARKED
        if _bears_marker(message, you, scribe):
            size += scribe.budget.size(_MARKER) + 1
            width += len(_MARKER) + 1
        if index and (size > ceiling or width > PAGE):
            return index
    return len(messages)


def _ceiling(scribe: Scribe) -> int:
    page = scribe.budget.page
    return max(page - RESERVE, page // 2)


def _width(message: t.Message, you: str, scribe: Scribe) -> int:
    """Bytes of a message in a page."""
    width = sum(
        len(text.encode("utf-8", "surrogatepass")) + len(head) + _MARKED for head, text, _ in _segments(message, you)
    )
    return width + (len(_MARKER) + 1 if _bears_marker(message, you, scribe) else 0)


def _bears_marker(message: t.Message, you: str, scribe: Scribe) -> bool:
    """Whether a marker stands behind a message: of none of the reader's own, and of none where no record is watched."""
    return scribe.draw is not None and message.author.name != you


def _lay_out(messages: Sequence[t.Message], you: str, scribe: Scribe, asked: _Asked) -> list[str]:
    """The messages under one fence. A first message that is too long is shown up to where it has to be continued, and
    the line that says how stands behind the fence."""
    if not messages:
        return []
    fence = scribe.fencer.fence(text for message in messages for _, text, _ in _segments(message, you))
    lines: list[str] = []
    left = _ceiling(scribe)
    for index, message in enumerate(messages):
        offset = asked.offset if index == 0 else 0
        is_whole, began = not offset, offset
        first, marker = len(lines), _bears_marker(message, you, scribe)
        left -= scribe.budget.size(_MARKER) + 1 if marker else 0
        for number, (head, text, start) in enumerate(_segments(message, you, offset)):
            room_left = left - scribe.budget.size(head) - _MARKED
            known = scribe.rendered.get((message.id, number)) if is_whole else None
            if known is not None and known[1] <= room_left:
                revealed = known[0]
            elif room_left > 0 or not lines:
                fits = partial(scribe.budget.prefix, room=room_left)
                revealed = reveal(text, start, max(room_left, 0) + 2, fits)
            else:
                revealed = Revealed("", "", start)
            facts = head
            whole = revealed.end == len(text)
            if start or not whole:
                facts += f"; characters {start} to {revealed.end} of {len(text)}"
            part = fence.part(facts, revealed)
            lines.append(part)
            left -= scribe.budget.size(part) + 1
            offset += revealed.end - start
            if not whole:
                asked.cut = Cut(message.seq, offset)
                if marker:
                    _mark(message, lines, first, fence, scribe, asked, start=began, end=offset, ends=False)
                call = asked.recv(since=message.seq - 1, offset=offset)
                return [*lines, fence.end, f"#{message.seq} goes on: {call}"]
        if marker:
            _mark(message, lines, first, fence, scribe, asked, start=began, end=offset, ends=True)
    return [*lines, fence.end, *_offers(messages, asked), *_brings(messages, asked)]


def _mark(
    message: t.Message,
    lines: list[str],
    first: int,
    fence: Fence,
    scribe: Scribe,
    asked: _Asked,
    *,
    start: int,
    end: int,
    ends: bool,
) -> None:
    """Put a marker behind a message, whose parts in this answer are `lines` from `first` on, and its characters from
    `start` up to `end`."""
    assert scribe.draw is not None
    text, marker = "\n".join(lines[first:]), scribe.draw()
    while marker and marker in text:
        marker = scribe.draw()
    if marker:
        line = fence.marked(marker)
        lines.append(line)
        # The bracket that closes the line is none of what the host's record is searched for.
        text = f"{text}\n{line[:-1]}"
    asked.marked.append(Marked(message.id, text if marker else "", start, end, ends))


def _offers(messages: Sequence[t.Message], asked: _Asked) -> list[str]:
    """How to answer the offers of the turn among these messages that this reader may take, as the exact calls. More
    than a few are found with parler_rooms."""
    found = [
        message
        for message in messages
        if message.handoff is not msgspec.UNSET and message.handoff.to_you and message.handoff.status == "offered"
    ]
    lines = [
        f"#{message.seq} offers you the turn. Take it: {asked.answer('accept', message.seq)} or decline: "
        f"{asked.answer('decline', message.seq, reason='...')}"
        for message in found[-MAX_OFFERS:]
    ]
    if len(found) > MAX_OFFERS:
        lines.append('More offers: parler_rooms {"action":"handoffs"}')
    return lines


def _brings(messages: Sequence[t.Message], asked: _Asked) -> list[str]:
    """How to take the newest file and the newest code that these messages bring, as the exact calls."""
    newest = {_brings_code(message): message for message in messages if message.brings is not msgspec.UNSET}
    return [
        f"To take what #{message.seq} brings: {asked.take(message)}"
        for message in sorted(newest.values(), key=lambda message: message.seq)
    ]


def _brings_code(message: t.Message) -> bool:
    return message.brings is not msgspec.UNSET and message.brings.tip is not msgspec.UNSET


def _segments(message: t.Message, you: str, offset: int = 0) -> list[tuple[str, str, int]]:
    """(head, text, where it begins) of the texts of a message, from character `offset` of all of them together on. The
    first head says number, author and what is unusual; nothing that is usual is said."""
    author = message.author.name
    facts = [f"#{message.seq} {'you' if author == you else _plain(author)}"]
    if doubt := said_of(message.verified):
        facts.append(doubt)
    if message.opening is True:
        facts.append("opening recap")
    elif message.handoff_answer is not msgspec.UNSET:
        facts.append(_ANSWERS[message.handoff_answer.answer])
    elif message.kind not in ("text", "handoff"):
        facts.append(_plain(message.kind))
    if message.private is True:
        facts.append("private")
    if message.lost is True:
        facts.append("lost by the relay")
    if message.erased is True:
        facts.append("words erased")
    if message.again is not msgspec.UNSET:
        facts.append("again: your host cut it" if message.again == "cut" else "again: your host did not show it")
    if message.reply_seq is not msgspec.UNSET:
        facts.append(f"reply to #{message.reply_seq}")
    elif message.private is True and message.reply_to is not msgspec.UNSET:
        # The result of what a requester asked for: the request has no number for it.
        facts.append(f"reply to {_plain(message.reply_to)}")
    handoff, mark = message.handoff, message.memory
    found: list[tuple[str, str]] = []
    if mark is not msgspec.UNSET:
        line, _, rest = message.text.partition("\n")
        is_whole = not rest and len(line) <= GLIMPSE
        verb = "forgets" if mark.forgets else "remembers"
        facts[-1] = f"{verb} {_plain(mark.key)} v{mark.version}" if mark.key else verb
        found.append(("; ".join(facts), line if is_whole else f"{line[:GLIMPSE]}... (recall it to read on)"))
    elif handoff is not msgspec.UNSET:
        target = "you" if handoff.to_you and handoff.for_ else _plain(handoff.for_) if handoff.for_ else "anyone"
        facts.append(f"offers the turn to {target}")
        if handoff.taken_by is not msgspec.UNSET:
            facts.append(f"taken by {'you' if handoff.taken_by == you else _plain(handoff.taken_by)}")
        elif handoff.status not in ("offered", msgspec.UNSET):
            facts.append(str(handoff.status))
        if handoff.transcript is not msgspec.UNSET:
            facts.append(_belongs(handoff.transcript))
        facts.append("next")
        found.append(("; ".join(facts), handoff.next))
        found += [(f"{label} of #{message.seq}", words) for label, words in _capsule(handoff)]
        if handoff.transcript is not msgspec.UNSET:
            found += _transcript(message.seq, handoff.transcript)
        if message.brings is not msgspec.UNSET:
            found.append(("; ".join([f"code of #{message.seq}", *_brought(message.brings)]), message.brings.name))
        if message.text and message.text not in (handoff.next, handoff.summary):
            found.append((f"text of #{message.seq}", message.text))
    elif message.handoff_answer is not msgspec.UNSET:
        found.append(("; ".join(facts), message.handoff_answer.reason))
    elif message.brings is not msgspec.UNSET:
        facts += _addressed(message, you)
        facts += _brought(message.brings)
        found.append(("; ".join(facts), message.text or message.brings.name))
        if message.text:
            found.append((f"name in #{message.seq}", message.brings.name))
    else:
        facts += _addressed(message, you)
        found.append(("; ".join(facts), message.text))
    is_said = message.kind == INVOCATION and message.verified == "unsigned"  # the line says all of it
    if message.data is not msgspec.UNSET and message.data is not None and not is_said:
        found.append((f"data of #{message.seq}", msgspec.json.encode(message.data).decode()))
    left: list[tuple[str, str, int]] = []
    for number, (head, text) in enumerate(found):
        # The first text is kept even when it is empty, because its head says whose message this is; the last one is
        # kept when no other is left, because an answer must show something.
        if offset < len(text) or (number == 0 and not offset) or (number == len(found) - 1 and not left):
            left.append((head, text, min(offset, len(text))))
        offset = max(0, offset - len(text))
    return left


def _addressed(message: t.Message, you: str) -> list[str]:
    """Whose attention a message asks for."""
    if message.to is msgspec.UNSET or not message.to:
        return []
    return [f"to {' '.join('you' if who == you else _plain(who) for who in message.to)}"]


def _brought(brings: t.BlobInfo) -> list[str]:
    """What is said of a file or of code beside its name, which its author chose."""
    facts = [_size(brings.size)]
    if brings.tip is not msgspec.UNSET:
        facts.append(f"at {_plain(brings.tip[:12])}")
    if brings.base is not msgspec.UNSET:
        facts.append(f"on {_plain(brings.base[:12])}")
    if brings.left_out is not msgspec.UNSET:
        facts.append(f"{_paths(brings.left_out)} left out")
    return facts


def _paths(count: int) -> str:
    return "1 path" if count == 1 else f"{count} paths"


def _size(size: int) -> str:
    return f"{size} bytes" if size < 10_000 else f"{size // 1000} kB" if size < 10_000_000 else f"{size // 10**6} MB"


_ANSWERS: Final = {
    "accepted": "takes the turn",
    "declined": "declines the turn",
    "withdrawn": "withdraws the offer of the turn",
}
_CAPSULE: Final = ("goal", "summary", "state", "decisions", "failed", "questions", "files", "refs")


def _capsule(handoff: t.Handoff) -> list[tuple[str, str]]:
    """What goes along with an offer of the turn beside the next step: what it is, and the words."""
    said = [(name, getattr(handoff, name)) for name in _CAPSULE]
    return [
        (name, words if isinstance(words, str) else "\n".join(f"- {each}" for each in words))
        for name, words in said
        if words is not msgspec.UNSET and words
    ]


def _transcript(seq: int, said: t.HandoffTranscript) -> list[tuple[str, str]]:
    """The messages that the giver of a turn quotes: the head of each, and its words."""
    if said.quoted is msgspec.UNSET:
        return []
    older = [f"{said.left_out} older left out"] if said.left_out else []
    return [
        ("; ".join([f"quoted of #{seq}", f"by {_plain(each.author)}", *(older if number == 0 else [])]), each.text)
        for number, each in enumerate(said.quoted)
    ]


def _belongs(said: t.HandoffTranscript) -> str:
    """Where the conversation stands that belongs to an offer, in the head of the offer."""
    if said.quoted is not msgspec.UNSET:
        return f"quotes {said.count} messages"
    if not said.first_seq or not said.last_seq:
        return f"with {said.count} messages that you cannot read here"
    return f"with #{said.first_seq} to #{said.last_seq} of the room"


def length_of(message: t.Message, you: str) -> int:
    """Characters of all texts of a message together: where its offsets end."""
    return sum(len(text) for _, text, _ in _segments(message, you))


def _plain(name: str) -> str:
    """A name inside a head, where no fence can stand."""
    return name if is_name(name) else "(a name that cannot be shown)"


def _received(page: t.Received, scribe: Scribe, asked: _Asked) -> str:
    if not page.messages:
        return " ".join(("Nothing new.", page.notice)).rstrip()
    where = scribe.name(page.name or page.room)
    lines = [f"{len(page.messages)} {'new ' if page.acknowledges else ''}in {where}:"]
    if page.room not in scribe.met:
        scribe.met.add(page.room)
        lines.insert(0, f"You are {scribe.name(page.you)} in {where}.")
    lines += _lay_out(page.messages, page.you, scribe, asked)
    lines += _gap(page, asked)
    if page.notice:
        lines.append(page.notice)
    if asked.cut is None:
        if page.acknowledges and page.unread:
            lines.append(f"{page.unread} more: {asked.recv()}")
        elif page.following and not page.acknowledges:
            lines.append(f"{page.following} more: {asked.recv(since=page.messages[-1].seq)}")
    return "\n".join(lines)


def _gap(page: t.Received | t.JoinedSession, asked: _Asked) -> list[str]:
    if not page.truncated:
        return []
    call = asked.recv(since=page.first_unshown - 1)
    return [f"Left out: #{page.first_unshown} to #{page.last_unshown}. To read them: {call}"]


# -- the other results -------------------------------------------------------------------------------------------------


def _opened(result: t.OpenedSession, scribe: Scribe, asked: _Asked) -> str:
    scribe.met.add(result.room)
    lines = [f"You are {scribe.name(result.you)} in {scribe.name(result.name)}, your active session now."]
    if result.line:
        lines += ["Give your user this line for the other agent:", result.line]
    if result.connect_command:
        lines += ["On a machine that does not know this relay yet, its user runs this first:", result.connect_command]
    if result.sealed:
        lines.append("The relay cannot read what is said here. It sees who is in, when, and the state of the room.")
    if result.mcp_command:
        lines += ["If no agent on this machine has Parler yet, this adds it to Claude Code:", result.mcp_command]
    if result.warning is not msgspec.UNSET:
        lines.append(result.warning)
    who = "Your user decides who comes in" if result.approval else "Whoever has the key comes in without being asked"
    lines.append(f"{who}; the key works until {clock(result.expires)}.")
    lines.append(f"Then wait: {scribe.wait}")
    return "\n".join(lines)


def _joined(result: t.JoinedSession, scribe: Scribe, asked: _Asked) -> str:
    if result.status == "pending" and not result.join_code:
        # Nobody can type a code yet: the hint says whom the agent waits for.
        return f"Pending: you are not in yet. {result.hint}\nTo wait: {scribe.wait}"
    if result.status == "pending":
        code = scribe.name(result.join_code or "")
        return "\n".join(
            (
                f"Pending: a person has to let you in. Your code is {code}: tell it to your "
                "user, who types it in the window that opened the session or, in a terminal, after: parler approvals",
                f"Then wait for the decision: {scribe.wait}",
            )
        )
    if result.status == "denied":
        return "Denied: the person declined your request. That stands until they lift it; ask your user."
    scribe.met.add(result.room)
    lines = [
        f"You are {scribe.name(result.you)} in {scribe.name(result.name or result.room)}, your active session now."
    ]
    lines += _lay_out(result.messages, result.you, scribe, asked)
    lines += _gap(result, asked)
    if result.remembers:
        more = f" and {result.more_keys} more" if result.more_keys else ""
        keys = ", ".join(map(_plain, result.remembers))
        lines.append(f"It remembers {keys}{more}: recall by key with parler_memory.")
    if asked.cut is None:
        if result.hint and not result.truncated:
            lines.append(result.hint)
        if result.unread:
            lines.append(f"{result.unread} more: {asked.recv()}")
        else:
            lines.append(f"Answer with parler_send; then wait: {scribe.wait}")
    return "\n".join(lines)


def _sent(result: t.Sent, scribe: Scribe, asked: _Asked) -> str:
    repeated = " before; this repeats that request" if result.replayed else ""
    where = scribe.name(result.name or result.room)
    if result.readers is not None:
        alone = " and ".join(scribe.name(who) for who in result.readers) or "nobody else"
        where = f"{where}, for {alone} alone"
    warned = _warned(result.warning)
    if result.queued:
        return f"Not sent yet to {where}{repeated}. {_QUEUED}{warned}"
    if result.gated:
        about = {"action": "why", "id": _plain(result.id), "room": _plain(result.room)}
        why = json.dumps(about, separators=(",", ":"))
        return f"Posted in {where}{repeated}. Nobody is shown it yet; what it waits for: parler_rooms {why}{warned}"
    if result.seq is None:
        task = scribe.name(result.id)
        return f"Sent to the workers of {where}{repeated}, as {task}: its result comes to you.{warned}"
    opened = " That room is new, and for you two alone." if result.opened is True else ""
    if result.opened_queue is True:
        opened = " That queue is new, and nobody else works for it yet."
    if isinstance(result.awaits, str):
        opened += f" {scribe.name(result.awaits)} is not in it yet; the message waits there."
        if result.needs_both is True:
            opened += f" {scribe.name(result.awaits)} reads this once both machines were connected."
        if isinstance(result.join_code, str):
            opened += f" If its person is asked, they type your code {result.join_code}: have your user pass it on."
    return f"Sent #{result.seq} to {where}{repeated}.{opened}{warned}"


def _warned(warning: str | msgspec.UnsetType) -> str:
    return f" {warning}" if isinstance(warning, str) else ""


def _handed(result: t.GivenHandoff, scribe: Scribe, asked: _Asked) -> str:
    repeated = " before; this repeats that request" if result.replayed else ""
    to = scribe.name(result.for_) if result.for_ else "anyone"
    where = scribe.name(result.name or result.room)
    queued = f" {_QUEUED}" if result.queued else ""
    number = "" if result.seq is None else f", #{result.seq}"
    along = "" if result.transcript is msgspec.UNSET else _along(result.transcript)
    return (
        f"The turn is offered to {to} in {where}{number}{repeated}. It is yours until somebody takes it.{queued}{along}"
        f"{_warned(result.warning)} Then wait for the answer: {scribe.wait}"
    )


def _along(told: t.SentTranscript) -> str:
    """How much of the conversation goes along with an offer."""
    if not told.count:
        return " Nothing of the conversation goes along: no message can be quoted whole."
    left = f"; {told.left_out} older did not fit" if told.left_out else ""
    how = "are quoted in it" if told.quoted else "belong to it, to be read in the room"
    return f" {told.count} messages {how}{left}."


def _remembered(result: t.Remembered, scribe: Scribe, asked: _Asked) -> str:
    [fact] = result.facts
    named = f" as {scribe.name(fact.key)}" if fact.key else ""
    version = f" version {fact.version}" if fact.key and fact.version else ""
    where, warned = _where(fact, scribe), _warned(result.warning)
    if result.queued:
        return f"Not remembered yet{named} in {where}. {_QUEUED}{warned}"
    repeated = " before; this repeats that request" if result.replayed else ""
    return f"Remembered{named}{version} in {where}{repeated}.{warned}"


def _forgotten(result: t.Forgotten, scribe: Scribe, asked: _Asked) -> str:
    [fact] = result.facts
    what, where = scribe.name(fact.key or fact.id), _where(fact, scribe)
    return f"Not forgotten yet: {what} in {where}. {_QUEUED}" if result.queued else f"Forgotten: {what} in {where}."


def _shared(result: t.SharedBlob, scribe: Scribe, asked: _Asked) -> str:
    where, warned = scribe.name(result.name or result.room), _warned(result.warning)
    if result.queued:
        return f"Not shared yet with {where}. {_QUEUED}{warned}"
    repeated = " before; this repeats that request" if result.replayed else ""
    return f"Shared as #{result.seq} with {where}{repeated}: {_size(result.size)}.{warned}"


def _shared_file(result: t.SharedFile, scribe: Scribe, asked: _Asked) -> str:
    return "\n".join([_shared(result, scribe, asked), *_secrets(result, scribe)])


def _secrets(result: t.SharedFile, scribe: Scribe) -> list[str]:
    """What in the shared thing looks like a secret: in how many places, of which kinds, and where."""
    partly = [] if result.secrets_complete else ["Not everything in it was looked through for secrets."]
    if not result.secrets:
        return partly
    count = len(result.secrets) + result.more_secrets
    kinds = ", ".join(sorted({each.kind for each in result.secrets}))
    places = "1 place" if count == 1 else f"{count} places"
    said = f"It holds what looks like secrets, in {places} ({kinds}). Tell your user, who may have to change them."
    paths = "\n".join(dict.fromkeys(each.path for each in result.secrets[:_PATHS]))
    return [said, scribe.fencer.wrap(paths, "paths with secrets"), *partly]


def _shared_code(result: t.SharedCode, scribe: Scribe, asked: _Asked) -> str:
    """What was pushed, and what was not: a part is never called the whole."""
    lines = [_shared(result, scribe, asked), f"It is {scribe.name(result.ref)} at {_plain(result.tip[:12])}."]
    secrets = _secrets(result, scribe)
    count = len(result.left_out) + result.more
    if not count:
        return "\n".join([" ".join(lines), *secrets])
    reasons = Counter(each.why for each in result.left_out)
    said = ", ".join(f"{number} {why.replace('_', ' ')}" for why, number in sorted(reasons.items()))
    hint = ' To take uncommitted changes along, push with "worktree":true.' if reasons["uncommitted"] else ""
    lines.append(f"It is NOT everything; left out: {_paths(count)} ({said}).{hint}")
    paths = "\n".join(each.path for each in result.left_out[:_PATHS])
    return "\n".join([" ".join(lines), scribe.fencer.wrap(paths, "paths that were left out"), *secrets])


def _fetched(result: t.FetchedFile, scribe: Scribe, asked: _Asked) -> str:
    size, author = _size(result.brings.size), _plain(result.author.name)
    return f"Fetched {size} from {author}. It is in your workspace: {scribe.name(result.path)}"


def _applied(result: t.AppliedCode, scribe: Scribe, asked: _Asked) -> str:
    done = "Taken in" if result.new else "Taken in before"
    left = result.brings.left_out
    partly = "" if left is msgspec.UNSET else f" Its author left {_paths(left)} out."
    taken = f"{done} from {_plain(result.author.name)}, at {_plain(result.tip[:12])}.{partly}"
    unchanged = (
        "No branch and no file was changed: look with git log at this ref, and merge it if your user wants that."
    )
    return f"{taken} {unchanged} {scribe.name(result.ref)}"


def _where(fact: t.Fact, scribe: Scribe) -> str:
    return scribe.name(fact.name or fact.room) if fact.room else "your private memory"


def _recalled(result: t.Recalled, scribe: Scribe, asked: _Asked) -> str:
    """What was found, as much of it as a page holds. A fact that is longer than a page is continued by offset."""
    after = [result.notice] if result.notice else []
    if result.cut:
        after.append("Only the newest facts were looked through: another word narrows it down.")
    if not result.facts:
        return "\n".join(["Nothing that is remembered has these words.", *after])
    lines = ["No fact has every word; these have some of them:"] if result.partly else []
    fence = scribe.fencer.fence(fact.text for fact in result.facts)
    left, shown, goes_on = min(PAGE, _ceiling(scribe)), 0, ""
    for fact in result.facts:
        head = _fact_head(fact, scribe)
        start = asked.offset if not shown else 0
        room_left = left - scribe.budget.size(head) - _MARKED
        text = reveal(fact.text, start, max(room_left, 0) + 2)
        size = max(scribe.budget.size(text.text), len(text.text.encode("utf-8", "surrogatepass")))
        if shown and (text.end < len(fact.text) or size > room_left):
            break
        if not shown:
            whole_left = _ceiling(scribe) - scribe.budget.size(head) - _MARKED
            fits = partial(scribe.budget.prefix, room=whole_left)
            text = reveal(fact.text, min(start, len(fact.text)), max(whole_left, 0) + 2, fits)
        if start or text.end < len(fact.text):
            head += f"; characters {start} to {text.end} of {len(fact.text)}"
        if text.end < len(fact.text):
            goes_on = f"To read on: the same call with offset {text.end}."
        part = fence.part(head, text)
        lines.append(part)
        left -= scribe.budget.size(part) + 1
        shown += 1
        if goes_on:
            break
    lines.append(fence.end)
    if goes_on:
        after.insert(0, goes_on)
    if more := result.more + len(result.facts) - shown:
        after.insert(0, f"{more} more: name another word, or a room.")
    return "\n".join([*lines, *after])


def _fact_head(fact: t.Fact, scribe: Scribe) -> str:
    """Key, version, author, time and room of a fact: names that could be nothing else stand outside the fence."""
    facts = [f"{_plain(fact.key)} v{fact.version}"] if fact.key else [_plain(fact.id)]
    if doubt := said_of(fact.verified):
        facts.append(doubt)
    facts.append(_plain(fact.author.name))
    if fact.at is not None:
        facts.append(clock(fact.at))
    facts.append(f"in {_plain(fact.name or fact.room)}" if fact.room else "private")
    return "; ".join(facts)


def _answered(result: t.AnsweredHandoff, scribe: Scribe, asked: _Asked) -> str:
    repeated = " before; this repeats that request" if result.replayed else ""
    offer, where = f"#{result.offer_seq}", scribe.name(result.name or result.room)
    giver = scribe.name(result.giver)
    warned = _warned(result.warning)
    if result.status == "accepted":
        return (
            f"You have the turn of {offer} in {where} now{repeated}; {giver} is told. Tell what comes of it with "
            f"parler_send, and hand on with parler_handoff.{warned}"
        )
    if result.status == "declined":
        return f"You declined {offer} in {where}{repeated}; {giver} is told and keeps the turn.{warned} {scribe.wait}"
    return f"You withdrew {offer} in {where}{repeated}; the turn is yours.{warned}"


def _handoffs(result: t.HandoffList, scribe: Scribe, asked: _Asked) -> str:
    where = scribe.name(result.name or result.room)
    lines = [_offer_line(each, scribe) for each in result.handoffs]
    if not lines:
        return " ".join((f"Nobody offered the turn in {where} yet.", result.notice)).rstrip()
    notice = [result.notice] if result.notice else []
    more = [f"{result.more} older are not listed."] if result.more else []
    shown = [f"Offers of the turn in {where}:", *_bounded(lines, scribe, taken=[*more, *notice]), *more]
    shown += _lay_out(result.messages, result.you, scribe, asked)
    if not result.messages:
        within = {} if asked.room is None else {"room": asked.room}
        call = json.dumps({"action": "handoffs", **within, "id": "N"}, separators=(",", ":"))
        shown.append(f"The words of one: parler_rooms {call}")
    return "\n".join([*shown, *notice])


def _offer_line(each: t.HandoffEntry, scribe: Scribe) -> str:
    number = f"#{each.seq}" if each.seq else scribe.name(each.id)
    who = "you" if each.yours else scribe.name(each.giver)
    to = "you" if each.to_you and each.for_ else scribe.name(each.for_ or "anyone")
    said = f"{number} {who} to {to}: {each.status}"
    if each.status == "offered":
        said += f" until {clock(each.expires)}"
    elif each.status == "accepted":
        said += f" by {scribe.name(each.holder)}"
    if each.ended is not msgspec.UNSET:
        said += f" {clock(each.ended)}"
    if each.declined is not msgspec.UNSET:
        said += f"; declined by {' '.join(map(scribe.name, each.declined))}"
    return said


def _rooms(result: t.RoomList, scribe: Scribe, asked: _Asked) -> str:
    lines: list[str] = []
    for door in result.waits:
        key = f" with the key that begins {scribe.name(door.begins)}" if door.begins else ""
        code = f"your code is {scribe.name(door.join_code)}, and a person decides" if door.join_code else "no code yet"
        lines.append(f"You wait to be let into a session{key}: {code}.")
    lines = _bounded(lines, scribe)
    if result.you:
        lines.insert(0, f"You are {scribe.name(result.you)}.")
    if not result.rooms:
        if not result.waits:
            lines.append("You are in no room. Open a session with parler_open_session, or join one with its key.")
        return "\n".join(lines)
    blocks: list[str] = []
    for room in sorted(result.rooms, key=lambda room: (not room.active, not room.unread, room.state != "open")):
        owner = (
            "you own it"
            if result.you and room.owner_name == result.you
            else f"owner {scribe.name(room.owner_name or room.owner)}"
        )
        facts = [owner, f"{room.members} member{'' if room.members == 1 else 's'}"]
        if room.kind != "session":
            facts.insert(0, scribe.name(room.kind))
        if room.unread:
            facts.append(f"{room.unread} unread")
        if room.pending:
            facts.append(f"{room.pending} knocking")
        if room.active:
            facts.append("active")
        if room.state != "open":
            facts.append(scribe.name(room.state))
        if room.home != "local":
            facts.append(f"home {scribe.name(room.home)}")
            facts.append("sealed" if room.sealed else "clear")
        if room.alarm:
            facts.append(f"nothing can be sent there any more ({scribe.name(room.alarm)})")
        if room.last_at:
            facts.append(f"last {clock(room.last_at)}")
        block = f"{scribe.name(room.name)}: {', '.join(facts)}"
        if room.topic and room.topic != room.name:
            block += "\n" + scribe.fencer.wrap(room.topic, "topic")
        blocks.append(block)
    notice = [result.notice] if result.notice else []
    return "\n".join([*lines, *_bounded(blocks, scribe, taken=[*lines, *notice]), *notice])


def _bounded(blocks: Sequence[str], scribe: Scribe, taken: Sequence[str] = ()) -> list[str]:
    """As many of a list's blocks as one answer holds beside the lines that are `taken`, and how many there are
    besides."""
    left = min(PAGE, _ceiling(scribe)) - sum(scribe.budget.size(line) + 1 for line in taken)
    for count, block in enumerate(blocks):
        left -= max(scribe.budget.size(block), len(block.encode("utf-8", "surrogatepass"))) + 1
        if left < 0:
            return [*blocks[:count], f"{len(blocks) - count} more are not listed."]
    return list(blocks)


def _roster(result: t.RosterResult, scribe: Scribe, asked: _Asked) -> str:
    lines = []
    for member in result.members:
        facts = [scribe.name(fact) for fact in (member.role, member.host, member.presence) if fact]
        if member.owner and member.role != "owner":
            facts.append("owner")
        who = f"{scribe.name(member.name)}{' (you)' if member.name == result.you else ''}"
        line = f"{who}: {', '.join(facts)}, since {clock(member.since)}"
        lines.append("\n".join([line, *_stated(member.stated, scribe)]))
    notice = [result.notice] if result.notice else []
    if result.home not in ("", "local") and not result.sealed:
        notice.insert(0, "The relay can read this room.")
    if isinstance(result.turns, int):
        notice.insert(0, f"Two agents here begin at most {result.turns} turns by their messages in one conversation.")
    return "\n".join(
        [f"In {scribe.name(result.name or result.room)}:", *_bounded(lines, scribe, taken=notice), *notice]
    )


def _stated(stated: t.StatedStatus | msgspec.UnsetType, scribe: Scribe) -> list[str]:
    """What an agent says that it is doing: a name, and a text of its own."""
    if isinstance(stated, msgspec.UnsetType):
        return []
    line = f"  says since {clock(stated.at)}: {scribe.name(stated.status)}"
    return [line, scribe.fencer.wrap(stated.text, "status")] if stated.text else [line]


def _presence(result: t.PresenceIs, scribe: Scribe, asked: _Asked) -> str:
    line = f"You are {scribe.name(result.presence)}, since {clock(result.since)}."
    said = _stated(result.stated, scribe) or ["You state nothing beside that."]
    return "\n".join([line, *said])


def _requests(result: t.RequestList, scribe: Scribe, asked: _Asked) -> str:
    if not result.requests:
        return " ".join(("Nobody is knocking.", result.notice)).rstrip()
    notice = [result.notice] if result.notice else []
    lines = _bounded([_request_line(request, scribe) for request in result.requests], scribe, taken=notice)
    lines += notice
    return "\n".join([*lines, f"A person decides; this asks the one at this host: {approve_call(result.requests[0])}"])


def approve_call(request: t.RequestInfo) -> str:
    """The call that asks the person about one request, by names as far as those are names."""
    named = {"agent": (request.name, request.agent), "room": (request.room_name, request.room)}
    arguments = {key: next(each for each in (*texts, "") if is_name(each)) for key, texts in named.items()}
    return f"parler_approve {json.dumps(arguments, separators=(',', ':'))}"


def _request_line(request: t.RequestInfo, scribe: Scribe) -> str:
    """Who knocks or wants to write, where, and since when. Names are what it says it is. Source: security spec A4."""
    wants = f"knocks at {scribe.name(request.room_name or request.room)}"
    if request.direct_to:
        wants = f"wants to write to {scribe.name(request.direct_to)}"
    role = f"{scribe.name(request.role)}, " if request.role else ""
    return (
        f"{scribe.name(request.name)} (says it is {role}on {scribe.name(request.host or 'unknown')}) {wants}; "
        f"fingerprint {scribe.name(request.fingerprint)}, since {clock(request.requested)}."
    )


def _found(result: t.FoundAgents, scribe: Scribe, asked: _Asked) -> str:
    silent = ", ".join(map(scribe.name, result.silent))
    notice = [f"{silent} did not answer, so agents there may be missing."] if silent else []
    if not result.agents:
        return "\n".join(["Nobody else who has a card fits that.", *notice])
    if result.more:
        notice.insert(0, "There are others: ask for something narrower.")
    blocks = [_agent(agent, scribe) for agent in result.agents]
    return "\n".join([*_bounded(blocks, scribe, taken=notice), *notice])


def _agent(agent: t.FoundAgent, scribe: Scribe) -> str:
    """An agent by its card. The description is in its own words, and so in a fence."""
    facts = [scribe.name(agent.role)] if agent.role else []
    facts += [f"{what} {' '.join(map(scribe.name, labels))}" for what, labels in _labels(agent) if labels]
    status = scribe.name(agent.status)
    facts.append(f"{status} since {clock(agent.since)}" if agent.since else status)
    if agent.direct == "ask":
        facts.append("its person is asked before you reach it directly")
    if agent.home != "local":
        facts.append(f"home {scribe.name(agent.home)}")
    lines = [f"{scribe.name(agent.name)}: {', '.join(facts)}", *_stated(agent.stated, scribe)]
    return "\n".join([*lines, scribe.fencer.wrap(agent.description, "card")] if agent.description else lines)


def _labels(agent: t.FoundAgent) -> tuple[tuple[str, list[str]], ...]:
    return ("tags", agent.tags), ("skills", agent.skills)


def _registered(result: t.Registered, scribe: Scribe, asked: _Asked) -> str:
    lines = []
    for at in result.homes:
        where = "on this machine" if at.home == "local" else f"at {scribe.name(at.home)}"
        if at.status == "failed":
            lines.append(f"It is not {where}: {scribe.name(at.code)}. Make the same call again later.")
        elif at.status == "pending":
            lines.append(f"It goes to {scribe.name(at.home)} by itself as soon as that relay answers.")
        else:
            done = "Taken back" if result.agent is None else "Published"
            lines.append(f"{'It stands as it was' if at.status == 'unchanged' else done} {where}.")
    if result.agent is None:
        return "\n".join([f"{scribe.name(result.name)} has no card.", *lines])
    seen = {"public": "everybody there finds you", "private": "only who shares a room with you finds you"}
    said = f"Your card is {scribe.name(result.agent.visibility)}: {seen.get(result.agent.visibility, '')}."
    return "\n".join([said, *lines, _agent(result.agent, scribe)])


_BEGINS: Final = {
    "open": "every message",
    "dnd": "only what is for you",
    "focus": "only a hand-off to you",
    "quiet": "only what is for you",
    "muted": "nothing",
}
"""What begins a turn, by the mode."""


def _attention(result: t.AttentionIs, scribe: Scribe, asked: _Asked) -> str:
    lines = [f"You are {scribe.name(result.mode)}: while you are idle, {_BEGINS.get(result.mode, '')} begins a turn."]
    lines += [
        f"{scribe.name(room.name)} is {scribe.name(room.mode)}: {_BEGINS.get(room.mode, '')}." for room in result.rooms
    ]
    return "\n".join([*lines, "What waits is yours to read all the same."])


def _why(result: t.WhyResult, scribe: Scribe, asked: _Asked) -> str:
    rung = [_queued(result.queued, scribe)] if isinstance(result.queued, t.QueuedHere) else []
    lines = []
    for reader in result.readers:
        stages = _stages(reader.rungs) or "not yet"
        stopped = "" if reader.stopped is msgspec.UNSET else f"; {reader.stopped}"
        if stopped and reader.stopped_since:
            stopped += f" since {clock(reader.stopped_since)}"
        if isinstance(reader.held, int):
            stopped += (
                f"; wakes nobody after {reader.held} turns of the two: a person runs `parler room continue`"
                if reader.held
                else "; wakes nobody: a person set `parler room turns` to 0 here"
            )
        lines.append(f"{scribe.name(reader.name)}: {stages}{stopped}{_sighted(reader.sight)}")
    if rung and not lines:
        return rung[0]
    if result.handoff is not msgspec.UNSET:
        rung.append(_offer_line(result.handoff, scribe))
    if result.task is not msgspec.UNSET:
        rung.append(_task_line(result.task, scribe))
    if result.erased is True:
        rung.append("The words of this message were erased by retention or a timer.")
    if result.away is True:
        rung.append("The home of this room does not answer: only what is known here is said.")
    if isinstance(result.gated, t.GatedEntry):
        waits = _gated_lines(result.gated, scribe, is_task=result.task is not msgspec.UNSET)
        lines = [*waits, "Where it got to:", *lines] if lines else waits
    elif not lines and result.task is not msgspec.UNSET:
        rung.append("No worker is there now.")
    else:
        rung.append("Where it got to:")
    return "\n".join([*rung, *_bounded(lines, scribe)])


def _gated_lines(gated: t.GatedEntry, scribe: Scribe, *, is_task: bool) -> list[str]:
    """What a message waits for."""
    said = []
    if isinstance(gated.enabled, str):
        what = "It is offered while this is true for a worker" if is_task else "It is shown to whom this is true for"
        said.append(f"{what}:\n{scribe.fencer.wrap(gated.enabled)}")
    if isinstance(gated.timer, t.TimerShown):
        what = "It goes" if gated.timer.effect == "delete" else "Nobody is shown it before its timer runs out"
        when = f"after {gated.timer.ticks_left} writes of {_plain(str(gated.timer.tick_on))}"
        if isinstance(gated.timer.at, int):
            when = clock(gated.timer.at)
        said.append(f"{what}: {when}.")
    names = "everyone" if gated.shown_to is None else ", ".join(scribe.name(each) for each in gated.shown_to)
    said.append(f"Shown to {names}." if names else "Nobody was shown it yet.")
    return said


def _withdrawn(result: t.Withdrawn, scribe: Scribe, asked: _Asked) -> str:
    again = " before" if result.replayed else ""
    return f"Taken back{again}: {_plain(result.id)} is shown to nobody else."


def _task_line(task: t.TaskEntry, scribe: Scribe) -> str:
    """How a task stands."""
    if task.holder is not None and task.lease_until is not None:
        return f"{scribe.name(task.holder)} holds the task until {clock(task.lease_until)}: {task.state}."
    open_until = "" if task.open_until is msgspec.UNSET else clock(task.open_until)
    if open_until and task.state != "open":
        return f"The task is {task.state}: nobody had it when its timer ran out, {open_until}."
    if task.ended_by is not msgspec.UNSET:
        return f"The task is {task.state}, as {scribe.name(task.ended_by)} said."
    for_now = f" It can be claimed until {open_until}." if open_until else ""
    return f"The task is open: nobody holds it.{for_now}"


def _served(result: t.Served, scribe: Scribe, asked: _Asked) -> str:
    where = scribe.name(result.name)
    opened = ", which is open now" if result.opened else ""
    again = " already" if result.status == "already_serving" else ""
    waits = f" {result.open} wait." if result.open else ""
    arguments = {"action": "claim", "service": _plain(result.name), "wait_secs": min(WAIT_S, scribe.wait_s)}
    call = json.dumps(arguments, separators=(",", ":"))
    return f"You work for {where}{again}{opened}.{waits} Take a task: parler_act {call}"


def _held(result: t.TaskHeld, scribe: Scribe, asked: _Asked) -> str:
    """A task: what it is, after a claim, and how to end it."""
    where = scribe.name(result.name or result.room)
    if result.id is None:
        return f"There is nothing to claim in {where}."
    task, warned = scribe.name(result.id), _warned(result.warning)
    if result.lease_until is None:
        told = "" if result.result is msgspec.UNSET else "; whoever asked is told"
        said = "is open again" if result.status == "open" else f"is {result.status}{told}"
        return f"The task {task} in {where} {said}.{warned}"
    until = clock(result.lease_until)
    if result.message is None:
        return f"You hold the task {task} in {where} until {until}: {result.status}.{warned}"
    again = " already" if result.status == "already_yours" else ""
    asked.room = _plain(result.name or result.room)
    shown = _lay_out([result.message], "", scribe, asked)
    call = json.dumps({"action": "complete", "id": _plain(result.id), "text": "..."}, separators=(",", ":"))
    return "\n".join([f"You hold this task of {where}{again} until {until}:", *shown, f"End it: parler_act {call}"])


def _queued(queued: t.QueuedHere, scribe: Scribe) -> str:
    """The first rung of a message for a room elsewhere."""
    home, since = scribe.name(queued.home), f"queued here since {clock(queued.since)}"
    if queued.refused:
        return f"Refused by {home} ({scribe.name(queued.refused)}), and not sent again: {since}."
    return f"{since[0].upper()}{since[1:]}, goes out when the link to {home} is up."


def _sighted(sight: t.SightSaid | msgspec.UnsetType) -> str:
    """What the record of the reader's host says, where it is watched."""
    if sight is msgspec.UNSET:
        return ""
    said = sentence_of(sight.verdict, sight.reason, _plain(sight.host), sight.again, elsewhere=sight.elsewhere)
    return f"; {clock(sight.at)} {said}"


def _stages(rungs: Sequence[tuple[str, int]]) -> str:
    """The rungs that were reached, each minute once."""
    minutes: dict[str, list[str]] = {}
    for rung, at in rungs:
        minutes.setdefault(clock(at), []).append(rung)
    return ", ".join(f"{' '.join(names)} {clock}" for clock, names in minutes.items())


def _decided(result: t.Decided, scribe: Scribe, asked: _Asked) -> str:
    by = "The room's policy" if result.proof == "none" else "Your user"
    who, room = scribe.name(result.name or result.agent), scribe.name(result.room_name or result.room)
    if result.direct_to:
        may = "may write" if result.status == "approved" else "does not get to write"
        return f"{by} decided: {who} {may} to {scribe.name(result.direct_to)}."
    if result.status == "approved":
        return f"{by} let {who} into {room}."
    return f"{by} declined {who} for {room}."


def _closed(result: t.ClosedSession, scribe: Scribe, asked: _Asked) -> str:
    room = scribe.name(result.name or result.room)
    if result.status == "left":
        return f"You left {room}."
    return f"{room} is closed for everyone. It can still be read."


def clock(at: int) -> str:
    """A moment as a model reads it."""
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(at / 1000))


def _of_state(
    text: Callable[[Any, state_texts.Writer, int], str], result: t.Result, scribe: Scribe, asked: _Asked
) -> str:
    return text(result, scribe, asked.offset)


_TEXTS: Final[dict[type[t.Result], Callable[[Any, Scribe, _Asked], str]]] = {
    t.OpenedSession: _opened,
    t.JoinedSession: _joined,
    t.Received: _received,
    t.Sent: _sent,
    t.Withdrawn: _withdrawn,
    t.GivenHandoff: _handed,
    t.SharedFile: _shared_file,
    t.SharedCode: _shared_code,
    t.FetchedFile: _fetched,
    t.AppliedCode: _applied,
    t.Remembered: _remembered,
    t.Recalled: _recalled,
    t.Forgotten: _forgotten,
    t.AnsweredHandoff: _answered,
    t.HandoffList: _handoffs,
    t.RoomList: _rooms,
    t.RosterResult: _roster,
    t.RequestList: _requests,
    t.FoundAgents: _found,
    t.Registered: _registered,
    t.AttentionIs: _attention,
    t.PresenceIs: _presence,
    t.Served: _served,
    t.TaskHeld: _held,
    t.WhyResult: _why,
    t.Decided: _decided,
    t.ClosedSession: _closed,
    **{kind: partial(_of_state, text) for kind, text in state_texts.TEXTS.items()},
}
