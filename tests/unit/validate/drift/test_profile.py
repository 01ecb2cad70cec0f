"""A profile says what is in a training set, is the same for the same rows, and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.drift.profile import LONGEST_NAME, MOST_NAMES, SAMPLE, Profile, profile, read_profile
from tests.unit.validate.drift.profiles import LABELS, table, training_rows

HAN = "我的信用卡昨天在商店里丢了请问我现在应该怎么办才好呢"


def test_lengths_answers_and_origins_are_counted() -> None:
    rows = [("abcd", "cards"), ("ab cd ef", "cards"), ("abcd efgh ijkl", "bills"), ("", "once")]
    found = profile(table(rows), 0)
    assert found.rows == found.sample == 4
    assert found.user.characters == {"p05": 0, "p25": 0, "p50": 4, "p75": 8, "p95": 8}
    assert found.user.words["p50"] == 1 and found.user.words["p75"] == 3
    assert found.user.bins.names == {"-1": 1, "4": 1, "6": 1, "7": 1}, "4 is 2^(4/2), 8 is 2^(6/2), 14 is over 2^(7/2)"
    assert found.answers.names == {"cards": 2} and found.answers.rows == 4, "what one row has is no label"
    assert found.origins.names == {"generated": 4} and found.sources.names == {"a.csv": 4}


def test_a_collected_rows_prompt_is_its_origin() -> None:
    rows = table(training_rows(4, 1))
    collected = rows.set_column(rows.column_names.index("origin"), "origin", [["collected", "generated"] * 2])
    assert profile(collected, 0).prompts.names == {"(collected)": 2, "write": 2}


def test_long_answers_are_texts_and_no_labels() -> None:
    rows = [("q", "x" * LONGEST_NAME)] * 3 + [("q", "y" * (LONGEST_NAME + 1))] * 3
    assert profile(table(rows), 0).answers.names == {"x" * LONGEST_NAME: 3}


def test_languages_and_refusals_are_seen() -> None:
    english = [("Where is the card that I have ordered two weeks ago?", "I'm sorry, but I can't assist with that.")]
    german = [("Wo bleibt die Karte, die ich vor zwei Wochen bestellt habe?", "Sie ist seit gestern unterwegs.")]
    found = profile(table([*english * 3, *german * 2, (HAN, "好的我来帮您。")]), 0)
    assert found.languages.names == {"en": 3, "de": 2, "zh": 1}
    assert found.refusals == 3


def test_sameness_rises_with_repetition() -> None:
    varied, alike = (profile(table(rows), 0) for rows in (training_rows(100, 1), training_rows(5, 1) * 20))
    assert (alike.self_similarity or 0) > 1.3 * (varied.self_similarity or 1)
    assert alike.distinct[256] < 0.3 * varied.distinct[256]


def test_the_same_rows_and_seed_give_the_same_profile_and_it_survives_a_file(tmp_path: Path) -> None:
    rows = table(training_rows(SAMPLE + 100, 1))
    found = profile(rows, 7)
    assert found == profile(rows, 7)
    assert found.sample == SAMPLE and found.rows == SAMPLE + 100
    path = tmp_path / "profile.json"
    path.write_text(found.model_dump_json(), encoding="utf-8")
    assert read_profile(path) == found
    assert path.stat().st_size < 10_000


def test_a_profile_stays_small_whatever_there_is_in_the_rows() -> None:
    rows = [("word " * 50_000, f"label {number // 2}") for number in range(4)]
    rows += [("q", f"label {number // 2}") for number in range(3 * MOST_NAMES)]
    found = profile(table(rows), 0)
    assert len(found.answers.names) == MOST_NAMES and found.answers.rows == len(rows)
    assert list(found.answers.names)[:2] == ["label 0", "label 1"], "the most frequent first"


@pytest.mark.parametrize("content", [None, "", "{}", "{", '{"format": 2}', "\x00"])
def test_what_is_no_profile_is_none(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert read_profile(path) is None


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.text(max_size=30), st.none() | st.sampled_from((*LABELS, "", "\n"))), max_size=6)
)
def test_any_rows_have_a_profile_whose_counts_agree(rows: list[tuple[str | None, str | None]]) -> None:
    found = profile(table(rows), 0)
    assert found.rows == found.sample == len(rows)
    for counted in (
        found.user.bins,
        found.assistant.bins,
        found.origins,
        found.sources,
        found.prompts,
        found.languages,
    ):
        assert sum(counted.names.values()) == counted.rows == len(rows)
    assert sum(found.answers.names.values()) <= len(rows)
    assert Profile.model_validate_json(found.model_dump_json()) == found
