"""The Chromium of this machine, without a window, and a home whose pages it opens over a real port."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import which
from typing import Any, Final, TypeVar

import trio
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from parlerd.core.model import Millis
from parlerd.operations import types as t
from parlerd.web.local import LocalDoor
from tests.support.engine import HandClock, Party, Served, World

T = TypeVar("T")

PROGRAM: Final = which("chromium") or which("chromium-browser") or which("google-chrome")
DRIVER: Final = which("chromedriver")
PATIENCE_S: Final = 60.0
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class WallClock(HandClock):
    """The wall's clock, for a home that a browser looks at in real time."""

    def now(self) -> Millis:
        return Millis(time.time_ns() // 1_000_000)


class _Web:
    """The door of a home that is served by this process."""

    def __init__(self) -> None:
        self.door: LocalDoor | None = None
        self.lets_in = False

    @property
    def url(self) -> str | None:
        return None if self.door is None else self.door.url

    async def open(self, port: int, *, lets_in: bool) -> str:
        assert self.door is not None
        return await self.door.open(port, lets_in=lets_in)

    async def close(self) -> None:
        assert self.door is not None
        await self.door.close()


@dataclass
class RealHome:
    """A home over a real port, in a thread of its own."""

    ready: threading.Event = field(default_factory=threading.Event)
    token: trio.lowlevel.TrioToken | None = None
    served: Served | None = None
    stop: trio.Event | None = None

    def run(self, act: Callable[[Served], Awaitable[T]]) -> T:
        """Do something in the home."""
        assert self.served is not None
        return trio.from_thread.run(partial(act, self.served), trio_token=self.token)

    def ask(self, party: Callable[[Served], Awaitable[Party]], op: str, params: t.Params, result: type[T]) -> T:
        async def act(home: Served) -> T:
            answer = await (await party(home)).call(op, params)
            assert isinstance(answer, result)
            return answer

        return self.run(act)

    async def main(self) -> None:
        web = _Web()
        world = World(clock=WallClock(), web=web)
        async with world.serving() as home, trio.open_nursery() as nursery:
            engine = home.engine
            web.door = LocalDoor(engine, engine.bearers, engine.viewers, world.keys.principal, nursery)
            # Before any operation runs, so that what a browser asks for counts as no part of one.
            await web.open(0, lets_in=False)
            self.token, self.served, self.stop = trio.lowlevel.current_trio_token(), home, trio.Event()
            self.ready.set()
            await self.stop.wait()
            await web.close()
            nursery.cancel_scope.cancel()


@contextmanager
def real_home() -> Iterator[RealHome]:
    """A home over a real port, until the context ends."""
    home = RealHome()
    thread = threading.Thread(target=trio.run, args=(home.main,))
    thread.start()
    assert home.ready.wait(PATIENCE_S)
    try:
        yield home
    finally:
        assert home.stop is not None
        trio.from_thread.run_sync(home.stop.set, trio_token=home.token)
        thread.join(PATIENCE_S)


class Chromium:
    """One browser. `driver` is Selenium's."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        assert DRIVER is not None
        options = Options()
        options.binary_location = PROGRAM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def looks(self, *, width: int, scheme: str) -> None:
        """How wide the window is, and which colours its person likes."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *args: object) -> Any:
        """What a script gives, run beside those of the page."""
        return self.driver.execute_script(script, *args)

    def until(self, script: str) -> Any:
        """What a script gives, once that is true."""
        return WebDriverWait(self.driver, PATIENCE_S, 0.02).until(lambda driver: driver.execute_script(script))

    def complaints(self) -> list[str]:
        """What the browser said of the pages since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.driver.quit()
