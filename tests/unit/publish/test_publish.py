"""What is published beside an adapter: its lineage, and what its training set looked like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.config import ModelSource
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tasks.publish.config import PublishConfig
from tasks.publish.history import TRAINING_PROFILE, learned_from
from tasks.publish.publish import PublishJob, publish
from tasks.publish.registry import Published, Registry
from tests.tiny_model import write_tiny_model

LINEAGE = ("document_id", "prompt", "prompt_digest", "teacher", "teacher_revision", "run_id")
REJECTED = {"decision": "keep", "reason": "It is not better.", "metric": "accuracy", "n": 1, "base": 0.0,
            "candidate": 0.0, "intervals": {"candidate": [0.0, 1.0]}}  # fmt: skip


def artifact(
    home: Home,
    stage: str,
    fill: Callable[[Path], object] = lambda folder: None,
    details: Mapping[str, Any] = MappingProxyType({}),
) -> ArtifactRef:
    def write(folder: Path) -> Summary:
        (folder / "stage.txt").write_text(stage, encoding="utf-8")
        fill(folder)
        return Summary(details=dict(details))

    return ArtifactStore(home.artifacts).write(StageKey(stage, 1, {}), write)


def training_set(folder: Path) -> None:
    said = [{"role": "user", "content": "where is my card"}, {"role": "assistant", "content": "in the post"}]
    row = {**dict.fromkeys(LINEAGE, "x"), "messages": said}
    pq.write_table(pa.Table.from_pylist([row]), folder / "training_set.parquet")
    (folder / "profile.json").write_text('{"rows": 1}', encoding="utf-8")


def adapter(folder: Path) -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")


def whole_model(folder: Path) -> None:
    write_tiny_model(folder / "model")
    (folder / "tokens.json").write_text('{"trained_ids": [[3, 4, 5]]}', encoding="utf-8")


def job(
    home: Home,
    model: Path,
    trained: Callable[[Path], object] = adapter,
    verdict: Mapping[str, Any] = REJECTED,
    method: str = "lora",
    details: Mapping[str, Any] = MappingProxyType({}),
) -> PublishJob:
    return PublishJob(
        PublishConfig(name="router"),
        "embedded",
        ModelSource(path=str(model)),
        {"method": method, "quant_type": "nf4", "double_quantisation": True},
        artifact(home, "collect"),
        None,
        artifact(home, "validate", training_set),
        artifact(home, "train", trained, details),
        artifact(home, "evaluate", lambda folder: (folder / "evaluation.json").write_text(json.dumps(verdict))),
        (artifact(home, "check_documents"), artifact(home, "check_training_set")),
    )


def test_the_training_sets_profile_outlives_the_artifact_that_it_was_measured_in(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    one = job(Home(tmp_path / "home"), tmp_path / "model")
    done = run_stage(one, Home(tmp_path / "home"), "run-1")
    (one.validated.folder / "profile.json").unlink()
    assert json.loads((done.ref.folder / TRAINING_PROFILE).read_text(encoding="utf-8")) == {"rows": 1}


def test_the_lineage_names_every_artifact_and_so_what_was_learned_from(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    one = job(Home(tmp_path / "home"), tmp_path / "model")
    done = run_stage(one, Home(tmp_path / "home"), "run-1")
    lineage = json.loads((done.ref.folder / "lineage.json").read_text(encoding="utf-8"))
    assert [ref["stage"] for ref in lineage["artifacts"]] == [
        "collect", "validate", "check_documents", "check_training_set", "train", "evaluate",
    ]  # fmt: skip
    published = Published("router", "1", done.ref.path, "t", "a", None)
    assert learned_from(published) == one.validated.digest
    assert learned_from(Published("router", "1", str(tmp_path / "gone"), "t", "a", None)) is None


def test_the_lineage_names_what_the_training_went_on_from(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    home = Home(tmp_path / "home")
    assert job(home, tmp_path / "model").lineage()["initial_adapter"] is None
    started_from = {"path": "/somewhere", "digest": "d", "version": "4"}
    lineage = job(home, tmp_path / "model", details={"initial_adapter": started_from}).lineage()
    assert lineage["initial_adapter"] == {"version": "4", "digest": "d"} and lineage["method"] == "lora"


def test_a_model_of_which_every_weight_was_trained_is_published_in_the_wanted_type_without_an_adapter(
    tmp_path: Path,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    home, base = Home(tmp_path / "home"), write_tiny_model(tmp_path / "base")
    verdict = {**REJECTED, "decision": "publish"}
    details = {"validation": {"kept_step": 40}}
    one = replace(
        job(home, base, whole_model, verdict, "full", details), config=PublishConfig(name="router", dtype="float32")
    )
    done = run_stage(one, home, "run-1")
    folder = done.ref.folder
    assert not (folder / "adapter").exists()
    merged, trained = (
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (folder / "merged", one.trained.folder / "model")
    )
    assert {weight.dtype for weight in merged.values()} == {torch.float32}
    assert all(torch.equal(weight, trained[name].float()) for name, weight in merged.items())
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "A fine-tune of every weight of `base`" in card and "library_name: transformers" in card
    assert "`adapter/`" not in card and "- method: full" in card and "- kept step: 40" in card
    registry = Registry(home, "router")
    published, promoted = publish(one, done.ref, registry)
    assert promoted and published.adapter
    assert registry._tagged(published.version).tags["retune.method"] == "full"


def test_the_card_names_where_a_public_model_comes_from(tmp_path: Path) -> None:
    home, model = Home(tmp_path / "home"), write_tiny_model(tmp_path / "model")
    origin = {"from": "package", "repository": "org/Small-Instruct", "package": "small 0.1", "weights": "small.gguf",
              "note": "The weights were dequantised: they are not the original ones."}  # fmt: skip
    (model / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    folder = run_stage(job(home, model), home, "run").ref.folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "base_model: org/Small-Instruct" in card and "they are not the original ones" in card
    assert str(tmp_path) not in card
