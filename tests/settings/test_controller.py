"""The controller token of Qwen's inbox: private, whole or not there, and in no repr."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from parlerd.controller import Controller, NoToken, file_of, forget, load, parse, store
from parlerd.paths import Home

TOKEN: Final = "qpc_" + "0f" * 32


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_it_comes_back_as_it_was_kept_and_is_for_this_user_alone(home: Home, tmp_path: Path) -> None:
    assert load(home) is None
    store(home, Controller(tmp_path / "a", TOKEN.replace("f", "e")))
    store(home, Controller(tmp_path / "b", TOKEN))
    assert load(home) == Controller(tmp_path / "b", TOKEN)
    assert file_of(home).stat().st_mode & 0o777 == 0o600
    assert file_of(home).parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in home.connect.iterdir()] == [file_of(home).name]
    assert TOKEN not in repr(load(home))
    assert forget(home)
    assert not forget(home)
    assert load(home) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"token": 1, "sessions": "/x"}', f'{{"token": "{TOKEN}", "sessions": "relative"}}'],
)
def test_what_is_no_token_is_none(home: Home, content: str) -> None:
    store(home, Controller(Path("/x"), TOKEN))
    file_of(home).write_text(content)
    assert load(home) is None


def test_what_others_could_read_or_a_link_is_none(home: Home) -> None:
    store(home, Controller(Path("/x"), TOKEN))
    path = file_of(home)
    path.chmod(0o640)
    assert load(home) is None
    path.chmod(0o600)
    kept = path.rename(path.with_name("kept"))
    path.symlink_to(kept)
    assert load(home) is None


def test_the_token_is_found_in_what_the_minting_command_says() -> None:
    assert parse(f"Token: {TOKEN}\n") == TOKEN
    older = TOKEN.replace("f", "a")
    assert parse(f'{older}\n{{"token":"{TOKEN}"}}') == TOKEN
    for text in ("", "qpc_12", TOKEN.upper()):
        with pytest.raises(NoToken) as refused:
            parse(text)
        assert not text or text not in str(refused.value)
