"""A relay and the daemons at it are upgraded at different times: each side may be older or newer than the other.

Another release here is a copy of the code with changes (`releases`), run as real processes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

import parlerd
from parlerd import process
from parlerd.paths import relay_home
from parlerd.store.upgrade import shipped_schema
from parlerd.wire.link import LINK_PROTOCOL
from parlerd.wire.messages import PROTOCOL
from tests.support.processes import PARLER, Somebody, somebody, until
from tests.support.releases import Change, Release
from tests.support.senders import met
from tests.support.team import NO_ADDRESS, Team, free_port, skip_below_an_agent_host, texts
from tests.support.wires import Wire

pytestmark = pytest.mark.e2e

OLDER, NEWER = "0.0.1", "99.0.0"

Make = Callable[..., Release]


@pytest.fixture
def release(tmp_path: Path) -> Make:
    """Make another release of the given version, with changes."""

    def make(version: str, *changes: Change) -> Release:
        return Release(tmp_path / f"release-{version}", *changes, version=version)

    return make


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Somebody, Somebody]]:
    """Ann and Ben with empty HOMEs, and nothing that runs."""
    skip_below_an_agent_host()
    with ExitStack() as stack:
        yield stack.enter_context(somebody(monkeypatch)), stack.enter_context(somebody(monkeypatch))


def team_of(ann: Somebody, ben: Somebody) -> Team:
    """Ann makes a relay with the release that she has."""
    ann.asks("connect", "--team", "--bind", "127.0.0.1", "--port", str(free_port()))
    return Team(ann, ben, ben)


def talk(team: Team, room: str) -> None:
    """Each hears the other."""
    for one, name, other, heard in ((team.ann, "alice", team.ben, "bob"), (team.ben, "bob", team.ann, "alice")):
        said = f"{name} speaks"
        one.asks("--as", name, "send", said, "--room", room)
        assert texts(other.asks("--as", heard, "recv", "--room", room, "--wait", "60")) == [said]


def test_to_connect_again_after_an_upgrade_puts_the_newer_relay_in_the_place_of_the_older_one(
    two: tuple[Somebody, Somebody], release: Make
) -> None:
    ann, ben = two
    ann.program = release(OLDER).parler
    team = team_of(ann, ben)
    assert team.relay["version"] == OLDER
    room = met(team)["room"]
    old = team.relay_pid()

    ann.program = PARLER
    again = ann.asks("connect", "--team")["relay"]
    assert again["join_line"] == team.relay["join_line"]
    status = ann.asks("relay", "status")
    assert (status["version"], status["people"], status["rooms"]) == (parlerd.__version__, 2, 1)
    assert status["pid"] != old
    talk(team, room)
    ann.asks("connect", "--team")
    assert team.relay_pid() == status["pid"], "it is the newer one already"


def test_a_relay_whose_calls_are_older_is_replaced_too(two: tuple[Somebody, Somebody], release: Make) -> None:
    ann, ben = two
    before = Change(
        "parlerd/wire/messages.py", f"\nPROTOCOL: Final = {PROTOCOL}\n", f"\nPROTOCOL: Final = {PROTOCOL - 1}\n"
    )
    ann.program = release(OLDER, before).parler
    team = team_of(ann, ben)
    ann.program = PARLER
    hint = "Put this release in its place: parler connect --team"
    for word in ("status", "members", "start"):
        assert ann.fails("relay", word, code="unsupported_version")["hint"] == hint
    fixes = [check["fix"] for check in ann.asks("doctor", expect=1)["checks"] if check["name"] == "relay"]
    assert fixes == [hint]
    ann.asks("connect", "--team")
    status = ann.asks("relay", "status")
    assert (status["version"], status["join_line"]) == (parlerd.__version__, team.relay["join_line"])


def test_an_older_command_leaves_a_newer_relay_in_its_place(two: tuple[Somebody, Somebody], release: Make) -> None:
    ann, ben = two
    ann.program = release(NEWER).parler
    team = team_of(ann, ben)
    pid = team.relay_pid()
    ann.program = PARLER
    ann.asks("connect", "--team")
    assert team.relay_pid() == pid
    assert ann.asks("relay", "status")["version"] == NEWER


def test_a_person_stops_a_relay_whose_calls_are_older(two: tuple[Somebody, Somebody], release: Make) -> None:
    ann, ben = two
    before = Change(
        "parlerd/wire/messages.py", f"\nPROTOCOL: Final = {PROTOCOL}\n", f"\nPROTOCOL: Final = {PROTOCOL - 1}\n"
    )
    ann.program = release(OLDER, before).parler
    pid = team_of(ann, ben).relay_pid()
    ann.program = PARLER
    assert ann.asks("relay", "stop")["stopped"] == pid
    assert not process.is_alive(pid)


def test_a_store_of_an_earlier_schema_is_copied_before_a_newer_relay_changes_it_and_an_older_one_leaves_it_alone(
    two: tuple[Somebody, Somebody], release: Make
) -> None:
    ann, ben = two
    team = team_of(ann, ben)
    room = met(team)["room"]
    home = relay_home(ann.home)
    number = shipped_schema().version + 1
    newer = release(NEWER)
    newer.adds(f"parlerd/store/schema/{number}.sql", "CREATE TABLE later (x INTEGER) STRICT;\n")
    ann.program = newer.parler
    ann.asks("connect", "--team")
    assert ann.asks("relay", "status")["rooms"] == 1
    (kept,) = home.backups.iterdir()
    with closing(sqlite3.connect(kept)) as database:
        ((schema,),) = database.execute("SELECT value FROM meta WHERE key = 'schema'")
    assert int(schema) == number - 1
    talk(team, room)

    ann.asks("relay", "stop")
    before = home.database.read_bytes()
    ann.program = PARLER
    refused = ann.fails("relay", "start", code="newer_store")
    assert f"Upgrade this install to Parler {NEWER} or newer." in refused["hint"]
    assert home.database.read_bytes() == before
    ann.program = newer.parler
    ann.asks("relay", "start")


LINK: Final = "parlerd/operations/families/link.py"
OFFERED: Final = 'frozenset(name for name, operation in OPERATIONS.items() if operation.plane == "link")'
MOOD: Final = '    mood: str = "new"\n'
MORE: Final = (
    Change("parlerd/wire/link.py", "    log: Word\n    addresses:", f"    log: Word\n{MOOD}    addresses:"),
    Change(LINK, "    opening: bool = False\n    version:", f"    opening: bool = False\n{MOOD}    version:"),
    Change(LINK, "    replayed: bool\n    late:", f"    replayed: bool\n{MOOD}    late:"),
    Change("relay/link.py", OFFERED, f'{OFFERED} | {{"link.later"}}'),
)
"""A release that says more: a field in the welcome, in each message and in the answer to a message, which are always
sent, and one more operation."""


@pytest.mark.parametrize("newer", ["relay", "daemon"])
def test_what_only_the_newer_side_knows_takes_nothing_from_the_older(
    two: tuple[Somebody, Somebody], release: Make, newer: str
) -> None:
    ann, ben = two
    one = ann if newer == "relay" else ben
    one.program = release(NEWER, *MORE).parler
    team = team_of(ann, ben)
    room = met(team)["room"]
    assert ann.asks("relay", "status")["version"] == (NEWER if newer == "relay" else parlerd.__version__)
    talk(team, room)
    handed = ("handoff", "--room", room, "--next", "rotate the tokens")
    ben.asks("--as", "bob", *handed, "--for", "alice")
    (offer,) = ann.asks("--as", "alice", "recv", "--room", room, "--wait", "60")["messages"]
    assert (offer["kind"], offer["verified"]) == ("handoff", "valid")


def test_what_an_older_relay_lacks_is_said_and_everything_else_goes_on(
    two: tuple[Somebody, Somebody], release: Make
) -> None:
    ann, ben = two
    less = Change("relay/link.py", OFFERED, OFFERED + ' - {"link.revoke"}')
    ann.program = release(OLDER, less).parler
    team = team_of(ann, ben)
    # A newer command would put a newer daemon, and not a newer relay, in the place of the older one.
    ann.program = PARLER
    opened = met(team)
    assert ann.asks("relay", "status")["version"] == OLDER
    error = ann.fails("--as", "alice", "session", "revoke", opened["key"], code="relay_older")
    assert "upgrade" in error["hint"]
    talk(team, opened["room"])


def test_a_reason_that_only_a_newer_relay_knows_is_told_as_its_refusal(
    two: tuple[Somebody, Somebody], release: Make
) -> None:
    ann, ben = two
    errors, older = "parlerd/core/errors.py", '    _E(\n        "relay_older",'
    admits = "        if operation.name not in self._links.offered:"
    late = '        if operation.name == "link.revoke":\n            raise Refused("too_late")\n'
    refuses = (
        Change(errors, older, f'    _E("too_late", "It is late.", "Go to bed."),\n{older}'),
        Change("relay/link.py", admits, late + admits),
    )
    ann.program = release(NEWER, *refuses).parler
    team = team_of(ann, ben)
    ben.program = PARLER
    team.joins(ben)
    opened = ben.asks("--as", "bob", "session", "open", "--topic", "auth")
    error = ben.fails("--as", "bob", "session", "revoke", opened["key"], code="relay_refused")
    assert error["details"]["said"] == "too_late"
    assert "bed" not in str(error), "sentences of a relay are not shown"


KNOWS: Final = "UNSIGNED: Final = 0\n"
"""What a release from before invocations were told does not know: a version of envelopes that nobody signs. To such a
release version 0 is one more that it does not know, and no message has the version that it takes for such a one."""


def test_an_older_daemon_leaves_out_what_a_newer_relay_says_of_an_invocation_and_goes_on(
    two: tuple[Somebody, Somebody], release: Make, tmp_path: Path
) -> None:
    ann, ben = two
    craft = tmp_path / "craft.json"
    craft.write_text('{"id": "craft"}')
    ben.program = release(OLDER, Change("parlerd/core/envelope.py", KNOWS, KNOWS.replace("0", "-1"))).parler
    ann.program = PARLER
    team = team_of(ann, ben)
    room = met(team)["room"]
    talk(team, room)
    ann.asks("--as", "alice", "action", "register", "--file", str(craft), "--room", room)
    ann.asks("--as", "alice", "action", "invoke", "craft", "--room", room)
    (told,) = ann.asks("--as", "alice", "recv", "--room", room, "--wait", "60", "--kind", "action_invocation", "--all")[
        "messages"
    ]
    assert (told["text"], told["verified"]) == ("alice invoked craft", "unsigned")
    talk(team, room)
    page = ben.asks("--as", "bob", "recv", "--room", room, "--since", "0")
    assert page["more"], "a page ends where a message is left out"
    rest = ben.asks("--as", "bob", "recv", "--room", room, "--since", page["cursor"])
    assert rest["notice"].startswith(f"Message {told['seq']} cannot be shown")
    seen = {message["seq"]: message["verified"] for message in [*page["messages"], *rest["messages"]]}
    assert seen == dict.fromkeys({*range(1, told["seq"] + 3)} - {told["seq"]}, "valid")
    assert [each["alarm"] for each in ben.asks("rooms")["rooms"]] == [""]


@pytest.mark.parametrize("newer", ["relay", "daemon"])
def test_a_link_of_another_protocol_is_refused_once_and_not_tried_again_before_a_person_asks(
    two: tuple[Somebody, Somebody], release: Make, newer: str
) -> None:
    ann, ben = two
    number = "LINK_PROTOCOL: Final = {}\n"
    later = Change("parlerd/wire/link.py", number.format(LINK_PROTOCOL), number.format(LINK_PROTOCOL + 1))
    ann.program = release(OLDER, NO_ADDRESS).parler
    port = free_port()
    ann.asks("connect", "--team", "--bind", "127.0.0.1", "--port", str(port), expect=None)
    team = Team(ann, ben, ben)
    with Wire("127.0.0.1", ("127.0.0.1", port)) as wire:
        team.wires[ben] = wire
        opened = met(team)
        if newer == "relay":
            ann.program = release(NEWER, NO_ADDRESS, later).parler
            ann.asks("connect", "--team")
        else:
            ben.stops()
            ben.program = release(NEWER, later).parler
            ben.asks("--as", "bob", "recv", "--room", opened["room"])
        until(lambda: ben.asks("homes")["homes"][1]["state"] == "refused", "refused link")
        home = ben.asks("homes")["homes"][1]
        assert home["reason"] == "unsupported_version"
        dialled = wire.dialled
        for _ in range(3):
            sent = ben.asks("--as", "bob", "send", "into the past", "--room", opened["room"])
            assert sent["queued"] is True
            ben.asks("--as", "bob", "recv", "--room", opened["room"], "--wait", "1")
        assert wire.dialled == dialled
        refused = ben.fails("--as", "bob", "session", "open", "--topic", "now", code="unsupported_version")
        assert "where the relay runs" in refused["hint"]
        assert wire.dialled == dialled + 1
        assert "where the relay runs" in ben.runs("homes").stdout.replace("\n", " ")
