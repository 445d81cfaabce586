"""Signed notes: a text that a person can read, with a line for each signature over exactly its bytes.

    parler/receipt v1
    ...

    — A... <base64 of 4 bytes that name the key, and 64 of the signature>

The first line of the text says what the signature is for, in the place of a domain tag, so only texts that begin with
`core.receipts.TITLE` are signed here. The name in a signature line is the home's id, which is its public key; whoever
checks a note trusts the keys that they name themselves, and never one because a note names it.

Not here: what a receipt says (`core.receipts`). Above: the key rings, the engine, the command that verifies. Below:
`nkeys` and PyNaCl. Invariant: one note has one spelling. Source: https://c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from typing import Final, Literal, NamedTuple

import nacl.bindings
import nacl.exceptions

from parlerd.core.errors import Refused
from parlerd.core.receipts import NotAReceipt, Receipt, read
from parlerd.identity import nkeys
from parlerd.identity.signatures import SIGNATURE_LENGTH, SigningKey

MAX_SIGNATURES: Final = 16
"""Signature lines that are read: the home's, and those of witnesses."""
MAX_LINE: Final = 8 * 1024
"""Characters of a signature line at most: the longest signatures in use take half as many."""
_DASH: Final = "\N{EM DASH} "
_ED25519: Final = b"\x01"
_KEY_ID: Final = 4

Verdict = Literal[
    "valid",
    "not_a_receipt",
    "unknown_key",
    "bad_signature",
    "digest_mismatch",
    "key_mismatch",
    "chain_gap",
    "author_mismatch",
]
"""What the check of a receipt finds."""


class Signature(NamedTuple):
    name: str
    key: bytes
    """Four bytes that tell the keys of one name apart."""
    signature: bytes


def signed_note(key: SigningKey, text: str) -> str:
    """The note with this key's signature."""
    assert text.endswith("\n")
    line = base64.b64encode(key_id(key.id) + key.sign_note(text.encode())).decode()
    return f"{text}\n{_DASH}{key.id} {line}\n"


def key_id(name: str) -> bytes:
    """The four bytes of a home's key. Raises `Refused(invalid_param)`."""
    _, public = nkeys.decode_public(name)
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_KEY_ID]


def split(note: str) -> tuple[str, list[Signature]]:
    """The text of a note, and its signature lines. Raises `NotAReceipt`."""
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NotAReceipt
    found = [_signature(line) for line in lines[:-1].split("\n")]
    if not 1 <= len(found) <= MAX_SIGNATURES:
        raise NotAReceipt
    return f"{text}\n", found


def _signature(line: str) -> Signature:
    name, _, word = line.removeprefix(_DASH).partition(" ")
    try:
        data = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        raise NotAReceipt from None
    is_canonical = base64.b64encode(data).decode() == word
    # A name is shown where a note is: no character of it may be another space, or hidden.
    is_name = bool(name) and "+" not in name and name.isprintable()
    if len(line) > MAX_LINE or not line.startswith(_DASH) or not is_name or len(data) <= _KEY_ID or not is_canonical:
        raise NotAReceipt
    return Signature(name, data[:_KEY_ID], data[_KEY_ID:])


def check_note(note: str, trusted: Collection[str]) -> tuple[Receipt, Verdict]:
    """What a note says, and whether the home that it names signed it: `valid`, `unknown_key` for a home that is not
    `trusted`, or `bad_signature`. Lines of others are left aside. Raises `NotAReceipt`."""
    text, signatures = split(note)
    receipt = read(text)
    if receipt.home not in trusted:
        return receipt, "unknown_key"
    try:
        _, public = nkeys.decode_public(receipt.home)
        expected = key_id(receipt.home)
    except Refused:
        return receipt, "unknown_key"
    of_home = [each for each in signatures if (each.name, each.key) == (receipt.home, expected)]
    if len(of_home) != 1 or len(of_home[0].signature) != SIGNATURE_LENGTH:
        return receipt, "bad_signature"
    try:
        nacl.bindings.crypto_sign_open(of_home[0].signature + text.encode(), public)
    except nacl.exceptions.BadSignatureError:
        return receipt, "bad_signature"
    return receipt, "valid"
