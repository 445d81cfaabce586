"""What `decide` gives: the events to commit, or the place of an earlier answer. To decide changes nothing.

Above: the facets, which decide, and the engine, which commits. Below: the shapes of commands and events.
"""

from __future__ import annotations

from dataclasses import dataclass

from parlerd.core.commands import Command
from parlerd.core.errors import Refused
from parlerd.core.events import Event
from parlerd.core.model import Millis, Position, RoomId, Seq
from parlerd.core.statements import Statement


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command leads to."""

    events: tuple[Event, ...] = ()
    """What goes to the log, in this order."""
    statements: tuple[Statement | None, ...] = ()
    """What the author of each event signs with it, beside `events`; as far as the room says it: the author fills in an
    empty nonce. Empty where nobody signs anything but a message's words."""
    bodies: tuple[bytes | None, ...] = ()
    """What stands in the body of each event that nobody signs, beside `events`; empty where none has one."""
    authority: str = ""
    """By what right the actor did it, as every one of the facts records: `owner`, `member`, `key:...` and the like."""
    replay: Position | None = None
    """Where the same request was accepted before. There are no events then."""
    answer: str = ""
    """Tells apart outcomes that leave no event, such as a repeated question about a pending request."""
    previous: bytes = b""
    """For a message: the hash of its author's envelope before it in the same thread, which the new envelope signs;
    empty before the first."""
    seq: Seq = Seq(0)
    """For a message: its number for its author."""
    erases: tuple[Position, ...] = ()
    """The messages whose words are taken away for good with these facts."""
    buries: tuple[RoomId, ...] = ()
    """The rooms that there are no longer once these facts are stored. Only the home room decides so."""
    shuts: tuple[RoomId, ...] = ()
    """The rooms that were never opened, and never are once these facts are stored. Where one was opened meanwhile
    nothing is stored, and this is decided again. Only the home room decides so."""
    at: Millis | None = None
    """When the facts were accepted, where another home accepted them; None for now."""


def replayed(command: Command) -> Decision | None:
    """The earlier answer if this request was accepted before, else None. Call this after the check of what the actor
    may do.

    Raises `Refused(idempotency_conflict)` if the idempotency key was used with another input.
    """
    if command.prior is None:
        return None
    if command.prior.input != command.input:
        raise Refused("idempotency_conflict", key=command.idempotency_key or "")
    return Decision(replay=command.prior.position)
