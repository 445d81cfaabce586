"""Changing one file: nothing is lost, whoever dies, writes or refuses at whatever moment.

The edit here is one line more; which edits there are is told elsewhere (`test_document`). `F` numbers are the rows of
the table of nasty cases that these hosts' files are known for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from configs import guard
from configs.disk import Content, Disk
from configs.document import EditRefused
from configs.guard import refuse_foreign_home, refuse_unsafe
from configs.patch import FRESH_S, KEPT, TRIES, Edited, Untouched, Written, difference, rewrite
from tests.support.person import LONG_AGO, Person

OLD: Final = b"theirs\r\n"
NEW: Final = OLD + b"ours\n"
STEPS: Final = (
    "read", "create", "write", "dress", "sync", "exchange", "move", "replace", "unlink", "make_folder", "sync_folder",
)  # fmt: skip
"""What a disk is asked to do; a program may die before or after each."""


def add(data: bytes) -> bytes:
    """The edit: our line, once."""
    return data if data.endswith(b"ours\n") else data + b"ours\n"


class Quick(Disk):
    """Waits for nothing; counts how long it would have."""

    def __init__(self) -> None:
        self.waited = 0.0

    def pause(self, seconds: float) -> None:
        self.waited += seconds


class Killed(BaseException):
    """The program is gone."""


class Mortal(Quick):
    """Dies at one of its steps: before it, or when it is done. Nothing reaches the disk from then on."""

    def __init__(self, at: int, *, done: bool) -> None:
        super().__init__()
        self.left = at
        self.done = done
        self.is_dead = False


class Failing(Quick):
    """One of its steps fails with an error of the system, every time or the first time."""

    def __init__(self, step: str, code: int, *, once: bool = False) -> None:
        super().__init__()
        self.step = step
        self.code = code
        self.once = once


def _mortal(name: str) -> Callable[..., Any]:
    def step(self: Mortal, *args: Any) -> Any:
        if self.is_dead:
            raise Killed
        self.left -= 1
        if self.left < 0 and not self.done:
            self.is_dead = True
            raise Killed
        result = getattr(Quick, name)(self, *args)
        if self.left < 0:
            if name == "create":
                os.close(result)
            self.is_dead = True
            raise Killed
        return result

    return step


def _failing(name: str) -> Callable[..., Any]:
    def step(self: Failing, *args: Any) -> Any:
        if name == self.step:
            if self.once:
                self.step = ""
            raise OSError(self.code, os.strerror(self.code))
        return getattr(Quick, name)(self, *args)

    return step


for _name in STEPS:
    setattr(Mortal, _name, _mortal(_name))
    setattr(Failing, _name, _failing(_name))


class Meddler(Quick):
    """Somebody else, who writes the file around our swap: `before` it, or right `after`, for so many times."""

    def __init__(self, path: Path, *, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.path = path
        self.before = before
        self.after = after
        self.wrote: list[bytes] = []

    def exchange(self, one: Path, other: Path) -> bool:
        if self.before:
            self.before -= 1
            self.meddle()
        done = super().exchange(one, other)
        if self.after:
            self.after -= 1
            self.meddle()
        return done

    def meddle(self) -> None:
        self.wrote.append(b"theirs %d\n" % len(self.wrote))
        beside = self.path.with_name("host.tmp")
        beside.write_bytes(self.wrote[-1])
        beside.replace(self.path)


class WithoutSwap(Quick):
    """Another system, or a file system that cannot."""

    def exchange(self, one: Path, other: Path) -> bool:
        return False


@pytest.fixture
def ann(tmp_path: Path) -> Person:
    return Person(tmp_path)


@pytest.fixture
def file(ann: Person) -> Path:
    return ann.write("settings", OLD)


def change(ann: Person, path: Path, **about: Any) -> Written[None]:
    arguments: dict[str, Any] = {"edit": add, "host_id": "acme", "mode": 0o644, "disk": Quick()}
    arguments |= about
    edit = arguments.pop("edit")
    return rewrite(path, lambda data: Edited(edit(data), None), place=ann.place, **arguments)


def refused(ann: Person, path: Path, **about: Any) -> Untouched:
    before = ann.tree()
    with pytest.raises(Untouched) as caught:
        change(ann, path, **about)
    assert ann.tree() == before
    assert caught.value.hint
    return caught.value


def locks_of(ann: Person) -> list[Path]:
    return list((ann.parler.connect / "locks").iterdir())


# -- the plain case ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [Quick(), WithoutSwap()], ids=["swap", "no swap"])
def test_a_file_is_changed_and_its_old_content_kept(disk: Disk, ann: Person, file: Path) -> None:
    written = change(ann, file, disk=disk)
    assert (written.path, written.changed, written.created, written.erased) == (file, True, False, False)
    assert (written.before, written.after) == (OLD, NEW)
    assert ann.tree() == {"settings": NEW}
    assert written.backup is not None
    assert written.backup.read_bytes() == OLD


def test_mode_group_and_attributes_stay(ann: Person, file: Path) -> None:
    file.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(file, -1, 12345)
    before = file.stat()
    change(ann, file)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_file_that_needs_no_change_is_not_touched(ann: Person) -> None:
    file = ann.write("settings", NEW)
    before = file.stat()
    written = change(ann, file)
    assert not written.changed
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert ann.backups() == []


def test_a_dry_run_says_what_would_be_and_writes_nothing_at_all(ann: Person, file: Path) -> None:
    written = change(ann, file, dry_run=True)
    assert (written.changed, written.after, written.backup) == (True, NEW, None)
    assert ann.tree() == {"settings": OLD}
    assert not ann.parler.root.exists()


def test_a_dry_run_refuses_what_a_real_one_would(ann: Person, file: Path) -> None:
    file.chmod(0o666)
    assert refused(ann, file, dry_run=True).reason == "open_to_others"


def test_an_edit_that_refuses_leaves_everything_as_it_was(ann: Person, file: Path) -> None:
    def edit(data: bytes) -> bytes:
        raise EditRefused("unreadable", "No.", line=1, column=2)

    with pytest.raises(EditRefused):
        change(ann, file, edit=edit)
    assert ann.tree() == {"settings": OLD}
    assert ann.backups() == []


# -- F5: empty and missing files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [Quick(), WithoutSwap()], ids=["swap", "no swap"])
def test_f5_a_missing_file_is_made_with_private_folders(disk: Disk, ann: Person) -> None:
    path = ann.path(".new/deep/settings")
    os.umask(umask := os.umask(0o022))
    written = change(ann, path, disk=disk)
    assert (written.created, written.before, written.backup) == (True, None, None)
    assert written.folders == (ann.path(".new"), ann.path(".new/deep"))
    assert path.read_bytes() == b"ours\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~umask
    assert {stat.S_IMODE(each.stat().st_mode) for each in written.folders} == {0o700}


def test_f5_a_file_that_holds_secrets_is_made_private(ann: Person) -> None:
    change(ann, ann.path(".claude.json"), mode=0o600)
    assert stat.S_IMODE(ann.path(".claude.json").stat().st_mode) == 0o600


def test_f5_a_file_that_appears_meanwhile_is_kept_and_edited(ann: Person) -> None:
    path = ann.path("settings")

    class Late(Quick):
        def move(self, source: Path, target: Path) -> None:
            if target == path and not path.exists():
                path.write_bytes(OLD)
                os.utime(path, (LONG_AGO, LONG_AGO))
            super().move(source, target)

    written = change(ann, path, disk=Late())
    assert path.read_bytes() == NEW
    assert not written.created


def test_f5_folders_that_were_made_for_nothing_are_removed_again(ann: Person) -> None:
    refused(ann, ann.path(".new/deep/settings"), disk=Failing("create", errno.ENOSPC))
    assert not ann.path(".new").exists()


def test_a_file_that_was_emptied_a_moment_ago_is_given_time(ann: Person) -> None:
    """A host that writes in place empties its file first: to take it for empty would lose everything in it."""
    file = ann.write("settings", b"")
    os.utime(file)

    class Finishing(Quick):
        def pause(self, seconds: float) -> None:
            super().pause(seconds)
            file.write_bytes(OLD)

    change(ann, file, disk=Finishing())
    assert file.read_bytes() == NEW


def test_a_file_that_is_half_written_is_given_time(ann: Person) -> None:
    file = ann.write("settings", OLD[:3])
    os.utime(file)

    class Finishing(Quick):
        def pause(self, seconds: float) -> None:
            super().pause(seconds)
            file.write_bytes(OLD)

    def edit(data: bytes) -> bytes:
        if data == OLD[:3]:
            raise EditRefused("unreadable", "No.", line=1, column=4)
        return add(data)

    change(ann, file, edit=edit, disk=Finishing())
    assert file.read_bytes() == NEW


def test_a_file_that_stays_empty_is_empty(ann: Person) -> None:
    file = ann.write("settings", b"")
    os.utime(file)
    disk = Quick()
    change(ann, file, disk=disk)
    assert file.read_bytes() == b"ours\n"
    assert 0 < disk.waited < FRESH_S


def test_an_old_file_is_not_waited_for(ann: Person) -> None:
    disk = Quick()
    change(ann, ann.write("settings", b""), disk=disk)
    assert disk.waited == 0


# -- F6: links -----------------------------------------------------------------------------------------------------


def test_f6_the_file_behind_a_link_is_edited_and_the_link_stays(ann: Person) -> None:
    real = ann.write("dotfiles/settings", OLD)
    link = ann.path("settings")
    link.symlink_to("dotfiles/settings")
    written = change(ann, link)
    assert written.path == real
    assert os.readlink(link) == "dotfiles/settings"
    assert real.read_bytes() == NEW
    assert str(real) in written.notes[0]


def test_f6_a_chain_of_links_is_followed_to_its_end(ann: Person) -> None:
    real = ann.write("a/settings", OLD)
    ann.path("b").symlink_to("a")
    ann.path("c").symlink_to(ann.path("b/settings"))
    assert change(ann, ann.path("c")).path == real
    assert [path.name for path in real.parent.iterdir()] == ["settings"]


def test_f6_a_link_that_leads_nowhere_is_refused(ann: Person) -> None:
    link = ann.path("settings")
    link.symlink_to(ann.path("gone/settings"))
    error = refused(ann, link)
    assert error.reason == "dangling"
    assert str(ann.path("gone/settings")) in str(error)
    assert not ann.path("gone").exists()


def test_f6_a_folder_that_is_a_link_to_nowhere_is_refused(ann: Person) -> None:
    ann.path(".acme").symlink_to(ann.path("gone"))
    assert refused(ann, ann.path(".acme/settings")).reason == "dangling"


def test_f6_links_that_go_in_circles_are_refused(ann: Person) -> None:
    ann.path("settings").symlink_to(ann.path("other"))
    ann.path("other").symlink_to(ann.path("settings"))
    assert refused(ann, ann.path("settings")).reason == "dangling"


def test_f6_a_link_out_of_the_home_is_followed_when_the_file_is_the_persons_own(ann: Person, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "settings"
    real.parent.mkdir(mode=0o755)
    real.write_bytes(OLD)
    os.utime(real, (LONG_AGO, LONG_AGO))
    ann.path("settings").symlink_to(real)
    written = change(ann, ann.path("settings"))
    assert real.read_bytes() == NEW
    assert "outside the home" in written.notes[0]


def test_f6_a_file_in_a_git_work_tree_is_said_to_be(ann: Person) -> None:
    ann.path("dotfiles/.git").mkdir(parents=True)
    real = ann.write("dotfiles/settings", OLD)
    ann.path("settings").symlink_to(real)
    assert any(f"git work tree {ann.path('dotfiles')}" in note for note in change(ann, ann.path("settings")).notes)


def test_f6_a_file_in_the_nix_store_is_refused_with_where_it_is_made(
    ann: Person, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_relative_to", lambda self, *_: True)
    error = refused(ann, file)
    assert error.reason == "read_only"
    assert "Nix" in str(error)


def test_a_file_with_other_names_is_said_to_have_them(ann: Person, file: Path) -> None:
    os.link(file, ann.path("other"))
    assert any("hard links" in note for note in change(ann, file).notes)
    assert ann.path("other").read_bytes() == OLD


# -- F7: what may not be written -----------------------------------------------------------------------------------


def test_f7_a_read_only_file_is_left_alone_also_by_root(ann: Person, file: Path) -> None:
    file.chmod(0o444)
    assert refused(ann, file).reason == "read_only"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


def test_f7_a_file_in_a_read_only_folder_is_left_alone_also_by_root(ann: Person) -> None:
    file = ann.write("locked/settings", OLD)
    file.parent.chmod(0o555)
    assert refused(ann, file).reason == "read_only"
    file.parent.chmod(0o755)


def test_f7_a_missing_file_below_a_read_only_folder_is_not_made(ann: Person) -> None:
    ann.path("locked").mkdir(mode=0o555)
    assert refused(ann, ann.path("locked/deep/settings")).reason == "read_only"


def test_f7_what_the_system_does_not_let_write_is_left_alone(ann: Person, file: Path) -> None:
    """An immutable file, or a mount that is read-only: the mode does not show it."""

    class Immutable(Quick):
        def may_write(self, path: Path) -> bool:
            return path != file

    assert refused(ann, file, disk=Immutable()).reason == "read_only"


@pytest.mark.parametrize(
    ("step", "code", "reason"),
    [
        ("create", errno.EROFS, "read_only"),
        ("create", errno.EACCES, "read_only"),
        ("create", errno.ENOSPC, "disk_full"),
        ("write", errno.ENOSPC, "disk_full"),
        ("write", errno.EDQUOT, "disk_full"),
        ("exchange", errno.EBUSY, "mount_point"),
        ("sync", errno.EIO, "failed"),
        ("dress", errno.EPERM, "read_only"),
        ("exchange", errno.EPERM, "read_only"),
        ("read", errno.EACCES, "read_only"),
    ],
)
def test_f7_whatever_the_system_refuses_leaves_no_trace(
    step: str, code: int, reason: str, ann: Person, file: Path
) -> None:
    error = refused(ann, file, disk=Failing(step, code))
    assert error.reason == reason
    assert str(file) in str(error)


def test_f7_a_write_that_stops_in_the_middle_leaves_no_trace(ann: Person, file: Path) -> None:
    class Filling(Quick):
        def write(self, descriptor: int, data: bytes) -> None:
            super().write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    assert refused(ann, file, disk=Filling()).reason == "disk_full"
    assert list(ann.parler.connect.rglob("*.new")) == []


def test_f7_a_file_of_another_user_is_left_alone(ann: Person, file: Path) -> None:
    class Other(Quick):
        def read(self, path: Path, limit: int) -> Content | None:
            found = super().read(path, limit)
            if found is None or path != file:
                return found
            about = list(found.about)
            about[stat.ST_UID] = 54321
            return Content(found.data, os.stat_result(about))

    error = refused(ann, file, disk=Other())
    assert error.reason == "other_owner"
    assert "54321" in str(error)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_f7_a_file_and_a_folder_and_a_link_of_another_user_are_left_alone(ann: Person, file: Path) -> None:
    os.chown(file, 54321, -1)
    assert refused(ann, file).reason == "other_owner"
    os.chown(file, 0, -1)
    link = ann.path("link")
    link.symlink_to(file)
    os.lchown(link, 54321, -1)
    assert refused(ann, link).reason == "other_owner"
    inside = ann.write("folder/settings", OLD)
    os.chown(inside.parent, 54321, -1)
    assert refused(ann, inside).reason == "other_owner"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_f7_what_is_no_regular_file_is_left_alone(kind: str, ann: Person) -> None:
    path = ann.path("settings")
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert refused(ann, path).reason == "not_a_file"


def test_f7_a_file_in_the_place_of_a_folder_is_said(ann: Person, file: Path) -> None:
    assert refused(ann, file / "below").reason in ("not_a_file", "read_only")


def test_f11_a_file_above_the_limit_is_not_read(ann: Person, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BYTES", 4)
    assert refused(ann, file).reason == "too_large"


# -- what others could change (security, D22) ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o666, 0o646])
def test_a_file_that_others_can_change_is_refused(mode: int, ann: Person, file: Path) -> None:
    file.chmod(mode)
    error = refused(ann, file)
    assert error.reason == "open_to_others"
    assert error.hint == f"Run: chmod go-w {file}"


def test_a_file_that_others_can_change_and_that_needs_no_change_is_said(ann: Person) -> None:
    file = ann.write("settings", NEW, 0o666)
    assert any("other users" in note for note in change(ann, file).notes)


@pytest.mark.parametrize("open_one", [".", "a", "a/b"])
def test_a_folder_above_the_file_that_others_can_change_is_refused(open_one: str, ann: Person) -> None:
    file = ann.write("a/b/settings", OLD)
    ann.path(open_one).chmod(0o777)
    assert refused(ann, file).reason == "open_to_others"


def test_the_folder_of_a_link_counts_as_much_as_that_of_the_file(ann: Person) -> None:
    real = ann.write("safe/settings", OLD)
    ann.path("open").mkdir()
    ann.path("open/settings").symlink_to(real)
    ann.path("open").chmod(0o777)
    assert refused(ann, ann.path("open/settings")).reason == "open_to_others"


def test_a_sticky_folder_is_no_danger_to_the_files_in_it(ann: Person) -> None:
    file = ann.write("shared/settings", OLD)
    file.parent.chmod(0o1777)
    assert change(ann, file).changed


@pytest.mark.parametrize(
    ("name", "members", "primary", "is_safe"),
    [
        ("ann", [], True, True),
        ("ann", ["ann"], True, True),
        ("ann", ["ann", "bob"], True, False),
        ("staff", [], True, False),
        ("admin", ["root", "ann"], False, True),
        ("admin", ["root", "ann", "bob"], False, False),
        ("empty", [], False, True),
    ],
)
def test_a_group_of_its_own_for_each_user_is_not_the_others(
    name: str,
    members: list[str],
    primary: bool,
    is_safe: bool,
    ann: Person,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import grp
    import pwd

    gid = file.stat().st_gid
    me = pwd.struct_passwd(("ann", "x", os.geteuid(), gid if primary else gid + 1, "", "/", "/"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: me)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((name, "x", gid, members)))
    file.chmod(0o664)
    if is_safe:
        assert change(ann, file).changed
    else:
        assert refused(ann, file).reason == "open_to_others"


def test_a_group_that_nobody_knows_is_taken_for_the_others(
    ann: Person, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp

    def unknown(gid: int) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    file.chmod(0o664)
    assert refused(ann, file).reason == "open_to_others"


@pytest.mark.parametrize("which", ["program", "folder"])
def test_a_program_that_others_can_change_is_refused_through_its_links_too(which: str, ann: Person) -> None:
    link = ann.path("python")
    link.symlink_to(ann.python)
    refuse_unsafe(link)
    (ann.python if which == "program" else ann.python.parent).chmod(0o777)
    with pytest.raises(Untouched, match="other users"):
        refuse_unsafe(link)


def test_a_program_that_is_not_there_yet_is_not_refused(ann: Person) -> None:
    refuse_unsafe(ann.path("run/shim.py"))


# -- F20: whose home -----------------------------------------------------------------------------------------------


class Root(Quick):
    """Another user than the one whose home this is."""

    def uid(self) -> int:
        return 54321


def test_f20_another_users_home_is_refused_and_named(ann: Person, file: Path) -> None:
    error = refused(ann, file, disk=Root())
    assert error.reason == "foreign_home"
    assert str(ann.home) in str(error)
    assert "54321" in str(error)
    with pytest.raises(Untouched):
        refuse_foreign_home(ann.place, Root())


def test_f20_a_home_that_is_not_there_is_refused(ann: Person, file: Path) -> None:
    ann.env["HOME"] = str(ann.path("gone"))
    assert refused(ann, file).reason == "no_home"


def test_a_home_behind_a_link_is_a_home(ann: Person, file: Path, tmp_path: Path) -> None:
    (tmp_path / "users").symlink_to(ann.home)
    ann.env["HOME"] = str(tmp_path / "users")
    assert change(ann, tmp_path / "users" / "settings").path == file


# -- F13: others who write at the same time ------------------------------------------------------------------------


def theirs_and_ours(disk: Meddler) -> bytes:
    return disk.wrote[-1] + b"ours\n"


@pytest.mark.parametrize("times", [1, 2, TRIES - 1])
def test_f13_what_a_host_wrote_before_the_swap_is_kept_and_edited(times: int, ann: Person, file: Path) -> None:
    disk = Meddler(file, before=times)
    change(ann, file, disk=disk)
    assert len(disk.wrote) == times
    assert file.read_bytes() == theirs_and_ours(disk)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_f13_what_a_host_wrote_right_after_the_swap_is_kept_and_edited(times: int, ann: Person, file: Path) -> None:
    disk = Meddler(file, after=times)
    change(ann, file, disk=disk)
    assert file.read_bytes() == theirs_and_ours(disk)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2), (3, 3)])
def test_f13_a_host_that_writes_before_and_after_loses_nothing(
    before: int, after: int, ann: Person, file: Path
) -> None:
    disk = Meddler(file, before=before, after=after)
    change(ann, file, disk=disk)
    assert file.read_bytes() == theirs_and_ours(disk)


def test_f13_a_host_that_never_stops_wins_and_is_named(ann: Person, file: Path) -> None:
    disk = Meddler(file, before=1000, after=1000)
    with pytest.raises(Untouched) as caught:
        change(ann, file, disk=disk)
    assert caught.value.reason == "busy"
    kept = [file.read_bytes(), *(path.read_bytes() for path in ann.backups())]
    assert disk.wrote[-1] in kept
    assert list(ann.tree()) == ["settings"]


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "no swap"])
def test_f13_the_file_is_compared_just_before_so_that_ours_stands_in_the_place_of_theirs_at_no_time(
    swaps: bool, ann: Person, file: Path
) -> None:
    class Between(Quick):
        written = False
        exchanges = 0

        def sync(self, descriptor: int) -> None:
            super().sync(descriptor)
            if not self.written and list(file.parent.glob(".settings.*")):
                self.written = True
                file.write_bytes(b"theirs 0\n")

        def exchange(self, one: Path, other: Path) -> bool:
            self.exchanges += 1
            return super().exchange(one, other) if swaps else False

    disk = Between()
    change(ann, file, disk=disk)
    assert disk.written
    assert disk.exchanges == 1
    assert file.read_bytes() == b"theirs 0\nours\n"


def test_f13_a_file_that_a_host_deletes_meanwhile_is_made_anew(ann: Person, file: Path) -> None:
    class Deleting(Quick):
        times = 1

        def exchange(self, one: Path, other: Path) -> bool:
            if self.times:
                self.times -= 1
                file.unlink()
            return super().exchange(one, other)

    assert change(ann, file, disk=Deleting()).created
    assert ann.tree() == {"settings": b"ours\n"}


def test_f13_when_putting_theirs_back_fails_it_is_not_lost(ann: Person, file: Path) -> None:
    """The one time that the file beside is not removed: it has what nobody else has. The next run keeps it."""

    class Breaking(Meddler):
        swaps = 0

        def exchange(self, one: Path, other: Path) -> bool:
            self.swaps += 1
            if self.swaps == 2:
                raise OSError(errno.EIO, "Input/output error")
            return super().exchange(one, other)

    disk = Breaking(file, before=1)
    with pytest.raises(Untouched):
        change(ann, file, disk=disk)
    notes = change(ann, file).notes
    assert disk.wrote[0] in [path.read_bytes() for path in ann.backups()]
    assert any("interrupted" in note for note in notes)
    assert list(ann.tree()) == ["settings"]


def test_f13_two_runs_of_ours_do_not_meet(ann: Person, file: Path) -> None:
    """Each of several threads adds its own line, all at once; none is lost."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        line = b"line %d\n" % number
        try:
            change(ann, file, edit=lambda data: data if line in data else data + line, disk=Disk())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(file.read_bytes().removeprefix(OLD).splitlines()) == [b"line %d" % number for number in range(8)]


def test_f13_a_run_that_never_ends_is_not_waited_for_without_end(ann: Person, file: Path) -> None:
    change(ann, file)
    (lock,) = locks_of(ann)
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert refused(ann, file, edit=lambda data: data + b"more\n").reason == "busy"
    finally:
        os.close(descriptor)


# -- killed in the middle ------------------------------------------------------------------------------------------


def kill(ann: Person, path: Path, at: int, *, done: bool, **about: Any) -> bool:
    """Whether the run was killed at that step; False when it ended before it."""
    try:
        change(ann, path, disk=Mortal(at, done=done), **about)
    except Killed:
        return True
    return False


def count_steps(ann: Person, path: Path, **about: Any) -> int:
    disk = Mortal(10**6, done=False)
    change(ann, path, disk=disk, **about)
    return 10**6 - disk.left


@pytest.mark.parametrize("done", [False, True], ids=["before the step", "after the step"])
def test_a_program_killed_at_any_step_leaves_the_old_file_or_the_new_and_the_next_run_no_litter(
    done: bool, tmp_path: Path
) -> None:
    steps = count_steps(first := Person(tmp_path / "count"), first.write("settings", OLD))
    assert steps > 12
    for at in range(steps):
        ann = Person(tmp_path / str(at))
        file = ann.write("settings", OLD)
        assert kill(ann, file, at, done=done)
        assert file.read_bytes() in (OLD, NEW), at
        change(ann, file)
        assert ann.tree() == {"settings": NEW}, at
        assert list(ann.parler.connect.rglob("*.new")) == [], at


@pytest.mark.parametrize("done", [False, True], ids=["before the step", "after the step"])
def test_a_program_killed_while_it_makes_a_file_leaves_none_or_the_whole(done: bool, tmp_path: Path) -> None:
    steps = count_steps(first := Person(tmp_path / "count"), first.path("a/b/settings"))
    assert steps > 8
    for at in range(steps):
        ann = Person(tmp_path / str(at))
        assert kill(ann, ann.path("a/b/settings"), at, done=done)
        assert ann.tree().get("a/b/settings", b"ours\n") == b"ours\n", at
        change(ann, ann.path("a/b/settings"))
        assert ann.tree() == {"a/b/settings": b"ours\n"}, at


@pytest.mark.parametrize("done", [False, True], ids=["before the step", "after the step"])
def test_a_program_killed_while_it_deletes_a_file_leaves_the_whole_or_none(done: bool, tmp_path: Path) -> None:
    first = Person(tmp_path / "count")
    steps = count_steps(first, first.write("settings", OLD), edit=lambda data: None)
    for at in range(steps):
        ann = Person(tmp_path / str(at))
        file = ann.write("settings", OLD)
        assert kill(ann, file, at, done=done, edit=lambda data: None)
        change(ann, file, edit=lambda data: data)
        assert ann.tree() in ({}, {"settings": OLD}), at


@pytest.mark.parametrize("done", [False, True], ids=["before the step", "after the step"])
def test_what_a_host_wrote_is_not_lost_when_the_program_is_killed_with_it_in_its_hands(
    done: bool, tmp_path: Path
) -> None:
    dying = _mortal("exchange")

    class MortalMeddler(Mortal):
        """Somebody writes just before the first swap; the program dies at its step all the same."""

        meddler: Meddler

        def exchange(self, one: Path, other: Path) -> bool:
            if not self.is_dead and not self.meddler.wrote:
                self.meddler.meddle()
            return bool(dying(self, one, other))

    for at in range(60):
        ann = Person(tmp_path / str(at))
        file = ann.write("settings", OLD)
        disk = MortalMeddler(at, done=done)
        disk.meddler = Meddler(file)
        try:
            change(ann, file, disk=disk)
        except Killed:
            change(ann, file)
        else:
            break
        have = [file.read_bytes(), *(path.read_bytes() for path in ann.backups())]
        assert all(any(each in data for data in have) for each in disk.meddler.wrote), at
        assert list(ann.tree()) == ["settings"]
    else:
        pytest.fail("it never ended")


def test_a_real_kill_in_the_middle_of_a_write_leaves_the_file_as_it_was(ann: Person, file: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from configs.disk import Disk; from configs.patch import Edited, rewrite\n"
        "from configs.detect import Place; from parlerd.paths import Home\n"
        "class Dying(Disk):\n"
        "    def exchange(self, one, other):\n"
        "        os.kill(os.getpid(), 9)\n"
        "home = Path(sys.argv[1])\n"
        "place = Place(env={'HOME': str(home)}, system='linux', python='/p', home=Home(home / '.parler'))\n"
        "about = {'place': place, 'host_id': 'acme', 'mode': 0o644, 'disk': Dying()}\n"
        "rewrite(home / 'settings', lambda data: Edited(data + b'!', None), **about)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(ann.home)], timeout=60)
    assert killed.returncode == -9
    assert file.read_bytes() == OLD
    assert len(ann.tree()) == 2
    change(ann, file)
    assert ann.tree() == {"settings": NEW}


def test_a_link_planted_where_our_file_would_be_is_not_followed(ann: Person, file: Path) -> None:
    disk = Mortal(10**6, done=False)
    beside: list[Path] = []
    real_create = Quick.create

    class Watching(Quick):
        def create(self, path: Path, mode: int) -> int:
            beside.append(path)
            return real_create(self, path, mode)

    change(ann, file, disk=Watching())
    victim = ann.write("victim", b"precious")
    name = next(path for path in beside if path.parent == file.parent)
    name.symlink_to(victim)
    assert refused(ann, file, edit=lambda data: data + b"more\n", disk=disk).reason == "in_the_way"
    assert victim.read_bytes() == b"precious"


# -- backups -------------------------------------------------------------------------------------------------------


def test_backups_are_private_and_stand_in_our_own_state_only(ann: Person, file: Path) -> None:
    change(ann, file)
    (backup,) = ann.backups()
    assert backup.parent == ann.parler.connect / "backups" / "acme"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backup.parent.stat().st_mode) == 0o700


def edit_times(ann: Person, file: Path, times: int) -> list[Written[None]]:
    return [change(ann, file, edit=lambda data: data + b"%d\n" % len(data)) for _ in range(times)]


def test_the_last_five_backups_of_a_file_are_kept(ann: Person, file: Path) -> None:
    contents = [each.before for each in edit_times(ann, file, KEPT + 3)]
    assert [path.read_bytes() for path in ann.backups()] == contents[-KEPT:]


def test_backups_of_one_file_do_not_push_out_those_of_another(ann: Person, file: Path) -> None:
    other = ann.write("other", b"x")
    change(ann, other)
    edit_times(ann, file, KEPT + 3)
    assert len(ann.backups()) == KEPT + 1


def test_a_backup_that_the_ledger_refers_to_is_never_dropped(ann: Person, file: Path) -> None:
    from configs.ledger import Ledger
    from tests.support.settings_files import record

    first = change(ann, file, edit=lambda data: data + b"0\n")
    record(Ledger(ann.parler), "entry", "acme", file, ("a",), 1, backup=first.backup)
    edit_times(ann, file, KEPT + 3)
    assert OLD in [path.read_bytes() for path in ann.backups()]
    assert len(ann.backups()) == KEPT + 1


def test_the_same_content_is_kept_once(ann: Person, file: Path) -> None:
    first = change(ann, file)
    file.write_bytes(OLD)
    assert change(ann, file).backup == first.backup
    assert len(ann.backups()) == 1


def test_without_room_for_the_backup_nothing_is_written(ann: Person, file: Path) -> None:
    class NoRoom(Quick):
        def create(self, path: Path, mode: int) -> int:
            if path.is_relative_to(ann.parler.root):
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().create(path, mode)

    assert refused(ann, file, disk=NoRoom()).reason == "disk_full"


def test_backups_made_in_the_same_instant_have_names_of_their_own(ann: Person, file: Path) -> None:
    class Stopped(Quick):
        def now(self) -> float:
            return float(LONG_AGO)

    for number in range(3):
        change(ann, file, edit=lambda data, number=number: data + b"%d\n" % number, disk=Stopped())
    assert len(ann.backups()) == 3


# -- deleting ------------------------------------------------------------------------------------------------------


def test_an_edit_can_delete_the_file(ann: Person, file: Path) -> None:
    written = change(ann, file, edit=lambda data: None)
    assert (written.erased, written.changed, written.after) == (True, True, b"")
    assert ann.tree() == {}
    assert written.backup is not None
    assert written.backup.read_bytes() == OLD


def test_a_file_that_is_missing_need_not_be_deleted(ann: Person) -> None:
    assert not change(ann, ann.path("settings"), edit=lambda data: None).changed


def test_a_file_that_a_host_writes_while_it_is_deleted_is_not_lost(ann: Person, file: Path) -> None:
    class Between(Quick):
        times = 1

        def move(self, source: Path, target: Path) -> None:
            if source == file and self.times:
                self.times -= 1
                file.write_bytes(b"theirs 0\n")
            super().move(source, target)

    change(ann, file, edit=lambda data: None if data == OLD else data, disk=Between())
    assert ann.tree() == {"settings": b"theirs 0\n"}


# -- what is told before it is done --------------------------------------------------------------------------------


def test_what_will_be_true_is_told_before_it_is(ann: Person, file: Path) -> None:
    told: list[tuple[bytes, Written[None]]] = []
    change(ann, file, about_to=lambda written: told.append((file.read_bytes(), written)))
    ((content, written),) = told
    assert content == OLD
    assert (written.after, written.backup) == (NEW, ann.backups()[0])


def test_when_it_cannot_be_remembered_it_is_not_done(ann: Person) -> None:
    def fail(written: Written[None]) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        change(ann, ann.path("a/settings"), about_to=fail)
    assert not ann.path("a").exists()


def test_nothing_is_told_when_nothing_changes(ann: Person) -> None:
    change(ann, ann.write("settings", NEW), about_to=lambda written: pytest.fail("told"))


# -- differences ---------------------------------------------------------------------------------------------------


def as_written(before: bytes | None, after: bytes, *, erased: bool = False) -> Written[None]:
    return Written(about=None, path=Path("/f"), changed=before != after, before=before, after=after, erased=erased)


def test_a_difference_shows_changed_lines_and_none_around_them() -> None:
    found = difference(as_written(b"secret\na\nb\nsecret\n", b"secret\na\nB\nb\nsecret\n"))
    assert found == "--- /f\n+++ /f\n@@ -3,0 +3,1 @@\n+B\n"


def test_two_changes_far_apart_are_two_pieces() -> None:
    before = b"".join(b"%d\n" % number for number in range(100))
    after = before.replace(b"\n10\n", b"\nten\n").replace(b"\n90\n", b"\n")
    assert (
        difference(as_written(before, after))
        == "--- /f\n+++ /f\n@@ -11,1 +11,1 @@\n-10\n+ten\n@@ -91,1 +91,0 @@\n-90\n"
    )


def test_a_new_file_and_a_deleted_one_are_shown_whole() -> None:
    assert difference(as_written(None, b"a")) == "--- /dev/null\n+++ /f\n@@ -1,0 +1,1 @@\n+a\n"
    assert difference(as_written(b"a\n", b"", erased=True)) == "--- /f\n+++ /dev/null\n@@ -1,1 +1,0 @@\n-a\n"


def test_no_change_is_no_difference() -> None:
    assert difference(as_written(b"a", b"a")) == ""


def test_a_file_that_changes_all_over_is_summed_up() -> None:
    before = b"".join(b"%d\n" % number for number in range(5000))
    after = b"".join(b"x%d\n" % number for number in range(5000))
    assert difference(as_written(before, after)).endswith("@@ 5000 lines become 5000 @@\n")
