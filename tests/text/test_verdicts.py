"""What is said of a message that its author's signature does not bear."""

from __future__ import annotations

from typing import get_args

import pytest

from parlerd.core.model import Verified
from parlerd.text.verdicts import said_of


def test_only_what_its_author_signed_is_shown_without_a_word() -> None:
    assert [verdict for verdict in get_args(Verified) if not said_of(verdict)] == ["valid"]
    assert said_of("of a newer version")


@pytest.mark.parametrize("verdict", [each for each in get_args(Verified) if each != "valid"])
def test_every_other_word_says_no_first_and_names_itself(verdict: str) -> None:
    said = said_of(verdict)
    assert said.startswith("NOT ")
    assert f"({verdict}" in said
    assert "valid" not in said.replace("invalid", "")
