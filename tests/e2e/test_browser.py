"""The pages in a real browser: they come alive, they are read by everybody, and what a peer wrote does nothing."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import axe_core_python
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from parlerd.core.model import RequestId
from parlerd.operations import types as t
from tests.support.chromium import DRIVER, PROGRAM, Chromium, RealHome, real_home
from tests.support.engine import Party, Served

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(PROGRAM is None or DRIVER is None, reason="there is no Chromium with a chromedriver here"),
]

AXE: Final = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
EVIL: Final = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "</template></li><svg onload=alert(1)>{{ 7*7 }}{% raw %}\x1b[2J\u202egnp.exe\u200b\U000e0041 "
    "javascript:alert(1) مرحبا " + "z\u0301\u0302\u0303\u0304\u0305\u0306" + "w" * 300
)
ROOM: Final = "auth-redesign"


@pytest.fixture(scope="module")
def home() -> Iterator[RealHome]:
    with real_home() as home:
        home.run(_furnish)
        yield home


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


async def _furnish(home: Served) -> None:
    """A room with something of everything, and two who knock at another."""
    alice, bob = await home.room("alice", "bob", topic="auth redesign", context=f"Chose PKCE. {EVIL}")
    for number in range(60):
        await (alice, bob)[number % 2].send(f"note {number}")
    await bob.send(EVIL, data={"evil": EVIL})
    await bob.send("line\n" * 200)
    await alice.send("rename the flag", kind="task")
    await alice.handoff(EVIL, to="bob", summary=EVIL)
    write = t.SetState(key="phase", value={"is": EVIL}, idempotency_key="k")
    await alice.ask("state.set", write, t.StateWritten)
    card = t.Register(visibility="public", description=EVIL, role="tester", tags=("auth",))
    await bob.ask("directory.register", card, t.Registered)
    opened = await alice.open(f"gated {EVIL[:40]}", "ctx")
    for name in ("dave", "eve"):
        await (await home.agent(name)).join(opened.session_key)


def opened(home: RealHome, room: str | None = None) -> t.OpenedPages:
    return home.ask(Served.person, "page.open", t.OpenPages(room=room), t.OpenedPages)


def enter(browser: Chromium, home: RealHome, room: str | None = None) -> str:
    """Open a view by its address, as a person does who clicks on it: the address below which its pages stand."""
    view = opened(home, room)
    browser.driver.get(f"{view.url}#{view.watch_code}")
    browser.until("return location.pathname.startsWith('/p/') && document.readyState === 'complete'")
    return "/".join(browser.driver.current_url.split("/")[:5]) + "/"


def test_the_code_behind_the_hash_opens_a_view_and_leaves_the_address(browser: Chromium, home: RealHome) -> None:
    view = opened(home, ROOM)
    browser.driver.get(f"{view.url}#{view.watch_code}")
    browser.until("return location.pathname.startsWith('/p/')")
    assert view.watch_code not in browser.driver.current_url
    # The browser's own history leads back to no page with a code.
    browser.driver.back()
    assert view.watch_code not in browser.driver.current_url
    browser.driver.get(view.url)
    # It can be typed too; a wrong one is said to be wrong, and the right one opens once.
    field = browser.driver.find_element(By.ID, "code")
    field.clear()
    field.send_keys(view.watch_code, Keys.ENTER)
    browser.until("return Boolean(document.querySelector('[role=alert]'))")
    other = opened(home)
    field = browser.driver.find_element(By.ID, "code")
    field.clear()
    field.send_keys(other.watch_code.lower(), Keys.ENTER)
    browser.until("return document.title.startsWith('Home')")


def test_what_is_said_appears_by_itself_and_is_text_alone(browser: Chromium, home: RealHome) -> None:
    enter(browser, home, ROOM)
    browser.complaints()
    browser.until("return document.getElementById('live').textContent === 'live'")
    assert browser.run("return document.querySelectorAll('#log .message').length") <= 50

    async def speak(home: Served) -> None:
        bob = await home.agent("bob")
        await bob.send(f"live and well {EVIL}", room=ROOM)
        write = t.SetState(key="turn", value=EVIL, room=ROOM, idempotency_key="turn")
        await bob.ask("state.set", write, t.StateWritten)

    home.run(speak)
    last = "document.querySelector('#log .message:last-child')"
    browser.until(f"return {last}.textContent.includes('live and well')")
    browser.until("return document.getElementById('state').textContent.includes('turn')")
    shown = browser.run(f"return {last}.querySelector('.words').textContent")
    assert "<script>document.title='owned'</script><img src=x" in shown
    assert "U+202E" in shown
    assert "\u202e" not in browser.run("return document.documentElement.outerHTML")
    # Live or not, a message looks the same.
    form = "const m = [...document.querySelectorAll('#log .message')]; return m.map(x => x.className)"
    browser.driver.refresh()
    browser.until("return document.getElementById('live').textContent === 'live'")
    assert browser.run(f"return {last}.querySelector('.words').textContent") == shown
    assert len(browser.run(form)) <= 50
    # Nothing of it is markup, nothing ran, and the browser had nothing to refuse.
    assert "owned" not in browser.driver.title
    assert browser.run("return document.querySelectorAll('main script, main img, main svg, main iframe').length") == 0
    assert browser.complaints() == []


PAGES: Final = ("", "directory", "approvals", "rooms/ROOM", "rooms/ROOM/messages/LAST")


def test_every_page_fits_its_window_and_is_read_by_everybody(browser: Chromium, home: RealHome) -> None:
    root = enter(browser, home)
    room = home.run(_room)
    last = home.run(_last)
    for page in PAGES:
        browser.driver.get(root + page.replace("ROOM", room).replace("LAST", last))
        browser.run(AXE)
        for width in (390, 1280):
            for scheme in ("light", "dark"):
                browser.looks(width=width, scheme=scheme)
                assert browser.run("return document.documentElement.scrollWidth - innerWidth") <= 0, (page, width)
                found = browser.driver.execute_async_script(
                    "axe.run(document, {resultTypes: ['violations']}).then(r => arguments[0](r.violations.map("
                    "v => v.id + ': ' + v.nodes.map(n => n.target + ' ' + n.failureSummary).join(' | '))))"
                )
                assert found == [], (page, width, scheme)
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    # In a wide window the room's other parts stand beside its messages, and below them in a narrow one.
    browser.driver.get(f"{root}rooms/{room}")
    below = "const [a, b] = ['.talk', '.side'].map(x => document.querySelector(x).getBoundingClientRect());"
    for width, wanted in ((1280, True), (390, False)):
        browser.looks(width=width, scheme="light")
        assert browser.run(f"{below} return b.left >= a.right") is wanted
        assert browser.run(f"{below} return b.width") == (352 if wanted else browser.run(f"{below} return a.width"))
    browser.looks(width=1280, scheme="light")


async def _room(home: Served) -> str:
    person = await home.person()
    return next(each.room for each in await person.rooms() if each.name == ROOM)


async def _last(home: Served) -> str:
    bob: Party = await home.agent("bob")
    return (await bob.recv(room=ROOM, since=60, limit=3)).messages[-1].id


def test_the_keyboard_reaches_everything_that_can_be_pressed(browser: Chromium, home: RealHome) -> None:
    root = enter(browser, home)
    for page in ("", "approvals", f"rooms/{home.run(_room)}"):
        browser.driver.get(root + page)
        wanted = browser.run(
            "const every = 'a[href], button, input:not([type=hidden]), summary, [tabindex]';"
            "const all = [...document.querySelectorAll(every)].filter(x => x.checkVisibility());"
            "all.forEach((x, n) => x.dataset.n = n); return all.length"
        )
        reached = set()
        for _ in range(wanted):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            number, outline = browser.run(
                "const x = document.activeElement; return [x.dataset.n, getComputedStyle(x).outlineStyle]"
            )
            reached.add(number)
            # Whoever sees the page sees where the keyboard is.
            assert outline != "none", (page, number)
        assert reached == {str(number) for number in range(wanted)}, page


def test_the_person_decides_with_a_code_and_with_a_press(browser: Chromium, home: RealHome) -> None:
    root = enter(browser, home)
    browser.driver.get(f"{root}approvals")

    async def code(home: Served) -> str:
        person = await home.person()
        [knock] = [each for each in await person.requests() if each.name == "dave"]
        return home.engine.desk.keys.join_code(RequestId(knock.id))

    form = "//li[contains(., 'dave')]//form[.//input[@name='code']]"
    typed = home.run(code)
    assert typed not in browser.driver.page_source
    browser.driver.find_element(By.XPATH, f"{form}//input[@name='code']").send_keys(typed, Keys.ENTER)
    browser.until("return Boolean(document.querySelector('.done')) && document.body.textContent.includes('Let in.')")
    browser.driver.find_element(By.XPATH, "//li[contains(., 'eve')]//button[contains(., 'Decline')]").click()
    browser.until("return document.body.textContent.includes('Declined.')")
    assert "Nobody waits for a decision" in browser.driver.page_source


def test_a_hidden_tab_follows_nothing(browser: Chromium, home: RealHome) -> None:
    enter(browser, home, ROOM)
    browser.until("return document.getElementById('live').textContent === 'live'")
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
    browser.run(hide + "document.dispatchEvent(new Event('visibilitychange'))", True)
    assert browser.run("return document.getElementById('live').textContent") == "paused"

    async def streams(home: Served) -> list[int]:
        found = await (await home.person()).ask("page.codes", t.ListWatchCodes(), t.WatchCodeList)
        return [each.streams for each in found.codes]

    while any(home.run(streams)):
        pass

    async def speak(home: Served) -> None:
        await (await home.agent("bob")).send("while nobody looked", room=ROOM)

    home.run(speak)
    browser.run(hide + "document.dispatchEvent(new Event('visibilitychange'))", False)
    browser.until("return document.getElementById('log').textContent.includes('while nobody looked')")


def test_a_code_that_is_revoked_ends_an_open_page(browser: Chromium, home: RealHome) -> None:
    view = opened(home, ROOM)
    browser.driver.get(f"{view.url}#{view.watch_code}")
    browser.until("return document.getElementById('live') && document.getElementById('live').textContent === 'live'")
    home.ask(Served.person, "page.revoke", t.RevokeWatchCode(id=view.info.id), t.RevokedWatchCode)
    browser.until("return document.getElementById('live').textContent === 'This view is closed.'")
    browser.driver.refresh()
    browser.until("return document.body.textContent.includes('This view is closed.')")


class _Evil(BaseHTTPRequestHandler):
    """Another server of this machine, with a page that tries what it can."""

    page = ""
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(f"{self.path} {self.headers.get('Cookie', '')}")
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", "parler_page=tossed; Path=/")
        self.end_headers()
        self.wfile.write(type(self).page.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def evil() -> Iterator[tuple[str, type[_Evil]]]:
    _Evil.asked = []
    server = HTTPServer(("127.0.0.1", 0), _Evil)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", _Evil
    server.shutdown()
    server.server_close()
    thread.join()


def test_another_port_of_this_machine_neither_reads_nor_presses_anything(
    browser: Chromium, home: RealHome, evil: tuple[str, type[_Evil]]
) -> None:
    """A site of another port is the same site to a browser, which sends it the cookies of this one by their paths."""
    url, server = evil
    view = opened(home, ROOM)
    root = enter(browser, home)
    server.page = (
        f"<iframe src='{root}'></iframe><form method=post action='{root}codes'>"
        f"<input name=id value='{view.info.id}'><button id=go>go</button></form>"
        f"<script>window.got = []; const u = '{root}';"
        "for (const mode of ['cors', 'no-cors', 'same-origin'])"
        " fetch(u, {mode, credentials: 'include'}).then(r => r.text()).then(x => got.push(x), () => got.push('no'));"
        "const s = new EventSource(u + 'live', {withCredentials: true}); s.onerror = () => got.push('no');</script>"
    )
    browser.driver.get(url)
    got = browser.until("return got.length >= 4 && got")
    assert set(got) <= {"no", ""}
    browser.driver.find_element(By.ID, "go").click()
    browser.until("return document.readyState === 'complete' && location.pathname.includes('codes')")
    assert "request_refused" in browser.driver.page_source
    # It was sent no cookie of ours, whose path it does not know.
    assert re.findall(r"parler_page=(\w+)", "".join(server.asked)) in ([], ["tossed"], ["tossed"] * 2)
    # The code that it tried to revoke opens, and the page that it tried to read is there.
    browser.driver.get(root)
    assert browser.driver.title.startswith("Home")
    assert view.info.id in browser.driver.page_source
    browser.complaints()
