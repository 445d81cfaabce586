"""What is the person's own to do: whether a caller is the person, and what the process behind a decision says.

Not here: how the person is told from an agent's command, which one user id cannot do for certain. Above: the handlers
and `observers`. Below: the desk's inspection of a process. Invariant: nothing here asks what the caller says of
itself: its authority is its door's word, and its process the kernel's.
"""

from __future__ import annotations

from parlerd.core.errors import Refused
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.desk import Desk


def is_person(caller: Caller) -> bool:
    """Whether this caller speaks as the person."""
    return caller.facts.authority.speaks_as_person


def require_person(
    desk: Desk, caller: Caller, *, in_editor: bool = False, instead: str = "Run it in a terminal outside the editor."
) -> PeerProcess:
    """What is known of the process behind a person's decision. Raises `Refused(person_only)` for an agent's door
    and `needs_person` for a command that an agent host started. A speed bump under one uid, and the docs say
    so.

    The terminal of an editor is its person's own place and its agent's at once. What was typed there counts only
    where `in_editor` says so; `instead` tells the person what to do where it does not count.
    """
    if "person" not in caller.facts.authority.planes:
        raise Refused("person_only")
    peer = desk.inspect(caller.facts.peer)
    if peer.agent_host:
        raise Refused("needs_person", f"This was started by an agent host ({peer.agent_host}).")
    if peer.editor and not in_editor:
        raise Refused(
            "needs_person",
            f"This was typed inside an editor ({peer.editor}) whose agent has the same terminal.",
            hint=instead,
        )
    return peer
