"""What is told, written down and sealed while a real trainer trains a tiny model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tasks.core.errors import TrainingError
from tasks.core.processes import EVENT_PREFIX
from tasks.train.checkpoints import newest_intact, step_of
from tasks.train.throughput import TokenCounter
from tasks.train.tracking import MlflowRun, Recorder, write_loss_curve

TOKENS_A_ROW = 6


class Line(torch.nn.Module):
    """Learns one number: the loss falls from 4 at a learning rate that is not absurd."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.frozen = frozen

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        error = (self.weight * 0 if self.frozen else self.weight) - 2 * attention_mask.float().mean() / 0.75
        return {"loss": (error**2).mean(), "logits": input_ids}


class Run:
    """Keeps what an MLflow run would be told."""

    def __init__(self) -> None:
        self.metrics: dict[int, dict[str, float]] = {}

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self.metrics.setdefault(step, {}).update(metrics)


class Training:
    def __init__(
        self,
        folder: Path,
        steps: int = 12,
        learning_rate: float = 0.05,
        frozen: bool = False,
        stop_at: int | None = None,
    ) -> None:
        rows = [{"input_ids": [1] * 8, "attention_mask": [1] * TOKENS_A_ROW + [0] * 2} for _ in range(64)]
        self.run = Run()
        arguments = TrainingArguments(
            output_dir=str(folder), max_steps=steps, learning_rate=learning_rate, per_device_train_batch_size=2,
            gradient_accumulation_steps=2, logging_steps=1, save_steps=5, report_to="none", disable_tqdm=True,
            use_cpu=True, max_grad_norm=1e9, lr_scheduler_type="constant", logging_nan_inf_filter=False,
            dataloader_pin_memory=False, optim="sgd",
        )  # fmt: skip
        self.trainer = Trainer(model=Line(frozen), args=arguments, train_dataset=cast(Any, rows))
        counter = TokenCounter(self.trainer.model)

        def stop() -> bool:
            return bool(self.trainer.state.global_step == stop_at)

        self.recorder = Recorder(cast(MlflowRun, self.run), lambda: counter.total, stop)
        self.trainer.add_callback(self.recorder)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(EVENT_PREFIX)) for line in text.splitlines() if line.startswith(EVENT_PREFIX)]


def test_each_step_is_told_with_loss_rate_speed_and_time_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Training(tmp_path)
    training.trainer.train()
    told = events(capfd.readouterr().out)
    assert [event["step"] for event in told] == list(range(1, 13))
    assert {event["total"] for event in told} == {12}
    assert told[0]["loss"] > told[-1]["loss"]
    assert "tokens_per_second" not in told[0] and told[0]["seconds_left"] is None
    assert all(event["tokens_per_second"] > 0 and event["learning_rate"] == 0.05 for event in told[1:])
    assert told[-1]["seconds_left"] == 0 < told[-2]["seconds_left"]


def test_the_curve_goes_to_mlflow_live_and_what_it_took_at_the_end(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.trainer.train()
    assert set(training.run.metrics[12]) == {"loss", "learning_rate", "grad_norm", "tokens_per_second"}
    cost = training.recorder.finish(12, parameters=10**6, device="NVIDIA L4", trains_all=True, trained_token_share=0.25)
    assert cost.tokens_per_second is not None and cost.mfu == pytest.approx(6e6 * cost.tokens_per_second / 121e12)
    assert training.run.metrics[12]["tokens_per_second"] == cost.tokens_per_second
    assert training.run.metrics[12]["trained_token_share"] == 0.25
    assert training.run.metrics[12]["peak_memory_bytes"] > 50 * 2**20
    assert training.recorder.finish(12, 10**6, "cpu", True, 0.25).mfu is None


def test_tokens_are_those_of_the_batches_without_padding(tmp_path: Path) -> None:
    training = Training(tmp_path, steps=3)
    counter = TokenCounter(training.trainer.model)
    training.trainer.train()
    assert counter.total == 3 * 4 * TOKENS_A_ROW


def test_a_request_to_stop_saves_a_sealed_checkpoint_at_that_step_and_ends(tmp_path: Path) -> None:
    training = Training(tmp_path, stop_at=7)
    training.trainer.train()
    assert training.trainer.state.global_step == 7
    newest = newest_intact(tmp_path)
    assert newest is not None and step_of(newest) == 7


def test_a_resumed_run_is_marked_in_the_log_and_watched_with_its_past(tmp_path: Path) -> None:
    Training(tmp_path, stop_at=3).trainer.train()
    second = Training(tmp_path, stop_at=7)
    second.trainer.train(resume_from_checkpoint=str(newest_intact(tmp_path)))
    third = Training(tmp_path)
    third.trainer.train(resume_from_checkpoint=str(newest_intact(tmp_path)))
    log = third.trainer.state.log_history
    assert [entry["resumed"] for entry in log if "resumed" in entry] == [3, 7]
    undisturbed = Training(tmp_path / "undisturbed")
    undisturbed.trainer.train()
    losses = write_loss_curve(tmp_path / "loss.csv", log)
    assert losses == write_loss_curve(tmp_path / "undisturbed.csv", undisturbed.trainer.state.log_history)
    assert (tmp_path / "loss.csv").read_text() == (tmp_path / "undisturbed.csv").read_text()


def test_a_run_without_a_gradient_is_stopped_also_where_it_was_resumed_half_way(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Nothing is being trained(.|\n)*step 10"):
        Training(tmp_path, steps=40, frozen=True).trainer.train()
    resumed = Training(tmp_path, steps=40, frozen=True)
    with pytest.raises(TrainingError, match="step 10"):
        resumed.trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_a_loss_that_explodes_is_stopped_at_its_first_value_that_is_no_number(tmp_path: Path) -> None:
    training = Training(tmp_path, steps=80, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"became (inf|nan)(.|\n)*learning_rate"):
        training.trainer.train()
    assert training.trainer.state.global_step < 20
