"""Two nights of other methods than low-rank updates: every weight, then virtual tokens against that champion.

The tests share one RETUNE_HOME and run in this order.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tasks.core.home import PROJECT_ROOT, Home
from tasks.publish.registry import Registry
from tests.e2e.conftest import RECIPES, Retune

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.families]

ASKED = 6
SYSTEM = "Route the customer's message to a queue: cards, flights, dining or payroll."


def write_recipe(folder: Path, **train: Any) -> str:
    """The small recipe on collected rows alone, with another training."""
    recipe = yaml.safe_load((RECIPES / "small.yaml").read_text(encoding="utf-8"))
    del recipe["generate"]
    recipe["model"]["path"] = str(PROJECT_ROOT / "seedling" / "model")
    messages = PROJECT_ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"
    recipe["collect"]["sources"] = [{"path": str(messages)}]
    recipe["validate"] = {"minimum_rows": 40}
    common = {"batch_size": 16, "accumulation_steps": 1, "warmup_steps": 3, "max_length": 128, "save_steps": 20}
    recipe["train"] = {**common, **train}
    path = folder / "methods.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return str(path)


def test_every_weight_is_trained_asked_drawn_as_a_curve_and_published(retune: Retune, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, method="full", max_steps=60, learning_rate=5e-4, fractions=[0.5, 1.0])
    done = retune.call("run", "--recipe", recipe)
    assert done.returncode == 0, done.stderr
    record = retune.report()
    assert record["status"] == "published", record["reason"]
    half, whole = record["evaluation"]["curve"]
    assert half["rows"] < whole["rows"] and whole["score"] == record["evaluation"]["candidate"]
    with (Path(record["stages"]["evaluate"]["path"]) / "curve.csv").open(encoding="utf-8") as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [half["score"], whole["score"]]
    assert record["evaluation"]["curve_gain"]["sentence"] in done.stdout
    assert list(record["stages"])[-4:] == ["train 0.5", "train", "evaluate", "publish"]
    champion = Path(record["champion"]["path"])
    assert not (champion / "adapter").exists() and (champion / "merged" / "model.safetensors").is_file()
    assert record["stages"]["publish"]["merge"]["max_logit_difference"] < 1e-4
    retune.wait_for_no_process()
    again = retune.call("run", "--recipe", recipe)
    assert again.returncode == 0 and retune.report()["status"] == "no-op"


def test_virtual_tokens_are_asked_as_a_whole_model_against_the_whole_champion(retune: Retune, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, method="prompt_tuning", virtual_tokens=8, max_steps=30, learning_rate=5e-2)
    done = retune.call("run", "--recipe", recipe)
    assert done.returncode == 0, done.stderr
    record = retune.report()
    evaluation = record["evaluation"]
    assert evaluation["against_champion"]["version"] == "1" and evaluation["champion"] > evaluation["base"]
    versions = Registry(Home(retune.home), "small-router").versions()
    assert [one.version for one in versions] == ["1", "2"]
    answers = pd.read_parquet(Path(record["stages"]["evaluate"]["path"]) / "answers.parquet")
    assert (answers["champion"] == answers["reference"]).mean() == evaluation["champion"]
    adapter = Path(record["stages"]["train"]["path"]) / "adapter"
    expected = [by_peft(adapter, question) for question in answers["question"][:ASKED]]
    assert [text.strip() for text in answers["candidate"][:ASKED]] == expected
    assert expected != [text.strip() for text in answers["base"][:ASKED]], "the virtual tokens changed no answer"
    retune.wait_for_no_process()


def by_peft(adapter: Path, question: str) -> str:
    """What PEFT's own model with the virtual tokens writes."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(PROJECT_ROOT / "seedling" / "model", dtype=torch.float32)
    model, tokenizer = PeftModel.from_pretrained(base, str(adapter)).eval(), AutoTokenizer.from_pretrained(adapter)
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    encoded = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": tokenizer.eos_token_id}
    written = model.generate(**encoded, **settings)
    said = tokenizer.decode(written[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return str(said).strip()
