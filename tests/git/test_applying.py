"""Taking the commits of a bundle in: under one ref, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.git.applying import apply
from parlerd.git.pushing import Bundled, bundled
from tests.support.git import Work, work_in

ID = "0011223344556677"
REF = f"refs/parler/{ID}"


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return work_in(tmp_path / "work")


@pytest.fixture
def other(tmp_path: Path) -> Work:
    other = work_in(tmp_path / "other")
    other.commit(own="1")
    return other


@pytest.fixture
def whole(work: Work) -> Iterator[Bundled]:
    work.commit(f="1")
    work.commit(f="2")
    with bundled(work.repository) as made:
        yield made


def refused(other: Work, path: str, tip: str) -> ParlerError:
    before = other.refs()
    with pytest.raises(ParlerError) as caught:
        apply(other.repository, path, ID, tip=tip)
    assert other.refs() == before
    return caught.value


def test_a_ref_of_its_own_holds_the_commit_and_nothing_else_changed(other: Work, whole: Bundled) -> None:
    before, status, refs = other.state(), other.git("status", "--porcelain"), other.refs()
    applied = apply(other.repository, whole.path, ID, tip=whole.tip)
    assert (applied.ref, applied.tip, applied.is_new) == (REF, whole.tip, True)
    assert other.refs() == {**refs, REF: whole.tip}
    assert other.git("status", "--porcelain") == status
    after = other.state()
    assert {path: data for path, data in after.items() if path in before} == before
    new = sorted(path.removeprefix(f"{other.folder}/.git/") for path in after if path not in before)
    assert [path.split("/")[0] for path in new] == ["objects", "objects", "refs"]
    assert other.git("fsck", "--strict") == ""
    assert other.git("show", f"{REF}:f") == "2"


def test_the_same_bundle_again_changes_nothing(other: Work, whole: Bundled) -> None:
    apply(other.repository, whole.path, ID, tip=whole.tip)
    before = other.state()
    assert not apply(other.repository, whole.path, ID, tip=whole.tip).is_new
    assert other.state() == before


def test_a_ref_that_holds_another_commit_is_replaced_only_where_that_was_said(other: Work, whole: Bundled) -> None:
    other.git("update-ref", REF, "HEAD")
    assert refused(other, whole.path, whole.tip).code == "target_exists"
    assert apply(other.repository, whole.path, ID, tip=whole.tip, force=True).is_new
    assert other.refs()[REF] == whole.tip


def test_a_thin_bundle_needs_its_base(work: Work, other: Work, whole: Bundled) -> None:
    base = work.git("rev-parse", "HEAD")
    tip = work.commit(f="3" * 5000)
    with bundled(work.repository, "main", base) as thin:
        lacking = refused(other, thin.path, tip)
        assert (lacking.code, lacking.details["commits"]) == ("missing_base", [base])
        apply(other.repository, whole.path, ID, tip=whole.tip)
        applied = apply(other.repository, thin.path, "8899aabbccddeeff", tip=tip)
    assert other.git("rev-list", "--count", applied.ref) == "3"
    assert other.git("fsck", "--strict") == ""


def test_what_the_refs_of_the_repository_lead_to_is_not_looked_through_again(work: Work, tmp_path: Path) -> None:
    old = work.commit(f="1")
    base = work.commit(f="2")
    other = work_in(tmp_path / "partial")
    other.git("fetch", "-q", str(work.folder), "main:refs/heads/base")
    tip = work.commit(f="3")
    lost = work.git("rev-parse", f"{old}:f")
    place = other.folder / ".git/objects" / lost[:2] / lost[2:]
    place.unlink()
    with bundled(work.repository, "main", base) as thin:
        applied = apply(other.repository, thin.path, ID, tip=tip)
    assert other.refs()[REF] == applied.tip == tip


def test_a_thin_bundle_that_lacks_a_part_of_what_is_new_is_refused(work: Work, other: Work, tmp_path: Path) -> None:
    base = work.commit(f="1")
    other.git("fetch", "-q", str(work.folder), f"{base}:refs/heads/base")
    lost = work.commit(f="2")
    tip = work.commit(f="3")
    work.git("bundle", "create", "-q", str(tmp_path / "thin"), "main", f"^{lost}")
    data = (tmp_path / "thin").read_bytes().replace(lost.encode(), base.encode())
    (tmp_path / "lies").write_bytes(data)
    error = refused(other, str(tmp_path / "lies"), tip)
    assert (error.code, error.details["what"]) == ("bundle_refused", "objects")


def test_a_ref_whose_object_is_gone_keeps_no_bundle_out(other: Work, whole: Bundled) -> None:
    (other.folder / ".git/refs/heads/gone").write_text("ab" * 20 + "\n")
    apply(other.repository, whole.path, ID, tip=whole.tip)
    assert other.git("rev-parse", REF) == whole.tip


def test_a_ref_that_names_the_commit_without_having_it_is_no_commit_that_was_taken_in(
    other: Work, whole: Bundled
) -> None:
    place = other.folder / ".git" / REF
    place.parent.mkdir(parents=True)
    place.write_text(whole.tip + "\n")
    assert apply(other.repository, whole.path, ID, tip=whole.tip).is_new
    assert other.git("show", f"{REF}:f") == "2"


def test_another_commit_than_its_author_named_is_not_taken_in(other: Work, whole: Bundled) -> None:
    error = refused(other, whole.path, "ab" * 20)
    assert (error.code, error.details["what"]) == ("bundle_refused", "tip")


@pytest.mark.parametrize("at", [0.3, 0.5, 0.9, 0.999])
def test_a_damaged_or_cut_bundle_leaves_nothing(other: Work, whole: Bundled, tmp_path: Path, at: float) -> None:
    data = Path(whole.path).read_bytes()
    place = int(len(data) * at)
    for damaged in (data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
        bad = tmp_path / "bad"
        bad.write_bytes(damaged)
        before = other.state()
        assert refused(other, str(bad), whole.tip).code == "bundle_refused"
        assert other.state() == before


def test_a_bundle_that_lacks_a_part_of_its_history_is_refused(work: Work, other: Work, tmp_path: Path) -> None:
    base = work.commit(f="1")
    tip = work.commit(f="2")
    work.git("bundle", "create", "-q", str(tmp_path / "thin"), "main", f"^{base}")
    data = (tmp_path / "thin").read_bytes()
    head, _, pack = data.partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith(b"-")]
    (tmp_path / "lies").write_bytes(b"\n".join(lines) + b"\n\n" + pack)
    error = refused(other, str(tmp_path / "lies"), tip)
    assert (error.code, error.details["what"]) == ("bundle_refused", "objects")


def test_a_tip_that_is_no_commit_is_refused(work: Work, other: Work, tmp_path: Path) -> None:
    work.commit(f="1")
    blob = work.git("rev-parse", "HEAD:f")
    work.git("tag", "blob", blob)
    work.git("bundle", "create", "-q", str(tmp_path / "b"), "refs/tags/blob")
    error = refused(other, str(tmp_path / "b"), blob)
    assert (error.code, error.details["what"]) == ("bundle_refused", "tip")


@pytest.mark.parametrize("name", [".GIT", ".git", ".gi\u200ct", "GIT~1", "..", "a/b"])
def test_a_tree_that_would_write_elsewhere_when_checked_out_is_refused(
    work: Work, other: Work, tmp_path: Path, name: str
) -> None:
    work.commit(f="1")
    blob = bytes.fromhex(work.git("rev-parse", "HEAD:f"))
    entry = b"100644 " + name.encode() + b"\0" + blob
    tree = work.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entry)
    tip = work.git("commit-tree", tree, "-m", "x")
    work.git("update-ref", "refs/heads/bad", tip)
    work.git("bundle", "create", "-q", str(tmp_path / "b"), "refs/heads/bad")
    before = other.state()
    error = refused(other, str(tmp_path / "b"), tip)
    assert (error.code, error.details["what"]) == ("bundle_refused", "objects")
    assert other.state() == before


def test_a_clone_without_its_whole_history_takes_nothing_in(other: Work, whole: Bundled, tmp_path: Path) -> None:
    other.commit(own="2")
    other.git("clone", "-q", "--depth", "1", f"file://{other.folder}", str(tmp_path / "shallow"))
    assert refused(Work(tmp_path / "shallow"), whole.path, whole.tip).code == "shallow_repository"


def test_a_linked_work_tree_takes_it_in_for_all_of_them(other: Work, whole: Bundled, tmp_path: Path) -> None:
    other.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    apply(Work(tmp_path / "side").repository, whole.path, ID, tip=whole.tip)
    assert other.refs()[REF] == whole.tip


def test_an_id_that_parler_did_not_make_never_becomes_a_part_of_a_ref(other: Work, whole: Bundled) -> None:
    with pytest.raises(AssertionError):
        apply(other.repository, whole.path, "../heads/main", tip=whole.tip)


def test_a_bundle_that_is_none_is_refused(other: Work, tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"PACK")
    with pytest.raises(Refused) as caught:
        apply(other.repository, str(tmp_path / "none"), ID, tip="ab" * 20)
    assert caught.value.details == {"what": "header"}
