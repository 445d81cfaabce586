"""What is said of whether a model was shown a message."""

from __future__ import annotations

from typing import get_args

import pytest

from parlerd.core.sight import Reason, Verdict
from parlerd.text.sight import sentence_of, way_out_of

PROOF = {"reply": "shown", "quoted": "quoted"}


def _with(reason: str) -> str:
    return PROOF.get(reason, "cut")


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_has_a_sentence_of_its_own_and_only_a_proof_says_shown(reason: str) -> None:
    said = sentence_of(_with(reason), reason, "codex")
    assert said.startswith("shown") == (reason in PROOF)
    others = {sentence_of(_with(other), other, "codex") for other in get_args(Reason) if other != reason}
    assert said not in others
    assert "this version of Parler does not know" not in said


def test_what_is_watched_and_what_a_newer_version_says_have_sentences_too() -> None:
    assert sentence_of("pending", "", "codex") == "not known yet: the record of codex is watched"
    assert sentence_of("unknown", "new", "codex").startswith("unknown")
    assert sentence_of("cut", "cut_by_host", "").endswith("the record of the agent host holds a part of it")
    assert sentence_of("cut", "cut_by_host", "codex", 1).endswith("(shown again once)")
    assert sentence_of("cut", "cut_by_host", "codex", 2).endswith("(shown again 2 times)")


def test_the_way_out_is_said_once_a_message_is_not_shown_again_by_itself() -> None:
    assert way_out_of("cut", 1) == ""
    assert way_out_of("shown", 2) == ""
    assert "limit" in way_out_of("cut", 2)
    assert "limit" in way_out_of("not_shown", 2)


@pytest.mark.parametrize("reason", sorted(PROOF))
@pytest.mark.parametrize("verdict", sorted({*get_args(Verdict), "pending"}))
def test_whatever_another_home_says_shown_is_said_beside_its_own_verdict_alone(verdict: str, reason: str) -> None:
    said = sentence_of(verdict, reason, "codex")
    assert said.startswith("shown") == (verdict == PROOF[reason])


def test_what_another_machine_says_is_said_as_the_word_of_that_machine() -> None:
    assert sentence_of("shown", "reply", "codex", elsewhere=True).endswith(", as the reader's own machine says")
    assert "machine" not in sentence_of("shown", "reply", "codex")
