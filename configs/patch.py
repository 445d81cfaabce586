"""One settings file of a host: read, edited, and replaced whole or not at all.

    resolve -> lock -> read -> edit -> may we? -> backup -> write beside -> exchange -> compare -> read again

Not here: how bytes are edited (`document`), what the entry is (`connect`, `hooks`), what is refused (`guard`), the
system calls (`disk`). Above: `connect`, `hooks`. Invariants: wherever the program or the machine dies, the file has its
old bytes or its new ones, and the next run removes what is left beside it; what somebody else wrote in between is never
lost; nothing but the person's own file, which nobody else can change, is written; its mode stays, and links stay links.

On Linux the new file and the old one swap names in one step. What comes out is compared with what was read: when they
differ, somebody wrote in between, and theirs is swapped back. Elsewhere the file is only compared just before it is
replaced. One race remains: a host that keeps its file open and writes into it after the swap writes into the file that
came out.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from configs.detect import Place
from configs.disk import DISK, Content, Disk, locked, make_private
from configs.document import MAX_BYTES, EditRefused
from configs.guard import Untouched, refuse_foreign_home, refuse_others, refuse_read_only, resolve, untouched
from configs.ledger import Ledger

__all__ = ["Edited", "Untouched", "Written", "difference", "digest", "remove_folders", "rewrite"]

TRIES: Final = 5
"""How often a file is read and written anew because somebody else wrote it meanwhile."""
LOCK_S: Final = 20.0
"""Seconds that another run of ours may work on the same file: an edit of 5 MB takes two."""
FRESH_S: Final = 2.0
"""Seconds. A file that was written less long ago may be half written: a host that writes in place empties it first."""
SETTLE_S: Final = 0.1
"""Seconds between two looks at a file that may be half written."""
KEPT: Final = 5
"""How many backups of one file are kept, beside those that the ledger refers to."""
MAX_DIFF_LINES: Final = 2000

About = TypeVar("About")
"""What an edit has to say of itself."""


@dataclass(frozen=True, slots=True)
class Edited(Generic[About]):
    """What an edit makes of a file. `data` is the new content, `None` deletes the file. `about` is what the edit found
    and did, for whoever asked for the edit."""

    data: bytes | None
    about: About


Edit = Callable[[bytes], Edited[About]]
"""An edit gives the new content of a file from the old, which is empty of a missing one. It is called for each content
that is met in the file, so what it found is in its result and nowhere else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Generic[About]):
    """What became of one file. `path` is the real one; `before` is `None` when there was none; `folders` are those that
    were made for it, the outermost first; `erased` says that it is gone. `about` is that of the edit that was written,
    or that found nothing to do."""

    about: About
    path: Path
    changed: bool
    before: bytes | None
    after: bytes
    backup: Path | None = None
    created: bool = False
    erased: bool = False
    folders: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def rewrite(
    path: Path,
    edit: Edit[About],
    *,
    place: Place,
    host_id: str,
    mode: int,
    dry_run: bool = False,
    about_to: Callable[[Written[About]], None] | None = None,
    disk: Disk = DISK,
) -> Written[About]:
    """Change one file by `edit`, which may be called several times; `mode` is for a file that is made.

    `about_to` is called just before the file changes, with what will be true after the change: whenever the program
    dies, what is to be remembered of the change is then on the disk. Raises `Untouched`, and whatever `edit` and
    `about_to` raise; the file is then as it was.
    """
    try:
        refuse_foreign_home(place, disk)
        target, notes = resolve(path, place, disk)
        one = _File(path, target, place, host_id, mode, disk)
        if dry_run:
            return replace(one.planned(edit), notes=notes)
        with one.locked():
            notes += one.clean()
            for _ in range(TRIES):
                written = one.attempt(edit, about_to)
                if written is not None:
                    return replace(written, notes=notes + written.notes)
        raise _busy(path)
    except OSError as error:
        raise untouched(error, path) from error


def remove_folders(folders: tuple[Path, ...], disk: Disk = DISK) -> None:
    """Remove folders that were made for a file, as far as they are empty."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            disk.remove_folder(folder)


def digest(data: bytes) -> str:
    """What the ledger knows a file's content by."""
    return sha256(data).hexdigest()


def difference(written: Written[Any]) -> str:
    """A unified diff without lines around it: those are the person's, and may hold what must not be shown."""
    if not written.changed:
        return ""
    # Imported here, because looking at hosts needs no comparison and has to be quick.
    from difflib import SequenceMatcher

    before = (written.before or b"").decode(errors="replace").splitlines(keepends=True)
    after = written.after.decode(errors="replace").splitlines(keepends=True)
    head, end = 0, min(len(before), len(after))
    while head < end and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < end - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    # Only what is between the first and the last difference is compared: a whole file of megabytes would take minutes.
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    names = ("/dev/null" if written.before is None else written.path, "/dev/null" if written.erased else written.path)
    lines = [f"--- {names[0]}\n", f"+++ {names[1]}\n"]
    if len(old) + len(new) > MAX_DIFF_LINES:
        return "".join([*lines, f"@@ {len(old)} lines become {len(new)} @@\n"])
    for tag, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            lines.append(f"@@ -{head + i + 1},{i_end - i} +{head + j + 1},{j_end - j} @@\n")
            lines += [f"-{line}" for line in old[i:i_end]] + [f"+{line}" for line in new[j:j_end]]
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


class _File:
    """The work on one file. Nothing but `planned` may be called without the lock."""

    def __init__(self, path: Path, target: Path, place: Place, host_id: str, mode: int, disk: Disk) -> None:
        self._named = path
        self._target = target
        self._place = place
        self._host_id = host_id
        self._mode = mode
        self._disk = disk
        self._home = place.home
        # The names are of this home alone, so whoever holds its lock on the file knows that nobody writes to them.
        mine = digest(os.fsencode(self._home.root))[:8]
        self._new = target.with_name(f".{target.name}.parler-{mine}.new")
        self._old = target.with_name(f".{target.name}.parler-{mine}.old")
        self._made: list[Path] = []
        self._holds_theirs = False
        """Whether the new file beside the target has what somebody else wrote, which nothing else has. It is then left
        there, and the next run keeps its content."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        folder = make_private(self._home.root, "connect", "locks")
        name = f"{digest(os.fsencode(self._target))}.lock"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(folder / name, wait_s=LOCK_S, disk=self._disk))
            except TimeoutError as error:
                raise _busy(self._named) from error
            yield

    def planned(self, edit: Edit[About]) -> Written[About]:
        """What an attempt would do. Writes nothing."""
        before, edited = self._edited(edit)
        written = self._as_it_will_be(before, edited)
        return self._permitted(written, before)

    def attempt(self, edit: Edit[About], about_to: Callable[[Written[About]], None] | None) -> Written[About] | None:
        """Do it; `None` when somebody else wrote meanwhile, and it is to be done anew."""
        before, edited = self._edited(edit)
        written = self._permitted(self._as_it_will_be(before, edited), before)
        if not written.changed:
            return written
        if before is not None:
            written = replace(written, backup=self._back_up(before.data))
        self._make_folders()
        written = replace(written, folders=tuple(self._made))
        try:
            if about_to is not None:
                about_to(written)
            done = self._erase(before) if written.erased and before is not None else self._write(written, before)
        except BaseException:
            remove_folders(written.folders, self._disk)
            raise
        return written if done and self._stands(written, edit) else None

    def clean(self) -> tuple[str, ...]:
        """Remove what a run that was killed left beside the file; what it holds is kept, if nothing else has it."""
        notes = []
        for left in (self._new, self._old):
            about = self._disk.about(left)
            if about is None:
                continue
            if about.st_uid != self._disk.uid() or not stat.S_ISREG(about.st_mode):
                raise Untouched(
                    "in_the_way", left, f"{left} is in the way, and is no file of Parler.", f"Remove {left}"
                )
            held = self._disk.read(left, MAX_BYTES)
            present = self._disk.read(self._target, MAX_BYTES)
            if held is not None and present is None and left == self._old:
                # The run that was killed died between moving the file away and looking at it.
                self._disk.move(left, self._target)
                continue
            if held is not None and held.data and (present is None or held.data != present.data):
                kept = self._back_up(held.data)
                notes.append(f"A run that was interrupted left a file beside {self._target}; its content is in {kept}.")
            self._disk.unlink(left)
        return tuple(notes)

    # -- reading -----------------------------------------------------------------------------------------------

    def _edited(self, edit: Edit[About]) -> tuple[Content | None, Edited[About]]:
        """The content as it is and as it is to be. A file that somebody is writing right now is given time."""
        for tries_left in reversed(range(TRIES)):
            before = self._disk.read(self._target, MAX_BYTES)
            # A host that writes in place has an empty file first, and then one that ends in the middle.
            settled = not tries_left or before is None or not self._is_fresh(before)
            if before is not None and not before.data.strip() and not settled:
                self._disk.pause(SETTLE_S)
                continue
            try:
                return before, edit(b"" if before is None else before.data)
            except EditRefused:
                if settled:
                    raise
            self._disk.pause(SETTLE_S)
        raise AssertionError("the last try returns or raises")

    def _is_fresh(self, content: Content) -> bool:
        return 0 <= self._disk.now() - content.about.st_mtime < FRESH_S

    def _as_it_will_be(self, before: Content | None, edited: Edited[About]) -> Written[About]:
        old, after = None if before is None else before.data, edited.data
        return Written(
            about=edited.about,
            path=self._target,
            changed=(after or b"") != (old or b"") or (after is None and old is not None),
            before=old,
            after=after or b"",
            created=before is None,
            erased=after is None and old is not None,
        )

    # -- may we? -----------------------------------------------------------------------------------------------

    def _permitted(self, written: Written[About], before: Content | None) -> Written[About]:
        """Raise `Untouched` when this file is not to be written; with notes when it could be said but need not stop."""
        if not written.changed:
            try:
                refuse_others(self._named, self._target, before, self._place, self._disk)
            except Untouched as error:
                return replace(written, notes=(f"{error} {error.hint}.",))
            return written
        refuse_others(self._named, self._target, before, self._place, self._disk)
        refuse_read_only(self._target, before, self._disk)
        notes = []
        if before is not None and before.about.st_nlink > 1:
            notes.append(f"{self._target} has other names (hard links); they keep the old content.")
        tree = next((each for each in self._target.parents if (each / ".git").exists()), None)
        if tree is not None:
            notes.append(f"{self._target} is in the git work tree {tree}: the change shows there.")
        return replace(written, notes=tuple(notes))

    # -- writing -----------------------------------------------------------------------------------------------

    def _back_up(self, data: bytes) -> Path:
        """Keep these bytes in Parler's own state; what is kept already is not kept twice."""
        folder = make_private(self._home.root, "connect", "backups", self._host_id)
        prefix = f"{digest(os.fsencode(self._target))}-"
        present = sorted(each for each in folder.iterdir() if each.name.startswith(prefix) and each.suffix == ".bak")
        for each in present:
            found = self._disk.read(each, MAX_BYTES)
            if found is not None and found.data == data:
                return each
        path = self._backup_path(folder, prefix)
        # There is one name for each file, so what a killed run left under it goes away with the next backup.
        temporary = folder / f"{prefix}.new"
        self._disk.unlink(temporary)
        self._put(temporary, data, 0o600)
        self._disk.move(temporary, path)
        self._disk.sync_folder(folder)
        referred = {entry.backup for entry in Ledger(self._home).entries()}
        for each in present[: max(0, len(present) + 1 - KEPT)]:
            if each not in referred:
                self._disk.unlink(each)
        return path

    def _backup_path(self, folder: Path, prefix: str) -> Path:
        now = self._disk.now()
        while True:
            micros = round(now * 1_000_000)
            day = time.strftime("%Y%m%dT%H%M%S", time.gmtime(micros // 1_000_000))
            path = folder / f"{prefix}{day}.{micros % 1_000_000:06}Z.bak"
            if self._disk.about(path) is None:
                return path
            now += 0.000001

    def _make_folders(self) -> None:
        missing = [each for each in self._target.parents if self._disk.about(each) is None]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                self._disk.make_folder(folder)
                self._made.append(folder)

    def _write(self, written: Written[Any], before: Content | None) -> bool:
        """Whether the new content stands; False when somebody else wrote meanwhile, whose content stands then."""
        disk = self._disk
        try:
            self._put(self._new, written.after, self._mode if before is None else 0o600, before)
            if before is None:
                try:
                    disk.move(self._new, self._target)
                except FileExistsError:
                    return False
                return True
            try:
                return self._exchange(written.after, before.data)
            except FileNotFoundError:
                return False  # the file was deleted meanwhile, and the next attempt begins without one
        finally:
            if not self._holds_theirs:
                with contextlib.suppress(OSError):
                    disk.unlink(self._new)

    def _put(self, path: Path, data: bytes, mode: int, like: Content | None = None) -> None:
        descriptor = self._disk.create(path, mode)
        try:
            self._disk.write(descriptor, data)
            if like is not None:
                self._disk.dress(descriptor, self._target, like.about)
            self._disk.sync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.unlink(path)
            raise
        finally:
            os.close(descriptor)

    def _exchange(self, new: bytes, expected: bytes) -> bool:
        disk = self._disk
        # Most of what others write in between shows in this look, before our file stands in the place of theirs.
        found = disk.read(self._target, MAX_BYTES)
        if found is None or found.data != expected:
            return False
        if not disk.exchange(self._new, self._target):
            disk.replace(self._new, self._target)
            return True
        out = self._came_out()
        if out == expected:
            return True
        # Somebody wrote in between, so their file goes back into its place. Should they write once more before that,
        # the swap takes out the newer one of theirs, which then goes back in the next round.
        self._holds_theirs = True
        put = new
        for _ in range(TRIES):
            try:
                disk.exchange(self._new, self._target)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    disk.move(self._new, self._target)
                self._holds_theirs = False
                return False
            came = self._came_out()
            if came == put:
                self._holds_theirs = False
                return False
            put, out = out, came
        kept = self._back_up(out)
        self._holds_theirs = False
        raise Untouched(
            "busy",
            self._named,
            f"{self._named} is being written all the time; one version of it was kept in {kept}.",
            "Quit its host, then run this again",
        )

    def _came_out(self) -> bytes:
        found = self._disk.read(self._new, MAX_BYTES)
        return b"" if found is None else found.data

    def _erase(self, before: Content) -> bool:
        """Whether the file is gone; False when somebody else wrote it meanwhile, whose content stands then."""
        disk = self._disk
        try:
            disk.move(self._target, self._old)
        except FileNotFoundError:
            return False
        out = disk.read(self._old, MAX_BYTES)
        if out is not None and out.data != before.data:
            try:
                disk.move(self._old, self._target)
            except FileExistsError:
                self._back_up(out.data)  # they wrote once more, and that newer file stands
                disk.unlink(self._old)
            return False
        disk.unlink(self._old)
        return True

    def _stands(self, written: Written[Any], edit: Edit[Any]) -> bool:
        """Whether what was written is there, or what somebody wrote since leaves nothing to do."""
        try:
            self._disk.sync_folder(self._target.parent)
            found = self._disk.read(self._target, MAX_BYTES)
        except OSError:
            return True  # the file was written, also where it cannot be looked at afterwards
        if written.erased or found is None:
            return written.erased and found is None
        if found.data == written.after:
            return True
        try:
            return edit(found.data).data == found.data
        except EditRefused:
            return False


def _busy(path: Path) -> Untouched:
    return Untouched(
        "busy", path, f"{path} is being written by another program all the time.", "Quit its host, then run this again"
    )
