"""push, apply, send-file and fetch: what they ask, write, print and exit with."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parlerd.core import searching
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import ROOM, author, message, page
from tests.support.cli import Shell
from tests.support.git import Work, work_in

PIECE = 262_144
CANARY = "\x1b]52;c;eA==\x07../../.bashrc\u202e"


class Room:
    """A room that takes and gives files, behind a fake daemon."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.files: dict[str, bytes] = {}
        self.parts: dict[int, bytes] = {}
        """What came so far of each file that was handed over."""
        self.begun: list[int] = []
        """How many bytes were there already, before each piece that was fetched."""
        self.shared: list[t.ShareBlob] = []
        self.brings: dict[str, t.BlobInfo] = {}
        self.queued = False
        answers: dict[str, Callable[[Any], t.Result]] = {
            "blob.put": self.put,
            "blob.share": self._share,
            "blob.find": self._find,
            "blob.get": self._get,
        }
        for op, answer in answers.items():
            shell.daemon.answers(op, answer)

    def put(self, params: t.Params) -> t.BlobPut:
        """Take the next piece of what the command handed over."""
        assert isinstance(params, t.PutBlob)
        descriptor = self.shell.daemon.handed[params.file]
        size, at = os.fstat(descriptor).st_size, len(self.parts.get(params.file, b"")) + PIECE
        data = os.pread(descriptor, at, 0)
        self.parts[params.file] = data
        blob = hashlib.sha256(data).hexdigest() if len(data) == size else ""
        if blob:
            self.files[blob] = data
        return t.BlobPut(room=ROOM, offset=len(data), size=size, blob=blob)

    def _share(self, params: t.ShareBlob) -> t.SharedBlob:
        self.shared.append(params)
        code: dict[str, Any] = {"tip": params.tip} if params.tip else {}
        self.brings[params.blob] = t.BlobInfo(blob=params.blob, size=params.size, name=PeerText(params.name), **code)
        return t.SharedBlob(
            blob=params.blob,
            size=params.size,
            sha256=params.blob,
            room=ROOM,
            name="auth",
            id="m_9",
            seq=None if self.queued else 9,
            at=None if self.queued else 1,
            replayed=False,
            idempotency_key="k",
            queued=self.queued,
        )

    def hold(self, data: bytes, name: str = "report", **about: Any) -> str:
        blob = hashlib.sha256(data).hexdigest()
        self.files[blob] = data
        self.brings[blob] = t.BlobInfo(blob=blob, size=len(data), name=PeerText(name), **about)
        return blob

    def _find(self, params: t.FindBlob) -> t.FoundBlob:
        if params.blob not in self.brings:
            raise Refused("no_such_blob")
        return t.FoundBlob(
            brings=self.brings[params.blob],
            room=ROOM,
            name="auth",
            id="m_9",
            seq=9,
            at=1,
            author=author("bob"),
            note=PeerText(""),
        )

    def _get(self, params: t.GetBlob) -> t.BlobAt:
        """Write the next piece to what the command handed over."""
        descriptor = self.shell.daemon.handed[params.file]
        data, at = self.files[params.blob], os.fstat(descriptor).st_size
        self.begun.append(at)
        os.pwrite(descriptor, data[at : at + PIECE], at)
        at = min(at + PIECE, len(data))
        if at == len(data) and hashlib.sha256(os.pread(descriptor, at + 1, 0)).hexdigest() != params.blob:
            raise Refused("blob_mismatch")
        return t.BlobAt(room=ROOM, offset=at)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture
def room(shell: Shell) -> Room:
    return Room(shell)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A work tree in which commands are run."""
    work = work_in(tmp_path / "work")
    monkeypatch.chdir(work.folder)
    return work


# -- files -------------------------------------------------------------------------------------------------


def test_a_file_goes_in_pieces_and_the_command_to_fetch_it_is_printed_alone(
    shell: Shell, room: Room, here: Path
) -> None:
    data = os.urandom(600_000)
    (here / "report.pdf").write_bytes(data)
    ran = shell.run(
        "send-file", "report.pdf", "--room", "auth", "--note", "read it", "--to", "bob", "--visible-to", "bob"
    )
    blob = hashlib.sha256(data).hexdigest()
    assert ran.code == 0
    assert ran.stdout.splitlines() == [
        "Shared as #9 with 'auth': report.pdf, 600 kB.",
        "Others fetch it with:",
        f"parler fetch {blob}",
    ]
    assert room.files[blob] == data
    (shared,) = room.shared
    assert (shared.name, shared.text, shared.to, shared.visible_to) == ("report.pdf", "read it", ("bob",), ("bob",))
    assert shell.daemon.params_of("blob.put") == [t.PutBlob(file=0, room="auth")] * 3


def test_a_file_is_handed_over_anew_once_where_the_daemon_went_away(shell: Shell, room: Room, here: Path) -> None:
    data = os.urandom(600_000)
    (here / "f").write_bytes(data)
    lost = ParlerError("connection_lost")
    shell.daemon.answers("blob.put", lost, room.put)
    assert shell.run("send-file", "f").code == 0
    assert list(room.files.values()) == [data]
    assert shell.daemon.params_of("blob.put") == [t.PutBlob(file=0)] * 2 + [t.PutBlob(file=1)] * 3
    shell.daemon.answers("blob.put", lost)
    ran = shell.run("send-file", "f", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "connection_lost")
    assert len(shell.daemon.handed) == 4


def test_the_document_of_a_file_has_its_digest_and_its_message(shell: Shell, room: Room, here: Path) -> None:
    (here / "f").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    document = shell.run("send-file", "f", "--json", "--key", "k7").document
    assert {name: document[name] for name in ("blob", "sha256", "size", "room", "id", "seq", "queued")} == {
        "blob": digest, "sha256": digest, "size": 1, "room": ROOM, "id": "m_9", "seq": 9, "queued": False,
    }  # fmt: skip
    assert room.shared[0].idempotency_key == "k7"


def test_what_is_no_regular_file_is_not_shared(shell: Shell, room: Room, here: Path) -> None:
    os.mkfifo(here / "pipe")
    (here / "shut").write_bytes(b"x")
    for name in ("pipe", ".", "missing"):
        ran = shell.run("send-file", name, "--json")
        assert (ran.code, ran.document["error"]["code"]) == (1, "file_refused")
    assert shell.daemon.ops() == []


def test_a_message_that_waits_for_a_relay_is_not_called_shared(shell: Shell, room: Room, here: Path) -> None:
    (here / "f").write_bytes(b"x")
    room.queued = True
    assert shell.run("send-file", "f").stdout.startswith("Not shared yet with 'auth': f, 1 byte. It is stored on this")


def test_a_file_is_written_where_the_receiver_says_and_under_no_name_of_its_sender(
    shell: Shell, room: Room, here: Path
) -> None:
    blob = room.hold(b"data" * 100_000, CANARY)
    ran = shell.run("fetch", blob)
    assert ran.code == 0
    assert [path.name for path in here.iterdir()] == [f"parler-{blob[:16]}"]
    assert "\x1b" not in ran.stdout
    assert "\u202e" not in ran.stdout
    (here / "folder").mkdir()
    assert shell.run("fetch", blob, "-o", "folder").code == 0
    assert (here / "folder" / f"parler-{blob[:16]}").read_bytes() == b"data" * 100_000
    document = shell.run("fetch", blob, "-o", "mine.bin", "--json").document
    assert document == {"blob": blob, "size": 400_000, "sha256": blob, "path": "mine.bin"}
    assert stat.S_IMODE((here / "mine.bin").stat().st_mode) & 0o111 == 0


def test_what_is_there_already_is_replaced_only_where_that_is_said(shell: Shell, room: Room, here: Path) -> None:
    blob = room.hold(b"new")
    outside = here.parent / "outside"
    outside.write_bytes(b"outside")
    (here / "there").write_bytes(b"old")
    (here / "link").symlink_to(outside)
    (here / "dangling").symlink_to(here.parent / "nowhere")
    for name in ("there", "link", "dangling"):
        ran = shell.run("fetch", blob, "-o", name, "--json")
        assert (ran.code, ran.document["error"]["code"]) == (1, "target_exists")
    assert ((here / "there").read_bytes(), outside.read_bytes()) == (b"old", b"outside")
    for name in ("there", "link"):
        assert shell.run("fetch", blob, "-o", name, "--force").code == 0
        assert (here / name).read_bytes() == b"new"
    assert outside.read_bytes() == b"outside"
    assert not (here.parent / "nowhere").exists()


def test_bytes_that_are_not_the_ones_that_were_shared_leave_no_file(shell: Shell, room: Room, here: Path) -> None:
    blob = room.hold(b"right")
    for wrong in (b"wrong", b"righ"):
        room.files[blob] = wrong
        ran = shell.run("fetch", blob, "--json")
        assert (ran.code, ran.document["error"]["code"]) == (1, "blob_mismatch")
        assert list(here.iterdir()) == []


def test_a_fetch_that_broke_off_goes_on_where_it_stopped(shell: Shell, room: Room, here: Path) -> None:
    blob = room.hold(b"0123456789")
    (here / f".{blob[:16]}.parler-part").write_bytes(b"01234")
    assert shell.run("fetch", blob, "-o", "f").code == 0
    assert room.begun == [5]
    assert (here / "f").read_bytes() == b"0123456789"
    (here / f".{blob[:16]}.parler-part").write_bytes(b"longer than the file is")
    assert shell.run("fetch", blob, "-o", "g").code == 0
    assert (here / "g").read_bytes() == b"0123456789"


def test_a_link_in_the_place_of_the_unfinished_file_is_not_followed(shell: Shell, room: Room, here: Path) -> None:
    blob = room.hold(b"new")
    outside = here.parent / "outside"
    outside.write_bytes(b"")
    (here / f".{blob[:16]}.parler-part").symlink_to(outside)
    ran = shell.run("fetch", blob, "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "file_refused")
    (here / f".{blob[:16]}.parler-part").unlink()
    os.link(outside, here / f".{blob[:16]}.parler-part")
    ran = shell.run("fetch", blob, "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "file_refused")
    assert outside.read_bytes() == b""


def test_what_nobody_shared_is_an_error(shell: Shell, room: Room, here: Path) -> None:
    for command in ("fetch", "apply"):
        ran = shell.run(command, "ab" * 32, "--json")
        assert ran.code == 1
        assert ran.document["error"]["code"] in ("no_such_blob", "no_repository")


# -- code --------------------------------------------------------------------------------------------------


def test_pushed_commits_are_taken_in_elsewhere(shell: Shell, room: Room, work: Work, tmp_path: Path) -> None:
    work.commit(f="1")
    tip = work.commit(f="2")
    document = shell.run("push", "--json").document
    assert document["refs"] == [{"ref": "main", "tip": tip}]
    assert (document["complete"], document["left_out"], document["more_left_out"], document["base"]) == (
        True,
        [],
        0,
        None,
    )
    assert document["size"] == len(room.files[document["blob"]])
    (shared,) = room.shared
    assert (shared.name, shared.tip, shared.base, shared.left_out) == ("main", tip, "", 0)
    other = work_in(tmp_path / "other")
    os.chdir(other.folder)
    applied = shell.run("apply", document["blob"], "--json").document
    assert applied == {"ref": f"refs/parler/{document['blob'][:16]}", "tip": tip, "blob": document["blob"], "new": True}
    assert other.refs() == {applied["ref"]: tip}
    again = shell.run("apply", document["blob"])
    assert again.stdout.splitlines()[0] == f"Taken in before: main at {tip[:12]}, from bob."
    assert again.stdout.splitlines()[-2:] == [f"git log {applied['ref']}", f"git merge {applied['ref']}"]


def test_what_was_left_out_is_listed_and_never_called_a_success(shell: Shell, room: Room, work: Work) -> None:
    work.commit(f="1")
    for number in range(12):
        work.write(f"n{number:02}\u202e", "1")
    ran = shell.run("push", "--note", "look")
    lines = ran.stdout.splitlines()
    assert ran.code == 0
    assert lines[0].startswith("Shared in part as #9 with 'auth': main at ")
    assert "It is not everything: 12 paths are left out." in lines
    assert sum("(not committed)" in line for line in lines) == 10
    assert "\u202e" not in ran.stdout
    assert "and 2 more" in ran.stderr
    assert "parler push --worktree" in ran.stderr
    document = shell.run("push", "--json").document
    assert not document["complete"]
    assert document["left_out"][0]["why"] == "uncommitted"
    assert [each.left_out for each in room.shared] == [12, 12]


def test_uncommitted_changes_and_a_base_are_asked_for_by_flags(shell: Shell, room: Room, work: Work) -> None:
    base = work.commit(f="1")
    work.write("g", "1")
    document = shell.run("push", "HEAD", "--base", "main", "--worktree", "--json").document
    assert (document["base"], document["complete"]) == (base, True)
    assert work.git("rev-parse", "main") == base
    assert room.shared[0].base == base


def test_without_a_repository_or_a_commit_nothing_is_asked_of_the_daemon(shell: Shell, room: Room, here: Path) -> None:
    assert shell.run("push", "--json").document["error"]["code"] == "no_repository"
    assert shell.run("apply", "ab" * 32, "--json").document["error"]["code"] == "no_repository"
    work = work_in(here / "empty")
    os.chdir(work.folder)
    ran = shell.run("push", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "no_such_ref")
    assert shell.daemon.ops() == []


def test_a_file_is_not_applied_and_a_bundle_that_lies_is_refused(shell: Shell, room: Room, work: Work) -> None:
    work.commit(f="1")
    before = work.refs()
    file = room.hold(b"a file")
    lie = room.hold(b"# v2 git bundle\n" + b"ab" * 20 + b" x\n\nPACK", tip="cd" * 20)
    for blob, what in ((file, "kind"), (lie, "tip")):
        ran = shell.run("apply", blob, "--json")
        assert (ran.code, ran.document["error"]["code"], ran.document["error"]["details"]) == (
            1, "bundle_refused", {"what": what},
        )  # fmt: skip
    assert work.refs() == before


# -- secrets -----------------------------------------------------------------------------------------------

TOKEN = "ghp_" + "a1B2" * 9


def test_a_push_names_where_what_looks_like_a_secret_stands_before_it_goes_and_goes(
    shell: Shell, room: Room, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_S", 600.0)
    work.commit(**{"config/prod.env": f"token={TOKEN}", "\x1b[2Jx": f"t={TOKEN}"})
    ran = shell.run("push")
    lines = ran.stdout.splitlines()
    assert lines[0] == "What looks like a secret goes along, in 2 places:"
    assert "  config/prod.env (GitHub token)" in lines
    assert any(line.startswith("Shared as #9") for line in lines[3:])
    assert "change it where it was issued" in ran.stderr
    assert TOKEN not in ran.stdout + ran.stderr
    assert "\x1b" not in ran.stdout
    document = shell.run("push", "--json").document
    assert {"path": "config/prod.env", "kind": "GitHub token"} in document["secrets"]
    assert (len(document["secrets"]), document["more_secrets"], document["secrets_complete"]) == (2, 0, True)
    assert len(room.shared) == 2


def test_a_push_without_a_secret_says_nothing_of_any(
    shell: Shell, room: Room, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_S", 600.0)
    work.commit(f="1")
    ran = shell.run("push")
    assert "secret" not in ran.stdout + ran.stderr
    assert shell.run("push", "--json").document["secrets"] == []


def test_a_file_is_looked_through_like_code(
    shell: Shell, room: Room, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_S", 600.0)
    (here / "notes.bin").write_bytes(os.urandom(300_000) + b" " + TOKEN.encode() + b" \xff")
    ran = shell.run("send-file", "notes.bin")
    assert "  notes.bin (GitHub token)" in ran.stdout.splitlines()
    secrets = shell.run("send-file", "notes.bin", "--json").document["secrets"]
    assert secrets == [{"path": "notes.bin", "kind": "GitHub token"}]


def test_what_was_not_looked_through_whole_is_said(
    shell: Shell, room: Room, here: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_S", -1.0)
    work.commit(f="1")
    assert "Not everything was looked through for secrets" in shell.run("push").stderr
    assert shell.run("push", "--json").document["secrets_complete"] is False
    work.write("f", "2")
    assert shell.run("send-file", "f", "--json").document["secrets_complete"] is False


# -- messages ----------------------------------------------------------------------------------------------


def test_a_message_says_what_it_brings_and_how_to_get_it(shell: Shell) -> None:
    file = t.BlobInfo(blob="ab" * 32, size=1_500_000, name=PeerText(CANARY))
    code = t.BlobInfo(blob="cd" * 32, size=900, name=PeerText("main"), tip="ef" * 20, base="01" * 20, left_out=2)
    shell.daemon.answers(
        "message.recv",
        page(
            message("the report", kind="file", brings=file),
            message("", kind="code", brings=code),
        ),
    )
    shell.daemon.answers("message.commit", t.Committed(room=ROOM, cursor="2"))
    said = shell.run("recv").stdout
    assert "\x1b" not in said
    lines = said.splitlines()
    assert f"parler fetch {'ab' * 32}" in lines
    assert f"parler apply {'cd' * 32}" in lines
    assert "  code of main, 900 bytes, at efefefefefef, on 010101010101, 2 paths left out" in lines
    assert any("the report" in line for line in lines)


def test_code_that_goes_along_with_a_hand_off_is_shown_with_the_command_that_takes_it(shell: Shell) -> None:
    code = t.BlobInfo(blob="cd" * 32, size=900, name=PeerText(CANARY), tip="ef" * 20)
    offered = t.Handoff(next=PeerText("merge"), summary=PeerText(""), to_you=True, status="offered")
    shell.daemon.answers("message.recv", page(message("", kind="handoff", handoff=offered, brings=code)))
    shell.daemon.answers("message.commit", t.Committed(room=ROOM, cursor="1"))
    said = shell.run("recv").stdout
    assert "\x1b" not in said
    lines = said.splitlines()
    assert any(line.startswith("  code of ") and line.endswith(", 900 bytes, at efefefefefef") for line in lines)
    assert f"parler apply {'cd' * 32}" in lines


def test_an_error_of_the_daemon_is_the_commands(shell: Shell, here: Path) -> None:
    (here / "f").write_bytes(b"x")
    shell.daemon.answers("blob.put", ParlerError("blob_too_large", limit=0))
    ran = shell.run("send-file", "f", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "blob_too_large")
