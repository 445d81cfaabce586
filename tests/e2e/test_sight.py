"""What a host records, watched by a real daemon: from a window's answer to what `parler why` says of the message.

The host is played: its records are written here, in the form in which Codex writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import mcp_types as types
import pytest
import trio

from configs.hosts import find_host
from parlerd.core.sight import MARKER
from tests.support.mcp_windows import window
from tests.support.processes import PATIENCE_S, Somebody

pytestmark = pytest.mark.e2e

HOST: Final = "codex"


def _version() -> str:
    record = find_host(HOST).sight
    assert record is not None
    return record.versions[0]


def _wrote(file: Path, *entries: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as record:
        record.writelines(f"{json.dumps(entry)}\n" for entry in entries)


def _result(text: str) -> dict[str, Any]:
    payload = {"type": "function_call_output", "call_id": "call_1", "output": text}
    return {"type": "response_item", "payload": payload, "metadata": {"history_sequence": 7}}


_REPLY: Final[dict[str, Any]] = {
    "type": "response_item",
    "payload": {"type": "message", "role": "assistant", "content": []},
    "metadata": {"sampled_through_sequence": 7},
}


async def _sight_of(somebody: Somebody, seq: str) -> dict[str, Any]:
    """What `why` says of the one reader of alice's message."""

    def asked() -> dict[str, Any]:
        document = somebody.asks("why", seq, variables={"PARLER_AGENT": "alice"})
        (reader,) = document["readers"]
        return dict(reader)

    return await trio.to_thread.run_sync(asked)


async def _settled(somebody: Somebody, seq: str) -> dict[str, Any]:
    """The same, once the record was looked at."""
    deadline = trio.current_time() + PATIENCE_S
    found = await _sight_of(somebody, seq)
    while found["sight"]["verdict"] == "pending" and trio.current_time() < deadline:
        # Each question takes a process of its own, so nobody asks too often.
        found = await _sight_of(somebody, seq)
    return found


@pytest.mark.parametrize("moved", [False, True], ids=["at home", "moved"])
def test_a_message_is_shown_once_the_hosts_own_record_proves_it(somebody: Somebody, moved: bool) -> None:
    somebody.trusts_everyone()
    folder = somebody.user / ("elsewhere" if moved else ".codex")
    (folder / "sessions").mkdir(parents=True)
    somebody.runs("connect", HOST, "--sight", "--yes", expect=None)
    opened = somebody.opens("alice")
    variables = {"CODEX_HOME": str(folder)} if moved else {}

    async def main() -> None:
        client = types.Implementation(name="codex-mcp-client", version=_version())
        async with window(somebody, HOST, variables=variables, client=client) as agent:
            await agent.call("parler_join_session", key=opened.session_key)
            await trio.to_thread.run_sync(lambda: somebody.sends("alice", "did you see this?"))
            heard = await agent.call("parler_recv")
            assert heard.texts == ["did you see this?"]
            assert len(heard.markers) == 1
            assert (await _sight_of(somebody, "2"))["sight"]["verdict"] == "pending"
            record = folder / "sessions" / "2026" / "11" / "30" / "rollout-1.jsonl"
            _wrote(record, _result(heard.text), _REPLY)
            found = await _settled(somebody, "2")
            assert (found["sight"]["verdict"], found["sight"]["host"]) == ("shown", HOST)
            assert "shown" in [step["stage"] for step in found["stages"]]

    trio.run(main)
    log = somebody.home.log.read_text()
    assert "rollout" not in log
    assert not MARKER.search(log)
