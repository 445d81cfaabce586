from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from parlerd.ipc.workspace import find, workspace_of
from parlerd.wire.messages import Hello


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real directory with a home in it that is not the one of who runs the tests."""
    place = tmp_path.resolve()
    (place / "home").mkdir()
    monkeypatch.setenv("HOME", str(place / "home"))
    return place


def test_a_directory_in_a_work_tree_stands_for_the_tree(place: Path) -> None:
    inner = place / "repo" / "src" / "deep"
    inner.mkdir(parents=True)
    (place / "repo" / ".git").mkdir()
    assert find(str(inner)) == find(str(place / "repo")) == str(place / "repo")


def test_each_linked_work_tree_is_its_own(place: Path) -> None:
    linked = place / "repo" / "linked"
    (linked / "src").mkdir(parents=True)
    (place / "repo" / ".git").mkdir()
    (linked / ".git").write_text("gitdir: ../.git/worktrees/linked\n")
    assert find(str(linked / "src")) == str(linked)


def test_without_git_it_is_the_directory_itself(place: Path) -> None:
    (place / "notes").mkdir()
    assert find(str(place / "notes")) == str(place / "notes")


def test_links_are_resolved_so_that_one_place_has_one_name(place: Path) -> None:
    (place / "repo" / ".git").mkdir(parents=True)
    (place / "short").symlink_to(place / "repo")
    assert find(str(place / "short")) == str(place / "repo")


@pytest.mark.parametrize("directory", ["/", "", "relative/path", "/no/such/place", "/a\0b", "/" + "x" * 5000])
def test_a_place_that_says_nothing_is_empty(place: Path, directory: str) -> None:
    assert find(directory) == ""


def test_the_persons_home_says_nothing_even_when_it_is_a_work_tree(place: Path) -> None:
    home = place / "home"
    (home / ".git").mkdir()
    (home / "notes").mkdir()
    assert find(str(home)) == ""
    assert find(str(home / "notes")) == str(home / "notes")


def test_a_file_is_no_workspace(place: Path) -> None:
    (place / "file").write_text("")
    assert find(str(place / "file")) == ""


def test_what_the_host_says_of_its_project_comes_before_where_it_was_started(place: Path) -> None:
    (place / "a").mkdir()
    (place / "b").mkdir()

    def hello(**fields: str) -> Hello:
        return Hello(protocol=1, version="1", role="stdio", **fields)  # type: ignore[arg-type]  # only text fields

    assert trio.run(workspace_of, hello(cwd=str(place / "a"), project_dir=str(place / "b"))) == str(place / "b")
    assert trio.run(workspace_of, hello(cwd=str(place / "a"))) == str(place / "a")
    assert trio.run(workspace_of, hello()) == ""


def test_a_look_that_hangs_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> str:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio.to_thread, "run_sync", hang)
    clock = MockClock(autojump_threshold=0)
    hello = Hello(protocol=1, version="1", role="client", cwd=str(place))
    assert trio.run(workspace_of, hello, clock=clock) == ""
