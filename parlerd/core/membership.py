"""Who is in a room, under which handle, and what each may see of its past.

Of messages this facet keeps only the counts from which a reader's own numbers follow, and the position of the recap.

Not here: who may come in (`approvals`). Above: `approvals` and `messages`, which read this state. Below: `lifecycle`.
Invariant: a handle is fixed when an agent first joins, and no other id ever gets it, even after the agent left; so an
address that names a handle always means the same agent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.grants import Given
from parlerd.core.lifecycle import LifecycleState, place_of, require_open, require_sound
from parlerd.core.model import (
    MAX_LABEL,
    AgentId,
    By,
    History,
    Ids,
    KeyId,
    Label,
    Millis,
    Position,
    PrincipalId,
    ReplyTarget,
    RequestId,
    Seq,
    View,
    first_free,
    role_name,
)
from parlerd.core.public_line import first_number
from parlerd.core.statements import MAX_TRANSFERS, Claim, Transfer, contradiction
from parlerd.core.topics import Topic
from parlerd.core.turning import EpochsState, begun, may_succeed

MAX_CANDIDATES: Final = 5
"""How many names a refusal suggests."""
REQUESTER: Final = "requester"
"""The role of a member that may ask for work and sees nothing of the room but what names it: what it asked for is the
workers' business, and what others ask for is none of its own."""
NOBODY: Final = AgentId("")
"""Whoever may see what is public, and nothing else."""
NO_END: Final = 2**53
"""Greater than every number of a message."""
MAX_COMPARED: Final = 32
"""How many names are compared with a wrong one; names that contain the wrong one go first. Comparing takes up to half a
millisecond for each name, and a refusal must stay cheap in a room of thousands."""


class Member(msgspec.Struct):
    """An agent that is or was in the room. `hidden`, `private` and the room's count of public messages together give
    the number of the newest message that the agent may see, without a look at the store."""

    agent: AgentId
    principal: PrincipalId
    handle: str
    host: str
    role: str
    joined_at: Millis
    """When the agent first came in."""
    spans: list[tuple[int, int | None]]
    """The ranges (after, upto] of positions whose public messages the agent may see; None stands for no end yet."""
    entered: int = 0
    """The position at which the agent last came in."""
    first: int = 0
    """The position at which it first came in, and below by which request or key."""
    request: RequestId | None = None
    key: KeyId | None = None
    present: bool = True
    """Whether the agent is in the room now."""
    hidden: int = 0
    """How many of the room's public messages lie outside `spans` so far."""
    private: int = 0
    """How many messages with a `visibility` name the agent."""
    left_at: int = 0
    """The room's count of public messages when the agent last left."""
    barred: bool = False
    """Whether the agent was put out, and nobody let it in again since."""
    given: Given | None = None
    """What the grant gives by which it came in; None for an agent that has a key."""
    gaps: list[tuple[int, int]] = []
    """In a mirror: (position, count) of messages that the agent may see and that this log leaves out there."""
    shifts: list[tuple[int, int, int]] = []
    """In a mirror of a room that was rewound: (epoch, number, shift). Since the rewind of this epoch, the agent's own
    numbers from `number` on are smaller by `shift` at the room's home, because the home gives the numbers of what it
    lost again. Those count whose rewind holds (`shifts_of`)."""
    locked: bool = False
    """Whether the role is the owner's word, and stays whatever the agent says when it comes in again."""
    left: int = 0
    """The position at which the agent last left."""
    waits: bool = False
    """Whether the agent is in a sealed room in which no epoch's record holds it yet: it is shown no message that came
    since it was last in."""
    asks: bool = False
    """Whether the agent only asks for work, and sees what names it. In a sealed queue the newest record that held the
    agent says so, and in any other the agent itself as it came in."""


def is_requester(member: Member) -> bool:
    """Whether the member sees only what names it."""
    return member.asks and not member.waits


def reads_on(member: Member) -> bool:
    """Whether the member sees what is public from now on, or will once it does not wait any more."""
    return bool(member.spans) and member.spans[-1][1] is None


class MembershipState(msgspec.Struct):
    """`public` counts the messages of this log that are for everyone; `opening` is the recap's position, 0 without
    one. `jumps` are (position, count) of such messages that a mirror leaves out. `moves` counts how often somebody came
    or went or was given a role, by which another home says how far it was told of that. `skipped` counts numbers of
    public messages that no message has, because the room was rewound; `shifts` are those of a reader who may see what
    is public, and nothing else; `holds` are the epochs of the rewinds that hold."""

    members: dict[AgentId, Member] = {}
    public: int = 0
    opening: Position = Position(0)
    jumps: list[tuple[int, int]] = []
    moves: int = 0
    skipped: int = 0
    shifts: list[tuple[int, int, int]] = []
    holds: list[int] = []


def role_on_coming(before: Member | None, role: str, *, sees_named: bool) -> str:
    """The role of an agent that comes in and says that it has this `role`; an empty one says nothing. `before` is the
    agent as it was here before, None for one who never was. An agent has the role that it said last, unless the owner
    locked another. That it only asks for work (`sees_named`) is no role of one who did more here, and ends as a role
    once the agent does more."""
    if before is None:
        return role
    if before.locked or sees_named:
        return before.role
    only_asked = is_requester(before) and before.role == REQUESTER
    return role if role or only_asked else before.role


def admit(
    members: dict[AgentId, Member],
    *,
    agent: AgentId,
    principal: PrincipalId,
    handle: str,
    host: str,
    role: str,
    at: Millis,
    position: Position,
    history: History,
    opening: Position,
    public: int,
    jumps: Sequence[tuple[int, int]] = (),
    shifts: Sequence[tuple[int, int, int]] = (),
    request: RequestId | None = None,
    key: KeyId | None = None,
    given: Given | None = None,
    sees_named: bool = False,
    waits: bool = False,
    is_sealed: bool = False,
) -> None:
    """Put an agent in, or back in, as of `position`. `opening` is the recap's position, or 0 when there is no recap;
    `public` counts the room's public messages so far, `jumps` are those that a mirror leaves out, and `shifts` how its
    home counts them.

    History `full` shows everything, `from-join` what follows the first join, and `none` what is posted while the agent
    is in. Everyone is shown the recap. Source: decision 5. A requester is shown none of these (`sees_named`). Where it
    comes in once more and is none any longer, it is shown what a newcomer is, and its own numbers begin anew. The role
    that it then has is said by `role_on_coming`.

    In a sealed room (`is_sealed`) it `waits` until an epoch's record holds it, and is shown nothing before
    (`show_sealed`). There nobody with history `from-join` is shown what was said while it was out: it has no
    key of that. In a sealed queue the record says as well who only asks, so `sees_named` is what a record said of
    whoever is in its roster still, and of everybody who waits nothing is said.
    """
    member = members.get(agent)
    role = role_on_coming(member, role, sees_named=sees_named)
    # Who comes into a sealed room goes on as it was there, until a record says otherwise.
    if member is not None and (sees_named or not is_requester(member) or is_sealed):
        member.role = role
        member.present = True
        member.barred = False
        member.entered = position
        member.host = host
        member.waits = waits
        if not waits and not member.asks and _is_shut_out(history, is_sealed=is_sealed):
            _let_see_on(member, position, public)
        return
    spans, hidden = _shown_to_newcomer(history, position, opening, public)
    if sees_named or waits:
        spans, hidden = [], 0
    members[agent] = Member(
        agent=agent,
        principal=principal,
        handle=handle,
        host=host,
        role=role,
        joined_at=at,
        spans=spans,
        entered=position,
        first=position,
        request=request,
        key=key,
        given=given,
        hidden=hidden,
        # Whoever may read everything counts what came before as well, as far as it was for everyone.
        gaps=list(jumps) if history == "full" and not (sees_named or waits) else [],
        shifts=list(shifts) if history == "full" and not (sees_named or waits) else [],
        private=0 if member is None else member.private,
        locked=member is not None and member.locked,
        waits=waits,
        asks=sees_named and not waits,
    )


def show_sealed(
    member: Member,
    *,
    asks: bool = False,
    position: Position,
    history: History,
    opening: Position,
    public: int,
    jumps: Sequence[tuple[int, int]] = (),
    shifts: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Let a member of a sealed room that waited see what it may from now on: an epoch's record holds it. What comes
    with history `from-join` begins at this `position`, not where the member came in, because it has no key of what was
    said between.

    In a queue the record says whether the member only `asks`. Who worked there before is shown nothing more that is
    public from here on. Who only asked and works now is shown what a newcomer is, and its own numbers begin anew."""
    member.waits, only_asked = False, member.asks
    member.asks = asks
    if asks:
        if reads_on(member):
            _stop_at(member, position, public)
        member.role = member.role or REQUESTER
        return
    if only_asked:
        member.spans = []
        member.role = "" if member.role == REQUESTER else member.role
    if member.spans:
        if history != "full":
            _let_see_on(member, position, public)
        return
    member.spans, member.hidden = _shown_to_newcomer(history, position, opening, public)
    if history == "full":
        member.gaps, member.shifts = list(jumps), list(shifts)


def _shown_to_newcomer(
    history: History, position: Position, opening: Position, public: int
) -> tuple[list[tuple[int, int | None]], int]:
    """The spans of whoever is shown a room for the first time, and how many public messages lie outside them."""
    if history == "full":
        return [(0, None)], 0
    if 0 < opening <= position:
        return [(opening - 1, opening), (position, None)], public - 1
    return [(position, None)], public


def _let_see_on(member: Member, position: Position, public: int) -> None:
    member.spans.append((position, None))
    member.hidden += public - member.left_at


def _is_shut_out(history: History, *, is_sealed: bool) -> bool:
    """Whether who is out is never shown what is said meanwhile."""
    return history == "none" or (is_sealed and history == "from-join")


def depart(
    members: dict[AgentId, Member],
    agent: AgentId,
    *,
    position: Position,
    history: History,
    public: int,
    kicked: bool = False,
    is_sealed: bool = False,
) -> None:
    """Take an agent out. The agent keeps its handle, and the messages that it was allowed to see."""
    member = members[agent]
    member.present = False
    member.barred = kicked
    waited, member.waits = member.waits, False
    if waited:
        # It was shown nothing since it last left, if it was ever shown anything.
        return
    _stop(member, position=position, history=history, public=public, is_sealed=is_sealed)


def _stop(member: Member, *, position: Position, history: History, public: int, is_sealed: bool) -> None:
    """Let an agent see nothing more for now."""
    if member.asks and member.spans:
        # It was shown nothing public since it began to ask, so its numbers go by what there was then.
        member.left = position
        return
    if _is_shut_out(history, is_sealed=is_sealed) and reads_on(member):
        _stop_at(member, position, public)
    member.left_at, member.left = public, position


def _stop_at(member: Member, position: Position, public: int) -> None:
    """Let an agent see nothing that is public and stands behind this position."""
    member.spans[-1] = (member.spans[-1][0], position)
    member.left_at, member.left = public, position


def is_barred(members: Mapping[AgentId, Member], agent: AgentId, principal: PrincipalId, owner: PrincipalId) -> bool:
    """Whether a person has to decide before this agent comes in, whatever key it has: it was put out, or another agent
    of its person was. The agents of the owner's person are told apart."""
    mine = members.get(agent)
    if mine is not None and mine.barred:
        return True
    return principal != owner and any(member.barred and member.principal == principal for member in members.values())


def free_handle(members: Mapping[AgentId, Member], agent: AgentId, name: Label, modules: Iterable[str] = ()) -> str:
    """The handle that an agent gets: the one it had if it was in the room before, else its name, with a suffix where
    another member or a module has the name."""
    known = members.get(agent)
    if known is not None:
        return known.handle
    return first_free(name, {*(member.handle for member in members.values()), *modules})


def given_role(text: str) -> str:
    """`text` as a role that an owner gives, empty for none. Raises `Refused(invalid_name)`: for what no agent can say
    of itself, and for the role by which a member is known that only asks for work, because what such a member sees is
    settled when it comes in."""
    if text.casefold() == REQUESTER:
        raise Refused("invalid_name", f"{text!r} is said by who asks for work, and is given to nobody.")
    return role_name(text) if text else ""


def is_present(members: Mapping[AgentId, Member], agent: AgentId) -> bool:
    """Whether the agent is in the room now."""
    return (member := members.get(agent)) is not None and member.present


def present(members: Mapping[AgentId, Member], agent: AgentId) -> Member:
    """The member. Raises `Refused(no_such_room)` for anyone who is not in, so that a stranger does not learn that the
    room exists."""
    member = members.get(agent)
    if member is None or not member.present:
        raise Refused("no_such_room")
    return member


def answered(members: Mapping[AgentId, Member], target: ReplyTarget) -> tuple[AgentId, ...] | None:
    """Who reads a reply to this message that names no readers; None for whoever reads the message. Who asked for work
    and is still here sees what names it, and nothing else of the room."""
    author = members.get(target.author)
    is_for_author = target.visibility is None and author is not None and author.present and is_requester(author)
    return (target.author,) if is_for_author else None


def with_keys(
    members: Mapping[AgentId, Member],
    roster: Collection[AgentId],
    named: Iterable[AgentId],
    readers: Iterable[AgentId],
) -> tuple[AgentId, ...]:
    """Those of the readers of a private message in a sealed room who can be given its key. Raises
    `Refused(not_sealed_in)` where its author named somebody who has none yet; of the readers of a message that is
    replied to, those are left out who are out."""
    for agent in named:
        if agent not in roster:
            raise Refused("not_sealed_in", agent=members[agent].handle)
    return tuple(agent for agent in readers if agent in roster and members[agent].present)


def claims_of(members: Mapping[AgentId, Member]) -> dict[AgentId, Claim]:
    """Everybody who is in, with whom they act for and under which handle."""
    return {agent: Claim(agent, member.principal, member.handle) for agent, member in members.items() if member.present}


def resolve(members: Mapping[AgentId, Member], who: str) -> AgentId:
    """The id behind an id or a handle among those who are in. Raises `Refused(no_such_agent)`."""
    member = members.get(AgentId(who))
    if member is not None and member.present:
        return member.agent
    for member in members.values():
        if member.handle == who and member.present:
            return member.agent
    raise _no_such_agent(members, who, f"No one here goes by {who!r}.")


def handle_named(members: Mapping[AgentId, Member], who: str) -> str:
    """The handle behind an id or a handle of somebody who is or was in. Raises `Refused(no_such_agent)`."""
    member = members.get(AgentId(who))
    if member is not None:
        return member.handle
    if any(member.handle == who for member in members.values()):
        return who
    raise _no_such_agent(members, who, f"No one here goes by {who!r}.")


def resolve_taker(
    members: Mapping[AgentId, Member], owner: AgentId, who: str, *, giver: AgentId
) -> tuple[tuple[AgentId, ...], str]:
    """For whom a hand-off is: one member, found by id, by handle or as the `owner`, or else a role that another member
    has. A hand-off that nobody can take is refused, because its turn would be lost without a word.

    Raises `Refused`: `no_such_agent`, with the nearest names and the roles that exist, or `invalid_param` when the
    giver names itself.
    """
    others = [member for member in members.values() if member.present and member.agent != giver]
    if who == "owner" and any(member.agent == owner for member in others):
        # The role goes before any handle, because an older log may hold an agent with the handle `owner`.
        return (owner,), ""
    named = next((member for member in others if who in (member.agent, member.handle)), None)
    if named is not None:
        return (named.agent,), ""
    if who and any(member.role == who for member in others):
        return (), who
    itself = members[giver]
    if who in {itself.agent, itself.handle, itself.role} - {""} or (who == "owner" and giver == owner):
        raise Refused("invalid_param", "That is yourself: you have the turn, and another has to take it.", param="for")
    roles = sorted({member.role or ("owner" if member.agent == owner else "") for member in others} - {""})
    if not others:
        message = f"Nobody else is here yet, so no one goes by {who!r}."
    elif roles:
        shown = ", ".join(roles[:MAX_CANDIDATES])
        message = f"No one here goes by {who!r} or has that role. The roles here: {shown}."
    else:
        message = f"No one here goes by {who!r}, and no one else here has a role."
    refused = _no_such_agent(members, who, message, giver=giver)
    refused.details["roles"] = roles[:MAX_CANDIDATES]
    raise refused


def _no_such_agent(
    members: Mapping[AgentId, Member], who: str, message: str, *, giver: AgentId | None = None
) -> Refused:
    handles = [member.handle for member in members.values() if member.present and member.agent != giver]
    wanted = who[:MAX_LABEL].casefold()

    def distance(handle: str) -> tuple[bool, float]:
        name = handle.casefold()
        return wanted not in name, -SequenceMatcher(None, wanted, name, autojunk=False).ratio()

    handles.sort(key=lambda handle: wanted not in handle.casefold())
    candidates = sorted(handles[:MAX_COMPARED], key=distance)[:MAX_CANDIDATES]
    return Refused("no_such_agent", message, agent=who, candidates=candidates)


def view_of(member: Member) -> View:
    """What this member may see."""
    spans, gaps = tuple(member.spans), tuple(member.gaps)
    if member.waits and reads_on(member):
        spans = (*spans[:-1], (spans[-1][0], member.left))
        gaps = _gaps_until(member)
    return View(reader=member.agent, spans=spans, gaps=gaps)


def shown_upto(member: Member, position: Position) -> Position:
    """Up to where it is settled what a member is shown of a log that ends at `position`."""
    return Position(member.left) if member.waits else position


def _gaps_until(member: Member) -> tuple[tuple[int, int], ...]:
    """The gaps among what a member was shown before it last left."""
    return tuple(gap for gap in member.gaps if gap[0] <= member.left)


def newest_seq(state: MembershipState, agent: AgentId) -> Seq:
    """The number of the newest message that a present member may see. The store would count the same, slower."""
    member = state.members[agent]
    if not member.spans:
        return Seq(member.private + sum(count for _, count in member.gaps))
    if member.asks:
        return Seq(member.left_at - member.hidden + member.private + sum(count for _, count in member.gaps))
    if member.waits:
        return Seq(member.left_at - member.hidden + member.private + sum(count for _, count in _gaps_until(member)))
    return Seq(state.public - member.hidden + member.private + sum(count for _, count in member.gaps))


Shifts = Sequence[tuple[int, int]]
"""(number, shift): how much smaller a reader's own numbers from `number` on are at the home of a room that was rewound.
"""


def shifts_of(state: MembershipState, agent: AgentId) -> Shifts:
    """How this member's own numbers differ from those at the room's home."""
    return _holding(state, state.members[agent].shifts)


def _holding(state: MembershipState, shifts: Sequence[tuple[int, int, int]]) -> Shifts:
    return [(upto, shift) for epoch, upto, shift in shifts if epoch in state.holds]


def number_at_home(shifts: Shifts, seq: int) -> int:
    """What the home of the room calls a reader's own number `seq`; the newest number before it that the home has, where
    the home lost the message."""
    return min(seq - shift_after(shifts, seq), last_at_home(shifts, seq))


def number_here(shifts: Shifts, seq: int) -> int:
    """What a reader here calls the message that is its number `seq` at the room's home."""
    numbers = (seq, *(seq + shift for _, shift in shifts))
    return min(number for number in numbers if number_at_home(shifts, number) == seq)


def shift_after(shifts: Shifts, seq: int) -> int:
    """By how much smaller than here the numbers after `seq` are at the room's home."""
    return next((shift for upto, shift in reversed(shifts) if upto <= seq), 0)


def last_at_home(shifts: Shifts, seq: int) -> int:
    """The last number that the room's home has of the stretch of the room that a reader's own number `seq` is in, by
    the home's count: the home lost what came after it."""
    return min((upto - shift for upto, shift in shifts if upto > seq), default=NO_END)


def told_seq(state: MembershipState, agent: AgentId) -> Seq:
    """`newest_seq` as the home of the room counts, of which this log may be a mirror."""
    return Seq(number_at_home(shifts_of(state, agent), newest_seq(state, agent)))


def public_at_home(state: MembershipState) -> int:
    """How many public messages the room has at its home, of those up to the newest here."""
    return number_at_home(_holding(state, state.shifts), state.public + sum(count for _, count in state.jumps))


def newest_number(state: MembershipState) -> int:
    """The number of the room's newest public message. Where a mirror leaves messages out, their numbers count."""
    return state.public + state.skipped + sum(count for _, count in state.jumps)


def joining(
    members: Mapping[AgentId, Member],
    modules: Iterable[str],
    *,
    agent: AgentId,
    principal: PrincipalId,
    name: Label,
    host: str,
    role: str = "",
    request: RequestId | None = None,
    key: KeyId | None = None,
    given: Given | None = None,
) -> e.MemberJoined:
    """The event by which an agent comes in or comes back, under the handle that it gets, which none of the modules
    has."""
    handle = free_handle(members, agent, name, modules)
    return e.MemberJoined(
        agent=agent, principal=principal, handle=handle, host=host, role=role, request=request, key=key, given=given
    )


class Membership(Facet[MembershipState]):
    """Keeps who is in, as what, and counts what each member may see. It decides leaving, closing and what the owner
    does about members; `approvals` decides coming in."""

    __slots__ = ("_epochs", "_lifecycle")

    def __init__(self, state: MembershipState, lifecycle: LifecycleState, epochs: EpochsState) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._epochs = epochs

    def _close(self, command: c.CloseRoom, by: By, now: Millis, ids: Ids) -> Decision:
        room = self._lifecycle
        owns = command.principal is not None and command.principal == room.owner_principal
        if not owns:
            present(self.state.members, by.actor)
        require_open(room)
        if by.actor == room.owner:
            return Decision((e.RoomClosed(),), authority="owner", answer="closed")
        if owns:
            return Decision((e.RoomClosed(),), authority="person", answer="closed")
        return Decision((e.MemberLeft(agent=by.actor),), authority="member", answer="left")

    def _go(self, command: c.Leave, by: By, now: Millis, ids: Ids) -> Decision:
        present(self.state.members, by.actor)
        require_open(self._lifecycle)
        if by.actor == self._lifecycle.owner:
            raise Refused("owner_stays")
        return Decision((e.MemberLeft(agent=by.actor),), authority="member", answer="left")

    def _require_owner(self, principal: PrincipalId | None, by: By) -> None:
        """Raise `Refused` unless the room's owner asks, or its person, and the room is open and sound."""
        room = self._lifecycle
        if principal is None or principal != room.owner_principal:
            present(self.state.members, by.actor)
            if by.actor != room.owner:
                raise Refused("not_owner")
        require_open(room)
        require_sound(room)

    def _kick(self, command: c.Kick, by: By, now: Millis, ids: Ids) -> Decision:
        self._require_owner(command.principal, by)
        room, members = self._lifecycle, self.state.members
        agent = resolve(members, command.agent)
        if agent == room.owner:
            raise Refused("owner_stays", "The owner of a room is not put out of it.")
        left = {who: claim for who, claim in claims_of(members).items() if who != agent}
        epoch = begun(command.epoch, command.principal or by.principal, self._epochs, place_of(room), left)
        if any(agent in self._epochs.roster and agent not in each.removed for each in epoch):
            raise Refused("statement_refused", what="removed")
        return Decision((e.MemberLeft(agent=agent, kicked=True), *epoch), authority="owner", answer=agent)

    def _give_role(self, command: c.GiveRole, by: By, now: Millis, ids: Ids) -> Decision:
        self._require_owner(command.principal, by)
        members, role = self.state.members, given_role(command.role)
        member = members[resolve(members, command.agent)]
        if (member.role, member.locked) == (role, command.locks):
            return Decision(answer=member.agent)
        event = e.RoleGiven(agent=member.agent, role=role, locked=command.locks)
        return Decision((event,), authority="owner", answer=member.agent)

    def _change_owner(self, command: c.ChangeOwner, by: By, now: Millis, ids: Ids) -> Decision:
        room, members = self._lifecycle, self.state.members
        owns = command.principal == room.owner_principal
        if not owns:
            present(members, by.actor)
        if not owns and not command.takes:
            raise Refused("not_owner")
        require_open(room)
        require_sound(room)
        if room.kind not in ("session", "channel", "service"):
            raise Refused("invalid_param", "This room stays with those whose it is.", param="room")
        member = members[resolve(members, command.owner)]
        if member.given is not None:
            raise Refused("invalid_param", "An agent that has only a token owns no room.", param="to")
        if command.takes:
            if room.sealed and not may_succeed(self._epochs, room.owners[-1].record, command.principal):
                # Whether the owner's person is away is this home's word alone, and a home lets nobody decide about who
                # reads a sealed room but whom the owner's person named.
                raise Refused("not_successor")
            if owns or member.principal != command.principal:
                raise Refused("invalid_param", "One takes a room over from another person, for an agent of one's own.")
            until = Millis(room.owner_acted_at + command.away_ms)
            if command.is_owner_here or now < until:
                raise Refused("owner_is_there", until=until)
        if member.agent == room.owner:
            return Decision(answer=member.agent)
        if member.waits or (room.sealed and member.asks):
            raise Refused("not_sealed_in", agent=member.handle)
        if len(room.owners) > MAX_TRANSFERS:
            raise Refused("too_many_transfers", limit=MAX_TRANSFERS)
        expected = Transfer(
            home=room.home,
            room=room.room,
            number=len(room.owners),
            owner=member.agent,
            principal=member.principal,
            taken=command.takes,
            record=self._epochs.number if room.sealed else msgspec.UNSET,
            at=now,
            nonce=b"",
        )
        signed = command.statement or expected
        if room.sealed and signed.record != self._epochs.number:
            # A record came in since it was signed: the old owner's, so the new owner's begin after that one.
            raise Refused("stale_epoch", number=self._epochs.number, what="record")
        if (wrong := contradiction(expected, signed)) is not None:
            raise Refused("statement_refused", what=wrong)
        event = e.OwnerChanged(
            owner=member.agent, principal=member.principal, taken=command.takes, record=self._epochs.number
        )
        return Decision((event,), statements=(signed,), authority="person", answer=member.agent)

    def _joined(self, event: e.MemberJoined, header: e.Header) -> None:
        self.state.moves += 1
        admit(
            self.state.members,
            agent=event.agent,
            principal=event.principal,
            handle=event.handle,
            host=event.host,
            role=event.role,
            at=header.at,
            position=header.position,
            history=self._lifecycle.history,
            opening=self.state.opening,
            public=self.state.public,
            jumps=self.state.jumps,
            shifts=self.state.shifts,
            request=event.request,
            key=event.key,
            given=event.given,
            sees_named=self._only_asks(event),
            waits=self._is_sealed and (event.waits or event.agent not in self._epochs.roster),
            is_sealed=self._is_sealed,
        )

    def _turned(self, event: e.EpochTurned, header: e.Header) -> None:
        room, state = self._lifecycle, self.state
        added = {agent: entry.requester for agent, entry in event.added}
        gone = state.members.keys() - added.keys() if event.anew else {*event.removed}
        for member in state.members.values():
            if member.agent in gone and member.present and not member.waits:
                # It was out and came back, and this log lost both, or was told of neither.
                _stop(member, position=header.position, history=room.history, public=state.public, is_sealed=True)
                member.waits = True
        for agent, asks in added.items():
            seated = state.members.get(agent)
            if seated is not None and seated.present and (seated.waits or seated.asks is not asks):
                show_sealed(
                    seated,
                    asks=asks,
                    position=header.position,
                    history=room.history,
                    opening=state.opening,
                    public=state.public,
                    jumps=state.jumps,
                    shifts=state.shifts,
                )

    def _only_asks(self, event: e.MemberJoined) -> bool:
        """Whether an agent that comes in is shown only what names it. That the home of a sealed queue calls it a
        requester counts for nothing there: the owner's person says in a record what it can read."""
        if not self._is_sealed:
            return event.role == REQUESTER and self._lifecycle.kind == "service"
        seat = self._epochs.roster.get(event.agent)
        return seat is not None and seat.requester

    @property
    def _is_sealed(self) -> bool:
        return self._lifecycle.sealed > 0

    def _left(self, event: e.MemberLeft, header: e.Header) -> None:
        self.state.moves += 1
        depart(
            self.state.members,
            event.agent,
            position=header.position,
            history=self._lifecycle.history,
            public=self.state.public,
            kicked=event.kicked,
            is_sealed=self._is_sealed,
        )

    def _role_given(self, event: e.RoleGiven, header: e.Header) -> None:
        self.state.moves += 1
        member = self.state.members[event.agent]
        member.role, member.locked = event.role, event.locked

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        state = self.state
        if event.visibility is None:
            state.public += 1
        else:
            for agent in event.visibility:
                # A mirror may hold words of somebody whom its home did not prove to be a member.
                if (member := state.members.get(agent)) is not None:
                    member.private += 1
        if event.opening:
            state.opening = header.position

    def _placed(self, event: e.MirrorPlaced, header: e.Header) -> None:
        """Readers go on after their own numbers. Of anybody else it is known only how many public messages were left
        out."""
        state = self.state
        left_out = event.public - newest_number(state)
        numbers = dict(event.before)
        for member in state.members.values():
            gap = left_out if reads_on(member) else 0
            if member.agent in numbers:
                gap = numbers[member.agent] - told_seq(state, member.agent)
            if gap:
                member.gaps.append((header.position, gap))
        if left_out:
            state.jumps.append((header.position, left_out))

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        """A home that lost messages gives their numbers again. A mirror that was not told all that is left leaves the
        rest out, and each reader here goes on when the home says its number."""
        state, numbers = self.state, dict(event.numbers)
        left_out = event.public - newest_number(state)
        if left_out > 0:
            state.jumps.append((header.position, left_out))
        state.skipped += first_number(event.epoch) - newest_number(state)
        for member in state.members.values():
            if member.agent not in numbers:
                if left_out > 0 and reads_on(member):
                    member.gaps.append((header.position, left_out))
                continue
            newest = newest_seq(state, member.agent)
            member.shifts.append((event.epoch, newest, newest - numbers[member.agent]))
        if NOBODY in numbers:
            newest = Seq(state.public + sum(count for _, count in state.jumps))
            state.shifts.append((event.epoch, newest, newest - numbers[NOBODY]))
        state.holds = [*event.holds, event.epoch]

    def _moved(self, event: e.MemberJoined | e.MemberLeft, header: e.Header) -> Iterator[Topic]:
        yield topics.life(self._lifecycle.room)
        yield topics.concerns(self._lifecycle.owner)
        if isinstance(event, e.MemberJoined):
            yield topics.memberships(event.agent)

    def _other_role(self, event: e.RoleGiven, header: e.Header) -> tuple[Topic, ...]:
        """Whoever looks at the room, where a role says what is there, what is whose, and for whom work is."""
        return (topics.life(self._lifecycle.room),)

    DECIDES = (
        decides(c.CloseRoom, _close),
        decides(c.Leave, _go),
        decides(c.Kick, _kick),
        decides(c.GiveRole, _give_role),
        decides(c.ChangeOwner, _change_owner),
    )
    APPLIES = (
        applies(e.MemberJoined, _joined),
        applies(e.MemberLeft, _left),
        applies(e.EpochTurned, _turned),
        applies(e.RoleGiven, _role_given),
        applies(e.MessagePosted, _posted),
        applies(e.MirrorPlaced, _placed),
        applies(e.RoomRewound, _rewound),
    )
    TOUCHES = (
        touches(e.MemberJoined, _moved),
        touches(e.MemberLeft, _moved),
        touches(e.RoleGiven, _other_role),
    )
