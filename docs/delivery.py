"""The page on delivery, for `render`: what each word of the ladder means and does not mean, and what a run with real
programs found.

    parlerd.core.sight, configs.hosts --> the words, and the hosts whose records are known
    docs/delivery.json (a run) ---------> what was said against what was true, host by host

`python -m tests.e2e.hosts.sight --kills --kept FOLDER --record docs/delivery.json` makes the record again. Not here:
what a record looks like (`configs/hosts`). Invariant: the page gives no number that is not in the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from configs.hosts import HOSTS
from configs.model import Host
from parlerd.core.sight import Verdict

HERE: Final = Path(__file__).resolve().parent
RECORD: Final = HERE / "delivery.json"

HEAD: Final = """\
# How far a message got

`parler why` says for each reader how far a message got. Each word says one thing, and nothing beyond it.

"""
WORDS: Final = (
    ("stored", "The home of the room has the message on its disk.", "that any reader's machine has the message"),
    (
        "pushed",
        "The message was given to the daemon of the reader, or to a call of the reader that waits.",
        "that the agent host got the message",
    ),
    (
        "read",
        "An answer with the message was written to the reader's agent host.",
        "that the host passed the answer on to its model: hosts cut long answers, and people stop turns",
    ),
    (
        "shown",
        "The host's own record proves that a reply of the model followed a context that held the whole message.",
        "that the model paid attention to the message, or did what the message says",
    ),
    (
        "acknowledged",
        "The reader's next call came after the answer, so the host got the answer.",
        "that the model saw the answer: with several calls in one reply of the model, the second call comes before the "
        "model saw the first answer",
    ),
    ("acted", "The reader replied to the message, or claimed what the message offers.", "that the reader did so well"),
)
"""The ladder: a word, what it means, and what it does not mean."""
SIGHT: Final = """\

Parler knows all of these words by itself but one. For **shown** Parler has to read what an agent host writes down of
its conversations.

## Sight

```console
$ parler connect --sight claude-code      # says what Parler would read, and asks
$ parler why 12                           # what the record says of each reader
$ parler connect --remove claude-code     # takes sight out again, with the entry
```

Sight is off until you turn it on, for one host at a time. A repository cannot turn it on. While sight is on, the daemon
puts a *marker* behind each message that it shows to this host; a marker is random, and new in each answer. The daemon
then reads what the host appends to its own record of the conversation, and looks for the marker. This record holds all
that you and your model say to each other. Parler reads only what is appended while it waits for a marker, looks only
into the one field that the host's model gets, and keeps the verdict. Parler stores and logs no text and no path.

A marker in the record proves nothing yet: hosts write an answer down before they send the request that carries the
answer, and the request may fail. So two entries are needed: **the answer**, whole, in the field that the model gets,
and after it **a reply of the model** in the same conversation, with nothing between them that took the answer out of
the conversation: no compaction that did not keep it, and no rollback.

A long message comes in parts, each in an answer of its own with a marker of its own. It was shown where one reply
followed all parts, whole, in one conversation. So Parler watches a part on after the reply to it, until the last part
has its verdict, and ten minutes at most. Where something took a part out before that, or where the parts were read in
two conversations, the message was not shown whole.

Hosts keep most answers that a failed request carried, or that a stopped turn was given: the next request holds them
again. Parler says `not_shown` at once, so that the message comes again, and watches on for ten minutes. When a later
reply proves that the message was shown, Parler takes the verdict back and says `shown`; a message that has not come
again by then does not come again. A verdict never goes the other way, whoever says so: what the machine of another
reader says later takes no `shown` back, and a `shown` without what proves it counts as `unknown`.

"""
VERDICTS: Final[Mapping[Verdict, tuple[str, str]]] = {
    "shown": ("a reply followed a context that held the whole message", "sets the rung *shown*"),
    "quoted": ("a later call of the model quoted the marker", "sets the rung *shown*"),
    "summarised": (
        "the host made a summary, and the message or a part of it was only in what the summary was made from",
        "nothing",
    ),
    "cut": (
        "a reply followed, and the host had cut out the message or a part of it",
        "shows the message again, at most twice",
    ),
    "not_shown": (
        "the request failed, or somebody stopped the turn or rolled it back, and no later reply proves otherwise",
        "shows the message again, at most twice",
    ),
    "unknown": ("nothing was proved", "nothing"),
}
"""What each verdict means, and what Parler does."""
REASONS: Final[Mapping[str, str]] = {
    "no_host": "nobody has measured the records of this host",
    "version": "the host is another release than those that were measured, or tells nobody which release it is",
    "no_record": "the host has no folder of records, or no record had the answer a minute after it came; when one has "
    "it later, another verdict follows",
    "unwatched": "the system let nobody watch the folder, or the watching was ended",
    "timeout": "no proof came in ten minutes",
    "too_long": "an entry or an answer was longer than Parler looks at, or so long that the host may have cut it",
    "too_many": "too much was waited for at once",
    "record_unreadable": "the record could not be read",
    "rotated": "the record was replaced or made shorter",
    "unrecognised": "the record holds an entry of a kind that nobody measured",
    "copied": "a tool printed the answer as well, out of a record or a log, and nobody can tell which is the copy",
    "restarted": "the daemon was restarted while it waited",
    "compacting": "the host compacted the conversation while its model was asked",
    "apart": "a long message was read in parts, and no reply was seen to follow all of them within ten minutes",
    "begun": "the reader was shown the beginning of a long message, and did not ask for the rest",
    "part": "the reader asked for a part of a long message without the part before",
}
"""Why a verdict is `unknown`."""
LIMITS: Final = """\

Parler says `shown` of nothing that it cannot prove, and `unknown` wherever it is not sure. What remains: a program that
runs as you can forge a record; a conversation may go on more than ten minutes after a request of it failed, its host
may end before it has written down a reply, or the daemon may be restarted in between; a host may compact a conversation
in a way that nobody has seen; and what an update of a host changes is only known once the new release was measured.

"""
RUN: Final = """\
## What a run found

On {day} ({system}) {messages:,} messages were sent to {hosts} agent hosts, each with the real Parler and a model that
is a script. What the model's server was sent, and what it answered, is the truth that the verdicts are held against.
What happened to the hosts meanwhile is in the second table.

**Said to be shown and not shown: {false_shown}.** In the table, *missed* are messages that were shown while Parler says
`unknown` or still waited (`pending`) when the case ended. *Denied* are messages of which Parler says that they were not
shown, and which a later request of the same conversation held all the same.

"""
CASES: Final = """\

The same by what happened:

"""
HOSTS_HEAD: Final = """\

## Host by host

The records of these hosts were measured, in these releases. Of every other release the verdict is `unknown`.

"""
NOTES: Final[Mapping[str, str]] = {
    "claude-code": "Writes no record with `--no-session-persistence`. Subagents have records of their own, which are "
    "watched too. It says what it keeps of a conversation that it compacts. `CLAUDE_CONFIG_DIR` moves the records, and "
    "Parler follows.",
    "codex": "Writes no record with `--ephemeral`. `CODEX_HOME` moves the records, and Parler follows where its entry "
    "names that variable in `env_vars`, as `parler connect codex` writes it: Codex passes it on to no other server.",
    "gemini": "Writes nothing of a request that failed in a run without a terminal, so the verdict comes with the next "
    "turn or not at all. It takes what a stopped turn was given out of the conversation.",
    "opencode": "Its record is a database.",
    "kilo": "Its record is a database.",
    "qwen": "Writes no record with `--chat-recording false`, and nothing of a turn that was stopped: what such a turn "
    "was given stays in the conversation, so the verdict comes with the next reply.",
    "copilot": "Compacts a conversation beside its turns, and keeps what came since it began to. Of what came before "
    "and had no reply when the summary was done it says nothing: that is `unknown`.",
    "grok": "Writes nothing of a request that failed or of a turn that was stopped: what they were given stays in the "
    "conversation, so the verdict comes with the next reply. A compaction replaces the record, and what waited then is "
    "`unknown`.",
    "droid": "Keeps the end of a conversation that it compacts, and says from where on.",
    "cline-cli": "Writes an answer down before it cuts it: an answer of 7,500 characters or more is `unknown`, and "
    "everything is while `CLINE_MESSAGE_BUILDER_MAX_TOOL_RESULT_CHARS` is set. It says beside its record what it keeps "
    "of a conversation that it compacts, and what had no reply by then and is not kept is `unknown`.",
    "kimi": "Tells nobody which release it is: its servers are told 0.0.0 of every release. So all is `unknown`, as "
    "`version`, although its record would prove as much as the others do.",
}
"""What a person should know of a host's record."""


def delivery_page(made: str) -> str:
    """The whole of delivery.md."""
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    total = record["all"]
    parts = [made, "\n", HEAD]
    parts += _table(("word", "it means", "it does not mean"), [(f"**{word}**", *means) for word, *means in WORDS])
    parts.append(SIGHT)
    verdicts = [(f"`{verdict}`", *means) for verdict, means in VERDICTS.items()]
    parts += _table(("verdict", "it means", "what Parler does"), verdicts)
    parts.append("\nA reason stands beside each verdict. The reasons of `unknown`:\n\n")
    parts += _table(("reason", "it means"), [(f"`{reason}`", means) for reason, means in REASONS.items()])
    parts.append(LIMITS)
    parts.append(
        RUN.format(
            day=record["day"],
            system=record["system"],
            messages=total["messages"],
            hosts=len(record["hosts"]),
            false_shown=total["false_shown"],
        )
    )
    columns = ("messages", "shown", "said to be shown and not", "missed", "denied", "said of the rest")
    names = {host.id: host.name for host in HOSTS}
    rows = [
        (names[id], *_counts(found)) for id, found in sorted(record["hosts"].items(), key=lambda each: names[each[0]])
    ]
    parts += _table(("host", *columns), rows)
    parts.append(CASES)
    parts += _table(("case", *columns), [(case, *_counts(each)) for case, each in sorted(record["cases"].items())])
    parts.append(HOSTS_HEAD)
    parts += _table(("host", "release", "to know"), [_about(host) for host in HOSTS if host.sight is not None])
    return "".join(parts)


def _about(host: Host) -> tuple[str, str, str]:
    assert host.sight is not None
    return (host.name, ", ".join(host.sight.versions), NOTES[host.id])


def _counts(found: Mapping[str, Any]) -> tuple[str, ...]:
    rest = ", ".join(f"{count:,} {words}" for words, count in found["rest"].items())
    numbers = (found[name] for name in ("messages", "shown", "false_shown", "missed", "denied"))
    return (*(f"{number:,}" for number in numbers), rest)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(cells)} |\n" for cells in lines]
