"""Reading evaluation sets that a recipe names beside its holdout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from tasks.core.errors import RecipeError
from tasks.validate.config import Contamination, EvaluationSet
from tasks.validate.contamination.contamination import EvaluationTexts


def check_evaluation_sets(config: Contamination) -> None:
    """See that every file of ``evaluation_sets`` can be read and has its column.

    Raises:
        RecipeError: naming the key, the file and the column.
    """
    read_evaluation_sets(config)


def read_evaluation_sets(config: Contamination) -> list[EvaluationTexts]:
    """The texts of every evaluation set, in the recipe's order; a text's id is its row's number, from 1.

    Raises:
        RecipeError: a file is missing, cannot be read, or lacks its column.
    """
    found = {name: _read(name, one) for name, one in config.evaluation_sets.items()}
    return [
        EvaluationTexts(name, [str(number) for number in range(1, len(texts) + 1)], texts)
        for name, texts in found.items()
    ]


def _read(name: str, one: EvaluationSet) -> pa.ChunkedArray:
    """The texts of a set.

    Raises:
        RecipeError: see :func:`read_evaluation_sets`.
    """
    key, path = f"validate.contamination.evaluation_sets.{name}", Path(one.path)
    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".jsonl": pyarrow.json.read_json, ".csv": _read_csv, ".parquet": pq.read_table,
    }  # fmt: skip
    read = readers.get(path.suffix.lower())
    if read is None:
        raise RecipeError(
            f"The evaluation set {name!r} is in no format that can be read here",
            where=f"{key}.path: {path}",
            remedy=f"name a file that ends with {', '.join(readers)}",
        )
    try:
        table = read(path)
    except FileNotFoundError as error:
        raise RecipeError(
            f"The evaluation set {name!r} does not exist", where=f"{key}.path: {path}", remedy="correct the path"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(
            f"The evaluation set {name!r} cannot be read: {error}", where=str(path), remedy="mend the file"
        ) from error
    if one.column not in table.column_names:
        raise RecipeError(
            f"The evaluation set {name!r} has no column {one.column!r}",
            where=f"{key}.column: {path}",
            remedy=f"its columns are: {', '.join(table.column_names) or 'none'}",
        )
    column = table[one.column]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
        raise RecipeError(
            f"The column {one.column!r} of the evaluation set {name!r} holds {column.type}, not text",
            where=f"{key}.column: {path}",
            remedy="name the column that holds the text",
        )
    return column


def _read_csv(path: Path) -> pa.Table:
    """Every column as text: a number at its head would make a column of numbers."""
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(path, parse_options=options) as reader:
        names = reader.schema.names
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return pyarrow.csv.read_csv(path, parse_options=options, convert_options=convert)
