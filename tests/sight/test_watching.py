"""When records are listened to and read, and who is told what: virtual time and ears that hear what a test says."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from parlerd.core.records import Ending, Record, Test
from parlerd.core.sight import Found, expected, marker_of
from parlerd.sight import watching
from parlerd.sight.ears import Ears
from parlerd.sight.port import BEGIN_S, GONE_S, LIMIT_S, NOWHERE_S, Watch
from parlerd.sight.trail import Change, Trail
from parlerd.sight.watching import AGAIN_S, DEAF_S, IDLE_S, LOOK_S, MAX_PLACES, REST_S, WRITE_S, HostSight
from tests.sight.test_trail import NOISE, RECORD, REPLY

P = ParamSpec("P")


def virtually(story: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Play a test in virtual time."""

    @functools.wraps(story)
    def test(*given: P.args, **named: P.kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(100 * LIMIT_S):
                await story(*given, **named)

        trio.run(main, clock=MockClock(autojump_threshold=0))

    return test


async def at_once(work: Callable[..., Any], *arguments: Any, **how: Any) -> Any:
    del how
    await trio.lowlevel.checkpoint()
    return work(*arguments)


class HeardByHand:
    """`Ears` that hear what a test says."""

    def __init__(self, scene: Scene, folders: Sequence[str]) -> None:
        self.scene = scene
        self.folders = list(folders)
        self.is_open = True
        self.waits = 0

    async def changed(self) -> list[Change]:
        self.waits += 1
        try:
            while not self.scene.changes:
                await self.scene.heard.wait()
            return self.now()
        finally:
            self.waits -= 1

    def now(self) -> list[Change]:
        if self.scene.is_deaf:
            raise OSError("deaf")
        if self.scene.is_strange and self.scene.changes:
            self.scene.changes = []
            raise OSError("a name that is no text")
        told, self.scene.changes = self.scene.changes, []
        return told

    def close(self) -> None:
        self.is_open = False


class Scene:
    """A folder of records, somebody who is told, and messages with numbers."""

    def __init__(self, folder: Path, record: Record = RECORD) -> None:
        self.folder = folder
        self.changes: list[Change] = []
        self.heard = trio.Event()
        self.is_deaf = False
        self.is_strange = False
        """Whether each change is one that cannot be told."""
        self.ears: list[HeardByHand] = []
        self.found: list[Found] = []
        self.sight = HostSight(
            {"host": record}, lambda _, variables: Path(variables["AT"]), {"AT": str(folder)}, self.open_ears, at_once
        )

    def open_ears(self, folders: Sequence[str]) -> Ears:
        if self.is_deaf:
            raise OSError("no watches left")
        self.ears.append(HeardByHand(self, folders))
        return self.ears[-1]

    async def begin(self, variables: Mapping[str, str] | None = None) -> Watch:
        return await self.sight.begin("host", "1", variables or {}, "", self.found.append)

    async def append(self, name: str, *data: bytes) -> None:
        path = self.folder / name
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b"".join(data))
        self.tell(path, is_new)
        await wait_all_tasks_blocked()

    def tell(self, path: Path, added: bool) -> None:
        self.changes.append(Change(os.path.realpath(path.parent) + "/" + path.name, added))
        self.heard.set()
        self.heard = trio.Event()

    def listens(self) -> bool:
        return self.ears[-1].is_open

    @property
    def verdicts(self) -> list[tuple[int, str, str]]:
        return [(int(each.marker[5:], 16), each.verdict, each.reason) for each in self.found]


def text(number: int) -> str:
    return f"words\n{marker_of(number.to_bytes(8, 'big'))}"


def result(*numbers: int) -> bytes:
    return json.dumps({"type": "result", "text": "\n".join(map(text, numbers))}).encode() + b"\n"


def expects(watch: Watch, *numbers: int) -> None:
    watch.expect([expected(text(number)) for number in numbers])


@asynccontextmanager
async def running(folder: Path, record: Record = RECORD) -> AsyncIterator[Scene]:
    scene = Scene(folder, record)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.sight.run)
        yield scene
        nursery.cancel_scope.cancel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "records"
    found.mkdir()
    return found.resolve()


KEEPS: Final = msgspec.structs.replace(
    RECORD,
    endings=(
        *RECORD.endings,
        Ending(name="stop", has=(Test("type", ("stop",)),), verdict="not_shown", reason="failed_request", then="stays"),
    ),
)
STOP: Final = b'{"type":"stop"}\n'
END: Final = b'{"type":"end"}\n'
DENIED: Final = (1, "not_shown", "failed_request")


# -- verdicts --------------------------------------------------------------------------------------------------


@virtually
async def test_what_was_shown_is_told_once(folder: Path) -> None:
    async with running(folder) as scene:
        (folder / "a.jsonl").write_bytes(NOISE)
        expects(await scene.begin(), 1, 2)
        await scene.append("a.jsonl", result(1, 2))
        assert scene.verdicts == []
        await scene.append("a.jsonl", REPLY)
        assert scene.verdicts == [(1, "shown", "reply"), (2, "shown", "reply")]
        await scene.append("a.jsonl", result(1, 2), REPLY)
        await trio.sleep(LIMIT_S * 2)
        assert len(scene.found) == 2


@virtually
async def test_what_nothing_proves_is_unknown_after_the_limit(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1))
        await trio.sleep(LIMIT_S - 1)
        expects(await scene.begin(), 2)
        await scene.append("b.jsonl", result(2))
        assert scene.verdicts == []
        await trio.sleep(2)
        assert scene.verdicts == [(1, "unknown", "timeout")]
        await trio.sleep(LIMIT_S)
        assert scene.verdicts == [(1, "unknown", "timeout"), (2, "unknown", "timeout")]


@virtually
async def test_what_a_host_writes_nowhere_is_unknown_until_it_stands_somewhere(folder: Path) -> None:
    async with running(folder, KEEPS) as scene:
        for number in (1, 2, 3, 4):
            expects(await scene.begin(), number)
        await scene.append("a.jsonl", result(4))
        await trio.sleep(NOWHERE_S - 1)
        assert scene.verdicts == []
        await trio.sleep(LOOK_S + 2)
        assert scene.verdicts == [(number, "unknown", "no_record") for number in (1, 2, 3)]
        await scene.append("a.jsonl", result(1), REPLY)
        assert sorted(scene.verdicts[3:]) == [(1, "shown", "reply"), (4, "shown", "reply")]
        await scene.append("a.jsonl", result(2), STOP)
        assert scene.verdicts[5:] == [(2, "not_shown", "failed_request")]
        await scene.append("a.jsonl", REPLY)
        assert scene.verdicts[6:] == [(2, "shown", "reply")]
        await scene.append("a.jsonl", result(3), b"{\n")
        await trio.sleep(LIMIT_S)
        assert len(scene.found) == 7, "nothing that is told makes an unknown message more unknown"


@virtually
async def test_what_a_host_that_ended_wrote_nowhere_is_unknown_soon(folder: Path) -> None:
    async with running(folder) as scene:
        for number in (1, 2, 3):
            watch = await scene.begin()
            watch.ended()  # nothing was written to it yet
            expects(watch, number)
            if number != 3:
                watch.ended()
                watch.ended()
        await scene.append("p/a.jsonl", result(2))
        await trio.sleep(GONE_S - 1)
        assert scene.verdicts == []
        await trio.sleep(LOOK_S + 2)
        assert scene.verdicts == [(1, "unknown", "no_record")]
        await scene.append("p/a.jsonl", REPLY, result(3), REPLY)
        assert scene.verdicts[1:] == [(2, "shown", "reply"), (3, "shown", "reply")]


@virtually
async def test_what_the_host_wrote_before_expect_was_called_counts(folder: Path) -> None:
    async with running(folder) as scene:
        watch = await scene.begin()
        await scene.append("a.jsonl", result(1), REPLY)
        expects(watch, 1)
        await wait_all_tasks_blocked()
        assert scene.verdicts == [(1, "shown", "reply")]


@virtually
async def test_what_the_host_wrote_before_begin_does_not_count(folder: Path) -> None:
    async with running(folder) as scene:
        (await scene.begin()).drop()
        await scene.append("a.jsonl", result(1))
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", REPLY)
        assert scene.verdicts == []


@virtually
async def test_an_answer_that_is_being_written_is_not_read_past_for_one_that_waits(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        await wait_all_tasks_blocked()
        second = await scene.begin()
        # The host is quicker than whoever says that the answer was written.
        await scene.append("a.jsonl", result(1), REPLY, result(2), REPLY)
        assert scene.verdicts == []
        expects(second, 2)
        await wait_all_tasks_blocked()
        assert sorted(scene.verdicts) == [(1, "shown", "reply"), (2, "shown", "reply")]


@virtually
async def test_an_answer_that_takes_too_long_to_write_holds_up_no_other(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        second = await scene.begin()
        await scene.append("a.jsonl", result(1), REPLY, result(2), REPLY)
        await trio.sleep(WRITE_S + 0.1)
        assert scene.verdicts == [(1, "shown", "reply")]
        expects(second, 2)
        assert scene.verdicts[1:] == [(2, "unknown", "unwatched")]


@pytest.mark.parametrize("when", ["before", "after", "twice"])
@virtually
async def test_what_was_dropped_is_told_to_nobody(folder: Path, when: str) -> None:
    async with running(folder) as scene:
        watch = await scene.begin()
        if when != "before":
            expects(watch, 1)
            await wait_all_tasks_blocked()
        for _ in range(2 if when == "twice" else 1):
            watch.drop()
        if when == "before":
            expects(watch, 1)
        await scene.append("a.jsonl", result(1), REPLY)
        await trio.sleep(LIMIT_S * 2)
        assert scene.found == []


@virtually
async def test_what_nobody_heard_of_is_found_in_a_file_in_which_something_stands(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1))
        with (folder / "a.jsonl").open("ab") as file:
            file.write(REPLY)
        await trio.sleep(LOOK_S + 0.1)
        assert scene.verdicts == [(1, "shown", "reply")]


@virtually
async def test_an_answer_without_messages_waits_for_nothing(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin())
        await trio.sleep(LIMIT_S * 2)
        assert scene.found == []


@virtually
async def test_no_more_waits_than_the_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_ANSWERS", 3)
    monkeypatch.setattr(watching, "MAX_MARKERS", 5)
    async with running(folder) as scene:
        for number in range(4):
            expects(await scene.begin(), number)
        assert scene.verdicts == [(0, "unknown", "too_many")]
        expects(await scene.begin(), 4, 5, 6, 7)
        assert scene.verdicts == [(number, "unknown", "too_many") for number in range(3)]
        await scene.append("a.jsonl", result(3, 4, 5, 6, 7), REPLY)
        assert [verdict for _, verdict, _ in scene.verdicts[3:]] == ["shown"] * 5


@virtually
async def test_a_reply_to_a_later_request_takes_back_that_something_was_not_shown(folder: Path) -> None:
    async with running(folder, KEEPS) as scene:
        watch = await scene.begin()
        expects(watch, 1)
        await scene.append("a.jsonl", result(1), STOP)
        assert scene.verdicts == [DENIED]
        watch.ended()  # the host is gone, and the conversation may be gone on with
        await trio.sleep(LIMIT_S / 2)
        await scene.append("a.jsonl", STOP)
        assert scene.verdicts == [DENIED]
        await scene.append("a.jsonl", REPLY)
        assert scene.verdicts == [DENIED, (1, "shown", "reply")]
        await scene.append("a.jsonl", result(1), STOP, REPLY)
        await trio.sleep(LIMIT_S * 2)
        assert len(scene.found) == 2


@virtually
async def test_what_one_look_denies_and_proves_is_told_as_proved(folder: Path) -> None:
    async with running(folder, KEEPS) as scene:
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1), STOP, REPLY)
        assert scene.verdicts == [(1, "shown", "reply")]


@pytest.mark.parametrize("end", [END, b'{"type":"nobody measured this"}\n', b"{\n"], ids=str)
@pytest.mark.parametrize("at_once", [True, False])
@virtually
async def test_what_ends_the_wait_after_that_leaves_it_as_it_was_said(folder: Path, end: bytes, at_once: bool) -> None:
    async with running(folder, KEEPS) as scene:
        expects(await scene.begin(), 1)
        if at_once:
            await scene.append("a.jsonl", result(1), STOP, end)
        else:
            await scene.append("a.jsonl", result(1), STOP)
            await scene.append("a.jsonl", end)
        assert [(verdict, reason) for _, verdict, reason in scene.verdicts] == [("not_shown", "failed_request")]
        await scene.append("a.jsonl", REPLY)
        await trio.sleep(LIMIT_S * 2)
        assert len(scene.found) == 1


@virtually
async def test_what_was_not_shown_is_watched_no_longer_than_anything_else(folder: Path) -> None:
    async with running(folder, KEEPS) as scene:
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1), STOP)
        await trio.sleep(LIMIT_S + 1)
        await scene.append("a.jsonl", REPLY)
        assert scene.verdicts == [DENIED]
        await trio.sleep(REST_S + IDLE_S)
        assert not scene.listens()


def part(scene_watch: Watch, number: int, *, after: int = 0, goes_on: bool = False) -> None:
    """The answer holds the part of a message that has this number, behind the one that is `after`."""
    before = text(after).split()[-1] if after else ""
    scene_watch.expect([expected(text(number), after=before, goes_on=goes_on)])


@pytest.mark.parametrize("at_once", [True, False])
@virtually
async def test_a_message_in_parts_is_whole_or_what_took_a_part_out_is_told(folder: Path, at_once: bool) -> None:
    async with running(folder, KEEPS) as scene:
        for name, between, said in (("a", b"", []), ("b", END, [(1, "not_shown", "cancelled")])):
            scene.found.clear()
            part(await scene.begin(), 1, goes_on=True)
            await scene.append(f"{name}.jsonl", result(1), REPLY)
            assert scene.verdicts == [(1, "shown", "reply")]
            # Nobody is told again at each look.
            await scene.append(f"{name}.jsonl", REPLY, STOP)
            await trio.sleep(3 * LOOK_S)
            assert scene.verdicts == [(1, "shown", "reply")]
            part(await scene.begin(), 2, after=1)
            if at_once:
                await scene.append(f"{name}.jsonl", between, result(2), REPLY, END)
            else:
                for data in (between, result(2), REPLY, END):
                    await scene.append(f"{name}.jsonl", data)
            last = (2, "unknown", "apart") if said else (2, "shown", "reply")
            assert scene.verdicts[1:] == [*said, last]
        await trio.sleep(LIMIT_S + REST_S + IDLE_S + 1)
        assert not scene.listens(), "what has its verdict is not watched"


@virtually
async def test_a_part_is_watched_no_longer_than_anything_else(folder: Path) -> None:
    async with running(folder, KEEPS) as scene:
        part(await scene.begin(), 1, goes_on=True)
        await scene.append("a.jsonl", result(1), REPLY)
        await trio.sleep(LIMIT_S - 1)
        part(await scene.begin(), 2, after=1)
        await trio.sleep(2)
        await scene.append("a.jsonl", result(2), REPLY)
        assert scene.verdicts == [(1, "shown", "reply"), (2, "unknown", "apart")]
        await trio.sleep(LIMIT_S + REST_S + IDLE_S + 1)
        assert len(scene.found) == 2
        assert not scene.listens()


@virtually
async def test_a_part_that_one_look_proves_and_takes_out_is_told_as_taken_out(folder: Path) -> None:
    async with running(folder, KEEPS) as scene:
        part(await scene.begin(), 1, goes_on=True)
        await scene.append("a.jsonl", result(1), REPLY, END)
        assert scene.verdicts == [(1, "not_shown", "cancelled")]


@virtually
async def test_parts_in_two_files_are_no_whole_message(folder: Path) -> None:
    async with running(folder) as scene:
        part(await scene.begin(), 1, goes_on=True)
        await scene.append("a.jsonl", result(1), REPLY)
        part(await scene.begin(), 2, after=1)
        await scene.append("b.jsonl", result(2), REPLY)
        assert scene.verdicts == [(1, "shown", "reply"), (2, "unknown", "apart")]


@virtually
async def test_where_too_much_waits_what_has_a_verdict_is_given_up_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_ANSWERS", 2)
    async with running(folder, KEEPS) as scene:
        expects(await scene.begin(), 2)
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1), STOP)
        assert scene.verdicts == [DENIED]
        expects(await scene.begin(), 3)
        assert scene.verdicts == [DENIED]
        await scene.append("a.jsonl", result(2, 3), REPLY)
        assert sorted(scene.verdicts[1:]) == [(2, "shown", "reply"), (3, "shown", "reply")]


@virtually
async def test_with_a_variable_that_makes_the_record_worthless_nothing_is_proved(folder: Path) -> None:
    record = msgspec.structs.replace(RECORD, blinded_by=("CUTS_LATER",))
    assert "CUTS_LATER" in record.variables
    async with running(folder, record) as scene:
        expects(await scene.sight.begin("host", "1", {"CUTS_LATER": "3000"}, "", scene.found.append), 1)
        assert scene.verdicts == [(1, "unknown", "too_long")]


# -- why nothing can be seen -----------------------------------------------------------------------------------


@virtually
async def test_of_a_host_that_tells_nobody_its_release_nothing_is_proved_in_whatever_release(folder: Path) -> None:
    async with running(folder, msgspec.structs.replace(RECORD, anonymous=True)) as scene:
        assert scene.sight.offers("host", "1") == "version"
        expects(await scene.begin(), 1)
        assert scene.verdicts == [(1, "unknown", "version")]


@pytest.mark.parametrize(
    ("host", "version", "reason"), [("other", "1", "no_host"), ("host", "2", "version"), ("host", "", "version")]
)
@virtually
async def test_a_host_that_was_not_measured_is_unknown_at_once(
    folder: Path, host: str, version: str, reason: str
) -> None:
    async with running(folder) as scene:
        assert scene.sight.offers(host, version) == reason
        watch = await scene.sight.begin(host, version, {}, "", scene.found.append)
        expects(watch, 1)
        expects(watch, 1)
        assert scene.verdicts == [(1, "unknown", reason)]
        assert scene.ears == []


@virtually
async def test_a_blind_watch_that_was_dropped_tells_nobody(folder: Path) -> None:
    async with running(folder) as scene:
        watch = await scene.sight.begin("other", "1", {}, "", scene.found.append)
        watch.drop()
        expects(watch, 1)
        assert scene.found == []


@virtually
async def test_before_it_runs_and_after_nothing_is_seen(folder: Path) -> None:
    scene = Scene(folder)
    expects(await scene.begin(), 1)
    async with running(folder) as other:
        pass
    expects(await other.begin(), 2)
    assert scene.verdicts + other.verdicts == [(1, "unknown", "unwatched"), (2, "unknown", "unwatched")]


@virtually
async def test_a_folder_that_is_named_by_no_whole_path_is_none(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin({"AT": "records"}), 1)
        assert scene.verdicts == [(1, "unknown", "no_record")]


@virtually
async def test_where_the_system_watches_no_more_folders_nothing_is_seen(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder) as scene:
        scene.is_deaf = True
        expects(await scene.begin(), 1)
        assert scene.verdicts == [(1, "unknown", "unwatched")]
        scene.is_deaf = False
        expects(await scene.begin(), 2)
        await scene.append("a.jsonl", result(2), REPLY)
        assert scene.verdicts[1:] == [(2, "shown", "reply")]
    assert [record.getMessage() for record in caplog.records] == ["the records of host 1 are not watched: OSError"]


@virtually
async def test_ears_that_fail_while_something_stands_make_it_unknown(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1, 2)
        await scene.append("a.jsonl", result(1))
        scene.is_deaf = True
        scene.tell(folder / "a.jsonl", added=False)
        await wait_all_tasks_blocked()
        assert scene.verdicts == [(1, "unknown", "unwatched"), (2, "unknown", "unwatched")]


@virtually
async def test_ears_that_fail_once_take_nothing_away(folder: Path) -> None:
    async with running(folder) as scene:
        for name in ("a.jsonl", "b.jsonl"):
            (folder / name).write_bytes(NOISE)
        expects(await scene.begin(), 1)
        for number in (2, 3, 4):
            expects(await scene.begin(), number)
        await scene.append("a.jsonl", result(1))
        scene.is_strange = True
        await scene.append("a.jsonl", REPLY)
        assert scene.verdicts == [(1, "shown", "reply")]
        # While nobody listens, what stands in a file is looked at, and the rest is found when somebody does again.
        await scene.append("a.jsonl", result(2))
        scene.is_strange = False
        for path, number in ((folder / "b.jsonl", 2), (folder / "c.jsonl", 3), (folder / "p" / "d.jsonl", 4)):
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.write(result(number) + REPLY)
        await trio.sleep(3 * AGAIN_S)
        assert sorted(scene.verdicts[1:]) == [(number, "shown", "reply") for number in (2, 3, 4)]
        expects(await scene.begin(), 5)
        await scene.append("p/d.jsonl", result(5), REPLY)
        assert scene.verdicts[-1] == (5, "shown", "reply"), "the folder that came is listened to"


@virtually
async def test_a_folder_that_always_fails_is_walked_through_less_and_less(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1, 2)
        await scene.append("a.jsonl", result(1))
        scene.is_strange = True
        for _ in range(int(LIMIT_S / LOOK_S) - 1):
            for _ in range(10):
                await scene.append("other")
                await trio.sleep(LOOK_S / 10)
        assert 10 < len(scene.ears) < 18
        # An answer that begins meanwhile is not lost for that.
        expects(await scene.begin(), 3)
        await scene.append("a.jsonl", REPLY)
        await trio.sleep(2 * AGAIN_S)
        assert scene.verdicts == [(1, "shown", "reply"), (2, "cut", "cut_by_host")]
        await scene.append("a.jsonl", result(3), REPLY)
        await trio.sleep(DEAF_S + 1)
        assert scene.verdicts[-1] == (3, "shown", "reply")


@virtually
async def test_a_folder_that_the_system_watches_no_more_is_not_walked_through_each_second(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[float] = []
    survey = Trail.survey

    def counted(trail: Trail) -> None:
        walked.append(trio.current_time())
        survey(trail)

    monkeypatch.setattr(Trail, "survey", counted)
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        await wait_all_tasks_blocked()
        scene.is_deaf = True
        await scene.append("a.jsonl", NOISE)
        await trio.sleep(LIMIT_S + 1)
        assert len(walked) < 20
        assert scene.verdicts == [(1, "unknown", "no_record")]


@virtually
async def test_no_more_folders_are_listened_to_than_the_bound(folder: Path) -> None:
    async with running(folder) as scene:
        for number in range(MAX_PLACES + 1):
            (folder / str(number)).mkdir()
            expects(await scene.begin({"AT": str(folder / str(number))}), number)
        assert scene.verdicts == [(MAX_PLACES, "unknown", "too_many")]


@virtually
async def test_a_failure_nobody_thought_of_makes_everything_unknown_and_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)

        def fails(*_: object) -> None:
            raise LookupError("a secret of somebody")

        monkeypatch.setattr(Trail, "look", fails)
        await scene.append("a.jsonl", result(1))
        assert scene.verdicts == [(1, "unknown", "record_unreadable")]
        monkeypatch.undo()
        expects(await scene.begin(), 2)
        await scene.append("a.jsonl", result(2), REPLY)
        assert scene.verdicts[1:] == [(2, "shown", "reply")]
    assert "secret" not in caplog.text
    assert "LookupError" in caplog.text


@virtually
async def test_a_look_that_never_ends_leaves_no_message_without_a_verdict(folder: Path) -> None:
    scene = Scene(folder)

    async def stuck(work: Callable[..., Any], *arguments: Any, **how: Any) -> Any:
        if work.__name__ == "_judge":
            await trio.sleep_forever()
        return await at_once(work, *arguments, **how)

    scene.sight = HostSight({"host": RECORD}, lambda _, at: Path(at["AT"]), {"AT": str(folder)}, scene.open_ears, stuck)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.sight.run)
        expects(await scene.begin(), 1)
        await trio.sleep(LIMIT_S / 2)
        expects(await scene.begin(), 2)
        assert scene.verdicts == [(2, "unknown", "unwatched")]
        await trio.sleep(LIMIT_S / 2)
        assert scene.verdicts[1:] == [(1, "unknown", "timeout")]
        nursery.cancel_scope.cancel()


@virtually
async def test_a_walk_that_takes_too_long_holds_up_no_answer(folder: Path) -> None:
    async def never(*_: Any, **how: Any) -> Any:
        await trio.sleep_forever()

    scene = Scene(folder)
    scene.sight = HostSight({"host": RECORD}, lambda *_: folder, {}, scene.open_ears, never)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.sight.run)
        began = trio.current_time()
        expects(await scene.begin(), 1)
        assert trio.current_time() - began == pytest.approx(BEGIN_S)
        assert scene.verdicts == [(1, "unknown", "unwatched")]
        nursery.cancel_scope.cancel()


# -- folders that come and go ----------------------------------------------------------------------------------


@virtually
async def test_a_folder_that_is_not_there_yet_counts_from_its_beginning(tmp_path: Path) -> None:
    async with running(tmp_path / "records") as scene:
        expects(await scene.begin(), 1)
        expects(await scene.begin(), 2)
        await trio.sleep(AGAIN_S * 3)
        await scene.append("p/a.jsonl", result(1), REPLY)
        await trio.sleep(AGAIN_S * 2)
        assert scene.verdicts == [(1, "shown", "reply")]
        await scene.append("p/a.jsonl", result(2), REPLY)
        assert scene.verdicts[1:] == [(2, "shown", "reply")]


@virtually
async def test_a_folder_that_never_comes_is_no_record(tmp_path: Path) -> None:
    async with running(tmp_path / "records") as scene:
        expects(await scene.begin(), 1)
        await trio.sleep(LIMIT_S + 1)
        assert scene.verdicts == [(1, "unknown", "no_record")]


@virtually
async def test_a_folder_that_vanishes_makes_what_stands_in_it_unknown(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1))
        os.rename(folder, folder.with_name("moved"))
        scene.tell(folder / "a.jsonl", added=False)
        await wait_all_tasks_blocked()
        assert scene.verdicts == [(1, "unknown", "rotated")]
        os.mkdir(folder)
        expects(await scene.begin(), 2)
        await scene.append("b.jsonl", result(2), REPLY)
        assert scene.verdicts[1:] == [(2, "shown", "reply")]


@virtually
async def test_a_folder_that_came_is_listened_to(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        expects(await scene.begin(), 2)
        await wait_all_tasks_blocked()
        (folder / "p").mkdir()
        (folder / "p" / "a.jsonl").write_bytes(result(1) + REPLY)
        scene.tell(folder / "p", added=True)
        await wait_all_tasks_blocked()
        assert scene.verdicts == [(1, "shown", "reply")]
        first, last = scene.ears[0], scene.ears[-1]
        assert not first.is_open
        assert str(folder / "p") in last.folders
        await scene.append("p/a.jsonl", result(2), REPLY)
        assert scene.verdicts[1:] == [(2, "shown", "reply")]


# -- nothing when nothing is waited for ------------------------------------------------------------------------


@virtually
async def test_nobody_listens_before_the_first_answer(folder: Path) -> None:
    async with running(folder) as scene:
        await wait_all_tasks_blocked()
        assert scene.ears == []


@virtually
async def test_nobody_waits_for_changes_while_nothing_is_waited_for(folder: Path) -> None:
    async with running(folder) as scene:
        watch = await scene.begin()
        await wait_all_tasks_blocked()
        assert [each.waits for each in scene.ears] == [0]
        expects(watch, 1)
        await wait_all_tasks_blocked()
        assert [each.waits for each in scene.ears] == [1]
        await scene.append("a.jsonl", result(1), REPLY)
        assert [each.waits for each in scene.ears] == [0]


@virtually
async def test_what_changed_meanwhile_is_taken_from_the_system_now_and_then(folder: Path) -> None:
    async with running(folder) as scene:
        (await scene.begin()).drop()
        await scene.append("a.jsonl", NOISE)
        assert scene.changes
        await trio.sleep(REST_S + 1)
        assert not scene.changes


@virtually
async def test_an_answer_of_which_nothing_more_is_said_keeps_no_folder_open(folder: Path) -> None:
    async with running(folder) as scene:
        watch = await scene.begin()
        await scene.append("a.jsonl", NOISE)
        await trio.sleep(3 * REST_S)
        assert not scene.changes
        expects(watch, 1)
        assert scene.verdicts == [(1, "unknown", "unwatched")]
        await trio.sleep(2 * IDLE_S)
        assert not scene.listens()


@virtually
async def test_a_folder_in_which_nothing_was_waited_for_is_left(folder: Path) -> None:
    async with running(folder) as scene:
        (await scene.begin()).drop()
        await trio.sleep(IDLE_S / 2)
        (await scene.begin()).drop()
        await trio.sleep(IDLE_S * 0.9)
        assert scene.listens()
        await trio.sleep(IDLE_S * 0.4)
        assert not scene.listens()
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1), REPLY)
        assert scene.verdicts == [(1, "shown", "reply")]


@virtually
async def test_whoever_ends_it_closes_the_ears_and_leaves_nothing_that_waits(folder: Path) -> None:
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        late = await scene.begin()
    assert not scene.listens()
    assert scene.verdicts == [(1, "unknown", "unwatched")]
    expects(late, 2)
    assert scene.verdicts == [(1, "unknown", "unwatched"), (2, "unknown", "unwatched")]


# -- what the host says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "meta", "call"),
    [
        ("claude-code", {"claudecode/toolUseId": "toolu_1"}, "toolu_1"),
        ("codex", {"callId": "call_1", "threadId": "t"}, "call_1"),
        ("codex", {"callId": 7}, ""),
        ("codex", {"callId": ""}, ""),
        ("codex", {"callId": "x" * 200}, ""),
        ("codex", {"callId": "\ud800"}, ""),
        ("codex", {}, ""),
        ("gone", {"callId": "call_1"}, ""),
    ],
)
def test_the_id_of_a_call_is_where_the_description_says(host: str, meta: dict[str, object], call: str) -> None:
    from configs.hosts import HOSTS
    from configs.model import first

    sight = HostSight({each.id: each.sight for each in HOSTS if each.sight is not None}, first, {})
    assert sight.call_of(host, meta) == call


def test_a_host_names_the_variables_that_say_where_its_records_are(folder: Path) -> None:
    from configs.hosts import HOSTS
    from configs.model import first

    sight = HostSight({each.id: each.sight for each in HOSTS if each.sight is not None}, first, {})
    assert sight.variables("claude-code") == ("CLAUDE_CONFIG_DIR",)
    assert sight.variables("codex") == ("CODEX_HOME",)
    assert sight.variables("gone") == ()


@virtually
async def test_the_log_names_no_path(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="parlerd.sight")
    async with running(folder) as scene:
        expects(await scene.begin(), 1)
        await scene.append("a.jsonl", result(1))
        scene.is_deaf = True
        scene.tell(folder / "a.jsonl", added=False)
        await trio.sleep(LIMIT_S)
    assert caplog.records
    assert str(folder) not in caplog.text
