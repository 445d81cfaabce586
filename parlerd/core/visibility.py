"""Who may ever see a message: fixed to ids when the message is posted, with the same answer for every surface.

`to` asks for somebody's attention and hides nothing. `visibility` names the only readers of a message: whoever joins or
returns later never gains such a message, and the owner is no exception. The store counts a reader's messages by the
same rule (`parlerd.store.numbering`), from the same `View`. Above: `messages`. Invariant: the answer for a message and
a reader never changes.
"""

from __future__ import annotations

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, View


def can_see(view: View, *, position: int, visibility: tuple[AgentId, ...] | None) -> bool:
    """Whether the reader may ever see the message at `position`."""
    if visibility is not None:
        return view.reader in visibility
    return any(after < position and (upto is None or position <= upto) for after, upto in view.spans)


def audience(
    author: AgentId,
    asked: tuple[AgentId, ...] | None,
    replied: tuple[AgentId, ...] | None,
) -> tuple[AgentId, ...] | None:
    """The ids that may see a new message, sorted, the author among them; None means everyone in the room.

    `asked` are the readers that the author names, `replied` the readers of the message that is replied to. A reply to a
    private message takes that message's readers when the author names none, and may name no others: they would learn
    from the reply that something was hidden from them. Raises `Refused(invalid_param)`.
    """
    if asked is None:
        return replied
    ids = tuple(sorted({author, *asked}))
    if replied is not None and not set(ids) <= set(replied):
        raise Refused(
            "invalid_param",
            "A reply to a private message can only be shown to those who can see that message.",
            param="visible_to",
        )
    return ids
