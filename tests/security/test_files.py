"""Section D of the security spec, lines 13 to 15 and 17: files, repositories, shared bytes, and what is left of them.

The parts have their own tests, which `test_lines` names; here they are come to as an agent comes to them, by its tool.
"""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from parlerd.engine.shelf import KEPT_MS
from parlerd.operations import types as t
from parlerd.store.blobs import DiskBlobs
from parlerd.store.sqlite import SqliteStore
from tests.support.engine import Served, World, engine_world, run
from tests.support.files import bring, digest, fetch, hand, holding, share
from tests.support.git import work_in
from tests.support.homes import Place, file_home
from tests.support.models import Model
from tests.support.traps import Trap, filters, hooks, monitor, programs

CANARY = "canary7words7that7nobody7is7to7find"
DAY_S = 24 * 3600


async def in_workspace(served: Served, name: str, folder: Path) -> Model:
    return Model(served, await served.window(name * 32, workspace=str(folder)))


# -- D13 ---------------------------------------------------------------------------------------------------


def test_d13_by_its_tool_an_agent_reads_and_writes_below_its_workspace_alone(tmp_path: Path) -> None:
    """D13: no path, link or name leads out of the workspace, to settings of programs, or onto what is there."""
    inside, outside = tmp_path / "work", tmp_path / "outside"
    for folder in (inside / ".git" / "hooks", inside / ".vscode", inside / "docs", outside):
        folder.mkdir(parents=True)
    for file in (outside / "secret", inside / ".git" / "config", inside / ".vscode" / "tasks.json"):
        file.write_text(CANARY)
    os.symlink(outside, inside / "link")
    os.symlink(outside / "secret", inside / "docs" / "notes")
    (inside / "mine").write_text("mine")
    ways_out = [
        "../outside/secret",
        "docs/../../outside/secret",
        str(outside / "secret"),
        "link/secret",
        "docs/notes",
        ".git/config",
        ".GIT/config",
        ".git\u200c/config",
        ".vscode/tasks.json",
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    async def main() -> None:
        async with engine_world() as served:
            model = await in_workspace(served, "a", inside)
            await model.call("parler_open_session", context="context", topic="files")
            for path in ways_out:
                assert "file_refused" in await model.call("parler_share", action="send", path=path)
            assert "Shared as" in await model.call("parler_share", action="send", path="mine")
            for path in [*ways_out, "../new", "link/new", ".envrc", ".git/hooks/post-checkout"]:
                said = await model.call("parler_share", action="fetch", blob="2", path=path)
                assert "file_refused" in said or "target_exists" in said
            assert "target_exists" in await model.call("parler_share", action="fetch", blob="2", path="mine")
            assert not any(CANARY in said for said in model.seen)

    run(main)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# -- D14 ---------------------------------------------------------------------------------------------------


def below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_d14_what_a_repository_names_is_not_run_when_a_window_pushes_and_takes(tmp_path: Path) -> None:
    """D14: pushing from, and applying into, a hostile repository runs nothing of what it names."""
    one, other = work_in(tmp_path / "one"), work_in(tmp_path / "other")
    tip = one.commit(f="1")
    other.commit(g="2")
    traps = [Trap(tmp_path / f"trap{number}") for number in range(2)]
    for work, trap in zip((one, other), traps, strict=True):
        for spring in (hooks, monitor, programs, filters):
            spring(work, trap)

    async def main() -> None:
        async with engine_world() as served:
            giver, taker = await in_workspace(served, "a", one.folder), await in_workspace(served, "b", other.folder)
            await served.admit(await giver.party.open("code", "context"), taker.party)
            assert "Shared" in await giver.call("parler_share", action="push")
            assert "Shared" in await giver.call("parler_share", action="push", worktree=True)
            assert "Taken in from" in await taker.call("parler_share", action="apply", blob="2")
            assert "Taken in from" in await taker.call("parler_share", action="apply", blob="3")

    run(main)
    assert not any(trap.ran for trap in traps)
    assert tip in other.git("rev-list", "--all").split()
    # Git by itself runs what this repository names, and may then end in an error, because the filter says nothing.
    with suppress(subprocess.CalledProcessError):
        other.git("status")
    assert traps[1].ran


@pytest.mark.parametrize(
    "name",
    [
        "--upload-pack=x",
        "-h",
        "--output={out}",
        "a..b",
        "HEAD@{{1}}",
        ":/f",
        "HEAD:f",
        "^HEAD",
        "refs/../config",
        "a\nb",
        " ",
    ],
)
@pytest.mark.parametrize("argument", ["ref", "base"])
def test_d14_a_name_that_is_more_than_a_name_reaches_no_git(tmp_path: Path, argument: str, name: str) -> None:
    """D14: refs and bases are names of a narrow form, and no option or expression of git."""
    work, out = work_in(tmp_path / "work"), tmp_path / "out"
    work.commit(f="1")

    async def main() -> None:
        async with engine_world() as served:
            model = await in_workspace(served, "a", work.folder)
            await model.call("parler_open_session", context="", topic="code")
            said = await model.call("parler_share", action="push", **{argument: name.format(out=out)})
            assert said.startswith(("no_such_ref: ", "invalid_param: "))

    run(main)
    assert not out.exists()


# -- D15 ---------------------------------------------------------------------------------------------------


def test_d15_a_file_is_brought_by_who_has_it_and_nobody_learns_what_others_have() -> None:
    """D15: a reference counts only from who finished the upload or may read the file, and a stranger's upload of the
    same bytes is answered as that of any bytes."""

    async def main() -> None:
        async with engine_world() as served:
            ann, eve = await served.agent("ann"), await served.agent("eve")
            await ann.open("secret plans", "")
            await eve.open("elsewhere", "")
            known, unknown = b"k" * 600_000, b"u" * 600_000
            await share(ann, known)
            answers = []
            for data in (known, unknown):
                named = t.ShareBlob(blob=digest(data), size=len(data))
                told = await eve.refused("blob.share", named)
                with holding(data) as file:
                    params, offsets = t.PutBlob(file=hand(eve, file)), [0]
                    while offsets[-1] < len(data):
                        offsets.append((await eve.ask("blob.put", params, t.BlobPut)).offset)
                answers.append((told.code, told.message, told.hint, offsets))
            assert answers[0] == answers[1]
            assert answers[0][0] == "upload_unfinished"
            shared = await share(eve, known)
            assert await fetch(eve, shared.blob) == known

    run(main)


@pytest.mark.parametrize(
    "blob", ["", "../" * 21 + "x", "A" * 64, "0" * 63, "0" * 65, "/" + "0" * 63, "0" * 63 + "\n", "0" * 63 + "\u0660"]
)
def test_d15_an_id_that_is_none_is_refused_before_any_path_is_made_of_it(tmp_path: Path, blob: str) -> None:
    """D15: an id is 64 of 0-9 and a-f."""

    async def main() -> None:
        world = World(blobs=DiskBlobs(tmp_path / "blobs"))
        async with world.serving() as served:
            ann = await served.agent("ann")
            opened = await ann.open("files", "")
            before = below(tmp_path)
            with holding(b"") as file:
                get = t.GetBlob(file=hand(ann, file), room=opened.room, blob=blob, size=1)
                for op, params in (("blob.share", t.ShareBlob(blob=blob, size=1)), ("blob.get", get)):
                    assert (await ann.refused(op, params)).code in ("invalid_param", "no_such_blob"), op
            assert below(tmp_path) == before

    run(main)


# -- D17 ---------------------------------------------------------------------------------------------------


def test_d17_every_file_of_a_home_is_its_users_alone(tmp_path: Path) -> None:
    """D17: the database with its companions, keys, and shared bytes, whatever the umask."""
    before = os.umask(0)
    try:

        async def act(place: Place) -> None:
            ann = await place.agent("ann")
            await ann.open("plans", "the context")
            await share(ann, b"the numbers")
            await bring(ann, b"not shared yet")
            found = [path for path in below(tmp_path) if not path.is_socket()]
            assert {path.name for path in found} >= {"keys", "blobs", "parler.db", "parler.db-wal"}
            assert {path.parent.name for path in found if path.is_file()} >= {"keys", digest(b"the numbers")[:2]}
            open_to_others = [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
            assert open_to_others == []

        file_home(tmp_path).play(act)
    finally:
        os.umask(before)


def test_d17_of_a_deleted_room_no_word_and_no_byte_of_a_file_is_left(tmp_path: Path) -> None:
    """D17: messages, facts that were remembered with their search index, and shared files. What its owner called the
    room stays in the home's own log."""

    def held() -> int:
        return sum(path.read_bytes().count(CANARY.encode()) for path in tmp_path.rglob("*") if path.is_file())

    async def main() -> None:
        store = SqliteStore(tmp_path / "parler.db", backups=tmp_path / "backups")
        world = World(store=store, blobs=DiskBlobs(tmp_path / "blobs"))
        async with world.serving() as served:
            ann = await served.agent("ann")
            opened = await ann.open("plans", f"recap {CANARY}")
            await ann.send(f"message {CANARY}")
            await ann.ask("memory.remember", t.Remember(text=f"fact {CANARY}"), t.Remembered)
            await share(ann, f"file {CANARY}".encode(), text=f"note {CANARY}")
            await trio.sleep(1)
            assert held() >= 5
            person = await served.person()
            await person.ask("room.delete", t.DeleteRoom(room=opened.room, confirmed=True), t.DeletedRoom)
            world.clock.move(seconds=KEPT_MS / 1000 + 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.engine.keep_shelf)
                await trio.sleep(DAY_S + 1)
                nursery.cancel_scope.cancel()
        store.close()
        assert held() == 0

    run(main)
