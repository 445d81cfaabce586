"""`parler relay ...`: the relay that this person runs, in a terminal or as the service that `connect --team` made.

Not here: making it (`team`), and how it is kept running (`relay.service`). Invariant: what takes something from others
(`kick`) is asked about first.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from parlerd import __version__
from parlerd.cli import relay_store, team
from parlerd.cli.context import Context
from parlerd.cli.daemon import NOT_RUNNING, log_arguments, show_log
from parlerd.cli.handlers import Handler, no_arguments, place_arguments
from parlerd.cli.output import DONE, UNREACHABLE, Cell
from parlerd.cli.parsing import Parser
from parlerd.cli.render import counted, day_or_time, span_of
from parlerd.client.versions import is_older
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import prepare

if TYPE_CHECKING:
    from argparse import Namespace


START: Final = "parler relay start"


def _foreground_arguments(parser: Parser) -> None:
    place_arguments(parser)
    relay_store.arguments(parser, "keep the rooms in this PostgreSQL database (postgresql://USER@HOST/DATABASE)")


def _foreground(ctx: Context, args: Namespace) -> int:
    from relay import place as places
    from relay import store_url

    team.require_person()
    url = relay_store.wanted(ctx, args)
    known, wanted = team.keep_place(ctx, args)
    home = team.relay_of(ctx)
    if url is not None:
        wanted = places.in_database(home, wanted)
    if wanted != known or url is not None:
        prepare(ctx.home)
        prepare(home)
        if url is not None:
            store_url.keep(home, url)
        places.store(home, wanted)
    command = team.service_of(ctx).command
    ctx.out.note("The relay runs in this terminal until Ctrl-C. In another: parler relay status")
    os.execve(sys.executable, command, dict(ctx.env))  # noqa: S606 - there is no shell to keep


def _start(ctx: Context, _args: Namespace) -> int:
    from relay import place as places

    if places.load(team.relay_of(ctx)) is None:
        raise ParlerError("relay_not_running", "No relay was made in this home.", hint=f"Make one: {team.MAKE}")
    info = team.status(ctx)
    if info is None:
        team.require_person()
        service = team.service_of(ctx)
        service.make()
        info = team.start(ctx, service)
    return _show(ctx, info)


def _stop(ctx: Context, _args: Namespace) -> int:
    service = team.service_of(ctx)
    pid = team.stop(ctx, service)
    out = ctx.out
    if out.json:
        out.document({**NOT_RUNNING, "stopped": pid})
        return DONE
    if pid is None:
        out.say("No relay is running.")
        return DONE
    out.say(f"The relay (pid {pid}) stopped. What others send waits at their machines.")
    record = service.record
    if record is not None and record.kind != "detached":
        out.say("It starts again with your next login, or now with `parler relay start`.")
    return DONE


def _status(ctx: Context, _args: Namespace) -> int:
    info = team.status(ctx)
    if info is not None:
        return _show(ctx, info)
    if ctx.out.json:
        ctx.out.document(NOT_RUNNING)
    else:
        from relay import place as places

        made = places.load(team.relay_of(ctx)) is not None
        ctx.out.say("No relay is running here. ", f"Start it: {START}" if made else f"Make one: {team.MAKE}")
    return UNREACHABLE


def _show(ctx: Context, info: t.RelayInfo) -> int:
    out = ctx.out
    if out.json:
        out.document(info)
        return DONE
    up = span_of(info.uptime_ms / 1000)
    out.say("The relay ", (info.name, "name"), " has been ", ("running", "good"), f" for {up}: pid {info.pid}")
    if is_older(info.version, __version__):
        out.say((f"It is version {info.version}. To put {__version__} in its place: {team.MAKE}", "warn"))
    counts = [counted(info.people, "person is", "people are") + " enrolled", f"{info.daemons} connected now"]
    if info.rooms is not None:
        counts.append(counted(info.rooms, "room"))
    out.say(", ".join(counts))
    if info.store:
        out.say(("rooms   ", "dim"), info.store)
    for each in sorted(info.relays, key=lambda each: each.address):
        if len(info.relays) > 1:
            away = "" if each.reached else ", not reached from here"
            where = each.address or "no address now"
            out.say(("relay   ", "dim"), f"{where}, version {each.version}, {each.shards} of 1024 shards{away}")
        if each.older:
            said = f"Newer relays wrote what version {each.version} does not know, so it takes no rooms."
            out.say((f"{said} Upgrade Parler on that machine.", "warn"))
    if not info.store_ok:
        out.say(("Nothing can be stored there now. The relay's log says why: parler relay logs", "warn"))
    for address in info.addresses:
        out.say(("address ", "dim"), address)
    out.say(("secret  ", "dim"), info.join_secret_file)
    if not info.join_line:
        out.say(("This machine has no address in a network now, so nobody else reaches the relay.", "warn"))
        return DONE
    out.say("Whoever joins runs this, and types the secret:")
    out.paste(f"parler connect --relay {info.join_line}")
    return DONE


def _logs(ctx: Context, args: Namespace) -> int:
    return show_log(
        ctx,
        team.relay_of(ctx).log,
        args,
        ParlerError("relay_not_running", "No relay ever ran in this home.", hint=f"Make one: {team.MAKE}"),
    )


def _members(ctx: Context, _args: Namespace) -> int:
    listed = _listed(ctx)
    out = ctx.out
    if out.json:
        out.document(listed)
        return DONE
    if not listed.members:
        out.say("Nobody is enrolled yet. `parler relay status` shows the line for others.")
        return DONE
    rows: list[tuple[Cell, ...]] = [
        (
            (member.name, "name"),
            member.fingerprint,
            ("connected", "good") if member.connected else "",
            (day_or_time(member.enrolled_at, ctx.now()), "dim"),
        )
        for member in listed.members
    ]
    out.listing(("says it is", "fingerprint", "now", "since"), rows)
    return DONE


def _listed(ctx: Context) -> t.RelayMemberList:
    listed = team.ask(ctx, "relay.members", t.ListRelayMembers())
    assert isinstance(listed, t.RelayMemberList)
    return listed


def _kick_arguments(parser: Parser) -> None:
    parser.add_argument("person", metavar="PERSON", help="a name, fingerprint or key, as `parler relay members` has it")
    parser.add_argument("--yes", action="store_true", help="without asking")


def _kick(ctx: Context, args: Namespace) -> int:
    if not args.yes:
        named = [
            member
            for member in _listed(ctx).members
            if args.person in (member.person, member.fingerprint) or args.person.casefold() == member.name.casefold()
        ]
        if not named:
            raise ParlerError(
                "no_such_agent", "Nobody of this name is enrolled here.", hint="Look who is: parler relay members"
            )
        if len(named) > 1:
            candidates = [f"{member.fingerprint}  {member.name}" for member in named]
            raise ParlerError("ambiguous_name", hint="Give a fingerprint.", candidates=candidates)
        (member,) = named
        ctx.agree(
            f"This ends the links, memberships and session keys of {member.name}, fingerprint {member.fingerprint}. "
            "It also changes the join secret."
        )
    done = team.ask(ctx, "relay.kick", t.KickFromRelay(person=args.person))
    assert isinstance(done, t.KickedFromRelay)
    out = ctx.out
    if out.json:
        out.document(done)
        return DONE
    ended = (
        counted(done.links, "link"),
        counted(done.memberships, "membership"),
        counted(done.keys, "session key"),
    )
    out.say((done.name, "name"), f" is out: {', '.join(ended)} ended.")
    out.say(f"The join secret is another one now, for whoever joins from here on: {done.join_secret_file}")
    return DONE


def _backup_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="where to write; the file must not be there yet")


def _backup(ctx: Context, args: Namespace) -> int:
    path = os.path.abspath(args.file)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        # The relay writes the file, and is told the path as text.
        raise ParlerError("invalid_param", "The path of this file is not UTF-8 text.", param="file") from error
    done = team.ask(ctx, "relay.backup", t.BackUpRelay(file=path))
    assert isinstance(done, t.RelayBackedUp)
    if ctx.out.json:
        ctx.out.document(done)
    else:
        ctx.out.say(f"Everything of the relay is in {done.file}. Keep it as safe as a key: its keys are in it.")
    return DONE


HANDLERS: Final = {
    "relay": Handler(
        _foreground_arguments,
        _foreground,
        section="Sessions across machines",
        rank=20,
        summary="Run a relay in this terminal, for sessions across machines.",
        examples=("parler relay --bind 192.168.1.20", "parler relay --store postgresql://parler@db/parler"),
    ),
    "relay status": Handler(
        no_arguments, _status, section="Sessions across machines", rank=30, examples=("parler relay status",)
    ),
    "relay start": Handler(
        no_arguments,
        _start,
        section="Sessions across machines",
        rank=40,
        summary="Start the relay that `parler connect --team` made.",
        examples=("parler relay start",),
    ),
    "relay stop": Handler(
        no_arguments, _stop, section="Sessions across machines", rank=50, examples=("parler relay stop",)
    ),
    "relay logs": Handler(
        log_arguments,
        _logs,
        section="Sessions across machines",
        rank=60,
        summary="Show the end of the relay's log.",
        examples=("parler relay logs --follow",),
    ),
    "relay members": Handler(
        no_arguments, _members, section="Sessions across machines", rank=70, examples=("parler relay members",)
    ),
    "relay kick": Handler(
        _kick_arguments,
        _kick,
        section="Sessions across machines",
        rank=80,
        examples=("parler relay kick ben",),
    ),
    "relay backup": Handler(
        _backup_arguments,
        _backup,
        section="Sessions across machines",
        rank=90,
        examples=("parler relay backup relay-2026-11-28.tar",),
    ),
}
