"""Files of a window's workspace: what may be read and written there, and that nothing else may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.engine.workspace_files import Source, Target


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "a.md").write_bytes(b"inside")
    (tmp_path / "outside").write_bytes(b"outside")
    return folder


def read(workspace: Path, path: str, home: str = "") -> bytes:
    with Source(str(workspace), path, home) as source:
        return source.read(0, source.size() + 1)


def write(workspace: Path, path: str, data: bytes = b"new", home: str = "") -> str:
    with Target(str(workspace), path, home) as target:
        target.write(0, data)
        target.finish()
        return target.path


def refused_to_read(workspace: Path, path: str, home: str = "") -> str:
    with pytest.raises(ParlerError) as caught:
        read(workspace, path, home)
    return caught.value.code


def refused_to_write(workspace: Path, path: str, home: str = "") -> str:
    with pytest.raises(ParlerError) as caught:
        write(workspace, path, home=home)
    return caught.value.code


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_read_and_written_by_its_path_in_the_workspace_or_whole(workspace: Path) -> None:
    assert read(workspace, "docs/a.md") == b"inside"
    assert read(workspace, str(workspace / "docs" / "a.md")) == b"inside"
    assert write(workspace, "docs/b.md") == "docs/b.md"
    assert write(workspace, str(workspace / "c.md"), b"x" * 1_000_000) == "c.md"
    assert (workspace / "docs" / "b.md").read_bytes() == b"new"
    assert (workspace / "c.md").stat().st_size == 1_000_000
    assert files(workspace) == {"docs/a.md", "docs/b.md", "c.md"}


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "docs/../../outside", "docs/..", "", ".", "a\0b", "docs/a.md/x", "missing/x"]
)
def test_a_path_that_leads_elsewhere_is_neither_read_nor_written(workspace: Path, path: str) -> None:
    before = files(workspace.parent)
    assert refused_to_read(workspace, path) == "file_refused"
    assert refused_to_write(workspace, path) == "file_refused"
    assert files(workspace.parent) == before


@pytest.mark.parametrize(
    "path",
    [".git/config", ".GIT/config", ".git", "docs/.git/hooks/x", ".g\u200dit/config", "git~1/config", ".git./config",
     ".claude/settings.json", ".vscode/tasks.json", ".config/x", "docs/.codex/x"],
)  # fmt: skip
def test_settings_of_programs_are_neither_read_nor_written(workspace: Path, path: str) -> None:
    place = workspace / path
    if not place.parent.exists():
        place.parent.mkdir(parents=True)
    place.write_bytes(b"settings")
    before = files(workspace)
    assert refused_to_read(workspace, path) == "file_refused"
    place.unlink()
    assert refused_to_write(workspace, path) == "file_refused"
    assert files(workspace) == before - {path}


def test_a_file_that_begins_with_a_dot_is_read_and_never_written(workspace: Path) -> None:
    (workspace / ".gitignore").write_bytes(b"build/")
    assert read(workspace, ".gitignore") == b"build/"
    for name in (".envrc", ".mcp.json", "docs/.bashrc"):
        assert refused_to_write(workspace, name) == "file_refused"


def test_no_link_leads_out(workspace: Path) -> None:
    (workspace / "link").symlink_to(workspace.parent / "outside")
    (workspace / "way").symlink_to(workspace.parent)
    (workspace / "dangling").symlink_to(workspace.parent / "nowhere")
    for path in ("link", "way/outside", "dangling"):
        assert refused_to_read(workspace, path) == "file_refused"
    assert refused_to_write(workspace, "way/new") == "file_refused"
    for path in ("link", "dangling"):
        assert refused_to_write(workspace, path) == "target_exists"
    assert files(workspace.parent) == {"outside", "work/docs/a.md"} | {"work/link"}
    assert (workspace.parent / "outside").read_bytes() == b"outside"


def test_a_file_that_is_there_is_never_replaced_also_when_it_came_meanwhile(workspace: Path) -> None:
    assert refused_to_write(workspace, "docs/a.md") == "target_exists"
    with Target(str(workspace), "late", "") as target:
        target.write(0, b"new")
        (workspace / "late").write_bytes(b"came first")
        with pytest.raises(ParlerError) as caught:
            target.finish()
    assert caught.value.code == "target_exists"
    assert (workspace / "late").read_bytes() == b"came first"
    assert files(workspace) == {"docs/a.md", "late"}


def test_of_a_file_that_is_not_finished_nothing_stays(workspace: Path) -> None:
    with Target(str(workspace), "docs/b.md", "") as target:
        target.write(0, b"half")
    assert files(workspace) == {"docs/a.md"}


def test_what_is_no_regular_file_holds_nobody_up(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    for path in ("pipe", "docs"):
        assert refused_to_read(workspace, path) == "file_refused"


def test_the_folder_of_parler_itself_is_left_alone_inside_a_workspace_too(workspace: Path) -> None:
    home = workspace / "parler"
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "seed").write_bytes(b"secret")
    for path in ("parler/keys/seed", "parler/new"):
        assert refused_to_read(workspace, path, str(home)) == "file_refused"
        assert refused_to_write(workspace, path, str(home)) == "file_refused"
    assert refused_to_read(home, "keys/seed", str(home)) == "file_refused"


def test_a_window_without_a_workspace_names_no_file() -> None:
    for make in (Source, Target):
        with pytest.raises(ParlerError) as caught:
            make("", "a.md", "")
        assert caught.value.code == "file_refused"
