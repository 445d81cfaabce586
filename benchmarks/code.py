"""What sharing code and files costs, beside what git, cp and sha256sum take for the same.

A repository of many commits is pushed and taken in, whole and on top of a base, each in turn with plain git: `bundle
create`, and `fetch` from the bundle. A file goes to the daemon over its socket and back, as `parler send-file` and
`parler fetch` bring it, in turn with `cp` and `sha256sum` of the same file; the client's start is not among it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

from benchmarks import common
from parlerd.cli.context import Context
from parlerd.cli.output import Output
from parlerd.cli.transfer import download_to, upload
from parlerd.client import connect
from parlerd.git.applying import apply
from parlerd.git.pushing import bundled
from parlerd.git.repository import Repository, find
from parlerd.git.running import Runner
from parlerd.operations import types as t

PUSH_FLOOR: Final = 1.3
APPLY_FLOOR: Final = 1.5
THIN_FLOOR: Final = 3.0
FILE_FLOOR: Final = 0.5
"""Source: performance spec."""
_ENV: Final = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
_ID: Final = "0011223344556677"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=10, commits=10_000, megabytes=200)
    report = common.Report("code", given.place)
    with tempfile.TemporaryDirectory(dir=given.place) as folder:
        _measure_git(report, Path(folder), given.commits, given.runs)
        _measure_file(report, Path(folder), given.megabytes, given.runs, given.place)
    report.print()


# -- code --------------------------------------------------------------------------------------------------


def _measure_git(report: common.Report, folder: Path, commits: int, runs: int) -> None:
    source = folder / "source"
    _git("init", "-q", "--bare", "-b", "main", str(source), cwd=folder)
    _git("fast-import", "--quiet", cwd=source, stdin=_history(commits))
    _git("repack", "-adq", cwd=source)
    base = _git("rev-parse", "main~100", cwd=source)
    repository = find(str(source), Runner())
    with bundled(repository, "main") as whole, bundled(repository, "main", base) as thin:
        paths = {"": whole.path, base: thin.path}
        for name, floor, has in (("full", APPLY_FLOOR, ""), ("thin", THIN_FLOOR, base)):
            ours, plain = [], []
            for _ in range(runs):
                plain.append(_in_target(folder, source, has, lambda target: _fetch(target, paths[has])))  # noqa: B023
                ours.append(
                    _in_target(
                        folder,
                        source,
                        has,
                        lambda target: apply(_found(target), paths[has], _ID, tip=whole.tip),  # noqa: B023
                    )
                )
            _compared(report, f"apply {name} of {commits:,} commits, in git fetch", ours, plain, floor)
    for name, most, has in (("full", PUSH_FLOOR, ""), ("thin", None, base)):
        ours, plain = [], []
        for number in range(runs):
            out = str(folder / f"plain{name}{number}")
            against = [f"^{has}"] if has else []
            command = ("bundle", "create", "-q", out, "main", *against)
            plain.append(common.milliseconds(lambda: _git(*command, cwd=source)))  # noqa: B023 - called at once
            os.unlink(out)
            ours.append(common.milliseconds(lambda: _bundle(source, has)))  # noqa: B023
        _compared(report, f"push {name} of {commits:,} commits, in git bundle create", ours, plain, most)
    searches = [_search(source) for _ in range(runs)]
    report.add(common.spread(f"looking through {commits:,} commits for secrets", "ms", searches))


def _search(source: Path) -> float:
    """How long it takes to look through a push for secrets, in milliseconds."""
    with bundled(_found(source), "main") as made:
        return common.milliseconds(made.search)


def _found(target: Path) -> Repository:
    return find(str(target), Runner())


def _bundle(source: Path, base: str) -> None:
    with bundled(_found(source), "main", base):
        pass


def _fetch(target: Path, bundle: str) -> None:
    _git("fetch", "-q", bundle, f"refs/heads/tip:refs/parler/{_ID}", cwd=target)


def _in_target(folder: Path, source: Path, has: str, act: Callable[[Path], object]) -> float:
    """How long something takes in a repository that has `has` and what led to it, or nothing."""
    target = folder / "target"
    _git("init", "-q", "--bare", str(target), cwd=folder)
    if has:
        _git("fetch", "-q", str(source), f"{has}:refs/heads/base", cwd=target)
    took = common.milliseconds(lambda: act(target))
    assert _git("rev-list", "--count", f"refs/parler/{_ID}", cwd=target) > "1"
    shutil.rmtree(target)
    return took


def _history(commits: int) -> bytes:
    """A stream for fast-import: so many commits, each of which changes one of 500 files of some 2 kB."""
    lines: list[bytes] = []
    for number in range(commits):
        text = b"".join(b"line %d of version %d: %x\n" % (n, number, hash((n, number)) & 2**64 - 1) for n in range(50))
        lines.append(b"commit refs/heads/main\ncommitter Ann <ann@example.org> %d +0000\n" % (1_700_000_000 + number))
        lines.append(b"data 10\nchange %3d\nM 644 inline d%d/f%d\n" % (number % 1000, number % 20, number % 500))
        lines.append(b"data %d\n%s\n" % (len(text), text))
    return b"".join(lines)


def _git(*args: str, cwd: Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *args], cwd=cwd, env=_ENV, input=stdin, capture_output=True, check=True)
    return done.stdout.decode().strip()


# -- files -------------------------------------------------------------------------------------------------


def _measure_file(report: common.Report, folder: Path, megabytes: int, runs: int, place: Path | None) -> None:
    file = folder / "file"
    with common.empty_home(place) as made:
        made.home.settings.write_text(
            "[approval]\ndefault = false\n[quota]\nagent_blob_bytes = 0\n[blob]\nmax_bytes = 0\ntotal_bytes = 0\n"
        )
        common.start(made)
        room = common.room_of(made, "ann")
        with connect(made.home, as_name="ann") as client, open(os.devnull, "w", encoding="utf-8") as nowhere:
            ctx = Context(Output(nowhere, nowhere), made.home, {}, cast(Any, lambda *_, **__: client), as_name="ann")
            before, most = common.memory(client.daemon_pid), 0.0
            up: list[float] = []
            down: list[float] = []
            plain: list[float] = []
            for _ in range(runs):
                file.write_bytes(os.urandom(1024 * 1024) * megabytes)
                with open(file, "r+b") as changed:
                    changed.write(os.urandom(64))
                plain.append(common.milliseconds(lambda: _copy_and_sum(file, folder / "copy")))
                up.append(common.milliseconds(lambda: upload(ctx, str(file), room, "file")))
                most = max(most, common.memory(client.daemon_pid)["resident"] - before["resident"])
                found = _shared(ctx, file, room)
                target = folder / "back"
                down.append(common.milliseconds(lambda: download_to(ctx, found, str(target), force=True)))  # noqa: B023
                assert target.stat().st_size == file.stat().st_size
                for path in (target, folder / "copy"):
                    path.unlink()
        _compared(report, f"{megabytes} MiB to the daemon, in cp and sha256sum", up, plain, FILE_FLOOR)
        _compared(report, f"{megabytes} MiB from the daemon, in cp and sha256sum", down, plain, FILE_FLOOR)
        report.add(common.Figure("memory that the daemon grew by meanwhile", "MB", round(most, 1), runs))


def _copy_and_sum(file: Path, copy: Path) -> None:
    subprocess.run(["cp", file, copy], check=True)
    subprocess.run(["sha256sum", copy], check=True, stdout=subprocess.DEVNULL)


def _shared(ctx: Context, file: Path, room: str) -> t.FoundBlob:
    uploaded = upload(ctx, str(file), room, "file")
    params = t.ShareBlob(blob=uploaded.blob, size=uploaded.size, room=room, name="file")
    ctx.call("blob.share", params, t.SharedBlob)
    return ctx.call("blob.find", t.FindBlob(blob=uploaded.blob, room=room), t.FoundBlob)


def _compared(report: common.Report, figure: str, ours: list[float], plain: list[float], floor: float | None) -> None:
    """Each run beside the typical run of the yardstick: single runs of two programs vary on their own."""
    typical = median(plain)
    report.add(common.spread(figure, "x", [each / typical for each in ours], floor=floor))
    report.add(common.spread(f"{figure.split(', in ')[0]}: {figure.split(', in ')[1]} itself", "ms", plain))


if __name__ == "__main__":
    main()
