"""What `decide` gives: the events to commit, or the place of an earlier answer. To decide changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from parlerd.core.commands import Command
from parlerd.core.errors import Refused
from parlerd.core.events import Event
from parlerd.core.model import Position, Seq


@dataclass(frozen=True, slots=True)
class Decision:
    """`events` go to the log in order, under `authority`. `replay` is the position at which the same request was
    accepted before.

    `answer` tells apart outcomes that leave no event (a poll of a pending request, say). Where a message is posted,
    `previous` is the hash of its author's envelope before it in this room (empty before the first), which the next
    envelope signs, and `seq` is the message's number for its author.
    """

    events: tuple[Event, ...] = ()
    authority: str = ""
    replay: Position | None = None
    answer: str = ""
    previous: bytes = b""
    seq: Seq = Seq(0)


def replayed(command: Command) -> Decision | None:
    """The earlier answer if this request was accepted before, else None. Call it after authorising.

    Raises `Refused(idempotency_conflict)` if the key was used with another input.
    """
    if command.prior is None:
        return None
    if command.prior.input != command.input:
        raise Refused("idempotency_conflict", key=command.idempotency_key or "")
    return Decision(replay=command.prior.position)
