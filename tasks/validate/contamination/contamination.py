"""Rows that repeat an evaluation text: training on them would make the evaluation a memory test.

A text counts as repeated if what the user says as a whole is nearly the same, or if the single nearest row has enough
of it in runs of words: many rows that have a phrase each repeat nothing. The shorter a text, the more it is made of
common phrases: of one of middle length nearly all must be there, and a short one is not looked for inside of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core import tables
from tasks.validate.config import Contamination
from tasks.validate.contamination.spans import Span, common_spans
from tasks.validate.contamination.whole_texts import WholeTexts
from tasks.validate.contamination.word_runs import Pairs, Runs, together, word_counts
from tasks.validate.similarity import Positions, Texts, as_array

MIDDLE, LONG = 2, 3
"""Times a run's words from which a text is of middle length, and long."""
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class EvaluationTexts:
    """What no training row may repeat.

    Attributes:
        name: of the set, such as "holdout".
        ids: a name for each text.
        texts: as many; null is an empty text.
    """

    name: str
    ids: Sequence[str]
    texts: Sequence[str | None] | pa.Array | pa.ChunkedArray


@dataclass(frozen=True)
class Contaminated:
    """The rows that repeat an evaluation text, each with the text that it repeats most of; all fields of one length.

    Attributes:
        positions: of the rows, ascending; int64.
        sets: name of the evaluation text's set.
        evaluation_ids: the evaluation text's id in that set.
        evaluation_texts: the text itself.
        coverages: how much is repeated, 0 to 1; float64.
        spans: where, in the row's :func:`conversation_text` and in the evaluation text.
    """

    positions: np.ndarray
    sets: Sequence[str]
    evaluation_ids: Sequence[str]
    evaluation_texts: Sequence[str]
    coverages: np.ndarray
    spans: Sequence[tuple[Span, ...]]


def conversation_text(user_text: str | None, assistant_text: str | None) -> str:
    """A row's conversation as one text: what the user said, and on the next line what the assistant said."""
    return f"{user_text or ''}\n{assistant_text or ''}"


def find_contamination(
    user_texts: Texts,
    assistant_texts: Texts,
    sets: Sequence[EvaluationTexts],
    config: Contamination,
) -> Contaminated:
    """The rows that repeat a text of the evaluation sets.

    Args:
        user_texts: what the user said in each row; strings, null counts as empty.
        assistant_texts: what the assistant said, as many.
        sets: what must not be repeated; of two texts repeated equally the first of the first set is named.
        config: from when on a text counts as repeated.
    """
    texts = pa.concat_arrays([as_array([]), *(as_array(one.texts) for one in sets)])
    user, assistant = as_array(user_texts), as_array(assistant_texts)
    words = word_counts(texts)
    whole, longer = np.flatnonzero(words > 0), np.flatnonzero(words >= MIDDLE * config.ngram)
    conversations = pc.binary_join_element_wise(user, assistant, pa.scalar("\n", pa.large_string()))
    runs = Runs(texts.take(pa.array(longer)), config.ngram)
    inside = _of(runs.repeated_in(conversations, config.threshold), longer)
    enough = (words[inside.texts] >= LONG * config.ngram) | (inside.shares >= NEARLY_ALL)
    pairs = [Pairs(inside.rows[enough], inside.texts[enough], inside.shares[enough])]
    # Not with answers: a label says the same as many a short question ("what_is_your_name").
    same = WholeTexts(texts.take(pa.array(whole)), config.shingle, config.similarity)
    pairs.append(_of(same.said_by(user), whole))
    return _named(_best(together(pairs)), conversations, texts, sets, config.ngram)


def _of(pairs: Pairs, positions: Positions) -> Pairs:
    """The same pairs; of texts that were chosen from all, the positions among all."""
    return Pairs(pairs.rows, positions[pairs.texts], pairs.shares)


def _best(pairs: Pairs) -> Pairs:
    """Of every row the text that it repeats most of, of equals the first."""
    order = np.lexsort((pairs.texts, -pairs.shares, pairs.rows))
    rows = pairs.rows[order]
    first = order[np.append(True, rows[1:] != rows[:-1])[: len(rows)]]
    return Pairs(pairs.rows[first], pairs.texts[first], pairs.shares[first])


def _named(
    best: Pairs, conversations: pa.LargeStringArray, texts: pa.Array, sets: Sequence[EvaluationTexts], ngram: int
) -> Contaminated:
    """What was found, with the names of the texts and the places in them."""
    ends = np.cumsum([len(one.texts) for one in sets]) if sets else np.zeros(0, np.int64)
    of_set = np.searchsorted(ends, best.texts, side="right")
    begins = np.append(0, ends)
    said = conversations.take(pa.array(best.rows)).to_pylist()
    repeated = texts.take(pa.array(best.texts)).to_pylist()
    return Contaminated(
        positions=best.rows,
        sets=[sets[number].name for number in of_set],
        evaluation_ids=[
            str(sets[number].ids[text - begins[number]]) for number, text in zip(of_set, best.texts, strict=True)
        ],
        evaluation_texts=repeated,
        coverages=best.shares,
        spans=[common_spans(row, text, ngram) for row, text in zip(said, repeated, strict=True)],
    )


def write_contaminated(path: Path, rows: pa.Table, found: Contaminated) -> None:
    """Write ``contaminated.parquet``.

    Args:
        path: the file.
        rows: the table whose ``user_text`` and ``assistant_text`` were searched, with ``row_id``, ``origin``,
            ``prompt`` and ``document_id``.
        found: what was found.
    """
    taken = rows.take(pa.array(found.positions))
    texts = [
        conversation_text(*said)
        for said in zip(taken["user_text"].to_pylist(), taken["assistant_text"].to_pylist(), strict=True)
    ]
    spans = [
        [{**vars(span), "text": text[span.row_start : span.row_end]} for span in of_row]
        for text, of_row in zip(texts, found.spans, strict=True)
    ]
    columns = {
        **{name: taken[name] for name in ("row_id", "origin", "prompt", "document_id")},
        "text": texts,
        "set": list(found.sets),
        "evaluation_id": list(found.evaluation_ids),
        "evaluation_text": list(found.evaluation_texts),
        "coverage": found.coverages,
        "spans": spans,
    }
    pq.write_table(pa.table(columns).cast(tables.schema(tables.CONTAMINATION)), path)
