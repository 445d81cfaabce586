"""A room: the facets that it is made of, and what a reader asks of it.

`decide` takes a command, who asks, the time and a source of ids, and gives events or raises `Refused`; it changes
nothing. `apply` takes a committed fact and cannot fail. Neither reads a clock or draws randomness, so the same inputs
give the same events everywhere. A room in memory holds members, keys, requests and counters, and no messages.

Not here: any rule. Above: the engine, which looks up what `decide` needs of the past and commits what it gives. Below:
`lifecycle`, `membership`, `epochs`, `approvals`, `messages`, `memory`, `rewinds`, `mirror`, `handoff`, `claims`,
`retention`, `state`, `actions` and `modules`, each with its state and its rules; `facets` puts them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, get_args

import msgspec

from parlerd.core import approvals, facets, membership
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.actions import Actions
from parlerd.core.approvals import Approvals, ApprovalsState, KeyState, Request
from parlerd.core.claims import Claims, ClaimsState
from parlerd.core.decision import Decision
from parlerd.core.entries import EntriesState
from parlerd.core.epochs import Epochs
from parlerd.core.errors import Refused
from parlerd.core.gated import Gated
from parlerd.core.handoff import Handoffs, HandoffState, Offers
from parlerd.core.lifecycle import Lifecycle, LifecycleState, alarm
from parlerd.core.membership import Member, Membership, MembershipState
from parlerd.core.memory import Memory, MemoryState
from parlerd.core.messages import Messages, MessagesState
from parlerd.core.mirror import Mirror, MirrorState
from parlerd.core.model import (
    AgentId,
    Approver,
    By,
    History,
    HomeId,
    Ids,
    KeyId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
    RoomKind,
    Seq,
    Shown,
    View,
)
from parlerd.core.modules import Modules
from parlerd.core.resolver import Asker, Counted, Resolver
from parlerd.core.retention import Retention, RetentionState
from parlerd.core.rewinds import Rewinds, RewindsState
from parlerd.core.seen import Presences
from parlerd.core.state import Entries, require_enabled
from parlerd.core.turning import EpochsState
from parlerd.core.words import TASK

FOLD_VERSION: Final = 19
"""Raise this number when the state's shape changes, or the state that a log folds to: snapshots of another version are
thrown away, and rooms replay their logs. `tests/core/test_folding.py` fails when you forget it."""


class RoomState(facets.Folded):
    """Everything folded from a room's log, which is what a snapshot holds. Each field belongs to one facet, which alone
    changes it. Readers use the properties, and need not know which facet keeps a value."""

    lifecycle: LifecycleState = msgspec.field(default_factory=LifecycleState)
    membership: MembershipState = msgspec.field(default_factory=MembershipState)
    epochs: EpochsState = msgspec.field(default_factory=EpochsState)
    approvals: ApprovalsState = msgspec.field(default_factory=ApprovalsState)
    messages: MessagesState = msgspec.field(default_factory=MessagesState)
    memory: MemoryState = msgspec.field(default_factory=MemoryState)
    rewinds: RewindsState = msgspec.field(default_factory=RewindsState)
    mirror: MirrorState = msgspec.field(default_factory=MirrorState)
    handoffs: HandoffState = msgspec.field(default_factory=HandoffState)
    claims: ClaimsState = msgspec.field(default_factory=ClaimsState)
    retention: RetentionState = msgspec.field(default_factory=RetentionState)
    entries: EntriesState = msgspec.field(default_factory=EntriesState)

    @property
    def room(self) -> RoomId:
        return self.lifecycle.room

    @property
    def home(self) -> HomeId:
        """Where the room lives."""
        return self.lifecycle.home

    @property
    def kind(self) -> RoomKind:
        return self.lifecycle.kind

    @property
    def name(self) -> str:
        return self.lifecycle.name

    @property
    def topic(self) -> str:
        return self.lifecycle.topic

    @property
    def owner(self) -> AgentId:
        return self.lifecycle.owner

    @property
    def owner_principal(self) -> PrincipalId:
        return self.lifecycle.owner_principal

    @property
    def shown(self) -> Shown:
        """Up to where somebody was shown the room who was shown all of its public messages."""
        return self.messages.shown

    @property
    def history(self) -> History:
        return self.lifecycle.history

    @property
    def approver(self) -> Approver:
        return self.lifecycle.approver

    @property
    def opened_at(self) -> Millis:
        return self.lifecycle.opened_at

    @property
    def closed(self) -> bool:
        return self.lifecycle.closed

    @property
    def alarm(self) -> str | None:
        """The code of the error that says why nothing more is said here; see `lifecycle.alarm`."""
        return alarm(self.lifecycle)

    @property
    def contradicted(self) -> str:
        return self.lifecycle.contradicted

    @property
    def offers(self) -> Offers:
        """The offers of the turn that were made here."""
        return Offers(self.handoffs, self.membership, self.rewinds)

    @property
    def epoch(self) -> int:
        """How often the room was rewound, at least: see `rewinds`."""
        return self.rewinds.epoch

    @property
    def is_sealed(self) -> bool:
        """Whether the room's home cannot read what is said in it."""
        return self.lifecycle.sealed > 0

    @property
    def members(self) -> Mapping[AgentId, Member]:
        return self.membership.members

    @property
    def opening(self) -> Position:
        return self.membership.opening

    @property
    def keys(self) -> Mapping[KeyId, KeyState]:
        return self.approvals.keys

    @property
    def requests(self) -> Mapping[RequestId, Request]:
        return self.approvals.requests


class Room(facets.Aggregate[RoomState]):
    """One room's rules over its folded state."""

    fold_version: int = FOLD_VERSION
    RULES: ClassVar = facets.compose(
        (
            Lifecycle,
            Membership,
            Epochs,
            Approvals,
            Messages,
            Memory,
            Rewinds,
            Mirror,
            Handoffs,
            Claims,
            Retention,
            Gated,
            Entries,
            Actions,
            Modules,
        ),
        commands=get_args(c.RoomCommand),
        events=get_args(e.RoomEvent),
    )

    def __init__(self, state: RoomState | None = None) -> None:
        state = state or RoomState()
        life, members = state.lifecycle, state.membership
        offers = state.offers
        self.epochs: Final = Epochs(state.epochs, life, members, state.approvals)
        """Who can read what is said in a sealed room."""
        self.claims: Final = Claims(state.claims, life, members, self._require_enabled)
        """The tasks of the room, and who has which."""
        self.entries: Final = Entries(state.entries, life, members, self.look)
        """The room's state."""
        self.actions: Final = Actions(self.entries, life, members, self.look)
        """The room's actions."""
        self.modules: Final = Modules(self.entries, life, members, self.look)
        """The room's modules, and what its agents say of themselves."""
        self.gated: Final = Gated(
            self.entries, life, members, self.claims, self.look, self.actions.may_invoke, state.epochs
        )
        """The messages that wait for something, or go with a timer."""
        super().__init__(
            state,
            Lifecycle(life),
            Membership(members, life, state.epochs),
            self.epochs,
            Approvals(state.approvals, life, members, state.entries.modules, state.epochs),
            Messages(
                state.messages, life, members, state.memory, offers, self.claims, self._require_enabled, state.epochs
            ),
            Memory(state.memory),
            Rewinds(state.rewinds, life, members, state.messages),
            Mirror(state.mirror, life, members, state.approvals, state.rewinds, state.memory, state.epochs),
            Handoffs(state.handoffs, offers),
            self.claims,
            Retention(state.retention, life, state.memory, offers, state.claims),
            self.gated,
            self.entries,
            self.actions,
            self.modules,
        )

    @classmethod
    def restore(cls, data: bytes) -> Room:
        """The room that a call of `snapshot` encoded. Raises `msgspec.DecodeError` for other bytes."""
        return cls(msgspec.msgpack.decode(data, type=RoomState))

    @property
    def gives_receipts(self) -> bool:
        """Whether this home gives receipts of the room: the home of the room does, and no other."""
        return not self.state.mirror.is_mirror

    def decide(self, command: c.Command, *, by: By, now: Millis, ids: Ids) -> Decision:
        member = self.state.members.get(by.actor)
        gives = None if member is None or isinstance(command, c.Arrive) else member.given
        # By the time of the fact that would follow, which readers hold against the grant.
        if gives is not None and now >= gives.until:
            raise Refused("token_invalid")
        return super().decide(command, by=by, now=now, ids=ids)

    def view(self, agent: AgentId) -> View:
        """What a present member may see. Raises `Refused(no_such_room)` for anyone else."""
        return membership.view_of(membership.present(self.state.members, agent))

    def look(self, agent: AgentId, now: Millis, presence: Presences) -> Resolver:
        """The room as a present member sees it at a moment. Raises `Refused(no_such_room)` for anyone else."""
        member = membership.present(self.state.members, agent)

        def counted() -> Counted:
            return Counted(self.newest_seq(agent), Counter(TASK for _ in self.claims.open_to(agent, now)))

        asker = Asker(agent, member.handle, counted, self.actions.may_invoke)
        return Resolver(self.entries.table, self.state.members, asker, now=now, presence=presence)

    def has_due(self, now: Millis) -> bool:
        """Whether something has run out, or was left over, and is a fact once somebody looks."""
        return bool(self.ran_out(now)) or self.gated.has_work

    def follow(self, now: Millis, ids: Ids) -> Iterable[facets.Follow]:
        return self.gated.follow(now, ids) if self.gated.has_work else ()

    def _require_enabled(self, agent: AgentId, now: Millis, presence: Presences) -> None:
        require_enabled(self.look(agent, now, presence))

    def newest_seq(self, agent: AgentId) -> Seq:
        """The number of the newest message that a present member may see. The store would count the same, slower."""
        return membership.newest_seq(self.state.membership, agent)

    def shown_upto(self, agent: AgentId) -> Position:
        """Up to where it is settled what a member is shown. A record of a sealed room lets one that waits see what was
        said since it left, where the history is for everyone: behind that nothing counts as read."""
        return membership.shown_upto(self.state.members[agent], self.position)

    def pending(self) -> list[Request]:
        """Requests that wait for a decision, oldest first."""
        return approvals.pending(self.state.requests)
