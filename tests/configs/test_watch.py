"""The watcher of hosts' settings files, under virtual time, over files that tests change by hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import trio

from configs.hosts import find_host
from configs.ledger import Ledger
from configs.watch import AGAIN_S, MAX_TRIES, QUIET_S, WITHIN_S, HostFiles, Watcher, file_changes
from parlerd.paths import Home
from tests.support.engine import run
from tests.support.hand_files import HandFiles
from tests.support.settings_files import record

T = TypeVar("T")


class HandChanges:
    """`Changes` by hand. `folders` are those that are watched now; `begun` counts the watches."""

    def __init__(self) -> None:
        self._watched: list[frozenset[Path]] = []
        self.begun = 0
        self.error: Exception | None = None
        self.armed: trio.Event | None = None
        self._send, self._receive = trio.open_memory_channel[set[Path]](10)

    async def __call__(self, folders: frozenset[Path]) -> AsyncGenerator[set[Path], None]:
        self.begun += 1
        if self.error:
            raise self.error
        self._watched.append(folders)
        try:
            if self.armed is not None:
                await self.armed.wait()
            yield set()
            while True:
                yield await self._receive.receive()
        finally:
            self._watched.remove(folders)

    @property
    def folders(self) -> frozenset[Path]:
        return frozenset().union(*self._watched)

    async def change(self, *paths: Path) -> None:
        await self._send.send(set(paths))


async def at_once(work: Callable[..., T], *given: Any, **_how: Any) -> T:
    """In place of a thread, which virtual time would not wait for."""
    await trio.lowlevel.checkpoint()
    return work(*given)


async def moment(seconds: float = QUIET_S * 2) -> None:
    """Let time pass: longer than the quiet after a change."""
    await trio.sleep(seconds)


Story = Callable[[HandFiles, HandChanges, Watcher], Awaitable[None]]


def play(directory: Path, story: Story, files: HandFiles | None = None) -> None:
    """Run a watcher over `files` beside `story`, under virtual time."""
    found = files or HandFiles(directory)

    async def main() -> None:
        changes = HandChanges()
        watcher = Watcher(found, changes, at_once)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            await moment()
            await story(found, changes, watcher)
            nursery.cancel_scope.cancel()

    run(main)


@pytest.fixture
def files(tmp_path: Path) -> HandFiles:
    found = HandFiles(tmp_path)
    found.connect("codex")
    return found


def test_beside_no_connected_host_nothing_is_watched_and_the_first_one_is_noticed(tmp_path: Path) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        assert changes.begun == 0
        files.connect("codex")
        await moment(60)
        assert changes.begun == 0
        watcher.look()
        await moment()
        assert changes.folders == {tmp_path / "codex", tmp_path}
        assert watcher.notice() == ""

    play(tmp_path, story)


def test_a_change_of_the_ledger_moves_the_watch_to_the_hosts_that_are_connected_then(
    tmp_path: Path, files: HandFiles
) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.connect("gemini")
        await changes.change(tmp_path / "ledger.json")
        await moment()
        assert changes.folders == {tmp_path / "codex", tmp_path / "gemini", tmp_path}
        files.connected.clear()
        await changes.change(tmp_path / "ledger.json")
        await moment()
        assert changes.folders == frozenset()

    play(tmp_path, story, files)


def test_a_lost_entry_is_noticed_after_a_moment_of_quiet_and_said_until_it_is_back(
    tmp_path: Path, files: HandFiles
) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.lost["codex"] = "lost"
        looks = files.looks
        await changes.change(files.connected["codex"])
        await trio.sleep(QUIET_S / 2)
        assert files.looks == looks
        await moment()
        assert files.looks == looks + 1
        assert "Codex lost Parler's entry" in watcher.notice()
        assert watcher.failures() == []
        assert files.put == []
        files.lost.clear()
        await changes.change(files.connected["codex"])
        await moment()
        assert watcher.notice() == ""

    play(tmp_path, story, files)


def test_what_else_changes_in_the_folder_is_not_looked_at(tmp_path: Path, files: HandFiles) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        looks = files.looks
        await changes.change(tmp_path / "codex" / "history.jsonl", tmp_path / "codex")
        await moment(60)
        assert files.looks == looks

    play(tmp_path, story, files)


@pytest.mark.parametrize("kind", ["lost", "missing_file"])
def test_with_keep_a_lost_entry_is_put_back(tmp_path: Path, files: HandFiles, kind: str) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping = {"codex"}
        files.lost["codex"] = kind
        await changes.change(files.connected["codex"])
        await moment()
        assert files.put == ["codex"]
        assert watcher.notice() == ""

    play(tmp_path, story, files)


@pytest.mark.parametrize("kind", ["changed", "disabled"])
def test_what_somebody_changed_or_disabled_is_left_as_it_is(tmp_path: Path, files: HandFiles, kind: str) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping = {"codex"}
        files.lost["codex"] = kind
        await changes.change(files.connected["codex"])
        await moment()
        assert files.put == []
        assert watcher.notice() == ""

    play(tmp_path, story, files)


def test_the_entry_of_another_host_is_not_kept(tmp_path: Path, files: HandFiles) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping = {"gemini"}
        files.lost["codex"] = "lost"
        await changes.change(files.connected["codex"])
        await moment()
        assert files.put == []

    play(tmp_path, story, files)


def test_a_host_that_keeps_rewriting_its_file_is_given_up_until_the_person_connects_again(
    tmp_path: Path, files: HandFiles
) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping, files.again = {"codex"}, True
        files.lost["codex"] = "lost"
        for _ in range(MAX_TRIES + 3):
            await changes.change(files.connected["codex"])
            await moment()
        assert files.put == ["codex"] * MAX_TRIES
        ((detail, fix),) = watcher.failures()
        assert "Codex rewrites" in detail
        assert fix.endswith("parler connect codex")
        assert "Codex" in watcher.notice()
        await moment(WITHIN_S)
        await changes.change(files.connected["codex"])
        await moment()
        assert len(files.put) == MAX_TRIES
        files.again = False
        watcher.look()
        await moment()
        assert len(files.put) == MAX_TRIES + 1
        assert watcher.failures() == []

    play(tmp_path, story, files)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("failed", "The file is read-only."), (ValueError("secret"), "our entry could not be put back into")],
)
def test_why_an_entry_could_not_be_put_back_is_said(
    tmp_path: Path, files: HandFiles, outcome: str | Exception, said: str
) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping, files.again, files.outcome = {"codex"}, True, outcome
        files.lost["codex"] = "lost"
        for _ in range(MAX_TRIES + 1):
            await changes.change(files.connected["codex"])
            await moment()
        ((detail, _fix),) = watcher.failures()
        assert detail.startswith(said)
        assert "secret" not in detail

    play(tmp_path, story, files)


def test_a_host_that_is_gone_itself_is_not_given_up_on(tmp_path: Path, files: HandFiles) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping, files.again, files.outcome = {"codex"}, True, "skipped"
        files.lost["codex"] = "missing_file"
        for _ in range(MAX_TRIES + 2):
            await changes.change(files.connected["codex"])
            await moment()
        assert len(files.put) == MAX_TRIES + 2
        assert watcher.failures() == []
        assert "Codex" in watcher.notice()

    play(tmp_path, story, files)


def test_an_entry_that_is_lost_now_and_then_is_put_back_every_time(tmp_path: Path, files: HandFiles) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.keeping = {"codex"}
        for _ in range(MAX_TRIES + 2):
            files.lost["codex"] = "lost"
            await changes.change(files.connected["codex"])
            await moment(WITHIN_S / 2)
        assert len(files.put) == MAX_TRIES + 2
        assert watcher.failures() == []

    play(tmp_path, story, files)


def test_everything_is_looked_at_once_an_hour_although_nothing_was_heard(tmp_path: Path, files: HandFiles) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.lost["codex"] = "lost"
        await moment(AGAIN_S / 2)
        assert watcher.notice() == ""
        await moment(AGAIN_S)
        assert "Codex" in watcher.notice()

    play(tmp_path, story, files)


@pytest.mark.parametrize("error", [OSError(28, "no watches left"), RuntimeError("internal")])
def test_a_watch_that_cannot_be_had_is_tried_again_every_hour(
    tmp_path: Path, files: HandFiles, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        changes = HandChanges()
        changes.error = error
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watcher(files, changes, at_once).run)
            await moment()
            assert changes.begun == 1
            changes.error = None
            await moment(AGAIN_S + 60)
            assert changes.begun == 2
            assert changes.folders
            nursery.cancel_scope.cancel()

    run(main)
    assert "are not watched" in caplog.text


def test_a_ledger_that_cannot_be_read_ends_nothing(
    tmp_path: Path, files: HandFiles, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.failing = ValueError("secret-of-a-neighbour")
        watcher.look()
        await moment()
        files.failing = None
        watcher.look()
        await moment()
        assert changes.folders

    play(tmp_path, story, files)
    assert "the ledger could not be read: ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_each_thing_is_logged_once_as_long_as_it_lasts(
    tmp_path: Path, files: HandFiles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="parlerd.hosts")

    async def story(files: HandFiles, changes: HandChanges, watcher: Watcher) -> None:
        files.lost["codex"] = "lost"
        files.here = [find_host("cursor")]
        for _ in range(3):
            watcher.look()
            await moment()

    play(tmp_path, story, files)
    assert caplog.text.count("the entry of codex: lost") == 1
    assert caplog.text.count("cursor is installed and not connected") == 1


def test_what_changes_between_the_start_of_a_watch_and_the_first_look_is_not_missed(
    tmp_path: Path, files: HandFiles
) -> None:
    async def main() -> None:
        changes = HandChanges()
        changes.armed = trio.Event()
        watcher = Watcher(files, changes, at_once)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            await moment()
            assert files.looks == 0
            files.lost["codex"] = "lost"
            changes.armed.set()
            await moment()
            assert "Codex" in watcher.notice()
            nursery.cancel_scope.cancel()

    run(main)


class HandNotify:
    """Stands in for the watch of watchfiles: two batches with a timeout between them, then nothing until its end."""

    made: ClassVar[list[HandNotify]] = []

    def __init__(self, folders: list[str], **how: Any) -> None:
        self.folders, self.how = folders, how
        self.stop: threading.Event | None = None
        self._batches: list[Any] = [{(1, "/h/a"), (2, "/h/b")}, "timeout", {(3, "/h/a")}]
        self.made.append(self)

    def watch(self, _debounce: int, _step: int, _timeout: int, stop: threading.Event) -> Any:
        self.stop = stop
        if self._batches:
            return self._batches.pop(0)
        stop.wait()
        return "stop"


def test_what_watchfiles_tells_is_passed_on_as_paths_and_its_thread_is_told_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("watchfiles._rust_notify.RustNotify", HandNotify)

    async def main() -> None:
        async with aclosing(file_changes(frozenset({Path("/h"), Path("/g")}))) as changes:
            told = [await anext(changes) for _ in range(3)]
            assert told == [set(), {Path("/h/a"), Path("/h/b")}, {Path("/h/a")}]
            with trio.move_on_after(0):
                await anext(changes)

    trio.run(main)
    (made,) = HandNotify.made
    assert made.stop is not None
    assert made.stop.is_set()
    assert made.folders == ["/g", "/h"]
    assert made.how["recursive"] is False


def test_whether_anything_is_connected_is_read_from_the_ledger_as_it_is_now(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    watcher = Watcher(HostFiles(home))
    assert not watcher.is_connected()
    ledger = Ledger(home)
    hook = record(ledger, "hook", "codex", tmp_path / "a", ("hooks",), {})
    assert not watcher.is_connected()
    entry = record(ledger, "entry", "codex", tmp_path / "a", ("mcp_servers", "parler"), {})
    assert watcher.is_connected()
    ledger.forget(entry)
    ledger.forget(hook)
    assert not watcher.is_connected()
    ledger.file.write_text("{")
    assert not watcher.is_connected()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"{}", b'{"entries": 3}', b'{"entries": [[]]}'])
def test_a_ledger_that_cannot_be_read_connects_nothing(tmp_path: Path, content: bytes) -> None:
    home = Home(tmp_path)
    home.connect.mkdir()
    (home.connect / "ledger.json").write_bytes(content)
    assert not HostFiles(home).is_connected()
