"""A result's text taken apart again, as a reader of it can: who I am, the key, the code, the messages, the calls that
are named.

The other side of `tools.results`, for those who play a model: the demo, the probe, the benchmarks and the tests. They
get nothing that is not in the text, so whatever they need a model can know too. Not here: judging what was heard.
Below: `parlerd.core.errors`, for what the code of an error means. Invariant: what stands inside a fence is read as a
message and as nothing else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from parlerd.core.errors import ERRORS

_HEAD: Final = re.compile(r"\[peer ([0-9a-z]{8})(?: ([^\]\n]*))?\]")
_MARKED: Final = re.compile(r"\[([0-9a-z]{8}) (rcpt-[0-9a-f]{16})\]")
_NUMBERED: Final = re.compile(r"#(\d+) (\S+)\Z")
_FURTHER: Final = re.compile(r"([a-z]+) of #(\d+)\Z")
_CALL: Final = re.compile(r"(parler_[a-z_]+) (\{[^\n]*?\})(?=$|[\s.,;)])", re.MULTILINE)
_CUT: Final = re.compile(r"characters (\d+) to (\d+) of (\d+)\Z")
_ENTRY: Final = re.compile(r"^(?!Meanwhile: |Example: )(\S+?)( \(you\))?: (.+)$", re.MULTILINE)
_DECIDED: Final = re.compile(r"^(Your user|The room's policy) (let|declined) (\S+) (?:into|for) (\S+)\.$", re.MULTILINE)
_KNOCK: Final = re.compile(
    r"^(?P<who>\S+) \(says it is on (?P<host>\S+)\) knocks at (?P<room>\S+); fingerprint (?P<print>\S+), since ",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One text under one head. `facts` are what the head says beside number and author; `begin`, `end` and `whole` are
    characters, of a text that was shown in part."""

    seq: int
    author: str
    facts: tuple[str, ...]
    text: str
    begin: int = 0
    end: int = 0
    whole: int = 0

    @property
    def verified(self) -> bool:
        """Whether the author's signature holds: only the contrary is said (`text.verdicts`)."""
        return not any(fact.startswith(("NOT VERIFIED", "NOT SIGNED")) for fact in self.facts)

    @property
    def reply_to(self) -> int:
        """The number of the message that this one answers; 0 when none is named."""
        return int(self._after("reply to #") or 0)

    @property
    def turn_to(self) -> str:
        """Whom this message offers the turn to: `you`, `anyone` or a name; empty when it offers nothing."""
        return self._after("offers the turn to ")

    def _after(self, words: str) -> str:
        return next((fact.removeprefix(words) for fact in self.facts if fact.startswith(words)), "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list: a room, a member or a reader, and what is said of it."""

    name: str
    facts: tuple[str, ...]
    is_you: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its facts, without times: of a reader, every stage that the message reached."""
        return tuple(word for fact in self.facts for word in fact.split() if word[:1].isalpha())


@dataclass(frozen=True, slots=True)
class Knock:
    """Somebody who waits to be let in, by what it says of itself."""

    room: str
    name: str
    host: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a request to come in. `by_person` says that a person typed the code or declined."""

    admitted: bool
    by_person: bool
    name: str
    room: str


@dataclass(slots=True)
class Heard:
    """What one text says. `text` is all of it, and `said` what stands outside its fences. `markers` stand behind
    messages, where the record of the host is watched."""

    text: str
    said: str
    parts: list[Part] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)

    # -- messages ----------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[Part]:
        """The texts that are not a further part of the message before."""
        return [part for part in self.parts if part.author]

    @property
    def texts(self) -> list[str]:
        """The messages' texts."""
        return [part.text for part in self.messages]

    @property
    def seqs(self) -> list[int]:
        """The messages' numbers."""
        return [part.seq for part in self.messages]

    def further(self, seq: int, kind: str) -> str:
        """What stands beside message `seq` under this name, as `state` or `data`; empty when nothing does."""
        return next((part.text for part in self.parts if part.seq == seq and part.facts[:1] == (kind,)), "")

    # -- how to go on ------------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls that are named, in order."""
        found: list[tuple[str, dict[str, Any]]] = []
        for tool, arguments in _CALL.findall(self.said):
            try:
                found.append((tool, json.loads(arguments)))
            except ValueError:
                continue
        return found

    @property
    def more(self) -> int:
        """How many messages follow."""
        return int(self._find(r"^(\d+) more: parler_recv") or 0)

    @property
    def more_call(self) -> dict[str, Any] | None:
        """The arguments of `parler_recv` that bring what follows; None when nothing does."""
        return self._arguments(r"^\d+ more: parler_recv (\{.*\})$")

    @property
    def rest_call(self) -> dict[str, Any] | None:
        """The arguments of `parler_recv` that bring the rest of a message; None when all of it was shown."""
        return self._arguments(r"^#\d+ goes on: parler_recv (\{.*\})$")

    @property
    def left_out(self) -> tuple[int, int] | None:
        """The first and the last number of what stands between the recap and the newest messages and was not shown."""
        found = re.search(r"^Left out: #(\d+) to #(\d+)\.", self.said, re.MULTILINE)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def left_out_call(self) -> dict[str, Any] | None:
        """The arguments of `parler_recv` that bring what was left out; None when nothing was."""
        return self._arguments(r"^Left out: .* To read them: parler_recv (\{.*\})$")

    # -- errors ------------------------------------------------------------------------------------------------

    @property
    def error(self) -> str:
        """The code of an error; empty for another answer."""
        found = re.match(r"([a-z_]+): ", self.said)
        return found[1] if found and found[1] in ERRORS else ""

    @property
    def is_retryable(self) -> bool:
        """Whether this is an error of which the same call can be made again."""
        return bool(self.error) and ERRORS[self.error].retryable

    @property
    def retry_key(self) -> str:
        """The idempotency key of a write that failed."""
        return self._find(r"pass key (\S+)\.$")

    # -- sessions ----------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """Where the reader stands at the door: `joined`, `pending` or `denied`; empty for an answer about something
        else."""
        found = re.match(r"(Pending|Denied): ", self.said)
        if found:
            return found[1].lower()
        return "joined" if re.match(r"You are \S+ in \S+, your active session now\.$", self.said, re.MULTILINE) else ""

    @property
    def session_key(self) -> str:
        """The key in the line to hand over."""
        return self._find(r"^Join the Parler session (\S+)\.$")

    @property
    def asks_person(self) -> bool:
        """Of a session that was opened: whether a person decides who comes in."""
        return self._find(r"^(Your user decides who comes in);") != ""

    @property
    def join_code(self) -> str:
        """The code that a person is to be told."""
        return self._find(r"[Yy]our code(?: is)? ([A-Z0-9]+)\b")

    @property
    def decision(self) -> Decision | None:
        """What was decided about somebody else's request; None in an answer about something else."""
        found = _DECIDED.search(self.said)
        return Decision(found[2] == "let", found[1] == "Your user", found[3], found[4]) if found else None

    @property
    def knocks(self) -> list[Knock]:
        """Who knocks."""
        found = _KNOCK.finditer(self.said)
        return [Knock(each["room"], each["who"], each["host"], each["print"]) for each in found]

    # -- who and where -----------------------------------------------------------------------------------------

    @property
    def you(self) -> str:
        """Who the reader is."""
        return self._find(r"^You are (\S+?)(?:\.$| in )")

    @property
    def room(self) -> str:
        """The room that the answer is about."""
        return (
            self._find(r"^Sent #\d+ to (\S+?)(?:\.$| before; )")
            or self._find(r"^The turn is offered to \S+ in (\S+?)(?:, #\d+)?(?:\. | before; )")
            or self._find(r"^You are \S+ in ([^\s,;]+?)(?:[,;]|\.$)")
            or self._find(r"^(?:Meanwhile )?\d+ (?:new )?in (\S+):$")
            or self._find(r"^In (\S+):$")
        )

    @property
    def entries(self) -> list[Entry]:
        """The lines of a list, in order. Rooms, members and readers are listed alike."""
        if self.error:
            return []
        return [Entry(name, tuple(facts.split(", ")), bool(you)) for name, you, facts in _ENTRY.findall(self.said)]

    def entry(self, name: str) -> Entry | None:
        """The line about `name`; None when there is none."""
        return next((entry for entry in self.entries if entry.name == name), None)

    # -- the rest ----------------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        """The number of the message that was sent."""
        return int(self._find(r"^Sent #(\d+) ") or 0)

    @property
    def is_queued(self) -> bool:
        """Whether what was sent waits on its own machine for a relay that does not answer."""
        return self._find(r"^(Not sent yet) to ") != ""

    @property
    def is_replay(self) -> bool:
        """Whether a write had been done before, so that this one changed nothing."""
        return self._find(r"^(?:Sent|The turn is offered) .*( before; this repeats that request)\.") != ""

    @property
    def news(self) -> str:
        """The notice."""
        return self._find(r"^(Meanwhile: .*)$")

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.said, re.MULTILINE)
        return found[1] if found else ""

    def _arguments(self, pattern: str) -> dict[str, Any] | None:
        found = self._find(pattern)
        arguments: dict[str, Any] | None = json.loads(found) if found else None
        return arguments


def hear(text: str) -> Heard:
    """Take the text of a result apart."""
    said: list[str] = []
    heard = Heard(text, "")
    mark, head = "", ""
    body: list[str] = []
    for line in text.split("\n"):
        begins = _HEAD.fullmatch(line)
        if mark and line == f"[end {mark}]":
            heard.parts.append(_part(head, body))
            mark = ""
        elif begins and (not mark or begins[1] == mark):
            if mark:
                heard.parts.append(_part(head, body))
            mark, head, body = begins[1], begins[2] or "", []
        elif mark and (marked := _MARKED.fullmatch(line)) and marked[1] == mark:
            heard.markers.append(marked[2])
        elif mark:
            body.append(line)
        else:
            said.append(line)
    heard.said = "\n".join(said)
    return heard


def _part(head: str, body: list[str]) -> Part:
    first, *facts = head.split("; ")
    numbered = _NUMBERED.match(first)
    begin, end, whole = 0, 0, 0
    for fact in facts:
        if cut := _CUT.match(fact):
            begin, end, whole = (int(number) for number in cut.groups())
            facts.remove(fact)
            break
    further = _FURTHER.match(first)
    return Part(
        seq=int(numbered[1]) if numbered else int(further[2]) if further else 0,
        author=numbered[2] if numbered else "",
        facts=(further[1], *facts) if further else tuple(facts),
        text="\n".join(body),
        begin=begin,
        end=end,
        whole=whole,
    )
