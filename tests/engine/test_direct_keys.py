"""The keys that agents of other homes tell this one for direct rooms: which are taken in, and who is shown them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from parlerd.core import events as e
from parlerd.core.direct_keys import FRESH_MS, encode_published
from parlerd.core.model import By, Millis, Position
from parlerd.core.statements import NONCE, AgentCard, encode
from parlerd.engine.audit import is_signed
from parlerd.identity.delegation import issue
from parlerd.operations import types as t
from parlerd.store.port import NewFact
from tests.support.engine import engine_world, run
from tests.support.linked import Elsewhere, LinkParty
from tests.support.sealed_links import home_of, told_key


def own(link: LinkParty, name: str, counter: int = 1, **said: Any) -> t.OwnDirectKey:
    """What an agent tells."""
    statement, signature = told_key(link, name, counter, **said)
    text, by_person = issue(link.person, link.person.agent(name), link.served.world.clock.now())
    return t.OwnDirectKey(statement=statement, signature=signature, delegation=text, delegation_signature=by_person)


async def tell(link: LinkParty, *keys: t.OwnDirectKey) -> None:
    await link.call("link.direct_keys", t.TellDirectKeys(keys=keys))


async def publish(link: LinkParty, name: str, **said: Any) -> None:
    agent = link.person.agent(name)
    fields: dict[str, Any] = {
        "home": home_of(link.served),
        "agent": agent,
        "principal": link.person.principal,
        "name": name,
        "visibility": "public",
        "revision": 1,
        "at": Millis(1),
        "nonce": bytes(NONCE),
    }
    card = encode(AgentCard(**(fields | said)))
    signature = link.person.sign(agent, "parler/card", card)
    await link.call("link.publish", t.PublishCard(agent=agent, card=card, signature=signature))


async def shown(link: LinkParty, name: str, of: str) -> t.DirectKeyOf:
    return await link.ask("link.direct_key_of", t.AskDirectKey(agent=link.person.agent(name), of=of), t.DirectKeyOf)


def test_the_newest_key_of_an_agent_is_shown_to_whoever_sees_the_agent_and_to_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ben, ann = Elsewhere("ben"), Elsewhere("ann")
            theirs, hers = await ben.link(served, "bob", "hidden"), await ann.link(served, "alice")
            bob, hidden = ben.agent("bob"), ben.agent("hidden")
            await publish(theirs, "bob")
            assert await shown(hers, "alice", bob) == t.DirectKeyOf()
            await tell(theirs, own(theirs, "bob"), own(theirs, "hidden"))
            found, told = await shown(hers, "alice", bob), own(theirs, "bob")
            assert (found.statement, found.signature) == (told.statement, told.signature)
            for nobody in (hidden, "U" + "A" * 55):
                asked = t.AskDirectKey(agent=ann.agent("alice"), of=nobody)
                assert (await hers.refused("link.direct_key_of", asked)).code == "no_such_agent"
            asked = t.AskDirectKey(agent=bob, of=bob)
            assert (await hers.refused("link.direct_key_of", asked)).code == "not_permitted"

    run(main)


def test_a_key_is_told_once_and_followed_by_another_once_a_day() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ben = Elsewhere("ben")
            link = await ben.link(served, "bob")
            home = served.engine.rooms.home

            async def counter_after(counter: int) -> int:
                await tell(link, own(link, "bob", counter))
                known = home.aggregate.direct_keys.of(ben.agent("bob"))
                assert known is not None
                return known.counter

            assert await counter_after(1) == 1
            position = home.aggregate.position
            assert await counter_after(1) == 1
            assert home.aggregate.position == position
            assert await counter_after(2) == 1
            served.world.clock.move(seconds=FRESH_MS / 1000)
            assert await counter_after(2) == 2

    run(main)


def test_nothing_is_taken_in_that_another_agent_or_person_signed_or_that_is_for_another_home() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ben, ann = Elsewhere("ben"), Elsewhere("ann")
            link, hers = await ben.link(served, "bob"), await ann.link(served, "alice")
            right = own(link, "bob")
            lies = {
                "of an agent that is not attached": (own(hers, "alice"), "not_permitted"),
                "signed otherwise": (msgspec.structs.replace(right, signature=bytes(64)), "statement_refused"),
                "of low order": (own(link, "bob", key=bytes(32)), "sealing_key_refused"),
                "for another home": (own(link, "bob", home=ben.principal), "statement_refused"),
                "of nobody": (msgspec.structs.replace(right, delegation=b""), "statement_refused"),
            }
            for lie, code in lies.values():
                assert (await link.refused("link.direct_keys", t.TellDirectKeys(keys=(lie,)))).code == code
            assert served.engine.rooms.home.aggregate.direct_keys.of(ben.agent("bob")) is None

    run(main)


def test_the_audit_finds_a_key_that_its_agent_did_not_sign() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ben = Elsewhere("ben")
            link = await ben.link(served, "bob")
            told = own(link, "bob")
            body = encode_published(told.statement, told.delegation, told.delegation_signature)
            event = e.DirectKeyTold(agent=ben.agent("bob"), principal=ben.principal, counter=1)
            by = By(ben.agent("bob"), ben.principal, "", "", "link")
            header = e.Header(
                position=Position(1),
                at=Millis(1),
                by=by,
                authority="member",
                event=event,
                body=hashlib.sha256(body).digest(),
            )
            fact = NewFact(header, body, told.signature)
            assert is_signed(fact, None)
            other = msgspec.structs.replace(header, event=msgspec.structs.replace(event, counter=2))
            for lie in (
                msgspec.structs.replace(fact, signature=bytes(64)),
                msgspec.structs.replace(fact, body=b"\x80"),
                msgspec.structs.replace(fact, header=other),
            ):
                assert not is_signed(lie, None)

    run(main)
