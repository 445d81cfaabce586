"""Where a relay's database is: the URL that a person gives, checked, kept in a file of its own, and shown without its
password.

A password never comes by the command line, where every user of the machine may read it: it stands in a file that the
server's own library looks into (`PGPASSFILE`, `~/.pgpass`, a service file), or in a 0600 file that holds the whole URL.
Not here: connecting (`parlerd.store.postgres`). Above: the command line, which writes the file, and the relay, which
reads it. Invariants: no error and no text of this module holds a password; the file is 0600 and is replaced whole.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from parlerd.core.errors import ParlerError, Refused
from parlerd.paths import Home, replace_private

SCHEME: Final = "postgresql"
_SCHEMES: Final = ("postgresql", "postgres")
FILE: Final = "store-url"
MAX_URL: Final = 2048
"""Characters of a URL."""
WHERE: Final = (
    "Put the password into ~/.pgpass or the file that PGPASSFILE names (0600), or name a service of pg_service.conf "
    "(?service=NAME), or write the whole URL to a 0600 file: --store-file FILE (- is stdin)."
)
"""Where a password goes instead."""
_SECRET: Final = frozenset({"password", "sslpassword"})
"""Parameters that are secrets themselves."""
PARAMETERS: Final = frozenset({
    "channel_binding", "dbname", "gssencmode", "host", "hostaddr", "krbsrvname", "load_balance_hosts", "passfile",
    "port", "require_auth", "service", "sslcert", "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslrootcert", "sslsni",
    "ssl_max_protocol_version", "ssl_min_protocol_version", "target_session_attrs", "user",
})  # fmt: skip
"""What may stand behind `?`. Timeouts, keepalives and what a session is set to are the relay's own."""


def parse(text: str, *, may_hold_password: bool) -> str:
    """The URL of a database, as it is to be kept. Raises `Refused(invalid_param)`, which names what is wrong with it
    and repeats nothing that may be a secret."""
    text = text.strip()
    if len(text) > MAX_URL:
        raise _wrong(f"The URL of the store is longer than {MAX_URL} characters.")
    if any(not mark.isprintable() or mark.isspace() for mark in text):
        raise _wrong("The URL of the store holds spaces or marks that are none of a URL.")
    try:
        parts = urlsplit(text)
        asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong("The URL of the store cannot be read.") from None
    if parts.scheme not in _SCHEMES or not text.startswith(f"{parts.scheme}://"):
        raise _wrong("A store's URL begins with postgresql://.")
    user, _, hosts = parts.netloc.rpartition("@")
    names = {name for name, _ in asked}
    if not may_hold_password and (":" in user or names & _SECRET):
        raise _wrong("The URL holds a password, which everybody on this machine could read.", hint=WHERE)
    if unknown := sorted(names - PARAMETERS - _SECRET):
        # A name may be a mistyped secret's neighbour, so it is shown only where it looks like a name.
        named = [name for name in unknown if re.fullmatch(r"[a-z_]{1,32}", name)]
        raise _wrong(
            f"The URL of the store has parameters that are not taken{': ' + ', '.join(named) if named else ''}.",
            hint=f"These are: {', '.join(sorted(PARAMETERS))}",
        )
    if len(asked) != len(names):
        raise _wrong("A parameter stands twice in the URL of the store.")
    if "@" in parts.path or "@" in parts.query:
        # The server's library takes what stands before the first @ for a name and a password, whatever that holds.
        raise _wrong(
            "An @ behind the server in the URL of the store is to be written %40, and a / or ? before it, too."
        )
    if parts.fragment:
        raise _wrong("A # in the URL of the store is to be written %23.")
    _check_hosts(hosts)
    database = unquote(parts.path.removeprefix("/"))
    if "/" in database:
        raise _wrong("The URL of the store names one database behind one slash.")
    if not database and not names & {"dbname", "service"}:
        raise _wrong("The URL of the store names no database.", hint="Write postgresql://HOST/DATABASE")
    return text


def _check_hosts(hosts: str) -> None:
    for each in hosts.split(",") if hosts else ():
        host, port = each, ""
        if each.startswith("["):
            host, closed, rest = each.partition("]")
            if not closed or (rest and not rest.startswith(":")):
                raise _wrong("An IPv6 address in the URL of the store stands in brackets.")
            port = rest.removeprefix(":")
        elif ":" in each:
            host, _, port = each.partition(":")
        if ":" in port or (port and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535)):
            raise _wrong("The port in the URL of the store is a number from 1 to 65535.")
        if not host:
            raise _wrong("A host in the URL of the store is empty.")


def shown(url: str) -> str:
    """The URL for people, logs and status: user, server and database, and nothing that may be a secret."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    asked = dict(parse_qsl(parts.query))
    name = user.partition(":")[0]
    return (
        f"{SCHEME}://{name + '@' if name else ''}{hosts or asked.get('host', '')}/"
        f"{parts.path.removeprefix('/') or asked.get('dbname', '')}"
    )


def role(url: str) -> str:
    """The role that a URL names; empty where another place says it (a service, the environment)."""
    parts = urlsplit(url)
    name = parts.netloc.rpartition("@")[0].partition(":")[0]
    return unquote(name) or dict(parse_qsl(parts.query)).get("user", "")


def keep(home: Home, url: str) -> None:
    """Write the file, whole or not at all. `paths.prepare(home)` comes first. Raises `ParlerError`."""
    replace_private(file_of(home), f"{url}\n".encode())


def load(home: Home) -> str:
    """The URL that was kept. Raises `ParlerError(invalid_settings)`."""
    path = file_of(home)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be opened") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise _unusable(path, "others can read it or write to it")
        data = file.read(4 * MAX_URL)
    try:
        return parse(data.decode("utf-8"), may_hold_password=True)
    except (UnicodeDecodeError, Refused) as error:
        why = error.message if isinstance(error, Refused) else "It is not UTF-8 text."
        raise _unusable(path, f"{why[0].lower()}{why[1:].rstrip('.')}") from None


def file_of(home: Home) -> Path:
    """The file with the URL."""
    return home.root / FILE


def _wrong(message: str, *, hint: str = "A store's URL: postgresql://USER@HOST:PORT/DATABASE") -> Refused:
    return Refused("invalid_param", message, hint=hint, param="store")


def _unusable(path: Path, why: str) -> ParlerError:
    return ParlerError(
        "invalid_settings",
        f"{path} cannot be used: {why}.",
        hint="Name the database again: parler relay --store URL, or --store-file FILE",
    )
