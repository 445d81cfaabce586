"""`parler enabled` and `parler module ...`: who is in a room only while something is true.

Not here: who may do what (the core). Above: `commands`. Below: `context`, `state`. Invariant: what another wrote is
shown as text, and never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, unicode_text
from parlerd.cli.state import agree_to_delete, once_argument, say_seen, yes_argument
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

_SECTION: Final = "Coordinate"
_NOT_NOW: Final = "What has to be true for that is not true now."


def _enabled_arguments(parser: Parser) -> None:
    parser.add_argument("expr", nargs="?", type=unicode_text, metavar="EXPR", help="what has to be true")
    parser.add_argument("--always", action="store_true", help="be there always, as before")
    once_argument(parser)
    room_argument(parser)


def _enabled(ctx: Context, args: Namespace) -> int:
    if (args.expr is None) is not args.always:
        raise UsageError("say an expression, or --always", path="parler enabled")
    params = t.EnableAgent(enabled=args.expr, room=args.room, idempotency_key=args.once or new_key())
    found = ctx.call_again("agent.enable", params, t.AgentEnabled)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    if isinstance(found.enabled, str):
        ctx.out.say((found.agent, "name"), f" is in '{found.name}' while this is true: ", found.enabled, hang=2)
    else:
        ctx.out.say((found.agent, "name"), f" is in '{found.name}' always.")
    say_seen(ctx, found.warning)
    if found.disabled:
        ctx.out.note(f"{_NOT_NOW} Until then it reads and waits, and nothing else.")
    return DONE


def _id_argument(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the module, such as `path`")


def _register_arguments(parser: Parser) -> None:
    _id_argument(parser)
    parser.add_argument("--role", type=unicode_text, metavar="R", default="module", help="its role (default: module)")
    parser.add_argument("--enabled", type=unicode_text, metavar="EXPR", help="it is there while EXPR is true")
    once_argument(parser)
    room_argument(parser)


def _register(ctx: Context, args: Namespace) -> int:
    params = t.RegisterModule(
        id=args.id, role=args.role, enabled=args.enabled, room=args.room, idempotency_key=args.once or new_key()
    )
    found = ctx.call_again("module.register", params, t.ModuleRegistered)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    again = " (before, and not again)" if found.replayed else ""
    ctx.out.say("The module ", (found.id, "bold"), f" is registered, version {found.version}{again}.")
    say_seen(ctx, found.warning)
    if found.dormant is True:
        ctx.out.note(_NOT_NOW)
    return DONE


def _list(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("module.list", t.ListModules(room=args.room), t.ModulesListed)
    if ctx.out.json:
        ctx.out.document({"modules": found.modules})
        return DONE
    if not found.modules:
        ctx.out.say(f"There is no module in '{found.name}'.")
        return DONE
    ctx.out.table(
        ("module", "role", "of", "there", "while"),
        [
            (
                (each.id, "bold"),
                each.role,
                (each.registered_by, "name"),
                ("no", "warn") if each.dormant is True else ("yes", "good"),
                each.enabled if isinstance(each.enabled, str) else "",
            )
            for each in found.modules
        ],
    )
    return DONE


def _delete_arguments(parser: Parser) -> None:
    _id_argument(parser)
    yes_argument(parser)
    once_argument(parser)
    room_argument(parser)


def _delete(ctx: Context, args: Namespace) -> int:
    agree_to_delete(ctx, args, f"the module {args.id}")
    params = t.DeleteModule(id=args.id, room=args.room, idempotency_key=args.once or new_key())
    gone = ctx.call_again("module.delete", params, t.ModuleDeleted)
    if ctx.out.json:
        ctx.out.document(gone)
        return DONE
    ctx.out.say(("Deleted", "good"), ": the module ", (gone.id, "bold"), ".")
    return DONE


HANDLERS: Final = {
    "enabled": Handler(
        _enabled_arguments,
        _enabled,
        section=_SECTION,
        rank=170,
        examples=("parler enabled 'state._shared.phase == \"review\"'", "parler enabled --always"),
        operation="agent.enable",
        gives_receipt=True,
    ),
    "module register": Handler(
        _register_arguments,
        _register,
        section=_SECTION,
        rank=180,
        examples=("parler module register path --enabled 'has(state._shared.compass)'",),
        gives_receipt=True,
    ),
    "module list": Handler(room_argument, _list, section=_SECTION, rank=190, examples=("parler module list",)),
    "module delete": Handler(
        _delete_arguments,
        _delete,
        section=_SECTION,
        rank=200,
        examples=("parler module delete path",),
        gives_receipt=True,
    ),
}
