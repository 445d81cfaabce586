"""Files that come out the same in every build: written, filled in, and put into archives.

Above: everything that makes a package. Invariant: the same content gives the same bytes, whenever and by whomever it is
built: an archive has no clock, no owner and no order of a directory in it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TEXTS: Final = Path(__file__).parent / "text"
"""What is filled in: files with `{{name}}` where a value belongs."""
MOMENT: Final = (2020, 2, 2, 0, 0, 0)
"""When every file of an archive was last changed. Hatchling, which makes the wheel, says the same."""
_PLACE: Final = re.compile(r"\{\{(\w+)\}\}")
EPOCH: Final = 1_580_601_600
"""The same moment in seconds."""


def filled(name: str, /, **values: str) -> str:
    """The text of that name with its places filled in. Raises `KeyError` for a place without a value."""
    text = (TEXTS / name).read_text(encoding="utf-8")
    unused = set(values) - set(_PLACE.findall(text))
    if unused:
        raise KeyError(f"{name} has no place for {', '.join(sorted(unused))}")
    return _PLACE.sub(lambda match: values[match[1]], text)


def as_json(document: Mapping[str, Any]) -> str:
    """A document as a file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def put(folder: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder. What stands in a folder `bin` is a program."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(_mode(name))


def zipped(files: Mapping[str, str]) -> bytes:
    """Files as a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100000 | _mode(name)) << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def tarred(top: str, files: Mapping[str, str]) -> bytes:
    """Files below the folder `top` as a compressed tar archive."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            data = files[name].encode()
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), _mode(name), EPOCH
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def digest(file: Path) -> str:
    """The SHA-256 of a file, as checksums are written."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _mode(name: str) -> int:
    return 0o755 if "bin" in Path(name).parts[:-1] or name in ("debian/rules",) else 0o644
