"""The last stages of `parler doctor --probe HOST`: a real message through the host and its model.

    message  A session is opened for this alone, and the host's program is started in it without a terminal, as `parler
             bring` does it. Its model has to read a message, and to say the word in it, which was drawn for this.
    shown    What the host's own record says of that message; only where the person lets Parler watch the record.

Not here: whether the model may be asked (`probe`), how a program is started (`bring`). Invariant: the session is closed
and deleted, however this ends.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from parlerd.cli.bring import first_prompt, program_of, start_words
from parlerd.cli.context import Context
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from configs.detect import Place
    from configs.model import Host

MODEL_S: Final = 180.0
"""How long the host's program may take for one answer of its model."""
VERDICT_S: Final = 3.0
"""How long the record may take to say something, after the program has ended."""
_LOOK_S: Final = 0.1
_RECAP: Final = (
    "This session is a probe of {host} by `parler doctor`, and nobody waits in it. The word of the probe is {word}."
)
_ASKS: Final = (
    "answer with the word of the probe that you read there and with nothing else. Send nothing, and call no other tool."
)


class Failed(Exception):
    """A stage was not reached. `detail` says what is wrong and `fix` what to do; `stage` names the stage where it is
    not the next one."""

    def __init__(self, detail: str, fix: str, stage: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.fix = fix
        self.stage = stage


def stages(ctx: Context, place: Place, host: Host) -> Iterator[tuple[str, str]]:
    """Each of the two stages that was reached, with what was found. Raises `Failed`."""
    word = f"plum-{secrets.token_hex(4)}"
    try:
        words, program = start_words(host, headless=True), program_of(place, host)
        recap = _RECAP.format(host=host.name, word=word)
        begun = ctx.call("session.bring", t.BringAgent(host=host.id, context=recap), t.Bringing)
    except ParlerError as error:
        raise Failed(error.message, error.hint, "message") from error
    assert begun.room is not None, "a session was opened"
    try:
        prompt = first_prompt(begun.name, begun.room, _ASKS)
        ctx.disconnect()
        printed, seconds = _answer(ctx, host, [str(program), *words], prompt)
        ladder = _ladder(ctx, begun.room)
        if ladder is None or not any(reached.stage == "read" for reached in ladder.stages):
            said = f"{host.name} ran, and its model read no message"
            raise Failed(
                said, f"{host.silent} Look at what it prints: parler bring {host.id} --headless".strip(), "message"
            )
        if word not in printed:
            said = "its model was sent the message, and did not say the word in it"
            raise Failed(said, f"Look at what it prints: parler bring {host.id} --headless", "message")
        yield "message", f"its model read a message and said the word in it, in {seconds:.0f} s"
        yield from _shown(ctx, host, begun.room)
    finally:
        _clear(ctx, begun.room)


def _answer(ctx: Context, host: Host, command: list[str], prompt: str) -> tuple[str, float]:
    """(what the program printed, seconds) of one run with this first prompt."""
    from configs.model import PROMPT

    began = time.monotonic()
    try:
        with ctx.out.progress(f"Asking the model of {host.name}"):
            ran = subprocess.run(
                [prompt if word == PROMPT else word for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(ctx.env),
                timeout=MODEL_S,
                check=False,
            )
    except OSError as error:
        raise Failed(f"it could not be started: {error.strerror or error}", "Install it again.", "message") from error
    except subprocess.TimeoutExpired as error:
        fix = f"Look at what it does: parler bring {host.id}"
        raise Failed(f"it was not done within {MODEL_S:.0f} s", fix, "message") from error
    return ran.stdout.decode("utf-8", "replace"), time.monotonic() - began


def _ladder(ctx: Context, room: str) -> t.ReaderLadder | None:
    """How far the message got for the agent that was brought; `None` where no agent came."""
    came = ctx.call_again("session.brought", t.AskBrought(), t.Brought)
    if came.status != "joined":
        return None
    page = ctx.call_again("message.recv", t.Recv(room=room, since=0, limit=1), t.Received)
    why = ctx.call_again("message.why", t.Why(id=page.messages[0].id), t.WhyResult)
    return next((reader for reader in why.readers if reader.agent == came.agent), None)


def _shown(ctx: Context, host: Host, room: str) -> Iterator[tuple[str, str]]:
    deadline = time.monotonic() + VERDICT_S
    while True:
        ladder = _ladder(ctx, room)
        if ladder is None or isinstance(ladder.sight, msgspec.UnsetType):
            return
        if ladder.sight.verdict != "pending" or time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)
    verdict, reason = ladder.sight.verdict, ladder.sight.reason
    if verdict not in ("shown", "quoted"):
        said = f"the record of {host.name} does not prove that it was shown: {verdict} ({reason})"
        raise Failed(said, "docs/delivery.md says what that means, and which releases were measured.", "shown")
    yield "shown", f"the record of {host.name} proves it"


def _clear(ctx: Context, room: str) -> None:
    for operation, params in (
        ("session.close", t.CloseSession(room=room)),
        ("room.delete", t.DeleteRoom(room=room, confirmed=True)),
    ):
        with contextlib.suppress(ParlerError):
            ctx.call_again(operation, params, t.Result)
