"""A result's text taken apart again, as a reader of it can: who I am, the key, the code, the messages, the calls that
are named.

The other side of `tools.results`, for those who play a model: the demo, the probe, the benchmarks and the tests. They
get nothing that is not in the text, so whatever they need a model can know too. Not here: judging what was heard.
Invariant: what stands inside a fence is read as a message and as nothing else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

_HEAD: Final = re.compile(r"\[peer ([0-9a-z]{8})(?: ([^\]\n]*))?\]")
_NUMBERED: Final = re.compile(r"#(\d+) (\S+)\Z")
_FURTHER: Final = re.compile(r"(summary|text|data) of #(\d+)\Z")
_CALL: Final = re.compile(r"(parler_[a-z_]+) (\{[^\n]*?\})(?=$|[\s.,;)])", re.MULTILINE)
_CUT: Final = re.compile(r"characters (\d+) to (\d+) of (\d+)\Z")


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


@dataclass(slots=True)
class Heard:
    """What one text says. `said` is what stands outside its fences."""

    said: str
    parts: list[Part] = field(default_factory=list)

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
    def error(self) -> str:
        """The code of an error; empty for another answer."""
        found = re.match(r"([a-z_]+): ", self.said)
        return found[1] if found else ""

    @property
    def session_key(self) -> str:
        """The key in the line to hand over."""
        return self._find(r"^Join the Parler session (\S+)\.$")

    @property
    def join_code(self) -> str:
        """The code that a person is to be told."""
        return self._find(r"[Yy]our code is ([A-Z0-9]+)")

    @property
    def retry_key(self) -> str:
        """The idempotency key of a write that failed."""
        return self._find(r"pass key (\S+)\.$")

    @property
    def you(self) -> str:
        """Who the reader is."""
        return self._find(r"^You are (\S+?)(?:\.$| in )")

    @property
    def room(self) -> str:
        """The room that the answer is about."""
        return self._find(r"^You are \S+ in ([^\s,;]+)[,;]") or self._find(r"^(?:Meanwhile )?\d+ in (\S+):$")

    @property
    def sent(self) -> int:
        """The number of the message that was sent."""
        return int(self._find(r"^Sent #(\d+) ") or 0)

    @property
    def more(self) -> int:
        """How many messages follow."""
        return int(self._find(r"^(\d+) more: parler_recv") or 0)

    @property
    def news(self) -> str:
        """The notice."""
        return self._find(r"^(Meanwhile: .*)$")

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.said, re.MULTILINE)
        return found[1] if found else ""


def hear(text: str) -> Heard:
    """Take the text of a result apart."""
    said: list[str] = []
    heard = Heard("")
    lines = text.split("\n")
    mark, head = "", ""
    body: list[str] = []
    for line in lines:
        begins = _HEAD.fullmatch(line)
        if mark and line == f"[end {mark}]":
            heard.parts.append(_part(head, body))
            mark = ""
        elif begins and (not mark or begins[1] == mark):
            if mark:
                heard.parts.append(_part(head, body))
            mark, head, body = begins[1], begins[2] or "", []
        elif mark:
            body.append(line)
        else:
            said.append(line)
    heard.said = "\n".join(said)
    return heard


def _part(head: str, body: list[str]) -> Part:
    first, *facts = head.split("; ")
    numbered = _NUMBERED.match(first)
    cuts = [found for fact in facts if (found := _CUT.match(fact))]
    cut = cuts[0] if cuts else None
    facts = [fact for fact in facts if not _CUT.match(fact)]
    begin, end, whole = (int(number) for number in cut.groups()) if cut else (0, 0, 0)
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
