"""The main event in agent hosts that start `parler mcp`: a person decides by a form, and nothing is done twice."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import AsyncExitStack

import mcp_types as types
import pytest
import trio

from mcp_server.heard import Heard
from parlerd.operations import types as t
from tests.support.lossy_socket import LossySocket
from tests.support.mcp_windows import Agent, texts, window
from tests.support.processes import Somebody, until

pytestmark = pytest.mark.e2e

RECAP = "Designing auth in src/auth.rs.\nChose PKCE + refresh tokens. TODO: rotation."


class Person:
    """Sits at a host and answers its forms one after another, as told; `shown` is what the forms said."""

    def __init__(self) -> None:
        self.answers: list[types.ElicitResult] = []
        self.shown: list[str] = []

    def will_type(self, code: str) -> None:
        self.answers.append(types.ElicitResult(action="accept", content={"code": code}))

    async def __call__(self, params: types.ElicitRequestParams) -> types.ElicitResult | types.ErrorData:
        self.shown.append(params.message)
        return self.answers.pop(0)


async def knock(agent: Agent, key: str) -> str:
    """Ask to come in and be told to wait; the code that the window shows."""
    pending = await agent.call("parler_join_session", key=key)
    assert (pending.status, pending.parts, pending.left_out) == ("pending", [], None)
    assert re.fullmatch(r"[0-9A-Z]{4}", pending.join_code)
    return pending.join_code


def room_of(somebody: Somebody, agent: str) -> str:
    """The id of the one room of an agent, which no text for a model has."""
    (room,) = somebody.asks("rooms", "--as", agent)["rooms"]
    found: str = room["room"]
    return found


def wrong_code(code: str) -> str:
    return "ZZZZ" if code != "ZZZZ" else "YYYY"


def test_two_hosts_meet_by_a_key_and_a_persons_word_and_share_one_conversation(somebody: Somebody) -> None:
    person = Person()

    async def main() -> None:
        async with (
            window(somebody, "claude-code", "one", form=person) as alice,
            window(somebody, "codex", "two") as bob,
        ):
            opened = await alice.call("parler_open_session", topic="auth-redesign", context=RECAP)
            room, key = room_of(somebody, opened.you), opened.session_key
            code = await knock(bob, key)

            # Blind until a person says yes.
            for tool, arguments in (
                ("parler_recv", {"room": room}),
                ("parler_send", {"room": room, "text": "hello?"}),
                ("parler_rooms", {"action": "roster", "room": room}),
                ("parler_recv", {"room": "auth-redesign"}),
            ):
                assert (await bob.refused(tool, **arguments)).error == "no_such_room"
            assert (await bob.call("parler_rooms")).entries == []
            assert "PKCE" not in json.dumps(bob.heard)

            # Only the code decides: not another one, an empty form, a closed one, or one that is declined.
            person.will_type(wrong_code(code))
            person.will_type("")
            person.answers.append(types.ElicitResult(action="accept", content={}))
            person.answers.append(types.ElicitResult(action="cancel"))
            person.answers.append(types.ElicitResult(action="decline"))
            for number, _ in enumerate(list(person.answers)):
                undecided = await alice.refused("parler_approve")
                assert undecided.error == "form_undecided"
                named = "again: parler_approve {" if number == 0 else "to run: parler session approve"
                assert named in undecided.said, number
            assert (await bob.call("parler_join_session", key=key)).status == "pending"

            # While he waits for it in one call, it is made.
            landed: list[Heard] = []

            async def wait() -> None:
                landed.append(await bob.call("parler_join_session", key=key, wait_secs=40))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                person.will_type(code.lower())
                decision = (await alice.call("parler_approve")).decision
                assert decision is not None
                assert (decision.admitted, decision.by_person, decision.name) == (True, True, "codex@two")
            assert landed[0].status == "joined"
            assert texts(landed[0]) == [RECAP]
            assert code not in json.dumps([alice.heard, person.shown])
            assert all("says it is" in form for form in person.shown)
            assert (await alice.refused("parler_approve")).error == "no_such_request"

            # The turn, handed over while the other one waits for it.
            async with trio.open_nursery() as nursery:
                heard: list[Heard] = []

                async def listen() -> None:
                    heard.append(await bob.call("parler_recv", wait_secs=40))

                nursery.start_soon(listen)
                await alice.call("parler_handoff", next="rotate the tokens", state="PKCE is done")
            (turn,) = heard[0].messages
            assert turn.turn_to == "anyone"
            assert turn.text == "rotate the tokens"
            assert heard[0].further(turn.seq, "state") == "PKCE is done"
            sent = await bob.call("parler_send", text="on it")
            assert texts(await alice.call("parler_recv")) == ["on it"]
            why = await bob.call("parler_rooms", action="why", id=sent.sent)
            assert [(reader.name, "read" in reader.words) for reader in why.entries] == [("claude-code@one", True)]

    trio.run(main)


def test_a_host_without_forms_names_the_command_that_the_person_runs(somebody: Somebody) -> None:
    async def main() -> None:
        async with window(somebody, "goose", "one") as alice, window(somebody, "codex", "two") as bob:
            key = (await alice.call("parler_open_session", topic="auth", context=RECAP)).session_key
            await knock(bob, key)
            refused = await alice.refused("parler_approve")
            assert refused.error == "no_form"
            command = refused.said.partition("Ask the person to run: ")[2].partition("\n")[0]
            words = shlex.split(command)
            assert words[:3] == ["parler", "session", "approve"]
            # As an agent's tool would run it, this is refused; as the person runs it, it is their word.
            assert (
                somebody.fails(*words[1:], code="needs_person", variables={"CLAUDECODE": "1"})["action"] == "ask_person"
            )
            assert somebody.asks(*words[1:])["proof"] == "cli"
            assert texts(await bob.call("parler_join_session", key=key)) == [RECAP]

    trio.run(main)


def test_the_context_of_a_session_from_the_environment_comes_with_the_first_calls_after_the_decision(
    somebody: Somebody,
) -> None:
    opened = somebody.opens("alice", context=RECAP)
    assert opened.session_key is not None
    calls = {"parler_recv": {}, "parler_join_session": {"key": opened.session_key}, "parler_rooms": {}}

    def knocking() -> list[dict[str, str]]:
        requests: list[dict[str, str]] = somebody.asks("session", "requests")["requests"]
        return requests if len(requests) == len(calls) else []

    async def main() -> None:
        async with AsyncExitStack() as windows:
            agents = {
                tool: await windows.enter_async_context(
                    window(somebody, "goose", tool, variables={"PARLER_SESSION_KEY": opened.session_key or ""})
                )
                for tool in calls
            }
            # They knock by themselves, before their agents have called anything. (Where a host's calls name their
            # conversation, as those of Codex do, the first call knocks.)
            for request in await trio.to_thread.run_sync(lambda: until(knocking, "knock of everyone")):
                somebody.runs("session", "approve", request["agent"])
            for tool, bob in agents.items():
                heard = await bob.call(tool, **calls[tool])
                if tool == "parler_rooms":
                    assert "parler_recv" in heard.news
                    heard = await bob.call("parler_recv")
                assert texts(heard) == [RECAP]
                assert texts(await bob.call("parler_recv")) == []

    trio.run(main)


def test_a_session_from_the_environment_that_asks_nobody_is_entered_and_its_context_waits(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice", context=RECAP)

    def members() -> int:
        with somebody.client("alice") as client:
            roster = client.call("rooms.roster", t.Roster())
        assert isinstance(roster, t.RosterResult)
        return len(roster.members)

    async def main() -> None:
        async with window(somebody, "goose", variables={"PARLER_SESSION_KEY": opened.session_key or ""}) as bob:
            await trio.to_thread.run_sync(lambda: until(lambda: members() == 2, "member"))
            somebody.kills_daemon()
            assert texts(await bob.insist("parler_recv")) == [RECAP]

    trio.run(main)


def test_two_windows_in_one_workspace_are_two_agents_and_a_restart_mixes_nobody_up(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice", topic="auth", context="")
    another = somebody.opens("alice", topic="another", context="")

    async def author(agent: Agent, text: str) -> tuple[str, str, str]:
        """Who says `text` where, without naming a room."""
        sent = await agent.insist("parler_send", text=text)
        message = somebody.reads("alice", sent.room)[-1]
        assert (message.text, message.seq) == (text, sent.sent)
        return message.author.id, message.author.name, sent.room

    async def main() -> None:
        async with window(somebody, "codex") as one, window(somebody, "codex") as two:
            await one.call("parler_join_session", key=opened.session_key)
            await two.call("parler_join_session", key=another.session_key)
            before = [await author(one, "one"), await author(two, "two")]
            assert before[0][:2] != before[1][:2]
            assert [place for _, _, place in before] == ["auth", "another"]
            somebody.runs("daemon", "restart")
            # The second comes first, and each is who it was.
            assert [await author(two, "two again"), await author(one, "one again")] == before[::-1]
        # Another day: the first window of that workspace is the first agent again, in its session.
        async with window(somebody, "codex") as later:
            assert await author(later, "good morning") == before[0]

    trio.run(main)


def test_a_call_that_the_daemons_death_cut_off_can_be_made_again_as_it_is_and_is_done_once(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    opened = somebody.opens("alice", context="")

    async def main() -> None:
        with LossySocket(somebody) as between:
            async with window(somebody, "codex") as bob:
                await bob.call("parler_join_session", key=opened.session_key)
                for losses in (1, 2):
                    text, key = f"lost {losses} times", ""
                    for _ in range(losses):
                        between.lose_answer()
                        lost = await bob.refused("parler_send", text=text)
                        assert (lost.error, lost.is_retryable) == ("connection_lost", True)
                        key = lost.retry_key
                        assert key
                    again = await bob.call("parler_send", text=text)
                    assert again.is_replay
                    # With the key that the error named, it is the same request too.
                    keyed = await bob.call("parler_send", text=text, key=key)
                    assert (keyed.sent, keyed.is_replay) == (again.sent, True)
                    # Said a second time on purpose, it is said twice.
                    assert (await bob.call("parler_send", text=text)).sent == again.sent + 1
                between.lose_answer()
                assert (await bob.refused("parler_send", text="lost and left")).error == "connection_lost"
                assert not (await bob.call("parler_send", text="something else")).is_replay

    trio.run(main)
    said = [message.text for message in somebody.reads("alice", opened.room)]
    twice = ["lost 1 times"] * 2 + ["lost 2 times"] * 2
    assert said == [*twice, "lost and left", "something else"]
