"""What a model was really shown, from the log of its server, beside what is said of it.

A message was shown when the server got requests whose results hold all of the message, and answered them to a host that
still listened. The host's own requests for a summary are none of these. Not here: making hosts work (`bench`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mcp_server.heard import Part, hear
from tests.support.model_server import Exchange, Request

SHOWN: Final = ("shown", "quoted")
"""The verdicts that say that a model had the whole message."""
OPEN: Final = ("unknown", "pending", "none")
"""What says nothing: a verdict of that name, a wait that goes on, and no word at all."""


class Outcome(NamedTuple):
    """One message at the end of a case: how long it is, whether its model was shown it, and what is said."""

    host: str
    case: str
    size: int
    true: bool
    said: str
    reason: str

    @property
    def is_evidence(self) -> bool:
        """Whether the message was in an answer at all: a host that was ended before its model read proves nothing."""
        return self.true or self.said != "none"

    @property
    def is_false_shown(self) -> bool:
        """The one thing that must never be."""
        return self.said in SHOWN and not self.true

    @property
    def is_false_unknown(self) -> bool:
        """It was shown, and nothing is said."""
        return self.true and self.said in OPEN

    @property
    def is_denied(self) -> bool:
        """It was shown in the end, and something else is said: the request that brought it first failed or was
        stopped, and a later one held it still."""
        return self.true and self.said not in (*SHOWN, *OPEN)


class Seen:
    """Which messages the model of one host was shown, by their texts.

    `is_summary` says of a request that the host makes a summary with it, and `text` takes our answer out of what the
    host gave its model.
    """

    def __init__(
        self, exchanges: Iterable[Exchange], is_summary: Callable[[Request], bool], text: Callable[[str], str]
    ) -> None:
        results: set[str] = set()
        for exchange in list(exchanges):
            if exchange.replied and exchange.turn and not is_summary(exchange.request):
                results.update(exchange.request.results)
        self._results = "\n".join(results)
        self._parts = [part for result in results for part in hear(text(result)).parts if part.whole]

    def holds(self, text: str) -> bool:
        """Whether the model was shown all of that, in one result or in the parts of several."""
        return text in self._results or _covers([part for part in self._parts if part.whole == len(text)], text)


def _covers(parts: Sequence[Part], text: str) -> bool:
    reached = 0
    for part in sorted(parts, key=lambda part: part.begin):
        if part.begin <= reached < part.end and text[part.begin : part.end] == part.text:
            reached = part.end
    return reached == len(text)


def table(outcomes: Sequence[Outcome]) -> str:
    """What is said against what is true, host by host and case by case; at the end the totals."""
    head = ("host", "case", "messages", "shown", "FALSE shown", "missed", "denied", "said of the rest")
    lines = ["{:12} {:18} {:>8} {:>6} {:>11} {:>6} {:>6}  {}".format(*head)]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.host, each.case), []).append(each)
        groups.setdefault((each.host, "all"), []).append(each)
        groups.setdefault(("all", "all"), []).append(each)
    for (host, case), found in sorted(groups.items(), key=lambda group: (group[0][0] == "all", group[0])):
        sums = counts(found)
        said = ", ".join(f"{count} {words}" for words, count in sums.pop("rest").items())
        lines.append("{:12} {:18} {:>8} {:>6} {:>11} {:>6} {:>6}  {}".format(host, case, *sums.values(), said))
    return "\n".join(lines)


def counts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The numbers of some outcomes, for the page on delivery."""
    rest = Counter(
        f"{each.said} ({each.reason})" if each.reason else each.said for each in outcomes if each.said not in SHOWN
    )
    return {
        "messages": len(outcomes),
        "shown": sum(each.said in SHOWN for each in outcomes),
        "false_shown": sum(each.is_false_shown for each in outcomes),
        "missed": sum(each.is_false_unknown for each in outcomes),
        "denied": sum(each.is_denied for each in outcomes),
        "rest": dict(rest.most_common()),
    }


def summary(outcomes: Sequence[Outcome], versions: Mapping[str, str], day: str, system: str) -> dict[str, Any]:
    """What a run found, as `docs/delivery.json` keeps it."""
    hosts = sorted({each.host for each in outcomes})
    cases = sorted({each.case for each in outcomes})
    return {
        "day": day,
        "system": system,
        "versions": {host: versions[host] for host in hosts},
        "all": counts(outcomes),
        "hosts": {host: counts([each for each in outcomes if each.host == host]) for host in hosts},
        "cases": {case: counts([each for each in outcomes if each.case == case]) for case in cases},
    }
