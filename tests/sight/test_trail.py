"""What is read of the files of a folder, and what is not: real files, and hosts that are hostile or break off."""

from __future__ import annotations

import json
import os
import random
import socket
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from parlerd.core.judge import Answer
from parlerd.core.records import Ending, Kind, Record, Reply, Result, Summary, Test
from parlerd.core.sight import Found, expected, marker_of
from parlerd.sight import trail as trails
from parlerd.sight.trail import Change, Gone, Trail

RECORD: Final = Record(
    versions=("1",),
    folders=("~/records",),
    files=("*.jsonl", "*/*.jsonl", "*/*/deep/*.jsonl"),
    results=(Result(name="result", has=(Test("type", ("result",)),), text="text"),),
    replies=(Reply(name="reply", has=(Test("type", ("reply",)),)),),
    endings=(Ending(name="end", has=(Test("type", ("end",)),), verdict="not_shown", reason="cancelled"),),
    harmless=(Kind(name="noise", has=(Test("type", ("noise",)),)),),
)
REPLY: Final = b'{"type":"reply"}\n'
NOISE: Final = b'{"type":"noise"}\n'


class Walked(Trail):
    """A trail that looks for folders whenever it is walked through."""

    def walk(self, *, young: bool = False) -> list[str]:
        self.survey()
        return super().walk(young=young)


class Scene:
    """A folder of records, and one message that waits."""

    def __init__(self, folder: Path, number: int = 1) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.text = f"some words\n{marker_of(number.to_bytes(8, 'big'))}"
        self.answer = Answer([expected(self.text)])
        self.result = json.dumps({"type": "result", "text": f"1 new:\n{self.text}\n"}).encode() + b"\n"
        self.trail = Walked(str(folder), RECORD, "host 1")

    def file(self, name: str = "a.jsonl", data: bytes = NOISE) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def append(self, path: Path, *data: bytes) -> list[tuple[str, str]]:
        with path.open("ab") as file:
            file.write(b"".join(data))
        return self.look(path)

    def look(self, *paths: Path, added: bool = False) -> list[tuple[str, str]]:
        changes = [Change(os.path.realpath(path.parent) + "/" + path.name, added) for path in paths]
        return told(self.trail.look(changes, [self.answer]))


def told(found: Sequence[Found]) -> list[tuple[str, str]]:
    return [(each.verdict, each.reason) for each in found]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "records")


SHOWN: Final = [("shown", "reply")]


# -- what is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "p/a.jsonl", "p/q/deep/a.jsonl"])
def test_what_was_appended_after_the_walk_proves(scene: Scene, name: str) -> None:
    path = scene.file(name)
    scene.trail.walk()
    assert scene.append(path, scene.result) == []
    assert scene.append(path, NOISE, REPLY) == SHOWN


@pytest.mark.parametrize("name", ["a.txt", "p/q/a.jsonl", "p/q/r/a.jsonl", "p/q/deep/r/a.jsonl"])
def test_a_file_that_is_no_record_is_not_read(scene: Scene, name: str) -> None:
    path = scene.file(name)
    scene.trail.walk()
    assert scene.append(path, scene.result, REPLY) == []


def test_what_stood_there_before_is_not_read(scene: Scene) -> None:
    path = scene.file(data=scene.result)
    scene.trail.walk()
    assert scene.append(path, REPLY) == []


def test_what_was_noted_is_not_read(scene: Scene) -> None:
    path = scene.file()
    scene.trail.walk()
    with path.open("ab") as file:
        file.write(scene.result)
    scene.trail.note([Change(str(path), added=False)])
    assert scene.append(path, REPLY) == []


def test_a_file_that_came_counts_from_its_beginning(scene: Scene) -> None:
    scene.trail.walk()
    path = scene.file(data=scene.result + REPLY)
    assert scene.look(path, added=True) == SHOWN


def test_a_file_that_nobody_knew_counts_from_when_it_changed(scene: Scene) -> None:
    scene.trail.walk()
    path = scene.file(data=scene.result)
    assert scene.look(path) == []
    assert scene.append(path, REPLY) == []
    assert scene.append(path, scene.result, REPLY) == SHOWN


def test_lines_are_read_once_they_are_whole_in_whatever_pieces_they_come(scene: Scene) -> None:
    path = scene.file(data=b"")
    scene.trail.walk()
    data = NOISE + scene.result + NOISE + REPLY
    found = []
    for at in range(len(data)):
        found += scene.append(path, data[at : at + 1])
        if at < len(data) - 1:
            assert found == []
    assert found == SHOWN


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1_000])
def test_lines_are_read_whole_whatever_is_read_at_a_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(trails, "CHUNK", chunk)
    path = scene.file()
    scene.trail.walk()
    assert scene.append(path, NOISE, scene.result, NOISE, REPLY, NOISE) == SHOWN


def test_a_result_and_its_reply_in_two_files_prove_nothing(scene: Scene) -> None:
    one, other = scene.file("one.jsonl"), scene.file("other.jsonl")
    scene.trail.walk()
    assert scene.append(one, scene.result) + scene.append(other, REPLY) == []
    assert scene.append(one, REPLY) == SHOWN


def test_a_file_in_which_something_stands_is_looked_at_though_nobody_heard_of_a_change(scene: Scene) -> None:
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    with path.open("ab") as file:
        file.write(REPLY)
    assert told(scene.trail.look([], [scene.answer])) == SHOWN


# -- folders ---------------------------------------------------------------------------------------------------


def test_the_folders_that_can_hold_records_are_to_be_watched(scene: Scene) -> None:
    scene.file("p/q/deep/a.jsonl")
    scene.file("p/other/b.jsonl")
    scene.file("p/q/deep/not/c.jsonl")
    scene.trail.walk()
    root = os.path.realpath(scene.folder)
    assert scene.trail.folders[0] == root
    assert set(scene.trail.folders) == {root, *(f"{root}/{name}" for name in ("p", "p/q", "p/q/deep", "p/other"))}


@pytest.mark.parametrize("waiting", [True, False])
def test_a_folder_that_came_is_walked_through_and_counts_where_something_waits(scene: Scene, waiting: bool) -> None:
    scene.trail.walk()
    path = scene.file("p/a.jsonl", scene.result)
    change = Change(os.path.realpath(scene.folder / "p"), added=True)
    assert scene.trail.fresh([change]) == ["p"]
    came = scene.trail.adopt(["p"], waiting=waiting)
    assert [each.path for each in came] == [os.path.realpath(path)]
    assert os.path.realpath(scene.folder / "p") in scene.trail.folders
    assert scene.trail.adopt(["p"], waiting=waiting) == []
    assert scene.append(path, REPLY) == (SHOWN if waiting else [])


def test_a_folder_that_came_since_the_survey_is_told(scene: Scene) -> None:
    trail = Trail(str(scene.folder), RECORD, "host 1")
    trail.survey()
    assert trail.walk() == []
    scene.file("p/a.jsonl")
    assert trail.walk() == ["p"]


def test_what_nobody_told_is_found_by_its_length_and_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail(str(scene.folder), RECORD, "host 1")
    same, other, rewritten = (scene.file(name) for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    trail.survey()
    trail.walk()
    assert trail.missed() == []
    with other.open("ab") as file:
        file.write(NOISE)
    os.utime(rewritten, (5, 5))
    new = scene.file("p/d.jsonl")
    root = os.path.realpath(scene.folder)
    assert sorted(trail.missed()) == [
        Change(f"{root}/b.jsonl", added=False),
        Change(f"{root}/c.jsonl", added=False),
        Change(f"{root}/p", added=True),
        Change(f"{root}/p/d.jsonl", added=True),
    ]
    trail.look([Change(f"{root}/{path.name}", added=False) for path in (same, other, rewritten)], [])
    assert [Path(each.path).name for each in trail.missed()] == [new.name, "p"]
    # Where more files are there than are remembered, one that is not known may be old.
    monkeypatch.setattr(trails, "MAX_FILES", 3)
    assert [Path(each.path).name for each in trail.missed()] == ["p"]


def test_another_folder_in_the_place_of_the_one_that_was_found_is_not_taken_for_it(scene: Scene) -> None:
    trail = Trail(str(scene.folder), RECORD, "host 1")
    trail.survey()
    trail.survey()
    os.rename(scene.folder, scene.folder.with_name("moved"))
    scene.folder.mkdir()
    with pytest.raises(Gone):
        trail.survey()


def test_a_folder_that_can_hold_no_record_is_not_walked_through(scene: Scene) -> None:
    scene.trail.walk()
    for name in ("p/q/other", "a.jsonl"):
        scene.file(f"{name}/x")
    changes = [Change(str(scene.folder / name), added=True) for name in ("p/q/other", "missing", "p/q/other/x")]
    assert scene.trail.fresh([*changes, Change("/elsewhere/p", added=True)]) == []


def test_no_more_folders_are_watched_than_the_bound_and_those_are_the_newest(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "MAX_FOLDERS", 3)
    for number in range(6):
        os.utime(scene.file(f"p{number}/a.jsonl").parent, (1_000 + number, 1_000 + number))
    scene.trail.walk()
    root = os.path.realpath(scene.folder)
    assert scene.trail.folders == [root, f"{root}/p5", f"{root}/p4"]
    scene.file("new/a.jsonl")
    scene.trail.adopt(["new"], waiting=True)
    assert scene.trail.folders == [root, f"{root}/new", f"{root}/p5"]


def test_no_more_files_are_remembered_than_the_bound_and_those_are_the_newest(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "MAX_FILES", 2)
    paths = [scene.file(f"{number}.jsonl") for number in range(4)]
    for number, path in enumerate(paths):
        os.utime(path, (1_000 + number, 1_000 + number))
    trail = Walked(str(scene.folder), RECORD, "host 1")
    trail.walk()
    assert {Path(each.path).name for each in trail.all()} == {"2.jsonl", "3.jsonl"}


def test_a_folder_with_more_names_than_the_bound_is_walked_through_to_the_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "MAX_WALK", 10)
    for number in range(30):
        scene.file(f"{number}.jsonl")
    scene.trail.walk()
    assert len(scene.trail.all()) == 10


def test_a_folder_with_many_files_takes_little_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "MAX_FILES", 10)
    for number in range(2_000):
        (scene.folder / f"{number}.jsonl").touch()
    scene.trail.walk()
    tracemalloc.start()
    try:
        scene.trail.walk()
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Gone):
        Walked(str(tmp_path / "missing"), RECORD, "host 1").walk()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Gone):
        Walked(str(tmp_path / "file"), RECORD, "host 1").walk()


def test_a_folder_that_vanishes_or_is_another_one_is_told(scene: Scene) -> None:
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    scene.folder.rename(scene.folder.with_name("moved"))
    with pytest.raises(Gone):
        scene.look(path)
    scene.file()
    with pytest.raises(Gone):
        scene.look(path)
    assert told(scene.trail.lost("rotated")) == [("unknown", "rotated")]


def test_a_link_to_the_folder_is_followed_because_the_host_follows_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    scene.trail = Walked(str(tmp_path / "link"), RECORD, "host 1")
    path = scene.file()
    scene.trail.walk()
    assert scene.append(path, scene.result, REPLY) == SHOWN


# -- files that are not what they seem -------------------------------------------------------------------------


def test_a_link_in_the_folder_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    outside = Scene(tmp_path / "outside")
    target = outside.file(data=b"")
    (outside.folder / "p").mkdir()
    (scene.folder / "a.jsonl").symlink_to(target)
    (scene.folder / "p").symlink_to(outside.folder)
    scene.trail.walk()
    assert scene.trail.all() == []
    assert os.path.realpath(outside.folder) not in scene.trail.folders
    target.write_bytes(scene.result + REPLY)
    for name in ("a.jsonl", "p/a.jsonl"):
        changes = [Change(f"{os.path.realpath(scene.folder)}/{name}", added=True)]
        assert scene.trail.look(changes, [scene.answer]) == []
        assert scene.trail.fresh(changes) == []


def test_what_is_no_regular_file_is_not_opened(scene: Scene) -> None:
    os.mkfifo(scene.folder / "fifo.jsonl")
    (scene.folder / "folder.jsonl").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(scene.folder)
        try:
            listening.bind("socket.jsonl")
        finally:
            os.chdir(here)
        scene.trail.walk()
        names = ("fifo.jsonl", "folder.jsonl", "socket.jsonl", "missing.jsonl")
        assert scene.look(*(scene.folder / name for name in names), added=True) == []
    assert scene.trail.all() == []


def test_a_file_of_another_user_is_not_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scene.file()
    scene.trail.walk()
    mine, real = os.geteuid(), os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        return status if status.st_ino != path.stat().st_ino else os.stat_result([*status[:4], mine + 1, *status[5:]])

    monkeypatch.setattr(os, "fstat", fstat)
    assert scene.append(path, scene.result, REPLY) == []


def test_a_folder_of_another_user_is_not_walked_through(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(Gone):
        scene.trail.walk()


def test_a_file_that_may_not_be_read_says_nothing(scene: Scene) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    path.chmod(0)
    assert scene.look(path) == [("unknown", "rotated")]


def test_a_file_that_was_replaced_ends_the_proof(scene: Scene) -> None:
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    new = scene.file("new.tmp", scene.result + REPLY)
    new.rename(path)
    assert scene.look(path) == [("unknown", "rotated")]
    assert scene.append(path, REPLY) == []


def test_a_file_that_became_shorter_ends_the_proof(scene: Scene) -> None:
    path = scene.file(data=NOISE * 50)
    scene.trail.walk()
    scene.append(path, scene.result)
    os.truncate(path, 20)
    assert scene.append(path, REPLY) == [("unknown", "rotated")]


def test_a_file_that_was_removed_ends_the_proof(scene: Scene) -> None:
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    path.unlink()
    assert scene.look(path) == [("unknown", "rotated")]
    assert scene.look(path) == []


# -- lines that are not what they seem -------------------------------------------------------------------------


def test_a_line_that_is_too_long_ends_the_proof_and_the_next_one_is_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "MAX_LINE", 10_000)
    monkeypatch.setattr(trails, "CHUNK", 1_000)
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    assert scene.append(path, b'{"type":"noise","x":"', b"x" * 12_000) == [("unknown", "too_long")]
    assert scene.append(path, b"x" * 12_000, b'"}\n', scene.result) == []
    assert scene.append(path, REPLY) == SHOWN


def test_the_rest_of_a_line_that_is_too_long_is_no_line(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "MAX_LINE", 10_000)
    monkeypatch.setattr(trails, "CHUNK", 1_000)
    path = scene.file()
    scene.trail.walk()
    assert scene.append(path, b"x" * 12_000) == []
    # What looks like a result is the end of the line above.
    assert scene.append(path, scene.result, REPLY) == []


def test_more_than_is_read_at_a_time_ends_the_proof(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "MAX_LOOK", 50_000)
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    assert scene.append(path, NOISE * 5_000, REPLY) == [("unknown", "too_long")]
    assert scene.append(path, scene.result, NOISE, scene.result, REPLY) == SHOWN


def test_a_copy_of_many_files_is_not_read_whole(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [0], os.pread

    def pread(descriptor: int, most: int, offset: int) -> bytes:
        data = real(descriptor, most, offset)
        read[0] += len(data)
        return data

    monkeypatch.setattr(trails, "MAX_LOOK", 50_000)
    scene.trail.walk()
    paths = [scene.file(f"{number}.jsonl", NOISE * 1_000) for number in range(20)]
    small = scene.file("small.jsonl", b"")
    monkeypatch.setattr(os, "pread", pread)
    assert scene.look(*paths, small, added=True) == []
    assert read[0] <= 50_000
    assert scene.append(small, scene.result, REPLY) == SHOWN
    assert scene.append(paths[-1], REPLY) == []


def test_a_file_that_grows_as_fast_as_it_is_read_ends_the_look(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scene.file()
    scene.trail.walk()
    reads, real = [0], os.pread

    def pread(descriptor: int, most: int, offset: int) -> bytes:
        data = real(descriptor, most, offset)
        reads[0] += 1
        if reads[0] < 100:
            with path.open("ab") as file:
                file.write(NOISE)
        return data

    monkeypatch.setattr(os, "pread", pread)
    assert scene.append(path, scene.result, REPLY) == SHOWN
    assert reads[0] < 10
    # What came meanwhile is read by the next look.
    monkeypatch.setattr(os, "pread", real)
    assert scene.append(path, NOISE) == []


def test_a_gigabyte_without_an_end_of_line_takes_little_memory(scene: Scene) -> None:
    path = scene.file(data=b"")
    scene.trail.walk()
    scene.append(path, scene.result)
    tracemalloc.start()
    try:
        os.truncate(path, 1 << 30)  # a hole: a gigabyte of zeros
        assert scene.look(path) == [("unknown", "too_long")]
        for step in range(1, 4):
            os.truncate(path, (1 << 30) + step * 40_000_000)
            assert scene.look(path) == []
        assert tracemalloc.get_traced_memory()[1] < 3 * trails.CHUNK + trails.MAX_LINE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"\x00", b"{", b"[" * 200_000, b'{"a":' * 200_000, b"1" * 10_000, b'"\\ud800"', b'{"type":NaN}'],
    ids=lambda line: repr(line[:12]),
)
def test_a_line_that_is_no_entry_ends_the_proof_and_nothing_else(scene: Scene, line: bytes) -> None:
    path = scene.file()
    scene.trail.walk()
    assert scene.append(path, line, b"\n", scene.result, line, b"\n", REPLY) == [("unknown", "record_unreadable")]
    assert scene.append(path, scene.result, REPLY) == SHOWN


def test_no_more_files_are_looked_into_than_the_bound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "MAX_OPEN", 3)
    scene.trail.walk()
    paths = [scene.file(f"{number}.jsonl", b"") for number in range(5)]
    scene.look(paths[0], added=True)
    assert scene.append(paths[0], scene.result) == []
    for path in paths[1:3]:
        assert scene.append(path, NOISE) == []
    assert scene.append(paths[3], NOISE) == [("unknown", "too_many")]
    assert scene.append(paths[0], scene.result, REPLY) == SHOWN


def test_a_file_that_is_written_anew_in_its_place_proves_nothing_however_long_it_is(scene: Scene) -> None:
    path = scene.file(data=NOISE * 10)
    scene.trail.walk()
    assert scene.append(path, scene.result, NOISE) == []
    # A summary came before what is kept: old replies stand behind the place up to which the file was read.
    before = path.read_bytes()
    path.write_bytes(b'{"type":"noise","x":"' + b"x" * 3_000 + b'"}\n' + REPLY * 300)
    assert path.stat().st_size > len(before)
    assert scene.look(path) == [("unknown", "rotated")]
    assert scene.append(path, scene.result, REPLY) == SHOWN


def test_a_file_that_is_written_anew_as_it_was_goes_on(scene: Scene) -> None:
    path = scene.file(data=NOISE * 10)
    scene.trail.walk()
    assert scene.append(path, scene.result, NOISE[:5]) == []
    path.write_bytes(path.read_bytes())
    assert scene.append(path, NOISE[5:], REPLY) == SHOWN


# -- anything in any order -------------------------------------------------------------------------------------


def test_whatever_is_done_to_the_files_nothing_is_shown_that_was_not(tmp_path: Path) -> None:
    shown = [_play(Scene(tmp_path / str(seed), seed), random.Random(seed)) for seed in range(60)]
    assert 5 < sum(shown) < 55, "some of the runs prove something, and some do not"


def _play(scene: Scene, chance: random.Random) -> bool:
    """Do sixty things to three files, and compare with the truth, which is kept beside the files: what was appended to
    each of them since it came. Gives whether the message was shown."""
    paths = [scene.folder / name for name in ("a.jsonl", "b.jsonl", "p/c.jsonl")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(NOISE)
    scene.trail.walk()
    truth: dict[Path, bytes] = dict.fromkeys(paths, b"")
    pieces = [scene.result, scene.result[:-1], REPLY, REPLY[:5], NOISE, b'{"type":"end"}\n', b"\n", b"\xff\n", b"x"]
    for _ in range(60):
        path = chance.choice(paths)
        match chance.randrange(12):
            case 0:
                path.unlink(missing_ok=True)
                truth[path] = b""
            case 1 if path.exists():
                path.write_bytes(b"")
                truth[path] = b""
            case 2:
                new = path.with_suffix(".tmp")
                new.write_bytes(chance.choice(pieces))
                new.rename(path)
                truth[path] = b""
            case _:
                data = b"".join(chance.choices(pieces, k=chance.randrange(1, 4)))
                with path.open("ab") as file:
                    file.write(data)
                truth[path] += data
        if chance.random() < 0.8:
            added = chance.random() < 0.2
            for verdict, _ in scene.look(*chance.sample(paths, chance.randrange(1, 4)), added=added):
                if verdict == "shown":
                    assert any(_is_proof(data, scene.result) for data in truth.values())
                    return True
    return False


def _is_proof(data: bytes, result: bytes) -> bool:
    """Whether a line that is the result has a reply after it and nothing between that ends a proof."""
    standing = False
    for line in data.split(b"\n"):
        if line + b"\n" == result:
            standing = True
        elif line + b"\n" == REPLY and standing:
            return True
        elif line and line + b"\n" != NOISE:
            standing = False
    return False


def test_the_trail_tells_no_text_and_no_path(scene: Scene) -> None:
    path = scene.file()
    scene.trail.walk()
    scene.append(path, scene.result)
    with path.open("ab") as file:
        file.write(REPLY)
    (found,) = scene.trail.look([], [scene.answer])
    assert "words" not in repr(found)
    assert str(scene.folder) not in repr(found)


def test_a_record_of_another_form_is_read_by_its_own_reader(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "records")
    record: Any = msgspec.structs.replace(RECORD, form="document", list="messages", files=("*.json",))
    scene.trail = Walked(str(scene.folder), record, "host 1")
    path = scene.file("a.json", b'{"messages": []}')
    scene.trail.walk()
    entries = [json.loads(scene.result)]
    path.write_text(json.dumps({"messages": entries}))
    assert scene.look(path) == []
    new = scene.file("a.tmp", json.dumps({"messages": [*entries, {"type": "reply"}]}).encode())
    new.rename(path)
    assert scene.look(path) == SHOWN


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ("nothing", SHOWN),
        ("a summary", [("unknown", "compacting")]),
        ("a link", [("unknown", "record_unreadable")]),
        ("a pipe", [("unknown", "record_unreadable")]),
        ("a long one", [("unknown", "record_unreadable")]),
    ],
)
def test_a_summary_is_read_where_it_stands_beside_a_document_and_as_carefully(
    tmp_path: Path, beside: str, said: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path / "records")
    record: Any = msgspec.structs.replace(
        RECORD,
        form="document",
        list="messages",
        files=("*/*.json",),
        summary=Summary(of=".json", file=".sum", last="up", mark="id:", id="id"),
        endings=(Ending(name="compaction", has=(Test("up"),), verdict="unknown", reason="compacting"),),
    )
    scene.trail = Walked(str(scene.folder), record, "host 1")
    path = scene.file("p/a.json", b'{"messages": []}')
    other = scene.folder / "p" / "a.sum"
    summary = b'{"up": "id:a"}'
    match beside:
        case "a summary" | "a long one":
            other.write_bytes(summary)
        case "a link":
            (tmp_path / "elsewhere").write_bytes(summary)
            other.symlink_to(tmp_path / "elsewhere")
        case "a pipe":
            os.mkfifo(other)
        case _:
            pass
    if beside == "a long one":
        monkeypatch.setattr(trails, "MAX_DOCUMENT", 10)
    scene.trail.walk()
    path.write_text(json.dumps({"messages": [{**json.loads(scene.result), "id": "a"}, {"type": "reply"}]}))
    assert scene.look(path) == said
