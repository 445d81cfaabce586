"""How much a model has to read, in bytes of the text of an answer.

For the list of tools this is the whole line that the shim writes. For a tool's answer it is the text block in UTF-8.
The windows were told before what a fence means, except for the join: the join is a window's first answer, and explains
the fence. The answers come through a real shim and daemon, for a host that nobody has measured. The sizes are the same
on any machine. Only names vary, and here both agents have the names of their directories.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import common
from mcp_server.heard import hear

TOOLS = "tools/list, the whole answer"
JOIN = "a join with a backlog of 111 messages of 105 characters, recap of 1,000"
PAGE = "10 new messages of 105 characters"
SEND = "a send"
EMPTY = "a receive when nothing is new"
NOTICE = "the notice when nothing waits"
FLOORS = {TOOLS: 8_000, JOIN: 3_500, PAGE: 1_900, SEND: 130, EMPTY: 15, NOTICE: 0}
"""The most that is acceptable. Source: performance spec."""
BACKLOG = 111
MESSAGES = 10
CHARACTERS = 105
RECAP = 1_000


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__)
    report = common.Report("texts", given.place)
    for figure, size in sizes(given.place).items():
        report.add(common.Figure(figure, "bytes", size, 1, floor=FLOORS[figure]))
    report.print()


def sizes(place: Path | None) -> dict[str, int]:
    """Bytes of each answer."""
    with common.home(place) as made, common.shim(made, "author") as author, common.shim(made, "reader") as reader:
        for window in (author, reader):
            window.handshake()
        reader.tools()
        found = {TOOLS: reader.answered_bytes}
        key = hear(author.call("parler_open_session", context=words(RECAP), topic="bench")).session_key
        for number in range(BACKLOG):
            author.call("parler_send", text=message(number))
        joined = reader.call("parler_join_session", key=key)
        assert len(hear(joined).messages) > 1, joined
        found[JOIN] = size(joined)
        answers = [author.call("parler_send", text=message(number)) for number in range(MESSAGES)]
        found[SEND] = size(answers[-1])  # the first answer also says who came in
        page = reader.call("parler_recv")
        assert hear(page).texts == [message(number) for number in range(MESSAGES)], page
        found[PAGE] = size(page)
        nothing = reader.call("parler_recv")
        assert hear(nothing).messages == [], nothing
        found[EMPTY] = size(nothing)
        # The first line is the answer; everything after it is a notice.
        found[NOTICE] = size(nothing.partition("\n")[2])
    return found


def size(text: str) -> int:
    """Bytes as they travel."""
    return len(text.encode())


def words(characters: int) -> str:
    """Plain text of this many characters."""
    return (f"{common.TEXT} " * (characters // len(common.TEXT) + 1))[:characters]


def message(number: int) -> str:
    """The text of a message, different for each number."""
    return f"{number:03} {words(CHARACTERS - 4)}"


if __name__ == "__main__":
    main()
