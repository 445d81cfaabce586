"""Two real hosts of two people hand the turn over through a relay, and in the middle one person's network is gone.

The hosts are Claude Code and Codex, whose scripted models are shown what their hosts give them. What counts is what
each model received: everything that the other said, once and in order. Other hosts talk in `test_conversations`, and
other ways in which a network fails are in `tests/e2e/test_network.py`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from mcp_server.heard import hear
from parlerd.identity import codes
from parlerd.paths import relay_home
from tests.e2e.hosts.drivers import DRIVERS
from tests.e2e.hosts.seat import LIMIT_S, Seat, Talk, seated
from tests.support.dialects.blocks import calls
from tests.support.processes import Somebody, until
from tests.support.reader import key_in, named_calls
from tests.support.team import Team, apart, spellings, wired

pytestmark = pytest.mark.e2e

RECAP: Final = "Chose PKCE.\nLeft: rotation of the tokens."
QUESTION: Final = "Which store holds the tokens?"
MEANWHILE: Final = "I read the login page meanwhile."
ANSWER: Final = "The keyring."
NEXT: Final = "Wire the login page."
STATE: Final = "Rotation works."

CLAUDE, CODEX = (next(driver for driver in DRIVERS if driver.program == name) for name in ("claude", "codex"))


class Table:
    """What passes outside of Parler: the key and the code, which persons carry, and when the network went."""

    def __init__(self) -> None:
        self.keys: queue.Queue[str] = queue.Queue()
        self.codes: queue.Queue[str] = queue.Queue()
        self.asked: queue.Queue[None] = queue.Queue()
        """Filled when the question was heard."""
        self.gone = threading.Event()
        """Set when the joiner's network is gone."""
        self.offered: queue.Queue[None] = queue.Queue()
        """Filled when the turn was offered."""
        self.kept: queue.Queue[bool] = queue.Queue()
        """Filled when the joiner spoke without a network, with whether its words were said to wait."""


def opens(table: Table) -> Talk:
    text = yield calls("parler_open_session", topic="auth", context=RECAP)
    table.keys.put(key_in(text))
    (*_, wait) = named_calls(text)
    while QUESTION not in hear(text).texts:
        text = yield wait
    table.asked.put(None)
    assert table.gone.wait(LIMIT_S)
    (question,) = (part for part in hear(text).parts if part.text == QUESTION)
    yield calls("parler_send", text=ANSWER)
    text = yield calls("parler_handoff", **{"for": question.author, "state": STATE, "next": NEXT})
    table.offered.put(None)
    while MEANWHILE not in hear(text).texts:
        text = yield wait


def joins(table: Table) -> Talk:
    text = yield calls("parler_join_session", key=table.keys.get(timeout=LIMIT_S))
    table.codes.put(hear(text).join_code)
    (*_, wait) = named_calls(text)
    while RECAP not in hear(text).texts:
        text = yield wait
    wait = calls("parler_recv", wait_secs=20)
    yield calls("parler_send", text=QUESTION)
    assert table.gone.wait(LIMIT_S)
    text = yield calls("parler_send", text=MEANWHILE)
    table.kept.put(hear(text).is_queued)
    while not any(part.turn_to == "you" for part in hear(text).parts):
        text = yield wait


def received(seat: Seat) -> list[str]:
    """What others said, as the model received it."""
    return [part.text for each in seat.heard for part in hear(each.text).parts if part.author != "you"]


def test_nothing_is_lost_doubled_or_leaked_when_a_cable_is_pulled_in_the_middle_of_a_hand_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with apart(monkeypatch) as people:
        hand_over(people.team, people.ben.pull, people.ben.plug)


def test_nothing_is_lost_doubled_or_leaked_when_a_wire_breaks_in_the_middle_of_a_hand_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with wired(monkeypatch, tmp_path) as team:
        wire = team.wires[team.ben]
        hand_over(team, wire.cut, wire.mend)


def hand_over(team: Team, break_off: Callable[[], None], mend: Callable[[], None]) -> None:
    team.joins(team.ben)
    table = Table()
    with (
        seated(team.ann, CLAUDE) as one,
        seated(team.ben, CODEX) as two,
        one.runs(opens(table)) as opening,
        two.runs(joins(table)) as joining,
    ):
        code = joining.gets(table.codes)
        (request,) = team.ann.asks("approvals")["requests"]
        team.ann.asks("session", "approve", request["agent"], "--code", code)
        opening.gets(table.asked)
        break_off()
        table.gone.set()
        opening.gets(table.offered)
        assert joining.gets(table.kept) is True, "what was said without a network waits"
        assert ANSWER not in received(two)
        lines = [" ".join(words) for person in (team.ann, team.ben) for words in person.processes().values()]
        mend()
        joining.ends()
        opening.ends()
    assert received(two) == [RECAP, ANSWER, NEXT, STATE]
    assert received(one) == [QUESTION, MEANWHILE]
    for person in (team.ann, team.ben):
        until(lambda person=person: person.asks("homes")["homes"][1]["waiting"] == 0, "empty outbox")  # type: ignore[misc]
    (key,) = (str(each.call.arguments["key"]) for each in two.heard if each.call.tool == "parler_join_session")
    assert key.partition("@")[2] == team.relay["name"]
    assert_nothing_leaked(team, key, lines, ((team.ann, one), (team.ben, two)))


def assert_nothing_leaked(team: Team, key: str, lines: list[str], seats: tuple[tuple[Somebody, Seat], ...]) -> None:
    """The session key, the join secret and the seeds of keys stand in no command line, in no file of Parler but their
    own, and not in the settings of the hosts. A host keeps what its model said, the session key among it."""
    secret_file = Path(team.relay["join_secret_file"])
    secret = secret_file.read_text()
    secrets = spellings(secret.strip()) | spellings(key.partition("@")[0]) | {codes.secret_bytes(secret)}
    kept = [relay_home(team.ann.home).keys, *(person.home.keys for person, _ in seats)]
    secrets |= {path.read_bytes().strip() for folder in kept for path in folder.rglob("*") if path.is_file()}
    looked = 0
    for person, seat in seats:
        files = [path for path in person.home.root.rglob("*") if path.is_file()]
        for path in [*files, seat.settings]:
            if path == secret_file or any(folder in path.parents for folder in kept):
                continue
            looked += 1
            data = path.read_bytes()
            assert [each for each in secrets if each in data] == [], path
    assert looked > 10
    assert len(lines) >= 5, "two daemons, two shims and the relay"
    said = " ".join(lines).encode()
    assert [each for each in secrets if each in said] == []
