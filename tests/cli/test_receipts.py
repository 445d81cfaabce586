"""receipt show, receipt verify, receipt keys and audit: what they ask, print and exit with."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from parlerd.cli.commands import COMMANDS
from parlerd.cli.main import handler_of
from parlerd.core.errors import Refused
from parlerd.core.receipts import Numbered, Opening, Receipt, content_of, text
from parlerd.identity import receipt_checks
from parlerd.identity.notes import signed_note
from parlerd.identity.receipt_checks import Checked
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from tests.identity.test_notes import HOME, OTHER, receipt
from tests.support.cli import Shell
from tests.support.pages import ROOT

OPENING = Opening(b"salt", b"event")
CONTENT = content_of(OPENING.salt, OPENING.event, None)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.daemon.answers("receipt.keys", t.ReceiptKeys(keys=[t.ReceiptKey(id=HOME.id, name="local")]))
    return shell


def given(**about: Any) -> t.ReceiptGiven:
    said: Receipt = receipt()._replace(content=CONTENT, kind="state_written", **about)
    opening = t.ReceiptOpening(salt=OPENING.salt, event=OPENING.event)
    return t.ReceiptGiven(room="r_1", fact="m_1", receipt=signed_note(HOME, text(said)), opening=opening)


def saved(tmp_path: Path, found: t.ReceiptGiven, name: str = "receipt.json") -> str:
    path = tmp_path / name
    path.write_bytes(msgspec.json.encode(found))
    return str(path)


def test_a_receipt_is_shown_as_it_is_and_as_json_with_its_content(shell: Shell) -> None:
    shell.daemon.answers("receipt.get", given())
    ran = shell.run("receipt", "show", "12", "--room", "team", terminal=True)
    assert (ran.code, ran.stdout) == (0, given().receipt)
    assert shell.daemon.asked[-1].params == t.GetReceipt(id="12", room="team")
    assert json.loads(shell.run("receipt", "show", "12", "--json").stdout)["opening"]["event"] == "ZXZlbnQ="


def test_a_receipt_is_exported_with_what_was_signed_about_its_author(shell: Shell) -> None:
    proof = t.AuthorProof(opening=b"opening", opening_signature=bytes(64))
    shell.daemon.answers("receipt.get", msgspec.structs.replace(given(), author=proof))
    for words in ((), ("--json",)):
        ran = shell.run("receipt", "export", "12", *words, terminal=not words)
        assert shell.daemon.asked[-1].params == t.GetReceipt(id="12", proof=True)
        assert json.loads(ran.stdout)["author"]["opening"] == "b3BlbmluZw=="


def test_what_is_valid_says_what_it_says_and_what_it_does_not(shell: Shell, tmp_path: Path) -> None:
    ran = shell.run("receipt", "verify", saved(tmp_path, given()), terminal=True)
    assert ran.code == 0
    said = " ".join((ran.stdout + ran.stderr).split())
    for part in ("valid", "bob did message.send", HOME.id, "The content is beside it.", "or that the home told"):
        assert part in said


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda found: found.replace(b"stage stored", b"stage complete"), "bad_signature"),
        (lambda found: found.replace(b"ZXZlbnQ=", b"b3RoZXI="), "digest_mismatch"),
        (lambda found: found.replace(b"parler/receipt v1", b"parler/receipt v2"), "not_a_receipt"),
        (lambda found: b"", "not_a_receipt"),
    ],
)
def test_what_is_wrong_is_named_and_exits_1(shell: Shell, tmp_path: Path, change: Any, verdict: str) -> None:
    path = Path(saved(tmp_path, given()))
    path.write_bytes(change(path.read_bytes()))
    ran = shell.run("receipt", "verify", str(path), terminal=True)
    assert ran.code == 1
    assert verdict in ran.stdout
    entry = json.loads(shell.run("receipt", "verify", str(path), "--json").stdout)["receipts"][0]
    assert entry["verdict"] == verdict


def test_a_home_is_trusted_where_it_is_named_and_then_no_daemon_is_asked(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path, given())
    ran = shell.run("receipt", "verify", "--key", OTHER.id, path)
    assert (ran.code, "unknown_key" in ran.stdout) == (1, True)
    assert shell.run("receipt", "verify", "--key", OTHER.id, "--key", HOME.id, path).code == 0
    assert shell.daemon.asked == []


def test_a_receipt_that_is_missing_between_two_shows(shell: Shell, tmp_path: Path) -> None:
    one = saved(tmp_path, given(numbered=Numbered(1, bytes(32)), fact="f_1"), "one")
    five = saved(tmp_path, given(numbered=Numbered(5, bytes(32)), fact="f_5"), "five")
    ran = shell.run("receipt", "verify", one, five, terminal=True, width=200)
    assert ran.code == 1
    assert "chain_gap: f_5 is number 5, and 3 before it are not here." in ran.stdout
    found = json.loads(shell.run("receipt", "verify", five, one, "--json").stdout)
    assert found["gaps"] == [{"fact": "f_5", "number": 5, "missing": 3}]
    two = saved(tmp_path, given(numbered=Numbered(2, bytes(32)), fact="f_2"), "two")
    assert "it does not follow the one before it" in shell.run("receipt", "verify", one, two, width=200).stdout


def test_a_receipt_is_read_from_standard_input_and_a_file_that_is_none_is_named(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("receipt", "verify", "-", stdin=given().receipt.encode()).code == 0
    for name, said in ((str(tmp_path / "none"), "cannot be read"), ("a\0b", "zero byte")):
        ran = shell.run("receipt", "verify", name)
        assert (ran.code, said in ran.stderr) == (2, True)


def test_the_keys_are_listed(shell: Shell) -> None:
    assert HOME.id in shell.run("receipt", "keys", terminal=True, width=200).stdout
    assert json.loads(shell.run("receipt", "keys", "--json").stdout)["keys"][0]["name"] == "local"


def test_an_audit_goes_through_every_log_to_its_end(shell: Shell) -> None:
    shell.daemon.answers("log.list", t.LogList(rooms=["home", "r_1"]))
    shell.daemon.answers(
        "log.audit",
        t.AuditedRoom(room="home", upto=5, end=5),
        t.AuditedRoom(room="r_1", upto=5000, end=7000),
        t.AuditedRoom(room="r_1", upto=7000, end=7000),
    )
    ran = shell.run("audit", terminal=True)
    assert (ran.code, "7005 facts in 2 logs" in ran.stdout) == (0, True)
    asked = [each.params for each in shell.daemon.asked if each.op == "log.audit"]
    assert asked == [
        t.AuditRoom(room="home"),
        t.AuditRoom(room="r_1"),
        t.AuditRoom(room="r_1", after=5000),
    ]


def test_an_audit_ends_at_the_first_that_is_wrong(shell: Shell) -> None:
    shell.daemon.answers("log.audit", *[t.AuditedRoom(room="r_1", upto=7, end=9, fact=7, wrong="own_line")] * 2)
    ran = shell.run("audit", "--room", "r_1", terminal=True, width=200)
    assert ran.code == 1
    assert "the fact 7 does not go on from the one before it" in ran.stdout
    found = json.loads(shell.run("audit", "--room", "r_1", "--json").stdout)
    assert found == {"ok": False, "wrong": {"room": "r_1", "fact": 7, "what": "own_line"}}


# -- the program in the docs -------------------------------------------------------------------------------


def program_of_the_page(tmp_path: Path) -> Path:
    """The program in the docs, as a file."""
    page = (ROOT / "docs" / "receipts.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", page, re.S)
    assert found is not None
    program = found[1]
    assert len(program.splitlines()) <= 64
    assert set(re.findall(r"^(?:from|import) (.*)$", program, re.M)) == {
        "base64, hashlib, json, sys",
        "nacl.exceptions import BadSignatureError",
        "nacl.signing import VerifyKey",
    }
    path = tmp_path / "verify.py"
    path.write_text(program, encoding="utf-8")
    return path


def _said(program: Path, file: str, home: str) -> tuple[int, str]:
    ran = subprocess.run([sys.executable, "-I", program, file, home], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout.strip() or ran.stderr


def test_the_program_of_the_page_finds_what_the_command_finds(tmp_path: Path) -> None:
    program = program_of_the_page(tmp_path)
    path = Path(saved(tmp_path, given()))
    whole = path.read_bytes()
    assert _said(program, str(path), HOME.id) == (0, "valid")
    assert _said(program, str(path), OTHER.id) == (1, "unknown_key")
    for old, new, verdict in (
        (b"stage stored", b"stage complete", "bad_signature"),
        (b"ZXZlbnQ=", b"b3RoZXI=", "digest_mismatch"),
        (b"parler/receipt v1", b"parler/receipt v2", "not_a_receipt"),
    ):
        path.write_bytes(whole.replace(old, new))
        assert _said(program, str(path), HOME.id) == (1, verdict)


# -- lists -------------------------------------------------------------------------------------------------


def test_what_was_done_is_listed_and_where_to_go_on(shell: Shell) -> None:
    entry = t.ReceiptEntry(fact="m_1", operation="message.send", at=1_795_860_000_000, number=4)
    older = msgspec.structs.replace(entry, fact="m_0", number=None)
    found = t.ReceiptList(room="r_1", receipts=[entry, older], before="PLACE")
    shell.daemon.answers("receipt.list", found, found, msgspec.structs.replace(found, receipts=[], before=""))
    ran = shell.run("receipt", "list", "--room", "my room", "--limit", "1000", terminal=True)
    assert ran.code == 0
    assert re.search(r"m_1 +.*4 +.*message\.send", ran.stdout)
    assert "parler receipt list --before=PLACE --room 'my room'" in ran.stderr
    assert shell.daemon.asked[-1].params == t.ListReceipts(room="my room", limit=t.MAX_LISTED)
    document = json.loads(shell.run("receipt", "list", "--before", "PLACE", "--json").stdout)
    assert (document["receipts"][1]["number"], document["before"]) == (None, "PLACE")
    assert shell.daemon.asked[-1].params == t.ListReceipts(before="PLACE")
    assert "nothing" in shell.run("receipt", "list", terminal=True).stdout


def test_the_command_that_goes_on_is_good_whatever_the_place(shell: Shell) -> None:
    found = t.ReceiptList(room="r_1", receipts=[], before="-PLACE_")
    shell.daemon.answers("receipt.list", found, found)
    ran = shell.run("receipt", "list", terminal=True)
    assert "looked through" in ran.stdout
    (line,) = [line for line in ran.stderr.splitlines() if "--before" in line]
    assert shell.run(*shlex.split(line)[1:]).code == 0
    assert shell.daemon.asked[-1].params == t.ListReceipts(before="-PLACE_")


# -- with what is done -------------------------------------------------------------------------------------

SENT: Final = t.Sent(
    room="r_1", id="m_1", seq=1, at=0, replayed=False, idempotency_key="k", receipt=t.ReceiptRef(fact="m_1")
)
GIVES: Final = {command.path for command in COMMANDS if handler_of(command).gives_receipt}


def test_the_commands_that_bring_a_receipt_along_are_those_whose_answers_name_one() -> None:
    named = {tuple(each.command.split()[1:]) for each in OPERATIONS.values() if each.command and each.has_receipt}
    # Commits are shared by what brings any file.
    assert named | {("push",)} == GIVES
    assert OPERATIONS["blob.share"].has_receipt


def test_a_receipt_comes_along_with_what_is_done(shell: Shell) -> None:
    shell.daemon.answers(
        "message.send", *[msgspec.structs.replace(SENT, receipt=t.ReceiptRef(fact="m_1", number=4))] * 3
    )
    shell.daemon.answers("receipt.get", *[given()] * 2)
    ran = shell.run("send", "hello", "--receipt", terminal=True)
    assert ran.code == 0
    assert ran.stdout.endswith("\n\n" + given().receipt)
    assert shell.daemon.asked[-1].params == t.GetReceipt(id="m_1", room="r_1")
    document = json.loads(shell.run("send", "hello", "--receipt", "--json").stdout)
    assert document["receipt"] == {"fact": "m_1", "number": 4, "text": given().receipt}
    asked = len(shell.daemon.asked)
    assert "text" not in json.loads(shell.run("send", "hello", "--json").stdout)["receipt"]
    assert [each.op for each in shell.daemon.asked[asked:]] == ["message.send"]


def test_what_is_done_is_done_also_where_no_receipt_can_be_had_now(shell: Shell) -> None:
    shell.daemon.answers("message.send", *[SENT] * 2)
    shell.daemon.answers("receipt.get", *[Refused("home_unreachable")] * 2)
    ran = shell.run("send", "hello", "--receipt", terminal=True)
    assert (ran.code, "parler receipt show m_1" in ran.stderr) == (0, True)
    ran = shell.run("send", "hello", "--receipt", "--json")
    assert (ran.code, json.loads(ran.stdout)["receipt"]) == (0, {"fact": "m_1"})


def test_what_waits_to_be_sent_has_no_receipt_yet(shell: Shell) -> None:
    shell.daemon.answers(
        "message.send", msgspec.structs.replace(SENT, seq=None, at=None, queued=True, receipt=msgspec.UNSET)
    )
    ran = shell.run("send", "hello", "--receipt", terminal=True)
    assert ran.code == 0
    assert [each.op for each in shell.daemon.asked] == ["message.send"]


def test_what_a_message_says_is_shown_as_text_of_others_beside_the_verdict(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Checked("valid", receipt(), is_opened=True, is_authored=True, text="one\x1b[2K\ntwo")
    monkeypatch.setattr(receipt_checks, "check", lambda data, trusted: found)
    ran = shell.run("receipt", "verify", saved(tmp_path, given()), terminal=True)
    said = ran.stdout.splitlines()
    at = said.index("It says:")
    assert [line.split("│")[1].strip() for line in said[at + 1 : at + 3]] == [r"one\x1b[2K", "two"]
    entry = json.loads(shell.run("receipt", "verify", saved(tmp_path, given()), "--json").stdout)["receipts"][0]
    assert entry["text"] == "one\x1b[2K\ntwo"
    monkeypatch.setattr(receipt_checks, "check", lambda data, trusted: found._replace(text=None, is_sealed=True))
    ran = shell.run("receipt", "verify", saved(tmp_path, given()), terminal=True)
    assert "the key that opens it is not beside it" in ran.stderr
