"""What went wrong, out of the groups around it."""

from __future__ import annotations

from parlerd.groups import unwrapped

ONE, OTHER = ValueError("one"), KeyError("other")


def test_an_exception_that_is_alone_in_every_group_is_found() -> None:
    assert unwrapped(ONE) is ONE
    assert unwrapped(ExceptionGroup("g", [ExceptionGroup("g", [ONE])])) is ONE
    assert unwrapped(BaseExceptionGroup("g", [KeyboardInterrupt()])).__class__ is KeyboardInterrupt


def test_of_several_none_is_the_reason_unless_one_is_enough() -> None:
    several = ExceptionGroup("g", [ONE, OTHER])
    assert unwrapped(ExceptionGroup("g", [several])) is several
    assert unwrapped(ExceptionGroup("g", [several]), first_of_several=True) is ONE
