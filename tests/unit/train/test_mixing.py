"""Subsets and mixes: exact, capped, nested, and the same whatever the order of the rows."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import TrainingError
from tasks.train.config import MixConfig
from tasks.train.mixing import Mixed, groups_of, mix, strata_of, subset


def new_frame(**parts: int) -> pd.DataFrame:
    """Rows by ``origin__source``: ``new_frame(collected__faq=3)``."""
    keys = [name.split("__") for name, rows in parts.items() for _ in range(rows)]
    return pd.DataFrame(
        {
            "example_id": [f"e{number}" for number in range(len(keys))],
            "origin": [origin for origin, _ in keys],
            "source": [source or None for _, source in keys],
        }
    )


def repeats_of(frame: pd.DataFrame, mixed: Mixed) -> dict[str, int]:
    return dict(Counter(frame["example_id"].iloc[mixed.positions]))


frames = st.lists(
    st.tuples(st.sampled_from(["collected", "generated"]), st.sampled_from(["faq", "web", "general", ""])), min_size=1
).map(
    lambda keys: pd.DataFrame(
        {
            "example_id": [f"e{number}" for number in range(len(keys))],
            "origin": [origin for origin, _ in keys],
            "source": [source or None for _, source in keys],
        }
    )
)


@st.composite
def frames_and_mixes(draw: st.DrawFn) -> tuple[pd.DataFrame, MixConfig]:
    """A frame, and a mix that asks for nothing that it lacks."""
    frame = draw(frames)
    replay = draw(st.sampled_from([(), ("general",)]))
    groups = sorted(set(groups_of(frame, replay)))
    parts = draw(st.lists(st.integers(0, 20), min_size=len(groups), max_size=len(groups)))
    shares = {name: part / sum(parts) for name, part in zip(groups, parts, strict=True)} if any(parts) else {}
    sources = sorted(set(frame["source"].dropna()))
    weighted = draw(st.lists(st.sampled_from(sources), unique=True)) if sources else []
    stated: dict[str, Any] = {
        "shares": shares,
        "replay": replay,
        "source_weights": {source: draw(st.floats(0.1, 8)) for source in weighted},
        "max_upsampling": draw(st.sampled_from([1, 1.5, 2, 4])),
    }
    return frame, MixConfig.model_validate(stated)


@settings(deadline=None)
@given(frames_and_mixes(), st.integers(0, 3))
def test_the_report_is_what_the_positions_say_and_nothing_is_repeated_too_often(
    drawn: tuple[pd.DataFrame, MixConfig], seed: int
) -> None:
    frame, config = drawn
    mixed = mix(frame, config, seed)
    times = np.bincount(mixed.positions, minlength=len(frame))
    assert 1 <= times.max() <= ceil(config.max_upsampling)
    for by, keys in (("groups", groups_of(frame, config.replay)), ("sources", frame["source"].fillna(""))):
        report = mixed.shares[by]
        assert set(report) == set(keys)
        assert sum(row["rows_after"] for row in report.values()) == len(mixed.positions)
        assert sum(row["share_reached"] for row in report.values()) == pytest.approx(1)
        for name, row in report.items():
            mine = times[(keys == name).to_numpy()]
            assert (row["rows_before"], row["rows_after"], row["repeats"]) == (len(mine), mine.sum(), mine.max())


@settings(deadline=None)
@given(frames_and_mixes())
def test_shares_are_reached_to_within_one_row(drawn: tuple[pd.DataFrame, MixConfig]) -> None:
    frame, config = drawn
    mixed = mix(frame, config, 1)
    for name, row in mixed.shares["groups"].items():
        if config.shares:
            assert row["share_asked"] == pytest.approx(config.shares.get(name, 0))
            assert abs(row["rows_after"] - row["share_asked"] * len(mixed.positions)) < 1


@settings(deadline=None)
@given(frames_and_mixes())
def test_rows_of_a_source_come_equally_often_but_for_one_time(drawn: tuple[pd.DataFrame, MixConfig]) -> None:
    frame, config = drawn
    times = pd.Series(np.bincount(mix(frame, config, 1).positions, minlength=len(frame)))
    spread = times.groupby(strata_of(frame, config.replay)).agg(lambda part: part.max() - part.min())
    assert spread.max() <= 1


@settings(deadline=None)
@given(frames_and_mixes(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(drawn: tuple[pd.DataFrame, MixConfig], random: Any) -> None:
    frame, config = drawn
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = frame.iloc[order].reset_index(drop=True)
    one, other = mix(frame, config, 5), mix(shuffled, config, 5)
    assert repeats_of(frame, one) == repeats_of(shuffled, other)
    assert {**one.shares, "group_of": None} == {**other.shares, "group_of": None}


@settings(deadline=None)
@given(frames, st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), st.booleans())
def test_a_smaller_subset_lies_within_a_larger_one(
    frame: pd.DataFrame, fractions: tuple[float, float], by_strata: bool
) -> None:
    strata = strata_of(frame, ()) if by_strata else None
    small, large = (subset(frame["example_id"], fraction, 3, strata) for fraction in sorted(fractions))
    assert len(small) >= 1
    assert set(small) <= set(large)
    assert list(large) == sorted(set(large))


def test_a_subset_has_the_share_asked_for_and_another_seed_draws_another() -> None:
    ids = [f"e{number}" for number in range(1000)]
    assert [len(subset(ids, share, 1)) for share in (0.0001, 0.25, 0.5, 1.0)] == [1, 250, 500, 1000]
    common = len(set(subset(ids, 0.5, 1)) & set(subset(ids, 0.5, 2)))
    assert 200 < common < 300
    assert [ids[position] for position in subset(ids, 0.25, 1)] == sorted(
        (ids[::-1][position] for position in subset(ids[::-1], 0.25, 1)), key=ids.index
    )


def test_a_subset_by_strata_keeps_the_shares_and_loses_no_source() -> None:
    frame = new_frame(collected__faq=400, generated__faq=100, collected__tiny=2)
    small = frame.iloc[subset(frame["example_id"], 0.1, 1, strata_of(frame, ()))]
    assert small.groupby(["origin", "source"]).size().to_dict() == {
        ("collected", "faq"): 40,
        ("collected", "tiny"): 1,
        ("generated", "faq"): 10,
    }


def test_another_process_draws_the_same_subset() -> None:
    code = "from tasks.train.mixing import subset; print(*subset([f'e{n}' for n in range(40)], 0.3, 7))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert [int(position) for position in printed.split()] == list(subset([f"e{n}" for n in range(40)], 0.3, 7))


def test_without_shares_every_row_comes_once_in_order() -> None:
    frame = new_frame(generated__faq=2, collected__web=3)
    mixed = mix(frame, MixConfig(replay=("web",)), 1)
    assert list(mixed.positions) == [0, 1, 2, 3, 4]
    assert mixed.shares["group_of"] == ["generated"] * 2 + ["replay"] * 3
    assert mixed.shares["groups"]["replay"] == {
        "rows_before": 3, "rows_after": 3, "share_asked": None, "share_reached": 0.6, "repeats": 1,
    }  # fmt: skip


def test_the_group_that_its_share_makes_largest_is_used_whole_and_the_other_repeated() -> None:
    frame = new_frame(collected__faq=100, generated__faq=900, generated__web=100)
    mixed = mix(frame, MixConfig(shares={"collected": 0.2, "generated": 0.8}), 1)
    groups = mixed.shares["groups"]
    assert [groups[name]["rows_after"] for name in ("collected", "generated")] == [250, 1000]
    assert [groups[name]["repeats"] for name in ("collected", "generated")] == [3, 1]


def test_the_limit_of_repeats_makes_the_whole_smaller() -> None:
    frame = new_frame(collected__faq=100, generated__faq=10)
    mixed = mix(frame, MixConfig(shares={"collected": 0.5, "generated": 0.5}, max_upsampling=2), 1)
    assert repeats_of(frame, mixed) == {f"e{n}": 2 for n in range(100, 110)} | {
        name: 1 for name in frame["example_id"].iloc[mixed.positions] if int(name[1:]) < 100
    }
    assert len(mixed.positions) == 40


def test_a_group_without_a_share_is_left_out_and_reported() -> None:
    frame = new_frame(collected__faq=4, generated__faq=6)
    mixed = mix(frame, MixConfig(shares={"collected": 1.0}), 1)
    assert list(mixed.positions) == [0, 1, 2, 3]
    left_out = mixed.shares["groups"]["generated"]
    assert (left_out["rows_before"], left_out["rows_after"], left_out["share_asked"]) == (6, 0, 0.0)


def test_replay_is_a_group_by_source_and_mixed_like_the_others() -> None:
    frame = new_frame(collected__faq=90, collected__general=50)
    config = MixConfig(shares={"collected": 0.9, "replay": 0.1}, replay=("general",))
    groups = mix(frame, config, 1).shares["groups"]
    assert (groups["collected"]["rows_after"], groups["replay"]["rows_after"]) == (360, 40)


def test_weights_without_shares_repeat_or_thin_out_a_source() -> None:
    frame = new_frame(collected__faq=10, collected__web=10, collected__old=10, generated__none=10)
    mixed = mix(frame, MixConfig(source_weights={"faq": 2, "web": 0.5, "old": 0}), 1)
    after = {name: row["rows_after"] for name, row in mixed.shares["sources"].items()}
    assert after == {"faq": 20, "web": 5, "old": 0, "none": 10}


def test_the_files_of_a_named_folder_are_meant_by_its_name() -> None:
    frame = new_frame(**{"collected__general/a.jsonl": 6, "collected__general/b.jsonl": 4, "collected__generals": 10})
    assert groups_of(frame, ("general",)).tolist() == ["replay"] * 10 + ["collected"] * 10
    mixed = mix(frame, MixConfig(source_weights={"general": 2, "general/b.jsonl": 0}), 1)
    after = {name: row["rows_after"] for name, row in mixed.shares["sources"].items()}
    assert after == {"general/a.jsonl": 12, "general/b.jsonl": 0, "generals": 10}


def test_a_source_at_the_limit_leaves_room_to_the_others_of_its_group() -> None:
    frame = new_frame(collected__rare=10, collected__web=200, generated__faq=200)
    shares = {"collected": 0.5, "generated": 0.5}
    mixed = mix(frame, MixConfig(shares={**shares}, source_weights={"rare": 100, "web": 0.1}, max_upsampling=4), 1)
    rows = mixed.shares["sources"]
    assert rows["rare"]["rows_after"] == 40
    assert rows["web"]["rows_after"] == rows["faq"]["rows_after"] - 40
    assert rows["rare"]["share_asked"] > rows["rare"]["share_reached"]


def test_a_share_of_rows_that_do_not_exist_names_those_that_do() -> None:
    frame = new_frame(collected__faq=1200)
    with pytest.raises(TrainingError, match=r"asks for 40% generated rows(.|\n)*1,200 collected rows"):
        mix(frame, MixConfig(shares={"collected": 0.6, "generated": 0.4}), 1)


def test_a_weight_for_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"'tickets'(.|\n)*faq, web"):
        mix(new_frame(collected__faq=1, generated__web=1), MixConfig(source_weights={"tickets": 2}), 1)


def test_weights_of_zero_alone_leave_nothing_and_say_so() -> None:
    with pytest.raises(TrainingError, match="weighs 0"):
        mix(new_frame(collected__faq=3), MixConfig(source_weights={"faq": 0}), 1)


def test_a_million_rows_are_mixed_without_a_loop_over_them() -> None:
    rows = 1_000_000
    frame = pd.DataFrame({"example_id": np.arange(rows).astype(str), "origin": "collected", "source": "faq"})
    frame.loc[: rows // 4, "origin"] = "generated"
    mixed = mix(frame, MixConfig(shares={"collected": 0.5, "generated": 0.5}), 1)
    assert [row["rows_after"] for row in mixed.shares["groups"].values()] == [749_999, 749_999]


def test_an_empty_training_set_gives_nothing() -> None:
    frame = new_frame()
    assert len(mix(frame, MixConfig(), 1).positions) == 0
