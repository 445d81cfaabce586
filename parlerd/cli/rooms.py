"""`parler rooms`, `roster` and `whoami`: looking around; `room verify`, for what members of a sealed room compare; and
`room rewind`, for a room of which its relay lost a part.

Invariant: a room is rewound only after a person saw what is lost, and said yes to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler, list_arguments, room_argument, wide_argument
from parlerd.cli.output import DONE, Cell
from parlerd.cli.parsing import Parser, unicode_text
from parlerd.cli.render import (
    agents_in,
    at_most,
    clock,
    counted,
    day_or_time,
    first_of,
    say_hidden,
    size_of,
    stated_by,
    turns_line,
    unsaid,
)
from parlerd.core.errors import ERRORS
from parlerd.core.model import LOCAL_HOME
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

GLANCE: Final = ("room", "unread", "who knocks", "last")
"""The columns that every list of rooms begins with: what a person wants to know first."""
CLEAR: Final = "clear"
"""What a room is called that its relay can read."""


def _rooms(ctx: Context, args: Namespace) -> int:
    listed = ctx.call_again("rooms.list", t.ListRooms(size=args.size), t.RoomList)
    out = ctx.out
    if out.json:
        out.document(listed)
        return DONE
    for door in listed.waits:
        key = f" with the key that begins {door.begins}" if door.begins else ""
        code = (
            f": your code is {door.join_code}, and a person decides." if door.join_code else "; there is no code yet."
        )
        out.say(f"You wait to be let into a session{key}{code}")
    if not listed.rooms and listed.waits:
        return DONE
    if not listed.rooms:
        out.say("There is no room yet. Open a session, or join one with its key:")
        out.paste("parler session open --topic TOPIC")
        return DONE
    rooms = by_attention(listed.rooms, all=args.all)
    knocks = who_knocks(ctx, rooms)
    rows: list[tuple[Cell, ...]] = [
        (
            *glance(ctx, room, knocks),
            agents,
            str(room.members) if args.wide else "",
            room.topic if args.wide else unsaid(room.topic),
            " ".join(filter(None, [room.kind if args.wide else "", _who_reads(room)])),
            room.state if args.all else "",
            room.room if args.wide else "",
            *_kept(room.kept),
        )
        for room, agents in zip(rooms, agents_in([room.agents for room in rooms], all=args.wide), strict=True)
    ]
    if rows:
        headers = (*GLANCE, "your agents", "members", "topic", "kind", "state", "id", *_KEPT)
        out.listing(headers, rows, cut=(0, 2, 4, 6), spare=() if args.wide else (4,))
    for room in rooms:
        if (spec := ERRORS.get(room.alarm)) is not None:
            out.say((room.name, "name"), f": {spec.message} {spec.hint}")
    say_hidden(out, len(listed.rooms) - len(rooms))
    if isinstance(listed.kept, t.KeptSize):
        _say_kept(ctx, listed, listed.kept)
    if listed.notice:
        out.note(listed.notice)
    return DONE


def _rooms_arguments(parser: Parser) -> None:
    list_arguments(parser)
    parser.add_argument(
        "--size",
        action="store_true",
        help="show what is kept of each room: messages, files, and how many messages were erased",
    )


_KEPT: Final = ("messages", "size", "files", "of size", "erased")
"""The columns of what is kept of a room."""


def _kept(kept: object) -> tuple[str, ...]:
    """What is kept of a room, in these columns, as far as that was asked for."""
    if not isinstance(kept, t.KeptSize):
        return ("",) * len(_KEPT)
    files = (str(kept.files), size_of(kept.file_bytes)) if kept.files else ("", "")
    return (str(kept.messages), size_of(kept.bytes), *files, str(kept.erased) if kept.erased else "")


def _say_kept(ctx: Context, listed: t.RoomList, kept: t.KeptSize) -> None:
    """What is kept of all rooms together, and how much may be of one."""
    out = ctx.out
    out.say(
        f"This machine keeps {counted(kept.messages, 'message')} in all rooms together, which take "
        f"{size_of(kept.bytes)}, and files that take {size_of(kept.file_bytes)}."
    )
    kept_rooms = [(room, room.kept) for room in listed.rooms if isinstance(room.kept, t.KeptSize)]
    limits = {room.home == LOCAL_HOME: each.limits for room, each in kept_rooms if not each.has_own}
    for is_here, limit in sorted(limits.items(), reverse=True):
        which = "a room that lives here" if is_here else "a room that lives elsewhere"
        out.say(f"Of {which} it keeps {at_most(limit)}.")
    for room, each in kept_rooms:
        if each.has_own:
            out.say("Of ", (f"'{room.name}'", "name"), f" it keeps {at_most(each.limits)}, as you set for this room.")
    if kept.limits.bytes:
        out.say(f"Of all rooms that live here it keeps {at_most(kept.limits)}.")


def by_attention(rooms: Sequence[t.RoomInfo], *, all: bool) -> list[t.RoomInfo]:
    """Rooms in the order of a list: those that want attention first, then those that were used last. Closed rooms are
    only listed with `all`."""
    shown = [room for room in rooms if all or room.state == "open"]
    return sorted(shown, key=lambda room: (not (room.unread or room.pending), -room.last_at))


def who_knocks(ctx: Context, rooms: Sequence[t.RoomInfo]) -> dict[str, list[str]]:
    """The names of those who knock, as they say, by room. The daemon is only asked when somebody knocks."""
    names: dict[str, list[str]] = {}
    if any(room.pending for room in rooms):
        for request in ctx.call_again("approvals.list", t.ListApprovals(), t.RequestList).requests:
            names.setdefault(request.room, []).append(request.name)
    return names


def glance(ctx: Context, room: t.RoomInfo, knocks: Mapping[str, Sequence[str]]) -> tuple[Cell, Cell, Cell, Cell]:
    """A room in the columns of `GLANCE`."""
    # An agent that knocked between the two answers is in the count and not yet among the names.
    who = first_of(knocks.get(room.room, [])) or (str(room.pending) if room.pending else "")
    return (
        (("* " if room.active else "  ") + room.name, "name"),
        (str(room.unread), "bold" if room.unread else "dim"),
        (who, "warn"),
        (day_or_time(room.last_at, ctx.now()), "dim"),
    )


def _who_reads(room: t.RoomInfo | t.RosterResult) -> str:
    """One word for whether a relay can read the room; nothing for a room of this machine."""
    if room.sealed:
        return "sealed"
    return CLEAR if room.home not in ("", "local") else ""


def _roster(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("rooms.roster", t.Roster(room=args.room), t.RosterResult)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    reads = _who_reads(found)
    said = f"  {reads}: the relay can read this room" if reads == CLEAR else f"  {reads}"
    id = f"  {found.room}" if args.wide else ""
    out.say((f"'{found.name}'", "name"), (said if reads else "", "dim"), (id, "dim"))
    rows: list[tuple[Cell, ...]] = []
    for member in found.members:
        since = f" since {clock(member.since, ctx.now())}" if member.since else ""
        role = member.role or ("owner" if member.owner else "member")
        role = f"{role} (locked)" if member.locked else role
        state = f" ({member.state})" if member.state == "left" else ""
        id = member.id if args.wide else ""
        presence = f"{member.presence}{since}{state}"
        rows.append(((member.name, "name"), member.host, role, presence, stated_by(member.stated), id))
    out.listing(("agent", "says it is on", "role", "presence", "now", "id"), rows, cut=(0, 2, 4))
    if isinstance(found.turns, int):
        out.say(turns_line(found.turns))
    _say_owner(ctx, found.owner_heard, found.successor)
    if found.notice:
        out.note(found.notice)
    return DONE


def _roster_arguments(parser: Parser) -> None:
    room_argument(parser)
    wide_argument(parser)


def _whoami(ctx: Context, args: Namespace) -> int:
    me = ctx.call_again("agent.whoami", t.WhoAmI(), t.Me)
    out = ctx.out
    if out.json:
        out.document(me)
        return DONE
    session = "none"
    if me.active:
        session = ctx.call_again("rooms.roster", t.Roster(room=me.active), t.RosterResult).name
    out.say((me.name, "name"), f", on {me.host}" if me.host else "")
    out.say(("id          ", "dim"), me.id)
    if me.fingerprint:
        out.say(("fingerprint ", "dim"), me.fingerprint)
    out.say(("session     ", "dim"), session, (f"  {me.active}", "dim") if me.active and args.wide else "")
    if me.workspace:
        out.say(("workspace   ", "dim"), me.workspace)
    if args.wide:
        out.say(("person      ", "dim"), me.principal)
        out.say(("home        ", "dim"), "this machine" if me.home == "local" else me.home)
    return DONE


def _presence_arguments(parser: Parser) -> None:
    parser.add_argument(
        "status",
        nargs="?",
        default="",
        type=unicode_text,
        metavar="STATUS",
        help="one word, such as busy; none takes it back (default: show what is stated)",
    )
    parser.add_argument("text", nargs="*", type=unicode_text, metavar="TEXT", help="what goes with it")


def _presence(ctx: Context, args: Namespace) -> int:
    params = t.StatePresence(status=args.status, text=" ".join(args.text))
    found = ctx.call("agent.presence", params, t.PresenceIs)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    said = stated_by(found.stated)
    out.say((found.name, "name"), f" is {found.presence}, and says: " if said else f" is {found.presence}.", said)
    return DONE


def _attention_arguments(parser: Parser) -> None:
    parser.add_argument(
        "mode",
        nargs="?",
        choices=("open", "dnd", "focus", "quiet", "muted", "inherit"),
        help="open: every message begins a turn; dnd: what is for the agent; focus: hand-offs to it; "
        "with --room quiet, muted or inherit (default: show what holds)",
    )
    parser.add_argument("--room", metavar="ROOM", help="for this room alone")


def _attention(ctx: Context, args: Namespace) -> int:
    found = ctx.call("agent.attention", t.SetAttention(mode=args.mode, room=args.room), t.AttentionIs)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    out.say((found.name, "name"), f" is {found.mode}: {_BEGINS.get(found.mode, '')} begins a turn while it is idle.")
    for room in found.rooms:
        out.say("  ", (room.name, "name"), f" is {room.mode}: {_BEGINS.get(room.mode, 'what begins one elsewhere')}.")
    return DONE


_BEGINS: Final = {
    "open": "every message",
    "dnd": "only what is for it",
    "focus": "only a hand-off to it",
    "quiet": "only what is for it",
    "muted": "nothing",
}
"""What begins a turn, by the mode."""


def _rewind_arguments(parser: Parser) -> None:
    parser.add_argument("room", metavar="ROOM", help="the room's id or name")
    parser.add_argument("--yes", action="store_true", help="go on without what the relay lost, without asking")


def _rewind(ctx: Context, args: Namespace) -> int:
    if not args.yes:
        asked = ctx.call_again("room.rewind", t.RewindRoom(room=args.room), t.RewoundRoom)
        if asked.status == "nothing":
            return _say_rewound(ctx, asked)
        ctx.agree(_what_is_lost(asked, ctx.now()))
    return _say_rewound(ctx, ctx.call("room.rewind", t.RewindRoom(room=args.room, confirmed=True), t.RewoundRoom))


def _what_is_lost(asked: t.RewoundRoom, now: float) -> str:
    """What a person is told before a room is rewound."""
    if not asked.lost:
        return (
            f"{asked.home} has everything of {asked.name!r} that this machine was told. Where other machines were told "
            f"more, the room goes on there without it."
        )
    authors = ", ".join(f"{counted(each.messages, 'message')} of {each.author}" for each in asked.lost)
    stays = (
        f"The newest that stays is {asked.newest}'s of {day_or_time(asked.newest_at, now)}. " if asked.newest else ""
    )
    return (
        f"{asked.home} has no more of {asked.name!r}: {authors}. {stays}The room goes on from there for everybody. "
        f"What is lost stays to be read on the machines that were told it, and is marked there."
    )


def _say_rewound(ctx: Context, done: t.RewoundRoom) -> int:
    out = ctx.out
    if out.json:
        out.document(done)
        return DONE
    if done.status == "nothing":
        out.say((f"'{done.name}'", "name"), " was rewound before, and nothing was said since. There is nothing to do.")
        return DONE
    lost = sum(each.messages for each in done.lost)
    out.say((f"'{done.name}'", "name"), " goes on.", f" {counted(lost, 'message')} stay here as lost." if lost else "")
    out.say("Whoever came in after the relay's copy was made has to come in again.")
    return DONE


def _verify_arguments(parser: Parser) -> None:
    parser.add_argument("room", nargs="?", metavar="ROOM", help="the room's id or name (default: the active session)")
    wide_argument(parser)


def _verify(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("room.verify", t.CompareRoom(room=args.room), t.RoomCompared)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    out.say((f"'{found.name}'", "name"), (f"  sealed, on {found.home}", "dim"), f"  {found.room}" if args.wide else "")
    out.paste(found.characters)
    out.say(
        f"Epoch {found.epoch}, since {day_or_time(found.since, ctx.now())}. What is said since then can be read by:"
    )
    rows: list[tuple[Cell, ...]] = [
        (
            (reader.name, "name"),
            reader.fingerprint,
            "owner" if reader.owner else "only asks" if reader.requester else "member",
            reader.id if args.wide else "",
            reader.principal if args.wide else "",
        )
        for reader in found.readers
    ]
    out.listing(("agent", "fingerprint", "role", "id", "person"), rows, cut=(0,))
    _say_owner(ctx, found.owner_heard, found.successor)
    for line in _COMPARE:
        out.say(line)
    if (spec := ERRORS.get(found.alarm)) is not None:
        out.note(f"{spec.message} {spec.hint}")
    if found.notice:
        out.note(found.notice)
    return DONE


def _say_owner(ctx: Context, heard: object, successor: object) -> None:
    """When the machine of a sealed room's owner was last heard of, and who goes on once the owner is gone."""
    if isinstance(heard, int):
        ctx.out.say(f"The machine of the owner last signed something here: {day_or_time(heard, ctx.now())}.")
    if isinstance(successor, list):
        ctx.out.say("Once the owner is gone, the person of ", (", ".join(successor), "name"), " may go on.")


_COMPARE: Final = (
    "To compare: each member runs this command, and one reads the characters aloud over a channel that is not Parler, "
    "such as a call.",
    "Where they are the same, the relay shows all of you the same members and keys. Whoever is in the list reads "
    "along, so look whether you know everybody: parler whoami shows each agent its own fingerprint.",
    "Where they differ, somebody may have come or gone just now: wait a minute and compare once more. Where they "
    "still differ, say nothing more in this room, and go on in a new session on another relay.",
)
"""How the characters are compared, for people who never did so."""


HANDLERS: Final = {
    "rooms": Handler(
        _rooms_arguments,
        _rooms,
        section="Look around",
        rank=10,
        examples=(
            "parler rooms",
            "parler rooms --size",
            "parler rooms --all --wide",
        ),
    ),
    "roster": Handler(
        _roster_arguments, _roster, section="Look around", rank=30, examples=("parler roster --room auth-redesign",)
    ),
    "whoami": Handler(
        wide_argument,
        _whoami,
        section="Look around",
        rank=40,
        examples=(
            "parler whoami",
            "parler --as bob whoami",
        ),
    ),
    "presence": Handler(
        _presence_arguments,
        _presence,
        section="Talk",
        rank=58,
        examples=(
            "parler presence busy running the long tests",
            "parler presence none",
        ),
    ),
    "attention": Handler(
        _attention_arguments,
        _attention,
        section="Talk",
        rank=60,
        examples=(
            "parler attention dnd --as bob",
            "parler attention muted --room auth-redesign",
        ),
    ),
    "room verify": Handler(
        _verify_arguments,
        _verify,
        section="Sessions across machines",
        rank=17,
        examples=(
            "parler room verify auth-redesign",
            "parler room verify --json",
        ),
    ),
    "room rewind": Handler(
        _rewind_arguments,
        _rewind,
        section="Sessions across machines",
        rank=18,
        examples=("parler room rewind auth-redesign",),
    ),
}
