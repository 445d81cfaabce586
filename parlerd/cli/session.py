"""`parler session ...`: open a conversation, knock at one, decide who comes in, close it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context, decode_text, new_key
from parlerd.cli.handlers import Handler, list_arguments, room_argument
from parlerd.cli.output import DONE, FAILED, PENDING, Cell, moment
from parlerd.cli.parsing import Parser, positive, seconds, unicode_text
from parlerd.cli.render import (
    agents_in,
    first_of,
    left_of,
    say_hidden,
    show_messages,
    show_requests,
    unsaid,
)
from parlerd.cli.rooms import GLANCE, by_attention, glance, who_knocks
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

SEALED: Final = (
    "Sealed: the relay cannot read messages, memory and the topic. It sees who is in, for whom and when each message "
    "is and how large, and keys, values and expressions of the room's state."
)
"""What whoever opens a sealed session is told of it. Source: sealed spec, What the relay sees."""
CLEAR: Final = "Clear: the relay can read this room."
_IN: Final = ("joined", "already_member")
"""The statuses of a join that come with the session's context."""


# -- open --------------------------------------------------------------------------------------------------


def _open_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--topic", default="", type=unicode_text, metavar="TOPIC", help="what it is about; names the room"
    )
    context = parser.add_mutually_exclusive_group()
    context.add_argument(
        "--context", default="", type=unicode_text, metavar="TEXT", help="the recap whoever joins begins with"
    )
    context.add_argument("--context-file", metavar="FILE", help="read the recap from a file, or from stdin with -")
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument(
        "--approval",
        action="store_const",
        const=True,
        default=None,
        help="ask a person about each one who knocks (the default, unless the settings say otherwise)",
    )
    gate.add_argument(
        "--no-approval",
        dest="approval",
        action="store_const",
        const=False,
        help="let the key alone admit, without asking a person",
    )
    parser.add_argument(
        "--approver", choices=("person", "agent"), default="person", help="who decides (default: person)"
    )
    parser.add_argument(
        "--preapprove", action="append", default=[], metavar="ID", help="an agent id to admit without asking"
    )
    parser.add_argument(
        "--ttl", type=lifetime, metavar="S", help="seconds the key lives, from 60 to 30 days (default: a day)"
    )
    parser.add_argument(
        "--max-uses", type=positive, metavar="N", help="how many may come in with the key (default: 50)"
    )
    parser.add_argument(
        "--history",
        choices=("full", "from-join", "none"),
        default="full",
        help="how much a joiner may read (default: full)",
    )
    # Not --home: everywhere in this program that is a folder of this machine.
    parser.add_argument(
        "--at", default="", metavar="NAME", help="where it opens: local, or a relay (default: see `parler homes`)"
    )
    parser.add_argument(
        "--clear",
        action="store_true",
        help="let the relay that it opens on read it (default: the relay carries it and cannot read it)",
    )
    parser.add_argument(
        "--name", type=unicode_text, metavar="NAME", help="what it is called, and no other name (default: as its topic)"
    )
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def lifetime(text: str) -> int:
    """How long a key lives, in milliseconds."""
    import argparse

    span = seconds(text)
    if not t.MIN_TTL_MS <= span <= t.MAX_TTL_MS:
        raise argparse.ArgumentTypeError(
            f"a key lives from {t.MIN_TTL_MS // 1000} seconds to {t.MAX_TTL_MS // 86_400_000} days, not {text} seconds"
        )
    return span


def _open(ctx: Context, args: Namespace) -> int:
    params = t.OpenSession(
        context=_context_text(ctx, args.context, args.context_file),
        topic=args.topic,
        name=args.name,
        approval=args.approval,
        approver=args.approver,
        preapprove=tuple(args.preapprove),
        ttl_ms=args.ttl,
        max_uses=args.max_uses,
        history=args.history,
        home=args.at,
        clear=args.clear,
        idempotency_key=args.key or new_key(),
    )
    opened = ctx.call_again("session.open", params, t.OpenedSession)
    out = ctx.out
    if out.json:
        out.document(opened)
        return DONE
    if opened.session_key is None:
        out.say(f"This session was opened before: room '{opened.name}' ({opened.room}).")
        out.say("An earlier version of Parler made its key and kept nothing of it. Open another session for a new key.")
        return DONE
    if opened.replayed:
        out.note("This session was opened before, by the same request. This is its key again.")
    out.paste("KEY: ", (opened.session_key, "good"))
    left = left_of(opened.expires, ctx.now())
    room: Cell = (f"'{opened.name}'", "name")
    if opened.approval:
        out.say("room ", room, f": the key lets others knock for {left}; you decide.")
    else:
        out.say("room ", room, (f": the key lets anyone in for {left}. Keep it secret.", "warn"))
    if opened.connect_command:
        out.say(SEALED if opened.sealed else CLEAR)
    if isinstance(opened.warning, str):
        out.say((opened.warning, "warn"))
    if opened.mcp_command and opened.join_command:
        out.say("No agent host is connected yet (`parler connect`). To join from a shell:")
        out.paste(opened.join_command)
    elif opened.line:
        out.say("Say this to the agent that is to join:")
        out.paste(opened.line)
    if opened.connect_command:
        out.say("On a machine that does not know this relay yet, its person runs this first:")
        out.paste(opened.connect_command)
    if opened.approval:
        out.say("Then see who knocks, and decide: parler approvals")
    return DONE


def _context_text(ctx: Context, text: str, file: str | None) -> str:
    if file is None:
        return text
    if file == "-":
        return ctx.read_stdin()
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise ParlerError("invalid_param", f"{file} cannot be read: {error.strerror}.", param="context") from error
    return decode_text(data, file)


# -- join --------------------------------------------------------------------------------------------------


def _join_arguments(parser: Parser) -> None:
    parser.add_argument("session_key", type=unicode_text, metavar="KEY", help="the key that you were given")
    parser.add_argument(
        "--role", type=unicode_text, default="", metavar="ROLE", help="what you are there, as `reviewer`: for hand-offs"
    )
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", type=seconds, metavar="S", help="wait up to S seconds for the person to decide")
    waiting.add_argument("--no-wait", action="store_true", help="knock and return (the default off a terminal)")


def _join(ctx: Context, args: Namespace) -> int:
    out = ctx.out
    deadline: float | None = ctx.monotonic()
    if args.wait is not None:
        deadline = ctx.monotonic() + args.wait / 1000
    elif not args.no_wait and ctx.at_terminal():
        deadline = None
    joined = _knock(ctx, args.session_key, args.role, ctx.monotonic())
    if joined.status == "pending" and (deadline is None or deadline > ctx.monotonic()):
        if not out.json:
            _say_pending(ctx, joined)
            out.flush()
        code = f" (code {joined.join_code})" if joined.join_code else ""
        try:
            with out.progress(f"Waiting to be let in{code} - Ctrl-C ends the wait", after_s=0.0):
                joined = _knock(ctx, args.session_key, args.role, deadline)
        except KeyboardInterrupt:
            if not out.json:
                _say_how_to_go_on(ctx, args.session_key, "You no longer wait, and your request stays.")
            raise
        if joined.status == "pending" and not out.json:
            _say_how_to_go_on(ctx, args.session_key, "Still waiting. Your request stays.")
            return PENDING
    if out.json:
        out.document(joined)
    elif joined.status == "pending":
        _say_pending(ctx, joined)
        out.say("Once you are let in, run the same command again.")
    elif joined.status == "denied":
        out.note(("You are not let in. ", "bad"), joined.hint or "The person declined this request.")
    else:
        _say_joined(ctx, joined)
    out.flush()
    if joined.status in _IN and joined.cursor:
        # The messages that a join returned count as shown, and they were printed.
        ctx.call_again("message.commit", t.Commit(room=joined.room, cursor=joined.cursor), t.Committed)
    if joined.status in _IN:
        return DONE
    return PENDING if joined.status == "pending" else FAILED


def _knock(ctx: Context, key: str, role: str, deadline: float | None) -> t.JoinedSession:
    """Knock, and wait for the decision until `deadline`."""

    def ask(wait_ms: int) -> t.JoinSession:
        return t.JoinSession(session_key=key, role=role, wait_ms=wait_ms)

    def is_decided(joined: t.JoinedSession) -> bool:
        return joined.status != "pending"

    try:
        return ctx.wait_for("session.join", ask, t.JoinedSession, deadline=deadline, until=is_decided)
    except ParlerError as error:
        if error.code != "unknown_key" or ctx.home.root == ctx.usual_home():
            raise
        hint = (
            f"This is the home {ctx.home.root}, a user of its own with its own daemon. "
            "If the session lives in ~/.parler, stay there and join as another agent with --as NAME."
        )
        raise ParlerError("unknown_key", hint=hint) from error


def _say_pending(ctx: Context, pending: t.JoinedSession) -> None:
    out = ctx.out
    if not pending.join_code:
        # There is no code to pass on: the hint says whom or what the request waits for.
        out.say(("Pending: ", "warn"), pending.hint or "your request waits.")
        out.say("Nothing of the conversation is shown before you are in.")
        return
    out.say(("Pending approval: ", "warn"), "the request is with the person who owns this session.")
    out.say("Nothing of the conversation is shown before they let you in.")
    out.say("If they ask, tell them this code:")
    out.say((pending.join_code, "good"))


def _say_how_to_go_on(ctx: Context, key: str, so_far: str) -> None:
    """Say what stays when the wait ends, and the command that goes on waiting: a repeated knock by the same agent finds
    the same request."""
    ctx.out.note(so_far, " To go on waiting:")
    name = f"--as {ctx.as_name} " if ctx.as_name and not ctx.env.get("PARLER_AGENT") else ""
    ctx.out.note((f"parler {name}session join {key}", "bold"))
    ctx.out.note("To take it back:")
    ctx.out.note((f"parler {name}session withdraw {key}", "bold"))


def _say_joined(ctx: Context, joined: t.JoinedSession) -> None:
    out = ctx.out
    did = "You are already in " if joined.status == "already_member" else "Joined "
    out.say((did, "good"), (f"'{joined.name or joined.room}'", "name"), f" as {joined.you}." if joined.you else ".")
    show_messages(out, joined.messages, ctx.now(), you=joined.you)
    if joined.truncated:
        if joined.first_unshown:
            gap = f"Messages {joined.first_unshown} to {joined.last_unshown} are not shown here. To read them:"
            out.say((gap, "warn"))
            out.paste(f"parler recv --room {joined.name or joined.room} --since {max(joined.first_unshown - 1, 0)}")
        else:
            out.say(("More follows. To read it:", "warn"))
            out.paste(f"parler recv --room {joined.name or joined.room}")
    if joined.remembers:
        more = f" and {joined.more_keys} more" if joined.more_keys else ""
        out.say("It remembers ", (", ".join(joined.remembers), "bold"), f"{more}. To read one: parler recall KEY")


def _withdraw_arguments(parser: Parser) -> None:
    parser.add_argument(
        "session_key",
        nargs="?",
        default="",
        type=unicode_text,
        metavar="KEY",
        help="the key with which you knocked; default: your only request that waits",
    )


def _withdraw(ctx: Context, args: Namespace) -> int:
    withdrawn = ctx.call("session.withdraw", t.WithdrawKnock(session_key=args.session_key), t.WithdrawnKnock)
    if ctx.out.json:
        ctx.out.document(withdrawn)
    else:
        which = f" with the key {withdrawn.begins}..." if withdrawn.begins else ""
        ctx.out.say(f"Your request to come in{which} is ", ("taken back", "good"), ".")
        ctx.out.say("Nobody is asked about it any more. To ask again, join with the key.")
    return DONE


# -- decide ------------------------------------------------------------------------------------------------


def _requests(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("session.requests", t.SessionRequests(room=args.room), t.RequestList)
    if ctx.out.json:
        ctx.out.document(found)
    else:
        show_requests(ctx.out, found.requests, ctx.now())
        if found.notice:
            ctx.out.note(found.notice)
    return DONE


def _approve_arguments(parser: Parser) -> None:
    _agent_argument(parser)
    parser.add_argument("--code", type=unicode_text, metavar="CODE", help="the 4 characters that the joiner shows")


def _deny_arguments(parser: Parser) -> None:
    _agent_argument(parser)


def _agent_argument(parser: Parser) -> None:
    parser.add_argument(
        "agent", type=unicode_text, metavar="AGENT", help="its id, or a name only one of those who knock has"
    )
    room_argument(parser)


def _approve(ctx: Context, args: Namespace) -> int:
    code = args.code
    params = t.DecideJoin(
        agent=args.agent, room=args.room, join_code=code, terminal=code is not None and ctx.at_terminal()
    )
    return _decided(ctx, ctx.call("session.approve", params, t.Decided))


def _deny(ctx: Context, args: Namespace) -> int:
    return _decided(ctx, ctx.call("session.deny", t.DecideJoin(agent=args.agent, room=args.room), t.Decided))


def _decided(ctx: Context, decided: t.Decided) -> int:
    name, room = decided.name or decided.agent, decided.room_name or decided.room
    if ctx.out.json:
        ctx.out.document(decided)
    elif decided.direct_to:
        said = (
            f" may write to {decided.direct_to}."
            if decided.status == "approved"
            else f" does not reach {decided.direct_to} until you approve that agent after all."
        )
        is_good = decided.status == "approved"
        ctx.out.say(("Approved: ", "good") if is_good else ("Denied: ", "warn"), (name, "name"), said)
    elif decided.status == "approved":
        ctx.out.say(("Approved: ", "good"), (name, "name"), f" is now in '{room}'.")
    else:
        ctx.out.say(
            ("Denied: ", "warn"), (name, "name"), f" stays out of '{room}' until you approve that agent after all."
        )
    return DONE


# -- look after --------------------------------------------------------------------------------------------


def _close(ctx: Context, args: Namespace) -> int:
    closed = ctx.call("session.close", t.CloseSession(room=args.room), t.ClosedSession)
    if ctx.out.json:
        ctx.out.document(closed)
    elif closed.status == "left":
        ctx.out.say("You left ", (f"'{closed.name}'", "name"), ".")
    else:
        ctx.out.say(
            "You closed ", (f"'{closed.name}'", "name"), " for everyone. Its keys are revoked; you can still read it."
        )
    return DONE


def _list(ctx: Context, args: Namespace) -> int:
    listed = ctx.call_again("session.list", t.ListSessions(), t.SessionList)
    out = ctx.out
    if out.json:
        out.document(listed)
        return DONE
    if not listed.sessions:
        out.say("You have no session yet. To open one:")
        out.paste('parler session open --topic TOPIC --context "where we are and what is left"')
        return DONE
    found = {room.room: room for room in ctx.call_again("rooms.list", t.ListRooms(), t.RoomList).rooms}
    sessions = {session.room: session for session in listed.sessions if session.room in found}
    rooms = by_attention([found[room] for room in sessions], all=args.all)
    knocks = who_knocks(ctx, rooms)
    rows: list[tuple[Cell, ...]] = [
        (
            *glance(ctx, room, knocks),
            _keys(sessions[room.room].keys, wide=args.wide),
            agents,
            room.topic if args.wide else unsaid(room.topic),
            room.state if args.all else "",
            room.room if args.wide else "",
        )
        for room, agents in zip(rooms, agents_in([room.agents for room in rooms], all=args.wide), strict=True)
    ]
    if rows:
        out.listing(
            (*GLANCE, "key", "your agents", "topic", "state", "id"),
            rows,
            cut=(0, 2, 5, 6),
            spare=() if args.wide else (5,),
        )
    say_hidden(out, len(sessions) - len(rows))
    return DONE


def _keys(keys: Sequence[t.SessionKey], *, wide: bool) -> str:
    """The keys that can be used, or how the last one ended. With `wide`, every key, how often it was used, and until
    when it lives."""
    if wide:
        return "; ".join(
            f"{_shown_key(key)} {key.state.replace('_', ' ')}, {key.uses}/{key.max_uses} used"
            + (f", until {moment(key.expires)}" if key.state == "live" else "")
            for key in keys
        )
    live = [_shown_key(key) for key in keys if key.state == "live"]
    return first_of(live) or (keys[-1].state.replace("_", " ") if keys else "")


def _shown_key(key: t.SessionKey) -> str:
    """A key that only lets an agent knock, as it is typed. Of a key that admits unasked, which is a secret, only the
    beginning."""
    if key.session_key and key.approval:
        return key.session_key
    return f"{key.begins}..." if key.begins else key.key_ref


def _revoke_arguments(parser: Parser) -> None:
    parser.add_argument(
        "session_key",
        type=unicode_text,
        metavar="KEY",
        help="the key to make useless; of your own, what `session list` shows of it is enough",
    )


def _revoke(ctx: Context, args: Namespace) -> int:
    revoked = ctx.call("session.revoke", t.RevokeSessionKey(session_key=args.session_key), t.RevokedKey)
    if ctx.out.json:
        ctx.out.document(revoked)
    else:
        which = f"The key {revoked.begins}... of " if revoked.begins else "The key of "
        ctx.out.say(which, (f"'{revoked.name or revoked.room}'", "name"), " is ", ("revoked", "good"), ".")
        ctx.out.say("Nobody can knock with it any more. Whoever is in the room stays there.")
    return DONE


HANDLERS: Final = {
    "session open": Handler(
        _open_arguments,
        _open,
        section="Begin",
        rank=30,
        examples=(
            'parler session open --topic auth-redesign --context "Left: token rotation."',
            "parler session open --topic auth-redesign --context-file recap.md",
        ),
    ),
    "session join": Handler(
        _join_arguments,
        _join,
        section="Begin",
        rank=40,
        examples=(
            "parler session join A3KE7DJR",
            "parler --as bob session join A3KE7DJR --wait 60",
            "parler --as bob session join A3KE7DJR --role reviewer",
        ),
    ),
    "join": Handler(
        _join_arguments,
        _join,
        section="Begin",
        rank=55,
        summary="Join a channel or a session with its code.",
        examples=("parler join A3KE7DJR",),
    ),
    "session withdraw": Handler(
        _withdraw_arguments,
        _withdraw,
        section="Begin",
        rank=45,
        examples=("parler session withdraw", "parler --as bob session withdraw A3KE7DJR"),
    ),
    "session requests": Handler(
        room_argument,
        _requests,
        section="Who may come in",
        rank=20,
        examples=("parler session requests --room auth-redesign",),
    ),
    "session approve": Handler(
        _approve_arguments,
        _approve,
        section="Who may come in",
        rank=30,
        examples=(
            "parler session approve bob",
            "parler session approve bob --room auth-redesign --code K7QM",
        ),
    ),
    "session deny": Handler(
        _deny_arguments,
        _deny,
        section="Who may come in",
        rank=40,
        examples=("parler session deny bob --room auth-redesign",),
    ),
    "session close": Handler(
        room_argument,
        _close,
        section="Who may come in",
        rank=60,
        examples=("parler session close --room auth-redesign",),
        gives_receipt=True,
    ),
    "session list": Handler(
        list_arguments,
        _list,
        section="Look around",
        rank=20,
        examples=(
            "parler session list",
            "parler session list --all --wide",
        ),
    ),
    "session revoke": Handler(
        _revoke_arguments, _revoke, section="Who may come in", rank=50, examples=("parler session revoke A3KE7DJR",)
    ),
}
