"""What is heard of real folders, and sight over them: nothing here waits but for what the system tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from parlerd.core.sight import Found, expected
from parlerd.sight.ears import Ears, open_ears
from parlerd.sight.trail import Change
from parlerd.sight.watching import HostSight
from tests.sight.test_trail import NOISE, RECORD, REPLY
from tests.sight.test_watching import result, text

LIMIT_S = 60.0


async def heard(ears: Ears, path: Path) -> Change:
    """Wait until something is told of this path."""
    with trio.fail_after(LIMIT_S):
        while True:
            for each in await ears.changed():
                if each.path == str(path):
                    return each


def test_a_file_that_comes_and_one_that_grows_are_heard(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"")

    async def main() -> None:
        ears = open_ears([str(folder)])
        new.write_bytes(b"x")
        assert (await heard(ears, new)).added
        with old.open("ab") as file:
            file.write(b"x")
        assert not (await heard(ears, old)).added
        ears.close()

    trio.run(main)


def test_what_changed_while_nobody_asked_is_told_later(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "new"

    async def main() -> None:
        ears = open_ears([str(path.parent)])
        path.write_bytes(b"x")
        with trio.fail_after(LIMIT_S):
            while not any(each.path == str(path) for each in ears.now()):
                await trio.lowlevel.checkpoint()
        assert [each for each in ears.now() if each.added] == []
        ears.close()
        assert ears.now() == []

    trio.run(main)


def test_what_changes_while_a_question_is_cancelled_is_told_to_the_next(tmp_path: Path) -> None:
    folder = tmp_path.resolve()

    async def main() -> None:
        ears = open_ears([str(folder)])
        for number in range(20):
            path = folder / str(number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ears.changed)
                await trio.lowlevel.checkpoint()
                path.write_bytes(b"x")
                nursery.cancel_scope.cancel()
            await heard(ears, path)
        ears.close()

    trio.run(main)


def test_what_is_below_a_folder_is_not_heard(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    (folder / "inner").mkdir()

    async def main() -> None:
        ears = open_ears([str(folder)])
        (folder / "inner" / "file").write_bytes(b"x")
        (folder / "after").write_bytes(b"x")
        found: list[Change] = []
        with trio.fail_after(LIMIT_S):
            while not any(each.path == str(folder / "after") for each in found):
                found += await ears.changed()
        assert not any(each.path == str(folder / "inner" / "file") for each in found)
        ears.close()

    trio.run(main)


def test_a_folder_that_is_not_there_keeps_no_other_from_being_heard(tmp_path: Path) -> None:
    folder = tmp_path.resolve()

    async def main() -> None:
        ears = open_ears([str(folder), str(folder / "missing")])
        (folder / "new").write_bytes(b"x")
        await heard(ears, folder / "new")
        ears.close()
        with pytest.raises(OSError, match="nobody listens"):
            await ears.changed()

    trio.run(main)


def test_a_folder_whose_name_is_no_text_cannot_be_heard(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/no\xfftext")
    with pytest.raises(OSError, match="cannot be watched"):
        open_ears([str(tmp_path / os.fsdecode(b"no\xfftext"))])


@pytest.mark.parametrize("strange", [b"", b"no\xfftext"])
def test_sight_of_real_files(tmp_path: Path, strange: bytes) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    if strange:
        # Nothing in such a folder is looked at, and it keeps nobody from the rest.
        os.mkdir(os.fsencode(folder) + b"/" + strange)
        Path(os.fsdecode(os.fsencode(folder) + b"/" + strange + b"/a.jsonl")).write_bytes(NOISE)
    told: list[Found] = []
    done = trio.Event()

    def tell(found: Found) -> None:
        told.append(found)
        done.set()

    async def main() -> None:
        nonlocal done
        sight = HostSight({"host": RECORD}, lambda *_: folder, {})
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(sight.run)
                for number, name in enumerate(("a.jsonl", "p/b.jsonl", "p/q/deep/c.jsonl", "a.jsonl")):
                    done = trio.Event()
                    watch = await sight.begin("host", "1", {}, "", tell)
                    watch.expect([expected(text(number))])
                    path = folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("ab", buffering=0) as file:
                        for line in (NOISE, result(number), NOISE, REPLY):
                            file.write(line)
                    await done.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert [(each.verdict, int(each.marker[5:], 16)) for each in told] == [("shown", number) for number in range(4)]


def test_a_file_whose_name_is_no_text_takes_nothing_away(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    told: list[Found] = []
    done = trio.Event()

    def tell(found: Found) -> None:
        told.append(found)
        done.set()

    def append(line: bytes) -> None:
        # The library fails of this name, whenever the file changes.
        for name, data in ((b"no\xfftext.jsonl", NOISE), (b"a.jsonl", line)):
            with Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).open("ab") as file:
                file.write(data)

    async def main() -> None:
        sight = HostSight({"host": RECORD}, lambda *_: folder, {})
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(sight.run)
                watch = await sight.begin("host", "1", {}, "", tell)
                watch.expect([expected(text(1))])
                for line in (result(1), NOISE, REPLY):
                    append(line)
                await done.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert [(each.verdict, each.reason) for each in told] == [("shown", "reply")]
