"""The train stage: a training set in, an adapter (or a whole model) out."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.config import ModelSource
from tasks.core.details import TrainDetails
from tasks.core.errors import ChildError, MemoryShortage, RecipeError, TrainingError
from tasks.core.files import write_json
from tasks.core.models import check_model, model_digest
from tasks.core.processes import run_worker
from tasks.core.progress import Advance, progress, say
from tasks.core.stage import StageContext
from tasks.train.config import TrainConfig
from tasks.train.resource_checks import out_of_memory_kills, require_quiet_machine

VERSION = 4
EXPERIMENT = "retune"
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
UNSLOTH = ("unsloth", "unsloth_zoo")
SHARDED = (
    "--use_fsdp", "--fsdp_version", "1", "--fsdp_sharding_strategy", "FULL_SHARD",
    "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--fsdp_backward_prefetch", "BACKWARD_PRE",
    "--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_use_orig_params", "false",
    "--fsdp_sync_module_states", "true", "--fsdp_cpu_ram_efficient_loading", "true",
)  # fmt: skip
"""PEFT's documented settings for QLoRA with FSDP."""
NOT_IN_KEY = {"timeout_minutes", "fractions", "initial_adapter"}


@dataclass(frozen=True)
class InitialAdapter:
    """The published adapter that a training continues: its PEFT folder, its files' digest and its version."""

    path: str
    digest: str
    version: str


@dataclass(frozen=True)
class TrainJob:
    """Trains ``model`` on the training set, or on a nested subset of it, the share ``fraction``.

    The key leaves out what does not affect the result: the timeout, the other fractions and, without evaluations, how
    often a checkpoint is written. Of the adapter that is continued, it takes the digest.
    """

    config: TrainConfig
    model: ModelSource
    training_set: ArtifactRef
    seed: int
    fraction: float = 1.0
    initial: InitialAdapter | None = None

    def key(self) -> StageKey:
        left_out = NOT_IN_KEY if self.config.validation_fraction else NOT_IN_KEY | {"save_steps"}
        return StageKey(
            stage="train",
            version=VERSION,
            config={
                "train": self.config.model_dump(mode="json", exclude=left_out),
                "seed": self.seed,
                "fraction": self.fraction,
            },
            inputs=[self.training_set],
            files={"model": model_digest(self.model), "initial_adapter": self.initial.digest if self.initial else ""},
            libraries=LIBRARIES + (() if self.config.backend == "transformers" else UNSLOTH),
        )

    @property
    def rows(self) -> Path:
        return self.training_set.folder / f"{self.config.rows}.parquet"

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Train in a child process (see ``worker.train``); raises a RecipeError if the recipe's rows were not kept.

        A later attempt continues from the checkpoints in the context's work folder, which is removed when the result is
        written. If memory is short, the batch is divided into accumulated steps, and the training continues.
        """
        check_model(self.model)
        if not self.rows.is_file():
            remedy = "set validate.control: true, or train.rows: training_set"
            raise RecipeError(f"The validate stage kept no {self.rows.name}", where="train.rows", remedy=remedy)
        work = context.work_folder("train")
        require_quiet_machine()
        (work / "tmp").mkdir(parents=True, exist_ok=True)
        config = self.config
        while True:
            try:
                result = self._run(config, folder, work, context)
                break
            except TrainingError:
                context.keep_quarantine("train", folder)
                raise
            except MemoryShortage as shortage:
                if (smaller := with_smaller_batches(config)) is None:
                    raise
                say(f"  {shortage.what}")
                say(f"  trying again with batches of {smaller.batch_size}, {smaller.accumulation_steps} to a step")
                config = smaller
        shutil.rmtree(work)
        if (adapter := folder / "adapter" / "adapter_config.json").is_file():
            _name_base(adapter, self.model)
        return Summary(**{**result, "details": TrainDetails(**result["details"])})

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
                    left = "" if event.get("seconds_left") is None else f", {event['seconds_left']:.0f} s left"
                    reached = f"step {event['step']} of {event['total']}"
                    context.on_progress(event["step"] / event["total"], f"{reached}: {note}{left}")

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
                    what = "The kernel killed the training because the machine was out of memory"
                    remedy = "lower train.batch_size or train.max_length, or end other programs"
                    raise MemoryShortage(what, where=error.where, remedy=remedy) from error
                raise


def progress_note(event: Mapping[str, Any]) -> str:
    speed, validation = event.get("tokens_per_second"), event.get("validation_loss")
    seen = "" if validation is None else f", validation {validation:.3f}"
    return f"loss {event['loss']:.3f}{seen}" + (f", {speed:,.0f} tokens/s" if speed else "")


def with_smaller_batches(config: TrainConfig) -> TrainConfig | None:
    """The same optimizer steps over the same rows with the next smaller batch; None if a batch is one row."""
    smaller = next((n for n in range(config.batch_size // 2, 0, -1) if config.batch_size % n == 0), None)
    if smaller is None:
        return None
    times = config.batch_size // smaller
    return config.model_copy(update={"batch_size": smaller, "accumulation_steps": config.accumulation_steps * times})


def worker_environment(model: ModelSource, work: Path) -> Mapping[str, str]:
    """Variables that keep the libraries off the network, and their files in the work folder.

    OpenMP waits passively: with spinning threads, a step of the seedling on two busy cores took 3 to 11 s instead of
    0.9 s (on idle cores 0.74 s and 0.82 s).
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


def launcher(config: TrainConfig) -> Sequence[str]:
    """Python's arguments before the worker's module: plain, or ``accelerate launch`` for several processes."""
    if config.processes == 1:
        return ("-m",)
    return (
        "-m", "accelerate.commands.launch", *(SHARDED if config.sharding == "fsdp" else ("--multi_gpu",)),
        "--num_processes", str(config.processes), "--num_machines", "1", "--main_process_port", "0",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--module",
    )  # fmt: skip


def _name_base(config_file: Path, model: ModelSource) -> None:
    """Replace this machine's path of the base by its name, so that equal adapters have equal digests."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = Path(model.path).name if model.is_local else model.path
    write_json(config_file, config)
