"""token mint, token list, token revoke and serve-http."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ERRORS, ParlerError
from parlerd.operations import types as t
from tests.support.cli import Shell

TEXT = "as_" + "T0kEn" * 9 + "abcd"
URL = "http://127.0.0.1:8756"
PLAIN = {"NO_COLOR": "1"}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def info(**more: Any) -> t.TokenInfo:
    said: dict[str, Any] = {
        "id": "tk_1",
        "agent": "bob",
        "room": "r_team",
        "access": ["read", "post"],
        "minted_at": 1_700_000_000_000,
        "expires_at": 1_702_592_000_000,
        "name": "team",
    }
    return t.TokenInfo(**{**said, **more})


def minted(url: str | None = None, **more: Any) -> t.MintedToken:
    return t.MintedToken(token=TEXT, info=info(**more), url=url)


# -- minting -----------------------------------------------------------------------------------------------


def test_a_token_is_told_once_on_a_line_of_its_own_with_whose_it_is_and_what_it_is_for(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted())
    for terminal in (False, True):
        # However narrow the terminal is: what is copied is never broken.
        ran = shell.run("--as", "bob", "token", "mint", terminal=terminal, width=40, env=PLAIN)
        assert ran.code == 0
        assert f"TOKEN={TEXT}" in ran.stdout.splitlines()
        assert (ran.stdout + ran.stderr).count(TEXT) == 1
        said = " ".join(ran.stdout.split())
        assert "A token of bob in 'team', told this once:" in said
        assert "It is tk_1, for read, post, until 2023-12-1" in said
    assert {name for name, _ in shell.daemon.opened} == {"bob"}


def test_a_room_without_a_name_is_named_by_its_id(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted(name=""))
    assert "A token of bob in 'r_team', told this once:" in shell.run("token", "mint").stdout


def test_nothing_is_asked_for_but_what_is_given_and_the_usual(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted())
    shell.run("token", "mint")
    flags = ["--room", "team", "--access", "post, read,,", "--days", "7", "--label", "the nightly run"]
    assert shell.run("token", "mint", *flags).code == 0
    assert shell.daemon.params_of("token.mint") == [
        t.MintToken(room=None, access=t.DEFAULT_ACCESS, days=t.DEFAULT_DAYS, label=""),
        t.MintToken(room="team", access=("post", "read"), days=7, label="the nightly run"),
    ]


def test_whoever_mints_for_a_relay_is_told_where_it_is_and_by_which_file_clients_trust_it(shell: Shell) -> None:
    file = "/home/ann/.parler/authorities/team 7f3k2q.pem"
    there = msgspec.structs.replace(minted("https://192.0.2.7:7777", agent="ci"), authority_file=file)
    shell.daemon.answers("token.mint", there)
    ran = shell.run("token", "mint", "--room", "team", "--name", "ci", env=PLAIN)
    assert ran.code == 0
    assert "URL: https://192.0.2.7:7777" in ran.stdout.splitlines()
    assert f"CA: {file}" in ran.stdout.splitlines()
    [call] = [line for line in ran.stderr.splitlines() if line.startswith("curl")]
    assert call.startswith(f"curl --cacert '{file}' ")
    assert call.endswith(" https://192.0.2.7:7777/v1/me")
    assert " -k" not in ran.stdout + ran.stderr
    assert "serve-http" not in ran.stderr
    assert shell.daemon.params_of("token.mint") == [t.MintToken(room="team", name="ci")]
    assert shell.run("token", "mint", "--here", "--name", "ci").code == 2


def test_whoever_mints_is_told_how_to_use_it_or_how_to_open_the_door_first(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted(), minted(URL))
    closed = shell.run("token", "mint")
    assert "parler serve-http" in closed.stderr.splitlines()
    assert "curl" not in closed.stderr
    opened = shell.run("token", "mint")
    assert f'curl -H "Authorization: Bearer $TOKEN" {URL}/v1/me' in opened.stderr.splitlines()
    assert "serve-http" not in opened.stderr


def test_a_script_gets_the_token_as_one_document(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted(URL, label="ci"))
    ran = shell.run("token", "mint", "--json")
    assert ran.document == msgspec.to_builtins(minted(URL, label="ci"))
    assert (ran.document["token"], ran.document["url"], ran.stderr) == (TEXT, URL, "")


def test_a_token_that_joins_is_minted_for_so_many_and_told_with_the_call_that_exchanges_it(shell: Shell) -> None:
    joins: dict[str, Any] = {"kind": "aj", "uses": 3, "uses_left": 3}
    shell.daemon.answers("token.mint", minted(URL, **joins), minted(None, **{**joins, "uses": 1}))
    ran = shell.run("token", "mint", "--join", "--room", "team", "--uses", "3")
    assert "A token to join 'team' with, told this once:" in ran.stdout
    assert "3 new agents come in with it, without your being asked." in ran.stderr
    assert f'"Authorization: Bearer $TOKEN" {URL}/v1/joins' in ran.stderr
    assert "One new agent comes in with it" in shell.run("token", "mint", "--join").stderr
    assert shell.daemon.params_of("token.mint") == [t.MintToken(room="team", join=True, uses=3), t.MintToken(join=True)]


def test_a_token_of_several_rooms_names_each(shell: Shell) -> None:
    several = info(kind="ah", rooms=["r_team", "r_annex"])
    shell.daemon.answers("token.mint", t.MintedToken(token=TEXT, info=several))
    ran = shell.run("token", "mint", "--room", "team", "--room", "annex")
    assert "A token of bob in 2 rooms, told this once:" in ran.stdout
    assert "acts as this agent in these rooms" in ran.stderr
    assert shell.daemon.params_of("token.mint") == [t.MintToken(rooms=("team", "annex"))]
    assert shell.run("token", "mint", "--join", "--room", "team", "--room", "annex").code == 2
    shell.daemon.answers("token.list", t.TokenList(tokens=[several]))
    assert "team and 1 more" in shell.run("token", "list").stdout


def test_a_token_of_an_invite_says_how_agents_come_in_with_it(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted(URL, kind="aj", uses=2, uses_left=2, invite="0123abcd"))
    ran = shell.run("token", "mint", "--invite", "A3KE7DJR", "--uses", "2")
    assert "A token to join 'team' with, told this once:" in ran.stdout
    said = " ".join(ran.stderr.split())
    assert "2 new agents come in with it by the invite, for as long as that lets anybody in." in said
    assert "without your being asked" not in said
    assert f"{URL}/v1/joins" in said
    assert shell.daemon.params_of("token.mint") == [t.MintToken(join=True, invite="A3KE7DJR", uses=2)]
    for wrong in (("--room", "team"), ("--opens", "1")):
        assert shell.run("token", "mint", "--invite", "A3KE7DJR", *wrong).code == 2


def test_a_person_who_wants_to_be_asked_about_each_is_told_where(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted(URL, kind="aj", uses=2, uses_left=2))
    ran = shell.run("token", "mint", "--join", "--room", "team", "--uses", "2", "--approval")
    assert "2 new agents come in with it, once you let them in: parler session approve NAME" in ran.stderr
    assert shell.daemon.params_of("token.mint") == [t.MintToken(room="team", join=True, uses=2, approval=True)]
    assert shell.run("token", "mint", "--approval").code == 2


def test_of_a_token_that_opens_rooms_at_a_relay_is_said_whose_they_are(shell: Shell) -> None:
    opens = info(kind="ah", rooms=["r_team"], opens=2, opens_left=2)
    minted = t.MintedToken(token=TEXT, info=opens, url="https://192.0.2.7:7777", authority_file="/home/ann/team.pem")
    shell.daemon.answers("token.mint", minted)
    ran = shell.run("token", "mint", "--opens", "2", "--room", "team")
    assert "Whoever has it opens 2 rooms at the relay, which are yours, and acts there." in ran.stderr
    assert "https://192.0.2.7:7777/v1/rooms" in ran.stderr


def test_a_token_that_opens_rooms_is_told_with_how_many_and_the_call_that_opens_one(shell: Shell) -> None:
    none_yet = info(kind="ah", room="", name="", opens=5, opens_left=5)
    some = info(kind="ah", rooms=["r_team"], opens=1, opens_left=0)
    shell.daemon.answers("token.mint", *(t.MintedToken(token=TEXT, info=each, url=URL) for each in (none_yet, some)))
    ran = shell.run("token", "mint", "--opens", "5")
    assert "A token of bob to open rooms with, told this once:" in ran.stdout
    assert "Whoever has it opens 5 rooms as this agent, and acts there." in ran.stderr
    assert f"{URL}/v1/rooms" in ran.stderr
    ran = shell.run("token", "mint", "--opens", "1", "--room", "team")
    assert "A token of bob in 'team', told this once:" in ran.stdout
    assert "acts as this agent in this room. Whoever has it opens one room as" in ran.stderr
    assert shell.daemon.params_of("token.mint") == [t.MintToken(opens=5), t.MintToken(room="team", opens=1)]
    assert shell.run("token", "mint", "--join", "--opens", "1").code == 2
    shell.daemon.answers("token.list", t.TokenList(tokens=[none_yet, some]))
    listed = " ".join(shell.run("token", "list").stdout.split())
    assert "acts, opens 5 of 5 rooms" in listed
    assert "acts, opens 0 of 1 rooms" in listed


def test_uses_are_those_of_a_token_that_joins(shell: Shell) -> None:
    ran = shell.run("token", "mint", "--uses", "3")
    assert (ran.code, shell.daemon.asked) == (2, [])
    assert "--join" in ran.stderr


@pytest.mark.parametrize("access", ["dance", "read,dance", "READ,dance", "read dance"])
def test_what_a_token_cannot_be_for_is_a_usage_error_that_says_what_it_can(shell: Shell, access: str) -> None:
    ran = shell.run("token", "mint", "--access", access)
    assert (ran.code, ran.stdout) == (2, "")
    assert "--access has no" in ran.stderr
    assert ", ".join(t.ACCESSES) in ran.stderr
    assert "parler help token mint" in ran.stderr
    again = shell.run("token", "mint", "--access", access, "--json")
    assert (again.code, again.document["error"]["code"]) == (2, "invalid_param")
    assert shell.daemon.asked == []


def test_what_is_no_number_is_a_usage_error_and_a_number_out_of_bounds_is_refused(shell: Shell) -> None:
    shell.daemon.answers("token.mint", minted())
    for days in ("x", "-1", "1.5"):
        assert shell.run("token", "mint", "--days", days).code == 2, days
    for days, said in (("0", "--days is at least 1."), ("181", "--days is at most 180.")):
        ran = shell.run("token", "mint", "--days", days)
        assert (ran.code, ran.stdout) == (1, "")
        assert said in ran.stderr
    assert shell.run("token", "mint", "--days", "180").code == 0
    assert "--label has at most 64 characters." in shell.run("token", "mint", "--label", "x" * 65).stderr


@pytest.mark.parametrize("code", ["no_such_room", "no_active_session", "too_many_tokens"])
def test_why_there_is_no_token_is_said(shell: Shell, code: str) -> None:
    shell.daemon.answers("token.mint", ParlerError(code))
    ran = shell.run("token", "mint", "--room", "nowhere")
    assert (ran.code, ran.stdout) == (1, "")
    assert ERRORS[code].message in " ".join(ran.stderr.split())
    assert shell.run("token", "mint", "--json").document["error"]["code"] == code


def test_a_daemon_that_goes_away_is_not_asked_for_a_second_token(shell: Shell) -> None:
    shell.daemon.answers("token.mint", ParlerError("connection_lost"), minted())
    assert shell.run("token", "mint").code == 3
    assert shell.daemon.ops() == ["token.mint"]


# -- those there are ---------------------------------------------------------------------------------------


def test_tokens_are_listed_with_all_that_tells_them_apart_and_never_their_texts(shell: Shell) -> None:
    found = t.TokenList(
        tokens=[
            info(label="nightly"),
            info(id="tk_2", agent="carol", name="", access=["state"], kind="aj", uses=2, uses_left=1),
        ]
    )
    shell.daemon.answers("token.list", found)
    ran = shell.run("token", "list")
    head, first, second = ran.stdout.splitlines()
    assert (ran.code, head.split()) == (0, ["id", "does", "agent", "room", "for", "until", "used", "label"])
    assert first.split()[:5] == ["tk_1", "acts", "bob", "team", "read,post"]
    assert first.split()[-1] == "nightly"
    assert second.split()[:9] == ["tk_2", "joins,", "1", "of", "2", "left", "carol", "r_team", "state"]
    on_terminal = shell.run("token", "list", terminal=True, env=PLAIN).stdout
    for text in ("tk_1", "tk_2", "bob", "carol", "nightly", "2023-12-1"):
        assert text in on_terminal, text
    assert shell.run("token", "list", "--json").document == msgspec.to_builtins(found)


def test_that_there_is_no_token_is_said_and_a_script_gets_an_empty_list(shell: Shell) -> None:
    shell.daemon.answers("token.list", t.TokenList(tokens=[]))
    ran = shell.run("token", "list")
    assert (ran.code, ran.stdout) == (0, "There is no token.\n")
    assert shell.run("token", "list", "--json").document == {"tokens": []}


def test_a_list_that_a_restart_cut_off_is_asked_for_again(shell: Shell) -> None:
    shell.daemon.answers("token.list", ParlerError("connection_lost"), t.TokenList(tokens=[info()]))
    assert "tk_1" in shell.run("token", "list").stdout


def test_hidden_characters_of_a_label_are_shown(shell: Shell) -> None:
    shell.daemon.answers("token.list", t.TokenList(tokens=[info(label="a\x1b[2Jb\u202ec\nd")]))
    for terminal in (False, True):
        printed = shell.run("token", "list", terminal=terminal, env=PLAIN).stdout
        for hidden in ("\x1b[2J", "\u202e", "c\nd"):
            assert hidden not in printed


# -- revoking ----------------------------------------------------------------------------------------------


def test_a_token_is_revoked_by_its_id(shell: Shell) -> None:
    shell.daemon.answers("token.revoke", t.RevokedToken(id="tk_1"))
    ran = shell.run("token", "revoke", "tk_1")
    assert (ran.code, ran.stdout) == (0, "Revoked: tk_1 opens nothing any more.\n")
    assert shell.run("token", "revoke", "tk_1", "--json").document == {"id": "tk_1"}
    assert shell.daemon.params_of("token.revoke") == [t.RevokeToken(id="tk_1")] * 2
    assert shell.run("token", "revoke").code == 2


def test_a_token_that_is_not_there_is_said_to_be_none(shell: Shell) -> None:
    shell.daemon.answers("token.revoke", ParlerError("no_such_token"))
    ran = shell.run("token", "revoke", "tk_none")
    assert (ran.code, ran.stdout) == (1, "")
    assert ERRORS["no_such_token"].message in " ".join(ran.stderr.split())
    assert shell.run("token", "revoke", "tk_none", "--json").document["error"]["code"] == "no_such_token"


# -- the door ----------------------------------------------------------------------------------------------


def test_the_door_is_opened_and_said_where_it_is(shell: Shell) -> None:
    shell.daemon.answers("http.serve", t.ServesHttp(url=URL))
    for terminal in (False, True):
        ran = shell.run("serve-http", terminal=terminal, width=40, env=PLAIN)
        assert ran.code == 0
        assert f"URL: {URL}" in ran.stdout.splitlines()
        assert "parler token mint --room ROOM" in ran.stderr.splitlines()
    shell.run("serve-http", "--port", "8756")
    assert shell.run("serve-http", "--json").document == {"url": URL, "open": False}
    asked = shell.daemon.params_of("http.serve")
    assert asked == [t.ServeHttp(), t.ServeHttp(), t.ServeHttp(port=8756), t.ServeHttp()]


def test_the_door_is_closed_with_stop(shell: Shell) -> None:
    shell.daemon.answers("http.serve", t.ServesHttp(url=None))
    ran = shell.run("serve-http", "--stop")
    assert (ran.code, ran.stdout) == (0, "This home does not answer over HTTP any more.\n")
    assert shell.run("serve-http", "--stop", "--json").document == {"url": None, "open": False}
    assert shell.daemon.params_of("http.serve") == [t.ServeHttp(stop=True)] * 2


def test_a_port_that_is_taken_or_is_none_is_said(shell: Shell) -> None:
    shell.daemon.answers("http.serve", ParlerError("port_taken"))
    ran = shell.run("serve-http", "--port", "8756")
    assert (ran.code, ran.stdout) == (1, "")
    assert ERRORS["port_taken"].message in " ".join(ran.stderr.split())
    for port in ("x", "-1"):
        assert shell.run("serve-http", "--port", port).code == 2, port
    assert "--port is at most 65535." in shell.run("serve-http", "--port", "70000").stderr


def test_the_commands_of_tokens_are_explained_together(shell: Shell) -> None:
    for words in (("token",), ("help", "token")):
        said = shell.run(*words).stdout
        for command in ("token mint", "token list", "token revoke"):
            assert command in said, words
