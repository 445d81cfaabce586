"""The epochs of a sealed room: who can read what is said, from where on.

    somebody comes in, leaves, or has a fresh key  -->  it waits  -->  a record of the owner's person  -->  it is so

A record comes beside the decision that it carries out, or alone, for what waited. Until a record holds it, an agent
that came in is a member and is shown no message. Until a record leaves it out, an agent that left could read what its
home still got to see, and everybody can see since when that waits.

A direct room waits for the agent that its owner wrote to. The first record may hold that agent before it comes in.

Not here: which records a room takes (`turning`), who may be shown a message (`membership`, `messages`), and the bytes,
signatures and secrets (`epoch_record`, `identity.epochs`). Above: `room`. Below: `turning`, the states of other facets.
Invariant: of everybody who is in and not in the roster, and of everybody who left and is in it still, the state says
since when.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.approvals import ApprovalsState, opened_for
from parlerd.core.decision import Decision
from parlerd.core.envelope import OPENED, RELEASED, SEALED
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import LifecycleState, place_of, require_open, require_sound
from parlerd.core.membership import MembershipState, claims_of, newest_number
from parlerd.core.model import AgentId, By, Ids, Millis
from parlerd.core.topics import Topic
from parlerd.core.turning import EpochsState, ToldKey, begun

LINE_MS: Final = 12 * 3_600_000
"""The home of an owner says that it is there once a day; more often than twice it is not noted, so that nobody's log
grows by it."""


class Waiting(NamedTuple):
    """What a next record would change."""

    entering: tuple[AgentId, ...]
    """Who is in, told a key, and is in no roster yet."""
    leaving: tuple[AgentId, ...]
    """Who is in the roster and not in the room any more."""
    fresh: tuple[AgentId, ...]
    """Who is in the roster with an older key than it told."""
    rewound: bool
    """Whether the room was rewound, and says nothing until a record says who can read."""
    since: Millis
    """Since when the first of all that waits."""


class Epochs(Facet[EpochsState]):
    """Begins epochs that belong to no decision of their moment, and knows what waits for one."""

    __slots__ = ("_approvals", "_lifecycle", "_membership")

    def __init__(
        self, state: EpochsState, lifecycle: LifecycleState, membership: MembershipState, approvals: ApprovalsState
    ) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._membership = membership
        self._approvals = approvals

    def waiting(self) -> Waiting | None:
        """What waits for the next record; None where nothing does, and in a room that is not sealed."""
        state = self.state
        fresh = {
            agent: told.at
            for agent, told in state.told.items()
            if agent in state.roster and agent not in state.leaving and told.counter > state.roster[agent].counter
        }
        entering = {agent: since for agent, since in state.entering.items() if agent in state.told}
        rewound = [state.rewound] if state.rewound else []
        since = [*entering.values(), *state.leaving.values(), *fresh.values(), *rewound]
        if not since:
            return None
        return Waiting(
            tuple(sorted(entering)), tuple(sorted(state.leaving)), tuple(sorted(fresh)), bool(rewound), min(since)
        )

    def pending_since(self) -> Millis:
        """Since when somebody is in who cannot read, or out who could; 0 where the roster is who is in."""
        rewound = [self.state.rewound] if self.state.rewound else []
        return min([*self.state.entering.values(), *self.state.leaving.values(), *rewound], default=Millis(0))

    def unheld_keys(self) -> list[AgentId]:
        """Who told a key here that no record holds: whoever is in, or knocks, with a key or with a fresh one."""
        roster = self.state.roster
        return [
            agent
            for agent, told in self.state.told.items()
            if agent not in roster or told.counter > roster[agent].counter
        ]

    # -- deciding ------------------------------------------------------------------------------------------

    def _turn(self, command: c.TurnEpoch, by: By, now: Millis, ids: Ids) -> Decision:
        require_open(self._lifecycle)
        require_sound(self._lifecycle)
        if command.epoch.digest == self.state.record:
            # The answer to the first was lost.
            return Decision(answer="turned")
        present = claims_of(self._membership.members)
        events = begun(command.epoch, command.principal, self.state, place_of(self._lifecycle), present)
        return Decision(events, authority="person", answer="turned")

    def _name(self, command: c.NameSuccessor, by: By, now: Millis, ids: Ids) -> Decision:
        room, state, person = self._lifecycle, self.state, command.person
        if command.principal != room.owner_principal:
            raise Refused("not_owner")
        require_open(room)
        require_sound(room)
        if not state.number:
            raise Refused("not_sealed")
        if room.kind == "dm":
            raise Refused("invalid_param", "A room of two has nobody who could go on in it alone.", param="room")
        if person == room.owner_principal:
            raise Refused("invalid_param", "You own this room: name another person.", param="person")
        if person and all(entry.principal != person or entry.requester for entry in state.roster.values()):
            raise Refused("not_sealed_in", "No agent of that person can read this room.")
        is_own = state.number > room.owners[-1].record
        return Decision(answer="nothing" if is_own and state.successor == person else "names")

    def _tell_line(self, command: c.TellOwnerLine, by: By, now: Millis, ids: Ids) -> Decision:
        room, said, state = self._lifecycle, command.statement, self.state
        if command.principal != room.owner_principal:
            raise Refused("not_owner")
        require_open(room)
        require_sound(room)
        if not state.number:
            raise Refused("not_sealed")
        for what, is_wrong in (("home", said.home != room.home), ("room", said.room != room.room)):
            if is_wrong:
                raise Refused("statement_refused", what=what)
        if (said.record, said.digest) != (state.number, state.record):
            raise Refused("stale_epoch", number=state.number, what="record")
        if said.public > newest_number(self._membership):
            # This home went back to before it. What is there no more is for the rewind to say.
            raise Refused("statement_refused", what="public")
        if said.at < state.heard + LINE_MS:
            return Decision(answer="told")
        event = e.OwnerLineTold(record=said.record, public=said.public, made_at=said.at)
        return Decision((event,), statements=(said,), authority="person", answer="told")

    # -- becoming ------------------------------------------------------------------------------------------

    def _joined(self, event: e.MemberJoined, header: e.Header) -> None:
        if not self._lifecycle.sealed:
            return
        self.state.leaving.pop(event.agent, None)
        if event.waits or event.agent not in self.state.roster:
            self.state.entering.setdefault(event.agent, header.at)

    def _left(self, event: e.MemberLeft, header: e.Header) -> None:
        self.state.entering.pop(event.agent, None)
        if event.agent in self.state.roster:
            self.state.leaving.setdefault(event.agent, header.at)

    def _told(self, event: e.SealingKeyTold, header: e.Header) -> None:
        self.state.told[event.agent] = ToldKey(event.key, event.counter, header.at, header.position)

    def _turned(self, event: e.EpochTurned, header: e.Header) -> None:
        state, members = self.state, self._membership.members
        state.number, state.record, state.at = event.number, event.record, header.at
        state.used, state.successor = 0, event.successor
        # What was signed before by a clock that was ahead counts no longer.
        state.heard = event.made_at
        state.turned.append((event.number, header.position))
        if state.signers[-1:] != [header.by.principal]:
            state.signers.append(header.by.principal)
        before = set(state.roster)
        if event.anew:
            state.roster.clear()
        for agent in event.removed:
            state.roster.pop(agent, None)
        state.roster.update(event.added)
        out = {**state.out, **dict.fromkeys(sorted(before - state.roster.keys()), header.position)}
        state.out = {agent: at for agent, at in out.items() if agent not in state.roster}
        inside = {agent for agent, member in members.items() if member.present}
        entering, leaving = inside - state.roster.keys(), state.roster.keys() - inside - self._awaited()
        state.entering = {agent: state.entering.get(agent, header.at) for agent in sorted(entering)}
        state.leaving = {agent: state.leaving.get(agent, header.at) for agent in sorted(leaving)}
        if not entering and not leaving:
            state.rewound = Millis(0)

    def _awaited(self) -> set[AgentId]:
        """Whom a direct room waits for: the agent that the owner's terms name, before it first came in."""
        named = opened_for(self._lifecycle, self._approvals.keys.values())
        return {agent for agent in named if agent not in self._membership.members}

    def _minted(self, event: e.KeyMinted, header: e.Header) -> None:
        """The first record of a direct room stands before the terms that name whom it waits for."""
        if self._lifecycle.kind == "dm":
            for agent in set(event.preapproved) - self._membership.members.keys():
                self.state.leaving.pop(agent, None)

    def _lined(self, event: e.OwnerLineTold, header: e.Header) -> None:
        self.state.heard, self.state.lined = max(self.state.heard, event.made_at), header.position

    def _changed_hands(self, event: e.OwnerChanged, header: e.Header) -> None:
        self.state.heard, self.state.lined = Millis(0), 0

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        if event.envelope_v in (SEALED, OPENED) or (event.envelope_v == RELEASED and self._lifecycle.sealed):
            self.state.used += 1

    def _went_back(self, event: e.RoomRewound, header: e.Header) -> None:
        """The home may have lost the newest records, and knows of nobody who was put out by them. So nothing is said
        until a record was told after it: the lost ones once more, or another."""
        if self._lifecycle.sealed:
            self.state.rewound = header.at

    def _seen(self, event: e.EpochTurned, header: e.Header) -> list[Topic]:
        """Who looks at the room, and those who can read from now on."""
        return [topics.life(self._lifecycle.room), *(topics.memberships(agent) for agent, _ in event.added)]

    def _noted(self, event: e.SealingKeyTold, header: e.Header) -> tuple[Topic, ...]:
        """Whose machine makes the next record."""
        return (topics.requests(self._lifecycle.owner_principal), topics.life(self._lifecycle.room))

    def _shows(self, event: e.OwnerLineTold, header: e.Header) -> tuple[Topic, ...]:
        return (topics.life(self._lifecycle.room),)

    DECIDES = (decides(c.TurnEpoch, _turn), decides(c.TellOwnerLine, _tell_line), decides(c.NameSuccessor, _name))
    APPLIES = (
        applies(e.MemberJoined, _joined),
        applies(e.MemberLeft, _left),
        applies(e.SealingKeyTold, _told),
        applies(e.EpochTurned, _turned),
        applies(e.KeyMinted, _minted),
        applies(e.OwnerLineTold, _lined),
        applies(e.OwnerChanged, _changed_hands),
        applies(e.MessagePosted, _posted),
        applies(e.RoomRewound, _went_back),
    )
    TOUCHES = (
        touches(e.EpochTurned, _seen),
        touches(e.SealingKeyTold, _noted),
        touches(e.OwnerLineTold, _shows),
    )
