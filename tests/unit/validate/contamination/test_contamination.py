from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core import tables
from tasks.validate.config import Contamination
from tasks.validate.contamination.contamination import (
    Contaminated,
    EvaluationTexts,
    conversation_text,
    find_contamination,
    write_contaminated,
)
from tasks.validate.normal_form import normalise
from tests.unit.validate.questions import LONG_QUESTION, OTHER_QUESTIONS, SAME_QUESTIONS

LONG = "could you please tell me why my card was declined at the grocery store on main street this morning"
MIDDLE = "my card was declined at the grocery store this morning again"
SHORT = "what is my balance"


def found_in(*said: str | tuple[str, str], texts: tuple[str, ...] = (LONG, MIDDLE, SHORT)) -> Contaminated:
    rows = [one if isinstance(one, tuple) else (one, "cards") for one in said]
    user, assistant = ([row[side] for row in rows] for side in (0, 1))
    sets = [EvaluationTexts("holdout", [f"h{number}" for number in range(len(texts))], texts)]
    return find_contamination(user, assistant, sets, Contamination())


@pytest.mark.parametrize(
    ("said", "which"),
    [
        (LONG, "h0"),
        (LONG.upper().replace(" my", ", MY") + "!!", "h0"),
        (" ".join(LONG.split()[:12]), "h0"),
        (" ".join(LONG.split()[-11:]), "h0"),
        (LONG.replace("grocery", "corner"), "h0"),
        (f"well, {MIDDLE}, and so on and on, with many other things to say about it all", "h1"),
        (("what do people ask?", f"They ask: {LONG}? And more."), "h0"),
        ("What is my balance?", "h2"),
    ],
)
def test_a_copy_is_found_whole_or_in_part_in_other_form_or_in_an_answer(
    said: str | tuple[str, str], which: str
) -> None:
    found = found_in("an honest row", said)
    assert found.positions.tolist() == [1] and found.evaluation_ids == [which] and found.sets == ["holdout"]


@pytest.mark.parametrize(
    "said",
    [
        f"hello there, {SHORT} and could you send me a statement of it for the last three months",
        "could you please tell me why it rains so often in the north of this country in autumn",
        "my card was declined at the petrol station",
        ("a question", SHORT.replace(" ", "_")),
        "",
        "?",
        "我的卡丢了",
    ],
)
def test_a_common_phrase_is_no_copy(said: str | tuple[str, str]) -> None:
    assert found_in(said).positions.tolist() == []


@pytest.mark.parametrize(("one", "other"), OTHER_QUESTIONS)
@pytest.mark.parametrize("around", ["{}", LONG_QUESTION, "{}\n" + LONG, LONG + "\n{}", LONG_QUESTION + "\n" + LONG])
def test_what_differs_in_signs_numbers_code_or_accents_is_no_leak(one: str, other: str, around: str) -> None:
    assert found_in(around.format(one), texts=(around.format(other),)).positions.tolist() == []


@pytest.mark.parametrize(("one", "other"), SAME_QUESTIONS)
@pytest.mark.parametrize("around", ["{}", LONG_QUESTION])
def test_what_differs_in_form_is_a_leak(one: str, other: str, around: str) -> None:
    assert found_in(around.format(one), texts=(around.format(other),)).coverages.tolist() == [1.0]


@pytest.mark.parametrize(
    "row",
    [
        "well, {} and so on, for example 7 - 3",
        "{}",
        ("a question", "they ask: {} in 12 words"),
    ],
)
def test_a_copy_with_numbers_is_found_cut_off_edited_or_inside_a_longer_text(row: str | tuple[str, str]) -> None:
    text = f"{LONG} and why -5 % of $20 were charged twice for it on the first of 3 days"
    for copy in (text, text.replace("grocery", "corner"), " ".join(text.split()[:20]), " ".join(text.split()[-20:])):
        filled = (row[0], row[1].format(copy)) if isinstance(row, tuple) else row.format(copy)
        assert found_in(filled, texts=(text,)).positions.tolist() == [0], copy


def test_the_same_words_leak_in_the_same_or_an_unknown_context_only() -> None:
    holdout = EvaluationTexts("holdout", ["h0", "h1"], [LONG, SHORT], pa.array(["french", ""]))
    rows, contexts = [LONG, LONG, LONG, SHORT], pa.array(["french", "spanish", "", "spanish"])
    found = find_contamination(rows, [""] * 4, [holdout], Contamination(), contexts)
    assert found.positions.tolist() == [0, 2, 3]
    file = EvaluationTexts("file", ["1"], [LONG])
    assert find_contamination(rows, [""] * 4, [file], Contamination(), contexts).positions.tolist() == [0, 1, 2]


def test_rows_that_have_a_part_each_repeat_nothing_together() -> None:
    words = LONG.split()
    assert found_in(*(" ".join(words[start : start + 6]) for start in range(0, len(words), 6))).positions.tolist() == []


def test_scripts_without_spaces_are_searched_character_by_character() -> None:
    text = "请问我的信用卡今天早上在超市为什么不能付款"
    found = found_in(f"有人问{text}然后就走了谢谢你们的帮助再见了", "今天的天气真好我们去公园吧", texts=(text,))
    assert found.positions.tolist() == [0] and found.coverages.tolist() == [1.0]


def test_spans_tell_where_both_say_the_same() -> None:
    found = found_in((f"So: {LONG.title()}?", "cards"))
    (spans,) = found.spans
    row = conversation_text(f"So: {LONG.title()}?", "cards")
    for span in spans:
        ours = row[span.row_start : span.row_end]
        assert normalise(ours) == normalise(LONG[span.evaluation_start : span.evaluation_end])
    assert sum(span.evaluation_end - span.evaluation_start for span in spans) == len(LONG)


def test_the_first_of_equal_texts_of_the_first_set_is_named() -> None:
    sets = [EvaluationTexts(name, ["a", "b"], [LONG, LONG]) for name in ("one", "two")]
    found = find_contamination([LONG], [""], sets, Contamination())
    assert (found.sets, found.evaluation_ids) == (["one"], ["a"])


def test_positions_hold_over_many_batches() -> None:
    rows = [f"an honest row with the number {number} in it" for number in range(25_000)]
    leaks = {7: LONG, 9_999: MIDDLE, 10_000: LONG, 24_999: SHORT}
    found = found_in(*(leaks.get(number, row) for number, row in enumerate(rows)))
    assert found.positions.tolist() == list(leaks)


def test_nothing_repeats_nothing() -> None:
    assert found_in(LONG, texts=()).positions.tolist() == []
    assert found_in(LONG, "", texts=("", "?", " ")).positions.tolist() == []
    assert found_in().positions.tolist() == []
    nulls = pa.array([None, None], pa.string())
    assert find_contamination(nulls, nulls, [EvaluationTexts("x", ["1"], [LONG])], Contamination()).spans == []


def test_a_text_of_a_million_characters_is_searched() -> None:
    found = found_in(("question", f"{'lorem ipsum dolor ' * 60_000}{LONG}"))
    assert found.positions.tolist() == [0] and found.coverages[0] == 1


def test_the_file_has_row_text_and_places(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "row_id": ["r0", "r1"],
            "origin": ["generated"] * 2,
            "prompt": ["write"] * 2,
            "document_id": ["d0", "d1"],
            "user_text": ["an honest row", LONG],
            "assistant_text": ["cards", "cards"],
        }
    )
    sets = [EvaluationTexts("holdout", ["h"], [LONG])]
    found = find_contamination(rows["user_text"], rows["assistant_text"], sets, Contamination())
    write_contaminated(tmp_path / "contaminated.parquet", rows, found)
    table = pq.read_table(tmp_path / "contaminated.parquet")
    assert table.schema.equals(tables.schema(tables.CONTAMINATION))
    (row,) = table.to_pylist()
    assert (row["row_id"], row["set"], row["evaluation_id"], row["coverage"]) == ("r1", "holdout", "h", 1.0)
    assert [span["text"] for span in row["spans"]] == [LONG]
    assert np.all(found.positions == [1])
