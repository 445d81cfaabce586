"""Where a relay's database is: what a person may write; no password comes by the command line or shows anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.paths import Home, prepare
from relay import store_url

SECRET = "hunter2"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "relay", explicit=True)
    prepare(found)
    return found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://parler@db.example.org/parler", "postgresql://parler@db.example.org/parler"),
        ("postgres://db:5433/parler", "postgresql://db:5433/parler"),
        ("postgresql:///parler?host=/run/postgresql&user=ann", "postgresql:///run/postgresql/parler"),
        ("postgresql://a,b:5433/parler?target_session_attrs=read-write", "postgresql://a,b:5433/parler"),
        ("postgresql://ann@[::1]:5433/parler?sslmode=verify-full", "postgresql://ann@[::1]:5433/parler"),
        ("postgresql://?service=parler", "postgresql:///"),
        ("  postgresql://db/parler\n", "postgresql://db/parler"),
    ],
)
def test_a_url_of_a_database_is_taken_and_shown(url: str, shown: str) -> None:
    assert store_url.parse(url, may_hold_password=False) == url.strip()
    assert store_url.shown(url.strip()) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@db/parler",
        f"postgresql://:{SECRET}@db/parler",
        f"postgresql://ann:a@{SECRET}@db/parler",
        f"postgresql://db/parler?password={SECRET}",
        f"postgresql://db/parler?user=ann&sslpassword={SECRET}",
        f"postgresql://db/parler?pass%77ord={SECRET}",
    ],
)
def test_a_password_is_refused_on_the_command_line_taken_from_a_file_and_never_shown(url: str) -> None:
    with pytest.raises(Refused) as refused:
        store_url.parse(url, may_hold_password=False)
    assert refused.value.code == "invalid_param"
    assert "password" in refused.value.message
    assert all(place in refused.value.hint for place in ("PGPASSFILE", "~/.pgpass", "service", "--store-file"))
    assert SECRET not in repr(refused.value.body())
    assert store_url.parse(url, may_hold_password=True) == url
    assert SECRET not in store_url.shown(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "begins with postgresql"),
        ("sqlite:///x", "begins with postgresql"),
        ("postgresql:db/parler", "begins with postgresql"),
        ("host=db dbname=parler", "spaces"),
        ("postgresql://db/par ler", "spaces"),
        ("postgresql://db/parler\x00", "spaces"),
        ("postgresql://db/\u200bparler", "spaces"),
        ("postgresql://db", "names no database"),
        ("postgresql://db/", "names no database"),
        ("postgresql://db/a/b", "one database"),
        ("postgresql://db/a%2Fb", "one database"),
        ("postgresql://db:0/parler", "port"),
        ("postgresql://db:65536/parler", "port"),
        ("postgresql://db:x/parler", "port"),
        ("postgresql://db:5:6/parler", "port"),
        ("postgresql://[::1/parler", "cannot be read"),
        ("postgresql://a,,b/parler", "host"),
        ("postgresql://:5432/parler", "host"),
        ("postgresql://db/parler#x", "#"),
        ("postgresql://db/parler?options=-cfsync%3Doff", "options"),
        ("postgresql://db/parler?connect_timeout=0", "connect_timeout"),
        (f"postgresql://db/parler?{SECRET}=x", "not taken"),
        ("postgresql://db/parler?user=a&user=b", "twice"),
        ("postgresql://db/parler?user", "cannot be read"),
        (f"postgresql://db/{'x' * store_url.MAX_URL}", "longer"),
    ],
)
def test_what_is_no_url_of_a_database_is_refused_with_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        store_url.parse(url, may_hold_password=True)
    assert (refused.value.code, refused.value.details["param"]) == ("invalid_param", "store")
    assert said in refused.value.message
    assert SECRET not in repr(refused.value.body())


def test_a_url_is_kept_for_its_owner_alone_and_replaced_whole(home: Home) -> None:
    for url in (f"postgresql://ann:{SECRET}@db/one", "postgresql://db/two"):
        store_url.keep(home, url)
        assert store_url.load(home) == url
        assert store_url.file_of(home).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.root.glob("*store-url*")] == ["store-url"]


def _gone(path: Path) -> None:
    path.unlink()


def _open_to_others(path: Path) -> None:
    path.chmod(0o640)


def _a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _no_url(path: Path) -> None:
    path.write_text(f"mysql://ann:{SECRET}@db/x")


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("spoil", [_gone, _open_to_others, _a_link, _a_pipe, _no_url, _no_text])
def test_a_file_that_is_not_what_was_kept_is_an_error_without_its_text(home: Home, spoil: object) -> None:
    store_url.keep(home, f"postgresql://ann:{SECRET}@db/parler")
    assert callable(spoil)
    spoil(store_url.file_of(home))
    with pytest.raises(ParlerError) as error:
        store_url.load(home)
    assert error.value.code == "invalid_settings"
    assert SECRET not in repr(error.value.body())
