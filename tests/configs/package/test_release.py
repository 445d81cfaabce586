"""The checklist of a release: each step holds where it should, and says what is missing where it does not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from configs.package import release
from configs.package.about import ROOT, About, about

Change = Callable[[Path], object]
CONTRACT = about().contract


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sources of which version 0.1.0 was released, and 0.2.0 is to be."""
    root = tmp_path / "root"
    contracts = root / "parlerd" / "web" / "contracts"
    contracts.mkdir(parents=True)
    (contracts / f"{CONTRACT}.json").write_text("{}")
    (contracts / "frozen.txt").write_text(f"{CONTRACT}  0\n2027-01-01  0\n")
    (contracts / "2026-01-01.json").write_text("{}")
    (root / "CHANGELOG.md").write_text("# Changes\n\n## 0.1.0\n\n- First.\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    git(root, "tag", "v0.1.0")
    (root / "CHANGELOG.md").write_text("# Changes\n\n## 0.2.0\n\n- New.\n- Better.\n\n## 0.1.0\n\n- First.\n")
    git(root, "commit", "-qam", "two")
    return root


def wrong(root: Path, found: About) -> list[str]:
    """The names of the steps that do not hold."""
    steps = release.looked_at(root, found)
    assert [step.name for step in steps] == ["tree", "version", "changelog", "contract"]
    return [step.name for step in steps if step.fix]


NEXT = replace(about(), version="0.2.0")


def test_sources_that_are_ready_pass_every_step(root: Path) -> None:
    assert wrong(root, NEXT) == []
    assert release.section(root, "0.2.0") == "- New.\n- Better."
    assert release.looked_at(root, NEXT)[2].said == "2 entries for 0.2.0"


@pytest.mark.parametrize(
    ("version", "missing"), [("0.1.0", ["version", "changelog"]), ("0.2", ["version", "changelog"])]
)
def test_a_version_that_was_released_or_is_none_is_named(root: Path, version: str, missing: list[str]) -> None:
    assert wrong(root, replace(NEXT, version=version)) == missing


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda root: (root / "new").write_text("x"), "tree"),
        (lambda root: (root / "CHANGELOG.md").write_text("# Changes\n\n## 0.3.0\n\n- New.\n"), "changelog"),
        (lambda root: (root / "parlerd/web/contracts/2026-01-01.json").write_text('{"changed": 1}'), "contract"),
        (lambda root: (root / f"parlerd/web/contracts/{CONTRACT}.json").unlink(), "contract"),
        (lambda root: (root / "parlerd/web/contracts/frozen.txt").write_text(""), "contract"),
    ],
)
def test_what_is_missing_is_named(root: Path, change: Change, missing: str) -> None:
    change(root)
    assert missing in wrong(root, NEXT)
    if missing != "tree":
        git(root, "commit", "-qam", "three")
        assert wrong(root, NEXT) == [missing]


def test_a_change_of_a_contract_that_was_never_released_is_none(root: Path) -> None:
    (root / "parlerd/web/contracts/2027-01-01.json").write_text("{}")
    git(root, "add", ".")
    git(root, "commit", "-qm", "three")
    assert wrong(root, replace(NEXT, contract="2027-01-01")) == []


def test_the_benchmarks_are_those_of_the_page() -> None:
    names = release.benchmarks(ROOT)
    assert {"shim_start", "cli_oneshot"} <= set(names)
    assert all((ROOT / "benchmarks" / f"{name}.py").exists() for name in names)


def test_what_the_runs_found_is_attached_and_a_failure_is_a_step_that_did_not_hold(tmp_path: Path) -> None:
    ran: list[str] = []
    figures = {"figures": [{"figure": "a start", "median": 12.3456, "unit": "ms"}]}

    def go(words: Sequence[str], _root: Path) -> subprocess.CompletedProcess[str]:
        ran.append(" ".join(words))
        if "tests/e2e/hosts" in words:
            (tmp_path / "hosts.json").write_text("{}")
            return subprocess.CompletedProcess(words, 0, "== 9 passed ==\n", "")
        if words[-1] == "benchmarks.wake":
            return subprocess.CompletedProcess(words, 1, "", "it broke")
        if words[-1] == "benchmarks.hook":
            return subprocess.CompletedProcess(words, 0, json.dumps(figures), "")
        return subprocess.CompletedProcess(words, 1, "1 failed\n", "a test")

    steps = list(release.tried(tmp_path, ROOT, ["hook", "wake"], go))
    assert [(step.name, step.said, bool(step.fix)) for step in steps] == [
        ("checks", "1 failed", True),
        ("hosts", "9 passed", False),
        ("benchmark hook", "a start: 12.35 ms", False),
        ("benchmark wake", "it failed", True),
    ]
    assert (tmp_path / "checks.txt").read_text() == "1 failed\na test"
    assert json.loads((tmp_path / "benchmark-hook.json").read_text()) == figures
    assert ran[0].endswith("./check")


def test_a_program_that_hangs_is_ended_and_a_word_that_is_no_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "RUN_S", 0.1)
    ran = release.run(["sh", "-c", "printf '\\377'; sleep 60"], tmp_path)
    assert (ran.returncode, ran.stdout) == (124, "\ufffd")


@pytest.mark.parametrize(
    ("words", "said"), [((), "is there already"), (("--benchmark", "nothing"), "there is no benchmark nothing")]
)
def test_what_cannot_be_asked_for_is_a_sentence(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        release.main([str(tmp_path), *words])
    assert said in capsys.readouterr().err


def test_the_paper_has_the_list_the_changes_and_what_a_person_does_next() -> None:
    steps = [release.Step("tree", "clean"), *release.left_out()]
    text = release.paper(NEXT, "- New.", steps)
    assert "- [x] tree: clean\n" in text
    assert "- [ ] runs: the checks, the hosts and the benchmarks were not run. Run this again with --runs.\n" in text
    assert f"HTTP contract of {CONTRACT}." in text
    assert "`git tag v0.2.0`" in text
    assert "uv publish packages/parlerd-0.2.0*" in text


def test_a_release_whose_runs_were_left_out_is_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "release"
    assert release.main([str(out)]) == 1
    printed = capsys.readouterr().out
    assert "ok  packages: " in printed
    assert "no  runs: " in printed
    assert (out / "packages" / "SHA256SUMS").read_bytes() == (out / "again" / "SHA256SUMS").read_bytes()
    assert "## Checklist" in (out / "RELEASE.md").read_text()
