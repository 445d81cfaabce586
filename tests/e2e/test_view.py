"""A person opens a room in a browser: with real processes and a real socket, and a browser that shows nothing."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.processes import Somebody, listens, skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e


def ask(url: str, line: str, form: dict[str, str] | None = None, cookie: str = "") -> tuple[int, dict[str, str], str]:
    """What a browser is answered."""
    at = urlsplit(url)
    method, _, path = line.partition(" ")
    headers = {"Sec-Fetch-Site": "same-origin"} | ({"Cookie": cookie} if cookie else {})
    body = None
    if form is not None:
        body = urlencode(form)
        headers |= {"Origin": f"http://{at.netloc}", "Content-Type": "application/x-www-form-urlencoded"}
    with closing(HTTPConnection(str(at.hostname), at.port, timeout=60)) as client:
        client.request(method, path, body, headers)
        answer = client.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


def test_a_person_opens_a_room_and_closes_it(somebody: Somebody) -> None:
    skip_where_nobody_may_decide(["view"])
    somebody.trusts_everyone()
    opened = somebody.opens("alice", topic="team")
    somebody.enters(opened.session_key, "bob")
    somebody.sends("bob", "hello <b>everybody</b>", room="team")
    view = somebody.runs("view", "--room", "team", "--json").document
    code, url = view["watch_code"], view["url"]
    (pid,) = somebody.daemons()
    assert listens(pid) == {("127.0.0.1", urlsplit(url).port)}
    status, headers, _ = ask(url, "POST /view", {"code": code})
    assert status == 303
    cookie = headers["set-cookie"].partition(";")[0]
    path = headers["location"].partition("#")[0]
    status, headers, page = ask(url, f"GET {path}", cookie=cookie)
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert "hello &lt;b&gt;everybody&lt;/b&gt;" in page
    assert ask(url, f"GET {path}")[0] == 404
    # Neither the code nor what a browser was given is in a log.
    for secret in (code, code.replace("-", ""), path.split("/")[2], cookie.partition("=")[2]):
        assert secret not in somebody.log()
    assert [each["id"] for each in somebody.runs("view", "--list", "--json").document["codes"]] == [view["info"]["id"]]
    somebody.runs("view", "--revoke", view["info"]["id"])
    assert ask(url, f"GET {path}", cookie=cookie)[0] == 404
