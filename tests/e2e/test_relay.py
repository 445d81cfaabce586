"""A relay between two people when things go wrong, and what a relay lets out. Everything is real, on the loopback."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest
import trio

from parlerd.identity import codes
from parlerd.paths import relay_home
from tests.support.mcp_windows import Agent, window
from tests.support.mcp_windows import texts as heard_texts
from tests.support.processes import kill, listens, until
from tests.support.senders import CONTEXT, Sender, all_that, met
from tests.support.team import Team, spellings, texts

pytestmark = pytest.mark.e2e


async def heard_by(agent: Agent) -> list[str]:
    """The next messages that a window's agent is shown, who waits for them. News of another kind ends a wait too."""
    while True:
        heard = await agent.call("parler_recv", wait_secs=20)
        if said := heard_texts(heard):
            return said


def test_the_windows_of_two_people_talk_over_a_relay(team: Team) -> None:
    team.joins(team.ben)

    async def main() -> None:
        async with window(team.ann, "claude-code", "api") as one, window(team.ben, "codex", "web") as two:
            opened = await one.call("parler_open_session", topic="auth", context=CONTEXT)
            assert opened.session_key.endswith(f"@{team.relay['name']}")
            waits = await two.call("parler_join_session", key=opened.session_key)
            assert re.fullmatch("[0-9A-Z]{4}", waits.join_code)

            def approves() -> None:
                (request,) = team.ann.asks("session", "requests")["requests"]
                team.ann.asks("session", "approve", request["name"], "--code", waits.join_code)

            await trio.to_thread.run_sync(approves)
            landed = await two.call("parler_join_session", key=opened.session_key, wait_secs=20)
            assert heard_texts(landed) == [CONTEXT], landed
            shown: list[str] = []
            async with trio.open_nursery() as nursery:

                async def waits_for_words() -> None:
                    shown.extend(await heard_by(one))

                nursery.start_soon(waits_for_words)
                await two.call("parler_send", text="from the other machine")
            assert shown == ["from the other machine"]
            await one.call("parler_handoff", next="rotate the tokens")
            (offer,) = await heard_by(two)
            assert "rotate the tokens" in offer
            await two.call("parler_send", text="done")
            assert await heard_by(one) == ["done"]

    trio.run(main)


def test_nothing_is_lost_or_doubled_when_the_relay_is_killed_in_the_middle_of_what_both_say(team: Team) -> None:
    room = met(team)["room"]
    senders = alice, bob = Sender(team.ann, "alice", room), Sender(team.ben, "bob", room)
    for sender in senders:
        sender.goes_on()
    kill(team.relay_pid())
    for sender in senders:
        until(lambda sender=sender: sender.failed or sender.sent[-1].queued, "message that waits")  # type: ignore[misc]
        sender.goes_on()
    team.ann.asks("relay", "start")
    for sender in senders:
        until(lambda sender=sender: sender.failed or not sender.sent[-1].queued, "message that went")  # type: ignore[misc]
        sender.goes_on()
        sender.stops()
    all_that(team.ann, "alice", bob)
    all_that(team.ben, "bob", alice)
    for one in (team.ann, team.ben):
        until(lambda one=one: one.asks("homes")["homes"][1]["waiting"] == 0, "empty outbox")  # type: ignore[misc]


def test_nothing_is_lost_or_doubled_when_a_daemon_is_killed_in_the_middle_and_what_waits_outlives_it(
    team: Team,
) -> None:
    room = met(team)["room"]
    alice, bob = Sender(team.ann, "alice", room), Sender(team.ben, "bob", room)
    bob.goes_on()
    team.ben.kills_daemon()
    alice.goes_on()
    kill(team.relay_pid())
    until(lambda: bob.failed or bob.sent[-1].queued, "message that waits")
    bob.goes_on()
    alice.stops()
    bob.stops()
    team.ben.kills_daemon()
    team.ann.asks("relay", "start")
    team.ben.asks("--as", "bob", "recv")
    all_that(team.ann, "alice", bob)
    all_that(team.ben, "bob", alice)


def silence(port: int) -> socket.socket:
    """Somebody who accepts on this port and says nothing, as soon as a process that was killed has let go of it."""

    def listens() -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
        return None

    found = until(listens, f"free port {port}")
    assert found is not None
    return found


def test_a_relay_that_accepts_and_says_nothing_keeps_nobody_from_the_rooms_of_their_own_machine(team: Team) -> None:
    opened = met(team)
    ben = team.ben
    kill(team.relay_pid())
    with silence(int(team.port)):
        here = ben.asks("--as", "bea", "session", "open", "--topic", "here", "--at", "local")
        ben.asks("--as", "bea", "send", "of this machine")
        assert texts(ben.asks("--as", "bea", "recv", "--all"))[-1] == "of this machine"
        assert {room["name"] for room in ben.asks("rooms")["rooms"]} == {"here", "auth"}
        ben.asks("--as", "bea", "session", "close", "--room", here["room"])

        sent = ben.asks("--as", "bob", "send", "into the silence", "--room", opened["room"])
        assert sent["queued"] is True
        page = ben.asks("--as", "bob", "recv", "--all", "--room", opened["room"])
        assert texts(page) == [CONTEXT]
        assert page["notice"].startswith(f"Nothing was heard from {team.relay['name']}")
        refused = ben.fails("--as", "bob", "session", "open", "--topic", "there", code="offline", expect=3)
        assert team.relay["name"] in str(refused)
    team.ann.asks("relay", "start")
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["into the silence"]


def test_only_the_relay_listens_on_a_port_and_no_daemon_does(team: Team) -> None:
    met(team)
    team.cara.asks("connect", "--local")
    team.cara.asks("session", "open", "--topic", "here")
    assert listens(team.relay_pid()) == {("127.0.0.1", int(team.port))}
    for one in (team.ann, team.ben, team.cara):
        assert listens(one.status().pid) == set()
    opened = team.cara.asks("homes")["homes"]
    assert [home["name"] for home in opened] == ["local"]


def test_keys_and_the_join_secret_stand_in_no_file_but_their_own_and_in_no_command_line(
    team: Team, tmp_path: Path
) -> None:
    for one in (team.ann, team.ben):
        (one.user / ".codex").mkdir()
        (one.user / ".codex" / "config.toml").write_text('model = "x"\n')
    opened = met(team)
    line, file = team.relay["join_line"], Path(team.relay["join_secret_file"])
    other = tmp_path / "secret"
    other.write_text("A3KE7-DJRQ2-9FHT4-WXC6M-0BNV50\n")
    other.chmod(0o600)
    refused = team.cara.fails("connect", "--relay", line, "--join-secret-file", str(other), code="wrong_secret")
    unknown = team.ben.fails(
        "--as", "bob", "session", "join", f"9J7T4K2M-4MWX2B9Q@{team.relay['name']}", code="unknown_key"
    )
    team.ben.asks("--as", "bob", "send", "a word")
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["a word"]

    key = opened["key"].partition("@")[0]
    secret = spellings(file.read_text().strip())
    secrets = secret | spellings(other.read_text().strip()) | spellings(key) | spellings("9J7T4K2M")
    secrets |= {codes.secret_bytes(file.read_text()), codes.secret_bytes(file.read_text()).hex().encode()}
    kept = [relay_home(team.ann.home).keys, *(one.home.keys for one in (team.ann, team.ben))]
    seeds = {path.read_bytes().strip() for folder in kept for path in folder.rglob("*") if path.is_file()}
    assert len(seeds) > 3
    looked = 0
    for one in (team.ann, team.ben, team.cara):
        for path in one.user.rglob("*"):
            if not path.is_file() or path == file or any(folder in path.parents for folder in kept):
                continue
            looked += 1
            data = path.read_bytes()
            assert [each for each in secrets | seeds if each in data] == [], path
    assert looked > 10
    running = [" ".join(words) for one in (team.ann, team.ben) for words in one.processes().values()]
    assert len(running) >= 3, "two daemons and the relay"
    said = " ".join([*running, str(refused), str(unknown)]).encode()
    assert [each for each in secrets | seeds if each in said] == []
