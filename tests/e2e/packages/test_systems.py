"""Debian's package and the relay's image, built and used in a clean Debian: with PARLER_SYSTEMS=1, because each takes
three minutes and mounts folders. It needs root, and of Debian mmdebstrap, dpkg-dev, debhelper, lintian, buildah, runc.

No image can be fetched where these tests run, so what the Dockerfile begins with is made from Debian's own packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import parlerd
from tests.support.machines import Mounts, own_mounts
from tests.support.packaged import NEWER
from tests.support.processes import until

pytestmark = pytest.mark.e2e

NEEDS: Final = ("mmdebstrap", "dpkg-buildpackage", "lintian", "buildah", "runc")
LIMIT_S: Final = 900.0
UNREACHED: Final = re.compile("Could not resolve|Could not connect|Unable to connect|Failed to fetch")
"""What apt says of an archive that it cannot reach."""
SETTINGS: Final = ("etc/ssl/certs/ca-certificates.crt", "etc/resolv.conf", "etc/pip.conf", "etc/apt/apt.conf.d")
"""How this machine reaches the registries: a clean root is told the same."""
BASE: Final = "docker.io/library/debian:bookworm-slim"


def runs(*words: str | Path, expect: int = 0, cwd: Path | None = None) -> str:
    """What a program of this machine prints."""
    ran = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "BUILDAH_ISOLATION": "chroot",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ran.returncode == expect, (words, ran.stdout[-6000:])
    return ran.stdout


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean root of Debian, as an archive."""
    if os.environ.get("PARLER_SYSTEMS") != "1":
        pytest.skip("PARLER_SYSTEMS=1 builds Debian's package and the image, which takes minutes and mounts folders")
    missing = [name for name in NEEDS if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(f"this needs root, and {', '.join(missing) or 'root alone is missing'}")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("root may not mount anything here")
    folder = tmp_path_factory.mktemp("debian")
    root = folder / "root"
    try:
        runs("mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root)
    except AssertionError as error:
        if UNREACHED.search(str(error)):
            pytest.skip("Debian's archive is not reached from here")
        raise
    for name in SETTINGS:
        here, there = Path("/", name), root / name
        if here.is_dir():
            shutil.copytree(here, there, dirs_exist_ok=True)
        elif here.exists():
            there.unlink(missing_ok=True)
            shutil.copy(here, there)
    return root


def package(packages: Path, folder: Path) -> Path:
    """Debian's package, built by the lines of the installing page."""
    build = folder / "build"
    build.mkdir(parents=True)
    runs("tar", "xf", packages / "debian.tar.gz", "-C", build, "--strip-components=1")
    for pattern in ("parlerd-*.whl", "relay/requirements.txt", "LICENCES.txt", "relay/parler-relay.service"):
        (file,) = packages.glob(pattern)
        shutil.copy(file, build)
    runs("dpkg-buildpackage", "-us", "-uc", "-b", cwd=build)
    (made,) = folder.glob("*.deb")
    return made


class Clean:
    """A clean Debian with a user."""

    def __init__(self, root: Path, mounts: Mounts) -> None:
        self.root = root
        self._mounts = mounts
        self.has("useradd", "-m", "ann")

    def has(self, *words: str, expect: int = 0) -> str:
        return runs(
            *self._mounts.words,
            "chroot",
            self.root,
            "/usr/bin/env",
            "DEBIAN_FRONTEND=noninteractive",
            *words,
            expect=expect,
        )

    def asks(self, *words: str, agent: str = "ann", expect: int = 0) -> Any:
        user = ["env", "-i", "HOME=/home/ann", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", f"PARLER_AGENT={agent}"]
        said = runs(
            *self._mounts.words, "chroot", "--userspec=ann", self.root, *user, "parler", *words, "--json", expect=expect
        )
        return json.loads(said)

    def installs(self, package: Path) -> None:
        shutil.copy(package, self.root)
        self.has("apt-get", "install", "-yqq", "--no-install-recommends", "--allow-downgrades", f"/{package.name}")


@contextmanager
def clean(root: Path, folder: Path) -> Iterator[Clean]:
    copy = folder / "clean"
    runs("cp", "-a", root, copy)
    with own_mounts() as mounts:
        runs(*mounts.words, "mount", "--bind", "/dev", copy / "dev")
        runs(*mounts.words, "mount", "-t", "proc", "proc", copy / "proc")
        one = Clean(copy, mounts)
        one.has("apt-get", "update", "-qq")
        yield one


def test_what_is_mounted_among_mounts_of_their_own_nobody_else_sees_and_ends_with_them(tmp_path: Path) -> None:
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount, and not everywhere")
    place = tmp_path / "place"
    place.mkdir()
    with own_mounts() as mounts:
        runs(*mounts.words, "mount", "-t", "tmpfs", "tmpfs", place)
        runs(*mounts.words, "touch", place / "there")
        assert mounts.seen(place / "there").exists()
        assert not (place / "there").exists()
        # Who does not see what is mounted there can remove the folder, as pytest does after a run that was killed.
        place.rmdir()
    assert str(place) not in Path("/proc/self/mountinfo").read_text()


def test_debians_package_is_installed_upgraded_taken_back_and_purged(
    debian: Path, packages: Path, newer: Path, tmp_path: Path
) -> None:
    now, then = package(packages, tmp_path / "now"), package(newer, tmp_path / "then")
    runs("lintian", "--allow-root", "--fail-on", "error,warning", now)
    with clean(debian, tmp_path) as machine:
        machine.installs(now)
        opened = machine.asks("session", "open", "--topic", "auth", "--context", "Chose PKCE.")
        knock = machine.asks("session", "join", opened["key"], agent="ben", expect=4)
        machine.asks("session", "approve", "ben", "--room", "auth", "--code", knock["code"])
        machine.asks("session", "join", opened["key"], agent="ben")
        machine.installs(then)
        assert machine.asks("version")["version"] == NEWER
        machine.asks("send", "--room", "auth", "after the upgrade", agent="ben")
        heard = machine.asks("recv", "--room", "auth")["messages"]
        assert "after the upgrade" in [each["text"] for each in heard]
        machine.asks("daemon", "stop")
        machine.installs(now)
        assert machine.asks("version")["version"] == parlerd.__version__
        assert machine.asks("rooms", expect=1)["error"]["code"] == "newer_store"
        machine.has("apt-get", "purge", "-yqq", "parlerd")
        assert not (machine.root / "usr/lib/parler").exists()
        assert [path.name for path in (machine.root / "home/ann").iterdir() if "parler" in path.name] == [".parler"]


class Images:
    """A store of images of its own. What it mounts nobody else sees."""

    def __init__(self, folder: Path, root: Path, mounts: Mounts) -> None:
        self._mounts = mounts
        self._where = ["--root", str(folder / "store"), "--runroot", str(folder / "state")]
        base = self.does("from", "scratch").strip()
        self.does("copy", "-q", base, root, "/")
        self.does("commit", "-q", base, BASE)

    def does(self, *words: str | Path) -> str:
        return runs(*self._mounts.words, "buildah", *self._where, *words)

    def builds(self, packages: Path, version: str) -> Path:
        """The image of these packages; its root, mounted."""
        file = packages / "relay" / "Dockerfile"
        name = f"parler-relay:{version}"
        self.does("bud", "--pull=false", "--network=host", "--format=docker", "-f", file, "-t", name, packages)
        container = self.does("from", "--pull=false", f"localhost/{name}").strip()
        return Path(self.does("mount", container).strip())


@contextmanager
def images_of(folder: Path, root: Path, mounts: Mounts) -> Iterator[Images]:
    """A store that is gone at the end: it has the size of several systems."""
    try:
        yield Images(folder, root, mounts)
    finally:
        # By a program that sees its mounts, which end with that.
        kept = [folder / "store", folder / "state"]
        drop = "for at in $(awk -v under=\"$0/\" 'index($5, under) == 1 {print $5}' /proc/self/mountinfo | sort -r); do"
        drop += ' umount --lazy "$at"; done; rm -rf "$@"'
        runs(*mounts.words, "sh", "-c", drop, folder, *kept)


class Container:
    """The image at work: its user, no capability, a root that can be read only, and a volume."""

    def __init__(self, folder: Path, root: Path, volume: Path, name: str, mounts: Mounts) -> None:
        self._name, self._folder = name, folder / name
        self._runc = [*mounts.words, "runc", "--root", str(folder / "runc")]
        self._folder.mkdir()
        runs("runc", "spec", cwd=self._folder)
        file = self._folder / "config.json"
        spec = json.loads(file.read_text())
        spec["root"] = {"path": str(root), "readonly": True}
        process = spec["process"]
        process |= {"terminal": False, "user": {"uid": 10_001, "gid": 10_001}, "cwd": "/srv/relay"}
        process["args"] = ["/opt/parler/bin/parler", "relay", "--port", "7799"]
        path = "PATH=/opt/parler/bin:/usr/bin:/bin"
        process["env"] = ["HOME=/srv/relay", "PARLER_HOME=/srv/relay/parler", "LANG=C.UTF-8", path]
        process["capabilities"] = {kind: [] for kind in process["capabilities"]}
        process["noNewPrivileges"] = True
        bind = {"destination": "/srv/relay", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]}
        spec["mounts"] += [bind, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]
        spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
        file.write_text(json.dumps(spec))

    @contextmanager
    def runs(self) -> Iterator[Container]:
        command = [*self._runc, "run", "--bundle", str(self._folder), self._name]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            until(lambda: self._asks("/opt/parler/bin/parler", "relay", "status").returncode == 0, "healthy container")
            yield self
        finally:
            subprocess.run([*self._runc, "kill", self._name, "TERM"], check=False)
            try:
                child.wait(60)
            finally:
                # Nothing to do where it ended.
                subprocess.run([*self._runc, "delete", "--force", self._name], check=False)
                child.kill()

    def says(self, *words: str, expect: int = 0) -> str:
        ran = self._asks(*words)
        assert ran.returncode == expect, ran
        return ran.stdout

    def _asks(self, *words: str) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = [*self._runc, "exec", self._name, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_image_is_built_from_its_file_and_runs_without_rights_and_after_an_upgrade(
    debian: Path, packages: Path, newer: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o700)
    os.chown(volume, 10_001, 10_001)
    names = []
    with own_mounts() as mounts, images_of(tmp_path, debian, mounts) as images:
        for each, version in ((packages, parlerd.__version__), (newer, NEWER)):
            root = images.builds(each, version)
            # A new volume that is mounted there has the owner and the mode that the folder has in the image.
            for folder in ("", "parler", "parler/relay", "parler/relay/keys", "parler/relay/blobs"):
                found = mounts.seen(root / "srv" / "relay" / folder).stat()
                assert (found.st_uid, found.st_mode & 0o777) == (10_001, 0o700)
            with Container(tmp_path, root, volume, f"relay-{version}", mounts).runs() as relay:
                status = json.loads(relay.says("/opt/parler/bin/parler", "relay", "status", "--json"))
                assert status["version"] == version
                names.append((status["name"], status["fingerprint"]))
                relay.says("sh", "-c", "touch /opt/x", expect=1)
                assert relay.says("id", "-u").strip() == "10001"
                assert "CapBnd:\t0000000000000000" in relay.says("cat", "/proc/self/status")
    assert not (tmp_path / "store").exists()
    assert names[0] == names[1], "the volume has the relay's keys"
