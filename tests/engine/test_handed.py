"""Files that a connection handed over: numbered, bounded, and closed once."""

from __future__ import annotations

import os
import tempfile

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.engine.handed import MAX_OPEN, Handed, OpenFile


def null() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_files_are_numbered_in_the_order_in_which_they_come() -> None:
    handed = Handed()
    first, second = null(), null()
    assert [handed.add(first), handed.add(second)] == [0, 1]
    with handed.using(1) as file:
        file.is_done = True
    assert (is_open(first), is_open(second)) == (True, False)
    assert handed.add(null()) == 2
    handed.close()


def test_one_file_too_many_is_closed_and_refused_until_another_was_closed() -> None:
    handed = Handed()
    for _ in range(MAX_OPEN):
        handed.add(null())
    spare = null()
    with pytest.raises(ParlerError, match="bad_frame"):
        handed.add(spare)
    assert not is_open(spare)
    with handed.using(0) as file:
        file.is_done = True
    assert handed.add(null()) == MAX_OPEN
    handed.close()


def test_a_file_is_of_one_call_at_a_time_and_stays_for_the_next() -> None:
    handed = Handed()
    handed.add(null())
    with handed.using(0) as file:
        with pytest.raises(Refused, match="invalid_param"), handed.using(0):
            pass
        kept = file
    with handed.using(0) as again:
        assert again is kept
    handed.close()


def test_a_call_that_fails_closes_its_file() -> None:
    handed, descriptor = Handed(), null()
    handed.add(descriptor)
    with pytest.raises(KeyError), handed.using(0):
        raise KeyError
    assert not is_open(descriptor)
    with pytest.raises(Refused, match="invalid_param"), handed.using(0):
        pass


def test_the_end_of_the_connection_closes_every_file_those_in_use_last() -> None:
    handed = Handed()
    waiting, used = null(), null()
    handed.add(waiting)
    handed.add(used)
    with handed.using(1):
        handed.close()
        assert (is_open(waiting), is_open(used)) == (False, True)
    assert not is_open(used)
    late = null()
    with pytest.raises(ParlerError, match="bad_frame"):
        handed.add(late)
    assert not is_open(late)


def test_a_digest_is_of_as_many_bytes_as_are_asked_for_and_there() -> None:
    with tempfile.TemporaryFile(buffering=0) as made:
        made.write(b"0123456789")
        file = OpenFile(os.dup(made.fileno()))
    assert file.digest(4).hexdigest() == file.digest(4).hexdigest() != file.digest(5).hexdigest()
    assert file.digest(100).hexdigest() == file.digest(10).hexdigest()
    assert file.read(8, 5) == b"89"
    file.write(12, b"!")
    assert file.read(8, 9) == b"89\0\0!"
    assert file.size() == 13
    file.close()
