"""What a push brings is looked through for secrets, whatever the repository holds, and goes on its way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from parlerd.core import searching
from parlerd.core.errors import ParlerError
from parlerd.core.searching import Searched, Secret
from parlerd.git import scanning
from parlerd.git.pushing import bundled
from parlerd.git.repository import find
from parlerd.git.running import Runner
from tests.support.git import Work, work_in

TOKEN = "ghp_" + "a1B2" * 9
AWS = "AKIA" + "IOSFODNN7EXAMPLE"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine cuts no search short."""
    monkeypatch.setattr(searching, "MAX_S", 600.0)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return work_in(tmp_path / "work")


def pushed(work: Work, base: str = "", *, changes: bool = False) -> Searched:
    with bundled(work.repository, "HEAD", base, changes=changes) as made:
        assert made.size > 0
        return made.search()


def test_a_file_of_the_newest_commit_and_one_that_was_taken_out_again_are_both_named(work: Work) -> None:
    work.commit(**{"config/prod.env": f"key={AWS}"})
    work.git("rm", "-q", "config/prod.env")
    work.commit(**{"src/a.py": f"token = {TOKEN!r}", "b.txt": "nothing"})
    assert pushed(work) == Searched(found=(Secret("config/prod.env", "AWS key"), Secret("src/a.py", "GitHub token")))


def test_words_of_a_commit_are_looked_through_too(work: Work) -> None:
    tip = work.commit(f"rotate {TOKEN}", f="1")
    assert pushed(work).found == (Secret(f"commit {tip[:12]}", "GitHub token"),)


def test_what_the_others_have_already_is_not_told_again(work: Work) -> None:
    base = work.commit(old=TOKEN)
    work.commit(new=AWS)
    assert pushed(work, base).found == (Secret("new", "AWS key"),)


def test_uncommitted_changes_that_go_along_are_looked_through(work: Work) -> None:
    work.commit(f="1")
    work.write("draft.env", f"key={AWS}")
    assert pushed(work).found == ()
    assert pushed(work, changes=True).found == (Secret("draft.env", "AWS key"),)


def test_names_with_signs_that_steer_a_terminal_and_names_that_are_no_text_are_named(work: Work) -> None:
    names = (b"a\x1b[2J.env", b"new\nline.env", b"\xff\xfe.env", f"{TOKEN}.env".encode(), b"-rf.env")
    for number, name in enumerate(names):
        Path(os.fsdecode(os.path.join(os.fsencode(work.folder), name))).write_text(f"k{number}={AWS}")
    work.commit()
    found = pushed(work)
    paths = [each.path for each in found.found]
    assert (len(set(paths)), found.is_whole) == (5, True)
    assert TOKEN not in repr(found)
    "".join(paths).encode()


def test_a_program_and_a_file_of_another_encoding_are_looked_through_as_they_are(work: Work) -> None:
    work.write("a.bin", b"\x00\xff\x00" + TOKEN.encode() + b"\x00\xff")
    work.write("b.txt", "é ".encode("latin-1") + AWS.encode())
    work.commit()
    assert [each.path for each in pushed(work).found] == ["a.bin", "b.txt"]


def test_a_file_that_is_too_large_is_left_and_the_answer_says_so(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_OBJECT", 1000)
    work.write("large", "x" * 1001 + TOKEN)
    work.commit(small=AWS)
    assert pushed(work) == Searched(found=(Secret("small", "AWS key"),), is_whole=False)


def test_more_than_may_be_looked_through_is_looked_through_from_the_newest_on(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_BYTES", 5_000)
    work.commit(old="o" * 4_000 + TOKEN)
    work.commit(old="gone", new=AWS + " n" * 2_000)
    assert pushed(work) == Searched(found=(Secret("new", "AWS key"),), is_whole=False)


def test_many_small_files_are_asked_for_in_batches(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_BATCH", 500)
    for number in range(60):
        work.write(f"d/f{number:02d}", f"{number} {TOKEN if number % 20 == 0 else ''}")
    work.commit()
    assert [each.path for each in pushed(work).found] == ["d/f00", "d/f20", "d/f40"]


def test_a_search_for_which_there_is_no_time_says_so_and_the_bundle_is_there(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.commit(f=TOKEN)
    monkeypatch.setattr(searching, "MAX_S", -1.0)
    assert pushed(work) == Searched(is_whole=False)


def test_work_that_is_not_wanted_any_more_ends_also_while_secrets_are_looked_for(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.commit(f=TOKEN)
    looks: list[str] = []
    search = scanning.search

    def wanted() -> None:
        if looks:
            raise ParlerError("draining")

    def late(*args: Any) -> Searched:
        looks.append("now")
        return search(*args)

    monkeypatch.setattr("parlerd.git.pushing.search", late)
    with pytest.raises(ParlerError) as error, bundled(find(str(work.folder), Runner(wanted))) as made:
        made.search()
    assert error.value.code == "draining"


def test_a_repository_of_sha256_is_looked_through(tmp_path: Path) -> None:
    work = work_in(tmp_path / "long", format="sha256")
    work.commit(f=TOKEN)
    assert pushed(work).found == (Secret("f", "GitHub token"),)
