"""Our checks as expectations of Great Expectations, run in real checkpoints and shown in real Data Docs."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.validate.contracts.expectations.catalogue import is_row_level
from tasks.validate.contracts.expectations.classes import OWN, expectation_class, load_great_expectations

Rule = tuple[str, dict[str, Any]]
FILLER = "where is my new card, please"


def conversation(question: str, answer: str = "cards") -> str:
    return json.dumps([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


PLANTED: dict[str, tuple[dict[str, Any], Any, list[Any], str]] = {
    "expect_column_token_counts_to_be_between": (
        {"tokenizer": "seedling/model", "min_value": 2, "max_value": 30},
        FILLER,
        ["", "card " * 100],
        "values must have between 2 and 30 tokens, as the tokenizer of seedling/model counts",
    ),
    "expect_column_values_to_be_valid_messages": (
        {},
        conversation(FILLER),
        [conversation(FILLER, " "), "[]"],
        "values must be conversations: user and assistant in turns",
    ),
    "expect_column_values_to_match_json_schema": (
        {"json_schema": {"required": ["queue"], "title": "<b>$5</b>"}},
        '{"queue": "cards"}',
        ["{}", "{"],
        'values must be JSON of this schema: {"required": ["queue"], "title": "<b>$5</b>"}',
    ),
    "expect_column_values_to_be_in_language": (
        {"languages": ["en"]},
        FILLER,
        ["Wo ist denn meine neue Karte geblieben?", "أين بطاقتي الجديدة من فضلك؟"],
        "values must be in en (texts of at least 20 letters)",
    ),
    "expect_column_values_to_not_be_refusals": (
        {"phrases": ["not today $5 <b>"]},
        FILLER,
        ["I'm sorry, but I can't assist with that.", "Not today $5 <b>"],
        "values must not be refusals, nor say: not today $5 <b>.",
    ),
    "expect_column_values_to_not_hold_boilerplate": (
        {},
        FILLER,
        ["Sure! Here is a message.", "Dear [Your Name], hello."],
        "values must not hold boilerplate",
    ),
    "expect_column_values_to_not_mention_the_prompt": (
        {},
        FILLER,
        ["Based on the given text, who pays?", "根据上述文章卡在哪里"],
        "values must not speak of the prompt",
    ),
    "expect_column_values_to_not_repeat_themselves": (
        {"max_share": 0.4, "ngram": 2},
        FILLER,
        ["my card my card my card", "卡在哪里" * 5],
        "values must not repeat more than 40% of their text (runs of 2 words)",
    ),
    "expect_column_values_to_not_hold_control_tokens": (
        {"tokens": ["<|im_end|>", "</s>"]},
        FILLER,
        ["hi <|im_end|>", "</s>"],
        "values must not spell control tokens: <|im_end|>, </s>.",
    ),
    "expect_column_values_to_not_hold_hidden_characters": (
        {},
        f"{FILLER}\n\t\U0001f469\u200d\U0001f680",
        [f"{FILLER}\u200b", "It is $5 \times 10$."],
        "values must not hold control characters, zero-width characters or other characters that no reader sees",
    ),
}


def run(tmp_path: Path, frame: pd.DataFrame, rules: list[Rule]) -> tuple[list[Any], str]:
    """The results of a checkpoint over a stored suite, in the rules' order, and the text of its Data Docs."""
    gx = load_great_expectations()
    context = gx.get_context(mode="file", project_root_dir=str(tmp_path))
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    expectations = [
        expectation_class(name)(**arguments, meta={"rule": number}) for number, (name, arguments) in enumerate(rules)
    ]
    context.suites.add(gx.ExpectationSuite(name="suite", expectations=expectations))
    batch = asset.add_batch_definition_whole_dataframe("all")
    stored = gx.get_context(mode="file", project_root_dir=str(tmp_path)).suites.get("suite")
    validation = context.validation_definitions.add(gx.ValidationDefinition(name="rows", data=batch, suite=stored))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name="checkpoint", validation_definitions=[validation], result_format={"result_format": "COMPLETE"}
        )
    )
    (outcome,) = checkpoint.run(batch_parameters={"dataframe": frame}).run_results.values()
    context.build_data_docs()
    (page,) = (tmp_path / "gx" / "uncommitted" / "data_docs" / "local_site" / "validations").rglob("*.html")
    text = re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))
    results = sorted(outcome.results, key=lambda result: int(result.expectation_config.meta["rule"]))
    return results, html.unescape(" ".join(text.split()))


def test_every_check_on_rows_names_the_planted_rows_by_position_and_says_in_data_docs_what_it_asks(
    tmp_path: Path,
) -> None:
    assert PLANTED.keys() == {name for name in OWN if is_row_level(name)}
    good, at = 40, {3: None, 17: None, 30: float("nan")}  # bad ones at 3 and 17, a missing one at 30
    frame = pd.DataFrame(
        {
            name: pd.Series(
                [dict(zip(at, [*bad, None], strict=True)).get(row, fine) for row in range(good)], dtype=object
            )
            for name, (_, fine, bad, _) in PLANTED.items()
        }
    )
    rules: list[Rule] = [(name, {"column": name, **arguments}) for name, (arguments, *_) in PLANTED.items()]
    results, docs = run(tmp_path, frame, rules)
    for (name, _), result in zip(rules, results, strict=True):
        assert (name, result.success, result.result["unexpected_index_list"]) == (name, False, [3, 17])
        assert PLANTED[name][3] in docs


def test_mostly_severity_and_conditions_work_as_for_any_expectation(tmp_path: Path) -> None:
    said = ["I'm sorry, but I can't assist with that."]
    frame = pd.DataFrame({"text": [*said, *[FILLER] * 8, *said], "kind": ["a", *["b"] * 9]}, dtype=object)
    name = "expect_column_values_to_not_be_refusals"
    conditional = {"row_condition": 'col("kind")=="b"', "condition_parser": "great_expectations"}
    rules: list[Rule] = [
        (name, {"column": "text", "mostly": 0.8, "severity": "warning"}),
        (name, {"column": "text", "mostly": 0.81, "severity": "info"}),
        (name, {"column": "text", **conditional}),
    ]
    results, docs = run(tmp_path, frame, rules)
    assert [result.success for result in results] == [True, False, False]
    assert [result.result["unexpected_index_list"] for result in results] == [[0, 9], [0, 9], [9]]
    assert [result.expectation_config.severity for result in results] == ["warning", "info", "critical"]
    assert "values must not be refusals, at least 0.81 of the time." in docs
    assert "values must not be refusals, where kind == b." in docs


def test_the_balance_of_labels_is_judged_as_a_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"queue": [*["cards"] * 9, "bills", None]}, dtype=object)
    name = "expect_column_label_shares_to_be_between"
    rules: list[Rule] = [
        (name, {"column": "queue", "min_share": 0.05, "max_share": 0.95}),
        (name, {"column": "queue", "min_share": 0.2, "value_set": ["cards", "bills", "travel"]}),
    ]
    results, docs = run(tmp_path, frame, rules)
    assert [result.success for result in results] == [True, False]
    assert results[1].result["observed_value"] == "missing: travel; below 20.0%: bills 10.0%; shares from 0.0% to 90.0%"
    assert results[1].result["details"]["shares"] == {"cards": 0.9, "bills": 0.1, "travel": 0.0}
    assert "each label's share must be at least 5.0% and at most 95.0%." in docs
    assert "missing: travel; below 20.0%: bills 10.0%" in docs


def test_a_column_that_is_not_there_is_an_exception_not_a_pass(tmp_path: Path) -> None:
    ((result,), _) = run(
        tmp_path, pd.DataFrame({"a": ["x"]}), [("expect_column_values_to_not_be_refusals", {"column": "b"})]
    )
    assert not result.success
    assert "raised_exception" in str(result.exception_info)


def test_an_empty_column_passes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.Series([], dtype=object)})
    rules: list[Rule] = [(name, {"column": "a", **arguments}) for name, (arguments, *_) in PLANTED.items()]
    results, _ = run(tmp_path, frame, rules)
    assert all(result.success for result in results)


@pytest.mark.parametrize("name", sorted(OWN))
def test_arguments_that_a_check_does_not_take_are_refused_by_its_class(name: str) -> None:
    arguments = PLANTED[name][0] if name in PLANTED else {"min_share": 0.1}
    made = expectation_class(name)(column="a", **arguments)
    assert made.expectation_type == name
    with pytest.raises(ValueError, match="extra fields not permitted"):
        expectation_class(name)(column="a", **arguments, nonsense=np.int64(1))
