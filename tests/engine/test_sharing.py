"""Sharing from a window's workspace, and taking what others shared into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parlerd.core import searching
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run
from tests.support.files import bring, digest, fetch, share
from tests.support.git import Work, work_in


@pytest.fixture
def work(tmp_path: Path) -> Work:
    work = work_in(tmp_path / "work")
    work.commit(f="1")
    return work


async def windows(served: Served, work: Path, other: Path) -> tuple[Party, Party]:
    """Two windows in one session, each in a workspace of its own."""
    alice = await served.window("a" * 32, workspace=str(work))
    bob = await served.window("b" * 32, workspace=str(other))
    await served.admit(await alice.open("code", "context"), bob)
    return alice, bob


async def refused(who: Party, op: str, params: t.Params) -> str:
    return (await who.refused(op, params)).code


def test_a_file_of_one_workspace_becomes_a_new_file_of_another(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (tmp_path / "other").mkdir()
            alice, bob = await windows(served, work.folder, tmp_path / "other")
            data = b"0123456789" * 60_000
            work.write("docs/report.md", data)
            shared = await alice.ask("share.send", t.SendFile(path="docs/report.md"), t.SharedFile)
            assert (shared.blob, shared.size) == (digest(data), len(data))
            named = t.FetchFile(blob=str(shared.seq), path="mine.md")
            fetched = await bob.ask("share.fetch", named, t.FetchedFile)
            assert (fetched.path, fetched.brings.name) == ("mine.md", "report.md")
            assert (tmp_path / "other" / "mine.md").read_bytes() == data
            own = await bob.ask("share.fetch", t.FetchFile(blob=shared.blob), t.FetchedFile)
            assert own.path == f"parler-{shared.blob[:16]}"
            assert await refused(bob, "share.fetch", named) == "target_exists"
            assert set(os.listdir(tmp_path / "other")) == {"mine.md", own.path}

    run(main)


def test_commits_of_one_workspace_become_a_ref_of_another(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            other = work_in(tmp_path / "other")
            alice, bob = await windows(served, work.folder, other.folder)
            tip = work.commit(f="2")
            work.write("new", "1")
            pushed = await alice.ask("share.push", t.PushCode(), t.SharedCode)
            assert (pushed.ref, pushed.tip, pushed.more) == ("main", tip, 0)
            assert [(each.path, each.why) for each in pushed.left_out] == [("new", "uncommitted")]
            applied = await bob.ask("share.apply", t.ApplyCode(blob=str(pushed.seq)), t.AppliedCode)
            assert (applied.ref, applied.tip, applied.new) == (f"refs/parler/{pushed.blob[:16]}", tip, True)
            assert other.refs() == {applied.ref: tip}
            assert applied.brings.left_out == 1
            again = await bob.ask("share.apply", t.ApplyCode(blob=pushed.blob), t.AppliedCode)
            assert not again.new
            whole = await alice.ask("share.push", t.PushCode(worktree=True, base=tip[:12]), t.SharedCode)
            assert (whole.base, whole.left_out) == (tip, [])

    run(main)


def test_a_push_that_is_asked_for_again_is_done_once(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await windows(served, work.folder, tmp_path)
            params = t.PushCode(worktree=True, idempotency_key="k1")
            work.write("f", "2")
            first = await alice.ask("share.push", params, t.SharedCode)
            work.write("f", "3")
            again = await alice.ask("share.push", params, t.SharedCode)
            assert (again.replayed, again.id, again.blob) == (True, first.id, first.blob)
            assert len((await bob.recv(all=True, kind="code")).messages) == 1

    run(main)


def test_nothing_outside_the_workspace_is_shared_or_written(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await windows(served, work.folder, tmp_path / "missing")
            (tmp_path / "secret").write_bytes(b"secret")
            for path in ("../secret", str(tmp_path / "secret"), ".git/config"):
                assert await refused(alice, "share.send", t.SendFile(path=path)) == "file_refused"
            shared = await share(alice, b"data")
            for path in ("../new", ".git/hooks/post-checkout", str(tmp_path / "new")):
                params = t.FetchFile(blob=shared.blob, path=path)
                assert await refused(alice, "share.fetch", params) == "file_refused"
            assert await refused(bob, "share.fetch", t.FetchFile(blob=shared.blob)) == "file_refused"
            assert sorted(os.listdir(tmp_path)) == ["secret", "work"]

    run(main)


def test_git_works_on_the_repository_of_the_workspace_and_on_no_other(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            inner = work.folder / "inner"
            inner.mkdir()
            alice, bob = await windows(served, inner, work.folder)
            assert await refused(alice, "share.push", t.PushCode()) == "no_repository"
            pushed = await bob.ask("share.push", t.PushCode(), t.SharedCode)
            assert await refused(alice, "share.apply", t.ApplyCode(blob=pushed.blob)) == "no_repository"
            nowhere = await served.window("c" * 32, workspace="")
            await nowhere.open("own", "")
            assert await refused(nowhere, "share.push", t.PushCode()) == "no_repository"
            assert await refused(nowhere, "share.send", t.SendFile(path="f")) == "file_refused"

    run(main)


def test_what_is_wrong_with_a_push_or_an_apply_is_said(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            other = work_in(tmp_path / "other")
            alice, bob = await windows(served, work.folder, other.folder)
            assert await refused(alice, "share.push", t.PushCode(ref="nothing")) == "no_such_ref"
            assert await refused(alice, "share.push", t.PushCode(ref="--all")) == "invalid_param"
            assert await refused(alice, "share.push", t.PushCode(base="main")) == "nothing_to_push"
            base = work.git("rev-parse", "HEAD")
            work.commit(f="2")
            thin = await alice.ask("share.push", t.PushCode(base=base), t.SharedCode)
            assert await refused(bob, "share.apply", t.ApplyCode(blob=thin.blob)) == "missing_base"
            file = await share(alice, b"a file")
            assert await refused(bob, "share.apply", t.ApplyCode(blob=file.blob)) == "bundle_refused"
            lie = await share(alice, b"# v2 git bundle\n\nPACK", name="main", tip="ab" * 20)
            assert await refused(bob, "share.apply", t.ApplyCode(blob=lie.blob)) == "bundle_refused"
            assert await refused(bob, "share.apply", t.ApplyCode(blob="ab" * 32)) == "no_such_blob"
            assert other.refs() == {}

    run(main)


def test_only_a_window_has_the_daemon_touch_files(work: Work) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            brought = await bring(alice, b"x")
            for op, params in (
                ("share.send", t.SendFile(path="f")),
                ("share.push", t.PushCode()),
                ("share.fetch", t.FetchFile(blob=digest(b"x"), room=brought.room)),
                ("share.apply", t.ApplyCode(blob=digest(b"x"))),
            ):
                assert await refused(alice, op, params) == "window_only"

    run(main)


def test_bytes_that_the_rooms_home_does_not_have_right_leave_no_file(work: Work, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (tmp_path / "other").mkdir()
            alice, bob = await windows(served, work.folder, tmp_path / "other")
            shared = await share(alice, b"right")
            assert await fetch(bob, shared.blob) == b"right"
            for wrong in (b"wrong", b"", b"righ"):
                served.world.blobs.whole[shared.blob] = wrong  # type: ignore[attr-defined] # it is the fake
                assert await refused(bob, "share.fetch", t.FetchFile(blob=shared.blob)) == "blob_mismatch"
            assert os.listdir(tmp_path / "other") == []

    run(main)


def test_what_a_window_shares_is_looked_through_for_secrets_and_goes_all_the_same(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_S", 600.0)
    token = "ghp_" + "a1B2" * 9

    async def main() -> None:
        async with engine_world() as served:
            (tmp_path / "other").mkdir()
            alice, bob = await windows(served, work.folder, tmp_path / "other")
            work.commit(**{"config/prod.env": f"token={token}"})
            pushed = await alice.ask("share.push", t.PushCode(), t.SharedCode)
            assert [(each.path, each.kind) for each in pushed.secrets] == [("config/prod.env", "GitHub token")]
            assert (pushed.more_secrets, pushed.secrets_complete) == (0, True)
            work.write("notes", b"x" * 255_990 + b" " + token.encode() + b" " + b"y" * 300_000)
            shared = await alice.ask("share.send", t.SendFile(path="notes"), t.SharedFile)
            assert [(each.path, each.kind) for each in shared.secrets] == [("notes", "GitHub token")]
            assert len((await bob.recv(all=True, kind="file")).messages) == 1
            assert len((await bob.recv(all=True, kind="code")).messages) == 1
            monkeypatch.setattr(searching, "MAX_S", -1.0)
            shared = await alice.ask("share.send", t.SendFile(path="f"), t.SharedFile)
            assert (shared.secrets, shared.secrets_complete) == ([], False)

    run(main)
