"""Which browser is let to which pages: a path that cannot be guessed, and a cookie that cannot either.

    POST /view (a code) --> /p/<path>/, Set-Cookie: parler_page=<secret>; Path=/p/<path>/; HttpOnly; SameSite=Strict

A cookie of 127.0.0.1 is sent to every port there, whoever listens, also with SameSite=Strict; so it opens nothing
without the path. A path gets into histories; so it opens nothing without the cookie. Both are kept as digests, in
memory: pages end with the daemon.

Not here: what a code is for, and for how long (the engine). Above: `app`. Invariant: neither half is of any use alone,
and both of none on the paths of programs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, NamedTuple

from parlerd.bounded import Bounded

COOKIE: Final = "parler_page"
PATH_BYTES: Final = 16
"""128 bits. Source: contract spec, Pages."""
SECRET_BYTES: Final = 32
MAX_BROWSERS: Final = 400
"""Browsers that are remembered: twice as many as codes may hold."""


class Browser(NamedTuple):
    """A browser that showed a code."""

    code: str
    """The id of the code."""
    is_home: bool
    """Whether it is the person's, who sees the whole home."""
    secret: bytes
    """The digest of its cookie."""


class Browsers:
    """The browsers that showed a code since the daemon began."""

    def __init__(self) -> None:
        self._by_path: Bounded[bytes, Browser] = Bounded(MAX_BROWSERS)
        """By the digests of their paths."""

    def admit(self, code: str, *, is_home: bool) -> tuple[str, str]:
        """The path and the secret of one more browser: both are told to it and kept nowhere."""
        path, secret = secrets.token_urlsafe(PATH_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        self._by_path[_digest(path)] = Browser(code, is_home, _digest(secret))
        return path, secret

    def find(self, path: str, cookies: str) -> Browser | None:
        """The browser that asks at this path, with this header `Cookie`."""
        # Another server of this machine may set a cookie of the same name: each is tried.
        shown = [part.strip().partition("=") for part in cookies.split(";")]
        digests = [_digest(value) for name, _, value in shown if name == COOKIE]
        browser = self._by_path.get(_digest(path))
        if browser is None or not any(hmac.compare_digest(each, browser.secret) for each in digests):
            return None
        return browser

    def forget(self, path: str) -> None:
        """This browser is let to nothing any more."""
        self._by_path.pop(_digest(path), None)


def set_cookie(path: str, secret: str, seconds: int) -> str:
    """The header that gives a browser its secret, for one path."""
    return f"{COOKIE}={secret}; Path=/p/{path}/; Max-Age={seconds}; HttpOnly; SameSite=Strict"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
