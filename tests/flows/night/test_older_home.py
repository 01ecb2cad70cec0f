"""A RETUNE_HOME that version 0.4 (commit 01f4634) wrote goes on working: see ``tests/fixtures/make_home.py``.

That vLLM serves its champion is tested in ``tests/e2e/test_vllm.py``; that no document of an older ledger changes
sides, in ``tests/unit/collect/test_held_out_documents.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.night import jobs
from flows.recipe.read import read_recipe
from tasks.core import tables
from tasks.core.merging.trained import trained_in
from tasks.core.stage import run_stage
from tests.fixtures.older_home import QUESTION, STAGES, OlderHome
from tests.retune.command import retune


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> OlderHome:
    return OlderHome(tmp_path_factory.mktemp("older"))


def test_its_report_prints(older: OlderHome) -> None:
    done = retune(older.home.root, "report")
    assert done.returncode == 0, done.stderr
    assert "older: no-op" in done.stdout and "older-router version 1" in done.stdout
    assert all(stage in done.stdout for stage in STAGES)


def test_its_nights_print_as_json_with_every_count(older: OlderHome) -> None:
    first = min(path.name for path in older.home.runs.iterdir())
    done = retune(older.home.root, "report", "--json", "--run", first)
    record = json.loads(done.stdout)
    assert (record["status"], tuple(record["stages"])) == ("published", STAGES)
    for name, stage in record["stages"].items():
        summary = older.manifest(name)["summary"]
        counts = ("rows_in", "accepted", "quarantined", "duplicates", "contaminated")
        assert {count: stage[count] for count in counts} == {count: summary[count] for count in counts}
        assert Path(stage["path"]).is_dir()
    assert record["evaluation"]["candidate"] == 1 and record["champion"]["version"] == "1"


def test_its_quarantined_row_is_listed(older: OlderHome) -> None:
    done = retune(older.home.root, "quarantine", "list")
    assert done.returncode == 0 and "missing" in done.stdout, done.stdout + done.stderr


def test_its_next_night_holds_the_same_documents_out(older: OlderHome) -> None:
    """Version 0.5 collects anew: its keys differ."""
    before = older.manifest("collect")
    (old_folder,) = older.home.artifacts.glob("collect/*")
    after = run_stage(jobs.collect_job(read_recipe(older.recipe_file), older.home), older.home, "next")
    assert not after.cached and after.ref.manifest()["summary"]["accepted"] == before["summary"]["accepted"]
    for name in (tables.TRAIN, tables.HOLDOUT):
        documents = [set(pd.read_parquet(folder / name)["document_id"]) for folder in (old_folder, after.ref.folder)]
        assert documents[0] == documents[1] != set()


def test_its_champion_is_whole(older: OlderHome) -> None:
    from safetensors.numpy import load_file

    adapter = trained_in(older.champion)
    assert adapter.form == "lora" and adapter.is_served_beside("qwen2")
    update = load_file(adapter.folder / "adapter_model.safetensors")
    assert len(update) == 14 and all(np.isfinite(tensor).all() for tensor in update.values())
    assert (older.champion / "merged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_its_champion_loads_merged_and_as_an_adapter_and_both_answer_alike(older: OlderHome) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(older.champion / "adapter")
    text = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    encoded = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    base = AutoModelForCausalLM.from_pretrained(older.folder / "project" / "model", dtype=torch.float32)
    models = {
        "adapter": PeftModel.from_pretrained(base, str(older.champion / "adapter")),
        "merged": AutoModelForCausalLM.from_pretrained(older.champion / "merged", dtype=torch.float32),
    }
    with torch.no_grad():
        adapted, merged = (model.eval()(**encoded).logits[0, -1] for model in models.values())
    assert torch.isfinite(merged).all()
    assert torch.nn.functional.cosine_similarity(adapted, merged, dim=0) > 0.98
