"""Stored bytes are read for ever: one recorded fact for each type and version that was ever written.

`golden/headers.jsonl` is only ever appended to. When an event gains a version, its old line stays and must decode
through its upcaster to today's shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import Refused
from parlerd.core.events import CURRENT_V, Header, decode_header, encode_header
from tests.support.sample_events import SAMPLES, sample_header

GOLDEN = Path(__file__).parent / "golden" / "headers.jsonl"


def _line(header: Header) -> dict[str, Any]:
    kind = str(header.event.__struct_config__.tag)
    plain = json.loads(msgspec.json.encode(header))
    return {"type": kind, "v": header.event.v, "bytes": encode_header(header).hex(), "header": plain}


def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in GOLDEN.read_text().splitlines()]


@pytest.mark.parametrize("line", _lines(), ids=lambda line: f"{line['type']}-{line['v']}")
def test_a_fact_that_was_once_stored_still_reads_the_same(line: dict[str, Any]) -> None:
    header = decode_header(bytes.fromhex(line["bytes"]))
    assert json.loads(msgspec.json.encode(header)) == line["header"]


def test_every_type_of_fact_at_its_present_version_is_recorded() -> None:
    recorded = {(line["type"], line["v"]) for line in _lines()}
    wanted = [_line(sample_header(event)) for event in SAMPLES]
    missing = [json.dumps(line) for line in wanted if (line["type"], line["v"]) not in recorded]
    assert missing == [], "append these lines to golden/headers.jsonl:\n" + "\n".join(missing)
    assert {(line["type"], line["v"]) for line in wanted} == set(CURRENT_V.items()), "a type has no sample"


@pytest.mark.parametrize("change", [{"type": "claimed_later"}, {"v": 99}], ids=["type", "version"])
def test_a_fact_of_a_newer_parler_is_refused_by_name(change: dict[str, Any]) -> None:
    loose = msgspec.msgpack.decode(bytes.fromhex(_lines()[0]["bytes"]))
    loose["event"] |= change
    with pytest.raises(Refused) as caught:
        decode_header(msgspec.msgpack.encode(loose))
    assert caught.value.code == "newer_log"
    assert set(caught.value.details) == {"type", "v"}
