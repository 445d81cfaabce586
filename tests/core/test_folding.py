"""What a log folds to is kept: snapshots of a fold version are read by every Parler that has the same one.

The logs and the snapshot that each fold version makes of each stand in the golden log (`tests/support/golden.py`). A
change of `apply`, or of the state's shape, that changes these bytes needs a new `FOLD_VERSION` and new lines; a line
that stands is never changed, for snapshots of that version are in people's stores.
"""

from __future__ import annotations

import pytest

from tests.support.golden import LOGS, folded, folds


@pytest.mark.parametrize("name", LOGS)
def test_a_fold_version_makes_the_same_snapshot_for_ever(name: str) -> None:
    aggregate = folded(name)
    known = folds().get((name, aggregate.fold_version))
    assert known is not None, "run: python -m tests.support.golden"
    assert known == aggregate.snapshot(), "what a log folds to has changed: raise FOLD_VERSION"


@pytest.mark.parametrize("name", LOGS)
def test_a_recorded_snapshot_is_restored_to_what_the_log_folds_to(name: str) -> None:
    aggregate = folded(name)
    kept = folds()[name, aggregate.fold_version]
    assert LOGS[name].restore(kept).state == aggregate.state


@pytest.mark.parametrize("name", LOGS)
def test_fold_versions_are_recorded_in_order_and_the_newest_is_the_one_in_use(name: str) -> None:
    versions = [version for log, version in folds() if log == name]
    assert versions == sorted(versions)
    assert versions[-1] == LOGS[name].fold_version
