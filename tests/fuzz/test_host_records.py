"""Samples of hosts' records, damaged at random: nothing makes the judge fail, and nothing that is not there proves.

What the samples hold is made up; each round changes, removes, repeats and moves entries or parts of them, or bytes of
their lines. The rounds are the same each time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from parlerd.core.judge import Answer, Judge
from parlerd.core.records import Ending, Record, at, texts
from parlerd.core.sight import expected
from tests.configs.test_host_records import SAMPLES, parts, sample
from tests.e2e.hosts.sight.samples import TEXT

ROUNDS: Final = 60
VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1.5, 1 << 70, "", "x", "assistant", TEXT, TEXT[1:], [], {}, [TEXT], {"text": TEXT}, [[[]]],
)  # fmt: skip


def damaged(entries: list[Any], chance: random.Random) -> list[Any]:
    """These entries after one to four changes."""
    found: list[Any] = json.loads(json.dumps(entries))
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(len(found))
        match chance.randrange(6):
            case 0:
                del found[place]
            case 1:
                found.insert(chance.randrange(len(found) + 1), found[place])
            case 2:
                found.insert(chance.randrange(len(found) + 1), found.pop(place))
            case _:
                holders = [each for each in _holders(found[place]) if each]
                if holders:
                    holder = chance.choice(holders)
                    key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
                    holder[key] = chance.choice(VALUES)
        if not found:
            return [{}]
    return found


def _holders(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _holders(each)


def verdict(record: Record, entries: list[Any]) -> str:
    judge, answer = Judge(record, "sample"), Answer([expected(TEXT)])
    for entry in entries:
        for found in judge.entry(entry, [answer]):
            return found.verdict
    return ""


def is_proof(record: Record, entries: list[Any]) -> bool:
    """Whether somewhere the whole text stands in a result, a reply comes later, and no ending stands between that takes
    the result out."""
    for start, entry in enumerate(entries):
        if not any(_has_text(kind, entry) for kind in record.results if kind.fits(entry)):
            continue
        for place, later in enumerate(entries[start + 1 :], start + 1):
            if any(reply.fits(later) for reply in record.replies):
                return True
            endings = [ending for ending in record.endings if ending.fits(later)]
            if not record.conversation and any(not _spares(each, later, entries[start:place]) for each in endings):
                break
    return False


def _spares(ending: Ending, entry: Any, since: list[Any]) -> bool:
    """Whether a compaction may leave a result in the conversation: it names what is kept, or the last entry that is
    gone, which is neither the result nor an entry behind the result (`since` begins with the result)."""
    gone = [*at(entry, ending.upto)] if ending.upto else []
    return bool(ending.kept or ending.since) or (
        bool(gone) and not any(id in gone for each in since for id in at(each, ending.at))
    )


def _has_text(kind: Any, entry: Any) -> bool:
    found = [text for element in at(entry, kind.each) for value in at(element, kind.text) for text in texts(value)]
    return any(TEXT in text or TEXT.replace("\n", "\\n") in text for text in found)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_record_proves_nothing_that_does_not_stand_in_it(name: str) -> None:
    _, _, record = parts(name)
    entries, chance = sample(name), random.Random(name)
    for _ in range(ROUNDS):
        changed = damaged(entries, chance)
        if verdict(record, changed) == "shown":
            assert is_proof(record, changed)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_bytes_make_the_judge_fail(name: str) -> None:
    _, _, record = parts(name)
    entries, chance = sample(name), random.Random(name)
    for _ in range(ROUNDS):
        data = bytearray(b"\n".join(json.dumps(entry).encode() for entry in entries))
        for _ in range(chance.randrange(1, 20)):
            place = chance.randrange(len(data))
            data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        judge, answer = Judge(record, "sample"), Answer([expected(TEXT)])
        for line in bytes(data).split(b"\n"):
            for found in judge.line(line, [answer]):
                answer.left.pop(found.marker, None)
