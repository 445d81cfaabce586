"""What a home told of a room, each thing alone: a statement that somebody signed, a label, how a member came in.

Not here: what a statement means for the room (`owners`, `knocks`, `members`, `records`). Above: those. Below: the
core's statements, `identity` for signatures. Pure. Invariant: what is none, or of a newer version, is nothing here, and
never an error.
"""

from __future__ import annotations

from collections.abc import Callable

from parlerd.core.errors import Refused
from parlerd.core.statements import Opening, S, check, check_title
from parlerd.identity.proofs import Evidence, signed
from parlerd.operations import types as t


def statement_in(body: bytes, kind: type[S]) -> S | None:
    """The statement in these bytes, if there is a sound one of this version."""
    try:
        return check(body, kind) if body else None
    except Refused:
        return None


def signed_statement(kind: type[S], body: bytes, signature: bytes, by: str) -> S | None:
    """The sound statement in these bytes, if `by` signed it."""
    try:
        return signed(kind, body, signature, by) if body else None
    except Refused:
        return None


def is_title(title: bytes, opening: Opening) -> bool:
    """Whether these bytes are the title that the opening names."""
    try:
        check_title(title, opening.title)
    except Refused:
        return False
    return True


def evidence_of(entry: t.MemberEntry) -> Evidence:
    """How this member came in, as its home shows it."""
    return Evidence(
        decision=entry.proof,
        decision_signature=entry.proof_signature,
        knock=entry.knock,
        knock_signature=entry.knock_signature,
        terms=entry.terms,
        terms_signature=entry.terms_signature,
        grant=entry.grant,
        grant_signature=entry.grant_signature,
        granted_as=entry.granted_as,
    )


def label_or_none(text: str, is_form: Callable[[str], bool]) -> str:
    """A label or a role that the other home told, or nothing in the place of what is none."""
    return text if is_form(text) else ""
