"""docs/protocol.md says what the code does: its example decodes, its tables name every message, field and limit."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from parlerd.connections.outgoing import SLOWEST
from parlerd.connections.stream import RUN_LIMIT
from parlerd.connections.websocket import PING_SECONDS
from parlerd.core.errors import ERRORS, ErrorBody, ParlerError
from parlerd.core.model import HomeId, PrincipalId
from parlerd.engine.handed import MAX_OPEN
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.identity.transcript import Transcript
from parlerd.ipc.connection import Limits
from parlerd.ipc.outbound import CAP, STALL_SECONDS
from parlerd.ipc.server import DRAIN_SECONDS
from parlerd.operations import types as t
from parlerd.wire import messages
from parlerd.wire.calls import CREDIT, IN_FLIGHT
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT
from parlerd.wire.link import (
    ASKED_LIMIT,
    LINK_IN_FLIGHT,
    LINK_PROTOCOL,
    Challenge,
    LinkHello,
    LinkWelcome,
    Proof,
    close_code,
)
from parlerd.wire.messages import (
    HOST_PROTOCOL,
    PROTOCOL,
    Call,
    Cancel,
    Credit,
    Failure,
    Goodbye,
    Hello,
    Item,
    Note,
    Reply,
    Welcome,
)
from parlerd.wire.peer import ClientPeer, DaemonPeer
from relay import link, turnstile

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
MESSAGES: list[type[msgspec.Struct]] = [Hello, Call, Cancel, Credit, Note, Welcome, Goodbye, Reply, Failure, Item]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def example() -> list[tuple[str, bytes, Any]]:
    block = PAGE.split("```frames\n", 1)[1].split("```", 1)[0]
    frames = []
    for part in block.strip().split("\n\n"):
        who, rest = part.split("> ", 1)
        digits, said = rest.split("{", 1)
        frames.append((who, bytes.fromhex(digits), json.loads("{" + said)))
    return frames


def test_each_frame_of_the_example_says_what_stands_below_it_to_an_independent_reader() -> None:
    assert len(example()) == 6
    for _, data, said in example():
        assert int.from_bytes(data[:4], "big") == len(data) - 4
        assert msgpack.unpackb(data[4:]) == said


def test_both_ends_hold_the_conversation_of_the_example() -> None:
    daemon, client = DaemonPeer(), ClientPeer()
    heard = []
    for who, data, said in example():
        ours: bytes
        match said["t"]:
            case "hello":
                ours = client.hello(Hello(protocol=PROTOCOL, version="0.1.0", role="client", cwd="/"))
            case "welcome":
                ours = daemon.welcome("0.1.0", 4242)
            case "call":
                ours = client.call(said["op"], msgpack.packb(said["params"]))[1]
            case "cancel":
                ours = client.cancel(said["id"])
            case _:
                ours = daemon.fail(said["id"], msgspec.convert(said["error"], ErrorBody))
        assert ours == data
        heard += [type(event).__name__.lower() for event in (daemon if who == "client" else client).receive(data)]
    assert heard == [said["t"] for _, _, said in example()]


@pytest.mark.parametrize("heading", ["### From the client", "### From the daemon"])
def test_the_tables_name_every_message_and_field_and_mark_what_may_be_left_out(heading: str) -> None:
    found = {}
    for name, fields, _ in rows(heading):
        found[name.strip("`")] = [field.strip().replace("`", "") for field in fields.split(",")]
    ours = MESSAGES[:5] if heading.endswith("client") else MESSAGES[5:]
    assert found == {
        str(message.__struct_config__.tag): [
            field.encode_name + ("" if field.required or message is Reply else "?")
            for field in msgspec.structs.fields(message)
        ]
        for message in ours
    }


def test_every_message_of_the_module_is_in_a_table() -> None:
    tagged = {
        value
        for value in vars(messages).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__struct_config__.tag
    }
    assert tagged == set(MESSAGES)


def test_the_limits_are_those_of_the_code() -> None:
    limits = Limits()
    assert [float(value) for _, value in rows("## Frames")] == [
        FIRST_FRAME_LIMIT,
        FRAME_LIMIT,
        IN_FLIGHT,
        CREDIT,
        65_536,
        limits.connections,
        limits.connections_of_one,
        limits.kept_back,
        limits.kept_back_of_one,
        limits.kept_back_seconds,
        MAX_OPEN,
        limits.hello_seconds,
        CAP,
        STALL_SECONDS,
        DRAIN_SECONDS,
    ]
    assert f"`params` is a map of at most {t.MAX_PARAMS // 1024} KiB" in PAGE


def test_the_version_and_the_codes_are_those_of_the_code() -> None:
    said = f"**{PROTOCOL}** of the calls, **{HOST_PROTOCOL}** of what an agent host starts, **{LINK_PROTOCOL}** of the"
    assert f"Protocol version: {said} link." in PAGE
    codes = [re.findall(r"`(\w+)`", cells[0]) for cells in rows("## How a connection ends")]
    assert {code for found in codes for code in found} <= set(ERRORS)


# -- the link --------------------------------------------------------------------------------------------------


def test_the_limits_of_a_link_are_those_of_the_code() -> None:
    unproven, links = turnstile.Limits(), link.Limits()
    assert [float(value) for _, value in rows("### The link's transport")] == [
        unproven.unproven,
        unproven.unproven_of_one,
        unproven.rate,
        unproven.burst,
        unproven.rate_of_one,
        unproven.burst_of_one,
        unproven.head_seconds,
        unproven.head_bytes,
        links.proof_seconds,
        FIRST_FRAME_LIMIT,
        ASKED_LIMIT,
        FRAME_LIMIT,
        RUN_LIMIT,
        LINK_IN_FLIGHT,
        links.bytes_under_way,
        links.outgoing_cap,
        links.stall_seconds,
        SLOWEST,
        PING_SECONDS,
        links.links,
        links.links_of_one,
    ]


def test_the_table_of_a_links_messages_names_every_field_and_marks_what_may_be_left_out() -> None:
    found = {
        name.strip("`"): [field.strip().replace("`", "") for field in fields.split(",")]
        for name, _, fields, _ in rows("### The link's messages")
    }
    assert found == {
        str(message.__struct_config__.tag): [
            field.encode_name + ("" if field.required else "?") for field in msgspec.structs.fields(message)
        ]
        for message in (LinkHello, Challenge, Proof, LinkWelcome)
    }


def test_the_transcript_is_what_the_page_says_to_an_independent_writer() -> None:
    uses = [cells[0].strip("`") for cells in rows("### The proofs of a link")]
    assert uses == ["relay", "daemon", "relay knows", "daemon knows", "channel"]
    relay, person = SigningKey("relay", bytes(32)), SigningKey("principal", bytes(32))

    class Keys:
        def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
            return (relay if id == relay.id else person).sign(domain, data)

    said = Transcript(HomeId(relay.id), PrincipalId(person.id), b"d" * 32, b"r" * 32, b"c" * 32)
    data = {use: msgpack.packb((1, use, b"d" * 32, b"r" * 32, relay.id, person.id, b"c" * 32)) for use in uses}
    assert said.sign("relay", Keys()) == relay.sign("parler/link", data["relay"])
    assert said.sign("daemon", Keys()) == person.sign("parler/link", data["daemon"])
    assert said.mac("relay", b"secret") == hmac.digest(b"secret", data["relay knows"], "sha256")
    assert said.mac("daemon", b"secret") == hmac.digest(b"secret", data["daemon knows"], "sha256")
    assert said.channel == hashlib.sha256(data["channel"]).digest()


def test_the_close_codes_are_those_of_the_code() -> None:
    told = {}
    for numbers, codes, _ in rows("### How a link ends"):
        for code in re.findall(r"`(\w+)`", codes):
            told[code] = {int(number) for number in numbers.split(",")}
    for code in ERRORS:
        assert close_code(ParlerError(code)) in told.get(code, {1011}), code
