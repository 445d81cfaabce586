"""Names, keys and the stamp of who acts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import (
    MAX_LABEL,
    PROOF_ORDER,
    By,
    agent_name,
    first_free,
    idempotency_key,
    label,
    person_name,
    slug,
)
from tests.support.core import BEN, refused

NAMES = st.text(alphabet="abcXYZ019._@#/-", min_size=1, max_size=MAX_LABEL)


@given(NAMES)
def test_a_name_of_letters_digits_and_a_few_signs_is_a_label(text: str) -> None:
    assert label(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a\n", "x" * 65, "b\u00e9n", "\u0430nn", "\uff21nn", "ann\u200b", "ann\x1b[2K", "\u2160", "a:b", "<b>"],
)
def test_what_could_pass_for_another_name_or_break_a_line_is_no_label(text: str) -> None:
    with refused("invalid_name"):
        label(text)


@given(st.text())
def test_a_label_is_never_anything_but_plain_ascii_of_a_bounded_length(text: str) -> None:
    try:
        made = label(text)
    except Exception:
        return
    assert made == text
    assert made.isascii()
    assert made.isprintable()
    assert 0 < len(made) <= MAX_LABEL


@given(st.text())
def test_a_slug_of_any_text_is_a_label(text: str) -> None:
    made = slug(text, fallback="session")
    assert label(made) == made
    assert len(made) <= 48


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Auth redesign", "Auth-redesign"),
        ("caf\u00e9 / cr\u00e8me", "cafe-/-creme"),
        ("  ..hidden..  ", "hidden"),
        ("\u4f60\u597d", "session"),
        ("", "session"),
        ("x" * 47 + "-y", "x" * 47),
    ],
)
def test_a_slug_stays_near_the_words_it_is_made_of(text: str, made: str) -> None:
    assert slug(text, fallback="session") == made


def test_a_name_with_the_form_of_an_agents_id_is_refused() -> None:
    with refused("invalid_name"):
        agent_name(BEN.id)
    assert agent_name(BEN.id[:-1]) == BEN.id[:-1]
    assert agent_name("ben") == "ben"
    assert label(str(BEN.id))  # an id may stand where a name may


@pytest.mark.parametrize(
    "word", ["owner", "person", "system", "all", "anyone", "me", "Owner", "ALL", "_shared", "_View"]
)
def test_a_word_that_stands_for_someone_is_no_agents_name(word: str) -> None:
    with refused("invalid_name") as caught:
        agent_name(word)
    assert caught.value.hint
    assert agent_name(f"{word}s")
    assert label(word)  # it may stand where a role or a room's name may


@pytest.mark.parametrize(
    ("user", "name"),
    [("sam", "sam"), ("Sam Smith", "Sam-Smith"), ("日本", "user"), ("me", "me-1"), ("System", "System-1")],
)
def test_a_person_has_a_usable_name_whatever_their_user_is_called(user: str, name: str) -> None:
    assert agent_name(person_name(user)) == name


def test_a_taken_name_gets_the_first_number_that_is_free() -> None:
    assert first_free("ben", set()) == "ben"
    assert first_free("ben", {"ben"}) == "ben-2"
    assert first_free("ben", {"ben", "ben-2", "ben-3"}) == "ben-4"


def test_a_long_name_is_cut_for_its_number_and_stays_a_label() -> None:
    long = "x" * MAX_LABEL
    taken = {long}
    for _ in range(12):
        name = first_free(long, taken)
        assert label(name) == name
        assert name not in taken
        taken.add(name)


@pytest.mark.parametrize("text", ["k", "a.b_c:d-E9", "k" * 128])
def test_an_idempotency_key_is_letters_digits_and_a_few_signs(text: str) -> None:
    assert idempotency_key(text) == text


@pytest.mark.parametrize("text", ["", "k" * 129, "a b", "k\n", "\u0661", "a/b"])
def test_anything_else_is_no_idempotency_key(text: str) -> None:
    with refused("invalid_param") as caught:
        idempotency_key(text)
    assert caught.value.details == {"param": "key"}


def test_who_acted_reads_back_from_facts_that_had_fewer_fields() -> None:
    stored = msgspec.msgpack.encode(["U1", "A1", "s", "codex", "mcp"])
    assert msgspec.msgpack.decode(stored, type=By).program == ""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(BEN.by), type=By) == BEN.by


def test_proofs_are_ordered_from_none_to_sealed() -> None:
    assert PROOF_ORDER == ("none", "cli", "form", "terminal", "sealed")
