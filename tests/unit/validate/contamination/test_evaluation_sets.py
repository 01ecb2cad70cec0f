from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import RecipeError
from tasks.validate.config import Contamination
from tasks.validate.contamination.evaluation_sets import read_evaluation_sets


def settings(path: Path, column: str = "text") -> Contamination:
    return Contamination.model_validate({"evaluation_sets": {"mine": {"path": str(path), "column": column}}})


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_set_is_read_from_each_kind_of_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"set.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": ["one", "2"], "n": [1, 2]}), path)
    else:
        path.write_text(
            '{"text": "one"}\n{"text": "2"}\n' if kind == "jsonl" else "n,text\n1,one\n2,2\n", encoding="utf-8"
        )
    (found,) = read_evaluation_sets(settings(path))
    assert (found.name, list(found.ids), pa.array(found.texts).to_pylist()) == ("mine", ["1", "2"], ["one", "2"])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("none.csv", None, "does not exist"),
        ("set.txt", "text", "unknown file format"),
        ("set.csv", "words\nhello\n", "no column 'text'"),
        ("set.jsonl", '{"text": "a"}\n{"te', "cannot be read"),
        ("set.jsonl", '{"text": 5}\n', "holds int64, not text"),
        ("set.parquet", "no parquet", "cannot be read"),
        ("empty.csv", "", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_key_and_file(
    name: str, content: str | None, complaint: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=complaint) as caught:
        read_evaluation_sets(settings(tmp_path / name))
    assert name in caught.value.where and caught.value.remedy
