"""The embedding process: ``python -m tasks.validate.duplicates.meaning_worker job.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.base_model import padding_tokenizer, pinned, require_allowed_code
from tasks.core.config import ModelSource
from tasks.core.errors import MemoryShortage, ModelError
from tasks.core.processes import worker_main

MOST_TOKENS = 512
"""Tokens that are read from each text."""
BATCH_TOKENS = 8_192
"""Padding included."""
CHUNK = 50_000
"""Texts that are tokenised at a time."""


def embed(job: dict[str, Any]) -> dict[str, Any]:
    """Write the embedding of every text: the mean of the model's last hidden states over its tokens, of length 1.

    ``job``: ``model`` (path, revision), ``texts`` (Parquet with a column ``text``), ``out`` (a .npy file: float32,
    (texts, hidden size); zeros for a text without tokens). Returns ``texts`` and ``dimensions``.

    Raises ModelError if the model cannot be loaded, needs code that the recipe does not allow, or gives hidden states
    that are not finite; MemoryShortage without enough memory.
    """
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    source = ModelSource.model_validate(job["model"])
    texts = pq.read_table(job["texts"], columns=["text"])["text"]
    try:
        tokenizer, model = padding_tokenizer(source), _load(source)
        found = np.lib.format.open_memmap(
            job["out"], mode="w+", dtype=np.float32, shape=(len(texts), model.config.get_text_config().hidden_size)
        )
        for start in range(0, len(texts), CHUNK):
            chunk = texts.slice(start, CHUNK).to_pylist()
            ids = tokenizer(chunk, truncation=True, max_length=_most_tokens(model))["input_ids"]
            for batch in batches(list(map(len, ids))):
                found[start + batch] = pooled(model, [ids[number] for number in batch])
        found.flush()
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryShortage(
            "Out of memory while embedding", where=source.path, remedy="name a smaller model in validate.same_meaning"
        ) from error
    if not np.isfinite(found).all():
        raise ModelError("The model's hidden states are not finite", where=source.path, remedy="name another model")
    return {"texts": len(found), "dimensions": found.shape[1]}


def batches(lengths: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Positions of texts by rising length, in batches of at most :data:`BATCH_TOKENS`; empty texts are left out."""
    order = np.argsort(lengths, kind="stable")
    order = order[np.array(lengths, dtype=np.int64)[order] > 0]
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= BATCH_TOKENS:
            end += 1
        yield order[start:end]
        start = end


def pooled(model: Any, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """The mean of the last hidden states over the tokens of each text, scaled to length 1: (texts, hidden size)."""
    import torch

    tokens = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, own in enumerate(ids):
        tokens[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
    with torch.inference_mode():
        states = model(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device)).last_hidden_state
        weights = mask.to(model.device).unsqueeze(-1)
        means = (states * weights).sum(1) / weights.sum(1)
        scaled: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
    return scaled


def _load(source: ModelSource) -> Any:
    import torch
    from transformers import AutoModel

    require_allowed_code(source)
    try:
        model = AutoModel.from_pretrained(source.path, **pinned(source), dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model cannot be loaded: {error}",
            where=source.path,
            remedy="check validate.same_meaning.model.path and revision",
        ) from error
    return model.to("cuda:0" if torch.cuda.is_available() else "cpu").eval()


def _most_tokens(model: Any) -> int:
    return min(MOST_TOKENS, getattr(model.config.get_text_config(), "max_position_embeddings", MOST_TOKENS))


if __name__ == "__main__":
    worker_main(embed)
