"""The picture of `parler approvals` in the README, for `render`: the real screen, drawn with made-up requests.

    a fake daemon's answer -> parlerd.cli.approvals (keys, state, view) -> approvals.svg

Not here: how the screen looks (`parlerd.cli.approvals_view`). Above: `render`. Invariants: the same code gives the same
bytes, because times, the time zone, the width and the ids in the file are fixed; the file loads no font, style or
script from elsewhere.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from parlerd.cli.approvals import keys_of, row_of
from parlerd.cli.approvals_model import QUIET_MS, Screen, pressed, shown
from parlerd.cli.approvals_view import view
from parlerd.cli.context import Context
from parlerd.cli.output import Output
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.fake_client import FakeDaemon

PICTURE: Final = Path(__file__).resolve().parent / "approvals.svg"
ALT: Final = (
    "The screen of parler approvals: two agents wait, one is selected, and a panel asks for the code that it shows."
)
WIDTH: Final = 80
"""How many columns the terminal has: the fewest that the screen is made for, and easy to read on a web page."""
HEIGHT: Final = 24
"""How many lines the terminal has: those of the smallest common terminal."""
NOW_MS: Final = 1_795_860_060_000
"""2026-11-28 10:01 UTC."""
TYPED: Final = b"aK7QM"
"""`a` opens the question, and the four characters of the code follow; Enter is not pressed yet."""


def waiting(number: int, seconds: int, room: str, room_name: str, name: str, agent: str) -> t.RequestInfo:
    """A made-up request, so many seconds old, of an agent that is named `host@workspace`."""
    return t.RequestInfo(
        id=f"q_{number}",
        room=room,
        room_name=room_name,
        agent=agent,
        name=name,
        host=name.partition("@")[0],
        requested=NOW_MS - seconds * 1_000,
        fingerprint="-".join((agent[2:6], agent[6:10], agent[10:14])),
        home="local",
        key_ref=str(number),
    )


WAITING: Final = (
    waiting(
        1,
        12,
        "r_0123456789abcdef01234567",
        "auth-redesign",
        "codex@web",
        "UA7QK3D5X2MZ4VYT6LHWN3RBPJ5E2SGFCUOI7A4QKXD6MZVYT2LHWN3R",
    ),
    waiting(
        2,
        4,
        "r_89abcdef0123456701234567",
        "release-notes",
        "gemini@docs",
        "UB2SGFCUOI7A4QKXD6MZVYT2LHWN3RA7QK3D5X2MZ4VYT6LHWN3RBPJ5",
    ),
)
THEME: Final = TerminalTheme(
    (22, 27, 34),
    (230, 237, 243),
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (200, 208, 216),
    ],
    [
        (139, 148, 158),
        (255, 161, 152),
        (126, 231, 135),
        (242, 204, 96),
        (165, 214, 255),
        (226, 197, 255),
        (125, 228, 236),
        (255, 255, 255),
    ],
)
"""The colours are light on a dark ground that is part of the picture, so that it looks the same on any page."""

FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="ALT">
<!-- Made by `python docs/render.py`; do not edit. -->
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("ALT", ALT)
"""Rich's own template, without its web font and with a description."""


def picture() -> str:
    """The picture as SVG."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        highlight=False,
        markup=False,
        _environ={},
    )
    with _utc():
        console.print(view(_screen(), NOW_MS / 1000, HEIGHT))
    # The export cuts the last line off at its baseline, so the last line is an empty one.
    console.print()
    return console.export_svg(title="parler approvals", theme=THEME, code_format=FORMAT, unique_id="approvals")


def _screen() -> Screen:
    """The screen once the daemon has said who waits and the person has begun to type the first one's code."""
    daemon = FakeDaemon().answers("approvals.list", t.RequestList(room=None, requests=list(WAITING)))
    ctx = Context(Output(io.StringIO(), io.StringIO()), Home(PICTURE.parent), {}, daemon.connect, stdin=io.BytesIO())
    found = ctx.call("approvals.list", t.ListApprovals(), t.RequestList)
    screen = shown(Screen(), tuple(map(row_of, found.requests)), 0)
    for key in keys_of(TYPED):
        screen, _ = pressed(screen, key, QUIET_MS)
    return screen


@contextmanager
def _utc() -> Iterator[None]:
    """Make local times, which the screen shows, the same everywhere."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
