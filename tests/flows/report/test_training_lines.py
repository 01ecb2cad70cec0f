from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


VALIDATION: dict[str, Any] = {
    "split": {"trained_rows": 410, "rows": 48, "documents": 23},
    "losses": {"before": 2.1, "lowest": 1.23, "final": 1.41},
    "lowest_step": 40,
    "planned_steps": 60,
    "kept_step": 40,
}


def validation_said(**changes: Any) -> list[str]:
    lines = train_lines(TrainDetails.model_validate(DETAILS | {"validation": VALIDATION | changes}))
    return lines[3:-2]


def test_over_fitting_is_told_in_words_with_the_step_that_is_kept() -> None:
    assert validation_said() == [
        "Rows: 410 are trained on, and 48 (of 23 documents) are for validation.",
        "Validation loss: 2.1 before training; lowest, 1.23, at step 40 of 60; 1.41 at the end. The weights of step 40"
        " are kept.",
        "The training over-fits after step 40.",
    ]


@pytest.mark.parametrize(
    ("changes", "kept", "told"),
    [
        (
            {"lowest_step": 60, "losses": {"before": 2.1, "lowest": 1.23, "final": 1.23}, "kept_step": 60},
            "the last step",
            [],
        ),
        ({"losses": {"before": 2.1, "lowest": 1.23, "final": 1.231}}, "step 40", []),
        ({"kept_step": 60}, "the last step", ["over-fits after step 40: set train.keep: best"]),
        ({"planned_steps": 150}, "step 40", ["stopped early, after step 60", "over-fits"]),
        (
            {"losses": {"before": 2.1, "lowest": 2.2, "final": 2.3}},
            "step 40",
            ["never fell below that before training"],
        ),
        (
            {"kept_step": 60, "fault": "is damaged: adapter_model.safetensors has changed"},
            "the last step",
            [
                "The checkpoint of step 40 is damaged: adapter_model.safetensors has changed: it could not",
                "over-fits after step 40.",
            ],
        ),
    ],
    ids=str,
)
def test_what_the_validation_loss_means_is_told(changes: dict[str, Any], kept: str, told: list[str]) -> None:
    _, losses, *rest = validation_said(**changes)
    assert losses.endswith(f"The weights of {kept} are kept.")
    assert len(rest) == len(told) and all(words in line for words, line in zip(told, rest, strict=True))


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
