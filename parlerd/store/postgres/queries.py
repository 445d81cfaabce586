"""What the store asks of its tables when it reads.

A room that was deleted has no head, and so nothing that is read by its log; marks and requests, which may be there
without a log, are looked for beside its tombstone. Where a plan must go from a few places to their rows, the rows are
asked for with LATERAL and LIMIT 1, which the planner cannot turn into a scan of a whole table.

Above: `store`. Not here: what is read in order to write (`writing`).
"""

from __future__ import annotations

from typing import Final

_LIVES: Final = "EXISTS (SELECT FROM heads WHERE room = %(room)s)"
_NOT_DELETED: Final = "NOT EXISTS (SELECT FROM tombstones t WHERE t.room = {0}.room)"

HEAD: Final = "SELECT position, at, chain FROM heads WHERE room = %s"
CHAIN: Final = f"SELECT chain FROM facts WHERE room = %(room)s AND position = %(position)s AND {_LIVES}"  # noqa: S608
# The newest public message up to a position and the newest place of a mirror, as far as there are any; and the first
# fact of the log, where there is no public message.
SHOWN: Final = f"""
    SELECT m.number, m.line, p.public, p.counted, p.line, f.header
      FROM (SELECT) one
      LEFT JOIN (SELECT number, line FROM public_messages
                  WHERE room = %(room)s AND position <= %(position)s ORDER BY position DESC LIMIT 1) m ON true
      LEFT JOIN (SELECT public, counted, line FROM mirror_places
                  WHERE room = %(room)s AND position <= %(position)s ORDER BY position DESC LIMIT 1) p ON true
      LEFT JOIN facts f ON m.number IS NULL AND f.room = %(room)s AND f.position = 1 AND {_LIVES}"""  # noqa: S608
NEWEST_LINES: Final = f"""
    SELECT number, line FROM public_messages
     WHERE room = %(room)s AND {_LIVES} ORDER BY position DESC LIMIT %(limit)s"""  # noqa: S608
FACTS: Final = f"""
    SELECT header FROM facts WHERE room = %(room)s AND position > %(after)s AND {_LIVES}
     ORDER BY position LIMIT %(limit)s"""  # noqa: S608
BODIED_FACTS: Final = f"""
    SELECT f.header, b.body, b.signature
      FROM facts f LEFT JOIN bodies b ON b.room = f.room AND b.position = f.position
     WHERE f.room = %(room)s AND f.position > %(after)s AND {_LIVES}
     ORDER BY f.position LIMIT %(limit)s"""  # noqa: S608
WHOLE_FACTS: Final = f"""
    SELECT f.position, f.header, f.salt, f.digest, f.chain, b.body
      FROM facts f LEFT JOIN bodies b ON b.room = f.room AND b.position = f.position
     WHERE f.room = %(room)s AND f.position > %(after)s AND {_LIVES}
     ORDER BY f.position LIMIT %(limit)s"""  # noqa: S608
HEADER: Final = f"SELECT header FROM facts WHERE room = %(room)s AND position = %(position)s AND {_LIVES}"  # noqa: S608
BODY: Final = f"""
    SELECT body, signature FROM bodies
     WHERE room = %(room)s AND position = %(position)s AND {_LIVES}"""  # noqa: S608
RECEIPTED: Final = f"""
    SELECT f.header, f.salt, f.digest, b.body, b.signature, o.thread, o.number,
           (SELECT line FROM own_lines p WHERE p.thread = o.thread AND p.number = o.number - 1)
      FROM facts f
      LEFT JOIN bodies b ON b.room = f.room AND b.position = f.position
      LEFT JOIN own_lines o ON o.room = f.room AND o.position = f.position
     WHERE f.room = %(room)s AND f.position = %(position)s AND {_LIVES}"""  # noqa: S608
PLACE_IN_LINE: Final = f"""
    SELECT position FROM own_lines
     WHERE thread = %(thread)s AND number = %(number)s AND room = %(room)s AND {_LIVES}"""  # noqa: S608
OWN_LINES: Final = f"""
    SELECT f.position, f.header, f.digest, o.thread, o.number, o.line, o.token, coalesce(a.id, ''), o.wall
      FROM facts f
      LEFT JOIN own_lines o ON o.room = f.room AND o.position = f.position
      LEFT JOIN agents a ON a.number = o.agent
     WHERE f.room = %(room)s AND f.position > %(after)s AND {_LIVES}
     ORDER BY f.position LIMIT %(limit)s"""  # noqa: S608
STRAY_LINE: Final = f"""
    SELECT min(o.position) FROM own_lines o
     WHERE o.room = %(room)s AND {_LIVES}
       AND NOT EXISTS (SELECT FROM facts f WHERE f.room = o.room AND f.position = o.position)"""  # noqa: S608
ERASED: Final = f"""
    SELECT position FROM erased_bodies
     WHERE room = %(room)s AND position > %(after)s AND position <= %(upto)s AND {_LIVES}"""  # noqa: S608
# The places are bounded in both tables: otherwise the planner reads all facts of the room for those of a few bodies.
_BODIES: Final = f"""
      FROM bodies b JOIN facts f ON f.room = b.room AND f.position = b.position
     WHERE b.room = %(room)s AND b.position > %(after)s AND f.position > %(after)s AND {_LIVES}"""
_UPTO: Final = "AND b.position <= %(upto)s AND f.position <= %(upto)s"
# The length of a body is read without the body. With it where the log ends.
HELD: Final = f"""
    SELECT count(*), coalesce(sum(length(b.body)), 0)::bigint,
           coalesce((SELECT position FROM heads WHERE room = %(room)s), 0)
           {_BODIES} {_UPTO} AND f.type = %(type)s"""  # noqa: S608 - our own words
OLDEST_BODIES: Final = f"""
    SELECT b.position, length(b.body) {_BODIES} AND f.type = %(type)s ORDER BY b.position LIMIT %(limit)s"""
HELD_IN: Final = """
    SELECT asked.room, held.messages, held.size
      FROM unnest(%(rooms)s::text[], %(lows)s::bigint[], %(highs)s::bigint[]) AS asked (room, low, high)
     CROSS JOIN LATERAL (
           SELECT count(*) AS messages, coalesce(sum(length(b.body)), 0)::bigint AS size
             FROM bodies b JOIN facts f ON f.room = b.room AND f.position = b.position
            WHERE b.room = asked.room AND b.position > asked.low AND b.position <= asked.high
              AND f.position > asked.low AND f.position <= asked.high AND f.type = %(type)s
              AND EXISTS (SELECT FROM heads WHERE room = asked.room)) held"""
HEADS: Final = "SELECT room, position, at, chain FROM heads WHERE room = ANY (%(rooms)s::text[])"
OPENINGS: Final = """
    SELECT h.room, f.header
      FROM heads h CROSS JOIN LATERAL (SELECT header FROM facts WHERE room = h.room AND position = 1 LIMIT 1) f
     WHERE h.room = ANY (%(rooms)s::text[])"""
WRITTEN: Final = f"SELECT f.header, length(b.body) {_BODIES} {_UPTO}"
SNAPSHOT: Final = "SELECT fold_version, position, data, digest FROM snapshots WHERE room = %s"

# -- messages as a reader sees them ------------------------------------------------------------------------

# The head of a room, what `SHOWN` gives there, and the tally of each of some places, none of them beyond the head.
TALLIES: Final = """
    SELECT coalesce(h.position, 0), s.number, s.line, l.public, l.counted, l.line, f.header,
           p.position, coalesce(m.number, 0), coalesce(o.own, 0), coalesce(r.number, 0), coalesce(r.own, 0)
      FROM (SELECT) one
      LEFT JOIN heads h ON h.room = %(room)s
      LEFT JOIN LATERAL (SELECT number, line FROM public_messages
                          WHERE room = %(room)s AND position <= h.position ORDER BY position DESC LIMIT 1) s ON true
      LEFT JOIN LATERAL (SELECT public, counted, line FROM mirror_places
                          WHERE room = %(room)s AND position <= h.position ORDER BY position DESC LIMIT 1) l ON true
      LEFT JOIN LATERAL (SELECT header FROM facts
                          WHERE s.number IS NULL AND room = h.room AND position = 1 LIMIT 1) f ON true
     CROSS JOIN LATERAL (SELECT DISTINCT greatest(0, least(asked, coalesce(h.position, 0))) AS position
                           FROM unnest(%(places)s::bigint[]) AS asked) p
      LEFT JOIN LATERAL (SELECT number FROM public_messages
                          WHERE room = %(room)s AND position <= p.position ORDER BY position DESC LIMIT 1) m ON true
      LEFT JOIN LATERAL (SELECT own FROM public_messages
                          WHERE room = %(room)s AND author = %(reader)s AND position <= p.position
                          ORDER BY position DESC LIMIT 1) o ON true
      LEFT JOIN LATERAL (SELECT number, own FROM private_messages
                          WHERE room = %(room)s AND reader = %(reader)s AND position <= p.position
                          ORDER BY position DESC LIMIT 1) r ON true"""
_PRIVATE_BEFORE: Final = """
    coalesce((SELECT p.number FROM private_messages p
               WHERE p.room = %(room)s AND p.reader = %(reader)s AND p.position < m.position
               ORDER BY p.position DESC LIMIT 1), 0) AS private"""
_SPANS: Final = "unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS span (low, high)"
_NAMES: Final = "unnest(%(names)s::text[]) AS asked (name)"
_NOT_OWN: Final = "AND (NOT %(skip_own)s OR m.author <> %(reader)s)"
_FILTER: Final = "s.room = %(room)s AND s.addressee = asked.name AND s.kind = %(kind)s"


def page(*, newest_first: bool, filtered: bool) -> str:
    """The query for one page: its messages and one beyond, within the bounds of `paging.Wanted`."""
    order = "DESC" if newest_first else "ASC"
    found = _FILTERED if filtered else _PLAIN.replace("/*ORDER*/", order)
    # What the bodies before a message take together says whether the message can be on the page, or follows it. The
    # first is on every page, however large, so the second is always looked at.
    return f"""
    SELECT position, public, private, header, body, signature, salt, digest
      FROM (SELECT c.*, f.header, f.salt, f.digest, b.body, b.signature,
                   sum(coalesce(length(b.body), 0)) OVER (ORDER BY c.position {order}) - coalesce(length(b.body), 0)
                   AS before, row_number() OVER (ORDER BY c.position {order}) AS nth
              FROM (SELECT DISTINCT ON (position) position, public, private FROM ({found}) found
                     ORDER BY position {order} LIMIT %(limit)s) c
              LEFT JOIN LATERAL (SELECT header, salt, digest FROM facts
                                  WHERE room = %(room)s AND position = c.position LIMIT 1) f ON true
              LEFT JOIN LATERAL (SELECT body, signature FROM bodies
                                  WHERE room = %(room)s AND position = c.position LIMIT 1) b ON true) bounded
     WHERE before <= %(max_bytes)s OR nth <= 2 ORDER BY position {order}"""  # noqa: S608 - our own words


_PLAIN: Final = f"""
    SELECT each.* FROM {_SPANS}
     CROSS JOIN LATERAL (SELECT m.position, m.number AS public, {_PRIVATE_BEFORE} FROM public_messages m
                          WHERE m.room = %(room)s AND m.position > span.low AND m.position <= span.high {_NOT_OWN}
                          ORDER BY m.position /*ORDER*/ LIMIT %(limit)s) each
     UNION ALL
    (SELECT m.position, m.public, m.number FROM private_messages m
      WHERE m.room = %(room)s AND m.reader = %(reader)s AND m.position > %(after)s AND m.position <= %(head)s
        {_NOT_OWN} ORDER BY m.position /*ORDER*/ LIMIT %(limit)s)"""  # noqa: S608 - our own words
_FILTERED: Final = f"""
    SELECT each.* FROM {_NAMES} CROSS JOIN {_SPANS}
     CROSS JOIN LATERAL (SELECT m.position, m.number AS public, {_PRIVATE_BEFORE}
                           FROM filtered_messages s
                          CROSS JOIN LATERAL (SELECT position, number, author FROM public_messages
                                               WHERE room = %(room)s AND position = s.position LIMIT 1) m
                          WHERE {_FILTER} AND s.audience = ''
                            AND s.position > span.low AND s.position <= span.high {_NOT_OWN}
                          ORDER BY s.position LIMIT %(limit)s) each
     UNION ALL
    SELECT each.* FROM {_NAMES}
     CROSS JOIN LATERAL (SELECT m.position, m.public, m.number
                           FROM filtered_messages s
                          CROSS JOIN LATERAL (SELECT position, public, number, author FROM private_messages
                                               WHERE room = %(room)s AND reader = %(reader)s AND position = s.position
                                               LIMIT 1) m
                          WHERE {_FILTER} AND s.audience = %(reader_id)s
                            AND s.position > %(after)s AND s.position <= %(head)s {_NOT_OWN}
                          ORDER BY s.position LIMIT %(limit)s) each"""  # noqa: S608 - our own words
PAGE: Final = page(newest_first=False, filtered=False)
TAIL: Final = page(newest_first=True, filtered=False)
FILTERED_PAGE: Final = page(newest_first=False, filtered=True)

# -- looking things up -------------------------------------------------------------------------------------

MESSAGE_PLACE: Final = """
    SELECT m.room, m.position FROM messages m
     WHERE m.id = %s AND EXISTS (SELECT FROM heads h WHERE h.room = m.room)"""
PAST_MESSAGES: Final = """
    SELECT m.id, m.room, f.header
      FROM messages m
      LEFT JOIN facts f ON m.room = %(room)s AND f.room = m.room AND f.position = m.position
     WHERE m.id = ANY (%(ids)s::text[]) AND EXISTS (SELECT FROM heads h WHERE h.room = m.room)"""
PRIORS: Final = f"""
    SELECT used.place, f.header
      FROM unnest(%(actors)s::text[], %(operations)s::text[], %(keys)s::text[])
           WITH ORDINALITY AS used (actor, operation, key, place)
      JOIN agents a ON a.id = used.actor
      JOIN idempotency i ON i.room = %(room)s AND i.actor = a.number AND i.operation = used.operation
                        AND i.key = used.key
     CROSS JOIN LATERAL (SELECT header FROM facts WHERE room = i.room AND position = i.position LIMIT 1) f
     WHERE {_LIVES}"""  # noqa: S608
ROOMS: Final = "SELECT room FROM rooms ORDER BY opened_at, room"
OWNED: Final = "SELECT room FROM rooms WHERE principal = %s AND principal <> '' ORDER BY opened_at, room"
ROOM_OF_KEY: Final = """
    SELECT k.room FROM room_keys k WHERE k.key = %s AND EXISTS (SELECT FROM heads h WHERE h.room = k.room)"""
MEMBERSHIPS: Final = """
    SELECT m.room, m.state FROM memberships m JOIN rooms r ON r.room = m.room
     WHERE m.agent = %s AND r.principal <> '' ORDER BY r.opened_at, m.room"""
DEADLINES: Final = """
    SELECT room, min(at) FROM deadlines
     WHERE at > 0 AND (at > %s OR subject LIKE 'task:%%' OR subject LIKE 'gated:%%') GROUP BY room"""
CURSOR: Final = f"""
    SELECT delivered, acknowledged FROM cursors c
     WHERE room = %s AND reader = %s AND {_NOT_DELETED.format("c")}"""  # noqa: S608
DELIVERIES: Final = f"""
    SELECT a.id, s.stage, d.upto, d.at
      FROM cursors c
     CROSS JOIN (VALUES ('stored', 1), ('pushed', 2), ('read', 3), ('acknowledged', 4), ('acted', 5)) AS s (stage, rung)
     CROSS JOIN LATERAL (SELECT upto, at FROM deliveries
                          WHERE room = c.room AND reader = c.reader AND stage = s.stage
                            AND upto >= %(position)s AND after < %(position)s
                          ORDER BY at, upto, after LIMIT 1) d
      JOIN agents a ON a.number = c.reader
     WHERE c.room = %(room)s AND {_NOT_DELETED.format("c")}
     ORDER BY a.id, s.rung"""  # noqa: S608
HAS_MARKS: Final = """
    SELECT 1 FROM cursors c
     CROSS JOIN LATERAL (SELECT 1 FROM deliveries d
                          WHERE d.room = c.room AND d.reader = c.reader
                            AND d.upto >= %(first)s AND d.upto <= %(last)s AND d.after >= %(first)s - 1
                            AND NOT EXISTS (SELECT FROM bodies b
                                              JOIN facts f ON f.room = b.room AND f.position = b.position
                                             WHERE b.room = d.room AND b.position > d.after AND b.position <= d.upto
                                               AND f.type = 'message_posted')
                          LIMIT 1) m
     WHERE c.room = %(room)s LIMIT 1"""
_SIGHTS_OF_NO_WORDS: Final = """
      FROM sights s
     WHERE s.room = %(room)s AND s.position BETWEEN %(first)s AND %(last)s
       AND NOT EXISTS (SELECT FROM bodies b JOIN facts f ON f.room = b.room AND f.position = b.position
                        WHERE b.room = s.room AND b.position = s.position AND f.type = 'message_posted')"""
HAS_SIGHTS: Final = f"SELECT 1 {_SIGHTS_OF_NO_WORDS} LIMIT 1"
FORGET_SIGHTS: Final = f"""
    DELETE FROM sights
     WHERE ctid = ANY (ARRAY (SELECT s.ctid {_SIGHTS_OF_NO_WORDS} LIMIT %(limit)s))"""  # noqa: S608 - our own names
LEASES: Final = 'SELECT "window", agent, host, workspace, slot, taken_at FROM leases ORDER BY taken_at, "window"'
OUTBOX: Final = f"""
    SELECT message, home, room, agent, key, at, request, refused FROM outbox o
     WHERE home = %s AND {_NOT_DELETED.format("o")} ORDER BY number"""  # noqa: S608
RENEWALS: Final = f"""
    SELECT room, task, fence, until FROM renewals r
     WHERE room = %s AND {_NOT_DELETED.format("r")} ORDER BY task"""  # noqa: S608
_SIGHT: Final = "SELECT s.room, a.id, s.position, s.verdict, s.reason, s.host, s.at, s.again, s.evidence"
_SIGHTED: Final = "FROM sights s JOIN agents a ON a.number = s.reader"
SIGHTS: Final = f"""
    {_SIGHT} {_SIGHTED} WHERE s.room = %s AND s.position = %s AND {_NOT_DELETED.format("s")} ORDER BY a.id"""
SIGHTS_TO_SHOW_AGAIN: Final = f"""
    {_SIGHT} {_SIGHTED}
     WHERE s.verdict IN ('cut', 'not_shown') AND s.reader = %s AND s.room = %s AND s.again < %s
       AND {_NOT_DELETED.format("s")} ORDER BY s.position"""
# Of the rows of one message the newest counts, and of several of one moment the last by its reader.
SIGHTS_OF_NOBODY: Final = f"""
    {_SIGHT} {_SIGHTED}
     WHERE s.verdict NOT IN ('shown', 'quoted') AND s.verdict <> 'unknown' AND s.at > %s AND s.at <= %s
       AND {_NOT_DELETED.format("s")}
       AND NOT EXISTS (SELECT FROM sights o JOIN agents b ON b.number = o.reader
                        WHERE o.room = s.room AND o.position = s.position
                          AND (o.verdict IN ('shown', 'quoted')
                               OR o.verdict <> 'unknown' AND (o.at, b.id) > (s.at, a.id)))
     ORDER BY s.at, s.room, s.position LIMIT %s"""
IS_DELETED: Final = "SELECT 1 FROM tombstones WHERE room = %s"
_BRINGS: Final = """
    s.audience = '=' AND s.kind = '' AND EXISTS (SELECT FROM heads h WHERE h.room = s.room)
    AND NOT EXISTS (SELECT FROM erased_bodies e WHERE e.room = s.room AND e.position = s.position)"""
BROUGHT: Final = f"SELECT 1 FROM filtered_messages s WHERE s.addressee = %s AND {_BRINGS} LIMIT 1"  # noqa: S608
# The names of blobs are all that the index has from '=' to '>' for anybody.
BROUGHT_IN: Final = f"""
    SELECT DISTINCT s.addressee FROM filtered_messages s
     WHERE s.room = %s AND s.addressee > '=' AND s.addressee < '>' AND {_BRINGS} ORDER BY s.addressee"""  # noqa: S608
STATE_VERSIONS: Final = f"""
    SELECT position FROM state_writes
     WHERE room = %(room)s AND scope = %(scope)s AND key = %(key)s AND position < %(before)s AND {_LIVES}
     ORDER BY position DESC LIMIT %(limit)s"""  # noqa: S608
STATE_AT: Final = f"""
    SELECT max(position) FROM state_writes WHERE room = %(room)s AND position <= %(upto)s AND {_LIVES}
     GROUP BY scope, key ORDER BY scope, key"""  # noqa: S608
