"""A program that has a token of a relay, and no Parler: over TLS, with the file of the relay's own authority."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import until
from tests.support.senders import met
from tests.support.team import Team, texts

pytestmark = pytest.mark.e2e


class Program:
    """Somebody who has what `parler token mint` printed."""

    def __init__(self, minted: Any) -> None:
        self.url, self.token, self.authority = minted["url"], minted["token"], minted["authority_file"]
        self._context = ssl.create_default_context(cafile=self.authority)
        assert self._context.check_hostname

    def asks(self, line: str, body: Any = None) -> tuple[int, Any]:
        method, _, path = line.partition(" ")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=40) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def test_a_program_with_a_token_of_a_relay_talks_to_agents_on_two_machines(team: Team) -> None:
    room = met(team, "--clear")["room"]
    minted = team.ann.asks("--as", "alice", "token", "mint", "--room", room, "--name", "ci")
    assert minted["url"].startswith("https://127.0.0.1:")
    assert Path(minted["authority_file"]).stat().st_mode & 0o777 == 0o600
    program = Program(minted)
    status, said = program.asks(f"POST /v1/rooms/{room}/messages", {"text": "built 42"})
    assert (status, said["room"]) == (201, room)

    def shown(one: Any, name: str) -> Any:
        page = one.asks("--as", name, "recv", "--room", room, "--since", "0")
        return next((each for each in page["messages"] if each["text"] == "built 42"), None)

    for one, name in ((team.ann, "alice"), (team.ben, "bob")):
        message = until(lambda one=one, name=name: shown(one, name), "message of the program")  # type: ignore[misc]
        assert (message["verified"], message["author"]["name"], message["via"]) == ("home", "ci", "http")
    team.ben.asks("--as", "bob", "send", "well done", "--room", room)
    status, page = program.asks(f"GET /v1/rooms/{room}/messages?wait_ms=20000")
    assert status == 200
    assert "well done" in texts(page)
    # Whoever does not trust the relay's authority is told nothing.
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(minted["url"] + "/openapi.json", timeout=40)
    if shutil.which("curl"):
        words = ["curl", "-sS", "--cacert", minted["authority_file"], f"{minted['url']}/v1/errors"]
        assert b"token_invalid" in subprocess.run(words, capture_output=True, check=True, timeout=40).stdout
    [listed] = team.ann.asks("token", "list")["tokens"]
    assert (listed["id"], listed["agent"]) == (minted["info"]["id"], "ci")
    team.ann.asks("--as", "alice", "token", "revoke", listed["id"])
    assert program.asks(f"GET /v1/rooms/{room}/messages")[0] == 401
    for one in (team.ann, team.ben):
        # What is stored was signed as it says, by the relay's key too.
        assert "Everything is in order." in one.runs("doctor").stdout


def test_programs_come_to_a_relay_with_one_token_and_the_person_decides_about_each(team: Team) -> None:
    room = met(team, "--clear")["room"]
    words = ("--as", "alice", "token", "mint", "--room", room, "--join", "--uses", "2", "--approval")
    minted = team.ann.asks(*words)
    assert minted["token"].startswith("aj_")
    door = Program(minted)
    status, waits = door.asks("POST /v1/joins", {"name": "build-bot", "role": "worker"})
    assert (status, waits["status"], waits["token"]) == (201, "pending", None)
    until(lambda: team.ann.asks("session", "requests", "--room", room)["requests"], "request of the program")
    team.ann.asks("session", "approve", "build-bot", "--room", room)
    status, came = door.asks(f"GET /v1/joins/{waits['id']}?wait_ms=20000")
    assert (status, came["status"], came["agent"], came["role"]) == (200, "joined", "build-bot", "worker")
    program = Program({**minted, "token": came["token"]})
    assert program.asks(f"POST /v1/rooms/{room}/messages", {"text": "built 43"})[0] == 201

    def shown(one: Any, name: str) -> Any:
        page = one.asks("--as", name, "recv", "--room", room, "--since", "0")
        return next((each for each in page["messages"] if each["text"] == "built 43"), None)

    for one, name in ((team.ann, "alice"), (team.ben, "bob")):
        message = until(lambda one=one, name=name: shown(one, name), "message of the program")  # type: ignore[misc]
        assert (message["verified"], message["author"]["name"]) == ("home", "build-bot")
    team.ann.asks("--as", "alice", "token", "revoke", minted["info"]["id"])
    assert [each.asks("GET /v1/me")[0] for each in (door, program)] == [401, 401]
    for one in (team.ann, team.ben):
        assert "Everything is in order." in one.runs("doctor").stdout


def test_a_program_opens_a_room_at_a_relay_and_the_room_is_the_persons(team: Team) -> None:
    room = met(team, "--clear")["room"]
    minted = team.ann.asks("--as", "alice", "token", "mint", "--room", room, "--name", "ci", "--opens", "1")
    assert minted["token"].startswith("ah_")
    program = Program(minted)
    status, opened = program.asks("POST /v1/rooms", {"name": "nightly"})
    assert (status, opened["name"]) == (201, "nightly"), opened
    status, refused = program.asks("POST /v1/rooms", {"name": "another"})
    assert (status, refused["error"]["code"]) == (403, "token_used_up"), refused
    assert program.asks(f"POST /v1/rooms/{opened['room']}/messages", {"text": "built 44"})[0] == 201
    assert program.asks(f"PUT /v1/rooms/{opened['room']}/state", {"key": "phase", "value": "done"})[0] == 201
    # The person's own agent owns it: that agent is told, reads, and lets others in.
    until(
        lambda: next(
            (each for each in team.ann.asks("--as", "alice", "rooms")["rooms"] if each["name"] == "nightly"), None
        ),
        "room of the program",
    )
    page = team.ann.asks("--as", "alice", "recv", "--room", "nightly", "--since", "0")
    [message] = [each for each in page["messages"] if each["text"] == "built 44"]
    assert (message["verified"], message["author"]["name"]) == ("home", "ci")
    team.ann.asks("--as", "alice", "send", "well done", "--room", "nightly")
    status, page = program.asks(f"GET /v1/rooms/{opened['room']}/messages?wait_ms=20000")
    assert "well done" in texts(page)
    # The relay's own record holds what its database wants of each fact, and what was signed.
    team.ann.asks("--as", "alice", "token", "revoke", minted["info"]["id"])
    assert program.asks("GET /v1/me")[0] == 401
    assert "Everything is in order." in team.ann.runs("doctor").stdout
    assert "Sound" in team.ann.runs("audit").stdout
