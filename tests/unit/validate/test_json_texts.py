"""Columns of text become JSON as Python's own writer makes it."""

from __future__ import annotations

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.files import canonical_json
from tasks.validate.json_texts import TEXT, json_objects, json_strings

TEXTS = st.lists(st.one_of(st.none(), st.text()), max_size=6)


@given(TEXTS)
def test_texts_are_written_as_json_writes_them(texts: list[str | None]) -> None:
    written = json_strings(pa.array(texts, TEXT)).to_pylist()
    assert written == [json.dumps(text, ensure_ascii=False) for text in texts]


@given(st.dictionaries(st.text(max_size=4), st.lists(st.one_of(st.none(), st.text()), min_size=3, max_size=3)))
def test_rows_are_written_as_canonical_json(columns: dict[str, list[str | None]]) -> None:
    arrays = {name: pa.array(texts, TEXT) for name, texts in columns.items()}
    expected = [canonical_json({name: texts[row] for name, texts in columns.items()}) for row in range(3)]
    assert json_objects(arrays, 3).to_pylist() == expected
