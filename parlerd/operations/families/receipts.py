"""Receipts of what was done in a room, and the check of everything that a home keeps."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import AWAY, IN_ROOM, Family, Operation, Params, Result, Route, Short
from parlerd.operations.shared import TransferEntry

MAX_LISTED: Final = 200
"""Receipts in one list."""
Wrong = Literal["chain", "signature", "own_line"]
"""What is wrong with a fact: it is not the one that was stored, not what its author signed, or its own line does not
go on from the one before."""


class GetReceipt(Params, frozen=True, kw_only=True):
    """`id` is a message's id or number, or the `fact` that the answer of a write named. With `proof` what was signed
    about the author comes along."""

    room: Short | None = None
    id: Short
    proof: bool = False


class ReceiptOpening(Result, frozen=True, kw_only=True):
    """What opens the content of a receipt: `event` is the fact as it is stored, and `body` what it bears, with its
    author's signature. Of a message of a sealed room `body` is encrypted, and `key` is the 32 bytes that open this
    message and no other; left out where this home has that key no more. All of them are bytes, which JSON has in
    base64."""

    salt: bytes
    event: bytes
    body: bytes | None = None
    signature: bytes | None = None
    key: bytes | msgspec.UnsetType = msgspec.UNSET


class AuthorProof(Result, frozen=True, kw_only=True):
    """Who let the author in: the room's `opening`, which names its owner, and each `handovers` since; then, unless the
    author opened the room, a `decision`, or a `knock` with the `terms` of the key that let it in, or the `grant` by
    which the room's home speaks for it, used under the name `granted_as`. Each is the bytes that were signed."""

    opening: bytes
    opening_signature: bytes
    handovers: list[TransferEntry] = []
    decision: bytes = b""
    decision_signature: bytes = b""
    knock: bytes = b""
    knock_signature: bytes = b""
    terms: bytes = b""
    terms_signature: bytes = b""
    grant: bytes = b""
    grant_signature: bytes = b""
    granted_as: str = ""


class ReceiptGiven(Result, frozen=True, kw_only=True):
    """`receipt` is the signed note. `opening` is null where the words were erased."""

    room: str
    fact: str
    receipt: str
    opening: ReceiptOpening | None
    author: AuthorProof | msgspec.UnsetType = msgspec.UNSET


class ListReceipts(Params, frozen=True, kw_only=True):
    """The newest `limit` of what the caller did in the room; with `before`, a place that an answer told, of what came
    before that."""

    room: Short | None = None
    before: Short | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LISTED)] = 50


class ReceiptEntry(Result, frozen=True, kw_only=True):
    """One thing of which there is a receipt: how its fact is called, by which operation it came, and its number in the
    own line that it is in; null for a message of a time without own lines."""

    fact: str
    operation: str
    at: int
    number: int | None


class ReceiptList(Result, frozen=True, kw_only=True):
    """The newest first. `before` is where to go on; empty where there is nothing before. `name` is the room's."""

    room: str
    receipts: list[ReceiptEntry]
    before: str
    name: str = ""


class AuditRoom(Params, frozen=True, kw_only=True):
    """A part of a room's log: the facts after a position. From 0 on its chain and its own lines are checked as well,
    which are those of the whole log."""

    room: Short
    after: Annotated[int, Meta(ge=0)] = 0


class AuditedRoom(Result, frozen=True, kw_only=True):
    """Facts up to `upto` of `end` were checked. `fact` and `wrong` name the first that is wrong; null where none is."""

    room: str
    upto: int
    end: int
    fact: int | None = None
    wrong: Wrong | None = None


class ListLogs(Params, frozen=True, kw_only=True):
    pass


class LogList(Result, frozen=True, kw_only=True):
    """The logs of this home, each by its room. `home` is that of the home itself."""

    rooms: list[str]


class ListReceiptKeys(Params, frozen=True, kw_only=True):
    pass


class ReceiptKey(Result, frozen=True, kw_only=True):
    """A home whose receipts are believed here: its id is its public key."""

    id: str
    name: str


class ReceiptKeys(Result, frozen=True, kw_only=True):
    keys: list[ReceiptKey]


_NOTE: Final = "parler/receipt v1\n...\n\n— AB... BASE64\n"

FAMILY: Final = Family(
    operations=(
        Operation(
            name="receipt.get",
            summary="Show the receipt of a message, or of what you did, which its room's home signs.",
            params=GetReceipt,
            result=ReceiptGiven,
            plane="agent",
            effect="read",
            errors=(*IN_ROOM, "no_such_receipt", *AWAY),
            example={"id": "m_0123456789abcdefghij"},
            answers=(
                {
                    "room": samples.ROOM,
                    "fact": "m_0123456789abcdefghij",
                    "receipt": _NOTE,
                    "opening": {"salt": "c2FsdA==", "event": "ZXZlbnQ=", "body": "Ym9keQ==", "signature": None},
                },
            ),
            http=Route("GET /rooms/{room}/receipts/{id}", "read"),
            command="parler receipt show",
        ),
        Operation(
            name="receipt.list",
            summary="List what you did in a room of which there are receipts.",
            params=ListReceipts,
            result=ReceiptList,
            plane="agent",
            effect="read",
            errors=(*IN_ROOM, "invalid_param", *AWAY),
            answers=(
                {
                    "room": samples.ROOM,
                    "receipts": [
                        {"fact": "m_0123456789abcdefghij", "operation": "message.send", "at": samples.AT, "number": 12}
                    ],
                    "before": "",
                },
            ),
            http=Route("GET /rooms/{room}/receipts", "read"),
            command="parler receipt list",
        ),
        Operation(
            name="receipt.keys",
            summary="List the homes whose receipts are believed here.",
            params=ListReceiptKeys,
            result=ReceiptKeys,
            plane="local",
            effect="read",
            answers=({"keys": [{"id": "A" + "B" * 55, "name": "local"}]},),
            command="parler receipt keys",
        ),
        Operation(
            name="log.list",
            summary="List the logs of this home.",
            params=ListLogs,
            result=LogList,
            plane="person",
            effect="read",
            answers=({"rooms": [samples.ROOM]},),
            command="parler audit",
        ),
        Operation(
            name="log.audit",
            summary="Check a part of a room's log: digests, signatures, chain and own lines.",
            params=AuditRoom,
            result=AuditedRoom,
            plane="person",
            effect="read",
            errors=("no_such_room",),
            example={"room": samples.ROOM},
            answers=({"room": samples.ROOM, "upto": 250, "end": 250, "fact": None, "wrong": None},),
            command="parler audit",
        ),
    ),
)
