from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows.report.stage_lines import stage_lines
from flows.report.training_lines import train_lines, training_markdown
from tasks.core.details import TrainDetails

GROUP = {"rows_before": 4, "rows_after": 12, "share_asked": 0.75, "share_reached": 0.75, "repeats": 3, "tokens": 300}
OTHER = {"rows_before": 4, "rows_after": 4, "share_asked": 0.25, "share_reached": 0.25, "repeats": 1, "tokens": 90}
DETAILS: dict[str, Any] = {
    "method": "qlora",
    "backend": "transformers",
    "device": "cpu",
    "dtype": "float32",
    "trainable_parameters": 20_971_520,
    "total_parameters": 8_051_232_768,
    "steps": 60,
    "final_loss": 0.71234,
    "optimizer": "adamw_torch_fused",
    "batch_size": 2,
    "accumulation_steps": 4,
    "processes": 2,
    "packing": False,
    "resumed_from": 50,
    "trained_token_share": 0.25,
    "tokens": 1234,
    "tokens_per_second": 512.4,
    "peak_memory_bytes": 900 * 2**20,
    "mfu": 0.412,
    "over_length": {"dropped": 2, "truncated": 0, "split": 1, "pieces": 3, "tokens_cut": 0, "exchanges_dropped": 0},
    "initial_adapter": {"version": "7"},
    "mix": {"collected": GROUP, "generated": OTHER},
}


def test_the_report_says_what_was_trained_with_what_and_what_it_took() -> None:
    trained, masking, over, start, mix = train_lines(TrainDetails.model_validate(DETAILS))
    assert trained == (
        "Trained: qlora with transformers on cpu in float32; 20,971,520 of 8,051,232,768 parameters; 60 steps, last"
        " loss 0.712; optimizer adamw_torch_fused, 16 rows a step; resumed from step 50."
    )
    assert masking == (
        "Masking: 25.0% of 1,234 tokens are learned; 512 tokens a second; peak memory 900 MiB; model FLOPs utilisation"
        " 41.2%."
    )
    assert over == "Rows over the maximum length: dropped 2, split 1, into 3 pieces."
    assert start == "Training continued from version 7."
    assert mix == "Mix: collected 75.0% (12 rows, 300 tokens), generated 25.0% (4 rows, 90 tokens)."


def test_a_night_that_stopped_before_training_says_nothing_of_it() -> None:
    assert stage_lines({"train": {}}) == []


def test_the_page_has_the_curve_the_shares_and_an_example(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "loss.png").write_bytes(b"png")
    (tmp_path / "masking.json").write_text(json.dumps({"example": "user: ```a```\n[[cards]]\n"}))
    (tmp_path / "mix.json").write_text(json.dumps({"groups": {"collected": GROUP, "generated": OTHER}, "sources": {}}))
    page = "\n".join(training_markdown(tmp_path, "../loss.png"))
    assert "![Loss and learning rate](../loss.png)" in page
    assert "| group: collected | 4 | 12 | 75.0% | 75.0% | 3 | 300 |" in page
    assert "````\nuser: ```a```\n[[cards]]\n````" in page


def test_an_artifact_that_is_gone_leaves_the_heading_alone(tmp_path: Path) -> None:
    assert training_markdown(tmp_path / "gone", "x") == ["## Training", ""]
