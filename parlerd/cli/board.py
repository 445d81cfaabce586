"""`parler board`: what goes on in a room, live on the whole terminal.

Without a terminal and with `--once` the board is printed once; with `--json` it is printed whenever it looks otherwise,
one object a line. Not here: how the board looks (`board_view`), the terminal and the thread that follows (`live`).
Above: `commands`. Invariants: looking marks nothing as read; the screen goes on when the daemon restarts, and says
meanwhile that it is out of date.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from parlerd.cli.board_view import lines
from parlerd.cli.context import ANSWER_S, RETRIED, WAIT_SLICE_MS, Context
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.live import Follower, Screen, can_draw, read_keys, single_keys
from parlerd.cli.output import DONE, ELSEWHERE_CODES
from parlerd.cli.parsing import Parser, UsageError, unicode_text
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from rich.live import Live

    from parlerd.cli.context import ClientLike

QUIT: Final = frozenset(b"qQ\x1b\x04")
"""The keys that end the screen."""
_KEYS: Final = "q quits"


def _arguments(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", type=unicode_text, metavar="ROOM", help="as --room")
    parser.add_argument(
        "--once", action="store_true", help="print the board and return (always so off a terminal, unless with --json)"
    )
    room_argument(parser)


def _board(ctx: Context, args: Namespace) -> int:
    if args.name is not None and args.room is not None:
        raise UsageError("name the room once", path="parler board")
    room, out = args.room if args.name is None else args.name, ctx.out
    if out.json and not args.once:
        return _stream(ctx, room)
    board = ctx.call_again("room.board", t.LookAtBoard(wait_ms=0, room=room), t.Board)
    if out.json:
        out.document(board)
    elif args.once or not can_draw(ctx):
        for line in lines(board, board.now / 1000, width=out.width if out.terminal else None):
            out.line(*line)
    else:
        keyboard = sys.stdin.fileno()
        following = Follower(ctx, "board", lambda client: _boards(client, board))
        with following as follower, single_keys(keyboard), out.screen():
            _Screen(ctx, follower, keyboard, board).run()
    return DONE


def _stream(ctx: Context, room: str | None) -> int:
    ctx.out.stream()
    mark = ""

    def ask(wait_ms: int) -> t.LookAtBoard:
        return t.LookAtBoard(after=mark, wait_ms=wait_ms, room=room)

    def looks_otherwise(board: t.Board) -> bool:
        return board.mark != mark

    for board in ctx.follow("room.board", ask, t.Board, until=looks_otherwise):
        mark, room = board.mark, board.room
        ctx.out.item(board)
    return DONE


def _boards(client: ClientLike, board: t.Board) -> Iterator[t.Board]:
    """The board of the same room, whenever it looks otherwise."""
    mark = ""
    while True:
        params = t.LookAtBoard(after=mark, wait_ms=WAIT_SLICE_MS, room=board.room)
        found = client.call("room.board", params, timeout=ANSWER_S + WAIT_SLICE_MS / 1000)
        assert isinstance(found, t.Board)
        mark = found.mark
        yield found


class _Screen(Screen[t.Board]):
    def __init__(self, ctx: Context, follower: Follower[t.Board], keyboard: int, board: t.Board) -> None:
        super().__init__(ctx, follower, keyboard)
        self._board = board
        # How far the room's time is ahead of the clock here, in seconds.
        self._ahead = board.now / 1000 - ctx.now()
        # Why the board may be out of date; empty while it is not.
        self._lost = ""

    def _take_updates(self) -> None:
        for update in self._follower.take():
            if isinstance(update, t.Board):
                self._board, self._lost = update, ""
                self._ahead = update.now / 1000 - self._ctx.now()
            elif update.code in RETRIED or update.code == "unreachable":
                self._lost = "The daemon went away; connecting again."
            elif update.code in ELSEWHERE_CODES:
                self._lost = "The room's home cannot be reached; trying again."
            else:
                raise update

    def _take_keys(self, live: Live) -> bool:
        return not QUIT & {*read_keys(self._keyboard)}

    def _draw(self, live: Live) -> None:
        from rich.console import Group
        from rich.text import Text

        width, height = self._console.size
        shown = lines(self._board, self._ctx.now() + self._ahead, width=width, height=height - 1)
        drawn = []
        for line in shown:
            text = Text(no_wrap=True)
            for span in line:
                text.append_text(self._ctx.out.rich_text(span))
            drawn.append(text)
        drawn += [Text("")] * (height - 1 - len(drawn))
        drawn.append(self._ctx.out.rich_text((self._lost, "bad") if self._lost else (_KEYS, "dim")))
        live.update(Group(*drawn), refresh=True)


HANDLERS: Final = {
    "board": Handler(
        _arguments,
        _board,
        section="Coordinate",
        rank=58,
        examples=("parler board", "parler board auth-redesign --once", "parler board --json"),
    ),
}
