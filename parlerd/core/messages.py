"""Messages: who may say what to whom, and each author's sequence of envelopes.

Not here: the words of a message (`words`, `envelope`), and the messages themselves. A room in memory holds none; what a
decision needs of the message that is replied to, the engine looks up and puts into the command. Above: `room`. Below:
`membership` (who is in), `visibility` (who may see). Invariant: an author's envelopes in a room are counted without a
gap, and each names the one before it.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import membership, topics, visibility
from parlerd.core.decision import Decision, replayed
from parlerd.core.envelope import Envelope
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import LifecycleState, require_open, require_sound
from parlerd.core.membership import MembershipState
from parlerd.core.model import AgentId, By, Ids, MessageId, Millis, Seq
from parlerd.core.topics import Topic
from parlerd.core.words import contradiction


class AuthorState(msgspec.Struct):
    """An author's sequence of envelopes in a room: how many there are (`counter`), and the hash of the newest
    (`envelope`)."""

    counter: int
    envelope: bytes


class MessagesState(msgspec.Struct):
    """`last_message_at` is when the newest message was posted, whoever may see that message."""

    last_message_at: Millis = Millis(0)
    authors: dict[AgentId, AuthorState] = {}


def newest_envelope(state: MessagesState, author: AgentId) -> bytes:
    """The hash of the author's newest envelope in the room, empty before the author's first."""
    known = state.authors.get(author)
    return b"" if known is None else known.envelope


class Messages(Facet[MessagesState]):
    """Posts messages."""

    __slots__ = ("_lifecycle", "_membership")

    def __init__(self, state: MessagesState, lifecycle: LifecycleState, membership: MembershipState) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._membership = membership

    def _post(self, command: c.PostMessage, by: By, now: Millis, ids: Ids) -> Decision:
        members, owner = self._membership.members, self._lifecycle.owner
        author = membership.present(members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        require_open(self._lifecycle)
        require_sound(self._lifecycle)
        to = tuple(dict.fromkeys(membership.resolve(members, who) for who in command.to))
        role = ""
        if command.taker:
            to, role = membership.resolve_taker(members, owner, command.taker, giver=by.actor)
        asked = command.visibility
        if command.envelope is not None and command.reply is not None and asked == command.reply.visibility:
            # The envelope repeats the readers of the message that it replies to. A local reply that names no readers
            # takes those of that message without resolving them, and so does this one: one of them may have left.
            asked = None
        named = None if asked is None else tuple(membership.resolve(members, who) for who in asked)
        target = None if command.reply_to is None else command.reply
        if command.reply_to is not None and (
            target is None
            or not visibility.can_see(
                membership.view_of(author), position=target.position, visibility=target.visibility
            )
        ):
            raise Refused("no_such_message", id=command.reply_to)
        readers = visibility.audience(by.actor, named, None if target is None else target.visibility)
        if readers is not None and not set(to) <= set(readers):
            raise Refused("invalid_param", "A message cannot be addressed to someone it is hidden from.", param="to")
        known = self.state.authors.get(by.actor)
        event = e.MessagePosted(
            id=command.id or MessageId(ids.new("m")),
            kind=command.kind,
            to=to,
            role=role,
            visibility=readers,
            reply_to=command.reply_to,
            chain=target.chain if target else command.envelope.chain if command.envelope else ids.new("c"),
            hops=0 if target is None else target.hops + 1,
            counter=1 if known is None else known.counter + 1,
        )
        if command.envelope is not None:
            self._require_same(command, command.envelope, event, by.actor)
        return Decision(
            (event,),
            authority="owner" if by.actor == owner else "member",
            previous=newest_envelope(self.state, by.actor),
            seq=Seq(membership.newest_seq(self._membership, by.actor) + 1),
        )

    def _require_same(
        self, command: c.PostMessage, finished: Envelope, event: e.MessagePosted, author: AgentId
    ) -> None:
        """Refuse an envelope of an author elsewhere unless it says what this room decides itself: for whom the message
        is, what it answers, and which message of the author it follows. The author chooses only the name of a new
        thread."""
        wrong = contradiction(self._lifecycle.room, command.idempotency_key or "", event, finished)
        if wrong is None and finished.previous != newest_envelope(self.state, author):
            wrong = "previous"
        if wrong is None and (command.id is None or command.is_id_taken):
            wrong = "id"
        if wrong is not None:
            raise Refused("envelope_refused", what=wrong)

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        state = self.state
        state.last_message_at = header.at
        author = state.authors.get(header.by.actor)
        if author is None:
            state.authors[header.by.actor] = AuthorState(event.counter, event.envelope)
        else:
            author.counter, author.envelope = event.counter, event.envelope

    def _placed(self, event: e.MirrorPlaced, header: e.Header) -> None:
        """What was left out may hold envelopes of others, so nobody can tell any more what their next one follows. The
        readers write here, and their threads are whole."""
        writing = dict(event.before)
        self.state.authors = {author: known for author, known in self.state.authors.items() if author in writing}

    def _told(self, event: e.MessagePosted, header: e.Header) -> list[Topic]:
        room, readers = self._lifecycle.room, event.visibility
        return [topics.messages(room)] if readers is None else [topics.messages(room, reader) for reader in readers]

    DECIDES = (decides(c.PostMessage, _post),)
    APPLIES = (applies(e.MessagePosted, _posted), applies(e.MirrorPlaced, _placed))
    TOUCHES = (touches(e.MessagePosted, _told),)
