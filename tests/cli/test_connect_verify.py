"""`parler connect --verify`: who has dialled in, who has not and why, with a clock that moves when somebody sleeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.drift import Drift
from configs.hosts import find_host
from configs.outcome import Outcome
from parlerd.cli.connect_verify import ASK_S
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.bench import BEGUN_MS, Bench
from tests.support.fake_client import FakeDaemon


def outcome(id: str, status: str = "added", *, detected: bool = True) -> Outcome:
    return Outcome(host=find_host(id), detected=detected, path=Path(f"/h/{id}"), status=status)


@pytest.fixture
def bench(tmp_path: Path, drifts: list[Drift]) -> Bench:
    return Bench(tmp_path)


def test_the_wait_ends_when_the_last_host_has_dialled_in(bench: Bench) -> None:
    bench.dials("codex", after=1)
    bench.dials("gemini", after=4)
    seen = bench.wait(outcome("codex"), outcome("gemini", "updated"))
    assert {id: one.at for id, one in seen.items()} == {"codex": BEGUN_MS + 1000, "gemini": BEGUN_MS + 4000}
    assert bench.clock == pytest.approx(4, abs=ASK_S)
    told = bench.stdout.getvalue()
    assert told.count("Codex: dialled in at") == 1
    assert "Every one dialled in." in told
    assert told.splitlines()[-1].startswith("Open a Parler session")


def test_one_that_never_comes_is_named_with_why_and_what_to_do(bench: Bench) -> None:
    bench.dials("codex", after=1)
    seen = bench.wait(outcome("codex"), outcome("cursor"), outcome("gemini"))
    assert [one.seen for one in seen.values()] == [True, False, False]
    assert bench.clock == pytest.approx(10)
    told = bench.stdout.getvalue()
    unseen = "Cursor has not been started since this wait began, as far as Parler can see."
    assert f"Cursor was not seen. {unseen} {find_host('cursor').after}" in told
    assert "GEMINI_CLI_TRUST_WORKSPACE" in seen["gemini"].why
    assert "trustedFolders.json" in seen["gemini"].why
    assert told.splitlines()[-1] == "parler connect --verify"


@pytest.mark.parametrize("kind", ["lost", "changed", "disabled", "missing_file"])
def test_what_is_wrong_with_its_file_is_the_likelier_reason(bench: Bench, drifts: list[Drift], kind: Any) -> None:
    codex = find_host("codex")
    drifts.append(Drift(host=codex, path=Path("/h/codex"), kind=kind, sentence="Its entry is not as written.", fix="x"))
    seen = bench.wait(outcome("codex"))
    assert seen["codex"].why == "Its entry is not as written."


def test_hosts_that_are_not_here_or_could_not_be_connected_are_not_waited_for(bench: Bench) -> None:
    assert bench.wait(outcome("codex", "failed"), outcome("cursor", "skipped", detected=False)) == {}
    assert bench.daemon.asked == []
    assert bench.clock == 0


def test_a_window_from_before_counts_only_while_it_is_open_and_its_entry_is_the_same(
    tmp_path: Path, drifts: list[Drift]
) -> None:
    def seen(status: str, windows: int) -> bool:
        bench = Bench(tmp_path)
        bench.dials("codex", after=-60, windows=windows)
        return bench.wait(outcome("codex", status))["codex"].seen

    assert seen("unchanged", 1)
    assert not seen("unchanged", 0)
    assert not seen("updated", 1)


def test_a_health_check_that_is_gone_again_counts(bench: Bench) -> None:
    bench.dials("codex", after=2, windows=0)
    assert bench.wait(outcome("codex"))["codex"].seen


def test_a_host_with_several_files_is_waited_for_once_and_must_come_after_any_of_them_changed(bench: Bench) -> None:
    bench.dials("vscode", after=-60)
    seen = bench.wait(outcome("vscode", "unchanged"), outcome("vscode", "added"))
    assert list(seen) == ["vscode"]
    assert not seen["vscode"].seen


def test_a_time_of_nothing_asks_once(bench: Bench) -> None:
    bench.wait(outcome("codex"), seconds=0)
    assert bench.daemon.ops() == ["hosts.seen"]


def test_a_daemon_that_restarts_meanwhile_is_asked_again(bench: Bench) -> None:
    daemon = FakeDaemon()
    lost: list[t.Result | ParlerError | Callable[[t.Params], t.Result]] = [ParlerError("connection_lost")] * 2
    daemon.answers("hosts.seen", *lost, bench.seen)
    bench.ctx.open_client = daemon.connect
    bench.dials("codex", after=0)
    assert bench.wait(outcome("codex"))["codex"].seen
    assert daemon.closed >= 1


def test_a_daemon_that_refuses_is_an_error(bench: Bench) -> None:
    bench.daemon = FakeDaemon().answers("hosts.seen", ParlerError("unknown_operation"))
    bench.ctx.open_client = bench.daemon.connect
    with pytest.raises(ParlerError):
        bench.wait(outcome("codex"))


def test_on_a_terminal_a_table_shows_who_is_still_waited_for(tmp_path: Path, drifts: list[Drift]) -> None:
    bench = Bench(tmp_path, terminal=True)
    bench.dials("codex", after=1)
    bench.wait(outcome("codex"), outcome("cursor"))
    told = bench.stdout.getvalue()
    assert "waiting" in told
    assert "dialled in" in told
    assert "10 s left" in told


def test_with_json_nothing_is_printed_before_the_document(tmp_path: Path, drifts: list[Drift]) -> None:
    bench = Bench(tmp_path, json=True)
    bench.dials("codex", after=1)
    bench.wait(outcome("codex"))
    assert bench.stdout.getvalue() == ""
