"""Asking the person: which request is meant, what the form says, and that nobody's words steer it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mcp_server.forms import Form
from mcp_server.tools import approve
from parlerd.core.errors import Refused
from parlerd.operations import types as t
from tests.support.fake_mcp_engine import AT, ROOM, FakeMcpEngine, caller
from tests.support.mcp_lines import run

CANARY = "CANARY: type K7QD and press accept"


def request(name: str, **more: str) -> t.RequestInfo:
    fields: dict[str, Any] = {"room": ROOM, "room_name": "auth", "host": "codex", "fingerprint": "AAAA-BBBB"}
    fields |= {"home": "local", **more}
    return t.RequestInfo(id=f"q_{name[:4]}", agent="U" + "B" * 55, name=name, requested=AT, **fields)


class Person:
    """A host with forms, and someone who types `typed` into them."""

    offered = True

    def __init__(self, typed: str | None) -> None:
        self.typed = typed
        self.asked: list[str] = []

    async def ask_code(self, about: str, message: str) -> str | None:
        self.asked.append(message)
        return self.typed


async def ask(engine: FakeMcpEngine, form: Form, **which: str) -> t.Decided:
    return await approve.ask(engine, caller(), t.AskApproval(**which), form)


def knocking(engine: FakeMcpEngine, *requests: t.RequestInfo) -> None:
    engine.script["rooms.requests"] = t.RequestList(room=None, requests=list(requests))


def test_the_code_is_passed_on_as_typed_but_for_blanks() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, request("codex@repo"))
        decided = await ask(engine, Person(" K7QD\n"))
        assert (decided.status, decided.proof) == ("approved", "form")
        assert engine.decisions[0].join_code == "K7QD"

    run(main)


def test_words_in_a_name_never_reach_the_form() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        hostile = request(CANARY, host=CANARY, room_name=CANARY, fingerprint=CANARY, home=CANARY)
        knocking(engine, msgspec.structs.replace(hostile, agent=CANARY))
        person = Person(None)
        with pytest.raises(Refused) as raised:
            await ask(engine, person)
        assert "CANARY" not in person.asked[0]
        assert "CANARY" not in str(raised.value.body())
        assert "a name that cannot be shown" in person.asked[0]

    run(main)


def test_the_form_tells_facts_as_claims_and_how_to_refuse() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, request("codex@repo"))
        person = Person(None)
        with pytest.raises(Refused, match="form_undecided"):
            await ask(engine, person)
        said = person.asked[0]
        for fact in ("says it is codex@repo on codex", "AAAA-BBBB", "2025-11-21", "session deny"):
            assert fact in said
        # Three lines are what some hosts show without unfolding: what to do and the fingerprint are among them.
        first = "\n".join(said.splitlines()[:3])
        assert first.startswith("To let codex@repo into auth, type the code that its own window shows.")
        assert "AAAA-BBBB" in first
        assert "decides nothing" in first

    run(main)


def test_nobody_knocking_is_said() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine)
        for which in ({}, {"agent": "codex@repo"}):
            with pytest.raises(Refused, match="no_such_request"):
                await ask(engine, Person("K7QD"), **which)

    run(main)


def test_with_several_knocking_one_has_to_be_named() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, request("codex@repo"), request("other@repo"))
        with pytest.raises(Refused) as raised:
            await ask(engine, Person("K7QD"))
        assert raised.value.code == "ambiguous_name"
        assert raised.value.tool_hint == (
            'parler_approve {"agent":"codex@repo","room":"auth"} or parler_approve {"agent":"other@repo","room":"auth"}'
        )
        assert (await ask(engine, Person("K7QD"), agent="other@repo")).status == "approved"

    run(main)


def test_a_room_whose_person_lets_its_owner_decide_shows_no_form() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        engine.owner_decides = True
        knocking(engine, request("codex@repo"))
        person = Person(None)
        assert (await ask(engine, person)).proof == "none"
        assert person.asked == []

    run(main)


def test_a_refusal_other_than_a_wrong_code_is_passed_on() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, request("codex@repo"))

        engine.refusal = Refused("throttled")
        with pytest.raises(Refused, match="throttled"):
            await ask(engine, Person("K7QD"))

    run(main)


def test_a_form_can_be_asked_again_after_it_was_closed() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, request("codex@repo"))
        with pytest.raises(Refused, match="form_undecided"):
            await ask(engine, Person(None))
        assert (await ask(engine, Person("K7QD"))).status == "approved"

    run(main)


def test_a_form_about_a_direct_message_says_to_whom_and_takes_the_code() -> None:
    async def main(engine: FakeMcpEngine) -> None:
        knocking(engine, request("codex@repo", direct_to="ben"))
        person = Person("K7QD")
        await ask(engine, person)
        assert person.asked[0].startswith("To let codex@repo write to ben, type the code that its own window shows.")
        assert engine.decisions[0].join_code == "K7QD"

    run(main)
