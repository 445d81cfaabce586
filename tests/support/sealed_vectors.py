"""An example of every derivation of sealed rooms, with which another implementation can be held against ours.

`tests/golden/sealed.json` holds them, bytes in hex. They never change: what was sealed is read for ever. A test
compares the file with what the code gives today, and with what `sealed_again` gives.

    python -m tests.support.sealed_vectors

writes the examples that the file does not have yet.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import msgspec

from parlerd.core.direct_keys import encode_published
from parlerd.core.envelope import (
    BlobPart,
    BlobSeal,
    DataPart,
    GatedPart,
    GatePart,
    GateTimer,
    HandoffPart,
    TaskPart,
    TextPart,
    encode_envelope,
)
from parlerd.core.epoch_record import check_wraps, encode_card, roster_digest
from parlerd.core.gated import released
from parlerd.core.model import BlobId, MessageId, Millis
from parlerd.core.sealing import CHUNK, padded_length, sealed_part
from parlerd.core.statements import JoinCard, OwnerLine, Transfer, encode
from parlerd.identity import codes, delegation, epochs, pake, sealing
from parlerd.identity.sealed_files import FileSealer
from tests.support.golden import GOLDEN
from tests.support.sealing import (
    BEN,
    CARD,
    CAT,
    OLIVE,
    RELAY,
    ROOM,
    Person,
    Repeating,
    composed,
    open_sealed,
    sealed,
    turned,
)

FILE: Final = GOLDEN / "sealed.json"
LENGTHS: Final = (0, 1, 62, 63, 64, 1_022, 1_023, 1_024, 2_047, 2_048, 9_999, 100_000, 2**20 + 1)
Vectors = dict[str, list[dict[str, Any]]]


def file_of(size: int) -> bytes:
    """The file that an example seals."""
    return hashlib.shake_256(b"a file").digest(size)


def vectors() -> Vectors:
    """All of them, by what they show."""
    first = turned(None, [OLIVE], random=Repeating("first"))
    second = turned(first, [BEN, CAT], random=Repeating("second"))
    third = turned(second, [], [CAT], random=Repeating("third"))
    asked = turned(second, requesters=[BEN.id, CAT.id], random=Repeating("asked"))
    naming = turned(third, successor=BEN.principal, random=Repeating("naming"))
    return {
        "derive": [
            {
                "key": key,
                "purpose": purpose,
                "fields": fields,
                "derived": sealing.derive(key, purpose.encode(), *fields),
            }
            for key, purpose, fields in (
                (bytes(32), "sealed/secret", []),
                (bytes(range(32)), "sealed/message", [b"a", b"", b"bc"]),
                (b"k" * 32, "sixteen bytes it", [bytes(300)]),
            )
        ],
        "padding": [{"length": length, "padded": padded_length(length)} for length in LENGTHS],
        "wrap": [_wrapped(b"p" * 32, b"context"), _wrapped(b"", b"one", b"two"), _wrapped(bytes(32))],
        "message": [
            _message(composed(TextPart("hello")), second),
            _message(composed(TextPart("g\u00fcltig \u2713" * 300), DataPart({"k": [1, 2.5, None]}), id="m_2"), third),
            _message(composed(TextPart("do it"), TaskPart(ttl_ms=Millis(60_000)), id="m_3", kind="task"), second),
            _message(composed(HandoffPart(next="go on", goal="all"), id="m_4", kind="handoff", to=(BEN.id,)), second),
            _message(composed(_blob(), id="m_5", kind="file"), second),
            _message(composed(TextPart("a poem"), id="m_6", kind="poem", shown=7, previous=b"p" * 32), second),
        ],
        "private": [
            _private(composed(TextPart("for ben"), visibility=[BEN]), second, [BEN], BEN),
            _private(composed(TextPart("for two"), id="m_2", visibility=[CAT, BEN]), second, [BEN, CAT], OLIVE),
        ],
        "gated": [
            _gated(second, None, OLIVE, GatePart(enabled="has(state._shared.open)")),
            _gated(second, [BEN], BEN, GatePart(timer=GateTimer("enable", ms=Millis(60_000)))),
            _gated(second, None, OLIVE, GatePart("1 == 1", GateTimer("delete", at=Millis(9))), kind="task", until=9),
        ],
        "record": [
            _record(first, OLIVE, None),
            _record(second, CAT, first),
            _record(third, OLIVE, second),
            _record(naming, OLIVE, third),
        ],
        "queue": [_queue(asked, CAT), _queue(asked, BEN)],
        "handover": [
            _handover(naming, BEN),
            _handover(naming, None),
        ],
        "owner_line": [_owner_line(third)],
        "hidden": [
            {
                "hiding": b"h" * 32,
                "room": ROOM,
                "key": "retry-7",
                "hidden_key": sealing.hidden_key(b"h" * 32, ROOM, "retry-7"),
                "digest": b"d" * 32,
                "hidden_digest": sealing.hidden_digest(b"h" * 32, ROOM, b"d" * 32),
            }
        ],
        "file": [_file(size) for size in (0, 1, CHUNK, CHUNK + 1, 2 * CHUNK + 100)],
        "pake": [_pake()],
        "card": [_card()],
        "published": [_published(BEN, 1), _published(CAT, 2)],
        "knock": [_knock()],
    }


def _wrapped(payload: bytes, *context: bytes) -> dict[str, Any]:
    ephemeral, mine = sealing.key_pair(b"e" * 32), BEN.pair()
    return {
        "private": mine.private,
        "public": mine.public,
        "ephemeral_private": ephemeral.private,
        "ephemeral": ephemeral.public,
        "context": list(context),
        "payload": payload,
        "wrap": sealing.wrap(payload, mine.public, ephemeral, *context),
    }


def _message(message: Any, made: epochs.Made) -> dict[str, Any]:
    envelope = sealed(message, OLIVE, made, seed=message.id)
    return {
        "author": OLIVE.id,
        "secret": made.epoch.secret,
        "envelope": encode_envelope(envelope),
        "key": sealing.key_of(envelope, author=OLIVE.id, epoch=made.epoch),
        "inside": open_sealed(encode_envelope(envelope), author=OLIVE.id, epoch=made.epoch),
    }


def _private(message: Any, made: epochs.Made, readers: list[Person], reader: Person) -> dict[str, Any]:
    envelope = sealed(message, OLIVE, made, readers, seed=message.id)
    me = (reader.id, reader.pair())
    return {
        "author": OLIVE.id,
        "reader": reader.id,
        "private": reader.pair().private,
        "envelope": encode_envelope(envelope),
        "digest": sealed_part(envelope).digest,
        "key": sealing.key_of(envelope, author=OLIVE.id, me=me),
        "inside": open_sealed(encode_envelope(envelope), author=OLIVE.id, me=me),
    }


def _gated(
    made: epochs.Made, readers: list[Person] | None, reader: Person, gate: GatePart, *, until: int = 0, **more: Any
) -> dict[str, Any]:
    """A message that waits, as its author signs it and as a home shows it."""
    visibility = None if readers is None else sorted([*readers, OLIVE], key=lambda each: each.id)
    fields: dict[str, Any] = {"id": "m_7", "counter": 0, "visibility": visibility, **more}
    envelope = sealed(composed(TextPart("later"), gate, **fields), OLIVE, made, readers, seed=f"gated {gate}")
    body = encode_envelope(envelope)
    signature = OLIVE.signing.sign("parler/gated", body)
    shown = released(GatedPart(body, signature), MessageId("m_8"), envelope.visibility, open_until=Millis(until))
    me = (reader.id, reader.pair())
    return {
        "author": OLIVE.id,
        "secret": made.epoch.secret,
        "reader": reader.id,
        "private": reader.pair().private,
        "released": encode_envelope(shown),
        "envelope": body,
        "signature": signature,
        "inside": open_sealed(body, author=OLIVE.id, epoch=made.epoch, me=me),
    }


def _record(made: epochs.Made, member: Person, before: epochs.Made | None) -> dict[str, Any]:
    roster = made.roster
    return {
        "record": made.body,
        "signature": OLIVE.person.sign("parler/epoch", made.body),
        "owner": OLIVE.principal,
        "digest": made.epoch.record,
        "wraps": made.wraps,
        "member": member.id,
        "private": member.pair().private,
        "secret": made.epoch.secret,
        "secret_before": b"" if before is None else before.epoch.secret,
        "card": encode_card(CARD),
        "entries": [
            [agent, entry.principal, entry.handle, entry.key, entry.counter] for agent, entry in sorted(roster.items())
        ],
        "roster": roster_digest(roster),
        "verify": epochs.verify_words(ROOM, made.epoch.record, roster),
    }


def _queue(made: epochs.Made, requester: Person) -> dict[str, Any]:
    """The record of a queue as somebody has it who only asks for work, and a message of theirs for the workers."""
    wraps = check_wraps(made.wraps, made.record, made.roster)
    asking = epochs.asking_of(made.record, wraps, requester.id, requester.pair())
    epoch = made.epoch._replace(secret=asking.secret)
    envelope = sealing.seal(
        composed(TextPart("review it"), id="m_7", kind="task"),
        author=requester.id,
        epoch=epoch,
        input=b"i" * 32,
        random=Repeating(requester.id),
    )
    body = encode_envelope(envelope)
    return {
        "record": made.body,
        "wraps": made.wraps,
        "secret": made.epoch.secret,
        "requester": requester.id,
        "private": requester.pair().private,
        "asking_secret": asking.secret,
        "card_key": asking.card,
        "card": encode_card(CARD),
        "entries": [
            [agent, entry.principal, entry.handle, entry.key, entry.counter, *([True] if entry.requester else [])]
            for agent, entry in sorted(made.roster.items())
        ],
        "envelope": body,
        "key": sealing.key_of(envelope, author=requester.id, epoch=epoch),
        "inside": open_sealed(body, author=requester.id, epoch=epoch),
    }


def _handover(naming: epochs.Made, taker: Person | None) -> dict[str, Any]:
    """That the room is another's behind a record: taken over by whom that record names, or handed to somebody."""
    owner = BEN if taker is None else taker
    statement = Transfer(
        home=RELAY,
        room=ROOM,
        number=1,
        owner=owner.id,
        principal=owner.principal,
        taken=taker is not None,
        record=naming.record.number,
        at=Millis(9),
        nonce=b"n" * 16,
    )
    body = encode(statement)
    return {
        "transfer": body,
        "signature": (OLIVE if taker is None else taker).person.sign("parler/transfer", body),
        "owner": OLIVE.principal,
        "record": naming.body,
        "record_signature": OLIVE.person.sign("parler/epoch", naming.body),
        "records_begin": naming.record.number + 1,
    }


def _owner_line(made: epochs.Made) -> dict[str, Any]:
    statement = OwnerLine(
        home=RELAY,
        room=ROOM,
        record=made.record.number,
        digest=made.epoch.record,
        public=12,
        line=b"l" * 32,
        at=Millis(9),
        nonce=b"n" * 16,
    )
    body = encode(statement)
    return {
        "line": body,
        "signature": OLIVE.person.sign("parler/owner-line", body),
        "owner": OLIVE.principal,
        "record": made.body,
    }


def _blob() -> BlobPart:
    return BlobPart(
        blob=BlobId("ab" * 32), size=70_000, name="notes.txt", seal=BlobSeal(b"k" * 32, b"p" * 19, b"d" * 32)
    )


def _file(size: int) -> dict[str, Any]:
    sealer = FileSealer(Repeating(f"file {size}"))
    begun = sealer.update(file_of(size))
    last, seal = sealer.finish()
    return {
        "size": size,
        "key": seal.key,
        "prefix": seal.prefix,
        "digest": seal.digest,
        "blob": hashlib.sha256(begun + last).digest(),
    }


def _pake() -> dict[str, Any]:
    told: dict[str, Any] = {"home": RELAY, "route": "A3KE7D", "card": b"a card"}
    begun = pake.Joiner.begin("4MWX2B9Q", **told, random=Repeating("joiner"))
    share, agreed = pake.answer("4MWX2B9Q", **told, share=begun.share, owner=OLIVE.principal, random=Repeating("owner"))
    joiner = begun.finish(share, OLIVE.principal)
    owner = agreed.confirmed(joiner.proof)
    return {
        **told,
        "secret": "4MWX2B9Q",
        "owner": OLIVE.principal,
        "joiner_name": bytes.fromhex(json.loads(begun.state)["idA"]),
        "joiner_share": begun.share,
        "joiner_state": begun.state,
        "owner_share": share,
        "key": msgspec.msgpack.decode(agreed.state, type=tuple[str, bytes, int])[1],
        "joiner_proof": joiner.proof,
        "owner_proof": owner.proof,
        "code": owner.code,
        "answer": owner.seal_answer(b"which room", Repeating("answer")),
        "said": b"which room",
    }


def _knock() -> dict[str, Any]:
    """A key of a sealed room, and what a joiner seals beside its proof."""
    key = bytes(range(32))
    return {
        "session_key": codes.write_sealed_key("A3KE7D", "4MWX2B9Q", "team-7f3k2q"),
        "route": "A3KE7D",
        "secret": "4MWX2B9Q",
        "relay": "team-7f3k2q",
        "key": key,
        "sealed": pake.Agreed("joiner", key).seal_knock(b"a knock", Repeating("knock")),
        "knock": b"a knock",
    }


def _card() -> dict[str, Any]:
    """What an agent signs that begins to come in, and the parts of it."""
    fields: dict[str, Any] = {
        "home": RELAY,
        "route": "A3KE7D",
        "agent": BEN.id,
        "principal": BEN.principal,
        "name": "ben",
        "key": bytes(range(32)),
        "at": Millis(7),
        "nonce": bytes(16),
    }
    card = encode(JoinCard(**fields))
    return {**fields, "card": card, "signature": BEN.signing.sign("parler/join", card)}


def _published(agent: Person, counter: int) -> dict[str, Any]:
    """What an agent tells a relay for rooms of two, and the record with which somebody opens one for it."""
    added = agent.added(counter)
    text, by_person = delegation.issue(agent, agent.id, Millis(7))
    made = turned(None, [OLIVE, added], random=Repeating(f"two {agent.name}"))
    return {
        "body": encode_published(added.statement, text, by_person),
        "signature": added.signature,
        "home": RELAY,
        "agent": agent.id,
        "principal": agent.principal,
        "key": agent.pair(counter).public,
        "counter": counter,
        "record": made.body,
        "wraps": made.wraps,
        "private": agent.pair(counter).private,
        "secret": made.epoch.secret,
    }


def plain(value: Any) -> Any:
    """The same with bytes in hex, for JSON."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {name: plain(each) for name, each in value.items()}
        case list():
            return [plain(each) for each in value]
        case _:
            return value


def recorded() -> Vectors:
    """What the file holds."""
    found: Vectors = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return found


def main() -> None:
    """Write what is missing. An example that is there stays as it is."""
    known = recorded()
    for name, examples in plain(vectors()).items():
        known.setdefault(name, [])
        known[name] += examples[len(known[name]) :]
    FILE.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
