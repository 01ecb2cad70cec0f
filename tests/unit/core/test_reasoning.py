"""Reasoning is found in every spelling, and the answer is what is left of a text without it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.reasoning import reasoning_mark, without_reasoning

PAIRS = (
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("< think >", "</ think >"),
    ('<think effort="low">', "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<seed:think>", "</seed:think>"),
    ("<antThinking>", "</antThinking>"),
    ("[THINK]", "[/THINK]"),
    ("[thinking]", "[/thinking]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|think|>", "<|/think|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<\uff5cthink\uff5c>", "<\uff5cend_think\uff5c>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
)


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_a_block_is_cut_in_every_spelling_and_an_unclosed_one_leaves_no_answer(opening: str, closing: str) -> None:
    assert without_reasoning(f"{opening}\nIt is short.\n{closing}\n\nFour corners.") == "Four corners."
    assert without_reasoning(f"I keep it short.\n{closing}\n\nFour corners.") == "Four corners."
    assert without_reasoning(f"{opening}\n\n{closing}\nFour corners.") == "Four corners."
    assert without_reasoning(f"{opening} It is short, so I") is None
    assert without_reasoning(f"Four corners.\n{opening} Or is it") is None
    assert reasoning_mark(f"Four {opening} corners.") == opening.strip()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>\n<think>b</think>\n\nFour.", "Four."),
        ("<think>a <think> b</think> c</think>Four.", "Four."),
        ("<think>a <think> b</think>Four.", "Four."),
        ("<think>a <reasoning>b</reasoning> c</think>Four.", "Four."),
        ("a</think>b</think>Four.", "Four."),
        ("First. <think>a</think> Second.", "First. Second."),
        ("First.\n<think>a</think>\n\nSecond.", "First.\n\nSecond."),
        ("Four.\n<think>a</think>", "Four."),
        ("<think>a</think>", ""),
        ("a</think> ", ""),
        ("<think>a</think>\n<answer>\nFour.\n</answer>", "Four."),
        ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>Four.<|end_of_solution|>", "Four."),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>Four.<|END_RESPONSE|>", "Four."),
        ("analysisThe user asks.assistantfinalFour.", "Four."),
    ],
)
def test_what_is_left_is_the_answer(text: str, answer: str) -> None:
    assert without_reasoning(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        " Four. ",
        "I think, therefore I am.",
        "<b>think</b>",
        "x < think and y > 3",
        "See [thinking](https://example.org/thinking).",
        "<thinker>a</thinker>",
        "<answer>Four.</answer>",
        "Send it to [reason] or [Your Name].",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_reasoning(text) == text and reasoning_mark(text) is None


MARKS = [mark for pair in PAIRS for mark in pair]


@given(st.lists(st.sampled_from([*MARKS, "thought ", "answer ", "\n"]), max_size=8))
def test_no_mark_is_ever_left_in_an_answer(pieces: list[str]) -> None:
    answer = without_reasoning("".join(pieces))
    assert answer is None or reasoning_mark(answer) is None
