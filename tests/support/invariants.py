"""The named list of what the database of a store refuses, with the SQL that attempts each in either dialect.

The tests of a store bring a room `r_one` with three facts, the first of which is no message, another named `r_two`
without any, and what `given` adds. Then each attempt of `REFUSED` has to be refused: by the database, whatever the
store would do. An attempt may be several statements, of which only the last is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

_NEXT: Final = ";\n"


class Tables(Protocol):
    """How rows of the tables are written in one dialect. Values are expressions in SQL; what is not said is as it has
    to be for a fourth fact of `r_one`, or for a place of its first fact in a line of its own."""

    fact_key: str
    """The columns by which a fact is found."""

    def blob(self, size: int) -> str:
        """So many zero bytes."""
        ...

    def agent(self, name: str) -> str:
        """An agent, as rows name it."""
        ...

    def fact(self, *, room: str = "r_one", position: int = 4, **columns: str) -> str:
        """A fact, and whatever has to move with it: `type`, `v`, `at`, `header`, `salt`, `digest`, `chain`."""
        ...

    def body(self, position: int, *, signature: str = "NULL") -> str:
        """An empty body of a fact of `r_one`."""
        ...

    def erased(self, position: int) -> str:
        """The mark that the body of a fact of `r_one` was erased."""
        ...

    def erased_elsewhere(self) -> str:
        """Another place for the mark that is there."""
        ...

    def line(self, *, position: int = 1, thread: str = "", number: int = 1, line: str = "", **by: str) -> str:
        """A place in an own line; `token`, `agent` and `wall` say by which token the fact came."""
        ...

    def a_thread(self) -> str:
        """The own line that the facts are in."""
        ...


def then(*statements: str) -> str:
    """One attempt of several statements."""
    return _NEXT.join(statements)


def steps(attempt: str) -> list[str]:
    """The statements of an attempt."""
    return attempt.split(_NEXT)


def line_by(tables: Tables, token: str, *, agent: str = "U", wall: int = 999) -> str:
    """A place in an own line of a fact that came by a token."""
    return tables.line(token=f"'{token}'", agent=tables.agent(agent), wall=str(wall))


def new_token(tables: Tables, parent: str, *, agent: str = "U", until: int = 1000) -> str:
    """A token that is made of another."""
    return f"INSERT INTO tokens VALUES ('tk_new', {tables.agent(agent)}, 0, {until}, '{parent}')"


def given(tables: Tables) -> list[str]:
    """What is there beside the facts."""
    rows = [
        "INSERT INTO room_keys VALUES ('key', 'r_one')",
        f"INSERT INTO cursors VALUES ('r_one', {tables.agent('V')}, 3, 2)",
        f"INSERT INTO deliveries VALUES ('r_one', {tables.agent('V')}, 'read', 3, 0, 9)",
        tables.erased(3),
        f"INSERT INTO idempotency VALUES ('r_one', {tables.agent('U')}, 'message.send', 'key', 2)",
    ]
    for token, parent, room in (
        ("tk_one", "", "r_one"),
        ("tk_child", "tk_one", "r_one"),
        ("tk_two", "", "r_two"),
        ("tk_revoked", "", "r_one"),
        ("tk_of_revoked", "tk_revoked", "r_one"),
    ):
        rows += [
            f"INSERT INTO tokens VALUES ('{token}', {tables.agent('U')}, 0, 1000, '{parent}')",
            f"INSERT INTO token_access VALUES ('{token}', 'read')",
            f"INSERT INTO token_rooms VALUES ('{token}', '{room}', 0)",
        ]
    return [*rows, "INSERT INTO revoked_tokens VALUES ('tk_revoked')"]


REFUSED: Final[Mapping[str, Callable[[Tables], str]]] = {
    "a fact is never changed": lambda t: "UPDATE facts SET at = 1 WHERE position = 1",
    "nor by an upsert": lambda t: f"{t.fact(position=3)} ON CONFLICT {t.fact_key} DO UPDATE SET at = 1",
    "a fact is never removed": lambda t: "DELETE FROM facts WHERE position = 3",
    "nor all of them": lambda t: "DELETE FROM facts",
    "a position is never skipped": lambda t: t.fact(position=5),
    "nor taken twice": lambda t: t.fact(position=3),
    "nor below one": lambda t: t.fact(position=0),
    "a room begins at one": lambda t: t.fact(room="r_two", position=2),
    "time never goes back": lambda t: t.fact(at="2999"),
    "a type must be known": lambda t: t.fact(type="'gossip'"),
    "and so must its version": lambda t: t.fact(v="9"),
    "a version counts from one": lambda t: t.fact(v="0"),
    "a fact has a header": lambda t: t.fact(header="NULL"),
    "that is not empty": lambda t: t.fact(header=t.blob(0)),
    "a salt has sixteen bytes": lambda t: t.fact(salt=t.blob(15)),
    "a digest has thirty-two": lambda t: t.fact(digest=t.blob(31)),
    "a digest is not absent": lambda t: t.fact(digest="NULL"),
    "a chain digest has thirty-two": lambda t: t.fact(chain=t.blob(33)),
    "a body belongs to a fact": lambda t: t.body(9),
    "a body is never changed": lambda t: f"UPDATE bodies SET body = {t.blob(1)}",
    "nor its signature": lambda t: "UPDATE bodies SET signature = NULL",
    "a signature has sixty-four bytes": lambda t: then(t.fact(), t.body(4, signature=t.blob(63))),
    "a message has one id": lambda t: "INSERT INTO messages VALUES ('m_r_one_2', 'r_one', 1)",
    "a key has one room": lambda t: "INSERT INTO room_keys VALUES ('key', 'r_two')",
    "nobody acknowledges more than was delivered": lambda t: (
        f"INSERT INTO cursors VALUES ('r_one', {t.agent('U')}, 1, 2)"
    ),
    "nobody acknowledges less than nothing": lambda t: f"INSERT INTO cursors VALUES ('r_one', {t.agent('U')}, 1, -1)",
    "a mark covers something": lambda t: f"INSERT INTO deliveries VALUES ('r_one', {t.agent('U')}, 'read', 3, 3, 1)",
    "a stage must be known": lambda t: f"INSERT INTO deliveries VALUES ('r_one', {t.agent('U')}, 'guessed', 3, 0, 1)",
    "a membership has a known state": lambda t: f"INSERT INTO memberships VALUES ({t.agent('U')}, 'r_one', 'owner')",
    "an own line has no gaps": lambda t: t.line(number=2),
    "nor begins at none": lambda t: t.line(number=0),
    "nor has a number twice": lambda t: t.line(thread=t.a_thread()),
    "a fact has one place in it": lambda t: t.line(position=2),
    "an own line is of a fact": lambda t: t.line(position=9),
    "an own line has thirty-two bytes": lambda t: t.line(line=t.blob(31)),
    "an own line is never changed": lambda t: f"UPDATE own_lines SET line = {t.blob(32)}",
    "an own line is never removed": lambda t: "DELETE FROM own_lines",
    "nobody's cursor goes back": lambda t: f"UPDATE cursors SET acknowledged = 1 WHERE reader = {t.agent('V')}",
    "nor what was delivered to it": lambda t: (
        f"UPDATE cursors SET delivered = 2, acknowledged = 0 WHERE reader = {t.agent('V')}"
    ),
    "a cursor is never another's": lambda t: (
        f"UPDATE cursors SET reader = {t.agent('W')} WHERE reader = {t.agent('V')}"
    ),
    "a cursor is never removed": lambda t: "DELETE FROM cursors",
    "what was delivered is never changed": lambda t: "UPDATE deliveries SET at = 1",
    "nor removed": lambda t: "DELETE FROM deliveries",
    "a body goes only with its mark": lambda t: "DELETE FROM bodies WHERE position = 2",
    "the mark of an erased body stays": lambda t: "DELETE FROM erased_bodies",
    "and stays where it is": lambda t: t.erased_elsewhere(),
    "what was erased was a message": lambda t: t.erased(1),
    "a request has one row": lambda t: (
        f"INSERT INTO idempotency VALUES ('r_one', {t.agent('U')}, 'message.send', 'key', 3)"
    ),
    "no fact is by a token that was revoked": lambda t: line_by(t, "tk_revoked"),
    "nor by one that was made of such a token": lambda t: line_by(t, "tk_of_revoked"),
    "nor by one that is over": lambda t: line_by(t, "tk_one", wall=1000),
    "nor by one that there never was": lambda t: line_by(t, "tk_none"),
    "nor by another agent's": lambda t: line_by(t, "tk_one", agent="V"),
    "nor by one of another room": lambda t: line_by(t, "tk_two"),
    "a fact says by which token it came": lambda t: t.line(token="NULL", agent="NULL", wall="NULL"),
    "no token is made of one that there never was": lambda t: new_token(t, "tk_none"),
    "nor of itself": lambda t: new_token(t, "tk_new"),
    "nor of one that was revoked": lambda t: new_token(t, "tk_revoked"),
    "nor of one that was made of such a token": lambda t: new_token(t, "tk_of_revoked"),
    "nor holds for longer than the one that it is made of": lambda t: new_token(t, "tk_one", until=1001),
    "nor is another agent's": lambda t: new_token(t, "tk_one", agent="V"),
    "nor is for more": lambda t: "INSERT INTO token_access VALUES ('tk_child', 'mint')",
    "nor for more rooms": lambda t: "INSERT INTO token_rooms VALUES ('tk_child', 'r_two', 0)",
    "nor is for anything that nobody minted": lambda t: "INSERT INTO token_access VALUES ('tk_none', 'read')",
    "nor of any room": lambda t: "INSERT INTO token_rooms VALUES ('tk_none', 'r_one', 0)",
    "a token is minted once": lambda t: f"INSERT INTO tokens VALUES ('tk_one', {t.agent('U')}, 0, 9, '')",
    "and never changed": lambda t: "UPDATE tokens SET expires_at = 2000",
    "what a token is for is never changed": lambda t: "UPDATE token_access SET access = 'mint'",
    "nor are its rooms": lambda t: "UPDATE token_rooms SET room = 'r_two'",
    "a token that was revoked stays so": lambda t: "UPDATE revoked_tokens SET token = 'tk_none'",
    "the version of the tables never goes back": lambda t: "UPDATE meta SET value = '1' WHERE key = 'schema'",
    "nor by an upsert of an older Parler": lambda t: (
        "INSERT INTO meta VALUES ('schema', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    ),
    "nor does it come to be none": lambda t: "UPDATE meta SET value = '' WHERE key = 'schema'",
    "nor another row's": lambda t: "UPDATE meta SET key = 'other' WHERE key = 'schema'",
    "nor is it lost": lambda t: "DELETE FROM meta WHERE key = 'schema'",
    "a tombstone names a room": lambda t: "INSERT INTO tombstones VALUES ('', 1)",
}
"""By the sentence that holds, what is tried against it."""

TAKEN: Final[Mapping[str, Callable[[Tables], str]]] = {
    "a fact that follows": lambda t: t.fact(),
    "the first of a room": lambda t: t.fact(room="r_two", position=1),
    "a place in an own line": lambda t: t.line(),
    "a body of a fact": lambda t: then(t.fact(), t.body(4, signature=t.blob(64))),
    "a mark of a message": lambda t: t.erased(2),
    "a fact by a token that holds": lambda t: line_by(t, "tk_one"),
    "a fact by a token that was made of one that holds": lambda t: line_by(t, "tk_child"),
    "a token of no other": lambda t: new_token(t, ""),
    "a token that is made of one": lambda t: new_token(t, "tk_one"),
    "a token that is made of one that is made of one": lambda t: new_token(t, "tk_child"),
    "the next version of the tables": lambda t: "UPDATE meta SET value = '999' WHERE key = 'schema'",
    "a cursor that goes on": lambda t: "UPDATE cursors SET delivered = 4, acknowledged = 3",
    "a cursor that stays": lambda t: "UPDATE cursors SET delivered = 3, acknowledged = 2",
}
"""What the attempts vary would itself be taken; else each of them could be refused for another reason than its own."""
