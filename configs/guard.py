"""What is not written, and why: links to nowhere, other people's files, what others could change, what is read-only.

Looks at owners, modes and links; writes nothing. Not here: what is done with a file that may be written (`patch`).
Above: `patch`, `connect`. Invariant: nothing is made writable for our sake, not even where root could write anyway.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from configs.detect import Place
from configs.disk import DISK, Content, Disk
from configs.document import MAX_BYTES


class Untouched(Exception):
    """The file is as it was. `str()` is a sentence for a person, `reason` one word, `hint` what to do about it."""

    def __init__(self, reason: str, path: Path, sentence: str, hint: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason
        self.path = path
        self.hint = hint


def resolve(path: Path, place: Place, disk: Disk) -> tuple[Path, tuple[str, ...]]:
    """The real file behind links, and what to say of it. Raises `Untouched` for a link that leads nowhere."""
    real = Path(os.path.realpath(path))
    # A link that is left after resolving goes round in circles; a link whose target is missing leads nowhere.
    stuck = next((each for each in (real, *real.parents) if each.is_symlink()), None)
    links = [each for each in (path, *path.parents) if each.is_symlink()]
    lost = next((each for each in links if not each.exists()), None)
    if stuck is not None or lost is not None:
        link = lost or path
        raise Untouched(
            "dangling",
            path,
            f"{link} is a symlink to {os.readlink(link) if link.is_symlink() else real}, which is not there.",
            f"Make what it points to, or remove the link {link}",
        )
    about = disk.about(real)
    if about is not None and not stat.S_ISREG(about.st_mode):
        raise Untouched("not_a_file", path, f"{real} is no regular file.", "Move it away")
    if about is not None and about.st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, "File too large", str(path))
    home = Path(os.path.realpath(place.person))
    if path.is_symlink():
        where = "" if real.is_relative_to(home) else ", outside the home directory"
        return real, (f"{path} is a symlink to {real}{where}; that file is the one that is edited.",)
    if not real.is_relative_to(home) and path.is_relative_to(place.person):
        return real, (f"{path} is really {real}, outside the home directory.",)
    return real, ()


def refuse_foreign_home(place: Place, disk: Disk = DISK) -> None:
    """Raise `Untouched` when HOME belongs to somebody else: `sudo` over one's own home among others."""
    home = place.person
    # Links are followed, because /home itself is a link on some systems.
    about = disk.about(Path(os.path.realpath(home)))
    if about is None or not stat.S_ISDIR(about.st_mode):
        raise Untouched("no_home", home, f"HOME is {home}, which is no directory.", "Set HOME to your home directory")
    if about.st_uid != disk.uid():
        raise Untouched(
            "foreign_home",
            home,
            f"HOME is {home}, which belongs to {_user(about.st_uid)}; this runs as {_user(disk.uid())}.",
            f"Run it as {_user(about.st_uid)}, without sudo",
        )


def refuse_unsafe(path: Path) -> None:
    """Raise `Untouched` when a program that hosts are to start, or its folder, can be changed by other users."""
    real = Path(os.path.realpath(path))
    for each in dict.fromkeys((real, real.parent, path.parent)):
        about = DISK.about(Path(os.path.realpath(each)))
        if about is not None and _open_to_others(about):
            raise _unsafe(each, about)


def refuse_others(named: Path, target: Path, before: Content | None, place: Place, disk: Disk) -> None:
    """Raise `Untouched` unless file, folders and the link to it are this user's, and nobody else's to change."""
    me = disk.uid()
    for path, about in ((named, disk.about(named)), (target, None if before is None else before.about)):
        if about is None:
            continue
        if about.st_uid != me:
            raise _foreign(path, about)
        if not stat.S_ISLNK(about.st_mode) and _open_to_others(about):
            raise _unsafe(path, about)
    for folder in _folders(named, target, place, disk):
        about = disk.about(folder)
        if about is not None and about.st_uid not in (me, 0):
            raise _foreign(folder, about)
        if about is not None and _open_to_others(about):
            raise _unsafe(folder, about)


def _folders(named: Path, target: Path, place: Place, disk: Disk) -> list[Path]:
    """Whoever can write one of these can put another file in the place of ours: up to the home directory, or the
    nearest alone outside it."""
    home = Path(os.path.realpath(place.person))
    found: list[Path] = []
    for file in (target, Path(os.path.realpath(named.parent)) / named.name):
        above = list(file.parents)
        if home in above:
            found += above[: above.index(home) + 1]
        else:
            found += [next((each for each in above if disk.about(each) is not None), above[-1])]
    return list(dict.fromkeys(found))


def refuse_read_only(target: Path, before: Content | None, disk: Disk) -> None:
    """Raise `Untouched` when the file or its folder is not to be written, also by root; modes are the person's word."""
    if target.is_relative_to("/nix/store"):
        raise Untouched(
            "read_only",
            target,
            f"{target} is in the Nix store and cannot be changed.",
            "Add the entry to the Nix configuration that it is made from",
        )
    if before is not None and not (before.about.st_mode & stat.S_IWUSR and disk.may_write(target)):
        raise _read_only(target)
    folder = next(each for each in target.parents if disk.about(each) is not None)
    about = disk.about(folder)
    if about is None or not (about.st_mode & stat.S_IWUSR and disk.may_write(folder)):
        raise _read_only(folder)


# -- why not -------------------------------------------------------------------------------------------------------


def _open_to_others(about: os.stat_result) -> bool:
    """Whether another user can change it. In a sticky folder everybody may make files, and change only their own."""
    mode = about.st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return False
    if mode & stat.S_IWOTH:
        return True
    return bool(mode & stat.S_IWGRP) and not _is_group_of_one(about.st_gid)


def _is_group_of_one(gid: int) -> bool:
    """Whether nobody but this user and root is in the group: many systems give each user a group of their own."""
    import grp
    import pwd

    try:
        me = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    if not {*group.gr_mem} <= {me.pw_name, "root"}:
        return False
    # Who is in a group by the login is not listed in it: "users" and "staff" look empty, and hold everybody.
    return gid != me.pw_gid or group.gr_name == me.pw_name


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _foreign(path: Path, about: os.stat_result) -> Untouched:
    return Untouched(
        "other_owner",
        path,
        f"{path} belongs to {_user(about.st_uid)}.",
        f"Make it yours (sudo chown {_user(os.geteuid())} {path})",
    )


def _unsafe(path: Path, about: os.stat_result) -> Untouched:
    return Untouched(
        "open_to_others",
        path,
        f"{path} can be changed by other users (mode {stat.S_IMODE(about.st_mode):04o}).",
        f"Run: chmod go-w {path}",
    )


def _read_only(path: Path) -> Untouched:
    return Untouched(
        "read_only", path, f"{path} is read-only.", "Make it writable, or paste the entry where the file is made"
    )


_SENTENCES: Final = {
    errno.ENOSPC: ("disk_full", "The disk is full", "Free some space, then run this again"),
    errno.EDQUOT: ("disk_full", "Your disk quota is used up", "Free some space, then run this again"),
    errno.EROFS: ("read_only", "It is on a read-only file system", "Paste the entry where the file is made"),
    errno.EACCES: ("read_only", "The system does not permit it", "Look at its owner, mode and attributes"),
    errno.EPERM: ("read_only", "The system does not permit it", "Look at its owner, mode and attributes (lsattr)"),
    errno.EFBIG: ("too_large", f"It is larger than {MAX_BYTES // 1024**2} MB", "Paste the entry by hand"),
    errno.EINVAL: ("not_a_file", "It is no regular file", "Move it away"),
    errno.EBUSY: (
        "mount_point",
        "It is a mount point of its own, as a container gets a single file, and cannot be replaced as a whole",
        "Change the file outside, where it is mounted from; or mount the folder that it is in",
    ),
    errno.ELOOP: ("not_a_file", "It became a symlink", "Run this again"),
    errno.ENOTDIR: ("not_a_file", "A folder above it is a file", "Move that file away"),
}


def untouched(error: OSError, path: Path) -> Untouched:
    """What the system refused, as a sentence for a person."""
    reason, why, hint = _SENTENCES.get(
        error.errno or 0, ("failed", error.strerror or type(error).__name__, "Run this again")
    )
    return Untouched(reason, path, f"{path} was left as it is. {why}.", hint)
