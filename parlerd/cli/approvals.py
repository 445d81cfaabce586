"""`parler approvals`: everything that waits for this person, live, decided by a key press.

This module takes keys and updates, draws, and makes the calls. Without a terminal, with `--once` or with `--json` it
lists what waits, and returns. Not here: what a key does (`approvals_model`), how the screen looks (`approvals_view`),
the terminal, the loop and the thread that follows (`live`).
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from parlerd.cli import approvals_model as model
from parlerd.cli.context import RETRIED, Context
from parlerd.cli.handlers import Handler
from parlerd.cli.live import Follower, Screen, can_draw, read_keys, single_keys
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser
from parlerd.cli.render import show_requests
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.live import Live

    from parlerd.cli.context import ClientLike

ESCAPE_S: Final = 0.05
"""How long the rest of an arrow key may take to follow its first byte."""
_SEQUENCES: Final = {
    b"[A": "up",
    b"OA": "up",
    b"[B": "down",
    b"OB": "down",
    b"[5~": "pageup",
    b"[6~": "pagedown",
    b"[H": "home",
    b"OH": "home",
    b"[1~": "home",
    b"[F": "end",
    b"OF": "end",
    b"[4~": "end",
}
_CONTROLS: Final = {0x0D: "enter", 0x0A: "enter", 0x7F: "backspace", 0x08: "backspace"}


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "--once",
        action="store_true",
        help="list what waits and return (always so off a terminal or with --json)",
    )


def _approvals(ctx: Context, args: Namespace) -> int:
    out = ctx.out
    if args.once or out.json or not can_draw(ctx):
        found = ctx.call_again("approvals.list", t.ListApprovals(), t.RequestList)
        if out.json:
            out.document(found)
        else:
            show_requests(out, found.requests, ctx.now())
            if found.notice:
                out.note(found.notice)
        return DONE
    ctx.client()
    with Follower(ctx, "approvals", _lists) as follower, single_keys(sys.stdin.fileno()), out.screen():
        _Screen(ctx, follower, sys.stdin.fileno()).run()
    return DONE


def row_of(request: t.RequestInfo) -> model.Row:
    """A request as the screen holds it."""
    return model.Row(
        id=request.id,
        agent=request.agent,
        room=request.room,
        room_name=request.room_name,
        name=request.name,
        host=request.host,
        fingerprint=request.fingerprint,
        home=request.home,
        requested=request.requested,
        queue=request.key_ref,
        topic=request.topic,
        role=request.role,
        direct_to=request.direct_to,
    )


class Verdict(NamedTuple):
    """How a decision went, in a sentence (`note`). With `again` the person may type another code."""

    note: str
    good: bool
    again: bool = False


def decide(ctx: Context, decision: model.Approve | model.Deny) -> Verdict:
    """Make the calls of a decision, and say how the decision went."""
    try:
        if isinstance(decision, model.Approve):
            row = decision.row
            code = decision.code or None
            params = t.DecideJoin(agent=row.agent, room=row.room, join_code=code, terminal=True)
            done = ctx.call("session.approve", params, t.Decided)
            if done.direct_to:
                return Verdict(f"Approved {row.fingerprint}: {row.name} may write to {done.direct_to}.", True)
            room = done.room_name or row.room_name
            return Verdict(f"Approved {row.fingerprint}: {done.name or row.name} is now in '{room}'.", True)
        for row in decision.rows:
            ctx.call("session.deny", t.DecideJoin(agent=row.agent, room=row.room, terminal=True), t.Decided)
        if len(decision.rows) == 1:
            return Verdict(f"Denied {decision.rows[0].fingerprint}, which says it is {decision.rows[0].name}.", True)
        return Verdict(f"Denied {len(decision.rows)}.", True)
    except ParlerError as error:
        if error.code in RETRIED:
            ctx.disconnect()
        return Verdict(f"{error.message} {error.hint}", False, again=error.code == "code_mismatch")


def keys_of(data: bytes) -> Iterator[str]:
    """The keys in bytes that were read from the terminal at once. Keys that the screen does not use are left out."""
    index = 0
    while index < len(data):
        byte = data[index]
        if byte == 0x1B:
            size = next((size for size in (2, 3) if data[index + 1 : index + 1 + size] in _SEQUENCES), 0)
            if size:
                yield _SEQUENCES[data[index + 1 : index + 1 + size]]
                index += 1 + size
                continue
            if index + 1 == len(data):
                yield "escape"
            # A longer sequence is a key that the screen does not use, and none of its bytes may count as a letter.
            return
        if byte in _CONTROLS:
            yield _CONTROLS[byte]
        elif 0x20 < byte < 0x7F:
            yield chr(byte)
        index += 1


def _lists(client: ClientLike) -> Iterator[tuple[model.Row, ...]]:
    """The whole list, whenever something in it changes."""
    for found in client.stream("approvals.watch", t.WatchApprovals()):
        assert isinstance(found, t.RequestList)
        yield tuple(map(row_of, found.requests))


class _Screen(Screen[tuple[model.Row, ...]]):
    def __init__(self, ctx: Context, follower: Follower[tuple[model.Row, ...]], keyboard: int) -> None:
        super().__init__(ctx, follower, keyboard)
        self._state = model.Screen()
        # Whether the list may be out of date, because the daemon cannot be reached.
        self._lost = False

    def _draw(self, live: Live) -> None:
        from parlerd.cli.approvals_view import view

        width, height = self._console.size
        live.update(view(self._state, self._ctx.now(), height, width, lost=self._lost), refresh=True)

    def _take_updates(self) -> None:
        for update in self._follower.take():
            if isinstance(update, ParlerError):
                if update.code not in RETRIED and update.code != "unreachable":
                    raise update
                self._lost = True
            else:
                self._lost = False
                self._state = model.shown(self._state, update, self._now())

    def _take_keys(self, live: Live) -> bool:
        """Apply the keys that were typed; False when one of them was to quit."""
        for key in keys_of(self._read_keys()):
            self._state, decision = model.pressed(self._state, key, self._now())
            if isinstance(decision, model.Quit):
                return False
            if decision is not None:
                self._draw(live)
                done = decide(self._ctx, decision)
                self._state = model.decided(self._state, done.note, good=done.good, again=done.again)
        return True

    def _read_keys(self) -> bytes:
        data = read_keys(self._keyboard)
        if data == b"\x1b" and select.select([self._keyboard], [], [], ESCAPE_S)[0]:
            data += os.read(self._keyboard, 1024)
        return data

    def _now(self) -> int:
        return round(self._ctx.monotonic() * 1000)


HANDLERS: Final = {
    "approvals": Handler(
        _arguments,
        _approvals,
        section="Who may come in",
        rank=10,
        operation="approvals.list",
        examples=(
            "parler approvals",
            "parler approvals --once --json",
        ),
    ),
}
