"""Who looks at a sealed room in a browser looks at what its own machine has: the code that lets it look, and what it is
shown, stay on that machine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from parlerd.core.errors import ParlerError
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from tests.support.browsing import OpenDoor, pages_of
from tests.support.engine import run, settle
from tests.uplink.test_exchanging import spied
from tests.uplink.test_sealed import everything, meeting_in, met, spelled

PAGES = {name for name in OPERATIONS if name.startswith("page.")}


def test_what_is_seen_of_a_sealed_room_in_a_browser_comes_from_this_machine_alone(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.ben.world.web = OpenDoor()
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            await meeting.alice.send("the marlin swims")
            assert await meeting.bob.read() == ["the marlin swims"]
            (link,) = meeting.ben.uplinks._links.values()
            asked = spied(link)
            opened = await (await ben.person()).ask("page.open", t.OpenPages(room=meeting.opened.room), t.OpenedPages)
            async with pages_of(ben) as looked:
                browser = looked.browser()
                entered = await browser.enter(opened.watch_code)
                assert entered.status == 303
                page = await browser.see(f"GET rooms/{meeting.opened.room}")
                assert "the marlin swims" in page
            await settle()
            # The state of the room is the relay's, and the relay sees it. All else was here.
            assert [(op, params.operation) for op, params in asked] == [("link.ask", "room.board")]
            # Nor is anything of it told later.
            await meeting.bob.send("back again")
            await settle()
            told = sent_over(meeting.wires) + everything(meeting.relay.store)
            assert b"room.board" in told
            for word in (opened.watch_code, opened.watch_code.replace("-", ""), opened.info.id, "marlin"):
                for form in spelled(word):
                    assert form not in told, word
            assert not list(relay.desk.rooms.home.aggregate.watch_codes.all(relay.desk.clock.now()))

    run(main)


def sent_over(wires: object) -> bytes:
    return b"".join(message for both in wires.open for end in both for message in end.sent)  # type: ignore[attr-defined]


def test_a_watch_code_that_is_typed_as_a_session_key_goes_to_no_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            code = "0123-4567-89AB-CDEF"
            before = sent_over(meeting.wires)
            error = await meeting.bob.refused("session.join", t.JoinSession(session_key=code, wait_ms=0))
            assert error.code == "unknown_key"
            assert sent_over(meeting.wires) == before

    run(main)


def test_a_relay_serves_no_page_and_takes_no_watch_code(tmp_path: Path) -> None:
    assert "page.open" in PAGES

    async def main() -> None:
        async with met(tmp_path) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            calls = await link.ready()
            assert PAGES.isdisjoint(calls.welcome.operations)
            # Nor where a program asks for what the relay does not offer.
            calls.welcome = msgspec.structs.replace(calls.welcome, operations=(*calls.welcome.operations, *PAGES))
            with pytest.raises(ParlerError) as refused:
                await calls.call("page.open", t.OpenPages(room=meeting.opened.room))
            assert refused.value.code == "unknown_operation"
            stranger = Caller(
                Facts("http", "http", of_visitor(meeting.ben.world.keys.principal, is_let_in=False, is_own=False))
            )
            with pytest.raises(ParlerError) as refused:
                await meeting.relay_served.viewers.open("0123-4567-89AB-CDEF", stranger, is_own=False)
            assert refused.value.code == "watch_code_invalid"

    run(main)
