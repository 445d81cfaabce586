"""What `parler demo` shows and exits with when a step breaks. The real demo is in tests/e2e."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

import pytest
import trio

from parlerd.cli import demo, team
from parlerd.cli.demo_home import DemoHome
from parlerd.cli.demo_recap import Recap
from parlerd.cli.demo_relay import DemoRelay
from parlerd.cli.demo_story import Story, Teller
from parlerd.cli.demo_team import TeamStory
from parlerd.core.errors import ParlerError
from parlerd.paths import Home
from tests.support.cli import Ran, Shell


class BrokenHome:
    """A home whose daemon does not start."""

    def __init__(self, place: Path) -> None:
        self.directory = place
        self.home = Home(root=place / "home", explicit=True)
        self.ended: list[bool] = []

    def start(self) -> int:
        raise ParlerError("unreachable", "The daemon ended while it started.")

    def log_tail(self) -> list[str]:
        return ["ERROR parlerd: store_full"]

    def end(self, *, keep: bool) -> None:
        self.ended.append(keep)


@pytest.fixture
def home(tmp_path: Path) -> BrokenHome:
    return BrokenHome(tmp_path)


def run_with(
    home: BrokenHome,
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    interrupted: bool = False,
    stdout: io.StringIO | None = None,
) -> Ran:
    """`parler demo` in `home`."""

    def play(recap: Recap, directory: Path, teller: Teller, *, keep: bool, team: bool) -> tuple[Story, bool]:
        assert not team
        story = Story(cast(DemoHome, home), recap, directory, teller, keep=keep)
        trio.run(story.play)
        return story, interrupted

    monkeypatch.setattr(demo, "_play", play)
    return Shell(home.directory).run("demo", *words, stdout=stdout)


def test_a_step_that_breaks_ends_the_demo_with_1_after_cleaning_up(
    home: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_with(home, monkeypatch, "--json")
    told = ran.document
    assert ran.code == 1
    assert told["ok"] is False
    assert [(step["step"], step["ok"]) for step in told["steps"]] == [("daemon", False), ("tidy", True)]
    assert told["steps"][0]["detail"] == "unreachable: The daemon ended while it started."
    assert told["log"] == ["ERROR parlerd: store_full"]
    assert home.ended == [False]


def test_a_person_is_told_which_step_broke_and_what_the_daemon_said_last(
    home: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_with(home, monkeypatch)
    assert ran.code == 1
    assert "BROKEN" in ran.stdout
    assert "The daemon ended while it started." in ran.stdout
    assert "at `daemon`" in ran.stderr
    assert "store_full" in ran.stderr
    assert demo.NEXT not in ran.stdout


def test_a_home_that_is_to_be_kept_is_kept(home: BrokenHome, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run_with(home, monkeypatch, "--json", "--keep").document
    assert home.ended == [True]
    assert told["steps"][-1]["home"] == str(home.home.root)


def test_an_interrupted_demo_exits_130(home: BrokenHome, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(home, monkeypatch, interrupted=True).code == 130


class GoneReader(io.StringIO):
    """A stdout whose other end is closed after the first two lines."""

    def write(self, text: str) -> int:
        if self.getvalue().count("\n") >= 2:
            raise BrokenPipeError
        return super().write(text)


def test_a_reader_that_goes_away_does_not_keep_the_demo_from_cleaning_up(
    home: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = GoneReader()
    ran = run_with(home, monkeypatch, stdout=written)
    assert ran.code == 1
    assert home.ended == [False]
    assert "daemon" not in written.getvalue()


def test_the_next_line_to_type_stands_last_unless_the_installer_has_one_of_its_own(
    home: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(recap: Recap, directory: Path, teller: Teller, *, keep: bool, team: bool) -> tuple[Story, bool]:
        assert not team
        return Story(cast(DemoHome, home), recap, directory, teller, keep=keep), False

    monkeypatch.setattr(demo, "_play", play)
    monkeypatch.setattr(Story, "held", True)
    shell = Shell(home.directory)
    assert shell.run("demo").stdout.splitlines()[-1] == demo.NEXT
    told = shell.run("demo", "--no-next").stdout
    assert demo.NEXT not in told
    assert "steps held" in told.splitlines()[-1]


# -- the second act ----------------------------------------------------------------------------------------


def run_team_with(
    first: BrokenHome, second: BrokenHome, monkeypatch: pytest.MonkeyPatch, *words: str, holds: bool = False
) -> Ran:
    """`parler demo --team` in two homes, with a relay that was never started."""
    monkeypatch.setattr(team, "agent_host_above", lambda: "")

    def play(recap: Recap, directory: Path, teller: Teller, *, keep: bool, team: bool) -> tuple[Story, bool]:
        assert team
        one, two = cast(DemoHome, first), cast(DemoHome, second)
        story = TeamStory(one, two, DemoRelay(first.directory), recap, directory, teller, keep=keep)
        if not holds:
            trio.run(story.play)
        return story, False

    monkeypatch.setattr(demo, "_play", play)
    monkeypatch.setattr(TeamStory, "held", property(lambda _story: holds))
    return Shell(first.directory).run("demo", "--team", *words)


@pytest.fixture
def other(tmp_path: Path) -> BrokenHome:
    place = tmp_path / "other"
    place.mkdir()
    return BrokenHome(place)


def test_a_second_act_that_breaks_ends_both_homes_and_the_relay(
    home: BrokenHome, other: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_team_with(home, other, monkeypatch, "--json")
    told = ran.document
    assert ran.code == 1
    assert [(step["step"], step["ok"]) for step in told["steps"]] == [("homes", False), ("tidy", True)]
    assert told["log"] == ["ERROR parlerd: store_full"] * 2
    assert home.ended == other.ended == [False]
    assert list(home.directory.glob("parler-demo-*")) == []


def test_a_home_that_cannot_be_ended_keeps_nothing_else_of_the_second_act_from_ending(
    home: BrokenHome, other: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*, keep: bool) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(other, "end", fails)
    told = run_team_with(home, other, monkeypatch, "--json").document
    assert (told["steps"][-1]["ok"], told["steps"][-1]["detail"]) == (False, "the disk is gone")
    assert home.ended == [False]
    assert list(home.directory.glob("parler-demo-*")) == []


def test_the_second_act_says_which_command_plays_it_for_a_look(
    home: BrokenHome, other: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "`parler demo --team --keep`" in run_team_with(home, other, monkeypatch).stderr


def test_the_second_act_ends_with_the_line_that_makes_a_real_relay(
    home: BrokenHome, other: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_team_with(home, other, monkeypatch, holds=True)
    assert ran.code == 0
    assert ran.stdout.splitlines()[-1] == "parler connect --team"


def test_an_agent_does_not_play_the_second_act_because_only_a_person_adds_a_relay(
    home: BrokenHome, other: BrokenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "agent_host_above", lambda: "codex")
    ran = Shell(home.directory).run("demo", "--team", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_person")
