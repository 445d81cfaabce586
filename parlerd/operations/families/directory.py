"""The directory: agents say what they are good at, and find each other. A card is signed by its agent.

    directory.register, directory.discover, directory.card    what an agent or a person asks
    link.publish, link.discover                               the same of a relay, for the agents that a link attached

A card is private unless its agent says otherwise: then only who shares a room with the agent finds it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import DirectRule, PeerText, Verified
from parlerd.core.statements import MAX_DESCRIPTION, MAX_SKILLS, MAX_TAGS
from parlerd.operations import samples
from parlerd.operations.entry import Argument, Family, Offer, Operation, Params, Result, Route, Short, ToolEntry
from parlerd.operations.shared import StatedStatus

MAX_FOUND: Final = 200
"""Agents in one answer."""
_Query = Annotated[str, Meta(max_length=200)]
_Limit = Annotated[int, Meta(ge=1, le=MAX_FOUND)]
_Statement = Annotated[bytes, Meta(max_length=16 * 1024)]
_Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
_Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Register(Params, frozen=True, kw_only=True):
    """What is not given stays as it is on the card that there is. `visibility` `withdrawn` takes the card back.
    With `direct` `ask`, the person is asked before somebody who is new to the agent reaches it with a direct message.

    The card stands in the directory of this machine, and in that of the home `home`: a relay's name, or by default the
    home where new sessions open.
    """

    visibility: Literal["private", "public", "withdrawn"] | None = None
    tags: Annotated[tuple[Short, ...], Meta(max_length=MAX_TAGS)] | None = None
    skills: Annotated[tuple[Short, ...], Meta(max_length=MAX_SKILLS)] | None = None
    role: Short | None = None
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION)] | None = None
    direct: DirectRule | None = None
    home: Short | None = None


class CardAt(Result, frozen=True, kw_only=True):
    """What became of a card at a home: `published`, `unchanged`, `pending` where it goes there by itself once the home
    answers, or `failed` with the code of the reason."""

    home: str
    status: Literal["published", "unchanged", "pending", "failed"]
    code: str = ""


class FoundAgent(Result, frozen=True, kw_only=True):
    """An agent by its card. `status` is how present it is, `since` when it was seen last (0: never), `home` in whose
    directory the card was found, `stated` what the agent says that it is doing. Tags, skills and the role are labels;
    the description is whatever the agent wrote. `direct`: whether the agent's person is asked before somebody new
    reaches it with a direct message. `pending`, of the caller's own card, are the relays at which the card is not as
    it is here."""

    id: str
    name: str
    role: str
    tags: list[str]
    skills: list[str]
    description: PeerText
    status: str
    since: int
    verified: Verified
    visibility: str
    home: str
    fingerprint: str
    direct: DirectRule = "open"
    stated: StatedStatus | msgspec.UnsetType = msgspec.UNSET
    pending: list[CardAt] | msgspec.UnsetType = msgspec.UNSET


class Registered(Result, frozen=True, kw_only=True):
    """The card as it is now; `agent` is None once it was taken back."""

    name: str
    agent: FoundAgent | None
    homes: list[CardAt]


class Discover(Params, frozen=True, kw_only=True):
    """Everything that is given has to fit. `query` is literal text in the name, the role, the description, a tag or a
    skill. `online`: only agents that are not offline. `home`: only the directory of that home."""

    query: _Query = ""
    tag: Short = ""
    skill: Short = ""
    role: Short = ""
    online: bool = False
    public: bool = False
    home: Short | None = None
    limit: _Limit = 25


class FoundAgents(Result, frozen=True, kw_only=True):
    """Who is present first, then by name. `more`: there are others. `silent` names homes that did not answer in time:
    agents of theirs may be missing."""

    agents: list[FoundAgent]
    more: bool = False
    silent: list[str] = []


class ShowCard(Params, frozen=True, kw_only=True):
    """`agent` is an id or a name; without it the caller's own card."""

    agent: Short | None = None


# -- over a link -------------------------------------------------------------------------------------------


class PublishCard(Params, frozen=True, kw_only=True):
    """The card of an attached agent, for this home's directory."""

    agent: Short
    card: _Statement
    signature: _Signature


class CardKept(Result, frozen=True, kw_only=True):
    """`stale`: the directory has a card with a revision that is not lower. `revision` is the newest one's."""

    status: Literal["published", "stale"]
    revision: _Count


class FindCards(Params, frozen=True, kw_only=True):
    """As `directory.discover` asks; `agent` is attached, and sees what it may see."""

    agent: Short
    query: _Query = ""
    tag: Short = ""
    skill: Short = ""
    role: Short = ""
    online: bool = False
    public: bool = False
    limit: _Limit = 25


class CardEntry(Result, frozen=True, kw_only=True):
    """A card as its agent signed it, how present this home knows the agent to be, and what the agent states."""

    card: _Statement
    signature: Annotated[bytes, Meta(max_length=64)]
    presence: Literal["active", "waiting", "idle", "offline"]
    since: _Count
    stated: StatedStatus | msgspec.UnsetType = msgspec.UNSET


class CardPage(Result, frozen=True, kw_only=True):
    cards: Annotated[list[CardEntry], Meta(max_length=MAX_FOUND)]
    more: bool = False


_SIGNATURE: Final = b"\x00" * 64
"""A signature in an example."""
_BOB: Final = {
    "id": "U",
    "name": samples.BOB,
    "role": "reviewer",
    "tags": ["web"],
    "skills": ["css"],
    "description": "Reviews front ends.",
    "status": "waiting",
    "since": samples.AT,
    "verified": "valid",
    "visibility": "public",
    "home": samples.RELAY,
    "fingerprint": "ABCD-EFGH-IJKL",
}

FAMILY: Final = Family(
    operations=(
        Operation(
            name="directory.register",
            summary="Make or change your card, by which others find you.",
            params=Register,
            result=Registered,
            plane="agent",
            http=Route("PUT /card", "post"),
            effect="write",
            errors=("invalid_param", "no_card", "too_many_cards", "throttled", "home_not_trusted"),
            facts=("card_published",),
            example={"visibility": "public", "tags": ["planning"], "skills": ["decompose"]},
            answers=(
                {
                    "name": samples.BOB,
                    "agent": _BOB,
                    "homes": [{"home": "local", "status": "published"}],
                },
            ),
            tool=Offer(
                tool="parler_discover",
                verb="register",
                arguments=(
                    Argument(name="visibility", help="private, public or withdrawn"),
                    Argument(name="direct", rule="direct is open or ask."),
                    Argument(name="tags", kind="lines"),
                    Argument(name="skills", kind="lines"),
                    Argument(name="describe", field="description", is_free=True),
                ),
            ),
            command="parler register",
        ),
        Operation(
            name="directory.discover",
            summary="List agents by name, tag, skill or role.",
            params=Discover,
            result=FoundAgents,
            plane="agent",
            http=Route("GET /directory", "read"),
            effect="read",
            errors=("home_not_trusted",),
            example={"tag": "web"},
            answers=({"agents": [_BOB]}, {"agents": [], "silent": [samples.RELAY]}),
            tool=Offer(
                tool="parler_discover",
                verb="find",
                arguments=(Argument(name="query"),),
            ),
            command="parler discover",
        ),
        Operation(
            name="directory.card",
            summary="Show the card of one agent, or your own.",
            params=ShowCard,
            result=FoundAgent,
            plane="agent",
            http=Route("GET /card", "read"),
            effect="read",
            errors=("no_card", "ambiguous_name"),
            example={"agent": samples.BOB},
            answers=(_BOB,),
            command="parler card",
        ),
        Operation(
            name="link.publish",
            summary="Take the card of an attached agent into this home's directory.",
            params=PublishCard,
            result=CardKept,
            plane="link",
            effect="write",
            errors=("not_permitted", "statement_refused", "too_many_cards", "throttled"),
            facts=("card_published",),
            example={"agent": "U", "card": b"", "signature": _SIGNATURE},
            answers=({"status": "published", "revision": 1},),
        ),
        Operation(
            name="link.discover",
            summary="List cards in this home's directory, as an attached agent may see them.",
            params=FindCards,
            result=CardPage,
            plane="link",
            effect="read",
            errors=("not_permitted",),
            example={"agent": "U", "tag": "web"},
            answers=({"cards": []},),
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_discover",
            title="Find agents",
            does="Find agents by name, tag, skill or role; register the card by which others find you.",
            arguments=(Argument(name="role"),),
            default="find",
            example={"query": "web"},
            is_core=False,
        ),
    ),
)
