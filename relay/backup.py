"""Everything of a relay in one file: its store, files, keys, certificates, secret and place, as a tar archive.

Whoever has the file can be the relay, so the file is 0600 and is never written over another. Not here: bringing it
back, which is unpacking it into the relay's home while no relay runs. Above: `control`. Below: the store, which copies
itself while it is used. Invariant: a file that is there in the end is whole and on the disk.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from parlerd.core.errors import ParlerError
from parlerd.paths import Home

_KEPT: Final = ("keys", "tls", "join-secret", "place.json", "log.id")
"""What stands in a relay's home beside its store. Its socket, lock, log and service are of this machine."""
_UNFINISHED: Final = "backup-"
"""How the folder of a backup that is being made begins."""


def forget_unfinished(home: Home) -> None:
    """Remove what a relay that was killed had copied for a backup. Call this while no backup is made."""
    for folder in home.root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def back_up(home: Home, copy_store: Callable[[Path], None], file: Path) -> int:
    """Write a backup and give its size. Raises `ParlerError`: `invalid_param` for a file that is there already or a
    path that is not absolute, `home_not_writable`."""
    if not file.is_absolute():
        raise ParlerError("invalid_param", "The path of a backup is absolute.", param="file")
    # A name that nobody has: what a relay that was killed left there stands in the way of no other backup.
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    try:
        with tempfile.TemporaryDirectory(dir=home.root, prefix=_UNFINISHED) as folder:
            copied = Path(folder) / home.database.name
            copy_store(copied)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as out:
                    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
                        archive.add(copied, arcname=home.database.name)
                        for name in _KEPT:
                            if (home.root / name).exists():
                                archive.add(home.root / name, arcname=name)
                        _add_files(archive, home.blobs)
                    out.flush()
                    os.fsync(out.fileno())
                # A link fails where a rename would replace a file that somebody wants to keep.
                os.link(temporary, file, follow_symlinks=False)
            finally:
                temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise ParlerError(
            "invalid_param", f"{file} is there already.", hint="Name a file that is not.", param="file"
        ) from None
    except OSError as error:
        raise ParlerError(
            "home_not_writable",
            f"{file} cannot be written: {error.strerror}.",
            hint="Name a file in a folder that is there, that you may write to, and whose disk has space.",
        ) from error
    return file.stat().st_size


def _add_files(archive: tarfile.TarFile, blobs: Path) -> None:
    """Add the files of rooms. The store was copied before, and a message comes after its file, so every file that a
    message of the copy brings is there. An upload that is not finished is left out, and what is taken away meanwhile is
    brought by no message."""
    for path in (blobs, *sorted(blobs.rglob("*"))):
        if not path.name.endswith(".part"):
            with suppress(FileNotFoundError):
                archive.add(path, arcname=path.relative_to(blobs.parent).as_posix(), recursive=False)
