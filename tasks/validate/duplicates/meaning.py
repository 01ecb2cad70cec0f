"""Find paraphrases of earlier rows by the embeddings of a model that the recipe names.

Every text is compared with all kept texts: none is missed, but time grows with the square of their number, hence
:data:`MOST_TEXTS`. On two cores, comparing 200,000 embeddings of 192 dimensions took 98 s; embedding 15,100 short texts
with the seedling took 41 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.config import ModelSource
from tasks.core.errors import ContractViolation
from tasks.core.models import check_model
from tasks.core.processes import run_worker
from tasks.validate.config import SameMeaning
from tasks.validate.duplicates.duplicates import Duplicates, comparable
from tasks.validate.normal_form import normalise_texts
from tasks.validate.similarity import Positions, Texts, as_array

MEANING = "meaning"
MOST_TEXTS = 200_000
BLOCK = 2_048
"""Texts that are compared with as many others at a time: 16 MiB of similarities."""
TIMEOUT_S = 6 * 3600
NOT_KEPT = -2.0
"""Less than any similarity."""
ROUNDING = 1e-6
"""Rounding error of float32 in the similarity of a text to itself."""

Embeddings = NDArray[np.float32]


def add_same_meaning(
    texts: Texts, found: Duplicates, config: SameMeaning, folder: Path, log: Path, contexts: pa.Array | None = None
) -> Duplicates:
    """Add the rows that mean the same as an earlier row to the duplicates found so far.

    Args:
        texts: in order of precedence; those in which ``found`` was found.
        found: exact and near duplicates. If their original is dropped here, they get its original and the kind
            ``meaning``.
        folder: for temporary files.
        log: file for the embedding process's output.
        contexts: as in :func:`tasks.validate.duplicates.duplicates.find_duplicates`.

    Raises ContractViolation for more than :data:`MOST_TEXTS` rows, ModelError if the model cannot be loaded, and
    MemoryShortage, ChildError or WorkerError if the embedding process failed.
    """
    left = np.delete(np.arange(len(texts)), found.position)
    if len(left) > MOST_TEXTS:
        raise ContractViolation(
            f"{len(left):,} rows are too many to compare by meaning: each is compared with all others",
            where="validate.same_meaning",
            remedy=f"remove same_meaning from the recipe, or write at most {MOST_TEXTS:,} distinct rows",
        )
    if not len(left):
        return found
    asked = as_array(texts).take(pa.array(left))
    groups = comparable(normalise_texts(asked), None if contexts is None else contexts.take(pa.array(left)))
    embeddings = embed(asked, config.model, folder, log)
    kept_for = np.arange(len(texts))
    kept_for[left] = left[representatives(embeddings, groups, config.threshold)]
    kept_for[found.position] = kept_for[found.original]
    position = np.flatnonzero(kept_for != np.arange(len(texts)))
    kind = np.full(len(texts), MEANING, dtype=object)
    unmoved = kept_for[found.original] == found.original
    kind[found.position[unmoved]] = found.kind[unmoved]
    return Duplicates(position, kept_for[position], kind[position])


def embed(texts: pa.LargeStringArray, model: ModelSource, folder: Path, log: Path) -> Embeddings:
    """Embeddings of texts, (texts, hidden size), of length 1, or 0 for a text without tokens; from a child process."""
    check_model(model)
    source, out = folder / "meaning.parquet", folder / "meaning.npy"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts}), source)
    job = {"model": model.model_dump(mode="json"), "texts": str(source.resolve()), "out": str(out.resolve())}
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | ({"HF_HUB_OFFLINE": "1"} if model.is_local else {})
    worker = "tasks.validate.duplicates.meaning_worker"
    try:
        run_worker(worker, job, folder=folder, log=log, timeout_s=TIMEOUT_S, environment=environment)
        embeddings: Embeddings = np.load(out)
    finally:
        source.unlink()
        out.unlink(missing_ok=True)
    return embeddings


def representatives(embeddings: Embeddings, groups: Positions, threshold: float) -> Positions:
    """For each text the position of the text that is kept: itself, or the most similar earlier kept one.

    A text is dropped if and only if its cosine similarity to an earlier kept text of its group reaches the threshold.
    ``embeddings``, (texts, dimensions) of length 1 in order of precedence, are overwritten.
    """
    kept_for = np.arange(len(embeddings))
    # Positions of the kept texts; their embeddings are moved to the front of the array.
    kept: list[int] = []
    for start in range(0, len(embeddings), BLOCK):
        block = embeddings[start : start + BLOCK].copy()
        own_groups = groups[start : start + BLOCK]
        score, nearest = _nearest(block, own_groups, embeddings[: len(kept)], groups[kept])
        within = _similarities(block, own_groups, block, own_groups)
        keeps = []
        for own in range(len(block)):
            best, original = score[own], kept[nearest[own]] if kept else -1
            inside = int(within[own, :own].argmax()) if own else 0
            if own and within[own, inside] > best:
                best, original = within[own, inside], start + inside
            if best >= threshold - ROUNDING:
                kept_for[start + own] = original
                within[:, own] = NOT_KEPT
            else:
                keeps.append(own)
        embeddings[len(kept) : len(kept) + len(keeps)] = block[keeps]
        kept.extend(start + own for own in keeps)
    return kept_for


def _similarities(block: Embeddings, of_block: Positions, others: Embeddings, of_others: Positions) -> Embeddings:
    """Cosine similarities; :data:`NOT_KEPT` between texts of different groups."""
    similarity: Embeddings = block @ others.T
    similarity[of_block[:, None] != of_others] = NOT_KEPT
    return similarity


def _nearest(
    block: Embeddings, of_block: Positions, kept: Embeddings, of_kept: Positions
) -> tuple[Embeddings, Positions]:
    """The highest similarity of each text of a block to a kept text, and the first kept text that has it."""
    score = np.full(len(block), NOT_KEPT, dtype=np.float32)
    nearest = np.zeros(len(block), dtype=np.int64)
    for start in range(0, len(kept), BLOCK):
        similarity = _similarities(block, of_block, kept[start : start + BLOCK], of_kept[start : start + BLOCK])
        best = similarity.argmax(axis=1)
        found = similarity[np.arange(len(block)), best]
        higher = found > score
        score[higher], nearest[higher] = found[higher], start + best[higher]
    return score, nearest
