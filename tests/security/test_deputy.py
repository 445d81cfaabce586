"""Section D of the security spec, lines 11, 12, 16: the daemon is nobody's deputy and keeps what it knows to itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest

from parlerd.core.errors import ParlerError
from parlerd.core.model import Position
from parlerd.hardening import KEPT
from parlerd.identity.keyring import KeyRing
from parlerd.operations import types as t
from parlerd.paths import home_from, prepare
from tests.support.engine import SlowDriver, World, engine_world, gather, run
from tests.support.faulty_store import FaultyStore

BODY = "canary-body"


# -- D11 ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="what a process is like is looked at in /proc")
def test_d11_a_hardened_process_has_a_fixed_environment_mask_directory_and_leaves_no_core() -> None:
    """D11: nothing of whoever starts the daemon steers it: no loader, interpreter, git or proxy variables."""
    look = (
        "import os, resource, json, ctypes\n"
        "from parlerd.hardening import harden\n"
        "harden()\n"
        "mask = os.umask(0)\n"
        "print(json.dumps([sorted(os.environ), mask, os.getcwd(), resource.getrlimit(resource.RLIMIT_CORE),"
        " ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)]))"
    )
    spoiled = {
        "LD_PRELOAD": "",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "GIT_DIR": "/nowhere",
        "https_proxy": "http://nowhere",
        "BASH_ENV": "/nowhere",
        "HOME": "/home/sam",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run([sys.executable, "-c", look], env=spoiled, capture_output=True, text=True, check=True)
    names, mask, directory, core, dumpable = msgspec.json.decode(done.stdout)
    assert set(names) <= set(KEPT) | {"LC_CTYPE"}
    assert (mask, directory, core, dumpable) == (0o077, "/", [0, 0], 0)


@pytest.mark.parametrize("wrong", ["open", "symlink", "in a work tree"])
def test_d11_an_unsafe_home_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """D11: the home is checked for owner, mode and symlinks; inside a git work tree it has to be named."""
    root = tmp_path / "home"
    if wrong == "open":
        root.mkdir(mode=0o755)
        root.chmod(0o755)
    elif wrong == "symlink":
        (tmp_path / "real").mkdir(mode=0o700)
        root.symlink_to(tmp_path / "real")
    else:
        (tmp_path / ".git").mkdir()
    explicit = None if wrong == "in a work tree" else str(root)
    home = home_from({"HOME": str(tmp_path), "PARLER_HOME": str(root)}, explicit)
    with pytest.raises(ParlerError) as refused:
        prepare(home)
    assert refused.value.code == "home_unsafe"


# -- D12 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["A3KE7DJR@relay.example", "a3ke-7djr@[::1]:80", "A3KE7DJR@127.0.0.1", "K@h"])
def test_d12_a_key_of_a_home_that_nobody_added_is_refused_before_any_lookup_or_packet(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """D12: neither the store, nor the throttle, nor the network is asked."""

    def forbidden(*args: object, **more: object) -> object:
        raise AssertionError("something was looked up")

    async def main() -> None:
        async with engine_world() as served:
            bob = await served.agent("bob")
            await bob.whoami()
            served.world.store.room_of_key = forbidden  # type: ignore[method-assign, assignment]
            served.world.keys.key_id = forbidden  # type: ignore[method-assign, assignment]
            monkeypatch.setattr("socket.getaddrinfo", forbidden)
            monkeypatch.setattr("socket.socket.connect", forbidden)
            for op, params in (
                ("session.join", t.JoinSession(session_key=text)),
                ("session.revoke", t.RevokeSessionKey(session_key=text)),
            ):
                error = await bob.refused(op, params)
                assert error.code == "home_not_trusted"
                assert error.spec.action == "ask_person"
            monkeypatch.undo()

    run(main)


# -- D16 ---------------------------------------------------------------------------------------------------


def test_d16_no_log_line_holds_a_body_a_key_or_a_code(caplog: pytest.LogCaptureFixture) -> None:
    """D16: through joining, talking, a failing store, a fault of ours and a restart."""
    secrets: list[str] = []

    async def main() -> None:
        world = World(store=FaultyStore())
        assert isinstance(world.store, FaultyStore)
        async with world.serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(BODY, BODY)
            knock = await bob.join(opened.session_key)
            secrets.extend([str(opened.session_key), str(knock.join_code)])
            await alice.approve("bob", join_code=knock.join_code)
            await bob.come_in(opened.session_key)
            await bob.send(BODY, data={BODY: BODY})
            for code in ("store_full", "store_corrupt", "store_failed"):
                world.store.fail_next_commit(code)
                await bob.refused("message.send", t.Send(text=BODY))
            world.store.unreadable = "store_corrupt"
            world.store.fail_next_commit("store_full")
            await bob.refused("message.send", t.Send(text=BODY))
            world.store.unreadable = None
            world.keys.forget((await bob.whoami()).id)
            await bob.refused("message.send", t.Send(text=BODY))
            await bob.refused("session.join", t.JoinSession(session_key="ZZZZZZZZ"))
        async with world.serving() as served:
            await (await served.agent("alice")).recv(all=True)

    with caplog.at_level(logging.DEBUG):
        run(main)
    assert caplog.records, "nothing was logged, so this shows nothing"
    for secret in [BODY, "ZZZZZZZZ", *secrets]:
        assert secret not in caplog.text


def test_d16_an_error_repeats_no_body_and_no_key() -> None:
    """D16: what went wrong is told by codes, ids, limits and sizes."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            long = BODY * 30_000
            calls: list[tuple[str, t.Params]] = [
                ("message.send", t.Send(text=long)),
                ("message.send", t.Send(text=BODY, data=long)),
                ("message.send", t.Send(text=BODY, to=("nobody",))),
                ("message.send", t.Send(text=BODY, reply_to="m_none")),
                ("message.send", t.Send(text=BODY, room="r_none")),
                ("handoff.give", t.GiveHandoff(next=long)),
                ("session.open", t.OpenSession(context=long)),
                ("session.join", t.JoinSession(session_key="ZZZZ" + "ZZZZ")),
            ]
            for op, params in calls:
                told = msgspec.json.encode((await bob.refused(op, params)).body()).decode()
                assert BODY not in told, op
                assert "ZZZZZZZZ" not in told, op
            await alice.send("x")

    run(main)


@pytest.mark.parametrize("approval", [True, False])
def test_d16_a_key_is_stored_nowhere_and_is_given_again_to_the_request_that_made_it_alone(approval: bool) -> None:
    """D16: what is secret is not stored. A key follows from the home's secret, so that a retry of an opening whose
    answer was lost has it; whoever holds the store has not."""

    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await alice.whoami()
            ask = partial(alice.open, "x", idempotency_key="k1", approval=approval)
            both = await gather(ask, ask)
            again = await ask()
            assert again.replayed
            (code,) = {opened.session_key for opened in (*both, again)}
            assert code is not None
            theirs = await bob.open("x", idempotency_key="k1", approval=approval)
            assert (theirs.room == again.room, theirs.session_key == code) == (False, False)
            for room in served.world.store.rooms():
                for header in served.world.store.facts(room, Position(0), 1000):
                    body = served.world.store.body(room, header.position)
                    stored = repr((header, body)).upper()
                    assert code not in stored

    run(main)


def test_d16_recognised_secrets_are_taken_out_of_a_recap_and_the_author_is_told() -> None:
    """D16: a recap is read by whoever is let in later; what has the shape of a credential does not get there."""
    token = "ghp_" + "a1B2" * 9

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", f"Deploys with {token}. Left: rotation.", idempotency_key="k1")
            assert "GitHub token (1)" in str(opened.warning)
            assert (await alice.open("x", f"Deploys with {token}. Left: rotation.", idempotency_key="k1")).replayed
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key)
            assert landed.messages[0].text == "Deploys with [removed: GitHub token]. Left: rotation."
            quiet = await alice.open("y", "Nothing to hide.")
            assert quiet.warning is msgspec.UNSET

    run(main)


def test_d16_key_files_and_the_ring_that_holds_them_show_no_seed(tmp_path: Path) -> None:
    """D16: neither `repr`, nor an error, nor a traceback's locals."""
    ring = KeyRing(tmp_path / "keys")
    agent = ring.create_agent()
    seeds = [path.read_text().strip() for path in (tmp_path / "keys").glob("*.seed")]
    assert seeds
    shown = [repr(ring), str(ring), repr(vars(ring)), repr(ring.agents()), repr(agent)]
    assert not [text for text in shown for seed in seeds if seed in text]
    with pytest.raises(ParlerError) as refused:
        ring.sign("U" + "A" * 55, "parler/message", BODY.encode())
    assert BODY not in str(refused.value.body())
