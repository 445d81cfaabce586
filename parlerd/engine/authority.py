"""What a caller may do: found by the door that it came through, and the only thing that anybody else asks.

    door                          planes                 speaks as    is                 decisions count as at most
    a window of an agent host     agent, local, window   an agent     whom it leases     form
    a command                     agent, local, person   the person   their own agent    terminal
    a command that names one      agent, local, person   an agent     the one it names   terminal
    a hook                        agent, hook, local     an agent     nobody             none
    a link of another home        link                   a person     each agent that    terminal
                                                                      it attached
    a token over HTTP             agent, in its rooms    an agent     the token's        none
    a token that joins            joiner, in one room    nobody       nobody yet         none
    HTTP without a token          joiner, visitor, none  nobody       nobody             none
    a room's watch code           agent, page, one room  as minted    the minter's       none
    the home's watch code         agent, local, page,    the person   their own agent    form
                                  person

A further door builds an authority of its own, and nothing else changes: it says whose agents they are, which one is
meant, and which rooms there are for it.

Not here: who a caller is (`seats`), and whether a person sits behind a command (`person`). Above: every door builds
one; the engine, its handlers and `reach` read it. Below: the core's model. Invariant: whatever a caller may do follows
from its authority and from what the kernel says of its process; `via` is recorded and never asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parlerd.core.identities import AgentRecord
from parlerd.core.model import PROOF_ORDER, AgentId, PrincipalId, Proof, RoomId
from parlerd.core.tokens import Token
from parlerd.operations import types as t


@dataclass(frozen=True, slots=True)
class Authority:
    """What one caller may do."""

    principal: PrincipalId
    """The person whose agents act here: this home's own, or the one who proved to be another at a door for others."""
    planes: frozenset[t.Plane]
    """The planes of the operations that it may call."""
    speaks_as_person: bool = False
    """Whether it is the person, and no agent of theirs: it sees what any of their agents may see, and its word counts
    for the rooms of all of them."""
    agent: AgentId | None = None
    """The one agent that it acts as; None where a window leases one, or a command names one or none."""
    rooms: frozenset[RoomId] | None = None
    """The only rooms that there are for it, which then calls operations of the agent plane alone; None: all that its
    agent is in."""
    token: str = ""
    """The id of the token that it showed, if it came with one."""
    access: frozenset[str] | None = None
    """What that token is for (`t.Access`); None for whoever came without one."""
    only_reads: bool = False
    """Whether it may call nothing that changes anything."""
    proof_ceiling: Proof = "none"
    """What a decision that comes this way counts as at most, whatever was shown for it."""
    is_shown_codes: bool = False
    """Whether it is shown the code that a person types for its agent's request. A door that the approving side may
    have opened is shown none."""

    def __post_init__(self) -> None:
        # What is about the person, this machine or a host's window is not about certain rooms: the handlers that answer
        # such a caller would be asked what its rooms do not tell.
        if self.rooms is not None and self.planes - {"page"} != {"agent"} and self.planes != {"joiner"}:
            raise ValueError("a door that stands for certain rooms offers what agents do there, and nothing else")

    def is_for(self, operation: t.Operation) -> bool:
        """Whether its token is for an operation of agents, where it came with one; and whether it only reads, where
        that is all that it may do."""
        if self.only_reads and operation.effect != "read":
            return False
        return self.access is None or (operation.http is not None and operation.http.access in self.access)

    def at_most(self, proof: Proof) -> Proof:
        """The proof as it counts over this door."""
        return min(proof, self.proof_ceiling, key=PROOF_ORDER.index)


_LOCAL: Final[frozenset[t.Plane]] = frozenset({"agent", "local"})


def of_window(principal: PrincipalId) -> Authority:
    """A window of an agent host on this machine. Its person decides in a form of the host."""
    return Authority(principal, _LOCAL | {"window"}, proof_ceiling="form", is_shown_codes=True)


def of_command(principal: PrincipalId, *, names_agent: bool) -> Authority:
    """A command on this machine: the person, or, where it names an agent, that agent. The person decides with either.
    Whether an agent host started it is asked when it matters (`person`)."""
    return Authority(
        principal,
        _LOCAL | {"person"},
        speaks_as_person=not names_agent,
        proof_ceiling="terminal",
        is_shown_codes=True,
    )


def of_hook(principal: PrincipalId) -> Authority:
    """A hook of an agent host on this machine, or whoever rings for one: it asks what waits for the agent beside it."""
    return Authority(principal, _LOCAL | {"hook"})


def of_token(agent: AgentRecord, token: Token) -> Authority:
    """Whoever shows a token: one agent, in one room or in several. A person's own rights never come from a token."""
    return Authority(
        agent.principal,
        frozenset({"agent"}),
        agent=agent.id,
        rooms=token.within,
        token=token.id,
        access=frozenset(token.access),
    )


def of_joining_token(principal: PrincipalId, token: Token, *, is_seen: bool) -> Authority:
    """Whoever shows a token that joins: nobody yet, who may come into one room. It may be shown the code that the
    person types only where its process is seen (`is_seen`)."""
    return Authority(
        principal, frozenset({"joiner"}), rooms=frozenset({token.room}), token=token.id, is_shown_codes=is_seen
    )


def of_visitor(principal: PrincipalId, *, is_let_in: bool, is_own: bool) -> Authority:
    """Whoever comes over HTTP and shows no token. One of the person's own processes (`is_own`, as far as the system
    tells) may knock with a session key. Where the person let every program of theirs in, it may also open a room for
    programs, and come into one as a new agent. Whoever is neither may do nothing."""
    planes: set[t.Plane] = {"joiner"} if is_own else set()
    if is_let_in:
        planes.add("visitor")
    return Authority(principal, frozenset(planes))


def of_link(principal: PrincipalId) -> Authority:
    """The daemon of a person who proved on a link to be this one. It speaks for the agents that it attaches there, and
    it says itself how much a decision of its person was proved: nobody but the person's own key can sign one."""
    return Authority(principal, frozenset({"link"}), proof_ceiling="terminal")


def of_watcher(agent: AgentRecord, room: RoomId, *, as_person: bool) -> Authority:
    """Whoever looks on at a room in a browser, with the eyes of an agent, or of all agents of its person: it reads, and
    nothing else."""
    return Authority(
        agent.principal,
        frozenset({"agent", "page"}),
        speaks_as_person=as_person,
        agent=agent.id,
        rooms=frozenset({room}),
        only_reads=True,
    )


def of_page(agent: AgentRecord) -> Authority:
    """The person in a browser, at pages that they opened from a terminal. They decide there in a form, with the code
    that the newcomer shows, and are shown no code: whoever approves must have it from elsewhere."""
    return Authority(
        agent.principal,
        _LOCAL | {"page", "person"},
        speaks_as_person=True,
        agent=agent.id,
        proof_ceiling="form",
    )
