"""The train stage: a training set in, an adapter (or a whole model) out."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.config import ModelSource
from tasks.core.errors import ChildError, MemoryShortage, RecipeError
from tasks.core.files import write_json
from tasks.core.models import check_model, model_digest
from tasks.core.processes import run_worker
from tasks.core.progress import Advance, progress, say
from tasks.core.stage import StageContext
from tasks.train.config import TrainConfig
from tasks.train.guards import out_of_memory_kills, require_quiet_machine
from tasks.train.launch import launcher

VERSION = 3
EXPERIMENT = "retune"
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
UNSLOTH = ("unsloth", "unsloth_zoo")
NOT_IN_KEY = {"timeout_minutes", "save_steps", "fractions", "initial_adapter"}


@dataclass(frozen=True)
class InitialAdapter:
    """The published adapter that a training goes on from.

    Attributes:
        path: its PEFT folder.
        digest: of its files.
        version: of the registered model, for people.
    """

    path: str
    digest: str
    version: str


@dataclass(frozen=True)
class TrainJob:
    """Trains ``model`` on the training set, or on the nested subset of it that ``fraction`` names.

    The key leaves out what does not shape the result: the timeout, how often a checkpoint is written, and which other
    fractions are trained on. Of the adapter that it goes on from the digest counts.
    """

    config: TrainConfig
    model: ModelSource
    training_set: ArtifactRef
    seed: int
    fraction: float = 1.0
    initial: InitialAdapter | None = None

    def key(self) -> StageKey:
        """What determines the adapter."""
        return StageKey(
            stage="train",
            version=VERSION,
            config={
                "train": self.config.model_dump(mode="json", exclude=NOT_IN_KEY),
                "seed": self.seed,
                "fraction": self.fraction,
            },
            inputs=[self.training_set],
            files={
                "model": model_digest(self.model),
                "initial_adapter": self.initial.digest if self.initial else "",
            },
            libraries=LIBRARIES + (() if self.config.backend == "transformers" else UNSLOTH),
        )

    @property
    def rows(self) -> Path:
        """The table that is trained on."""
        return self.training_set.folder / f"{self.config.rows}.parquet"

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Train in a child process, and write what it leaves (see ``worker.train``).

        A killed attempt's checkpoints are found in the context's work folder and gone on from; they are removed once
        the result is written. Where memory is too small, the batch is divided and the steps accumulated instead, and
        the training goes on from its last checkpoint.

        Raises:
            RecipeError: the recipe wants the control, and the validate stage kept none.
            ModelError, TrainingError, MemoryShortage, MachineError, ChildError: see their docstrings.
        """
        check_model(self.model)
        if not self.rows.is_file():
            raise RecipeError(
                f"The validate stage kept no {self.rows.name}",
                where="train.rows",
                remedy="set validate.control: true, or train.rows: training_set",
            )
        work = context.work_folder("train")
        require_quiet_machine()
        (work / "tmp").mkdir(parents=True, exist_ok=True)
        config = self.config
        while True:
            try:
                result = self._run(config, folder, work, context)
                break
            except MemoryShortage as shortage:
                smaller = with_smaller_batches(config)
                if smaller is None:
                    raise
                say(f"  {shortage.what}")
                say(f"  trying again with batches of {smaller.batch_size}, {smaller.accumulation_steps} to a step")
                config = smaller
        shutil.rmtree(work)
        if (adapter := folder / "adapter" / "adapter_config.json").is_file():
            _name_base(adapter, self.model)
        return Summary(
            rows_in=result["rows_in"],
            accepted=result["accepted"],
            quarantined=result["quarantined"],
            details=result["details"],
        )

    def _run(self, config: TrainConfig, folder: Path, work: Path, context: StageContext) -> dict[str, Any]:
        name = context.run_id if self.fraction == 1 else f"{context.run_id} ({self.fraction:g} of the rows)"
        job = {
            "config": config.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "seed": self.seed,
            "fraction": self.fraction,
            "initial": asdict(self.initial) if self.initial else None,
            "training_set": str(self.rows),
            "out": str(folder.resolve()),
            "work": str(work.resolve()),
            "mlflow": {"uri": context.home.tracking_uri, "experiment": EXPERIMENT, "name": name},
        }
        killed_before = out_of_memory_kills()
        with contextlib.ExitStack() as stack:
            advance: Advance | None = None

            def on_event(event: dict[str, Any]) -> None:
                nonlocal advance
                if "note" in event:
                    say(f"  {event['note']}")
                if "step" in event:
                    advance = advance or stack.enter_context(progress("training", event["total"]))
                    note = progress_note(event)
                    advance(event["step"], note)
                    left = event.get("seconds_left")
                    rest = "" if left is None else f", {left:.0f} s left"
                    context.on_progress(
                        event["step"] / event["total"], f"step {event['step']} of {event['total']}: {note}{rest}"
                    )

            try:
                return run_worker(
                    "tasks.train.worker",
                    job,
                    folder=work,
                    log=context.log("train"),
                    timeout_s=config.timeout_minutes * 60,
                    on_event=on_event,
                    environment=worker_environment(self.model, work),
                    launcher=launcher(config),
                )
            except ChildError as error:
                if out_of_memory_kills() > killed_before:
                    raise MemoryShortage(
                        "The kernel ended the training because the machine was out of memory",
                        where=error.where,
                        remedy="lower train.batch_size or train.max_length, or end other programs",
                    ) from error
                raise


def progress_note(event: Mapping[str, Any]) -> str:
    """What is said beside the bar: the loss, and how fast tokens are trained once that is known."""
    speed = event.get("tokens_per_second")
    return f"loss {event['loss']:.3f}" + (f", {speed:,.0f} tokens/s" if speed else "")


def with_smaller_batches(config: TrainConfig) -> TrainConfig | None:
    """The same optimizer steps over the same rows with the next smaller batch; None where a batch is one row."""
    smaller = next((n for n in range(config.batch_size // 2, 0, -1) if config.batch_size % n == 0), None)
    if smaller is None:
        return None
    times = config.batch_size // smaller
    return config.model_copy(update={"batch_size": smaller, "accumulation_steps": config.accumulation_steps * times})


def worker_environment(model: ModelSource, work: Path) -> Mapping[str, str]:
    """What keeps the libraries off the network, and their left-overs in the work folder.

    OpenMP threads that spin while they wait make a busy CPU many times slower: on two cores that other programs use
    too, a step of the seedling took 3 to 11 s, and 0.9 s with passive waiting (on idle ones 0.74 s and 0.82 s).
    """
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "UNSLOTH_COMPILE_LOCATION": str(work / "unsloth_compiled_cache"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "HF_DATASETS_CACHE": str(work / "datasets"),
        "HF_MODULES_CACHE": str(work / "modules"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TMPDIR": str(work / "tmp"),
        "TOKENIZERS_PARALLELISM": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    return {**environment, "HF_HUB_OFFLINE": "1"} if model.is_local else environment


def _name_base(config_file: Path, model: ModelSource) -> None:
    """Name the base in the adapter instead of this machine's path to it: the same adapter, the same digest."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = Path(model.path).name if model.is_local else model.path
    write_json(config_file, config)
