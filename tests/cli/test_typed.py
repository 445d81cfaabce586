"""What the daemon refuses of a parameter is said of the option that was typed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from parlerd.cli.main import find_command, handler_of, parser_of
from parlerd.cli.typed import as_typed
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.wire import codec
from tests.support.cli import Shell


def said(words: str, params: t.Params) -> ParlerError:
    """What the person is told whose command made these parameters."""
    command, _ = find_command(words.split())
    with pytest.raises(ParlerError) as refused:
        codec.Shape[t.Params](type(params), "invalid_param").decode(codec.encode(params))
    return as_typed(refused.value, parser_of(command, handler_of(command)).actions)


@pytest.mark.parametrize(
    ("words", "params", "sentence"),
    [
        ("session open", t.OpenSession(idempotency_key="k", ttl_ms=1), "--ttl is at least 60 seconds."),
        ("session open", t.OpenSession(idempotency_key="k", max_uses=20_000), "--max-uses is at most 10000."),
        (
            "session open",
            t.OpenSession(idempotency_key="a b"),
            "--key may hold ASCII letters, digits and . _ : - alone.",
        ),
        (
            "send",
            t.Send(text="x", idempotency_key="k", kind="a b"),
            "--kind may hold ASCII letters, digits and . _ / - alone.",
        ),
        ("send", t.Send(text="x", idempotency_key="k" * 129), "--key has at most 128 characters."),
        ("handoff", t.GiveHandoff(next="", idempotency_key="k"), "--next is empty."),
        ("recv", t.Recv(wait_ms=7_200_000), "--wait is at most 3600 seconds."),
        ("session revoke", t.RevokeSessionKey(session_key=""), "KEY is empty."),
        ("session approve", t.DecideJoin(agent=""), "AGENT is empty."),
        ("why", t.Why(id="x" * 65), "ID has at most 64 characters."),
    ],
)
def test_a_refusal_names_the_option_and_the_unit_that_were_typed(words: str, params: t.Params, sentence: str) -> None:
    error = said(words, params)
    assert error.message == sentence
    assert "$." not in error.message
    assert error.details["param"] == sentence.partition(" ")[0]


@pytest.mark.parametrize(
    "error",
    [
        ParlerError("invalid_param", "Expected `int` >= 1 - at `$.elsewhere`"),
        ParlerError("invalid_param", "The text is empty."),
        ParlerError("throttled", "Expected `int` >= 1 - at `$.room`"),
    ],
)
def test_what_is_not_about_an_option_is_passed_on(error: ParlerError) -> None:
    command, _ = find_command(["send"])
    assert as_typed(error, parser_of(command, handler_of(command)).actions) is error


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("18446744073709551616", "more than 64 bits"),
        ("-9223372036854775809", "more than 64 bits"),
        ("9" * 5000, "more than 64 bits"),
        ("1e999", "too large"),
        ("[" * 3000 + "]" * 3000, "more than 64 levels"),
        ("[" * 65 + "]" * 65, "more than 64 levels"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"\\udfff": 1}', "half a character"),
        ("NaN", "not JSON"),
        ("[1,", "not JSON"),
    ],
)
def test_data_that_no_message_can_carry_is_a_coded_error(tmp_path: Path, data: str, why: str) -> None:
    ran = Shell(tmp_path).run("send", "x", "--json", f"--data={data}")
    assert ran.code == 2
    assert ran.document["error"]["code"] == "invalid_param"
    assert why in ran.document["error"]["message"]
    assert len(ran.document["error"]["message"]) < 200


@pytest.mark.parametrize("data", ["18446744073709551615", "-9223372036854775808", "1.5e300", "[" * 64 + "]" * 64])
def test_data_at_the_limit_is_sent(tmp_path: Path, data: str) -> None:
    shell = Shell(tmp_path)
    shell.daemon.answers("message.send", ParlerError("no_such_room"))
    shell.run("send", "x", f"--data={data}")
    (params,) = shell.daemon.params_of("message.send")
    assert isinstance(params, t.Send)
    assert params.data == msgspec.json.decode(data)
