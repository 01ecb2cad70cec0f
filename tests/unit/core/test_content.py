"""The text of a content: parts of text are joined, everything else is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.content import NotText, content_text, says_nothing

TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        ([], ""),
        (["a", "b"], "a\nb"),
        ([TEXT, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": [1]}], "a\nb"),
        ([{"type": "text", "text": {"value": "a", "annotations": []}}], "a"),
        ([{"text": "a"}, "b"], "a\nb"),
        ([{"type": None, "text": "a", "image_url": None}], "a"),
        ([TEXT | {"image_url": {"url": None}}, {"type": "text", "text": None}], "a"),
        (TEXT, "a"),
        ({"content_type": "text", "parts": ["a", "", "b"]}, "a\nb"),
        ({"parts": [{"text": "a"}]}, "a"),
    ],
)
def test_parts_of_text_are_joined(content: Any, text: str) -> None:
    assert content_text(content) == text


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        (7, "", "of type int"),
        ([7], "[0]", "of type int"),
        ([TEXT, None], "[1]", "of type NoneType"),
        ([["a"]], "[0]", "of type list"),
        ([TEXT, {"type": "image_url", "image_url": {"url": "data:"}}], "[1]", "of type 'image_url'"),
        ([{"type": "tool_use", "name": "f", "input": {}}], "[0]", "of type 'tool_use'"),
        ([TEXT | {"image": "a.png"}], "[0]", "of type 'image'"),
        ({"content_type": "code", "parts": ["a"]}, "", "of type 'code'"),
        ({"content_type": "multimodal_text", "parts": ["a", {"content_type": "image_asset_pointer"}]}, "",
         "of type 'multimodal_text'"),
        ({"parts": [{"content_type": "image_asset_pointer"}]}, "[0]", "of type 'image_asset_pointer'"),
        ({"answer": 42}, "", "an object without a known type"),
        ({"text": "a", "score": 1}, "", "an object without a known type"),
        ({}, "", "an object without a known type"),
    ],
)  # fmt: skip
def test_what_is_not_text_is_named_with_its_place(content: Any, place: str, what: str) -> None:
    with pytest.raises(NotText) as caught:
        content_text(content)
    assert (caught.value.place, caught.value.what) == (place, what)


def test_thoughts_are_left_out_and_named() -> None:
    thoughts: set[str] = set()
    parts = [{"type": "thinking", "thinking": "hm"}, TEXT, {"type": "reasoning", "summary": []}]
    assert content_text(parts, thoughts) == "a" and thoughts == {"thinking", "reasoning"}


@given(
    st.recursive(
        st.sampled_from([None, "", " \n", float("nan")]), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_nulls_all_the_way_down_are_blank_until_a_value_joins(value: Any) -> None:
    assert says_nothing(value)
    assert not any(says_nothing([value, {"key": found}]) for found in (0, False, "a", 0.0))
