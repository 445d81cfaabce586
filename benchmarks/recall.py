"""How long it takes to recall something out of a million facts, in point reads of the same store, and how it grows.

The search alone is measured, as the engine runs it (`parlerd.engine.recalling`), in turn with the point read: header
and body of one fact by its position. The queries are those that cost most: a word that every fact has, words that
many have and none has together, a beginning, signs that no index knows, a word that is nowhere. Another room with as
many facts is in the same store. Last, one fact is forgotten, which the answer waits for, and then the index is merged
step by step until no word of the fact is left. All times are of a processor, so a busy machine does not change them.
To make the two rooms takes five minutes for a million facts each, where the machine has nothing else to do.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Final

from benchmarks import common, filling
from parlerd.core.envelope import Envelope, MemoryPart, TextPart, encode_envelope
from parlerd.core.events import Header, MessagePosted
from parlerd.core.model import AgentId, By, MemoryNote, MessageId, Millis, Position, PrincipalId, RoomId, View
from parlerd.core.recall import parse
from parlerd.core.rewinds import RewindsState
from parlerd.engine.recalling import Place, search
from parlerd.store.port import Append, EraseBodies, IndexMemory, NewFact
from parlerd.store.sqlite import SqliteStore

RATIO_FLOOR: Final = 50.0
FIGURE: Final = "recall of {} in {:,} facts, in point reads"
POINT: Final = "a point read in {:,} facts"
FORGET: Final = "forgetting one of {:,} facts"
STEP: Final = "the longest step of merging the index of {:,} facts"
QUERIES: Final = {
    "a word that every fact has": "deploy",
    "a rare word": "w777",
    "a date": "2026-11-27",
    "a date that is nowhere": "2026-11-28",
    "two words that many facts have": "deploy green",
    "words that no fact has together": "blue green",
    "what begins so": "dep*",
    "what begins with more than the index knows, and none does": "deploym*",
    "two beginnings": "dep* gre*",
    "signs alone": "->",
    "a word that is nowhere": "canary",
    "eight words, most of them nowhere": "the quick brown fox jumps over lazy deploy",
}
_CHUNK: Final = 5_000
_ROOMS: Final = (RoomId("r_beside"), RoomId("r_searched"))
_AUTHOR: Final = AgentId("U" + "A" * 55)
_BY: Final = By(_AUTHOR, PrincipalId("A" + "B" * 55), "", "", "cli")


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=60, small=1_000, large=1_000_000)
    report = common.Report("recall", given.place)
    grown: dict[str, dict[str, float]] = {}
    for facts in dict.fromkeys((given.small, given.large)):
        with common.empty_home(given.place) as made, filling.opened_store(made) as store:
            for room in _ROOMS:
                _fill(store, room, facts)
            times = _measured(store, facts, given.runs)
            point = times.pop("")
            typical = statistics.median(point)
            if facts == given.large:
                report.add(common.spread(POINT.format(facts), "ms", point))
            for what, found in times.items():
                grown.setdefault(what, {})[f"{facts:,}"] = float(f"{statistics.median(found):.4g}")
                if facts == given.large:
                    ratios = [each / typical for each in found]
                    report.add(common.spread(FIGURE.format(what, facts), "x", ratios, floor=RATIO_FLOOR))
            ended = {FORGET: [_milliseconds(lambda: _forget(store, facts))], STEP: _merged(store)}  # noqa: B023 - at once
            for what, found in ended.items():
                longest = float(f"{max(found, default=0):.4g}")
                grown.setdefault(what.partition(" of {")[0], {})[f"{facts:,}"] = longest
                if facts == given.large:
                    report.add(common.Figure(what.format(facts), "ms", longest, len(found)))
    for what, sizes in grown.items():
        report.growth.append({"what": f"{what}: ms, by facts in the room", **sizes})
    report.print()


def _measured(store: SqliteStore, facts: int, runs: int) -> dict[str, list[float]]:
    room = _ROOMS[1]
    place = Place(room, Position(facts), View(reader=_AUTHOR, spans=((0, None),)), RewindsState(), None)

    def point() -> None:
        assert store.message(room, Position(facts // 2)) is not None
        assert store.body(room, Position(facts // 2)) is not None

    def recall(text: str) -> Callable[[], object]:
        return lambda: search(store, [place], parse(text), time.thread_time)

    acts = {"": point, **{what: recall(text) for what, text in QUERIES.items()}}
    for act in acts.values():
        act()
    times: dict[str, list[float]] = {what: [] for what in acts}
    for _ in range(runs):
        for what, act in acts.items():
            times[what].append(_milliseconds(act))
    return times


def _milliseconds(act: Callable[[], object]) -> float:
    """How long a processor takes for this."""
    begun = time.thread_time()
    act()
    return (time.thread_time() - begun) * 1000


def _fill(store: SqliteStore, room: RoomId, facts: int) -> None:
    done = 0
    while done < facts:
        count = min(_CHUNK, facts - done)
        made = [_fact(room, done + number + 1) for number in range(count)]
        (outcome,) = store.transact([[Append(room, Position(done), made)]])
        if outcome.error is not None:
            raise outcome.error
        store.checkpoint()
        done += count
    print(f"filled {room} with {facts:,} facts", file=sys.stderr)


def _text(number: int) -> str:
    colour = "blue" if number % 3 else "green"
    return f"deploy number {number}: w{number % 9973} {colour} since 2026-{number % 12 + 1:02}-{number % 28 + 1:02}"


def _fact(room: RoomId, number: int) -> NewFact:
    id = MessageId(f"m_{room}_{number}")
    body = encode_envelope(
        Envelope(
            v=2,
            id=id,
            room=room,
            key=f"k_{number}",
            kind="memory",
            chain=f"c_{number}",
            hops=0,
            authored_at=Millis(0),
            counter=number,
            previous=b"",
            nonce=bytes(16),
            parts=(TextPart(_text(number)), MemoryPart()),
        )
    )
    digest = hashlib.sha256(body).digest()
    event = MessagePosted(
        id=id, kind="memory", chain=f"c_{number}", counter=number, envelope=digest, memory=MemoryNote()
    )
    header = Header(position=Position(number), at=Millis(number), by=_BY, authority="member", event=event, body=digest)
    return NewFact(header, body, bytes(64))


def _forget(store: SqliteStore, facts: int) -> None:
    (outcome,) = store.transact([[EraseBodies(_ROOMS[1], [Position(facts // 3)])]])
    assert outcome.error is None


def _merged(store: SqliteStore) -> list[float]:
    """Merge the index until nothing is left of what was forgotten; how long each step took, in milliseconds."""
    steps: list[float] = []
    while not store.is_memory_indexed():
        steps.append(_milliseconds(lambda: store.transact([[IndexMemory(1)]])))
    return steps


if __name__ == "__main__":
    main()
