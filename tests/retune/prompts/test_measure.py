"""What the comparison of two templates says, in numbers and in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.display_text import Piece, shortened, visible, word_changes
from retune.prompts.comparison_lines import readings, reasons, sentence
from retune.prompts.measure import compare, measure
from tasks.validate.config import NearDuplicates
from tests.retune.prompts.trials import kept, refused, truncated, unrendered

NEAR = NearDuplicates()
TEXTS = st.lists(st.text(max_size=40), max_size=8)


def test_the_yield_counts_requests_and_its_difference_is_that_of_pairs() -> None:
    before = [*(refused(f"d{n}", "no") for n in range(10)), *(kept(f"e{n}", f"text {n}") for n in range(10))]
    after = [*(kept(f"d{n}", f"new {n}") for n in range(10)), *(kept(f"e{n}", f"text {n}") for n in range(10))]
    found = compare(before, after, NEAR)
    assert (found.before.yield_, found.after.yield_) == (0.5, 1.0)
    assert found.yield_change.difference == 0.5
    assert found.yield_change.ci_low > 0.2 and found.yield_change.p_value == pytest.approx(2 * 0.5**10)
    assert sentence(found).startswith("The edited template's yield is higher: +50.0 points")
    assert readings(found)[0].judgement == "better"


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    before = [refused("a", "no"), kept("b", "one")]
    found = compare(before, [kept("a", "two"), kept("b", "one")], NEAR)
    assert "2 requests cannot tell from chance" in sentence(found)
    assert readings(found)[0].judgement == ""


def test_a_change_is_relative_to_the_committed_template() -> None:
    found = compare([kept("a", "one two")], [kept("a", "one two three four")], NEAR)
    change = {reading.name: reading.change for reading in readings(found)}
    assert change["words in a kept row"] == "+100%" and change["rows kept"] == "0%"


def test_trials_of_different_documents_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same documents"):
        compare([kept("a", "x")], [kept("b", "x")], NEAR)


def test_reject_reasons_are_counted_by_rule_for_both() -> None:
    before = [refused("a", "no"), truncated("b"), truncated("c"), unrendered("d")]
    after = [refused("a", "no"), refused("b", "no"), kept("c", "yes"), unrendered("d")]
    found = compare(before, after, NEAR)
    assert reasons(found) == [("judge check", 1, 2), ("render", 1, 1), ("truncated", 2, 0)]


def test_only_rows_that_a_judge_saw_count_for_the_share_that_passes() -> None:
    found = measure([refused("a", "no"), kept("b", "yes"), truncated("c"), kept("d", "fine")], NEAR)
    assert found.judged == 3 and found.passed == pytest.approx(2 / 3)


def test_the_cost_of_a_kept_row_holds_the_tokens_of_those_that_were_lost() -> None:
    found = measure([kept("a", "x"), truncated("b")], NEAR)
    assert found.tokens == 10 + 5 + 10 + 48
    assert found.tokens_per_kept_row == 73
    assert found.prompt_tokens == 10


def test_nothing_kept_leaves_measures_open_and_divides_by_nothing() -> None:
    found = measure([truncated("a"), unrendered("b")], NEAR)
    assert found.kept_rows == 0 and found.words is None and found.tokens_per_kept_row is None
    assert found.near_duplicates is None and found.distinct_1 is None and found.passed is None
    assert {reading.after for reading in readings(compare([truncated("a")], [truncated("a")], NEAR))} >= {"-"}


def test_diversity_is_measured_on_as_many_rows_of_either() -> None:
    before = [kept(f"d{n}", f"alpha beta {n}") for n in range(6)]
    after = [kept(f"d{n}", "the very same words") if n < 2 else refused(f"d{n}", "no") for n in range(6)]
    found = compare(before, after, NEAR)
    assert found.before.compared == found.after.compared == 2
    assert found.after.near_duplicates == 0.5 and found.after.self_similarity == 1.0
    assert found.before.distinct_1 == pytest.approx(4 / 6)


def test_words_that_differ_are_marked_on_their_own_side() -> None:
    left, right = word_changes("I lost my card, today", "I lost the card, today")
    assert Piece("removed", "my") in left and Piece("added", "the") in right
    assert {piece.kind for piece in left} == {"same", "removed"} and {piece.kind for piece in right} == {
        "same",
        "added",
    }


def test_texts_with_little_in_common_are_left_unmarked() -> None:
    assert word_changes("one two three", "four five six") == (
        [Piece("same", "one two three")],
        [Piece("same", "four five six")],
    )


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_pieces_of_a_text_are_the_text(before: str, after: str) -> None:
    left, right = word_changes(before, after)
    assert "".join(piece.text for piece in left) == before
    assert "".join(piece.text for piece in right) == after


def test_what_a_terminal_or_a_browser_would_obey_is_spelled_out() -> None:
    assert visible("a\x1b[31m\x9b\u202e\x00\ud800\r\n\tb") == "a\\x1b[31m\\x9b\\u202e\\x00\\ud800\n\tb"
    assert visible("\ufeffa\u200bb\U000e0068 \U0001f469\u200d\U0001f680") == (
        "\\ufeffa\\u200bb\\U000e0068 \U0001f469\u200d\U0001f680"
    )


@given(st.text(st.characters(exclude_categories=())))
def test_visible_text_can_always_be_written(text: str) -> None:
    assert "\x1b" not in visible(text)
    visible(text).encode("utf-8")


def test_a_long_text_says_how_much_is_missing() -> None:
    assert shortened("x" * 12, 10) == "xxxxxxxxxx [... 2 more characters]"
    assert shortened("short", 10) == "short"
