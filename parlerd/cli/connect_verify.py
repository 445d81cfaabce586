"""`parler connect --verify`: waits until each connected host has dialled in, and says why one may not have.

A host has dialled in when one of its windows reached the daemon after the wait began. For a host whose entry was not
changed now, a window that was opened before and is still open counts too, and so does a host's own health check. Not
here: connecting (`connect`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.connect_view import IN_PLACE, VERIFY, Seen
from parlerd.cli.context import RETRIED, Context
from parlerd.cli.output import Cell, Output
from parlerd.cli.render import clock
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from configs.detect import Place
    from configs.outcome import Outcome

ASK_S: Final = 0.5
"""How often the daemon is asked, while a person restarts programs."""


def wait(ctx: Context, place: Place, found: Sequence[Outcome], timeout_ms: int) -> dict[str, Seen]:
    """Wait for every host whose entry is in place. Gives what was seen of each, by its id. Raises `ParlerError` when no
    daemon can be asked."""
    expected: dict[str, Seen] = {}
    for outcome in found:
        if outcome.detected and outcome.status in IN_PLACE:
            one = expected.setdefault(outcome.host.id, Seen(outcome.host, written=False))
            one.written = one.written or outcome.status != "unchanged"
    if not expected:
        return expected
    begun_ms = round(ctx.now() * 1000)
    deadline = ctx.monotonic() + timeout_ms / 1000
    with _shown(ctx, expected, deadline) as show:
        while True:
            _ask(ctx, expected, begun_ms)
            show()
            left = deadline - ctx.monotonic()
            if left <= 0 or all(one.seen for one in expected.values()):
                break
            ctx.sleep(min(ASK_S, left))
    _explain(place, expected)
    if not ctx.out.json:
        _conclude(ctx, expected)
    return expected


def _ask(ctx: Context, expected: dict[str, Seen], begun_ms: int) -> None:
    try:
        answer = ctx.call_again("hosts.seen", t.SeenHosts(), t.SeenHostList)
    except ParlerError as error:
        if error.code not in RETRIED:
            raise
        ctx.disconnect()
        return
    for host in answer.hosts:
        one = expected.get(host.host)
        if one is not None and (host.at >= begun_ms or (host.windows and not one.written)):
            one.at = host.at


def _explain(place: Place, expected: dict[str, Seen]) -> None:
    """Say for each host that was not seen why that may be: something is wrong with its file, or it was not restarted,
    or it behaves in a way that is known of this host."""
    from configs.drift import drift

    wrong = {each.host.id: each.sentence for each in drift(place)}
    for id, one in expected.items():
        if not one.seen:
            unseen = f"{one.host.name} has not been started since this wait began, as far as Parler can see."
            one.why = wrong.get(id) or f"{unseen} {one.host.silent}".rstrip()


def _conclude(ctx: Context, expected: dict[str, Seen]) -> None:
    out = ctx.out
    missing = [one for one in expected.values() if not one.seen]
    for one in missing:
        out.say((one.host.name, "name"), (" was not seen. ", "warn"), f"{one.why} {one.host.after}")
    if missing:
        out.say("To look again:")
        out.paste(VERIFY)
    else:
        out.say(("Every one dialled in.", "good"), " Next, ask one of your agents:")
        out.paste("Open a Parler session, summarize what we've been working on as the context, and give me the key.")


@contextlib.contextmanager
def _shown(ctx: Context, expected: dict[str, Seen], deadline: float) -> Iterator[Any]:
    """A function that shows the present state: on a terminal in a table that changes in place, elsewhere with one line
    for each host that dials in."""
    out = ctx.out
    if out.json:
        yield lambda: None
        return
    count = f"{len(expected)} agent host{'' if len(expected) == 1 else 's'}"
    out.say()
    out.say(f"Waiting for {count} to dial in. Start each one, or open a new window in it (Ctrl-C ends this).")
    out.flush()
    if not out.terminal:
        told: set[str] = set()

        def line() -> None:
            for id, one in expected.items():
                if one.seen and id not in told:
                    told.add(id)
                    out.say((one.host.name, "name"), f": dialled in at {clock(one.at, ctx.now())}")
                    out.flush()

        yield line
        return
    from rich.live import Live

    with out.screen(), Live(console=out.console(), auto_refresh=False) as live:
        yield lambda: live.update(_table(out, ctx, expected, deadline), refresh=True)


def _table(out: Output, ctx: Context, expected: dict[str, Seen], deadline: float) -> Any:
    rows: list[list[Cell]] = []
    for one in expected.values():
        state: Cell = (f"dialled in at {clock(one.at, ctx.now())}", "good") if one.seen else ("waiting", "warn")
        rows.append([(one.host.name, "name"), state])
    left = max(round(deadline - ctx.monotonic()), 0)
    return out.rich_table(["host", f"{left} s left"], rows)
