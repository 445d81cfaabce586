"""The home room: the log of one home's own facts, decided and applied as the facts of any room are.

Not here: messages. Nobody posts or reads in the home room and no surface shows it as a room, so it has no reader's
numbers and no author's envelopes. Above: the engine. Below: `identities` (agents, and what leads to them), `naming`
(rooms by name, active sessions), `directory` (the cards of agents), `direct_keys` (the keys of those who are written
to), `attention` (what begins their turns), `pairs` (the rooms of two agents), `loops` (how many turns began without a
person), `limits` (how much is kept of single rooms), `tokens` (who acts as an agent over HTTP), `watch_codes` (who
looks on in a browser) and `enrolment` (who may open links), each with its state and its rules; `facets` puts them
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final, get_args

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import facets
from parlerd.core.attention import AttentionRules, AttentionState
from parlerd.core.direct_keys import DirectKeys, DirectKeysState
from parlerd.core.directory import Directory, DirectoryState, Listed
from parlerd.core.enrolment import Enrolment, EnrolmentState, Person
from parlerd.core.identities import AgentRecord, Identities, IdentitiesState
from parlerd.core.limits import Limits, LimitsState
from parlerd.core.loops import Loops, LoopsState
from parlerd.core.model import AgentId, PrincipalId, RoomId
from parlerd.core.naming import Naming, NamingState
from parlerd.core.pairs import Pairs, PairsState
from parlerd.core.tokens import Tokens, TokensState
from parlerd.core.watch_codes import WatchCodes, WatchCodesState

FOLD_VERSION: Final = 12
"""Raise this number when the state's shape changes, or the state that a log folds to, as the one in `room`."""


class HomeState(facets.Folded):
    """Everything folded from the home room's log. Each field belongs to one facet, which alone changes it. Readers use
    the properties, and need not know which facet keeps a value."""

    identities: IdentitiesState = msgspec.field(default_factory=IdentitiesState)
    naming: NamingState = msgspec.field(default_factory=NamingState)
    enrolment: EnrolmentState = msgspec.field(default_factory=EnrolmentState)
    directory: DirectoryState = msgspec.field(default_factory=DirectoryState)
    direct_keys: DirectKeysState = msgspec.field(default_factory=DirectKeysState)
    attention: AttentionState = msgspec.field(default_factory=AttentionState)
    pairs: PairsState = msgspec.field(default_factory=PairsState)
    loops: LoopsState = msgspec.field(default_factory=LoopsState)
    limits: LimitsState = msgspec.field(default_factory=LimitsState)
    tokens: TokensState = msgspec.field(default_factory=TokensState)
    watch_codes: WatchCodesState = msgspec.field(default_factory=WatchCodesState)

    @property
    def agents(self) -> Mapping[AgentId, AgentRecord]:
        return self.identities.agents

    @property
    def active(self) -> Mapping[AgentId, RoomId]:
        return self.naming.active

    @property
    def people(self) -> Mapping[PrincipalId, Person]:
        return self.enrolment.people

    @property
    def room_names(self) -> Mapping[AgentId, Mapping[str, RoomId]]:
        return self.naming.room_names


class HomeRoom(facets.Aggregate[HomeState]):
    """The home room's rules over its folded state."""

    fold_version: int = FOLD_VERSION
    gives_receipts: bool = False
    RULES: ClassVar = facets.compose(
        (
            Identities,
            Naming,
            Enrolment,
            Directory,
            DirectKeys,
            AttentionRules,
            Pairs,
            Loops,
            Limits,
            Tokens,
            WatchCodes,
        ),
        commands=get_args(c.HomeCommand),
        events=get_args(e.HomeEvent),
    )

    def __init__(self, state: HomeState | None = None) -> None:
        state = state or HomeState()
        self._identities: Final = Identities(state.identities)
        self._directory: Final = Directory(state.directory)
        self.direct_keys: Final = DirectKeys(state.direct_keys)
        self.attention: Final = AttentionRules(state.attention, state.identities)
        self.pairs: Final = Pairs(state.pairs, state.identities)
        self.loops: Final = Loops(state.loops)
        self.limits: Final = Limits(state.limits)
        self.tokens: Final = Tokens(state.tokens)
        self.watch_codes: Final = WatchCodes(state.watch_codes)
        super().__init__(
            state,
            self._identities,
            Naming(state.naming, self.tokens),
            Enrolment(state.enrolment),
            self._directory,
            self.direct_keys,
            self.attention,
            self.pairs,
            self.loops,
            self.limits,
            self.tokens,
            self.watch_codes,
        )

    @classmethod
    def restore(cls, data: bytes) -> HomeRoom:
        """The home room that a call of `snapshot` encoded. Raises `msgspec.DecodeError` for other bytes."""
        return cls(msgspec.msgpack.decode(data, type=HomeState))

    def by_name(self, name: str) -> AgentRecord | None:
        """The agent of that name; names are unique in a home."""
        return self._identities.by_name(name)

    def by_seat(self, host: str, workspace: str, slot: int) -> AgentRecord | None:
        """The agent that was made for (host, workspace, slot), if one was."""
        return self._identities.by_seat(host, workspace, slot)

    def by_conversation(self, host: str, conversation: str, place: int) -> AgentRecord | None:
        """The agent of a conversation: at place 0 the first window that has the conversation open, from place 1 on the
        windows beside it."""
        return self._identities.by_conversation(host, conversation, place)

    def is_bound(self, agent: AgentId) -> bool:
        """Whether some conversation leads to this agent."""
        return self._identities.is_bound(agent)

    def card_of(self, agent: AgentId) -> Listed | None:
        """The card of an agent that has one."""
        return self._directory.of(agent)

    def cards(self) -> Iterator[Listed]:
        """Every agent's card."""
        return self._directory.all()

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted-2` and so on when it is taken or a reserved word."""
        return self._identities.free_name(wanted)
