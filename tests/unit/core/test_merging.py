"""Merging for real: an adapter with random weights on a tiny NF4 base."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.base_model import Quantisation, load_base
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.merging import worker
from tasks.core.merging.trained import MergeSettings, Trained, merged
from tasks.core.merging.worker import Figures, compare, judge, merge
from tests.tiny_model import write_tiny_model

TOKENS = list(range(10, 60))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved adapter whose update is large enough to change every logit."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = load_base(ModelSource(path=str(base)), torch.float32, Quantisation())
    get_peft_model(model, lora).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "trained with this {{ messages }}"
    tokenizer.save_pretrained(folder)
    return folder


def run_merge(base: Path, adapter: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    job = {
        "model": {"path": str(base), "revision": None},
        "adapter": str(adapter),
        "method": "qlora",
        "quantisation": {"quant_type": "nf4", "double_quantisation": True},
        "dtype": "float32",
        "out": str(folder / "merged"),
        "token_ids": [TOKENS],
        **changes,
    }
    return merge(job)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([TOKENS])).logits[0].float()
    return found


def test_the_merged_model_is_the_function_that_was_trained(base: Path, adapter: Path, tmp_path: Path) -> None:
    result = run_merge(base, adapter, tmp_path, quantised_layers=14)
    assert result["dequantised_layers"] == 14
    assert result["max_logit_difference"] < 1e-4
    assert result["top1_agreement"] == 1.0

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    full = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert result["parameters"] == sum(parameter.numel() for parameter in full.parameters())
    assert (logits(merged) - logits(full)).abs().max() > 0.1, "the adapter's update is missing"
    for module in merged.modules():
        assert "Linear4bit" not in type(module).__name__


def test_the_merged_folder_is_plain_and_has_the_trained_template(base: Path, adapter: Path, tmp_path: Path) -> None:
    result = run_merge(base, adapter, tmp_path, dtype="bfloat16")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= set(result["files"])
    assert not [name for name in result["files"] if name.startswith("adapter") or name.endswith(".bin")]
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == "trained with this {{ messages }}"
    assert 1e-6 < result["max_logit_difference"] < 0.5
    assert result["top1_agreement"] > 0.8


def test_lora_is_merged_onto_the_full_precision_base(base: Path, adapter: Path, tmp_path: Path) -> None:
    result = run_merge(base, adapter, tmp_path, method="lora", quantisation=None)
    assert result["dequantised_layers"] == 0
    assert result["max_logit_difference"] < 1e-4
    nf4 = tmp_path / "nf4"
    run_merge(base, adapter, nf4)
    onto_full = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    onto_nf4 = AutoModelForCausalLM.from_pretrained(nf4 / "merged", dtype=torch.float32)
    assert (logits(onto_full) - logits(onto_nf4)).abs().max() > 1e-3, "the base was not dequantised from NF4"


def test_another_number_of_quantised_layers_than_was_trained_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="14 quantised layers, but 12"):
        run_merge(base, adapter, tmp_path, quantised_layers=12)


def test_a_model_that_overflows_in_float16_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    large, changes = tmp_path / "large", {"method": "lora", "quantisation": None}
    # The second is not infinite itself, and makes the last layer's values so.
    for value, what in ((1e5, r"weights \(model\.norm\.weight\)"), (6e4, "logits")):
        with torch.no_grad():
            model.model.norm.weight[:] = value
        model.save_pretrained(large)
        with pytest.raises(ModelError, match=f"{what} that are not finite in float16") as caught:
            run_merge(large, adapter, tmp_path, dtype="float16", **changes)
        assert "publish.dtype: bfloat16" in caught.value.remedy
    run_merge(large, adapter, tmp_path, dtype="bfloat16", **changes)


def test_a_model_that_computes_something_else_is_refused(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_update(trained: Any, adapter: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

    monkeypatch.setattr(worker, "plain_merge", without_update)
    with pytest.raises(ModelError, match="does not compute what was trained"):
        run_merge(base, adapter, tmp_path)


@pytest.mark.parametrize(
    ("difference", "agreement", "dtype", "match"),
    [
        (math.nan, 1.0, "float32", "not finite"),
        (math.inf, 1.0, "bfloat16", "not finite"),
        (0.2, 1.0, "float32", r"differ by up to 0\.2 \(at most 0\.1\)"),
        (0.0, 0.5, "bfloat16", r"50\.0% of the tokens alike \(at least 90%\)"),
        (0.2, 0.95, "bfloat16", None),
        (1e-4, 1.0, "float32", None),
    ],
)
def test_the_figures_of_a_merge_are_judged(difference: float, agreement: float, dtype: str, match: str | None) -> None:
    figures = Figures(difference, agreement, largest_logit=10.0)
    if match is None:
        judge(figures, dtype, "model")
        return
    with pytest.raises(ModelError, match=match) as caught:
        judge(figures, dtype, "model")
    assert caught.value.where == "model" and "publish.dtype" in caught.value.remedy


def test_a_token_that_both_models_exclude_is_no_difference() -> None:
    row = torch.tensor([[1.0, 2.0, -math.inf]])
    assert compare([row.clone()], [row.clone()]) == Figures(0.0, 1.0, 2.0)
    assert math.isnan(compare([row.clone()], [torch.tensor([[1.0, math.nan, 0.0]])]).max_logit_difference)


def test_the_rows_of_the_comparison_are_the_trainings_or_the_merge_is_refused(tmp_path: Path) -> None:
    trained = Trained(tmp_path / "adapter", "lora")
    settings = MergeSettings("lora", "nf4", True, "float32")
    with pytest.raises(ModelError, match="rows, on which a merged model is compared") as caught:
        merged(
            trained, ModelSource(path=str(tmp_path)), settings,
            out=tmp_path / "merged", work=tmp_path / "work", log=tmp_path / "log", timeout_s=1,
        )  # fmt: skip
    assert caught.value.where == str(tmp_path / "tokens.json")
