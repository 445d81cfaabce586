"""Installs PostgreSQL and pgTAP from Debian, and leaves nothing running.

Debian makes a cluster and starts it when a server is installed, unless `createcluster.conf` says otherwise before that.
Nothing but the standard library is used: CI calls this before there is an environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

MAJOR: Final = 15
"""The oldest that a relay takes, and the one of Debian 12."""
LIMIT_S: Final = 300
CLUSTERS: Final = Path("/etc/postgresql-common/createcluster.conf")


class NotInstalled(Exception):
    """A server could not be had; the reason, in a line."""


def install(majors: tuple[int, ...] = (MAJOR,), *, clusters: Path = CLUSTERS) -> None:
    """Have the server and pgTAP of these major versions. Raises `NotInstalled`."""
    missing = [major for major in majors if not is_there(major)]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotInstalled("it is installed by root with apt-get alone; your system's own packages do as well")
    clusters.parent.mkdir(parents=True, exist_ok=True)
    clusters.write_text(
        without_main_cluster(clusters.read_text(encoding="utf-8") if clusters.exists() else ""), encoding="utf-8"
    )
    packages = [name for major in missing for name in (f"postgresql-{major}", f"postgresql-{major}-pgtap")]
    _apt("update", "-qq")
    # The file above is kept as it is, also where the package would ask.
    _apt("install", "-yqq", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", *packages)


def is_there(major: int) -> bool:
    """Whether Debian's packages of this major version are installed."""
    server = Path(f"/usr/lib/postgresql/{major}/bin/postgres")
    return server.is_file() and any(Path(f"/usr/share/postgresql/{major}/extension").glob("pgtap--*.sql"))


def without_main_cluster(settings: str) -> str:
    """The text of `createcluster.conf` with which an install makes no cluster."""
    kept = [line for line in settings.splitlines() if not re.match(r"\s*create_main_cluster\b", line)]
    return "\n".join([*kept, "create_main_cluster = false", ""])


def _apt(*words: str) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "UCF_FORCE_CONFFOLD": "1"}
    try:
        ran = subprocess.run(
            ["apt-get", *words],
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"apt-get {words[0]} took more than {LIMIT_S} seconds") from None
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.startswith("E:")]
        raise NotInstalled((said or ["apt-get failed"])[0])
