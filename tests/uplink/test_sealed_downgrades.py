"""Nobody makes a sealed room a clear one, and nobody who has a key of a sealed room is led into a clear one: no relay,
no one who joins, no setting and no argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import parlerd
from parlerd.core import statements as st
from parlerd.core.errors import Refused
from parlerd.core.model import Position, RoomId
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.operations.tools import TOOLS
from parlerd.settings import Settings
from tests.support.engine import run, settle
from tests.uplink.test_exchanging import key_of, opened, refused, spied
from tests.uplink.test_sealed import met, spelled
from tests.uplink.test_sealed_lies import tell

Lie = Callable[[t.FoundKey], t.FoundKey]


def in_clear(opening: bytes) -> bytes:
    """The opening without what says that the room is sealed."""
    return st.encode(replace(st.check(opening, st.Opening), sealed=msgspec.UNSET))


def cut(found: t.FoundKey) -> t.FoundKey:
    return replace(found, opening=in_clear(found.opening))


def renamed(found: t.FoundKey) -> t.FoundKey:
    """The same, as the room that follows from the opening that was cut."""
    opening = in_clear(found.opening)
    room = st.room_id_of(opening)
    terms = st.encode(replace(st.check(found.terms, st.KeyTerms), room=room))
    return replace(found, room=room, opening=opening, terms=terms)


# -- the relay, to one who joins ---------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [cut, renamed])
def test_a_relay_that_cuts_out_that_a_room_is_sealed_is_told_nothing_of_the_key(tmp_path: Path, lie: Lie) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            honest = link.call

            async def lying(op: str, params: Any, **more: Any) -> Any:
                answer = await honest(op, params, **more)
                return lie(answer) if op == "link.find" else answer

            link.call = lying  # type: ignore[method-assign]
            asked = spied(link)
            assert await refused(meeting.bob, meeting.opened.session_key) == "wrong_room"
            assert [op for op, _ in asked if op == "link.knock"] == []
            sent = b"".join(message for both in meeting.wires.open for end in both for message in end.sent)
            for form in spelled(key_of(meeting).secret):
                assert form not in sent

    run(main)


def test_a_relay_that_shows_another_sealed_opening_under_a_room_s_id_is_found_out(tmp_path: Path) -> None:
    """The form fits the key, and the id does not follow from the opening."""

    async def main() -> None:
        async with opened(tmp_path) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            honest = link.call

            async def lying(op: str, params: Any, **more: Any) -> Any:
                answer = await honest(op, params, **more)
                if op != "link.find":
                    return answer
                opening = replace(st.check(answer.opening, st.Opening), history="none")
                return replace(answer, opening=st.encode(opening))

            link.call = lying  # type: ignore[method-assign]
            asked = spied(link)
            assert await refused(meeting.bob, meeting.opened.session_key) == "relay_equivocation"
            assert [op for op, _ in asked if op == "link.knock"] == []

    run(main)


def test_a_relay_that_knows_no_exchange_is_told_no_clear_knock(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            calls = await link.ready()
            known = [op for op in calls.welcome.operations if op != "link.exchange"]
            calls.welcome = replace(calls.welcome, operations=known)
            asked = spied(link)
            assert await refused(meeting.bob, meeting.opened.session_key) == "relay_older"
            assert [op for op, _ in asked if op == "link.knock"] == []

    run(main)


# -- the relay, to a member --------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_a_member_that_is_told_that_its_room_is_clear_finds_the_lie_and_says_nothing(
    tmp_path: Path, whole: bool
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            mirror = await meeting.room_of(meeting.ben)
            stored = await meeting.ben.uplinks._desk.library.body(mirror.state.room, Position(1))
            assert stored is not None
            clear = in_clear(st.decode_opened(stored)[0])
            signature = meeting.ann.world.keys.sign(mirror.state.owner_principal, "parler/opening", clear)
            card = t.Card(whole=whole, home=mirror.state.home, opening=clear, opening_signature=signature)
            room = await tell(meeting, card=card)
            assert room.state.lifecycle.sealed == st.SUITE
            assert (room.state.contradicted, room.state.alarm) == ("opening", "relay_equivocation")
            error = await meeting.bob.refused("message.send", t.Send(text="the marlin swims"))
            assert error.code == "relay_equivocation"
            await settle()
            sent = b"".join(message for both in meeting.wires.open for end in both for message in end.sent)
            for form in spelled("marlin"):
                assert form not in sent

    run(main)


# -- the one who joins -------------------------------------------------------------------------------------


def test_a_joiner_that_knocks_in_the_clear_way_is_let_in_by_nobody(tmp_path: Path) -> None:
    """Also one that tells its sealing key, and whose key asks nobody."""

    async def main() -> None:
        async with opened(tmp_path, approval=False) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            honest, tried = link.call, list[str]()

            async def downgraded(op: str, params: Any, **more: Any) -> Any:
                if op == "link.knock":
                    agent = st.check(params.statement, st.JoinCard).agent
                    found = await honest("link.find", t.FindKey(session_key=params.session_key))
                    knock = st.encode(
                        st.KnockStatement(
                            home=link.home,
                            room=RoomId(found.room),
                            ref=found.ref,
                            agent=agent,
                            principal=meeting.ben.world.keys.principal,
                            name="bob",
                            host="",
                            at=meeting.ben.world.clock.now(),
                            nonce=bytes(st.NONCE),
                        )
                    )
                    signature = meeting.ben.world.keys.sign(agent, "parler/knock", knock)
                    params = replace(params, statement=knock, signature=signature, share=b"")
                try:
                    return await honest(op, params, **more)
                except Refused as error:
                    tried.append(f"{error.code} {error.details.get('what')}")
                    # What a home never does is told by no code of an operation.
                    raise Refused("unknown_key") from None

            link.call = downgraded  # type: ignore[method-assign]
            assert await refused(meeting.bob, meeting.opened.session_key) == "unknown_key"
            await settle()
            assert tried == ["statement_refused share"]
            state = (await meeting.room_of(meeting.ann)).state
            assert [each.handle for each in state.members.values()] == ["alice"]

    run(main)


# -- settings, variables and arguments ---------------------------------------------------------------------

WORDS = re.compile("clear|seal|plain|encrypt", re.IGNORECASE)


def test_who_can_ask_for_a_clear_room_at_all_is_known() -> None:
    """All of them ask for the person where the room is on a relay (`require_clear`)."""
    asks = {
        op.name
        for op in OPERATIONS.values()
        if {"clear", "sealed"} & set(getattr(op.params, "__struct_fields__", ())) and not op.name.startswith("link.")
    }
    assert asks == {"session.open", "room.invite", "queue.serve"}


def test_no_argument_of_a_tool_opens_a_clear_room() -> None:
    named = {f"{tool.name} {argument.name}" for tool in TOOLS.values() for argument in tool.arguments}
    assert "parler_open_session topic" in named
    assert [each for each in named if WORDS.search(each)] == []


def test_no_setting_and_no_variable_of_the_environment_opens_a_clear_room() -> None:
    """A file beside the code or the settings can hold nothing else: a name that is no setting is an error."""
    assert [name for name in Settings.__struct_fields__ if WORDS.search(name)] == []
    root = Path(parlerd.__file__).parent.parent
    read = {
        name
        for folder in ("parlerd", "mcp_server", "relay", "configs")
        for source in (root / folder).rglob("*.py")
        for name in re.findall("PARLER_[A-Z_]+", source.read_text(encoding="utf-8"))
    }
    assert "PARLER_HOME" in read
    assert [name for name in read if WORDS.search(name)] == []
