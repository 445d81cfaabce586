"""Bundles of commits: what is in one, and what is said to be missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.git.applying import apply
from parlerd.git.pushing import MAX_LISTED, bundled
from parlerd.git.worktree import LeftOut
from tests.support.git import Work, work_in


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return work_in(tmp_path / "work")


def refused(work: Work, *args: str, changes: bool = False) -> ParlerError:
    with pytest.raises(ParlerError) as caught, bundled(work.repository, *args, changes=changes):
        pass
    return caught.value


def taken(work: Work, tmp_path: Path, ref: str = "HEAD", base: str = "", *, changes: bool = False) -> Work:
    """Another repository that took the bundle in, under `refs/parler/0011223344556677`."""
    other = work_in(tmp_path / f"other{len(os.listdir(tmp_path))}", format=work.repository.format)
    with bundled(work.repository, ref, base, changes=changes) as made:
        apply(other.repository, made.path, "0011223344556677", tip=made.tip)
    return other


def test_a_bundle_holds_the_commit_with_all_that_led_to_it(work: Work, tmp_path: Path) -> None:
    work.commit(f="1")
    tip = work.commit(f="2")
    with bundled(work.repository) as made:
        assert (made.ref, made.tip, made.base, made.left_out, made.more) == ("main", tip, "", (), 0)
        assert made.size == os.path.getsize(made.path) > 0
        where = made.path
    assert not os.path.exists(where)
    other = taken(work, tmp_path)
    assert other.git("rev-list", "refs/parler/0011223344556677") == work.git("rev-list", "main")


def test_against_a_base_only_what_is_new_goes_along(work: Work, tmp_path: Path) -> None:
    base = work.commit(f="x" * 10_000)
    work.git("tag", "v1")
    tip = work.commit(g="2")
    with bundled(work.repository, "main", "v1") as thin, bundled(work.repository) as whole:
        assert (thin.tip, thin.base) == (tip, base)
        assert thin.size < whole.size
    assert refused(work, "v1", "main").code == "nothing_to_push"
    assert refused(work, "main", "main").code == "nothing_to_push"


@pytest.mark.parametrize(
    "name",
    ["", "-x", "--all", "HEAD~1", "main^{tree}", "@{u}", "a b", "a\nb", "main:f", "../x", "$(id)", "é", "x" * 300],
)
def test_a_name_that_is_no_refs_is_refused_before_git_sees_it(work: Work, name: str) -> None:
    work.commit(f="1")
    assert refused(work, name).code == "invalid_param"
    if name:
        assert refused(work, "HEAD", name).code == "invalid_param"


def test_a_ref_that_is_not_there_and_a_repository_without_commits_are_told_apart_from_nothing(work: Work) -> None:
    assert refused(work).code == "no_such_ref"
    work.commit(f="1")
    assert refused(work, "other").code == "no_such_ref"
    assert refused(work, "main", "other").code == "no_such_ref"


def test_what_is_not_committed_is_named_where_commits_alone_go_along(work: Work) -> None:
    work.commit(f="1", g="1")
    work.write("f", "2")
    work.write("new", "1")
    work.write("staged", "1")
    work.git("add", "staged")
    (work.folder / "g").unlink()
    with bundled(work.repository) as made:
        assert made.left_out == tuple(LeftOut(path, "uncommitted") for path in ("f", "g", "new", "staged"))


def test_another_branch_than_the_one_that_is_checked_out_leaves_nothing_out(work: Work) -> None:
    work.commit(f="1")
    work.git("branch", "before")
    work.commit(f="2")
    work.write("f", "3")
    with bundled(work.repository, "before") as made:
        assert (made.ref, made.left_out) == ("before", ())


def test_uncommitted_changes_go_along_as_a_commit_and_nothing_here_changes(work: Work, tmp_path: Path) -> None:
    base = work.commit(f="1", gone="1", mode="1")
    work.write("f", "2")
    work.write("deep/new", "1")
    (work.folder / "gone").unlink()
    (work.folder / "mode").chmod(0o755)
    os.symlink("/etc/passwd", work.folder / "link")
    work.write("staged", "1")
    work.git("add", "staged")
    before, status = work.state(), work.git("status", "--porcelain")
    other = taken(work, tmp_path, changes=True)
    assert work.state() == before
    assert work.git("status", "--porcelain") == status
    ref = "refs/parler/0011223344556677"
    assert other.git("rev-parse", f"{ref}^") == base
    regular, executable, link = "100644", "100755", "120000"
    tree = {"f": regular, "deep/new": regular, "mode": executable, "link": link, "staged": regular}
    assert other.tree(ref) == tree
    assert other.git("show", f"{ref}:f") == "2"
    assert other.git("show", f"{ref}:link") == "/etc/passwd"


def test_without_uncommitted_changes_the_commit_itself_goes(work: Work) -> None:
    tip = work.commit(f="1")
    with bundled(work.repository, changes=True) as made:
        assert made.tip == tip
    work.git("checkout", "-q", "--orphan", "fresh")
    work.git("rm", "-q", "--cached", "f")
    with bundled(work.repository, changes=True) as made:
        assert work.git("rev-parse", "main") == tip != made.tip
    assert refused(work, "main", changes=True).code == "invalid_param"


def test_what_does_not_go_along_with_uncommitted_changes_is_named_with_its_reason(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parlerd.git.worktree.MAX_FILE", 1000)
    work.write(".gitignore", "ignored\nbuild/\n")
    work.commit(f="1")
    work.write("ignored", "secret")
    work.write("build/out", "1")
    work.write("large", "x" * 1001)
    nested = work_in(work.folder / "nested")
    nested.commit(f="1")
    os.mkfifo(work.folder / "pipe")
    with bundled(work.repository, changes=True) as made:
        found = {each.path: each.why for each in made.left_out}
    assert found == {"ignored": "ignored", "build/": "ignored", "large": "too_large", "nested/": "nested"}


def test_what_the_person_ignores_everywhere_does_not_go_along(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text(".env\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    work.commit(f="1")
    work.write(".env", "TOKEN=1")
    work.write("mine", "1")
    with bundled(work.repository, changes=True) as made:
        assert made.left_out == (LeftOut(".env", "ignored"),)
    (home / "list").write_text("mine\n")
    (home / ".gitconfig").write_text(f"[core]\n\texcludesFile = {home}/list\n")
    with bundled(work.repository, changes=True) as made:
        assert made.left_out == (LeftOut("mine", "ignored"),)


def test_a_list_of_what_this_clone_ignores_counts_too(work: Work) -> None:
    work.commit(f="1")
    (work.folder / ".git" / "info").mkdir(exist_ok=True)
    (work.folder / ".git" / "info" / "exclude").write_text("local\n")
    work.write("local", "1")
    with bundled(work.repository, changes=True) as made:
        assert made.left_out == (LeftOut("local", "ignored"),)


def test_commits_of_submodules_and_files_of_lfs_are_named(work: Work, tmp_path: Path) -> None:
    inner = work_in(tmp_path / "inner")
    id = inner.commit(f="1")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    work.write(".gitattributes", "*.bin filter=lfs\n")
    work.write("a.bin", pointer)
    work.write("b.txt", "not one")
    work.commit()
    work.git("update-index", "--add", "--cacheinfo", f"160000,{id},sub")
    work.git("commit", "-q", "-m", "sub")
    with bundled(work.repository, "main") as made:
        assert LeftOut("a.bin", "lfs") in made.left_out
        assert LeftOut("sub", "submodule") in made.left_out
        assert not any(each.path == "b.txt" for each in made.left_out)


def test_a_long_list_is_cut_and_the_rest_is_counted(work: Work) -> None:
    work.commit(f="1")
    for number in range(MAX_LISTED + 5):
        work.write(f"n{number:04}", "1")
    with bundled(work.repository) as made:
        assert (len(made.left_out), made.more) == (MAX_LISTED, 5)


def test_a_clone_without_its_whole_history_shares_nothing(work: Work, tmp_path: Path) -> None:
    work.commit(f="1")
    work.commit(f="2")
    work.git("clone", "-q", "--depth", "1", f"file://{work.folder}", str(tmp_path / "shallow"))
    assert refused(Work(tmp_path / "shallow")).code == "shallow_repository"
    work.git("config", "uploadpack.allowFilter", "true")
    work.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{work.folder}", str(tmp_path / "partial"))
    assert refused(Work(tmp_path / "partial")).code == "git_failed"


def test_a_repository_of_sha256_is_shared_with_one_of_its_kind(tmp_path: Path) -> None:
    work = work_in(tmp_path / "long", format="sha256")
    work.commit(f="1")
    work.write("g", "2")
    other = taken(work, tmp_path, changes=True)
    assert len(other.git("rev-parse", "refs/parler/0011223344556677")) == 64
    assert set(other.tree("refs/parler/0011223344556677")) == {"f", "g"}
    short = work_in(tmp_path / "short")
    with bundled(work.repository) as made, pytest.raises(Refused) as caught:
        apply(short.repository, made.path, "0011223344556677", tip=made.tip)
    assert caught.value.details == {"what": "format"}


def test_a_bare_repository_and_a_linked_work_tree_are_shared_too(work: Work, tmp_path: Path) -> None:
    tip = work.commit(f="1")
    work.git("clone", "-q", "--bare", str(work.folder), str(tmp_path / "bare"))
    with bundled(Work(tmp_path / "bare").repository) as made:
        assert made.tip == tip
    assert refused(Work(tmp_path / "bare"), changes=True).code == "invalid_param"
    work.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    side = Work(tmp_path / "side")
    side.write("g", "1")
    with bundled(side.repository) as made:
        assert (made.ref, made.left_out) == ("side", (LeftOut("g", "uncommitted"),))
