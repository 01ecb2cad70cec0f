"""The ledger: what was held out once is held out for good, and a night without news has the key of the one before."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.collect.collect import CollectJob
from tasks.collect.config import CollectConfig
from tasks.collect.held_out_documents import HeldBefore
from tasks.core.artifacts import ArtifactStore
from tasks.core.config import ChatTask
from tasks.core.errors import SourceError
from tasks.core.home import Home
from tasks.core.messages import plain
from tasks.core.stage import StageContext

TOKENS = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")


class Nights:
    """Collections of one recipe, night after night, in a home of their own."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder, self.home, self.config = folder, Home(folder / "home"), config

    def job(self) -> CollectJob:
        source = {"path": str(self.folder / "rows.jsonl")}
        config = {"sources": [source], "columns": {"text": "text", "answer": "answer"}, **self.config}
        task = ChatTask(input="text", output="answer")
        return CollectJob(CollectConfig.model_validate(config), task, TOKENS, "recipe", self.home)

    def collect(self, rows: list[dict[str, str]]) -> dict[str, list[dict[str, Any]]]:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "rows.jsonl").write_text(text, encoding="utf-8")
        job = self.job()
        key = job.key()
        store = ArtifactStore(self.home.artifacts)
        context = StageContext(self.home, "r", key.hex)
        ref = store.find(key) or store.write(key, lambda folder: job.fill(folder, context))
        self.key, self.details = ref.key, ref.manifest()["summary"]["details"]
        return {name: pq.read_table(ref.folder / f"{name}.parquet").to_pylist() for name in ("train", "holdout")}


def rows_of(*numbers: int) -> list[dict[str, str]]:
    return [{"id": str(number), "text": f"text {number}", "answer": f"answer {number}"} for number in numbers]


def texts(rows: list[dict[str, Any]]) -> set[str]:
    return {row["text"] for row in rows}


def test_a_ledger_of_turns_without_weights_is_read(tmp_path: Path) -> None:
    """As collections before version 3 wrote it."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    table = pa.Table.from_pylist([{"document_id": "7", "named": True, "stands": True, "messages": turns}])
    pq.write_table(table, tmp_path / "ledger.parquet")
    held = HeldBefore.read(tmp_path / "ledger.parquet")
    assert held.ids == {"7"} and plain(held.table["messages"].to_pylist()[0]) == turns


def test_a_night_without_news_finds_the_artifact_of_the_night_before(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.collect(rows_of(*range(20)))
    first = nights.key
    nights.collect(rows_of(*range(20)))
    assert nights.key == first
    nights.collect(rows_of(*range(21)))
    second = nights.key
    nights.collect(rows_of(*range(21)))
    assert nights.key == second != first


def test_a_document_that_left_its_source_stays_in_the_holdout(tmp_path: Path) -> None:
    nights = Nights(tmp_path, id_column="id")
    before = nights.collect(rows_of(*range(40)))
    after = nights.collect(rows_of(*range(100, 110)))
    assert texts(before["holdout"]) <= texts(after["holdout"])
    assert nights.details["gone_but_held_out"] == len(before["holdout"]) > 0
    assert not texts(before["train"]) & texts(after["train"])


def test_a_changed_document_of_the_holdout_stays_there_with_its_new_words(tmp_path: Path) -> None:
    nights = Nights(tmp_path, id_column="id")
    name = nights.collect(rows_of(*range(40)))["holdout"][0]["document_id"]
    changed = [{**row, "text": "new words"} if row["id"] == name else row for row in rows_of(*range(40))]
    after = nights.collect(changed)
    assert [row["text"] for row in after["holdout"] if row["document_id"] == name] == ["new words"]
    assert nights.details["gone_but_held_out"] == 0


def test_a_smaller_fraction_gives_nothing_back_to_training(tmp_path: Path) -> None:
    nights = Nights(tmp_path, id_column="id", holdout_fraction=0.5)
    before = nights.collect(rows_of(*range(60)))
    nights.config["holdout_fraction"] = 0.1
    after = nights.collect(rows_of(*range(60)))
    assert texts(before["holdout"]) <= texts(after["holdout"])


def test_a_new_answer_to_a_held_out_input_is_held_out(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    held = nights.collect(rows_of(*range(30)))["holdout"][0]
    after = nights.collect([*rows_of(*range(30)), {"id": "x", "text": held["text"].upper(), "answer": "another"}])
    assert {"another"} <= {row["answer"] for row in after["holdout"]}


@pytest.mark.parametrize("damage", ["remove", "flip"])
def test_a_damaged_ledger_stops_the_night(tmp_path: Path, damage: str) -> None:
    nights = Nights(tmp_path)
    nights.collect(rows_of(*range(30)))
    (file,) = (tmp_path / "home" / "holdouts" / "recipe").glob("*.parquet")
    if damage == "remove":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(SourceError, match="missing or damaged"):
        nights.collect(rows_of(*range(31)))


def test_of_two_answers_to_one_held_out_question_none_is_lost(tmp_path: Path) -> None:
    nights = Nights(tmp_path, holdout_fraction=0.5)
    asked = nights.collect(rows_of(*range(20)))["holdout"][0]["text"]
    pair = [{"id": "x", "text": asked, "answer": answer} for answer in ("one", "two")]
    nights.collect(pair)
    assert {"one", "two"} <= {row["answer"] for row in nights.collect(pair[:1])["holdout"]}


def test_two_held_out_documents_with_one_text_are_both_kept(tmp_path: Path) -> None:
    nights = Nights(tmp_path, id_column="id", holdout_fraction=0.5)
    pair = [{"id": str(number), "text": "the same", "answer": str(number)} for number in range(20)]
    held = {row["document_id"] for row in nights.collect(pair)["holdout"]}
    assert held == {row["document_id"] for row in nights.collect(pair[:1])["holdout"]}


def test_the_former_words_of_a_held_out_document_never_train(tmp_path: Path) -> None:
    nights = Nights(tmp_path, id_column="id")
    held = nights.collect(rows_of(*range(40)))["holdout"][0]
    changed = [{**row, "text": "new"} if row["id"] == held["document_id"] else row for row in rows_of(*range(40))]
    nights.collect(changed)
    after = nights.collect([*changed, {"id": "late", "text": held["text"], "answer": "x"}])
    assert held["text"] not in texts(after["train"])


def test_other_rules_of_hygiene_move_nothing_and_hold_for_the_holdout_too(tmp_path: Path) -> None:
    nights = Nights(tmp_path, holdout_fraction=0.5, hygiene={"personal_data": "allow"})
    rows = [{"id": str(n), "text": f"write to u{n}@example.com", "answer": str(n)} for n in range(20)]
    before = nights.collect(rows)
    nights.config["hygiene"] = {"personal_data": "redact"}
    after = nights.collect(rows)
    assert {row["answer"] for row in before["holdout"]} == {row["answer"] for row in after["holdout"]}
    gone = nights.collect(rows_of(1))
    assert len(gone["holdout"]) >= len(before["holdout"])
    assert not any("@" in text for text in texts(gone["holdout"]))


def test_a_licence_that_is_refused_today_is_not_evaluated_and_not_forgotten(tmp_path: Path) -> None:
    nights = Nights(tmp_path, holdout_fraction=0.5, id_column="id")
    before = nights.collect(rows_of(*range(20)))["holdout"]
    nights.config["hygiene"] = {"licences": ["MIT"]}
    assert nights.collect(rows_of(*range(20))) == {"train": [], "holdout": []}
    nights.config["hygiene"] = {}
    assert texts(nights.collect(rows_of(*range(20)))["holdout"]) == texts(before)


def test_a_passage_is_on_one_side_whatever_its_field_is_called(tmp_path: Path) -> None:
    nights = Nights(tmp_path, columns={"passage": "text"})
    held = {row["passage"] for row in nights.collect(rows_of(*range(30)))["holdout"]}
    nights.config["columns"] = {"body": "text"}
    after = nights.collect(rows_of(*range(30)))
    assert held and {row["body"] for row in after["holdout"]} == held


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=16),
        min_size=2,
        max_size=4,
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=20, deadline=None)
def test_whatever_happens_the_holdout_loses_nothing_and_gives_nothing_to_training(
    nights: list[list[tuple[int, int, int]]], named: bool, mixer: random.Random
) -> None:
    """Documents (id, text, answer) come, go, change, share texts and move; ``named``: the source names them."""
    with tempfile.TemporaryDirectory() as folder:
        one = Nights(Path(folder), **({"id_column": "id"} if named else {}), holdout_fraction=0.4)
        ever_ids: set[str] = set()
        ever_texts: set[str] = set()
        answers: Counter[str] = Counter()
        for night in nights:
            rows = [{"id": f"i{i}", "text": f"text {t}", "answer": f"answer {a}"} for i, t, a in night]
            mixer.shuffle(rows)
            found = one.collect(rows)
            held = {row["document_id"] for row in found["holdout"]}
            trained = {row["document_id"] for row in found["train"]}
            assert len(held) == len(found["holdout"]) and not trained & held
            assert not (ever_texts | texts(found["holdout"])) & texts(found["train"])
            tonight = Counter(row["text"] for row in found["holdout"])
            if named:
                assert ever_ids <= held and not ever_ids & trained
            else:
                assert all(tonight[text] >= count for text, count in answers.items())
            ever_ids |= held
            ever_texts |= texts(found["holdout"])
            answers |= tonight
