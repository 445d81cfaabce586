"""Signed notes: one spelling, one signature that counts, and nothing believed because the note says so."""

from __future__ import annotations

import base64
import hashlib

import pytest

from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.receipts import TITLE, NotAReceipt, Receipt, text
from parlerd.identity import notes
from parlerd.identity.nkeys import decode_public, encode_public
from parlerd.identity.signatures import SigningKey

HOME = SigningKey("relay", bytes(32))
OTHER = SigningKey("relay", bytes([1] * 32))


def receipt(home: str = HOME.id) -> Receipt:
    return Receipt(
        home=home,
        room=RoomId("r_1"),
        fact="m_1",
        kind="message_posted",
        digest=bytes(32),
        content=bytes(32),
        operation="message.send",
        at=Millis(1_795_860_000_123),
        actor=AgentId("U1"),
        handle="bob",
        via="http",
        principal="A1",
        authority="member",
    )


NOTE = notes.signed_note(HOME, text(receipt()))


def test_a_note_is_the_text_a_blank_line_and_a_line_of_the_home() -> None:
    said, blank, line = NOTE.rpartition("\n\n")
    assert f"{said}\n" == text(receipt())
    dash, name, word = line.rstrip("\n").split(" ")
    data = base64.b64decode(word)
    assert (dash, name, len(data)) == ("—", HOME.id, 68)
    # As C2SP says for Ed25519: SHA-256 of the name, a newline, the byte 1 and the key.
    _, public = decode_public(HOME.id)
    assert data[:4] == hashlib.sha256(HOME.id.encode() + b"\n\x01" + public).digest()[:4]
    assert blank == "\n\n"
    assert notes.signed_note(HOME, text(receipt())) == NOTE


def test_only_a_trusted_home_that_signed_counts() -> None:
    assert notes.check_note(NOTE, {HOME.id}) == (receipt(), "valid")
    assert notes.check_note(NOTE, ())[1] == "unknown_key"
    assert notes.check_note(NOTE, {OTHER.id})[1] == "unknown_key"
    # Another home's receipt with this one's signature, and the other way round.
    mixed = notes.signed_note(OTHER, text(receipt()))
    assert notes.check_note(mixed, {HOME.id, OTHER.id})[1] == "bad_signature"
    # A home that is no key, however much it is trusted.
    odd = notes.signed_note(HOME, text(receipt("nobody")))
    assert notes.check_note(odd, {"nobody"})[1] == "unknown_key"


def test_lines_of_witnesses_are_left_aside() -> None:
    _, _, line = notes.signed_note(OTHER, text(receipt())).rpartition("\n\n")
    assert notes.check_note(NOTE + line, {HOME.id})[1] == "valid"
    for name in ("\x1b[31mred", "a\u00a0b", "a\u202eb", "a\u2028b", "x" * notes.MAX_LINE, "a\tb"):
        with pytest.raises(NotAReceipt):
            notes.check_note(NOTE + line.replace(OTHER.id, name), {HOME.id})
    twice = NOTE + NOTE.rpartition("\n\n")[2]
    assert notes.check_note(twice, {HOME.id})[1] == "bad_signature"
    with pytest.raises(NotAReceipt):
        notes.check_note(NOTE + line * notes.MAX_SIGNATURES, {HOME.id})


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note[:-1],
        lambda note: note + "\n",
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.replace("— ", "- "),
        lambda note: note.replace("— ", "—  "),
        lambda note: note.rstrip("\n") + "=\n",
        lambda note: note.rpartition("\n\n")[0] + "\n\n",
        lambda note: note.replace("\n\n— ", "\n\n— A+B "),
        lambda note: "",
    ],
)
def test_another_spelling_is_no_receipt(change: object) -> None:
    assert callable(change)
    with pytest.raises(NotAReceipt):
        notes.check_note(change(NOTE), {HOME.id})


def test_a_signature_in_another_spelling_of_base64_is_no_receipt() -> None:
    line = NOTE.rpartition("\n\n")[2]
    word = line.rstrip("\n").rpartition(" ")[2]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    # The last character before the padding has two bits that say nothing; decoders let any of them through.
    last = word.rstrip("=")[-1]
    loose = word.replace(f"{last}=", f"{alphabet[alphabet.index(last) | 1]}=")
    assert loose != word
    assert base64.b64decode(loose) == base64.b64decode(word)
    with pytest.raises(NotAReceipt):
        notes.check_note(NOTE.replace(word, loose), {HOME.id})


def test_nothing_but_a_receipt_is_signed_as_one() -> None:
    with pytest.raises(AssertionError):
        notes.signed_note(HOME, "parler/opening\0x\n")
    with pytest.raises(AssertionError):
        notes.signed_note(HOME, TITLE)


def test_every_kind_of_key_has_an_id_of_its_own() -> None:
    _, public = decode_public(HOME.id)
    assert notes.key_id(HOME.id) != notes.key_id(encode_public("agent", public))
