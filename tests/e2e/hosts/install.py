"""Fetches the real agent hosts that the tests ask: `python -m tests.e2e.hosts.install`.

Each release is installed beside those that are there and put in place by one rename of a link, so tests that run
meanwhile see a whole program or none, and of two installers the second waits. No install script of a package is run.
What cannot be fetched in time is left out: its tests skip and say so. Exit 0 when everything is there, else 1.

    <cache>/<name>-<version>/node_modules/...    one release
    <cache>/<name>                               a link to the one in use
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.e2e.hosts.programs import CACHE, NODE, PROGRAMS, Program, file_of, supported

LIMIT_S: Final = 240
"""For all of them together: a test run has half an hour. On a usual line they take one minute."""
_NPM: Final = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")


_BROTLI: Final = """\
const [, packed, file] = process.argv;
const { createReadStream, createWriteStream } = require("fs");
const { createBrotliDecompress } = require("zlib");
require("stream").pipeline(createReadStream(packed), createBrotliDecompress(), createWriteStream(file), (error) => {
    if (error) process.exit(1);
});
"""
"""Python's library cannot read Brotli; Node can."""


class NotFetched(Exception):
    """A program could not be had; the reason, in a line."""


_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Fedora and macOS keep the authorities that the system trusts."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.hosts.install", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--latest", action="store_true", help="the newest release of each, not the one tested with")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help=f"seconds (default {LIMIT_S})")
    args = parser.parse_args(argv)
    if not supported():
        print("agent hosts: there are packages for Linux on x86-64 alone; their tests will skip")
        return 1
    deadline = time.monotonic() + args.limit
    known = {program.name for program in PROGRAMS}
    if unknown := sorted(set(args.names) - known):
        parser.error(f"no such program: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    failed = 0
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        with _alone(deadline):
            for program in PROGRAMS:
                if not args.names or program.name in args.names:
                    failed += not _show(program, latest=args.latest, deadline=deadline)
    except (OSError, NotFetched) as error:
        print(f"agent hosts: {error}; their tests will skip")
        return 1
    return min(failed, 1)


def _show(program: Program, *, latest: bool, deadline: float) -> bool:
    try:
        version = _newest(program, deadline) if latest else program.version
        fetched = _fetch(program, version, deadline)
    except (OSError, NotFetched) as error:
        print(f"  {program.name}: not installed: {error}", flush=True)
        return False
    print(f"  {program.name} {version.removesuffix('-linux-x64')}{'' if fetched else ' (was there)'}", flush=True)
    return True


def _fetch(program: Program, version: str, deadline: float) -> bool:
    """Have that release in place; whether it had to be fetched."""
    folder = CACHE / f"{program.name}-{version}"
    fetched = not (folder / "node_modules" / program.file).is_file()
    if fetched:
        part = CACHE / f"{folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        part.mkdir()
        try:
            _npm(deadline, *_NPM, "--prefix", str(part), f"{program.package}@{version}")
            if program.packed:
                _unpack(part / "node_modules" / program.file, deadline)
            if not (part / "node_modules" / program.file).is_file():
                raise NotFetched(f"{program.package}@{version} holds no {program.file}")
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    link = CACHE / f"{program.name}.link"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(CACHE / program.name)
    if not os.access(file_of(program), os.R_OK):
        raise NotFetched("it cannot be read")
    return fetched


def _unpack(file: Path, deadline: float) -> None:
    """Make the program out of the stream beside it, as the package's own install script would."""
    packed = file.with_name(f"{file.name}.br")
    try:
        ran = subprocess.run(
            [file_of(NODE), "-e", _BROTLI, packed, file],
            capture_output=True,
            text=True,
            timeout=max(deadline - time.monotonic(), 0.1),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotFetched("the time was over") from None
    if ran.returncode:
        raise NotFetched(f"{packed.name} could not be unpacked")
    file.chmod(0o755)
    packed.unlink()


def _newest(program: Program, deadline: float) -> str:
    if program.name == "node":
        return program.version
    newest = _npm(deadline, "view", f"{program.package}@latest", "version").strip()
    # One package name may serve all platforms: then a release of its own has the program of each.
    return newest + ("-linux-x64" if program.version.endswith("-linux-x64") else "")


def _trusting(env: Mapping[str, str]) -> dict[str, str]:
    """npm trusts the authorities it came with and no other; behind a company's proxy only the system knows the right
    one."""
    trusted = next((bundle for bundle in _BUNDLES if Path(bundle).is_file()), None)
    return {**({"NODE_EXTRA_CA_CERTS": trusted} if trusted else {}), **env}


def _npm(deadline: float, *words: str) -> str:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise NotFetched("the time was over")
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("there is no npm on PATH")
    child = subprocess.Popen(
        [npm, *words],
        env=_trusting(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = child.communicate(timeout=remaining)
    except BaseException as error:
        # With its own children: an npm that is killed alone leaves them downloading.
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise NotFetched("the time was over") from None
        raise
    if child.returncode:
        lines = [line for line in stderr.splitlines() if line.startswith("npm error")]
        raise NotFetched((lines or ["npm failed"])[0].removeprefix("npm error").strip())
    return stdout


@contextlib.contextmanager
def _alone(deadline: float) -> Iterator[None]:
    """While no other installer is at work on this cache."""
    with Path(CACHE, ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise NotFetched("another installer was at work all the time") from None
                time.sleep(0.2)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
