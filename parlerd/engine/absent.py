"""Words that a mirror erased, asked of the room's home again when somebody reads them.

    a page of the log  ->  which words are gone  ->  RoomHandle.earlier  ->  the same page, with the words

A mirror keeps the headers of all messages and the words of the newest. The header of a message holds the digest of what
its author signed, so what comes back is the same to the byte or is not taken. It is shown, and not stored again: of a
sealed message, as far as this home still can open it. Where the room's
home does not tell it, the page goes on: the message stands in it without its words, and a sentence beside the page
says how to come to them later. The page counts as read, because whoever waits for a home that is away for good would
otherwise never come to what is new.

Words that the room's home erased, because there were too many, nobody is asked for; the sentence counts them.

Not here: what is erased when (`retaining`, `parlerd.uplink.bounds`), messages of which the log holds nothing
(`look_back`). Above: everyone who shows messages. Below: `handles`. Invariant: no message of a page is without its
words unless the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

import msgspec
import trio

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Seq
from parlerd.core.room import RoomState
from parlerd.engine.handles import RoomHandle
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage

ASKING_S: Final = 5.0
"""How long one page asks the room's home."""


class Refilled(NamedTuple):
    """Messages with their words, as far as the room's home told them, and what is said of the others."""

    messages: list[StoredMessage]
    said: str = ""


async def refill(
    handle: RoomHandle,
    state: RoomState,
    reader: AgentId,
    messages: Sequence[StoredMessage],
    *,
    max_bytes: int | None = None,
) -> Refilled:
    """The same messages, with the words that were erased here and that the room's home has. With `max_bytes` there are
    only as many of the first as the words leave space for, and as there was time to ask for, but always one."""
    missing = {message.seq: message for message in messages if is_absent(state, message)}
    pruned = [message.seq for message in messages if is_pruned(state, message)]
    if not missing:
        return Refilled(list(messages), erased(pruned))
    asked, code = await _ask(handle, reader, missing, inf if max_bytes is None else max_bytes)
    found = {seq: each for seq, told in asked.told.items() if (each := _filled(missing.get(seq), told)) is not None}
    filled = [found.get(message.seq, message) for message in messages]
    unasked = [seq for seq in missing if seq > asked.upto]
    if max_bytes is not None:
        if unasked and asked.told and not code:
            # The home answers, so the rest is for another page.
            filled, unasked = [message for message in filled if message.seq < unasked[0]] or filled[:1], []
        filled = within(filled, max_bytes)
    end = filled[-1].seq
    gone = [seq for seq in missing if seq <= min(asked.upto, end) and seq not in found]
    unasked = [seq for seq in unasked if seq <= end]
    pruned = [seq for seq in pruned if seq <= end]
    said = [erased(pruned)] if pruned else []
    said += [unproven(handle.home_name, gone)] if gone else []
    said += [untold(handle.home_name, unasked, code or "home_unreachable")] if unasked else []
    return Refilled(filled, " ".join(said))


def within(messages: list[StoredMessage], max_bytes: int) -> list[StoredMessage]:
    """The first of these messages, as many as fit, but always one."""
    size = 0
    for number, stored in enumerate(messages):
        size += len(stored.body or b"")
        if number and size > max_bytes:
            return messages[:number]
    return messages


def is_absent(state: RoomState, message: StoredMessage) -> bool:
    """Whether the words of a message are gone because a mirror erased them, and its room's home may have them."""
    is_gone = message.body is None and message.is_erased
    return is_gone and state.mirror.is_mirror and not is_pruned(state, message)


def is_pruned(state: RoomState, message: StoredMessage) -> bool:
    """Whether the words of a message are gone because the room's home held too many."""
    is_gone = message.body is None and message.is_erased and not e.is_remembered(message.header.event)
    return is_gone and state.retention.covers(message.header.position)


# -- asking ------------------------------------------------------------------------------------------------------


class _Asked:
    """What the home told, and up to which number it was asked."""

    def __init__(self) -> None:
        self.told: dict[Seq, StoredMessage] = {}
        self.upto = Seq(0)


async def _ask(
    handle: RoomHandle, reader: AgentId, missing: dict[Seq, StoredMessage], enough: float
) -> tuple[_Asked, str]:
    """The messages that the home has, until they have `enough` bytes, and the code of what kept it from telling
    more."""
    asked = _Asked()
    size = 0
    wanted = sorted(missing)
    with trio.move_on_after(ASKING_S):
        while wanted:
            after = Seq(wanted[0] - 1)
            last = max(seq for seq in wanted if seq <= after + t.MAX_PAGE)
            try:
                told = await handle.earlier(reader, after, last - after)
            except Refused as error:
                return asked, error.code
            # What it does not tell of these, it does not have.
            asked.upto = min(told.upto, last) if told.upto > after else last
            asked.told |= {each.seq: each for each in told.messages}
            size += sum(len(each.body or b"") for each in told.messages)
            wanted = [seq for seq in wanted if seq > asked.upto]
            if size > enough:
                break
    return asked, ""


def _filled(message: StoredMessage | None, told: StoredMessage) -> StoredMessage | None:
    """A message with the words that its home told; None where they are not the words that were here."""
    if message is None or _signed(told) != _signed(message):
        return None
    return msgspec.structs.replace(message, body=told.body, signature=told.signature)


def _signed(message: StoredMessage) -> bytes:
    """The digest of what the author signed. Of a sealed message other bytes are stored, which hold the opened words."""
    event = message.header.event
    assert isinstance(event, e.MessagePosted)
    return event.envelope


# -- what is said ------------------------------------------------------------------------------------------------


def erased(numbers: Sequence[int]) -> str:
    """What is said of messages whose words went because there were too many; nothing where there are none."""
    count = len(numbers)
    return f"Words erased by retention or a timer ({count} message{'' if count == 1 else 's'})." if count else ""


def unproven(home: str, numbers: Sequence[int]) -> str:
    """What is said of messages that the home told of, without words that can be shown."""
    return (
        f"{_named(numbers)} cannot be shown: the words were erased, or {home} did not prove that their author was a "
        "member."
    )


def untold(home: str, numbers: Sequence[int], code: str) -> str:
    """What is said of messages that the home was not heard of, for a reason with this code."""
    why = f"{home} does not answer now" if code == "home_unreachable" else f"{home} did not tell them"
    why = f"{why} ({code})" if code not in ("", "home_unreachable") else why
    one = len(numbers) == 1
    return (
        f"{_named(numbers)} {'is' if one else 'are'} not on this machine, and {why}. To see {'it' if one else 'them'}, "
        f"read what follows message {numbers[0] - 1} again later."
    )


def _named(numbers: Sequence[int]) -> str:
    """Which messages are meant: so many of those from the first to the last."""
    first, last, count = numbers[0], numbers[-1], len(numbers)
    if count == 1:
        return f"Message {first}"
    if count == last - first + 1:
        return f"Messages {first} to {last}"
    return f"{count} of the messages {first} to {last}"
