"""`parler connect`: puts Parler into the settings of every agent host, shows what is there, and takes it out again.

It also says where new sessions live: `--local`, `--team`, `--relay`. Not here: how a file is edited (`configs.connect`,
`configs.hooks`, `configs.consent`), how the answer looks (`connect_view`), who dials in (`connect_verify`), relays
(`team`). Invariants: `--list`, `--print` and `--dry-run` write nothing; a host
that fails does not stop the others; no hook (`--wake`) and no permission (`--allow`) is written, and no record of a
host is watched (`--sight`), before a person saw what that is and said yes.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from configs.hosts import HOSTS, find_host
from configs.model import Host, UnknownHost, this_system
from mcp_server.stdio import COPIES
from parlerd.cli import connect_view as view
from parlerd.cli.context import Context, unreachable
from parlerd.cli.handlers import Handler, place_arguments
from parlerd.cli.output import DONE, FAILED
from parlerd.cli.parsing import Parser, UsageError, seconds
from parlerd.core.errors import ParlerError
from parlerd.core.model import LOCAL_HOME

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from configs.detect import Place
    from configs.outcome import Outcome

VERIFY_MS: Final = 120_000
_COMMAND: Final = "parler connect"
_TAKER, _INBOX = next((host, host.inbox) for host in HOSTS if host.inbox is not None)
"""The one host with an inbox that takes a line from a program with a token (`parlerd.controller`), and its inbox."""
_STDIN: Final = "-"
_TOKEN_MAX: Final = 65_536
"""How many bytes of a file are searched for a token."""


def _arguments(parser: Parser) -> None:
    names = ", ".join(host.id for host in HOSTS)
    parser.add_argument("hosts", nargs="*", metavar="HOST", help=f"of: {names} (default: every one that is here)")
    parser.add_argument(
        "--except",
        dest="without",
        action="append",
        default=[],
        metavar="HOST",
        help="leave this one out; may be repeated",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--list", action="store_true", help="what is here and what is connected; write nothing")
    mode.add_argument("--print", action="store_true", help="print the entry to paste; write nothing")
    mode.add_argument("--verify", action="store_true", help="connect, then wait until each host has dialled in")
    mode.add_argument("--remove", action="store_true", help="take our entry, hooks and permissions out again")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="with --verify: how many seconds to wait (default 120)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change in each file; write nothing")
    parser.add_argument("--replace", action="store_true", help="replace an entry named parler that is not ours")
    keep = parser.add_mutually_exclusive_group()
    keep.add_argument(
        "--keep",
        dest="keep",
        action="store_true",
        default=None,
        help="the daemon puts an entry back when a host loses it",
    )
    keep.add_argument(
        "--no-keep", dest="keep", action="store_false", help="the daemon only reports a lost entry (the default)"
    )
    wake = parser.add_mutually_exclusive_group()
    wake.add_argument(
        "--wake", dest="wake", action="store_true", default=None, help="also add the hooks that wake an idle agent"
    )
    wake.add_argument("--no-wake", dest="wake", action="store_false", help="take the wake hooks out")
    parser.add_argument(
        "--wake-token-file",
        metavar="FILE",
        help=f"for {_TAKER.id} alone: wake it by the token of `{_INBOX.mint}` that is in FILE (- is stdin)",
    )
    consent = parser.add_mutually_exclusive_group()
    consent.add_argument(
        "--allow",
        dest="allow",
        action="store_true",
        default=None,
        help="also let hosts that ask or refuse use the tools that read and talk",
    )
    consent.add_argument("--no-allow", dest="allow", action="store_false", help="take that permission out")
    sight = parser.add_mutually_exclusive_group()
    sight.add_argument(
        "--sight",
        dest="sight",
        action="store_true",
        default=None,
        help="also watch what the named hosts record of a conversation, to tell whether a model was shown a message",
    )
    sight.add_argument("--no-sight", dest="sight", action="store_false", help="watch their records no more")
    parser.add_argument(
        "--yes", action="store_true", help="with --wake, --allow or --sight: make the change without asking"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="new sessions live on this machine (the default)")
    where.add_argument(
        "--team", action="store_true", help="new sessions live at a relay that runs here, for machines on your network"
    )
    where.add_argument(
        "--relay", metavar="LINE", help="new sessions live at the relay whose line this is, which somebody else runs"
    )
    parser.add_argument(
        "--join-secret-file",
        metavar="FILE",
        help="with --relay: the file with its join secret (- is stdin; default: type it at the terminal)",
    )
    place_arguments(parser)


def _connect(ctx: Context, args: Namespace) -> int:
    without = {host.id for host in _chosen(args.without)} if args.without else set()
    hosts = [host for host in _chosen(args.hosts) if host.id not in without]
    if not hosts:
        raise UsageError("--except leaves no host", path=_COMMAND)
    _refuse_what_does_not_fit(args)
    place = place_of(ctx)
    if args.print:
        return view.snippets(ctx, place, hosts)
    if args.list:
        return _list(ctx, place, hosts)
    if args.remove:
        return _remove(ctx, place, hosts, args)
    return _add(ctx, place, hosts, args)


def place_of(ctx: Context) -> Place:
    """Where this command looks for hosts, and what their entries start."""
    from configs.detect import Place

    return Place(env=ctx.env, system=this_system(), python=sys.executable, home=ctx.home)


def _chosen(names: list[str]) -> list[Host]:
    chosen: dict[str, Host] = {}
    for name in names:
        try:
            host = find_host(name)
        except UnknownHost as error:
            known = [word for host in HOSTS for word in (host.id, *host.aliases)]
            near = get_close_matches(name.lower(), known, n=1)
            if near:
                # The error names only the nearest host, because a list of all hosts would bury it.
                message = f"no agent host is called '{name}'; did you mean {find_host(near[0]).id}?"
                raise UsageError(message, path=_COMMAND) from error
            raise UsageError(str(error), path=_COMMAND) from error
        chosen[host.id] = host
    return list(chosen.values()) or list(HOSTS)


def _refuse_what_does_not_fit(args: Namespace) -> None:
    reads = next((name for name in ("list", "print") if getattr(args, name)), None)
    given = [
        ("--dry-run", args.dry_run, bool(reads or args.verify)),
        ("--replace", args.replace, bool(reads or args.remove)),
        ("--keep", args.keep is True, bool(reads or args.remove or args.dry_run)),
        ("--no-keep", args.keep is False, bool(reads or args.dry_run)),
        ("--wake", args.wake is True, bool(reads or args.remove)),
        ("--no-wake", args.wake is False, bool(reads or args.remove)),
        ("--allow", args.allow is True, bool(reads or args.remove)),
        ("--no-allow", args.allow is False, bool(reads or args.remove)),
        ("--wake-token-file", args.wake_token_file is not None, bool(reads or args.remove or args.dry_run)),
        ("--timeout", args.timeout is not None, not args.verify),
        ("--sight", args.sight is True, bool(reads or args.remove or args.dry_run)),
        ("--no-sight", args.sight is False, bool(reads or args.dry_run)),
        ("--yes", args.yes, not (args.wake or args.allow or args.sight)),
        ("--local", args.local, bool(reads or args.remove or args.dry_run)),
        ("--team", args.team, bool(reads or args.remove or args.dry_run)),
        ("--relay", args.relay is not None, bool(reads or args.remove or args.dry_run)),
        ("--join-secret-file", args.join_secret_file is not None, args.relay is None),
        ("--bind", args.bind is not None, not args.team),
        ("--port", args.port is not None, not args.team),
        ("--name", args.name is not None, not args.team),
    ]
    for option, is_given, is_misplaced in given:
        if is_given and is_misplaced:
            raise UsageError(f"{option} does not go with the other options", path=_COMMAND)


# -- looking ---------------------------------------------------------------------------------------------------


def _list(ctx: Context, place: Place, hosts: list[Host]) -> int:
    from configs.sight import watched
    from configs.survey import survey

    found = survey(place, hosts)
    consents = _consents(place, found)
    to_see = watched(place.home)
    if ctx.out.json:
        ctx.out.document(view.document(found, consents=consents, watched=to_see))
    else:
        view.listing(
            ctx, found, [each.sentence for each in consents.values()], [each for each in hosts if each.id in to_see]
        )
    return DONE


# -- connecting ------------------------------------------------------------------------------------------------


def _add(ctx: Context, place: Place, hosts: list[Host], args: Namespace) -> int:
    from configs import connect as library

    named = bool(args.hosts)
    token = _token(ctx, hosts, args)
    # A relay that is not reached or not trusted ends the command before a file of any host is written.
    sessions = _place_sessions(ctx, args)
    if (args.wake or args.allow) and not args.dry_run:
        _agree(ctx, place, hosts, args)
    to_watch = _agree_to_watch(ctx, hosts, args)
    # This call refuses the home of another user, before a daemon is started in it. The files are edited later, while
    # the outcomes are iterated.
    outcomes = library.connect(place, hosts, chosen=named, dry_run=args.dry_run, replace=args.replace)
    if not args.dry_run:
        _put_shim(ctx)
    found = _with_progress(ctx, outcomes)
    hooks = _hooks(place, hosts, args)
    allowed = _allowed(place, hosts, args)
    if not args.dry_run:
        _remember_to_keep(place, found, args.keep)
        _keep_token(ctx, hosts, token, args)
        _choose_to_watch(ctx, hosts, to_watch, args)
        _tell_daemon(ctx)
    code = _code(found, hooks, allowed)
    # Consents are told unless this command changed them.
    consents = {} if args.dry_run or args.allow is not None else _consents(place, found)
    extras = view.Extras(
        hooks=hooks, allowed=allowed, consents=[each.sentence for each in consents.values() if each.asks]
    )
    if not args.verify:
        if ctx.out.json:
            ctx.out.document(
                view.document(found, hooks, allowed, dry_run=args.dry_run, consents=consents, sessions=sessions)
            )
        else:
            view.connected(ctx, found, extras, named=named, dry_run=args.dry_run)
            view.sessions_live(ctx, sessions)
        return code
    from parlerd.cli import connect_verify as verify

    if not ctx.out.json:
        view.connected(ctx, found, extras, named=named, verifying=True)
    seen = verify.wait(ctx, place, found, VERIFY_MS if args.timeout is None else args.timeout)
    if ctx.out.json:
        ctx.out.document(view.document(found, hooks, allowed, seen=seen, consents=consents, sessions=sessions))
    else:
        view.sessions_live(ctx, sessions)
    return FAILED if any(not each.seen for each in seen.values()) else code


def _place_sessions(ctx: Context, args: Namespace) -> view.Sessions:
    """Do what `--local`, `--team` and `--relay` ask, and say where new sessions live now."""
    if args.local or args.team or args.relay is not None:
        from parlerd.cli import team

        if args.team:
            made = team.make_team(ctx, args)
            return view.Sessions(made.home.name, team=made)
        if args.relay is not None:
            added = team.join_relay(ctx, args)
            return view.Sessions(added.home.name, added=added)
        team.choose_local(ctx)
        return view.Sessions(LOCAL_HOME)
    return view.Sessions(_default_home(ctx))


def _default_home(ctx: Context) -> str:
    """The name of the home where new sessions open. The daemon is asked only where a relay was ever added."""
    if not ctx.home.homes.exists():
        return LOCAL_HOME
    from parlerd.operations import types as t

    homes = ctx.call("homes.list", t.ListHomes(), t.HomeList).homes
    return next((home.name for home in homes if home.default), LOCAL_HOME)


def _put_shim(ctx: Context) -> None:
    """See to it that the shim is there, which the entries start. The daemon copies it, so a daemon is started where
    none ever ran."""
    if not all((ctx.home.run / name).exists() for name in COPIES):
        ctx.client()


def _with_progress(ctx: Context, outcomes: Iterable[Outcome]) -> list[Outcome]:
    found: list[Outcome] = []
    with ctx.out.progress("Looking at your agent hosts") as progress:
        for outcome in outcomes:
            found.append(outcome)
            progress.update(f"{outcome.host.name}: {outcome.status}")
    return found


def _agree(ctx: Context, place: Place, hosts: list[Host], args: Namespace) -> None:
    """Show what `--wake` and `--allow` would write, and go on only with a yes. Raises `ParlerError(needs_yes)`."""
    if args.yes:
        return
    options = [option for option, is_given in (("--wake", args.wake), ("--allow", args.allow)) if is_given]
    words = " ".join(["parler connect", *args.hosts, *options, "--yes"])
    if ctx.out.json or not ctx.at_terminal():
        raise ParlerError("needs_yes", hint=f"See it with --dry-run; then run: {words}")
    hooks = _hooks(place, hosts, args, dry_run=True) if args.wake else []
    allowed = _allowed(place, hosts, args, dry_run=True) if args.allow else []
    if not any(each.diff for each in (*hooks, *allowed)):
        return
    view.to_agree(ctx, hooks, allowed)
    ctx.out.stderr.write("Add this? [y/N] ")
    ctx.out.stderr.flush()
    if ctx.stdin.readline().strip().lower() not in (b"y", b"yes"):
        raise ParlerError("needs_yes", "Nothing was changed.", hint=f"Without {' and '.join(options)}: parler connect")


def _agree_to_watch(ctx: Context, hosts: list[Host], args: Namespace) -> list[Host]:
    """Whose records are to be watched from now on: those that were named, once the person read what that means and said
    yes. Raises `UsageError`, and `ParlerError(needs_yes)`."""
    if not args.sight:
        return []
    from configs.sight import EXPLANATION, can_be_watched

    if not args.hosts:
        raise UsageError("--sight wants the hosts by name: parler connect HOST --sight", path=_COMMAND)
    wanted = can_be_watched(hosts)
    if unmeasured := sorted({host.id for host in hosts} - {host.id for host in wanted}):
        known = ", ".join(host.id for host in can_be_watched(HOSTS))
        raise UsageError(
            f"nobody measured what {' and '.join(unmeasured)} records; --sight is for: {known}", path=_COMMAND
        )
    from parlerd.cli.team import agent_host_above

    if above := agent_host_above():
        # Under one user this is a speed bump, as for every decision that is the person's.
        raise ParlerError("needs_person", f"This was started by an agent host ({above}).")
    # Also with --yes: whoever copied the whole line from somewhere has read nothing yet.
    for paragraph in EXPLANATION:
        ctx.out.note(paragraph)
    for host in wanted:
        if host.sight is not None and host.sight.anonymous:
            ctx.out.note(f"{host.name} tells nobody which release it is, so what it records proves nothing yet.")
    if args.yes:
        return wanted
    words = " ".join(["parler connect", *args.hosts, "--sight", "--yes"])
    if ctx.out.json or not ctx.at_terminal():
        raise ParlerError("needs_yes", hint=f"To let Parler watch them: {words}")
    names = ", ".join(host.name for host in wanted)
    ctx.out.stderr.write(f"Watch the records of {names}? [y/N] ")
    ctx.out.stderr.flush()
    if ctx.stdin.readline().strip().lower() not in (b"y", b"yes"):
        raise ParlerError("needs_yes", "Nothing was changed.", hint="Without --sight: parler connect")
    return wanted


def _choose_to_watch(ctx: Context, hosts: list[Host], to_watch: list[Host], args: Namespace) -> None:
    """Keep the choice; the daemon goes by it at once."""
    from configs.sight import allow

    if args.sight is False:
        if not _watch_no_more(ctx, hosts):
            ctx.out.note(f"Parler did not watch the records of {', '.join(host.name for host in hosts)}.")
    elif to_watch:
        allow(ctx.home, {host.id for host in to_watch})
        ctx.out.note(f"From now on {view.watches(to_watch)}")


def _watch_no_more(ctx: Context, hosts: list[Host]) -> bool:
    """End the watching of these hosts' records, and say of which it ended. Gives whether any was watched."""
    from configs.sight import forget, watched

    now = watched(ctx.home)
    ended = [host for host in hosts if host.id in now]
    forget(ctx.home, {host.id for host in hosts})
    if ended:
        ctx.out.note(f"Parler watches the records of {', '.join(host.name for host in ended)} no more.")
    return bool(ended)


def _token(ctx: Context, hosts: list[Host], args: Namespace) -> str:
    """The controller token of `--wake-token-file`, or nothing; read before any file is written. Raises `UsageError`."""
    from parlerd.controller import NoToken, parse

    if args.wake_token_file is None:
        return ""
    if hosts != [_TAKER]:
        only = f"parler connect {_TAKER.id} --wake-token-file FILE"
        raise UsageError(f"--wake-token-file goes with {_TAKER.id} alone: {only}", path=_COMMAND)
    try:
        data = ctx.stdin.read(_TOKEN_MAX) if args.wake_token_file == _STDIN else _head(args.wake_token_file)
        return parse(data.decode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{args.wake_token_file} cannot be read: {error.strerror}", path=_COMMAND) from error
    except NoToken as error:
        raise UsageError(f"{args.wake_token_file}: {error}", path=_COMMAND) from error


def _head(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read(_TOKEN_MAX)


def _keep_token(ctx: Context, hosts: list[Host], token: str, args: Namespace) -> None:
    """Store the token in the home; with `--no-wake` delete it, as the hooks are taken out."""
    if args.wake is False:
        _forget_token(ctx, hosts)
    if not token:
        return
    from configs.model import first
    from parlerd.controller import Controller, store

    sessions = first(_INBOX.sessions, ctx.env)
    assert sessions is not None, "the last of these templates needs no variable"
    try:
        store(ctx.home, Controller(sessions, token))
    except OSError as error:
        raise ParlerError("home_not_writable", f"The token cannot be kept: {error.strerror}.") from error
    ctx.out.note("The token is kept in Parler's home. The daemon uses it when it starts anew: parler daemon restart")


def _forget_token(ctx: Context, hosts: list[Host]) -> None:
    from parlerd.controller import forget

    if _TAKER in hosts and forget(ctx.home):
        ctx.out.note(f"The token for {_TAKER.name}'s inbox was deleted. To revoke it there: {_INBOX.revoke}")


def _hooks(place: Place, hosts: list[Host], args: Namespace, *, dry_run: bool | None = None) -> list[Outcome]:
    from configs import hooks

    if args.wake is None:
        # Hooks that were written before, and whose command runs no longer, are brought up to date with the entry.
        return list(hooks.refresh(place, hosts, dry_run=args.dry_run))
    change = hooks.wake if args.wake else hooks.unwake
    return list(change(place, hosts, dry_run=args.dry_run if dry_run is None else dry_run))


def _allowed(place: Place, hosts: list[Host], args: Namespace, *, dry_run: bool | None = None) -> list[Outcome]:
    if args.allow is None:
        return []
    from configs import consent

    change = consent.allow if args.allow else consent.disallow
    return list(change(place, hosts, dry_run=args.dry_run if dry_run is None else dry_run))


def _consents(place: Place, found: list[Outcome]) -> dict[str, view.Consented]:
    """What each connected host does before its model uses our tools, by the host's id."""
    from configs.consent import sentence, standing

    hosts = {each.host.id: each.host for each in found if each.status in view.CONNECTED and each.path is not None}
    return {
        host.id: view.Consented(now, sentence(place, host))
        for host in hosts.values()
        if (now := standing(place, host)) != "unknown"
    }


def _remember_to_keep(place: Place, found: list[Outcome], keep: bool | None) -> None:
    if keep is None:
        return
    from configs.keep import forget, remember

    names = {each.host.id for each in found if each.status in view.IN_PLACE}
    if keep:
        remember(place.home, names)
    else:
        forget(place.home, {each.host.id for each in found})


# -- taking out ------------------------------------------------------------------------------------------------


def _remove(ctx: Context, place: Place, hosts: list[Host], args: Namespace) -> int:
    from configs.consent import disallow
    from configs.hooks import unwake
    from configs.keep import forget
    from configs.remove import remove

    if not args.dry_run:
        # This comes first, or the daemon puts back the entries that are being taken out.
        forget(place.home, {host.id for host in hosts})
        _watch_no_more(ctx, hosts)
        _forget_token(ctx, hosts)
    # The values that were added last are taken out first, so that each step can give back the bytes from before it.
    allowed = list(disallow(place, hosts, dry_run=args.dry_run))
    hooks = list(unwake(place, hosts, dry_run=args.dry_run))
    found = _with_progress(ctx, remove(place, hosts, dry_run=args.dry_run))
    if not args.dry_run:
        _tell_daemon(ctx)
    # Whoever takes Parler out of certain hosts goes on with the others, and with their relay.
    service = None if args.hosts or args.without else _remove_service(ctx, dry_run=args.dry_run)
    if ctx.out.json:
        ctx.out.document(view.document(found, hooks, allowed, dry_run=args.dry_run, service=service))
    else:
        view.removed(
            ctx, found, view.Extras(hooks=hooks, allowed=allowed), named=bool(args.hosts), dry_run=args.dry_run
        )
        view.service_removed(ctx, service, dry_run=args.dry_run)
    return _code(found, hooks, allowed)


def _remove_service(ctx: Context, *, dry_run: bool) -> str | None:
    """Stop the relay of this person and take its service out; of which kind it was, or None where there is none. Its
    rooms and keys stay."""
    from parlerd.cli import team

    service = team.service_of(ctx)
    record = service.record
    if record is None:
        return None
    if not dry_run:
        team.stop(ctx, service)
        service.remove()
    return record.kind


def _tell_daemon(ctx: Context) -> None:
    """Tell a running daemon that there are other files to watch. A daemon that starts later looks by itself."""
    from parlerd.operations import types as t

    try:
        ctx.call("hosts.seen", t.SeenHosts(look=True), t.SeenHostList, start=False)
    except ParlerError as error:
        if not unreachable(error):
            ctx.out.note(("The daemon was not told: ", "warn"), error.message)


def _code(*groups: list[Outcome]) -> int:
    return FAILED if any(each.status == "failed" for group in groups for each in group) else DONE


HANDLERS: Final = {
    "connect": Handler(
        _arguments,
        _connect,
        section="Begin",
        rank=10,
        summary="Add Parler to every agent host on this machine.",
        examples=(
            "parler connect",
            "parler connect --list",
            "parler connect claude-code codex --verify",
        ),
    ),
}
