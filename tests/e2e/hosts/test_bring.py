"""`parler bring` with the real program of each host, without a terminal: its model reads the session that it was
brought into, and answers there, with no key and no person in between."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import pytest

from mcp_server.heard import hear
from tests.e2e.hosts.drivers import DRIVERS, Driver
from tests.e2e.hosts.programs import command
from tests.e2e.hosts.seat import Talk, seated
from tests.support.dialects.blocks import calls
from tests.support.processes import Somebody, skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e

RECAP: Final = "Chose PKCE.\nLeft: rotation of the tokens."
TEXT: Final = "Say which of it is left, and don't do it."
ANSWER: Final = "Rotation is left."


def reads_and_answers() -> Talk:
    text = yield calls("parler_recv")
    assert hear(text).texts == [RECAP]
    yield calls("parler_send", text=ANSWER)


def installed(somebody: Somebody, driver: Driver) -> Path:
    """A folder for PATH that has the program under the name by which the host's own installer makes it known."""
    folder = somebody.user / "bin"
    folder.mkdir()
    program = folder / driver.program
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command(driver.program))} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "driver",
    [pytest.param(driver, marks=pytest.mark.proves(driver.host, "brought"), id=driver.program) for driver in DRIVERS],
)
def test_a_host_that_was_brought_reads_the_session_and_answers_there(somebody: Somebody, driver: Driver) -> None:
    skip_where_nobody_may_decide(["bring"])
    opened = somebody.asks("session", "open", "--topic", "auth", "--context", RECAP)
    with seated(somebody, driver) as seat:
        words = ("bring", driver.host, "--headless", "--json", TEXT)
        with seat.runs(reads_and_answers(), brings=words, path=installed(somebody, driver)) as run:
            run.ends()
        # Some hosts put a word of their own before or behind it.
        prompt = "\n".join(seat.model.requests[0].users)
    said = [message["text"] for message in somebody.asks("recv", "--all")["messages"]]
    assert said == [RECAP, ANSWER]
    assert TEXT in prompt
    assert opened["key"] not in prompt
    members = {member["host"] for member in somebody.asks("roster")["members"]}
    assert driver.host in members
    assert somebody.asks("approvals")["requests"] == []
