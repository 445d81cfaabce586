from __future__ import annotations

import msgspec
import pytest

from parlerd.wire import codec
from parlerd.wire.messages import PROTOCOL, Call, Cancel, Credit, Failure, Goodbye, Hello, Item, Note, Reply, Welcome

ALL: list[type[msgspec.Struct]] = [Hello, Welcome, Goodbye, Call, Cancel, Credit, Reply, Failure, Item, Note]


def test_no_two_messages_have_the_same_name() -> None:
    names = [message.__struct_config__.tag for message in ALL]
    assert len(set(names)) == len(ALL)


@pytest.mark.parametrize("message", ALL)
def test_messages_are_frozen_and_named_under_t(message: type[msgspec.Struct]) -> None:
    assert message.__struct_config__.frozen
    assert message.__struct_config__.tag_field == "t"


def test_an_upgrade_needs_only_what_version_one_fixed() -> None:
    """These bytes work between any two versions for ever: a change here breaks every installed client."""
    hello = b"\x84\xa1t\xa5hello\xa8protocol\x01\xa7version\xa30.1\xa4role\xa6client"
    assert codec.HELLO.decode(hello) == Hello(protocol=1, version="0.1", role="client")
    stop = b"\x84\xa1t\xa4call\xa2id\x00\xa2op\xabdaemon.stop\xa6params\x81\xa6reason\xa7upgrade"
    call = codec.FROM_CLIENT.decode(stop)
    assert isinstance(call, Call)
    assert (call.id, call.op, bytes(call.params)) == (0, "daemon.stop", b"\x81\xa6reason\xa7upgrade")
    welcome = b"\x84\xa1t\xa7welcome\xa8protocol\x01\xa7version\xa30.1\xa3pid\x07"
    assert codec.encode(Welcome(protocol=1, version="0.1", pid=7)) == welcome
    assert codec.encode(Reply(id=0, result=msgspec.Raw(b"\x81\xa3pid\x07"))) == (
        b"\x83\xa1t\xa5reply\xa2id\x00\xa6result\x81\xa3pid\x07"
    )
    assert PROTOCOL >= 1
