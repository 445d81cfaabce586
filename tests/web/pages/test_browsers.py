"""Which browser is let where: a path and a secret, and neither alone."""

from __future__ import annotations

import re

from parlerd.web.pages.browsers import COOKIE, MAX_BROWSERS, Browsers, set_cookie


def test_a_browser_is_found_by_its_path_and_its_cookie_together() -> None:
    browsers = Browsers()
    path, secret = browsers.admit("wc_1", is_home=True)
    other, another = browsers.admit("wc_2", is_home=False)
    assert re.fullmatch(r"[\w-]{22}", path)
    assert re.fullmatch(r"[\w-]{43}", secret)
    found = browsers.find(path, f"a=b; {COOKIE}={secret}")
    assert found is not None
    assert (found.code, found.is_home) == ("wc_1", True)
    wrong = ("", f"{COOKIE}=", f"{COOKIE}={another}", f"{COOKIE}x={secret}", f"x{COOKIE}={secret}", secret)
    assert [browsers.find(path, cookies) for cookies in wrong] == [None] * len(wrong)
    assert [browsers.find(at, f"{COOKIE}={secret}") for at in (other, path[:-1], path + "/", "")] == [None] * 4
    # The cookie of another server of this machine stands before ours, or behind it.
    for cookies in (f"{COOKIE}=x; {COOKIE}={secret}", f"{COOKIE}={secret};{COOKIE}=x"):
        assert browsers.find(path, cookies) == found
    browsers.forget(path)
    assert browsers.find(path, f"{COOKIE}={secret}") is None


def test_nothing_of_a_path_or_a_secret_is_kept() -> None:
    browsers = Browsers()
    path, secret = browsers.admit("wc_1", is_home=True)
    kept = repr(vars(browsers))
    assert path not in kept
    assert secret not in kept


def test_so_many_browsers_are_remembered() -> None:
    browsers = Browsers()
    admitted = [browsers.admit(f"wc_{number}", is_home=False) for number in range(MAX_BROWSERS + 1)]
    known = [browsers.find(path, f"{COOKIE}={secret}") is not None for path, secret in admitted]
    assert known == [False] + [True] * MAX_BROWSERS


def test_a_cookie_is_for_one_path_and_no_script_reads_it() -> None:
    assert set_cookie("P", "S", 60) == f"{COOKIE}=S; Path=/p/P/; Max-Age=60; HttpOnly; SameSite=Strict"
