"""The planned peak against that of a real training, in the process that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.stage import run_stage
from tasks.train.config import TrainConfig
from tasks.train.memory import training_memory
from tasks.train.model_shape import catalogue, model_shape, read_config
from tasks.train.train import TrainJob
from tests.tiny_model import tiny_tokenizer
from tests.unit.train.trial import highest_memory_of_children

pytestmark = [pytest.mark.slow, pytest.mark.families]

GB = 10**9
QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
SEEDLING = PROJECT_ROOT / "seedling" / "model"


def write_random_model(folder: Path) -> Path:
    """A full-size Qwen2.5-0.5B with random weights in bfloat16: 1 GB; the tokenizer knows few of its tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    numbers = dict(catalogue()[QWEN])
    config = AutoConfig.for_model(numbers.pop("model_type"), **numbers)
    tokenizer = tiny_tokenizer()
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    torch.manual_seed(0)
    block = 0.02 * torch.randn(2**20, dtype=torch.bfloat16)  # repeated: half a billion random numbers take their time
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.view(-1).copy_(block.repeat(-(-parameter.numel() // len(block)))[: parameter.numel()])
        else:
            parameter.data.fill_(float("norm" in name))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(folder: Path, tokenizer: Any, rows: int, length: int) -> ArtifactRef:
    """Rows of as many tokens as fit into ``length``, nearly all of them in the question."""
    folder.mkdir()
    text = " ".join(["where is my card"] * length)
    template = tokenizer.apply_chat_template

    def conversation(words: int) -> list[dict[str, str]]:
        question = " ".join(text.split()[:words])
        return [{"role": "user", "content": question}, {"role": "assistant", "content": "cards"}]

    words = next(
        count
        for count in range(length, 0, -1)
        if len(template(conversation(count), tokenize=True, return_dict=True)["input_ids"]) <= length
    )
    frame = pd.DataFrame(
        {
            "example_id": [f"e{number}" for number in range(rows)],
            "messages": [conversation(words)] * rows,
            "document_id": [f"d{number}" for number in range(rows)],
            "prompt": "write",
            "tools": None,
            "origin": "generated",
            "source": "messages.csv",
        }
    )
    frame.to_parquet(folder / "training_set.parquet", index=False)
    return ArtifactRef("validate", "key", str(folder), "digest", rows)


def measured_and_planned(folder: Path, model: Path, **settings: Any) -> tuple[int, int]:
    """Peaks of three steps on rows of full length, in bytes."""
    from transformers import AutoTokenizer

    config = TrainConfig(
        method="qlora",
        rank=16,
        target_modules="all-linear",
        accumulation_steps=1,
        max_steps=3,
        warmup_steps=0,
        **settings,
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = write_rows(folder / "rows", tokenizer, config.batch_size * 3, config.max_length)
    source = ModelSource(path=str(model))
    with highest_memory_of_children() as marks:
        trained = run_stage(TrainJob(config, source, rows, 3407), Home(folder / "home"), "trial")
    assert trained.ref.manifest()["summary"]["details"]["steps"] == 3
    return max(marks), training_memory(model_shape(read_config(source), config), config, "cpu").total


def test_a_full_size_qwen_trains_in_6_gb_as_the_planner_says(tmp_path: Path) -> None:
    model = write_random_model(tmp_path / "model")
    measured, planned = measured_and_planned(tmp_path, model, backend="transformers", batch_size=1, max_length=128)
    assert measured <= 6 * GB
    assert planned == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("backend", ["transformers", "unsloth"])
def test_a_tiny_model_s_peak_is_mostly_that_of_the_libraries_and_planned(tmp_path: Path, backend: str) -> None:
    measured, planned = measured_and_planned(tmp_path, SEEDLING, backend=backend, batch_size=16, max_length=128)
    assert planned == pytest.approx(measured, rel=0.25)
