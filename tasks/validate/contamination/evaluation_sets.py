"""Read the evaluation sets that a recipe names in addition to its holdout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from tasks.core.errors import RecipeError
from tasks.validate.config import Contamination, EvaluationSet
from tasks.validate.contamination.contamination import EvaluationTexts


def read_evaluation_sets(config: Contamination) -> list[EvaluationTexts]:
    """The texts of every evaluation set, in the recipe's order; a text's id is its row number, from 1.

    Raises RecipeError if a file is missing, cannot be read, or lacks its column.
    """
    found = {name: _read(name, evaluation_set) for name, evaluation_set in config.evaluation_sets.items()}
    return [EvaluationTexts(name, list(map(str, range(1, len(texts) + 1))), texts) for name, texts in found.items()]


def _read(name: str, evaluation_set: EvaluationSet) -> pa.ChunkedArray:
    key, path = f"validate.contamination.evaluation_sets.{name}", Path(evaluation_set.path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise RecipeError(
            f"The evaluation set {name!r} has an unknown file format",
            where=f"{key}.path: {path}",
            remedy=f"use a file that ends with {', '.join(READERS)}",
        )
    try:
        table = read(path)
    except FileNotFoundError as error:
        raise RecipeError(
            f"The evaluation set {name!r} does not exist", where=f"{key}.path: {path}", remedy="correct the path"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(
            f"The evaluation set {name!r} cannot be read: {error}", where=str(path), remedy="fix the file"
        ) from error
    if evaluation_set.column not in table.column_names:
        raise RecipeError(
            f"The evaluation set {name!r} has no column {evaluation_set.column!r}",
            where=f"{key}.column: {path}",
            remedy=f"its columns are: {', '.join(table.column_names) or 'none'}",
        )
    column = table[evaluation_set.column]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
        raise RecipeError(
            f"The column {evaluation_set.column!r} of the evaluation set {name!r} holds {column.type}, not text",
            where=f"{key}.column: {path}",
            remedy="name the column that holds the text",
        )
    return column


def _read_csv(path: Path) -> pa.Table:
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(path, parse_options=options) as reader:
        names = reader.schema.names
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return pyarrow.csv.read_csv(path, parse_options=options, convert_options=convert)


READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    ".jsonl": pyarrow.json.read_json,
    ".csv": _read_csv,
    ".parquet": pq.read_table,
}
