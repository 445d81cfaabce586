"""The examples of docs/sealed.md: what the code makes today, and what a second implementation reads in them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from nacl.exceptions import CryptoError

from parlerd.core.direct_keys import encode_published
from parlerd.core.envelope import RELEASED, GatePart, TextPart, decode_envelope, encode_envelope, opened
from parlerd.core.epoch_record import roster_digest
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, RosterEntry
from parlerd.core.sealing import joined, padded_length
from parlerd.core.statements import Owner, OwnerLine, SealingKey, Transfer, check, encode
from parlerd.identity import direct_keys, epochs
from parlerd.identity.proofs import check_released, named_in, owner_after, signed, succeeds
from parlerd.identity.signatures import verify
from tests.support import sealed_again as again
from tests.support.sealed_vectors import file_of, plain, recorded, vectors
from tests.support.sealing import BEN, CAT, OLIVE, Repeating, composed, open_sealed, sealed, turned

EXAMPLES = recorded()


def raw(example: dict[str, Any], *names: str) -> list[bytes]:
    """These fields of an example, as bytes."""
    return [bytes.fromhex(example[name]) for name in names]


def each(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", EXAMPLES[name])


def unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data)


def test_the_code_derives_and_seals_what_it_always_did() -> None:
    assert plain(vectors()) == EXAMPLES, "run: python -m tests.support.sealed_vectors"


@each("derive")
def test_a_derived_key(example: dict[str, Any]) -> None:
    key, derived = raw(example, "key", "derived")
    assert again.kdf(key, example["purpose"], *map(bytes.fromhex, example["fields"])) == derived


@each("padding")
def test_a_padded_length(example: dict[str, Any]) -> None:
    assert again.padded_length(example["length"]) == example["padded"]


@given(st.integers(0, 2**30))
def test_any_padded_length(length: int) -> None:
    assert again.padded_length(length) == padded_length(length)


@each("wrap")
def test_a_wrap(example: dict[str, Any]) -> None:
    private, ephemeral, wrap, payload = raw(example, "private", "ephemeral", "wrap", "payload")
    assert again.unwrap(private, ephemeral, wrap, *map(bytes.fromhex, example["context"])) == payload


@each("message")
def test_a_message(example: dict[str, Any]) -> None:
    secret, body, key, inside = raw(example, "secret", "envelope", "key", "inside")
    envelope = unpacked(body)
    assert again.message_key(secret, envelope, example["author"]) == key
    assert again.words(body, key) == unpacked(inside)


@each("private")
def test_a_private_message(example: dict[str, Any]) -> None:
    private, body, key, inside = raw(example, "private", "envelope", "key", "inside")
    envelope = unpacked(body)
    assert again.private_key(envelope, example["author"], example["reader"], private) == key
    assert again.words(body, key) == unpacked(inside)


@each("gated")
def test_a_message_that_waits(example: dict[str, Any]) -> None:
    secret, private, shown, body, inside = raw(example, "secret", "private", "released", "envelope", "inside")
    author, reader = example["author"], example["reader"]
    assert again.gated(shown, author) == body
    envelope = unpacked(body)
    is_private = envelope.get("visibility") is not None
    key = (
        again.private_key(envelope, author, reader, private)
        if is_private
        else again.message_key(secret, envelope, author)
    )
    words = again.words(body, key)
    assert words == unpacked(inside)
    # What the home goes by stands inside too, and what the home shows is read as that.
    assert words["parts"][-1] == envelope["parts"][-1]
    joined(decode_envelope(body), inside)
    check_released(author, shown)
    read = decode_envelope(opened(shown, b"", inside))
    assert (read.v, read.kind, [type(part) for part in read.parts][:1]) == (RELEASED, words["kind"], [TextPart])
    assert read.host == words["host"]


@each("gated")
def test_a_message_that_waits_under_another_condition_is_signed_by_nobody_and_opens_for_nobody(
    example: dict[str, Any],
) -> None:
    secret, private, body, signature = raw(example, "secret", "private", "envelope", "signature")
    envelope = decode_envelope(body)
    altered = encode_envelope(replace(envelope, parts=(envelope.parts[0], GatePart("true"))))
    assert not again.is_signed(example["author"], "parler/gated", altered, signature)
    assert not again.is_signed(example["author"], "parler/message", body, signature)
    fields = unpacked(altered)
    key = (
        again.message_key(secret, fields, example["author"])
        if envelope.visibility is None
        else again.private_key(fields, example["author"], example["reader"], private)
    )
    with pytest.raises(CryptoError):
        again.words(altered, key)


@each("handover")
def test_another_owner(example: dict[str, Any]) -> None:
    transfer, signature, record, record_signature = raw(example, "transfer", "signature", "record", "record_signature")
    owner, begins = example["owner"], example["records_begin"]
    told = transfer, signature, record, record_signature, owner
    assert again.records_begin(*told, 1) == begins
    said = check(transfer, Transfer)
    owners = [Owner(owner, said.owner)]
    named = named_in(said.room, said.home, owners, transfer, record, record_signature)
    found = succeeds(said.room, said.home, owners, transfer, signature, is_sealed=True, successor=named)
    assert owner_after(found).record + 1 == begins
    # A record of an owner before names nobody any more, and one that the owner did not sign never did.
    later = [Owner(owner, said.owner), Owner(owner, said.owner, begins)]
    forged = transfer, signature, record, bytes(64), owner
    assert again.records_begin(*told, begins) is None
    with pytest.raises(Refused):
        succeeds(said.room, said.home, later[1:], transfer, signature, is_sealed=True, successor=named)
    assert (again.records_begin(*forged, 1) is None) is said.taken
    assert named_in(said.room, said.home, owners, transfer, record, bytes(64)) is None


@each("owner_line")
def test_a_line_of_the_owner_s(example: dict[str, Any]) -> None:
    line, signature, record = raw(example, "line", "signature", "record")
    owner = example["owner"]
    assert again.line_fits(line, signature, owner, record, {})
    assert not again.line_fits(line, signature, owner, record, {12: b"other" * 6 + b"ab"})
    assert not again.line_fits(line, bytes(64), owner, record, {})
    said = signed(OwnerLine, line, signature, owner)
    assert (said.record, said.digest) == (unpacked(record)["number"], hashlib.sha256(record).digest())
    assert (said.public, said.line) == (12, b"l" * 32)


@each("record")
def test_a_record(example: dict[str, Any]) -> None:
    body, wraps, private, secret, before = raw(example, "record", "wraps", "private", "secret", "secret_before")
    record = unpacked(body)
    assert hashlib.sha256(body).hexdigest() == example["digest"]
    assert again.epoch_secret(record, wraps, example["member"], private) == secret
    assert again.boxed(record, secret, "card").hex() == example["card"]
    if before:
        assert again.boxed(record, secret, "link") == before
    entries = [[*told, bytes.fromhex(key), counter] for *told, key, counter in example["entries"]]
    roster = again.roster_digest(entries)
    assert roster == record["roster"] == bytes.fromhex(example["roster"])
    assert again.verify_words(record["room"], hashlib.sha256(body).digest(), roster) == example["verify"]
    read = epochs.read(body, bytes.fromhex(example["signature"]), owners=[example["owner"]])
    assert read.number == record["number"]


@each("queue")
def test_what_a_requester_of_a_queue_has(example: dict[str, Any]) -> None:
    body, wraps, private, secret, envelope = raw(example, "record", "wraps", "private", "secret", "envelope")
    record, requester = unpacked(body), example["requester"]
    own, card = again.requester_keys(record, wraps, requester, private)
    assert (own.hex(), card.hex()) == (example["asking_secret"], example["card_key"])
    assert again.requester_secret(secret, record, requester) == own
    assert again.kdf(secret, "sealed/card", record["room"].encode(), again.n8(record["number"])) == card
    assert again.unseal(card, record["card"][:24], record["card"][24:]).hex() == example["card"]
    key = again.message_key(own, unpacked(envelope), requester)
    assert key.hex() == example["key"]
    assert again.words(envelope, key) == unpacked(bytes.fromhex(example["inside"]))
    entries = [[*each[:3], bytes.fromhex(each[3]), *each[4:]] for each in example["entries"]]
    assert again.roster_digest(entries) == record["roster"]
    # Neither of the two opens what is sealed under the epoch's secret, or what another requester says.
    others = {each["asking_secret"] for each in EXAMPLES["queue"]} - {own.hex()}
    assert len(others) == 1
    for wrong in (secret, card, bytes.fromhex(others.pop())):
        with pytest.raises(CryptoError):
            again.words(envelope, again.message_key(wrong, unpacked(envelope), requester))


@pytest.mark.parametrize("count", [1, 15, 16, 1_024])
def test_a_roster_of_any_size(count: int) -> None:
    roster = {
        AgentId("U" + f"{n:055b}".replace("0", "A").replace("1", "B")): RosterEntry(
            OLIVE.principal, f"agent-{n}", bytes(32), 1
        )
        for n in range(count)
    }
    seats = [[agent, seat.principal, seat.handle, seat.key, seat.counter] for agent, seat in roster.items()]
    assert again.roster_digest(seats) == roster_digest(roster)


@each("hidden")
def test_what_stands_in_headers(example: dict[str, Any]) -> None:
    hiding, digest = raw(example, "hiding", "digest")
    assert again.hidden_key(hiding, example["room"], example["key"]) == example["hidden_key"]
    assert again.hidden_digest(hiding, example["room"], digest).hex() == example["hidden_digest"]


@each("file")
def test_a_file(example: dict[str, Any]) -> None:
    key, prefix = raw(example, "key", "prefix")
    data = file_of(example["size"])
    sealed_file = again.sealed_file(data, key, prefix)
    assert hashlib.sha256(sealed_file).hexdigest() == example["blob"]
    assert again.file(sealed_file, key, prefix) == data
    assert hashlib.sha256(data).hexdigest() == example["digest"]


@each("published")
def test_a_key_that_an_agent_told_for_rooms_of_two_and_the_record_that_is_wrapped_to_it(
    example: dict[str, Any],
) -> None:
    body, signature, key, record, wraps = raw(example, "body", "signature", "key", "record", "wraps")
    private, secret = raw(example, "private", "secret")
    home, agent = example["home"], example["agent"]
    told = (example["principal"], key, example["counter"])
    assert again.published(body, signature, home, agent) == told
    read = direct_keys.read(body, signature)
    assert (read.key.home, read.key.agent) == (home, agent)
    assert (read.principal, read.key.key, read.key.counter) == told
    assert again.epoch_secret(unpacked(record), wraps, agent, private) == secret
    [entry] = [each for each in unpacked(record)["added"] if each[0] == agent]
    assert entry[3:] == [unpacked(body)[0], signature]


@each("published")
@pytest.mark.parametrize("change", ["signature", "key", "low order", "delegation", "another agent"])
def test_a_key_for_rooms_of_two_that_the_agent_did_not_sign_is_read_by_neither(
    example: dict[str, Any], change: str
) -> None:
    body, signature = raw(example, "body", "signature")
    statement, text, by_person = unpacked(body)
    said, acts = check(statement, SealingKey), unpacked(text)
    [agent] = [each for each in (BEN, CAT) if each.id == said.agent]
    if change == "signature":
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    elif change == "key":
        statement = encode(replace(said, key=OLIVE.pair().public))
    elif change == "low order":
        statement = encode(replace(said, key=bytes(32)))
        signature = agent.sign(agent.id, "parler/sealing-key", statement)
    elif change == "delegation":
        by_person = agent.sign(agent.id, "parler/delegation", text)
    else:
        text = msgpack.packb({**acts, "agent": OLIVE.id})
        by_person = agent.sign(agent.principal, "parler/delegation", text)
    other = encode_published(statement, text, by_person)
    assert again.published(other, signature, example["home"], example["agent"]) is None
    with pytest.raises(Refused):
        direct_keys.read(other, signature)


@each("pake")
def test_a_key_exchange_after_its_shares(example: dict[str, Any]) -> None:
    key, card, answer = raw(example, "key", "card", "answer")
    joiner, _ = again.pake_names(example["home"], example["route"], card, example["owner"])
    assert joiner.hex() == example["joiner_name"]
    first, second, code, said = again.pake_end(key, answer)
    assert [first.hex(), second.hex(), code, said.hex()] == [
        example[name] for name in ("joiner_proof", "owner_proof", "code", "said")
    ]


@each("knock")
def test_a_key_of_a_sealed_room_and_the_knock_that_is_sealed_with_it(example: dict[str, Any]) -> None:
    key, sealed_knock = raw(example, "key", "sealed")
    assert again.opened_knock(key, sealed_knock).hex() == example["knock"]
    assert again.read_key(example["session_key"]) == (example["route"], example["secret"], example["relay"])


@each("card")
def test_a_card_is_a_map_that_its_agent_signed(example: dict[str, Any]) -> None:
    card, signature, key, nonce = raw(example, "card", "signature", "key", "nonce")
    said = {name: example[name] for name in ("home", "route", "agent", "principal", "name", "at")}
    assert msgpack.unpackb(card) == {"v": 1, **said, "key": key, "nonce": nonce}
    assert verify(example["agent"], "parler/join", card, signature)


@each("pake")
def test_the_key_of_an_exchange_is_over_both_names_and_both_shares(example: dict[str, Any]) -> None:
    card, joiner_share, owner_share = raw(example, "card", "joiner_share", "owner_share")
    names = again.pake_names(example["home"], example["route"], card, example["owner"])
    scalar = bytes.fromhex(json.loads(bytes.fromhex(example["joiner_state"]))["xy_scalar"])
    assert again.pake_key(example["secret"], *names, scalar, joiner_share, owner_share).hex() == example["key"]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=3_000), st.booleans(), st.integers(0, 2**53 - 1))
def test_a_second_implementation_reads_any_message_of_the_first(text: str, is_private: bool, shown: int) -> None:
    made = turned(turned(None, [OLIVE]), [BEN, CAT], random=Repeating("second"))
    message = composed(TextPart(text), shown=shown, visibility=[BEN] if is_private else None)
    body = encode_envelope(sealed(message, OLIVE, made, [BEN] if is_private else None))
    envelope = unpacked(body)
    if is_private:
        key = again.private_key(envelope, OLIVE.id, BEN.id, BEN.pair().private)
    else:
        key = again.message_key(made.epoch.secret, envelope, OLIVE.id)
    assert again.words(body, key)["parts"] == [{"type": "text", "text": text}]


def test_the_first_implementation_reads_what_the_second_seals() -> None:
    """In the second one's own encoding, which is not that of the first."""
    made = turned(None, [OLIVE])
    fields = unpacked(encode_envelope(sealed(composed(), OLIVE, made)))
    said = {"v": 1, "kind": "text", "authored_at": 7, "host": "codex", "via": "mcp"}
    body = again.seal(
        fields, made.epoch.secret, OLIVE.id, {**said, "parts": [{"type": "text", "text": "hello"}]}, b"n" * 24
    )
    assert body != encode_envelope(decode_envelope(body))
    words = open_sealed(body, author=OLIVE.id, epoch=made.epoch)
    assert joined(decode_envelope(body), words).parts == (TextPart("hello"),)


def test_a_second_implementation_refuses_what_the_first_refuses() -> None:
    made = turned(None, [OLIVE])
    body = encode_envelope(sealed(composed(TextPart("hello")), OLIVE, made))
    key = again.message_key(made.epoch.secret, unpacked(body), OLIVE.id)
    assert again.words(body, key)["kind"] == "text"
    with pytest.raises(CryptoError):
        again.words(body.replace(b"text", b"task", 1), key)
