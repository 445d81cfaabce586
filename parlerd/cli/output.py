"""The one place that prints.

With `--json`, stdout gets exactly one JSON document (a stream gets one object a line) and nothing else, and everything
that is told to a person goes to stderr. Without `--json`, stdout gets lines, tables and panels, which are coloured on a
terminal unless `NO_COLOR` is set. On a terminal, sentences are broken between words (`say`, `note`), and what a person
will copy is never broken (`paste`).

Printing only fills a buffer. `flush` sends the buffer, and raises `OSError` when it cannot; a reader's page is
acknowledged after that and never before. Not here: how messages and requests look (`render`). Above: every command.
Below: `printable`. Invariant: everything that is printed for a person passes `printable`, the program's own words too,
so no text of others can be forgotten.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TextIO

from parlerd.cli.printable import clip, columns, printable, printable_line, wrap
from parlerd.core.model import is_moment

if TYPE_CHECKING:
    import msgspec
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from parlerd.core.errors import ParlerError

Style = Literal["plain", "dim", "bold", "name", "good", "warn", "bad"]
Span = str | tuple[str, Style]
Cell = Span

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
PENDING: Final = 4
INTERRUPTED: Final = 130

UNREACHABLE_CODES: Final = frozenset({"unreachable", "connection_lost", "draining"})
"""No daemon answered."""
ELSEWHERE_CODES: Final = frozenset({"home_unreachable", "offline", "relay_not_running"})
"""A daemon answered, or none was needed, and a relay did not."""
SLOW_S: Final = 1.0
"""After this many seconds a terminal shows that work is under way. Source: CLI spec."""
MAX_SAID: Final = 4
"""Lines of a detail that is printed below an error."""
MAX_CHOICES: Final = 10
"""Values that an error names as allowed."""
DEFAULT_WIDTH: Final = 100
GAP: Final = "  "
"""What stands between two columns of a list."""
MIN_COLUMN: Final = 10
"""No column of a list is cut to fewer columns than this, because less of a name tells nothing."""
# Light colours are not bold: many terminals draw a bold colour in its bright form, which nobody can read on white.
_SGR: Final[dict[Style, str]] = {
    "plain": "",
    "dim": "2",
    "bold": "1",
    "name": "36",
    "good": "32",
    "warn": "33",
    "bad": "1;31",
}
RICH: Final[dict[Style, str]] = {
    "plain": "",
    "dim": "dim",
    "bold": "bold",
    "name": "cyan",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
}


class Progress(Protocol):
    """Something that shows that work goes on."""

    def update(self, text: str) -> None: ...


class Output:
    """Where the answer of a command goes."""

    def __init__(
        self, stdout: TextIO, stderr: TextIO, *, json: bool = False, colour: bool = False, width: int | None = None
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.json = json
        """Whether a script reads stdout: JSON and nothing else goes there."""
        self.colour = colour and not json
        self.terminal = _is_terminal(stdout) and not json
        """Whether a person looks at stdout."""
        self.width = width or _terminal_width(stdout)
        """How many columns a line of stdout has on a terminal; `note_width` is the same for stderr."""
        self.note_width = width or _terminal_width(stderr)
        # How many JSON documents were printed.
        self._documents = 0
        # Whether the command prints one object a line, until it is interrupted.
        self._streaming = False
        # Whether something draws on the terminal now, so that no spinner may.
        self._spinning = False

    # -- for a script ------------------------------------------------------------------------------------

    def document(self, value: msgspec.Struct | Mapping[str, Any]) -> None:
        """Print the one JSON document of this command."""
        assert not self._documents or self._streaming
        self._documents += 1
        self.stdout.write(to_json(value) + "\n")

    @property
    def awaits_document(self) -> bool:
        """Whether a script still waits for this command's one document."""
        return self.json and not self._streaming and not self._documents

    def stream(self) -> None:
        """Say that this command prints any number of objects, one a line, and ends when it is interrupted."""
        self._streaming = True

    def item(self, value: msgspec.Struct | Mapping[str, Any]) -> None:
        """Print one object of a stream on its own line, and send it. Call `stream` before the first."""
        self.document(value)
        self.flush()

    # -- for a person ------------------------------------------------------------------------------------

    def say(self, *spans: Span, hang: int = 0) -> None:
        """Print a sentence or two on stdout. Where a terminal needs several lines, all after the first begin `hang`
        columns further in."""
        for line in self._lines(spans, self.width if self.terminal else None, hang, colour=self.colour):
            self.stdout.write(line + "\n")

    def note(self, *spans: Span, hang: int = 0) -> None:
        """Print a sentence or two on stderr: something worth knowing that is not the answer."""
        # Where both go into one pipe, what was said before stands before the note. If stdout takes nothing any more,
        # the end of the command finds that out.
        with contextlib.suppress(OSError):
            self.stdout.flush()
        terminal = _is_terminal(self.stderr)
        width = self.note_width if terminal else None
        for line in self._lines(spans, width, hang, colour=self.colour and terminal):
            self.stderr.write(line + "\n")
        self.stderr.flush()

    def paste(self, *spans: Span, beside: bool = False) -> None:
        """Print something to copy, alone on its line, never broken and never indented; with `beside` on stderr. It is
        bold unless it has a style of its own."""
        styled: list[Span] = [(span, "bold") if isinstance(span, str) else span for span in spans]
        stream = self.stderr if beside else self.stdout
        stream.write(self._line(styled, self.colour and (not beside or _is_terminal(stream))) + "\n")

    def line(self, *spans: Span) -> None:
        """Print one line of a log or a file, however wide: a break would look like a line break of the file."""
        self.stdout.write(self._line(spans, self.colour) + "\n")

    def text(self, body: str, *, indent: str = "") -> None:
        """Print text of others, each line behind `  | `, so that none looks like a line of this program."""
        bar = f"{indent}  │ " if self._can_print("│") else f"{indent}  | "
        lines = printable(body).split("\n")
        if self.terminal:
            lines = wrap("\n".join(lines), self.width - columns(bar))
        for line in lines:
            self.say((bar, "dim"), line)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print rows in columns. On a terminal, cells are folded to fit, and columns without any content are left
        out."""
        if self.terminal:
            self._print_rich(self.rich_table(headers, rows))
            return
        texts = [[printable_line(_text(cell)) for cell in row] for row in rows]
        widths = [max(map(columns, column)) for column in zip(headers, *texts, strict=True)]
        for row in (list(headers), *texts):
            padded = (cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(padded).rstrip() + "\n")

    def listing(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        cut: Sequence[int] = (0,),
        spare: Sequence[int] = (),
    ) -> None:
        """Print rows, one line each, without the columns that are empty in every row. Where a terminal is too narrow,
        the columns `spare` are left out too, and then the columns `cut` are made narrower, the widest first, so that no
        line is broken. Where even that is not enough, each row is its first cell, and below it what the others say."""
        head: list[Cell] = [(header, "dim") for header in headers]
        cells = [[(printable_line(_text(cell)), _style(cell)) for cell in row] for row in (head, *rows)]
        widths = {index: max(columns(row[index][0]) for row in cells) for index in range(len(headers))}
        for index in range(len(headers)):
            if not any(row[index][0] for row in cells[1:]):
                del widths[index]
        if self.terminal and not _narrow(widths, cut, spare, self.width):
            self._stacked(cells, [index for index in widths if index not in spare])
            return
        for row in cells:
            shown = [(clip(row[index][0], width), row[index][1], width) for index, width in widths.items()]
            line: list[Span] = []
            for place, (text, style, width) in enumerate(shown):
                line.append((text, style))
                if any(later for later, *_ in shown[place + 1 :]):
                    line.append(" " * (width - columns(text) + len(GAP)))
            self.line(*line)

    def _stacked(self, cells: Sequence[Sequence[tuple[str, Style]]], shown: Sequence[int]) -> None:
        """The rows of a list in a terminal that is too narrow for columns."""
        (first, *others), (head, *rows) = shown, cells
        for row in rows:
            self.say(row[first], hang=2)
            line: list[Span] = ["  "]
            for index in others:
                if row[index][0]:
                    apart = "" if len(line) == 1 else "; "
                    line += [(f"{apart}{head[index][0]}: ", "dim"), row[index]]
            if len(line) > 1:
                self.say(*line)

    def banner(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        """Print a panel that nobody can miss: `title`, and then labels, each followed by text of others."""
        if self.terminal:
            self._rich_banner(title, lines)
            return
        self.say(f"=== {title} ===")
        for label, body in lines:
            self.say(f"{label}:")
            self.text(body)

    def fail(self, error: ParlerError) -> int:
        """Report an error where the reader of this command looks for it. Gives the exit code."""
        if self.json and (not self._documents or self._streaming):
            self.document({"error": error_object(error)})
            self.flush()
        else:
            self.note(("error: ", "bad"), error.message, hang=7)
            candidates = error.details.get("candidates")
            if isinstance(candidates, list | tuple):
                for candidate in candidates:
                    self.note("  ", str(candidate))
            for name in ("until", "available_at"):
                # A relay may have sent the detail, so it may be no moment.
                if is_moment(until := error.details.get(name)):
                    self.note("  until ", moment(until))
            # What a parameter may be.
            allowed = error.details.get("allowed")
            if isinstance(allowed, list | tuple) and allowed:
                self.note("  it may be: ", ", ".join(map(str, allowed[:MAX_CHOICES])))
            # What is wrong in an expression. The words may be another's, so they are no part of a sentence.
            found = {name: error.details.get(name) for name in ("reason", "caret", "suggest")}
            said = [line for each in found.values() if isinstance(each, str) for line in each.splitlines()[:MAX_SAID]]
            for line in said:
                self.note("  ", "did you mean " if line == found["suggest"] else "", line)
            if not said and error.hint and error.hint != error.message:
                self.note(("hint: ", "dim"), error.hint, hang=6)
        return exit_code(error)

    def flush(self) -> None:
        """Send what was printed. Raises `OSError` when it cannot be written."""
        self.stdout.flush()

    @contextlib.contextmanager
    def progress(self, text: str, *, after_s: float = SLOW_S) -> Iterator[Progress]:
        """Show `text` with a spinner on a terminal once the block takes longer than `after_s` seconds."""
        if not _is_terminal(self.stderr) or self.json or self._spinning:
            # Something is drawn already, and two spinners would draw over each other.
            yield _Silent()
            return
        import threading

        spinner = _Spinner(self.stderr, text, colour=self.colour)
        timer = threading.Timer(after_s, spinner.start)
        timer.daemon = True
        timer.start()
        self._spinning = True
        try:
            yield spinner
        finally:
            self._spinning = False
            timer.cancel()
            spinner.stop()

    @contextlib.contextmanager
    def screen(self) -> Iterator[None]:
        """Keep spinners away while the block draws the whole screen, or a part that changes in place."""
        before, self._spinning = self._spinning, True
        try:
            yield
        finally:
            self._spinning = before

    # -- inside ------------------------------------------------------------------------------------------

    def _lines(self, spans: Sequence[Span], width: int | None, hang: int, *, colour: bool) -> list[str]:
        """The lines that `spans` take in `width` columns. Sentences are broken here and nowhere else."""
        whole = [(printable_line(_text(span)), _style(span)) for span in spans]
        plain = "".join(text for text, _ in whole)
        if width is None or columns(plain) <= width:
            return [self._line(whole, colour)]
        indent = len(plain) - len(plain.lstrip(" "))
        margin = " " * (indent + hang)
        # The lines after the first are narrower than it by `hang`.
        first = wrap(plain.lstrip(" "), width - indent)[0]
        rest = plain[indent + len(first) :].lstrip()
        pieces = [first, *(wrap(rest, width - len(margin)) if rest else ())]
        lines, place = [], 0
        for number, piece in enumerate(pieces):
            place = plain.index(piece, place)
            begin = " " * indent if number == 0 else margin
            lines.append(begin + self._line(_part(whole, place, place + len(piece)), colour))
            place += len(piece)
        return lines

    def _line(self, spans: Sequence[Span], colour: bool) -> str:
        parts = []
        for span in spans:
            text = printable_line(_text(span))
            sgr = _SGR[_style(span)] if colour else ""
            parts.append(f"\x1b[{sgr}m{text}\x1b[0m" if sgr and text else text)
        return "".join(parts)

    def _can_print(self, text: str) -> bool:
        try:
            text.encode(self.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            return False
        return True

    def rich_table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
        """The table that `table` shows on a terminal, for a caller that changes it in place."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold" if self.colour else "")
        used = [index for index in range(len(headers)) if any(_text(row[index]) for row in rows)]
        for index in used:
            table.add_column(headers[index], overflow="fold", no_wrap=index == 0)
        for row in rows:
            table.add_row(*(self.rich_text(row[index]) for index in used))
        return table

    def _rich_banner(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        from rich import box
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        parts: list[Text] = []
        for label, body in lines:
            parts += [Text(printable_line(label), style="dim" if self.colour else ""), Text(printable(body))]
        style = RICH["good"] if self.colour else ""
        self._print_rich(
            Panel(Group(*parts), title=Text(printable_line(title)), box=box.HEAVY, border_style=style, padding=(0, 1))
        )

    def rich_text(self, span: Span) -> Text:
        """`span` as rich text: escaped, without markup."""
        from rich.text import Text

        return Text(printable_line(_text(span)), style=RICH[_style(span)] if self.colour else "")

    def _print_rich(self, renderable: Any) -> None:
        self.console().print(renderable)

    def console(self) -> Console:
        """Rich's console on stdout. Draw only what `rich_table` and `rich_text` made, which escape text of others."""
        from rich.console import Console

        return Console(
            file=self.stdout, width=self.width, markup=False, highlight=False, emoji=False, no_color=not self.colour
        )


class _Silent:
    """A progress that shows nothing."""

    def update(self, text: str) -> None:
        """Nothing to do."""


class _Spinner:
    """A rich spinner that can be started from a timer's thread and stopped before it ever started."""

    def __init__(self, stderr: TextIO, text: str, *, colour: bool) -> None:
        self._stderr, self._text, self._colour = stderr, text, colour
        import threading

        self._lock = threading.Lock()
        self._status: Any = None
        self._stopped = False

    def start(self) -> None:
        from rich.console import Console
        from rich.text import Text

        with self._lock:
            if self._stopped:
                return
            console = Console(file=self._stderr, markup=False, highlight=False, no_color=not self._colour)
            if console.is_dumb_terminal:
                # Such a terminal cannot draw a line anew, so the text is printed once.
                console.print(Text(printable_line(self._text)))
                return
            self._status = console.status(Text(printable_line(self._text)))
            self._status.start()

    def update(self, text: str) -> None:
        from rich.text import Text

        with self._lock:
            self._text = text
            if self._status is not None:
                self._status.update(Text(printable_line(text)))

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._status is not None:
                self._status.stop()


def to_json(value: Any) -> str:
    """`value` as one line of JSON in ASCII: no control or bidirectional character leaves as itself."""
    import msgspec

    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # msgspec refuses a path or a word whose bytes are not UTF-8. The standard library writes such bytes as escapes.
        import json

        return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
    return text if text.isascii() and "\x7f" not in text else re.sub("[^\x00-\x7e]", _json_escape, text)


def error_object(error: ParlerError) -> dict[str, Any]:
    """An error as `--json` prints it, with the fields that scripts rely on always there."""
    import msgspec

    body = error.body()
    return {**msgspec.to_builtins(body), "retryable": body.retryable, "hint": body.hint or ""}


def exit_code(error: ParlerError) -> int:
    """The exit code of a command that ends with this error."""
    return UNREACHABLE if error.code in UNREACHABLE_CODES | ELSEWHERE_CODES else FAILED


def wants_colour(stdout: TextIO, env: Mapping[str, str]) -> bool:
    """Whether to use colours: on a terminal that can show them, unless `NO_COLOR` is set."""
    return _is_terminal(stdout) and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def silence(stream: TextIO) -> None:
    """Point a stream that cannot be written at the null device, so that later flushes stay quiet."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def standard_streams() -> tuple[TextIO, TextIO]:
    """stdout and stderr that never raise for a character that the terminal's encoding lacks.

    This ends the process when stdout is closed: a page that was written nowhere must not be acknowledged, and the next
    connection would get the number of the missing stream.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if sys.stdout is None:
        sys.exit("error: stdout is closed; to see nothing, send it to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    return sys.stdout, sys.stderr


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _terminal_width(stdout: TextIO) -> int:
    try:
        return os.get_terminal_size(stdout.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def moment(at_ms: int) -> str:
    """Date and time in local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def _narrow(widths: dict[int, int], cut: Sequence[int], spare: Sequence[int], room: int) -> bool:
    """Leave out `spare` columns, and then make the widest of `cut` narrower, until all fit into `room`. False where
    that would not be enough: then no column is cut."""

    def excess() -> int:
        return sum(widths.values()) + len(GAP) * (len(widths) - 1) - room

    for index in spare:
        if excess() > 0:
            widths.pop(index, None)
    flexible = [index for index in cut if index in widths]
    if excess() > sum(max(widths[index] - MIN_COLUMN, 0) for index in flexible):
        return False
    while excess() > 0:
        widths[max(flexible, key=widths.__getitem__)] -= 1
    return True


def _part(spans: Sequence[tuple[str, Style]], begin: int, end: int) -> list[tuple[str, Style]]:
    """The part from `begin` to `end` of the texts of `spans`, which count as one text."""
    parts, at = [], 0
    for text, style in spans:
        parts.append((text[max(begin - at, 0) : max(end - at, 0)], style))
        at += len(text)
    return parts


def _text(span: Span) -> str:
    return span if isinstance(span, str) else span[0]


def _style(span: Span) -> Style:
    return "plain" if isinstance(span, str) else span[1]
