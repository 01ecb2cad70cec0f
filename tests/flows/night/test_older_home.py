"""A RETUNE_HOME that version 0.4 (commit 01f4634) wrote goes on working: see ``tests/fixtures/make_home.py``.

That vLLM serves its champion is tested in ``tests/e2e/test_vllm.py``.

Keys hold the versions of libraries. Where the installed ones differ from those that the fixture was made with, the
tests that compare keys are skipped: run the script again in a checkout of that commit with the new pins.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.night import jobs
from flows.night.champion import find_rival
from flows.recipe.read import read_recipe
from tasks.core.artifacts import ArtifactRef, ArtifactStore
from tasks.core.merging.trained import trained_in
from tasks.core.stage import StageJob
from tasks.publish.registry import Registry
from tasks.validate.check_training_set import Publications
from tests.fixtures.older_home import QUESTION, STAGES, OlderHome
from tests.retune.command import retune, retune_process


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


def test_every_stage_of_the_next_night_has_the_key_of_its_artifact(
    older: OlderHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    older.require_its_pins()
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", older.vllm_python)
    recipe, home = read_recipe(older.recipe_file), older.home
    found: dict[str, ArtifactRef] = {}

    def find(stage: str, job: StageJob) -> ArtifactRef:
        key = job.key()
        determinants = older.manifest(stage)["determinants"]
        assert json.loads(json.dumps(key.determinants())) == determinants, f"the key of {stage} changed"
        artifact = ArtifactStore(home.artifacts).find(key)
        assert artifact is not None, f"the artifact of {stage} is not whole"
        found[stage] = artifact
        return artifact

    collected = find("collect", jobs.collect_job(recipe, home))
    documents = find("check_documents", jobs.documents_job(recipe, collected))
    generated = find("generate", jobs.generate_job(recipe, documents))
    validated = find("validate", jobs.validate_job(recipe, collected, documents, generated))
    find("check_training_set", jobs.training_set_job(recipe, validated, Publications()))
    trained = find("train", jobs.train_job(recipe, validated))
    beaten = find_rival(Registry(home, recipe.publish.name), trained)
    assert beaten is None, "the champion is not its own rival"
    find("evaluate", jobs.evaluate_job(recipe, documents, trained, beaten))
    find("publish", jobs.publish_job(recipe, found))


@pytest.mark.slow
def test_its_next_night_is_a_no_op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = OlderHome(tmp_path)
    older.require_its_pins()
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", older.vllm_python)
    done = retune_process(older.home.root, "run", "--recipe", older.recipe_file)
    assert done.returncode == 0, done.stderr
    record = json.loads(retune(older.home.root, "report", "--json").stdout)
    assert record["status"] == "no-op", record["reason"]
    assert all(stage["cached"] for stage in record["stages"].values())
    assert len(Registry(older.home, "older-router").versions()) == 1


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
