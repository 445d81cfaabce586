"""The table of commands is what the modules of commands say."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from parlerd import cli
from parlerd.cli import tabling


def test_the_table_is_what_the_modules_of_commands_make_it() -> None:
    assert tabling.PATH.read_text() == tabling.generate(), "run: python -m parlerd.cli.tabling"


def test_every_module_with_commands_is_in_the_table() -> None:
    names = [info.name for info in iter_modules(cli.__path__)]
    offering = {name for name in names if hasattr(import_module(f"parlerd.cli.{name}"), "HANDLERS")}
    assert offering == set(tabling.MODULES)


def test_every_command_has_a_section_and_a_place_of_its_own_there() -> None:
    handlers = [handler for name in tabling.MODULES for handler in tabling.handlers_of(name).values()]
    places = [(handler.section, handler.rank) for handler in handlers]
    assert len(set(places)) == len(places)
    assert {title for title, _ in places} == set(tabling.TITLES)
