"""A second implementation of sealed rooms, from docs/sealed.md alone: what it shares with the first is libsodium.

It reads what the first writes, and checks nothing that is not needed to read. BLAKE2b is libsodium's here and Python's
own there, and msgpack is the package of that name.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgpack
from nacl import bindings
from nacl.bindings import crypto_generichash
from nacl.exceptions import BadSignatureError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def n8(number: int) -> bytes:
    return number.to_bytes(8, "big")


def joined(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def kdf(key: bytes, purpose: str, *fields: bytes) -> bytes:
    return crypto_generichash.generichash_blake2b_salt_personal(joined(*fields), 32, key, b"", purpose.encode())


def unseal(key: bytes, nonce: bytes, text: bytes, clear: bytes = b"") -> bytes:
    return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(text, clear, nonce, key)


def unwrap(private: bytes, ephemeral: bytes, wrap: bytes, *context: bytes) -> bytes:
    public = bindings.crypto_scalarmult_base(private)
    key = kdf(bindings.crypto_scalarmult(private, ephemeral), "sealed/wrap", ephemeral, public, *context)
    return unseal(key, bytes(24), wrap)


def padded_length(length: int) -> int:
    with_end = length + 1
    if with_end <= 1024:
        return (with_end + 63) // 64 * 64
    exponent = with_end.bit_length() - 1
    step: int = 2 ** (exponent - exponent.bit_length())
    return (with_end + step - 1) // step * step


def unpad(padded: bytes) -> bytes:
    data, end, zeros = padded.rpartition(b"\x80")
    assert end
    assert not zeros.strip(b"\0")
    assert len(padded) == padded_length(len(data))
    return data


def message_key(secret: bytes, envelope: dict[str, Any], author: str) -> bytes:
    record = envelope["parts"][0]["record"]
    fields = [envelope["room"].encode(), record, author.encode(), envelope["id"].encode(), n8(envelope["counter"])]
    return kdf(secret, "sealed/message", *fields)


def private_key(envelope: dict[str, Any], author: str, reader: str, private: bytes) -> bytes:
    part = envelope["parts"][0]
    names = [each.encode() for each in (author, envelope["id"], reader)]
    context = [b"message", envelope["room"].encode(), part["record"], *names]
    key = unwrap(private, part["ephemeral"], dict(part["wraps"])[reader], *context)
    assert kdf(key, "sealed/key") == part["digest"]
    return key


def words(body: bytes, key: bytes) -> dict[str, Any]:
    part = msgpack.unpackb(body)["parts"][0]
    before, after = body.split(part["text"])
    inside: dict[str, Any] = msgpack.unpackb(unpad(unseal(key, part["nonce"], part["text"], before + after)))
    return inside


def gated(shown: bytes, author: str) -> bytes:
    """What an author sealed of a message that waited, as a home shows it."""
    part, *more = msgpack.unpackb(shown)["parts"]
    assert (part["type"], [each["type"] for each in more]) in (("gated", []), ("gated", ["task"]))
    assert is_signed(author, "parler/gated", part["body"], part["signature"])
    within, outside = msgpack.unpackb(part["body"]), msgpack.unpackb(shown)
    for name in ("room", "kind", "chain", "hops", "reply_to", "authored_at", "host", "via"):
        assert outside.get(name) == within.get(name), name
    assert (outside["v"], within["v"], within["counter"], within["previous"]) == (3, 4, 0, b"")
    assert set(outside.get("visibility") or ()) <= set(within.get("visibility") or outside.get("visibility") or ())
    assert [each["type"] for each in within["parts"]] == ["sealed", "gate"]
    body: bytes = part["body"]
    return body


def seal(fields: dict[str, Any], secret: bytes, author: str, inside: dict[str, Any], nonce: bytes) -> bytes:
    """The bytes of a message for everyone: the fields of its envelope as they are, with this inside."""
    packed: bytes = msgpack.packb(inside)
    padded = (packed + b"\x80").ljust(padded_length(len(packed)), b"\0")
    part, *outline = fields["parts"]
    blank = b"?" * (len(padded) + 16)
    body: bytes = msgpack.packb({**fields, "parts": [{**part, "nonce": nonce, "text": blank}, *outline]})
    before, after = body.split(blank)
    key = message_key(secret, fields, author)
    text = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(padded, before + after, nonce, key)
    return before + text + after


def roster_digest(entries: list[list[Any]]) -> bytes:
    packed: bytes = msgpack.packb(sorted(entries))
    return hashlib.sha256(b"parler/roster\0" + packed).digest()


def epoch_secret(record: dict[str, Any], wraps: bytes, member: str, private: bytes) -> bytes:
    assert hashlib.sha256(wraps).digest() == record["wraps"]
    wrap = dict(msgpack.unpackb(wraps))[member]
    context = [b"epoch", record["room"].encode(), n8(record["number"]), member.encode()]
    secret = unwrap(private, record["ephemeral"], wrap, *context)
    assert kdf(secret, "sealed/secret") == record["secret"]
    return secret


def requester_keys(record: dict[str, Any], wraps: bytes, member: str, private: bytes) -> tuple[bytes, bytes]:
    """What a requester gets instead: what its messages are sealed with, and the key of the card."""
    assert hashlib.sha256(wraps).digest() == record["wraps"]
    assert member in record["requesters"]
    context = [b"epoch", record["room"].encode(), n8(record["number"]), member.encode()]
    keys = unwrap(private, record["ephemeral"], dict(msgpack.unpackb(wraps))[member], *context)
    assert len(keys) == 64
    return keys[:32], keys[32:]


def requester_secret(secret: bytes, record: dict[str, Any], member: str) -> bytes:
    """The first of these, as a worker has it."""
    return kdf(secret, "sealed/requester", record["room"].encode(), n8(record["number"]), member.encode())


def boxed(record: dict[str, Any], secret: bytes, field: str) -> bytes:
    """What stands in a record's `link` or `card`."""
    key = kdf(secret, f"sealed/{field}", record["room"].encode(), n8(record["number"]))
    return unseal(key, record[field][:24], record[field][24:])


def is_signed(id: str, tag: str, body: bytes, signature: bytes) -> bool:
    """Whether whoever has this id signed these bytes. The last 32 bytes of an id but two are the key."""
    key = base64.b32decode(id + "=" * (-len(id) % 8))[1:33]
    try:
        return bindings.crypto_sign_open(signature + tag.encode() + b"\0" + body, key) is not None
    except BadSignatureError:
        return False


def published(body: bytes, signature: bytes, home: str, agent: str) -> tuple[str, bytes, int] | None:
    """For whom an agent acts that told a relay a key for rooms of two, the key, and its counter; None where that is no
    key of this agent there."""
    statement, delegation, by_person = msgpack.unpackb(body)
    said, acts = msgpack.unpackb(statement), msgpack.unpackb(delegation)
    is_good = (
        (said["home"], said["agent"], acts["type"], acts["agent"]) == (home, agent, "delegation", agent)
        and is_signed(agent, "parler/sealing-key", statement, signature)
        and is_signed(acts["principal"], "parler/delegation", delegation, by_person)
        and is_key(said["key"])
    )
    return (acts["principal"], said["key"], said["counter"]) if is_good else None


def is_key(public: bytes) -> bool:
    """Whether something can be wrapped to a key: a product with one of low order is zeros."""
    try:
        return len(public) == 32 and any(bindings.crypto_scalarmult(bytes(32), public))
    except RuntimeError:
        return False


def records_begin(
    transfer: bytes, signature: bytes, record: bytes, record_signature: bytes, owner: str, owned_from: int
) -> int | None:
    """The number of the first record that the new owner's person signs; None where the room is not another's by that.
    The records of `owner` begin behind the number `owned_from`."""
    given, named = msgpack.unpackb(transfer), msgpack.unpackb(record)
    if not given["taken"]:
        is_good = given["record"] >= owned_from and is_signed(owner, "parler/transfer", transfer, signature)
        return given["record"] + 1 if is_good else None
    is_good = (
        is_signed(owner, "parler/epoch", record, record_signature)
        and (named["home"], named["room"], named["number"]) == (given["home"], given["room"], given["record"])
        and named.get("successor") == given["principal"]
        and given["record"] > owned_from
        and is_signed(given["principal"], "parler/transfer", transfer, signature)
    )
    return given["record"] + 1 if is_good else None


def line_fits(line: bytes, signature: bytes, owner: str, record: bytes, lines: dict[int, bytes]) -> bool:
    """Whether the owner's home has the room as somebody has it, by the newest record and the public lines."""
    said, newest = msgpack.unpackb(line), msgpack.unpackb(record)
    return (
        is_signed(owner, "parler/owner-line", line, signature)
        and (said["home"], said["room"]) == (newest["home"], newest["room"])
        and (said["record"], said["digest"]) == (newest["number"], hashlib.sha256(record).digest())
        and lines.get(said["public"], said["line"]) == said["line"]
    )


def sealed_file(data: bytes, key: bytes, prefix: bytes) -> bytes:
    pieces = [data[place : place + 65_536] for place in range(0, len(data), 65_536)] or [b""]
    seal = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt
    ends = [index == len(pieces) - 1 for index in range(len(pieces))]
    nonces = [prefix + index.to_bytes(4, "big") + bytes([is_last]) for index, is_last in enumerate(ends)]
    return b"".join(seal(piece, b"", nonce, key) for nonce, piece in zip(nonces, pieces, strict=True))


def file(sealed: bytes, key: bytes, prefix: bytes) -> bytes:
    pieces = [sealed[place : place + 65_552] for place in range(0, len(sealed), 65_552)]
    ends = [index == len(pieces) - 1 for index in range(len(pieces))]
    nonces = [prefix + index.to_bytes(4, "big") + bytes([is_last]) for index, is_last in enumerate(ends)]
    return b"".join(unseal(key, nonce, piece) for nonce, piece in zip(nonces, pieces, strict=True))


def spelled(data: bytes, length: int) -> str:
    return "".join(ALPHABET[byte % 32] for byte in data[:length])


def verify_words(room: str, record: bytes, roster: bytes) -> str:
    text = spelled(hashlib.sha256(b"parler/verify\0" + room.encode() + b"\0" + record + roster).digest(), 20)
    return "-".join([text[0:4], text[4:8], text[8:12], text[12:16], text[16:20]])


def hidden_key(hiding: bytes, room: str, key: str) -> str:
    hidden = kdf(hiding, "sealed/request", room.encode(), key.encode())
    return "h." + base64.urlsafe_b64encode(hidden[:24]).decode()


def hidden_digest(hiding: bytes, room: str, digest: bytes) -> bytes:
    return kdf(hiding, "sealed/input", room.encode(), digest)


def pake_names(home: str, route: str, card: bytes, owner: str) -> tuple[bytes, bytes]:
    joiner = joined(b"parler/pake joiner", home.encode(), route.encode(), hashlib.sha256(card).digest())
    return joiner, joined(b"parler/pake owner", owner.encode())


M = bytes.fromhex("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312")
N = bytes.fromhex("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3")


def pake_key(secret: str, joiner: bytes, owner: bytes, scalar: bytes, first: bytes, second: bytes) -> bytes:
    """What the joiner computes, whose random scalar this is, from both names and both shares."""
    once = hmac.digest(hmac.digest(b"", secret.encode(), "sha256"), b"SPAKE2 pw\x01", "sha256")
    more = hmac.digest(hmac.digest(b"", secret.encode(), "sha256"), once + b"SPAKE2 pw\x02", "sha256")
    typed = bindings.crypto_core_ed25519_scalar_reduce((once + more)[:48][::-1].ljust(64, b"\0"))
    times, plus = bindings.crypto_scalarmult_ed25519_noclamp, bindings.crypto_core_ed25519_add
    assert first == b"A" + plus(bindings.crypto_scalarmult_ed25519_base_noclamp(scalar), times(typed, M))
    point = times(scalar, bindings.crypto_core_ed25519_sub(second[1:], times(typed, N)))
    digests = [hashlib.sha256(each).digest() for each in (secret.encode(), joiner, owner)]
    return hashlib.sha256(b"".join([*digests, first[1:], second[1:], point])).digest()


def read_key(text: str) -> tuple[str, str, str]:
    """The route, the secret and the relay's name of a key of a sealed room as it is written."""
    typed, _, home = text.partition("@")
    return typed[:6], typed[7:], home


def opened_knock(key: bytes, sealed: bytes) -> bytes:
    """What a joiner sealed beside its proof."""
    return unseal(kdf(key, "sealed/knock"), sealed[:24], sealed[24:])


def pake_end(key: bytes, answer: bytes) -> tuple[bytes, bytes, str, bytes]:
    """Both proofs, the code, and what the answer says."""
    proofs = [kdf(key, "sealed/confirm", role) for role in (b"joiner", b"owner")]
    said = unseal(kdf(key, "sealed/answer"), answer[:24], answer[24:])
    return proofs[0], proofs[1], spelled(kdf(key, "sealed/code"), 4), said
