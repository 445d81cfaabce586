"""`parler invite`, `role`, and `room leave|kick|transfer|takeover|continue|turns|retention|archive|delete`: who comes
into a room, who is what there, whose it is, how often its agents wake each other, how much is kept of it, its end.

Invariant: a room is deleted only after a person saw what goes, and said yes to it.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Final, Literal

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.output import DONE, Cell
from parlerd.cli.parsing import Parser, UsageError, positive, unicode_text, whole
from parlerd.cli.render import at_most, counted, left_of, size_of, turns_line
from parlerd.cli.session import CLEAR, SEALED, lifetime
from parlerd.core.model import MAX_WAKES_OF_PAIR
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace


def _invite_arguments(parser: Parser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--group", default="", type=unicode_text, metavar="NAME", help="a channel; its first code opens it"
    )
    where.add_argument(
        "--service", default="", type=unicode_text, metavar="NAME", help="a queue, for another's worker or requester"
    )
    where.add_argument(
        "--room", metavar="ROOM", help="a room that you own (with none of these: one agent, to talk directly)"
    )
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument(
        "--approval",
        action="store_const",
        const=True,
        default=None,
        help="ask a person about each one who comes with the code",
    )
    gate.add_argument(
        "--no-approval",
        dest="approval",
        action="store_const",
        const=False,
        help="let the code alone admit (the default of a new channel)",
    )
    parser.add_argument(
        "--ttl", type=lifetime, metavar="S", help="seconds the code lives, from 60 to 30 days (default: a day)"
    )
    parser.add_argument(
        "--max-uses",
        type=positive,
        metavar="N",
        help="how many may come in with it (default: 50; 1 to talk directly)",
    )
    parser.add_argument(
        "--at", default="", metavar="NAME", help="where a new room opens: local, or a relay (see `parler homes`)"
    )
    parser.add_argument(
        "--clear",
        action="store_true",
        help="let the relay that a new channel opens on read it (default: the relay cannot)",
    )
    parser.add_argument(
        "--requester",
        action="store_true",
        help="with --service: for one who only asks for work, and reads nothing but what is for it",
    )
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def _invite(ctx: Context, args: Namespace) -> int:
    params = t.Invite(
        group=args.group,
        service=args.service,
        room=args.room,
        approval=args.approval,
        ttl_ms=args.ttl,
        max_uses=args.max_uses,
        home=args.at,
        clear=args.clear,
        requester=args.requester,
        idempotency_key=args.key or new_key(),
    )
    invited = ctx.call_again("room.invite", params, t.Invited)
    out = ctx.out
    if out.json:
        out.document(invited)
        return DONE
    if invited.opened and invited.kind == "channel":
        out.say("The channel ", (f"'{invited.name}'", "name"), " is open.")
        if invited.connect_command:
            out.say(SEALED if invited.sealed else CLEAR)
    out.paste("CODE: ", (invited.code, "good"))
    left = left_of(invited.expires, ctx.now())
    room: Cell = (f"'{invited.name}'", "name")
    agents = counted(invited.max_uses, "agent")
    if invited.approval:
        out.say(room, f": for {left} {agents} may knock with this code; you decide about each.")
    else:
        out.say(room, (f": for {left} {agents} may come in with this code. Keep it secret.", "warn"))
    out.say("The other agent's person runs this, or the agent is told the code:")
    out.paste(f"parler join {invited.code}")
    if invited.connect_command:
        out.say("On a machine that does not know this relay yet, its person runs this first:")
        out.paste(invited.connect_command)
    return DONE


def _leave(ctx: Context, args: Namespace) -> int:
    gone = ctx.call("room.leave", t.LeaveAsMember(room=args.room), t.MemberGone)
    if ctx.out.json:
        ctx.out.document(gone)
    else:
        ctx.out.say((gone.name, "name"), " left ", (f"'{gone.room_name}'", "name"), ".")
    return DONE


def _kick_arguments(parser: Parser) -> None:
    parser.add_argument("agent", type=unicode_text, metavar="AGENT", help="the agent's id, or its name in the room")
    room_argument(parser)


def _kick(ctx: Context, args: Namespace) -> int:
    gone = ctx.call("room.kick", t.KickMember(agent=args.agent, room=args.room), t.MemberGone)
    if ctx.out.json:
        ctx.out.document(gone)
        return DONE
    ctx.out.say((gone.name, "name"), " is out of ", (f"'{gone.room_name}'", "name"), ".")
    ctx.out.say("If that agent comes back with a key, you are asked first, whatever key it is.")
    return DONE


def _role_arguments(parser: Parser) -> None:
    parser.add_argument("agent", type=unicode_text, metavar="AGENT", help="the agent's id, or its name in the room")
    parser.add_argument("role", type=unicode_text, metavar="ROLE", help="as `reviewer`; '' takes the role away")
    parser.add_argument(
        "--lock", action="store_true", help="keep it so, whatever the agent says when it comes in again"
    )
    room_argument(parser)


def _role(ctx: Context, args: Namespace) -> int:
    params = t.GiveRole(agent=args.agent, role=args.role, lock=args.lock, room=args.room)
    given = ctx.call("room.role", params, t.RoleOfMember)
    if ctx.out.json:
        ctx.out.document(given)
        return DONE
    what = f" is {given.role} in " if given.role else " has no role in "
    ctx.out.say((given.name, "name"), what, (f"'{given.room_name}'", "name"), ".")
    if given.locked:
        ctx.out.say("It stays so until you say otherwise, whatever the agent says.")
    return DONE


def _transfer_arguments(parser: Parser) -> None:
    parser.add_argument("agent", type=unicode_text, metavar="AGENT", help="the agent's id, or its name in the room")
    parser.add_argument("--room", required=True, metavar="ROOM", help="the room's id or name")
    parser.add_argument("--yes", action="store_true", help="do it without asking")


def _transfer(ctx: Context, args: Namespace) -> int:
    if not args.yes:
        ctx.agree(f"{args.agent} will own {args.room!r}: from then on its person decides who comes in.")
    return _say_owned(ctx, ctx.call("room.transfer", t.TransferRoom(agent=args.agent, room=args.room), t.OwnedRoom))


def _successor_arguments(parser: Parser) -> None:
    parser.add_argument(
        "person",
        nargs="?",
        default="",
        type=unicode_text,
        metavar="PERSON",
        help="the person's id, or the name of an agent of theirs in the room",
    )
    parser.add_argument("--none", action="store_true", dest="nobody", help="nobody goes on once you are gone")
    parser.add_argument("--room", metavar="ROOM", help="the room's id or name (default: the active session)")


def _successor(ctx: Context, args: Namespace) -> int:
    if args.nobody is (args.person != ""):
        raise UsageError("name a person, or say --none", path="parler room successor")
    params = t.NameSuccessor(room=args.room, person=args.person, nobody=args.nobody)
    named = ctx.call("room.successor", params, t.SuccessorNamed)
    out = ctx.out
    if out.json:
        out.document(named)
        return DONE
    where: Cell = (f"'{named.room_name}'", "name")
    if not named.principal:
        out.say("Nobody may take ", where, " over once you are gone.")
        return DONE
    who = ", ".join(named.names) or named.principal
    out.say("The person of ", (who, "name"), " may take ", where, " over once you are gone.")
    out.say("Until then nothing changes. They do it with:")
    out.paste(f"parler room continue {named.room} --without-owner")
    return DONE


def _takeover_arguments(parser: Parser) -> None:
    parser.add_argument("room", metavar="ROOM", help="the room's id or name")
    parser.add_argument(
        "--agent", default="", type=unicode_text, metavar="AGENT", help="which of your agents there is to own it"
    )


def _takeover(ctx: Context, args: Namespace) -> int:
    return _say_owned(ctx, ctx.call("room.takeover", t.TakeOver(room=args.room, agent=args.agent), t.OwnedRoom))


def _say_owned(ctx: Context, owned: t.OwnedRoom) -> int:
    if ctx.out.json:
        ctx.out.document(owned)
    else:
        ctx.out.say((owned.name, "name"), " owns ", (f"'{owned.room_name}'", "name"), " now.")
    return DONE


def _continue_arguments(parser: Parser) -> None:
    parser.add_argument("room", nargs="?", metavar="ROOM", help="the room's id or name")
    parser.add_argument(
        "--message", default="", type=unicode_text, metavar="ID", help="only in the conversation of this message"
    )
    parser.add_argument(
        "--without-owner",
        action="store_true",
        help="a sealed room goes on though its owner is gone: take it over, or open another with the same people",
    )


def _continue(ctx: Context, args: Namespace) -> int:
    params = t.ContinueRoom(room=args.room, message=args.message, without_owner=args.without_owner)
    done = ctx.call("room.continue", params, t.ContinuedRoom)
    out = ctx.out
    if out.json:
        out.document(done)
        return DONE
    where: Cell = (f"'{done.name}'", "name")
    if done.status == "taken_over":
        out.say((done.owner, "name"), " owns ", where, " now, as its owner before had named you.")
        return DONE
    if done.status == "reopened":
        out.say("The other session is called ", where, ", and ", (done.owner, "name"), " owns it.")
        out.say("Everybody in the old one is told its key, and waits there for you to let them in: parler approvals.")
        if isinstance(done.session_key, str):
            out.paste(done.session_key)
        return DONE
    if done.status == "nothing":
        there = "that conversation of " if args.message else ""
        out.say(f"No agent of yours was woken in {there}", where, ": nothing was held back.")
        return DONE
    if done.turns:
        out.say("Your agents go on in ", where, ".")
    else:
        out.say("The counts in ", where, " begin anew, but no agent's message begins a turn there. To change that:")
        out.paste(f"parler room turns {done.room} default")
    for pair in done.pairs:
        turns = counted(pair.turns, "turn")
        out.say("  ", (pair.one, "name"), " and ", (pair.other, "name"), f": {turns} before this")
    if done.was_paused:
        out.say("The turns of this hour were used up, in all rooms together; they begin anew.")
    return DONE


def _turns_arguments(parser: Parser) -> None:
    parser.add_argument("room", metavar="ROOM", help="the room's id or name")
    parser.add_argument(
        "turns",
        nargs="?",
        type=_turns_or_default,
        metavar="N",
        help=f"0 (no agent's message begins a turn) to {MAX_WAKES_OF_PAIR}, or `default` (default: show what holds)",
    )


def _turns_or_default(text: str) -> int | Literal["default"]:
    if text == "default":
        return "default"
    turns = whole(text)
    if turns > MAX_WAKES_OF_PAIR:
        raise ArgumentTypeError(f"{turns} is more than {MAX_WAKES_OF_PAIR}")
    return turns


def _turns(ctx: Context, args: Namespace) -> int:
    found = ctx.call("room.turns", t.TurnsInRoom(room=args.room, turns=args.turns), t.RoomTurns)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    out.say((f"'{found.name}'", "name"), (f"  {found.room}", "dim"))
    out.say(turns_line(found.turns), " That is the default." if found.is_default else "")
    return DONE


def _retention_arguments(parser: Parser) -> None:
    parser.add_argument("room", metavar="ROOM", help="the room's id or name")
    for name, kept in (
        ("messages", "keep the words of the newest N messages"),
        ("bytes", "keep at most N bytes of words"),
        ("days", "keep words for N days"),
    ):
        parser.add_argument(
            f"--{name}", type=_number_or_default, metavar="N", help=f"{kept}; `default` leaves that to the settings"
        )


def _number_or_default(text: str) -> int | Literal["default"]:
    return "default" if text == "default" else positive(text)


def _retention(ctx: Context, args: Namespace) -> int:
    params = t.KeepOfRoom(room=args.room, messages=args.messages, bytes=args.bytes, days=args.days)
    found = ctx.call("room.retention", params, t.KeptOfRoom)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    out.say((f"'{found.name}'", "name"), (f"  {found.room}", "dim"))
    out.say(f"This machine keeps {at_most(found.limits)}.")
    if found.own == t.KeptLimits():
        out.say("That is the same for every room that lives here and has no limit of its own.")
    else:
        out.say(f"Set for this room alone: {at_most(found.own)}. To leave it to the settings again:")
        named = [name for name in ("messages", "bytes", "days") if getattr(found.own, name)]
        out.paste(f"parler room retention {found.room} {' '.join(f'--{name} default' for name in named)}")
    return DONE


def _archive_arguments(parser: Parser) -> None:
    parser.add_argument("room", metavar="ROOM", help="the room's id or name")


def _archive(ctx: Context, args: Namespace) -> int:
    done = ctx.call("room.archive", t.ArchiveRoom(room=args.room), t.ArchivedRoom)
    if ctx.out.json:
        ctx.out.document(done)
        return DONE
    ctx.out.say((f"'{done.name}'", "name"), " is over for everyone. Its codes are revoked; you can still read it.")
    return DONE


def _delete_arguments(parser: Parser) -> None:
    parser.add_argument("room", metavar="ROOM", help="the room's id or name")
    parser.add_argument("--yes", action="store_true", help="delete it without asking")


def _delete(ctx: Context, args: Namespace) -> int:
    if not args.yes:
        asked = ctx.call_again("room.delete", t.DeleteRoom(room=args.room), t.DeletedRoom)
        ctx.agree(_what_goes(asked))
    done = ctx.call("room.delete", t.DeleteRoom(room=args.room, confirmed=True), t.DeletedRoom)
    out = ctx.out
    if out.json:
        out.document(done)
        return DONE
    out.say((f"'{done.name}'", "name"), f" is deleted: {_how_much(done)} are gone.")
    if done.status == "clearing":
        out.say("The words are still being taken out of the database. That goes on by itself, also after a restart.")
    for path in done.copies:
        out.note(f"This older copy of the database may still hold the room; delete it yourself: {path}")
    return DONE


def _what_goes(asked: t.DeletedRoom) -> str:
    """What a person is told before a room is deleted."""
    where = "" if asked.home == "local" else f" on {asked.home}"
    stays = "" if asked.home == "local" else " What other machines were told of it stays there."
    return (
        f"This deletes {asked.name!r}{where} for everyone: {counted(asked.members, 'member')} and {_how_much(asked)}. "
        f"Nobody can bring it back.{stays}"
    )


def _how_much(room: t.DeletedRoom) -> str:
    return f"{counted(room.messages, 'message')} ({size_of(room.bytes)})"


HANDLERS: Final = {
    "invite": Handler(
        _invite_arguments,
        _invite,
        section="Begin",
        rank=50,
        examples=("parler invite --group team", "parler invite --room auth-redesign --max-uses 1", "parler invite"),
    ),
    "room leave": Handler(
        room_argument,
        _leave,
        section="Who may come in",
        rank=70,
        examples=("parler room leave --room team",),
        gives_receipt=True,
    ),
    "room kick": Handler(
        _kick_arguments,
        _kick,
        section="Who may come in",
        rank=80,
        examples=("parler room kick bob --room team",),
        gives_receipt=True,
    ),
    "role": Handler(
        _role_arguments,
        _role,
        section="Who may come in",
        rank=82,
        examples=("parler role bob reviewer --room team", "parler role bob admin --lock", "parler role bob ''"),
        gives_receipt=True,
    ),
    "room transfer": Handler(
        _transfer_arguments,
        _transfer,
        section="Who may come in",
        rank=83,
        examples=("parler room transfer bob --room team",),
    ),
    "room successor": Handler(
        _successor_arguments,
        _successor,
        section="Who may come in",
        rank=84,
        examples=("parler room successor bob --room auth-redesign", "parler room successor --none"),
    ),
    "room takeover": Handler(
        _takeover_arguments, _takeover, section="Who may come in", rank=86, examples=("parler room takeover team",)
    ),
    "room continue": Handler(
        _continue_arguments,
        _continue,
        section="Who may come in",
        rank=87,
        examples=("parler room continue auth-redesign", "parler room continue auth-redesign --without-owner"),
    ),
    "room turns": Handler(
        _turns_arguments,
        _turns,
        section="Who may come in",
        rank=88,
        examples=("parler room turns auth-redesign 40", "parler room turns auth-redesign default"),
    ),
    "room retention": Handler(
        _retention_arguments,
        _retention,
        section="Who may come in",
        rank=89,
        examples=(
            "parler room retention auth-redesign --messages 5000 --days 30",
            "parler room retention auth-redesign --days default",
        ),
    ),
    "room archive": Handler(
        _archive_arguments, _archive, section="Who may come in", rank=90, examples=("parler room archive team",)
    ),
    "room delete": Handler(
        _delete_arguments, _delete, section="Who may come in", rank=95, examples=("parler room delete team",)
    ),
}
