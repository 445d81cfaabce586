"""Files are looked through piece by piece, and nothing that is found is told but where it is and what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import searching
from parlerd.core.searching import MAX_FOUND, MAX_PATH, Search, Searched, Secret
from tests.core.test_scrub import SECRETS

TOKEN = "ghp_" + "a1B2" * 9


def searched(**files: bytes) -> Searched:
    search = Search()
    for path, data in files.items():
        search.file(path, (data,))
    return search.result()


def test_a_file_is_named_with_each_kind_once_and_never_with_what_stands_in_it() -> None:
    found = searched(a=f"{TOKEN} {TOKEN} AKIA{'A' * 16}".encode(), b=b"nothing", c=TOKEN.encode())
    assert found.found == (Secret("a", "AWS key"), Secret("a", "GitHub token"), Secret("c", "GitHub token"))
    assert (found.more, found.is_whole) == (0, True)
    assert TOKEN not in repr(found)


@given(st.data(), st.sampled_from(sorted(SECRETS)))
def test_a_secret_is_found_however_the_file_is_cut_into_pieces(data: st.DataObject, secret: str) -> None:
    whole = b"\xff" * 40 + b" " + secret.encode() + b" \x00" + b"\xfe" * 40
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    search = Search()
    search.file("f", pieces)
    assert SECRETS[secret] in {each.kind for each in search.result().found}


def test_what_stands_far_into_a_file_is_found_in_pieces_that_are_not_kept() -> None:
    search = Search()
    pieces = [b"x" * 300_000, b"y" * 299_989 + b" " + TOKEN[:10].encode(), TOKEN[10:].encode() + b" z", b"x" * 300_000]
    search.file("f", pieces)
    assert search.result().found == (Secret("f", "GitHub token"),)


def test_no_piece_is_asked_for_once_the_bound_of_bytes_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MAX_BYTES", 100)
    search = Search()
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(10):
            asked.append(number)
            yield b"x" * 60

    search.file("f", pieces())
    assert (len(asked), search.is_over, search.result().is_whole) == (3, True, False)
    search.file("g", [TOKEN.encode()])
    assert search.result() == Searched(found=(), is_whole=False)


def test_a_search_stops_when_its_time_is_over_and_says_so() -> None:
    left = [True, True, False]
    search = Search(lambda: left.pop(0))
    search.file("f", [TOKEN.encode(), b"x", TOKEN.encode()])
    assert search.result() == Searched(found=(Secret("f", "GitHub token"),), is_whole=False)


def test_a_long_list_is_cut_and_the_rest_is_counted() -> None:
    found = searched(**{f"f{number:04d}": TOKEN.encode() for number in range(MAX_FOUND + 7)})
    assert (len(found.found), found.more, found.found[0].path) == (MAX_FOUND, 7, "f0000")


@pytest.mark.parametrize("path", [f"keys/{TOKEN}.txt", "x" * 5_000 + "/" + TOKEN, "bad \udcff name " + TOKEN])
def test_a_path_that_holds_a_secret_is_named_without_it(path: str) -> None:
    (found,) = searched(**{path: b""}).found
    assert found.kind == "GitHub token"
    assert TOKEN not in found.path
    assert len(found.path) <= MAX_PATH
    found.path.encode()
