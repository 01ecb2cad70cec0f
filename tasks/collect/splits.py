"""Decide the split of each document and which duplicate stays, independent of the reading order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

TRAIN, HOLDOUT, DUPLICATE, SUPERSEDED, SAME_ID = "train", "holdout", "duplicate", "superseded", "duplicate_id"


@dataclass
class Index:
    """What is remembered of every usable document, in reading order.

    Attributes:
        ids: source-given id, else the digests of input and content.
        named: whether the source gives the id.
        inputs: digest of the input (the user's turns, or the texts without a conversation).
        contents: digest of the whole document.
        sources: number of its source.
        versions: among documents with one id in one source, the greatest is the newest.
        held: whether the hash holds it out.
    """

    ids: list[str] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)


def resolve(index: Index, held_ids: Collection[str], held_inputs: Collection[bytes]) -> np.ndarray:
    """Decide the outcome of every document.

    A document is held out if its hash says so, if its id or input was held out before, or if another document with the
    same input is held out: an input is on one side only. Among equal documents the one held out before stays, else one
    that its hash holds out, else the one with the smallest id. Among versions of an id in one source the newest stays;
    among other different documents with one id, the one with the smallest digest. ``held_ids``: ids held out before.
    ``held_inputs``: digests of inputs held out before.

    Returns:
        train, holdout, duplicate, superseded or duplicate_id, shape (documents,), in the order of the index.
    """
    table = pd.DataFrame(
        {
            "id": pd.Series(index.ids, dtype=object),
            "input": pd.Series(index.inputs, dtype=object),
            "content": pd.Series(index.contents, dtype=object),
            "source": np.array(index.sources, dtype=np.int64),
            "version": np.array(index.versions, dtype=np.int64),
            "held": np.array(index.held, dtype=bool),
        }
    )
    outcome = pd.Series(TRAIN, index=table.index, dtype=object)
    newest = table.groupby(["id", "source"])["version"].transform("max")
    outcome[table["version"] < newest] = SUPERSEDED

    standing = table[outcome == TRAIN]
    first = standing.sort_values(["id", "content"], kind="stable").groupby("id")["content"].transform("first")
    outcome[standing.index[standing["content"] != first.reindex(standing.index)]] = SAME_ID

    standing = table[outcome == TRAIN]
    known = standing["id"].isin(held_ids)
    held = standing["held"] | known | standing["input"].isin(held_inputs)
    held = standing["input"].isin(standing.loc[held, "input"])
    outcome[standing.index[held]] = HOLDOUT

    ordered = standing.assign(known=known).sort_values(
        ["known", "held", "id"], ascending=[False, False, True], kind="stable"
    )
    copies = ordered.duplicated("content") & (~ordered["known"] | ordered.duplicated(["id", "content"]))
    outcome[ordered.index[copies]] = DUPLICATE
    return outcome.to_numpy()
