"""Whom a relay knows: on the disk before it is told, by name and fingerprint, and out for good with the old secret."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import Label, PrincipalId
from parlerd.identity import codes
from parlerd.paths import Home, prepare
from parlerd.settings import Settings
from relay import enrolment as module
from relay.enrolment import Enrolment, SharedSecret
from tests.support.engine import Served, World, engine_world, gather, run
from tests.support.shared_counts import SharedCounts

ANN, BEN = PrincipalId("AANN"), PrincipalId("ABEN")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "relay", explicit=True)
    prepare(found)
    return found


def opened(home: Home, served: Served, settings: Settings | None = None) -> Enrolment:
    return Enrolment(home, served.engine.people, settings or Settings())


def test_a_secret_of_128_bits_is_made_once_and_kept_private(home: Home) -> None:
    async def main() -> None:
        async with engine_world() as served:
            first = opened(home, served)
            assert len(first.secret()) == 16
            assert first.secret_file.stat().st_mode & 0o777 == 0o600
            assert codes.secret_bytes(first.secret_file.read_text()) == first.secret()
            assert opened(home, served).secret() == first.secret()

    run(main)


def test_somebody_who_is_enrolled_is_known_after_a_restart_too(home: Home) -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            people = opened(home, served)
            assert not people.is_enrolled(ANN)
            await gather(lambda: people.enrol(ANN, Label("ann")), lambda: people.enrol(BEN, Label("ben")))
        async with world.serving() as served:
            people = opened(home, served)
            assert (people.is_enrolled(ANN), people.is_kicked(ANN)) == (True, False)
            assert [person.name for person in people.members()] == ["ann", "ben"]

    run(main)


def test_whoever_is_put_out_is_known_as_such_and_the_secret_is_another(home: Home) -> None:
    async def main() -> None:
        async with engine_world() as served:
            people = opened(home, served)
            await people.enrol(ANN, Label("ann"))
            await people.enrol(BEN, Label("ben"))
            before = people.secret()
            await people.put_out(BEN)
            for each in (people, opened(home, served)):
                assert (each.is_enrolled(BEN), each.is_kicked(BEN)) == (False, True)
                assert [person.name for person in each.members()] == ["ann"]
                assert each.secret() != before
            assert codes.secret_bytes(people.secret_file.read_text()) == people.secret()
            await people.enrol(BEN, Label("ben"))
            assert (people.is_enrolled(BEN), people.is_kicked(BEN)) == (True, False)

    run(main)


def test_a_person_is_found_by_key_fingerprint_or_a_name_that_nobody_else_has(home: Home) -> None:
    async def main() -> None:
        async with engine_world() as served:
            people = opened(home, served)
            await people.enrol(ANN, Label("Ann"))
            await people.enrol(BEN, Label("ann"))
            assert people.find("AANN").principal == ANN
            assert people.find(codes.fingerprint(BEN)).principal == BEN
            with pytest.raises(Refused) as refused:
                people.find("ANN")
            assert refused.value.code == "ambiguous_name"
            assert [line.split()[0] for line in refused.value.details["candidates"]] == [
                codes.fingerprint(ANN),
                codes.fingerprint(BEN),
            ]
            await people.put_out(ANN)
            assert people.find("ann").principal == BEN
            # Whoever was put out is found by key: what is left of theirs in rooms can still be taken away.
            assert people.find("AANN").kicked
            for gone in ("zoe", ""):
                with pytest.raises(Refused) as refused:
                    people.find(gone)
                assert refused.value.code == "no_such_agent"

    run(main)


def test_a_relay_knows_a_bounded_number_of_people(home: Home) -> None:
    async def main() -> None:
        async with engine_world() as served:
            people = opened(home, served, Settings(relay_people=1))
            await people.enrol(ANN, Label("ann"))
            with pytest.raises(Refused) as refused:
                await people.enrol(BEN, Label("ben"))
            assert refused.value.code == "busy"
            await people.enrol(ANN, Label("ann"))

    run(main)


def test_new_people_come_at_a_bounded_rate_and_those_who_are_known_at_any(home: Home) -> None:
    """Each new key brings wrong guesses of its own, and whoever has the secret makes keys at will."""

    async def main() -> None:
        async with engine_world() as served:
            people = opened(home, served, Settings(relay_enrolments=2))
            for name in ("a", "b"):
                await people.enrol(PrincipalId(f"A{name}"), Label(name))
            with pytest.raises(Refused) as refused:
                await people.enrol(PrincipalId("Ac"), Label("c"))
            assert (refused.value.code, people.is_enrolled(PrincipalId("Ac"))) == ("throttled", False)
            await people.put_out(PrincipalId("Aa"))
            await people.enrol(PrincipalId("Aa"), Label("a"))
            assert refused.value.retry_after_ms is not None
            await trio.sleep(refused.value.retry_after_ms / 1000)
            await people.enrol(PrincipalId("Ac"), Label("c"))

    run(main)


def test_people_who_are_new_at_several_relays_come_at_one_rate(home: Home) -> None:
    async def main() -> None:
        async with engine_world() as served:
            counts, settings = SharedCounts(), Settings(relay_enrolments=2)
            first, second = (Enrolment(home, served.engine.people, settings, counts=counts.way()) for _ in range(2))
            await first.enrol(PrincipalId("Aa"), Label("a"))
            await second.enrol(PrincipalId("Ab"), Label("b"))
            with pytest.raises(Refused) as refused:
                await first.enrol(PrincipalId("Ac"), Label("c"))
            assert refused.value.code == "throttled"
            with pytest.raises(Refused):
                await second.enrol(PrincipalId("Ac"), Label("c"))
            await second.enrol(PrincipalId("Aa"), Label("a"))
            assert refused.value.retry_after_ms is not None
            await trio.sleep(refused.value.retry_after_ms / 1000)
            await second.enrol(PrincipalId("Ac"), Label("c"))

    run(main)


@pytest.mark.parametrize(("text", "mode", "code"), [("{", 0o600, "invalid_settings"), ("", 0o666, "home_unsafe")])
def test_a_secret_that_is_damaged_or_open_to_others_is_named(home: Home, text: str, mode: int, code: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            path = opened(home, served).secret_file
            path.write_text(text)
            path.chmod(mode)
            with pytest.raises(ParlerError) as failed:
                opened(home, served)
            assert failed.value.code == code
            assert str(path) in failed.value.message

    run(main)


def test_nobody_is_put_out_while_the_secret_cannot_be_changed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            people = opened(home, served)
            await people.enrol(ANN, Label("ann"))
            before = people.secret()

            def full(*_: object) -> None:
                raise ParlerError("home_not_writable")

            monkeypatch.setattr(module, "replace_private", full)
            with pytest.raises(ParlerError):
                await people.put_out(ANN)
            assert (people.is_enrolled(ANN), people.secret()) == (True, before)

    run(main)


def test_the_secret_is_in_no_error_and_no_repr(home: Home) -> None:
    async def main() -> None:
        async with engine_world() as served:
            people = opened(home, served)
            text = people.secret_file.read_text().strip()
            assert text not in repr(people) + str(vars(people).keys())
            people.secret_file.write_text(text[:-4] + "UUUU")
            with pytest.raises(ParlerError) as failed:
                opened(home, served)
            assert text[:10] not in str(failed.value.body())

    run(main)


# -- a secret that other relays have -----------------------------------------------------------------------


def test_relays_of_one_home_find_the_same_secret_and_another_after_somebody_is_put_out(tmp_path: Path) -> None:
    epochs = iter(["second", "third"])

    def shared() -> SharedSecret:
        return SharedSecret("first", lambda: next(epochs), lambda epoch: hashlib.sha256(epoch.encode()).digest()[:16])

    async def main() -> None:
        async with World().serving() as served:
            homes = [Home(tmp_path / name, explicit=True) for name in ("one", "other")]
            for home in homes:
                prepare(home)
            one, other = (Enrolment(home, served.engine.people, Settings(), shared=shared()) for home in homes)
            assert one.secret() == other.secret()
            assert one.secret_file.read_text() == other.secret_file.read_text()
            before = one.secret()
            await one.enrol(ANN, Label("ann"))
            await one.put_out(ANN)
            assert one.secret() != before
            assert other.secret() == before
            other.begun("second")
            assert other.secret() == one.secret()
            assert one.secret_file.read_text() == other.secret_file.read_text()
            other.begun("")
            assert other.secret() == one.secret()

    run(main)
