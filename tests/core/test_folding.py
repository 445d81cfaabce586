"""What a log folds to is kept: snapshots of a fold version are read by every Parler that has the same one.

`data/fold_room.hex` and `data/fold_home.hex` are whole logs that hold every type of fact; `data/room_v1.hex` is one
more, of a room that shows nothing of an agent's absence. `data/folds.jsonl` holds the snapshot that each fold version
makes of each log. A change of `apply`, or of the state's shape, that changes these bytes needs a new `FOLD_VERSION` and
new lines; a line that stands is never changed, for snapshots of that version are in people's stores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, get_args

import pytest

from parlerd.core import events
from parlerd.core.home import HomeRoom
from parlerd.core.room import Room

DATA: Final = Path(__file__).parent / "data"
LOGS: Final[dict[str, type[Room] | type[HomeRoom]]] = {"fold_room": Room, "room_v1": Room, "fold_home": HomeRoom}


def log_of(name: str) -> list[events.Header]:
    return [events.decode_header(bytes.fromhex(text)) for text in (DATA / f"{name}.hex").read_text().splitlines()]


def folded(name: str) -> Room | HomeRoom:
    aggregate = LOGS[name]()
    for header in log_of(name):
        aggregate.apply(header)
    return aggregate


def recorded() -> dict[tuple[str, int], bytes]:
    lines = [json.loads(text) for text in (DATA / "folds.jsonl").read_text().splitlines()]
    found = {(line["log"], line["fold_version"]): bytes.fromhex(line["snapshot"]) for line in lines}
    assert len(found) == len(lines), "a fold version was recorded twice"
    return found


def test_the_saved_logs_hold_every_type_of_fact() -> None:
    for name, known in (("fold_room", events.RoomEvent), ("fold_home", events.HomeEvent)):
        assert {type(header.event) for header in log_of(name)} == set(get_args(known))


@pytest.mark.parametrize("name", LOGS)
def test_a_fold_version_makes_the_same_snapshot_for_ever(name: str) -> None:
    aggregate = folded(name)
    line = json.dumps({"log": name, "fold_version": aggregate.fold_version, "snapshot": aggregate.snapshot().hex()})
    known = recorded().get((name, aggregate.fold_version))
    assert known is not None, f"append this line to data/folds.jsonl:\n{line}"
    assert known == aggregate.snapshot(), "what a log folds to has changed: raise FOLD_VERSION"


@pytest.mark.parametrize("name", LOGS)
def test_a_recorded_snapshot_is_restored_to_what_the_log_folds_to(name: str) -> None:
    aggregate = folded(name)
    kept = recorded()[name, aggregate.fold_version]
    assert LOGS[name].restore(kept).state == aggregate.state


@pytest.mark.parametrize("name", LOGS)
def test_fold_versions_are_recorded_in_order_and_the_newest_is_the_one_in_use(name: str) -> None:
    versions = [version for log, version in recorded() if log == name]
    assert versions == sorted(versions)
    assert versions[-1] == LOGS[name].fold_version
