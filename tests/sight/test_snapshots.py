"""Records that are written anew: a document that is replaced whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from parlerd.core.judge import Answer
from parlerd.core.records import Ending, Result, Summary, Test
from parlerd.core.sight import expected, marker_of
from parlerd.sight import snapshots
from parlerd.sight.snapshots import Document, Snapshots, Unreadable
from tests.sight.test_trail import RECORD, told

TEXT: Final = f"words\n{marker_of(bytes(8))}"
RESULT: Final = {"type": "result", "text": TEXT}
REPLY: Final = {"type": "reply"}
NOISE: Final = {"type": "noise"}


class Scene:
    def __init__(self, folder: Path, *, beside: bytes | Unreadable | None = None, **changes: Any) -> None:
        self.path = folder / "a.json"
        self.beside = beside
        """What stands beside it, or how that cannot be read."""
        self.answer = Answer([expected(TEXT)])
        record = msgspec.structs.replace(RECORD, form="document", list="inside.messages", **changes)
        self.snapshots = Snapshots(record, "host 1", Document(record, self._beside))

    def _beside(self) -> bytes | None:
        if isinstance(self.beside, Unreadable):
            raise self.beside
        return self.beside

    def holds(self, entries: Sequence[Any]) -> list[tuple[str, str]]:
        return self.is_(json.dumps({"inside": {"messages": entries}}).encode())

    def is_(self, data: bytes) -> list[tuple[str, str]]:
        self.path.write_bytes(data)
        with self.path.open("rb") as file:
            found = self.snapshots.look(file.fileno(), len(data), [self.answer])
        for each in found:
            if not each.stays:
                self.answer.left.pop(each.marker, None)
        return told(found)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_result_and_a_reply_that_came_later_prove(scene: Scene) -> None:
    assert scene.holds([NOISE]) == []
    assert not scene.snapshots.has(scene.answer)
    assert scene.holds([NOISE, RESULT]) == []
    assert scene.snapshots.has(scene.answer)
    assert scene.snapshots.is_waiting
    assert scene.holds([NOISE, RESULT, REPLY]) == [("shown", "reply")]
    assert not scene.snapshots.is_waiting


def test_what_is_read_for_the_first_time_with_its_reply_proves_too(scene: Scene) -> None:
    assert scene.holds([RESULT, NOISE, REPLY]) == [("shown", "reply")]


@pytest.mark.parametrize("entries", [[REPLY, RESULT], [{"type": "other", "text": TEXT}, REPLY], ["text", 1, None]])
def test_what_stands_in_another_order_or_place_proves_nothing(scene: Scene, entries: list[Any]) -> None:
    assert scene.holds(entries) == []


def test_a_result_that_was_taken_out_was_not_shown(scene: Scene) -> None:
    scene.holds([RESULT])
    assert scene.holds([NOISE, REPLY]) == [("not_shown", "rolled_back")]


def test_what_the_host_keeps_after_a_failure_is_looked_for_until_a_reply_proves_it(tmp_path: Path) -> None:
    stop = Ending(name="stop", has=(Test("type", ("stop",)),), verdict="not_shown", reason="cancelled", then="stays")
    scene = Scene(tmp_path, endings=(stop,))
    assert scene.holds([RESULT, {"type": "stop"}]) == [("not_shown", "cancelled")]
    assert scene.snapshots.has(scene.answer)
    assert scene.holds([RESULT, {"type": "stop"}, REPLY])[-1] == ("shown", "reply")


class TestSummaries:
    """A document beside the first one, which says what took the place of the older entries."""

    CHANGES: Final = {
        "summary": Summary(of=".json", file=".sum", last="up.to", mark="id:", id="id"),
        "results": (*RECORD.results, Result(name="kept", has=(Test("up"),), each="kept[]", text="text")),
        "endings": (Ending(name="compaction", has=(Test("up"),), verdict="unknown", reason="compacting"),),
    }

    @pytest.mark.parametrize(
        ("order", "last", "kept", "said"),
        [
            ("ARB", "a", [], [("unknown", "compacting")]),
            ("ARB", "r", [], [("shown", "reply")]),
            ("ARB", "b", [], [("shown", "reply")]),
            ("AnRB", "n", [], [("unknown", "compacting")]),
            ("AnRB", "n", [RESULT], [("shown", "reply")]),
            ("AnRB", "n", [{"text": "words"}], [("unknown", "compacting")]),
            ("AnRB", "n", [{"text": TEXT[1:]}], [("cut", "cut_by_host")]),
            ("nAR", "n", [], [("shown", "reply")]),
            ("An", "n", [RESULT], []),
            # Of which entry it stands at the end is not there, or not said.
            ("AnRB", "gone", [], []),
            ("AnRB", None, [], []),
        ],
        ids=str,
    )
    def test_what_a_summary_took_the_place_of_is_not_proved_by_a_reply(
        self, tmp_path: Path, order: str, last: str | None, kept: list[Any], said: list[tuple[str, str]]
    ) -> None:
        letters = {"A": RESULT, "R": REPLY, "B": REPLY, "n": NOISE}
        summary = {"up": {"to": f"id:{last}" if last else None}, "kept": kept}
        scene = Scene(tmp_path, beside=json.dumps(summary).encode(), **self.CHANGES)
        assert scene.holds([{**letters[letter], "id": letter.lower()} for letter in order]) == said

    @pytest.mark.parametrize("beside", [b"", b"{", b"[]", b'{"up": 1}'])
    def test_a_summary_that_is_being_written_is_waited_for(self, tmp_path: Path, beside: bytes) -> None:
        scene = Scene(tmp_path, beside=beside, **self.CHANGES)
        assert scene.holds([RESULT, REPLY]) == []
        scene.beside = None
        assert scene.holds([RESULT, REPLY]) == [("shown", "reply")]

    def test_a_summary_that_cannot_be_read_makes_it_unknown(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, beside=Unreadable("record_unreadable"), **self.CHANGES)
        assert scene.holds([RESULT, REPLY]) == [("unknown", "record_unreadable")]


def test_half_a_document_that_ends_as_a_whole_one_does_says_nothing(scene: Scene) -> None:
    scene.holds([RESULT])
    assert scene.is_(b'{"inside": {"messages": [{"type": "noise"}') == []
    assert scene.holds([RESULT, REPLY]) == [("shown", "reply")]


def test_half_a_document_says_nothing(scene: Scene) -> None:
    scene.holds([RESULT])
    whole = json.dumps({"inside": {"messages": [RESULT, REPLY]}}).encode()
    for end in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        assert scene.is_(whole[:end]) == []
    assert scene.is_(whole) == [("shown", "reply")]


@pytest.mark.parametrize("document", [{}, {"inside": {"messages": {}}}, {"inside": {"messages": "x"}}, {"inside": []}])
def test_a_document_without_its_list_cannot_be_read(scene: Scene, document: dict[str, Any]) -> None:
    scene.holds([RESULT])
    found = scene.is_(json.dumps({**document, "marker": TEXT}).encode())
    assert found == [("unknown", "record_unreadable")]


def test_a_document_that_is_too_long_is_not_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.holds([RESULT])
    monkeypatch.setattr(snapshots, "MAX_DOCUMENT", 100)
    assert scene.holds([RESULT, *[NOISE] * 10, REPLY]) == [("unknown", "too_long")]
    assert scene.holds([RESULT]) == []


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff" * 10, b'{"inside":' * 50_000, b"null", b"1"])
def test_what_is_no_document_says_nothing(scene: Scene, data: bytes) -> None:
    scene.holds([RESULT])
    assert scene.is_(data + TEXT.encode()) == []


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ({"release": "1.2"}, [("shown", "reply")]),
        ({"release": "1.3"}, [("unknown", "version")]),
        ({}, [("unknown", "version")]),
    ],
    ids=str,
)
def test_a_document_says_by_itself_which_release_wrote_it(
    tmp_path: Path, origin: dict[str, str], said: list[tuple[str, str]]
) -> None:
    scene = Scene(tmp_path, version="origin.release", versions=("1.2",))
    document = {"origin": origin, "inside": {"messages": [RESULT, REPLY]}}
    assert scene.is_(json.dumps(document).encode()) == said
