"""`parler rooms`, `roster` and `whoami`: looking around."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler, no_arguments, room_argument, wide_argument
from parlerd.cli.output import DONE, Cell
from parlerd.cli.render import agents_in, clock, day_or_time, say_hidden, table_of_used, unsaid
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace


def _rooms(ctx: Context, args: Namespace) -> int:
    listed = ctx.call_again("rooms.list", t.ListRooms(), t.RoomList)
    out = ctx.out
    if out.json:
        out.document(listed)
        return DONE
    if not listed.rooms:
        out.say("There is no room yet. Open a session, or join one with its key:")
        out.paste("parler session open --topic TOPIC")
        return DONE
    rooms = listed.rooms if args.wide else [room for room in listed.rooms if room.state == "open"]
    # What wants attention first, then what was used last.
    rooms.sort(key=lambda room: (not (room.unread or room.pending), -room.last_at))
    rows: list[tuple[Cell, ...]] = [
        (
            (("* " if room.active else "  ") + room.name, "name"),
            (str(room.unread), "bold" if room.unread else "dim"),
            (str(room.pending), "warn") if room.pending else "",
            clock(room.last_at, ctx.now()) if args.wide else day_or_time(room.last_at, ctx.now()),
            agents,
            str(room.members) if args.wide else "",
            room.topic if args.wide else unsaid(room.topic),
            room.kind + ("" if room.state == "open" else f", {room.state}") if args.wide else "",
            room.room if args.wide else "",
        )
        for room, agents in zip(rooms, agents_in([room.agents for room in rooms], all=args.wide), strict=True)
    ]
    headers = ("room", "unread", "knocking", "last", "your agents", "members", "topic", "kind", "id")
    table_of_used(out, headers, rows)
    say_hidden(out, len(listed.rooms) - len(rooms))
    return DONE


def _roster(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("rooms.roster", t.Roster(room=args.room), t.RosterResult)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    out.say((f"'{found.name}'", "name"), (f"  {found.room}", "dim"))
    rows: list[tuple[Cell, ...]] = []
    for member in found.members:
        since = f" since {clock(member.since, ctx.now())}" if member.since else ""
        role = member.role or ("owner" if member.owner else "member")
        state = f" ({member.state})" if member.state == "left" else ""
        rows.append(((member.name, "name"), member.host, role, f"{member.presence}{since}{state}", member.id))
    out.table(("agent", "says it is on", "role", "presence", "id"), rows)
    return DONE


def _whoami(ctx: Context, _args: Namespace) -> int:
    me = ctx.call_again("agent.whoami", t.WhoAmI(), t.Me)
    out = ctx.out
    if out.json:
        out.document(me)
        return DONE
    out.say((me.name, "name"), f", on {me.host}" if me.host else "")
    out.say(("id         ", "dim"), me.id)
    out.say(("person     ", "dim"), me.principal)
    out.say(("home       ", "dim"), me.home)
    if me.workspace:
        out.say(("workspace  ", "dim"), me.workspace)
    out.say(("session    ", "dim"), me.active or "none")
    return DONE


HANDLERS: Final = {
    "rooms": Handler(wide_argument, _rooms),
    "roster": Handler(room_argument, _roster),
    "whoami": Handler(no_arguments, _whoami),
}
