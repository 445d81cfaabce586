"""The checklist of a release, as a program: `python -m configs.package.release OUT`.

    looks     the tree is committed; version, changelog and contract are those of a release
    builds    every package, twice, and compares the bytes
    runs      with --runs: the checks, the real hosts and the benchmarks; what they found is attached

Each step is a line: done, or what is missing and what to do. What was built and found is put into OUT, with
`RELEASE.md` that says all of it. Not here: making the packages (`__main__`), and publishing them, which a person does.
Invariant: the exit code is 0 only if every step held, and a run that was left out is a step that did not.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs.package import bom, wheels
from configs.package.__main__ import make
from configs.package.about import ROOT, About, about

RUN_S: Final = 3600.0
"""For the checks, the hosts or one benchmark."""
_BENCHMARK: Final = re.compile(r"^    python -m benchmarks\.(\w+) ", re.MULTILINE)
_CONTRACTS: Final = "parlerd/web/contracts"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the list. `fix` says what to do; it is empty when the step held."""

    name: str
    said: str
    fix: str = ""


Run = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]


def run(words: Sequence[str], root: Path) -> subprocess.CompletedProcess[str]:
    """A program in the checkout, and what it printed. One that takes longer than `RUN_S` is ended, with status 124."""
    command = ["timeout", str(RUN_S), *words]
    return subprocess.run(
        command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


def looked_at(root: Path, found: About) -> list[Step]:
    """What the sources and their history say."""
    last = _git(root, "describe", "--tags", "--abbrev=0", "--match", "v*")
    return [_tree(root), _version(found, last), _changelog(root, found), _contracts(root, found, last)]


def section(root: Path, version: str) -> str:
    """What the changelog says of a version; nothing when that is not the newest."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return first[2].strip() if first is not None and first[1] == version else ""


def benchmarks(root: Path) -> list[str]:
    """The commands that print a figure."""
    return _BENCHMARK.findall((root / "benchmarks" / "README.md").read_text(encoding="utf-8"))


def _tree(root: Path) -> Step:
    if left := _git(root, "status", "--porcelain"):
        return Step(
            "tree", "there are changes that are not committed", f"Commit them: {left.splitlines()[0].strip()}, ..."
        )
    return Step("tree", f"everything is committed, at {_git(root, 'rev-parse', '--short', 'HEAD')}")


def _version(found: About, last: str) -> Step:
    if not re.fullmatch(r"\d+\.\d+\.\d+", found.version):
        return Step("version", f"{found.version} is not three numbers", "Write it in parlerd/__init__.py.")
    if last and _numbers(last) >= _numbers(found.version):
        return Step("version", f"{found.version} is not after {last}", "Raise it in parlerd/__init__.py.")
    return Step("version", f"{found.version}, after {last or 'none'}")


def _changelog(root: Path, found: About) -> Step:
    said = section(root, found.version)
    if not said:
        return Step(
            "changelog", f"it does not begin with {found.version}", f"Write `## {found.version}` and what changed."
        )
    return Step("changelog", f"{said.count(chr(10) + '- ') + said.startswith('- ')} entries for {found.version}")


def _contracts(root: Path, found: About, last: str) -> Step:
    file = root / _CONTRACTS / f"{found.contract}.json"
    if not file.exists():
        return Step("contract", f"{file.name} is not there", "Make it: python -m parlerd.web.describing")
    released = _git(root, "ls-tree", "-r", "--name-only", last, "--", _CONTRACTS).split() if last else []
    changed = [name for name in released if _git(root, "diff", "--name-only", last, "--", name)]
    if changed:
        fix = "Give it back its text, and give what changed a new date in parlerd/operations/contracts.py."
        return Step("contract", f"{Path(changed[0]).name} was released with {last} and is another one now", fix)
    frozen = root / _CONTRACTS / "frozen.txt"
    if not frozen.exists() or found.contract not in frozen.read_text(encoding="utf-8"):
        return Step("contract", f"{file.name} is not frozen", "Freeze it: python -m parlerd.web.describing --freeze")
    return Step("contract", f"of {found.contract}; {len(released)} were released before and are as they were")


def built(out: Path) -> Step:
    """Every package, twice."""
    try:
        make(out / "packages")
        make(out / "again")
    except (wheels.NotBuilt, bom.Mismatch, OSError) as error:
        return Step("packages", str(error), "Mend what is named, take the folder away, and run this again.")
    first, second = ((out / name / "SHA256SUMS").read_text(encoding="utf-8") for name in ("packages", "again"))
    if first != second:
        return Step("packages", "two builds differ", f"Compare {out}/packages/SHA256SUMS with {out}/again/SHA256SUMS.")
    return Step("packages", f"{len(first.splitlines())} files, the same in two builds")


def tried(out: Path, root: Path, names: Sequence[str], go: Run = run) -> Iterator[Step]:
    """The checks, the hosts and the benchmarks, one after the other, with what they found in files of `out`."""
    python = sys.executable
    record = out / "hosts.json"
    # The tests with hosts have a run of their own, which keeps a record.
    checks = go(["env", "PARLER_HOSTS=0", "sh", "./check"], root)
    (out / "checks.txt").write_text(checks.stdout + checks.stderr, encoding="utf-8")
    yield Step("checks", _last(checks.stdout), "" if checks.returncode == 0 else f"Read {out}/checks.txt.")
    hosts = go(["env", f"PARLER_HOSTS_RECORD={record}", python, "-m", "pytest", "-q", "tests/e2e/hosts"], root)
    (out / "hosts.txt").write_text(hosts.stdout + hosts.stderr, encoding="utf-8")
    done = hosts.returncode == 0 and record.exists()
    yield Step("hosts", _last(hosts.stdout), "" if done else f"Read {out}/hosts.txt.")
    for name in names:
        ran = go([python, "-m", f"benchmarks.{name}"], root)
        if ran.returncode:
            yield Step(f"benchmark {name}", "it failed", f"Run it alone: python -m benchmarks.{name}")
            continue
        (out / f"benchmark-{name}.json").write_text(ran.stdout, encoding="utf-8")
        yield Step(f"benchmark {name}", "; ".join(_figures(json.loads(ran.stdout))))


def left_out() -> list[Step]:
    """The steps that somebody left out."""
    return [Step("runs", "the checks, the hosts and the benchmarks were not run", "Run this again with --runs.")]


def paper(found: About, changes: str, steps: Sequence[Step]) -> str:
    """`RELEASE.md`."""
    lines = [
        f"# Parler {found.version}",
        "",
        f"HTTP contract of {found.contract}.",
        "",
        "## Checklist",
        "",
        *(
            f"- [{' ' if step.fix else 'x'}] {step.name}: {step.said}{f'. {step.fix}' if step.fix else ''}"
            for step in steps
        ),
        "",
        "## Changes",
        "",
        changes,
        "",
        "## To publish",
        "",
        f"1. `git tag v{found.version}`, and push the tag.",
        f"2. `uv publish packages/{found.name}-{found.version}*`",
        "3. `mcp-publisher publish packages/server.json`, after the package is on the index.",
        f"4. Attach `packages/parler-plugin-{found.version}.zip`, `packages/parler-{found.version}.mcpb`,",
        "   `packages/debian.tar.gz`, `packages/SHA256SUMS`, `hosts.json` and the benchmarks to the release.",
        "5. Copy `packages/homebrew` into the tap, and `packages/plugin` into the repository that marketplaces read.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m configs.package.release", description="The checklist of a release."
    )
    parser.add_argument("out", type=Path, help="a new folder for what is built and found")
    parser.add_argument("--runs", action="store_true", help="also run the checks, the hosts and the benchmarks")
    parser.add_argument("--benchmark", action="append", metavar="NAME", help="only this one (default: all)")
    args = parser.parse_args(argv)
    found, out = about(), args.out.resolve()
    names = benchmarks(ROOT)
    if unknown := set(args.benchmark or ()) - set(names):
        parser.error(f"there is no benchmark {sorted(unknown)[0]}; there are {', '.join(names)}")
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        parser.error(f"{out} is there already; name a new folder")
    steps = []
    for step in every_step(out, found, (args.benchmark or names) if args.runs else None):
        steps.append(step)
        print(f"{'no' if step.fix else 'ok'}  {step.name}: {step.said}" + (f"\n      {step.fix}" if step.fix else ""))
        sys.stdout.flush()
    (out / "RELEASE.md").write_text(paper(found, section(ROOT, found.version), steps), encoding="utf-8")
    print(f"All of it is in {out}/RELEASE.md")
    return int(any(step.fix for step in steps))


def every_step(out: Path, found: About, names: Sequence[str] | None) -> Iterator[Step]:
    """The whole list, a step as soon as it is done; without `names` of benchmarks the runs are left out."""
    yield from looked_at(ROOT, found)
    print("..  packages: all are built, twice", flush=True)
    yield built(out)
    if names is None:
        yield from left_out()
        return
    print("..  runs: the checks take half an hour, the hosts ten minutes, a benchmark up to some minutes", flush=True)
    yield from tried(out, ROOT, names)


def _git(root: Path, *words: str) -> str:
    ran = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _numbers(version: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", version)]


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip("= ") if lines else "it printed nothing"


def _figures(report: Any) -> list[str]:
    return [f"{each['figure']}: {each['median']:.4g} {each['unit']}" for each in report.get("figures", [])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
