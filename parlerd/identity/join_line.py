"""The line by which a person adds a relay, and how a relay is called from then on.

    wss://192.168.1.20:7777/#<fingerprint of the relay's key>      as `write` makes it
    wss://relay.example.org:7777/#<the relay's key>                 is taken, too

What stands behind `#` is the *pin*: whoever answers at the address has to prove that it holds the key that fits. The
line is no secret. Not here: the secret that enrols a person, and the relays that were added (`parlerd.uplink.homes`).
Above: the relay, which prints its line, and the uplink, which takes one in. Invariant: two relays fit one pin only if
somebody found two keys whose hashes begin with the same 160 bits.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from parlerd.core.errors import Refused
from parlerd.core.model import MAX_LABEL, HomeId, Label, label

DEFAULT_PORT: Final = 7777
NAME_LENGTH: Final = 6
"""Characters of the fingerprint in the name of a relay. Source: relay spec, Words."""
MIN_FINGERPRINT: Final = 32
"""The fewest characters of a fingerprint that is a pin: 160 bits."""
MAX_LINE: Final = 512
_QUOTES: Final = "\"'`<>\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_BREAK: Final = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_COMMAND: Final = re.compile(r"\Aparler +connect +--relay[ =]*")
"""What stands in front of a line where it is shown."""
_CUT_OFF: Final = re.compile(rf"[A-Z2-7]{{0,{MIN_FINGERPRINT - 1}}}\Z")

_KEY: Final = re.compile(r"N[A-Z2-7]{55}\Z")
_FINGERPRINT: Final = re.compile(rf"[A-Z2-7]{{{MIN_FINGERPRINT},52}}\Z")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


class JoinLine(NamedTuple):
    """What a line says: `address` (`wss://host:port`), and `pin`, a relay's key or the beginning of its fingerprint."""

    address: str
    pin: str


def parse(text: str) -> JoinLine:
    """The address and the pin in a line. Raises `Refused(invalid_param)`, which says what is missing.

    What a person copies together with a line, and what is never part of one, is left out: the command in front of it,
    quotes around it, and the break that a narrow window makes in its middle.
    """
    whole = _BREAK.sub("", text.strip()).strip(_QUOTES)
    line = _COMMAND.sub("", whole).strip(_QUOTES)
    address, mark, fragment = line.partition("#")
    if len(line) > MAX_LINE or not mark:
        raise _no_line("It ends in # and the relay's key.")
    pin = fragment.strip().replace("-", "").upper()
    if _CUT_OFF.match(pin):
        raise _no_line("Its end is missing: behind # stand 32 characters. Perhaps the line was broken in two.")
    if _KEY.match(pin) is None and _FINGERPRINT.match(pin) is None:
        raise _no_line("What stands behind # is neither a relay's key nor a whole fingerprint.")
    return JoinLine(parse_address(address), pin)


def parse_address(text: str) -> str:
    """`wss://host:port` in its one spelling. `ws://` passes for this machine alone. Raises `Refused(invalid_param)`."""
    try:
        parts = urlsplit(text.strip())
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        raise _no_line("The address cannot be read.") from None
    host = (parts.hostname or "").lower()
    is_literal = _is_literal(host)
    if parts.scheme not in ("wss", "ws") or not (is_literal or _HOST.match(host)) or port == 0:
        raise _no_line("It begins with wss:// and a host.")
    if parts.username is not None or parts.password is not None or parts.query or parts.path not in ("", "/"):
        raise _no_line("Between the host and # it holds a port and nothing else.")
    if parts.scheme == "ws" and not _is_loopback(host):
        raise _no_line("Without TLS (ws://) a relay is reached on this machine alone.")
    return _spelled(parts, f"[{host}]" if ":" in host else host, port)


def is_loopback(address: str) -> bool:
    """Whether an address as `parse_address` spells it leads to the machine itself."""
    return _is_loopback(urlsplit(address).hostname or "")


def write(address: str, home: HomeId) -> str:
    """The line for a relay. Raises `Refused(invalid_param)` for an address that `parse_address` refuses."""
    return f"{parse_address(address)}/#{fingerprint(home)}"


def fingerprint(home: HomeId) -> str:
    """What stands behind `#`: the beginning of the SHA-256 of the key's text, in base32 and small letters.
    `codes.fingerprint` shows the first twelve characters of the same text."""
    return _digest(home)[:MIN_FINGERPRINT].lower()


def fits(pin: str, home: HomeId) -> bool:
    """Whether a relay with this key is the one that the person pinned."""
    if _KEY.match(pin) is not None:
        return pin == home
    return _FINGERPRINT.match(pin) is not None and _KEY.match(home) is not None and _digest(home).startswith(pin)


def home_name(called: str, home: HomeId, length: int = NAME_LENGTH) -> Label:
    """What people call a relay: the label that it calls itself by, and `length` characters of its fingerprint, which
    another relay of that label does not have. Raises `Refused(invalid_name)`."""
    suffix = f"-{fingerprint(home)[:length]}"
    return label(called[: MAX_LABEL - len(suffix)] + suffix)


def _digest(home: HomeId) -> str:
    return base64.b32encode(hashlib.sha256(home.encode()).digest()).decode().rstrip("=")


def _spelled(parts: SplitResult, host: str, port: int) -> str:
    return f"{parts.scheme}://{host}:{port}"


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_literal(host) and ipaddress.ip_address(host).is_loopback)


def _no_line(why: str) -> Refused:
    return Refused(
        "invalid_param",
        f"That is not the line of a relay. {why}",
        hint="Take the whole line from the machine that runs the relay.",
        param="relay",
    )
