"""Adding, choosing and forgetting relays: checked with the relay before anything is stored."""

from __future__ import annotations

from pathlib import Path

from parlerd.core.model import AgentId, HomeId, RoomId
from parlerd.identity.codes import secret_text
from parlerd.identity.join_line import write
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from parlerd.uplink.counters import Threaded
from parlerd.uplink.homes import Homes
from tests.support.engine import run
from tests.support.relayed import ADDRESS, SECRET, Home, homes_of

OTHER = HomeId(SigningKey("relay", bytes(32)).id)


def _stranger(home: Home) -> Home:
    """A home that knows no relay, and that the relay does not know."""
    Homes(home.file).remove(home.relay.keys.id)
    home.relay.book.enrolled.clear()
    return home


def test_a_relay_is_added_with_its_line_and_the_secret_that_enrols_once(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        eve = _stranger(home("eve"))
        line = write(ADDRESS, relay.keys.id)
        async with relay.serving(), eve.serving() as served:
            book = served.world.home_book
            added = await book.add(line, secret_text(SECRET))
            assert (added.status, added.home.default, added.home.id) == ("added", True, relay.keys.id)
            assert added.home.name.startswith("team-")
            assert relay.book.enrolled == {eve.world.keys.principal}
            again = await book.add(line, "")
            assert (again.status, again.home.name) == ("unchanged", added.home.name)
            opened = await (await served.agent("mallory")).open(clear=True)
            assert opened.session_key is not None
            assert opened.session_key.endswith(f"@{added.home.name}")
        assert [each.id for each in Homes(eve.file).all()] == [relay.keys.id]

    run(main)


def test_nothing_is_stored_where_the_key_or_the_secret_is_wrong_or_nobody_answers(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        eve = _stranger(home("eve"))
        line = write(ADDRESS, relay.keys.id)
        async with relay.serving(), eve.serving() as served:
            person = await served.person()
            for wrong, secret, code in (
                (write(ADDRESS, OTHER), secret_text(SECRET), "wrong_relay"),
                (line, secret_text(bytes(16)), "wrong_secret"),
                (line, "no secret at all", "wrong_secret"),
                (line, "", "not_enrolled"),
                ("wss://relay", "", "invalid_param"),
            ):
                refused = await person.refused("homes.add", t.AddHome(line=wrong, secret=secret))
                assert refused.code == code, wrong
            wires.cut()
            refused = await person.refused("homes.add", t.AddHome(line=line, secret=secret_text(SECRET)))
            assert refused.code == "home_unreachable"
            assert served.world.home_book.listed() == []
        assert list(Homes(eve.file).all()) == []
        assert relay.book.enrolled == set()

    run(main)


def test_a_relay_that_was_forgotten_leaves_its_rooms_to_be_read_and_is_dialled_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        ann = home("ann")
        async with relay.serving(), ann.serving() as served:
            alice = await served.agent("alice")
            opened = await alice.open(clear=True)
            book = served.world.home_book
            [entry] = book.listed()
            removed = await book.remove(entry.name)
            assert (removed.name, removed.rooms, removed.default) == (entry.name, 1, "local")
            assert book.listed() == []
            dialled = wires.dialled
            page = await alice.recv(room=opened.room)
            assert page.room == opened.room
            refused = await alice.refused("message.send", t.Send(text="x", room=opened.room))
            assert refused.code == "home_not_trusted"
            assert refused.message == f"This session lives on {entry.name}, which was taken out of this machine."
            assert wires.dialled == dialled

    run(main)


def test_a_person_chooses_where_sessions_open(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as served:
            alice, book = await served.agent("alice"), served.world.home_book
            assert book.choose("local") is None
            here = await alice.open("here", clear=True)
            assert here.session_key is not None
            assert "@" not in here.session_key
            [entry] = book.listed()
            chosen = book.choose(entry.name)
            assert chosen is not None
            assert chosen.default
            there = await alice.open("there", clear=True)
            assert there.session_key is not None
            assert "@" in there.session_key

    run(main)


def test_the_loopback_is_dialled_first_and_left_out_of_the_line_for_others(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        ann = home("ann")
        here = "wss://127.0.0.1:7777"
        Homes(ann.file).reached(relay.keys.id, ADDRESS, [here])
        async with relay.serving(), ann.serving() as served:
            for _ in range(2):
                opened = await (await served.agent("alice")).open(clear=True)
                assert opened.connect_command == f"parler connect --relay {write(ADDRESS, relay.keys.id)}"
                wires.cut()
                wires.mend()
        # What was reached last is the best address to tell, and the loopback is still the first to dial.
        assert set(wires.addresses) == {here}
        assert Homes(ann.file).all()[0].addresses == (here, ADDRESS)

    run(main)


def test_no_number_is_given_out_twice_where_the_clock_was_set_back(tmp_path: Path) -> None:
    """What an older daemon signed and nobody answered may still be on its way."""

    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        ann = home("ann")
        given: list[int] = []
        thread = Threaded(RoomId("r_any"), AgentId("any"), "")
        async with relay.serving():
            for _ in range(3):
                async with ann.serving():
                    given += [ann.uplinks._counters.after(thread, 0) for _ in range(5_000)]
                ann.world.clock.move(seconds=-3_600)
        assert len(set(given)) == len(given)
        assert given == sorted(given)

    run(main)
