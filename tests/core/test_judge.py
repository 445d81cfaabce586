"""What entries prove: the rule over arbitrary orders of entries, and each relation that a description may ask for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import judge as judging
from parlerd.core.judge import Answer, Judge, decoded
from parlerd.core.records import Call, Chain, Ending, Kind, Opening, Record, Reply, Result, Test
from parlerd.core.sight import Expected, Found, expected, marker_of

FIRST: Final = "the first message\n" + marker_of(b"11111111")
SECOND: Final = "the second message\n" + marker_of(b"22222222")
MARKERS: Final = (FIRST[-21:], SECOND[-21:])
WHOLE: Final = f"2 new:\n{FIRST}\n{SECOND}\n"


def is_type(*names: str) -> tuple[Test, ...]:
    return (Test("type", names),)


RECORD: Final = Record(
    versions=("1.0",),
    folders=("~/records",),
    files=("*.jsonl",),
    conversation=("thread",),
    results=(Result(name="result", has=is_type("result"), call="call", text="shown"),),
    replies=(Reply(name="reply", has=is_type("reply"), lacks=(Test("error"),)),),
    endings=(
        Ending(name="compaction", has=is_type("compact"), verdict="summarised", reason="compacted"),
        Ending(name="error", has=is_type("error"), verdict="not_shown", reason="failed_request"),
    ),
    harmless=(Kind(name="noise", has=is_type("noise")),),
)


def changed(**changes: Any) -> Record:
    return msgspec.structs.replace(RECORD, **changes)


def answer(call: str = "") -> Answer:
    return Answer([expected(FIRST), expected(SECOND)], call)


def verdicts(record: Record, entries: Sequence[Any], waited: Answer | None = None) -> dict[str, tuple[str, str]]:
    """The verdicts of a file that holds these entries; bytes are lines that are no entry."""
    waited = waited or answer()
    judge = Judge(record, "host 1.0")
    found: dict[str, tuple[str, str]] = {}
    for entry in entries:
        line = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
        for each in judge.line(line, [waited]):
            assert each.marker not in found or found[each.marker][0] == "not_shown", "a marker has one verdict"
            if not each.stays:
                del waited.left[each.marker]
            found[each.marker] = (each.verdict, each.reason)
    return found


def both(verdict: str, reason: str) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(MARKERS, (verdict, reason))


RESULT: Final = {"type": "result", "thread": "t", "shown": WHOLE}
REPLY: Final = {"type": "reply", "thread": "t"}


# -- the rule --------------------------------------------------------------------------------------------------


def test_a_result_with_a_reply_after_it_was_shown() -> None:
    assert verdicts(RECORD, [RESULT, REPLY]) == both("shown", "reply")


@pytest.mark.parametrize(
    "entries",
    [
        [RESULT],
        [REPLY],
        [REPLY, RESULT],
        [RESULT, {**REPLY, "thread": "other"}],
        [RESULT, {"type": "reply"}],
        [{**RESULT, "shown": "no marker", "raw": WHOLE}, REPLY],
        [{**RESULT, "type": "noise"}, REPLY],
    ],
    ids=str,
)
def test_nothing_is_said_while_nothing_is_proved(entries: list[Any]) -> None:
    assert verdicts(RECORD, entries) == {}


@pytest.mark.parametrize(
    ("between", "verdict", "reason"),
    [
        ({"type": "compact", "thread": "t"}, "summarised", "compacted"),
        ({"type": "compact"}, "summarised", "compacted"),
        ({"type": "error"}, "not_shown", "failed_request"),
        ({"type": "something new"}, "unknown", "unrecognised"),
        ({**REPLY, "error": "400"}, "unknown", "unrecognised"),
        (b"{", "unknown", "record_unreadable"),
        (b"[]", "unknown", "record_unreadable"),
        (b'{"type": "\xff"}', "unknown", "record_unreadable"),
        (b"[" * 100_000, "unknown", "record_unreadable"),
        (b'{"a":' * 100_000, "unknown", "record_unreadable"),
        (b"NaN", "unknown", "record_unreadable"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_stands_between_ends_the_proof(between: Any, verdict: str, reason: str) -> None:
    assert verdicts(RECORD, [RESULT, between, REPLY]) == both(verdict, reason)


@pytest.mark.parametrize("between", [{"type": "noise"}, {"type": "error", "thread": "u"}, b"", b"  ", RESULT], ids=str)
def test_what_means_nothing_for_this_conversation_ends_nothing(between: Any) -> None:
    assert verdicts(RECORD, [RESULT, between, REPLY]) == both("shown", "reply")


def test_an_ending_before_the_result_ends_nothing() -> None:
    assert verdicts(RECORD, [{"type": "compact"}, b"{", {"type": "new"}, RESULT, REPLY]) == both("shown", "reply")


CUTS: Final = {
    "the middle of the first": (WHOLE.replace("first", "f…t"), {0: "cut", 1: "shown"}),
    "the second": (WHOLE.replace(SECOND, "[cut]"), {0: "shown", 1: "cut"}),
    "the marker of the first": (WHOLE.replace(MARKERS[0], "…"), {0: "cut", 1: "shown"}),
    "the end of the second": (WHOLE[: -len(" message\n") - 30], {0: "shown", 1: "cut"}),
    "the head": (WHOLE[10:], {0: "cut", 1: "shown"}),
    "one letter that was changed": (WHOLE.replace("second", "Second"), {0: "shown", 1: "cut"}),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_message_is_shown_only_where_each_of_its_characters_stands_there(cut: str) -> None:
    text, expect = CUTS[cut]
    found = verdicts(RECORD, [{**RESULT, "shown": text}, REPLY])
    assert {number: found[marker][0] for number, marker in enumerate(MARKERS)} == expect


def test_the_text_is_found_among_the_blocks_of_a_result() -> None:
    blocks = [{"type": "text", "text": "Wall time"}, {"type": "text", "text": WHOLE}]
    assert verdicts(RECORD, [{**RESULT, "shown": blocks}, REPLY]) == both("shown", "reply")


def test_a_text_that_is_spread_over_two_blocks_is_not_whole() -> None:
    middle = WHOLE.index("first") + 2
    found = verdicts(RECORD, [{**RESULT, "shown": [WHOLE[:middle], WHOLE[middle:]]}, REPLY])
    assert found[MARKERS[0]] == ("cut", "cut_by_host")


def test_the_result_of_the_call_without_any_marker_was_cut() -> None:
    entries = [{**RESULT, "call": "c1", "shown": "too large"}, REPLY]
    assert verdicts(RECORD, entries, answer("c1")) == both("cut", "cut_by_host")
    assert verdicts(RECORD, entries, answer("c2")) == {}


def test_a_result_that_is_written_again_counts_from_there() -> None:
    cut = {**RESULT, "shown": WHOLE.replace("first", "")}
    assert verdicts(RECORD, [cut, RESULT, REPLY]) == both("shown", "reply")
    assert verdicts(RECORD, [RESULT, cut, REPLY])[MARKERS[0]] == ("cut", "cut_by_host")


COPY: Final = {**RESULT, "call": "of a shell", "thread": "u"}
"""What a tool of another conversation printed out of the record."""


@pytest.mark.parametrize("is_first", [False, True])
def test_what_another_tool_prints_out_of_a_record_is_not_the_result_of_our_call(is_first: bool) -> None:
    real = {**RESULT, "call": "c1"}
    waited = answer("c1")
    results = [COPY, real] if is_first else [real, COPY]
    assert verdicts(RECORD, [*results, {**REPLY, "thread": "u"}], waited) == {}
    assert verdicts(RECORD, [REPLY], waited) == {}, "another file"
    assert verdicts(RECORD, [*results, {**REPLY, "thread": "u"}, REPLY], waited) == both("shown", "reply")


@pytest.mark.parametrize("call", ["", "c1"])
def test_where_the_host_names_no_call_a_copy_makes_everything_unknown(call: str) -> None:
    # With code that calls tools, the id of our call is in no result.
    record = RECORD if not call else changed(results=(msgspec.structs.replace(RECORD.results[0], wraps=True),))
    copy, real = Judge(record, "host 1.0"), Judge(record, "host 1.0")
    waited = answer(call)
    # The copy is seen first, in the file of another conversation.
    assert copy.entry(COPY, [waited]) == []
    assert real.entry({**RESULT, "call": "of code"}, [waited]) == []
    for judge, thread in ((copy, "u"), (real, "t")):
        found = judge.entry({**REPLY, "thread": thread}, [waited])
        assert {each.marker: (each.verdict, each.reason) for each in found} == both("unknown", "copied")


def test_a_conversation_that_was_copied_with_its_calls_proves_as_the_first_one_does() -> None:
    for judge in (Judge(RECORD, "host 1.0"), Judge(RECORD, "host 1.0")):
        waited = answer()
        waited.calls = {"c1"}
        assert judge.entry({**RESULT, "call": "c1"}, [waited]) == []
        assert [each.verdict for each in judge.entry(REPLY, [waited])] == ["shown", "shown"]


def test_a_result_of_code_in_which_our_tool_was_called_is_ours() -> None:
    record = changed(results=(msgspec.structs.replace(RECORD.results[0], wraps=True),))
    assert verdicts(record, [{**RESULT, "call": "of code"}, REPLY], answer("c1")) == both("shown", "reply")
    assert verdicts(RECORD, [{**RESULT, "call": "of code"}, REPLY], answer("c1")) == {}


def test_an_entry_with_very_many_results_costs_what_its_size_costs() -> None:
    record = changed(results=(msgspec.structs.replace(RECORD.results[0], each="all[]"),))
    judge = Judge(record, "host 1.0")
    many = [Answer([expected(f"{number}\n{marker_of(number.to_bytes(8, 'big'))}")]) for number in range(256)]
    looked = [0]

    class Counting(dict[str, Expected]):
        def __bool__(self) -> bool:
            looked[0] += 1
            return len(self) > 0

    for each in many:
        each.left = Counting(each.left)
    entry = {"type": "result", "thread": "t", "all": [{"shown": "x"}] * 10_000}
    assert judge.entry(entry, many) == []
    assert looked[0] <= 10 * len(many), "every result was held against every answer"


def test_the_evidence_names_the_host_and_our_own_words_and_nothing_that_was_read() -> None:
    judge, waited = Judge(RECORD, "host 1.0"), answer()
    judge.entry(RESULT, [waited])
    assert {each.evidence for each in judge.entry(REPLY, [waited])} == {"host 1.0: result, reply"}


def test_messages_that_have_their_verdict_from_elsewhere_get_no_second() -> None:
    judge, waited = Judge(RECORD, "host 1.0"), answer()
    judge.entry(RESULT, [waited])
    del waited.left[MARKERS[0]]
    assert [each.marker for each in judge.entry(REPLY, [waited])] == [MARKERS[1]]
    judge.entry(RESULT, [waited])
    waited.left.clear()
    assert not judge.is_waiting
    assert judge.entry(REPLY, [waited]) == []
    assert not judge.has(waited)


def test_what_cannot_be_read_says_nothing_of_answers_that_stand_elsewhere() -> None:
    assert Judge(RECORD, "host 1.0").unreadable("rotated") == []


def test_a_line_matters_when_it_holds_a_marker_or_something_waits() -> None:
    judge, waited = Judge(RECORD, "host 1.0"), answer("call-7")
    assert not judge.matters(b"nothing", [waited])
    assert judge.matters(f"x{MARKERS[1]}x".encode(), [waited])
    assert judge.matters(b"a call-7 b", [waited])
    judge.entry(RESULT, [waited])
    assert judge.matters(b"nothing", [waited])
    waited.left.clear()
    assert not judge.matters(MARKERS[1].encode(), [waited])


# -- what a description may ask for ----------------------------------------------------------------------------


def test_a_host_that_cuts_after_it_has_recorded_proves_nothing_of_a_long_text() -> None:
    (result,) = RECORD.results
    below = changed(results=(msgspec.structs.replace(result, whole_below=len(WHOLE)),))
    above = changed(results=(msgspec.structs.replace(result, whole_below=len(WHOLE) + 1),))
    assert verdicts(below, [RESULT, REPLY]) == both("unknown", "too_long")
    assert verdicts(above, [RESULT, REPLY]) == both("shown", "reply")


def test_a_record_of_another_version_proves_nothing() -> None:
    gated = changed(version="v")
    assert verdicts(gated, [{**RESULT, "v": "1.0"}, REPLY]) == both("shown", "reply")
    assert verdicts(gated, [{**RESULT, "v": "1.1"}, REPLY]) == both("unknown", "version")
    assert verdicts(gated, [RESULT, REPLY]) == both("unknown", "version")


def test_a_text_that_is_json_is_looked_into() -> None:
    (result,) = RECORD.results
    nested = changed(results=(msgspec.structs.replace(result, nested=True),))
    inner = json.dumps({"content": [{"text": WHOLE}]})
    assert verdicts(nested, [{**RESULT, "shown": inner}, REPLY]) == both("shown", "reply")
    assert verdicts(RECORD, [{**RESULT, "shown": inner}, REPLY]) == both("cut", "cut_by_host")
    assert verdicts(nested, [{**RESULT, "shown": inner[:-3]}, REPLY]) == both("cut", "cut_by_host")


def test_a_reply_answers_a_request_that_was_sent_after_the_result() -> None:
    record = changed(
        openings=(Opening(name="request", has=is_type("request"), id="id"),),
        replies=(Reply(name="reply", has=is_type("reply"), opened="of"),),
    )
    before, after = {"type": "request", "id": "r1"}, {"type": "request", "id": "r2"}
    assert verdicts(record, [before, RESULT, {**REPLY, "of": "r1"}]) == {}
    assert verdicts(record, [before, RESULT, after, REPLY]) == {}
    assert verdicts(record, [before, RESULT, after, {**REPLY, "of": "r2"}]) == both("shown", "reply")
    assert verdicts(record, [RESULT, {**REPLY, "of": "r2"}, after]) == {}


def test_a_reply_differs_from_the_one_that_made_the_call() -> None:
    record = changed(
        calls=(Call(name="call", has=is_type("reply"), calls="calls[]", id="id"),),
        replies=(Reply(name="reply", has=is_type("reply"), differs="id"),),
    )
    calling = {**REPLY, "id": "m1", "calls": ["c1", "c2"]}
    result = {**RESULT, "call": "c1"}
    assert verdicts(record, [calling, result, {**REPLY, "id": "m1"}], answer("c1")) == {}
    assert verdicts(record, [calling, result, REPLY], answer("c1")) == {}
    assert verdicts(record, [calling, result, {**REPLY, "id": "m2"}], answer("c1")) == both("shown", "reply")
    # Which reply made the call is not known, so none is known to be another.
    assert verdicts(record, [result, {**REPLY, "id": "m2"}], answer("c1")) == {}


@pytest.mark.parametrize(
    ("number", "proves"), [(4, False), (5, True), (6, True), ("6", False), (None, False), (True, False)]
)
def test_a_reply_was_made_from_as_much_as_the_result(number: Any, proves: bool) -> None:
    record = changed(result_at="n", replies=(Reply(name="reply", has=is_type("reply"), at_least="from"),))
    found = verdicts(record, [{**RESULT, "n": 5}, {**REPLY, "from": number}])
    assert found == (both("shown", "reply") if proves else {})
    assert verdicts(record, [RESULT, {**REPLY, "from": number}]) == {}


class TestChains:
    RECORD: Final = changed(chain=Chain(id="id", parent="up", caller="by"))

    @pytest.mark.parametrize("marker", ["direct", "through noise", "through the caller"])
    def test_a_reply_below_the_result_proves_it(self, marker: str) -> None:
        result = {**RESULT, "id": "r", "up": "c", "by": "c"}
        entries: dict[str, list[Any]] = {
            "direct": [result, {**REPLY, "id": "x", "up": "r"}],
            "through noise": [result, {"type": "noise", "id": "n", "up": "r"}, {**REPLY, "id": "x", "up": "n"}],
            # Two calls of one reply: the next reply hangs below the result of the second.
            "through the caller": [
                {"type": "noise", "id": "c2", "up": "c"},
                result,
                {"type": "noise", "id": "r2", "up": "c2"},
                {**REPLY, "id": "x", "up": "r2"},
            ],
        }
        assert verdicts(self.RECORD, entries[marker]) == both("shown", "reply")

    @pytest.mark.parametrize(
        "reply", [{}, {"up": "before"}, {"up": "gone"}, {"up": None}, {"id": "x", "up": "x"}, {"up": ["r"]}], ids=str
    )
    def test_a_reply_in_another_branch_proves_nothing(self, reply: dict[str, Any]) -> None:
        entries = [{"type": "noise", "id": "before"}, {**RESULT, "id": "r", "up": "before"}, {**REPLY, **reply}]
        assert verdicts(self.RECORD, entries) == {}

    def test_parents_in_a_circle_end(self) -> None:
        circle = [{"type": "noise", "id": "a", "up": "b"}, {"type": "noise", "id": "b", "up": "a"}]
        assert verdicts(self.RECORD, [{**RESULT, "id": "r"}, *circle, {**REPLY, "up": "a"}]) == {}

    def test_no_more_parents_are_remembered_than_the_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judging, "MAX_LINKS", 3)
        long = [{"type": "noise", "id": str(n), "up": str(n - 1)} for n in range(1, 9)]
        result = {**RESULT, "id": "0"}
        assert verdicts(self.RECORD, [result, *long[:3], {**REPLY, "up": "3"}]) == both("shown", "reply")
        assert verdicts(self.RECORD, [result, *long, {**REPLY, "up": "8"}]) == {}


# -- what a host keeps -----------------------------------------------------------------------------------------

KEEPS: Final = changed(
    endings=(
        *RECORD.endings,
        Ending(name="stop", has=is_type("stop"), verdict="not_shown", reason="cancelled", then="stays"),
        Ending(name="history", has=is_type("history"), verdict="not_shown", reason="rolled_back", then="returns"),
    ),
)
STOP: Final = {"type": "stop", "thread": "t"}
HISTORY: Final = {"type": "history", "thread": "t"}


def test_what_a_stopped_turn_was_given_is_not_shown_until_a_reply_to_a_later_request() -> None:
    judge, waited = Judge(KEEPS, "host 1.0"), answer()
    judge.entry(RESULT, [waited])
    denied = judge.entry(STOP, [waited])
    assert {(each.verdict, each.reason, each.stays) for each in denied} == {("not_shown", "cancelled", True)}
    assert len(denied) == 2
    assert judge.is_waiting
    assert judge.entry(STOP, [waited]) == [], "it is told once"
    shown = judge.entry(REPLY, [waited])
    assert {(each.verdict, each.reason, each.stays) for each in shown} == {("shown", "reply", False)}
    assert len(shown) == 2
    assert not judge.has(waited)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"type": "compact"}, ("summarised", "compacted")),
        ({"type": "error"}, ("not_shown", "failed_request")),
        ({"type": "new"}, ("unknown", "unrecognised")),
        (b"{", ("unknown", "record_unreadable")),
    ],
    ids=str,
)
def test_what_takes_the_result_out_after_a_stop_ends_the_wait(end: Any, said: tuple[str, str]) -> None:
    assert verdicts(KEEPS, [RESULT, STOP, end, REPLY]) == both(*said)


def test_a_reply_after_a_stop_proves_what_a_reply_proves() -> None:
    cut = {**RESULT, "shown": WHOLE.replace("first", "")}
    assert verdicts(KEEPS, [cut, STOP, REPLY]) == dict(
        zip(MARKERS, [("cut", "cut_by_host"), ("shown", "reply")], strict=True)
    )
    assert verdicts(KEEPS, [RESULT, STOP, {**REPLY, "thread": "u"}]) == both("not_shown", "cancelled")


def test_a_conversation_that_is_written_anew_without_the_result_waits_for_the_next_reply() -> None:
    assert verdicts(KEEPS, [RESULT, HISTORY]) == {}
    assert verdicts(KEEPS, [RESULT, HISTORY, REPLY]) == both("not_shown", "rolled_back")
    assert verdicts(KEEPS, [RESULT, HISTORY, RESULT, REPLY]) == both("shown", "reply")
    assert verdicts(KEEPS, [RESULT, HISTORY, RESULT, HISTORY, REPLY]) == both("not_shown", "rolled_back")


class TestCompactions:
    KEPT: Final = changed(
        chain=Chain(id="id", parent="up"),
        endings=(
            Ending(
                name="compaction", has=is_type("compact"), verdict="summarised", reason="compacted", kept="kept.ids[]"
            ),
        ),
    )
    UPTO: Final = changed(
        endings=(
            Ending(
                name="compaction",
                has=is_type("compact"),
                verdict="summarised",
                reason="compacted",
                upto="last",
                at="id",
            ),
        ),
    )

    @pytest.mark.parametrize(
        ("kept", "up", "said"),
        [
            (["x", "r"], "c", both("shown", "reply")),
            # What hangs below the result itself is another branch now, and still holds the result.
            (["r"], "r", both("shown", "reply")),
            (["r"], None, {}),
            (["x"], "c", both("summarised", "compacted")),
            ([], "r", both("summarised", "compacted")),
            (None, "r", both("summarised", "compacted")),
        ],
        ids=str,
    )
    def test_an_entry_that_is_named_as_kept_is_kept(self, kept: Any, up: str | None, said: Any) -> None:
        compaction = {"type": "compact", "id": "c", "up": None, "kept": {"ids": kept}}
        assert verdicts(self.KEPT, [{**RESULT, "id": "r"}, compaction, {**REPLY, "up": up}]) == said

    def test_a_result_without_an_id_is_never_kept(self) -> None:
        compaction = {"type": "compact", "id": "c", "kept": {"ids": [None]}}
        assert verdicts(self.KEPT, [RESULT, compaction, {**REPLY, "up": "c"}]) == both("summarised", "compacted")

    @pytest.mark.parametrize(
        ("order", "said"),
        [
            # The first that is kept came before the result, read or not, or with it, or after it, or after all of this.
            ("1A1", "shown"),
            ("A1", "shown"),
            ("A2", "shown"),
            ("A=2", "shown"),
            ("A>3", "summarised"),
            ("A>4", "summarised"),
            ("A0", "summarised"),
        ],
    )
    def test_what_came_with_or_after_the_first_that_a_compaction_keeps_is_kept(self, order: str, said: str) -> None:
        since = msgspec.structs.replace(self.UPTO.endings[0], upto="", since="first")
        letters = {"A": {**RESULT, "id": "m2"}, "=": {"type": "noise", "id": "m2"}, ">": {"type": "noise", "id": "m3"}}
        before, compacts = order[:-1], order[-1]
        entries = [letters.get(letter, {"type": "noise", "id": f"m{letter}"}) for letter in before]
        compaction = {"type": "compact", "id": "m3"} | ({"first": f"m{compacts}"} if compacts != "0" else {})
        found = verdicts(changed(endings=(since,)), [*entries, compaction, REPLY])
        assert found == (both("shown", "reply") if said == "shown" else both("summarised", "compacted"))

    @pytest.mark.parametrize(
        ("order", "said"),
        [
            # The summary was begun before the result came.
            ("SAC", "shown"),
            ("SnAC", "shown"),
            ("AC", "shown"),
            ("ASC", "summarised"),
            ("ASnC", "summarised"),
            ("AnSC", "summarised"),
            # Another summary is none of this one.
            ("AsC", "shown"),
            ("Ac", "summarised"),
        ],
    )
    def test_what_came_after_the_entry_that_a_compaction_names_is_kept(self, order: str, said: str) -> None:
        letters = {
            "A": {**RESULT, "id": "r"},
            "S": {"type": "noise", "id": "s"},
            "s": {"type": "noise", "id": "other"},
            "n": {"type": "noise"},
            "C": {"type": "compact", "last": "s"},
            "c": {"type": "compact"},
        }
        found = verdicts(self.UPTO, [*(letters[letter] for letter in order), REPLY])
        assert found == (both("shown", "reply") if said == "shown" else both("summarised", "compacted"))

    @pytest.mark.parametrize(
        ("order", "said"), [("SAC", "shown"), ("SnAC", "shown"), ("AC", "summarised"), ("ASC", "summarised")]
    )
    def test_what_a_compaction_names_may_have_to_be_read(self, order: str, said: str) -> None:
        letters = {
            "A": {**RESULT, "id": "r"},
            "S": {"type": "noise", "id": "s"},
            "n": {"type": "noise"},
            "C": {"type": "compact", "last": "s"},
        }
        read = msgspec.structs.replace(self.UPTO.endings[0], read=True)
        record = changed(endings=(read,), chain=Chain(id="id", parent="up"))
        found = verdicts(record, [*(letters[letter] for letter in order), {**REPLY, "up": "r"}])
        assert found == (both("shown", "reply") if said == "shown" else both("summarised", "compacted"))

    def test_the_result_itself_may_be_the_last_that_is_taken_out(self) -> None:
        entries = [{**RESULT, "id": "s"}, {"type": "compact", "last": "s"}, REPLY]
        assert verdicts(self.UPTO, entries) == both("summarised", "compacted")

    def test_where_too_many_entries_passed_to_remember_nothing_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judging, "MAX_LINKS", 3)
        noise = [{"type": "noise", "id": str(n)} for n in range(5)]
        entries = [{**RESULT, "id": "r"}, {"type": "noise", "id": "s"}, *noise, {"type": "compact", "last": "s"}, REPLY]
        assert verdicts(self.UPTO, entries) == both("summarised", "compacted")


# -- a message in parts ----------------------------------------------------------------------------------------

PARTS: Final = tuple(f"part {number}\n{marker_of(bytes([64 + number]) * 8)}" for number in range(3))
"""The parts of one message, each of which is in an answer of its own."""


def in_parts(count: int) -> list[Answer]:
    """The answers that hold a message of so many parts."""
    before, answers = "", list[Answer]()
    for number, text in enumerate(PARTS[:count]):
        each = expected(text, after=before, goes_on=number + 1 < count)
        answers.append(Answer([each]))
        before = each.marker
    return answers


def part(number: int, **more: Any) -> dict[str, Any]:
    return {**RESULT, "shown": PARTS[number], **more}


def words_of_parts(
    record: Record, files: Sequence[tuple[int, Any]], answers: Sequence[Answer]
) -> list[list[tuple[str, str]]]:
    """The words on each part, in their order, where entries are of files with these numbers."""
    judges = {number: Judge(record, "host 1.0") for number, _ in files}
    said: dict[str, list[tuple[str, str]]] = {marker: [] for answer in answers for marker in answer.left}
    for number, entry in files:
        line = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
        for each in judges[number].line(line, answers):
            if not each.stays:
                for answer in answers:
                    answer.left.pop(each.marker, None)
            said[each.marker].append((each.verdict, each.reason))
    return list(said.values())


def words(record: Record, entries: Sequence[Any], count: int = 2) -> list[list[tuple[str, str]]]:
    return words_of_parts(record, [(0, entry) for entry in entries], in_parts(count))


SHOWN: Final = ("shown", "reply")
COMPACT: Final = {"type": "compact"}


def test_a_message_in_parts_is_shown_where_a_reply_follows_all_of_them() -> None:
    assert words(RECORD, [part(0), REPLY, part(1), REPLY]) == [[SHOWN, SHOWN], [SHOWN]]
    assert words(RECORD, [part(0), part(1), REPLY]) == [[SHOWN, SHOWN], [SHOWN]]
    assert words(RECORD, [part(1), part(0), REPLY]) == [[SHOWN], [SHOWN]], "results of parallel calls"
    assert words(RECORD, [part(0), REPLY, part(1), REPLY, part(2), REPLY], 3)[2] == [SHOWN]


def test_a_part_with_a_reply_stands_on_until_the_message_is_whole() -> None:
    judge, answers = Judge(RECORD, "host 1.0"), in_parts(2)
    judge.entry(part(0), answers)
    (found,) = judge.entry(REPLY, answers)
    assert (found.verdict, found.stays) == ("shown", True)
    assert judge.is_waiting
    assert judge.entry(REPLY, answers) == [], "it is told once"
    judge.entry(part(1), answers)
    assert [(each.verdict, each.stays) for each in judge.entry(REPLY, answers)] == [("shown", False)] * 2
    assert judge.entry(COMPACT, answers) == [], "what was shown stays so"
    assert not judge.has(answers[0])


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (COMPACT, ("summarised", "compacted")),
        ({"type": "error"}, ("not_shown", "failed_request")),
        ({"type": "something new"}, ("unknown", "unrecognised")),
        (b"{", ("unknown", "record_unreadable")),
    ],
    ids=str,
)
def test_what_takes_the_first_part_out_before_the_reply_to_the_last_leaves_no_whole_message(
    end: Any, said: tuple[str, str]
) -> None:
    assert words(RECORD, [part(0), REPLY, end, part(1), REPLY]) == [[SHOWN, said], [("unknown", "apart")]]
    assert words(RECORD, [part(0), end, part(1), REPLY]) == [[said], [("unknown", "apart")]]
    between = words(RECORD, [part(0), REPLY, part(1), end, REPLY])
    assert between == [[SHOWN, said], [said]]
    middle = words(RECORD, [part(0), REPLY, part(1), REPLY, end, part(2), REPLY], 3)
    assert middle == [[SHOWN, said], [SHOWN, said], [("unknown", "apart")]]


def test_a_stop_takes_no_part_out_that_the_conversation_keeps() -> None:
    assert words(KEEPS, [part(0), REPLY, STOP, part(1), STOP, REPLY]) == [
        [SHOWN, SHOWN],
        [("not_shown", "cancelled"), SHOWN],
    ]
    assert words(KEEPS, [part(0), REPLY, part(1), HISTORY, REPLY]) == [
        [SHOWN, ("not_shown", "rolled_back")],
        [("not_shown", "rolled_back")],
    ]
    assert words(KEEPS, [part(0), REPLY, HISTORY, part(1), REPLY])[1] == [("unknown", "apart")]
    # A history that is written anew with all of it.
    assert words(KEEPS, [part(0), REPLY, HISTORY, part(0), part(1), REPLY])[1] == [SHOWN]


def test_a_compaction_that_keeps_the_first_part_leaves_the_message_whole() -> None:
    compaction = Ending(
        name="compaction", has=is_type("compact"), verdict="summarised", reason="compacted", kept="kept[]"
    )
    record = changed(endings=(compaction,), chain=Chain(id="id", parent="up"))
    entries = [part(0, id="a"), {**REPLY, "id": "b", "up": "a"}, {"type": "compact", "id": "c", "kept": ["a"]}]
    rest = [part(1, id="d", up="c"), {**REPLY, "id": "e", "up": "d"}]
    assert words(record, [*entries, *rest])[1] == [SHOWN]
    entries[2]["kept"] = ["b"]
    assert words(record, [*entries, *rest]) == [[SHOWN, ("summarised", "compacted")], [("unknown", "apart")]]


@pytest.mark.parametrize("is_first_replied", [True, False])
def test_parts_that_were_read_in_two_conversations_are_no_whole_message(is_first_replied: bool) -> None:
    replied = [(0, REPLY)] if is_first_replied else []
    other = {"thread": "u"}
    files = [(0, part(0)), *replied, (1, part(1, **other)), (1, {**REPLY, **other})]
    assert words_of_parts(RECORD, files, in_parts(2))[1] == [("unknown", "apart")]
    one_file = [(0, entry) for _, entry in files]
    assert words_of_parts(RECORD, one_file, in_parts(2))[1] == [("unknown", "apart")]
    branches = changed(chain=Chain(id="id", parent="up"), conversation=())
    entries = [part(0, id="a", up="0"), {**REPLY, "id": "b", "up": "a"}, part(1, id="c", up="0")]
    assert words(branches, [*entries, {**REPLY, "id": "d", "up": "c"}])[1] == [("unknown", "apart")]


def test_a_part_that_was_cut_or_is_in_doubt_makes_no_message_whole() -> None:
    cut = part(0, shown=PARTS[0].replace("part", "…"))
    assert words(RECORD, [cut, REPLY, part(1), REPLY]) == [[("cut", "cut_by_host")], [("unknown", "apart")]]
    assert words(RECORD, [cut, part(1), REPLY])[1] == [("unknown", "apart")]
    versions = changed(version="by")
    assert words(versions, [part(0, by="0.9"), part(1, by="1.0"), REPLY])[1] == [("unknown", "apart")]
    copied = [part(0, call="a"), part(0, call="b"), part(1), REPLY]
    assert words(RECORD, copied) == [[("unknown", "copied")], [("unknown", "apart")]]


def test_parts_that_name_each_other_in_a_circle_end() -> None:
    one, two = (expected(PARTS[a], after=PARTS[b][-21:], goes_on=True) for a, b in ((0, 1), (1, 0)))
    found = words_of_parts(RECORD, [(0, part(0)), (0, part(1)), (0, REPLY)], [Answer([one]), Answer([two])])
    assert found == [[("unknown", "apart")]] * 2


def test_what_stands_beside_a_part_has_its_one_verdict() -> None:
    beside, rest = in_parts(2)
    beside.left[MARKERS[0]] = expected(FIRST)
    both_of_them = part(0, shown=f"{FIRST}\n{PARTS[0]}")
    found = words_of_parts(RECORD, [(0, each) for each in (both_of_them, REPLY, REPLY, COMPACT)], [beside, rest])
    assert found == [[SHOWN, ("summarised", "compacted")], [SHOWN], []]


# -- any order of anything -------------------------------------------------------------------------------------

LETTERS: Final[dict[str, Any]] = {
    "A": RESULT,
    "a": {**RESULT, "shown": WHOLE.replace("first", "…")},
    "R": {**RESULT, "shown": "", "raw": WHOLE},
    "B": REPLY,
    "b": {**REPLY, "thread": "u"},
    "E": {"type": "error", "thread": "t"},
    "S": STOP,
    "e": {"type": "error", "thread": "u"},
    "C": {"type": "compact"},
    "n": {"type": "noise"},
    "X": {"type": "new", "thread": "t"},
    "!": b'{"type"',
}
"""Entries of a file in which two conversations stand."""
LINES: Final = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in LETTERS.values()]
ENDS: Final = frozenset("ECX!")


@settings(max_examples=500)
@given(st.text(alphabet="".join(LETTERS), max_size=12))
def test_shown_is_said_only_of_a_whole_result_with_a_reply_after_it_and_no_ending_between(order: str) -> None:
    found = verdicts(KEEPS, [LETTERS[letter] for letter in order])
    proofs = {
        number: [
            (start, end)
            for start, letter in enumerate(order)
            for end in range(start + 1, len(order))
            if letter in ("A" if number == 0 else "Aa")
            and order[end] == "B"
            and not ENDS & set(order[start:end])
            # A result that was written again counts as it stands there.
            and "a" not in order[start + 1 : end]
        ]
        for number in (0, 1)
    }
    for number, marker in enumerate(MARKERS):
        if found.get(marker, ("", ""))[0] == "shown":
            assert proofs[number]
        else:
            # Nothing that is proved is left out, but for what had another verdict before the proof began.
            decided = min((at for at in range(len(order)) if _ends_at(order, at)), default=len(order))
            assert all(end > decided for _, end in proofs[number])


@settings(max_examples=500)
@given(st.text(alphabet="12BbECXSn!", max_size=12))
def test_the_last_part_is_shown_only_of_a_reply_after_both_with_no_ending_since_the_first(order: str) -> None:
    letters = {**LETTERS, "1": part(0), "2": part(1)}
    said = words(KEEPS, [letters[letter] for letter in order])
    proofs = [
        (start, end)
        for end, letter in enumerate(order)
        if letter == "B" and "2" in order[:end]
        for start in range(end)
        if order[start] == "1" and "2" in order[:end]
        and not ENDS & set(order[min(start, order.rindex("2", 0, end)) : end])
    ]  # fmt: skip
    if SHOWN in said[1]:
        assert proofs


def _ends_at(order: str, at: int) -> bool:
    """Whether something gave a verdict at this place: a result stood, and an ending or a reply came."""
    start = max((index for index in range(at) if order[index] in "Aa"), default=-1)
    return start >= 0 and order[at] in {*ENDS, "B"}


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([json.dumps(each).encode() if isinstance(each, dict) else each for each in LETTERS.values()])
        | st.binary(max_size=60),
        max_size=12,
    )
)
def test_no_line_makes_the_judge_fail(lines: list[bytes]) -> None:
    judge, waited = Judge(KEEPS, "host 1.0"), answer("c")
    found: list[Found] = []
    for line in lines:
        now = judge.line(line, [waited])
        for each in now:
            if not each.stays:
                del waited.left[each.marker]
        found += [each for each in now if not each.stays]
    assert len({each.marker for each in found}) == len(found)


def test_a_line_that_is_no_object_is_no_entry() -> None:
    assert [decoded(line) for line in (b"", b"1", b"null", b'"x"', b"[{}]", b"{} {}", b"{")] == [None] * 7
    assert decoded(b'{"a": 1}') == {"a": 1}
