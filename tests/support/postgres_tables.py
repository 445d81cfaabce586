"""The dialect of PostgreSQL for the named list of invariants, and what its tables alone refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.support.invariants import then

Z: Final = "decode(repeat('00', 32), 'hex')"

_FACT: Final = """\
WITH new AS (
    SELECT {room}::text AS room, {position}::bigint AS position, {type}::text AS type, {v}::integer AS v,
           {at}::bigint AS at, {header}::bytea AS header, {salt}::bytea AS salt, {digest}::bytea AS digest
), chained AS (
    SELECT new.*, coalesce({chain}::bytea, sha256(coalesce(
               (SELECT f.chain FROM facts f WHERE f.room = new.room AND f.position = new.position - 1), {zeros}
           ) || new.digest), {zeros}) AS chain
      FROM new
), moved AS (
    INSERT INTO heads
    SELECT c.room, 1, c.position, c.at, c.chain FROM chained c WHERE c.position > 0
        ON CONFLICT (room) DO UPDATE
       SET position = excluded.position, at = greatest(heads.at, excluded.at), chain = excluded.chain
     WHERE heads.position < excluded.position
)
INSERT INTO facts SELECT room, position, type, v, at, header, salt, digest, chain FROM chained"""


class PostgresTables:
    """`Tables` of PostgreSQL. A fact moves the head of its room."""

    fact_key = "(room, position)"

    def blob(self, size: int) -> str:
        return f"decode(repeat('00', {size}), 'hex')"

    def agent(self, name: str) -> str:
        return f"(SELECT number FROM agents WHERE id = '{name}')"

    def fact(self, *, room: str = "r_one", position: int = 4, **columns: str) -> str:
        header, salt = columns.get("header", r"'\x01'"), columns.get("salt", self.blob(16))
        good = {
            "type": "'message_posted'",
            "v": "1",
            "at": "9000",
            "digest": f"sha256({salt}::bytea || coalesce({header}::bytea, ''))",
            "chain": "NULL",
        }
        return _FACT.format(
            **good | columns | {"header": header, "salt": salt}, room=f"'{room}'", position=position, zeros=Z
        )

    def body(self, position: int, *, signature: str = "NULL") -> str:
        return rf"INSERT INTO bodies VALUES ('r_one', {position}, '\x00', {signature})"

    def erased(self, position: int) -> str:
        return f"INSERT INTO erased_bodies VALUES ('r_one', {position})"

    def erased_elsewhere(self) -> str:
        return "UPDATE erased_bodies SET position = 2"

    def line(self, *, position: int = 1, thread: str = "", number: int = 1, line: str = "", **by: str) -> str:
        token, agent, wall = (by.get(name, none) for name, none in (("token", "''"), ("agent", "0"), ("wall", "0")))
        of = thread or Z
        digest = f"(SELECT digest FROM facts WHERE room = 'r_one' AND position = {position})"
        made = line or f"sha256({of} || coalesce({digest}, {Z}))"
        return f"INSERT INTO own_lines VALUES ('r_one', {position}, {of}, {number}, {made}, {token}, {agent}, {wall})"

    def a_thread(self) -> str:
        return "(SELECT thread FROM own_lines LIMIT 1)"


TABLES: Final = PostgresTables()
_THREAD: Final = r"sha256('\x61')"


def facts() -> list[str]:
    """Three agents, and three facts of `r_one` as the list of invariants has them."""
    again = "sha256((SELECT line FROM own_lines WHERE number = 1) || (SELECT digest FROM facts WHERE position = 3))"
    return [
        "INSERT INTO agents (id) VALUES ('U'), ('V'), ('W')",
        TABLES.fact(position=1, type="'room_opened'", at="1000"),
        *(TABLES.fact(position=position, at=f"{position}000") for position in (2, 3)),
        *(TABLES.body(position) for position in (1, 2, 3)),
        TABLES.line(position=2, thread=_THREAD),
        TABLES.line(position=3, thread=_THREAD, number=2, line=again),
        "INSERT INTO rooms VALUES ('r_one', 1000, '', '')",
        "INSERT INTO messages VALUES ('m_r_one_2', 'r_one', 2)",
    ]


def _alone(room: str, position: int) -> str:
    """A head that no fact goes with."""
    return (
        f"INSERT INTO heads VALUES ('{room}', 1, {position}, 9000, {Z})"
        " ON CONFLICT (room) DO UPDATE SET position = excluded.position, at = excluded.at, chain = excluded.chain"
    )


_WITHOUT_HEAD: Final = (
    "INSERT INTO facts SELECT room, 4, type, v, at, header, salt, digest, sha256(chain || digest)"
    " FROM facts WHERE position = 3"
)
_BURIED: Final = "SELECT bury_room('r_one', 1)"

IN_POSTGRES: Final[Mapping[str, str]] = {
    "a fact continues the chain": TABLES.fact(chain=TABLES.blob(32)),
    "and its digest is its own": TABLES.fact(digest=TABLES.blob(32)),
    "so is that of each of several": "WITH more AS (SELECT generate_series(4, 5) AS n), moved AS ("
    f"UPDATE heads SET position = 5, chain = sha256({Z})) INSERT INTO facts SELECT room, n, type, v, at, header, salt,"
    f" digest, sha256({Z}) FROM facts, more WHERE position = 3",
    "a fact moves the head of its room": _WITHOUT_HEAD,
    "a head moves with its facts": _alone("r_one", 4),
    "nor is there one without facts": _alone("r_two", 1),
    "a head never goes back": "UPDATE heads SET (position, at, chain) ="
    " (SELECT position, at, chain FROM facts WHERE position = 2)",
    "nor in time": "UPDATE heads SET position = 4, at = 2999",
    "nor is it another room's": "UPDATE heads SET room = 'r_two', position = 4",
    "nor of another shard": "UPDATE heads SET shard = 2, position = 4",
    "a head is never removed": "DELETE FROM heads",
    "a deleted room has no head": then(
        _BURIED, "INSERT INTO heads SELECT room, 1, position, at, chain FROM facts WHERE position = 3"
    ),
    "and takes no fact": then(_BURIED, _WITHOUT_HEAD),
    "a tombstone stands for ever": then(_BURIED, "DELETE FROM tombstones"),
    "and is never changed": then(_BURIED, "UPDATE tombstones SET room = 'r_two'"),
    "the number of an agent is never another's": "UPDATE agents SET id = 'X' WHERE id = 'U'",
    "nor given up": "DELETE FROM agents",
    "a body that was erased does not come back": then("SELECT erase_bodies('{r_one}', '{2}')", TABLES.body(2)),
    "the line of a fact is over the fact": TABLES.line(line=TABLES.blob(32)),
    "an own line goes on from the one before": TABLES.line(
        thread=TABLES.a_thread(), number=3, line=f"sha256({Z} || (SELECT digest FROM facts WHERE position = 1))"
    ),
    "no tokens are made of each other": "INSERT INTO tokens SELECT token, number, 0, 9, parent FROM agents, (VALUES"
    " ('tk_a', 'tk_b'), ('tk_b', 'tk_a')) AS made (token, parent) WHERE id = 'U'",
    "a token that was revoked is not forgotten": "DELETE FROM revoked_tokens",
    "a room is listed as long as it exists": "DELETE FROM rooms",
    "the index is not emptied and left so": "SELECT forget_index()",
    **{
        f"no table is emptied: {table}": f"TRUNCATE {table}"
        for table in (
            *("agents", "tombstones", "heads", "facts", "bodies", "erased_bodies", "own_lines", "cursors"),
            *("deliveries", "rooms", "tokens", "token_access", "token_rooms", "revoked_tokens", "meta"),
        )
    },
}
"""What only tables of PostgreSQL refuse, or what has to be written for them alone."""

REASONS: Final[Mapping[str, str]] = {
    "a position is never skipped": "follow the last one",
    "a room begins at one": "follow the last one",
    "time never goes back": "follow the last one",
    "a fact continues the chain": "continue the chain",
    "and its digest is its own": "continue the chain",
    "so is that of each of several": "continue the chain",
    "a fact moves the head of its room": "moves with its facts",
    "a type must be known": "type of fact is not known",
    "and so must its version": "type of fact is not known",
    "and takes no fact": "was deleted",
    "a body belongs to a fact": "belongs to a fact",
    "a body that was erased does not come back": "does not come back",
    "an own line has no gaps": "has no gaps",
    "an own line is of a fact": "is of a fact",
    "the line of a fact is over the fact": "over its facts",
    "an own line goes on from the one before": "over its facts",
    "no fact is by a token that was revoked": "does not hold",
    "nor by one that was made of such a token": "does not hold",
    "nor by one that is over": "does not hold",
    "nor by one that there never was": "does not hold",
    "nor by another agent's": "does not hold",
    "nor by one of another room": "of other rooms",
}
"""Of attempts that one trigger refuses, each for a reason of its own: a part of the sentence that says which."""

PLANTED: Final[Mapping[tuple[str, str], str]] = {
    ("facts", "facts_follow_one_another"): "a position is never skipped",
    ("facts", "facts_never_change"): "a fact is never changed",
    ("facts", "facts_stay_while_their_room_does"): "a fact is never removed",
    ("heads", "heads_stand_at_a_fact"): "a head moves with its facts",
    ("heads", "heads_never_go_back"): "a head never goes back",
    ("heads", "heads_are_of_no_deleted_room"): "a deleted room has no head",
    ("heads", "heads_stay_while_their_room_does"): "a head is never removed",
    ("tombstones", "tombstones_never_change"): "and is never changed",
    ("tombstones", "tombstones_stay"): "a tombstone stands for ever",
    ("agents", "agents_never_change"): "the number of an agent is never another's",
    ("agents", "agents_stay"): "nor given up",
    ("bodies", "bodies_belong_to_a_fact"): "a body belongs to a fact",
    ("bodies", "bodies_never_change"): "a body is never changed",
    ("bodies", "bodies_go_with_a_mark"): "a body goes only with its mark",
    ("erased_bodies", "erased_bodies_belong_to_a_message"): "what was erased was a message",
    ("erased_bodies", "erased_bodies_never_change"): "and stays where it is",
    ("erased_bodies", "erased_bodies_stay_while_their_room_does"): "the mark of an erased body stays",
    ("own_lines", "own_lines_go_on"): "no fact is by a token that was revoked",
    ("own_lines", "own_lines_never_change"): "an own line is never changed",
    ("own_lines", "own_lines_are_never_removed"): "an own line is never removed",
    ("tokens", "tokens_are_no_wider"): "nor is another agent's",
    ("tokens", "tokens_never_change"): "and never changed",
    ("token_access", "token_access_is_no_wider"): "nor is for more",
    ("token_access", "token_access_never_changes"): "what a token is for is never changed",
    ("token_rooms", "token_rooms_are_no_more"): "nor for more rooms",
    ("token_rooms", "token_rooms_never_change"): "nor are its rooms",
    ("revoked_tokens", "revoked_tokens_never_change"): "a token that was revoked stays so",
    ("revoked_tokens", "revoked_tokens_stay"): "a token that was revoked is not forgotten",
    ("rooms", "rooms_are_listed_while_they_exist"): "a room is listed as long as it exists",
    ("meta", "schema_only_goes_on"): "nor is it lost",
    ("cursors", "cursors_never_go_back"): "nobody's cursor goes back",
    ("cursors", "cursors_stay_while_their_room_does"): "a cursor is never removed",
    ("deliveries", "deliveries_never_change"): "what was delivered is never changed",
    ("deliveries", "deliveries_stay_while_their_room_does"): "nor removed",
    **{
        (name.partition(": ")[2], f"{name.partition(': ')[2]}_are_never_emptied"): name
        for name in IN_POSTGRES
        if name.startswith("no table is emptied")
    },
}
"""For each trigger an attempt that nothing else refuses: without the trigger, it is taken."""
