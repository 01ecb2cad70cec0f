"""The train stage: a training set in, a LoRA adapter out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.config import ModelSource
from tasks.core.errors import MemoryShortage, RecipeError
from tasks.core.files import require_free_space, write_json
from tasks.core.models import check_model, model_digest
from tasks.core.processes import run_worker
from tasks.core.progress import progress, say
from tasks.core.stage import StageContext
from tasks.train.config import TrainConfig

VERSION = 2
EXPERIMENT = "retune"
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
ROOM = 300 * 2**20
ROOM_FOR_HUB_MODEL = 2 * 2**30


@dataclass(frozen=True)
class TrainJob:
    """Trains an adapter for ``model`` on the training set.

    The key leaves out what does not shape the adapter: the timeout and how often a checkpoint is written.
    """

    config: TrainConfig
    model: ModelSource
    training_set: ArtifactRef
    seed: int

    def key(self) -> StageKey:
        """What determines the adapter."""
        config = self.config.model_dump(mode="json", exclude={"timeout_minutes", "save_steps"})
        return StageKey(
            stage="train",
            version=VERSION,
            config={"train": config, "seed": self.seed},
            inputs=[self.training_set],
            files={"model": model_digest(self.model)},
            libraries=LIBRARIES + (("unsloth", "unsloth_zoo") if self.config.backend == "unsloth" else ()),
        )

    @property
    def rows(self) -> Path:
        """The table that is trained on."""
        return self.training_set.folder / f"{self.config.rows}.parquet"

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Train in a child process and write ``adapter/``, ``loss.csv``, ``masking.json``, ``quarantine.parquet``.

        A killed attempt's checkpoints are found in the context's work folder and gone on from; they are removed once
        the adapter is written. Where memory is too small, the batch is halved and the steps accumulated instead.

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
        require_free_space(work, _room_for(self.model), "checkpoints")
        (work / "tmp").mkdir(parents=True, exist_ok=True)
        config = self.config
        while True:
            try:
                result = self._run(config, folder, work, context)
                break
            except MemoryShortage:
                if config.batch_size % 2:
                    raise
                config = config.model_copy(
                    update={
                        "batch_size": config.batch_size // 2,
                        "accumulation_steps": config.accumulation_steps * 2,
                    }
                )
                say(f"  out of memory: trying again with batches of {config.batch_size}")
        shutil.rmtree(work)
        _name_base(folder / "adapter" / "adapter_config.json", self.model)
        return Summary(
            rows_in=result["rows_in"],
            accepted=result["accepted"],
            quarantined=result["quarantined"],
            details=result["details"],
        )

    def _run(self, config: TrainConfig, folder: Path, work: Path, context: StageContext) -> dict[str, Any]:
        job = {
            "config": config.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "seed": self.seed,
            "training_set": str(self.rows),
            "out": str(folder.resolve()),
            "work": str(work.resolve()),
            "mlflow": {"uri": context.home.tracking_uri, "experiment": EXPERIMENT, "name": context.run_id},
        }
        with progress("training", planned_steps(config, self.training_set.rows)) as advance:

            def on_event(event: dict[str, Any]) -> None:
                if "note" in event:
                    say(f"  {event['note']}")
                if "step" in event:
                    advance(event["step"], f"loss {event['loss']:.3f}")

            return run_worker(
                "tasks.train.worker",
                job,
                folder=work,
                log=context.log("train"),
                timeout_s=config.timeout_minutes * 60,
                on_event=on_event,
                environment=worker_environment(self.model, work),
            )


def planned_steps(config: TrainConfig, rows: int) -> int:
    """Optimizer steps of a run over ``rows`` rows on one device."""
    if config.max_steps is not None:
        return config.max_steps
    per_epoch = math.ceil(math.ceil(rows / config.batch_size) / config.accumulation_steps)
    return max(1, math.ceil(per_epoch * (config.epochs or 1)))


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


def _room_for(model: ModelSource) -> int:
    """Bytes that checkpoints and caches may need: never more than the model itself, as only adapters are saved."""
    if not model.is_local:
        return ROOM_FOR_HUB_MODEL
    return ROOM + sum(path.stat().st_size for path in Path(model.path).glob("*.safetensors"))
