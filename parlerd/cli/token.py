"""`parler token mint`, `token list`, `token revoke` and `serve-http`."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Final, get_args

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, unicode_text, whole
from parlerd.cli.render import clock
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

SERVE: Final = "parler serve-http"
AS_JSON: Final = "-H 'Content-Type: application/json'"


def _mint_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--room",
        action="append",
        type=unicode_text,
        metavar="ROOM",
        help="a room's id or name (default: the active session); repeat it for a token of several rooms",
    )
    parser.add_argument(
        "--access",
        type=unicode_text,
        metavar="LIST",
        default=",".join(t.DEFAULT_ACCESS),
        help=f"what it may be used for, with commas: {', '.join(get_args(t.Access))} (default: %(default)s)",
    )
    parser.add_argument("--days", type=whole, default=t.DEFAULT_DAYS, metavar="N", help="how long (default: 30)")
    parser.add_argument("--label", type=unicode_text, default="", metavar="TEXT", help="what you call it")
    parser.add_argument(
        "--join",
        action="store_true",
        help="with it new agents come into the room, which you let in by this; --access is what each of them may do",
    )
    parser.add_argument(
        "--invite",
        type=unicode_text,
        default="",
        metavar="CODE",
        help="with it new agents come in with this code or session key, of your room or another's; instead of --room",
    )
    parser.add_argument(
        "--approval", action="store_true", help="with --join: you are asked about each who comes all the same"
    )
    parser.add_argument(
        "--opens",
        type=whole,
        default=0,
        metavar="N",
        help="it opens up to N rooms, with a --room of a relay there, and acts in them; without --room in no others",
    )
    parser.add_argument("--uses", type=whole, metavar="N", help="how many agents come in with it (default: 1)")
    parser.add_argument(
        "--name",
        type=unicode_text,
        default="",
        metavar="NAME",
        help="in a room of a relay: what its agent is called there (default: like the one that mints)",
    )
    parser.add_argument(
        "--here", action="store_true", help="in a room of a relay: for this machine's own door, as the agent that mints"
    )


def _mint(ctx: Context, args: Namespace) -> int:
    access = tuple(word.strip() for word in args.access.split(",") if word.strip())
    if not access:
        raise UsageError("--access names nothing that the token is for", path="parler token mint")
    if unknown := [word for word in access if word not in get_args(t.Access)]:
        words = ", ".join(get_args(t.Access))
        raise UsageError(f"--access has no {unknown[0]!r}: it is {words}", path="parler token mint")
    joins = args.join or bool(args.invite)
    if args.approval and not joins:
        raise UsageError("--approval is for a token that joins: --join", path="parler token mint")
    if args.uses is not None and not joins:
        raise UsageError("--uses is for a token that joins: --join", path="parler token mint")
    if args.invite and args.room:
        raise UsageError("--invite says which room it is: leave --room out", path="parler token mint")
    if args.opens and joins:
        raise UsageError(
            "--opens is for a token that acts, and --join for one that only joins", path="parler token mint"
        )
    rooms = args.room or [None]
    if joins and len(rooms) > 1:
        raise UsageError("--join is for one --room", path="parler token mint")
    if args.here and args.name:
        said = "--name is for an agent at the relay, and --here for one of this machine"
        raise UsageError(said, path="parler token mint")
    if args.name and len(rooms) > 1:
        raise UsageError("--name is for one --room, at its relay", path="parler token mint")
    params = t.MintToken(
        room=rooms[0] if len(rooms) == 1 else None,
        rooms=tuple(rooms) if len(rooms) > 1 else (),
        access=access,
        days=args.days,
        label=args.label,
        join=joins,
        invite=args.invite,
        approval=args.approval,
        uses=args.uses,
        name=args.name,
        here=args.here,
        opens=args.opens,
    )
    minted = ctx.call("token.mint", params, t.MintedToken)
    out = ctx.out
    if out.json:
        out.document(minted)
        return DONE
    info = minted.info
    where = f"{len(info.rooms)} rooms" if len(info.rooms) > 1 else f"'{info.name or info.room}'"
    if joins:
        out.say("A token to join ", (where, "name"), " with, told this once:")
    elif not info.room:
        out.say("A token of ", (info.agent, "name"), " to open rooms with, told this once:")
    else:
        out.say("A token of ", (info.agent, "name"), " in ", (where, "name"), ", told this once:")
    out.paste("TOKEN=", (minted.token, "good"))
    until = clock(info.expires_at, ctx.now())
    out.say(f"It is {info.id}, for {', '.join(info.access)}, until {until}.")
    call = "/v1/me"
    if joins:
        many = "One new agent comes" if info.uses == 1 else f"{info.uses} new agents come"
        if info.invite:
            out.note(f"{many} in with it by the invite, for as long as that lets anybody in.")
            own = "You are asked" if args.approval else "You are not asked"
            out.note(f"{own} about a room of yours. About another's, whoever owns it decides.")
        elif args.approval:
            out.note(f"{many} in with it, once you let them in: parler session approve NAME")
        else:
            out.note(f"{many} in with it, without your being asked.")
        out.note("Each is given a token of its own until then.")
        call = f'/v1/joins {AS_JSON} -d \'{{"name": "build-bot"}}\''
    else:
        acts = f"Whoever has it acts as this agent in {'these rooms' if len(info.rooms) > 1 else 'this room'}."
        if info.opens:
            many = "one room" if info.opens == 1 else f"{info.opens} rooms"
            own = "at the relay, which are yours," if minted.authority_file else "as this agent,"
            opens = f"Whoever has it opens {many} {own} and acts there."
            acts = f"{acts} {opens}" if info.room else opens
            call = f'/v1/rooms {AS_JSON} -d \'{{"topic": "build"}}\''
        out.note(acts)
    if minted.authority_file and minted.url is not None:
        for_whom = "each of them" if joins else "it"
        out.note(f"The relay speaks for {for_whom}, and what is said so is shown as the relay's word (home).")
        out.note("The relay is found at:")
        out.paste("URL: ", (minted.url, "good"))
        out.note("Clients find it by this file, which you may copy:")
        out.paste("CA: ", (minted.authority_file, "good"))
        out.note("Try it:")
        curl = f'curl --cacert {quote(minted.authority_file)} -H "Authorization: Bearer $TOKEN" {minted.url}{call}'
        out.paste(curl, beside=True)
    elif minted.url is None:
        out.note("This home does not answer over HTTP yet:")
        out.paste(SERVE, beside=True)
    else:
        out.note("Try it:")
        out.paste(f'curl -H "Authorization: Bearer $TOKEN" {minted.url}{call}', beside=True)
    return DONE


def _list(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("token.list", t.ListTokens(), t.TokenList)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    if not found.tokens:
        out.say("There is no token.")
        return DONE
    rows = [
        (
            each.id,
            _does(each),
            each.agent,
            _where(each),
            ",".join(each.access),
            clock(each.expires_at, ctx.now()),
            clock(each.used_at, ctx.now()) if each.used_at else "",
            each.label,
        )
        for each in found.tokens
    ]
    out.table(("id", "does", "agent", "room", "for", "until", "used", "label"), rows)
    return DONE


def _does(token: t.TokenInfo) -> str:
    """What is done with a token, and how often it can still be."""
    if token.uses:
        return f"joins, {token.uses_left} of {token.uses} left"
    return f"acts, opens {token.opens_left} of {token.opens} rooms" if token.opens else "acts"


def _where(token: t.TokenInfo) -> str:
    """In which room a token acts, and in how many besides."""
    first = token.name or token.room
    return f"{first} and {len(token.rooms) - 1} more" if len(token.rooms) > 1 else first


def _revoke_arguments(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the token's id, as `parler token list` shows it")


def _revoke(ctx: Context, args: Namespace) -> int:
    revoked = ctx.call("token.revoke", t.RevokeToken(id=args.id), t.RevokedToken)
    if ctx.out.json:
        ctx.out.document(revoked)
    else:
        ctx.out.say(("Revoked", "good"), f": {revoked.id} opens nothing any more.")
    return DONE


def _serve_arguments(parser: Parser) -> None:
    parser.add_argument("--port", type=whole, default=0, metavar="N", help="the port (default: any that is free)")
    parser.add_argument(
        "--open",
        action="store_true",
        help="let your programs open rooms, and come into them, without a token",
    )
    parser.add_argument("--stop", action="store_true", help="answer no more")


def _serve(ctx: Context, args: Namespace) -> int:
    served = ctx.call("http.serve", t.ServeHttp(port=args.port, stop=args.stop, open=args.open), t.ServesHttp)
    out = ctx.out
    if out.json:
        out.document(served)
    elif served.url is None:
        out.say("This home does not answer over HTTP any more.")
    else:
        out.say("This home answers programs of this machine, until its daemon ends:")
        out.paste("URL: ", (served.url, "good"))
        if served.open:
            out.note("Every program of yours may open a room there, and come into it as a new agent:")
            out.paste(
                f"curl {served.url}/rooms -H 'Content-Type: application/json' -d '{{\"id\": \"team\"}}'", beside=True
            )
        else:
            out.note("A program needs a token for what it asks:")
            out.paste("parler token mint --room ROOM", beside=True)
    return DONE


HANDLERS: Final = {
    "token mint": Handler(
        _mint_arguments,
        _mint,
        section="Programs over HTTP",
        rank=20,
        examples=(
            "parler --as bob token mint --room team",
            "parler token mint --room team --room annex",
            "parler token mint --join --room team --uses 3",
            "parler token mint --invite A3KE7DJR --uses 3",
            "parler token mint --opens 5",
            "parler token mint --room team --name ci",
        ),
    ),
    "token list": Handler(
        lambda parser: None, _list, section="Programs over HTTP", rank=30, examples=("parler token list",)
    ),
    "token revoke": Handler(
        _revoke_arguments,
        _revoke,
        section="Programs over HTTP",
        rank=40,
        examples=("parler token revoke tk_0123456789abcdefghij",),
    ),
    "serve-http": Handler(
        _serve_arguments, _serve, section="Programs over HTTP", rank=10, examples=("parler serve-http --port 8756",)
    ),
}
