"""How a message gets its signed envelope, and another fact its signed statement: the author's part, and what a home
does with what an author elsewhere signed.

A room decides what a message is (for whom, in which thread, its number); what it says is its author's, who signs both
together. There are two ways to the signed bytes, and a room does not see which it was:

    LocalAuthor   the author's key is in this home. A command carries a `Draft`, and the envelope is built and signed
                  when the message's turn comes in its batch: only then are the author's counter and the hash of its
                  previous envelope known. It costs the command nothing to wait for that, and the writer's thread gets
                  the interpreter while a signature is made.
    Admission     the author signed elsewhere. A command carries a `Finished` envelope, whose signature and form were
                  checked before the command came in line; the room refuses one that does not fit as it stands.

A statement about the room (`core.statements`) takes the same two ways: the room says what is to be signed, and
`LocalAuthor` signs it, or `Admission` took it signed and the room compared it.

A mirror takes in facts that another home accepted, with the bodies and signatures that came along (`Arrived`): they
were checked when they arrived, and are stored as they are.

Above: `deciding`, which puts the signed words into a fact. Below: the port of the keys, `identity.signatures`, and in
the core the envelope's format and the one check of it (`words`). Invariant: a fact that says `valid` bears a signature
of its author over exactly its body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import SEALED, Envelope, Part, blob_of, due_of, encode_envelope, guard_of, memory_of, turn_of
from parlerd.core.epoch_record import encode_turned, record_digest
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, HomeId, KeyId, Millis, PrincipalId, RoomId, Shown, Verified
from parlerd.core.sealing import check_sealed, sealed_part
from parlerd.core.statements import (
    NONCE,
    AgentCard,
    DecisionStatement,
    JoinCard,
    KeyTerms,
    KnockStatement,
    Opening,
    OwnerLine,
    Rewind,
    S,
    SealingKey,
    Statement,
    Transfer,
    check,
    check_title,
    encode,
    room_id_of,
)
from parlerd.core.words import MAX_BYTES, author_door, check_envelope, read_body
from parlerd.engine.ports import Randomness, Signers
from parlerd.identity import epochs
from parlerd.identity.proofs import signed
from parlerd.identity.sealing import check_key
from parlerd.identity.signatures import verify


@dataclass(frozen=True, slots=True)
class Draft:
    """What a local author wants to say: the parts, and how far it was shown the room. In a sealed room `seal` encrypts
    the envelope before it is signed, and raises `Refused` where it cannot."""

    parts: tuple[Part, ...]
    shown: Shown
    seal: Callable[[Envelope], Envelope] | None = None


@dataclass(frozen=True, slots=True)
class Attested:
    """Signed bytes: a statement, or a delegation, which is signed before its command comes in line."""

    body: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """An envelope that its author finished elsewhere. Only `Admission.take` makes one: its signature was checked."""

    envelope: Envelope
    body: bytes
    signature: bytes

    def by(self, author: AgentId, principal: PrincipalId, *, session: str) -> By:
        """Who acts: at the host and through the door that the author signed. The connection that brought the envelope
        has doors and hosts of its own, which say nothing of the author. Those of a sealed message only members read."""
        if self.envelope.v == SEALED:
            return By(author, principal, session, "", "link")
        return By(author, principal, session, self.envelope.host, author_door(self.envelope.via))


@dataclass(frozen=True, slots=True)
class Arrived:
    """What belongs to the events of an `Arrive`, one entry for each: the body as it was signed, and the signature. An
    entry is None for an event without a body, and for a message whose words were erased.

    `verified` is what was found of the messages among them: whether the author signed the message, and is proved to be
    a member.
    """

    bodies: tuple[tuple[bytes, bytes | None] | None, ...]
    verified: Verified = "valid"


@dataclass(frozen=True, slots=True)
class Stated:
    """Statements that were finished elsewhere, by their kind, and beside an opening the title and the recap; and the
    epoch of a sealed room that begins with them, as it is stored. Only `Admission` makes one: the signatures were
    checked."""

    statements: Mapping[type[Statement], Attested]
    title: bytes = b""
    recap: Finished | None = None
    epoch: Attested | None = None


class Turned(NamedTuple):
    """An epoch of a sealed room whose signatures were checked: what a command says of it, and what is stored."""

    new: c.NewEpoch
    kept: Attested


def _kept(epoch: Turned | None) -> Attested | None:
    return None if epoch is None else epoch.kept


Words = Draft | Finished | Attested | Stated | Arrived
"""What a command brings beside itself, for the bodies of the facts that it leads to."""
W = TypeVar("W", contravariant=True)


class Place(NamedTuple):
    """Where a message comes to stand: the room, the idempotency key, who acts, the hash of the envelope before it in
    the same thread of its author (empty before the first), and the room's time."""

    room: RoomId
    key: str
    by: By
    previous: bytes
    at: Millis


class SignedEnvelope(NamedTuple):
    """An envelope as it is stored, its author's signature, and what a check of the signature says."""

    body: bytes
    signature: bytes
    verified: Verified


class EnvelopeSigner(Protocol[W]):
    """Gives a message that a room decided its signed envelope."""

    def sign(self, words: W, posted: e.MessagePosted, place: Place) -> SignedEnvelope:
        """The envelope as it is to be stored. Raises `Refused` when there can be none."""
        ...


class Author(EnvelopeSigner[Draft], Protocol):
    """Writes and signs for whoever has a key in this home."""

    def attest(self, statement: Statement, by: By) -> Attested:
        """A statement as it is to be stored. Raises `Refused(no_such_agent)` for a lost key."""
        ...


def composed(words: Draft, posted: e.MessagePosted, place: Place, nonce: bytes) -> Envelope:
    """The envelope of a message that a room decided."""
    return Envelope(
        v=2,
        id=posted.id,
        room=place.room,
        key=place.key,
        kind=posted.kind,
        chain=posted.chain,
        hops=posted.hops,
        authored_at=place.at,
        counter=posted.counter,
        previous=place.previous,
        shown=words.shown.number,
        line=words.shown.line,
        nonce=nonce,
        host=place.by.host,
        via=place.by.via,
        parts=words.parts,
        to=posted.to,
        role=posted.role,
        visibility=posted.visibility,
        reply_to=posted.reply_to,
    )


def signer_of(statement: Statement, by: By) -> str:
    """Who signs a statement that leads to a fact by `by`: the agent itself, or its person."""
    match statement:
        case DecisionStatement(proof="none", by_key=msgspec.UNSET):
            return by.actor
        case KnockStatement() | JoinCard() | SealingKey() | AgentCard():
            return by.actor
        case _:
            return by.principal


class LocalAuthor:
    """Writes and signs for the person and the agents whose keys this home holds."""

    def __init__(self, keys: Signers, random: Randomness) -> None:
        self._keys = keys
        self._random = random
        self._proven: set[AgentId] = set()
        """Authors of whom one signature was checked. See `_verdict`."""

    def sign(self, words: Draft, posted: e.MessagePosted, place: Place) -> SignedEnvelope:
        """Build and sign the envelope. Raises `Refused(no_such_agent)` for a lost key, and what sealing it raises."""
        envelope = composed(words, posted, place, self._random.bytes(16))
        body = encode_envelope(envelope if words.seal is None else words.seal(envelope))
        author = place.by.actor
        signature = self._keys.sign(author, "parler/message", body)
        return SignedEnvelope(body, signature, self._verdict(author, body, signature))

    def attest(self, statement: Statement, by: By) -> Attested:
        """Fill in the nonce, where there is none, and sign. Raises `Refused(no_such_agent)` for a lost key."""
        if not statement.nonce:
            statement = msgspec.structs.replace(statement, nonce=self._random.bytes(NONCE))
        body = encode(statement)
        return Attested(body, self._keys.sign(signer_of(statement, by), statement.TAG, body))

    def gate(self, author: AgentId, body: bytes) -> bytes:
        """The author's signature of a gated message. Raises `Refused(no_such_agent)` for a lost key."""
        return self._keys.sign(author, "parler/gated", body)

    def _verdict(self, author: AgentId, body: bytes, signature: bytes) -> Verified:
        """What a check of the signature says. This home made it with a key that it holds in memory, so the first of
        each author is checked, and the others come out alike: a check costs as much as half a message."""
        if author not in self._proven:
            if not verify(author, "parler/message", body, signature):
                return "invalid"
            self._proven.add(author)
        return "valid"


class Admission:
    """Takes in what an author signed elsewhere, as it stands. A home that admits holds no key of the author."""

    def take(
        self, author: AgentId, body: bytes, signature: bytes, *, operation: str = "message.send"
    ) -> tuple[c.PostMessage, Finished]:
        """The command that asks the room for a finished envelope, and what goes with it. The room compares the host and
        the door in the envelope with those of whoever brings the command.

        This looks at everything that needs no room, so that what is refused here takes no place in a line. Raises
        `Refused` as `finished` does.
        """
        finished = self.finished(author, body, signature)
        envelope = finished.envelope
        turn, ttl_ms = turn_of(envelope.parts)
        command = c.PostMessage(
            operation=operation,
            idempotency_key=envelope.key,
            input=request_digest(envelope),
            kind=envelope.kind,
            id=envelope.id,
            # For whom an offer or an answer is, the room decides: the envelope has to say the same.
            to=() if turn else envelope.to,
            taker="".join((envelope.role, *envelope.to)) if turn == "offered" else "",
            turn=turn,
            ttl_ms=ttl_ms,
            due=due_of(envelope.parts),
            visibility=envelope.visibility,
            reply_to=envelope.reply_to,
            memory=memory_of(envelope.parts),
            guard=guard_of(envelope.parts),
            blob=blob_of(envelope.parts),
            envelope=envelope,
        )
        return command, finished

    def finished(self, author: AgentId, body: bytes, signature: bytes) -> Finished:
        """The envelope in these bytes, once its signature and its form are sound. Raises `Refused`: `envelope_refused`
        (`what` names the signature or the field), or what `core.words` raises for words."""
        if len(body) > MAX_BYTES:
            # Before the signature, whose check reads all of it.
            raise Refused("text_too_long", f"The envelope has {len(body)} bytes; it holds {MAX_BYTES}.")
        if not verify(author, "parler/message", body, signature):
            raise Refused("envelope_refused", what="signature")
        envelope = read_body(body)
        if envelope.v == SEALED:
            check_sealed(envelope)
        else:
            check_envelope(envelope)
        return Finished(envelope, body, signature)

    def open(
        self,
        by: By,
        opening: Attested,
        title: bytes,
        terms: Attested,
        *,
        home: HomeId,
        mint: KeyId,
        idempotency_key: str,
        recap: Finished | None = None,
        epoch: Turned | None = None,
    ) -> tuple[c.OpenRoom, Stated]:
        """The command that opens a room of this home as its owner, who is `by`, and the owner's person signed it. The
        command names the room, whose id follows from the opening. `mint` is this home's id of the room's first key.
        A sealed room has no `title`, and a first `epoch`.

        Raises `Refused(statement_refused)`.
        """
        settled = self._signed(opening, Opening, by)
        if settled.home != home:
            raise Refused("statement_refused", what="home")
        command = c.OpenRoom(
            operation="session.open",
            idempotency_key=idempotency_key,
            # An opening that is signed again has the same bytes, because its nonce follows from the key.
            input=hashlib.sha256(opening.body).digest(),
            room=room_id_of(opening.body),
            opening=settled,
            title=None if epoch is not None and not title else check_title(title, settled.title),
            epoch=None if epoch is None else epoch.new,
            mint=mint,
            terms=self._signed(terms, KeyTerms, by),
            recap=recap is not None,
            envelope=None if recap is None else recap.envelope,
        )
        return command, Stated({Opening: opening, KeyTerms: terms}, title, recap, _kept(epoch))

    def knock(
        self,
        by: By,
        knock: Attested,
        *,
        key_id: KeyId,
        wall: Millis,
        role: str = "",
        sealing_key: Attested | None = None,
        epoch: Turned | None = None,
    ) -> tuple[c.Knock, Stated]:
        """The command by which an agent knocks that signed its knock elsewhere. `key_id` is this home's id of the key,
        `wall` its wall clock's time, and `role` the role that the agent asks for, which nobody signs. At a sealed queue
        of its own person the agent's `sealing_key` comes along, and the `epoch` by which it reads. Raises
        `Refused(statement_refused)`."""
        statement = self._signed(knock, KnockStatement, by)
        key = None if sealing_key is None else self._key(sealing_key, by)
        stated: dict[type[Statement], Attested] = {KnockStatement: knock}
        if sealing_key is not None:
            stated[SealingKey] = sealing_key
        command = c.Knock(
            operation="session.join",
            key_id=key_id,
            name=statement.name,
            host=statement.host,
            wall=wall,
            role=role,
            statement=statement,
            sealing_key=key,
            epoch=None if epoch is None else epoch.new,
        )
        return command, Stated(stated, epoch=_kept(epoch))

    def begin_exchange(
        self,
        by: By,
        card: Attested,
        share: bytes,
        *,
        key_id: KeyId,
        route: str,
        wall: Millis,
        role: str,
        sealing_key: Attested,
    ) -> tuple[c.Knock, Stated]:
        """The command by which an agent elsewhere begins to come into a sealed room, by a key of this `route`. Raises
        `Refused`: `statement_refused`, `sealing_key_refused`."""
        statement = self._signed(card, JoinCard, by)
        if statement.route != route:
            raise Refused("statement_refused", what="route")
        command = c.Knock(
            operation="session.join",
            key_id=key_id,
            name=statement.name,
            host="",
            wall=wall,
            role=role,
            card=statement,
            share=share,
            sealing_key=self._key(sealing_key, by),
        )
        return command, Stated({JoinCard: card, SealingKey: sealing_key})

    def sealing_key(self, by: By, sealing_key: Attested) -> tuple[c.TellSealingKey, Stated]:
        """The command by which an agent tells a fresh key that it signed elsewhere. Raises `Refused`:
        `statement_refused`, `sealing_key_refused`."""
        command = c.TellSealingKey(operation="link.sealing_key", sealing_key=self._key(sealing_key, by))
        return command, Stated({SealingKey: sealing_key})

    def _key(self, finished: Attested, by: By) -> SealingKey:
        """A sealing key that the agent of `by` signed, and that is one: to some points everybody could read what is
        wrapped, and one such key would keep the owner's machine from making any record."""
        key = self._signed(finished, SealingKey, by)
        check_key(key.key)
        return key

    def epoch(self, record: bytes, signature: bytes, wraps: bytes, by: PrincipalId) -> Turned:
        """An epoch of a sealed room that `by` signed, with the keys that the agents in it signed. It takes a check of a
        signature for each of them. Raises `Refused`: `statement_refused`, `sealing_key_refused`."""
        checked = epochs.read(record, signature, owners=(by,))
        new = c.NewEpoch(record=checked, digest=record_digest(record), wraps=wraps)
        return Turned(new, Attested(encode_turned(record, wraps), signature))

    def turn(self, by: By, epoch: Turned) -> tuple[c.TurnEpoch, Stated]:
        """The command by which an epoch begins that belongs to no decision of this moment."""
        command = c.TurnEpoch(operation="link.epoch", epoch=epoch.new, principal=by.principal)
        return command, Stated({}, epoch=epoch.kept)

    def kick(self, by: By, agent: AgentId, epoch: Turned | None) -> tuple[c.Kick, Stated]:
        """The command by which the person of `by` puts a member out, with the epoch from which on that member cannot
        read."""
        new = None if epoch is None else epoch.new
        command = c.Kick(operation="room.kick", agent=agent, principal=by.principal, epoch=new)
        return command, Stated({}, epoch=_kept(epoch))

    def decide(
        self,
        by: By,
        decision: Attested,
        epoch: Turned | None = None,
        knock: Attested | None = None,
        granted: bytes = b"",
    ) -> tuple[c.DecideRequest, Stated]:
        """The command by which a decision counts that was signed elsewhere: by the person of `by` or, without a proof
        that a person decided, by the agent. In a sealed room the `epoch` may come along that carries it out, and the
        `knock` does of whoever is admitted, with what is `granted` to that agent alone. Raises
        `Refused(statement_refused)`."""
        said = None if knock is None else check(knock.body, KnockStatement)
        if said is not None and knock is not None:
            signed(KnockStatement, knock.body, knock.signature, said.agent)
        statement = self._signed(decision, DecisionStatement, by)
        command = c.DecideRequest(
            operation="session.approve" if statement.admit else "session.deny",
            request=statement.request,
            admit=statement.admit,
            proof=statement.proof,
            principal=by.principal,
            statement=statement,
            epoch=None if epoch is None else epoch.new,
            digest=b"" if epoch is None else hashlib.sha256(decision.body).digest(),
            by_key=statement.by_key is not msgspec.UNSET,
            knock=said,
            granted=granted,
        )
        stated: dict[type[Statement], Attested] = {DecisionStatement: decision}
        if knock is not None:
            stated[KnockStatement] = knock
        return command, Stated(stated, epoch=_kept(epoch))

    def mint(self, by: By, terms: Attested, *, mint: KeyId) -> tuple[c.MintKey, Stated]:
        """The command by which a key comes to be whose terms the person of `by` signed elsewhere. `mint` is this home's
        id of the key. Raises `Refused(statement_refused)`."""
        statement = self._signed(terms, KeyTerms, by)
        command = c.MintKey(operation="room.invite", mint=mint, terms=statement, principal=by.principal)
        return command, Stated({KeyTerms: terms})

    def transfer(self, by: By, transfer: Attested) -> tuple[c.ChangeOwner, Stated]:
        """The command by which a room has another owner, as the person of `by` signed elsewhere. Raises
        `Refused(statement_refused)`."""
        statement = self._signed(transfer, Transfer, by)
        command = c.ChangeOwner(
            operation="room.takeover" if statement.taken else "room.transfer",
            owner=statement.owner,
            principal=by.principal,
            takes=statement.taken,
            statement=statement,
        )
        return command, Stated({Transfer: transfer})

    def owner_line(self, by: By, line: Attested) -> tuple[c.TellOwnerLine, Stated]:
        """The command by which the home of a room's owner says that it is there, as the person of `by` signed
        elsewhere. Raises `Refused(statement_refused)`."""
        statement = self._signed(line, OwnerLine, by)
        command = c.TellOwnerLine(operation="link.owner_line", principal=by.principal, statement=statement)
        return command, Stated({OwnerLine: line})

    def rewind(self, by: By, rewind: Attested) -> tuple[c.RewindRoom, Stated]:
        """The command by which a room goes on from where it stands, as the person of `by` signed elsewhere. Raises
        `Refused(statement_refused)`."""
        statement = self._signed(rewind, Rewind, by)
        command = c.RewindRoom(operation="room.rewind", principal=by.principal, statement=statement)
        return command, Stated({Rewind: rewind})

    def publish(self, by: By, card: Attested, *, home: HomeId, most: int) -> tuple[c.PublishCard, Stated]:
        """The command by which the card of an agent comes into this home's directory that signed the card elsewhere.
        `most` is how many agents of one person may have a card. Raises `Refused(statement_refused)`."""
        statement = self._signed(card, AgentCard, by)
        for what, is_so in (("agent", by.actor), ("principal", by.principal), ("home", home)):
            if getattr(statement, what) != is_so:
                raise Refused("statement_refused", what=what)
        return c.PublishCard(operation="directory.register", card=statement, most=most), Stated({AgentCard: card})

    def _signed(self, finished: Attested, kind: type[S], by: By) -> S:
        """A statement that its author finished, once its form and its signature are sound."""
        return signed(kind, finished.body, finished.signature, signer_of(check(finished.body, kind), by))

    def sign(self, words: Finished, posted: e.MessagePosted, place: Place) -> SignedEnvelope:
        """The envelope as its author signed it. The room has compared it with what it decided."""
        return SignedEnvelope(words.body, words.signature, "valid")


def request_digest(envelope: Envelope) -> bytes:
    """The digest by which a repeated request is known. It leaves out what an author signs anew for each attempt (its
    counter, the nonce, the time), so that a message that is signed again after a lost answer is a replay. Of a sealed
    message the author's home made the digest, of what nobody else reads."""
    if envelope.v == SEALED:
        return sealed_part(envelope).input
    said = (
        envelope.kind,
        envelope.to,
        envelope.role,
        envelope.visibility,
        envelope.reply_to,
        envelope.parts,
    )
    return hashlib.sha256(msgspec.msgpack.encode(said, order="sorted")).digest()
