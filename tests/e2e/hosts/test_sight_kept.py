"""What the long run keeps: it goes on where it was ended, whatever it was doing then."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.hosts.sight.kept import Kept, Played
from tests.e2e.hosts.sight.truth import Outcome

SHOWN = Outcome("codex", "page", 200, true=True, said="shown", reason="reply")
PAGE = Played("codex", "1.2.3", "page", 1, 2.5, [SHOWN])


def test_a_case_that_went_through_is_not_played_again_by_the_next_run(tmp_path: Path) -> None:
    Kept(tmp_path / "kept").add(PAGE)
    kept = Kept(tmp_path / "kept")
    assert kept.played == [PAGE]
    assert kept.has("codex", "1.2.3", "page", 1)
    for other in (("claude", "1.2.3", "page", 1), ("codex", "1.2.4", "page", 1), ("codex", "1.2.3", "sizes", 1)):
        assert not kept.has(*other)
    assert not kept.has("codex", "1.2.3", "page", 2)


def test_a_case_that_failed_is_played_again_and_counts_once(tmp_path: Path) -> None:
    failed = PAGE._replace(outcomes=[], failed="it did not begin")
    kept = Kept(tmp_path)
    kept.add(failed)
    assert not Kept(tmp_path).has("codex", "1.2.3", "page", 1)
    kept.add(failed)
    kept.add(PAGE)
    assert Kept(tmp_path).played == kept.played == [PAGE]


def test_a_line_that_was_written_in_part_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add(PAGE)
    kept.add(PAGE._replace(case="sizes"))
    file = tmp_path / "codex.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert Kept(tmp_path).played == [PAGE]
    again = Kept(tmp_path)
    again.add(PAGE._replace(case="sizes"))
    assert Kept(tmp_path).has("codex", "1.2.3", "sizes", 1)
