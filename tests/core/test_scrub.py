"""Recognised secrets leave a text; everything else stays as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.scrub import kinds_in, listed, scrub, scrub_capsule, scrub_value

SECRETS = {
    "AKIA" + "IOSFODNN7EXAMPLE": "AWS key",
    "ghp_" + "a1B2" * 9: "GitHub token",
    "github_pat_" + "11ABCDEFG0" * 3: "GitHub token",
    "glpat-" + "x" * 20: "GitLab token",
    "xoxb-" + "123456789012-abcdefghijkl": "Slack token",
    "sk-ant-" + "api03-" + "x" * 30: "Anthropic key",
    "sk-" + "a" * 48: "OpenAI key",
    "sk-proj-" + "a_-" * 20: "OpenAI key",
    "sk_live_" + "a" * 24: "Stripe key",
    "AIza" + "x" * 35: "Google key",
    "npm_" + "x" * 36: "npm token",
    "SU" + "A" * 56: "seed",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N": "JSON web token",
    "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNza\n-----END OPENSSH PRIVATE KEY-----": "private key",
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE, and the end is missing": "private key",
}


@pytest.mark.parametrize("secret", SECRETS)
def test_a_recognised_secret_is_replaced_by_what_it_was(secret: str) -> None:
    name = SECRETS[secret]
    text = f"It works with {secret}"
    assert scrub(text) == (f"It works with [removed: {name}]", {name: 1})


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        (
            "postgres://app:hunter2@db.example:5432/shop",
            "postgres://[removed: password]@db.example:5432/shop",
            "password",
        ),
        (
            "Authorization: Bearer abcdefghij0123456789xyz",
            "Authorization: Bearer [removed: bearer token]",
            "bearer token",
        ),
        (
            "AUTHORIZATION: BEARER abcdefghij0123456789xyz",
            "AUTHORIZATION: BEARER [removed: bearer token]",
            "bearer token",
        ),
    ],
)
def test_of_a_longer_line_only_the_secret_goes(text: str, shown: str, name: str) -> None:
    assert scrub(text) == (shown, {name: 1})


def test_several_are_counted_by_what_they_are() -> None:
    text = " ".join(["ghp_" + "a" * 36, "ghp_" + "b" * 36, "AKIA" + "A" * 16])
    assert scrub(text)[1] == {"GitHub token": 2, "AWS key": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Chose PKCE and refresh tokens. Left: rotation.",
        "see https://example.com/a:b@c and user@example.com",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b of task-id sk-learn, UAAA, SUPER",
        "the password is hunter2",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "bearer of bad news",
        "U" + "A" * 55,
        "ssh://git@github.com/owner/repo",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert scrub(text) == (text, {})


@given(st.text())
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    once, _ = scrub(text)
    assert scrub(once) == (once, {})


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN A A A A ",
        "-----END ",
        "://a:",
        "eyJ",
        "eyJaaaaaaaaaaa.",
        "eyJaaaaaaaaaaa-",
        "bearer ",
        "sk-",
        "A",
    ],
)
def test_a_hostile_text_of_the_largest_size_is_scrubbed_in_one_go(piece: str) -> None:
    text = (piece * (256 * 1024 // len(piece) + 1))[: 256 * 1024]
    assert len(scrub(text)[0]) <= len(text) + 64


def test_of_a_json_value_every_text_is_scrubbed_and_all_else_stays() -> None:
    token = "ghp_" + "a" * 36
    value = {"env": [{"TOKEN": token}, 1, None, 2.5, True], token: "name", "note": "fine"}
    clean = "[removed: GitHub token]"
    assert scrub_value(value) == (
        {"env": [{"TOKEN": clean}, 1, None, 2.5, True], clean: "name", "note": "fine"},
        {"GitHub token": 2},
    )
    assert scrub_value({"a": [1, "b"]}) == ({"a": [1, "b"]}, {})


def test_an_author_is_told_what_was_removed_and_nothing_where_nothing_was() -> None:
    assert listed({}) == ""
    assert listed({"GitHub token": 2, "seed": 1}).startswith("GitHub token (2), seed (1). ")


SAM = "/".join(["", "home", "sam"])


# -- what a hand-off loses besides ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"see {SAM}/src/app.py", "see [home]/src/app.py"),
        ("see '/Users/jo'", "see '[home]'"),
        ("file:///home/sam/x", "file://[home]/x"),
        (r"C:\Users\Sam\x", r"[home]\x"),
        ("/".join(["", "mnt", "c", "Users", "sam", "x"]), "[home]/x"),
        ("/".join(["", "root", ".ssh"]), "[home]/.ssh"),
        ("/rooting and https://example.com/home/sam", "/rooting and https://example.com/home/sam"),
        ("export API_TOKEN=abc DEBUG=1", "export API_TOKEN=[removed: environment value] DEBUG=1"),
        ("MY_SECRET_KEY: 'a b' c", "MY_SECRET_KEY: [removed: environment value] c"),
        ("DB_DSN=postgres://a:b@c/d", "DB_DSN=[removed: environment value]"),
        ("KEY=$FOO TOKEN=<yours>", "KEY=$FOO TOKEN=<yours>"),
        ("the token is checked", "the token is checked"),
    ],
)
def test_a_handoff_loses_home_paths_and_environment_values(text: str, shown: str) -> None:
    assert scrub_capsule(text)[0] == shown
    assert scrub_capsule(shown) == (shown, {})


def test_a_handoff_loses_what_any_message_loses_and_counts_by_sort() -> None:
    secret = "glpat-" + "x" * 20
    text, removed = scrub_capsule(f"{SAM} and {SAM}/x, {secret}")
    assert text == "[home] and [home]/x, [removed: GitLab token]"
    assert removed == {"GitLab token": 1, "home path": 2}


@given(st.text(alphabet="/homeUsrst:\\ KEYTOKN_=.'\"$[x"))
def test_what_was_scrubbed_stays_as_it_is(text: str) -> None:
    once, _ = scrub_capsule(text)
    assert scrub_capsule(once)[0] == once


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_named_wherever_it_stands_and_whatever_stands_around_it(secret: str) -> None:
    for text in (secret, f"x {secret}", f"\xff\x00={secret}\x00\xff", f'"{secret}"', f"sk- eyJ ://{secret}"):
        assert kinds_in(text) == set(scrub(text)[1])
        assert SECRETS[secret] in kinds_in(text)


@given(
    st.lists(
        st.one_of(
            st.text(alphabet="aA0_-./:@ \n\xe9", max_size=12),
            st.sampled_from(sorted(SECRETS)),
            st.sampled_from(["gh", "ghp_", "sk-", "eyJ", "://", "bearer ", "BEARER ", "k_live_", "SU", "PRIVATE KEY"]),
        ),
        max_size=8,
    ).map("".join)
)
def test_something_is_recognised_in_a_text_exactly_where_something_would_be_taken_out(text: str) -> None:
    found, removed = kinds_in(text), set(scrub(text)[1])
    # A secret inside another one is taken out with that one.
    assert removed <= found
    assert bool(removed) == bool(found)
