"""The mirror of a room that lives in another home: an ordinary log, written only from what that home told.

    elsewhere   Room.decide -> facts -> the relay -> a link -> Arrive -> Mirror -> the same facts, in this home's log

A mirror is folded by the facets of every room, so whoever reads or waits here need not know where the room lives. What
is asked of such a room is decided over its mirror and carried out by the room's home; the mirror changes when that home
tells that it was done. A mirror may begin in the middle of its room and leave out what came while nobody listened: the
fact `MirrorPlaced` says so; `membership` keeps each reader's numbers right, and `messages` the public line.

Not here: whether a signature, a line or a thread is right, which is checked before a fact arrives. Above: `room`.
Below: the states of the other facets. Invariant: `Arrive` changes no room that lives here, and it leads to no fact that
the other facets cannot fold.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import ApprovalsState
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.lifecycle import LifecycleState
from parlerd.core.membership import NOBODY, MembershipState, newest_number, told_seq
from parlerd.core.memory import MemoryState, Takes, told
from parlerd.core.model import AgentId, By, Ids, KeyId, Millis, RequestId
from parlerd.core.public_line import MAX_EPOCH, first_number
from parlerd.core.rewinds import RewindsState
from parlerd.core.turning import EpochsState


class MirrorState(msgspec.Struct):
    """`is_mirror` says whether this log is one."""

    is_mirror: bool = False


class Mirror(Facet[MirrorState]):
    """Takes in what another home told."""

    __slots__ = ("_approvals", "_epochs", "_lifecycle", "_membership", "_memory", "_rewinds")

    def __init__(
        self,
        state: MirrorState,
        lifecycle: LifecycleState,
        membership: MembershipState,
        approvals: ApprovalsState,
        rewinds: RewindsState,
        memory: MemoryState,
        epochs: EpochsState,
    ) -> None:
        super().__init__(state)
        self._epochs = epochs
        self._memory = memory
        self._lifecycle = lifecycle
        self._membership = membership
        self._approvals = approvals
        self._rewinds = rewinds

    def _arrive(self, command: c.Arrive, by: By, now: Millis, ids: Ids) -> Decision:
        begins = not self._lifecycle.room
        if begins:
            kinds = [type(event) for event in command.events[:2]]
            if kinds != [e.RoomOpened, e.MirrorPlaced]:
                raise Refused("relay_equivocation", what="opening")
        elif not self.state.is_mirror:
            raise Refused("no_such_room")
        known = _Known(self._lifecycle, self._membership, self._approvals, self._rewinds, self._epochs)
        for number, event in enumerate(command.events):
            wrong = known.wrong_with(event)
            if isinstance(event, e.MessagePosted) and event.id in command.taken:
                wrong = "id"
            if isinstance(event, e.RoomOpened) and not (begins and number == 0):
                wrong = "opening"
            if wrong is not None:
                raise Refused("relay_equivocation", what=wrong)
        events: list[e.RoomEvent] = []
        erases = command.erases
        for event in command.events:
            if isinstance(event, e.MessagePosted):
                is_owner = any(owner.agent == by.actor for owner in self._lifecycle.owners)
                takes = None if command.named is None else Takes(command.named, by.actor, is_owner)
                event, gone = told(self._memory, event, command.forgotten, takes)
                erases += gone
            events.append(event)
        return Decision(tuple(events), authority="arrived", at=command.at, erases=erases)

    def _placed(self, event: e.MirrorPlaced, header: e.Header) -> None:
        self.state.is_mirror = True

    DECIDES = (decides(c.Arrive, _arrive),)
    APPLIES = (applies(e.MirrorPlaced, _placed),)
    TOUCHES = (touches(e.MirrorPlaced, nobody),)


class _Known:
    """Who and what a room knows, while one event of a command after the other is looked at."""

    def __init__(
        self,
        lifecycle: LifecycleState,
        membership: MembershipState,
        approvals: ApprovalsState,
        rewinds: RewindsState,
        epochs: EpochsState,
    ) -> None:
        self._is_sealed = lifecycle.sealed > 0
        # The number of the newest epoch, and who is in its roster.
        self._turned, self._roster = epochs.number, {*epochs.roster}
        self._membership = membership
        self._approvals = approvals
        # What the events before brought that the room does not have yet.
        self._members: set[AgentId] = set()
        self._keys: set[KeyId] = set()
        self._requests: set[RequestId] = set()
        self._owned_from = lifecycle.owners[-1].record if lifecycle.owners else 0
        """After which record those of the newest owner begin, in a sealed room."""
        self._epoch = rewinds.epoch
        self._epochs = {each.epoch for each in rewinds.rewound}
        self._is_counted = True
        """Whether the numbers of the room's state still are those at the place where the next event stands."""

    def wrong_with(self, event: e.RoomEvent) -> str | None:
        """What keeps an event from being folded after those before it; None when nothing does."""
        match event:
            case e.MemberJoined(agent=agent, key=key):
                if key is not None and not self._has_key(key):
                    return "key"
                self._members.add(agent)
            case e.MemberLeft(agent=agent) | e.RoleGiven(agent=agent):
                return None if agent in self._membership.members or agent in self._members else "member"
            case e.OwnerChanged(record=record) if (record > 0) is not self._is_sealed or record < self._owned_from:
                return "record"
            case e.RoomOpened(sealed=sealed):
                self._is_sealed = sealed > 0
            case e.EpochTurned():
                return self._misturned(event)
            case e.SealingKeyTold() | e.OwnerLineTold() if not self._is_sealed:
                return "sealed"
            case e.OwnerChanged(owner=agent, record=record):
                self._owned_from = record
                # A sealed room's owner is who the owner before says, and is known before the members are.
                return (
                    None if self._is_sealed or agent in self._membership.members or agent in self._members else "member"
                )
            case e.KeyMinted(key=key):
                self._keys.add(key)
            case e.KeyRevoked(key=key):
                return None if self._has_key(key) else "key"
            case e.JoinRequested(request=request, key=key, given=given):
                # Who asks by a grant knocks with no key.
                if key if given is not None else not self._has_key(key):
                    return "key"
                self._requests.add(request)
            case (
                e.JoinApproved(request=request)
                | e.JoinDenied(request=request)
                | e.KeyExchanged(request=request)
                | e.KnockEnded(request=request)
            ):
                return None if request in self._approvals.requests or request in self._requests else "request"
            case e.MessagePosted():
                self._is_counted = False
            case e.MirrorPlaced():
                return self._misplaced(event)
            case e.RoomRewound():
                return self._misrewound(event)
            case _:
                pass
        return None

    def _has_key(self, key: KeyId) -> bool:
        return key in self._approvals.keys or key in self._keys

    def _misturned(self, event: e.EpochTurned) -> str | None:
        """A record follows the one before it, unless this log does not hold that one. None comes back."""
        if not self._is_sealed:
            return "sealed"
        if event.number <= self._turned or not (event.anew or event.number == self._turned + 1):
            return "record"
        if event.anew:
            self._roster = set()
        if not set(event.removed) <= self._roster:
            return "record"
        self._turned = event.number
        self._roster = (self._roster - {*event.removed}) | {agent for agent, _ in event.added}
        return None

    def _misplaced(self, event: e.MirrorPlaced) -> str | None:
        """Numbers never go back. A fact that follows a message of the same command could not be compared."""
        state = self._membership
        if not self._is_counted or event.public < newest_number(state):
            return "public"
        for agent, number in event.before:
            if agent not in state.members or number < told_seq(state, agent):
                return "before"
        return None

    def _misrewound(self, event: e.RoomRewound) -> str | None:
        """Each rewind begins an epoch after all before it, and goes back in the log that is there."""
        if not self._is_counted or not self._epoch < event.epoch <= MAX_EPOCH:
            return "epoch"
        if not set(event.holds) <= self._epochs:
            return "epoch"
        if not 0 <= event.public < first_number(event.epoch):
            return "public"
        known = {NOBODY, *self._membership.members}
        if any(agent not in known or number < 0 for agent, number in event.numbers):
            return "before"
        self._is_counted, self._epoch = False, event.epoch
        return None
