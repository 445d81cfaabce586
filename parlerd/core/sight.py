"""The words of sight: what is expected in a host's own record, and what the record proved about it.

A *marker* stands behind each message of an answer. Where the host's record shows the marker and the text before it in
the field that the model is given, and a reply of the model after that, the message was shown. Every other end is said
with its reason, and whatever is not proved is `unknown`.

Not here: how a record is read as evidence (`judge`), what the record of a host looks like (`records`, filled in by
`configs.hosts`), files (`parlerd.sight`). Above: all of these, the engine, and the MCP face. Below: nothing. Invariant:
nothing here holds a text of anybody or a path; of a text there is a digest and a length.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final, Literal

import msgspec

Verdict = Literal["shown", "quoted", "summarised", "cut", "not_shown", "unknown"]
"""`shown`: a reply of the model followed a context that held the whole message. `quoted`: a later call of the model
quoted the marker. `summarised`: only the host's own summary was made from the message. `cut`: a reply followed, and the
host had cut out the message or a part of it. `not_shown`: the host's record says that no reply followed. `unknown`:
nothing was proved."""
Reason = Literal[
    "reply",
    "quoted",
    "compacted",
    "cut_by_host",
    "failed_request",
    "cancelled",
    "rolled_back",
    "no_host",
    "version",
    "no_record",
    "unwatched",
    "timeout",
    "too_long",
    "too_many",
    "record_unreadable",
    "rotated",
    "unrecognised",
    "copied",
    "restarted",
    "compacting",
    "apart",
]
"""Why a verdict is what it is.

For `shown`: `reply`. For `quoted`: `quoted`. For `summarised`: `compacted`. For `cut`: `cut_by_host`. For `not_shown`:
`failed_request`, `cancelled` and `rolled_back`. For `unknown`, in this order: no description of this host; another
version of the host than those that were measured; the host has no folder of records; the system let nobody watch the
folder, or the watching was ended; no proof came in time; a line or an answer was longer than what is looked at, or than
what the host is sure to pass on; too much was expected at once; the record could not be read; the record was replaced
or made shorter; the record holds a line of a kind that nobody measured; results of two calls hold the same answer; the
daemon was restarted; the host compacted the conversation while its model was asked; the reply followed a part of a
message, and not the parts before it.
"""

MARKED: Final = "rcpt-"
"""What every marker begins with."""
MARKER: Final = re.compile(MARKED + r"[0-9a-f]{16}")
"""The form of a marker: 64 random bits, drawn for one message in one answer."""
DRAWN: Final = 8
"""Random bytes in a marker."""


def marker_of(drawn: bytes) -> str:
    """The marker for these random bytes, of which there are `DRAWN`."""
    if len(drawn) != DRAWN:
        raise ValueError(f"a marker is made of {DRAWN} random bytes")
    return f"{MARKED}{drawn.hex()}"


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an answer that was written to a host. Made by `expected`."""

    marker: str
    size: int
    """Characters of the message as it was rendered, from its first one through the marker."""
    digest: bytes
    """SHA-256 of these characters in UTF-8. A host that cuts the middle out of an answer leaves the marker standing, so
    that the marker alone would prove only the end of the message."""
    after: str = ""
    """The marker of the part before this one; empty where the message begins here. A reply proves this part only where
    it follows that one, too, and whatever is before that."""
    goes_on: bool = False
    """Whether the message goes on in a later answer. A reply then proves that the message was shown up to here, and
    this part is watched on, because what takes it out of the conversation ends the proof of what comes later."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one expected message. There is one for each marker, and another one only after one that `stays`:
    of `shown` after `not_shown`, of whatever is proved after `unknown`, and of whatever ends the proof after `shown` of
    a part of a message that goes on."""

    marker: str
    verdict: Verdict
    reason: Reason
    evidence: str = ""
    """The host's id, its version, and the names that the host's description gives the lines that decided. It holds
    nothing that was read."""
    stays: bool = False
    """Whether more may be proved: the host keeps in the conversation what it did not show, so that a later reply may
    prove that the message was shown; or the host may still write down what stands in no record yet; or the message goes
    on, and what was shown of it may be taken out of the conversation before the rest is shown."""


def expected(text: str, *, after: str = "", goes_on: bool = False) -> Expected:
    """What to expect of a message, or of a part of one, that was rendered as `text`, which ends with its marker.

    Raises `ValueError` where the text does not end with a marker, and where it holds the marker twice.
    """
    marker = text[-(len(MARKED) + 2 * DRAWN) :]
    if not MARKER.fullmatch(marker) or text.count(marker) != 1:
        raise ValueError("a rendered message ends with its marker, and holds the marker once")
    return Expected(marker=marker, size=len(text), digest=digest(text), after=after, goes_on=goes_on)


def digest(text: str) -> bytes:
    """The digest of a rendered message. A lone surrogate, which no UTF-8 can hold, is written as it stands."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
