"""What is said of whether a model was shown a message, for every surface that shows how far a message got.

One plain sentence for each reason that a verdict can have (`core.sight`), with the host that the record is of. Nothing
of a record is in it, and no path. Above: the tools of agent hosts, the command line, the engine's notices. Below: the
words of sight. Invariant: no sentence says "shown" but where a model's reply or a quoted marker proves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from parlerd.core.sight import Reason

MOST_AGAIN: Final = 2
"""How often a message is shown once more by itself that its reader's host cut or did not show: a host that always cuts
it must not be asked for ever."""
_OF_REASON: Final[dict[Reason, str]] = {
    "reply": "shown to the model: a reply of the model follows it in the record of {host}",
    "quoted": "shown to the model: a later call of the model quoted its marker",
    "compacted": "only summarised: {host} compacted the conversation before its model replied",
    "cut_by_host": "cut: the record of {host} holds a part of it",
    "failed_request": "not shown: the request of {host} that carried it failed",
    "cancelled": "not shown: the turn was cancelled in {host}",
    "rolled_back": "not shown: {host} took the turn back",
    "no_host": "unknown: nobody has measured what {host} records",
    "version": "unknown: nobody has measured what this version of {host} records",
    "no_record": "unknown: {host} keeps no record that was found",
    "unwatched": "unknown: nobody could watch the record of {host}, or the watching was ended",
    "timeout": "unknown: the record of {host} proved nothing in ten minutes",
    "too_long": "unknown: so long an entry or answer is not looked at, or may have been cut by {host}",
    "too_many": "unknown: too much was expected of {host} at once",
    "record_unreadable": "unknown: the record of {host} could not be read",
    "rotated": "unknown: the record of {host} was replaced or made shorter",
    "unrecognised": "unknown: the record of {host} holds a line that nobody has measured",
    "copied": "unknown: the record of {host} holds the answer of Parler as what another tool said, too",
    "restarted": "unknown: Parler was restarted while it watched the record of {host}",
    "compacting": "unknown: {host} compacted the conversation while its model was asked",
    "apart": "unknown: it was shown in parts, and no reply in the record of {host} followed all of them",
}
_OF: Final[Mapping[str, str]] = {
    **{str(reason): said for reason, said in _OF_REASON.items()},
    "begun": "unknown: its reader was shown the beginning of it, and did not ask for the rest",
    "part": "unknown: its reader asked for a part of it without the one before",
}
PROVEN_BY: Final[Mapping[str, str]] = {"reply": "shown", "quoted": "quoted"}
"""The verdict beside which alone such a reason may stand, and which stands beside no other reason."""
_PENDING: Final = "not known yet: the record of {host} is watched"
_OTHER: Final = "unknown: the home of the reader says so in words that this version of Parler does not know"


def sentence_of(verdict: str, reason: str, host: str, again: int = 0, *, elsewhere: bool = False) -> str:
    """What is known, in one sentence without a full stop. `again` is how often the message was shown once more, because
    the host had cut it or not shown it. `elsewhere` says that the reader's own machine, which is not this one, says
    so."""
    said = _PENDING if verdict == "pending" else _OF.get(reason, _OTHER)
    if verdict != PROVEN_BY.get(reason, verdict):
        said = _OTHER  # another home says what no version of Parler says
    said = said.format(host=host or "the agent host")
    if elsewhere:
        said += ", as the reader's own machine says"
    if again:
        said += f" (shown again {'once' if again == 1 else f'{again} times'})"
    return said


def way_out_of(verdict: str, again: int) -> str:
    """What its reader can do where a message is not shown again by itself any more; empty in every other case."""
    if again < MOST_AGAIN or verdict not in ("cut", "not_shown"):
        return ""
    return "it is not shown again by itself: its reader asks for it alone (parler_recv with `since` and `limit` 1)"
