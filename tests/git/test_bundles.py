"""The header of a bundle, read without git."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.git.bundles import MAX_BASES, MAX_HEADER, BundleHeader, read_header
from tests.support.git import work_in

TIP = "ab" * 20
BASE = "cd" * 20
V2 = b"# v2 git bundle\n"
V3 = b"# v3 git bundle\n"


def header(*lines: str, first: bytes = V2) -> io.BytesIO:
    return io.BytesIO(first + "".join(f"{line}\n" for line in lines).encode() + b"\nPACK...")


def refusal(file: io.BytesIO) -> str:
    with pytest.raises(Refused) as caught:
        read_header(file)
    assert caught.value.code == "bundle_refused"
    what = caught.value.details["what"]
    assert isinstance(what, str)
    return what


def test_the_ids_are_taken_out_and_the_names_are_not_looked_at() -> None:
    file = header(f"-{BASE} a subject\u202e", f"-{BASE[::-1]}", f"{TIP} refs/heads/../../../hooks/post-checkout")
    found = read_header(file)
    assert found == BundleHeader(tip=TIP, bases=(BASE, BASE[::-1]), format="sha1", size=file.tell())
    assert file.read() == b"PACK..."


def test_a_bundle_that_git_made_reads_as_what_was_asked_for(tmp_path: Path) -> None:
    work = work_in(tmp_path / "a")
    base = work.commit(f="1")
    tip = work.commit(f="2")
    work.git("bundle", "create", "-q", str(tmp_path / "b"), "main", f"^{base}")
    with open(tmp_path / "b", "rb") as file:
        found = read_header(file)
        assert (found.tip, found.bases, found.format) == (tip, (base,), "sha1")
        assert file.read(4) == b"PACK"


def test_the_third_version_may_say_how_objects_are_named_and_nothing_else() -> None:
    assert read_header(header("@object-format=sha256", f"{TIP}{TIP[:24]} x", first=V3)).format == "sha256"
    assert refusal(header("@filter=blob:none", f"{TIP} x", first=V3)) == "capability"
    assert refusal(header("@object-format=md5", f"{TIP} x", first=V3)) == "capability"
    assert refusal(header("@object-format=sha1", f"{TIP} x")) == "capability"
    assert refusal(header(f"{TIP} x", "@object-format=sha1", first=V3)) == "capability"


def test_one_commit_is_brought_and_no_more() -> None:
    assert refusal(header()) == "tips"
    assert refusal(header(f"{TIP} x", f"{BASE} y")) == "tips"
    assert read_header(header(f"{TIP} x", f"{TIP} y")).tip == TIP


def test_ids_that_are_too_short_too_long_or_of_another_format_are_refused() -> None:
    assert refusal(header(f"{TIP[:-1]} x")) == "header"
    assert refusal(header(f"{TIP.upper()} x")) == "header"
    assert refusal(header(f"-{TIP}{TIP[:24]} x", f"{TIP} y")) == "format"
    assert refusal(header(f"{TIP} x", "@object-format=sha256", first=V3)) == "capability"


def test_a_header_without_an_end_is_not_read_for_ever() -> None:
    assert refusal(io.BytesIO(V2 + b"-" * 2**20)) == "header"
    endless = V2 + f"-{BASE} {'x' * 8000}\n".encode() * (MAX_HEADER // 8000 + 1)
    assert refusal(io.BytesIO(endless)) == "header"
    assert refusal(header(*[f"-{BASE}"] * (MAX_BASES + 1), f"{TIP} x")) == "bases"
    assert refusal(io.BytesIO(b"")) == "header"
    assert refusal(io.BytesIO(V2)) == "header"


@given(st.binary(max_size=400), st.sampled_from([b"", V2, V3, V2 + f"-{BASE} x\n{TIP} y\n".encode()]))
def test_any_bytes_give_a_header_or_one_documented_error(tail: bytes, first: bytes) -> None:
    found, code = None, ""
    try:
        found = read_header(io.BytesIO(first + tail))
    except Refused as error:
        code = error.code
    assert code == "bundle_refused" if found is None else len(found.tip) in (40, 64)
