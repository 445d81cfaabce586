"""Files over HTTP: brought as a body, shared by a message, fetched as an attachment."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from parlerd.operations import types as t
from parlerd.web.door import BODY_S, MAX_BODY, MAX_FILE
from tests.support.engine import Party, Served, engine_world, run
from tests.support.files import digest, fetch
from tests.support.http import NAME, Answer, Client, OverHttp, minted, over_http

DATA = bytes(range(256)) * 8_192
"""Two megabytes, which no other body may have."""


@dataclass
class House:
    home: Served
    web: OverHttp
    alice: Party
    bob: Party
    room: str
    token: str
    id: str

    async def bring(self, data: bytes, token: str = "") -> Answer:
        return await self.web.ask(f"PUT /v1/rooms/{self.room}/blobs", data, token=token or self.token)

    async def begin(self, size: int) -> Client:
        """An upload of which nothing came yet."""
        client = self.web.connect()
        lines = (f"PUT /v1/rooms/{self.room}/blobs HTTP/1.1", f"Host: {NAME}", f"Authorization: Bearer {self.token}")
        await client.stream.send_all("\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode())
        return client


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with engine_world() as home, over_http(home) as web:
        alice, bob = await home.room("alice", "bob")
        token = await minted(bob)
        yield House(home, web, alice, bob, token.info.room, token.token, token.info.id)


def open_files() -> int:
    # What tests before this one left in cycles is closed now, and not at some moment in between.
    gc.collect()
    return len(os.listdir("/dev/fd"))


def test_a_file_is_brought_shared_and_fetched() -> None:
    assert len(DATA) > MAX_BODY

    async def main() -> None:
        async with house() as at:
            before = open_files()
            brought = await at.bring(DATA)
            assert brought.status == 201
            assert (brought.document["blob"], brought.document["size"]) == (digest(DATA), len(DATA))
            said = {"blob": digest(DATA), "size": len(DATA), "name": "report.pdf", "text": "the report"}
            shared = await at.web.ask(f"POST /v1/rooms/{at.room}/files", said, token=at.token)
            assert shared.status == 201
            assert await fetch(at.alice, digest(DATA)) == DATA
            fetched = await at.web.ask(f"GET /v1/rooms/{at.room}/blobs/{digest(DATA)}", token=at.token)
            assert (fetched.status, fetched.body == DATA) == (200, True)
            assert fetched.headers["content-type"] == "application/octet-stream"
            assert fetched.headers["content-disposition"] == f'attachment; filename="{digest(DATA)}"'
            assert fetched.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in fetched.headers["content-security-policy"]
            assert open_files() == before

    run(main)


def test_an_empty_file_is_one() -> None:
    async def main() -> None:
        async with house() as at:
            brought = await at.bring(b"")
            assert (brought.status, brought.document["size"]) == (201, 0)

    run(main)


def test_what_no_message_brings_is_fetched_by_nobody() -> None:
    async def main() -> None:
        async with house() as at:
            await at.bring(DATA)
            for blob, status, code in (
                (digest(DATA), 404, "no_such_blob"),
                (digest(b"another"), 404, "no_such_blob"),
                ("x", 404, "no_such_blob"),
            ):
                answer = await at.web.ask(f"GET /v1/rooms/{at.room}/blobs/{blob}", token=at.token)
                assert (answer.status, answer.code) == (status, code)
            elsewhere = await at.web.ask(f"GET /v1/rooms/r_none/blobs/{digest(DATA)}", token=at.token)
            assert (elsewhere.status, elsewhere.code) == (404, "no_such_room")

    run(main)


def test_a_token_that_is_not_for_files_brings_and_fetches_none() -> None:
    async def main() -> None:
        async with house() as at:
            reads = (await minted(at.bob, room=at.room, access=("read", "post"))).token
            for line, body in (
                (f"PUT /v1/rooms/{at.room}/blobs", b"x"),
                (f"GET /v1/rooms/{at.room}/blobs/{digest(b'x')}", None),
            ):
                answer = await at.web.ask(line, body, token=reads)
                assert (answer.status, answer.code) == (403, "not_permitted")
            nobody = await at.web.ask(f"PUT /v1/rooms/{at.room}/blobs", b"x")
            assert (nobody.status, nobody.code) == (401, "token_required")

    run(main)


def test_a_file_that_is_too_large_is_not_read() -> None:
    async def main() -> None:
        async with house() as at:
            client = await at.begin(MAX_FILE + 1)
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 413")
            other = await at.web.ask(f"PUT /v1/rooms/{at.room}/state", b"x" * (MAX_BODY + 1), token=at.token)
            assert other.status == 413

    run(main)


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_file_that_does_not_come_whole_is_none(is_cut: bool) -> None:
    async def main() -> None:
        async with house() as at:
            before, client = open_files(), await at.begin(len(DATA))
            stream = client.stream
            await stream.send_all(DATA[:100_000])
            if is_cut:
                await stream.send_eof()  # type: ignore[attr-defined]  # a memory stream has it
            began, got = trio.current_time(), b""
            while piece := await stream.receive_some():
                got += piece
            assert got.startswith(b"HTTP/1.1 409")
            assert b"upload_unfinished" in got
            assert trio.current_time() - began <= BODY_S + 1
            await trio.testing.wait_all_tasks_blocked()
            assert open_files() == before

    run(main)


def test_an_upload_ends_with_its_token() -> None:
    async def main() -> None:
        async with house() as at:
            client = await at.begin(len(DATA))
            stream = client.stream
            await stream.send_all(DATA[:100_000])
            await trio.sleep(1)
            await at.bob.ask("token.revoke", t.RevokeToken(id=at.id), t.RevokedToken)
            got = b""
            while piece := await stream.receive_some():
                got += piece
            assert got.startswith(b"HTTP/1.1 401")

    run(main)
