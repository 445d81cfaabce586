"""Sealed rooms for tests of the core and of what admits: records, wraps and messages in the right shape, over the
driver of the core. Nothing here is encrypted: keys are made of names, and texts are of the right length."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.envelope import SEALED, Envelope, GatePart, Part, SealedPart, root_chain
from parlerd.core.epoch_record import (
    LINK,
    Added,
    EpochRecord,
    encode_record,
    encode_wraps,
    record_digest,
    roster_digest,
    seated,
)
from parlerd.core.exchange import PROOF, SHARE
from parlerd.core.membership import claims_of
from parlerd.core.model import AgentId, By, History, MessageId, Millis, RequestId, RoomKind, RosterEntry
from parlerd.core.sealing import TAG, padded_length
from parlerd.core.statements import NONCE, SUITE, Claim, JoinCard, SealingKey, encode
from parlerd.core.visibility import can_see
from tests.support.core import HOME, OWNER, ROOM, Agent, RoomDriver, open_room

WRAP = b"w" * 48
ASKING_WRAP = b"w" * 80
DECISION = b"d" * 32
"""The digest of a decision."""
TEXT = b"t" * (padded_length(5) + TAG)


def key_of(agent: AgentId, counter: int) -> bytes:
    """The public key of an agent with this number."""
    return hashlib.sha256(f"{agent} {counter}".encode()).digest()


def sealing_key(whose: AgentId, counter: int = 1, **more: Any) -> SealingKey:
    """What an agent signs of this key."""
    statement = SealingKey(
        home=HOME, agent=whose, key=key_of(whose, counter), counter=counter, at=Millis(7), nonce=bytes(NONCE)
    )
    return replace(statement, **more)


def join_card(who: Agent, key: SealingKey) -> JoinCard:
    """What an agent signs that begins to come in."""
    return JoinCard(
        home=HOME,
        route="A3KE7D",
        agent=who.id,
        principal=who.principal,
        name=who.name,
        key=key.key,
        at=Millis(7),
        nonce=bytes(NONCE),
    )


def wraps_of(agents: Iterable[AgentId], requesters: Collection[AgentId] = ()) -> bytes:
    return encode_wraps(tuple((agent, WRAP if agent not in requesters else ASKING_WRAP) for agent in sorted(agents)))


def epoch(record: EpochRecord, wraps: bytes) -> c.NewEpoch:
    """An epoch as a command brings it."""
    return c.NewEpoch(record=record, digest=record_digest(encode_record(record)), wraps=wraps)


class SealedDriver(RoomDriver):
    """A driver of a sealed room. `counters` are the numbers of the keys that the agents told last."""

    def __init__(self, history: History = "full", kind: RoomKind = "session") -> None:
        super().__init__()
        self.history = history
        self.kind = kind
        self.counters: dict[AgentId, int] = {}

    # -- records -------------------------------------------------------------------------------------------

    def record(
        self,
        *,
        add: Iterable[Claim] = (),
        remove: Iterable[AgentId] = (),
        decisions: tuple[bytes, ...] = (),
        asking: Iterable[AgentId] = (),
        **more: Any,
    ) -> c.NewEpoch:
        """The epoch that follows the one in force with these changes, in which those `asking` only ask for work; `more`
        is put in the place of what it says."""
        state = self.aggregate.state.epochs
        gone = {*remove}
        roster = {agent: seat for agent, seat in state.roster.items() if agent not in gone}
        added = []
        for claim in sorted(add, key=lambda claim: claim.agent):
            counter = self.counters.setdefault(claim.agent, 1)
            statement = encode(sealing_key(claim.agent, counter))
            added.append(Added(claim.agent, claim.principal, claim.handle, statement, bytes(64)))
            roster[claim.agent] = RosterEntry(claim.principal, claim.handle, key_of(claim.agent, counter), counter)
        requesters = tuple(sorted(asking))
        roster = seated(roster, requesters)
        wraps = more.pop("wrapped", None) or wraps_of(roster, requesters)
        number = state.number + 1
        said: dict[str, Any] = {
            "home": HOME,
            "room": ROOM,
            "number": number,
            "previous": state.record,
            "added": tuple(added),
            "removed": tuple(sorted(gone)),
            "roster": roster_digest(roster),
            "secret": b"s" * 32,
            "ephemeral": b"e" * 32,
            "wraps": hashlib.sha256(wraps).digest(),
            "link": bytes(LINK) if number > 1 and self.history == "full" else b"",
            "card": b"card",
            "decisions": decisions,
            "requesters": requesters or msgspec.UNSET,
            "at": Millis(self.now),
            "nonce": number.to_bytes(NONCE),
            **more,
        }
        return epoch(EpochRecord(**said), wraps)

    def pending(self) -> c.NewEpoch:
        """The epoch that takes in all that waits."""
        waiting = self.aggregate.epochs.waiting()
        assert waiting is not None
        claims = claims_of(self.aggregate.state.members)
        return self.record(add=[claims[agent] for agent in waiting.entering + waiting.fresh], remove=waiting.leaving)

    def turn(self, new: c.NewEpoch | None = None, *, principal: str = OWNER.principal) -> Decision:
        command = c.TurnEpoch(operation="link.epoch", epoch=new or self.pending(), principal=principal)  # type: ignore[arg-type]
        return self.run(command, OWNER)

    # -- acts ----------------------------------------------------------------------------------------------

    def opening(self, **more: Any) -> c.OpenRoom:
        """The command that opens the room."""
        command = open_room(OWNER, history=self.history, kind=self.kind, **more)
        owner = Claim(OWNER.id, OWNER.principal, OWNER.name)
        return replace(
            command,
            opening=replace(command.opening, sealed=SUITE),
            title=None,
            epoch=self.record(add=[owner]),
        )

    def begin(self, **more: Any) -> Decision:
        """Open the room."""
        return self.run(self.opening(**more), OWNER)

    def ask(self, who: Agent, *, counter: int | None = None, **more: Any) -> str:
        """Knock with a sealing key, and exchange keys with the owner's home: the answer."""
        answer = self.begin_exchange(who, counter=counter, **more)
        if answer == "pending":
            for step, text in (("answered", b"B" * SHARE), ("shown", b"p" * 64), ("confirmed", b"c" * PROOF)):
                self.exchange(who, step, text)
        return answer

    def begin_exchange(
        self, who: Agent, *, counter: int | None = None, away: frozenset[AgentId] = frozenset(), **more: Any
    ) -> str:
        """Knock with a sealing key alone: the answer."""
        self.counters[who.id] = counter or self.counters.get(who.id, 1)
        told = sealing_key(who.id, self.counters[who.id], **{k: v for k, v in more.items() if k != "key"})
        knock = c.Knock(
            operation="session.join",
            key_id=more.pop("key", None) or self.key,
            name=who.name,
            host="",
            sealing_key=told,
            card=join_card(who, told),
            share=b"A" * SHARE,
            away=away,
        )
        return self.run(knock, who).answer

    def exchange(self, who: Agent, step: Any, text: bytes, *, by: Agent | None = None, **more: Any) -> Decision:
        """A step of the newest exchange of an agent, by the one whose step it is or by another."""
        request = [each for each in self.aggregate.state.requests.values() if each.agent == who.id][-1]
        principal = None if step == "shown" else OWNER.principal
        said = {"request": request.id, "step": step, "text": text, "principal": principal, **more}
        return self.run(c.ExchangeKey(**said), by or (who if step == "shown" else OWNER))

    @property
    def key(self) -> Any:
        return next(iter(self.aggregate.state.keys))

    def answer_to(self, who: Agent, *, with_epoch: bool = True, **more: Any) -> Decision:
        """Let somebody in who knocked, with the epoch or without it."""
        over = ("approved", "failed", "lapsed", "withdrawn")
        asked = [r for r in self.aggregate.state.requests.values() if r.agent == who.id and r.state not in over]
        request = asked[0]
        known = self.aggregate.state.members.get(who.id)
        claim = Claim(who.id, who.principal, who.name if known is None else known.handle)
        # Who left and comes back before a record left it out is in the roster still.
        add = [] if who.id in self.aggregate.state.epochs.roster else [claim]
        new = self.record(add=add, decisions=(DECISION,), **more) if with_epoch else None
        return self.run(
            c.DecideRequest(
                request=RequestId(request.id),
                admit=True,
                proof="cli",
                principal=OWNER.principal,
                epoch=new,
                digest=DECISION,
            ),
            OWNER,
        )

    def let_in(self, *agents: Agent, with_epoch: bool = True) -> None:
        """Bring agents in through the front door."""
        for who in agents:
            if self.ask(who) == "pending":
                self.answer_to(who, with_epoch=with_epoch)

    def put_out(self, who: Agent, new: c.NewEpoch | None = None) -> Decision:
        kick = c.Kick(operation="room.kick", agent=who.id, principal=OWNER.principal, epoch=new)
        return self.run(kick, OWNER)

    def tell_key(self, who: Agent, counter: int, **more: Any) -> Decision:
        command = c.TellSealingKey(operation="link.sealing_key", sealing_key=sealing_key(who.id, counter, **more))
        decision = self.run(command, who)
        self.counters[who.id] = counter
        return decision

    # -- messages ------------------------------------------------------------------------------------------

    def message(
        self,
        who: Agent,
        *,
        visible_to: tuple[AgentId, ...] | None = None,
        wraps: tuple[AgentId, ...] | None = None,
        parts: tuple[Part, ...] = (),
        kind: str = "text",
        **more: Any,
    ) -> c.PostMessage:
        """The command of a sealed message. `visible_to` are the readers beside the author."""
        readers = None if visible_to is None else tuple(sorted({who.id, *visible_to}))
        sealed = self.sealed(readers, wraps, **more.pop("sealed", {}))
        id = MessageId(f"m_{len(self.log)}x")
        thread = self.aggregate.state.messages.threads.get(who.id, {})
        ends = thread.get("" if readers is None else hashlib.sha256(" ".join(readers).encode()).hexdigest()[:32])
        envelope = Envelope(
            v=SEALED,
            id=id,
            room=ROOM,
            key=f"k_{len(self.log)}",
            kind=kind,
            chain=root_chain(id),
            hops=0,
            authored_at=Millis(0),
            counter=1 if ends is None else ends.counter + 1,
            previous=b"" if ends is None else ends.envelope,
            line=b"l" * 32,
            nonce=bytes(16),
            parts=(sealed, *parts),
            visibility=readers,
        )
        envelope = replace(envelope, **more)
        return c.PostMessage(
            operation="message.send",
            idempotency_key=envelope.key,
            input=b"input",
            kind=envelope.kind,
            id=id,
            visibility=envelope.visibility,
            envelope=envelope,
            line=b"l" * 32,
        )

    def sealed(
        self, readers: tuple[AgentId, ...] | None, wraps: tuple[AgentId, ...] | None = None, **more: Any
    ) -> SealedPart:
        """The words of a message for these readers, under the record in force."""
        state, wrapped = self.aggregate.state, wraps if wraps is not None else readers
        sealed = SealedPart(
            epoch=state.epochs.number,
            record=state.epochs.record,
            input=b"i" * 32,
            nonce=bytes(24),
            text=TEXT,
            ephemeral=b"" if readers is None else b"e" * 32,
            digest=b"" if readers is None else b"d" * 32,
            wraps=() if wrapped is None else tuple((agent, WRAP) for agent in sorted(wrapped)),
        )
        return replace(sealed, **more)

    def gate_sealed(
        self,
        who: Agent,
        enabled: str = "",
        *,
        visible_to: tuple[AgentId, ...] | None = None,
        wraps: tuple[AgentId, ...] | None = None,
        sealed: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> MessageId:
        """A gated message. `visible_to` are the readers beside the author."""
        command = self.gating_sealed(who, enabled, visible_to=visible_to, wraps=wraps, sealed=sealed, **more)
        self.run(command, linked(who))
        return command.envelope.id

    def gating_sealed(
        self,
        who: Agent,
        enabled: str = "",
        *,
        visible_to: tuple[AgentId, ...] | None = None,
        wraps: tuple[AgentId, ...] | None = None,
        sealed: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> c.GateMessage:
        """The command of a gated message."""
        readers = None if visible_to is None else tuple(sorted({who.id, *visible_to}))
        words = self.sealed(readers, wraps, **(sealed or {}))
        fields: dict[str, Any] = {
            "v": SEALED,
            "parts": (words, GatePart(enabled)),
            "authored_at": Millis(0),
            "host": "",
            "via": "",
            "visible_to": visible_to,
            **more,
        }
        return self.gating(linked(who), enabled, **fields)

    def told(self, who: Agent) -> list[str]:
        """What a member may see, by what each message was called when it was written."""
        view, gates = self.aggregate.view(who.id), dict[str, str]()
        found = []
        for header in self.log:
            match header.event:
                case e.MessageReleased(gate=gate, id=id):
                    gates[id] = gate
                case e.MessagePosted(id=id, visibility=visibility) if can_see(
                    view, position=header.position, visibility=visibility
                ):
                    found.append(gates.get(id, id))
        return found

    def post_sealed(self, who: Agent, **more: Any) -> e.MessagePosted:
        """Post a sealed message."""
        self.run(self.message(who, **more), linked(who))
        event = self.log[-1].event
        assert isinstance(event, e.MessagePosted)
        return event


def linked(who: Agent) -> Agent:
    """The agent as it acts over a link with a sealed message: nobody but members is told by which door and host."""

    class Linked(Agent):
        @property
        def by(self) -> By:
            return By(self.id, self.principal, "s_link", "", "link")

    return Linked(who.id, who.principal, who.name)


def sealed_room(*members: Agent, history: History = "full") -> SealedDriver:
    """A sealed room with these members, each with an epoch of its own."""
    room = SealedDriver(history)
    room.begin()
    room.let_in(*members)
    return room
