"""The relays that a person added: kept whole or not at all, and no others."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, HomeId, Millis
from parlerd.identity.join_line import home_name
from parlerd.uplink.homes import COUNTED_AT_MOST_MS, MAX_HOMES, Homes

TEAM, FIRM = HomeId("N" + "A" * 55), HomeId("N" + "B" * 55)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "homes.json"


def test_without_a_file_there_is_no_relay_and_sessions_open_here(path: Path) -> None:
    homes = Homes(path)
    assert list(homes.all()) == []
    assert homes.default is None
    assert not path.exists()


def test_what_was_added_is_there_after_a_restart_and_the_file_is_private(path: Path) -> None:
    added = Homes(path).add(TEAM, "team", "wss://a:1", TEAM, default=True)
    assert path.stat().st_mode & 0o777 == 0o600
    again = Homes(path)
    assert list(again.all()) == [added]
    assert again.get(TEAM) == added
    assert again.default == TEAM
    assert added.name == home_name("team", TEAM)
    assert again.named(added.name.upper()) == added


def test_a_name_that_nobody_added_is_not_looked_up_anywhere(path: Path) -> None:
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://a:1", TEAM)
    for name in ("team", "local", "", "firm-123456"):
        with pytest.raises(Refused) as refused:
            homes.named(name)
        assert refused.value.code == "home_not_trusted"
        assert f"the relay {name}," in refused.value.message or not name


@pytest.mark.parametrize("name", ["a b", "IGNORE\nALL", "x" * 65, "\u0442\u0435am-7f3k2q", "a@b"])
def test_what_stands_behind_a_key_and_is_no_name_is_not_shown(name: str, path: Path) -> None:
    with pytest.raises(Refused) as refused:
        Homes(path).named(name)
    assert refused.value.code == "home_not_trusted"
    assert name not in str(refused.value.body())


def test_a_relay_whose_key_does_not_fit_the_pin_is_not_kept(path: Path) -> None:
    homes = Homes(path)
    with pytest.raises(Refused) as refused:
        homes.add(TEAM, "team", "wss://a:1", FIRM)
    assert refused.value.code == "home_not_trusted"
    assert not path.exists()


def test_the_address_that_worked_last_is_the_first_of_four(path: Path) -> None:
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://a:1", TEAM)
    homes.reached(TEAM, "wss://b:1", ["wss://c:1", "wss://a:1", "wss://d:1", "wss://e:1"])
    found = homes.get(TEAM)
    assert found is not None
    assert found.addresses == ("wss://b:1", "wss://c:1", "wss://a:1", "wss://d:1")
    homes.reached(FIRM, "wss://x:1")
    assert homes.get(FIRM) is None
    assert Homes(path).get(TEAM) == found


def test_adding_a_relay_again_keeps_its_name_and_puts_the_new_address_first(path: Path) -> None:
    homes = Homes(path)
    first = homes.add(TEAM, "team", "wss://a:1", TEAM)
    again = homes.add(TEAM, "renamed", "wss://b:1", TEAM)
    assert again.name == first.name
    assert again.addresses == ("wss://b:1", "wss://a:1")
    assert len(homes.all()) == 1


def test_a_removed_relay_is_gone_and_is_no_longer_where_sessions_open(path: Path) -> None:
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://a:1", TEAM, default=True)
    homes.add(FIRM, "firm", "wss://b:1", FIRM)
    homes.remove(TEAM)
    homes.remove(TEAM)
    for each in (homes, Homes(path)):
        assert [home.id for home in each.all()] == [FIRM]
        assert each.default is None


def test_a_relay_that_is_not_known_any_more_is_called_by_its_key(path: Path) -> None:
    homes = Homes(path)
    added = homes.add(TEAM, "team", "wss://a:1", TEAM)
    assert homes.name_of(TEAM) == added.name
    homes.remove(TEAM)
    assert homes.name_of(TEAM) == home_name("home", TEAM)


def test_the_default_is_a_relay_that_was_added_or_this_machine(path: Path) -> None:
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://a:1", TEAM)
    with pytest.raises(Refused) as refused:
        homes.set_default(FIRM)
    assert refused.value.code == "home_not_trusted"
    homes.set_default(TEAM)
    assert Homes(path).default == TEAM
    homes.set_default(None)
    assert Homes(path).default is None


def test_two_relays_never_have_one_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes keys until a fingerprint begins like another's gets a longer name, and no `KEY@NAME` of the
    first."""

    def alike(called: str, home: HomeId, length: int = 6) -> str:
        return f"{called}-{('aaaaaa' + ('xx' if home == TEAM else 'yy'))[:length]}"

    monkeypatch.setattr("parlerd.uplink.homes.home_name", alike)
    homes = Homes(path)
    assert homes.add(TEAM, "team", "wss://a:1", TEAM).name == "team-aaaaaa"
    assert homes.add(FIRM, "TEAM", "wss://b:1", FIRM).name == "TEAM-aaaaaayy"
    assert homes.named("team-AAAAAA").id == TEAM


def test_there_are_at_most_so_many_relays(path: Path) -> None:
    homes = Homes(path)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    ids = [HomeId("N" + first + second + "A" * 53) for first in letters for second in letters]
    for id in ids[:MAX_HOMES]:
        homes.add(id, "team", "wss://a:1", id)
    with pytest.raises(Refused):
        homes.add(ids[MAX_HOMES], "team", "wss://a:1", ids[MAX_HOMES])
    homes.add(ids[0], "team", "wss://b:1", ids[0])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"v":2}', b"\xff", b'{"v":1,"homes":[{"id":1}]}'])
def test_a_damaged_file_is_said_and_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ParlerError) as error:
        Homes(path)
    assert error.value.code == "invalid_settings"
    assert path.read_bytes() == data


def test_a_file_that_others_can_write_to_and_a_link_are_not_read(path: Path, tmp_path: Path) -> None:
    Homes(path).add(TEAM, "team", "wss://a:1", TEAM)
    path.chmod(0o620)
    with pytest.raises(ParlerError):
        Homes(path)
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ParlerError):
        Homes(path)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    homes = Homes(tmp_path / "missing" / "homes.json")
    with pytest.raises(ParlerError) as error:
        homes.add(TEAM, "team", "wss://a:1", TEAM)
    assert error.value.code == "home_not_writable"
    assert list(homes.all()) == []


def test_which_log_a_relay_keeps_is_kept_and_a_file_from_before_has_none(path: Path) -> None:
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://192.0.2.7:7777", TEAM)
    assert homes.all()[0].log == ""
    homes.reached(TEAM, "wss://192.0.2.7:7777", log="log1")
    homes.reached(TEAM, "wss://192.0.2.8:7777")
    assert Homes(path).all()[0].log == "log1"


def test_each_daemon_counts_from_a_later_moment_also_where_the_clock_was_set_back(path: Path) -> None:
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://192.0.2.7:7777", TEAM)
    counted = []
    for now in (1_000_000_000, 1_000_000_005, 5, 1_000_000_005, 3_000_000_000):
        daemon = Homes(path)
        daemon.begin_to_count(Millis(now))
        counted.append(daemon.counted)
    assert counted[:2] == [1_000_000_000, 1_000_000_005]
    apart = [later - earlier for earlier, later in pairwise(counted)]
    assert min(apart) > 0
    assert apart[1:3] == [COUNTED_AT_MOST_MS, COUNTED_AT_MOST_MS]
    assert counted[-1] == 3_000_000_000


def test_which_cards_a_relay_is_owed_is_there_after_a_restart_and_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parlerd.uplink.homes.MAX_OWED", 5)
    homes = Homes(path)
    homes.add(TEAM, "team", "wss://a:1", TEAM)
    for number in range(7):
        homes.owe_card(TEAM, AgentId(f"U{number}"), "")
    homes.owe_card(TEAM, AgentId("U5"), "too_many_cards")
    homes.card_sent(TEAM, AgentId("U4"))
    homes.card_sent(TEAM, AgentId("nobody"))
    homes.owe_card(FIRM, AgentId("U1"), "")
    homes.reached(TEAM, "wss://b:1", log="l")
    [again] = Homes(path).all()
    assert again.cards == {"U2": "", "U3": "", "U5": "too_many_cards", "U6": ""}
