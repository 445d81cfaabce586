"""Where a room goes on after its home lost the newest part of it: when an older copy of the home's store was put in
place, the owner's person lets the room go on from what that copy holds.

    the home's log    1 ... n | rewound | 2**32+1 ...          the home lost n+1 ... m, and has no trace of them
    a mirror's log    1 ... n | n+1 ... m | rewound | 2**32+1 ...

The fact `RoomRewound` stands in both logs. In the home's log it follows the newest message that is left; in a mirror
it follows everything that the home had told, and says which of that the home has no more: those messages stay to be
read, and count as *lost by the home*. Each rewind begins an epoch of the room, in which public messages have numbers
that no message had before (`public_line`).

Not here: readers' own numbers (`membership`), the line and the threads (`messages`), and which facts of a mirror are
lost, which whoever writes a mirror finds out. Above: `mirror`, and whoever reads. Below: the states of the other
facets. Invariant: epochs grow, so no rewind happens twice, and a rewind names where the room stands.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import OLDER_COPY, LifecycleState, require_open
from parlerd.core.membership import MembershipState
from parlerd.core.messages import MessagesState
from parlerd.core.model import AgentId, By, Ids, Millis, Position, Shown
from parlerd.core.public_line import epoch_of, first_number
from parlerd.core.topics import Topic


class Rewound(msgspec.Struct, frozen=True, array_like=True):
    """One rewind, by the position of its fact in this log."""

    position: Position
    epoch: int
    public: int
    """The number of the newest public message that was left, and below the public line there."""
    line: bytes
    upto: Position
    """The newest fact of this log that the home still had."""
    counted: int
    """How many public messages this log held then."""


class Fallen(msgspec.Struct, frozen=True, array_like=True):
    """What the home still held when it was found to hold less than it told: the number of its newest public message,
    and the own number of each reader here. Others may have written there since."""

    number: int
    before: tuple[tuple[AgentId, int], ...]


class RewindsState(msgspec.Struct):
    """`rewound` are all rewinds, the oldest first, and `holds` the epochs of those that hold: one does not once the
    home went back to before it, and does again once the home went back to before that. `fallen` is set in a mirror
    that waits for a rewind."""

    rewound: list[Rewound] = []
    holds: list[int] = []
    fallen: Fallen | None = None

    @property
    def epoch(self) -> int:
        """The epoch that the room is in: 0 while it was never rewound."""
        return self.rewound[-1].epoch if self.rewound else 0

    @property
    def holding(self) -> list[Rewound]:
        """The rewinds that hold."""
        return [each for each in self.rewound if each.epoch in self.holds]

    def is_lost(self, position: Position) -> bool:
        """Whether the home has lost the fact at this position."""
        return any(each.upto < position < each.position for each in self.holding)

    def still_shown(self, shown: Shown) -> Shown:
        """How far somebody was shown the room, of what its home still has: what a message may say of its author."""
        for each in reversed(self.holding):
            if each.public < shown.number < first_number(each.epoch):
                shown = Shown(each.public, each.line)
        return shown

    def count_at(self, number: int) -> int:
        """How many public messages the home's own log holds up to the one with this number."""
        for each in reversed(self.rewound):
            if epoch_of(number) >= each.epoch:
                return each.counted + number - first_number(each.epoch)
        return number


class Rewinds(Facet[RewindsState]):
    """Lets a room go on from where it stands."""

    __slots__ = ("_lifecycle", "_membership", "_messages")

    def __init__(
        self, state: RewindsState, lifecycle: LifecycleState, membership: MembershipState, messages: MessagesState
    ) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._membership = membership
        self._messages = messages

    def _rewind(self, command: c.RewindRoom, by: By, now: Millis, ids: Ids) -> Decision:
        life, statement = self._lifecycle, command.statement
        if command.principal != life.owner_principal:
            raise Refused("not_owner")
        require_open(life)
        newest = self.state.rewound[-1] if self.state.rewound else None
        if newest is not None and (newest.epoch, newest.public, newest.line) == (
            statement.epoch,
            statement.public,
            statement.line,
        ):
            # The answer to the first was lost. Whatever was said since stays.
            return Decision(answer="rewound")
        wrong = {
            "home": statement.home != life.home,
            "room": statement.room != life.room,
            "epoch": statement.epoch <= self.state.epoch,
            "line": (statement.public, statement.line) != self._messages.shown,
        }
        for what, is_wrong in wrong.items():
            if is_wrong:
                raise Refused("statement_refused", what=what)
        event = e.RoomRewound(
            epoch=statement.epoch, public=statement.public, line=statement.line, holds=tuple(self.state.holds)
        )
        return Decision((event,), statements=(statement,), authority="person", answer="rewound")

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        state, upto = self.state, event.upto or Position(header.position - 1)
        state.rewound.append(
            Rewound(header.position, event.epoch, event.public, event.line, upto, self._membership.public)
        )
        state.holds, state.fallen = [*event.holds, event.epoch], None

    def _contradicted(self, event: e.HomeContradicted, header: e.Header) -> None:
        # A home that forgot all agents of a mirror's home tells nothing of the room, and so no number.
        if event.what == OLDER_COPY and event.before and self.state.fallen is None:
            self.state.fallen = Fallen(event.number, event.before)

    def _touched(self, event: e.RoomRewound, header: e.Header) -> tuple[Topic, ...]:
        return (topics.life(self._lifecycle.room),)

    DECIDES = (decides(c.RewindRoom, _rewind),)
    APPLIES = (applies(e.RoomRewound, _rewound), applies(e.HomeContradicted, _contradicted))
    TOUCHES = (touches(e.RoomRewound, _touched),)
