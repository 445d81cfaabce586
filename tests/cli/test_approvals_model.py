"""The approvals screen decides on what was shown, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from parlerd.cli.approvals_model import (
    CODE_LENGTH,
    QUIET_MS,
    Approve,
    Deny,
    Quit,
    Row,
    Screen,
    decided,
    pressed,
    shown,
)

LATER = 10 * QUIET_MS


def row(name: str, *, queue: str = "k", room: str = "r_1", requested: int = 0) -> Row:
    return Row(
        id=f"q_{name}",
        agent=f"U{name}",
        room=room,
        room_name="auth",
        name=name,
        host="codex",
        fingerprint="F",
        home="local",
        requested=requested,
        queue=queue,
    )


A, B, C = row("a", requested=1), row("b", requested=2), row("c", requested=3)


def listing(*rows: Row) -> Screen:
    return shown(Screen(), rows, 0)


def typed(screen: Screen, *keys: str, at: int = LATER) -> tuple[Screen, list[object]]:
    made: list[object] = []
    for key in keys:
        screen, decision = pressed(screen, key, at)
        if decision is not None:
            made.append(decision)
    return screen, made


def test_the_oldest_request_is_selected_first() -> None:
    screen = listing(C, A, B)
    assert [each.id for each in screen.rows] == ["q_a", "q_b", "q_c"]
    assert screen.selected == "q_a"


def test_approving_takes_the_code_and_enter() -> None:
    screen, made = typed(listing(A), "a")
    assert screen.mode == "code"
    assert made == []
    screen, made = typed(screen, "k", "7", "q")
    assert typed(screen, "enter")[1] == []
    screen, made = typed(screen, "M", "enter")
    assert made == [Approve(A, "K7QM")]
    assert screen.busy


def test_letting_somebody_write_directly_takes_a_y_and_any_other_key_goes_back() -> None:
    asks = replace(A, direct_to="ben")
    screen, made = typed(listing(asks), "a")
    assert (screen.mode, made) == ("allow", [])
    assert typed(screen, "y")[1] == [Approve(asks, "")]
    screen, made = typed(screen, "n")
    assert (screen.mode, made) == ("list", [])
    assert typed(listing(asks), "d", "y")[1] == [Deny((asks,))]
    gone = shown(typed(listing(asks, B), "a")[0], (B,), LATER)
    assert gone.mode == "list"


def test_no_single_key_approves_or_denies() -> None:
    for key in (*(chr(code) for code in range(33, 127)), "enter", "escape", "up", "down", "backspace"):
        assert not [each for each in typed(listing(A, B), key)[1] if not isinstance(each, Quit)]


def test_denying_takes_a_y_and_any_other_key_goes_back() -> None:
    assert typed(listing(A), "d", "y")[1] == [Deny((A,))]
    screen, made = typed(listing(A), "d", "n")
    assert made == []
    assert screen.mode == "list"


def test_denying_a_queue_denies_all_that_used_the_same_key_in_the_same_room() -> None:
    other_key, other_room = row("x", queue="other", requested=8), row("y", room="r_2", requested=9)
    _, made = typed(listing(A, B, other_key, other_room), "D", "y")
    assert made == [Deny((A, B))]


def test_a_request_that_arrives_while_a_queue_is_about_to_be_denied_is_not_denied() -> None:
    screen, _ = typed(listing(A, B), "D")
    screen = shown(screen, (A, B, C), LATER)
    assert typed(screen, "y", at=LATER + QUIET_MS)[1] == [Deny((A, B))]


def test_an_arrival_neither_moves_the_selection_nor_the_rows_above_it() -> None:
    screen, _ = typed(listing(B), "j")
    screen = shown(screen, (A, B, C), LATER)
    assert screen.selected == "q_b"
    assert [each.id for each in screen.rows] == ["q_b", "q_a", "q_c"]


def test_keys_are_ignored_for_half_a_second_after_the_list_changed() -> None:
    screen = shown(listing(A), (A, B), LATER)
    assert typed(screen, "d", "y", at=LATER + QUIET_MS - 1) == (screen, [])
    assert typed(screen, "d", "y", at=LATER + QUIET_MS)[1] == [Deny((A,))]


def test_a_list_that_did_not_change_does_not_make_the_keys_wait() -> None:
    screen = shown(listing(A), (replace(A, name="renamed"),), LATER)
    assert typed(screen, "d")[0].mode == "deny"


def test_quitting_always_works_from_the_list() -> None:
    screen = shown(listing(A), (A, B), LATER)
    assert typed(screen, "q", at=LATER)[1] == [Quit()]


def test_a_q_in_a_code_is_a_letter() -> None:
    _, made = typed(listing(A), "a", "q", "q", "q", "q", "enter")
    assert made == [Approve(A, "QQQQ")]


def test_when_the_selected_request_goes_the_one_below_is_selected_and_keys_wait() -> None:
    screen, _ = typed(listing(A, B, C), "j")
    screen = shown(screen, (A, C), LATER)
    assert screen.selected == "q_c"
    assert typed(screen, "d", at=LATER + 1)[0].mode == "list"


def test_a_question_about_a_request_that_went_is_withdrawn() -> None:
    screen, _ = typed(listing(A, B), "a", "K")
    screen = shown(screen, (B,), LATER)
    assert screen.mode == "list"
    assert screen.typed == ""
    assert "gone" in screen.note
    assert typed(screen, "7", "Q", "M", "enter", at=2 * LATER)[1] == []


def test_keys_pressed_while_a_decision_is_under_way_do_nothing() -> None:
    screen, _ = typed(listing(A), "d", "y")
    assert typed(screen, "y", "enter")[1] == []
    screen = decided(screen, "Denied 1.", good=True)
    assert screen.mode == "list"
    assert not screen.busy


def test_escape_forgets_what_was_typed() -> None:
    screen, _ = typed(listing(A), "a", "K", "7", "escape", "a")
    assert screen.typed == ""


def test_moving_stops_at_both_ends() -> None:
    screen, _ = typed(listing(A, B), "k", "up")
    assert screen.selected == "q_a"
    screen, _ = typed(screen, "j", "down", "down")
    assert screen.selected == "q_b"


def test_pages_move_by_ten_and_stop_at_both_ends() -> None:
    rows = tuple(row(f"{n:02}", requested=n) for n in range(25))
    screen = listing(*rows)
    places = []
    for key in ("pagedown", "pagedown", "pagedown", "pageup", "home", "end"):
        screen, _ = typed(screen, key)
        places.append([each.id for each in rows].index(str(screen.selected)))
    assert places == [10, 20, 24, 14, 0, 24]


def test_a_filter_shows_and_selects_only_what_has_it_and_escape_shows_all_again() -> None:
    screen, made = typed(listing(row("anna", requested=1), row("bob", requested=2)), "/", "B", "o", "enter")
    assert made == []
    assert ([each.name for each in screen.visible()], screen.selected) == (["bob"], "q_bob")
    screen, _ = typed(screen, "k", "up")
    assert screen.selected == "q_bob"
    screen, _ = typed(screen, "escape")
    assert (len(screen.visible()), screen.selected, screen.filter) == (2, "q_bob", "")


def test_letters_of_a_filter_decide_nothing_and_do_not_quit() -> None:
    screen, made = typed(listing(A, B), "/", "a", "d", "q", "y", "D")
    assert made == []
    assert screen.filter == "adqyD"


def test_what_a_filter_hides_is_not_denied_with_the_others() -> None:
    screen, _ = typed(listing(row("anna", requested=1), row("bob", requested=2)), "/", "b", "o", "enter")
    assert [each.name for each in typed(screen, "D")[0].subjects()] == ["bob"]


def test_where_the_filter_lets_nothing_through_no_key_asks_anything() -> None:
    screen, _ = typed(listing(A, B), "/", "z", "enter")
    assert screen.selected is None
    for key in ("a", "d", "D", "j", "enter"):
        assert typed(screen, key)[0].mode == "list"


def test_an_arrival_that_the_filter_hides_is_not_selected() -> None:
    screen, _ = typed(listing(A, B), "/", "z", "enter")
    assert shown(screen, (A, B, C), LATER).selected is None


def test_after_a_wrong_code_the_input_is_empty_and_the_question_stays() -> None:
    screen, (made,) = typed(listing(A, B), "j", "a", "K", "7", "Q", "M", "enter")
    assert made == Approve(B, "K7QM")
    screen = decided(screen, "That is not the code.", good=False, again=True)
    assert (screen.mode, screen.typed, screen.tone, screen.busy) == ("code", "", "bad", False)
    assert typed(screen, "A", "B", "C", "D", "enter")[1] == [Approve(B, "ABCD")]


def test_a_wrong_code_of_a_request_that_went_meanwhile_asks_nothing_more() -> None:
    screen, _ = typed(listing(A), "a", "K", "7", "Q", "M", "enter")
    screen = decided(shown(screen, (), LATER), "That is not the code.", good=False, again=True)
    assert screen.mode == "list"


def test_an_empty_screen_takes_every_key() -> None:
    for key in ("j", "k", "a", "d", "D", "y", "enter"):
        assert typed(Screen(), key)[1] == []


LETTERS = ["j", "k", "a", "d", "D", "y", "n", "K", "7", "Q", "M", "/"]
KEYS = st.sampled_from([*LETTERS, "enter", "escape", "backspace", "up", "pagedown"])
NAMES = st.sets(st.sampled_from("abcdefgh"), max_size=6)


class Screens(RuleBasedStateMachine):
    """Any order of arrivals, departures, keys and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = Screen()
        self.now = 0

    @rule(names=NAMES, passed=st.integers(0, 2 * QUIET_MS))
    def the_list_changes(self, names: set[str], passed: int) -> None:
        before = self.screen
        self.now += passed
        self.screen = shown(before, tuple(row(name, requested=ord(name)) for name in sorted(names)), self.now)
        if before.selected in {each.id for each in self.screen.visible()}:
            assert self.screen.selected == before.selected
        still = [each.id for each in before.rows if each in self.screen.rows]
        assert [each.id for each in self.screen.rows][: len(still)] == still

    @rule(key=KEYS, passed=st.integers(0, QUIET_MS))
    def a_key_is_pressed(self, key: str, passed: int) -> None:
        before = self.screen
        self.now += passed
        self.screen, decision = pressed(before, key, self.now)
        if decision is None:
            return
        assert self.now >= before.quiet_until
        assert not before.busy
        if isinstance(decision, Approve):
            assert (decision.row.id,) == before.about
            assert decision.code == before.typed
            assert len(decision.code) == CODE_LENGTH
        elif isinstance(decision, Deny):
            assert {each.id for each in decision.rows} <= set(before.about)

    @rule(good=st.booleans(), again=st.booleans())
    def the_daemon_answers(self, good: bool, again: bool) -> None:
        if self.screen.busy:
            self.screen = decided(self.screen, "done", good=good, again=again)
            assert self.screen.typed == ""

    @invariant()
    def what_is_selected_is_on_the_screen(self) -> None:
        assert self.screen.selected is None or self.screen.row(self.screen.selected) is not None

    @invariant()
    def what_is_selected_is_not_hidden(self) -> None:
        assert self.screen.selected is None or self.screen.selected in {each.id for each in self.screen.visible()}

    @invariant()
    def an_open_question_is_about_something_on_the_screen(self) -> None:
        if self.screen.mode not in ("list", "filter"):
            assert self.screen.subjects()


TestScreens = Screens.TestCase


@given(st.lists(KEYS, max_size=30), st.integers(0, QUIET_MS - 1))
def test_nothing_that_is_typed_in_the_quiet_time_decides_anything(keys: list[str], after: int) -> None:
    screen = shown(listing(A, B), (A, B, C), LATER)
    assert typed(screen, *keys, at=LATER + after)[1] == []
