"""Ten nights of a generator that slowly collapses: no night moves far, and the run is stopped all the same.

With real profiles, the shipped contract in a real checkpoint and a real registry; training and evaluation are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

import pytest

from flows.night.champion import earlier_publications
from flows.night.jobs import training_set_job
from flows.recipe.read import read_recipe
from flows.report.page import write_page
from flows.report.record import RunRecord
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import ContractViolation
from tasks.core.files import write_json
from tasks.core.stage import StageResult, run_stage
from tasks.publish.history import TRAINING_PROFILE
from tasks.publish.publish import PublishJob, publish
from tasks.publish.registry import Registry
from tasks.validate.drift.profile import PROFILE
from tests.mlflow_store import home_with_store
from tests.unit.validate.drift.profiles import WORDS, training_rows, write_validated

NIGHTS = 10
ROWS = 500
Rows = list[tuple[str, str]]


class Nights:
    """A recipe's nights, each with a training set of its own; what passes its check is published."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, home_with_store(root / "home")
        self.recipe = read_recipe("embedded")
        self.registry = Registry(self.home, self.recipe.publish.name)
        self.records: list[RunRecord] = []

    def check(self, validated: ArtifactRef) -> StageResult:
        """Check a training set as the night does, and record what came of it."""
        record = RunRecord.start(self.home, "embedded", f"{len(self.records):06}")
        self.records.append(record)
        earlier = earlier_publications(self.registry, self.recipe, validated)
        try:
            done = run_stage(training_set_job(self.recipe, validated, earlier), self.home, record.run_id)
        except ContractViolation as error:
            record.fail(error)
            raise
        else:
            record.stage("check_training_set", done.ref, done.seconds, done.cached)
        finally:
            write_page(record)
        return done

    def publish(self, validated: ArtifactRef) -> None:
        """Publish an adapter that stands for one that learned from this training set."""
        name = validated.digest
        folder = self.root / "publish" / name
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        (folder / "adapter" / "weights").write_text(name)
        (folder / "adapter" / "adapter_config.json").write_text("{}")
        (folder / TRAINING_PROFILE).write_bytes((validated.folder / PROFILE).read_bytes())
        write_json(folder / "manifest.json", {"summary": {"details": {}}})
        write_json(folder / "evaluation.json", {"decision": "publish"})
        write_json(folder / "lineage.json", {"artifacts": [{"stage": "validate", "digest": name}]})
        ref = ArtifactRef("publish", name, str(folder), name, 1)
        training = {"method": "qlora"}
        job = PublishJob(self.recipe.publish, "embedded", self.recipe.model, training, ref, None, validated, ref, ref)
        assert publish(job, ref, self.registry)[1]

    def live(self, rows_of: Callable[[int], Rows], checked: Container[int]) -> int | None:
        """Night after night; the number of the night that was stopped, or None.

        Only the nights in ``checked`` are checked, which takes seconds; the others are published as they are.
        """
        for night in range(NIGHTS):
            validated = write_validated(self.root / f"night-{night}", rows_of(night), f"night-{night}")
            try:
                if night in checked:
                    self.check(validated)
            except ContractViolation:
                return night
            self.publish(validated)
        return None


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def steady(night: int) -> Rows:
    return training_rows(ROWS + 20 * (night % 3), night)


def one_label_grows(night: int) -> Rows:
    return training_rows(ROWS, night, weights=(1 + night / 2, 1, 1, 1))


def texts_grow(night: int) -> Rows:
    return training_rows(ROWS, night, length=round(10 * 1.08**night))


def words_are_forgotten(night: int) -> Rows:
    return training_rows(ROWS, night, words=WORDS[: len(WORDS) - 3 * night])


def a_pattern_spreads(night: int) -> Rows:
    """More rows every night are the same sentence with another word in it."""
    rows = training_rows(ROWS, night)
    patterned = night * ROWS // 25
    said = [f"please can somebody tell me what has happened to my {user.split()[0]}" for user, _ in rows]
    return [(said[at] if at < patterned else user, label) for at, (user, label) in enumerate(rows)]


def test_a_steady_generator_is_never_stopped(nights: Nights) -> None:
    assert nights.live(steady, checked=(1, 5, NIGHTS - 1)) is None
    last = nights.records[-1].stages["check_training_set"]
    assert last["compared_with"] == {"the last published version": "9", "the baseline version": "1"}
    assert not last.get("warnings")


@pytest.mark.parametrize(
    ("generator", "stopped", "measures"),
    [
        (one_label_grows, 7, ["label_distance"]),
        (texts_grow, 3, ["user_length_distance"]),
        (words_are_forgotten, 3, ["distinct_change", "self_similarity_change"]),
        (a_pattern_spreads, 7, ["distinct_change", "self_similarity_change"]),
    ],
)
def test_a_slow_collapse_is_stopped_within_ten_nights_and_the_report_says_why(
    nights: Nights, generator: Callable[[int], Rows], stopped: int, measures: list[str]
) -> None:
    assert nights.live(generator, checked=range(stopped - 1, NIGHTS)) == stopped, (
        "the night before is within the limits"
    )
    record = nights.records[-1]
    assert record.status == "failed" and record.error is not None
    page = (Path(record.folder) / "report.md").read_text(encoding="utf-8")
    said = [line for line in record.error.splitlines() if " is allowed, against version " in line]
    assert said and all("_since_baseline is " in line and "against version 1: " in line for line in said)
    assert any(measure in line for line in said for measure in measures)
    assert all(line.strip() in page for line in said)


def test_a_night_without_news_is_found_done_and_a_rollback_compares_with_the_restored_champion(nights: Nights) -> None:
    first, second, third = (
        write_validated(nights.root / f"set-{number}", training_rows(ROWS, number), f"set-{number}")
        for number in (1, 2, 3)
    )

    def compared(validated: ArtifactRef) -> tuple[bool, str | None, str | None]:
        done = nights.check(validated)
        found = done.ref.manifest()["summary"]["details"]["compared_with"]
        return done.cached, found.get("the last published version"), found.get("the baseline version")

    assert compared(first) == (False, None, None)
    nights.publish(first)
    assert compared(first) == (True, None, None), "it is not compared with itself"
    assert compared(second) == (False, "1", "1")
    nights.publish(second)
    assert compared(second) == (True, "1", "1")
    assert compared(third) == (False, "2", "1")
    nights.publish(third)
    assert compared(third) == (True, "2", "1")
    nights.registry.roll_back()
    assert compared(third) == (True, "2", "1"), "the restored champion is what it was compared with"
    nights.registry.roll_back("1")
    assert compared(third) == (False, "1", "1")
    nights.registry.roll_back("none")
    assert compared(third) == (False, None, None)


def test_another_adapter_from_the_same_training_set_does_not_make_it_its_own_measure(nights: Nights) -> None:
    first, second = (
        write_validated(nights.root / f"set-{number}", training_rows(ROWS, number), f"set-{number}")
        for number in (1, 2)
    )
    nights.publish(first)
    nights.publish(second)
    again = write_validated(nights.root / "again", training_rows(ROWS, 2), "again")
    nights.publish(again)  # version 3, by another training of the rows of version 2
    lineage = {"artifacts": [{"stage": "validate", "digest": second.digest}]}
    write_json(nights.root / "publish" / "again" / "lineage.json", lineage)
    found = nights.check(second).ref.manifest()["summary"]["details"]
    assert found["compared_with"] == {"the last published version": "1", "the baseline version": "1"}
