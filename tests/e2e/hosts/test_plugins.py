"""Parler as a plugin of real hosts: they check it, start it, show its skill and meet; nothing is added beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from configs.hosts import find_host
from configs.package.about import about
from configs.package.files import put
from configs.package.plugins import plugin, skill
from mcp_server.heard import hear
from tests.e2e.hosts.drivers import Driver
from tests.e2e.hosts.plugged import CLAUDE, CODEX, COPILOT, GEMINI, QWEN, plug, unplug
from tests.e2e.hosts.sandbox import Sandbox
from tests.e2e.hosts.seat import Talk, seated
from tests.e2e.hosts.test_conversations import meet
from tests.support.dialects.blocks import Block, Request, calls
from tests.support.packaged import NEWER
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

PAIRS: Final = ((CLAUDE, CODEX), (GEMINI, QWEN), (COPILOT, CLAUDE))
BODY: Final = skill(about()).partition("\n# ")[2]
"""The skill's text, below its head."""
BROKEN: Final = {".claude-plugin/plugin.json": '{"name": 7}'}


@pytest.mark.parametrize(
    ("program", "words"), [("claude", ("plugin", "validate", "--strict")), ("gemini", ("extensions", "validate"))]
)
def test_a_host_that_checks_plugins_finds_nothing_wrong(
    somebody: Somebody, tmp_path: Path, program: str, words: tuple[str, ...]
) -> None:
    sandbox = Sandbox(somebody, program)
    put(tmp_path, plugin(about()))
    sandbox.asks(*words, str(tmp_path))
    if program == "claude":
        put(tmp_path, BROKEN)
        with pytest.raises(AssertionError):
            sandbox.asks(*words, str(tmp_path))


@pytest.mark.parametrize(("opener", "joiner"), PAIRS, ids=[f"{one.program}-{two.program}" for one, two in PAIRS])
def test_two_hosts_that_have_it_as_a_plugin_meet(somebody: Somebody, opener: Driver, joiner: Driver) -> None:
    meet((somebody, opener), (somebody, joiner))


@pytest.mark.parametrize("driver", [CLAUDE, CODEX], ids=lambda driver: driver.program)
def test_a_model_is_told_of_the_skill_reads_it_and_does_what_it_says(
    somebody: Somebody, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    is_turn = driver.is_turn

    def listens(request: Request) -> bool:
        asked.append(json.dumps(request.raw))
        return is_turn(request)

    monkeypatch.setattr(driver, "is_turn", listens)

    def talk() -> Talk:
        assert any("open a Parler session" in each for each in asked), "it is among the skills that the model is shown"
        yield reads(somebody, driver)
        assert any(json.dumps(BODY)[1:200] in each for each in asked) or BODY[:200] in asked[-1]
        text = yield calls("parler_open_session", topic="auth", context="Chose PKCE.")
        assert "Give your user this line" in text
        text = yield calls("parler_recv", wait_secs=1)
        assert hear(text).error == ""

    with seated(somebody, driver) as seat, seat.runs(talk()) as run:
        run.ends()
    assert [room["name"] for room in somebody.asks("rooms")["rooms"]] == ["auth"]


def reads(somebody: Somebody, driver: Driver) -> Block:
    """How a model of this host reads the skill: with a tool for that, or as the file that it was shown."""
    if driver is CLAUDE:
        return calls("Skill", skill="parler:parler")
    (file,) = (somebody.user / ".codex" / "plugins" / "cache").rglob("SKILL.md")
    return calls("exec_command", cmd=f"cat {file}")


@pytest.mark.parametrize("driver", [CLAUDE, CODEX, GEMINI, QWEN, COPILOT], ids=lambda driver: driver.program)
def test_connect_adds_nothing_beside_a_plugin_of_any_version_until_it_is_taken_out(
    somebody: Somebody, driver: Driver
) -> None:
    host = find_host(driver.host)
    with seated(somebody, driver):
        before = {path: path.read_bytes() for path in somebody.user.glob(".*/*.json*") if path.is_file()}
        (outcome,) = somebody.asks("connect", host.id)["hosts"]
        assert (outcome["status"], outcome["path"]) == ("skipped", None)
        assert "as the plugin parler" in outcome["reason"]
        assert {path: path.read_bytes() for path in before} == before
        named = [each for each in somebody.asks("doctor")["checks"] if "as the plugin" in each["detail"]]
        assert [(each["name"], each["ok"]) for each in named] == [(host.name, True)]
        sandbox = Sandbox(somebody, driver.program)
        asks = driver in (GEMINI, QWEN)
        listed = ("extensions" if asks else "plugin", "list")
        assert about().version in sandbox.asks(*listed)
        # Another version comes as another folder in the same place: taken out, and added again.
        unplug(sandbox)
        plug(sandbox, "y\n" if asks else "", version=NEWER)
        assert NEWER in sandbox.asks(*listed)
        unplug(sandbox)
        (outcome,) = somebody.asks("connect", host.id)["hosts"]
        assert outcome["status"] == "added"
