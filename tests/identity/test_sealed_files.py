"""A sealed file is itself again, and whatever was done to its ciphertext shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core.envelope import BlobSeal
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.sealing import CHUNK, TAG, sealed_size
from parlerd.identity.sealed_files import PREFIX, FileOpener, FileSealer, SealedView, whole_pieces
from parlerd.identity.sealing import KEY
from tests.support.sealing import Repeating

PIECE = CHUNK + TAG


def seal(data: Iterable[bytes], seed: str = "file") -> tuple[bytes, BlobSeal]:
    sealer = FileSealer(Repeating(seed))
    begun = b"".join(map(sealer.update, data))
    last, how = sealer.finish()
    return begun + last, how


def opened(sealed: Iterable[bytes], how: BlobSeal) -> bytes:
    opener = FileOpener(how)
    return b"".join(map(opener.update, sealed)) + opener.finish()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


FILE = bytes(range(256)) * (3 * CHUNK // 256) + b"and a rest"
SEALED, HOW = seal([FILE])
PIECES = cut(SEALED, PIECE)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(FILE)]), st.integers(1, 3 * CHUNK))
def test_a_file_is_the_same_again_however_it_comes(size: int, step: int) -> None:
    data = FILE[:size]
    sealed, how = seal(cut(data, step))
    assert sealed == seal([data])[0]
    assert len(sealed) == sealed_size(size)
    assert opened(cut(sealed, step), how) == data
    assert how.digest == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(PIECES[:-1], id="cut at a border"),
        pytest.param([SEALED[:-1]], id="cut inside a piece"),
        pytest.param(PIECES[:1], id="only the first"),
        pytest.param([], id="nothing"),
        pytest.param(PIECES[1:], id="without the first"),
        pytest.param([PIECES[1], PIECES[0], *PIECES[2:]], id="swapped"),
        pytest.param([PIECES[0], *PIECES], id="doubled"),
        pytest.param([*PIECES, PIECES[-1]], id="extended"),
        pytest.param([*PIECES, b"x"], id="one byte more"),
        pytest.param([*PIECES[:-1], seal([FILE], "other")[0][-len(PIECES[-1]) :]], id="the end of another"),
    ],
)
def test_a_file_that_is_not_whole_is_none(pieces: list[bytes]) -> None:
    assert opened(PIECES, HOW) == FILE
    with pytest.raises(Refused, match="sealed_unreadable"):
        opened(pieces, HOW)


def test_a_file_that_ends_with_a_full_piece_cannot_be_cut_or_continued_there() -> None:
    whole, how = seal([FILE[: 2 * CHUNK]])
    assert opened([whole], how) == FILE[: 2 * CHUNK]
    for wrong in (whole[:PIECE], whole + seal([b""])[0]):
        with pytest.raises(Refused, match="sealed_unreadable"):
            opened([wrong], how)


def test_a_cut_shows_in_the_pieces_themselves_whatever_digest_the_message_names() -> None:
    """The fault of a nonce that holds the index alone: a file that is cut between two pieces opens."""
    for kept in (1, 2, 3):
        short = replace(HOW, digest=hashlib.sha256(FILE[: kept * CHUNK]).digest())
        with pytest.raises(Refused, match="sealed_unreadable"):
            opened(PIECES[:kept], short)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_shows(place: int, flip: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= flip
    with pytest.raises(Refused, match="sealed_unreadable"):
        opened([bytes(changed)], HOW)


@pytest.mark.parametrize(
    "how",
    [
        replace(HOW, key=bytes(32)),
        replace(HOW, prefix=bytes(19)),
        replace(HOW, digest=bytes(32)),
        replace(HOW, key=b""),
        replace(HOW, prefix=b""),
    ],
)
def test_a_file_is_read_only_as_its_message_says(how: BlobSeal) -> None:
    with pytest.raises(Refused, match="sealed_unreadable"):
        opened(PIECES, how)


def test_each_file_has_a_key_of_its_own() -> None:
    assert seal([FILE], "one")[1].key != seal([FILE], "other")[1].key
    assert seal([FILE], "one")[0] != seal([FILE], "other")[0]


class Held:
    """A file that is open, and that may change."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, at: int, length: int) -> bytes:
        # A system may give less than was asked for.
        return self.data[at : at + min(length, 50_000)]


def view_of(held: Held, size: int) -> SealedView:
    random = Repeating("file")
    return SealedView(held.read, size, random(KEY), random(PREFIX))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(FILE)]),
    st.integers(0, 4 * CHUNK),
    st.integers(1, 4 * CHUNK),
)
def test_a_view_gives_the_same_ciphertext_from_wherever_it_is_read(size: int, at: int, length: int) -> None:
    sealed, how = seal([FILE[:size]])
    view = view_of(Held(FILE[:size]), size)
    own, blob = view.survey(lambda: None)
    assert (own, blob) == (how.digest, hashlib.sha256(sealed).hexdigest())
    assert view.size() == len(sealed)
    assert view.digest(len(sealed)).hexdigest() == blob
    assert view.read(at, length) == sealed[at : at + length]


@pytest.mark.parametrize("at", [0, CHUNK, 2 * CHUNK + 1, len(FILE) - 1])
def test_a_piece_that_changed_since_the_survey_is_never_given(at: int) -> None:
    held = Held(FILE)
    view = view_of(held, len(FILE))
    view.survey(lambda: None)
    held.data = FILE[:at] + bytes([FILE[at] ^ 1]) + FILE[at + 1 :]
    index = at // CHUNK
    with pytest.raises(ParlerError) as raised:
        view.read(index * PIECE, 1)
    assert raised.value.code == "file_refused"
    for other in set(range(len(PIECES))) - {index}:
        assert view.read(other * PIECE, PIECE) == PIECES[other]


def test_a_file_that_became_shorter_is_refused() -> None:
    held = Held(FILE)
    view = view_of(held, len(FILE))
    view.survey(lambda: None)
    held.data = FILE[:-1]
    for work in (lambda: view.survey(lambda: None), lambda: view.read(3 * PIECE, PIECE)):
        with pytest.raises(ParlerError) as raised:
            work()
        assert raised.value.code == "file_refused"


def test_a_survey_that_nobody_waits_for_ends() -> None:
    def gone() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        view_of(Held(FILE), len(FILE)).survey(gone)


def test_a_view_shows_no_key() -> None:
    view = SealedView(Held(b"").read, 0, b"k" * KEY, b"p" * PREFIX)
    assert "kkk" not in repr(view)
    assert "ppp" not in repr(view)


@pytest.mark.parametrize("had", [0, 1, CHUNK, 2 * CHUNK + 7, 3 * CHUNK, len(FILE)])
@pytest.mark.parametrize("size", [3 * CHUNK, len(FILE)])
def test_a_file_that_is_here_in_part_is_opened_from_there_on(had: int, size: int) -> None:
    sealed, how = seal([FILE[:size]])
    pieces = whole_pieces(min(had, size), size)
    begins = FILE[: pieces * CHUNK]
    assert len(begins) <= had
    opener = FileOpener(how, (pieces, hashlib.sha256(begins)))
    assert begins + opener.update(sealed[pieces * PIECE :]) + opener.finish() == FILE[:size]
    if pieces:
        other = FileOpener(how, (pieces, hashlib.sha256(b"x" + begins[1:])))
        other.update(sealed[pieces * PIECE :])
        with pytest.raises(Refused) as raised:
            other.finish()
        assert raised.value.code == "sealed_unreadable"
