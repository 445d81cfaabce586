"""A room's beginning and end: its name, its owner, what was settled when it was opened, and whether it is over.

Not here: who is in the room (`membership`). Above: the other facets of a room, which read this state. Invariant: what
was settled at the opening never changes, and a room that is closed stays closed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision, replayed
from parlerd.core.envelope import SEALED, SIGNED, root_chain
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, reads, touches
from parlerd.core.grants import agent_of, digest_of, is_named, opens_wrongly
from parlerd.core.model import (
    AgentId,
    Approver,
    By,
    History,
    HomeId,
    Ids,
    MessageId,
    Millis,
    PrincipalId,
    RoomId,
    RoomKind,
    Seq,
    agent_name,
    first_free,
)
from parlerd.core.sealing import OTHER, sealed_part
from parlerd.core.statements import Claim, KeyTerms, Opening, Owner, sealed_with, title_of
from parlerd.core.topics import Topic
from parlerd.core.turning import NO_EPOCH, Place, turned
from parlerd.core.words import contradiction


class OwnerState(msgspec.Struct):
    """Who owns or owned the room: the agent, the person for whom it acts, and where the fact stands by which it came to
    own the room."""

    principal: PrincipalId
    agent: AgentId
    position: int
    taken: bool = False
    record: int = 0
    """In a sealed room the number of the record that was in force then; 0 for who opened the room."""
    at: Millis = Millis(0)
    """When it came to own the room."""


def owners_of(room: LifecycleState) -> list[Owner]:
    """All owners that the room had, in order."""
    return [Owner(owner.principal, owner.agent, owner.record) for owner in room.owners]


class LifecycleState(msgspec.Struct):
    """What the opening settled, and whether the room is over. `room` is empty until the room was opened."""

    room: RoomId = RoomId("")
    home: HomeId = HomeId("")
    """Where the room lives."""
    kind: RoomKind = "session"
    name: str = ""
    topic: str = ""
    """Name and topic are empty once they were erased."""
    owner: AgentId = AgentId("")
    owner_principal: PrincipalId = PrincipalId("")
    history: History = "full"
    approval: bool = True
    approver: Approver = "person"
    opened_at: Millis = Millis(0)
    closed: bool = False
    owners: list[OwnerState] = []
    """Everybody who owned the room, in order; the last is the owner now."""
    owner_acted_at: Millis = Millis(0)
    """When the owner's person, or an agent of theirs, last said or decided something here, or their home said that it
    is there."""
    sealed: int = 0
    """What the room's messages are encrypted with for its members; 0 where they are not. It never changes."""
    contradicted: str = ""
    """In a mirror: in what the room's home contradicted itself; empty while it did not."""


SEALED_KINDS: Final = frozenset({"session", "channel", "dm", "service"})
"""The kinds of rooms that may be sealed."""


def place_of(room: LifecycleState) -> Place:
    """What has to stand in what is signed about the room's epochs."""
    return Place(room.home, room.room, room.sealed, room.history, room.owner_principal, room.kind == "service")


def require_open(room: LifecycleState) -> None:
    """Raise `Refused(room_closed)` if the room is over."""
    if room.closed:
        raise Refused("room_closed")


NEW_LOG: Final = "log"
"""In what a home contradicted itself that keeps another log than before: it has none of its rooms any more. That is no
lie: its disk was lost, or its person began anew. So a room of the old log is called an archive, and nobody is
accused."""


OLDER_COPY: Final = "behind"
"""In what a home contradicted itself that holds less of a room than it told of it. An older copy of its store was put
in place, or it hides what it has: nobody can tell from outside, so the state says what is missing, and accuses
nobody. It ends when the owner's person lets the room go on from what the home holds (`rewinds`)."""

DELETED: Final = "deleted"
"""In what a home contradicted itself that says that the room was deleted by the person whose agent owns it. That is no
lie either. What is here stays to be read: nobody elsewhere takes anything away from this machine."""

KEY_COPIED: Final = "key"
"""In what a home contradicted itself where it showed this home an epoch record that bears the signature of this home's
person, and that this home did not make. The home need not have lied: somebody else has the person's key."""

_CODES: Final = {
    KEY_COPIED: "key_used_elsewhere",
    NEW_LOG: "room_archived",
    OLDER_COPY: "relay_rolled_back",
    DELETED: "room_deleted",
}
"""The codes of the errors that mean something else than a lie."""


def alarm(room: LifecycleState) -> str | None:
    """The code of the error that says why nothing more is said or decided in this room, though it was not closed; None
    where nothing is wrong."""
    if not room.contradicted:
        return None
    return _CODES.get(room.contradicted, "relay_equivocation")


def require_sound(room: LifecycleState) -> None:
    """Raise `Refused`, with the code that `alarm` gives, if the room's home contradicted itself: nothing more is said
    or decided there, because nobody knows who would hear it."""
    if (code := alarm(room)) is not None:
        raise Refused(code, what=room.contradicted)


class Lifecycle(Facet[LifecycleState]):
    """Opens a room. `membership` decides `CloseRoom`, because a member who does not own the room leaves it by that
    command."""

    __slots__ = ()

    def _open(self, command: c.OpenRoom, by: By, now: Millis, ids: Ids) -> Decision:
        if self.state.room:
            if command.gives is None and by.actor != self.state.owner:
                raise Refused("no_such_room")
            return replayed(command) or Decision(answer="exists")
        opening, terms = command.opening, command.terms
        if command.gives is None:
            self._require_own(command, by)
        else:
            self._require_granted(command, by, now)
        events: list[e.Event] = [
            e.RoomOpened(
                room=command.room,
                home=opening.home,
                kind=opening.kind,
                owner=opening.owner,
                owner_principal=opening.principal,
                history=opening.history,
                approval=opening.approval,
                approver=opening.approver,
                sealed=sealed_with(opening),
            ),
            e.MemberJoined(
                agent=opening.owner,
                principal=opening.principal,
                handle=agent_name(opening.handle),
                host=opening.host,
            ),
        ]
        if command.gives is not None:
            handle = first_free(agent_name(command.gives.name), (opening.handle,))
            events.append(
                e.MemberJoined(agent=by.actor, principal=by.principal, handle=handle, host="", given=command.gives)
            )
        if command.epoch is not None:
            events.append(self._first_epoch(command.epoch, opening, command.room, terms))
        if terms is not None:
            events.append(
                e.KeyMinted(
                    key=command.mint,
                    ref=terms.ref,
                    gated=terms.gated,
                    expires_at=terms.expires_at,
                    max_uses=terms.max_uses,
                    preapproved=terms.preapproved,
                )
            )
        if command.recap:
            events.append(self._recap(command, by, ids))
        return Decision(
            tuple(events),
            statements=(
                opening,
                None,
                *(() if command.epoch is None else (None,)),
                *(each for each in (command.grant, terms) if each is not None),
            ),
            authority="owner",
            seq=Seq(1) if command.recap else Seq(0),
        )

    @staticmethod
    def _first_epoch(epoch: c.NewEpoch, opening: Opening, room: RoomId, terms: KeyTerms | None) -> e.EpochTurned:
        """The epoch with which a sealed room begins. That of a direct room may hold the agent that the owner's terms
        name, which comes in later: so it reads what was written to it, though the owner's machine is off by then."""
        owner = Claim(opening.owner, opening.principal, opening.handle)
        place = Place(opening.home, room, sealed_with(opening), opening.history, opening.principal)
        ahead = () if terms is None or opening.kind != "dm" else terms.preapproved
        return turned(epoch, NO_EPOCH, place, {opening.owner: owner}, ahead)

    def _recap(self, command: c.OpenRoom, by: By, ids: Ids) -> e.MessagePosted:
        """The first message. An owner elsewhere chooses its id and a counter, and nothing else."""
        finished = command.envelope
        id = MessageId(ids.new("m")) if finished is None else finished.id
        counter = 1 if finished is None else finished.counter
        # The home of a sealed room is told no kind of its members' own, and so not that this is the recap.
        kind = OTHER if command.epoch is not None and finished is not None else "context"
        recap = e.MessagePosted(
            id=id,
            kind=kind,
            chain=root_chain(id),
            counter=counter,
            opening=True,
            envelope_v=SIGNED if command.epoch is None else SEALED,
        )
        if finished is not None:
            wrong = contradiction(command.room, command.idempotency_key or "", by, recap, finished)
            if wrong is None and command.epoch is not None:
                part = sealed_part(finished)
                wrong = None if (part.epoch, part.record) == (1, command.epoch.digest) else "record"
            if wrong is None and (finished.previous or command.is_id_taken):
                wrong = "previous" if finished.previous else "id"
            if wrong is not None:
                raise Refused("envelope_refused", what=wrong)
        return recap

    def _require_own(self, command: c.OpenRoom, by: By) -> None:
        """Refuse an opening by anybody but the room's owner, and a key that is not this room's."""
        opening, terms = command.opening, command.terms
        wrong = {
            "owner": opening.owner != by.actor,
            "principal": opening.principal != by.principal,
            "granted": opening.granted is not msgspec.UNSET,
            "kind": (opening.kind == "private") is not (terms is None),
            "max_uses": opening.kind == "dm" and terms is not None and terms.max_uses != 1,
            "home": terms is not None and terms.home != opening.home,
            "room": terms is not None and terms.room != command.room,
            "gated": terms is not None and terms.gated != opening.approval,
            "sealed": (opening.sealed is not msgspec.UNSET) is not (command.epoch is not None),
            # The card of the first epoch holds it, and this home reads none of it.
            "title": (opening.sealed is not msgspec.UNSET) is not (command.title is None),
        }
        if opening.sealed is not msgspec.UNSET and opening.kind not in SEALED_KINDS:
            raise Refused("sealed_room")
        for what, is_wrong in wrong.items():
            if is_wrong:
                raise Refused("statement_refused", what=what)

    def _require_granted(self, command: c.OpenRoom, by: By, now: Millis) -> None:
        """Refuse an opening that does not follow from the grant of whoever opens the room. How many rooms there are of
        it, its token counts."""
        opening, grant, gives = command.opening, command.grant, command.gives
        if grant is None or gives is None or opening.granted is msgspec.UNSET:
            raise Refused("statement_refused", what="granted")
        if opening.sealed is not msgspec.UNSET:
            # Such an agent has no key by which it could be given the room's secrets.
            raise Refused("sealed_room")
        wrong = {
            "granted": digest_of(opening.granted.grant) != gives.grant,
            "names": not is_named(grant, gives.name),
            "owner": by.actor != agent_of(gives.grant, gives.name),
            "principal": opening.principal != by.principal,
            "terms": command.terms is not None or command.recap,
        }
        what = next((what for what, is_wrong in wrong.items() if is_wrong), None) or opens_wrongly(opening, grant)
        if what is not None:
            raise Refused("statement_refused", what=what)
        if now >= grant.not_after:
            raise Refused("token_invalid")

    def _opened(self, event: e.RoomOpened, header: e.Header) -> None:
        state = self.state
        state.room, state.home, state.kind = event.room, event.home, event.kind
        state.name, state.topic = event.name, event.topic
        state.owner, state.owner_principal = event.owner, event.owner_principal
        state.history, state.approval, state.approver = event.history, event.approval, event.approver
        state.sealed = event.sealed
        state.opened_at = state.owner_acted_at = header.at
        state.owners = [OwnerState(event.owner_principal, event.owner, header.position)]

    def _changed_hands(self, event: e.OwnerChanged, header: e.Header) -> None:
        state = self.state
        state.owner, state.owner_principal = event.owner, event.principal
        state.owner_acted_at = header.at
        state.owners.append(
            OwnerState(event.principal, event.owner, header.position, event.taken, event.record, header.at)
        )

    def _acted(self, event: e.MessagePosted | e.JoinApproved | e.JoinDenied | e.KeyMinted, header: e.Header) -> None:
        if header.by.principal == self.state.owner_principal:
            self.state.owner_acted_at = header.at

    def _lined(self, event: e.OwnerLineTold, header: e.Header) -> None:
        self.state.owner_acted_at = header.at

    def _of_two(self, event: e.OwnerChanged, header: e.Header) -> tuple[Topic, ...]:
        """Whoever looks at the room, and the persons who look at the requests of their rooms."""
        persons = dict.fromkeys(owner.principal for owner in self.state.owners[-2:])
        return topics.life(self.state.room), *map(topics.requests, persons)

    def _titled(self, event: e.RoomOpened | e.RoomTitled, body: bytes) -> None:
        title = title_of(body)
        if title is not None:
            self.state.name, self.state.topic = title.name, title.topic

    def _closed(self, event: e.RoomClosed, header: e.Header) -> None:
        self.state.closed = True

    def _contradicted(self, event: e.HomeContradicted, header: e.Header) -> None:
        self.state.contradicted = self.state.contradicted or event.what

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        if self.state.contradicted == OLDER_COPY:
            self.state.contradicted = ""

    def _alarm(self, event: e.HomeContradicted, header: e.Header) -> tuple[Topic, ...]:
        return (topics.life(self.state.room),)

    def _over(self, event: e.RoomClosed, header: e.Header) -> tuple[Topic, ...]:
        return topics.life(self.state.room), topics.requests(self.state.owner_principal)

    DECIDES = (decides(c.OpenRoom, _open),)
    APPLIES = (
        applies(e.RoomOpened, _opened),
        applies(e.RoomClosed, _closed),
        applies(e.OwnerChanged, _changed_hands),
        applies(e.OwnerLineTold, _lined),
        applies(e.MessagePosted, _acted),
        applies(e.JoinApproved, _acted),
        applies(e.JoinDenied, _acted),
        applies(e.KeyMinted, _acted),
        applies(e.HomeContradicted, _contradicted),
        applies(e.RoomRewound, _rewound),
    )
    READS = (reads(e.RoomOpened, _titled), reads(e.RoomTitled, _titled))
    TOUCHES = (
        touches(e.RoomOpened, nobody),
        touches(e.RoomTitled, nobody),
        touches(e.RoomClosed, _over),
        touches(e.OwnerChanged, _of_two),
        touches(e.HomeContradicted, _alarm),
    )
