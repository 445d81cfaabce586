"""YAML: where keys stand, and the splices that change one of them by lines of our own.

`ruamel.yaml` reads the text as YAML 1.2 and says where each node is. It writes nothing here, because it would indent
and quote again what people wrote. Where the keys of a table have lines of their own, our key gets lines of its own too;
inside braces it goes inside the braces. Where an alias (`*name`) stands for what is to be changed, or for a table
around it, the edit is refused: one change would be seen in two places. Not here: checks of the result. Above:
`document`. Invariant: `unset` of what `set` wrote gives the same text again, but for a written-out null.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from configs.edit import MAX_DEPTH, EditRefused, Rules, Splice, line_break, refuse, refuse_twice, too_deep, unverified
from configs.model import KeyPath
from configs.render import scalar, yaml_item, yaml_key, yaml_lines

_MOST: Final = 100_000
"""Values that a file may have. Those behind an alias count each time: a few lines of aliases can stand for billions."""
_LARGEST: Final = 256 * 1024
"""Characters that a file may have. The library reads a dense list at some 40 kB a second (measured) and cannot be
interrupted; the largest settings in YAML that were seen have 20 kB."""


def parse(text: str, rules: Rules) -> Text:
    """A text without byte order mark. Raises `EditRefused`. Of `rules`, the lists of named tables matter here."""
    if len(text) > _LARGEST:
        raise EditRefused("too_large", f"The file is larger than {_LARGEST // 1024} kB, too large for YAML.")
    if "\r" in text.replace("\r\n", ""):
        at = text.replace("\r\n", "\n\n").find("\r")
        refuse("unverified", "The file has a line break at {where} that programs read differently.", text, at)
    root = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            root = YAML(typ="safe", pure=True).compose(text)
            nodes, shared = _nodes(root)
            value = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        if root is not None:
            _refuse_duplicate(root, text)
        _refuse_marked(error, "duplicate_key", "A key is there twice, the second time at {where}.", text)
    except MarkedYAMLError as error:
        _refuse_marked(error, "unreadable", "The file is not valid YAML at {where}.", text)
    except RecursionError:
        raise EditRefused("too_deep", f"The file has more than {MAX_DEPTH} levels.") from None
    except (YAMLError, Warning, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError):
        # The library lets errors of its own conversions through: a date that is none, a tag that means something else.
        raise EditRefused("unreadable", "The file is not valid YAML.") from None
    if too_deep(value):
        raise EditRefused("too_deep", f"The file has more than {MAX_DEPTH} levels.")
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise EditRefused("not_an_object", "The file should hold keys with values, and holds something else.")
    for path in rules.lists:
        value = _with_names(value, path)
    return Text(text, value, root if isinstance(root, MappingNode) else None, nodes, rules.lists, shared)


def _with_names(value: Any, path: KeyPath) -> Any:
    """A value in which the list of named tables at `path` is a table by their names.

    Elements without a name, and all but the first of a name, get keys that no name can have: they stay what they are.
    """
    if not isinstance(value, dict) or (path and path[0] not in value):
        return value
    if len(path) > 1:
        return {**value, path[0]: _with_names(value[path[0]], path[1:])}
    found = value[path[0]]
    if found is None:
        return value
    if not isinstance(found, list):
        raise EditRefused("wrong_type", f"`{path[0]}` in the file is something else than a list.")
    table: dict[str, Any] = {}
    nameless = 0
    for each in found:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name in table:
            name, nameless = f"\0{nameless}", nameless + 1
        table[name] = each
    return {**value, path[0]: table}


def _nodes(root: Node | None) -> tuple[list[Node], frozenset[int]]:
    """Every node once, and the identities of those that stand in more than one place by an alias.

    Raises `EditRefused` when the aliases make too much of it.
    """
    found: dict[int, Node] = {}
    shared = set()
    waiting = [] if root is None else [root]
    while waiting:
        node = waiting.pop()
        if id(node) in found:
            shared.add(id(node))
            continue
        found[id(node)] = node
        waiting += _inside(node)
    if shared and root is not None:
        _refuse_many(root)
    return list(found.values()), frozenset(shared)


def _inside(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _refuse_many(root: Node) -> None:
    """Raise `EditRefused` for aliases of what they stand in, and for those that stand for too many values together."""
    counted: dict[int, int] = {}
    entered: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        inner = _inside(node)
        if id(node) not in entered:
            entered.add(id(node))
            ahead = [each for each in inner if id(each) not in counted]
            if any(id(each) in entered for each in ahead):
                raise EditRefused("unverified", "The file has an alias (*name) of something that it stands in.")
            waiting += ahead
            continue
        waiting.pop()
        if id(node) not in counted:
            counted[id(node)] = 1 + sum(counted[id(each)] for each in inner)
            if counted[id(node)] > _MOST:
                raise EditRefused("too_large", "The file's aliases (*name) stand for too many values.")


def _refuse_duplicate(root: Node, text: str) -> None:
    for node in _nodes(root)[0]:
        if isinstance(node, MappingNode):
            first: dict[tuple[str, str], Node] = {}
            for key, _ in node.value:
                if isinstance(key, ScalarNode):
                    old = first.setdefault((str(key.tag), key.value), key)
                    if old is not key:
                        refuse_twice(text, old.start_mark.index, key.start_mark.index)


def _refuse_marked(error: MarkedYAMLError, reason: Any, sentence: str, text: str) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    refuse(reason, sentence, text, min(mark.index, len(text)) if mark is not None else 0)


def _start(node: Node) -> int:
    return int(node.start_mark.index)


@dataclass(frozen=True)
class Text:
    """See `configs.edit.Parsed`."""

    text: str
    value: dict[str, Any]
    _root: MappingNode | None
    _all: list[Node]
    _lists: tuple[KeyPath, ...] = ()
    _shared: frozenset[int] = frozenset()

    @property
    def has_root(self) -> bool:
        return True

    def comments(self) -> list[tuple[int, int]]:
        spans = sorted((_start(node), int(node.end_mark.index)) for node in self._all if isinstance(node, ScalarNode))
        starts = [start for start, _ in spans]
        found = []
        at = self.text.find("#")
        while at >= 0:
            index = bisect_right(starts, at) - 1
            end = self._line_end(at)
            if index >= 0 and at < spans[index][1]:
                end = spans[index][1]
            elif at == 0 or self.text[at - 1] in " \t\n":
                found.append((at, at + len(self.text[at:end].rstrip("\r\n"))))
            else:
                end = at + 1
            at = self.text.find("#", end)
        return found

    def place(self, path: KeyPath) -> None:
        """No table may have a key twice, as it was read; of a list of named tables that is seen here."""
        for at in self._lists:
            if path[: len(at)] == at and len(path) > len(at):
                list_way = self._way(at)
                named = [] if len(list_way) < len(at) else _named(list_way[-1][1], path[len(at)])
                if len(named) > 1:
                    refuse_twice(self.text, _start(named[0]), _start(named[1]))

    def set(self, path: KeyPath, value: Any) -> list[Splice]:
        way = self._changeable(path)
        if path[:-1] in self._lists:
            if len(way) == len(path):
                raise unverified()
            return self.add(path[:-1], value)
        if len(way) == len(path):
            return self._replace(way[-1], value, len(path) - 1)
        rest = path[len(way) :]
        for depth in range(len(path) - 1, len(way), -1):
            value = [value] if path[:depth] in self._lists else {path[depth]: value}
        if not way:
            if self._root is None:
                return self._lines(self._at_end(), yaml_lines(rest[0], value, 0, self._unit()))
            return self._insert(self._root, rest[0], value)
        parent = way[-1][1]
        if isinstance(parent, MappingNode):
            return self._insert(parent, rest[0], value)
        return self._replace(way[-1], {rest[0]: value}, len(way) - 1)

    def unset(self, path: KeyPath, levels: int) -> list[Splice]:
        way = self._changeable(path)
        if path[:-1] in self._lists:
            return self.drop(path[:-1], way[-2][1].value.index(way[-1][1]), levels)
        last = len(path) - 1
        while last and levels and len(self._parent(way, last).value) == 1 and not self._has_comment(way, last):
            last, levels = last - 1, levels - 1
        parent = self._parent(way, last)
        key, value = way[last]
        if parent.flow_style:
            return [_without(parent.value, [pair[0] is key for pair in parent.value].index(True))]
        return [self._lines_of(_start(key), self._end(key, value))]

    def add(self, path: KeyPath, value: Any) -> list[Splice]:
        way = self._changeable(path)
        if len(way) < len(path):
            return self.set(path, [value])
        sequence: Any = way[-1][1]
        if not isinstance(sequence, SequenceNode):
            return self._replace(way[-1], [value], len(way) - 1)
        if sequence.flow_style:
            at = _flow_end(sequence.value[-1]) if sequence.value else _start(sequence) + 1
            return [Splice(at, at, (", " if sequence.value else "") + scalar(value))]
        dash = self._dash(sequence.value[-1])
        column = dash - self._line(dash)
        is_named = path in self._lists and isinstance(value, dict) and value
        lines = yaml_item(value, column, self._unit()) if is_named else [f"{' ' * column}- {scalar(value)}"]
        return self._lines(self._after(sequence, column), lines)

    def drop(self, path: KeyPath, index: int, levels: int) -> list[Splice]:
        way = self._changeable(path)
        sequence: Any = way[-1][1]
        if len(sequence.value) == 1 and levels > 0:
            return self.unset(path, levels - 1)
        if sequence.flow_style:
            return [_without([(each, each) for each in sequence.value], index)]
        if len(sequence.value) == 1:
            return self._replace(way[-1], [], len(way) - 1)
        element = sequence.value[index]
        return [self._lines_of(self._dash(element), self._last(element))]

    # -- where things stand ----------------------------------------------------------------------------------------

    def _changeable(self, path: KeyPath) -> list[tuple[Node, Node]]:
        """The way to what is to be changed. Raises `EditRefused` when something on it stands in another place too."""
        way = self._way(path)
        if any(id(node) in self._shared for pair in way for node in pair):
            raise EditRefused(
                "unverified", "What is to be changed has an alias (*name): it would be seen in two places."
            )
        return way

    def _way(self, path: KeyPath) -> list[tuple[Node, Node]]:
        way: list[tuple[Node, Node]] = []
        node: Node | None = self._root
        for index, part in enumerate(path):
            if isinstance(node, SequenceNode) and path[:index] in self._lists:
                named = _named(node, part)
                if not named:
                    break
                # An element has no key of its own, so it stands for its key too, which begins where the element does.
                node = named[0]
                way.append((node, node))
                continue
            if not isinstance(node, MappingNode):
                break
            pair = next(
                (
                    (key, value)
                    for key, value in node.value
                    if isinstance(key, ScalarNode) and key.value == part and str(key.tag).endswith(":str")
                ),
                None,
            )
            if pair is None:
                break
            way.append(pair)
            node = pair[1]
        return way

    def _parent(self, way: list[tuple[Node, Node]], index: int) -> Any:
        return way[index - 1][1] if index else self._root

    def _has_comment(self, way: list[tuple[Node, Node]], index: int) -> bool:
        """Whether comments stand between a table's key and the only key in it."""
        start, end = _start(way[index - 1][0]), _start(way[index][0])
        return any(start < at < end for at, _ in self.comments())

    def _line(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def _line_end(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

    def _last(self, node: Node) -> int:
        """The end of a node, without the comments and blanks that the library counts in."""
        while isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style and node.value:
            if isinstance(node, MappingNode):
                return self._end(*node.value[-1])
            node = node.value[-1]
        end = int(node.end_mark.index)
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            return len(self.text[:end].rstrip())
        return end

    def _end(self, key: Node, value: Node) -> int:
        is_empty = _start(value) == value.end_mark.index
        return max(self._colon(key) + 1, 0 if is_empty else self._last(value))

    def _colon(self, key: Node) -> int:
        at = int(key.end_mark.index)
        found = self.text.find(":", at, self._line_end(at))
        if found < 0 or self.text[at:found].strip():
            raise unverified()
        return found

    def _dash(self, element: Node) -> int:
        at = self._line(_start(element))
        found = at + len(self.text[at:]) - len(self.text[at:].lstrip(" "))
        if self.text[found : found + 1] != "-":
            raise unverified()
        return found

    def _at_end(self) -> int:
        """Behind everything, but before a mark that ends the document."""
        end = 0 if self._root is None else self._line_end(self._last(self._root))
        at = end
        while at < len(self.text):
            if self.text.startswith("...", at):
                return at
            at = self._line_end(at)
        return len(self.text)

    # -- the splices -----------------------------------------------------------------------------------------------

    def _unit(self) -> int:
        """By how much one level is indented: in the first table of the file that has lines of its own."""
        for node in self._all:
            if isinstance(node, MappingNode) and not node.flow_style:
                outer = int(node.start_mark.column)
                for _, value in node.value:
                    if isinstance(value, MappingNode) and not value.flow_style and value.value:
                        return max(1, int(value.value[0][0].start_mark.column) - outer)
        return 2

    def _insert(self, table: MappingNode, key: str, value: Any) -> list[Splice]:
        if table.flow_style:
            at = _flow_end(table.value[-1][1], table.value[-1][0]) if table.value else _start(table) + 1
            return [Splice(at, at, (", " if table.value else "") + f"{yaml_key(key)}: {scalar(value)}")]
        column = int(table.value[0][0].start_mark.column)
        lines = yaml_lines(key, value, column, self._unit())
        if table is self._root:
            return self._lines(self._at_end(), lines)
        return self._lines(self._after(table, column), lines)

    def _after(self, node: Node, column: int) -> int:
        """Behind a table or list whose keys or dashes stand in `column`, and behind the comments that belong to it."""
        at = self._line_end(self._last(node))
        while at < len(self.text):
            # Comments that are indented more than the keys of this table speak of what is before them.
            line = self.text[at : self._line_end(at)]
            blanks = len(line) - len(line.lstrip(" "))
            if blanks <= column or line[blanks : blanks + 1] != "#":
                break
            at = self._line_end(at)
        return at

    def _lines(self, at: int, lines: list[str]) -> list[Splice]:
        end = line_break(self.text)
        text = end.join(lines)
        return [Splice(at, at, text + end if at == 0 or self.text[at - 1] == "\n" else end + text)]

    def _lines_of(self, start: int, end: int) -> Splice:
        line, after = self._line(start), self._line_end(end)
        if self.text[line:start].strip(" "):
            raise unverified()
        if self.text[after - 1] != "\n" and line:
            line -= 2 if self.text[:line].endswith("\r\n") else 1
        return Splice(line, after)

    def _replace(self, pair: tuple[Node, Node], value: Any, depth: int) -> list[Splice]:
        key, node = pair
        start, end = self._colon(key) + 1, self._end(key, node)
        is_named = isinstance(value, list) and value and all(isinstance(each, dict) and each for each in value)
        is_block = ((isinstance(value, dict) and value) or is_named) and isinstance(node, ScalarNode)
        if not is_block:
            return [Splice(start, end, " " + scalar(value))]
        column = int(key.start_mark.column)
        if depth and self.text[self._line(_start(key)) : _start(key)].strip(" "):
            raise unverified()
        unit = self._unit()
        if is_named:
            lines = [line for each in value for line in yaml_item(each, column + unit, unit)]
        else:
            lines = [line for name, each in value.items() for line in yaml_lines(name, each, column + unit, unit)]
        blank = [Splice(start, end)] if end > start else []
        return [*blank, *self._lines(self._line_end(end), lines)]


def _named(node: Node, name: str) -> list[Node]:
    """The elements of a list that have this name inside."""
    return [
        each
        for each in (node.value if isinstance(node, SequenceNode) else [])
        if isinstance(each, MappingNode)
        and any(
            isinstance(key, ScalarNode)
            and key.value == "name"
            and isinstance(value, ScalarNode)
            and value.value == name
            for key, value in each.value
        )
    ]


def _flow_end(node: Node, key: Node | None = None) -> int:
    end = int(node.end_mark.index)
    return end if key is None else max(end, int(key.end_mark.index))


def _without(pairs: list[tuple[Node, Node]], index: int) -> Splice:
    if index:
        return Splice(_flow_end(pairs[index - 1][1], pairs[index - 1][0]), _flow_end(pairs[index][1], pairs[index][0]))
    start = _start(pairs[0][0])
    return Splice(start, _start(pairs[1][0]) if len(pairs) > 1 else _flow_end(pairs[0][1], pairs[0][0]))
