"""Whatever is given as an expression is refused, fails, is stopped, or has a value: nothing else escapes, and soon."""

from __future__ import annotations

from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.expressions import MAX_SOURCE, Failed, Spent, refusal
from parlerd.core.gates import FUNCTIONS, MACROS, Program
from parlerd.core.values import STEPS, Meter, plain
from parlerd.expr import parse
from tests.support.counting import calls_in
from tests.support.expressions import ROOM

SIGNS: Final = "( ) [ ] { } , : ? && || ! - + * / % == != < >= = . .. @ $ ; ` // \\ \" ''' \0 é 😀"
WORDS: Final = "state ._shared .turn agents [self] self now params has( size( x 1 2.5 0x 1u 'a' r' b' and if true null"
CALLED: Final = [f".{name}(" for name in (*FUNCTIONS, *MACROS)]
TOKENS: Final = [*SIGNS.split(), *WORDS.split(), *CALLED, "in ", "\n"]
PATTERNS: Final = st.text(st.sampled_from("ab(|)[]^-*+?{20,}\\.dwx:i$"), max_size=40)
SOUP: Final = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)
REPEATED: Final = st.builds(
    lambda start, part, times, end: start + part * times + end, SOUP, SOUP, st.integers(0, 600), SOUP
)  # fmt: skip
# The library's parser takes the most for a text without an end; what we do with a text is a multiple of its length.
CALLS: Final = 60 * MAX_SOURCE + 60 * STEPS


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | SOUP | REPEATED | PATTERNS.map("('ab' + self).matches(r'{}')".format))
@example("(" * 2_000)
@example("1" + "+1" * 20_000)
@example("!" * 2_000 + "true")
@example("[1]" + ".map(x, [x, x])" * 15)
@example("[1]" + ".map(x, x + x)" * 15)
@example("'" + "a" * 2_000 + "'")
@example("x" * 2_000)
@example("x-" * 1_000 + "x")
@example("a.b-c." * 300 + "d")
def test_no_text_leads_to_anything_but_a_value_or_one_of_the_three_errors(text: str) -> None:
    codes: list[str] = []

    def act() -> None:
        try:
            expression = parse(text, "action")
            plain(Program(expression).evaluate(ROOM), Meter())
        except Refused as refused:
            codes.append(refused.code)
        except (Failed, Spent) as error:
            codes.append(refusal(text, error).code)

    assert calls_in(act) < CALLS
    assert set(codes) <= {"expression_invalid", "expression_failed", "expression_budget"}
