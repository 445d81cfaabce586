"""What every store of blobs does: one suite over the disk and the fake of tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, BlobId, Millis
from parlerd.store.blobs import SHELVES, Blobs, DiskBlobs
from tests.support.memory_blobs import MemoryBlobs

ANN, BEN = AgentId("U" + "A" * 55), AgentId("U" + "B" * 55)
NOW = Millis(1_700_000_000_000)
LATER = Millis(NOW + 1)
DATA = bytes(range(256)) * 40


def id_of(data: bytes) -> BlobId:
    return BlobId(hashlib.sha256(data).hexdigest())


@pytest.fixture(params=["disk", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return DiskBlobs(tmp_path / "blobs") if request.param == "disk" else MemoryBlobs()


def bring(blobs: Blobs, data: bytes, owner: AgentId = ANN, *, now: Millis = NOW, piece: int = 1000) -> BlobId:
    """Upload a blob whole, as a client does."""
    blob = id_of(data)
    at = blobs.begin(owner, blob, len(data))
    while at < len(data):
        at = blobs.write(owner, blob, at, data[at : at + piece], now)
    blobs.finish(owner, blob, len(data), now)
    return blob


def refused(ask: Callable[[], object]) -> ParlerError:
    with pytest.raises(ParlerError) as caught:
        ask()
    return caught.value


def test_what_was_brought_in_pieces_is_read_in_pieces(blobs: Blobs) -> None:
    blob = bring(blobs, DATA)
    assert blobs.read(blob, 0, len(DATA)) == DATA
    assert blobs.read(blob, 1000, 24) == DATA[1000:1024]
    assert blobs.read(blob, len(DATA) - 3, 100) == DATA[-3:]
    assert blobs.read(blob, len(DATA), 100) == b""
    empty = bring(blobs, b"")
    assert blobs.read(empty, 0, 10) == b""


def test_nothing_can_be_read_before_its_digest_was_compared(blobs: Blobs) -> None:
    blob = id_of(DATA)
    assert refused(lambda: blobs.read(blob, 0, 1)).code == "no_such_blob"
    blobs.write(ANN, blob, 0, DATA, NOW)
    assert refused(lambda: blobs.read(blob, 0, 1)).code == "no_such_blob"
    assert not blobs.holds(ANN, blob)
    blobs.finish(ANN, blob, len(DATA), NOW)
    assert blobs.read(blob, 0, 1) == DATA[:1]
    assert blobs.holds(ANN, blob)


def test_an_upload_goes_on_where_it_stopped(blobs: Blobs) -> None:
    blob = id_of(DATA)
    assert blobs.begin(ANN, blob, len(DATA)) == 0
    assert blobs.write(ANN, blob, 0, DATA[:1000], NOW) == 1000
    assert blobs.begin(ANN, blob, len(DATA)) == 1000
    assert blobs.write(ANN, blob, 500, DATA[500:1500], NOW) == 1500
    assert blobs.write(ANN, blob, 0, DATA[:100], NOW) == 1500
    error = refused(lambda: blobs.write(ANN, blob, 2000, DATA[2000:], NOW))
    assert (error.code, error.details["offset"]) == ("upload_unfinished", 1500)
    error = refused(lambda: blobs.finish(ANN, blob, len(DATA), NOW))
    assert (error.code, error.details["offset"]) == ("upload_unfinished", 1500)
    blobs.write(ANN, blob, 1500, DATA[1500:], NOW)
    blobs.finish(ANN, blob, len(DATA), NOW)
    assert blobs.begin(ANN, blob, len(DATA)) == len(DATA)
    blobs.finish(ANN, blob, len(DATA), NOW)
    assert blobs.read(blob, 0, len(DATA)) == DATA


def test_bytes_that_do_not_have_the_digest_are_thrown_away(blobs: Blobs) -> None:
    blob = id_of(DATA)
    blobs.write(ANN, blob, 0, DATA[:-1] + b"!", NOW)
    assert refused(lambda: blobs.finish(ANN, blob, len(DATA), NOW)).code == "blob_mismatch"
    assert (blobs.begin(ANN, blob, len(DATA)), blobs.used()) == (0, 0)
    assert refused(lambda: blobs.read(blob, 0, 1)).code == "no_such_blob"
    assert refused(lambda: blobs.finish(ANN, blob, len(DATA), NOW)).code == "upload_unfinished"


def test_an_upload_under_another_name_becomes_the_blob_that_it_is(blobs: Blobs) -> None:
    name = id_of(b"a name that is nobody's digest")
    for owner in (ANN, BEN):
        assert blobs.begin(owner, name, len(DATA)) == 0
        blobs.write(owner, name, 0, DATA[:1000], NOW)
        error = refused(partial(blobs.settle, owner, name, len(DATA), NOW))
        assert (error.code, error.details["offset"]) == ("upload_unfinished", 1000)
        blobs.write(owner, name, 1000, DATA[1000:], NOW)
        assert blobs.settle(owner, name, len(DATA), NOW) == id_of(DATA)
        assert (blobs.holds(owner, id_of(DATA)), blobs.holds(owner, name)) == (True, False)
    assert blobs.read(id_of(DATA), 0, len(DATA)) == DATA
    assert blobs.used() == len(DATA)
    assert blobs.settle(ANN, name, 0, NOW) == id_of(b"")


def test_an_upload_that_is_given_up_is_gone_and_a_blob_is_not(blobs: Blobs) -> None:
    blob = bring(blobs, DATA)
    blobs.write(BEN, blob, 0, DATA[:1000], NOW)
    for owner in (ANN, BEN):
        blobs.forget(owner, blob)
    assert (blobs.begin(BEN, blob, len(DATA)), blobs.used()) == (0, len(DATA))
    assert blobs.holds(ANN, blob)


def test_more_bytes_than_the_file_has_are_begun_anew(blobs: Blobs) -> None:
    blob = id_of(DATA)
    blobs.write(ANN, blob, 0, DATA, NOW)
    assert blobs.begin(ANN, blob, 10) == 0
    assert blobs.begin(ANN, blob, len(DATA)) == 0


def test_nobody_learns_what_another_brought(blobs: Blobs) -> None:
    answers = []
    for owner in (ANN, BEN):
        blob = id_of(DATA)
        answers.append((
            blobs.begin(owner, blob, len(DATA)),
            refused(partial(blobs.finish, owner, blob, len(DATA), NOW)).details,
            blobs.holds(owner, blob),
            bring(blobs, DATA, owner),
        ))  # fmt: skip
    assert answers[0] == answers[1]
    assert blobs.used() == len(DATA)


def test_who_may_bring_it_elsewhere_can_be_let_hold_it(blobs: Blobs) -> None:
    assert refused(lambda: blobs.hold(BEN, id_of(DATA), NOW)).code == "no_such_blob"
    blob = bring(blobs, DATA)
    assert not blobs.holds(BEN, blob)
    blobs.hold(BEN, blob, NOW)
    assert blobs.holds(BEN, blob)
    assert blobs.begin(BEN, blob, len(DATA)) == len(DATA)


def test_what_nobody_holds_any_more_is_idle_and_can_be_dropped(blobs: Blobs) -> None:
    old, new = bring(blobs, DATA), bring(blobs, DATA + b"new", now=LATER)
    assert blobs.idle(old[:2], NOW) == []
    assert blobs.idle(old[:2], LATER) == [old]
    assert blobs.idle(new[:2], LATER) == ([old] if old[:2] == new[:2] else [])
    assert not blobs.holds(ANN, old)
    assert blobs.holds(ANN, new)
    assert not blobs.drop(new, LATER)
    assert blobs.drop(old, LATER)
    assert refused(lambda: blobs.read(old, 0, 1)).code == "no_such_blob"
    assert blobs.used() == len(DATA) + 3


def test_what_somebody_holds_again_is_not_dropped(blobs: Blobs) -> None:
    blob = bring(blobs, DATA)
    assert blobs.idle(blob[:2], LATER) == [blob]
    blobs.hold(BEN, blob, LATER)
    assert not blobs.drop(blob, LATER)
    assert blobs.idle(blob[:2], LATER) == []
    assert blobs.read(blob, 0, 1) == DATA[:1]


def test_an_upload_that_nobody_goes_on_with_is_forgotten(blobs: Blobs) -> None:
    blob = id_of(DATA)
    blobs.write(ANN, blob, 0, DATA[:1000], NOW)
    assert blobs.used() == 1000
    assert blobs.idle(blob[:2], NOW) == []
    assert blobs.begin(ANN, blob, len(DATA)) == 1000
    assert blobs.idle(blob[:2], LATER) == []
    assert (blobs.begin(ANN, blob, len(DATA)), blobs.used()) == (0, 0)


def test_every_blob_is_on_one_shelf(blobs: Blobs) -> None:
    brought = {bring(blobs, bytes([number])) for number in range(50)}
    found = [blob for shelf in SHELVES for blob in blobs.idle(shelf, LATER)]
    assert sorted(brought) == sorted(found)


Step = tuple[str, AgentId, int, int]
_STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(["begin", "write", "wrong", "finish", "settle", "forget", "idle", "drop", "reopen"]),
        st.sampled_from([ANN, BEN]),
        st.integers(0, 2),
        st.integers(0, 12),
    ),
    max_size=30,
)


@given(_STEPS)
@settings(max_examples=60, deadline=None)
def test_the_disk_does_what_the_plainest_store_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    root = tmp_path_factory.mktemp("blobs")
    disk, plain = DiskBlobs(root), MemoryBlobs()
    files = [b"", b"abcdefghij", b"0123456789ab"]
    for number, (what, owner, which, at) in enumerate(steps):
        data = files[which]
        blob, now = id_of(data), Millis(NOW + number)
        if what == "reopen":
            disk = DiskBlobs(root)
            continue
        both = [_outcome(each, what, owner, blob, data, at, now) for each in (disk, plain)]
        assert both[0] == both[1]
        assert disk.used() == plain.used()
        for each in map(id_of, files):
            assert [disk.holds(who, each) for who in (ANN, BEN)] == [plain.holds(who, each) for who in (ANN, BEN)]


def _outcome(
    blobs: Blobs, what: str, owner: AgentId, blob: BlobId, data: bytes, at: int, now: Millis
) -> Iterator[object] | object:
    try:
        match what:
            case "begin":
                return blobs.begin(owner, blob, len(data))
            case "write":
                return blobs.write(owner, blob, at, data[at : at + 4], now)
            case "wrong":
                return blobs.write(owner, blob, at, b"!", now)
            case "finish":
                blobs.finish(owner, blob, len(data), now)
                return blobs.read(blob, 0, 99)
            case "settle":
                return blobs.settle(owner, blob, len(data), now)
            case "forget":
                blobs.forget(owner, blob)
                return None
            case "idle":
                return blobs.idle(blob[:2], Millis(now - at))
            case _:
                return blobs.drop(blob, Millis(now - at))
    except Refused as error:
        return error.code, error.details
