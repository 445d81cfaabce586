"""The codec: what one side writes the other reads, and nothing that is malformed gets past it."""

from __future__ import annotations

import gc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import ERRORS, ParlerError
from parlerd.operations.registry import OPERATIONS
from parlerd.wire import codec
from parlerd.wire.messages import Call, Cancel, Credit, Failure, Goodbye, Hello, Item, Note, Reply, Welcome

ids = st.integers(0, 2**64 - 1)
texts = st.text(max_size=20)
raws = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
).map(lambda value: msgspec.Raw(codec.encode(value)))
errors = st.builds(
    lambda code, details: ParlerError(code, **details).body(),
    st.sampled_from(sorted(ERRORS)),
    st.dictionaries(st.sampled_from(["limit", "path", "id"]), texts | st.integers(0, 9), max_size=3),
)
hellos = st.builds(
    Hello,
    protocol=st.integers(1, 9),
    version=texts,
    role=st.sampled_from(["client", "stdio"]),
    host=texts,
    window=texts,
    cwd=texts,
    pid=ids,
    ppid=ids,
    as_name=texts,
    session_key=texts,
    project_dir=texts,
    conversation=texts,
    hook=st.booleans(),
    ancestors=st.lists(ids, max_size=3).map(tuple),
    reconnect=st.booleans(),
    unanswered=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
)
# msgspec leaves out the very object that is the default, not what equals it; only the decoded value matters.
calls = st.builds(Call, id=ids, op=texts, params=raws.filter(lambda raw: bytes(raw) != b"\x80"))
from_client = st.one_of(calls, st.builds(Cancel, id=ids), st.builds(Credit, id=ids, more=st.integers(1, 65_536)))
from_daemon = st.one_of(
    st.builds(Reply, id=ids, result=raws),
    st.builds(Failure, id=ids, error=errors),
    st.builds(Item, id=ids, item=raws),
    st.builds(Goodbye, error=errors),
)
welcomes = st.builds(Welcome, protocol=st.integers(1, 9), version=texts, pid=ids)
notes = st.builds(Note, what=st.just("eof"), written=st.booleans())


def plain(value: Any) -> Any:
    """A message as an independent reader should see it."""
    if isinstance(value, msgspec.Raw):
        return msgpack.unpackb(bytes(value), strict_map_key=False)
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        shown = {field.encode_name: getattr(value, field.name) for field in fields}
        if value.__struct_config__.omit_defaults:
            shown = {
                field.encode_name: shown[field.encode_name]
                for field in fields
                if field.required or shown[field.encode_name] != default_of(field)
            }
        shown = {name: plain(item) for name, item in shown.items()}
        tag = value.__struct_config__.tag
        return shown if tag is None else {"t": tag, **shown}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


@given(st.one_of(hellos, from_client, from_daemon, welcomes, notes))
def test_an_independent_msgpack_reader_sees_the_same_message(message: msgspec.Struct) -> None:
    assert msgpack.unpackb(codec.encode(message), strict_map_key=False) == plain(message)


@given(hellos)
def test_a_hello_comes_back_as_it_was(message: Hello) -> None:
    assert codec.HELLO.decode(codec.encode(message)) == message


@given(from_client)
def test_what_a_client_says_comes_back_as_it_was(message: msgspec.Struct) -> None:
    assert codec.FROM_CLIENT.decode(codec.encode(message)) == message


@given(from_daemon)
def test_what_the_daemon_says_comes_back_as_it_was(message: msgspec.Struct) -> None:
    assert codec.FROM_DAEMON.decode(codec.encode(message)) == message


@given(st.binary(max_size=100) | notes)
def test_a_window_carries_lines_and_notes(message: bytes | Note) -> None:
    assert codec.FROM_SHIM.decode(codec.encode(message)) == message


def test_fields_of_a_later_version_are_ignored() -> None:
    later = msgpack.packb({"t": "hello", "protocol": 1, "version": "9", "role": "client", "colour": "red"})
    assert codec.HELLO.decode(later).version == "9"


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "truncated"),
        (b"\xc1", "malformed"),
        (b"\x01", "Expected `object`"),
        (b"\x80", "missing required field"),
        (msgpack.packb({"t": "nonsense"}), "Invalid value"),
        (msgpack.packb({"t": "welcome", "protocol": 1, "version": "1", "pid": 1}), "Invalid value"),
        (msgpack.packb({"t": "call", "id": -1, "op": "x"}), r">= 0.*\$\.id"),
        (msgpack.packb({"t": "call", "id": 1.5, "op": "x"}), r"\$\.id"),
        (msgpack.packb({"t": "credit", "id": 1, "more": 0}), r">= 1.*\$\.more"),
        (msgpack.packb({"t": "credit", "id": 1, "more": 65_537}), r"\$\.more"),
        (msgpack.packb({"t": "cancel", "id": 1}) + b"\x00", "trailing"),
        (b"\x82\xa1t\xa4call\xa2op\xa2\xff\xff", "UTF-8"),
        (b"\x83\xa1t\xa4call\xa2id\x01\xa6params" + b"\x91" * 100_000, "nested too deeply"),
        (b"\x83\xa1t\xa4call\xa2id\x01\xa6params\xdd\xff\xff\xff\xff", "truncated"),
    ],
)
def test_what_is_not_a_message_is_one_documented_error_that_says_where(payload: bytes, says: str) -> None:
    with pytest.raises(ParlerError, match=says) as caught:
        codec.FROM_CLIENT.decode(payload)
    assert caught.value.code == "bad_frame"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_parameters_that_do_not_fit_are_invalid_param(name: str) -> None:
    shape = codec.Shape[Any](OPERATIONS[name].params, "invalid_param")
    for payload in (b"\x93\x01\x02\x03", msgpack.packb({"no_such_field": 1}), b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(ParlerError) as caught:
            shape.decode(payload)
        assert caught.value.code == "invalid_param"


def test_the_collector_does_not_look_through_what_is_being_decoded() -> None:
    shape, payload = codec.Shape[Any](Any), codec.encode([[]] * 100_000)
    looked: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        looked.append(phase)

    gc.collect()  # so that nothing is due
    gc.callbacks.append(note)
    try:
        shape.decode(payload)
    finally:
        gc.callbacks.remove(note)
    assert looked == []
    assert gc.isenabled()
