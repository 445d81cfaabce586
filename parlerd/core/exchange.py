"""The key exchange by which an agent begins to come into a sealed room, as the room's log has it.

    begun      the joiner's share, with its signed card
    answered   the share of the owner's home
    shown      the joiner shows that it has the key; its knock comes along, sealed for the owner's home
    confirmed  the owner's home shows that it has the key too: from here on the request waits for its decision
    granted    it is let in: what the owner's home says to it alone, sealed, stands before the decision
    failed     the owner's home ended it: the secret was wrong, or the key is good no longer

Nobody but the two ends can find out what any of that says, so a room's home keeps the steps in their order and nothing
more. Whether a proof is right the owner's home finds out and, for the one that it is shown, the joiner's.

Not here: the exchange itself (`identity.pake`), what either end keeps of it (`uplink.exchanging`). Above: `approvals`.
Below: the shapes. Invariant: each step is taken once, after the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.model import Millis

Step = Literal["begun", "answered", "shown", "confirmed", "granted", "failed"]

STEPS: Final[tuple[Step, ...]] = get_args(Step)
JOINER_STEPS: Final = frozenset({"begun", "shown"})
"""Those that the joiner takes."""
SHARE: Final = 33
"""Bytes of a share."""
PROOF: Final = 32
"""Bytes by which an end shows that it has the key."""
MAX_SHOWN: Final = 4096
"""Bytes of a joiner's proof with its sealed knock."""
MAX_ANSWER: Final = 512
"""Bytes of what the owner's home says to the joiner alone, sealed."""
MAX_FAILED: Final = 20
"""Exchanges of one person with one key that may fail, or knocks that it may take back. The owner's home counts wrong
secrets and lets that person in no more long before; but whoever knows the route of a key and not its secret could knock
for ever, and each knock stays in the log and in every copy of the room's state."""
MAX_EXCHANGES: Final = 20
"""Exchanges of one key that may be under way at the same time and are not proved: whoever knows a key's route begins
one. Beyond that, one whose joiner has shown nothing makes place. Who has shown something keeps its place, so as many as
wrong secrets end the key would be needed to keep everybody out."""
KNOCK_MS: Final = Millis(7 * 24 * 3600 * 1000)
"""How long somebody who has not shown the key waits for the owner's home. Source: sealed spec, Joining."""


class Exchange(msgspec.Struct):
    """How far an exchange is. What is empty was not said yet."""

    share: bytes = b""
    """The joiner's."""
    answered: bytes = b""
    """The share of the owner's home."""
    shown: bytes = b""
    """The joiner's proof, and behind it its knock, sealed."""
    confirmed: bytes = b""
    """The proof of the owner's home."""
    granted: bytes = b""
    """What the owner's home says to the joiner alone where it lets the joiner in, sealed."""

    def said(self, step: Step) -> bytes:
        """What was said at a step; empty where it was not taken, and for `failed`."""
        said: Mapping[Step, bytes] = {
            "begun": self.share,
            "answered": self.answered,
            "shown": self.shown,
            "confirmed": self.confirmed,
            "granted": self.granted,
        }
        return said.get(step, b"")

    @property
    def newest(self) -> Step:
        """The last step that was taken, of those of which something was said."""
        return next((step for step in reversed(STEPS) if self.said(step)), "begun")

    def take(self, step: Step, text: bytes) -> None:
        """Take a step that `require` let through."""
        if step != "failed":
            setattr(self, "share" if step == "begun" else step, text)


def is_form(step: Step, text: bytes) -> bool:
    """Whether the bytes can be what is said at a step."""
    match step:
        case "begun" | "answered":
            return len(text) == SHARE
        case "shown":
            return PROOF < len(text) <= MAX_SHOWN
        case "confirmed":
            return len(text) == PROOF
        case "granted":
            return 0 < len(text) <= MAX_ANSWER
        case "failed":
            return not text


def is_next(exchange: Exchange, step: Step) -> bool:
    """Whether a step follows from where the exchange is."""
    match step:
        case "begun":
            return not exchange.share
        case "answered":
            return bool(exchange.share) and not exchange.answered
        case "shown":
            return bool(exchange.answered) and not exchange.shown
        case "confirmed":
            return bool(exchange.shown) and not exchange.confirmed
        case "granted":
            return bool(exchange.confirmed) and not exchange.granted
        case "failed":
            return True


def require(exchange: Exchange, step: Step, text: bytes) -> bool:
    """Whether a step is to be taken now; False for one that was taken before. Raises `Refused(statement_refused)` for
    one that follows from nothing, and for an owner's step that says something else than it did before."""
    if not is_form(step, text):
        raise Refused("statement_refused", what=step)
    if is_next(exchange, step):
        return True
    # A joiner that did not hear that its step was taken seals its knock anew, so that its bytes are others.
    if not exchange.said(step) or (step != "shown" and exchange.said(step) != text):
        raise Refused("statement_refused", what=step)
    return False
