"""Repositories that were made to run something, or to show files outside of them. Each did so with plain git."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.git.applying import apply
from parlerd.git.pushing import bundled
from parlerd.git.repository import find
from parlerd.git.running import Runner
from tests.support.git import Work, work_in
from tests.support.traps import Trap, filters, hooks, monitor, programs

ID = "0011223344556677"


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "trap")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    work = work_in(tmp_path / "work")
    work.commit(f="1")
    return work


def everything(work: Work, tmp_path: Path) -> None:
    """Whatever Parler does in a repository, each of it once: what is refused is refused without running anything."""
    other = work_in(tmp_path / "elsewhere")
    other.commit(f="other")
    for changes in (False, True):
        try:
            with bundled(work.repository, changes=changes):
                pass
        except ParlerError:
            pass
    with bundled(other.repository) as made:
        try:
            apply(work.repository, made.path, ID, tip=made.tip)
            apply(work.repository, made.path, ID, tip=made.tip)
        except ParlerError:
            pass


def hooks_elsewhere(work: Work, trap: Trap) -> None:
    hooks(work, trap)
    os.rename(work.folder / ".git" / "hooks", work.folder / "hooks")
    work.git("config", "core.hooksPath", str(work.folder / "hooks"))


def transports(work: Work, trap: Trap) -> None:
    programs(work, trap)
    work.git("config", "protocol.ext.allow", "always")
    work.git("config", "protocol.allow", "always")
    work.git("config", "remote.origin.url", f"ext::{trap.program}")
    work.git("config", "remote.origin.promisor", "true")
    work.git("config", "remote.origin.partialclonefilter", "blob:none")
    work.git("config", "core.repositoryformatversion", "1")
    work.git("config", "extensions.partialClone", "origin")
    # An object is missing, which a partial clone would ask its remote for.
    blob = work.git("rev-parse", "HEAD:f")
    (work.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()


def ssh_remote(work: Work, trap: Trap) -> None:
    transports(work, trap)
    work.git("config", "remote.origin.url", "ssh://nowhere.invalid/x")


def included(work: Work, trap: Trap) -> None:
    (work.folder / "more").write_text(f"[core]\n\tfsmonitor = {trap.program}\n\tsshCommand = {trap.program}\n")
    work.git("config", "include.path", "../more")


def aliases(work: Work, trap: Trap) -> None:
    for name in ("bundle", "rev-parse", "index-pack", "update-ref", "ls-files", "config"):
        work.git("config", f"alias.{name}", f"!{trap.program}")


def programs_in_the_tree(work: Work, trap: Trap) -> None:
    for name in ("git", "sh", "git-bundle", "git-rev-parse"):
        work.write(name, trap.program.read_bytes())
        (work.folder / name).chmod(0o755)


@pytest.mark.parametrize(
    "spring",
    [hooks, hooks_elsewhere, monitor, transports, ssh_remote, filters, included, aliases, programs_in_the_tree],
)
def test_nothing_that_a_repository_names_is_run(
    work: Work, trap: Trap, tmp_path: Path, spring: Callable[[Work, Trap], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spring(work, trap)
    monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}")
    for name in ("GIT_DIR", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_EDITOR", "GIT_PROXY_COMMAND", "GIT_ASKPASS"):
        monkeypatch.setenv(name, str(trap.program))
    monkeypatch.chdir(work.folder)
    everything(work, tmp_path)
    assert not trap.ran


def test_the_traps_do_run_where_git_is_left_alone(work: Work, trap: Trap) -> None:
    hooks(work, trap)
    work.git("update-ref", "refs/heads/x", "HEAD")
    assert trap.ran
    trap.mark.unlink()
    monitor(work, trap)
    work.git("status")
    assert trap.ran
    trap.mark.unlink()
    work.git("config", "core.fsmonitor", "false")
    filters(work, trap)
    work.git("config", "--unset", "filter.trap.process")
    work.git("add", "-A")
    assert trap.ran


def test_a_work_tree_elsewhere_is_not_looked_at(work: Work, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret").write_text("secret")
    work.git("config", "core.worktree", str(tmp_path / "private"))
    (work.folder / "mine").write_text("1")
    with bundled(work.repository, changes=True) as made:
        assert os.path.getsize(made.path) > 0
        work.git("bundle", "unbundle", made.path)
        assert set(work.tree(made.tip)) == {"f", "mine"}


def test_a_link_is_shared_as_a_link_and_nothing_behind_it_is_read(work: Work, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret").write_text("secret")
    work.commit(**{"dir/f": "1"})
    (work.folder / "dir" / "f").unlink()
    (work.folder / "dir").rmdir()
    os.symlink(tmp_path / "private", work.folder / "dir")
    os.symlink(tmp_path / "private" / "secret", work.folder / "link")
    with bundled(work.repository, changes=True) as made:
        work.git("bundle", "unbundle", made.path)
        assert work.tree(made.tip) == {"f": "100644", "dir": "120000", "link": "120000"}


def test_a_git_file_that_names_somebody_elses_repository_is_refused(work: Work, tmp_path: Path) -> None:
    private = work_in(tmp_path / "private")
    private.commit(secret="1")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / ".git").write_text(f"gitdir: {private.folder}/.git\n")
    (tmp_path / "linked").mkdir()
    os.symlink(private.folder / ".git", tmp_path / "linked" / ".git")
    for name in ("named", "linked"):
        with pytest.raises(ParlerError) as caught:
            find(str(tmp_path / name), Runner())
        assert caught.value.code == "no_repository"


def test_folders_of_git_that_are_links_are_not_written_through(work: Work, tmp_path: Path) -> None:
    other = work_in(tmp_path / "other")
    other.commit(f="other")
    outside = tmp_path / "outside"
    outside.mkdir()
    objects = work.folder / ".git" / "objects"
    for place in (objects / "pack", work.folder / ".git" / "refs" / "parler"):
        if place.exists():
            place.rmdir()
        os.symlink(outside, place)
        with bundled(other.repository) as made, pytest.raises(ParlerError) as caught:
            apply(work.repository, made.path, ID, tip=made.tip)
        assert caught.value.code == "git_failed"
        assert list(outside.iterdir()) == []
        place.unlink()


def test_a_ref_that_is_a_name_for_another_ref_is_not_followed(work: Work, tmp_path: Path) -> None:
    other = work_in(tmp_path / "other")
    other.commit(f="other")
    main = work.refs()["refs/heads/main"]
    work.git("symbolic-ref", f"refs/parler/{ID}", "refs/heads/main")
    with bundled(other.repository) as made:
        apply(work.repository, made.path, ID, tip=made.tip, force=True)
        assert work.refs()[f"refs/parler/{ID}"] == made.tip
    assert work.refs()["refs/heads/main"] == main


def test_a_replaced_commit_is_shared_as_it_was_made(work: Work) -> None:
    real = work.git("rev-parse", "HEAD")
    work.commit(g="2")
    work.git("replace", "HEAD", real)
    with bundled(work.repository) as made:
        assert made.tip == work.git("rev-parse", "main")
        said = work.git("--no-replace-objects", "bundle", "verify", made.path)
    assert made.tip in said
