"""The contracts that are served: what each promises stays as it was released, and holds for whoever asks by it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from parlerd.operations import contracts
from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT, CONTRACTS
from parlerd.web import describing
from parlerd.web.description import contract_file
from tests.support.contracts import breaks
from tests.support.engine import engine_world, run
from tests.support.http import minted, over_http

ASKED: Final = "Parler-Version"


def described(contract: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(contract_file(contract).read_bytes())
    return found


# -- what is promised --------------------------------------------------------------------------------------


def test_the_contract_of_today_is_the_last_of_at_most_two_and_whatever_came_before_is_frozen() -> None:
    assert list(CONTRACTS) == sorted(CONTRACTS)
    assert len(CONTRACTS) <= 2
    assert CONTRACTS[-1] == CONTRACT
    assert set(CONTRACTS[:-1]) <= describing.frozen().keys()
    files = {file.stem for file in contract_file(CONTRACT).parent.glob("*.json")}
    assert files == set(CONTRACTS)


def test_what_is_frozen_stays_as_it_was() -> None:
    for contract, digest in describing.frozen().items():
        if contract in CONTRACTS:
            assert describing.digest_of(contract) == digest, f"leave {contract}, and give `contracts` a new date"


def test_the_description_of_the_contract_of_today_is_what_the_registry_makes() -> None:
    written = contract_file(CONTRACT).read_text()
    assert written == describing.generate(), "run: python -m parlerd.web.describing"
    assert len(written) < 210_000
    refs = set(_refs(json.loads(written)))
    assert refs <= {f"#/components/schemas/{name}" for name in json.loads(written)["components"]["schemas"]}


def _refs(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for each in value.values() for ref in _refs(each)]
    return [ref for each in value for ref in _refs(each)] if isinstance(value, list) else []


def test_a_program_for_the_contract_before_goes_on() -> None:
    for before, later in pairwise(CONTRACTS):
        assert breaks(described(before), described(later)) == []


Change = Callable[[dict[str, Any]], object]
SEND: Final = "/v1/rooms/{room}/messages"


def _parameters(document: dict[str, Any], path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["paths"][path]["get"]["parameters"]
    return found


def _named(document: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    return next(each for each in _parameters(document, path) if each["name"] == name)


def _body(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][SEND]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return found


def _shape(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda new: new["paths"].pop("/v1/me"), "GET /v1/me is gone"),
        (lambda new: new["paths"][SEND].pop("post"), f"POST {SEND} is gone"),
        (lambda new: _parameters(new, SEND).pop(), "may not be sent any more"),
        (lambda new: _named(new, SEND, "limit").update(required=True), "has to be sent"),
        (lambda new: _named(new, SEND, "limit").update(schema={"type": "boolean"}), "and not ['boolean']"),
        (lambda new: _body(new)["properties"].pop("text"), "body: text: is not known"),
        (lambda new: _body(new).update(required=["text", "subject"]), "body: without ['subject']"),
        (lambda new: _body(new)["properties"]["text"].update(maxLength=10), "maxLength 10"),
        (lambda new: new["paths"][SEND]["post"].pop("requestBody"), "no body may be sent any more"),
        (lambda new: _shape(new, "Message")["properties"].pop("text"), "['text'] is gone"),
        (lambda new: _shape(new, "Message")["properties"].update(seq={"type": "string"}), "and not ['integer']"),
        (lambda new: _shape(new, "Message")["required"].remove("seq"), "without ['seq']"),
        (lambda new: _shape(new, "TokenInfo")["properties"]["kind"]["enum"].append("ax"), "but ['ax']"),
    ],
)
def test_a_change_that_would_stop_a_program_is_found(change: Change, said: str) -> None:
    old = described(CONTRACT)
    new = copy.deepcopy(old)
    change(new)
    found = breaks(old, new)
    assert any(said in what for what in found), found


@pytest.mark.parametrize(
    "change",
    [
        lambda new: new["paths"].update({"/v1/more": new["paths"]["/v1/me"]}),
        lambda new: _body(new)["properties"].update(more={"type": "string"}),
        lambda new: _body(new)["properties"]["text"].pop("maxLength", None),
        lambda new: _shape(new, "Message")["properties"].update(more={"type": "string"}),
        lambda new: _parameters(new, SEND).append(
            {"name": "more", "in": "query", "required": False, "schema": {"type": "string"}}
        ),
    ],
)
def test_more_than_there_was_stops_nobody(change: Change) -> None:
    old = described(CONTRACT)
    new = copy.deepcopy(old)
    change(new)
    assert breaks(old, new) == []


def test_a_frozen_contract_is_never_written_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, frozen = tmp_path / f"{CONTRACT}.json", tmp_path / "frozen.txt"
    frozen.touch()
    monkeypatch.setattr(describing, "FROZEN", frozen)
    monkeypatch.setattr(describing, "contract_file", lambda contract: tmp_path / f"{contract}.json")
    assert describing.main([]) is None
    assert describing.frozen() == {}
    assert describing.main(["--freeze"]) is None
    assert describing.frozen() == {CONTRACT: describing.digest_of(CONTRACT)}
    # A second time nothing is added, and what the registry makes now may stand there.
    assert describing.main(["--freeze"]) is None
    assert len(frozen.read_text().splitlines()) == 1
    was = file.read_bytes()
    monkeypatch.setattr(describing, "generate", lambda: "{}\n")
    assert "a new date" in str(describing.main([]))
    assert file.read_bytes() == was


# -- by which contract somebody is answered ----------------------------------------------------------------

BOTH: Final = CONTRACTS
"""That of today, and the one before."""


def test_each_answer_says_its_contract_and_that_is_the_one_asked_for() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice = await home.agent("alice")
            room = (await alice.open(approval=False)).room
            token = (await minted(alice)).token
            for contract in BOTH:
                asked = {ASKED: contract}
                for line in ("GET /v1/me", f"GET /v1/rooms/{room}/llms.txt", f"GET /rooms/{room}/state"):
                    answer = await web.ask(line, token=token, headers=asked)
                    assert (answer.status, answer.headers["parler-version"]) == (200, contract), line
                page = await web.ask("GET /openapi.json", headers=asked)
                assert page.document["info"]["version"] == page.headers["parler-version"] == contract
                assert page.headers["vary"] == ASKED
                same = {**asked, "If-None-Match": page.headers["etag"]}
                assert (await web.ask("GET /openapi.json", headers=same)).status == 304
            assert (await web.ask("GET /openapi.json")).document["info"]["version"] == CONTRACT
            for line in ("GET /v1/nothing", "GET /openapi.json?t=" + token):
                assert (await web.ask(line)).headers["parler-version"] == CONTRACT

    run(main)


@pytest.mark.parametrize("line", ["GET /v1/me", "GET /rooms", "GET /openapi.json", "POST /v1/joins"])
def test_another_contract_is_refused_with_those_there_are(line: str) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice = await home.agent("alice")
            await alice.open()
            token = (await minted(alice)).token
            if line == "POST /v1/joins":
                token = (await alice.ask("token.mint", t.MintToken(join=True), t.MintedToken)).token
            body = {"name": "nia"} if line.startswith("POST") else None
            for wanted in ("2020-01-01", "", "x" * 200):
                answer = await web.ask(line, body, token=token, headers={ASKED: wanted})
                error = answer.document["error"]
                assert answer.status == 400
                if line == "GET /rooms":
                    assert error == "unsupported_version"
                else:
                    assert (error["code"], error["details"]["versions"]) == ("unsupported_version", list(BOTH))
                    assert CONTRACT in error["hint"]

    run(main)


def test_whoever_names_none_is_answered_by_the_contract_of_the_tokens_day(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            alice = await home.agent("alice")
            await alice.open(approval=False)
            before, now = BOTH
            monkeypatch.setattr("parlerd.engine.minting.CONTRACT", before)
            old = (await minted(alice, access=("read", "mint"))).token
            # One that is noted nowhere is from before contracts were noted.
            monkeypatch.setattr("parlerd.engine.minting.CONTRACT", "")
            unnoted = (await minted(alice)).token
            monkeypatch.setattr("parlerd.engine.minting.CONTRACT", "2020-01-01")
            ended = (await minted(alice)).token
            monkeypatch.setattr("parlerd.engine.minting.CONTRACT", now)
            new = (await minted(alice)).token
            for token, contract in ((old, before), (unnoted, contracts.UNNOTED), (new, now)):
                answer = await web.ask("GET /v1/me", token=token)
                assert (answer.status, answer.headers["parler-version"]) == (200, contract)
            refused = await web.ask("GET /v1/me", token=ended)
            assert (refused.status, refused.code) == (400, "unsupported_version")
            named = await web.ask("GET /v1/me", token=ended, headers={ASKED: now})
            assert (named.status, named.headers["parler-version"]) == (200, now)
            # What is made of a token is of the day on which it is made, and so is what takes its place.
            child = (await web.ask("POST /v1/tokens", {"access": ["read"]}, token=old)).document["token"]
            assert (await web.ask("GET /v1/me", token=child)).headers["parler-version"] == now
            turned = (await web.ask("POST /v1/tokens/rotate", {}, token=old)).document
            assert turned.get("token"), turned
            assert (await web.ask("GET /v1/me", token=turned["token"])).headers["parler-version"] == now

    run(main)
