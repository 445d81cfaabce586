"""What must hold at the end of every simulation, whatever happened on the way. Source: the relay's promises in
docs/relay.md.

Each check names what is wrong in one sentence, so that a seed that fails says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from parlerd.core.envelope import decode_envelope
from parlerd.core.messages import audience_key
from parlerd.core.model import MessageId
from parlerd.store.port import Store
from tests.sim.broken import Broken
from tests.sim.newcomers import Newcomer
from tests.sim.people import Record

ALARMS = frozenset(
    {"relay_equivocation", "relay_rolled_back", "key_used_elsewhere", "statement_refused", "relay_refused"}
)
"""Codes that accuse somebody: in a simulation in which nobody lies nobody hears one."""


def nothing_is_lost_or_doubled(record: Record, members: Iterable[str]) -> None:
    """What was acknowledged was shown once to everyone who may read it, and to nobody else. Whoever left was shown
    nothing twice and nothing that is not theirs."""
    members = list(members)
    nothing_is_shown_twice(record, members)
    for reader in members:
        shown = _said_to(record, reader)
        expected = {
            (said.author, said.text)
            for said in record.said
            if said.author != reader and (said.readers is None or reader in said.readers)
        }
        if leaked := set(shown) - expected:
            raise Broken(f"{reader} was shown {sorted(leaked)}, which nobody was acknowledged for this reader")
        if reader not in record.left and (lost := expected - set(shown)):
            raise Broken(f"{reader} was never shown {sorted(lost)}")


def nothing_is_shown_twice(record: Record, members: Iterable[str]) -> None:
    """Whatever was said, nobody was shown it more than once."""
    for reader in members:
        shown = _said_to(record, reader)
        if len(set(shown)) != len(shown):
            twice = sorted({each for each in shown if shown.count(each) > 1})
            raise Broken(f"{reader} was shown {twice} more than once")


def _said_to(record: Record, reader: str) -> list[tuple[str, str]]:
    """What a reader was shown of what others said."""
    return [each for each in record.shown[reader] if " says " in each[1]]


def what_was_acknowledged_is_stored(record: Record, store: Store) -> None:
    """What was acknowledged, and was not refused for good later, is in the room: in the store of the room's home."""
    for said in record.said:
        if store.find_message(MessageId(said.id)) is None:
            raise Broken(f"{said.text!r} is not in the room, and its author was not told so")


def nothing_is_refused_without_a_reason(record: Record) -> None:
    """What was refused for good was by somebody who left, also for a while, or for them."""
    for refused in record.refused:
        if not (record.left | record.came_again) & {refused.author, *(refused.readers or ())}:
            raise Broken(f"{refused.text!r} was refused for no reason ({refused.code})")


def order_is_kept(record: Record, members: Iterable[str]) -> None:
    """Each reader sees an author's messages of one audience in the order in which the author was answered."""
    place = {(said.author, said.text): (number, said.readers) for number, said in enumerate(record.said)}
    for reader in members:
        last: dict[tuple[str, frozenset[str] | None], int] = {}
        for each in record.shown[reader]:
            if each not in place:
                continue
            number, readers = place[each]
            if number < last.get((each[0], readers), -1):
                raise Broken(f"{reader} was shown {each[1]!r} after a later one of the same author and audience")
            last[each[0], readers] = number


def nobody_is_accused(record: Record, contradicted: Iterable[str]) -> None:
    """An honest relay is never accused of anything."""
    if wrong := record.codes & ALARMS:
        raise Broken(f"an honest relay was accused: {sorted(wrong)}")
    if rooms := sorted(contradicted):
        raise Broken(f"the mirrors of {rooms} say that an honest relay contradicted itself")


def no_counter_is_used_twice(signed: Mapping[str, set[bytes]], rooms: Collection[str]) -> None:
    """No author signs two envelopes for a room of a relay with one audience and counter. `rooms` are the relay's. In a
    room of its own machine an author may: nobody has seen what was signed there and not stored."""
    for author, bodies in signed.items():
        seen: dict[tuple[str, str, int], set[bytes]] = defaultdict(set)
        for body in bodies:
            envelope = decode_envelope(body)
            if envelope.room not in rooms:
                continue
            seen[envelope.room, audience_key(envelope.visibility), envelope.counter].add(body)
        if doubled := [key for key, found in seen.items() if len(found) > 1]:
            raise Broken(f"{author} signed two envelopes for each of {doubled}")


def nobody_is_in_who_was_not_let_in(
    newcomers: Collection[Newcomer], record: Record, known: Iterable[str], members: Collection[str]
) -> None:
    """Whoever is in the room is `known` from before or was let in by the room's person, and nobody else was shown
    anything. `members` are whoever ever was a member, by what the relay holds."""
    if strangers := set(members) - set(known) - {each.agent.name for each in newcomers}:
        raise Broken(f"{sorted(strangers)} are in the room, and never knocked")
    for each in newcomers:
        name = each.agent.name
        is_in = each.is_in or name in members
        if is_in and not (each.admit and each.decided):
            raise Broken(f"{name} is in the room, and the room's person did not let it in")
        if not is_in and record.shown[name]:
            raise Broken(f"{name} is not in the room and was shown {record.shown[name]}")
        if each.done and each.admit and not is_in:
            raise Broken(f"{name} was told that it is out, and the room's person let it in")


def nothing_is_left(left: Mapping[str, int]) -> None:
    """Whatever was under way is done: `left` counts what somebody still holds."""
    if kept := {what: many for what, many in left.items() if many}:
        raise Broken(f"everything was said and read, and there is still something held: {kept}")


def nothing_went_wrong_on_the_way(wrong: Sequence[str]) -> None:
    """What was seen between the links and the relay is as it has to be."""
    if wrong:
        raise Broken(f"{wrong[0]} ({len(wrong)} times)")
