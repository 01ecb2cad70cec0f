"""``retune quarantine replay``: a contract that was changed is held against the same rows, and nobody is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from flows.report.record import RunRecord
from retune.quarantine.counts import count_lost_rows
from retune.quarantine.replay import replay
from retune.quarantine.run_files import find_run
from tasks.core.errors import BusyError, ContractViolation, RecipeError
from tests.flows.small_night import LONG_RULE, SHORT_RULE, SmallNight, small_night

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return small_night(tmp_path)


def set_floor(night: SmallNight, rows: int) -> None:
    path = Path(night.recipe_file)
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["validate"]["minimum_rows"] = rows
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def test_a_looser_contract_recovers_rows_without_asking_and_the_next_run_goes_on_from_there(night: SmallNight) -> None:
    night.run()
    asked = len(night.teacher.bodies)
    night.write_row_contract(least=5)
    done = replay(find_run(night.home, None), night.home)
    assert done.rows is not None
    assert (done.rows.recovered, done.rows.quarantined) == ({SHORT_RULE: 1}, {})
    assert done.rows.went_to == {"training set": 1, "duplicates": 0, "contaminated": 0}
    assert (done.before, done.training_set, done.asks_again, done.was_there) == (2, 3, False, False)
    after = night.run()
    assert after.stages["validate"]["cached"] and after.stages["validate"]["path"] == done.path
    assert len(night.teacher.bodies) == asked


def test_a_stricter_contract_quarantines_more_and_says_by_which_rule(night: SmallNight) -> None:
    first = night.run()
    night.write_row_contract(least=12, most=45)
    done = replay(find_run(night.home, first.run_id), night.home)
    assert done.rows is not None and done.rows.recovered == {}
    assert list(done.rows.quarantined) == [LONG_RULE] and done.training_set == 1
    again = replay(find_run(night.home, first.run_id), night.home)
    assert again.was_there and again.rows == done.rows


def test_documents_are_checked_again_too_and_then_the_teacher_has_to_be_asked(night: SmallNight) -> None:
    night.run()
    night.write_document_contract("nobody writes this")
    done = replay(find_run(night.home, None), night.home)
    assert done.documents.recovered == {"nothing internal": 2} and done.asks_again
    assert done.rows is not None and done.rows.recovered == {}


def test_a_night_that_validation_stopped_is_replayed_from_its_evidence(night: SmallNight) -> None:
    set_floor(night, 3)
    with pytest.raises(ContractViolation, match="Too little is left"):
        night.run()
    failed = find_run(night.home, None)
    assert failed.record.status == "failed" and "logs" in str(failed.folders["validate"])
    with pytest.raises(ContractViolation, match="Too little is left"):
        replay(failed, night.home)
    night.write_row_contract(least=5)
    done = replay(failed, night.home)
    assert done.rows is not None and done.rows.recovered == {SHORT_RULE: 1}
    assert (done.before, done.training_set) == (None, 3)
    assert night.run().stages["validate"]["path"] == done.path


def test_a_night_that_was_stopped_at_its_documents_has_these_checked_again(night: SmallNight) -> None:
    night.write_document_contract(mostly=0.99)
    with pytest.raises(ContractViolation, match="nothing internal"):
        night.run()
    stopped = find_run(night.home, None)
    assert count_lost_rows(stopped).rows["check_documents"] == {"quarantined": 2}
    night.write_document_contract("msg-95")
    done = replay(stopped, night.home)
    assert (done.rows, done.training_set, done.before) == (None, None, None)
    assert (done.documents.recovered, done.documents.quarantined) == ({"nothing internal": 2}, {})


def test_a_contract_of_another_recipe_can_be_tried(night: SmallNight) -> None:
    night.run()
    night.write_row_contract(least=5)
    shutil.copy(night.folder / "rows.odcs.yaml", night.folder / "loose.odcs.yaml")
    night.write_row_contract()
    text = Path(night.recipe_file).read_text(encoding="utf-8").replace("rows.odcs.yaml", "loose.odcs.yaml")
    (night.folder / "loose.yaml").write_text(text, encoding="utf-8")
    files = find_run(night.home, None)
    own, other = replay(files, night.home), replay(files, night.home, str(night.folder / "loose.yaml"))
    assert own.was_there and own.recipe == night.recipe_file
    assert other.training_set == 3 and other.recipe == str(night.folder / "loose.yaml")


def test_what_cannot_be_replayed_is_said(night: SmallNight) -> None:
    record = night.run()
    files = find_run(night.home, None)
    with FileLock(night.home.root / "run.lock"), pytest.raises(BusyError, match="Another run is under way"):
        replay(files, night.home)
    shutil.rmtree(record.stages["generate"]["path"])
    with pytest.raises(RecipeError, match=r"generate stage .* is gone") as caught:
        replay(find_run(night.home, None), night.home)
    assert "retune run" in caught.value.remedy
    record.started_as = str(night.folder / "gone.yaml")
    record.write()
    with pytest.raises(RecipeError, match="There is no recipe"):
        replay(find_run(night.home, None), night.home)


def test_the_record_remembers_the_recipe_s_file(night: SmallNight) -> None:
    assert RunRecord.start(night.home, night.recipe_file, "").started_as == night.recipe_file
    assert RunRecord.start(night.home, "embedded", "").started_as == "embedded"
