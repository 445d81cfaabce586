"""The descriptions of hosts' records, held against samples of what these hosts wrote.

`records/HOST-CASE.jsonl` has the entries from the call that brought a message on, with every word replaced
(`tests.e2e.hosts.sight.samples`). What the model of each case was given is known from its
server's log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from configs.hosts import HOSTS, find_host
from parlerd.core.judge import Answer, Judge
from parlerd.core.records import Record, check
from parlerd.core.sight import Found, expected
from tests.e2e.hosts.sight.samples import TEXT

RECORDS: Final = Path(__file__).parent / "records"
EXPECTED: Final = expected(TEXT)
SAMPLES: Final = sorted(path.stem for path in RECORDS.glob("*.jsonl"))
WATCHED: Final = [host.id for host in HOSTS if host.sight is not None]
PLAIN: Final = [name for name in SAMPLES if name.endswith("-plain")]

WAITS: Final = None
"""Nothing is proved yet: the host wrote nothing of the request that failed, or nothing of its end."""
SAID: Final[dict[str, dict[str, str | None]]] = {
    "plain": {},
    "parallel": {},
    "refused": {"gemini": WAITS, "grok": WAITS},
    # The next request holds the result again, but Cline CLI begins a new conversation.
    "refused-then-resumed": {"cline-cli": "not_shown"},
    # Gemini CLI takes out what a stopped turn was given.
    "stopped-then-asked": {"gemini": "not_shown"},
    # These two asked once more before, Gemini CLI by itself.
    "refused-then-compacted": {"cline-cli": "shown", "gemini": "shown", "grok": WAITS},
    "compacted-beside": {},
    "compacted-and-kept": {},
}
"""What a case says of hosts that differ from the rest."""
REST: Final = {
    "plain": "shown",
    "parallel": "shown",
    "refused-then-resumed": "shown",
    "stopped-then-asked": "shown",
    "compacted-beside": "shown",
    "compacted-and-kept": "shown",
}
"""What a case says of the rest; `not_shown` where nothing stands here."""


def sample(name: str) -> list[Any]:
    return [json.loads(line) for line in (RECORDS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def parts(name: str) -> tuple[str, str, Record]:
    """The host, the case and the description of a sample."""
    host = max((each for each in WATCHED if name.startswith(f"{each}-")), key=len)
    record = find_host(host).sight
    assert record is not None
    return host, name.removeprefix(f"{host}-"), record


def judged(record: Record, entries: list[Any]) -> Found | None:
    """The verdict that entries lead to."""
    judge, answer = Judge(record, "sample"), Answer([EXPECTED])
    last: Found | None = None
    for entry in entries:
        for found in judge.entry(entry, [answer]):
            # After a denial that may be disproved only what disproves it counts.
            last = found if last is None or found.verdict == "shown" else last
            if not found.stays:
                return last
    return last


def result_in(record: Record, entries: list[Any]) -> int | None:
    """The first entry that holds the result which the model gets."""
    for index in range(len(entries)):
        judge, answer = Judge(record, "sample"), Answer([EXPECTED])
        for entry in entries[: index + 1]:
            judge.entry(entry, [answer])
        if judge.has(answer):
            return index
    return None


def first_with_text(record: Record, entries: list[Any]) -> int:
    """The same of a sample that has one."""
    index = result_in(record, entries)
    assert index is not None, "the sample has no result"
    return index


def changed(value: Any, old: str, new: str) -> Any:
    """A value with one string replaced in it, wherever it stands."""
    return json.loads(json.dumps(value).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))


def nodes(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from nodes(each)


@pytest.mark.parametrize("host", WATCHED)
def test_a_description_can_be_meant(host: str) -> None:
    record = find_host(host).sight
    assert record is not None
    check(record)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_judged_as_the_models_server_had_it(name: str) -> None:
    host, case, record = parts(name)
    found = judged(record, sample(name))
    said = SAID[case].get(host, REST.get(case, "not_shown"))
    assert (found.verdict if found else None) == said, found


@pytest.mark.parametrize("name", SAMPLES)
def test_without_its_result_a_sample_proves_nothing(name: str) -> None:
    _, _, record = parts(name)
    found = judged(record, changed(sample(name), TEXT, "other words"))
    assert found is None


@pytest.mark.parametrize("name", PLAIN)
def test_a_message_that_is_cut_in_the_record_is_cut(name: str) -> None:
    _, _, record = parts(name)
    found = judged(record, changed(sample(name), TEXT, TEXT.replace("made up", "...")))
    assert found is not None
    assert (found.verdict, found.reason) == ("cut", "cut_by_host")


@pytest.mark.parametrize("name", PLAIN)
def test_a_copy_of_the_result_in_another_field_proves_nothing(name: str) -> None:
    _, _, record = parts(name)
    entries = sample(name)
    at = first_with_text(record, entries)
    entries[at] = changed(entries[at], TEXT, "other words")
    entries[at]["copy"] = TEXT
    assert judged(record, entries) is None


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_but_what_follows_the_result_proves_that_it_was_shown(name: str) -> None:
    _, _, record = parts(name)
    entries = sample(name)
    at = first_with_text(record, entries)
    assert judged(record, entries[: at + 1]) is None
    if record.chain is not None:
        # What the model said before the result says nothing about it, wherever it is written.
        assert judged(record, [entries[at], *entries[:at]]) is None


@pytest.mark.parametrize("name", PLAIN)
def test_an_entry_that_nobody_measured_ends_the_proof(name: str) -> None:
    _, _, record = parts(name)
    entries = sample(name)
    at = first_with_text(record, entries)
    strange = {"type": "nobody-measured-this", "role": "nobody", "message": {"role": "nobody"}}
    found = judged(record, [*entries[: at + 1], strange, *entries[at + 1 :]])
    assert found is not None
    assert (found.verdict, found.reason) == ("unknown", "unrecognised")


@pytest.mark.parametrize("name", SAMPLES)
def test_whatever_is_missing_nothing_is_shown_of_which_no_result_and_no_reply_stand_there(name: str) -> None:
    _, _, record = parts(name)
    entries = sample(name)
    for left_out in range(len(entries)):
        rest = entries[:left_out] + entries[left_out + 1 :]
        found, at = judged(record, rest), result_in(record, rest)
        if at is None:
            assert found is None, "a copy of the result was taken for it"
        elif found is not None and found.verdict == "shown":
            assert any(reply.fits(each) for each in rest[at + 1 :] for reply in record.replies)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_holds_nobodys_words(name: str) -> None:
    strings = {each for entry in sample(name) for each in nodes(entry) if isinstance(each, str)}
    assert not [each for each in strings if "/" in each or len(each) > 120], name


def test_a_compaction_of_gemini_between_a_result_and_a_reply_ends_the_proof() -> None:
    _, _, record = parts("gemini-plain")
    compacted = sample("gemini-refused-then-compacted")
    at = first_with_text(record, compacted)
    (place,) = [
        index for index, entry in enumerate(compacted) if entry.get("content") == "" and entry["type"] == "info"
    ]
    found = judged(record, [*compacted[: at + 1], *compacted[place:]])
    assert found is not None
    assert (found.verdict, found.reason) == ("unknown", "unrecognised")


def test_what_gemini_takes_out_of_a_conversation_was_not_shown_when_a_reply_follows() -> None:
    _, _, record = parts("gemini-plain")
    resumed = sample("gemini-refused-then-resumed")
    at = first_with_text(record, resumed)
    without, within = [
        index for index, entry in enumerate(resumed) if index > at and "messages" in entry.get("$set", {})
    ]
    replies = [entry for entry in resumed[within:] if entry.get("type") == "gemini"]
    assert judged(record, resumed[:within]) is None
    found = judged(record, [*resumed[: without + 1], *replies])
    assert found is not None
    assert (found.verdict, found.reason, found.stays) == ("not_shown", "rolled_back", False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"success": False}, ("shown", "reply")),
        ({"success": True, "trigger": "threshold"}, ("unknown", "compacting")),
        ({"success": True, "trigger": "manual"}, ("summarised", "compacted")),
    ],
    ids=str,
)
def test_copilot_compacts_beside_its_turn(changes: dict[str, Any], said: tuple[str, str]) -> None:
    """What stood there as the summary was begun is gone when the summary is done, and only then."""
    _, _, record = parts("copilot-plain")
    entries = sample("copilot-compacted-beside")
    start, done = [index for index, entry in enumerate(entries) if "compaction" in entry["type"]]
    at = first_with_text(record, entries)
    assert at < start
    ended = {**entries[done], "data": {**entries[done]["data"], **changes}}
    found = judged(record, [*entries[: start + 1], ended, *entries[start + 1 : done]])
    assert found is not None
    assert (found.verdict, found.reason) == said
    # What comes while the summary is made is kept.
    early = [*entries[:at], entries[start], *entries[at:start], ended, *entries[start + 1 : done]]
    found = judged(record, early)
    assert found is not None
    assert (found.verdict, found.reason) == ("shown", "reply")
    # Where nobody read that the summary was begun, nobody knows what came since.
    after = {**entries[start + 1], "parentId": entries[start]["parentId"]}
    found = judged(record, [*entries[:start], ended, after, *entries[start + 2 : done]])
    assert found is not None
    assert (found.verdict, found.reason) == said


@pytest.mark.parametrize(
    ("host", "changes"),
    [
        ("claude-code", {"compactMetadata": {"preservedMessages": {"uuids": ["another"]}}}),
        ("claude-code", {"compactMetadata": {}}),
        ("droid", {"anchorMessage": {"id": "the result"}}),
        ("droid", {"anchorMessage": {}}),
    ],
    ids=str,
)
def test_what_a_compaction_does_not_keep_is_summarised(host: str, changes: dict[str, Any]) -> None:
    _, _, record = parts(f"{host}-plain")
    entries = sample(f"{host}-compacted-and-kept")
    if host == "droid":
        entries = changed(entries, entries[first_with_text(record, entries)]["id"], "the result")
    (place,) = [
        index
        for index, entry in enumerate(entries)
        if any(ending.name == "compaction" and ending.fits(entry) for ending in record.endings)
    ]
    entries[place] = {**entries[place], **changes}
    found = judged(record, entries)
    assert found is not None
    assert (found.verdict, found.reason) == ("summarised", "compacted")


def test_what_opencode_compacts_is_known_with_the_next_reply() -> None:
    """It writes that it compacts, then which message is the first that it keeps, if one is, and then the summary."""
    _, _, record = parts("opencode-plain")
    entries = sample("opencode-compacted-and-kept")
    (place,) = [index for index, entry in enumerate(entries) if (entry["part"] or {}).get("type") == "compaction"]
    begun = {key: value for key, value in entries[place]["part"].items() if key != "tail_start_id"}
    assert begun != entries[place]["part"]
    mine = entries[first_with_text(record, entries)]["of"]
    for part, said in (
        (entries[place]["part"], ("shown", "reply")),
        ({**begun, "tail_start_id": mine}, ("shown", "reply")),
        (begun, ("summarised", "compacted")),
        ({**begun, "tail_start_id": entries[place]["of"]}, ("summarised", "compacted")),
        ({**entries[place]["part"], "overflow": True}, ("unknown", "compacting")),
    ):
        changed_there = [*entries[:place], {**entries[place], "part": part}]
        if said[0] != "unknown":
            assert judged(record, changed_there) is None
        found = judged(record, [*changed_there, *entries[place + 1 :]])
        assert found is not None
        assert (found.verdict, found.reason) == said


@pytest.mark.parametrize(
    ("kept", "said"), [(True, ("shown", "reply")), (False, ("unknown", "compacting"))], ids=["kept", "not kept"]
)
def test_what_cline_compacts_is_proved_only_where_it_keeps_it(kept: bool, said: tuple[str, str]) -> None:
    """What it writes beside its record is one more entry, behind the last one that it stands for."""
    _, _, record = parts("cline-cli-plain")
    entries = sample("cline-cli-plain")
    at = first_with_text(record, entries)
    summary = {"source_last_message_key": f"id:{entries[at]['id']}", "messages": [{"role": "user", "content": "words"}]}
    if kept:
        summary["messages"] = [*summary["messages"], *entries[at - 1 : at + 1]]
    found = judged(record, [*entries[: at + 1], summary, *entries[at + 1 :]])
    assert found is not None
    assert (found.verdict, found.reason) == said


@pytest.mark.parametrize("host", ["opencode", "kilo"])
def test_words_of_the_host_itself_are_no_reply_although_they_stand_in_a_message_of_the_assistant(host: str) -> None:
    """Kilo writes that it gets ready, before it asks, and takes it out again."""
    _, _, record = parts(f"{host}-plain")
    entries = sample(f"{host}-plain")
    at = first_with_text(record, entries)
    message = {"session": entries[at]["session"], "of": "zz-1", "message": {"role": "assistant", "parentID": "id-0"}}
    times = {"start": 1, "end": 2}
    words = {**message, "id": "zz-2", "part": {"type": "text", "text": "Initializing", "time": times}}
    step = {**message, "id": "zz-3", "part": {"type": "step-start"}}
    begun = {**message, "id": "zz-4", "part": {"type": "text", "text": "words", "time": {"start": 1}}}
    said = {**message, "id": "zz-4", "part": {"type": "text", "text": "words", "time": times}}
    for proofless in ([words], [words, step], [step], [step, begun]):
        assert judged(record, [*entries[: at + 1], *proofless]) is None
    found = judged(record, [*entries[: at + 1], step, said])
    assert found is not None
    assert found.verdict == "shown"


@pytest.mark.parametrize("host", ["opencode", "kilo"])
def test_a_command_that_a_person_runs_is_no_reply_although_it_is_written_as_a_tool_of_an_assistant(host: str) -> None:
    _, _, record = parts(f"{host}-plain")
    entries = sample(f"{host}-plain")
    at = first_with_text(record, entries)
    told = {"session": entries[at]["session"], "of": "zz-1", "id": "zz-2", "message": {"role": "user"}}
    run = {
        **told,
        "of": "zz-3",
        "id": "zz-4",
        "message": {"role": "assistant", "parentID": "zz-1", "mode": "words", "cost": 0},
        "part": {"type": "tool", "tool": "bash", "callID": "zz-5", "state": {"status": "running"}},
    }
    stands = [*entries[: at + 1], {**told, "part": {"type": "text", "text": "words", "synthetic": True}}, run]
    assert judged(record, stands) is None
    # The next reply of the model has what stands before it.
    step = {**run, "of": "zz-6", "id": "zz-7", "part": {"type": "step-start"}}
    found = judged(record, [*stands, step, {**run, "of": "zz-6", "id": "zz-8"}])
    assert found is not None
    assert found.verdict == "shown"
