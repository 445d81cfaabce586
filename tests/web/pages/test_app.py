"""The pages of a home as a browser gets them: who is let where, with which headers, and what they say."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.watch_codes import HOLDS_MS, HOME_USE_MS
from parlerd.engine.scheduler import LOOK_S
from parlerd.operations import types as t
from parlerd.text.codepoints import JOINERS, kinds
from parlerd.web.pages.app import HEADERS, MAX_FORM, MAX_LISTED, MAX_PAGE, MAX_STREAMS, POLICY
from tests.support.browsing import FORM, Browser, OpenDoor, looking, pages_of, pages_world
from tests.support.engine import run, settle
from tests.support.http import NAME, Answer
from tests.uplink.test_relayed import meeting_in

EVIL = "<script>alert(1)</script>\u202e{{ 1337*1337 }}\x1b[2K\u200b<img src=x onerror=alert(1)>"


def has_headers(answer: Answer, *, form: bool = False) -> None:
    """The headers that every page has."""
    expected = {name.lower(): value for name, value in HEADERS.items()}
    if form:
        expected["referrer-policy"] = "same-origin"
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert answer.headers["cache-control"] in ("no-store", "no-cache")


def is_clean(page: str) -> None:
    """Nothing that a peer wrote is markup, and nothing hides."""
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "{{ 1337*1337 }}" in page or "1787569" not in page
    assert [char for char in page if char in kinds() and char not in JOINERS] == []


# -- coming in ---------------------------------------------------------------------------------------------


def test_a_code_opens_its_room_once_with_a_path_and_a_cookie() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic="auth redesign")
            await bob.send("hello from bob")
            room = (await alice.rooms())[0].room
            person = await looked.home.person()
            opened = await person.ask("page.open", t.OpenPages(room="auth-redesign"), t.OpenedPages)
            browser = looked.browser()
            answer = await browser.enter(opened.watch_code.lower().replace("-", " "))
            assert answer.status == 303
            has_headers(answer)
            assert re.fullmatch(rf"/p/[\w-]{{22}}/rooms/{room}#newest", answer.headers["location"])
            cookie = answer.headers["set-cookie"]
            assert re.fullmatch(
                rf"parler_page=[\w-]{{43}}; Path={browser.root}; Max-Age=86400; HttpOnly; SameSite=Strict", cookie
            )
            page = await browser.ask(f"GET rooms/{room}")
            assert page.status == 200
            has_headers(page)
            assert "hello from bob" in page.body.decode()
            # What a browser is given is in nothing that is kept, and the code opens no second one.
            assert opened.watch_code not in page.body.decode()
            again = await looked.browser().enter(opened.watch_code)
            assert again.status == 401
            has_headers(again, form=True)
            # Its first page is its room.
            assert (await browser.ask("GET ")).headers["location"] == f"{browser.root}rooms/{room}#newest"

    run(main)


def test_what_is_wrong_with_a_code_is_said_once_and_alike() -> None:
    async def main() -> None:
        async with looking() as looked:
            await looked.home.room("alice", "bob", topic="auth redesign")
            person = await looked.home.person()
            codes = [(await person.ask("page.open", t.OpenPages(room="auth-redesign"), t.OpenedPages)) for _ in "abc"]
            await looked.browser().enter(codes[0].watch_code)
            await person.ask("page.revoke", t.RevokeWatchCode(id=codes[1].info.id), t.RevokedWatchCode)
            told = []
            for wrong in (codes[0].watch_code, codes[1].watch_code, "0123-4567-89AB-CDEF", "", "é\u202e", "x" * 900):
                answer = await looked.browser().enter(wrong)
                assert answer.status == 401, wrong
                told.append(answer.body)
            assert len(set(told)) == 1
            # Whoever guesses is slowed down; a right code is not.
            statuses = [(await looked.browser().enter("0123-4567-89AB-CDEF")).status for _ in range(6)]
            assert statuses[-1] == 429
            assert (await looked.browser().enter(codes[2].watch_code)).status == 303

    run(main)


def test_a_code_ends_by_the_clock_used_or_not() -> None:
    async def main() -> None:
        async with looking() as looked:
            await looked.home.room("alice", "bob", topic="auth redesign")
            person = await looked.home.person()
            mine = await person.ask("page.open", t.OpenPages(), t.OpenedPages)
            late = await person.ask("page.open", t.OpenPages(room="auth-redesign"), t.OpenedPages)
            room, _ = await looked.opened("auth-redesign")
            stream = await room.follow(f"GET rooms/{late.info.room}/live?after={await cursor_of(room, late.info.room)}")
            looked.home.world.clock.move(seconds=HOME_USE_MS / 1000)
            assert (await looked.browser().enter(mine.watch_code)).status == 401
            assert (await room.ask(f"GET rooms/{late.info.room}")).status == 200
            looked.home.world.clock.move(seconds=HOLDS_MS / 1000)
            assert (await looked.browser().enter(late.watch_code)).status == 401
            assert (await room.ask(f"GET rooms/{late.info.room}")).status == 404
            await trio.sleep(LOOK_S + 1)
            assert b"event: end" in await last_of(stream)

    run(main)


async def cursor_of(browser: Browser, room: str) -> str:
    found = re.search(r'data-after="([^"]+)"', await browser.see(f"GET rooms/{room}"))
    assert found is not None
    return found[1]


async def last_of(client: object) -> bytes:
    """What a stream ends with."""
    said = b""
    while piece := await client.piece():  # type: ignore[attr-defined]
        said = piece
    return said


# -- who is let where --------------------------------------------------------------------------------------


def test_neither_the_path_nor_the_cookie_opens_anything_alone() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            mine, _ = await looked.opened()
            other, _ = await looked.opened("auth-redesign")
            paths = ["", "directory", "approvals", f"rooms/{room}", f"rooms/{room}/live", "live"]
            for path in paths:
                if "live" not in path:
                    assert (await mine.ask(f"GET {path}")).status == 200
                stolen = Browser(looked.web, root=mine.root)
                answer = await stolen.ask(f"GET {path}")
                assert answer.status == 404
                has_headers(answer)
                # With the cookie of another view, too, and with the right cookie at another path.
                stolen.cookies = {mine.root: next(iter(other.cookies.values()))}
                assert (await stolen.ask(f"GET {path}")).status == 404
                lost = Browser(
                    looked.web, {"/p/": next(iter(mine.cookies.values()))}, root="/p/AAAAAAAAAAAAAAAAAAAAAA/"
                )
                assert (await lost.ask(f"GET {path}")).status == 404

    run(main)


def test_a_cookie_of_another_server_of_this_machine_locks_nobody_out() -> None:
    async def main() -> None:
        async with looking() as looked:
            mine, _ = await looked.opened()
            mine.cookies["/"] = "parler_page=tossed; other=1"
            assert (await mine.ask("GET ")).status == 200
            mine.cookies = {"/": "parler_page=tossed", **mine.cookies}
            assert (await mine.ask("GET ")).status == 200

    run(main)


def test_what_others_ask_for_is_refused_whatever_the_browser_shows() -> None:
    async def main() -> None:
        async with looking() as looked:
            mine, opened = await looked.opened()
            for site in ("cross-site", "same-site", "", "SAME-ORIGIN"):
                assert (await mine.ask("GET ", site=site)).status == 403, site
            assert (await mine.ask("GET ", site="none")).status == 200
            line = f"GET {mine.root}"
            headers = mine.headers(line)
            del headers["Sec-Fetch-Site"]
            answer = await looked.web.ask(line, headers=headers)
            assert answer.status == 403
            has_headers(answer)
            form = {"id": opened.info.id}
            for site in ("none", "cross-site", "same-site"):
                assert (await mine.ask("POST codes", form, site=site)).status == 403, site
            for origin in ("http://evil.example", "null", "http://127.0.0.1:9", f"https://{NAME}"):
                assert (await mine.ask("POST codes", form, origin=origin)).status == 403, origin
            headers = {**mine.headers(f"POST {mine.root}codes")}
            del headers["Origin"]
            assert (await looked.web.ask(f"POST {mine.root}codes", b"id=x", headers=headers)).status == 403
            # A code is not typed from elsewhere either.
            for about in ({"site": "cross-site"}, {"site": "none"}, {"origin": "http://127.0.0.1:9"}):
                assert (await looked.browser().enter("0123-4567-89AB-CDEF", **about)).status == 403
            assert (await mine.ask("GET ")).status == 200

    run(main)


def test_the_cookie_opens_nothing_for_programs_and_a_token_opens_no_page() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            mine, _ = await looked.opened()
            [cookie] = mine.cookies.values()
            for path in ("/v1/rooms", "/v1/me", "/rooms", "/rooms/auth-redesign/messages"):
                answer = await looked.web.ask(
                    f"GET {path}", headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
                )
                assert answer.status in (401, 404), path
            minted = await alice.ask("token.mint", t.MintToken(), t.MintedToken)
            headers = {"Sec-Fetch-Site": "same-origin"}
            assert (await looked.web.ask(f"GET {mine.root}", token=minted.token, headers=headers)).status == 404

    run(main)


def test_the_code_of_a_room_shows_that_room_and_decides_nothing() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            other = await alice.open("something else", "secret plans")
            await alice.send("not for this view")
            dave = await looked.home.agent("dave")
            await dave.join(other.session_key)
            [knock] = await alice.requests(other.room)
            browser, _ = await looked.opened("auth-redesign")
            for path in ("directory", "approvals", "live"):
                assert (await browser.ask(f"GET {path}")).status == 404, path
            for path, form in (("approvals", {"request": knock.id, "decision": "deny"}), ("codes", {"id": "wc_1"})):
                assert (await browser.ask(f"POST {path}", form)).status == 404, path
            for path in ("", "/live", "/messages/m_1", "/files/m_1"):
                answer = await browser.ask(f"GET rooms/{other.room}{path}")
                if path == "/live":
                    assert b"There is no such room" in answer.body or answer.status == 404
                    continue
                assert answer.status == 404, path
                assert "secret" not in answer.body.decode()
            assert [each.id for each in await alice.requests(other.room)] == [knock.id]

    run(main)


def test_whoever_looks_on_sees_what_the_minter_may_see() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob, carol = await looked.home.room("alice", "bob", "carol", topic="auth redesign")
            await alice.send("for all")
            await alice.send("only for carol", visible_to=("carol",))
            room = (await alice.rooms())[0].room
            whole, _ = await looked.opened("auth-redesign")
            page = await whole.see(f"GET rooms/{room}")
            assert "for all" in page
            assert "only for carol" in page
            opened = await bob.ask("page.open", t.OpenPages(room="auth-redesign"), t.OpenedPages)
            assert opened.info.as_person is False
            narrow = looked.browser()
            await narrow.enter(opened.watch_code)
            page = await narrow.see(f"GET rooms/{room}")
            assert "for all" in page
            assert "only for carol" not in page
            hidden = (await carol.recv(all=True)).messages[-1]
            assert hidden.text == "only for carol"
            for path in (f"messages/{hidden.id}", f"files/{hidden.id}"):
                assert (await narrow.ask(f"GET rooms/{room}/{path}")).status == 404
            before = await narrow.ask(f"GET rooms/{room}?before={hidden.id}")
            assert before.status == 404
            # Nobody is in a roster for it, and nothing is read by it.
            assert set(await alice.roster()) == {"alice", "bob", "carol"}
            assert [message.text for message in (await bob.recv()).messages] == ["for all"]

    run(main)


def test_another_user_of_the_machine_opens_no_home_and_decides_nothing() -> None:
    async def main() -> None:
        async with looking(is_own=False) as looked:
            await looked.home.room("alice", "bob", topic="auth redesign")
            person = await looked.home.person()
            mine = await person.ask("page.open", t.OpenPages(), t.OpenedPages)
            assert (await looked.browser().enter(mine.watch_code)).status == 401
            # A room's code may be given to whoever is meant to look on.
            await looked.opened("auth-redesign")

    run(main)


# -- the end of it -----------------------------------------------------------------------------------------


def test_revoking_a_code_ends_its_pages_and_its_streams_at_once() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            person = await looked.home.person()
            browser, opened = await looked.opened("auth-redesign")
            two = [await browser.follow(f"GET rooms/{room}/live?after={await cursor_of(browser, room)}") for _ in "ab"]
            await settle()
            [listed] = (await person.ask("page.codes", t.ListWatchCodes(), t.WatchCodeList)).codes
            assert (listed.id, listed.streams, listed.used_at > 0) == (opened.info.id, 2, True)
            began = trio.current_time()
            await person.ask("page.revoke", t.RevokeWatchCode(id=opened.info.id), t.RevokedWatchCode)
            for stream in two:
                assert b"event: end" in await last_of(stream)
            assert trio.current_time() - began < 1
            assert (await browser.ask(f"GET rooms/{room}")).status == 404
            assert (await browser.ask(f"GET rooms/{room}/live")).status == 404
            assert (await person.ask("page.codes", t.ListWatchCodes(), t.WatchCodeList)).codes == []

    run(main)


def test_the_person_closes_a_view_and_revokes_others_by_a_press() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            other, opened = await looked.opened("auth-redesign")
            mine, _ = await looked.opened()
            assert opened.info.id in await mine.see()
            done = await mine.ask("POST codes", {"id": opened.info.id})
            assert (done.status, done.headers["location"]) == (303, f"{mine.root}?done=revoked")
            assert "Revoked" in await mine.see("GET ?done=revoked")
            assert (await other.ask(f"GET rooms/{room}")).status == 404
            assert (await mine.ask("POST codes", {"id": opened.info.id})).status == 404
            left = await mine.ask("POST leave", {})
            assert (left.status, left.headers["location"]) == (303, "/view")
            assert (await mine.ask("GET ")).status == 404

    run(main)


def test_a_room_that_is_closed_ends_its_stream_and_stays_readable() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened("auth-redesign")
            stream = await browser.follow(f"GET rooms/{room}/live?after={await cursor_of(browser, room)}")
            await alice.send("the last word")
            await alice.close()
            said = b""
            while piece := await stream.piece():
                said += piece
            assert b"the last word" in said
            assert b"event: end" in said
            page = await browser.see(f"GET rooms/{room}")
            assert "the last word" in page
            assert "This room is closed" in page
            assert "data-live" not in page

    run(main)


def test_a_room_that_is_deleted_ends_its_stream_and_is_gone() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened("auth-redesign")
            stream = await browser.follow(f"GET rooms/{room}/live?after={await cursor_of(browser, room)}")
            person = await looked.home.person()
            await person.ask("room.delete", t.DeleteRoom(room=room, confirmed=True), t.DeletedRoom)
            assert b"event: end" in await last_of(stream)
            answer = await browser.ask(f"GET rooms/{room}")
            assert answer.status in (404, 410)
            assert (await browser.ask("GET ")).status == 404

    run(main)


def test_a_page_lists_so_much_and_says_that_there_is_more() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice = await looked.home.agent("alice")
            for number in range(MAX_LISTED + 3):
                await alice.open(f"room {number}", "ctx")
            mine, _ = await looked.opened()
            page = await mine.see()
            assert page.count('<li class="tile') == MAX_LISTED
            assert "3 more: <code>parler rooms</code>" in page

    run(main)


def test_a_daemon_that_stops_ends_what_is_followed() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened("auth-redesign")
            stream = await browser.follow(f"GET rooms/{room}/live?after={await cursor_of(browser, room)}")
            await settle()
            await looked.home.engine.drain()
            said = await last_of(stream)
            assert b"event: end" in said
            assert b"closed" not in said

    run(main)


def test_a_room_that_the_last_of_the_persons_agents_leaves_is_shown_no_more() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            opened = await bob.ask("page.open", t.OpenPages(room="auth-redesign"), t.OpenedPages)
            browser = looked.browser()
            await browser.enter(opened.watch_code)
            stream = await browser.follow(f"GET rooms/{room}/live?after={await cursor_of(browser, room)}")
            await bob.close()
            assert b"event: end" in await last_of(stream)
            await alice.send("said after that")
            answer = await browser.ask(f"GET rooms/{room}")
            assert answer.status == 404
            assert "said after that" not in answer.body.decode()
            assert (await browser.ask("GET ")).status == 404

    run(main)


# -- what is shown -----------------------------------------------------------------------------------------


def test_what_is_live_comes_as_rows_and_goes_on_where_it_broke_off() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened("auth-redesign")
            place = await cursor_of(browser, room)
            stream = await browser.follow(f"GET rooms/{room}/live?after={place}")
            await bob.send(EVIL)
            said = b""
            while b'"list":"log"' not in said:
                said += await stream.piece()
            assert b"<script>" in said  # as JSON: it is shown as text alone
            assert "\u202e" not in said.decode()
            assert b"U+202E" in said
            [last] = re.findall(rb"id: (\S+)\n", said)
            await stream.stream.aclose()
            await bob.send("while nobody looked")
            stream = await browser.follow(f"GET rooms/{room}/live?after={last.decode()}")
            said = b""
            while b'"list":"log"' not in said:
                said += await stream.piece()
            assert b"while nobody looked" in said
            assert b"<script>" not in said
            # A place that nobody was told is refused.
            stream = await browser.follow(f"GET rooms/{room}/live?after={last.decode()[:-2]}AA")
            assert b"event: end" in await last_of(stream)

    run(main)


def test_hostile_text_is_inert_wherever_it_is_shown() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic=f"topic {EVIL}")
            room = (await alice.rooms())[0].room
            sent = await bob.send(EVIL, data={"evil": EVIL, EVIL: [EVIL]})
            await bob.send(EVIL, kind="task")
            await alice.handoff(EVIL, to="bob", summary=EVIL)
            key = t.SetState(key="a-key", value={"v": EVIL}, idempotency_key="k")
            await alice.ask("state.set", key, t.StateWritten)
            card = t.Register(visibility="public", description=EVIL, role="role", tags=("tag",))
            await bob.ask("directory.register", card, t.Registered)
            opened = await alice.open(EVIL, EVIL)
            dave = await looked.home.agent("dave")
            await dave.join(opened.session_key)
            browser, _ = await looked.opened()
            paths = ["", "directory", "approvals", f"rooms/{room}", f"rooms/{opened.room}", "directory?q=%3Cb%3E"]
            for path in [*paths, f"rooms/{room}/messages/{sent.id}"]:
                page = await browser.see(f"GET {path}")
                is_clean(page)
                if "q=" not in path:
                    assert "U+202E" in page, path

    run(main)


def test_a_rooms_page_is_small_however_much_was_said_and_has_a_way_to_what_is_older() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            for number in range(120):
                await (alice, bob)[number % 2].send(f"message number {number}.")
            for number in range(10):
                await alice.send(f"huge {number} " + "<\u202e\u200b&" * 3_000)
            for number in range(60):
                await alice.ask(
                    "state.set",
                    t.SetState(key=f"key{number}", value="\u202e<" * 500, idempotency_key=f"k{number}"),
                    t.StateWritten,
                )
            browser, _ = await looked.opened("auth-redesign")
            path = f"rooms/{room}"
            seen: list[tuple[str, str]] = []
            while True:
                page = await browser.see(f"GET {path}")
                assert len(page.encode()) <= MAX_PAGE
                found = re.findall(r"message number (\d+)\.|huge (\d+)", page)
                assert len(found) <= 50
                seen = [*found, *seen]
                older = re.search(r'href="[^"]*/(rooms/[^"]*before=[^"#]*)#newest"', page)
                if older is None:
                    break
                path = older[1].replace("&amp;", "&")
            assert seen == [(str(number), "") for number in range(120)] + [("", str(number)) for number in range(10)]
            # One message stands whole on its own page.
            [last] = (await bob.recv(all=True, limit=500)).messages[-1:]
            page = await browser.see(f"GET rooms/{room}/messages/{last.id}")
            assert page.count("&lt;") >= 3_000

    run(main)


def test_a_room_at_a_relay_is_shown_through_ones_own_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.ben.world.web = OpenDoor()
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await meeting.alice.send(f"from another machine {EVIL}")
            room = meeting.opened.room
            async with pages_of(ben) as looked:
                browser, _ = await looked.opened(room)
                await trio.sleep(5)
                page = await browser.see(f"GET rooms/{room}")
                is_clean(page)
                assert "from another machine" in page
                assert '<dt>Lives</dt><dd>at <bdi class="peer" dir="auto">team' in page
                stream = await browser.follow(f"GET rooms/{room}/live?after={await cursor_of(browser, room)}")
                await meeting.alice.send("and live")
                said = b""
                while b"and live" not in said:
                    said += await stream.piece()
                # While the relay is away, what is here is shown.
                meeting.wires.cut()
                assert "and live" in await browser.see(f"GET rooms/{room}")

    run(main)


# -- whatever is asked --------------------------------------------------------------------------------------


SEGMENTS = (
    "rooms",
    "live",
    "messages",
    "files",
    "directory",
    "approvals",
    "codes",
    "leave",
    "ROOM",
    "r_none",
    "m_1",
    "",
)


@settings(max_examples=40)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]),
    path=st.lists(st.sampled_from(SEGMENTS) | st.text(max_size=8), max_size=5),
    query=st.dictionaries(st.sampled_from(["before", "after", "q", "done"]), st.text(max_size=20), max_size=3),
    form=st.dictionaries(
        st.sampled_from(["code", "decision", "request", "room", "id"]),
        st.sampled_from(["approve", "deny"]) | st.text(max_size=20),
        max_size=4,
    ),
    is_home=st.booleans(),
)
def test_whatever_is_asked_is_answered_as_a_page_and_never_fails(
    method: str, path: list[str], query: dict[str, str], form: dict[str, str], is_home: bool
) -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened(None if is_home else room)
            target = "/".join(quote(each.replace("ROOM", room), safe="") for each in path)
            line = f"{method} {browser.root}{target}?{urlencode(query)}"
            with trio.move_on_after(5) as waited:
                answer = await browser.ask(line, form if method in ("POST", "PUT") else None)
            if waited.cancelled_caught:
                assert "live" in path  # a stream, which goes on
                return
            assert answer.status < 500
            if answer.headers.get("content-type") == "application/json":
                # By the door, before anything was looked at.
                assert method == "HEAD" or answer.code == "request_refused"
                return
            has_headers(answer, form=answer.headers["referrer-policy"] == "same-origin")
            assert "<script>" not in answer.body.decode()

    run(main)


def test_what_fails_here_is_a_page_too(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with looking() as looked:
            browser, _ = await looked.opened()

            async def fails(*args: object) -> t.Result:
                raise RuntimeError("with words of a peer")

            monkeypatch.setattr(looked.home.engine, "call", fails)
            answer = await browser.ask("GET ")
            assert answer.status == 500
            has_headers(answer)
            assert "words of a peer" not in answer.body.decode() + caplog.text

    run(main)


# -- files and errors ---------------------------------------------------------------------------------------


def test_a_message_stands_with_its_receipt() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            sent = await bob.send("for the record")
            given = await bob.ask("receipt.get", t.GetReceipt(room=room, id=sent.id), t.ReceiptGiven)
            browser, _ = await looked.opened(room)
            page = await browser.see(f"GET rooms/{room}/messages/{sent.id}")
            assert given.receipt in unescape(page)
            # Whoever sees no message is shown no receipt of it.
            hidden = await alice.send("between us", visible_to=("alice",))
            narrow = looked.browser()
            opened = await bob.ask("page.open", t.OpenPages(room=room), t.OpenedPages)
            await narrow.enter(opened.watch_code)
            answer = await narrow.ask(f"GET rooms/{room}/messages/{hidden.id}")
            assert (answer.status, "parler/receipt" in answer.body.decode()) == (404, False)

    run(main)


def test_a_file_is_an_attachment_of_no_kind_under_a_name_of_ours() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            minted = await alice.ask("token.mint", t.MintToken(), t.MintedToken)
            put = await looked.web.ask(f"PUT /v1/rooms/{room}/blobs", b"<script>alert(1)</script>", token=minted.token)
            share = {"blob": put.document["blob"], "size": put.document["size"], "name": "../../evil.html\u202e"}
            shared = await looked.web.ask(f"POST /v1/rooms/{room}/files", share, token=minted.token)
            browser, _ = await looked.opened("auth-redesign")
            page = await browser.see(f"GET rooms/{room}")
            is_clean(page)
            id = shared.document["id"]
            assert f"/rooms/{room}/files/{id}" in page
            answer = await browser.ask(f"GET rooms/{room}/files/{id}")
            assert (answer.status, answer.body) == (200, b"<script>alert(1)</script>")
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"] == f'attachment; filename="{put.document["blob"]}"'
            assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
            assert answer.headers["x-content-type-options"] == "nosniff"
            for wrong in ("m_none", put.document["blob"], "..%2f..%2fetc%2fpasswd", "%2e%2e", "1"):
                assert (await browser.ask(f"GET rooms/{room}/files/{wrong}")).status in (400, 404), wrong

    run(main)


def test_every_error_has_the_headers_of_a_page() -> None:
    async def main() -> None:
        async with looking() as looked:
            browser, _ = await looked.opened()
            for line in (
                "GET rooms/r_none", "GET nothing", "POST directory", "GET /p/x/", "GET /view/nothing", "POST /view/x",
                "GET rooms/r_none/messages/m_1", "HEAD live",
            ):  # fmt: skip
                answer = await browser.ask(line, {} if line.startswith("POST") else None)
                assert answer.status in (401, 404, 405), line
                has_headers(answer)
                assert answer.headers["content-type"] == "text/html; charset=utf-8"

    run(main)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"code": "x"}'),
        ("text/plain", b"code=x"),
        ("multipart/form-data; boundary=x", b"--x--"),
        (FORM, b"code=x&code=y"),
        (FORM, b"code=%ff"),
        (FORM, "code=é".encode()),
        (FORM, b"&".join([b"a=b"] * 20)),
        (FORM, b"code=" + b"x" * MAX_FORM),
        (FORM, b"nothing"),
    ],
)
def test_what_is_no_form_of_ours_is_refused(kind: str, body: bytes) -> None:
    async def main() -> None:
        async with looking() as looked:
            headers = {"Sec-Fetch-Site": "same-origin", "Origin": f"http://{NAME}", "Content-Type": kind}
            answer = await looked.web.ask("POST /view", body, headers=headers)
            assert answer.status == 400
            has_headers(answer)

    run(main)


def test_no_answer_leads_to_another_site() -> None:
    async def main() -> None:
        async with looking() as looked:
            await looked.home.room("alice", "bob", topic="auth redesign")
            browser, opened = await looked.opened()
            for line, form in (
                ("POST codes?next=http://evil.example", {"id": opened.info.id}),
                ("GET ?done=http://evil.example", None),
                ("GET /view?next=//evil.example", None),
                ("GET rooms/%2f%2fevil.example", None),
            ):
                answer = await browser.ask(line, form)
                assert "evil" not in answer.headers.get("location", "")
                assert "evil" not in answer.body.decode().replace("//evil.example", "", 0) or answer.status == 404

    run(main)


def test_one_code_has_so_many_streams() -> None:
    async def main() -> None:
        async with looking() as looked:
            browser, _ = await looked.opened()
            for _ in range(MAX_STREAMS):
                await browser.follow("GET live")
            await settle()
            assert (await browser.ask("GET live")).status == 429

    run(main)


@pytest.mark.parametrize(
    ("name", "media"), [("style.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
)
def test_what_is_the_same_for_everybody_has_a_tag(name: str, media: str) -> None:
    async def main() -> None:
        async with looking() as looked:
            answer = await looked.web.ask(f"GET /view/{name}")
            assert (answer.status, answer.headers["content-type"]) == (200, f"{media}; charset=utf-8")
            has_headers(answer)
            again = await looked.web.ask(f"GET /view/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status, again.body) == (304, b"")

    run(main)


def test_the_policy_is_the_one_of_the_contract() -> None:
    assert POLICY == (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


# -- what the person decides -------------------------------------------------------------------------------


def test_the_person_lets_in_who_shows_its_code_and_declines_by_a_press() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice = await looked.home.agent("alice")
            opened = await alice.open("auth redesign", "Chose PKCE.")
            browser, _ = await looked.opened()
            joined = {}
            for name in ("dave", "eve"):
                party = await looked.home.agent(name)
                joined[name] = await party.join(opened.session_key)
            page = await browser.see("GET approvals")
            assert page.count("Let in</button>") == 2
            for name in joined:
                # The page never shows the code that has to be typed.
                assert str(joined[name].join_code) not in page
            dave, eve = await alice.requests()
            form = {"request": dave.id, "room": opened.room, "decision": "approve"}
            for code in ("", "ZZZZ"):
                wrong = await browser.ask("POST approvals", {**form, "code": code})
                assert wrong.status == 409, code
                has_headers(wrong, form=True)
            assert len(await alice.requests()) == 2
            for decision in ("", "no", "APPROVE"):
                code = str(joined["dave"].join_code)
                assert (await browser.ask("POST approvals", {**form, "decision": decision, "code": code})).status == 409
            done = await browser.ask("POST approvals", {**form, "code": str(joined["dave"].join_code)})
            assert (done.status, done.headers["location"]) == (303, f"{browser.root}approvals?done=approved")
            assert "Let in." in await browser.see("GET approvals?done=approved")
            denied = {"request": eve.id, "room": opened.room, "decision": "deny"}
            assert (await browser.ask("POST approvals", denied)).status == 303
            assert "Nobody waits" in await browser.see("GET approvals")
            assert set(await alice.roster()) == {"alice", "dave"}
            facts = await looked.home.engine.desk.library.facts(opened_room(opened), 0, 100)  # type: ignore[arg-type]
            proofs = {type(fact.event).__name__: getattr(fact.event, "proof", None) for fact in facts}
            assert (proofs["JoinApproved"], proofs["JoinDenied"]) == ("form", "form")

    run(main)


def opened_room(opened: t.OpenedSession) -> str:
    return opened.room


def test_who_asks_to_write_to_an_agent_is_let_in_with_its_code_too() -> None:
    async def main() -> None:
        async with looking() as looked:
            ben = await looked.home.agent("ben")
            await ben.ask("directory.register", t.Register(visibility="public", direct="ask"), t.Registered)
            ann = await looked.home.agent("ann")
            sent = await ann.send("may I ask you something?", to=("ben",))
            browser, _ = await looked.opened()
            page = await browser.see("GET approvals")
            assert "to write to your agent" in page
            assert "may I ask you something?" not in page
            assert str(sent.join_code) not in page
            [ask] = await (await looked.home.person()).requests()
            form = {"request": ask.id, "room": ask.room, "decision": "approve"}
            assert (await browser.ask("POST approvals", {**form, "code": "ZZZZ"})).status == 409
            assert (await browser.ask("POST approvals", {**form, "code": str(sent.join_code)})).status == 303
            assert await ben.read(room=ask.room) == ["may I ask you something?"]

    run(main)


def test_a_home_that_asks_for_more_than_a_form_lets_nobody_in_on_a_page() -> None:
    async def main() -> None:
        world = pages_world()
        world.settings = msgspec.structs.replace(world.settings, approval_minimum="terminal")
        async with looking(world) as looked:
            alice = await looked.home.agent("alice")
            opened = await alice.open("auth redesign", "Chose PKCE.")
            dave = await looked.home.agent("dave")
            code = str((await dave.join(opened.session_key)).join_code)
            [knock] = await alice.requests()
            browser, _ = await looked.opened()
            form = {"request": knock.id, "room": opened.room, "decision": "approve", "code": code}
            answer = await browser.ask("POST approvals", form)
            assert answer.status == 403
            assert len(await alice.requests()) == 1

    run(main)


def test_what_waits_is_said_to_have_changed_while_it_is_looked_at() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice = await looked.home.agent("alice")
            opened = await alice.open("auth redesign", "Chose PKCE.")
            browser, _ = await looked.opened()
            stream = await browser.follow("GET live")
            await settle()
            dave = await looked.home.agent("dave")
            await dave.join(opened.session_key)
            assert b"event: changed" in await stream.piece()

    run(main)
