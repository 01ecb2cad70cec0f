"""Which split each document belongs to, and which of several copies stays: independent of the order of reading."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

TRAIN, HOLDOUT, DUPLICATE, SUPERSEDED, SAME_ID = "train", "holdout", "duplicate", "superseded", "duplicate_id"


@dataclass
class Index:
    """What is remembered of every readable document, in the order of reading.

    Attributes:
        ids: its id; of one that its source does not name, the digests of its input and its content.
        named: whether its source names it.
        inputs: digest of what goes in (the user's turns, or the texts where there is no conversation).
        contents: digest of the whole document.
        sources: the number of its source.
        versions: of two documents with one id in one source, the greater is the newer.
        held: whether a hash sets it aside.
    """

    ids: list[str] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)


def resolve(index: Index, held_ids: Collection[str], held_inputs: Collection[bytes]) -> np.ndarray:
    """Decide what becomes of every document.

    A document is held out if its hash says so, if its id or its input was held out before, or if another with the same
    input is: a text is on one side only. Of equal documents those held out before stay, else one whose hash says so,
    else the one with the smallest id. Of several versions of an id in one source the newest stays; of different
    documents with one id otherwise the one with the smallest digest.

    Args:
        index: all documents.
        held_ids: ids that were held out before.
        held_inputs: digests of inputs that were held out before.

    Returns:
        train, holdout, duplicate, superseded or duplicate_id, (documents,), in the order of the index.
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
