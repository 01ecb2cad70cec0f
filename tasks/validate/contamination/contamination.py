"""Find rows that repeat an evaluation text: training on them would turn the evaluation into a memory test.

A row repeats a text if its user text as a whole is nearly equal, or if runs of words of this single row cover enough of
the text. Short texts consist of common phrases: of a text of middle length nearly all must be covered, and a short one
is only compared as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core import tables
from tasks.validate.config import Contamination
from tasks.validate.contamination.other_questions import asks_otherwise
from tasks.validate.contamination.spans import Span, common_spans
from tasks.validate.contamination.whole_texts import WholeTexts
from tasks.validate.contamination.word_runs import Pairs, WordRuns, concatenate, word_counts
from tasks.validate.similarity import Positions, Texts, as_array, begins_of

MIDDLE, LONG = 2, 3
"""Lengths of texts from which they count as middle or long, in runs of words."""
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class EvaluationTexts:
    """A named set of texts that no training row may repeat, each with an id; null is an empty text.

    ``contexts`` (:func:`tasks.validate.rows.contexts`): what each is asked in; empty where that is unknown.
    """

    name: str
    ids: Sequence[str]
    texts: Sequence[str | None] | pa.Array | pa.ChunkedArray
    contexts: pa.Array | None = None


@dataclass(frozen=True)
class Contaminated:
    """The rows that repeat an evaluation text, each with its most similar text; all fields of one length.

    Attributes:
        positions: of the rows, ascending; int64.
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
    """A row's conversation as one text: the user text, and on the next line the assistant text."""
    return f"{user_text or ''}\n{assistant_text or ''}"


def find_contamination(
    user_texts: Texts,
    assistant_texts: Texts,
    sets: Sequence[EvaluationTexts],
    config: Contamination,
    contexts: pa.Array | None = None,
) -> Contaminated:
    """The rows that repeat a text of the evaluation sets; ties go to the first text of the first set.

    ``user_texts`` and ``assistant_texts`` have a text per row; null counts as empty. A row and a text that both have a
    context are only compared if it is the same.
    """
    texts = pa.concat_arrays([as_array([]), *(as_array(evaluation_set.texts) for evaluation_set in sets)])
    user, assistant = as_array(user_texts), as_array(assistant_texts)
    words = word_counts(texts)
    whole, longer = np.flatnonzero(words > 0), np.flatnonzero(words >= MIDDLE * config.ngram)
    conversations = pc.binary_join_element_wise(user, assistant, pa.scalar("\n", pa.large_string()))
    runs = WordRuns(texts.take(pa.array(longer)), config.ngram)
    inside = _at(longer, runs.find(conversations, config.threshold))
    inside = _where((words[inside.texts] >= LONG * config.ngram) | (inside.shares >= NEARLY_ALL), inside)
    # Answers are left out: a label can equal a short question ("what_is_your_name").
    equal = WholeTexts(texts.take(pa.array(whole)), config.shingle, config.similarity)
    copies = _at(whole, equal.find(user))
    inside, copies = (_where(_same_contexts(sets, contexts, pairs), pairs) for pairs in (inside, copies))
    inside = _where(~asks_otherwise(conversations, texts, inside, config.ngram), inside)
    best = _best(concatenate([inside, copies]))
    repeated = texts.take(pa.array(best.texts)).to_pylist()
    rows = conversations.take(pa.array(best.rows)).to_pylist()
    names = [(part.name, str(id_)) for part in sets for id_ in part.ids]
    return Contaminated(
        positions=best.rows,
        sets=[names[text][0] for text in best.texts],
        evaluation_ids=[names[text][1] for text in best.texts],
        evaluation_texts=repeated,
        coverages=best.shares,
        spans=[common_spans(row, text, config.ngram) for row, text in zip(rows, repeated, strict=True)],
    )


def _at(positions: Positions, pairs: Pairs) -> Pairs:
    return Pairs(pairs.rows, positions[pairs.texts], pairs.shares)


def _where(chosen: NDArray[np.bool_], pairs: Pairs) -> Pairs:
    return Pairs(pairs.rows[chosen], pairs.texts[chosen], pairs.shares[chosen])


def _same_contexts(sets: Sequence[EvaluationTexts], contexts: pa.Array | None, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether a row and a text may ask the same: not if both have a context, and another one."""
    if contexts is None:
        return np.ones(len(pairs.rows), dtype=bool)
    unknown = [pa.array([""] * len(part.ids)) if part.contexts is None else part.contexts for part in sets]
    ours = contexts.take(pa.array(pairs.rows))
    theirs = pa.concat_arrays([contexts.slice(0, 0), *(part.cast(contexts.type) for part in unknown)])
    theirs = theirs.take(pa.array(pairs.texts))
    open_ = pc.or_(pc.equal(ours, ""), pc.equal(theirs, ""))
    found: NDArray[np.bool_] = pc.or_(open_, pc.equal(ours, theirs)).to_numpy(zero_copy_only=False)
    return found


def _best(pairs: Pairs) -> Pairs:
    order = np.lexsort((pairs.texts, -pairs.shares, pairs.rows))
    best = order[begins_of(pairs.rows[order])]
    return Pairs(pairs.rows[best], pairs.texts[best], pairs.shares[best])


def write_contaminated(path: Path, rows: pa.Table, found: Contaminated) -> None:
    """Write ``contaminated.parquet``."""
    taken = rows.take(pa.array(found.positions))
    texts = list(map(conversation_text, taken["user_text"].to_pylist(), taken["assistant_text"].to_pylist()))
    spans = [
        [{**vars(span), "text": text[span.row_start : span.row_end]} for span in of_row]
        for text, of_row in zip(texts, found.spans, strict=True)
    ]
    columns = {
        **{name: taken[name] for name in ("row_id", "origin", "prompt", "document_id")},
        "text": texts,
        "set": found.sets,
        "evaluation_id": found.evaluation_ids,
        "evaluation_text": found.evaluation_texts,
        "coverage": found.coverages,
        "spans": spans,
    }
    pq.write_table(pa.table(columns).cast(tables.schema(tables.CONTAMINATION)), path)
