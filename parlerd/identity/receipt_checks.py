"""Whether a receipt is what it says, without asking anybody: its signature, its content, its author, its neighbours.

    text or JSON --> the note --> signed by a home that is trusted?   --> Verdict
                     the opening, if there is one: the same content? signed by its author?
    several receipts of one actor: does each own line go on from the one before?

What none of this can say: that nothing is missing, or that the home told the truth. Above: the command that verifies.
Below: `notes`, `proofs`. Invariant: nothing is read from a disk or a daemon here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from parlerd.core.envelope import RELEASED, Envelope, TextPart, decode_envelope, sealed_in
from parlerd.core.errors import Refused
from parlerd.core.model import HomeId, PrincipalId
from parlerd.core.receipts import NotAReceipt, Opening, Receipt, next_line, opens
from parlerd.core.sealing import joined, sealed_part, unreadable
from parlerd.core.statements import Claim, first_owner, sealed_with
from parlerd.identity.notes import Verdict, check_note
from parlerd.identity.proofs import Evidence, check_released, named_in, owner_after, read_opening, succeeds, unproven
from parlerd.identity.sealing import KEY, key_digest, open_with_key
from parlerd.identity.signatures import verify

MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a file that is read: a receipt with the longest message beside it has half as many."""


class Checked(NamedTuple):
    """What the check of one receipt found; `receipt` is None for what is none."""

    verdict: Verdict
    receipt: Receipt | None = None
    is_opened: bool = False
    """Whether the content was there, and was compared."""
    is_authored: bool = False
    """Whether the content bears the signature of its author, which was verified."""
    is_proved: bool = False
    """Whether it was shown who let the author into the room, and that person's signature was verified."""
    text: str | None = None
    """What the message says, of one whose content was there and could be read; None for everything else."""
    is_sealed: bool = False
    """Whether the content was there and is encrypted."""


class _Opening(msgspec.Struct, forbid_unknown_fields=True):
    salt: bytes
    event: bytes
    body: bytes | None = None
    signature: bytes | None = None
    key: bytes | None = None


class _Handover(msgspec.Struct):
    """That the room had another owner. Of a sealed room that was taken over, `record` names whoever did."""

    statement: bytes
    signature: bytes
    record: bytes = b""
    record_signature: bytes = b""


class _Author(msgspec.Struct):
    """What was signed about how an author came into its room (`proofs.Evidence`)."""

    opening: bytes
    opening_signature: bytes
    handovers: list[_Handover] = []
    decision: bytes = b""
    decision_signature: bytes = b""
    knock: bytes = b""
    knock_signature: bytes = b""
    terms: bytes = b""
    terms_signature: bytes = b""
    grant: bytes = b""
    grant_signature: bytes = b""
    granted_as: str = ""


class _File(msgspec.Struct):
    """What the command that shows a receipt writes as JSON."""

    receipt: str
    opening: _Opening | None = None
    author: _Author | None = None


def check(data: bytes, trusted: Collection[str]) -> Checked:
    """Check a receipt: the text of its note, or the JSON that `parler receipt show --json` writes."""
    try:
        file = _parts(data)
        receipt, verdict = check_note(file.receipt, trusted)
    except NotAReceipt:
        return Checked("not_a_receipt")
    if verdict != "valid":
        return Checked(verdict, receipt)
    if file.author is not None and not _is_let_in(receipt, file.author):
        return Checked("author_mismatch", receipt)
    return _of_content(receipt, file.opening)._replace(is_proved=file.author is not None)


def _of_content(receipt: Receipt, opening: _Opening | None) -> Checked:
    """What is found of the content of a receipt that its home signed."""
    if opening is None:
        return Checked("valid", receipt)
    if not opens(Opening(opening.salt, opening.event, opening.body), receipt.content):
        return Checked("digest_mismatch", receipt)
    if receipt.kind != "message_posted" or opening.body is None or receipt.verified == "unsigned":
        return Checked("valid", receipt, is_opened=True)
    if not _is_authors(receipt, opening.body, opening.signature or b""):
        return Checked("author_mismatch", receipt, is_opened=True)
    try:
        sealed = sealed_in(opening.body)
        text = _text(opening.body, opening.key) if sealed is None else _opened(*sealed, opening.key)
    except Refused:
        return Checked("key_mismatch", receipt, is_opened=True)
    found = Checked("valid", receipt, is_opened=True, is_authored=receipt.verified != "home", text=text)
    return found._replace(is_sealed=sealed is not None)


def _text(body: bytes, key: bytes | None) -> str | None:
    """What a message in clear says; None for one that says nothing in words. Raises `Refused` where a key is beside it,
    because it has none."""
    if key is not None:
        raise unreadable("key")
    return _words(decode_envelope(body))


def _opened(envelope: Envelope, body: bytes, key: bytes | None) -> str | None:
    """The same of what an author sealed, which is in these bytes: None also where the key is not there. Raises
    `Refused` for a key that does not open it."""
    if key is None:
        return None
    part = sealed_part(envelope)
    if len(key) != KEY or (part.digest and key_digest(key) != part.digest):
        # The readers of a private message got another key.
        raise unreadable("key")
    return _words(joined(envelope, open_with_key(body, key)))


def _words(envelope: Envelope) -> str | None:
    return next((part.text for part in envelope.parts if isinstance(part, TextPart)), None)


def _parts(data: bytes) -> _File:
    if len(data) > MAX_BYTES:
        raise NotAReceipt
    try:
        return msgspec.json.decode(data, type=_File) if data.lstrip()[:1] == b"{" else _File(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotAReceipt from None


def _is_let_in(receipt: Receipt, author: _Author) -> bool:
    """Whether the person who owned the room signed that this agent is in it, for this person, under this name."""
    home, room = HomeId(receipt.home), receipt.room
    claim = Claim(receipt.actor, PrincipalId(receipt.principal), receipt.handle)
    try:
        opening = read_opening(room, home, author.opening, author.opening_signature)
        owners = [first_owner(opening)]
        for each in author.handovers:
            transfer = succeeds(
                room,
                home,
                owners,
                each.statement,
                each.signature,
                is_sealed=sealed_with(opening) > 0,
                successor=named_in(room, home, owners, each.statement, each.record, each.record_signature),
            )
            owners.append(owner_after(transfer))
    except Refused:
        return False
    evidence = Evidence(**{name: getattr(author, name) for name in Evidence.__struct_fields__})
    return unproven(room, opening, claim, evidence, owners) is None


def _is_authors(receipt: Receipt, body: bytes, signature: bytes) -> bool:
    """Whether a message is what the actor signed, as the message of this receipt; or what the home signed that speaks
    for an actor without a key."""
    try:
        envelope = decode_envelope(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if (envelope.room, envelope.id) != (receipt.room, receipt.fact):
        return False
    if receipt.verified == "home":
        return verify(receipt.home, "parler/admitted", body, signature)
    if envelope.v != RELEASED:
        return verify(receipt.actor, "parler/message", body, signature)
    try:
        check_released(receipt.actor, body)
    except Refused:
        return False
    return True


class Gap(NamedTuple):
    """Two receipts of one actor that are neighbours here. `number` is that of the later one; `missing` counts those
    between them, 0 where they follow one another and the line does not."""

    receipt: Receipt
    missing: int


def gaps(receipts: Iterable[Receipt]) -> list[Gap]:
    """Where the own lines of actors do not go on, of what everybody sees and of what each did besides messages.
    Private messages have a line for each set of readers, which a receipt does not name, so they are left aside."""
    placed = [each for each in receipts if each.numbered is not None and _line_of(each) is not None]
    placed.sort(key=lambda each: (_line_of(each), each.numbered))
    found: list[Gap] = []
    for _, group in groupby(placed, _line_of):
        earlier: Receipt | None = None
        for each in group:
            # A hand-off's receipt of an hour ago and that of now are of one fact.
            is_next = earlier is not None and (each.numbered, each.digest) != (earlier.numbered, earlier.digest)
            if earlier is not None and is_next and (gap := _gap(earlier, each)) is not None:
                found.append(gap)
            earlier = each
    return found


def _line_of(receipt: Receipt) -> tuple[str, str, str, str] | None:
    if receipt.kind != "message_posted":
        return receipt.home, receipt.room, receipt.actor, "self"
    return None if receipt.line is None else (receipt.home, receipt.room, receipt.actor, "")


def _gap(earlier: Receipt, later: Receipt) -> Gap | None:
    assert earlier.numbered is not None
    assert later.numbered is not None
    missing = later.numbered.number - earlier.numbered.number - 1
    if missing:
        return Gap(later, max(0, missing))
    follows = later.numbered.before == next_line(earlier.numbered.before, earlier.digest)
    return None if follows else Gap(later, 0)
