"""Which rows are trained on, and how often: nested subsets, and the mix of collected, generated and replay data.

A hash of a row's id and the seed decides whether it is left out or repeated: the order of the rows does not matter, and
a new row changes little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.core.errors import TrainingError
from tasks.core.sources import belongs, is_any_of
from tasks.train.config import MixConfig

Counts = npt.NDArray[np.int64]
Amounts = npt.NDArray[np.float64]
REPLAY = "replay"
SLACK = 1e-9  # tolerance for floating-point sums of shares


@dataclass(frozen=True)
class Mixed:
    """Positions of the rows to train on, repeated ones several times, and a report.

    ``shares`` has ``group_of``, each row's group, and ``groups`` and ``sources`` by name: ``rows_before``,
    ``rows_after``, ``share_asked`` (or None), ``share_reached``, and ``repeats`` of the most repeated row.
    """

    positions: Counts
    shares: dict[str, Any]


def subset(
    example_ids: Sequence[str] | pd.Series, fraction: float, seed: int, strata: Sequence[int] | Counts | None = None
) -> Counts:
    """Sorted positions of a share of the rows, rounded and at least one; smaller subsets are part of larger ones.

    With ``strata`` of the rows (:func:`strata_of`), the fraction holds in each stratum, so all subsets have one mix.
    """
    codes = np.zeros(len(example_ids), dtype=np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    wanted = np.maximum(1, np.floor(fraction * np.bincount(codes) + 0.5 + SLACK)).astype(np.int64)
    return np.flatnonzero(_rank_within(codes, hashes(example_ids, seed)) < wanted[codes])


def mix(frame: pd.DataFrame, config: MixConfig, seed: int) -> Mixed:
    """Choose rows so that groups have the shares that the recipe asks for.

    Without shares and weights, every row is used once. A row whose source has weight w counts as w rows, at most
    ``max_upsampling``. With shares s_g of groups with n_g rows, the total is T = min(max n_g / s_g, max_upsampling
    min n_g / s_g): all rows of every group are used, unless another group would be repeated more than allowed. A
    source stops at ``max_upsampling``, and the other sources of its group fill up. Row counts are rounded by largest
    remainders; the remainder of a source goes to rows by hash. A fractional ``max_upsampling`` holds for a source's
    average, and rounded up for each row.

    The frame has ``example_id``, ``origin`` (collected or generated) and ``source``. Raises a TrainingError if a group
    with a share has no rows, a weight names an unknown source, or no row is left.
    """
    group_of = groups_of(frame, config.replay)
    parts = _parts(frame, group_of, config)
    if not config.shares and not config.source_weights:
        asked = np.full(len(parts), np.nan)
        repeats = np.ones(len(frame), dtype=np.int64)
    else:
        _refuse_unknown(parts, config)
        asked, counts = _counts(parts, config)
        codes = strata_of(frame, config.replay)
        whole, once_more = np.divmod(counts, parts["rows"].to_numpy())
        gets_one_more = _rank_within(codes, hashes(frame["example_id"], seed)) < once_more[codes]
        repeats = whole[codes] + gets_one_more.astype(np.int64)
    rounds = [np.flatnonzero(repeats > number) for number in range(repeats.max(initial=0))]
    positions = np.concatenate([np.empty(0, dtype=np.int64), *rounds])
    report = frame[["source"]].fillna("").assign(group=group_of, repeats=repeats)
    parts = parts.assign(asked=asked)
    shares = {"group_of": group_of.tolist()}
    return Mixed(positions, shares | {f"{by}s": _report(report, parts, by) for by in ("group", "source")})


def takes_part(frame: pd.DataFrame, config: MixConfig) -> npt.NDArray[np.bool_]:
    """Whether the mix uses a row at all: its group has a share, and its source a weight."""
    weights = {source: _weight(source, config) for source in frame["source"].fillna("").unique()}
    used = frame["source"].fillna("").map(weights) > 0
    if config.shares:
        used &= groups_of(frame, config.replay).map(lambda group: config.shares.get(group, 0.0)) > 0
    return used.to_numpy(dtype=np.bool_)


def groups_of(frame: pd.DataFrame, replay: Collection[str]) -> pd.Series:
    """Each row's group: replay if its source is a replay source, else its origin."""
    sources = frame["source"].fillna("")
    replayed = [name for name in sources.unique() if is_any_of(name, replay)]
    return frame["origin"].astype(object).mask(sources.isin(replayed).to_numpy(), REPLAY)


def strata_of(frame: pd.DataFrame, replay: Collection[str]) -> Counts:
    """A number for each row's group and source, in the order of their names."""
    sources = frame["source"].fillna("")
    return sources.groupby([groups_of(frame, replay), sources], sort=True).ngroup().to_numpy().astype(np.int64)


def _parts(frame: pd.DataFrame, group_of: pd.Series, config: MixConfig) -> pd.DataFrame:
    sources = frame["source"].fillna("")
    sizes = sources.groupby([group_of.rename("group"), sources.rename("source")], sort=True).size()
    parts = sizes.rename("rows").reset_index()
    weights = [min(_weight(source, config), config.max_upsampling) for source in parts["source"]]
    return parts.assign(weight=weights)


def _weight(source: str, config: MixConfig) -> float:
    named = [name for name in config.source_weights if belongs(source, name)]
    return config.source_weights[max(named, key=len)] if named else 1.0


def _refuse_unknown(parts: pd.DataFrame, config: MixConfig) -> None:
    usable = parts[parts["weight"] > 0].groupby("group")["rows"].sum()
    listed = ", ".join(f"{rows:,} {group} rows" for group, rows in usable.items())
    for group, share in config.shares.items():
        if share and group not in usable:
            what = f"The mix asks for {share:.0%} {group} rows, and the training set has none to train on"
            has = f"it has {listed or 'none whose source weighs more than 0'}"
            remedy = f"{has}: change the shares, or collect or generate such rows"
            raise TrainingError(what, where="train.mix.shares", remedy=remedy)
    known = sorted(set(parts["source"]) - {""})
    if unknown := sorted(name for name in config.source_weights if not any(belongs(source, name) for source in known)):
        what = f"The training set has no rows of the source {unknown[0]!r}, which has a weight"
        remedy = f"its sources are {', '.join(known) or 'unknown'}"
        raise TrainingError(what, where="train.mix.source_weights", remedy=remedy)
    if usable.empty:
        what = "Every source of the training set weighs 0: no row is left"
        remedy = "give at least one source a weight above 0"
        raise TrainingError(what, where="train.mix.source_weights", remedy=remedy)


def _counts(parts: pd.DataFrame, config: MixConfig) -> tuple[Amounts, Counts]:
    weighted = parts.assign(weighted=parts["rows"] * parts["weight"])[parts["weight"] > 0]
    groups = weighted.groupby("group")[["rows", "weighted"]].sum()
    if config.shares:
        share = groups.index.map(lambda group: config.shares.get(group, 0.0)).to_numpy(dtype=np.float64)
    else:
        share = groups["weighted"].to_numpy(dtype=np.float64)
    share = share / share.sum()
    shared = share > 0
    longest = (groups["weighted"].to_numpy()[shared] / share[shared]).max()
    allowed = config.max_upsampling * (groups["rows"].to_numpy()[shared] / share[shared]).min()
    total = max(1, int(min(longest, allowed) * (1 + SLACK)))
    totals = dict(zip(groups.index, _rounded(share * total, total), strict=True))

    asked, counts = np.zeros(len(parts)), np.zeros(len(parts), dtype=np.int64)
    most = np.ceil(config.max_upsampling * parts["rows"].to_numpy() - SLACK)
    for name, group in weighted.groupby("group"):
        amount = group["weighted"].to_numpy(dtype=np.float64)
        asked[group.index] = amount / amount.sum() * share[groups.index.get_loc(name)]
        filled = _filled(amount, most[group.index], int(totals[name]))
        counts[group.index] = _rounded(filled, int(totals[name]))
    return asked, counts


def _filled(amount: Amounts, most: Amounts, total: int) -> Amounts:
    """``total`` in proportion to ``amount``, each capped at its ``most``; the others take the rest."""
    result = np.zeros_like(amount)
    free = np.ones(len(amount), dtype=bool)
    while free.any():
        result[free] = (total - result[~free].sum()) * amount[free] / amount[free].sum()
        over = free & (result > most)
        if not over.any():
            break
        result[over] = most[over]
        free &= ~over
    return result


def _rounded(quota: Amounts, total: int) -> Counts:
    """Integers that sum to ``total``, by largest remainders."""
    down = np.floor(quota + SLACK).astype(np.int64)
    order = np.argsort(-(quota - down), kind="stable")
    down[order[: total - int(down.sum())]] += 1
    return down


def _report(rows: pd.DataFrame, parts: pd.DataFrame, by: str) -> dict[str, dict[str, Any]]:
    found = rows.groupby(by, sort=True)["repeats"].agg(["size", "sum", "max"])
    asked = parts.groupby(by, sort=True)["asked"].sum(min_count=1)
    total = int(found["sum"].sum())
    return {
        str(name): {
            "rows_before": int(before),
            "rows_after": int(after),
            "share_asked": None if asked.isna()[name] else float(asked[name]),
            "share_reached": after / total,
            "repeats": int(most),
        }
        for name, before, after, most in found.itertuples()
    }


def hashes(ids: Sequence[str] | pd.Series, salt: object) -> npt.NDArray[np.uint64]:
    """A hash of each id, evenly distributed."""
    key = hashlib.sha256(str(salt).encode()).hexdigest()[:16]
    return pd.util.hash_array(np.asarray(ids, dtype=object), hash_key=key, categorize=False)


def _rank_within(codes: Counts, hashes: npt.NDArray[np.uint64]) -> Counts:
    order = np.lexsort((hashes, codes))
    sizes = np.bincount(codes)
    ranks = np.empty(len(codes), dtype=np.int64)
    ranks[order] = np.arange(len(codes)) - (np.cumsum(sizes) - sizes)[codes[order]]
    return ranks
